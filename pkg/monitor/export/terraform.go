package export

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/zclconf/go-cty/cty"

	"github.com/latamctl/latamctl/pkg/monitor/declare"
)

const terraformHeader = `# Written by latamctl monitors export --format terraform, for stack %s.
terraform {
required_providers {
datadog = {
source = "DataDog/datadog"
version = "~> 4.0"
}
}
}
`

func writeTerraform(set *declare.Set) ([]byte, error) {
	var b strings.Builder
	fmt.Fprintf(&b, terraformHeader, set.Stack)
	for _, o := range set.Objects {
		var body string
		var err error
		switch o.Key.Kind {
		case declare.Metric:
			body, err = terraformMetric(o.Payload)
		case declare.Monitor:
			body, err = terraformMonitor(o.Payload)
		case declare.SLO:
			body, err = terraformSLO(o.Payload)
		default:
			body = "dashboard = jsonencode(" + value(o.Payload) + ")\n"
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", o.Key, err)
		}
		fmt.Fprintf(&b, "\nresource %q %q {\n%s}\n", resourceType(o.Key.Kind), resourceName(o.Key.Name), body)
	}
	return hclwrite.Format([]byte(b.String())), nil
}

func resourceType(kind declare.Kind) string {
	switch kind {
	case declare.Metric:
		return "datadog_metric_tag_configuration"
	case declare.Monitor:
		return "datadog_monitor"
	case declare.SLO:
		return "datadog_service_level_objective"
	}
	return "datadog_dashboard_json"
}

// resourceName is a name as Terraform allows it: without dots, and not with a digit first.
func resourceName(name string) string {
	name = strings.ReplaceAll(name, ".", "_")
	if name != "" && name[0] >= '0' && name[0] <= '9' {
		name = "_" + name
	}
	return name
}

func terraformMetric(payload map[string]any) (string, error) {
	b := body{rest: maps.Clone(payload)}
	b.attribute("metric_name", b.take("metric"))
	b.attribute("metric_type", "distribution") // Only distributions have percentiles.
	b.take("metric_type")
	b.attributes("tags", "include_percentiles")
	return b.done("the provider's datadog_metric_tag_configuration")
}

func terraformMonitor(payload map[string]any) (string, error) {
	b := body{rest: maps.Clone(payload)}
	b.attributes("name", "type", "query", "message", "tags")
	if priority := b.take("priority"); priority != nil {
		b.attribute("priority", plain(priority))
	}
	b.attributes("restricted_roles", "draft_status")
	options, _ := b.take("options").(map[string]any)
	text, err := b.done("the provider's datadog_monitor")
	if err != nil {
		return "", err
	}
	o := body{rest: maps.Clone(options)}
	o.attributes("include_tags", "require_full_window", "notify_audit", "notify_no_data", "no_data_timeframe", "on_missing_data",
		"evaluation_delay", "new_group_delay", "new_host_delay", "timeout_h", "renotify_interval", "renotify_occurrences",
		"renotify_statuses", "escalation_message", "group_retention_duration", "notify_by", "notification_preset_name",
		"enable_logs_sample", "enable_samples", "groupby_simple_monitor", "locked")
	for _, block := range []struct{ option, name string }{
		{"thresholds", "monitor_thresholds"}, {"threshold_windows", "monitor_threshold_windows"},
	} {
		if fields, _ := o.take(block.option).(map[string]any); len(fields) > 0 {
			o.block(block.name, func(inner *body) {
				for _, name := range slices.Sorted(maps.Keys(fields)) {
					inner.attribute(name, plain(fields[name])) // The provider has them as texts.
				}
			})
		}
	}
	rest, err := o.done("the provider's datadog_monitor")
	return text + rest, err
}

func terraformSLO(payload map[string]any) (string, error) {
	b := body{rest: maps.Clone(payload)}
	b.attributes("name", "type", "description", "tags", "timeframe", "target_threshold", "warning_threshold", "monitor_ids", "groups")
	for _, t := range items(b.take("thresholds")) {
		fields, _ := t.(map[string]any)
		b.block("thresholds", func(inner *body) {
			inner.rest = maps.Clone(fields)
			inner.attributes("timeframe", "target", "warning")
		})
	}
	slice := get(payload, "sli_specification", "time_slice")
	switch {
	case payload["type"] == "metric":
		good, total, err := counts(payload)
		if err != nil {
			return "", err
		}
		b.block("query", func(inner *body) {
			inner.attribute("numerator", good)
			inner.attribute("denominator", total)
		})
		b.take("query")
	case slice != nil:
		b.block("sli_specification", func(outer *body) { outer.block("time_slice", func(inner *body) { timeSlice(inner, slice) }) })
	}
	b.take("sli_specification")
	return b.done("the provider's datadog_service_level_objective")
}

