package stacks_test

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// flights are the values of every variable for the flights example, by the names of the catalogue.
const flights = `{
	"project": "latam-prod", "region": "us-central1", "name": "latam", "environment": "prod",
	"labels": {"app": "latam", "environment": "prod", "managed-by": "latamctl"},
	"state_bucket": "latam-prod-latam-tfstate", "adopt_state_bucket": false,
	"github_repository": "latam/data", "github_repository_id": "4242", "github_owner_id": "77",
	"network": "latam", "subnetwork": "latam", "pods_range": "pods", "services_range": "services", "router": "latam",
	"network_cidr": "10.10.0.0/20", "pods_cidr": "10.20.0.0/14", "services_cidr": "10.24.0.0/20",
	"registry": "latam",
	"datasets": {"flights": {
		"topic": "flights", "subscription": "flights-ingest", "dead_letter_topic": "flights-dead",
		"dead_letter_subscription": "flights-dead-inspect", "bigquery_subscription": "flights-bigquery",
		"bigquery_dead_letter_topic": "flights-bigquery-dead",
		"bigquery_dead_letter_subscription": "flights-bigquery-dead-inspect",
		"table": "flights", "index_tables": ["flights-by_destination"], "retention_seconds": 34560000, "split_keys": [],
		"columns": [
			{"name": "origin", "type": "STRING", "mode": "REQUIRED", "description": "IATA code"},
			{"name": "departed_at", "type": "TIMESTAMP", "mode": "REQUIRED", "description": ""},
			{"name": "destination", "type": "STRING", "mode": "REQUIRED", "description": "IATA code"},
			{"name": "delay_minutes", "type": "INTEGER", "mode": "NULLABLE", "description": ""}],
		"key": ["origin", "departed_at", "destination"], "time": "departed_at",
		"bigquery_table": "flights", "bigquery_view": "flights_latest", "bigquery_external": "flights_live"}},
	"message_retention_seconds": 604800, "dead_letter_attempts": 20,
	"bigtable_instance": "latam", "bigtable_storage": "SSD", "bigtable_zones": ["us-central1-b"],
	"bigtable_min_nodes": 1, "bigtable_max_nodes": 10, "bigtable_cpu_target": 60, "backup_retention_days": 7,
	"deletion_protection": true,
	"bigquery_dataset": "latam", "bigquery_location": "us-central1",
	"cluster": "latam", "node_machine_type": "e2-standard-4", "release_channel": "REGULAR", "node_min": 1, "node_max": 5,
	"maintenance_start": "2026-01-03T04:00:00Z", "maintenance_recurrence": "FREQ=WEEKLY;BYDAY=SA,SU",
	"ingest_account": "latam-ingest", "serve_account": "latam-serve", "node_account": "latam-nodes",
	"gateway_account": "latam-gateway", "plan_account": "latam-plan", "apply_account": "latam-apply",
	"namespace": "latam", "backend_host": "backend.latam.example.com", "dns_zone": "latam", "address": "latam-api",
	"gateway": "latam", "gateway_api": "latam", "api_consumers": ["airports"],
	"gateway_document": "openapi: 3.0.4\ninfo: {title: latam, version: \"1\"}\npaths: {}\n",
	"billing_account": "000000-AAAAAA-BBBBBB", "budget_currency": "USD", "budget_amount": 750.5,
	"budget_thresholds": [0.5, 0.9, 1.0], "budget_emails": ["data@example.com"],
	"datadog_site": "datadoghq.com", "datadog_secret": "datadog-keys",
	"datadog_integration_email": "ddgci-0123@datadog-gci-sts.iam.gserviceaccount.com",
	"cluster_endpoint": "gke-0123.us-central1.gke.goog", "cluster_ca": ""
}`

var declared = regexp.MustCompile(`(?m)^variable "(\w+)"`)

// writeValues writes the values of a stack's variables, with changes, and returns the file.
func writeValues(t *testing.T, stack, dir string, changes map[string]any) string {
	t.Helper()
	all := map[string]any{}
	if err := json.Unmarshal([]byte(flights), &all); err != nil {
		t.Fatal(err)
	}
	maps.Copy(all, changes)
	values := map[string]any{}
	for _, m := range declared.FindAllStringSubmatch(read(t, filepath.Join(stack, "variables.tf")), -1) {
		value, ok := all[m[1]]
		if !ok {
			t.Fatalf("stack %s has the variable %s, which is no input of the catalogue", stack, m[1])
		}
		values[m[1]] = value
	}
	data, err := json.Marshal(values)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "values.tfvars.json")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// planOf plans a stack in a folder of its own state and world.
func planOf(t *testing.T, stack, dir string, env []string, changes map[string]any) plan {
	t.Helper()
	out := t.TempDir()
	file := filepath.Join(out, "tfplan")
	must(t, dir, env, "plan", "-input=false", "-no-color", "-lock=false", "-out="+file,
		"-state="+filepath.Join(out, "none.tfstate"), "-var-file="+writeValues(t, stack, out, changes))
	var p plan
	if err := json.Unmarshal([]byte(must(t, dir, env, "show", "-json", file)), &p); err != nil {
		t.Fatalf("read the plan of stack %s: %v", stack, err)
	}
	if len(p.Changes) == 0 {
		t.Fatalf("the plan of stack %s holds no resource", stack)
	}
	return p
}

