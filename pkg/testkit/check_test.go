package testkit_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/latamctl/latamctl/pkg/testkit"
)

// A payload is "key value"; its row has a column for each.
func shape() testkit.Shape {
	return testkit.Shape{
		Cells: func(payload string) []testkit.Cell {
			key, value, _ := strings.Cut(payload, " ")
			return []testkit.Cell{cell("d:key", key), cell("d:value", value)}
		},
		Identity: func(row testkit.Row) string {
			for _, c := range row.Cells {
				if c.Column == "d:key" {
					return c.Value
				}
			}
			return ""
		},
	}
}

func cell(column, value string) testkit.Cell {
	return testkit.Cell{Column: column, Time: time.UnixMilli(1000), Value: value}
}

func row(payload string) testkit.Row {
	key, _, _ := strings.Cut(payload, " ")
	return testkit.Row{Key: "row of " + key, Cells: shape().Cells(payload)}
}

// world is what a sound run leaves behind. A test breaks one thing of it.
type world struct {
	attempts   []testkit.Attempt
	rows       []testkit.Row
	letters    []testkit.Letter
	deliveries []testkit.Delivery
}

func soundWorld() *world {
	return &world{
		attempts: []testkit.Attempt{
			{N: 1, Key: "a", Payload: "a 1", Acked: true, ID: "11"},
			{N: 2, Key: "b", Payload: "b 1", Acked: true, ID: "12"},
			{N: 3, Key: "b", Payload: "b 1", Acked: true, ID: "13"}, // the publisher sent it twice
			{N: 4, Key: "c", Payload: "c 1", Acked: true, ID: "14"},
			{N: 5, Key: "c", Payload: "c 2", Acked: true, ID: "15"}, // replaces the row
			{N: 6, Key: "d", Payload: "d 1"},                        // unanswered and gone
			{N: 7, Key: "e", Payload: "e 1"},                        // unanswered and kept
			{N: 8, Key: "f", Payload: "f 1", Acked: true, ID: "16"},
			{N: 9, Key: "f", Payload: "f 2"}, // unanswered and gone
			{N: 10, Key: "x", Payload: "poison x", Reason: "range", Acked: true, ID: "17"},
			{N: 11, Key: "y", Payload: "poison y", Reason: "pattern"}, // unanswered and gone
			{N: 12, Key: "z", Payload: "poison z", Reason: "pattern"}, // unanswered and kept
		},
		rows: []testkit.Row{row("a 1"), row("b 1"), row("c 2"), row("e 1"), row("f 1")},
		letters: []testkit.Letter{
			{MessageID: "17", Reason: "range", Payload: "poison x"},
			{MessageID: "17", Reason: "range", Payload: "poison x"}, // rejected again after a crash
			{MessageID: "18", Reason: "pattern", Payload: "poison z"},
		},
		deliveries: []testkit.Delivery{
			{ID: "11", Payload: "a 1"}, {ID: "12", Payload: "b 1"}, {ID: "13", Payload: "b 1"}, {ID: "14", Payload: "c 1"},
			{ID: "15", Payload: "c 2"}, {ID: "16", Payload: "f 1"}, {ID: "16", Payload: "f 1"}, {ID: "17", Payload: "poison x"},
			{ID: "19", Payload: "e 1"},
		},
	}
}

// setCell replaces the value of a row's column.
func (w *world) setCell(row int, column, value string) {
	for i, c := range w.rows[row].Cells {
		if c.Column == column {
			w.rows[row].Cells[i].Value = value
		}
	}
}

var ignoreText = cmpopts.IgnoreFields(testkit.Report{}, "Violations")

