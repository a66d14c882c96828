package verify

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"github.com/latamctl/latamctl/pkg/dataset"
)

// canary is a record made up from the declaration alone, and what became of it.
type canary struct {
	ds   *dataset.Dataset
	data []byte // as published
	at   time.Time
	id   string // the public row id
	key  string // the row key
	// entries are the index entries of the row, in the order of the dataset's indexes.
	entries []dataset.Row
	want    map[string]string
	// published is how often it was, or may have been, published.
	published int
	// seen tells that its row was readable, or that its message was found elsewhere.
	seen bool
	// late tells that its own round of a standing probe ended without it, out when it was seen after all.
	late bool
	out  time.Time
}

const canaryAttempts = 20

// newCanary makes a record that the declaration accepts and whose row does not exist yet, so that
// verifying never touches a row of real data.
func (r *runner) newCanary(ctx context.Context, ds *dataset.Dataset) (*canary, error) {
	var last error
	for range canaryAttempts {
		c, err := makeCanary(ds, r.deps.Now())
		if err != nil {
			last = err
			continue
		}
		switch a, err := r.get(ctx, rowPath(ds, c.id)); {
		case err != nil:
			return nil, err
		case a.status == http.StatusNotFound:
			return c, nil
		default:
			last = fmt.Errorf("GET of row %s answered %d, expected 404", c.id, a.status)
		}
	}
	return nil, fmt.Errorf("make a canary: %w", last)
}

func makeCanary(ds *dataset.Dataset, now time.Time) (*canary, error) {
	fields := map[string]any{}
	for _, f := range ds.Fields {
		v, err := sample(f, now)
		if err != nil {
			return nil, fmt.Errorf("field %s: %w", f.Name, err)
		}
		fields[f.Name] = v
	}
	return canaryOf(ds, fields, now)
}

func canaryOf(ds *dataset.Dataset, fields map[string]any, now time.Time) (*canary, error) {
	data, err := json.Marshal(fields)
	if err != nil {
		return nil, err
	}
	rec, err := ds.Decode(data, now)
	if err != nil {
		return nil, err
	}
	c := &canary{ds: ds, data: data, at: now, key: rec.RowKey(), entries: ds.IndexEntries(rec, now), want: map[string]string{}}
	for _, f := range ds.Fields {
		switch f.Type {
		case dataset.String, dataset.Int64, dataset.Bool, dataset.Timestamp, dataset.Date:
			c.want[f.Name] = rec.Value(f).Text()
		}
	}
	c.id, err = ds.RowID(c.key)
	return c, err
}

// earlier makes the same record as it would have been some time before. It is another row when the
// event time is part of the key.
func (c *canary) earlier(by time.Duration) (*canary, error) {
	var fields map[string]any
	dec := json.NewDecoder(bytes.NewReader(c.data))
	dec.UseNumber()
	if err := dec.Decode(&fields); err != nil {
		return nil, err
	}
	f := c.ds.Time
	t := clampTime(f, c.at.Add(-by))
	fields[f.Name] = t.Format(time.RFC3339Nano)
	if f.Type == dataset.Date {
		fields[f.Name] = clampTime(f, c.at.Add(-by-24*time.Hour)).Format(time.DateOnly)
	}
	return canaryOf(c.ds, fields, c.at)
}

// differs compares the API's row with what was published; it returns "" when every field is equal.
func (c *canary) differs(body []byte) string {
	var got map[string]any
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	if err := dec.Decode(&got); err != nil {
		return fmt.Sprintf("the row is not a JSON object: %v", err)
	}
	for _, field := range slices.Sorted(maps.Keys(c.want)) {
		if g, want := fmt.Sprint(got[field]), c.want[field]; g != want {
			return fmt.Sprintf("field %s is %s, published was %s", field, g, want)
		}
	}
	return ""
}

// sample makes a value of the field's type within its bounds.
func sample(f *dataset.Field, now time.Time) (any, error) {
	switch f.Type {
	case dataset.String:
		if f.Pattern == nil {
			return fmt.Sprintf("latamctl-verify-%08x", rand.Uint32()), nil
		}
		return matching(f.Pattern.String())
	case dataset.Int64:
		lo, hi := int64(0), int64(1<<31)
		if f.Minimum != nil {
			lo = f.Minimum.Int()
			hi = max(hi, lo)
		}
		if f.Maximum != nil {
			hi = f.Maximum.Int()
			lo = min(lo, hi)
		}
		span := uint64(hi) - uint64(lo)
		if span < math.MaxUint64 {
			span++
		}
		return lo + int64(rand.Uint64N(span)), nil
	case dataset.Float64:
		return sampleFloat(f), nil
	case dataset.Bool:
		return true, nil
	case dataset.Timestamp:
		return clampTime(f, now).Format(time.RFC3339Nano), nil
	case dataset.Date:
		return clampTime(f, now).Format(time.DateOnly), nil
	case dataset.Bytes:
		b := make([]byte, 8)
		for i := range b {
			b[i] = byte(rand.Uint32())
		}
		return base64.StdEncoding.EncodeToString(b), nil
	default:
		return map[string]any{"latamctl": "verify"}, nil
	}
}

func sampleFloat(f *dataset.Field) float64 {
	lo, hi := 0.0, 1.0
	if f.Minimum != nil {
		lo = f.Minimum.Float()
		hi = max(hi, lo)
	}
	if f.Maximum != nil {
		hi = f.Maximum.Float()
		lo = min(lo, hi)
	}
	return min(hi, lo+rand.Float64()*(hi-lo))
}

// clampTime is now, a little varied so that two canaries differ, within the field's bounds.
func clampTime(f *dataset.Field, now time.Time) time.Time {
	t := now.UTC().Truncate(time.Millisecond).Add(-time.Duration(rand.IntN(1000)) * time.Millisecond)
	if f.Minimum != nil && t.Before(f.Minimum.Time()) {
		return f.Minimum.Time()
	}
	if f.Maximum != nil && t.After(f.Maximum.Time()) {
		return f.Maximum.Time()
	}
	return t
}
