package verify

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"regexp/syntax"
	"strings"
	"time"

	"github.com/latamctl/latamctl/pkg/dataset"
)

// canary is a record made up from the declaration alone.
type canary struct {
	data []byte // as published
	id   string // the public row id
	key  string // the row key
	// entries are the index entries of the row, in the order of the dataset's indexes.
	entries []dataset.Row
	want    map[string]string
}

const canaryAttempts = 20

// newCanary makes a record that the declaration accepts and whose row does not exist yet, so that
// verifying never touches a row of real data.
func (r *runner) newCanary(ctx context.Context, ds *dataset.Dataset) (canary, error) {
	var last error
	for range canaryAttempts {
		c, err := makeCanary(ds, r.deps.Now())
		if err != nil {
			last = err
			continue
		}
		switch status, _, err := r.get(ctx, rowPath(ds, c.id)); {
		case err != nil:
			return canary{}, err
		case status == http.StatusNotFound:
			return c, nil
		default:
			last = fmt.Errorf("GET of row %s answered %d, expected 404", c.id, status)
		}
	}
	return canary{}, fmt.Errorf("make a canary: %w", last)
}

func makeCanary(ds *dataset.Dataset, now time.Time) (canary, error) {
	fields := map[string]any{}
	for _, f := range ds.Fields {
		v, err := sample(f, now)
		if err != nil {
			return canary{}, fmt.Errorf("field %s: %w", f.Name, err)
		}
		fields[f.Name] = v
	}
	data, err := json.Marshal(fields)
	if err != nil {
		return canary{}, err
	}
	rec, err := ds.Decode(data, now)
	if err != nil {
		return canary{}, err
	}
	c := canary{data: data, key: rec.RowKey(), entries: ds.IndexEntries(rec, now), want: map[string]string{}}
	for _, f := range ds.Fields {
		switch f.Type {
		case dataset.String, dataset.Int64, dataset.Bool, dataset.Timestamp, dataset.Date:
			c.want[f.Name] = rec.Value(f).Text()
		}
	}
	c.id, err = ds.RowID(c.key)
	return c, err
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

// matching makes a string that the pattern accepts; Decode has the last word.
func matching(pattern string) (string, error) {
	re, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	generate(&b, re.Simplify(), 0)
	return b.String(), nil
}

const (
	maxPatternDepth = 50
	maxRepeats      = 3
)

func generate(b *strings.Builder, re *syntax.Regexp, depth int) {
	if depth > maxPatternDepth {
		return
	}
	switch re.Op {
	case syntax.OpLiteral:
		b.WriteString(string(re.Rune))
	case syntax.OpCharClass:
		b.WriteRune(pick(re.Rune))
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		b.WriteRune('a' + rune(rand.IntN(26)))
	case syntax.OpCapture, syntax.OpConcat:
		for _, sub := range re.Sub {
			generate(b, sub, depth+1)
		}
	case syntax.OpAlternate:
		generate(b, re.Sub[rand.IntN(len(re.Sub))], depth+1)
	case syntax.OpStar, syntax.OpPlus, syntax.OpQuest, syntax.OpRepeat:
		for range repeats(re) {
			generate(b, re.Sub[0], depth+1)
		}
	}
}

func repeats(re *syntax.Regexp) int {
	lo, hi := 1, maxRepeats
	switch re.Op {
	case syntax.OpQuest:
		hi = 1
	case syntax.OpRepeat:
		lo = re.Min
		if hi = re.Max; hi < 0 {
			hi = lo + maxRepeats
		}
	}
	return lo + rand.IntN(hi-lo+1)
}

// pick prefers a printable ASCII character of the class, because row ids then stay readable.
func pick(ranges []rune) rune {
	var ascii []rune
	for i := 0; i < len(ranges); i += 2 {
		for c := max(ranges[i], '!'); c <= min(ranges[i+1], '~'); c++ {
			ascii = append(ascii, c)
		}
	}
	if len(ascii) > 0 {
		return ascii[rand.IntN(len(ascii))]
	}
	return ranges[0]
}
