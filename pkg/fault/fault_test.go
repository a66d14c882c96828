//go:build fault

package fault

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/store"
	"github.com/latamctl/latamctl/services/ingest"
)

func getenv(vars map[string]string) func(string) string {
	return func(name string) string { return vars[name] }
}

func TestParse(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"": "", "before_apply=kill": "", "before_apply=kill@3,after_ack=sleep(50ms)@2+": "", " in_drain=error ": "",
		"nowhere=kill":            "with one of the points",
		"before_apply":            "is not POINT=ACTION",
		"before_apply=explode":    "is not kill, error or sleep(DURATION)",
		"before_apply=sleep(x)":   "is not sleep(DURATION)",
		"before_apply=sleep(1s":   "is not sleep(DURATION)",
		"before_apply=sleep(-1s)": "is not kill, error or sleep(DURATION)",
		"before_apply=kill@0":     "is not a number from 1",
		"before_apply=kill@x":     "is not a number from 1",
	} {
		_, err := Parse(getenv(map[string]string{FailpointsVar: text}))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	if _, err := Parse(getenv(map[string]string{SabotageVar: "lose_everything"})); err == nil || !strings.Contains(err.Error(), "is not one of") {
		t.Errorf("an unknown mistake: %v", err)
	}
	if _, err := Clock(time.Now, getenv(map[string]string{ClockVar: "soon"})); err == nil {
		t.Error("a clock offset that is none was taken")
	}
	now, err := Clock(func() time.Time { return time.Unix(0, 0) }, getenv(map[string]string{ClockVar: "-24h"}))
	if err != nil || !now().Equal(time.Unix(-86_400, 0)) {
		t.Errorf("a day back: %s, %v", now(), err)
	}
}

// world is a source of fixed messages and a sink that fails every second row.
type world struct {
	messages int
	acked    []bool
	rows     []dataset.Row
	letters  int
}

func (w *world) Receive(ctx context.Context, _ string, _ bus.ReceiveOptions, handle func(context.Context, bus.Message) bool) error {
	for range w.messages {
		w.acked = append(w.acked, handle(ctx, bus.Message{ID: "7", Data: []byte(`{"a":1}`)}))
	}
	return nil
}

func (w *world) Put(_ context.Context, _ string, rows []dataset.Row) []error {
	w.rows = append(w.rows, rows...)
	errs := make([]error, len(rows))
	for i := range rows {
		if i%2 == 1 {
			errs[i] = store.ErrUnavailable
		}
	}
	return errs
}

func (w *world) Publish(context.Context, string, []byte, map[string]string) (string, error) {
	w.letters++
	return "1", nil
}

func wrapped(t *testing.T, w *world, vars map[string]string) ingest.Deps {
	t.Helper()
	o, err := Parse(getenv(vars))
	if err != nil {
		t.Fatal(err)
	}
	return o.Wrap(ingest.Deps{Source: w, Sink: w, DeadLetters: w})
}

func TestNothingIsWrappedWithoutVariables(t *testing.T) {
	t.Parallel()
	w := &world{}
	if d := wrapped(t, w, nil); d.Source != ingest.Source(w) || d.Sink != ingest.Sink(w) || d.DeadLetters != ingest.DeadLetters(w) {
		t.Errorf("without a variable the deps are %+v", d)
	}
}

func TestErrorsAtFailpoints(t *testing.T) {
	t.Parallel()
	w := &world{messages: 4}
	d := wrapped(t, w, map[string]string{FailpointsVar: "before_decode=error@2,before_apply=error@1,after_apply_before_ack=error@2+"})
	if err := d.Source.Receive(t.Context(), "", bus.ReceiveOptions{}, func(context.Context, bus.Message) bool { return true }); err != nil {
		t.Fatal(err)
	}
	if want := []bool{true, false, true, true}; !slices.Equal(w.acked, want) {
		t.Errorf("acknowledged %v, want %v", w.acked, want)
	}
	rows := make([]dataset.Row, 3)
	for call, stored := range []int{0, 3, 6, 9} {
		errs := d.Sink.Put(t.Context(), "", rows)
		failed := 0
		for _, err := range errs {
			if errors.Is(err, store.ErrUnavailable) {
				failed++
			}
		}
		want := map[int]int{0: 3, 1: 1, 2: 3, 3: 3}[call] // The first batch that is stored is hit 1 of after_apply.
		if len(w.rows) != stored || failed != want {
			t.Errorf("call %d: %d rows are stored and %d failed, want %d and %d", call, len(w.rows), failed, stored, want)
		}
	}
}

func TestInDrainIsHitOnceTheServiceStops(t *testing.T) {
	t.Parallel()
	w := &world{messages: 3}
	d := wrapped(t, w, map[string]string{FailpointsVar: "in_drain=error@1"})
	ctx, stop := context.WithCancel(t.Context())
	n := 0
	_ = d.Source.Receive(ctx, "", bus.ReceiveOptions{}, func(context.Context, bus.Message) bool {
		if n++; n == 2 {
			stop()
		}
		return true
	})
	if want := []bool{true, false, true}; !slices.Equal(w.acked, want) {
		t.Errorf("acknowledged %v, want %v", w.acked, want)
	}
}

func TestMistakes(t *testing.T) {
	t.Parallel()
	row := dataset.Row{Key: "k", Time: time.Unix(1, 0), Cells: []dataset.Cell{{Column: "a", Value: []byte("1")}}}
	for mistake, made := range map[string]func(w *world, d ingest.Deps) bool{
		AckBeforeWrite: func(w *world, d ingest.Deps) bool {
			_ = d.Source.Receive(context.Background(), "", bus.ReceiveOptions{}, func(context.Context, bus.Message) bool { return false })
			return w.acked[0]
		},
		ServerTimeCells: func(w *world, d ingest.Deps) bool {
			d.Sink.Put(context.Background(), "", []dataset.Row{row})
			return !w.rows[0].Time.Equal(row.Time)
		},
		KeyFromMessageID: func(w *world, d ingest.Deps) bool {
			_ = d.Source.Receive(context.Background(), "", bus.ReceiveOptions{}, func(context.Context, bus.Message) bool {
				d.Sink.Put(context.Background(), "", []dataset.Row{row})
				return true
			})
			return w.rows[0].Key == "k7"
		},
		DropOnDecodeError: func(w *world, d ingest.Deps) bool {
			_, err := d.DeadLetters.Publish(context.Background(), "", nil, nil)
			return err == nil && w.letters == 0
		},
		AckOnPartialErrors: func(_ *world, d ingest.Deps) bool {
			errs := d.Sink.Put(context.Background(), "", []dataset.Row{row, row})
			return errs[1] == nil
		},
	} {
		w := &world{messages: 1}
		if !made(w, wrapped(t, w, map[string]string{SabotageVar: mistake})) {
			t.Errorf("%s is not made", mistake)
		}
		w = &world{messages: 1}
		if made(w, wrapped(t, w, nil)) {
			t.Errorf("%s is made without the variable", mistake)
		}
	}
}
