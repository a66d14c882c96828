package declare

import (
	"slices"

	"github.com/latamctl/latamctl/pkg/monitor/query"
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
	return []string{"env", "service", "version", "host", "kube_cluster_name", "kube_namespace", "kube_deployment", "pod_name",
		"kube_container_name", "node"}
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
	own := l.ownMetrics()
	var nodes []query.Node
	for _, m := range l.measures {
		nodes = append(nodes, m.expr)
	}
	for _, use := range query.Percentiles(nodes...) {
		if !own[use.Metric].distribution {
			continue
		}
		tags := append([]string{"env", "service"}, use.Tags...)
		slices.Sort(tags)
		reader := l.reader(use.Metric)
		key := Key{Metric, use.Metric}
		l.objects[key] = &Object{
			Key: key, Base: use.Metric, File: reader.at.file.path, At: reader.at.at,
			Payload: map[string]any{"metric": use.Metric, "include_percentiles": true, "tags": anys(slices.Compact(tags))},
		}
	}
}

// reader is the first that reads a metric.
func (l *loader) reader(metric string) measure {
	for _, m := range l.measures {
		for _, s := range query.SeriesOf(m.expr) {
			if s.Metric == metric {
				return m
			}
		}
	}
	return measure{}
}
