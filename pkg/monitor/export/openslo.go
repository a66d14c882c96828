package export

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/latamctl/latamctl/pkg/monitor/declare"
	"github.com/latamctl/latamctl/pkg/monitor/query"
)

const openSLOHeader = `# Written by latamctl monitors export --format openslo, for stack %s.
# OpenSLO has one time window in an SLO, so there is one SLO for each timeframe. The two windows of a burn rate
# are lookbackWindow and alertAfter. What OpenSLO does not know is not here: dashboards, metrics, and monitors
# that watch no SLO.
`

// openSLO collects documents.
type openSLO struct {
	documents []map[string]any
	missing   []string
	targets   map[string]string // names of handles
	services  map[string]bool
}

func writeOpenSLO(set *declare.Set) ([]byte, error) {
	x := &openSLO{targets: map[string]string{}, services: map[string]bool{}}
	for _, slo := range of(set, declare.SLO) {
		if err := x.slo(set, slo); err != nil {
			return nil, fmt.Errorf("%s: %w", slo.Key, err)
		}
	}
	for _, handle := range slices.Sorted(maps.Keys(x.targets)) {
		x.add("AlertNotificationTarget", x.targets[handle], "", map[string]any{"target": targetKind(handle), "description": handle})
	}
	for _, service := range slices.Sorted(maps.Keys(x.services)) {
		x.add("Service", service, "", map[string]any{})
	}
	var b strings.Builder
	fmt.Fprintf(&b, openSLOHeader, set.Stack)
	for _, name := range x.missing {
		fmt.Fprintf(&b, "# OpenSLO has no alert on a share of the budget, so %s is not here.\n", name)
	}
	for _, document := range x.documents {
		text, err := yaml.Marshal(document)
		if err != nil {
			return nil, err
		}
		b.WriteString("---\n")
		b.Write(text)
	}
	return []byte(b.String()), nil
}

func (x *openSLO) add(kind, name, display string, spec map[string]any) {
	metadata := map[string]any{"name": name}
	if display != "" {
		metadata["displayName"] = display
	}
	x.documents = append(x.documents, map[string]any{"apiVersion": "openslo/v1", "kind": kind, "metadata": metadata, "spec": spec})
}

func (x *openSLO) slo(set *declare.Set, o *declare.Object) error {
	indicator, objective, method, err := indicator(o.Payload)
	if err != nil {
		return err
	}
	name, title := openSLOName(o.Key.Name), str(o.Payload["name"])
	x.add("SLI", name, title, indicator)
	service := openSLOName(serviceOf(set, o.Payload))
	x.services[service] = true
	policies := x.alerts(set, o)
	for _, t := range items(o.Payload["thresholds"]) {
		timeframe := str(get(t, "timeframe"))
		target, _ := get(t, "target").(float64)
		goal := maps.Clone(objective)
		goal["target"] = math.Round(target*1000) / 100_000 // Targets have at most three decimals.
		spec := map[string]any{
			"service": service, "indicatorRef": name, "budgetingMethod": method,
			"timeWindow":    []any{map[string]any{"duration": timeframe, "isRolling": true}},
			"objectives":    []any{goal},
			"alertPolicies": append([]any{}, policies[timeframe]...),
		}
		if text := str(o.Payload["description"]); text != "" {
			spec["description"] = text
		}
		x.add("SLO", name+"-"+timeframe, title, spec)
	}
	return nil
}

