package monitortest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/latamctl/latamctl/pkg/monitor/declare"
)

// entity is an object that the server keeps.
type entity struct {
	id      string
	body    map[string]any
	foreign bool
	deleted bool // a dashboard that can be restored
}

// collection has the objects of a kind in the order of their creation.
type collection struct {
	all  []*entity
	byID map[string]*entity
}

func (c *collection) add(o *entity) {
	c.all = append(c.all, o)
	c.byID[o.id] = o
}

func (c *collection) find(id string) *entity {
	if o := c.byID[id]; o != nil && !o.deleted {
		return o
	}
	return nil
}

func (c *collection) remove(id string) {
	c.all = slices.DeleteFunc(c.all, func(o *entity) bool { return o.id == id })
	delete(c.byID, id)
}

// live are the objects that are not deleted.
func (c *collection) live() []*entity {
	return slices.DeleteFunc(slices.Clone(c.all), func(o *entity) bool { return o.deleted })
}

func (d *Datadog) monitors() *collection   { return d.kinds[declare.Monitor] }
func (d *Datadog) slos() *collection       { return d.kinds[declare.SLO] }
func (d *Datadog) dashboards() *collection { return d.kinds[declare.Dashboard] }
func (d *Datadog) metrics() *collection    { return d.kinds[declare.Metric] }

// next returns a number that was not used before.
func (d *Datadog) next() int64 {
	d.serial++
	return d.serial
}

// clone copies a JSON value.
func clone[T any](v T) T {
	switch v := any(v).(type) {
	case map[string]any:
		copied := make(map[string]any, len(v))
		for key, value := range v {
			copied[key] = clone(value)
		}
		return any(copied).(T)
	case []any:
		copied := make([]any, len(v))
		for i, value := range v {
			copied[i] = clone(value)
		}
		return any(copied).(T)
	}
	return v
}

// plain turns any value into JSON's types.
func plain(v any) (map[string]any, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	var m map[string]any
	return m, json.Unmarshal(text, &m)
}

// decode reads the body of a request, which must be one JSON object.
func decode(r *request) (map[string]any, *Response) {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return nil, problem(http.StatusUnsupportedMediaType, "Unsupported Media Type: the content must be application/json")
	}
	decoder := json.NewDecoder(bytes.NewReader(r.body))
	var body map[string]any
	if err := decoder.Decode(&body); err != nil || body == nil {
		return nil, problem(http.StatusBadRequest, "Invalid JSON structure")
	}
	if _, err := decoder.Token(); err != io.EOF {
		return nil, problem(http.StatusBadRequest, "Invalid JSON structure")
	}
	return body, nil
}

// decimal is a number that keeps its point on the wire, as Python writes a float.
type decimal float64

// MarshalJSON writes 5 as 5.0.
func (f decimal) MarshalJSON() ([]byte, error) {
	text := strconv.FormatFloat(float64(f), 'f', -1, 64)
	if float64(f) == math.Trunc(float64(f)) {
		text += ".0"
	}
	return []byte(text), nil
}

// decimals makes the numbers of these fields decimals.
func decimals(v any, fields ...string) {
	m, _ := v.(map[string]any)
	for name, value := range m {
		if n, ok := value.(float64); ok && (len(fields) == 0 || slices.Contains(fields, name)) {
			m[name] = decimal(n)
		}
	}
}

func itoa[N int | int64](n N) string { return strconv.FormatInt(int64(n), 10) }

// numbers reads the numbers of a query. A text that is no number is the answer.
func numbers(r *request, defaults map[string]int) (map[string]int, *Response) {
	values := map[string]int{}
	for name, n := range defaults {
		if text := r.query.Get(name); text != "" {
			var err error
			if n, err = strconv.Atoi(text); err != nil || n < 0 {
				return nil, problem(http.StatusBadRequest, "The value provided for parameter '%s' is invalid", name)
			}
		}
		values[name] = n
	}
	return values, nil
}

// slice returns the items from an offset, at most size of them.
func slice[T any](items []T, offset, size int) []T {
	offset = min(offset, len(items))
	return items[offset:min(len(items), offset+size)]
}

const microseconds = "2006-01-02T15:04:05.000000-07:00"

// later is a time in the format of the old one and after it, so that each change shows.
func later(now time.Time, old any) string {
	now = now.UTC()
	if before, err := time.Parse(microseconds, str(old)); err == nil && !now.Truncate(time.Microsecond).After(before) {
		now = before.Add(time.Microsecond)
	}
	return now.Format(microseconds)
}

func laterSeconds(now time.Time, old any) float64 {
	before, _ := old.(float64)
	return max(float64(now.Unix()), before+1)
}

func creator() map[string]any {
	return map[string]any{"name": "CI Account", "handle": "frog@example.com", "email": "frog@example.com"}
}

// hexID returns an id as those of SLOs are.
func hexID(n int64) string { return fmt.Sprintf("%032x", uint64(n)*0x9e3779b97f4a7c15) }
