package query

import (
	"fmt"
	"slices"
	"strings"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/store"
	"github.com/latamctl/latamctl/pkg/web"
)

// access is an order in which rows can be read: that of the key, or that of an index.
type access struct {
	ds    *dataset.Dataset
	index *dataset.Index // nil = the key
	// fields are those of the index, then those of the key: the order of the keys that are read.
	fields []*dataset.Field
}

func accessByKey(ds *dataset.Dataset) access { return access{ds: ds, fields: ds.Key} }

func accessByIndex(ds *dataset.Dataset, ix *dataset.Index) access {
	return access{ds: ds, index: ix, fields: append(append([]*dataset.Field{}, ix.Fields...), ds.Key...)}
}

// accessKey is how responses and the parameter index call the key.
const accessKey = "key"

func (a access) name() string {
	if a.index == nil {
		return accessKey
	}
	return "index:" + a.index.Name
}

// own are the fields that are worth filtering on: behind those of an index the key follows only to
// tell its rows apart.
func (a access) own() []*dataset.Field {
	if a.index == nil {
		return a.fields
	}
	return a.index.Fields
}

// encode returns the bytes with which those keys begin whose first fields have the values.
func (a access) encode(values []dataset.Value) string {
	if a.index == nil {
		return a.ds.KeyPrefix(values)
	}
	return a.ds.IndexPrefix(a.index, values)
}

// optional says that keys may lack the field at a position.
func (a access) optional(at int) bool {
	return a.index != nil && at < len(a.index.Fields) && !a.fields[at].Required
}

// start is where the first key may be.
func (a access) start() string {
	if a.index == nil {
		return ""
	}
	return dataset.IndexStart
}

// plan is how a query is read: ranges of keys in one order, and the filters that are checked on each row.
type plan struct {
	access access
	// ranges are in key order and apart; none means that no row can meet the filters.
	ranges []store.Range
	// prefix are the leading fields compared for equality, ranged the next one when it is bounded.
	prefix   []*dataset.Field
	ranged   *dataset.Field
	residual []filter
}

// score says how much of the filters the plan serves without looking at rows.
func (pl plan) score() int {
	n := 2 * len(pl.prefix)
	if pl.ranged != nil {
		n++
	}
	return n
}

// selective says that the plan reads less than the whole dataset, or that no filter asks it to.
func (pl plan) selective() bool { return pl.score() > 0 || len(pl.residual) == 0 }

// makePlan finds the ranges of one access that hold all rows which meet the filters.
func makePlan(a access, filters []filter) plan {
	pl := plan{access: a}
	used := make([]bool, len(filters))
	prefixes := [][]dataset.Value{nil}
	at := 0
	for ; at < len(a.fields); at++ {
		if earlier := slices.Index(a.fields[:at], a.fields[at]); earlier >= 0 {
			prefixes = repeat(prefixes, earlier)
			continue
		}
		choices, by := choicesOf(filters, a.fields[at], a.optional(at))
		if by < 0 || len(choices)*len(prefixes) > MaxIn {
			break
		}
		used[by] = true
		pl.prefix = append(pl.prefix, a.fields[at])
		prefixes = extend(prefixes, choices)
	}
	var bounds []filter
	if at < len(a.fields) {
		for i, f := range filters {
			if f.field == a.fields[at] && !used[i] && narrows(f, a.optional(at)) {
				used[i], pl.ranged = true, f.field
				bounds = append(bounds, f)
			}
		}
	}
	for i, f := range filters {
		if !used[i] {
			pl.residual = append(pl.residual, f)
		}
	}
	for _, values := range prefixes {
		if r, ok := a.rangeOf(values, at, bounds); ok {
			pl.ranges = append(pl.ranges, r)
		}
	}
	return pl
}

