package stacks_test

import (
	"strings"
	"testing"
)

// badPlatform has at least one plan for each of platformRules that breaks it.
var badPlatform = []badPlan{
	{"data stays in the region", "a topic anywhere", `{"type": "google_pubsub_topic", "change": {"after": {}}}`, "names no place"},
	{"data stays in the region", "a topic elsewhere", `{"type": "google_pubsub_topic", "change": {"after": {"message_storage_policy": [{"allowed_persistence_regions": ["us-central1", "europe-west1"]}]}}}`, `"europe-west1"`},
	{"data stays in the region", "a cluster of Bigtable elsewhere", `{"type": "google_bigtable_instance", "change": {"after": {"deletion_protection": true, "cluster": [{"zone": "us-central1-b"}, {"zone": "us-east1-b"}]}}}`, `"us-east1-b"`},
	{"data stays in the region", "a dataset in many", `{"type": "google_bigquery_dataset", "change": {"after": {"location": "US"}}}`, `"US"`},
	{"data stays in the region", "a region whose name begins the same", `{"type": "google_storage_bucket", "change": {"after": {"location": "us-central11"}}}`, "us-central11"},
	{"only its own API for a key", "a key for everything", `{"type": "google_apikeys_key", "change": {"after": {}}}`, "every API"},
	{"only its own API for a key", "a key for browsers and everything", `{"type": "google_apikeys_key", "change": {"after": {"restrictions": [{"browser_key_restrictions": [{}]}]}}}`, "every API"},
	{"modern TLS", "TLS 1.0", `{"type": "google_compute_ssl_policy", "change": {"after": {"min_tls_version": "TLS_1_0", "profile": "MODERN"}}}`, "older than 1.2"},
	{"modern TLS", "old ciphers", `{"type": "google_compute_ssl_policy", "change": {"after": {"min_tls_version": "TLS_1_2", "profile": "COMPATIBLE"}}}`, "COMPATIBLE"},
	{"a way in that is closed by default", "no default", `{"type": "google_compute_security_policy", "change": {"after": {"rule": [{"priority": 1000, "action": "deny(403)"}]}}}`, "what no rule is about"},
	{"a way in that is closed by default", "an open default", `{"type": "google_compute_security_policy", "change": {"after": {"rule": [{"priority": 2147483647, "action": "allow"}]}}}`, "what no rule is about"},
	{"a way in that is closed by default", "no limit", `{"type": "google_compute_security_policy", "change": {"after": {"rule": [{"priority": 9000, "action": "allow"}, {"priority": 2147483647, "action": "deny(403)"}]}}}`, "without a limit"},
	{"a way in that is closed by default", "nothing but refusals", `{"type": "google_compute_security_policy", "change": {"after": {"rule": [{"priority": 2147483647, "action": "deny(403)"}]}}}`, "floods"},
	{"logged network", "a subnet", `{"type": "google_compute_subnetwork", "change": {"after": {"private_ip_google_access": true}}}`, "no flow logs"},
	{"logged network", "a subnet by the internet", `{"type": "google_compute_subnetwork", "change": {"after": {"log_config": [{"flow_sampling": 0.1}]}}}`, "private_ip_google_access"},
	{"logged network", "a NAT", `{"type": "google_compute_router_nat", "change": {"after": {"log_config": [{"enable": false}]}}}`, "log_config.enable"},
	{"logged network", "a refusal", `{"type": "google_compute_firewall", "change": {"after": {"deny": [{"protocol": "all"}]}}}`, "refuses without a word"},
	{"no external addresses", "a machine", `{"type": "google_compute_instance", "change": {"after": {}}}`, "in the internet"},
	{"no external addresses", "an address", `{"type": "google_compute_address", "change": {"after": {"address_type": "EXTERNAL"}}}`, "in the internet"},
	{"no external addresses", "a subnet everywhere", `{"type": "google_compute_network", "change": {"after": {"auto_create_subnetworks": true}}}`, "every region"},
	{"upgrades by themselves", "no channel", `{"type": "google_container_cluster", "change": {"after": {"release_channel": [{"channel": "UNSPECIFIED"}]}}}`, "no release channel"},
	{"upgrades by themselves", "any hour", `{"type": "google_container_cluster", "change": {"after": {"release_channel": [{"channel": "REGULAR"}]}}}`, "any hour"},
	{"upgrades by themselves", "no network policies", `{"type": "google_container_cluster", "change": {"after": {"release_channel": [{"channel": "REGULAR"}], "maintenance_policy": [{"recurring_window": []}]}}}`, "ADVANCED_DATAPATH"},
	{"upgrades by themselves", "old authorization", `{"type": "google_container_cluster", "change": {"after": {"release_channel": [{"channel": "REGULAR"}], "maintenance_policy": [{"recurring_window": []}],
		"datapath_provider": "ADVANCED_DATAPATH", "enable_legacy_abac": true}}}`, "old authorization"},
	{"upgrades by themselves", "a certificate", `{"type": "google_container_cluster", "change": {"after": {"release_channel": [{"channel": "REGULAR"}], "maintenance_policy": [{"recurring_window": []}],
		"datapath_provider": "ADVANCED_DATAPATH", "master_auth": [{"client_certificate_config": [{"issue_client_certificate": true}]}]}}}`, "cannot be taken back"},
	{"upgrades by themselves", "nodes", `{"type": "google_container_node_pool", "change": {"after": {"management": [{"auto_repair": true}]}}}`, "auto_upgrade"},
	{"dead letters and no expiry", "a default expiry", `{"type": "google_pubsub_subscription", "change": {"after": {}}}`, "when nobody uses it"},
	{"dead letters and no expiry", "five attempts", `{"type": "google_pubsub_subscription", "change": {"after": {"expiration_policy": [{"ttl": ""}], "dead_letter_policy": [{"max_delivery_attempts": 5}]}}}`, "after 5 attempts"},
	{"dead letters and no expiry", "no dead letters", `{"type": "google_pubsub_subscription", "change": {"after": {"expiration_policy": [{"ttl": ""}]}}}`, "after 0 attempts"},
	{"dead letters and no expiry", "no pause", `{"type": "google_pubsub_subscription", "change": {"after": {"expiration_policy": [{"ttl": ""}], "dead_letter_policy": [{"max_delivery_attempts": 20}]}}}`, "retry_policy"},
	{"tables that outlive a mistake", "no backups", `{"type": "google_bigtable_table", "change": {"after": {"automated_backup_policy": [{"retention_period": "0"}]}}}`, "no backups"},
	{"tables that outlive a mistake", "an instance with its backups", `{"type": "google_bigtable_instance", "change": {"after": {"force_destroy": true}}}`, "with its backups"},
	{"tables that outlive a mistake", "a dataset with its tables", `{"type": "google_bigquery_dataset", "change": {"after": {"delete_contents_on_destroy": true}}}`, "what is in it"},
	{"tables that outlive a mistake", "a table of BigQuery", `{"type": "google_bigquery_table", "change": {"after": {"deletion_protection": false}}}`, "not protected"},
	{"images that stay what they were", "tags that move", `{"type": "google_artifact_registry_repository", "change": {"after": {}}}`, "can be moved"},
	{"images that stay what they were", "nobody looks", `{"type": "google_artifact_registry_repository", "change": {"after": {"docker_config": [{"immutable_tags": true}], "vulnerability_scanning_config": [{"enablement_config": "DISABLED"}]}}}`, "not scanned"},
	{"identities of one name", "every pod", `{"type": "google_service_account_iam_member", "change": {"after": {"role": "roles/iam.workloadIdentityUser", "member": "serviceAccount:my-project.svc.id.goog[latam/*]"}}}`, "one service account"},
	{"identities of one name", "a person with a token", `{"type": "google_service_account_iam_member", "change": {"after": {"role": "roles/iam.serviceAccountTokenCreator", "member": "user:a@example.com"}}}`, "taken by user:a@example.com"},
	{"identities of one name", "a user of an identity", `{"type": "google_service_account_iam_member", "change": {"after": {"role": "roles/iam.serviceAccountUser", "member": "user:a@example.com"}}}`, "roles/iam.serviceAccountUser"},
}

