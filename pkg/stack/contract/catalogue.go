package contract

import "slices"

// Variable is one entry of the catalogue: a Terraform variable that every stack can have, and where
// its value comes from.
type Variable struct {
	Name string
	// Type is Terraform's type constraint, as `terraform fmt` writes it.
	Type string
	// Description is one sentence, for people.
	Description string
	// Sensitive values are never shown.
	Sensitive bool
	value     func(e *Environment) any
}

const (
	text    = "string"
	number  = "number"
	boolean = "bool"
	texts   = "list(string)"
)

// datasetsType is the type of the variable datasets. What a stack makes for a dataset follows from it.
const datasetsType = `map(object({
  topic                             = string
  subscription                      = string
  dead_letter_topic                 = string
  dead_letter_subscription          = string
  bigquery_subscription             = string
  bigquery_dead_letter_topic        = string
  bigquery_dead_letter_subscription = string
  table                             = string
  index_tables                      = list(string)
  retention_seconds                 = number
  split_keys                        = list(string)
  columns = list(object({
    name        = string
    type        = string
    mode        = string
    description = string
  }))
  key               = list(string)
  time              = string
  bigquery_table    = string
  bigquery_view     = string
  bigquery_external = string
}))`

// Catalogue returns all variables that are derived from the declaration and the settings, in the
// order of the topics that they belong to.
func Catalogue() []Variable {
	return slices.Concat(commonVariables(), networkVariables(), dataVariables(), clusterVariables(), edgeVariables(), watchVariables())
}

func commonVariables() []Variable {
	return []Variable{
		{Name: "project", Type: text, Description: "Id of the Google Cloud project", value: func(e *Environment) any { return e.Settings.Project }},
		{Name: "region", Type: text, Description: "Region of everything that has one", value: func(e *Environment) any { return e.Settings.Region }},
		{Name: "name", Type: text, Description: "Name of the declaration, the prefix of every resource", value: func(e *Environment) any { return e.Declaration.Name }},
		{Name: "environment", Type: text, Description: "Name of the environment", value: func(e *Environment) any { return e.Name }},
		{Name: "labels", Type: "map(string)", Description: "Labels of every resource that can have them", value: func(e *Environment) any { return e.labels() }},
		{Name: "state_bucket", Type: text, Description: "Bucket of the Terraform states, empty when they are in a folder", value: func(e *Environment) any { return e.StateBucket }},
		{Name: "adopt_state_bucket", Type: boolean, Description: "Whether the bucket of the states exists and is imported", value: func(e *Environment) any { return e.AdoptStateBucket }},
		{Name: "github_repository", Type: text, Description: "GitHub repository that may deploy, owner/name, empty for none", value: func(e *Environment) any { return e.Settings.GithubRepository }},
		{Name: "github_repository_id", Type: text, Description: "Numeric id of the GitHub repository", value: func(e *Environment) any { return e.Settings.GithubRepositoryID }},
		{Name: "github_owner_id", Type: text, Description: "Numeric id of the owner of the GitHub repository", value: func(e *Environment) any { return e.Settings.GithubOwnerID }},
		{Name: "deletion_protection", Type: boolean, Description: "Whether what holds data refuses to be deleted", value: func(e *Environment) any { return e.Settings.DeletionProtection }},
		{Name: "plan_account", Type: text, Description: "Id of the service account that plans and may only read", value: func(e *Environment) any { return e.Names().PlanAccount }},
		{Name: "apply_account", Type: text, Description: "Id of the service account that applies", value: func(e *Environment) any { return e.Names().ApplyAccount }},
	}
}

