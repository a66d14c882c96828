package stacks_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// badPlan is a plan that breaks a rule, as the resources of `terraform show -json`.
type badPlan struct{ rule, what, resources, finding string }

// bad has at least one plan for each rule that breaks it.
var bad = []badPlan{
	{"no basic roles", "an owner", `{"type": "google_project_iam_member", "change": {"after": {"role": "roles/owner"}}}`, "grants roles/owner"},
	{"no basic roles", "an editor", `{"type": "google_project_iam_member", "change": {"after": {"role": "roles/editor"}}}`, "grants roles/editor"},
	{"no basic roles", "a viewer of everything", `{"type": "google_project_iam_member", "change": {"after": {"role": "roles/viewer"}}}`, "grants roles/viewer"},
	{"no public members", "a topic for everybody", `{"type": "google_pubsub_topic_iam_member", "change": {"after": {"member": "allUsers"}}}`, "open to anybody"},
	{"no public members", "a list with everybody", `{"type": "google_storage_bucket_iam_binding", "change": {"after": {"members": ["user:a@example.com", "allAuthenticatedUsers"]}}}`, "open to anybody"},
	{"no service account keys", "a key", `{"type": "google_service_account_key", "change": {"after": {}}}`, "a key that can leak"},
	{"grants add, they do not replace", "a binding on the project", `{"type": "google_project_iam_binding", "change": {"after": {"role": "roles/pubsub.admin"}}}`, "removes what others granted"},
	{"private nodes", "a cluster without a word on it", `{"type": "google_container_cluster", "change": {"after": {}}}`, "ip_endpoints_config.enabled"},
	{"private nodes", "a control plane with an address", `{"type": "google_container_cluster", "change": {"after": {
		"control_plane_endpoints_config": [{"ip_endpoints_config": [{"enabled": true}]}], "private_cluster_config": [{"enable_private_nodes": true}]}}}`, "ip_endpoints_config.enabled"},
	{"private nodes", "nodes with addresses", `{"type": "google_container_cluster", "change": {"after": {
		"control_plane_endpoints_config": [{"ip_endpoints_config": [{"enabled": false}]}], "private_cluster_config": [{"enable_private_nodes": false}]}}}`, "private_cluster_config"},
	{"private nodes", "a pool with addresses", `{"type": "google_container_node_pool", "change": {"after": {"network_config": [{"enable_private_nodes": false}]}}}`, "network_config"},
	{"workload identity", "no pool of identities", `{"type": "google_container_cluster", "change": {"after": {"workload_identity_config": []}}}`, "no workload pool"},
	{"workload identity", "pods as nodes", `{"type": "google_container_node_pool", "change": {"after": {"node_config": [{"workload_metadata_config": [{"mode": "GCE_METADATA"}]}]}}}`, "take the nodes' identity"},
	{"hardened nodes", "no secure boot", `{"type": "google_container_node_pool", "change": {"after": {"node_config": [{"shielded_instance_config": [{"enable_secure_boot": false, "enable_integrity_monitoring": true}]}]}}}`, "not shielded"},
	{"hardened nodes", "the old metadata server", `{"type": "google_container_node_pool", "change": {"after": {"node_config": [{"shielded_instance_config": [{"enable_secure_boot": true, "enable_integrity_monitoring": true}]}]}}}`, "legacy metadata"},
	{"hardened nodes", "a kubelet that talks", `{"type": "google_container_node_pool", "change": {"after": {"node_config": [{"metadata": {"disable-legacy-endpoints": "true"},
		"shielded_instance_config": [{"enable_secure_boot": true, "enable_integrity_monitoring": true}]}]}}}`, "kubelets"},
	{"hardened nodes", "the default account", `{"type": "google_container_node_pool", "change": {"after": {"node_config": [{"metadata": {"disable-legacy-endpoints": "true"},
		"kubelet_config": [{"insecure_kubelet_readonly_port_enabled": "FALSE"}],
		"shielded_instance_config": [{"enable_secure_boot": true, "enable_integrity_monitoring": true}]}]}}}`, "default account"},
	{"safe buckets", "access lists", `{"type": "google_storage_bucket", "change": {"after": {"public_access_prevention": "enforced", "versioning": [{"enabled": true}]}}}`, "uniform_bucket_level_access"},
	{"safe buckets", "a bucket that can be public", `{"type": "google_storage_bucket", "change": {"after": {"uniform_bucket_level_access": true, "public_access_prevention": "inherited", "versioning": [{"enabled": true}]}}}`, "public_access_prevention"},
	{"safe buckets", "no versions", `{"type": "google_storage_bucket", "change": {"after": {"uniform_bucket_level_access": true, "public_access_prevention": "enforced"}}}`, "no older versions"},
	{"safe buckets", "a bucket that takes its objects along", `{"type": "google_storage_bucket", "change": {"after": {"uniform_bucket_level_access": true, "public_access_prevention": "enforced", "versioning": [{"enabled": true}], "force_destroy": true}}}`, "deleted with what is in it"},
	{"closed firewall", "the whole internet", `{"type": "google_compute_firewall", "change": {"after": {"direction": "INGRESS", "source_ranges": ["10.0.0.0/8", "0.0.0.0/0"], "allow": [{"protocol": "tcp"}]}}}`, "from 0.0.0.0/0"},
	{"closed firewall", "the whole internet, version 6", `{"type": "google_compute_firewall", "change": {"after": {"direction": "INGRESS", "source_ranges": ["::/0"], "allow": [{"protocol": "tcp"}]}}}`, "from ::/0"},
	{"closed firewall", "half of the internet", `{"type": "google_compute_firewall", "change": {"after": {"source_ranges": ["128.0.0.0/1"], "allow": [{"protocol": "tcp"}]}}}`, "from 128.0.0.0/1"},
	{"closed firewall", "no source", `{"type": "google_compute_firewall", "change": {"after": {"direction": "INGRESS", "source_ranges": null, "allow": [{"protocol": "tcp"}]}}}`, "names no source"},
	{"one repository signs in", "no condition", `{"type": "google_iam_workload_identity_pool_provider", "change": {"after": {}}}`, "more than one repository"},
	{"one repository signs in", "names instead of ids", `{"type": "google_iam_workload_identity_pool_provider", "change": {"after": {"attribute_condition": "assertion.repository == 'latam/data'"}}}`, "more than one repository"},
	{"one repository signs in", "a way around", `{"type": "google_iam_workload_identity_pool_provider", "change": {"after": {
		"attribute_condition": "assertion.repository_id == '1' && assertion.repository_owner_id == '2' || true"}}}`, "more than one repository"},
	{"one repository signs in", "the whole pool", `{"type": "google_service_account_iam_member", "change": {"after": {
		"member": "principalSet://iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/latam-github/*"}}}`, "everybody of a pool"},
	{"protected data", "an instance", `{"type": "google_bigtable_instance", "change": {"after": {"deletion_protection": false}}}`, "not protected"},
	{"protected data", "a table", `{"type": "google_bigtable_table", "change": {"after": {"deletion_protection": "UNPROTECTED"}}}`, "not protected"},
	{"labels", "a provider without defaults", `{"type": "google_pubsub_topic", "provider_name": "registry.terraform.io/hashicorp/google", "change": {"after": {}, "after_unknown": {"terraform_labels": true}}}`, "default_labels"},
	{"labels", "labels of the user's", `{"type": "google_monitoring_notification_channel", "change": {"after": {"user_labels": null}}}`, "no user_labels"},
	{"labels", "nodes", `{"type": "google_container_node_pool", "change": {"after": {"node_config": [{}]}}}`, "without resource_labels"},
}