func TestOneProviderIsEnough(t *testing.T) {
	t.Parallel()
	p := parsePlan(t, `{"type": "google_pubsub_topic", "change": {"after": {}}}`)
	if got := oneProvider(p); len(got) > 0 {
		t.Errorf("found %q in a stack with one", got)
	}
	second := p.Configuration.Providers["google-beta"]
	second.FullName = "registry.terraform.io/hashicorp/google"
	p.Configuration.Providers["google"] = second
	if got := strings.Join(oneProvider(p), "\n"); !strings.Contains(got, "hashicorp/google and registry.terraform.io/hashicorp/google-beta") {
		t.Errorf("found %q in a stack with two", got)
	}
}

func TestPowerfulRolesAreFound(t *testing.T) {
	t.Parallel()
	condition := `"condition": [{"expression": "api.getAttribute('iam.googleapis.com/modifiedGrantsByRole', []).hasOnly(['roles/browser'])"}]`
	good := map[string]plan{
		"bootstrap": parsePlan(t, `{"type": "google_project_iam_member", "change": {"after": {"role": "roles/browser", `+condition+`}}}`),
		"apps":      parsePlan(t, `{"type": "google_project_iam_member", "change": {"after": {"role": "roles/browser"}}}`),
	}
	if got := tooPowerful(good); len(got) > 0 {
		t.Errorf("found %q in good plans", got)
	}
	good["apps"] = parsePlan(t, `{"type": "google_bigtable_instance_iam_member", "change": {"after": {"role": "roles/bigtable.admin"}}}`)
	got := strings.Join(tooPowerful(good), "\n")
	for _, want := range []string{"apps: google_bigtable_instance_iam_member.bad grants roles/bigtable.admin", "roles/browser may be granted, and no stack grants it"} {
		if !strings.Contains(got, want) {
			t.Errorf("not found: %q; got %q", want, got)
		}
	}
	good["bootstrap"] = parsePlan(t, `{"type": "google_project_iam_member", "change": {"after": {"role": "roles/pubsub.admin"}}}`)
	if got := strings.Join(tooPowerful(good), "\n"); !strings.Contains(got, "bootstrap: google_project_iam_member.bad grants roles/pubsub.admin") {
		t.Errorf("not found: an admin who does not apply; got %q", got)
	}
}