// choicesOf returns the values that a filter leaves to a field, and which filter it is; -1 when
// none compares for equality. Not to have an optional field is a choice too.
func choicesOf(filters []filter, field *dataset.Field, optional bool) (values []dataset.Value, by int) {
	by = -1
	for i, f := range filters {
		if f.field != field {
			continue
		}
		switch {
		case f.op == opEq:
			return []dataset.Value{f.value}, i
		case f.op == opIn:
			values, by = f.values, i
		case f.op == opExists && !f.present && optional && by < 0:
			values, by = []dataset.Value{{}}, i
		}
	}
	return values, by
}

// extend puts each choice behind each prefix, which keeps their order.
func extend(prefixes [][]dataset.Value, choices []dataset.Value) [][]dataset.Value {
	out := make([][]dataset.Value, 0, len(prefixes)*len(choices))
	for _, p := range prefixes {
		for _, v := range choices {
			out = append(out, append(p[:len(p):len(p)], v))
		}
	}
	return out
}

// repeat continues each prefix with a value that it has already: a key field that the index names too.
func repeat(prefixes [][]dataset.Value, earlier int) [][]dataset.Value {
	for i, p := range prefixes {
		prefixes[i] = append(p[:len(p):len(p)], p[earlier])
	}
	return prefixes
}

// narrows says whether a filter bounds the keys when its field comes next.
func narrows(f filter, optional bool) bool {
	switch f.op {
	case opGt, opGte, opLt, opLte, opPrefix:
		return true
	case opExists:
		return f.present && optional
	}
	return false
}

// rangeOf is the range of the keys behind a prefix whose next field meets the bounds.
func (a access) rangeOf(values []dataset.Value, at int, bounds []filter) (store.Range, bool) {
	prefix := a.encode(values)
	b := bound{start: prefix, end: dataset.PrefixEnd(prefix)}
	b.raise(a.start())
	if len(bounds) > 0 && a.optional(at) {
		b.within(prefix + "\x01") // those that have the field
	}
	for _, f := range bounds {
		if f.op == opExists {
			continue
		}
		b.narrow(f.op, a.encode(append(values[:len(values):len(values)], f.value)))
	}
	return store.Range{Start: b.start, End: b.end}, !b.empty()
}

// bound is a range while it is narrowed. An empty end is open.
type bound struct {
	start, end string
	none       bool
}

func (b *bound) empty() bool { return b.none || b.end != "" && b.start >= b.end }

// stringEnd is how many bytes end a string in a key.
const stringEnd = 2

// narrow applies a comparison; key is the prefix with the value that is compared to.
func (b *bound) narrow(o op, key string) {
	switch o {
	case opGte:
		b.raise(key)
	case opGt:
		b.raiseBehind(key)
	case opLt:
		b.lower(key)
	case opLte:
		b.lower(dataset.PrefixEnd(key))
	case opPrefix:
		b.within(key[:len(key)-stringEnd])
	}
}

func (b *bound) raise(key string) { b.start = max(b.start, key) }

// raiseBehind moves the start behind all keys that begin with key.
func (b *bound) raiseBehind(key string) {
	if end := dataset.PrefixEnd(key); end != "" {
		b.raise(end)
		return
	}
	b.none = true
}

// lower moves the end down; an empty key is beyond all keys.
func (b *bound) lower(key string) {
	if key != "" && (b.end == "" || key < b.end) {
		b.end = key
	}
}

// within leaves the keys that begin with prefix.
func (b *bound) within(prefix string) {
	b.raise(prefix)
	b.lower(dataset.PrefixEnd(prefix))
}

// after leaves what follows a key in the direction of the reading.
func (pl *plan) after(key string, desc bool) {
	kept := pl.ranges[:0:0]
	for _, r := range pl.ranges {
		b := bound{start: r.Start, end: r.End}
		if desc {
			b.lower(key)
		} else {
			b.raise(key + "\x00")
		}
		if !b.empty() {
			kept = append(kept, store.Range{Start: b.start, End: b.end})
		}
	}
	pl.ranges = kept
}

