package simulate

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/monitor/declare"
	"github.com/latamctl/latamctl/pkg/monitor/query"
)

// Result is what came out of a test. A test that is neither passed nor skipped has failed.
type Result struct {
	Test            *Test
	Passed, Skipped bool
	// Reason says why it failed or was skipped.
	Reason string
	// NotEvaluable is set when it failed because a query holds what is not evaluated here.
	NotEvaluable bool
	// Detected tells whether what is expected to happen did, and Detection how long it took.
	Detected  bool
	Detection time.Duration
	// Told are the roles and handles that were told when it was detected.
	Told     []string
	Timeline []Transition
}

// Run runs the tests.
func Run(set *declare.Set, tests []Test) []Result {
	results := make([]Result, len(tests))
	for i := range tests {
		results[i] = run(set, &tests[i])
	}
	return results
}

func run(set *declare.Set, t *Test) Result {
	r := Result{Test: t}
	if t.Skip != "" {
		r.Skipped, r.Reason = true, t.Skip
		return r
	}
	ex := &execution{test: t}
	if err := ex.run(set); err != nil {
		r.Reason = err.Error()
		r.NotEvaluable = isNotEvaluable(err)
		return r
	}
	for _, m := range ex.machines {
		r.Timeline = append(r.Timeline, m.timeline...)
	}
	slices.SortStableFunc(r.Timeline, func(a, b Transition) int { return int(a.At - b.At) })
	var faults []string
	for _, e := range t.Expect {
		faults = append(faults, ex.check(e)...)
	}
	faults = append(faults, ex.quiet()...)
	if tr := ex.detection(); tr != nil {
		r.Detected, r.Detection = true, max(0, tr.At-t.badSince())
		r.Told = append(slices.Clone(tr.Told), tr.Roles...)
	}
	if within := t.DetectWithin; within > 0 && (!r.Detected || r.Detection > within) {
		faults = append(faults, lateness(r, within))
	}
	r.Passed, r.Reason = len(faults) == 0, strings.Join(faults, "; ")
	return r
}

func lateness(r Result, within time.Duration) string {
	after := "was not detected at all"
	if r.Detected {
		after = "was detected after " + dataset.FormatDuration(r.Detection)
	}
	return fmt.Sprintf("it %s, expected within %s from %s on", after, dataset.FormatDuration(within), dataset.FormatDuration(r.Test.badSince()))
}

// execution is the monitors of a test, evaluated to its end.
type execution struct {
	test     *Test
	machines []*machine
}

func (x *execution) run(set *declare.Set) error {
	target := set.Lookup(x.test.Target)
	if target == nil {
		return fmt.Errorf("%s is not declared", x.test.Target)
	}
	w := &world{
		set: set, data: &data{interval: x.test.Interval, series: x.test.series},
		slos: map[string]*record{}, last: x.test.last(),
	}
	objects := []*declare.Object{target}
	if target.Key.Kind == declare.SLO {
		if objects = alertsOf(set, target); len(objects) == 0 {
			return fmt.Errorf("%s has no alerts", target.Key)
		}
	}
	for _, o := range objects {
		m, err := w.machine(o)
		if err != nil {
			return err
		}
		if err := m.advance(w.last); err != nil {
			return err
		}
		x.machines = append(x.machines, m)
	}
	return x.unused(w)
}

// unused finds series of metrics that nothing reads: a spelling mistake, and a test that proves nothing.
func (x *execution) unused(w *world) error {
	read := map[string]bool{}
	for _, m := range x.machines {
		w.reads(m, read)
	}
	for i := range w.data.series {
		if name := w.data.series[i].metric; !read[name] {
			return fmt.Errorf("the series of %s is not read by %s, which reads %s", name, x.test.Target, strings.Join(slices.Sorted(maps.Keys(read)), ", "))
		}
	}
	return nil
}