// parsePlan makes a plan whose google-beta provider has default labels, as every stack's has.
func parsePlan(t *testing.T, resources string) plan {
	t.Helper()
	var p plan
	text := `{"resource_changes": [` + resources + `], "configuration": {"provider_config": {"google-beta": {
		"full_name": "registry.terraform.io/hashicorp/google-beta", "expressions": {"default_labels": {"references": ["var.labels"]}}}}}}`
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		t.Fatal(err)
	}
	for i := range p.Changes {
		p.Changes[i].Mode, p.Changes[i].Address = "managed", p.Changes[i].Type+".bad"
	}
	return p
}

func TestRulesFindWhatIsBad(t *testing.T) {
	t.Parallel()
	proven := map[string]bool{"one provider of Google's": true} // It is about no resource.
	for _, tt := range slices.Concat(bad, badPlatform) {
		proven[tt.rule] = true
		t.Run(tt.rule+"/"+tt.what, func(t *testing.T) {
			t.Parallel()
			p := parsePlan(t, tt.resources)
			for _, rule := range rules {
				if rule.name != tt.rule {
					continue
				}
				if got := strings.Join(rule.broken(p), "\n"); !strings.Contains(got, tt.finding) {
					t.Errorf("found %q, want something with %q", got, tt.finding)
				}
				return
			}
			t.Errorf("there is no rule %q", tt.rule)
		})
	}
	for _, rule := range rules {
		if !proven[rule.name] {
			t.Errorf("no bad plan shows that %q finds anything", rule.name)
		}
	}
}

