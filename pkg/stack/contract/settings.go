package contract

import (
	"fmt"
	"reflect"
	"strings"
	"time"
)

// Settings are what an environment in the cloud can choose. Each is a flag, a key of environments in
// latam.yaml, and a variable LATAM_*; their list with keys is Fields.
type Settings struct {
	Project, Region string
	// State is gs://bucket or a folder; empty is the bucket <project>-<name>-tfstate.
	State string
	// GithubRepository is owner/name; the ids are numbers as text, which no one can take over.
	GithubRepository, GithubRepositoryID, GithubOwnerID string
	NetworkCIDR, PodsCIDR, ServicesCIDR                 string
	// TopicRetention is how long topics keep messages, 2 hours to 31 days.
	TopicRetention     time.Duration
	DeadLetterAttempts int
	// Instance is the id of the Bigtable instance; empty follows from the declaration's name.
	Instance string
	// BigtableZones have a cluster each; empty is <region>-b.
	BigtableZones                                         []string
	BigtableMinNodes, BigtableMaxNodes, BigtableCPUTarget int
	BigtableStorage                                       string
	// BackupRetentionDays is 3 to 90, or 0 for no backups.
	BackupRetentionDays int
	DeletionProtection  bool
	// BigqueryLocation is empty for the region.
	BigqueryLocation string
	NodeMachineType  string
	// NodeMin and NodeMax count in each zone.
	NodeMin, NodeMax                        int
	ReleaseChannel                          string
	MaintenanceStart, MaintenanceRecurrence string
	BackendHost, DNSZone                    string
	APIConsumers                            []string
	BillingAccount                          string
	// BudgetAmount is of a month, in BudgetCurrency.
	BudgetAmount                         float64
	BudgetCurrency                       string
	BudgetEmails                         []string
	DatadogSite, DatadogIntegrationEmail string
	// ScaleOnLag adds Datadog's metric of ingest's lag to its autoscaler.
	ScaleOnLag bool
	// Image is the container image of ingest and serve with its digest.
	Image string
}

// DefaultSettings returns the settings of an environment that chooses none. Project has no default.
func DefaultSettings() Settings {
	return Settings{
		Region:      "us-central1",
		NetworkCIDR: "10.10.0.0/20", PodsCIDR: "10.20.0.0/14", ServicesCIDR: "10.24.0.0/20",
		TopicRetention: 7 * 24 * time.Hour, DeadLetterAttempts: 20,
		BigtableMinNodes: 1, BigtableMaxNodes: 10, BigtableCPUTarget: 60, BigtableStorage: "SSD",
		BackupRetentionDays: 7, DeletionProtection: true,
		NodeMachineType: "e2-standard-4", NodeMin: 1, NodeMax: 5, ReleaseChannel: "REGULAR",
		MaintenanceStart: "2026-01-03T04:00:00Z", MaintenanceRecurrence: "FREQ=WEEKLY;BYDAY=SA,SU",
		BudgetCurrency: "USD", DatadogSite: "datadoghq.com",
	}
}

// Defaults fills in what follows from other settings where it is empty: the zones of Bigtable and the
// location of BigQuery. Call it after everything was set, before Validate.
func (s Settings) Defaults() Settings {
	if len(s.BigtableZones) == 0 && s.Region != "" {
		s.BigtableZones = []string{s.Region + "-b"}
	}
	if s.BigqueryLocation == "" {
		s.BigqueryLocation = s.Region
	}
	return s
}

// Field is one setting: how it is called, and where its value is.
type Field struct {
	// Key is its name in latam.yaml, such as node_min. The flag has dashes instead.
	Key string
	// Usage says what it is, for help.
	Usage string
	// Value points into the Settings: *string, *int, *bool, *float64, *[]string or *time.Duration.
	Value any
}

// Flag is the name of the setting's flag.
func (f Field) Flag() string { return strings.ReplaceAll(f.Key, "_", "-") }