// reads adds the metrics that a monitor looks at.
func (w *world) reads(m *machine, into map[string]bool) {
	add := func(e query.Expr) {
		if e == nil {
			return
		}
		for _, s := range allSeries(e) {
			into[s.Metric] = true
		}
	}
	switch src := m.source.(type) {
	case *metricSource:
		add(src.query.Expr)
	case *checkSource:
		into[src.query.Name] = true
	case *compositeSource:
		for _, member := range src.members {
			w.reads(member, into)
		}
	case *sloSource:
		into[goodEvents], into[badEvents] = true, true
		add(src.sli.Good)
		add(src.sli.Bad)
		add(src.sli.Slice)
	}
}

func isSLOAlert(o *declare.Object) bool {
	_, ok := o.Query.(*query.SLOAlert)
	return ok
}

// alertsOf returns the alerts on the budget of an SLO.
func alertsOf(set *declare.Set, slo *declare.Object) []*declare.Object {
	var out []*declare.Object
	for _, o := range set.Objects {
		if q, ok := o.Query.(*query.SLOAlert); ok {
			if name, ok := reference(q.ID, declare.SLO); ok && name == slo.Key.Name {
				out = append(out, o)
			}
		}
	}
	return out
}

// tierOf is the tier of an SLO's alert.
func tierOf(o *declare.Object) string {
	tags, _ := o.Payload["tags"].([]any)
	for _, t := range tags {
		if text, ok := t.(string); ok {
			if tier, ok := strings.CutPrefix(text, "burn_tier:"); ok {
				return tier
			}
		}
	}
	return o.Key.Name
}

// place is a group of a monitor.
type place struct {
	m *machine
	g *group
}

// stateAt is the state of a group at a time; empty before there was one.
func (p place) stateAt(at time.Duration) State {
	state := State("")
	for _, tr := range p.m.timeline {
		if tr.Group == p.g.key && tr.At <= at {
			state = tr.To
		}
	}
	return state
}

// since returns what happened from the beginning of the state that the group has at a time.
func (p place) since(at time.Duration) []Transition {
	var out []Transition
	for _, tr := range p.m.timeline {
		if tr.Group != p.g.key || tr.At > at {
			continue
		}
		if tr.From != tr.To {
			out = nil
		}
		out = append(out, tr)
	}
	return out
}

// worst returns the worst state at a time and the groups that have it.
func worst(places []place, at time.Duration) (State, []place) {
	state, found := State(""), []place(nil)
	for _, p := range places {
		s := p.stateAt(at)
		switch {
		case s == "":
		case state == "" || s.severity() > state.severity():
			state, found = s, []place{p}
		case s == state:
			found = append(found, p)
		}
	}
	if state == "" {
		state = NoData
	}
	return state, found
}

// places are the groups of some monitors; only those of a name unless it is empty.
func places(machines []*machine, name string) []place {
	var out []place
	for _, m := range machines {
		for _, key := range m.keys() {
			if name == "" || key == name {
				out = append(out, place{m, m.groups[key]})
			}
		}
	}
	return out
}

// check returns how what happened differs from an expectation.
func (x *execution) check(e Expectation) []string {
	var faults []string
	at := "at " + dataset.FormatDuration(e.At)
	fault := func(format string, args ...any) {
		faults = append(faults, at+": "+fmt.Sprintf(format, args...))
	}
	all := places(x.machines, e.Group)
	if e.Group != "" && len(all) == 0 {
		var known []string
		for _, p := range places(x.machines, "") {
			known = append(known, p.g.key)
		}
		fault("there is no group %s, there are %s", e.Group, orNone(known))
		return faults
	}
	state, at2 := worst(all, e.At)
	if e.State != "" && state != e.State {
		fault("expected %s, got %s%s", e.State, state, explain(all, at2, e.At, x.test.Interval))
	}
	for _, tier := range slices.Sorted(maps.Keys(e.Alerts)) {
		x.checkTier(tier, e, fault)
	}
	var told, messages []string
	for _, p := range at2 {
		for _, tr := range p.since(e.At) {
			if tr.Event != "" {
				told = append(append(told, tr.Told...), tr.Roles...)
				messages = append(messages, tr.Message)
			}
		}
	}
	for _, who := range e.Notified {
		if !slices.Contains(told, who) {
			fault("expected that %s is told, told were %s", who, orNone(told))
		}
	}
	for _, who := range e.NotNotified {
		if slices.Contains(told, who) {
			fault("expected that %s is not told, but it was", who)
		}
	}
	if e.Message != "" && !slices.ContainsFunc(messages, func(m string) bool { return strings.Contains(m, e.Message) }) {
		fault("expected a message with %q, got %s", e.Message, shown(messages))
	}
	return faults
}

