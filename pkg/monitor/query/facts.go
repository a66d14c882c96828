package query

import (
	"maps"
	"slices"
	"strings"
)

// Node is a Query or an Expr.
type Node interface{ String() string }

// walk visits an expression and everything in it, from left to right.
func walk(e Expr, visit func(Expr)) {
	visit(e)
	switch e := e.(type) {
	case *Call:
		for _, arg := range e.Args {
			walk(arg, visit)
		}
	case *Binary:
		walk(e.Left, visit)
		walk(e.Right, visit)
	case *Negate:
		walk(e.Of, visit)
	}
}

// within visits the expressions of a node. Checks, composites, SLO alerts and opaque queries have none.
func within(n Node, visit func(Expr)) {
	switch n := n.(type) {
	case *Metric:
		walk(n.Expr, visit)
	case Expr:
		walk(n, visit)
	}
}

// SeriesOf returns all series that a node reads, from left to right.
func SeriesOf(n Node) []*Series {
	var all []*Series
	within(n, func(e Expr) {
		if s, ok := e.(*Series); ok {
			all = append(all, s)
		}
	})
	return all
}

// Functions returns the names of the functions that a node calls, each once, sorted.
func Functions(n Node) []string {
	names := map[string]bool{}
	within(n, func(e Expr) {
		if c, ok := e.(*Call); ok {
			names[c.Name] = true
		}
	})
	return slices.Sorted(maps.Keys(names))
}

// HasDefaultZero tells whether missing points count as zero somewhere in a node.
func HasDefaultZero(n Node) bool { return slices.Contains(Functions(n), "default_zero") }

// Groups returns the tags that every alert of a query has a value of: those by which all its grouped
// series are grouped, in the order of the first. A series without groups goes with every group.
func Groups(n Node) []string {
	if c, ok := n.(*Check); ok {
		return slices.DeleteFunc(slices.Clone(c.By), func(tag string) bool { return tag == "*" })
	}
	var groups []string
	grouped := false
	for _, s := range SeriesOf(n) {
		switch {
		case len(s.By) == 0:
		case !grouped:
			groups, grouped = slices.Clone(s.By), true
		default:
			groups = slices.DeleteFunc(groups, func(tag string) bool { return !slices.Contains(s.By, tag) })
		}
	}
	return groups
}

// FilterKeys returns the keys of all tags that a node filters on, each once, sorted.
func FilterKeys(n Node) []string {
	keys := map[string]bool{}
	if c, ok := n.(*Check); ok {
		for _, tag := range slices.Concat(c.Over, c.Exclude) {
			if key, _, ok := strings.Cut(strings.TrimPrefix(tag, "!"), ":"); ok {
				keys[key] = true
			}
		}
	}
	for _, s := range SeriesOf(n) {
		filterKeys(s.Filter, keys)
	}
	return slices.Sorted(maps.Keys(keys))
}

func filterKeys(matchers []Matcher, keys map[string]bool) {
	for _, m := range matchers {
		if m.Key != "" {
			keys[m.Key] = true
		}
		for _, all := range m.Any {
			filterKeys(all, keys)
		}
	}
}

// Use is what queries need of a metric.
type Use struct {
	Metric string
	// Tags are those that the metric is filtered or grouped by, sorted.
	Tags []string
	// Percentiles tells whether the metric must be a distribution with percentiles switched on: for
	// p95 and for counts of values by a bound.
	Percentiles bool
}

// Uses returns what nodes need of the metrics that they read, sorted by name. A metric that needs
// percentiles by one query needs its tags by all of them, so give it all queries at once.
func Uses(nodes ...Node) []Use {
	uses := map[string]*Use{}
	tags := map[string]map[string]bool{}
	for _, n := range nodes {
		for _, s := range SeriesOf(n) {
			if uses[s.Metric] == nil {
				uses[s.Metric], tags[s.Metric] = &Use{Metric: s.Metric}, map[string]bool{}
			}
			if s.Count != nil || isPercentile(s.Aggregate) {
				uses[s.Metric].Percentiles = true
			}
			filterKeys(s.Filter, tags[s.Metric])
			for _, tag := range s.By {
				tags[s.Metric][tag] = true
			}
		}
	}
	var sorted []Use
	for _, name := range slices.Sorted(maps.Keys(uses)) {
		use := *uses[name]
		use.Tags = slices.Sorted(maps.Keys(tags[name]))
		sorted = append(sorted, use)
	}
	return sorted
}

// Percentiles returns those of Uses that need percentiles.
func Percentiles(nodes ...Node) []Use {
	return slices.DeleteFunc(Uses(nodes...), func(u Use) bool { return !u.Percentiles })
}
