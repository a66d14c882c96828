package query

import (
	_ "embed"
	"slices"
	"strings"

	"github.com/latamctl/latamctl/pkg/strictyaml"
)

// knownCSV has a line for each metric and service check, sorted by name, after a line of titles. The
// names of the Agent's are from the metadata of its checks (github.com/DataDog/integrations-core,
// github.com/DataDog/datadog-agent), those of Google from Datadog's pages about the integrations.
//
//go:embed known.csv
var knownCSV string

// KnownMetric is a metric or a service check that arrives without our doing: from the checks that our
// Agent runs, and from the Google services that we use.
type KnownMetric struct {
	Name string
	Type string // count, gauge, rate or service_check; none of them has percentiles
	Unit string // such as byte, or "" where the source names none
	// Source is who sends it: "agent: kubelet", "google: pubsub". What Google sends is minutes late.
	Source string
	// Tags are those that the source documents. Hosts and settings add others, so a tag that is not
	// here may still be there.
	Tags []string
}

// knownPod are the tags by which the Agent tells pods apart.
const knownPod = "kube_cluster_name kube_namespace kube_deployment kube_stateful_set kube_daemon_set kube_replica_set kube_job kube_cronjob " +
	"kube_ownerref_kind kube_ownerref_name kube_service pod_name pod_phase"

// knownLines returns the lines of knownCSV without the titles.
func knownLines() []string { return strings.Split(strings.TrimSpace(knownCSV), "\n")[1:] }

func knownName(line string) string {
	name, _, _ := strings.Cut(line, ",")
	return name
}

// KnownNames returns the names of all known metrics and service checks, sorted.
func KnownNames() []string {
	names := knownLines()
	for i, line := range names {
		names[i] = knownName(line)
	}
	return names
}

// Lookup finds a known metric or service check.
func Lookup(name string) (KnownMetric, bool) {
	lines := knownLines()
	i, ok := slices.BinarySearchFunc(lines, name, func(line, name string) int { return strings.Compare(knownName(line), name) })
	if !ok {
		return KnownMetric{}, false
	}
	fields := strings.Split(lines[i], ",")
	return KnownMetric{Name: fields[0], Type: fields[1], Unit: fields[2], Source: fields[3], Tags: knownTags(fields[4])}, true
}

// knownTags returns the tags of a line, in which @pod and others stand for sets of tags.
func knownTags(text string) []string {
	text = strings.NewReplacer(
		"@container", knownPod+" kube_container_name container_name container_id image_name image_tag short_image host env service version",
		"@pod", knownPod,
		"@bigtable", "project_id instance cluster zone table app_profile method",
		"@api", "project_id service method version location credential_id protocol response_code response_code_class grpc_status_code",
		"@load-balancer", "project_id url_map_name forwarding_rule_name target_proxy_name backend_target_name backend_target_type backend_name "+
			"backend_type backend_scope matched_url_path_rule region protocol proxy_continent client_country cache_result response_code response_code_class",
	).Replace(text)
	return strings.Fields(text)
}

// Nearest returns the known metric or service check that name was probably meant to be, or "".
func Nearest(name string) string { return strictyaml.Nearest(name, KnownNames()) }
