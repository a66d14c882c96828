package payload

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/schema"
)

const (
	// maxSchemas is how many compiled revisions are kept.
	maxSchemas = 64
	// fetchTimeout bounds the fetch of a definition.
	fetchTimeout = 10 * time.Second
	// faultTime is how long the error of a fetch is the answer for later messages too: a backlog of
	// messages must not become as many calls.
	faultTime = time.Second
)

type schemaKey struct{ name, revision string }

// cache keeps compiled schemas. A revision never changes, so what was compiled stays good.
type cache struct {
	schemas Schemas
	log     *slog.Logger

	mu      sync.Mutex
	entries map[schemaKey]*cached
}

// cached is one schema that is fetched or was.
type cached struct {
	done   chan struct{} // closed when the rest is set
	schema *schema.Schema
	err    error
	expire time.Time // of the error
}

func newCache(schemas Schemas, log *slog.Logger) *cache {
	return &cache{schemas: schemas, log: log, entries: map[schemaKey]*cached{}}
}

func (c *cache) get(ctx context.Context, key schemaKey) (*schema.Schema, error) {
	e, err := c.entry(ctx, key)
	if err != nil {
		return nil, err
	}
	select {
	case <-e.done:
		return e.schema, e.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// checkKey rejects names that no schema can have.
func checkKey(key schemaKey) error {
	parts := strings.Split(key.name, "/")
	if len(parts) != 4 || parts[0] != "projects" || parts[1] == "" || parts[2] != "schemas" || parts[3] == "" || strings.Contains(key.name+key.revision, "@") {
		return rejectf(dataset.ReasonBadPayload, "the attribute %s is %.128q, expected projects/{project}/schemas/{schema}", AttrSchemaName, key.name)
	}
	return nil
}

// entry returns the entry of a schema and begins to fetch what is not there.
func (c *cache) entry(ctx context.Context, key schemaKey) (*cached, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.entries[key]; e != nil && !e.expired() {
		return e, nil
	}
	if err := checkKey(key); err != nil {
		return nil, err
	}
	for other := range c.entries {
		if len(c.entries) < maxSchemas {
			break
		}
		delete(c.entries, other)
	}
	e := &cached{done: make(chan struct{})}
	c.entries[key] = e
	// Others may wait for the same fetch, so it does not end with the message that began it.
	go c.fetch(context.WithoutCancel(ctx), e, key)
	return e, nil
}

func (e *cached) expired() bool {
	select {
	case <-e.done:
		return e.err != nil && !time.Now().Before(e.expire)
	default:
		return false
	}
}

func (c *cache) fetch(ctx context.Context, e *cached, key schemaKey) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	defer close(e.done)
	if e.schema, e.err = compile(ctx, c.schemas, key); e.err != nil {
		c.log.WarnContext(ctx, "schema not available, its messages are given back", "schema", key.name, "revision", key.revision, "error", e.err)
	}
	e.expire = time.Now().Add(faultTime)
}

func compile(ctx context.Context, schemas Schemas, key schemaKey) (*schema.Schema, error) {
	if schemas == nil {
		return nil, errors.New("there is no schema service to ask")
	}
	language, definition, err := schemas.Schema(ctx, key.name, key.revision)
	if err != nil {
		return nil, err
	}
	s, err := schema.Compile(ctx, schema.Language(language), definition)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadSchema, err)
	}
	return s, nil
}
