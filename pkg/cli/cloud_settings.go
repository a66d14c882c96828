package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/latamctl/latamctl/pkg/engine"
)

// cloudSettings are the settings of an environment on Google Cloud.
type cloudSettings struct {
	project, region, state                  string
	githubRepository, githubRepositoryID    string
	githubOwnerID                           string
	networkCIDR, podsCIDR, servicesCIDR     string
	topicRetention                          string
	deadLetterAttempts                      int
	bigtableZones                           []string
	bigtableMinNodes, bigtableMaxNodes      int
	bigtableCPUTarget                       int
	bigtableStorage                         string
	backupRetentionDays                     int
	deletionProtection                      bool
	bigqueryLocation                        string
	nodeMachineType                         string
	nodeMin, nodeMax                        int
	releaseChannel                          string
	maintenanceStart, maintenanceRecurrence string
	backendHost, dnsZone                    string
	apiConsumers                            []string
	billingAccount, budgetCurrency          string
	budgetAmount                            float64
	budgetEmails                            []string
	datadogSite, datadogIntegrationEmail    string
	image                                   string
}

// The sides that a flag can belong to, as annotations: up has flags of both.
const (
	cloudOnly = "latam.cloud"  // of an environment on Google Cloud
	localOnly = "latam.local"  // of this machine
	folded    = "latam.folded" // not spelled out in the help of a command
)

// addCloudSettings adds the settings of an environment. They are folded in the help, because a
// person writes them into latam.yaml once.
func addCloudSettings(cmd *cobra.Command, s *cloudSettings) {
	f := pflag.NewFlagSet("", pflag.ContinueOnError)
	f.StringVar(&s.project, "project", "", "Google Cloud project; one environment is one project")
	f.StringVar(&s.region, "region", "", "region, such as us-central1")
	f.StringVar(&s.state, "state", "", "where the states of Terraform are: gs://BUCKET or a folder (default gs://PROJECT-NAME-tfstate)")
	f.StringVar(&s.githubRepository, "github-repository", "", "owner/name of the repository whose workflows may plan and apply (default none)")
	f.StringVar(&s.githubRepositoryID, "github-repository-id", "", "its numeric id, which a repository of the same name does not have")
	f.StringVar(&s.githubOwnerID, "github-owner-id", "", "the numeric id of its owner")
	f.StringVar(&s.networkCIDR, "network-cidr", "10.10.0.0/20", "addresses of the nodes")
	f.StringVar(&s.podsCIDR, "pods-cidr", "10.20.0.0/14", "addresses of the pods")
	f.StringVar(&s.servicesCIDR, "services-cidr", "10.24.0.0/20", "addresses of the services")
	f.StringVar(&s.topicRetention, "topic-retention", "7d", "how long topics keep messages for a replay, at least 2h")
	f.IntVar(&s.deadLetterAttempts, "dead-letter-attempts", 20, "deliveries of a message before it becomes a dead letter")
	f.StringSliceVar(&s.bigtableZones, "bigtable-zones", nil, "zones of Bigtable, one cluster each (default REGION-b)")
	f.IntVar(&s.bigtableMinNodes, "bigtable-min-nodes", 1, "fewest nodes of a Bigtable cluster")
	f.IntVar(&s.bigtableMaxNodes, "bigtable-max-nodes", 10, "most nodes of a Bigtable cluster")
	f.IntVar(&s.bigtableCPUTarget, "bigtable-cpu-target", 60, "percent of processor time at which Bigtable adds nodes")
	f.StringVar(&s.bigtableStorage, "bigtable-storage", "SSD", "storage of Bigtable: SSD or HDD")
	f.IntVar(&s.backupRetentionDays, "backup-retention-days", 7, "days that backups are kept")
	f.BoolVar(&s.deletionProtection, "deletion-protection", true, "let Google refuse to delete what holds data")
	f.StringVar(&s.bigqueryLocation, "bigquery-location", "", "location of the BigQuery dataset (default REGION)")
	f.StringVar(&s.nodeMachineType, "node-machine-type", "e2-standard-4", "machines of the cluster")
	f.IntVar(&s.nodeMin, "node-min", 1, "fewest nodes of the cluster in a zone")
	f.IntVar(&s.nodeMax, "node-max", 5, "most nodes of the cluster in a zone")
	f.StringVar(&s.releaseChannel, "release-channel", "REGULAR", "release channel of the cluster: RAPID, REGULAR or STABLE")
	f.StringVar(&s.maintenanceStart, "maintenance-start", "2026-01-03T04:00:00Z", "start of the window in which the cluster is upgraded")
	f.StringVar(&s.maintenanceRecurrence, "maintenance-recurrence", "FREQ=WEEKLY;BYDAY=SA,SU", "when that window comes again")
	f.StringVar(&s.backendHost, "backend-host", "", "DNS name under which the gateway reaches serve, such as backend.latam.example.com")
	f.StringVar(&s.dnsZone, "dns-zone", "", "Cloud DNS zone that gets the record of it (default you make the record)")
	f.StringSliceVar(&s.apiConsumers, "api-consumers", nil, "who calls the API, one key each")
	addCostSettings(f, s)
	f.VisitAll(func(flag *pflag.Flag) {
		annotate(flag, cloudOnly)
		annotate(flag, folded)
	})
	cmd.Flags().AddFlagSet(f)
	foldCloudSettings(cmd)
}

