package monitortest

import (
	"net/http"
	"slices"

	"github.com/latamctl/latamctl/pkg/monitor/declare"
)

// manageTags is how an answer shows how a metric is kept.
func manageTags(o *entity) map[string]any {
	return map[string]any{"type": "manage_tags", "id": o.id, "attributes": clone(o.body)}
}

// listMetrics answers the configured metrics in pages, when page[size] is given.
func (d *Datadog) listMetrics(r *request) *Response {
	q, answer := numbers(r, map[string]int{"page[size]": 10000, "page[cursor]": 0})
	if answer != nil {
		return answer
	}
	if r.query.Get("filter[configured]") != "true" {
		return problem(http.StatusBadRequest, "only configured metrics are kept here: filter[configured]=true")
	}
	items := []any{}
	for _, o := range d.metrics().all {
		if kind := r.query.Get("filter[metric_type]"); kind == "" || kind == o.body["metric_type"] {
			items = append(items, manageTags(o))
		}
	}
	offset, size := q["page[cursor]"], q["page[size]"]
	body := map[string]any{"data": page(d, declare.Metric, slice(items, offset, size))}
	if r.query.Has("page[size]") {
		var next any
		if offset+size < len(items) {
			next = itoa(offset + size)
		}
		body["meta"] = map[string]any{"pagination": map[string]any{"type": "cursor_limit", "limit": size, "cursor": itoa(offset), "next_cursor": next}}
	}
	return ok(body)
}

func (d *Datadog) metric(r *request) (*entity, *Response) {
	if o := d.metrics().find(r.path[0]); o != nil {
		return o, nil
	}
	return nil, problem(http.StatusNotFound, "%s not found", r.path[0])
}

func (d *Datadog) getMetric(r *request) *Response {
	o, answer := d.metric(r)
	if answer != nil {
		return answer
	}
	return ok(map[string]any{"data": manageTags(o)})
}

// attributes reads and checks the body of a write.
func attributes(r *request, fields map[string]check) (map[string]any, *Response) {
	body, answer := decode(r)
	if answer != nil {
		return nil, answer
	}
	shape := object(map[string]check{"data*": object(map[string]check{"type*": enum("manage_tags"), "id*": text, "attributes": object(fields)})})
	if fault := shape("body", body); fault != "" {
		return nil, problem(http.StatusBadRequest, "%s", fault)
	}
	if get(body, "data", "id") != r.path[0] {
		return nil, problem(http.StatusBadRequest, "the id of the data is not the metric of the path")
	}
	content, _ := get(body, "data", "attributes").(map[string]any)
	if len(strs(content["tags"])) != len(slices.Compact(slices.Sorted(slices.Values(strs(content["tags"]))))) {
		return nil, problem(http.StatusBadRequest, "tags must be unique")
	}
	return content, nil
}

func metricFields() map[string]check {
	return map[string]check{"tags": list(text), "include_percentiles": boolean, "exclude_tags_mode": boolean, "aggregations": list(anything)}
}

func (d *Datadog) createMetric(r *request) *Response {
	fields := metricFields()
	fields["tags*"], fields["metric_type*"] = list(text), enum("gauge", "count", "rate", "distribution")
	delete(fields, "tags")
	content, answer := attributes(r, fields)
	if answer != nil {
		return answer
	}
	if d.metrics().find(r.path[0]) != nil {
		return problem(http.StatusConflict, "tag configuration for %s already exists", r.path[0])
	}
	o, answer := d.newMetric(r.path[0], content)
	if answer != nil {
		return answer
	}
	return &Response{Status: http.StatusCreated, Body: map[string]any{"data": manageTags(o)}}
}

func (d *Datadog) newMetric(name string, content map[string]any) (*entity, *Response) {
	if content["metric_type"] != "distribution" && content["include_percentiles"] != nil {
		return nil, problem(http.StatusBadRequest, "include_percentiles is only for metrics of type distribution")
	}
	content = clone(content)
	now := later(d.o.Now(), nil)
	content["created_at"], content["modified_at"] = now, now
	if content["metric_type"] == "distribution" && content["include_percentiles"] == nil {
		content["include_percentiles"] = false
	}
	o := &entity{id: name, body: content}
	d.metrics().add(o)
	return o, nil
}

func (d *Datadog) updateMetric(r *request) *Response {
	o, answer := d.metric(r)
	if answer != nil {
		return answer
	}
	content, answer := attributes(r, metricFields())
	if answer != nil {
		return answer
	}
	if o.body["metric_type"] != "distribution" && content["include_percentiles"] != nil {
		return problem(http.StatusBadRequest, "include_percentiles is only for metrics of type distribution")
	}
	for name, value := range content {
		o.body[name] = value
	}
	o.body["modified_at"] = later(d.o.Now(), o.body["modified_at"])
	return ok(map[string]any{"data": manageTags(o)})
}

func (d *Datadog) deleteMetric(r *request) *Response {
	o, answer := d.metric(r)
	if answer != nil {
		return answer
	}
	d.metrics().remove(o.id)
	return &Response{Status: http.StatusNoContent}
}
