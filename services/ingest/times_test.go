package ingest_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/engine/cellstore"
	"github.com/latamctl/latamctl/pkg/store"
	"github.com/latamctl/latamctl/services/ingest"
)

const timesDeclaration = `
version: 1
name: test
datasets:
  events:
    fields:
      code: {type: string, required: true}
      at:   {type: timestamp, required: true}
    key: [code]
    time: at
    indexes: {by_time: [at]}
  kept:
    fields:
      code: {type: string, required: true}
      at:   {type: timestamp, required: true}
    key: [code]
    time: at
    indexes: {by_time: [at]}
    retention: 30d
    max_ahead: 24h
  days:
    fields:
      code: {type: string, required: true}
      at:   {type: date, required: true}
    key: [code]
    time: at
    retention: 30d
  untimed:
    fields:
      code: {type: string, required: true}
      at:   string
    key: [code]
`

// timesPublished is when every message of the table was published.
var timesPublished = time.Date(2001, 1, 31, 12, 0, 0, 500_400_000, time.UTC)

// hostileTimes says for each text of an event time what becomes of it: the time of its cells, or the
// reason for which it is rejected.
var hostileTimes = []struct{ dataset, at, want string }{
	{"events", "0000-01-01T00:00:00Z", "range"},
	{"events", "0001-01-01T00:00:00Z", "range"},
	{"events", "1677-09-21T00:12:43Z", "range"}, // before what 64 bits of nanoseconds hold
	{"events", "1969-12-31T23:59:59.999999999Z", "range"},
	{"events", "1970-01-01T00:00:00+00:01", "range"},
	{"events", "1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z"},
	{"events", "1970-01-01T00:00:00.000999999Z", "1970-01-01T00:00:00Z"},
	{"events", "2001-01-31T12:00:00.0019999Z", "2001-01-31T12:00:00.001Z"},
	{"events", "2001-01-31T12:00:00.123456789-05:00", "2001-01-31T17:00:00.123Z"},
	{"events", "2038-01-19T03:14:08Z", "2038-01-19T03:14:08Z"},
	{"events", "2262-04-11T23:47:16.854775807Z", "2262-04-11T23:47:16.854Z"}, // the last that 64 bits of nanoseconds hold
	{"events", "2262-04-11T23:47:17Z", "2262-04-11T23:47:17Z"},
	{"events", "9999-12-31T23:59:59.999999999Z", "9999-12-31T23:59:59.999Z"},
	{"events", "9999-12-31T23:59:59-01:00", "wrong_type"}, // in UTC it is the year 10000
	{"events", "10000-01-01T00:00:00Z", "wrong_type"},
	{"events", "2001-02-29T00:00:00Z", "wrong_type"},
	{"events", "2016-12-31T23:59:60Z", "wrong_type"},
	{"events", "2001-01-31T12:00:00", "wrong_type"},
	{"events", "978310020", "wrong_type"},
	{"events", "", "wrong_type"},

	{"kept", "1970-01-01T00:00:00Z", "too_old"},
	{"kept", "2001-01-01T12:00:00.5Z", "too_old"},
	{"kept", "2001-01-01T12:00:00.5009Z", "too_old"}, // its cells would have .500 and be garbage at once
	{"kept", "2001-01-01T12:00:00.501Z", "2001-01-01T12:00:00.501Z"},
	{"kept", "2001-01-31T12:00:00Z", "2001-01-31T12:00:00Z"},
	{"kept", "2001-02-01T12:00:00.5004Z", "2001-02-01T12:00:00.5Z"},
	{"kept", "2001-02-01T12:00:00.500400001Z", "too_new"},
	{"kept", "9999-12-31T23:59:59Z", "too_new"},

	{"days", "1969-12-31", "range"},
	{"days", "2001-01-01", "too_old"}, // a date is its midnight
	{"days", "2001-01-02", "2001-01-02T00:00:00Z"},
	{"days", "9999-12-31", "9999-12-31T00:00:00Z"},

	{"untimed", "0001-01-01T00:00:00Z", "2001-01-31T12:00:00.5Z"},
}

// TestHostileTimes sends every time of the table through ingest into a cell store whose clock stands
// at the publication, with the clock of ingest a day late, right and a day early. After three garbage
// collections each record is a row with the time of the table or a dead letter: none is gone, and no
// clock but those of the services has a say.
func TestHostileTimes(t *testing.T) {
	t.Parallel()
	d, err := dataset.Load("latam.yaml", []byte(timesDeclaration))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for i, c := range hostileTimes {
		want[fmt.Sprintf("%s/k%d", c.dataset, i)] = c.want
	}
	for _, skew := range []time.Duration{-24 * time.Hour, 0, 24 * time.Hour} {
		t.Run(skew.String(), func(t *testing.T) {
			t.Parallel()
			run := newTimesRun(t, d)
			run.ingest(t.Context(), timesPublished.Add(skew))
			got := run.outcomes()
			for key, outcome := range want {
				if got[key] != outcome {
					t.Errorf("%s became %q, want %q", key, got[key], outcome)
				}
			}
			if len(got) != len(want) {
				t.Errorf("%d outcomes for %d messages: %v", len(got), len(want), got)
			}
		})
	}
}