func (x *execution) checkTier(tier string, e Expectation, fault func(string, ...any)) {
	var of []*machine
	var known []string
	for _, m := range x.machines {
		name := tierOf(m.object)
		if !slices.Contains(known, name) {
			known = append(known, name)
		}
		if name == tier {
			of = append(of, m)
		}
	}
	if len(of) == 0 {
		fault("there is no alert of the tier %s, there are %s", tier, orNone(known))
		return
	}
	all := places(of, "")
	state, found := worst(all, e.At)
	if state == NoData && e.Alerts[tier] == OK && len(found) == 0 {
		return // no event so far: nothing was burned
	}
	if want := e.Alerts[tier]; state != want {
		fault("expected %s of the tier %s, got %s%s", want, tier, state, explain(all, found, e.At, x.test.Interval))
	}
}

// maxShownMessage is how much of a message is shown.
const maxShownMessage = 200

// shown writes messages on one line.
func shown(messages []string) string {
	out := make([]string, len(messages))
	for i, m := range messages {
		m = strings.Join(strings.Fields(m), " ")
		if len(m) > maxShownMessage {
			m = strings.ToValidUTF8(m[:maxShownMessage], "") + "…"
		}
		out[i] = strconv.Quote(m)
	}
	return orNone(out)
}

func orNone(list []string) string {
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(slices.Compact(sorted(list)), ", ")
}

// explain says what value a state comes of.
func explain(all, found []place, at, interval time.Duration) string {
	if len(found) == 0 {
		found = all
	}
	if len(found) == 0 {
		return ": none of its series was there"
	}
	p := found[0]
	v := p.g.valueAt(int(at / interval))
	r := p.m.settings.rule
	group := ""
	if p.g.key != "" {
		group = " of " + p.g.key
	}
	switch {
	case r.op == "":
		return group
	case math.IsNaN(v):
		return fmt.Sprintf("%s: there is no value, and alert is %s %s", group, r.op, formatValue(r.critical))
	}
	text := fmt.Sprintf("%s: the value is %s, and alert is %s %s", group, formatValue(v), r.op, formatValue(r.critical))
	if r.warning != nil {
		text += fmt.Sprintf(", warning %s %s", r.op, formatValue(*r.warning))
	}
	return text
}

// quiet checks a test that expects nothing but ok: nobody may be told anything before its last expectation.
func (x *execution) quiet() []string {
	end := time.Duration(0)
	for _, e := range x.test.Expect {
		if e.Alerts != nil || e.State != OK || e.Group != "" {
			return nil
		}
		end = max(end, e.At)
	}
	for _, m := range x.machines {
		for _, tr := range m.timeline {
			if tr.Event != "" && tr.At <= end {
				return []string{"nothing but ok is expected, but there is " + tr.String()}
			}
		}
	}
	return nil
}

// detection is the transition into what is expected to happen, nil when it did not.
func (x *execution) detection() *Transition {
	want, since := x.test.detected(), x.test.badSince()
	if want == OK {
		return nil
	}
	tiers := x.test.tiers(want)
	var first *Transition
	for _, m := range x.machines {
		if len(tiers) > 0 && !tiers[tierOf(m.object)] {
			continue
		}
		for i := range m.timeline {
			tr := &m.timeline[i]
			if tr.To != want || tr.From == tr.To {
				continue
			}
			// What began before and lasts is detected at once.
			over := slices.IndexFunc(m.timeline[i+1:], func(next Transition) bool { return next.Group == tr.Group && next.From != next.To })
			if tr.At < since && over >= 0 && m.timeline[i+1+over].At <= since {
				continue
			}
			if first == nil || tr.At < first.At {
				first = tr
			}
		}
	}
	return first
}