// addCostSettings are the settings of what watches the environment.
func addCostSettings(f *pflag.FlagSet, s *cloudSettings) {
	f.StringVar(&s.billingAccount, "billing-account", "", "billing account of the budget (default no budget)")
	f.Float64Var(&s.budgetAmount, "budget-amount", 0, "what a month may cost")
	f.StringVar(&s.budgetCurrency, "budget-currency", "USD", "currency of the budget, which is the account's")
	f.StringSliceVar(&s.budgetEmails, "budget-emails", nil, "who is told when the budget is used up")
	f.StringVar(&s.datadogSite, "datadog-site", "datadoghq.com", "site of Datadog")
	f.StringVar(&s.datadogIntegrationEmail, "datadog-integration-email", "", "Datadog's service account that reads the metrics of Google Cloud (default none does)")
	f.StringVar(&s.image, "image", "", "image of the services, by digest: REF@sha256:…")
}

func annotate(f *pflag.Flag, key string) {
	if f.Annotations == nil {
		f.Annotations = map[string][]string{}
	}
	f.Annotations[key] = nil
}

func annotated(f *pflag.Flag, key string) bool {
	_, ok := f.Annotations[key]
	return ok
}

// foldCloudSettings shows the settings of an environment by their names only.
func foldCloudSettings(cmd *cobra.Command) {
	help := (&cobra.Command{}).HelpFunc()
	cmd.SetHelpFunc(func(c *cobra.Command, args []string) {
		var names []string
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if annotated(f, folded) {
				f.Hidden = true
				names = append(names, "--"+f.Name)
			}
		})
		help(c, args)
		c.Flags().VisitAll(func(f *pflag.Flag) { f.Hidden = f.Hidden && !annotated(f, folded) })
		fmt.Fprintf(c.OutOrStdout(), "\nSettings of an environment on Google Cloud, best written into environments of latam.yaml\n(project: my-project); docs/cli.md explains them, latamctl config show --origin lists them:\n%s\n", wrap(names, 90))
	})
}

// wrap puts words into indented lines of at most so many columns.
func wrap(words []string, columns int) string {
	var lines []string
	line := " "
	for _, w := range words {
		if len(line)+1+len(w) > columns {
			lines, line = append(lines, line), " "
		}
		line += " " + w
	}
	return strings.Join(append(lines, line), "\n")
}

// onlySide refuses flags that belong to the other kind of environment.
func (a *app) onlySide(flags *pflag.FlagSet, unwanted, why string) error {
	var wrong []string
	flags.Visit(func(f *pflag.Flag) {
		if annotated(f, unwanted) {
			wrong = append(wrong, "--"+f.Name)
		}
	})
	if len(wrong) == 0 {
		return nil
	}
	return failf(exitUsage, "leave it out, or choose another environment with --env", "%s: %s", strings.Join(wrong, ", "), why)
}

// inCloud tells whether the environment is one on Google Cloud.
func (a *app) inCloud() (bool, error) {
	kind, err := a.declaredEngine(engine.Kind(a.global.engine))
	return kind == engine.GCP, err
}

// needCloud refuses a command that only an environment on Google Cloud has.
func (a *app) needCloud(what string) error {
	cloud, err := a.inCloud()
	if err != nil || cloud {
		return err
	}
	var names []string
	for _, e := range a.decl.Environments {
		for _, s := range e.Settings {
			if s.Key == "engine" && s.Value == string(engine.GCP) {
				names = append(names, "--env "+e.Name)
			}
		}
	}
	slices.Sort(names)
	hint := "declare one in latam.yaml: environments: {prod: {engine: gcp, project: my-project, region: us-central1}}"
	if len(names) > 0 {
		hint = "say " + strings.Join(names, " or ")
	}
	return failf(exitUsage, hint, "environment %s runs on this machine: %s is for environments with engine: gcp", a.global.env, what)
}
