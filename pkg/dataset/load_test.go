package dataset

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const exampleYAML = `version: 1
name: latam                              # prefix of every cloud resource
datasets:
  flights:
    description: Departures and their delay
    fields:
      origin:         {type: string, required: true, pattern: "^[A-Z]{3}$", description: IATA code}
      departed_at:    {type: timestamp, required: true}
      destination:    {type: string, required: true, pattern: "^[A-Z]{3}$"}
      delay_minutes:  {type: int64}
      distance_miles: {type: int64, minimum: 0}
    key: [origin, departed_at, destination]
    time: departed_at
    indexes: {by_destination: [destination, departed_at]}
    retention: 400d
    topic: departures
    api: {auth: api_key, quota_per_minute: 600}
    slo: {ingest_latency: 40ms, target: 99.5}
  prices:
    fields:
      day: {type: date, required: true, minimum: 2000-01-01, maximum: "2100-01-01"}
      price: float64
      note: {type: json}
    key: [day]
environments:
  local: {engine: embedded}
  empty:
  prod:
    engine: gcp
    max_rows: 5
    ratio: 0.5
    regions: [us-central1, true, null]
    labels: {team: data}
`

// load reads a declaration that must be good.
func load(t testing.TB, text string) *Declaration {
	t.Helper()
	d, err := Load("latam.yaml", []byte(text))
	if err != nil {
		t.Fatalf("Load: %v", err)
	}
	return d
}

func TestLoad(t *testing.T) {
	t.Parallel()
	d := load(t, exampleYAML)
	if d.File != "latam.yaml" || d.Name != "latam" {
		t.Errorf("file %q, name %q", d.File, d.Name)
	}
	if diff := cmp.Diff([]string{"flights", "prices"}, d.Names()); diff != "" {
		t.Error(diff)
	}
	ds := d.Dataset("flights")
	if diff := cmp.Diff([]string{"origin", "departed_at", "destination", "delay_minutes", "distance_miles"}, ds.FieldNames()); diff != "" {
		t.Error(diff)
	}
	for i, f := range ds.Fields {
		if f.Index != i || f.InKey != (i < 3) || f.Required != (i < 3) {
			t.Errorf("field %s: %+v", f.Name, f)
		}
	}
	origin := ds.Field("origin")
	if origin.Type != String || origin.Description != "IATA code" || origin.Pattern.String() != "^[A-Z]{3}$" {
		t.Errorf("origin: %+v", origin)
	}
	if m := ds.Field("distance_miles").Minimum; m == nil || m.IsMissing() || m.Int() != 0 {
		t.Errorf("minimum: %v", m)
	}
	if len(ds.Key) != 3 || ds.Key[1] != ds.Field("departed_at") || ds.Time != ds.Key[1] {
		t.Errorf("key %v, time %v", ds.Key, ds.Time)
	}
	if ix := ds.Index("by_destination"); ix == nil || len(ix.Fields) != 2 || ds.IndexTable(ix) != "flights-by_destination" {
		t.Errorf("index: %+v", ix)
	}
	if ds.Retention != 400*24*time.Hour || ds.Topic != "departures" || ds.DeadLetterSubscription() != "departures-dead-inspect" {
		t.Errorf("retention %v, topic %q", ds.Retention, ds.Topic)
	}
	if want := (API{Auth: "api_key", QuotaPerMinute: 600}); ds.API != want {
		t.Errorf("api: %+v", ds.API)
	}
	if want := (SLO{IngestLatency: 40 * time.Millisecond, Response: 100 * time.Millisecond, Target: 99.5}); ds.SLO != want {
		t.Errorf("slo: %+v", ds.SLO)
	}
}

