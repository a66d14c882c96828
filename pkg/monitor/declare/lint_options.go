package declare

import (
	"slices"
	"strings"

	"github.com/latamctl/latamctl/pkg/monitor/query"
)

// option returns an option and where to report it: where the monitor gives it, or where it names the profile.
func (c *monitorLint) option(name string) (v, at *value) {
	v = c.instance.options[name]
	if v == nil {
		return nil, nil
	}
	at = v
	if c.tree.get("options").get(name) == nil {
		at = c.tree.get("profile")
	}
	return v, at
}

func (c *monitorLint) has(name string) bool { return c.instance.options[name] != nil }

// options checks the combinations that Datadog refuses, or silently gives another meaning.
func (c *monitorLint) options() {
	c.missingData()
	c.renotify()
	if v, at := c.option("timeout_h"); v != nil {
		if n, _ := v.number(); n > maxTimeoutH {
			at.fault("", "timeout_h%s is at most %d, got %s", c.where, maxTimeoutH, numberText(n))
		}
	}
	if c.has("new_host_delay") && c.has("new_group_delay") {
		_, at := c.option("new_host_delay")
		at.fault("keep new_group_delay", "new_host_delay%s does not go with new_group_delay", c.where)
	}
	if v, at := c.option("group_retention_duration"); v != nil && (c.kind == typeQuery || c.kind == typeCheck || c.kind == typeComposite) {
		at.fault("", "group_retention_duration%s is not for the type %s", c.where, c.kind)
	}
	if v, at := c.option("enable_logs_sample"); v != nil && c.kind != "log alert" {
		at.fault("", "enable_logs_sample%s is for the type log alert", c.where)
	}
	if v, _ := c.option("notify_by"); v != nil && !(len(v.items) == 1 && v.items[0].text() == "*") {
		groups := query.Groups(c.object.Query)
		for _, item := range v.items {
			if _, opaque := c.object.Query.(*query.Opaque); !opaque && !slices.Contains(groups, item.text()) {
				item.fault(didYouMean(item.text(), groups, known("groups of the query", groups)), "notify_by%s: the query does not group by %s", c.where, quote(item.text()))
			}
		}
	}
	c.windows()
}

func (c *monitorLint) missingData() {
	v, at := c.option("on_missing_data")
	if v != nil {
		for _, other := range []string{"no_data_timeframe", "notify_no_data"} {
			if c.has(other) {
				at.fault("keep on_missing_data", "on_missing_data%s does not go with %s", c.where, other)
			}
		}
		timeout, _ := c.instance.options["timeout_h"].number()
		switch {
		case c.kind == typeComposite || c.kind == typeCheck || c.kind == typeSLO:
			at.fault("choose a profile without it", "on_missing_data%s is not for the type %s", c.where, c.kind)
		case v.text() != "default" && query.HasDefaultZero(c.object.Query):
			at.fault("drop default_zero( or say default", "on_missing_data%s is %s, and default_zero( leaves no window without data", c.where, v.text())
		case v.text() == "resolve" && timeout != 0:
			at.fault("set timeout_h: 0", "on_missing_data%s: resolve does not go with timeout_h", c.where)
		}
	}
	if _, at := c.option("no_data_timeframe"); at != nil && c.kind == "log alert" {
		at.fault("use on_missing_data", "no_data_timeframe%s is not for the type log alert", c.where)
	}
}

