package declare

import (
	"fmt"
	"strings"

	"github.com/latamctl/latamctl/pkg/monitor/query"
)

// compileSLO makes an SLO and its alerts.
func (l *loader) compileSLO(in *instance) {
	tree := in.tree
	sli, specification, kind := l.indicator(in)
	if sli == nil {
		in.bad = true
		return
	}
	sli.Targets = map[string]float64{}
	var thresholds []any
	warning, warns := tree.get("warning").number()
	for _, timeframe := range timeframes() {
		target, ok := tree.get("targets").get(timeframe).number()
		if !ok {
			continue
		}
		sli.Targets[timeframe] = target
		threshold := map[string]any{"timeframe": timeframe, "target": target}
		if warns {
			threshold["warning"] = warning
		}
		thresholds = append(thresholds, threshold)
	}
	if thresholds == nil {
		tree.get("targets").fault("write targets such as {30d: 95, 90d: 95}", "targets%s is empty", in.where())
		in.bad = true
		return
	}
	sli.YearlyPercent, _ = tree.get("yearly").number()
	payload := map[string]any{
		"name": l.name(in), "type": kind, "tags": l.ownTags(in),
		"thresholds": thresholds, "sli_specification": specification,
	}
	if text := tree.get("description").text(); text != "" {
		payload["description"] = text
	}
	first := primary(sli.Targets)
	payload["timeframe"], payload["target_threshold"] = first, sli.Targets[first]
	if warns {
		payload["warning_threshold"] = warning
	}
	in.object = l.newObject(in, in.key, payload)
	in.object.SLI = sli
	noData := tree.get("no_data")
	if partner, ok := l.resolve(in, noData, Monitor, noData.text()); ok {
		sli.NoData = partner.Name
	}
	l.alerts(in)
}

// primary is the timeframe that Datadog shows first: 30 days when there is such a target.
func primary(targets map[string]float64) string {
	if _, ok := targets["30d"]; ok {
		return "30d"
	}
	for _, timeframe := range timeframes() {
		if _, ok := targets[timeframe]; ok {
			return timeframe
		}
	}
	return ""
}

// indicator reads what the SLO counts; nil when that is at fault.
func (l *loader) indicator(in *instance) (sli *SLI, specification map[string]any, kind string) {
	var given []string
	for _, name := range []string{"latency", "ratio", "slices"} {
		if in.tree.get(name) != nil {
			given = append(given, name)
		}
	}
	if len(given) != 1 {
		in.definition.fault("give one of latency, ratio and slices", "expected one indicator, got %d", len(given))
		return nil, nil, ""
	}
	v := in.tree.get(given[0])
	switch given[0] {
	case "latency":
		threshold, _ := v.get("threshold").number()
		filter := v.get("filter").text()
		if filter == "" {
			filter = "*"
		}
		series := func(op string) string {
			return fmt.Sprintf("count(v: v%s%s):%s{%s}.as_count()", op, numberText(threshold), v.get("metric").text(), filter)
		}
		return l.countSLI(in, v, series("<="), v, series(">"))
	case "ratio":
		good, bad := v.get("good"), v.get("bad")
		return l.countSLI(in, good, good.text(), bad, bad.text())
	}
	return l.sliceSLI(in, v)
}

func (l *loader) countSLI(in *instance, goodAt *value, good string, badAt *value, bad string) (*SLI, map[string]any, string) {
	g, ok := l.expr(in, goodAt, good)
	b, okay := l.expr(in, badAt, bad)
	if !ok || !okay {
		return nil, nil, ""
	}
	l.measures = append(l.measures, measure{g, goodAt, in}, measure{b, badAt, in})
	goodFormula, goodQueries := formula(g, "good")
	badFormula, badQueries := formula(b, "bad")
	return &SLI{Good: g, Bad: b}, map[string]any{"count": map[string]any{
		"good_events_formula": map[string]any{"formula": goodFormula},
		"bad_events_formula":  map[string]any{"formula": badFormula},
		"queries":             anyMaps(append(goodQueries, badQueries...)),
	}}, "metric"
}