// timesRun is a cell store and what came of the messages.
type timesRun struct {
	t       *testing.T
	decl    *dataset.Declaration
	server  *cellstore.Server
	cells   *store.Client
	mu      sync.Mutex
	letters map[string]string // dataset/code → reason
	settled map[string]bool
}

func newTimesRun(t *testing.T, d *dataset.Declaration) *timesRun {
	run := &timesRun{t: t, decl: d, letters: map[string]string{}, settled: map[string]bool{}}
	var err error
	run.server, err = cellstore.Open(cellstore.Options{Now: func() time.Time { return timesPublished }, GCInterval: -1})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(cellstore.ServerOptions()...)
	run.server.Register(server)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { server.Stop(); _ = run.server.Close() })
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	client := option.WithGRPCConn(conn)
	admin, err := store.OpenAdmin(t.Context(), "p", "i", client)
	if err != nil {
		t.Fatal(err)
	}
	for _, ds := range d.Datasets {
		for _, table := range store.TablesOf(ds) {
			if err := admin.Ensure(t.Context(), table); err != nil {
				t.Fatal(err)
			}
		}
	}
	if run.cells, err = store.Open(t.Context(), store.Options{Project: "p", Instance: "i", Client: []option.ClientOption{client}}); err != nil {
		t.Fatal(err)
	}
	return run
}

// Receive delivers the messages of a dataset, each until it is settled, and then waits for the end.
func (run *timesRun) Receive(ctx context.Context, subscription string, _ bus.ReceiveOptions, handle func(context.Context, bus.Message) bool) error {
	name := strings.TrimSuffix(subscription, "-ingest")
	for i, c := range hostileTimes {
		if c.dataset != name {
			continue
		}
		m := bus.Message{ID: fmt.Sprint(i), PublishTime: timesPublished, Data: fmt.Appendf(nil, `{"code":"k%d","at":%q}`, i, c.at)}
		for !handle(ctx, m) {
			if ctx.Err() != nil {
				return nil
			}
		}
		run.mu.Lock()
		run.settled[fmt.Sprintf("%s/k%d", name, i)] = true
		run.mu.Unlock()
	}
	<-ctx.Done()
	return nil
}

func (run *timesRun) Publish(_ context.Context, topic string, data []byte, attributes map[string]string) (string, error) {
	run.mu.Lock()
	defer run.mu.Unlock()
	code, _, _ := strings.Cut(strings.TrimPrefix(string(data), `{"code":"`), `"`)
	run.letters[strings.TrimSuffix(topic, "-dead")+"/"+code] = attributes[bus.AttrReason]
	return "1", nil
}

// ingest runs the service until every message is settled.
func (run *timesRun) ingest(ctx context.Context, now time.Time) {
	svc, err := ingest.New(ingest.Options{}, ingest.Deps{
		Source: run, Sink: run.cells, Rows: run.cells, DeadLetters: run, Log: slog.New(slog.DiscardHandler),
		Now: func() time.Time { return now },
	}, run.decl.Datasets)
	if err != nil {
		run.t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(ctx, 30*time.Second)
	defer stop()
	go func() {
		for ctx.Err() == nil {
			run.mu.Lock()
			all := len(run.settled) == len(hostileTimes)
			run.mu.Unlock()
			if all {
				stop()
			}
			time.Sleep(time.Millisecond)
		}
	}()
	if err := svc.Run(ctx); err != nil {
		run.t.Fatal(err)
	}
}

// outcomes collects garbage and reads what is left: for each message the time of its row, which its
// index must show as well, or the reason of its dead letter.
func (run *timesRun) outcomes() map[string]string {
	ctx := run.t.Context()
	for range 3 {
		if _, err := run.server.CollectGarbage(ctx); err != nil {
			run.t.Fatal(err)
		}
	}
	found := maps.Clone(run.letters)
	for _, ds := range run.decl.Datasets {
		rows := 0
		err := run.cells.Scan(ctx, ds.Table(), store.Scan{}, func(row dataset.Row) bool {
			rows++
			rec, err := ds.Record(row)
			if err != nil {
				run.t.Fatal(err)
			}
			found[ds.Name+"/"+rec.Value(ds.Field("code")).Text()] = row.Time.UTC().Format(time.RFC3339Nano)
			return true
		})
		if err != nil {
			run.t.Fatal(err)
		}
		for i := range ds.Indexes {
			entries := 0
			err := run.cells.Scan(ctx, ds.IndexTable(&ds.Indexes[i]), store.Scan{Start: dataset.IndexStart}, func(dataset.Row) bool { entries++; return true })
			if err != nil || entries != rows {
				run.t.Errorf("%s has %d rows and %d index entries, %v", ds.Name, rows, entries, err)
			}
		}
	}
	return found
}
