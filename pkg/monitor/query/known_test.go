package query_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/latamctl/latamctl/pkg/monitor/query"
)

func TestKnownIsSortedAndWhole(t *testing.T) {
	t.Parallel()
	names := query.KnownNames()
	if len(names) < 500 {
		t.Fatalf("there are only %d metrics", len(names))
	}
	for i, name := range names {
		if i > 0 && names[i-1] >= name {
			t.Errorf("%s stands after %s", name, names[i-1])
		}
		m, ok := query.Lookup(name)
		if !ok || m.Name != name {
			t.Errorf("%s is not found", name)
		}
		if !slices.Contains([]string{"count", "gauge", "rate", "service_check"}, m.Type) {
			t.Errorf("%s is a %q", name, m.Type)
		}
		if kind, _, ok := strings.Cut(m.Source, ": "); !ok || (kind != "google") == strings.HasPrefix(name, "gcp.") {
			t.Errorf("%s comes from %q", name, m.Source)
		}
		if m.Type == "service_check" {
			continue
		}
		if _, err := query.ParseSeries("avg:" + name + "{*}"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if slices.ContainsFunc(m.Tags, func(tag string) bool { return strings.HasPrefix(tag, "@") }) {
			t.Errorf("%s has the tags %v", name, m.Tags)
		}
		for _, tag := range m.Tags {
			if _, err := query.ParseSeries("avg:" + name + "{" + tag + ":x} by {" + tag + "}"); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func TestLookup(t *testing.T) {
	t.Parallel()
	for _, name := range strings.Fields(`
		system.net.tcp.retrans_segs system.net.tcp.out_segs kubernetes.network.rx_dropped kubernetes.network.tx_dropped
		system.net.packets_in.error system.net.packets_out.error system.net.packets_in.count system.net.packets_out.count
		gcp.serviceruntime.api.request_count kubernetes.network.rx_bytes system.net.bytes_sent
		gcp.bigtable.client.connectivity_error_count kubernetes_state.node.network_unavailable
		gcp.pubsub.topic.message_sizes.samplecount gcp.pubsub.topic.send_request_count
		gcp.pubsub.subscription.oldest_unacked_message_age gcp.pubsub.subscription.num_undelivered_messages
		gcp.pubsub.subscription.dead_letter_message_count gcp.pubsub.subscription.expired_ack_deadlines_count
		gcp.bigtable.server.error_count gcp.bigtable.server.request_count gcp.bigtable.server.latencies.avg
		gcp.bigtable.cluster.cpu_load gcp.bigtable.cluster.cpu_load_hottest_node gcp.bigtable.cluster.storage_utilization
		gcp.bigquery.query.execution_times.avg
		kubernetes.cpu.usage.total kubernetes.cpu.limits kubernetes.cpu.cfs.throttled.periods kubernetes.cpu.cfs.periods
		system.cpu.idle kubernetes.memory.working_set kubernetes.memory.limits system.mem.pct_usable system.disk.in_use
		kubernetes.kubelet.volume.stats.used_bytes kubernetes.kubelet.volume.stats.capacity_bytes
		kubernetes_state.node.by_condition kubernetes_state.node.status
		kubernetes_state.deployment.replicas_desired kubernetes_state.deployment.replicas_available
		kubernetes_state.hpa.current_replicas kubernetes_state.hpa.max_replicas
		kubernetes_state.container.status_report.count.waiting kubernetes_state.container.status_report.count.terminated
		kubernetes.containers.restarts kubernetes_state.job.complete gcp.serviceruntime.api.request_latencies.avg
		gcp.serviceruntime.api.request_latencies_backend.avg gcp.serviceruntime.api.request_latencies_overhead.avg`) {
		if _, ok := query.Lookup(name); !ok {
			t.Errorf("%s is not known", name)
		}
	}
	// Nothing of checks that our Agent does not run, and nothing that integrations do not send.
	for _, name := range []string{
		"datadog.network_path.path.reachable", "http.can_connect", "system.core.user", "kubernetes_state.vpa.target",
		"gcp.bigtable.server.latencies", "gcp.bigtable.server.latencies.p95", "name", "",
	} {
		if m, ok := query.Lookup(name); ok {
			t.Errorf("%s is known: %v", name, m)
		}
	}
	m, _ := query.Lookup("kubernetes.memory.limits")
	if m.Type != "gauge" || m.Unit != "byte" || m.Source != "agent: kubelet" || !slices.Contains(m.Tags, "kube_deployment") {
		t.Errorf("got %+v", m)
	}
}

func TestNearest(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"kubernetes.memory.limit":                         "kubernetes.memory.limits",
		"gcp.pubsub.subscription.num_undelivered_mesages": "gcp.pubsub.subscription.num_undelivered_messages",
		"gcp.bigtable.server.latencies":                   "gcp.bigtable.server.latencies.avg",
		"something.else.altogether":                       "",
	} {
		if got := query.Nearest(name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}
