package stacks_test

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// platformRules are about the parts of the platform: where data rests, what is written down of who
// did what, and how the way in is closed.
var platformRules = []rule{
	{"one provider of Google's", oneProvider},
	{"data stays in the region", dataInRegion},
	{"only its own API for a key", restrictedKeys},
	{"modern TLS", modernTLS},
	{"a way in that is closed by default", closedWayIn},
	{"logged network", loggedNetwork},
	{"no external addresses", noExternalAddresses},
	{"upgrades by themselves", upgrades},
	{"dead letters and no expiry", keptMessages},
	{"tables that outlive a mistake", backedUp},
	{"images that stay what they were", immutableImages},
	{"identities of one name", narrowPods},
}

// oneProvider: each is a program of 100 MB to fetch, to trust, and to start for each plan.
func oneProvider(p plan) []string {
	var google []string
	for _, c := range p.Configuration.Providers {
		if strings.HasPrefix(c.FullName, "registry.terraform.io/hashicorp/google") && !slices.Contains(google, c.FullName) {
			google = append(google, c.FullName)
		}
	}
	if len(google) > 1 {
		slices.Sort(google)
		return []string{"uses " + strings.Join(google, " and ") + ": one of them has it all"}
	}
	return nil
}

// region is the one of the flights example.
const region = "us-central1"

func dataInRegion(p plan) []string {
	return each(p, func(r planned) string {
		var places []string
		switch r.Type {
		case "google_pubsub_topic":
			places = r.block("message_storage_policy").list("allowed_persistence_regions")
		case "google_bigtable_instance":
			for _, c := range r.blocks("cluster") {
				places = append(places, c.text("zone"))
			}
		default:
			places = []string{r.text("location")}
		}
		if len(places) == 0 {
			return "may keep data anywhere: it names no place"
		}
		for _, place := range places {
			if place != region && !strings.HasPrefix(place, region+"-") {
				return fmt.Sprintf("keeps data in %q, which is not in %s", place, region)
			}
		}
		return ""
	}, "google_pubsub_topic", "google_bigtable_instance", "google_bigquery_dataset", "google_storage_bucket",
		"google_artifact_registry_repository", "google_container_cluster")
}

func restrictedKeys(p plan) []string {
	return each(p, func(r planned) string {
		unknown := r.Change.Unknown.block("restrictions").blocks("api_targets")
		if len(r.block("restrictions").blocks("api_targets"))+len(unknown) == 0 {
			return "is a key for every API of the project: name its api_targets"
		}
		return ""
	}, "google_apikeys_key")
}

func modernTLS(p plan) []string {
	return each(p, func(r planned) string {
		if !slices.Contains([]string{"TLS_1_2", "TLS_1_3"}, r.text("min_tls_version")) {
			return "speaks TLS older than 1.2"
		}
		if !slices.Contains([]string{"MODERN", "RESTRICTED", "FIPS_202205"}, r.text("profile")) {
			return fmt.Sprintf("takes ciphers of the profile %q", r.text("profile"))
		}
		return ""
	}, "google_compute_ssl_policy")
}

const lastPriority = 2147483647

func closedWayIn(p plan) []string {
	return each(p, func(r planned) string {
		rules := r.blocks("rule")
		last := slices.IndexFunc(rules, func(v values) bool { return v["priority"] == float64(lastPriority) })
		if last < 0 || !strings.HasPrefix(rules[last].text("action"), "deny") {
			return "lets in what no rule is about"
		}
		limited := false
		for _, rule := range rules {
			action := rule.text("action")
			if action == "allow" {
				return "lets in without a limit"
			}
			limited = limited || action == "throttle" || action == "rate_based_ban"
		}
		if !limited {
			return "has no limit against floods"
		}
		return ""
	}, "google_compute_security_policy")
}

// loggedNetwork: who asks what happened at night needs flows, refusals and drops written down.
func loggedNetwork(p plan) []string {
	return each(p, func(r planned) string {
		logs := r.block("log_config")
		switch r.Type {
		case "google_compute_router_nat":
			if !logs.is("enable") {
				return "drops connections without a word: log_config.enable must be true"
			}
		case "google_compute_firewall":
			if len(r.blocks("deny")) > 0 && len(logs) == 0 {
				return "refuses without a word: it needs a log_config"
			}
		default:
			if len(logs) == 0 {
				return "keeps no flow logs: it needs a log_config"
			}
			if !r.is("private_ip_google_access") {
				return "reaches Google's APIs by the internet: private_ip_google_access must be true"
			}
		}
		return ""
	}, "google_compute_subnetwork", "google_compute_router_nat", "google_compute_firewall")
}

// noExternalAddresses: one global address is the way in, and the NAT has those for the way out.
func noExternalAddresses(p plan) []string {
	return each(p, func(r planned) string {
		if r.Type == "google_compute_address" && r.text("address_type") == "INTERNAL" {
			return ""
		}
		if r.Type == "google_compute_network" {
			if r.is("auto_create_subnetworks") {
				return "makes a subnet in every region"
			}
			return ""
		}
		return "is a machine or an address in the internet"
	}, "google_compute_instance", "google_compute_instance_template", "google_compute_address", "google_compute_network")
}

