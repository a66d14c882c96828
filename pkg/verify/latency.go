package verify

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"sync"
	"time"

	"github.com/latamctl/latamctl/pkg/dataset"
)

const (
	// canaryShare is how many requests come on one record that is published.
	canaryShare = 10
	// leastOffered is how many there are at least, however short the load is.
	leastOffered = 5
)

// loadable says whether a load may be offered to a dataset.
func (r *runner) loadable(ds *dataset.Dataset, res *Result) bool {
	quota := ds.API.QuotaPerMinute
	switch {
	case r.opts.Load <= 0:
		res.skip("no load was asked for: --load 50/s --for 30s")
	case r.deps.Offer == nil:
		res.skip("nobody offers a load here")
	case quota > 0 && !r.deps.Owner && r.opts.Load*60 > quota:
		res.skip(fmt.Sprintf("the quota of %d a minute leaves no room for %d/s", quota, r.opts.Load))
	default:
		return true
	}
	return false
}

// responseLatency offers gets and pages, and compares what most of them take with the service level.
// It is what a caller in this place sees: the way to the API is part of it.
func (r *runner) responseLatency(ctx context.Context, ds *dataset.Dataset, res *Result) {
	res.Next = "how far away is the API from here? its own figure is http.server.request.duration, docs/runbooks/response.md has more"
	if !r.loadable(ds, res) {
		return
	}
	paths := []string{datasetPath(ds) + "/rows?limit=10"}
	if row, ok, err := r.known(ctx, ds); err == nil && ok {
		paths = append(paths, rowPath(ds, row.id))
	}
	res.Expected = fmt.Sprintf("of %d/s for %s %g %% are answered within %s", r.opts.Load, r.opts.For, ds.SLO.Target, ds.SLO.Response)
	way := r.way(ctx)
	r.offer(ctx, ds.SLO.Target, ds.SLO.Response, r.opts.Load, res, func(ctx context.Context, i int) error {
		a, err := r.get(ctx, paths[i%len(paths)])
		if err == nil && a.status != http.StatusOK {
			err = fmt.Errorf("GET %s answered %d", paths[i%len(paths)], a.status)
		}
		return err
	})
	res.Seen += fmt.Sprintf("; the way to the API takes %.1f ms", milliseconds(way))
}

const wayTries = 5

// way is the least that any answer takes from here.
func (r *runner) way(ctx context.Context) time.Duration {
	least := time.Duration(0)
	for range wayTries {
		start := r.deps.Now()
		if _, err := r.get(ctx, "/healthz"); err != nil {
			continue
		}
		if took := r.deps.Now().Sub(start); least == 0 || took < least {
			least = took
		}
	}
	return least
}

// ingestLatency publishes records on a schedule and waits for each.
func (r *runner) ingestLatency(ctx context.Context, ds *dataset.Dataset, res *Result) {
	res.Next = "the ways to Pub/Sub and to the API are part of it; its own figure is latam.ingest.end_to_end.duration, docs/runbooks/ingest-latency.md has more"
	if !r.loadable(ds, res) || !r.removable(ctx, ds, res) {
		return
	}
	rate := max(1, r.opts.Load/canaryShare, int(math.Ceil(leastOffered/r.opts.For.Seconds())))
	res.Expected = fmt.Sprintf("of %d/s for %s %g %% are readable within %s", rate, r.opts.For, ds.SLO.Target, ds.SLO.IngestLatency)
	r.offer(ctx, ds.SLO.Target, ds.SLO.IngestLatency, rate, res, func(ctx context.Context, _ int) error {
		c, err := makeCanary(ds, r.deps.Now())
		if err != nil {
			return err
		}
		if r.stored(ctx, c) {
			return nil // It is somebody's row, which is not touched.
		}
		start := r.deps.Now()
		if err := r.publish(ctx, c); err != nil {
			return err
		}
		_, _, err = r.readable(ctx, c, start)
		return err
	})
}

// offer offers a load and judges it.
func (r *runner) offer(ctx context.Context, target float64, within time.Duration, rate int, res *Result, one func(context.Context, int) error) {
	var mu sync.Mutex
	var first error
	failed := 0
	took, err := r.deps.Offer(ctx, rate, r.opts.For, 1, func(ctx context.Context, i int) error {
		err := one(ctx, i)
		if err != nil {
			mu.Lock()
			defer mu.Unlock()
			failed++
			if first == nil {
				first = err
			}
		}
		return err
	})
	if err == nil && (len(took) == 0 || took[0].Count() == 0) {
		err = errors.Join(errors.New("nothing was answered"), first)
	}
	if err != nil {
		res.fail(err.Error())
		return
	}
	at := took[0].Quantile(target / 100)
	seen := fmt.Sprintf("%g %% of %d within %.1f ms, half within %.1f ms", target, took[0].Count(), milliseconds(at), milliseconds(took[0].Quantile(0.5)))
	switch {
	case failed > 0:
		res.fail(fmt.Sprintf("%d of %d failed, the first: %v; %s", failed, int(took[0].Count())+failed, first, seen))
	case at > within:
		res.fail(seen)
	default:
		res.pass(seen)
	}
}