func timeSlice(b *body, slice any) {
	b.rest, _ = slice.(map[string]any)
	b.rest = maps.Clone(b.rest)
	b.attributes("comparator", "threshold", "query_interval_seconds")
	b.block("query", func(q *body) {
		for _, f := range items(get(slice, "query", "formulas")) {
			q.block("formula", func(inner *body) { inner.attribute("formula_expression", get(f, "formula")) })
		}
		for _, metric := range items(get(slice, "query", "queries")) {
			q.block("query", func(outer *body) {
				outer.block("metric_query", func(inner *body) {
					inner.rest, _ = metric.(map[string]any)
					inner.rest = maps.Clone(inner.rest)
					inner.attributes("data_source", "name", "query")
				})
			})
		}
	})
}

// body is the text of a block, and the fields of a payload that are not in it yet.
type body struct {
	text strings.Builder
	rest map[string]any
}

// take returns a field and marks it as written.
func (b *body) take(name string) any {
	v := b.rest[name]
	delete(b.rest, name)
	return v
}

func (b *body) attribute(name string, v any) { fmt.Fprintf(&b.text, "%s = %s\n", name, value(v)) }

// attributes writes the fields that are there under their own names.
func (b *body) attributes(names ...string) {
	for _, name := range names {
		if v := b.take(name); v != nil {
			b.attribute(name, v)
		}
	}
}

func (b *body) block(name string, fill func(*body)) {
	inner := &body{}
	fill(inner)
	if b.text.Len() > 0 {
		b.text.WriteString("\n")
	}
	fmt.Fprintf(&b.text, "%s {\n%s}\n", name, inner.text.String())
}

// done wants that nothing is left, so that nothing gets lost on the way.
func (b *body) done(what string) (string, error) {
	for _, name := range slices.Sorted(maps.Keys(b.rest)) {
		if b.rest[name] != nil {
			return "", fmt.Errorf("%s has no place for %s; the format json has", what, name)
		}
	}
	return b.text.String(), nil
}

// value writes a JSON value as an expression of HCL. References become attributes of resources.
func value(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case string:
		return template(v)
	case map[string]any:
		var b strings.Builder
		b.WriteString("{\n")
		for _, key := range slices.Sorted(maps.Keys(v)) {
			fmt.Fprintf(&b, "%s = %s\n", quote(key), value(v[key]))
		}
		return b.String() + "}"
	case []any, []string:
		list := items(v)
		texts := make([]string, len(list))
		lines := false
		for i, item := range list {
			texts[i] = value(item)
			_, isMap := item.(map[string]any)
			lines = lines || isMap
		}
		if lines {
			return "[\n" + strings.Join(texts, ",\n") + ",\n]"
		}
		return "[" + strings.Join(texts, ", ") + "]"
	}
	return plain(v)
}

// plain writes a number or a truth value as people do.
func plain(v any) string {
	if n, ok := v.(float64); ok {
		return strconv.FormatFloat(n, 'f', -1, 64)
	}
	return fmt.Sprint(v)
}

// template writes a text in which only references are evaluated.
func template(s string) string {
	found := reference.FindAllStringSubmatchIndex(s, -1)
	if len(found) == 0 {
		return quote(s)
	}
	attribute := func(m []int) string {
		kind, name := declare.Kind(s[m[2]:m[3]]), s[m[4]:m[5]]
		return resourceType(kind) + "." + resourceName(name) + ".id"
	}
	if m := found[0]; m[0] == 0 && m[1] == len(s) {
		return attribute(m)
	}
	var b strings.Builder
	end := 0
	for _, m := range found {
		b.WriteString(inner(s[end:m[0]]) + "${" + attribute(m) + "}")
		end = m[1]
	}
	return `"` + b.String() + inner(s[end:]) + `"`
}

// quote writes a text in which nothing is evaluated.
func quote(s string) string {
	return strings.TrimSpace(string(hclwrite.TokensForValue(cty.StringVal(s)).Bytes()))
}

func inner(s string) string {
	quoted := quote(s)
	return quoted[1 : len(quoted)-1]
}