// indicator returns the spec of an SLI, what an objective says of it, and how its budget is counted.
func indicator(payload map[string]any) (spec, objective map[string]any, method string, err error) {
	source := func(query string) map[string]any {
		return map[string]any{"metricSource": map[string]any{"type": "Datadog", "spec": map[string]any{"query": query}}}
	}
	switch payload["type"] {
	case "metric":
		good, total, err := counts(payload)
		return map[string]any{"ratioMetric": map[string]any{"counter": false, "good": source(good), "total": source(total)}},
			map[string]any{}, "Occurrences", err
	case "time_slice":
		slice := get(payload, "sli_specification", "time_slice")
		formulas := items(get(slice, "query", "formulas"))
		if len(formulas) != 1 {
			return nil, nil, "", fmt.Errorf("a time slice has one formula, and here are %d", len(formulas))
		}
		text := expression(str(get(formulas[0], "formula")), get(slice, "query", "queries"))
		seconds, _ := get(slice, "query_interval_seconds").(float64)
		op := map[string]string{"<=": "lte", "<": "lt", ">=": "gte", ">": "gt"}[str(get(slice, "comparator"))]
		return map[string]any{"thresholdMetric": source(text)}, map[string]any{
			"op": op, "value": get(slice, "threshold"), "timeSliceTarget": 1, "timeSliceWindow": shorthand(time.Duration(seconds) * time.Second),
		}, "Timeslices", nil
	}
	return nil, nil, "", fmt.Errorf("OpenSLO has no SLO of type %v", payload["type"])
}

// alerts adds the alerts of an SLO and returns references to them by timeframe.
func (x *openSLO) alerts(set *declare.Set, slo *declare.Object) map[string][]any {
	policies := map[string][]any{}
	for _, o := range of(set, declare.Monitor) {
		alert, ok := o.Query.(*query.SLOAlert)
		if !ok || alert.ID != "${ref:"+slo.Key.String()+"}" {
			continue
		}
		if alert.LongWindow == 0 {
			x.missing = append(x.missing, o.Key.Name)
			continue
		}
		name, severity := openSLOName(o.Key.Name), "ticket"
		if o.Pages {
			severity = "page"
		}
		x.add("AlertCondition", name, "", map[string]any{"severity": severity, "condition": map[string]any{
			"kind": "burnrate", "op": map[string]string{">": "gt", ">=": "gte"}[alert.Op], "threshold": alert.Threshold,
			"lookbackWindow": shorthand(alert.LongWindow), "alertAfter": shorthand(alert.ShortWindow),
		}})
		targets := []any{}
		for _, handle := range o.Notify[declare.OnAlert] {
			targets = append(targets, map[string]any{"targetRef": x.target(handle)})
		}
		x.add("AlertPolicy", name, str(o.Payload["name"]), map[string]any{
			"alertWhenBreaching": true, "alertWhenResolved": len(o.Notify[declare.OnRecovery]) > 0, "alertWhenNoData": false,
			"conditions": []any{map[string]any{"conditionRef": name}}, "notificationTargets": targets,
		})
		policies[alert.Over] = append(policies[alert.Over], map[string]any{"alertPolicyRef": name})
	}
	return policies
}

// target names a handle. Handles that differ only in what names cannot have get numbers.
func (x *openSLO) target(handle string) string {
	if name := x.targets[handle]; name != "" {
		return name
	}
	taken := slices.Collect(maps.Values(x.targets))
	base := openSLOName(handle)
	name := base
	for i := 2; slices.Contains(taken, name); i++ {
		name = fmt.Sprintf("%s-%d", base, i)
	}
	x.targets[handle] = name
	return name
}

// serviceOf is the service that an SLO is tagged with, or the stack.
func serviceOf(set *declare.Set, payload map[string]any) string {
	for _, tag := range items(payload["tags"]) {
		if service, ok := strings.CutPrefix(str(tag), "service:"); ok && service != "" {
			return service
		}
	}
	return set.Stack
}

// openSLOName is a name as OpenSLO allows it: a label of DNS.
func openSLOName(name string) string {
	return strings.Trim(strings.Map(func(r rune) rune {
		if (r >= 'a' && r <= 'z') || (r >= '0' && r <= '9') {
			return r
		}
		return '-'
	}, strings.ToLower(name)), "-")
}

// targetKind is what tells someone: slack of @slack-latam-alerts, and email of an address.
func targetKind(handle string) string {
	kind, _, found := strings.Cut(strings.TrimPrefix(handle, "@"), "-")
	if strings.Contains(strings.TrimPrefix(handle, "@"), "@") || !found {
		return "email"
	}
	return kind
}

// shorthand writes whole hours or minutes.
func shorthand(d time.Duration) string {
	if d%time.Hour == 0 {
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dm", d/time.Minute)
}