func TestStoredCheckCatches(t *testing.T) {
	t.Parallel()
	sound := testkit.Report{Published: 12, Acked: 7, Rows: 5, UnansweredKept: 2, DeadOK: 2}
	for _, tc := range []struct {
		name string
		harm func(*world)
		want func(*testkit.Report)
	}{
		{"nothing", func(*world) {}, func(*testkit.Report) {}},
		{"a lost row",
			func(w *world) { w.rows = w.rows[1:] },
			func(r *testkit.Report) { r.Rows, r.Lost = 4, 1 }},
		{"a lost row that was sent twice",
			func(w *world) { w.rows = slices.Delete(w.rows, 1, 2) },
			func(r *testkit.Report) { r.Rows, r.Lost = 4, 2 }},
		{"a lost dead letter",
			func(w *world) { w.letters = w.letters[2:] },
			func(r *testkit.Report) { r.DeadOK, r.Lost = 1, 1 }},
		{"a duplicate row under another key",
			func(w *world) { again := row("a 1"); again.Key = "another"; w.rows = append(w.rows, again) },
			func(r *testkit.Report) { r.Rows, r.DuplicateRows = 6, 1 }},
		{"a row that is read twice",
			func(w *world) { w.rows = append(w.rows, w.rows[0]) },
			func(r *testkit.Report) { r.Rows, r.DuplicateRows = 6, 1 }},
		{"an older version of a cell",
			func(w *world) {
				old := testkit.Cell{Column: "d:value", Time: time.UnixMilli(999), Value: "1"}
				w.rows[0].Cells = append(w.rows[0].Cells, old)
			},
			func(r *testkit.Report) { r.ExtraCells = 1 }},
		{"the same cell twice",
			func(w *world) { w.rows[0].Cells = append(w.rows[0].Cells, w.rows[0].Cells[1]) },
			func(r *testkit.Report) { r.ExtraCells = 1 }},
		{"a column too many",
			func(w *world) { w.rows[0].Cells = append(w.rows[0].Cells, cell("d:more", "1")) },
			func(r *testkit.Report) { r.WrongPayload = 1 }},
		{"a column too few",
			func(w *world) { w.rows[0].Cells = w.rows[0].Cells[:1] },
			func(r *testkit.Report) { r.WrongPayload = 1 }},
		{"a wrong payload",
			func(w *world) { w.setCell(0, "d:value", "7") },
			func(r *testkit.Report) { r.WrongPayload = 1 }},
		{"a wrong timestamp",
			func(w *world) { w.rows[0].Cells[0].Time = time.UnixMilli(1001) },
			func(r *testkit.Report) { r.WrongPayload = 1 }},
		{"a version older than the one acknowledged",
			func(w *world) { w.setCell(2, "d:value", "1") },
			func(r *testkit.Report) { r.WrongPayload = 1 }},
		{"an unanswered version, which may be there",
			func(w *world) { w.setCell(4, "d:value", "2") },
			func(*testkit.Report) {}},
		{"an unanswered row that is wrong",
			func(w *world) { w.setCell(3, "d:value", "2") },
			func(r *testkit.Report) { r.UnansweredKept, r.WrongPayload = 1, 1 }},
		{"a row that nobody sent",
			func(w *world) { w.rows = append(w.rows, row("q 1")) },
			func(r *testkit.Report) { r.Rows, r.Foreign = 6, 1 }},
		{"a rejected record that became a row",
			func(w *world) { w.rows = append(w.rows, row("x 1")) },
			func(r *testkit.Report) { r.Rows, r.Foreign = 6, 1 }},
		{"a healthy dead letter",
			func(w *world) {
				w.letters = append(w.letters, testkit.Letter{MessageID: "11", Reason: "range", Payload: "a 1"})
			},
			func(r *testkit.Report) { r.DeadHealthy = 1 }},
		{"a healthy dead letter in place of its row",
			func(w *world) {
				w.rows = w.rows[1:]
				w.letters = append(w.letters, testkit.Letter{MessageID: "11", Reason: "range", Payload: "a 1"})
			},
			func(r *testkit.Report) { r.Rows, r.Lost, r.DeadHealthy = 4, 1, 1 }},
		{"a dead letter without a reason",
			func(w *world) { w.letters[2].Reason = "" },
			func(r *testkit.Report) { r.WrongReason = 1 }},
		{"a dead letter with another payload",
			func(w *world) { w.letters[0].Payload = "poison" },
			func(r *testkit.Report) { r.WrongPayload = 1 }},
		{"a dead letter that nobody sent",
			func(w *world) {
				w.letters = append(w.letters, testkit.Letter{MessageID: "99", Reason: "range", Payload: "poison q"})
			},
			func(r *testkit.Report) { r.Foreign = 1 }},
		{"a message id given twice",
			func(w *world) { w.attempts[1].ID = "11" },
			func(r *testkit.Report) { r.RepeatedIDs = 1 }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w, want := soundWorld(), sound
			tc.harm(w)
			tc.want(&want)
			got := testkit.CheckStored(w.attempts, w.rows, w.letters, shape())
			judge(t, want, got)
		})
	}
}

