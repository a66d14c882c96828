//go:build fault

package fault

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/services/ingest"
)

// The mistakes, each of which loses, doubles or changes data only when something else goes wrong.
const (
	AckBeforeWrite     = "ack_before_write"
	ServerTimeCells    = "server_time_cells"
	KeyFromMessageID   = "key_from_message_id"
	DropOnDecodeError  = "drop_on_decode_error"
	AckOnPartialErrors = "ack_batch_on_partial_error"
)

var mistakes = map[string]func(*ingest.Deps){ //nolint:gochecknoglobals // A table of functions, never written to.
	AckBeforeWrite:     func(d *ingest.Deps) { d.Source = earlySource{source{d.Source}} },
	ServerTimeCells:    func(d *ingest.Deps) { d.Sink = serverTimeSink{d.Sink} },
	KeyFromMessageID:   keyByMessage,
	DropOnDecodeError:  func(d *ingest.Deps) { d.DeadLetters = droppedLetters{} },
	AckOnPartialErrors: func(d *ingest.Deps) { d.Sink = generousSink{d.Sink} },
}

// Mistakes lists them.
func Mistakes() []string { return slices.Sorted(maps.Keys(mistakes)) }

// earlySource acknowledges a message as soon as the service has it.
type earlySource struct{ source }

// Receive implements ingest.Source.
func (s earlySource) Receive(ctx context.Context, subscription string, opts bus.ReceiveOptions, handle func(context.Context, bus.Message) bool) error {
	return s.next.Receive(ctx, subscription, opts, func(ctx context.Context, m bus.Message) bool {
		go handle(context.WithoutCancel(ctx), m)
		return true
	})
}

// serverTimeSink gives each write the time at which it is made.
type serverTimeSink struct{ next ingest.Sink }

// Put implements ingest.Sink.
func (s serverTimeSink) Put(ctx context.Context, table string, rows []dataset.Row) []error {
	rows = slices.Clone(rows)
	for i := range rows {
		rows[i].Time = time.Now()
	}
	return s.next.Put(ctx, table, rows)
}

// droppedLetters takes every rejected record and keeps none.
type droppedLetters struct{}

// Publish implements ingest.DeadLetters.
func (droppedLetters) Publish(context.Context, string, []byte, map[string]string) (string, error) {
	return "dropped", nil
}

// generousSink takes a batch for stored as soon as one of its rows is.
type generousSink struct{ next ingest.Sink }

// Put implements ingest.Sink.
func (s generousSink) Put(ctx context.Context, table string, rows []dataset.Row) []error {
	errs := s.next.Put(ctx, table, rows)
	if slices.Contains(errs, nil) {
		clear(errs)
	}
	return errs
}

// messageKeys gives rows the key of the message that they came in.
type messageKeys struct {
	source
	sink ingest.Sink

	mu  sync.Mutex
	ids map[string]string // by the content of a record
}

func keyByMessage(d *ingest.Deps) {
	k := &messageKeys{source: source{d.Source}, sink: d.Sink, ids: map[string]string{}}
	d.Source, d.Sink = k, k
}

// Receive implements ingest.Source.
func (k *messageKeys) Receive(ctx context.Context, subscription string, opts bus.ReceiveOptions, handle func(context.Context, bus.Message) bool) error {
	return k.next.Receive(ctx, subscription, opts, func(ctx context.Context, m bus.Message) bool {
		var record map[string]any
		dec := json.NewDecoder(strings.NewReader(string(m.Data)))
		dec.UseNumber()
		if dec.Decode(&record) == nil {
			k.mu.Lock()
			k.ids[content(record)] = m.ID
			k.mu.Unlock()
		}
		return handle(ctx, m)
	})
}

// Put implements ingest.Sink.
func (k *messageKeys) Put(ctx context.Context, table string, rows []dataset.Row) []error {
	rows = slices.Clone(rows)
	k.mu.Lock()
	for i, row := range rows {
		record := map[string]any{}
		for _, c := range row.Cells {
			record[c.Column] = string(c.Value)
		}
		if id, ok := k.ids[content(record)]; ok {
			rows[i].Key += id
		}
	}
	k.mu.Unlock()
	return k.sink.Put(ctx, table, rows)
}

// content is the same for a record and its row: the fields that are there, in order.
func content(record map[string]any) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(record)) {
		if text := fmt.Sprint(record[name]); text != "" {
			fmt.Fprintf(&b, "%s=%s\n", name, text)
		}
	}
	return b.String()
}