// TestPolicies plans every stack as for production and holds the plan to every rule.
func TestPolicies(t *testing.T) {
	t.Parallel()
	needMirror(t)
	if testing.Short() {
		t.Skip("plans every stack")
	}
	var mu sync.Mutex
	plans := map[string]plan{}
	t.Run("each", func(t *testing.T) {
		for _, stack := range stackNames(t) {
			t.Run(stack, func(t *testing.T) {
				t.Parallel()
				p := planOf(t, stack, sharedCopy(t, stack), nil, nil)
				mu.Lock()
				plans[stack] = p
				mu.Unlock()
				for _, rule := range rules {
					for _, finding := range rule.broken(p) {
						t.Errorf("breaks %s: %s", rule.name, finding)
					}
				}
				for _, finding := range deprecated(t, p) {
					t.Error(finding)
				}
			})
		}
	})
	if t.Failed() || len(plans["bootstrap"].Changes) == 0 {
		return
	}
	t.Run("grantable", func(t *testing.T) {
		for _, finding := range notGrantable(plans) {
			t.Error(finding)
		}
	})
	t.Run("powerful roles", func(t *testing.T) {
		for _, finding := range tooPowerful(plans) {
			t.Error(finding)
		}
	})
	t.Run("tags", func(t *testing.T) {
		for _, finding := range untagged(plans) {
			t.Error(finding)
		}
	})
	t.Run("apis", func(t *testing.T) {
		for _, finding := range notEnabled(plans) {
			t.Error(finding)
		}
	})
}

// notGrantable finds roles on the project that a stack grants and the identity that applies may not.
func notGrantable(plans map[string]plan) []string {
	var condition string
	for _, r := range plans["bootstrap"].ofType("google_project_iam_member") {
		if r.text("role") == "roles/resourcemanager.projectIamAdmin" {
			condition = r.block("condition").text("expression")
		}
	}
	var out []string
	for _, stack := range slices.Sorted(maps.Keys(plans)) {
		if stack == "bootstrap" {
			continue
		}
		for _, r := range plans[stack].ofType("google_project_iam_member") {
			if role := r.text("role"); !strings.Contains(condition, "'"+role+"'") {
				out = append(out, stack+": "+r.Address+" grants "+role+": add it to grantable_roles in bootstrap/identities.tf")
			}
		}
	}
	return out
}

// services says which API each family of resources needs.
var services = []struct{ prefix, api string }{
	{"google_api_gateway_", "apigateway"},
	{"google_apikeys_", "apikeys"},
	{"google_artifact_registry_", "artifactregistry"},
	{"google_bigquery_", "bigquery"},
	{"google_bigtable_", "bigtableadmin"},
	{"google_billing_budget", "billingbudgets"},
	{"google_certificate_manager_", "certificatemanager"},
	{"google_compute_", "compute"},
	{"google_container_", "container"},
	{"google_dns_", "dns"},
	{"google_iam_", "iam"},
	{"google_logging_", "logging"},
	{"google_monitoring_", "monitoring"},
	{"google_project_iam_custom_role", "iam"},
	{"google_project_iam_", "cloudresourcemanager"},
	{"google_project_service_identity", "serviceusage"},
	{"google_project_service", "serviceusage"},
	{"google_pubsub_", "pubsub"},
	{"google_service_account", "iam"},
	{"google_storage_", "storage"},
	{"helm_", ""},
	{"kubernetes_", ""},
	{"terraform_data", ""},
}

// notEnabled finds resources whose API bootstrap does not enable.
func notEnabled(plans map[string]plan) []string {
	enabled := map[string]bool{}
	for _, r := range plans["bootstrap"].ofType("google_project_service") {
		enabled[strings.TrimSuffix(r.text("service"), ".googleapis.com")] = true
	}
	var out []string
	for _, stack := range slices.Sorted(maps.Keys(plans)) {
		for _, r := range plans[stack].resources() {
			i := slices.IndexFunc(services, func(s struct{ prefix, api string }) bool { return strings.HasPrefix(r.Type, s.prefix) })
			switch {
			case i < 0:
				out = append(out, stack+": say in services which API "+r.Type+" needs")
			case services[i].api != "" && !enabled[services[i].api]:
				out = append(out, stack+": "+r.Address+" needs "+services[i].api+".googleapis.com: add it to bootstrap/main.tf")
			}
		}
	}
	return out
}

// untagged finds firewall rules that are about a tag which no node has: they would let nothing in.
func untagged(plans map[string]plan) []string {
	tags := map[string]bool{}
	for _, p := range plans {
		for _, r := range p.ofType("google_container_node_pool") {
			for _, tag := range r.block("node_config").list("tags") {
				tags[tag] = true
			}
		}
	}
	var out []string
	for _, stack := range slices.Sorted(maps.Keys(plans)) {
		for _, r := range plans[stack].ofType("google_compute_firewall") {
			for _, tag := range r.list("target_tags") {
				if !tags[tag] {
					out = append(out, stack+": "+r.Address+" is about the tag "+tag+", which no node has")
				}
			}
		}
	}
	return out
}