func TestDeliveredCheckCatches(t *testing.T) {
	t.Parallel()
	sound := testkit.Report{Published: 12, Acked: 7, Delivered: 8, UnansweredKept: 1, Redelivered: 1}
	for _, tc := range []struct {
		name string
		harm func(*world)
		want func(*testkit.Report)
	}{
		{"nothing", func(*world) {}, func(*testkit.Report) {}},
		{"a lost message",
			func(w *world) { w.deliveries = w.deliveries[1:] },
			func(r *testkit.Report) { r.Delivered, r.Lost = 7, 1 }},
		{"a lost message that was also sent under another id",
			func(w *world) { w.deliveries = slices.Delete(w.deliveries, 1, 2) },
			func(r *testkit.Report) { r.Delivered, r.Lost = 7, 1 }},
		{"a message with the payload of another",
			func(w *world) { w.deliveries[0].Payload = "b 1" },
			func(r *testkit.Report) { r.WrongPayload = 1 }},
		{"a message with a torn payload",
			func(w *world) { w.deliveries[0].Payload = "a" },
			func(r *testkit.Report) { r.WrongPayload = 1 }},
		{"a message that nobody sent",
			func(w *world) { w.deliveries = append(w.deliveries, testkit.Delivery{ID: "20", Payload: "q 1"}) },
			func(r *testkit.Report) { r.Delivered, r.Foreign = 9, 1 }},
		{"a message id given twice",
			func(w *world) { w.attempts[2].ID = "12" },
			func(r *testkit.Report) { r.RepeatedIDs = 1 }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w, want := soundWorld(), sound
			tc.harm(w)
			tc.want(&want)
			judge(t, want, testkit.CheckDelivered(w.attempts, w.deliveries))
		})
	}
}

// judge compares the figures and expects each violation to be described.
func judge(t *testing.T, want, got testkit.Report) {
	t.Helper()
	if diff := cmp.Diff(want, got, ignoreText); diff != "" {
		t.Errorf("figures:\n%s%s", diff, strings.Join(got.Violations, "\n"))
	}
	violations := got.Lost + got.DuplicateRows + got.ExtraCells + got.WrongPayload + got.Foreign + got.DeadHealthy + got.WrongReason + got.RepeatedIDs
	if len(got.Violations) != violations || got.OK() != (violations == 0) {
		t.Errorf("OK %v, %d descriptions of %d violations: %q", got.OK(), len(got.Violations), violations, got.Violations)
	}
}

func TestReportDescribesTheFirstViolationsOnly(t *testing.T) {
	t.Parallel()
	var rows []testkit.Row
	for range 100 {
		rows = append(rows, row("q 1"))
	}
	r := testkit.CheckStored(nil, rows, nil, shape())
	if r.Foreign != 100 || len(r.Violations) != 20 || r.OK() {
		t.Errorf("%d rows that nobody sent, %d described, OK %v", r.Foreign, len(r.Violations), r.OK())
	}
	const want = "published=0 acked=0 rows=100 delivered=0 lost=0 duplicate_rows=0 extra_cells=0 wrong_payload=0 foreign=100 " +
		"dead_ok=0 dead_healthy=0 wrong_reason=0 repeated_ids=0 unanswered_kept=0 redelivered=0"
	if r.String() != want {
		t.Errorf("got  %s\nwant %s", r, want)
	}
}

func TestReportsAddUp(t *testing.T) {
	t.Parallel()
	a := testkit.Report{
		Published: 1, Acked: 2, Rows: 3, Delivered: 4, UnansweredKept: 5, DeadOK: 6, Redelivered: 7, Lost: 8, DuplicateRows: 9,
		ExtraCells: 10, WrongPayload: 11, Foreign: 12, DeadHealthy: 13, WrongReason: 14, RepeatedIDs: 15, Violations: []string{"a"},
	}
	want := testkit.Report{
		Published: 2, Acked: 4, Rows: 6, Delivered: 8, UnansweredKept: 10, DeadOK: 12, Redelivered: 14, Lost: 16, DuplicateRows: 18,
		ExtraCells: 20, WrongPayload: 22, Foreign: 24, DeadHealthy: 26, WrongReason: 28, RepeatedIDs: 30, Violations: []string{"a", "a"},
	}
	if diff := cmp.Diff(want, a.Plus(a)); diff != "" {
		t.Error(diff)
	}
}
