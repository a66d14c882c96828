package declare

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/latamctl/latamctl/pkg/monitor/query"
	"github.com/latamctl/latamctl/pkg/strictyaml"
)

// What Datadog takes at most.
const (
	maxTitle     = 200
	maxTags      = 80 // on one object; four more are for ownership
	maxTagBytes  = 200
	maxTimeoutH  = 24
	maxOperands  = 10 // of a composite
	maxBudget    = 100
	googlePrefix = "gcp."
)

// lint checks what each value alone does not show: that the parts of an object, and the objects, go
// together, and that Datadog would take them.
func (l *loader) lint() {
	for _, in := range l.order {
		if in.object == nil {
			continue
		}
		switch in.key.Kind {
		case Monitor:
			l.lintMonitor(in)
		case SLO:
			l.lintSLO(in)
		}
	}
	l.lintMeasures()
	l.lintPaging()
	l.lintObjects()
	l.lintCycles()
	l.lintHandles()
}

func (l *loader) lintMonitor(in *instance) {
	c := &monitorLint{loader: l, instance: in, where: in.where(), kind: in.object.Payload["type"].(string)}
	c.thresholds()
	c.options()
	c.told()
	c.messages()
	switch q := in.object.Query.(type) {
	case *query.Composite:
		c.composite(q)
	case *query.SLOAlert:
		c.sloAlert(q)
	}
}

// monitorLint checks one monitor.
type monitorLint struct {
	*loader
	*instance
	where string
	kind  string
}

// text is the query in the file.
func (c *monitorLint) query() *value { return c.tree.get("query") }

func (c *monitorLint) threshold(name string) (*value, float64) {
	v := c.tree.get("thresholds").get(name)
	n, _ := v.number()
	return v, n
}

// thresholds checks that the numbers agree with the query and with each other.
func (c *monitorLint) thresholds() {
	at, critical := c.threshold("critical")
	if c.kind == typeComposite {
		if all := c.tree.get("thresholds"); all != nil {
			all.fault("remove them", "thresholds%s are those of the monitors that it combines", c.where)
		}
		return
	}
	if at == nil {
		c.definition.fault("give it, and write ${critical} for it in the query", "the key \"critical\" in thresholds is missing")
		return
	}
	switch q := c.object.Query.(type) {
	case *query.Metric:
		if q.Threshold != critical {
			c.query().fault("write ${critical} in the query", "the query%s compares with %s, and thresholds.critical is %s", c.where, numberText(q.Threshold), numberText(critical))
		}
		c.sides(q.Op)
	case *query.SLOAlert:
		if q.Threshold != critical {
			c.query().fault("write ${critical} in the query", "the query%s compares with %s, and thresholds.critical is %s", c.where, numberText(q.Threshold), numberText(critical))
		}
		c.sides(q.Op)
	case *query.Check:
		c.checkThresholds(q)
	}
}

// sides checks the order of the thresholds: of a query with >, recovery < warning < critical.
func (c *monitorLint) sides(op string) {
	if op == "==" || op == "!=" {
		return
	}
	above := strings.HasPrefix(op, ">")
	word := "above"
	if above {
		word = "below"
	}
	for _, pair := range [][2]string{{"warning", "critical"}, {"critical_recovery", "critical"}, {"warning_recovery", "warning"}} {
		at, n := c.threshold(pair[0])
		limit, bound := c.threshold(pair[1])
		switch {
		case at == nil:
		case limit == nil:
			at.fault("give "+pair[1]+" as well", "%s%s has no %s", pair[0], c.where, pair[1])
		case n == bound || (n > bound) == above:
			at.fault("", "%s%s must be %s %s, because the query alerts at %s %s; got %s", pair[0], c.where, word, pair[1], op, numberText(bound), numberText(n))
		}
	}
	if at, _ := c.threshold("ok"); at != nil {
		at.fault("remove it", "the threshold ok%s is for service checks", c.where)
	}
}

func (c *monitorLint) checkThresholds(q *query.Check) {
	for _, name := range []string{"critical", "warning", "ok"} {
		at, n := c.threshold(name)
		if at != nil && (n < 1 || n > float64(q.Last) || n != math.Trunc(n)) {
			at.fault(fmt.Sprintf("raise .last(%d), or lower it", q.Last), "%s%s must be a number of checks from 1 to those that the query looks at, got %s of %d", name, c.where, numberText(n), q.Last)
		}
	}
	for _, name := range []string{"critical_recovery", "warning_recovery"} {
		if at, _ := c.threshold(name); at != nil {
			at.fault("use ok", "%s%s is not for service checks", name, c.where)
		}
	}
}

func (c *monitorLint) composite(q *query.Composite) {
	operands := 0
	visitOperands(q.Expr, func(string) { operands++ })
	if operands < 2 || operands > maxOperands {
		c.query().fault("", "a composite combines 2 to %d monitors, %s has %d", maxOperands, c.where[len(" in "):], operands)
	}
}

