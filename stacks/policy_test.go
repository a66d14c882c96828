package stacks_test

import (
	"encoding/json"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// planOf plans a stack in a folder of its own state and world. Warnings count as errors.
func planOf(t *testing.T, stack, dir string, env []string, changes map[string]any) plan {
	t.Helper()
	out := t.TempDir()
	file := filepath.Join(out, "tfplan")
	r := terraform(t, dir, env, "plan", "-input=false", "-json", "-lock=false", "-out="+file,
		"-state="+filepath.Join(out, "none.tfstate"), "-var-file="+writeValues(t, stack, out, changes))
	for line := range strings.Lines(r.stdout) {
		var event struct{ Diagnostic *diagnostic }
		if err := json.Unmarshal([]byte(line), &event); err != nil {
			t.Fatalf("read the events of planning stack %s: %v in %s", stack, err, line)
		}
		// One that points into no file is about the flags of this test.
		if d := event.Diagnostic; d != nil && (d.Severity == "error" || d.Range.Filename != "") {
			t.Error(d)
		}
	}
	if r.code != 0 {
		t.Fatalf("plan stack %s: exit %d %s", stack, r.code, r.stderr)
	}
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
