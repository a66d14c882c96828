package topiclog

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
)

// schemaSide is one of two servers with the ids of its revisions.
type schemaSide struct {
	pub       pubsubpb.PublisherClient
	sub       pubsubpb.SubscriberClient
	sch       pubsubpb.SchemaServiceClient
	revisions []string
}

func newSchemaSide(conn *grpc.ClientConn) *schemaSide {
	return &schemaSide{pub: pubsubpb.NewPublisherClient(conn), sub: pubsubpb.NewSubscriberClient(conn), sch: pubsubpb.NewSchemaServiceClient(conn)}
}

// created notes a revision, which has another id on each side.
func (s *schemaSide) created(sc *pubsubpb.Schema, err error) (string, error) {
	if err == nil {
		s.revisions = append(s.revisions, sc.GetRevisionId())
	}
	return fmt.Sprint(sc.GetType(), " ", len(sc.GetDefinition()) > 0), err
}

func (s *schemaSide) create(ctx context.Context, name, definition string) (string, error) {
	return s.created(s.sch.CreateSchema(ctx, &pubsubpb.CreateSchemaRequest{Parent: project, SchemaId: name, Schema: avroSchema(definition)}))
}

func (s *schemaSide) commit(ctx context.Context, name, definition string) (string, error) {
	sc := avroSchema(definition)
	sc.Name = schemaNamed(name)
	return s.created(s.sch.CommitSchema(ctx, &pubsubpb.CommitSchemaRequest{Name: sc.GetName(), Schema: sc}))
}

func (s *schemaSide) topic(ctx context.Context, name, of string, enc pubsubpb.Encoding) (string, error) {
	full := project + "/topics/" + name
	_, err := s.pub.CreateTopic(ctx, &pubsubpb.Topic{Name: full, SchemaSettings: &pubsubpb.SchemaSettings{Schema: schemaNamed(of), Encoding: enc}})
	if err == nil {
		_, err = s.sub.CreateSubscription(ctx, &pubsubpb.Subscription{Name: project + "/subscriptions/" + name, Topic: full, AckDeadlineSeconds: 600})
	}
	return "", err
}

// send publishes a message and returns its attributes, with the number of the revision for its id.
func (s *schemaSide) send(ctx context.Context, topic, data string) (string, error) {
	_, err := s.pub.Publish(ctx, &pubsubpb.PublishRequest{Topic: project + "/topics/" + topic, Messages: []*pubsubpb.PubsubMessage{{Data: []byte(data), Attributes: map[string]string{"own": "x"}}}})
	if err != nil {
		return "", err
	}
	got, err := s.sub.Pull(ctx, &pubsubpb.PullRequest{Subscription: project + "/subscriptions/" + topic, MaxMessages: 1})
	if err != nil || len(got.GetReceivedMessages()) != 1 {
		return fmt.Sprint(len(got.GetReceivedMessages()), " messages"), err
	}
	m := got.GetReceivedMessages()[0].GetMessage()
	if id := m.GetAttributes()[attrSchemaRevision]; id != "" {
		m.Attributes[attrSchemaRevision] = fmt.Sprint("revision ", slices.Index(s.revisions, id))
	}
	return fmt.Sprintf("%q %v", m.GetData(), m.GetAttributes()), nil
}

// TestSchemasAgainstCloudSDKEmulator leaves out what the emulator (0.8.20) does unlike this server:
//
//   - It has no Protocol Buffer schemas.
//   - It takes a message with bytes behind the record, a JSON member that the schema does not have,
//     and an Avro schema that is no record; a record of a dataset cannot be any of these.
func TestSchemasAgainstCloudSDKEmulator(t *testing.T) {
	t.Parallel()
	sides := []*schemaSide{newSchemaSide(serve(t, open(t, Options{}).Server)), newSchemaSide(startEmulator(t))}
	ctx := t.Context()
	both := func(what string, op func(*schemaSide) (string, error)) {
		t.Helper()
		var got [2]string
		for i, s := range sides {
			res, err := op(s)
			got[i] = fmt.Sprint(status.Code(err), " ", res)
		}
		if got[0] != got[1] {
			t.Errorf("%s:\n ours   %s\n theirs %s", what, got[0], got[1])
		}
	}
	create := func(name, definition string) {
		t.Helper()
		both("create "+name, func(s *schemaSide) (string, error) { return s.create(ctx, name, definition) })
	}
	topic := func(name, of string, enc pubsubpb.Encoding) {
		t.Helper()
		both("topic "+name, func(s *schemaSide) (string, error) { return s.topic(ctx, name, of, enc) })
	}
	send := func(topic, data string) {
		t.Helper()
		both(fmt.Sprintf("send %q to %s", data, topic), func(s *schemaSide) (string, error) { return s.send(ctx, topic, data) })
	}
	create("avro", avroOld)
	create("avro", avroOld)
	create("broken", "{}")
	topic("none", "nothing", pubsubpb.Encoding_BINARY)
	topic("no-encoding", "avro", pubsubpb.Encoding_ENCODING_UNSPECIFIED)
	topic("binary", "avro", pubsubpb.Encoding_BINARY)
	topic("json", "avro", pubsubpb.Encoding_JSON)
	send("binary", oldText)
	send("binary", "\x04a")
	send("json", `{"a":"x"}`)
	send("json", `{"a":1}`)
	send("json", `{"a":`)
	both("commit", func(s *schemaSide) (string, error) { return s.commit(ctx, "avro", avroNew) })
	send("binary", newText)
	send("binary", oldText)
	both("delete", func(s *schemaSide) (string, error) {
		_, err := s.sch.DeleteSchema(ctx, &pubsubpb.DeleteSchemaRequest{Name: schemaNamed("avro")})
		return "", err
	})
	send("binary", newText)
	both("get topic", func(s *schemaSide) (string, error) {
		got, err := s.pub.GetTopic(ctx, &pubsubpb.GetTopicRequest{Topic: project + "/topics/binary"})
		return got.GetSchemaSettings().GetSchema(), err
	})
}

func schemaNamed(id string) string { return project + "/schemas/" + id }