func visitOperands(e query.Logic, visit func(id string)) {
	switch e := e.(type) {
	case *query.Operand:
		visit(e.ID)
	case *query.Not:
		visitOperands(e.Of, visit)
	case *query.And:
		visitOperands(e.Left, visit)
		visitOperands(e.Right, visit)
	case *query.Or:
		visitOperands(e.Left, visit)
		visitOperands(e.Right, visit)
	}
}

// sloAlert checks an alert that is written by hand against its SLO.
func (c *monitorLint) sloAlert(q *query.SLOAlert) {
	parts := refText.FindStringSubmatch(q.ID)
	if parts == nil {
		return
	}
	slo := c.objects[Key{SLO, parts[2]}]
	if slo == nil {
		return // at fault and reported
	}
	target, ok := slo.SLI.Targets[q.Over]
	switch {
	case !ok:
		c.query().fault("its targets are "+strings.Join(sortedKeys(slo.SLI.Targets), ", "), "slo %s has no target over %s, which%s asks for", parts[2], q.Over, c.where[len(" in"):])
	case q.LongWindow == 0 && (q.Threshold <= 0 || q.Threshold > maxBudget):
		c.query().fault("", "error_budget%s must be compared with more than 0 and at most %d percent, got %s", c.where, maxBudget, numberText(q.Threshold))
	case q.LongWindow > 0 && q.Threshold > maxBurn(target):
		c.query().fault("", "a target of %s %% cannot burn faster than %s times, and%s alerts at %s", numberText(target), numberText(maxBurn(target)), c.where[len(" in"):], numberText(q.Threshold))
	}
}

func (l *loader) lintSLO(in *instance) {
	where := in.where()
	for _, timeframe := range timeframes() {
		at := in.tree.get("targets").get(timeframe)
		if at == nil {
			continue
		}
		l.percent(at, "targets."+timeframe+where)
		target, _ := at.number()
		if warning := in.tree.get("warning"); warning != nil {
			if n, _ := warning.number(); n <= target {
				warning.fault("a warning comes before the target is missed", "warning%s must be above the target of %s %%, got %s", where, numberText(target), numberText(n))
			}
		}
	}
	for _, name := range []string{"warning", "yearly"} {
		if at := in.tree.get(name); at != nil {
			l.percent(at, name+where)
		}
	}
	l.lintLatency(in)
	l.lintNoData(in)
}

// percent checks a target: strictly between 0 and 100, with three decimals.
func (l *loader) percent(v *value, what string) {
	n, _ := v.number()
	switch {
	case n <= 0 || n >= 100:
		v.fault("", "%s must be above 0 and below 100 percent, got %s", what, numberText(n))
	case math.Abs(n*1000-math.Round(n*1000)) > 1e-6:
		v.fault("", "%s has more than the 3 decimals that Datadog keeps: %s", what, numberText(n))
	}
}

// lintLatency checks that values are counted exactly: by a bound of the buckets in which they are kept.
func (l *loader) lintLatency(in *instance) {
	v := in.tree.get("latency")
	if v == nil {
		return
	}
	name := v.get("metric").text()
	m, ok := l.own[name]
	if !ok {
		return // unknown, or somebody else's, and reported or not to be known
	}
	at := v.get("threshold")
	threshold, _ := at.number()
	switch {
	case !m.distribution:
		v.get("metric").fault("", "latency%s needs a distribution, and %s is none", in.where(), name)
	case len(m.bounds) == 0:
		l.warn("slo %s: the bucket bounds of %s are not known; give its bounds in metrics, so that the threshold is one of them", in.key.Name, name)
	case !slices.Contains(m.bounds, threshold):
		at.fault(nearBounds(m.bounds, threshold), "threshold%s must be a bucket bound of %s to be counted exactly, got %s", in.where(), name, numberText(threshold))
	}
}

// nearBounds names the bounds around a threshold.
func nearBounds(bounds []float64, n float64) string {
	sorted := slices.Sorted(slices.Values(bounds))
	i, _ := slices.BinarySearch(sorted, n)
	var near []string
	for _, j := range []int{i - 1, i} {
		if j >= 0 && j < len(sorted) {
			near = append(near, numberText(sorted[j]))
		}
	}
	return "choose " + strings.Join(near, " or ") + "; a dataset's own stands under slo in latam.yaml"
}

// lintNoData checks that the partner of an SLO does tell when there is no data.
func (l *loader) lintNoData(in *instance) {
	partner := l.instances[Key{Monitor, in.object.SLI.NoData}]
	if partner == nil || partner.object == nil {
		return
	}
	switch q := partner.object.Query.(type) {
	case *query.Metric:
		if tellsNoData(partner) || strings.HasPrefix(q.Op, "<") && query.HasDefaultZero(q) {
			return
		}
	default:
		return
	}
	in.tree.get("no_data").fault("set on_missing_data: show_and_notify_no_data there", "no_data%s names %s, which is silent when there is no data", in.where(), partner.key.Name)
}

