package query

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/web"
)

// Activity is what an ingest service in this process knows of a dataset.
type Activity struct {
	// Stored is the number of records since the start, PerSecond their rate over the last minute.
	Stored    int64
	PerSecond float64
	// LastCommit is when a batch was stored last; zero = not yet.
	LastCommit time.Time
	// NewestEvent is the latest event time that was stored since the start; zero = none.
	NewestEvent time.Time
	InFlight    int64
	// Behind is the age by publish time of the oldest message in work; Paused why none is, else empty.
	Behind time.Duration
	Paused string
}

// stats is the body of GET /v1/datasets/{dataset}/stats.
type stats struct {
	Dataset string `json:"dataset"`
	// Rows counts the rows; with relation gte the count stopped at its bound.
	Rows statsCount `json:"rows"`
	// FirstEventTime and LastEventTime are those of the rows that were counted.
	FirstEventTime string `json:"first_event_time,omitempty"`
	LastEventTime  string `json:"last_event_time,omitempty"`
	// LagSeconds is how long before as_of the last event was.
	LagSeconds *float64     `json:"lag_seconds,omitempty"`
	Indexes    []statsIndex `json:"indexes"`
	Ingest     *statsIngest `json:"ingest,omitempty"`
	AsOf       string       `json:"as_of"`
}

type statsCount struct {
	Value    int    `json:"value"`
	Relation string `json:"relation"`
}

type statsIndex struct {
	Name  string `json:"name"`
	Built bool   `json:"built"`
}

type statsIngest struct {
	Stored    int64   `json:"stored"`
	PerSecond float64 `json:"per_second"`
	InFlight  int64   `json:"in_flight"`
	Behind    float64 `json:"behind_seconds"`
	Paused    string  `json:"paused,omitempty"`
	LastStore string  `json:"last_store,omitempty"`
}

// statsCache keeps what a look at all rows found, because a console asks again and again.
type statsCache struct {
	mu      sync.Mutex
	found   rowStats
	looking chan struct{} // closed when the look that runs ends; nil when none does
}

// rowStats is what a look at all rows finds. The times are zero when there are no rows.
type rowStats struct {
	at          time.Time // of the look
	rows        statsCount
	first, last time.Time
}

// stats answers with how many rows there are and how fresh they are.
func (s *Service) stats(ep *endpoint, w http.ResponseWriter, r *http.Request) *web.Problem {
	if p := noParameters(r.URL.RawQuery); p != nil {
		return p
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.opts.ListTimeout)
	defer cancel()
	found, err := s.recentStats(ctx, ep)
	if err != nil {
		return s.storeProblem(ctx, r, ep, err)
	}
	body, err := json.Marshal(s.statsOf(ctx, ep, found, s.deps.Now()))
	if err != nil {
		return s.storeProblem(ctx, r, ep, err)
	}
	s.respond(w, r, answer{kind: typeJSON, body: body, cache: "no-store"})
	return nil
}

// recentStats returns what was found not long ago, or looks. One request looks at a time; those that
// wait for it take no place among the lists.
func (s *Service) recentStats(ctx context.Context, ep *endpoint) (rowStats, error) {
	c := &ep.stats
	for {
		c.mu.Lock()
		found, looking := c.found, c.looking
		if !found.at.IsZero() && s.deps.Now().Sub(found.at) < s.opts.StatsTTL {
			c.mu.Unlock()
			return found, nil
		}
		if looking == nil {
			c.looking = make(chan struct{})
			c.mu.Unlock()
			return s.lookAndKeep(ctx, ep)
		}
		c.mu.Unlock()
		select {
		case <-looking: // Without a result, where its client went away: then this one looks.
		case <-ctx.Done():
			return rowStats{}, ctx.Err()
		}
	}
}

func (s *Service) lookAndKeep(ctx context.Context, ep *endpoint) (found rowStats, err error) {
	c := &ep.stats
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if err == nil && !found.at.IsZero() {
			c.found = found
		}
		close(c.looking)
		c.looking = nil
	}()
	if p := ep.lists.enter(ctx); p != nil {
		return found, p
	}
	defer ep.lists.leave()
	return s.lookAtRows(ctx, ep)
}

