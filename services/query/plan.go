package query

import (
	"fmt"
	"strings"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/web"
)

// plan is how a query is read: one range of row keys, and the filters that are checked on each row.
type plan struct {
	// start and end bound the row keys, [start, end); an empty one is open.
	start, end string
	// empty means that no row can meet the filters.
	empty bool
	// prefix are the leading key fields compared for equality, ranged the next one when it is bounded.
	prefix   []*dataset.Field
	ranged   *dataset.Field
	residual []filter
}

// makePlan finds the narrowest key range. A query whose filters say nothing about the beginning of
// the key reads all rows, and is refused unless scan is allowed.
func makePlan(ds *dataset.Dataset, filters []filter, scanAllowed bool) (plan, *web.Problem) {
	var pl plan
	used := make([]bool, len(filters))
	var values []dataset.Value
	for _, field := range ds.Key {
		at := findEquality(filters, field)
		if at < 0 {
			break
		}
		used[at] = true
		values = append(values, filters[at].value)
		pl.prefix = append(pl.prefix, field)
	}
	pl.start = ds.KeyPrefix(values)
	pl.end = dataset.PrefixEnd(pl.start)
	if len(values) < len(ds.Key) {
		next := ds.Key[len(values)]
		for i, f := range filters {
			if f.field == next && !used[i] {
				used[i], pl.ranged = true, next
				pl.narrow(f.op, ds.KeyPrefix(append(values[:len(values):len(values)], f.value)))
			}
		}
	}
	for i, f := range filters {
		if !used[i] {
			pl.residual = append(pl.residual, f)
		}
	}
	pl.empty = pl.end != "" && pl.start >= pl.end
	if len(pl.residual) > 0 && len(pl.prefix) == 0 && pl.ranged == nil && !scanAllowed {
		return pl, scanRefused(ds, pl.residual)
	}
	return pl, nil
}

func findEquality(filters []filter, field *dataset.Field) int {
	for i, f := range filters {
		if f.field == field && f.op == opEq {
			return i
		}
	}
	return -1
}

// narrow applies a bound on the key field after the prefix; key is the prefix with the bound's value.
func (pl *plan) narrow(o op, key string) {
	switch o {
	case opGte:
		pl.start = max(pl.start, key)
	case opGt:
		pl.raise(dataset.PrefixEnd(key))
	case opLt:
		pl.lower(key)
	case opLte:
		pl.lower(dataset.PrefixEnd(key))
	}
}

// raise moves the start up; an empty key is beyond all keys.
func (pl *plan) raise(key string) {
	if key == "" {
		pl.end, pl.start = "\x00", "\x00"
		return
	}
	pl.start = max(pl.start, key)
}

// lower moves the end down; an empty key is beyond all keys.
func (pl *plan) lower(key string) {
	if key != "" && (pl.end == "" || key < pl.end) {
		pl.end = key
	}
}

// after continues the range behind a row, in the direction of the reading.
func (pl *plan) after(key string, desc bool) {
	if desc {
		pl.lower(key)
	} else {
		pl.start = max(pl.start, key+"\x00")
	}
	pl.empty = pl.end != "" && pl.start >= pl.end
}

func scanRefused(ds *dataset.Dataset, residual []filter) *web.Problem {
	names := fieldNames(ds.Key)
	var asked []string
	p := &web.Problem{Code: web.ScanRefused, Metadata: map[string]any{"usable": names}}
	for _, f := range residual {
		asked = append(asked, f.parameter)
		p.Errors = append(p.Errors, web.Fault{Parameter: f.parameter, Field: f.field.Name, Code: "NOT_A_KEY_PREFIX"})
	}
	p.Detail = fmt.Sprintf("The key of %s begins with %s, and the query filters on %s only.", ds.Name, names[0], strings.Join(asked, ", "))
	p.Hint = fmt.Sprintf("Add %s=value or a range such as %s[gte]=value (the key is %s), or accept the cost with scan=allow.", names[0], names[0], strings.Join(names, ", "))
	return p
}

func fieldNames(fields []*dataset.Field) []string {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.Name
	}
	return names
}