func upgrades(p plan) []string {
	return each(p, func(r planned) string {
		if r.Type == "google_container_node_pool" {
			if m := r.block("management"); !m.is("auto_upgrade") || !m.is("auto_repair") {
				return "has nodes that nobody mends: management needs auto_upgrade and auto_repair"
			}
			return ""
		}
		switch channel := r.block("release_channel").text("channel"); {
		case channel == "" || channel == "UNSPECIFIED":
			return "is in no release channel"
		case len(r.block("maintenance_policy")) == 0:
			return "is upgraded at any hour: it needs a maintenance_policy"
		case r.text("datapath_provider") != "ADVANCED_DATAPATH":
			return "does not enforce network policies: datapath_provider must be ADVANCED_DATAPATH"
		case r.is("enable_legacy_abac"):
			return "has the old authorization"
		case r.block("master_auth").block("client_certificate_config").is("issue_client_certificate"):
			return "gives out a certificate that cannot be taken back"
		}
		return ""
	}, "google_container_cluster", "google_container_node_pool")
}

const fewestAttempts = 20

// keptMessages: a subscription expires after 31 days of rest unless its ttl is empty.
func keptMessages(p plan) []string {
	return each(p, func(r planned) string {
		expiry := r.blocks("expiration_policy")
		if len(expiry) == 0 || expiry[0].text("ttl") != "" {
			return "is deleted by Pub/Sub when nobody uses it: expiration_policy.ttl must be empty"
		}
		if strings.HasPrefix(r.Address, "google_pubsub_subscription.dead_letters") {
			return ""
		}
		if attempts, _ := r.block("dead_letter_policy")["max_delivery_attempts"].(float64); attempts < fewestAttempts {
			return fmt.Sprintf("gives up after %v attempts; %d at least outlast a short outage", attempts, fewestAttempts)
		}
		if len(r.block("retry_policy")) == 0 {
			return "delivers a failed message again at once, without end: it needs a retry_policy"
		}
		return ""
	}, "google_pubsub_subscription")
}

// backedUp: BigQuery's views and external tables hold nothing.
func backedUp(p plan) []string {
	return each(p, func(r planned) string {
		switch r.Type {
		case "google_bigtable_table":
			if period := r.block("automated_backup_policy").text("retention_period"); period == "" || period == "0" {
				return "has no backups: it needs an automated_backup_policy"
			}
		case "google_bigquery_dataset":
			if r.is("delete_contents_on_destroy") {
				return "is deleted with what is in it"
			}
		case "google_bigtable_instance":
			if r.is("force_destroy") {
				return "is deleted with its backups"
			}
		default:
			if len(r.blocks("view"))+len(r.blocks("external_data_configuration")) == 0 && !r.is("deletion_protection") {
				return "is not protected against deletion"
			}
		}
		return ""
	}, "google_bigtable_table", "google_bigtable_instance", "google_bigquery_table", "google_bigquery_dataset")
}

func immutableImages(p plan) []string {
	return each(p, func(r planned) string {
		switch {
		case !r.block("docker_config").is("immutable_tags"):
			return "has tags that can be moved: docker_config.immutable_tags must be true"
		case r.block("vulnerability_scanning_config").text("enablement_config") == "DISABLED":
			return "is not scanned"
		}
		return ""
	}, "google_artifact_registry_repository")
}

var onePod = regexp.MustCompile(`^serviceAccount:[a-z0-9-]+\.svc\.id\.goog\[[a-z0-9-]+/[a-z0-9-]+\]$`)

// narrowPods: workload identity is for one account of one namespace, and nobody but Datadog's own
// account may take another one by a token.
func narrowPods(p plan) []string {
	return each(p, func(r planned) string {
		member := r.text("member")
		switch r.text("role") {
		case "roles/iam.workloadIdentityUser":
			// The pool of GitHub has its name when it is made; the tests of bootstrap know it.
			if r.Change.Unknown.is("member") || strings.HasPrefix(member, "principalSet:") {
				return ""
			}
			if !onePod.MatchString(member) {
				return "can be taken by " + member + ": name one service account of one namespace"
			}
		case "roles/iam.serviceAccountTokenCreator":
			if !strings.HasSuffix(member, "@datadog-gci-sts.iam.gserviceaccount.com") {
				return "can be taken by " + member
			}
		default:
			return "grants " + r.text("role") + " on an identity"
		}
		return ""
	}, "google_service_account_iam_member")
}

// powerful are roles on the whole project that only the identity that applies may have.
var powerful = regexp.MustCompile(`(?i)\.(admin|owner|dataOwner|securityAdmin|networkAdmin|projectIamAdmin|serviceAccountTokenCreator|serviceAccountUser)$|^roles/(owner|editor)$`)

// tooPowerful finds grants of such roles by stacks other than bootstrap, and in bootstrap to others than
// the identity that applies; and roles that may be granted and no stack grants.
func tooPowerful(plans map[string]plan) []string {
	var out []string
	granted := map[string]bool{}
	for _, stack := range slices.Sorted(maps.Keys(plans)) {
		for _, r := range plans[stack].resources() {
			if !strings.Contains(r.Type, "_iam_member") {
				continue
			}
			if stack != "bootstrap" && r.Type == "google_project_iam_member" {
				granted[r.text("role")] = true
			}
			if powerful.MatchString(r.text("role")) && !(stack == "bootstrap" && strings.HasPrefix(r.Address, "google_project_iam_member.apply")) &&
				r.Type != "google_service_account_iam_member" {
				out = append(out, stack+": "+r.Address+" grants "+r.text("role"))
			}
		}
	}
	for _, r := range plans["bootstrap"].ofType("google_project_iam_member") {
		for _, m := range quoted.FindAllStringSubmatch(r.block("condition").text("expression"), -1) {
			if strings.Contains(m[1], "roles/") && !granted[m[1]] {
				out = append(out, "bootstrap: "+m[1]+" may be granted, and no stack grants it: take it out of grantable_roles")
			}
		}
	}
	return out
}

var quoted = regexp.MustCompile(`'([^']+)'`)
