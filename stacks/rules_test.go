package stacks_test

import (
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// plan is what the rules read of `terraform show -json`.
type plan struct {
	Changes       []planned `json:"resource_changes"`
	Configuration struct {
		Providers map[string]struct {
			FullName    string         `json:"full_name"`
			Expressions map[string]any `json:"expressions"`
		} `json:"provider_config"`
		Root struct {
			Resources []configured `json:"resources"`
		} `json:"root_module"`
	} `json:"configuration"`
}

// configured is one resource or data source as it is written.
type configured struct {
	Address     string         `json:"address"`
	Mode        string         `json:"mode"`
	Type        string         `json:"type"`
	ProviderKey string         `json:"provider_config_key"`
	Expressions map[string]any `json:"expressions"`
}

// planned is one resource that the plan leaves in place.
type planned struct {
	Address  string `json:"address"`
	Mode     string `json:"mode"`
	Type     string `json:"type"`
	Provider string `json:"provider_name"`
	Change   struct {
		Actions   []string `json:"actions"`
		Importing *struct {
			ID string `json:"id"`
		} `json:"importing"`
		After   values `json:"after"`
		Unknown values `json:"after_unknown"`
	} `json:"change"`
}

type values map[string]any

func (p plan) resources() []planned {
	return slices.DeleteFunc(slices.Clone(p.Changes), func(r planned) bool { return r.Mode != "managed" || r.Change.After == nil })
}

func (p plan) ofType(types ...string) []planned {
	return slices.DeleteFunc(p.resources(), func(r planned) bool { return !slices.Contains(types, r.Type) })
}

func (r planned) text(name string) string   { return r.Change.After.text(name) }
func (r planned) block(name string) values  { return r.Change.After.block(name) }
func (r planned) is(name string) bool       { return r.Change.After.is(name) }
func (r planned) blocks(n string) []values  { return r.Change.After.blocks(n) }
func (r planned) list(name string) []string { return r.Change.After.list(name) }

func (v values) text(name string) string { s, _ := v[name].(string); return s }
func (v values) is(name string) bool     { b, _ := v[name].(bool); return b }

func (v values) list(name string) []string {
	items, _ := v[name].([]any)
	out := make([]string, 0, len(items))
	for _, item := range items {
		if s, ok := item.(string); ok {
			out = append(out, s)
		}
	}
	return out
}

func (v values) blocks(name string) []values {
	items, _ := v[name].([]any)
	out := make([]values, 0, len(items))
	for _, item := range items {
		if m, ok := item.(map[string]any); ok {
			out = append(out, m)
		}
	}
	return out
}

// block returns the first block of a name, empty when there is none.
func (v values) block(name string) values {
	if all := v.blocks(name); len(all) > 0 {
		return all[0]
	}
	return values{}
}

// texts are all strings below a value.
func texts(v any) []string {
	var out []string
	switch v := v.(type) {
	case string:
		out = append(out, v)
	case []any:
		for _, item := range v {
			out = append(out, texts(item)...)
		}
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			out = append(out, texts(v[key])...)
		}
	case values:
		return texts(map[string]any(v))
	}
	return out
}

// rule is one thing that no plan may do. It returns what breaks it.
type rule struct {
	name   string
	broken func(plan) []string
}

var rules = append(platformRules, []rule{
	{"no basic roles", basicRoles},
	{"no public members", publicMembers},
	{"no service account keys", accountKeys},
	{"grants add, they do not replace", replacingGrants},
	{"private nodes", privateNodes},
	{"workload identity", workloadIdentity},
	{"hardened nodes", hardenedNodes},
	{"safe buckets", safeBuckets},
	{"closed firewall", closedFirewall},
	{"one repository signs in", oneRepository},
	{"protected data", protectedData},
	{"labels", labelled},
}...)

// each collects what a check finds wrong in resources of some types.
func each(p plan, check func(planned) string, types ...string) []string {
	var out []string
	resources := p.resources()
	if len(types) > 0 {
		resources = p.ofType(types...)
	}
	for _, r := range resources {
		if problem := check(r); problem != "" {
			out = append(out, r.Address+" "+problem)
		}
	}
	return out
}

func basicRoles(p plan) []string {
	return each(p, func(r planned) string {
		for _, role := range append(texts(r.Change.After["access"]), r.text("role")) {
			if slices.Contains([]string{"roles/owner", "roles/editor", "roles/viewer"}, role) {
				return "grants " + role + ": name the roles that are needed"
			}
		}
		return ""
	})
}

func publicMembers(p plan) []string {
	return each(p, func(r planned) string {
		for _, s := range texts(r.Change.After) {
			if strings.Contains(s, "allUsers") || strings.Contains(s, "allAuthenticatedUsers") {
				return "is open to anybody: " + s
			}
		}
		return ""
	})
}

func accountKeys(p plan) []string {
	return each(p, func(planned) string { return "makes a key that can leak: use workload identity" }, "google_service_account_key")
}

// replacingGrants: a binding or policy on a whole project takes away what others granted there.
func replacingGrants(p plan) []string {
	return each(p, func(planned) string { return "removes what others granted: use google_project_iam_member" },
		"google_project_iam_binding", "google_project_iam_policy", "google_bigquery_dataset_iam_policy", "google_storage_bucket_iam_policy")
}

