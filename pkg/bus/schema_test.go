package bus_test

import (
	"errors"
	"testing"

	vkit "cloud.google.com/go/pubsub/v2/apiv1"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/latamctl/latamctl/pkg/bus"
)

func testSchema(t *testing.T, b *bench) {
	conn, err := grpc.NewClient(b.addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	admin, err := vkit.NewSchemaClient(t.Context(), option.WithGRPCConn(conn))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = admin.Close() }()
	const definition = `{"type":"record","name":"F","fields":[{"name":"a","type":"string"}]}`
	created, err := admin.CreateSchema(t.Context(), &pubsubpb.CreateSchemaRequest{
		Parent: "projects/" + b.project, SchemaId: "of-the-test", Schema: &pubsubpb.Schema{Type: pubsubpb.Schema_AVRO, Definition: definition},
	})
	if status.Code(err) == codes.Unimplemented {
		t.Skipf("this Pub/Sub has no schemas: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	client := b.open(t, bus.Options{})
	for _, revision := range []string{"", created.GetRevisionId()} {
		language, got, err := client.Schema(t.Context(), created.GetName(), revision)
		if err != nil || language != "AVRO" || got != definition {
			t.Errorf("revision %q: %s %s, %v", revision, language, got, err)
		}
	}
	if _, _, err := client.Schema(t.Context(), created.GetName()+"-none", ""); !errors.Is(err, bus.ErrNotFound) {
		t.Errorf("a schema that is not there: %v, want ErrNotFound", err)
	}
	if err := client.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}
