package declare

import (
	"slices"
	"strings"

	"github.com/latamctl/latamctl/pkg/monitor/query"
	"github.com/latamctl/latamctl/pkg/strictyaml"
	"github.com/latamctl/latamctl/pkg/telemetry"
)

// measure is an expression that an object reads, with the place where it stands.
type measure struct {
	expr query.Node
	at   *value
	in   *instance
}

// ownMetric is a metric that our services or the team's own ones send.
type ownMetric struct {
	distribution bool
	tags         []string
	bounds       []float64
	unit         string
}

// resourceTags are on every metric of a service, whatever its attributes: from its resource and from
// the Agent that passes it on.
func resourceTags() []string {
	return []string{"env", "service", "version", "host", "node", "pod_name", "pod_phase", "container_name", "container_id", "image_name",
		"image_tag", "short_image", "cluster_name", "project_id", "zone", "region", "availability-zone", "instance-type", "team"}
}

// ownMetrics are the metrics of the catalogue and those that are declared.
func (l *loader) ownMetrics() map[string]ownMetric {
	out := map[string]ownMetric{}
	for _, m := range telemetry.Catalogue() {
		out[m.Name] = ownMetric{distribution: m.Kind == telemetry.KindHistogram, tags: m.Attributes, bounds: m.Bounds, unit: m.Unit}
	}
	for name, n := range l.metrics {
		m := ownMetric{distribution: n.tree.get("type").text() == "distribution", unit: n.tree.get("unit").text()}
		for _, tag := range n.tree.get("tags").texts() {
			m.tags = append(m.tags, tag.text())
		}
		for _, bound := range n.tree.get("bounds").texts() {
			if b, ok := bound.number(); ok {
				m.bounds = append(m.bounds, b)
			}
		}
		out[name] = m
	}
	return out
}

// compileMetrics makes an object of every distribution of ours whose percentiles are read. Datadog keeps
// them, and keeps the tags, only when it is told to.
func (l *loader) compileMetrics() {
	var nodes []query.Node
	readers := map[string]measure{} // the first of each metric
	for _, m := range l.measures {
		nodes = append(nodes, m.expr)
		for _, s := range query.SeriesOf(m.expr) {
			if _, ok := readers[s.Metric]; !ok {
				readers[s.Metric] = m
			}
		}
	}
	for _, use := range query.Percentiles(nodes...) {
		if !l.own[use.Metric].distribution {
			continue
		}
		tags := append([]string{"env", "service"}, use.Tags...)
		slices.Sort(tags)
		reader := readers[use.Metric]
		key := Key{Metric, use.Metric}
		l.objects[key] = &Object{
			Key: key, Base: use.Metric, File: reader.at.file.path, At: reader.at.at,
			Payload: map[string]any{"metric": use.Metric, "include_percentiles": true, "tags": anys(slices.Compact(tags))},
		}
	}
}

// lintMeasures checks that the metrics and tags that are read are there to be read.
func (l *loader) lintMeasures() {
	for _, m := range l.measures {
		where := m.in.where()
		for _, s := range query.SeriesOf(m.expr) {
			metric, ok := l.own[s.Metric]
			if !ok {
				l.lintForeign(m, s, where)
				continue
			}
			if len(query.Percentiles(s)) > 0 && !metric.distribution {
				m.at.fault("", "the query%s asks for percentiles of %s, which is no distribution", where, s.Metric)
			}
			for _, tag := range query.Uses(s)[0].Tags {
				if !slices.Contains(metric.tags, tag) && !isResourceTag(tag) {
					m.at.fault(l.hint(tag, "tags of it", func() []string { return slices.Concat(metric.tags, resourceTags()) }),
						"the query%s reads %s by the tag %s, which it does not have", where, s.Metric, quote(tag))
				}
			}
		}
	}
	for _, in := range l.order {
		if in.object == nil {
			continue
		}
		if check, ok := in.object.Query.(*query.Check); ok {
			if _, ok := query.Lookup(check.Name); !ok {
				l.warn("monitor %s: the service check %s is not known here; a check that nobody runs is silent", in.key.Name, check.Name)
			}
		}
	}
}

// lintForeign checks a metric that is not ours: of the Agent or of Google.
func (l *loader) lintForeign(m measure, s *query.Series, where string) {
	known, ok := query.Lookup(s.Metric)
	switch {
	case !ok:
		m.at.fault(l.unknownMetric(s.Metric), "the query%s reads the metric %s, which nothing sends", where, quote(s.Metric))
	case known.Type == "service_check":
		m.at.fault("write a monitor of type service check", "the query%s reads the service check %s as a metric", where, s.Metric)
	case len(query.Percentiles(s)) > 0:
		m.at.fault("", "the query%s asks for percentiles of %s, which has none", where, s.Metric)
	}
}

func (l *loader) unknownMetric(name string) string {
	const declare = "declare it under metrics if a service of yours sends it"
	if l.top.limits.hints++; l.top.limits.hints > maxHints {
		return declare
	}
	near := strictyaml.Nearest(name, sortedKeys(l.own))
	if near == "" {
		near = query.Nearest(name)
	}
	if near == "" {
		return declare
	}
	return "did you mean " + quote(near) + "? Otherwise " + declare
}

// isResourceTag tells whether the Agent or Google's side adds a tag to every metric of a pod.
func isResourceTag(tag string) bool {
	return slices.Contains(resourceTags(), tag) || strings.HasPrefix(tag, "kube_")
}