func privateNodes(p plan) []string {
	return append(
		each(p, func(r planned) string {
			ip := r.block("control_plane_endpoints_config").block("ip_endpoints_config")
			if on, set := ip["enabled"].(bool); !set || on {
				return "has a control plane with an address: ip_endpoints_config.enabled must be false"
			}
			if !r.block("private_cluster_config").is("enable_private_nodes") {
				return "has nodes with external addresses: private_cluster_config.enable_private_nodes must be true"
			}
			return ""
		}, "google_container_cluster"),
		each(p, func(r planned) string {
			if !r.block("network_config").is("enable_private_nodes") {
				return "has nodes with external addresses: network_config.enable_private_nodes must be true"
			}
			return ""
		}, "google_container_node_pool")...)
}

func workloadIdentity(p plan) []string {
	return append(
		each(p, func(r planned) string {
			if r.block("workload_identity_config").text("workload_pool") == "" {
				return "has no workload pool: its pods would use the nodes' identity"
			}
			return ""
		}, "google_container_cluster"),
		each(p, func(r planned) string {
			if r.block("node_config").block("workload_metadata_config").text("mode") != "GKE_METADATA" {
				return "lets pods take the nodes' identity: workload_metadata_config.mode must be GKE_METADATA"
			}
			return ""
		}, "google_container_node_pool")...)
}

func hardenedNodes(p plan) []string {
	return each(p, func(r planned) string {
		node := r.block("node_config")
		shielded := node.block("shielded_instance_config")
		metadata, _ := node["metadata"].(map[string]any)
		_, unknown := r.Change.Unknown.block("node_config")["service_account"]
		switch {
		case !shielded.is("enable_secure_boot") || !shielded.is("enable_integrity_monitoring"):
			return "has nodes that are not shielded"
		case metadata["disable-legacy-endpoints"] != "true":
			return "has nodes with the legacy metadata server"
		case node.block("kubelet_config").text("insecure_kubelet_readonly_port_enabled") != "FALSE":
			return "has kubelets that tell anybody what runs"
		case node.text("service_account") == "" && !unknown:
			return "has nodes with the project's default account"
		}
		return ""
	}, "google_container_node_pool")
}

func safeBuckets(p plan) []string {
	return each(p, func(r planned) string {
		switch {
		case !r.is("uniform_bucket_level_access"):
			return "has access lists on objects: uniform_bucket_level_access must be true"
		case r.text("public_access_prevention") != "enforced":
			return "could be opened to anybody: public_access_prevention must be enforced"
		case !r.block("versioning").is("enabled"):
			return "keeps no older versions"
		case r.is("force_destroy"):
			return "is deleted with what is in it"
		}
		return ""
	}, "google_storage_bucket")
}

// closedFirewall: ranges of more than a /8 are the internet, and a rule without a source is open to it.
func closedFirewall(p plan) []string {
	return each(p, func(r planned) string {
		if r.text("direction") == "EGRESS" || len(r.blocks("allow")) == 0 {
			return ""
		}
		ranges := r.list("source_ranges")
		if len(ranges)+len(r.list("source_tags"))+len(r.list("source_service_accounts")) == 0 {
			return "allows traffic from everywhere: it names no source"
		}
		for _, s := range ranges {
			if prefix, err := netip.ParsePrefix(s); err != nil || prefix.Bits() < 8 {
				return "allows traffic from " + s
			}
		}
		return ""
	}, "google_compute_firewall")
}

var (
	repositoryIs = regexp.MustCompile(`assertion\.repository_id == '[0-9]+'`)
	ownerIs      = regexp.MustCompile(`assertion\.repository_owner_id == '[0-9]+'`)
)

func oneRepository(p plan) []string {
	return append(
		each(p, func(r planned) string {
			condition := r.text("attribute_condition")
			if !repositoryIs.MatchString(condition) || !ownerIs.MatchString(condition) || strings.Contains(condition, "||") {
				return fmt.Sprintf("lets in more than one repository: its condition is %q", condition)
			}
			return ""
		}, "google_iam_workload_identity_pool_provider"),
		each(p, func(r planned) string {
			if member := r.text("member"); strings.HasPrefix(member, "principalSet:") && !strings.Contains(member, "/attribute.") {
				return "lets in everybody of a pool: " + member
			}
			return ""
		}, "google_service_account_iam_member")...)
}

func protectedData(p plan) []string {
	return each(p, func(r planned) string {
		if !r.is("deletion_protection") && r.text("deletion_protection") != "PROTECTED" {
			return "is not protected against deletion"
		}
		return ""
	}, "google_bigtable_instance", "google_bigtable_table", "google_container_cluster")
}

// labelled: what can have labels has some. The provider adds its default labels where the schema has
// terraform_labels; elsewhere the resource has to name them.
func labelled(p plan) []string {
	defaults := map[string]bool{}
	for _, c := range p.Configuration.Providers {
		if _, ok := c.Expressions["default_labels"]; ok {
			defaults[c.FullName] = true
		}
	}
	return each(p, func(r planned) string {
		_, known := r.Change.After["terraform_labels"]
		_, later := r.Change.Unknown["terraform_labels"]
		if (known || later) && !defaults[r.Provider] {
			return "gets no labels: its provider needs default_labels"
		}
		if user, ok := r.Change.After["user_labels"]; ok && len(texts(user)) == 0 {
			return "has no user_labels"
		}
		if r.Type == "google_container_node_pool" && len(texts(r.block("node_config")["resource_labels"])) == 0 {
			return "has nodes without resource_labels"
		}
		return ""
	})
}