// candidate is an access that was considered for a query.
type candidate struct {
	plan  plan
	ready bool
}

// candidates plans the filters by the key and by each index.
func (ep *endpoint) candidates(filters []filter, ready func(*dataset.Index) bool) []candidate {
	all := []candidate{{plan: makePlan(accessByKey(ep.ds), filters), ready: true}}
	for i := range ep.ds.Indexes {
		ix := &ep.ds.Indexes[i]
		all = append(all, candidate{plan: makePlan(accessByIndex(ep.ds, ix), filters), ready: ready(ix)})
	}
	return all
}

// choose takes the access that serves most of the filters; the key wins a tie, because rows behind
// an index are one more read away. A query that no access serves reads all rows, and is refused
// unless that is allowed.
func (ep *endpoint) choose(q listQuery, ready func(*dataset.Index) bool) (plan, *web.Problem) {
	all := ep.candidates(q.filters, ready)
	if q.access != "" {
		return ep.forced(q, all)
	}
	best := all[0].plan
	building := ""
	for _, c := range all[1:] {
		if c.plan.score() <= best.score() {
			continue
		}
		if !c.ready {
			building = c.plan.access.index.Name
			continue
		}
		best = c.plan
	}
	if best.selective() || q.scan {
		return best, nil
	}
	if building != "" {
		return best, indexBuilding(ep.ds, building)
	}
	return best, scanRefused(ep.ds, all, best.residual)
}

// forced is the access that the caller or a cursor names.
func (ep *endpoint) forced(q listQuery, all []candidate) (plan, *web.Problem) {
	for _, c := range all {
		if c.plan.access.name() != q.access {
			continue
		}
		switch {
		case !c.ready:
			return c.plan, indexBuilding(ep.ds, c.plan.access.index.Name)
		case !c.plan.selective() && !q.scan:
			return c.plan, scanRefused(ep.ds, all, c.plan.residual)
		}
		return c.plan, nil
	}
	return plan{}, cursorMismatch("The cursor continues a query by an index that is no longer declared.", "Start again without cursor.")
}

func indexBuilding(ds *dataset.Dataset, name string) *web.Problem {
	p := web.NewProblem(web.IndexBuilding, fmt.Sprintf("The index %s of %s does not have all rows yet.", name, ds.Name), "Retry later, or ask by the key: "+strings.Join(fieldNames(ds.Key), ", ")+".")
	p.RetryAfter = indexCheckInterval
	return p
}

// usable is an access as a refusal names it.
type usable struct {
	Access string   `json:"access"`
	Fields []string `json:"fields"`
}

func scanRefused(ds *dataset.Dataset, all []candidate, residual []filter) *web.Problem {
	var ways []usable
	var firsts []string
	for _, c := range all {
		if c.ready {
			names := fieldNames(c.plan.access.own())
			ways = append(ways, usable{c.plan.access.name(), names})
			firsts = append(firsts, fmt.Sprintf("%s (%s: %s)", names[0], c.plan.access.name(), strings.Join(names, ", ")))
		}
	}
	p := &web.Problem{Code: web.ScanRefused, Metadata: map[string]any{"usable": ways}}
	var asked []string
	for _, f := range residual {
		asked = append(asked, f.parameter)
		p.Errors = append(p.Errors, web.Fault{Parameter: f.parameter, Field: f.field.Name, Code: "NOT_A_KEY_PREFIX"})
	}
	p.Detail = fmt.Sprintf("No key or index of %s begins with what the query filters on, which is %s.", ds.Name, strings.Join(asked, ", "))
	p.Hint = fmt.Sprintf("Add a filter such as =value or [gte]=value on %s, or accept the cost with scan=allow.", strings.Join(firsts, " or "))
	return p
}

func fieldNames(fields []*dataset.Field) []string {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.Name
	}
	return names
}