func TestLoadDefaultsAndEnvironments(t *testing.T) {
	t.Parallel()
	d := load(t, exampleYAML)
	ds := d.Dataset("prices")
	if ds.Topic != "prices" || ds.Time != nil || ds.Retention != 0 || ds.Field("price").Type != Float64 {
		t.Errorf("prices: %+v", ds)
	}
	if want := (SLO{IngestLatency: 50 * time.Millisecond, Response: 100 * time.Millisecond, Target: 95}); ds.SLO != want {
		t.Errorf("slo: %+v", ds.SLO)
	}
	if f := ds.Field("day"); f.Minimum.Text() != "2000-01-01" || f.Maximum.Text() != "2100-01-01" {
		t.Errorf("limits of day: %v", f)
	}
	want := []Environment{
		{Name: "local", Settings: []Setting{{Key: "engine", Value: "embedded", Line: 26, Column: 11}}},
		{Name: "empty"},
		{Name: "prod", Settings: []Setting{
			{Key: "engine", Value: "gcp", Line: 29, Column: 5},
			{Key: "max_rows", Value: int64(5), Line: 30, Column: 5},
			{Key: "ratio", Value: 0.5, Line: 31, Column: 5},
			{Key: "regions", Value: []any{"us-central1", true, nil}, Line: 32, Column: 5},
			{Key: "labels", Value: map[string]any{"team": "data"}, Line: 33, Column: 5},
		}},
	}
	if diff := cmp.Diff(want, d.Environments); diff != "" {
		t.Error(diff)
	}
	if d.Environment("prod") == nil || d.Environment("nope") != nil || d.Dataset("nope") != nil {
		t.Error("look-up by name")
	}
}

func TestLoadAlias(t *testing.T) {
	t.Parallel()
	d := load(t, `version: 1
name: latam
datasets:
  one:
    fields: &f
      a: &s {type: string, required: true}
      b: *s
    key: [a, b]
  two:
    fields: *f
    key: [a]
`)
	one, two := d.Dataset("one"), d.Dataset("two")
	if one.Field("b").Type != String || two.Field("a") == one.Field("a") || !one.Field("b").InKey || two.Field("b").InKey {
		t.Error("datasets from one alias must not share their fields")
	}
}

func TestLoadLimits(t *testing.T) {
	t.Parallel()
	ds := load(t, `version: 1
name: latam
datasets:
  one:
    fields:
      a: {type: int64, required: true, minimum: -0x10, maximum: 1e3}
      b: {type: float64, minimum: 18446744073709551615, maximum: 1.0e+300}
      c: {type: timestamp, minimum: 2001-01-01, maximum: 2001-01-01T02:00:00.5+01:00}
    key: [a]
    topic: ONE~1
`).Datasets[0]
	var got []string
	for _, f := range ds.Fields {
		if f.Minimum != nil {
			got = append(got, f.Minimum.Text())
		}
		if f.Maximum != nil {
			got = append(got, f.Maximum.Text())
		}
	}
	want := []string{"-16", "1000", "18446744073709552000", "1e+300", "2001-01-01T00:00:00Z", "2001-01-01T01:00:00.5Z"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if ds.Subscription() != "ONE~1-ingest" || ds.DeadLetterTopic() != "ONE~1-dead" || ds.Index("nope") != nil {
		t.Errorf("names of %+v", ds)
	}
}

func TestNearestType(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]Type{"integer": Int64, "INT": Int64, "double": Float64, "boolean": Bool, "datetime": Timestamp, "text": String,
		"array": JSON, "blob": Bytes, "strng": String, "timestmp": Timestamp, "dat": Date, "banana": ""} {
		if got := nearestType(name); got != string(want) {
			t.Errorf("nearestType(%q) = %q, want %q", name, got, want)
		}
	}
}

// problemBase is a good declaration, which each case of TestLoadProblems breaks.
const problemBase = `version: 1
name: latam
datasets:
  flights:
    fields:
      origin: {type: string, required: true}
      at: {type: timestamp, required: true}
      day: {type: date, required: true}
      delay: {type: int64}
      ratio: {type: float64}
      extra: json
    key: [origin, at]
    time: at
`

type problemCase struct{ name, old, new, want string }

func TestLoadProblems(t *testing.T) {
	t.Parallel()
	load(t, problemBase)
	for _, c := range problemCases() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			text := strings.Replace(problemBase, c.old, c.new, 1)
			if text == problemBase {
				t.Fatal("the case changes nothing")
			}
			got := "no error"
			if _, err := Load("f", []byte(text)); err != nil {
				got = messages(t, err)
			}
			if got != c.want {
				t.Errorf("\n got %s\nwant %s", got, c.want)
			}
		})
	}
}

// messages are the problems without the lines of the source.
func messages(t *testing.T, err error) string {
	var p *Problems
	if !errors.As(err, &p) {
		t.Fatalf("the error is a %T", err)
	}
	short := &Problems{File: p.File}
	for _, one := range p.List {
		one.Source = ""
		short.List = append(short.List, one)
	}
	return short.Error()
}