func (s *Service) statsOf(ctx context.Context, ep *endpoint, c rowStats, now time.Time) stats {
	out := stats{Dataset: ep.ds.Name, Rows: c.rows, Indexes: []statsIndex{}, AsOf: c.at.UTC().Format(asOfLayout)}
	first, last := c.first, c.last
	if s.deps.Activity != nil {
		if a, ok := s.deps.Activity(ep.ds.Name); ok {
			out.Ingest = ingestStats(a)
			if !last.IsZero() && a.NewestEvent.After(last) {
				last = a.NewestEvent // It came after the count, or behind its bound.
			}
		}
	}
	if !last.IsZero() {
		out.FirstEventTime, out.LastEventTime = first.UTC().Format(time.RFC3339Nano), last.UTC().Format(time.RFC3339Nano)
		lag := now.Sub(last).Seconds()
		out.LagSeconds = &lag
	}
	ready := s.ready(ctx, ep)
	for i := range ep.ds.Indexes {
		ix := &ep.ds.Indexes[i]
		out.Indexes = append(out.Indexes, statsIndex{ix.Name, ready(ix)})
	}
	return out
}

func ingestStats(a Activity) *statsIngest {
	out := &statsIngest{Stored: a.Stored, PerSecond: a.PerSecond, InFlight: a.InFlight, Behind: a.Behind.Seconds(), Paused: a.Paused}
	if !a.LastCommit.IsZero() {
		out.LastStore = a.LastCommit.UTC().Format(asOfLayout)
	}
	return out
}

// lookAtRows reads the event time of all rows, within the bounds of a count. Where the key or an
// index begins with the time, its two ends are exact whatever the bounds.
func (s *Service) lookAtRows(ctx context.Context, ep *endpoint) (rowStats, error) {
	now := s.deps.Now()
	c := rowStats{at: now, rows: statsCount{Relation: "eq"}}
	until := now.Add(s.opts.CountTimeout)
	rd := reading{plan: makePlan(accessByKey(ep.ds), nil), limit: s.opts.MaxCountedRows + 1, columns: ep.columnsFor([]*dataset.Field{}, nil)}
	n := 0
	err := s.read(ctx, rd, func(_ string, row dataset.Row, _ bool) bool {
		n++
		if n > s.opts.MaxCountedRows || n%checkClockEvery == 0 && s.deps.Now().After(until) {
			c.rows.Relation = "gte"
			return false
		}
		c.rows.Value++
		c.see(row.Time, ep.ds.Time != nil)
		return true
	})
	if err == nil && c.rows.Relation != "eq" && ep.ds.Time != nil {
		err = s.lookAtEnds(ctx, ep, &c)
	}
	return c, err
}

// see widens the span of the event times. A row's own time is that of its event, in milliseconds.
func (c *rowStats) see(at time.Time, timed bool) {
	if !timed {
		return
	}
	if c.last.IsZero() || at.Before(c.first) {
		c.first = at
	}
	if c.last.IsZero() || at.After(c.last) {
		c.last = at
	}
}

// lookAtEnds finds the first and the last event by an access that is in the order of time.
func (s *Service) lookAtEnds(ctx context.Context, ep *endpoint, c *rowStats) error {
	ready := s.ready(ctx, ep)
	for _, cand := range ep.candidates(nil, ready) {
		if !cand.ready || cand.plan.access.fields[0] != ep.ds.Time {
			continue
		}
		for _, desc := range []bool{false, true} {
			err := s.read(ctx, reading{plan: cand.plan, desc: desc, limit: checkClockEvery}, func(_ string, row dataset.Row, shown bool) bool {
				if shown {
					c.see(row.Time, true)
				}
				return !shown
			})
			if err != nil {
				return err
			}
		}
		return nil
	}
	return nil
}