func (c *monitorLint) renotify() {
	interval, _ := c.instance.options["renotify_interval"].number()
	for _, name := range []string{"renotify_statuses", "renotify_occurrences"} {
		if _, at := c.option(name); at != nil && interval == 0 {
			at.fault("set renotify_interval", "%s%s means nothing without renotify_interval", name, c.where)
		}
	}
	statuses, at := c.option("renotify_statuses")
	if interval > 0 && (statuses == nil || len(statuses.items) == 0) {
		_, at := c.option("renotify_interval")
		at.fault("set renotify_statuses, such as [alert]", "renotify_interval%s does not say in which states", c.where)
	}
	if warning, _ := c.threshold("warning"); statuses != nil && warning == nil && c.kind == typeQuery &&
		slices.ContainsFunc(statuses.items, func(v *value) bool { return v.text() == "warn" }) {
		at.fault("give thresholds.warning", "renotify_statuses%s has warn, and it never warns", c.where)
	}
	for _, section := range []string{"notify", "message"} {
		if v := c.tree.get(section).get(string(OnRenotify)); v != nil && interval == 0 {
			v.fault("set renotify_interval, or the profile page", "%s.renotify%s is never told", section, c.where)
		}
	}
}

// windows checks threshold_windows, which anomalies need and nothing else has.
func (c *monitorLint) windows() {
	v := c.tree.get("threshold_windows")
	q, ok := c.object.Query.(*query.Metric)
	if !ok {
		if v != nil {
			v.fault("remove them", "threshold_windows%s are for anomalies", c.where)
		}
		return
	}
	anomalies := slices.Contains(query.Functions(q), "anomalies")
	switch {
	case anomalies && v == nil:
		c.query().fault("give threshold_windows: {trigger_window: last_15m, recovery_window: last_15m}", "anomalies(%s needs threshold_windows", c.where)
	case !anomalies && v != nil:
		v.fault("remove them", "threshold_windows%s are for anomalies", c.where)
	}
}

// told checks that who is told of something can be.
func (c *monitorLint) told() {
	for _, section := range []string{"notify", "message"} {
		v := c.tree.get(section)
		if warning, _ := c.threshold("warning"); warning == nil && c.kind == typeQuery {
			if at := v.get(string(OnWarning)); at != nil {
				at.fault("give thresholds.warning", "%s.warning%s is never told", section, c.where)
			}
		}
		if at := v.get(string(OnNoData)); at != nil && (c.kind == typeQuery || c.kind == typeCheck) && !tellsNoData(c.instance) {
			at.fault("set on_missing_data: show_and_notify_no_data, or notify_no_data for a check", "%s.no_data%s is never told", section, c.where)
		}
	}
}

// lintPaging checks monitors that wake somebody up: they say what to do and when it is over, and do not
// rest on late data alone.
func (l *loader) lintPaging() {
	for _, in := range l.order {
		if in.key.Kind != Monitor || in.object == nil || !in.object.Pages {
			continue
		}
		message := in.tree.get("message")
		if l.runbook(in, message.get("runbook")) == "" {
			in.definition.fault("write message: {runbook: true}", "somebody is woken up, and there is no runbook")
		}
		if strings.TrimSpace(message.get(string(OnRecovery)).text()) == "" {
			in.definition.fault("write message: {recovery: …}", "somebody is woken up, and nothing is said when it is over")
		}
		if l.onlyGoogle(in.object, map[Key]bool{}) {
			in.tree.get("notify").fault("combine it with a metric of our own in a composite, or tell chat", "gcp.* metrics come 7 to 8 minutes late, so they alone must not wake anybody up%s", in.where())
		}
	}
}

// onlyGoogle tells whether a monitor, or all that it combines, reads metrics of Google alone.
func (l *loader) onlyGoogle(o *Object, seen map[Key]bool) bool {
	if o == nil || seen[o.Key] {
		return false
	}
	seen[o.Key] = true
	switch q := o.Query.(type) {
	case *query.Metric:
		series := query.SeriesOf(q)
		return len(series) > 0 && !slices.ContainsFunc(series, func(s *query.Series) bool { return !strings.HasPrefix(s.Metric, googlePrefix) })
	case *query.Composite:
		all := true
		visitOperands(q.Expr, func(id string) {
			parts := refText.FindStringSubmatch(id)
			all = all && parts != nil && l.onlyGoogle(l.objects[Key{Monitor, parts[2]}], seen)
		})
		return all
	}
	return false
}