func networkVariables() []Variable {
	return []Variable{
		{Name: "network", Type: text, Description: "Name of the VPC", value: func(e *Environment) any { return e.Names().Network }},
		{Name: "subnetwork", Type: text, Description: "Name of the subnet of the nodes", value: func(e *Environment) any { return e.Names().Subnetwork }},
		{Name: "router", Type: text, Description: "Name of the router of the NAT", value: func(e *Environment) any { return e.Names().Router }},
		{Name: "pods_range", Type: text, Description: "Name of the subnet's range of pods", value: func(e *Environment) any { return e.Names().PodsRange }},
		{Name: "services_range", Type: text, Description: "Name of the subnet's range of services", value: func(e *Environment) any { return e.Names().ServicesRange }},
		{Name: "network_cidr", Type: text, Description: "Addresses of the nodes", value: func(e *Environment) any { return e.Settings.NetworkCIDR }},
		{Name: "pods_cidr", Type: text, Description: "Addresses of the pods", value: func(e *Environment) any { return e.Settings.PodsCIDR }},
		{Name: "services_cidr", Type: text, Description: "Addresses of the services", value: func(e *Environment) any { return e.Settings.ServicesCIDR }},
		{Name: "registry", Type: text, Description: "Name of the Artifact Registry repository", value: func(e *Environment) any { return e.Names().Registry }},
	}
}

func dataVariables() []Variable {
	return []Variable{
		{Name: "datasets", Type: datasetsType, Description: "The declared datasets with the names of all that is made for them", value: func(e *Environment) any { return e.datasets() }},
		{Name: "message_retention_seconds", Type: number, Description: "How long topics keep messages for replay", value: func(e *Environment) any { return int64(e.Settings.TopicRetention.Seconds()) }},
		{Name: "dead_letter_attempts", Type: number, Description: "Deliveries of a message before it is a dead letter", value: func(e *Environment) any { return e.Settings.DeadLetterAttempts }},
		{Name: "bigtable_instance", Type: text, Description: "Id of the Bigtable instance", value: func(e *Environment) any { return e.Names().BigtableInstance }},
		{Name: "bigtable_storage", Type: text, Description: "Storage of the Bigtable clusters, SSD or HDD", value: func(e *Environment) any { return e.Settings.BigtableStorage }},
		{Name: "bigtable_zones", Type: texts, Description: "Zones with a Bigtable cluster each", value: func(e *Environment) any { return list(e.Settings.BigtableZones) }},
		{Name: "bigtable_min_nodes", Type: number, Description: "Fewest nodes of a Bigtable cluster", value: func(e *Environment) any { return e.Settings.BigtableMinNodes }},
		{Name: "bigtable_max_nodes", Type: number, Description: "Most nodes of a Bigtable cluster", value: func(e *Environment) any { return e.Settings.BigtableMaxNodes }},
		{Name: "bigtable_cpu_target", Type: number, Description: "CPU load in percent that a Bigtable cluster grows and shrinks towards", value: func(e *Environment) any { return e.Settings.BigtableCPUTarget }},
		{Name: "backup_retention_days", Type: number, Description: "Days for which backups of the tables are kept", value: func(e *Environment) any { return e.Settings.BackupRetentionDays }},
		{Name: "bigquery_dataset", Type: text, Description: "Id of the BigQuery dataset", value: func(e *Environment) any { return e.Names().BigqueryDataset }},
		{Name: "bigquery_location", Type: text, Description: "Location of the BigQuery dataset", value: func(e *Environment) any { return e.Settings.BigqueryLocation }},
	}
}

func clusterVariables() []Variable {
	return []Variable{
		{Name: "cluster", Type: text, Description: "Name of the GKE cluster", value: func(e *Environment) any { return e.Names().Cluster }},
		{Name: "release_channel", Type: text, Description: "GKE release channel", value: func(e *Environment) any { return e.Settings.ReleaseChannel }},
		{Name: "node_machine_type", Type: text, Description: "Machine type of the nodes", value: func(e *Environment) any { return e.Settings.NodeMachineType }},
		{Name: "node_min", Type: number, Description: "Fewest nodes in a zone", value: func(e *Environment) any { return e.Settings.NodeMin }},
		{Name: "node_max", Type: number, Description: "Most nodes in a zone", value: func(e *Environment) any { return e.Settings.NodeMax }},
		{Name: "maintenance_start", Type: text, Description: "Start of the first maintenance window, RFC 3339", value: func(e *Environment) any { return e.Settings.MaintenanceStart }},
		{Name: "maintenance_recurrence", Type: text, Description: "When the maintenance window comes again, RFC 5545", value: func(e *Environment) any { return e.Settings.MaintenanceRecurrence }},
		{Name: "namespace", Type: text, Description: "Kubernetes namespace of the services", value: func(e *Environment) any { return e.Names().Namespace }},
		{Name: "ingest_account", Type: text, Description: "Id of the service account of ingest", value: func(e *Environment) any { return e.Names().IngestAccount }},
		{Name: "serve_account", Type: text, Description: "Id of the service account of serve", value: func(e *Environment) any { return e.Names().ServeAccount }},
		{Name: "node_account", Type: text, Description: "Id of the service account of the nodes", value: func(e *Environment) any { return e.Names().NodeAccount }},
	}
}