// Fields lists all settings, in the order in which help shows them.
func (s *Settings) Fields() []Field {
	return []Field{
		{"project", "Google Cloud project", &s.Project},
		{"region", "region of everything that has one", &s.Region},
		{"state", "where Terraform's states are: gs://BUCKET or a folder (default the bucket PROJECT-NAME-tfstate)", &s.State},
		{"github_repository", "GitHub repository that may deploy, OWNER/NAME", &s.GithubRepository},
		{"github_repository_id", "numeric id of that repository", &s.GithubRepositoryID},
		{"github_owner_id", "numeric id of its owner", &s.GithubOwnerID},
		{"network_cidr", "addresses of the nodes", &s.NetworkCIDR},
		{"pods_cidr", "addresses of the pods", &s.PodsCIDR},
		{"services_cidr", "addresses of the Kubernetes services", &s.ServicesCIDR},
		{"topic_retention", "how long topics keep messages for replay, 2h to 31d", &s.TopicRetention},
		{"dead_letter_attempts", "deliveries of a message before it is a dead letter, 20 to 100", &s.DeadLetterAttempts},
		{"instance", "Bigtable instance (default the declaration's name, with -bigtable when it has fewer than 6 characters)", &s.Instance},
		{"bigtable_zones", "zones with a Bigtable cluster each (default REGION-b)", &s.BigtableZones},
		{"bigtable_min_nodes", "fewest nodes of a Bigtable cluster", &s.BigtableMinNodes},
		{"bigtable_max_nodes", "most nodes of a Bigtable cluster", &s.BigtableMaxNodes},
		{"bigtable_cpu_target", "CPU load in percent that a Bigtable cluster grows and shrinks towards, 10 to 80", &s.BigtableCPUTarget},
		{"bigtable_storage", "SSD or HDD", &s.BigtableStorage},
		{"backup_retention_days", "days for which backups of the tables are kept, 3 to 90, 0 for none", &s.BackupRetentionDays},
		{"deletion_protection", "what holds data refuses to be deleted", &s.DeletionProtection},
		{"bigquery_location", "location of the BigQuery dataset (default the region)", &s.BigqueryLocation},
		{"node_machine_type", "machine type of the cluster's nodes", &s.NodeMachineType},
		{"node_min", "fewest nodes in a zone", &s.NodeMin},
		{"node_max", "most nodes in a zone", &s.NodeMax},
		{"release_channel", "GKE release channel: RAPID, REGULAR, STABLE or EXTENDED", &s.ReleaseChannel},
		{"maintenance_start", "start of the first maintenance window, RFC 3339", &s.MaintenanceStart},
		{"maintenance_recurrence", "when the maintenance window comes again, RFC 5545", &s.MaintenanceRecurrence},
		{"backend_host", "DNS name under which the gateway reaches serve", &s.BackendHost},
		{"dns_zone", "Cloud DNS managed zone for its record (default you make the record)", &s.DNSZone},
		{"api_consumers", "names of the consumers, which get an API key each", &s.APIConsumers},
		{"billing_account", "billing account, for the budget", &s.BillingAccount},
		{"budget_amount", "budget of a month", &s.BudgetAmount},
		{"budget_currency", "currency of the billing account", &s.BudgetCurrency},
		{"budget_emails", "who gets the mails about the budget", &s.BudgetEmails},
		{"datadog_site", "Datadog site", &s.DatadogSite},
		{"datadog_integration_email", "Datadog's service account that reads the project's metrics", &s.DatadogIntegrationEmail},
		{"scale_on_lag", "ingest scales on its lag as well, told by Datadog, which needs the Secret datadog-app with an application key", &s.ScaleOnLag},
		{"image", "container image of ingest and serve, REF@sha256:DIGEST", &s.Image},
	}
}

// SettingKeys returns the keys of all settings.
func SettingKeys() []string {
	fields := (&Settings{}).Fields()
	keys := make([]string, len(fields))
	for i, f := range fields {
		keys[i] = f.Key
	}
	return keys
}

// empty reports whether a setting has no value; one that does not exist has none.
func (s *Settings) empty(key string) bool {
	for _, f := range s.Fields() {
		if f.Key == key {
			v := reflect.ValueOf(f.Value).Elem()
			return v.IsZero() || v.Kind() == reflect.Slice && v.Len() == 0
		}
	}
	return true
}

// SettingError says that a setting, or a name that follows from one, cannot be used.
type SettingError struct {
	// Key is the setting's, as in latam.yaml; "name" and "datasets" are the declaration's own.
	Key string
	// Message says what was expected and what was seen.
	Message string
}

func (e *SettingError) Error() string { return fmt.Sprintf("setting %s: %s", e.Key, e.Message) }
