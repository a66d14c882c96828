package query

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/latamctl/latamctl/pkg/web"
)

// outcomes are the answers to an open loop of requests: one that does not wait for the answers.
type outcomes struct {
	mu       sync.Mutex
	statuses map[int][]time.Duration
	bad      []string
}

// openLoop asks for a target so many times a second for a while, whatever comes back.
func openLoop(ctx context.Context, client *http.Client, target string, perSecond int, lasting time.Duration) *outcomes {
	out := &outcomes{statuses: map[int][]time.Duration{}}
	var clients sync.WaitGroup
	tick := time.NewTicker(time.Second / time.Duration(perSecond))
	defer tick.Stop()
	begin := time.Now()
	for sent := 0; time.Since(begin) < lasting; {
		<-tick.C
		// A ticker that was late is caught up with, because the load must not follow the service's pace.
		for due := int(time.Since(begin).Seconds() * float64(perSecond)); sent < due; sent++ {
			clients.Go(func() { out.ask(ctx, client, target) })
		}
	}
	clients.Wait()
	return out
}

func (o *outcomes) ask(ctx context.Context, client *http.Client, target string) {
	begin := time.Now()
	status, bad := 0, ""
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	var resp *http.Response
	if err == nil {
		resp, err = client.Do(req)
	}
	if err != nil {
		bad = err.Error()
	} else {
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		status = resp.StatusCode
		refused := status == http.StatusServiceUnavailable && resp.Header.Get("Retry-After") == "1" && bytes.Contains(body, []byte(`"OVERLOADED"`))
		if err != nil || status != http.StatusOK && !refused {
			bad = resp.Status + " " + string(body)
		}
	}
	took := time.Since(begin)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.statuses[status] = append(o.statuses[status], took)
	if bad != "" {
		o.bad = append(o.bad, bad)
	}
}

func (o *outcomes) longest(status int) time.Duration {
	if len(o.statuses[status]) == 0 {
		return 0
	}
	return slices.Max(o.statuses[status])
}

// TestOverloadIsRefusedBeforeItIsFelt asks three times of what the store can do: what is accepted is
// served in time, the rest is told to come back, another dataset feels nothing, and afterwards
// everything is as before.
func TestOverloadIsRefusedBeforeItIsFelt(t *testing.T) {
	t.Parallel()
	const queue, perCall, places = 100 * time.Millisecond, 20 * time.Millisecond, 4
	const capacity = places * int(time.Second/perCall) // gets a second
	for _, tt := range []struct{ name, target string }{
		{"gets", "/v1/datasets/tags/rows/a"}, {"lists", "/v1/datasets/tags/rows?limit=1"}, {"aggregates", "/v1/datasets/tags/aggregate"}, {"exports", "/v1/datasets/tags/rows?format=csv"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, testYAML, Options{
				QueueTimeout: queue, MaxConcurrentGets: places, MaxConcurrentLists: places, MaxConcurrentExports: places, Aggregate: AggregateOptions{MaxConcurrentAggregates: places},
			})
			w.add("tags", `{"name":"a"}`)
			w.add("days", `{"day":"2001-01-01"}`)
			w.store.before = func(ctx context.Context) {
				select {
				case <-time.After(perCall):
				case <-ctx.Done():
				}
			}
			base := "http://" + w.listen(web.Options{})
			client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 500}}
			defer client.CloseIdleConnections()
			var neighbour *outcomes
			var both sync.WaitGroup
			both.Go(func() {
				neighbour = openLoop(t.Context(), client, base+"/v1/datasets/days/rows/2001-01-01", 20, 2*time.Second)
			})
			load := openLoop(t.Context(), client, base+tt.target, 3*capacity, 2*time.Second)
			both.Wait()

			served, refused := len(load.statuses[200]), len(load.statuses[503])
			t.Logf("of %d: %d served, the longest %s; %d refused, the longest %s; neighbour %d, the longest %s",
				served+refused, served, load.longest(200), refused, load.longest(503), len(neighbour.statuses[200]), neighbour.longest(200))
			if len(load.bad) > 0 || len(neighbour.bad) > 0 {
				t.Errorf("%d answers are neither rows nor OVERLOADED with Retry-After: %.500q", len(load.bad), append(load.bad, neighbour.bad...))
			}
			if served < capacity/2 || served > 3*capacity || refused < capacity/2 {
				t.Errorf("%d served and %d refused in 2s, the store can do %d a second", served, refused, capacity)
			}
			if longest := max(load.longest(200), load.longest(503)); longest > queue+2*time.Second {
				t.Errorf("a request waited %s, the line is %s", longest, queue)
			}
			if n := len(neighbour.statuses[503]); n > 0 || len(neighbour.statuses[200]) == 0 {
				t.Errorf("of another dataset %d were refused", n)
			}
			calm := &outcomes{statuses: map[int][]time.Duration{}}
			for range 10 {
				calm.ask(t.Context(), client, base+tt.target)
			}
			if len(calm.statuses[200]) != 10 {
				t.Errorf("after the load: %v, %q", calm.statuses, calm.bad)
			}
			ep := w.service.endpoints["tags"]
			for _, g := range []gate{ep.gets, ep.lists, ep.exports, ep.aggregates} {
				if len(g.places) > 0 {
					t.Error("a place was not given back")
				}
			}
		})
	}
}
