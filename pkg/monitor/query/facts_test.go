package query_test

import (
	"reflect"
	"slices"
	"testing"

	"github.com/latamctl/latamctl/pkg/monitor/query"
)

func parse(t *testing.T, kind, text string) query.Query {
	t.Helper()
	q, err := query.Parse(kind, text)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func TestFacts(t *testing.T) {
	t.Parallel()
	q := parse(t, "query alert", "avg(last_5m):100 * default_zero(sum:a{env:prod,!x:y} by {host,disk,zone}) / -(sum:b{env:prod AND (q:r OR s IN (t,u))} by {zone,host,pod} + p95:c{bare}) > 1")
	var names []string
	for _, s := range query.SeriesOf(q) {
		names = append(names, s.Metric)
	}
	if want := []string{"a", "b", "c"}; !slices.Equal(names, want) {
		t.Errorf("series: got %v, want %v", names, want)
	}
	if got, want := query.Groups(q), []string{"host", "zone"}; !slices.Equal(got, want) {
		t.Errorf("groups: got %v, want %v", got, want)
	}
	if got, want := query.FilterKeys(q), []string{"env", "q", "s", "x"}; !slices.Equal(got, want) {
		t.Errorf("keys: got %v, want %v", got, want)
	}
	if got, want := query.Functions(q), []string{"default_zero"}; !slices.Equal(got, want) || !query.HasDefaultZero(q) {
		t.Errorf("functions: got %v, want %v", got, want)
	}
	check := parse(t, "service check", `"c".over("a:b","!c:d").exclude("e:f").by("*","host").last(2).count_by_status()`)
	if got, want := query.Groups(check), []string{"host"}; !slices.Equal(got, want) {
		t.Errorf("groups: got %v, want %v", got, want)
	}
	if got, want := query.FilterKeys(check), []string{"a", "c", "e"}; !slices.Equal(got, want) {
		t.Errorf("keys: got %v, want %v", got, want)
	}
	for _, other := range []query.Query{parse(t, "composite", "1 && 2"), parse(t, "log alert", "x")} {
		if query.SeriesOf(other) != nil || query.Groups(other) != nil || query.FilterKeys(other) != nil || query.HasDefaultZero(other) {
			t.Errorf("%s has facts of a metric", other)
		}
	}
}

// A metric that one query reads with percentiles keeps the tags of all queries.
func TestPercentilesUniteTags(t *testing.T) {
	t.Parallel()
	good, err := query.ParseExpr("count(v: v<=0.05):d{env:prod}.as_count()")
	if err != nil {
		t.Fatal(err)
	}
	nodes := []query.Node{
		good,
		parse(t, "query alert", "sum(last_5m):count:d{code:5*} by {route}.as_count() > 1"),
		parse(t, "query alert", "avg(last_5m):p99.9:e{*} > 1"),
		parse(t, "query alert", "avg(last_5m):avg:f{*} > 1"),
	}
	want := []query.Use{
		{Metric: "d", Tags: []string{"code", "env", "route"}, Percentiles: true},
		{Metric: "e", Percentiles: true},
	}
	if got := query.Percentiles(nodes...); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := query.Uses(nodes...); len(got) != 3 || got[2].Percentiles {
		t.Errorf("got %v", got)
	}
}
