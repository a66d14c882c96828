package ingest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/store"
	"github.com/latamctl/latamctl/services/ingest"
)

const movingDeclaration = `
version: 1
name: test
datasets:
  parcels:
    fields:
      code:  {type: string, required: true}
      at:    {type: timestamp, required: true}
      place: {type: string}
    key: [code]
    time: at
    indexes: {by_place: [place, at], by_code: [code]}
    retention: 30d
`

// TestIndexesEndToEnd keeps indexes with Google's own client on the memory engine: rows from before
// the indexes, rows that move while they are built, and rows that move afterwards.
func TestIndexesEndToEnd(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	d, err := dataset.Load("latam.yaml", []byte(movingDeclaration))
	if err != nil {
		t.Fatal(err)
	}
	ds := d.Datasets[0]
	messages, cells := openClients(ctx, t, ds)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	p := &parcels{ds: ds, rng: rand.New(rand.NewPCG(seed, 0)), start: time.Now().Add(-24 * time.Hour), places: map[string]string{}}

	old := make([]dataset.Row, 0, 700)
	for i := range cap(old) {
		rec, err := ds.Decode(p.record(fmt.Sprint("k", i)), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		old = append(old, rec.Row(time.Now()))
	}
	if err := errors.Join(cells.Put(ctx, ds.Table(), old)...); err != nil {
		t.Fatal(err)
	}
	publish := func(n int) {
		batch := make([]bus.Message, n)
		for i := range batch {
			batch[i].Data = p.record(fmt.Sprint("k", p.rng.IntN(1000)))
		}
		if _, err := messages.PublishBatch(ctx, ds.Topic, batch); err != nil {
			t.Fatal(err)
		}
	}
	publish(900)
	svc, err := ingest.New(ingest.Options{BatchRows: 50}, ingest.Deps{
		Source: messages, Sink: cells, Rows: cells, DeadLetters: messages, Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Now: time.Now,
	}, d.Datasets)
	if err != nil {
		t.Fatal(err)
	}
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- svc.Run(running) }()
	publish(900)
	await(ctx, t, "1800 records stored", func() bool {
		a, _ := svc.Activity("parcels")
		return a.Stored >= 1800 && a.InFlight == 0
	})
	for i := range ds.Indexes {
		ix := &ds.Indexes[i]
		await(ctx, t, "index "+ix.Name+" built", func() bool {
			mark, err := cells.Get(ctx, ds.IndexTable(ix), dataset.IndexMark, nil)
			return err == nil && ds.IndexBuilt(ix, mark)
		})
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("run: %v", err)
	}
	for i := range ds.Indexes {
		if diff := cmp.Diff(p.places, p.readIndex(ctx, t, cells, &ds.Indexes[i])); diff != "" {
			t.Errorf("places through index %s (-want +got):\n%s", ds.Indexes[i].Name, diff)
		}
	}
}

func await(ctx context.Context, t testing.TB, what string, is func() bool) {
	t.Helper()
	for tick := time.Tick(2 * time.Millisecond); !is(); <-tick {
		if ctx.Err() != nil {
			t.Fatalf("not in time: %s", what)
		}
	}
}

// parcels makes records, each later than the one before, and remembers where each parcel is.
type parcels struct {
	ds     *dataset.Dataset
	rng    *rand.Rand
	start  time.Time
	n      int
	places map[string]string
}

func (p *parcels) record(code string) []byte {
	p.n++
	at := p.start.Add(time.Duration(p.n) * time.Millisecond).UTC().Format("2006-01-02T15:04:05.000Z")
	place := fmt.Sprint("place ", p.rng.IntN(5))
	p.places[code] = place
	return fmt.Appendf(nil, `{"code":%q,"at":%q,"place":%q}`, code, at, place)
}

// readIndex reads as the API does: it passes over entries that their row does not have now.
func (p *parcels) readIndex(ctx context.Context, t *testing.T, cells *store.Client, ix *dataset.Index) map[string]string {
	t.Helper()
	var entries, keys []string
	err := cells.Scan(ctx, p.ds.IndexTable(ix), store.Scan{Start: dataset.IndexStart, KeysOnly: true}, func(row dataset.Row) bool {
		_, key, err := p.ds.SplitIndexKey(ix, row.Key)
		if err != nil {
			t.Errorf("entry %q: %v", row.Key, err)
		}
		entries, keys = append(entries, row.Key), append(keys, key)
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	rows, err := cells.GetMany(ctx, p.ds.Table(), keys, nil)
	if err != nil {
		t.Fatal(err)
	}
	places := map[string]string{}
	for i, row := range rows {
		rec, err := p.ds.Record(row)
		if err != nil {
			t.Fatal(err)
		}
		if p.ds.IndexKey(ix, rec) == entries[i] {
			places[rec.Value(p.ds.Field("code")).Text()] = rec.Value(p.ds.Field("place")).Text()
		}
	}
	return places
}