func (l *loader) sliceSLI(in *instance, v *value) (*SLI, map[string]any, string) {
	slice, ok := l.expr(in, v.get("query"), v.get("query").text())
	seconds, _ := v.get("seconds").number()
	if seconds != 60 && seconds != 300 {
		v.get("seconds").fault("", "slices.seconds%s must be 60 or 300, got %s", in.where(), v.get("seconds"))
		ok = false
	}
	if !ok {
		return nil, nil, ""
	}
	l.measures = append(l.measures, measure{slice, v.get("query"), in})
	bound, _ := v.get("bound").number()
	text, queries := formula(slice, "query")
	return &SLI{Slice: slice, SliceOp: v.get("op").text(), SliceBound: bound, SliceSeconds: int(seconds)},
		map[string]any{"time_slice": map[string]any{
			"query": map[string]any{
				"formulas": []any{map[string]any{"formula": text}},
				"queries":  anyMaps(queries),
			},
			"comparator": v.get("op").text(), "threshold": bound, "query_interval_seconds": seconds,
		}}, "time_slice"
}

// expr reads an expression and reports its fault.
func (l *loader) expr(in *instance, at *value, text string) (query.Expr, bool) {
	e, err := query.ParseExpr(text)
	if err != nil {
		at.fault("", "query%s: %v", in.where(), err)
		return nil, false
	}
	return e, true
}

// tier is one alert of an SLO: how fast the budget burns over two windows, or how much of it is gone.
type tier struct {
	name        string // what alerts: names it
	suffix      string // of the monitor's name, when a tier has more than one
	over        string
	long, short string // "" for the budget itself
	threshold   float64
	pages       bool
	priority    float64
}

// tiers are the alerts of an SLO. The two windows and factors are those of Google's SRE workbook where
// Datadog can express them; sensitive is for targets as low as 95 %, of which the workbook's fastest
// tier tells only when three quarters of everything fails.
func tiers() []tier {
	return []tier{
		{name: "fast", over: "30d", long: "1h", short: "5m", threshold: 14.4, pages: true, priority: 1},
		{name: "sensitive", over: "30d", long: "1h", short: "5m", threshold: 7.2, pages: true, priority: 2},
		{name: "mid", over: "30d", long: "6h", short: "30m", threshold: 6, pages: true, priority: 2},
		{name: "slow", over: "30d", long: "24h", short: "2h", threshold: 3, priority: 3},
		{name: "slow90", suffix: "-6h", over: "90d", long: "6h", short: "30m", threshold: 10.8, priority: 3},
		{name: "slow90", suffix: "-24h", over: "90d", long: "24h", short: "2h", threshold: 4.5, priority: 3},
		{name: "budget", suffix: "-30d", over: "30d", threshold: 75, priority: 4},
		{name: "budget", suffix: "-90d", over: "90d", threshold: 75, priority: 4},
	}
}

func tierNames() []string {
	var names []string
	for _, t := range tiers() {
		names = appendNew(names, t.name)
	}
	return names
}

// alerts makes the monitors that alert on an SLO.
func (l *loader) alerts(in *instance) {
	which := in.tree.get("alerts")
	standard := which == nil || which.text() == "standard"
	if which.text() == "none" {
		return
	}
	asked := map[string]*value{}
	if !standard {
		for _, item := range which.texts() {
			asked[item.text()] = item
		}
	}
	made := map[string]bool{}
	for _, t := range tiers() {
		at := asked[t.name]
		if !standard && at == nil {
			continue
		}
		target, ok := in.object.SLI.Targets[t.over]
		if !ok {
			continue
		}
		made[t.name] = true
		if limit := maxBurn(target); t.long != "" && t.threshold > limit {
			if at == nil {
				l.warn("slo %s has no tier %s: a target of %v %% over %s cannot burn faster than %v times the allowed rate, and the tier alerts at %v",
					in.key.Name, t.name, target, t.over, limit, t.threshold)
				continue
			}
			at.fault("list other tiers in alerts", "tier %s%s alerts at %v times the allowed rate, and a target of %v %% cannot burn faster than %v", t.name, in.where(), t.threshold, target, limit)
			continue
		}
		l.alert(in, t)
	}
	for _, name := range sortedKeys(asked) {
		if !made[name] {
			asked[name].fault("add that target, or leave the tier out", "tier %s%s is about a timeframe that is not among the targets", name, in.where())
		}
	}
}

// maxBurn is the fastest that a budget can burn: everything fails.
func maxBurn(target float64) float64 {
	// Rounded, because 1/(1-0.95) is a little less than 20 in floating point.
	text := fmt.Sprintf("%.6g", 100/(100-target))
	var n float64
	_, _ = fmt.Sscan(text, &n)
	return n
}

