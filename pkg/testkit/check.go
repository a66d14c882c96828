package testkit

import (
	"maps"
	"slices"
	"time"
)

// Row is a stored row with every version of every cell.
type Row struct {
	Key   string
	Cells []Cell
}

// Cell is one version of one column. Column includes the family, as in "d:origin".
type Cell struct {
	Column string
	Time   time.Time
	Value  string
}

// Letter is a dead letter: the payload as it was published, why it was rejected, and the id that
// the rejected message had.
type Letter struct {
	MessageID, Reason, Payload string
}

// Delivery is one delivery of a message.
type Delivery struct {
	ID, Payload string
}

// Shape says how attempts become rows.
type Shape struct {
	// Cells returns the cells that a payload has to become, one for each column.
	Cells func(payload string) []Cell
	// Identity returns the key of the attempts that a row comes from. It reads the row's content, so
	// that a second row of one identity shows whatever its row key is.
	Identity func(Row) string
}

// CheckStored compares attempts with the rows and the dead letters that they had to become: each
// acknowledged healthy one is the only row of its key, with the payload of the key's last acknowledged
// attempt or of a later one, and each acknowledged one with a reason is a dead letter. Others may be
// there; if they are, they are whole.
func CheckStored(attempts []Attempt, rows []Row, letters []Letter, shape Shape) Report {
	r := Report{Rows: len(rows)}
	r.count(attempts)
	byKey := map[string][]Attempt{}
	for _, a := range attempts {
		if a.Reason == "" {
			byKey[a.Key] = append(byKey[a.Key], a)
		}
	}
	seen := map[string]bool{}
	for _, row := range rows {
		key := shape.Identity(row)
		candidates := byKey[key]
		switch {
		case candidates == nil:
			r.violate(&r.Foreign, "row %q is of %q, which nobody sent: %v", row.Key, key, row.Cells)
			continue
		case seen[key]:
			r.violate(&r.DuplicateRows, "row %q is one more of %q", row.Key, key)
		}
		seen[key] = true
		r.checkRow(row, candidates, shape)
	}
	for _, key := range slices.Sorted(maps.Keys(byKey)) {
		for _, a := range byKey[key] {
			if a.Acked && !seen[key] {
				r.violate(&r.Lost, "attempt %d, message %s of %q, has no row: %s", a.N, a.ID, key, a.Payload)
			}
		}
	}
	r.checkLetters(attempts, letters)
	return r
}

// CheckDelivered compares the attempts of one topic with the deliveries of one of its
// subscriptions: each acknowledged attempt was delivered at least once.
func CheckDelivered(attempts []Attempt, deliveries []Delivery) Report {
	var r Report
	r.count(attempts)
	sent, byID := map[string]bool{}, map[string]Attempt{}
	for _, a := range attempts {
		sent[a.Payload] = true
		if a.Acked {
			byID[a.ID] = a
		}
	}
	delivered, kept := map[string]bool{}, map[string]bool{}
	for _, d := range deliveries {
		a, acked := byID[d.ID]
		switch {
		case acked && a.Payload != d.Payload:
			r.violate(&r.WrongPayload, "message %s holds %q, attempt %d sent %q", d.ID, d.Payload, a.N, a.Payload)
		case !sent[d.Payload]:
			r.violate(&r.Foreign, "message %s holds %q, which nobody sent", d.ID, d.Payload)
		}
		if delivered[d.ID] {
			r.Redelivered++
		}
		delivered[d.ID], kept[d.Payload] = true, true
	}
	r.Delivered = len(delivered)
	for _, a := range attempts {
		switch {
		case a.Acked && !delivered[a.ID]:
			r.violate(&r.Lost, "attempt %d, message %s, was never delivered", a.N, a.ID)
		case !a.Acked && kept[a.Payload]:
			r.UnansweredKept++
		}
	}
	return r
}

// count counts the attempts and finds message ids that were given twice.
func (r *Report) count(attempts []Attempt) {
	r.Published = len(attempts)
	byID := map[string]int{}
	for _, a := range attempts {
		if !a.Acked {
			continue
		}
		r.Acked++
		if a.ID == "" {
			continue // Rows that are written have no message id.
		}
		if first, twice := byID[a.ID]; twice {
			r.violate(&r.RepeatedIDs, "message id %s was given to attempts %d and %d", a.ID, first, a.N)
		}
		byID[a.ID] = a.N
	}
}

// checkRow compares a row with the attempts of its key.
func (r *Report) checkRow(row Row, candidates []Attempt, shape Shape) {
	columns := map[string]bool{}
	for _, c := range row.Cells {
		if columns[c.Column] {
			r.violate(&r.ExtraCells, "row %q has one more version of %s, of %s: %q", row.Key, c.Column, c.Time, c.Value)
		}
		columns[c.Column] = true
	}
	from, acked := 0, false
	for i, a := range candidates {
		if a.Acked {
			from, acked = i, true
		}
	}
	for _, a := range slices.Backward(candidates[from:]) {
		if holds(row, shape.Cells(a.Payload)) {
			if !acked {
				r.UnansweredKept++
			}
			return
		}
	}
	r.violate(&r.WrongPayload, "row %q holds %v, not %s", row.Key, row.Cells, candidates[from].Payload)
}

// holds tells whether a row is whole: its newest cells are the wanted ones, one for each column.
// Older versions are counted apart.
func holds(row Row, want []Cell) bool {
	newest := map[string]Cell{}
	for _, c := range row.Cells {
		if old, ok := newest[c.Column]; !ok || c.Time.After(old.Time) {
			newest[c.Column] = c
		}
	}
	for _, w := range want {
		got, ok := newest[w.Column]
		if !ok || got.Value != w.Value || !got.Time.Equal(w.Time) {
			return false
		}
	}
	return len(newest) == len(want)
}

// checkLetters compares the dead letters with the attempts that had to become some. A crash between
// a letter's publication and the acknowledgement of its message makes one more of it, which is right.
func (r *Report) checkLetters(attempts []Attempt, letters []Letter) {
	byPayload, byID := map[string]Attempt{}, map[string]bool{}
	dead := map[string]bool{} // by message id, and by payload
	for _, a := range attempts {
		byPayload[a.Payload] = a
		byID[a.ID] = a.Acked
	}
	for _, l := range letters {
		a, sent := byPayload[l.Payload]
		switch {
		case !sent && byID[l.MessageID]:
			r.violate(&r.WrongPayload, "the dead letter of message %s holds %q", l.MessageID, l.Payload)
		case !sent:
			r.violate(&r.Foreign, "dead letter of message %s, which nobody sent: %q", l.MessageID, l.Payload)
		case a.Reason == "":
			r.violate(&r.DeadHealthy, "message %s is healthy and was rejected as %s: %s", l.MessageID, l.Reason, l.Payload)
		case a.Reason != l.Reason:
			r.violate(&r.WrongReason, "message %s was rejected as %q, not as %q: %s", l.MessageID, l.Reason, a.Reason, l.Payload)
		}
		dead["id "+l.MessageID], dead["payload "+l.Payload] = true, true
	}
	for _, a := range attempts {
		switch {
		case a.Reason == "":
		case a.Acked && dead["id "+a.ID]:
			r.DeadOK++
		case a.Acked:
			r.violate(&r.Lost, "attempt %d, message %s, is no dead letter (%s): %s", a.N, a.ID, a.Reason, a.Payload)
		case dead["payload "+a.Payload]:
			r.DeadOK++
			r.UnansweredKept++
		}
	}
}