func TestRulesLetGoodOnesPass(t *testing.T) {
	t.Parallel()
	p := parsePlan(t, `
		{"type": "google_compute_firewall", "change": {"after": {"direction": "INGRESS", "source_ranges": ["0.0.0.0/0"], "deny": [{"protocol": "all"}], "log_config": [{"metadata": "EXCLUDE_ALL_METADATA"}]}}},
		{"type": "google_compute_firewall", "change": {"after": {"direction": "INGRESS", "source_ranges": ["10.10.0.0/20"], "allow": [{"protocol": "tcp"}]}}},
		{"type": "google_project_iam_member", "change": {"after": {"role": "roles/pubsub.viewer", "member": "serviceAccount:a@b.iam.gserviceaccount.com"}}},
		{"type": "google_pubsub_topic", "provider_name": "registry.terraform.io/hashicorp/google-beta", "change": {
			"after": {"message_storage_policy": [{"allowed_persistence_regions": ["us-central1"]}]}, "after_unknown": {"terraform_labels": true}}},
		{"type": "google_bigquery_table", "change": {"after": {"view": [{"query": "SELECT 1"}]}}},
		{"type": "google_apikeys_key", "change": {"after": {"restrictions": [{"api_targets": [{}]}]}, "after_unknown": {"restrictions": [{"api_targets": [{"service": true}]}]}}},
		{"type": "google_compute_ssl_policy", "change": {"after": {"min_tls_version": "TLS_1_2", "profile": "MODERN"}}},
		{"type": "google_service_account_iam_member", "change": {"after": {"role": "roles/iam.workloadIdentityUser", "member": "serviceAccount:my-project.svc.id.goog[latam/serve]"}}},
		{"type": "google_service_account_key", "change": {"actions": ["delete"], "after": null}}`)
	for _, rule := range rules {
		for _, finding := range rule.broken(p) {
			t.Errorf("%s: %s", rule.name, finding)
		}
	}
}

func TestStacksMayGrantAndUseOnlyWhatBootstrapGives(t *testing.T) {
	t.Parallel()
	plans := map[string]plan{
		"bootstrap": parsePlan(t, `
			{"type": "google_project_service", "change": {"after": {"service": "cloudresourcemanager.googleapis.com"}}},
			{"type": "google_project_service", "change": {"after": {"service": "serviceusage.googleapis.com"}}},
			{"type": "google_project_iam_member", "change": {"after": {"role": "roles/resourcemanager.projectIamAdmin",
				"condition": [{"expression": "api.getAttribute('iam.googleapis.com/modifiedGrantsByRole', []).hasOnly(['roles/browser'])"}]}}}`),
		"good": parsePlan(t, `
			{"type": "google_project_iam_member", "change": {"after": {"role": "roles/browser"}}}`),
	}
	if got := slices.Concat(notGrantable(plans), notEnabled(plans), untagged(plans)); len(got) > 0 {
		t.Errorf("found %q in good plans", got)
	}
	plans["bad"] = parsePlan(t, `
		{"type": "google_project_iam_member", "change": {"after": {"role": "roles/bigtable.admin"}}},
		{"type": "google_dns_record_set", "change": {"after": {}}},
		{"type": "google_compute_firewall", "change": {"after": {"target_tags": ["latam-node"]}}},
		{"type": "google_sql_database", "change": {"after": {}}}`)
	if got := strings.Join(notGrantable(plans), "\n"); !strings.Contains(got, "bad: google_project_iam_member.bad grants roles/bigtable.admin") {
		t.Errorf("not found: a role that the identity that applies may not grant; got %q", got)
	}
	if got := untagged(plans); len(got) != 1 || !strings.Contains(got[0], "latam-node, which no node has") {
		t.Errorf("not found: a rule about no node; got %q", got)
	}
	got := strings.Join(notEnabled(plans), "\n")
	for _, want := range []string{"needs dns.googleapis.com", "which API google_sql_database needs"} {
		if !strings.Contains(got, want) {
			t.Errorf("not found: %q; got %q", want, got)
		}
	}
}