func edgeVariables() []Variable {
	return []Variable{
		{Name: "address", Type: text, Description: "Name of the global address of serve", value: func(e *Environment) any { return e.Names().Address }},
		{Name: "backend_host", Type: text, Description: "DNS name under which the gateway reaches serve", value: func(e *Environment) any { return e.Settings.BackendHost }},
		{Name: "dns_zone", Type: text, Description: "Cloud DNS managed zone for the record of backend_host, empty when it is made elsewhere", value: func(e *Environment) any { return e.Settings.DNSZone }},
		{Name: "gateway", Type: text, Description: "Id of the gateway", value: func(e *Environment) any { return e.Names().Gateway }},
		{Name: "gateway_api", Type: text, Description: "Id of the gateway's API", value: func(e *Environment) any { return e.Names().GatewayAPI }},
		{Name: "gateway_account", Type: text, Description: "Id of the service account of the gateway", value: func(e *Environment) any { return e.Names().GatewayAccount }},
		{Name: "gateway_document", Type: text, Description: "OpenAPI document of the gateway, YAML", value: func(e *Environment) any { return e.GatewayDocument }},
		{Name: "api_consumers", Type: texts, Description: "Names of the consumers, with an API key each", value: func(e *Environment) any { return list(e.Settings.APIConsumers) }},
	}
}

func watchVariables() []Variable {
	return []Variable{
		{Name: "billing_account", Type: text, Description: "Billing account of the project", value: func(e *Environment) any { return e.Settings.BillingAccount }},
		{Name: "budget_amount", Type: number, Description: "Budget of a month, in budget_currency", value: func(e *Environment) any { return e.Settings.BudgetAmount }},
		{Name: "budget_currency", Type: text, Description: "Currency of the billing account", value: func(e *Environment) any { return e.Settings.BudgetCurrency }},
		{Name: "budget_thresholds", Type: "list(number)", Description: "Parts of the budget at which mails are sent", value: func(*Environment) any { return []float64{0.5, 0.9, 1} }},
		{Name: "budget_emails", Type: texts, Description: "Who gets the mails about the budget", value: func(e *Environment) any { return list(e.Settings.BudgetEmails) }},
		{Name: "datadog_site", Type: text, Description: "Datadog site", value: func(e *Environment) any { return e.Settings.DatadogSite }},
		{Name: "datadog_secret", Type: text, Description: "Name of the Kubernetes Secret with Datadog's api-key", value: func(e *Environment) any { return e.Names().DatadogSecret }},
		{Name: "datadog_app_secret", Type: text, Description: "Name of the Kubernetes Secret with the app-key by which the Cluster Agent reads metrics for autoscalers, empty when none does", value: (*Environment).datadogAppSecret},
		{Name: "datadog_integration_email", Type: text, Description: "Datadog's service account that reads the project's metrics, empty for none", value: func(e *Environment) any { return e.Settings.DatadogIntegrationEmail }},
	}
}

// datadogAppSecret is a Secret of its own, because nothing of ours makes it: an application key is somebody's,
// and can do what they can.
func (e *Environment) datadogAppSecret() any {
	if !e.Settings.ScaleOnLag {
		return ""
	}
	return e.Names().DatadogAppSecret
}

// VariableNames returns the names of the catalogue, sorted.
func VariableNames() []string {
	all := Catalogue()
	names := make([]string, len(all))
	for i, v := range all {
		names[i] = v.Name
	}
	slices.Sort(names)
	return names
}

func variable(name string) (Variable, bool) {
	for _, v := range Catalogue() {
		if v.Name == name {
			return v, true
		}
	}
	return Variable{}, false
}

// list is a list that JSON never writes as null.
func list(items []string) []string { return append([]string{}, items...) }
