package monitortest

import (
	"math/rand/v2"
	"net/http"
	"slices"

	"github.com/latamctl/latamctl/pkg/monitor/declare"
)

// Script says what goes wrong. Rates are from 0 to 1, of all requests that On takes.
type Script struct {
	Seed uint64
	// Most is how many faults there are at most; 0 for any number. The lists' faults are not counted.
	Most int
	// On takes the requests that can fail; nil takes all.
	On func(*http.Request) bool

	// Rate429 and Rate5xx answer before anything happens.
	Rate429, Rate5xx float64
	// Reset is what answers with 429 say in X-RateLimit-Reset, in seconds.
	Reset int
	// DropBefore ends the connection before anything happens.
	DropBefore float64
	// CommitThenDrop ends the connection of a write that has happened; CommitThen5xx says that it did not.
	CommitThenDrop, CommitThen5xx float64
	// CutBody ends the connection in the middle of the answer.
	CutBody float64

	// Lists are the kinds whose lists are wrong; all if it is empty.
	Lists []declare.Kind
	// HalfList leaves out the second half of each page, with the right totals.
	HalfList bool
	// EmptyList answers as if there were nothing at all.
	EmptyList bool
	// TotalMismatch makes totals one more than there are.
	TotalMismatch bool
}

// faults is a script that runs. Nil never fails.
type faults struct {
	Script
	random *rand.Rand
	count  int
}

// Faults starts a script, in place of the one before. The zero script ends all faults.
func (d *Datadog) Faults(s Script) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faults = &faults{Script: s, random: rand.New(rand.NewPCG(s.Seed, s.Seed))}
}

// happens draws once. It always draws, so that a rate does not change what the others do.
func (f *faults) happens(rate float64) bool {
	if f.random.Float64() >= rate || (f.Most > 0 && f.count >= f.Most) {
		return false
	}
	f.count++
	return true
}

func (f *faults) takes(r *http.Request) bool { return f != nil && (f.On == nil || f.On(r)) }

// first is a fault in place of doing what the request asks.
func (f *faults) first(r *http.Request) *Response {
	if !f.takes(r) {
		return nil
	}
	switch {
	case f.happens(f.Rate429):
		header, limit := http.Header{}, Limit{500, 10e9}
		w := window{name: "injected", limit: limit, used: limit.Calls}
		w.describe(header)
		header.Set("X-RateLimit-Reset", itoa(f.Reset))
		return tooMany(limit, header)
	case f.happens(f.Rate5xx):
		return f.outage()
	case f.happens(f.DropBefore):
		return &Response{Drop: true}
	}
	return nil
}

// last is a fault in place of a good answer.
func (f *faults) last(r *http.Request, answer *Response) *Response {
	if !f.takes(r) || answer.Status >= 300 {
		return answer
	}
	writes := r.Method != http.MethodGet
	switch {
	case writes && f.happens(f.CommitThenDrop):
		return &Response{Drop: true}
	case writes && f.happens(f.CommitThen5xx):
		return f.outage()
	case answer.Body != nil && f.happens(f.CutBody):
		answer.Cut = true
	}
	return answer
}

func (f *faults) outage() *Response {
	statuses := []int{500, 502, 503, 504}
	status := statuses[f.random.IntN(len(statuses))]
	if status == http.StatusBadGateway || status == http.StatusGatewayTimeout {
		return &Response{Status: status, Body: map[string]any{
			"status": "error", "code": status, "errors": []string{http.StatusText(status)}, "statuspage": "http://status.datadoghq.com",
		}}
	}
	return problem(status, "Internal server error")
}

func (f *faults) ofList(kind declare.Kind) bool {
	return f != nil && (len(f.Lists) == 0 || slices.Contains(f.Lists, kind))
}

// page takes what a list answers, which is less than there is when the script says so.
func page[T any](d *Datadog, kind declare.Kind, items []T) []T {
	switch f := d.faults; {
	case !f.ofList(kind):
	case f.EmptyList:
		return items[:0]
	case f.HalfList:
		return items[:len(items)/2]
	}
	return items
}

// total takes a number of objects that is said beside a list.
func (d *Datadog) total(kind declare.Kind, n int) int {
	switch f := d.faults; {
	case !f.ofList(kind):
	case f.EmptyList:
		return 0
	case f.TotalMismatch:
		return n + 1
	}
	return n
}