func tellsNoData(in *instance) bool {
	return in.options["on_missing_data"].text() == "show_and_notify_no_data" || in.options["notify_no_data"].truth()
}

// lintObjects checks what every object has, made ones as well.
func (l *loader) lintObjects() {
	titles := map[string]*Object{}
	for _, key := range slices.SortedFunc(maps.Keys(l.objects), compareKeys) {
		o := l.objects[key]
		in := l.from[o]
		if in == nil {
			continue // a metric, which has neither title nor tags of ours
		}
		title, _ := o.Payload["name"].(string)
		if key.Kind == Dashboard {
			title, _ = o.Payload["title"].(string)
		}
		at := in.tree.get("title")
		switch id := string(key.Kind) + " " + title; {
		case utf8.RuneCountInString(title) > maxTitle:
			at.fault("", "the title%s has %d characters with its environment, at most %d are shown", in.where(), utf8.RuneCountInString(title), maxTitle)
		case strings.ContainsAny(title, "\n\r"):
			at.fault("", "the title%s has more than one line", in.where())
		case titles[id] != nil:
			at.fault("put what tells them apart into the title", "the title of %s is that of %s as well", key, titles[id].Key)
		default:
			titles[id] = o
		}
		l.lintTags(o, in)
		for _, ref := range refs(o.Payload) {
			if !in.bad && l.objects[ref] == nil && l.instances[ref] == nil {
				in.definition.fault("", "%s names %s, which there is not", key, ref)
			}
		}
	}
}

// lintTags checks the tags of an object, those of its file where the file has them.
func (l *loader) lintTags(o *Object, in *instance) {
	for _, v := range in.file().root.get("tags").texts() {
		l.lintTag(v, " in "+in.file().path)
	}
	for _, v := range in.tree.get("tags").texts() {
		if key, _, _ := strings.Cut(v.text(), ":"); key != "env" || !in.verbatim() {
			l.lintTag(v, in.where())
		}
	}
	tags, _ := o.Payload["tags"].([]any)
	if len(tags) > maxTags {
		in.definition.fault("", "%d tags are more than the %d that are taken", len(tags), maxTags)
	}
	for _, tag := range tags {
		if text, _ := tag.(string); !tagText.MatchString(text) || len(text) > maxTagBytes {
			in.definition.fault("tags are lower case, begin with a letter and have at most 200 characters", "%s is no tag of Datadog", quote(text))
		}
	}
}

func (l *loader) lintTag(v *value, where string) {
	key, _, _ := strings.Cut(v.text(), ":")
	switch {
	case key == "managed_by" || strings.HasPrefix(key, "latamctl_"):
		v.fault("remove it", "the tag %s%s is for latamctl itself, which says with it what is its own", v.text(), where)
	case key == "env" && v.text() != "env:"+l.Environment:
		v.fault("remove it, it is added", "the tag %s%s is not that of environment %s", v.text(), where, l.Environment)
	}
}

// lintCycles finds monitors that combine each other.
func (l *loader) lintCycles() {
	state := map[Key]int{} // 1 on the path, 2 done
	var path []string
	var visit func(key Key) bool
	visit = func(key Key) bool {
		o := l.objects[key]
		if o == nil || state[key] == 2 {
			return false
		}
		path = append(path, key.String())
		if state[key] == 1 {
			return true
		}
		state[key] = 1
		for _, ref := range refs(o.Payload) {
			if visit(ref) {
				return true
			}
		}
		state[key] = 2
		path = path[:len(path)-1]
		return false
	}
	for _, in := range l.order {
		path = nil
		if visit(in.key) {
			last := path[len(path)-1]
			in.definition.fault("remove one of these references", "objects name each other: %s", strings.Join(path[slices.Index(path, last):], " → "))
			return
		}
	}
}

// lintHandles reports handles of the environment that Datadog would not understand, where latam.yaml has them.
func (l *loader) lintHandles() {
	if l.Declaration == nil {
		return
	}
	f := &file{path: l.Declaration.File, seen: map[string]bool{}}
	at := strictyaml.Place{}
	if e := l.Declaration.Environment(l.Environment); e != nil {
		for _, s := range e.Settings {
			if s.Key == "notify" {
				at = strictyaml.Place{Line: s.Line, Column: s.Column}
			}
		}
	}
	for _, role := range sortedKeys(l.Notify) {
		if l.roles[role] == nil {
			names := sortedKeys(l.roles)
			f.fault(at, didYouMean(role, names, known("roles", names)), "notify of environment %s: there is no role %s", l.Environment, quote(role))
		}
		for _, handle := range l.Notify[role] {
			if fault := handleFault(handle); fault != "" {
				f.fault(at, fault, "notify.%s of environment %s: %s is no handle of Datadog", role, l.Environment, quote(handle))
			}
		}
	}
	l.files = append(l.files, f)
}
