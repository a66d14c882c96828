package ingest_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	vkit "cloud.google.com/go/pubsub/v2/apiv1"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/engine"
	"github.com/latamctl/latamctl/pkg/payload"
	"github.com/latamctl/latamctl/pkg/store"
	"github.com/latamctl/latamctl/services/ingest"
)

const payloadDeclaration = `
version: 1
name: test
datasets:
  plain: &d
    fields:
      code: {type: string, required: true}
      n:    {type: int64, minimum: 0}
      at:   timestamp
    key: [code]
  avro: *d
  protobuf: *d
`

const (
	avroEvent = `{"type": "record", "name": "Event", "fields": [{"name": "code", "type": "string"}, {"name": "n", "type": ["null", "long"]},
		{"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}}]}`
	protoEvent = `syntax = "proto3"; import "google/protobuf/timestamp.proto";
		message Event { string code = 1; optional int64 n = 2; google.protobuf.Timestamp at = 3; }`
)

// TestPayloads sends each payload format through the clients, the engine and ingest: what can be read is
// a row, what cannot is a dead letter with the reason, and neither blocks the other.
func TestPayloads(t *testing.T) {
	t.Parallel()
	w := startPayloads(t)
	w.schemaTopic("avro", pubsubpb.Schema_AVRO, avroEvent)
	w.schemaTopic("protobuf", pubsubpb.Schema_PROTOCOL_BUFFER, protoEvent)
	pack := func(encoding, data string) []byte {
		b, err := payload.Pack(encoding, []byte(data))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	in := func(encoding string) map[string]string { return map[string]string{"content-encoding": encoding} }
	w.publish("plain", []byte(`{"code":"json","n":1}`), nil)
	w.publish("plain", pack("gzip", `{"code":"gzip","n":2}`), in("gzip"))
	w.publish("plain", pack("zstd", `{"code":"zstd","n":3}`), in("zstd"))
	w.publish("plain", pack("zstd", `{"code":"bad","n":-1}`), in("zstd"))
	w.publish("plain", pack("gzip", `{"code":"cut"}`)[:15], in("gzip"))
	w.publish("plain", []byte(`{"code":"unknown"}`), in("br"))
	w.publish("avro", []byte("\x08avro\x02\x0a\x02"), nil)      // n 5, 1 ms after 1970
	w.publish("avro", []byte("\x08null\x00\x00"), nil)          // no n
	w.publish("avro", []byte("\x06bad\x02\x01\x00"), nil)       // n -1
	w.publish("protobuf", []byte("\x0a\x05proto\x10\x07"), nil) // n 7
	w.ingest()

	want := map[string]string{
		"plain/json": `{"code":"json","n":1,"at":null}`, "plain/gzip": `{"code":"gzip","n":2,"at":null}`, "plain/zstd": `{"code":"zstd","n":3,"at":null}`,
		"avro/avro": `{"code":"avro","n":5,"at":"1970-01-01T00:00:00.001Z"}`, "avro/null": `{"code":"null","n":null,"at":"1970-01-01T00:00:00Z"}`,
		"protobuf/proto": `{"code":"proto","n":7,"at":null}`,
	}
	w.wantRows(want)
	w.wantLetters(map[string][]string{"plain": {"bad_encoding", "bad_encoding", "range"}, "avro": {"range"}})
	letter := w.letters["avro"][0]
	if letter[bus.AttrSchema] == "" || letter[bus.AttrEncoding] != "BINARY" {
		t.Errorf("the dead letter does not say how its payload is written: %v", letter)
	}
}

// TestSchemaGone: without its schema a message can be neither stored nor rejected. It is given back, and
// is stored when the schema can be had.
func TestSchemaGone(t *testing.T) {
	t.Parallel()
	w := startPayloads(t)
	attributes := map[string]string{payload.AttrSchemaName: "projects/p/schemas/avro", payload.AttrSchemaEncoding: "BINARY"}
	w.publish("plain", []byte("\x08avro\x00\x00"), attributes)
	w.publish("plain", []byte(`{"code":"json"}`), nil)
	w.ingest()
	w.wantRows(map[string]string{"plain/json": `{"code":"json","n":null,"at":null}`})
	w.schemaTopic("avro", pubsubpb.Schema_AVRO, avroEvent)
	w.wantRows(map[string]string{
		"plain/json": `{"code":"json","n":null,"at":null}`, "plain/avro": `{"code":"avro","n":null,"at":"1970-01-01T00:00:00Z"}`,
	})
	w.wantLetters(map[string][]string{})
}

// payloadWorld is the memory engine with its clients.
type payloadWorld struct {
	t       *testing.T
	ctx     context.Context
	decl    *dataset.Declaration
	engine  *engine.Engine
	bus     *bus.Client
	cells   *store.Client
	mu      sync.Mutex
	letters map[string][]map[string]string // attributes by dataset
}

func startPayloads(t *testing.T) *payloadWorld {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	d, err := dataset.Load("latam.yaml", []byte(payloadDeclaration))
	if err != nil {
		t.Fatal(err)
	}
	w := &payloadWorld{t: t, ctx: ctx, decl: d, letters: map[string][]map[string]string{}}
	w.engine, err = engine.Start(ctx, engine.Options{Kind: engine.Memory})
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(err)
	t.Cleanup(func() { _ = w.engine.Close() })
	w.bus, err = bus.Open(ctx, bus.Options{Project: "p", Client: w.engine.Pubsub})
	must(err)
	admin, err := store.OpenAdmin(ctx, "p", "i", w.engine.Bigtable...)
	must(err)
	for _, ds := range d.Datasets {
		must(w.bus.Ensure(ctx, bus.RouteOf(ds)))
		must(admin.Ensure(ctx, store.TableOf(ds)))
	}
	w.cells, err = store.Open(ctx, store.Options{Project: "p", Instance: "i", Client: w.engine.Bigtable})
	must(err)
	return w
}

// schemaTopic gives the topic of a dataset a schema of the same name.
func (w *payloadWorld) schemaTopic(name string, kind pubsubpb.Schema_Type, definition string) {
	w.t.Helper()
	schemas, err := vkit.NewSchemaClient(w.ctx, w.engine.Pubsub...)
	if err != nil {
		w.t.Fatal(err)
	}
	_, err = schemas.CreateSchema(w.ctx, &pubsubpb.CreateSchemaRequest{Parent: "projects/p", SchemaId: name, Schema: &pubsubpb.Schema{Type: kind, Definition: definition}})
	if err != nil {
		w.t.Fatal(err)
	}
	topics, err := vkit.NewTopicAdminClient(w.ctx, w.engine.Pubsub...)
	if err != nil {
		w.t.Fatal(err)
	}
	_, err = topics.UpdateTopic(w.ctx, &pubsubpb.UpdateTopicRequest{
		Topic: &pubsubpb.Topic{Name: "projects/p/topics/" + name, SchemaSettings: &pubsubpb.SchemaSettings{
			Schema: "projects/p/schemas/" + name, Encoding: pubsubpb.Encoding_BINARY,
		}},
		UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"schema_settings"}},
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *payloadWorld) publish(name string, data []byte, attributes map[string]string) {
	w.t.Helper()
	if _, err := w.bus.Publish(w.ctx, name, data, attributes); err != nil {
		w.t.Fatal(err)
	}
}

// ingest runs the service, and collects dead letters, until the end of the test.
func (w *payloadWorld) ingest() {
	svc, err := ingest.New(ingest.Options{}, ingest.Deps{
		Source: w.bus, Sink: w.cells, DeadLetters: w.bus, Payloads: payload.New(w.bus, slog.New(slog.DiscardHandler)), Log: slog.New(slog.DiscardHandler), Now: time.Now,
	}, w.decl.Datasets)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(w.ctx)
	var running sync.WaitGroup
	running.Go(func() { _ = svc.Run(ctx) })
	for _, ds := range w.decl.Datasets {
		running.Go(func() {
			_ = w.bus.Receive(ctx, ds.DeadLetterSubscription(), bus.ReceiveOptions{}, func(_ context.Context, m bus.Message) bool {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.letters[ds.Name] = append(w.letters[ds.Name], m.Attributes)
				return true
			})
		})
	}
	w.t.Cleanup(func() { stop(); running.Wait() })
}

// wantRows waits until the rows are those.
func (w *payloadWorld) wantRows(want map[string]string) {
	w.t.Helper()
	w.eventually(func() string { return cmp.Diff(want, w.rows()) })
}

func (w *payloadWorld) rows() map[string]string {
	rows := map[string]string{}
	for _, ds := range w.decl.Datasets {
		err := w.cells.Scan(w.ctx, ds.Table(), store.Scan{}, func(row dataset.Row) bool {
			rec, err := ds.Record(row)
			if err != nil {
				w.t.Fatal(err)
			}
			text := "{"
			for i, f := range ds.Fields {
				if i > 0 {
					text += ","
				}
				text += fmt.Sprintf("%q:%s", f.Name, rec.Value(f).AppendJSON(nil))
			}
			rows[ds.Name+"/"+rec.Value(ds.Field("code")).Text()] = text + "}"
			return true
		})
		if err != nil {
			w.t.Fatal(err)
		}
	}
	return rows
}

// wantLetters waits until the reasons of the dead letters are those, sorted.
func (w *payloadWorld) wantLetters(want map[string][]string) {
	w.t.Helper()
	w.eventually(func() string {
		w.mu.Lock()
		defer w.mu.Unlock()
		got := map[string][]string{}
		for name, letters := range maps.Clone(w.letters) {
			for _, attributes := range letters {
				got[name] = append(got[name], attributes[bus.AttrReason])
			}
			slices.Sort(got[name])
		}
		return cmp.Diff(want, got)
	})
}

func (w *payloadWorld) eventually(diff func() string) {
	w.t.Helper()
	for {
		d := diff()
		if d == "" {
			return
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-w.ctx.Done():
			w.t.Fatalf("(-want +got):\n%s", d)
		}
	}
}