func (l *loader) alert(in *instance, t tier) {
	name := in.key.Name + "-burn-" + t.name + t.suffix
	text := fmt.Sprintf(`burn_rate("${ref:%s}").over("%s").long_window("%s").short_window("%s") > %s`, in.key, t.over, t.long, t.short, numberText(t.threshold))
	title := in.tree.get("title").text()
	what := fmt.Sprintf("%s: the budget of %s burns %s times too fast", title, t.over, numberText(t.threshold))
	alert := fmt.Sprintf("%s. Over the last %s it burned {{value}} times as fast as it may. If that goes on, none is left soon.", what, t.long)
	recovery := title + ": the budget no longer burns too fast."
	if t.long == "" {
		text = fmt.Sprintf(`error_budget("${ref:%s}").over("%s") > %s`, in.key, t.over, numberText(t.threshold))
		what = fmt.Sprintf("%s: %s %% of the budget of %s are gone", title, numberText(t.threshold), t.over)
		alert = fmt.Sprintf("%s. {{value}} %% of what may fail within %s has failed.", what, t.over)
		recovery = fmt.Sprintf("%s: less than %s %% of the budget of %s are gone.", title, numberText(t.threshold), t.over)
	}
	q, err := query.Parse(typeSLO, text)
	if err != nil {
		in.definition.fault("", "query of tier %s: %v", t.name, err)
		return
	}
	key := Key{Monitor, name}
	o := l.newObject(in, key, map[string]any{
		"name": l.title(what), "type": typeSLO, "query": q.String(), "priority": t.priority,
		"tags": l.tags(in, in.tree.get("tags"), "burn_tier:"+t.name, "slo:"+in.key.Name),
		"options": map[string]any{
			"thresholds": map[string]any{"critical": t.threshold}, "include_tags": true, "notify_audit": false,
		},
	})
	o.Query, o.Notify, o.Roles = q, map[Event][]string{}, map[Event][]string{}
	who := "ticket"
	if t.pages {
		who = "page"
	}
	for _, at := range in.tree.get("notify").get(who).texts() {
		l.tell(o, in, OnAlert, at, at.text())
		l.tell(o, in, OnRecovery, at, at.text())
	}
	o.Payload["message"] = compileMessage(map[Event]string{OnAlert: alert, OnRecovery: recovery}, o.Notify, l.Values.runbooks()+"/"+in.base+".md")
}

// formula writes an expression in the form that SLOs and widgets have: a formula over named queries. A
// single series is called name, several have numbers behind it.
func formula(e query.Expr, name string) (string, []map[string]any) {
	series := query.SeriesOf(e)
	var queries []map[string]any
	names := map[*query.Series]string{}
	for i, s := range series {
		names[s] = name
		if len(series) > 1 {
			names[s] = fmt.Sprintf("%s%d", name, i+1)
		}
		queries = append(queries, map[string]any{"data_source": "metrics", "name": names[s], "query": s.String()})
	}
	return formulaText(e, names), queries
}

func formulaText(e query.Expr, names map[*query.Series]string) string {
	switch e := e.(type) {
	case *query.Series:
		return names[e]
	case *query.Call:
		var args []string
		for _, arg := range e.Args {
			args = append(args, formulaText(arg, names))
		}
		return e.Name + "(" + strings.Join(append(args, e.Words...), ", ") + ")"
	case *query.Binary:
		return side(e.Left, e.Op, false, names) + " " + string(e.Op) + " " + side(e.Right, e.Op, true, names)
	case *query.Negate:
		return "-" + side(e.Of, '*', true, names)
	}
	return e.String()
}

// side puts parentheses around a part of an operation that needs them.
func side(e query.Expr, op byte, right bool, names map[*query.Series]string) string {
	text := formulaText(e, names)
	inner, ok := e.(*query.Binary)
	weak := func(op byte) bool { return op == '+' || op == '-' }
	if ok && (right && weak(inner.Op) == weak(op) || weak(inner.Op) && !weak(op)) {
		return "(" + text + ")"
	}
	return text
}

func anyMaps(maps []map[string]any) []any {
	out := make([]any, len(maps))
	for i, m := range maps {
		out[i] = m
	}
	return out
}
