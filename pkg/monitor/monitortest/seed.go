package monitortest

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"

	"github.com/latamctl/latamctl/pkg/monitor/declare"
)

// Add makes an object as its create would, without keys, limits and faults, and returns its id.
// The payload of a metric is {"metric": name, "metric_type": …, "include_percentiles": …, "tags": […]}.
func (d *Datadog) Add(kind declare.Kind, payload map[string]any) (string, error) {
	body, err := plain(payload)
	if err != nil {
		return "", fmt.Errorf("add a %s: %w", kind, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	o, err := d.add(kind, body)
	if err != nil {
		return "", err
	}
	return o.id, nil
}

func (d *Datadog) add(kind declare.Kind, body map[string]any) (*entity, error) {
	var o *entity
	var answer *Response
	switch kind {
	case declare.Metric:
		name := str(body["metric"])
		delete(body, "metric")
		if body["metric_type"] == nil {
			body["metric_type"] = "distribution"
		}
		o, answer = d.newMetric(name, body)
	case declare.Monitor:
		o, answer = d.newMonitor(body)
	case declare.SLO:
		o, answer = d.newSLO(body)
	case declare.Dashboard:
		o, answer = d.newDashboard(body)
	default:
		return nil, fmt.Errorf("add an object: there is no kind %q", kind)
	}
	if answer != nil {
		return nil, fmt.Errorf("add a %s: %s", kind, answer.bytes())
	}
	return o, nil
}

// Edit changes an object as someone does in Datadog's pages. The change is not checked.
func (d *Datadog) Edit(kind declare.Kind, id string, change func(object map[string]any)) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	o := d.kinds[kind].find(id)
	if o == nil {
		return fmt.Errorf("edit %s %s: %s", kind, id, http.StatusText(http.StatusNotFound))
	}
	body := clone(o.body)
	change(body)
	body, err := plain(body)
	if err != nil {
		return fmt.Errorf("edit %s %s: %w", kind, id, err)
	}
	o.body = body
	switch kind {
	case declare.Monitor:
		body["modified"] = later(d.o.Now(), body["modified"])
	case declare.SLO:
		body["modified_at"] = laterSeconds(d.o.Now(), body["modified_at"])
	default:
		body["modified_at"] = later(d.o.Now(), body["modified_at"])
	}
	return nil
}

// Remove deletes an object, whatever needs it.
func (d *Datadog) Remove(kind declare.Kind, id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.kinds[kind].remove(id)
}

// Objects returns copies of the objects of a kind that are not deleted, in the order of their creation.
// Metrics have their name in the field metric.
func (d *Datadog) Objects(kind declare.Kind) []map[string]any {
	d.mu.Lock()
	defer d.mu.Unlock()
	var bodies []map[string]any
	for _, o := range d.kinds[kind].live() {
		body := clone(o.body)
		if kind == declare.Metric {
			body["metric"] = o.id
		}
		bodies = append(bodies, body)
	}
	return bodies
}

// AddForeign makes n objects of all kinds that are not the stack's, however much they look like it.
func (d *Datadog) AddForeign(n int, stack string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range n {
		kind := declare.Kinds()[i%len(declare.Kinds())]
		o, err := d.add(kind, foreign(kind, i, stack))
		if err != nil {
			return err
		}
		o.foreign = true
	}
	return nil
}

// foreign is an object that is nobody's, or another stack's, or lacks one part of the ownership.
func foreign(kind declare.Kind, i int, stack string) map[string]any {
	id := fmt.Sprintf("latamctl_id:%s.ingest-errors", kind)
	owners := [][]any{
		{"team:data"},
		{"managed_by:latamctl", "latamctl_stack:" + stack},
		{"managed_by:latamctl", id},
		{"latamctl_stack:" + stack, id},
		{"managed_by:latamctl", "latamctl_stack:" + stack + "2", id},
		{"managed_by:terraform", "latamctl_stack:" + stack, id},
		{"managed_by:latamctl", "latamctl_stack:" + stack, "latamctl_id:ingest-errors"},
	}
	lines := []string{
		"", fmt.Sprintf("latamctl stack=%s", stack), fmt.Sprintf("latamctl id=%s.ingest-errors hash=1-0123456789ab", kind),
		fmt.Sprintf("latamctl stack=%s2 id=dashboard.system hash=1-0123456789ab", stack),
		fmt.Sprintf("latamctl stack=%s id=dashboard.system hash=1-0123456789ab\nEdited by hand.", stack),
	}
	turn := i / len(declare.Kinds())
	tags := slices.Concat([]any{"env:prod", "service:latam-ingest"}, owners[turn%len(owners)])
	name := fmt.Sprintf("[prod] Ingest: more than 10 errors in a minute %d", i)
	switch kind {
	case declare.Metric:
		return map[string]any{"metric": fmt.Sprintf("latam.ingest.end_to_end.duration%d", i), "include_percentiles": false, "tags": []any{"env"}}
	case declare.Monitor:
		return map[string]any{
			"name": name, "type": "query alert", "message": "Nobody may touch this.", "tags": tags,
			"query":   "max(last_5m):default_zero(sum:latam.errors{env:prod,service:latam-ingest}.as_count().rollup(sum, 60)) > 10",
			"options": map[string]any{"thresholds": map[string]any{"critical": 10.0}, "silenced": map[string]any{"*": nil}},
		}
	case declare.SLO:
		query := func(metric string) map[string]any {
			return map[string]any{"data_source": "metrics", "name": metric, "query": "sum:latam." + metric + "{env:prod}.as_count()"}
		}
		return map[string]any{
			"name": name, "type": "metric", "tags": tags, "thresholds": []any{map[string]any{"timeframe": "30d", "target": 95.0}},
			"sli_specification": map[string]any{"count": map[string]any{
				"good_events_formula": map[string]any{"formula": "good"}, "bad_events_formula": map[string]any{"formula": "bad"},
				"queries": []any{query("good"), query("bad")},
			}},
		}
	}
	return map[string]any{
		"title": name, "layout_type": "ordered", "description": "By hand.\n" + lines[turn%len(lines)],
		"widgets": []any{map[string]any{"definition": map[string]any{"type": "note", "content": "Nobody may touch this."}}},
	}
}

// Checksum is of the foreign objects that are left. It changes when one of them is changed or deleted.
func (d *Datadog) Checksum() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	sum := sha256.New()
	for _, kind := range declare.Kinds() {
		for _, o := range d.kinds[kind].live() {
			if o.foreign {
				text, _ := json.Marshal(o.body)
				fmt.Fprintf(sum, "%s %s %s\n", kind, o.id, text)
			}
		}
	}
	return hex.EncodeToString(sum.Sum(nil))
}
