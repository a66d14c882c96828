package query

import (
	"slices"
	"time"

	"github.com/latamctl/latamctl/pkg/dataset"
)

// Why an aggregate stopped before the end of the rows.
const (
	stoppedRows   = "rows"
	stoppedTime   = "time"
	stoppedGroups = "groups"
	stoppedMemory = "memory"
)

// aggregation computes the metrics of one query over the rows that it is given. It stays within
// its options, and is exact up to where it stops.
type aggregation struct {
	query aggregateQuery
	opts  AggregateOptions
	now   func() time.Time
	until time.Time

	timeField *dataset.Field // of the interval, nil without one
	slots     []slot
	places    []int // of each metric among the slots, -1 for the count of rows
	groups    map[groupKey]*group
	last      *group
	bytes     int // of groups and values, estimated

	scanned int
	matched int
	stopped string // why, "" when all rows were read
	before  string // the key of the first row that is not counted
}

// slot is a field that metrics are computed of, with what has to be kept for them.
type slot struct {
	field                      *dataset.Field
	sums, least, most, percent bool
}

// groupKey is what the rows of a group have in common. Values without a field stay missing.
type groupKey struct {
	values [maxGroupFields]dataset.Value
	bucket int64 // the start of the interval, in Unix seconds
	timed  bool  // the row has a time
}

type group struct {
	key    groupKey
	rows   int64
	states []state // one for each slot
}

// The memory of a group and of each of its states besides the values of percentiles, roughly.
const (
	groupBytes = 512
	stateBytes = 144
)

func newAggregation(ds *dataset.Dataset, q aggregateQuery, opts AggregateOptions, now func() time.Time) *aggregation {
	a := &aggregation{query: q, opts: opts, now: now, until: now().Add(opts.AggregateTimeout), groups: map[groupKey]*group{}}
	if q.interval > 0 {
		a.timeField = ds.Time
	}
	for _, m := range q.metrics {
		a.places = append(a.places, a.place(m))
	}
	if len(q.groupBy) == 0 && q.interval == 0 {
		a.open(groupKey{}) // The whole of no rows is a group, too.
	}
	return a
}

// place finds or adds the slot of a metric and notes what the metric needs.
func (a *aggregation) place(m metric) int {
	if m.field == nil {
		return -1
	}
	i := slices.IndexFunc(a.slots, func(s slot) bool { return s.field == m.field })
	if i < 0 {
		i, a.slots = len(a.slots), append(a.slots, slot{field: m.field})
	}
	s := &a.slots[i]
	switch m.fn {
	case fnSum, fnAvg:
		s.sums = true
	case fnMin:
		s.least = true
	case fnMax:
		s.most = true
	case fnP50, fnP95, fnP99:
		s.percent = true
	}
	return i
}

// columns are those that the metrics and groups need, in the order of the declaration.
func (a *aggregation) columns(ds *dataset.Dataset) []string {
	need := make([]bool, len(ds.Fields))
	for _, s := range a.slots {
		need[s.field.Index] = true
	}
	for _, f := range a.query.groupBy {
		need[f.Index] = true
	}
	if a.timeField != nil {
		need[a.timeField.Index] = true
	}
	names := []string{}
	for i, f := range ds.Fields {
		if need[i] {
			names = append(names, f.Name)
		}
	}
	return names
}

// skip notes a row that was read and does not meet the filters. It returns false when reading must
// stop before that row.
func (a *aggregation) skip(key string) (more bool) {
	switch {
	case a.scanned == a.opts.MaxAggregateRows:
		return a.stop(stoppedRows, key)
	case a.bytes > a.opts.MaxAggregateBytes:
		return a.stop(stoppedMemory, key)
	case a.scanned > 0 && a.scanned%checkClockEvery == 0 && !a.now().Before(a.until):
		return a.stop(stoppedTime, key)
	}
	a.scanned++
	return true
}

func (a *aggregation) stop(why, key string) bool {
	a.stopped, a.before = why, key
	return false
}

// add counts a row with its key. It returns false when reading must stop before that row.
func (a *aggregation) add(key string, rec dataset.Record) (more bool) {
	if !a.skip(key) {
		return false
	}
	g := a.groupOf(rec)
	if g == nil {
		a.scanned--
		return a.stop(stoppedGroups, key)
	}
	a.matched++
	g.rows++
	for i := range a.slots {
		if v := rec.Value(a.slots[i].field); !v.IsMissing() {
			a.bytes += g.states[i].add(a.slots[i], v)
		}
	}
	return true
}

// groupOf finds or opens the group of a row; nil when there are too many groups.
func (a *aggregation) groupOf(rec dataset.Record) *group {
	var key groupKey
	for i, f := range a.query.groupBy {
		key.values[i] = rec.Value(f)
	}
	if a.timeField != nil {
		if v := rec.Value(a.timeField); !v.IsMissing() {
			key.bucket, key.timed = bucketStart(v.Time().Unix(), a.query.interval), true
		}
	}
	// Rows come in the order of a key, so that the next one is often of the same group.
	if a.last != nil && a.last.key == key {
		return a.last
	}
	if g := a.groups[key]; g != nil {
		a.last = g
		return g
	}
	if len(a.groups) == a.opts.MaxGroups {
		return nil
	}
	return a.open(key)
}

func (a *aggregation) open(key groupKey) *group {
	g := &group{key: key, states: make([]state, len(a.slots))}
	a.groups[key] = g
	a.bytes += groupBytes + stateBytes*len(a.slots)
	for _, v := range key.values {
		if v.Type() == dataset.String {
			a.bytes += len(v.Text())
		}
	}
	return g
}

// Intervals are counted from the Unix epoch, those of whole weeks from the Monday after it.
const (
	week        = 7 * 24 * time.Hour
	firstMonday = 4 * 24 * 60 * 60 // 1970-01-05, in Unix seconds
)

func intervalOrigin(interval time.Duration) int64 {
	if interval%week == 0 {
		return firstMonday
	}
	return 0
}

// bucketStart is the start of the interval that a time falls into, in Unix seconds. The interval of
// an early time may begin before 1970.
func bucketStart(sec int64, interval time.Duration) int64 {
	width, origin := int64(interval/time.Second), intervalOrigin(interval)
	into := (sec - origin) % width
	if into < 0 {
		into += width
	}
	return sec - into
}

// sorted returns the groups by their values, then by their interval; what is missing comes first.
func (a *aggregation) sorted() []*group {
	groups := make([]*group, 0, len(a.groups))
	for _, g := range a.groups {
		groups = append(groups, g)
	}
	slices.SortFunc(groups, func(x, y *group) int { return x.key.compare(y.key) })
	return groups
}

func (k groupKey) compare(o groupKey) int {
	for i, v := range k.values {
		if c := v.Compare(o.values[i]); c != 0 {
			return c
		}
	}
	switch {
	case k.timed == o.timed && k.bucket == o.bucket:
		return 0
	case k.timed != o.timed && o.timed, k.timed == o.timed && k.bucket < o.bucket:
		return -1
	}
	return 1
}

// appendData writes the array of groups.
func (a *aggregation) appendData(dst []byte) []byte {
	dst = append(dst, '[')
	for i, g := range a.sorted() {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = a.query.appendKey(append(dst, '{'), g.key)
		for j, m := range a.query.metrics {
			dst = appendMember(dst, m.name)
			if place := a.places[j]; place < 0 {
				dst = appendInt(dst, g.rows)
			} else {
				dst = g.states[place].appendMetric(dst, m)
			}
		}
		dst = append(dst, '}')
	}
	return append(dst, ']')
}
