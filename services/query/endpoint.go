package query

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/web"
)

// endpoint is a dataset compiled for serving.
type endpoint struct {
	ds          *dataset.Dataset
	path        string    // of the dataset, escaped
	description *document // of GET on the path
	// scope is what a cursor is bound to besides its query: the dataset and the shape of its rows and keys.
	scope      []byte
	parameters []string // of a list, for suggestions
	encoder    *dataset.Encoder
	cache      string // Cache-Control of rows
	indexes    map[string]*indexState
	stats      statsCache

	gets, lists, exports, aggregates, publishes gate
	tails                                       atomic.Int64 // live streams now
}

func newEndpoint(ds *dataset.Dataset, opts Options) (*endpoint, error) {
	ep := &endpoint{
		ds:         ds,
		path:       "/v1/datasets/" + url.PathEscape(ds.Name),
		scope:      scopeOf(ds),
		parameters: append(ds.FieldNames(), listParameters()...),
		encoder:    ds.NewEncoder(nil),
		cache:      cacheControl(ds.API.CacheMaxAge),
		indexes:    map[string]*indexState{},
		aggregates: newGate(opts.Aggregate.MaxConcurrentAggregates, opts.QueueTimeout),
		exports:    newGate(opts.MaxConcurrentExports, opts.QueueTimeout),
		gets:       newGate(opts.MaxConcurrentGets, opts.QueueTimeout),
		lists:      newGate(opts.MaxConcurrentLists, opts.QueueTimeout),
		publishes:  newGate(opts.MaxConcurrentPublishes, opts.QueueTimeout),
	}
	for _, ix := range ds.Indexes {
		ep.indexes[ix.Name] = &indexState{}
	}
	body, err := describe(ds, ep.path, opts)
	if err != nil {
		return nil, err
	}
	ep.description = newDocument(typeJSON, body)
	return ep, nil
}

// scopeOf changes whenever a cursor of before could be misread: another dataset, key or field.
func scopeOf(ds *dataset.Dataset) []byte {
	h := sha256.New()
	_, _ = fmt.Fprintf(h, "%s\n", ds.Name)
	for _, f := range ds.Fields {
		_, _ = fmt.Fprintf(h, "field %s %s %v\n", f.Name, f.Type, f.Required)
	}
	for _, f := range ds.Key {
		_, _ = fmt.Fprintf(h, "key %s\n", f.Name)
	}
	return h.Sum(nil)
}

// gate lets a number of requests through at once. The others wait a moment in line, so that a
// burst is served and only a lasting overload is refused.
type gate struct {
	places chan struct{}
	wait   time.Duration
}

func newGate(n int, wait time.Duration) gate { return gate{places: make(chan struct{}, n), wait: wait} }

func (g gate) enter(ctx context.Context) *web.Problem {
	select {
	case g.places <- struct{}{}:
		return nil
	default:
	}
	timer := time.NewTimer(g.wait)
	defer timer.Stop()
	select {
	case g.places <- struct{}{}:
		return nil
	case <-ctx.Done():
		return web.NewProblem(web.ClientClosed, "The client went away.", "")
	case <-timer.C:
		p := web.NewProblem(web.Overloaded, "The dataset serves as many requests as it may at once.", "Retry later, with fewer requests in parallel.")
		p.RetryAfter = time.Second
		return p
	}
}

func (g gate) leave() { <-g.places }
