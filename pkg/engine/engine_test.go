package engine_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/engine"
	"github.com/latamctl/latamctl/pkg/store"
	"github.com/latamctl/latamctl/pkg/telemetry/roundtrip"
)

var route = bus.Route{Topic: "events", Subscription: "events-ingest", DeadLetterTopic: "events-dead", DeadLetterSubscription: "events-dead-inspect"}

// clients are Google's clients on an engine, closed at the test's end before the engine.
func clients(t *testing.T, e *engine.Engine) (*bus.Client, *store.Client) {
	t.Helper()
	b, err := bus.Open(t.Context(), bus.Options{Project: "p", Client: e.Pubsub})
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(t.Context(), store.Options{Project: "p", Instance: "latam", Client: e.Bigtable})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close(); _ = b.Close() })
	return b, s
}

func start(t *testing.T, opts engine.Options) *engine.Engine {
	t.Helper()
	e, err := engine.Start(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// prepare makes the route and a table.
func prepare(t *testing.T, e *engine.Engine, b *bus.Client) {
	t.Helper()
	if err := b.Ensure(t.Context(), route); err != nil {
		t.Fatal(err)
	}
	admin, err := store.OpenAdmin(t.Context(), "p", "latam", e.Bigtable...)
	if err != nil {
		t.Fatal(err)
	}
	if err := admin.Ensure(t.Context(), store.Table{Name: "events"}); err != nil {
		t.Fatal(err)
	}
}

func row(key string) dataset.Row {
	return dataset.Row{Key: key, Time: time.UnixMilli(1000), Cells: []dataset.Cell{{Column: "v", Value: []byte("value of " + key)}}}
}

func TestEmbeddedKeepsDataOverARestart(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	func() {
		e, err := engine.Start(t.Context(), engine.Options{Kind: engine.Embedded, Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		b, s := clients(t, e)
		prepare(t, e, b)
		if _, err := b.Publish(t.Context(), route.Topic, []byte("kept"), nil); err != nil {
			t.Fatal(err)
		}
		if errs := s.Put(t.Context(), "events", []dataset.Row{row("k")}); errs[0] != nil {
			t.Fatal(errs[0])
		}
	}()
	e := start(t, engine.Options{Kind: engine.Embedded, Dir: dir})
	b, s := clients(t, e)
	got, err := s.Get(t.Context(), "events", "k", nil)
	if err != nil || string(got.Cells[0].Value) != "value of k" {
		t.Errorf("row after the restart: %v, %v", got, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var message string
	if err := b.Receive(ctx, route.Subscription, bus.ReceiveOptions{}, func(_ context.Context, m bus.Message) bool {
		message = string(m.Data)
		cancel()
		return true
	}); err != nil || message != "kept" {
		t.Errorf("message after the restart: %q, %v", message, err)
	}
	stats, ok := e.Stats()
	if !ok || len(stats.Topics) != 2 || len(stats.Subscriptions) != 2 || len(stats.Tables) != 1 || stats.Tables[0].Table != "events" || stats.Tables[0].Rows != 1 {
		t.Errorf("stats %+v", stats)
	}
}

func TestMemoryServesOverItsPorts(t *testing.T) {
	t.Parallel()
	e := start(t, engine.Options{Kind: engine.Memory, PubsubAddr: "127.0.0.1:0", BigtableAddr: "127.0.0.1:0"})
	outside := start(t, engine.Options{Kind: engine.Emulator, PubsubAddr: e.PubsubAddr, BigtableAddr: e.BigtableAddr})
	if _, ok := outside.Stats(); ok {
		t.Error("an engine that only dials claims to have statistics")
	}
	b, s := clients(t, outside)
	prepare(t, outside, b)
	put := func(s *store.Client) {
		ctx, times := roundtrip.Watch(t.Context())
		if errs := s.Put(ctx, "events", []dataset.Row{row("k")}); errs[0] != nil {
			t.Fatal(errs[0])
		}
		if _, known := times.Slowest(); !known {
			t.Error("what the write took is not known")
		}
	}
	put(s)
	_, inside := clients(t, e)
	if _, err := inside.Get(t.Context(), "events", "k", nil); err != nil {
		t.Errorf("a row written over the port is not seen in process: %v", err)
	}
	put(inside)
}

func TestDataFolderIsGuarded(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	e := start(t, engine.Options{Kind: engine.Embedded, Dir: dir})
	_, err := engine.Start(t.Context(), engine.Options{Kind: engine.Embedded, Dir: dir})
	if !errors.Is(err, engine.ErrInUse) || !strings.Contains(err.Error(), fmt.Sprintf("process %d", os.Getpid())) {
		t.Errorf("a second engine on the folder: %v, want ErrInUse with the process id", err)
	}
	if err := engine.Reset(dir); !errors.Is(err, engine.ErrInUse) {
		t.Errorf("reset of a folder in use: %v, want ErrInUse", err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	for content, want := range map[string]string{"2\n": "reads up to 1", "one\n": `holds "one"`} {
		if err := os.WriteFile(filepath.Join(dir, "FORMAT"), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := engine.Start(t.Context(), engine.Options{Kind: engine.Embedded, Dir: dir}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("format %q: %v, want %q", content, err, want)
		}
	}
	if err := engine.Reset(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder is still there after a reset: %v", err)
	}
	foreign := t.TempDir()
	if err := engine.Reset(foreign); err == nil {
		t.Error("a folder that is no data folder was reset")
	}
}

func TestStartRefuses(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	tests := []struct {
		name string
		opts engine.Options
		want string
	}{
		{"unknown kind", engine.Options{Kind: "postgres"}, "not one of"},
		{"no folder", engine.Options{Kind: engine.Embedded}, "no data folder"},
		{"no emulator", engine.Options{Kind: engine.Emulator}, "PUBSUB_EMULATOR_HOST"},
		{"taken port", engine.Options{Kind: engine.Memory, PubsubAddr: l.Addr().String()}, "address already in use"},
		{"taken second port", engine.Options{Kind: engine.Memory, BigtableAddr: l.Addr().String()}, "address already in use"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			e, err := engine.Start(t.Context(), tt.opts)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
			if e != nil {
				t.Error("an engine was returned with the error")
			}
		})
	}
}

// TestRedialPubsub opens clients on connections of their own: closing one leaves the others alone, on the
// server in this process and on one that is dialled as an emulator.
func TestRedialPubsub(t *testing.T) {
	t.Parallel()
	memory := start(t, engine.Options{Kind: engine.Memory, PubsubAddr: "127.0.0.1:0"})
	emulator := start(t, engine.Options{Kind: engine.Emulator, PubsubAddr: memory.PubsubAddr})
	for name, e := range map[string]*engine.Engine{"memory": memory, "emulator": emulator} {
		first, err := bus.Open(t.Context(), bus.Options{Project: "p", Client: e.Pubsub})
		if err != nil {
			t.Fatal(err)
		}
		if err := first.Ensure(t.Context(), route); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			opts, err := e.RedialPubsub()
			if err != nil {
				t.Fatal(err)
			}
			again, err := bus.Open(t.Context(), bus.Options{Project: "p", Client: opts})
			if err != nil {
				t.Fatal(err)
			}
			if err := again.Ping(t.Context(), route.Topic); err != nil {
				t.Errorf("%s, a second connection: %v", name, err)
			}
			if err := again.Close(); err != nil {
				t.Error(err)
			}
		}
		if err := first.Ping(t.Context(), route.Topic); err != nil {
			t.Errorf("%s, the first connection after the end of others: %v", name, err)
		}
	}
}
