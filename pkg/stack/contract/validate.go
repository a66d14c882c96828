package contract

import (
	"errors"
	"fmt"
	"net/mail"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/strictyaml"
)

var (
	projectID      = regexp.MustCompile(`^[a-z][a-z0-9-]{4,28}[a-z0-9]$`)
	regionName     = regexp.MustCompile(`^[a-z]+-[a-z]+[0-9]+$`)
	zoneName       = regexp.MustCompile(`^[a-z]+-[a-z]+[0-9]+-[a-z]$`)
	locationName   = regexp.MustCompile(`^([A-Z]{2}|[a-z]+-[a-z]+[0-9]+)$`)
	bucketURL      = regexp.MustCompile(`^gs://[a-z0-9][a-z0-9_.-]{1,61}[a-z0-9]$`)
	repositoryName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9-]{0,38}/[A-Za-z0-9._-]{1,100}$`)
	digits         = regexp.MustCompile(`^[1-9][0-9]{0,18}$`)
	instanceID     = regexp.MustCompile(`^[a-z][a-z0-9-]*[a-z0-9]$`)
	machineType    = regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]+)+$`)
	recurrenceRule = regexp.MustCompile(`^FREQ=(DAILY|WEEKLY|MONTHLY|YEARLY)(;[A-Z]+=[A-Z0-9,+-]+)*$`)
	hostName       = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])$`)
	resourceName   = regexp.MustCompile(`^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$`)
	billingID      = regexp.MustCompile(`^[0-9A-F]{6}-[0-9A-F]{6}-[0-9A-F]{6}$`)
	currencyCode   = regexp.MustCompile(`^[A-Z]{3}$`)
	imageDigest    = regexp.MustCompile(`^[a-z0-9][a-zA-Z0-9._:/-]*@sha256:[0-9a-f]{64}$`)
)

// maxEmails is how many notification channels a budget can have.
const maxEmails = 5

// checker collects the faults of settings.
type checker struct{ faults []error }

func (c *checker) fault(key, format string, args ...any) {
	c.faults = append(c.faults, &SettingError{Key: key, Message: fmt.Sprintf(format, args...)})
}

// match checks a setting that may be empty.
func (c *checker) match(key, value string, re *regexp.Regexp, expected string) {
	if value != "" {
		c.need(key, value, re, expected)
	}
}

// need checks a setting that must be there.
func (c *checker) need(key, value string, re *regexp.Regexp, expected string) {
	switch {
	case value == "":
		c.fault(key, "it is not set; expected %s", expected)
	case !re.MatchString(value):
		c.fault(key, "expected %s, got %s", expected, strictyaml.Quote(value))
	}
}

func (c *checker) oneOf(key, value string, choices ...string) {
	if slices.Contains(choices, value) {
		return
	}
	hint := ""
	if near := strictyaml.Nearest(value, choices); near != "" {
		hint = fmt.Sprintf("; did you mean %s?", near)
	}
	c.fault(key, "expected one of %s, got %s%s", strings.Join(choices, ", "), strictyaml.Quote(value), hint)
}

func (c *checker) within(key string, value, least, most int) {
	if value < least || value > most {
		c.fault(key, "expected a whole number from %d to %d, got %d", least, most, value)
	}
}

// distinct checks each text of a list, of which none may stand twice.
func (c *checker) distinct(key string, values []string, re *regexp.Regexp, expected string) {
	for i, value := range values {
		if slices.Contains(values[:i], value) {
			c.fault(key, "%s stands twice", strictyaml.Quote(value))
			continue
		}
		c.need(key, value, re, expected)
	}
}

// Validate checks every setting. The error joins a *SettingError for each fault.
func (s Settings) Validate() error {
	c := &checker{}
	c.need("project", s.Project, projectID, "a project id of 6 to 30 lower-case letters, digits and -, such as my-project")
	c.need("region", s.Region, regionName, "a region such as us-central1")
	if strings.HasPrefix(s.State, "gs:") {
		c.need("state", s.State, bucketURL, "gs:// and the name of a bucket, or a folder")
	}
	s.checkGithub(c)
	s.checkAddresses(c)
	s.checkData(c)
	s.checkCluster(c)
	s.checkEdge(c)
	s.checkWatch(c)
	return errors.Join(c.faults...)
}

func (s Settings) checkGithub(c *checker) {
	c.match("github_repository", s.GithubRepository, repositoryName, "OWNER/NAME")
	c.match("github_repository_id", s.GithubRepositoryID, digits, "the numeric id of the repository")
	c.match("github_owner_id", s.GithubOwnerID, digits, "the numeric id of the owner")
	if s.GithubRepository == "" {
		return
	}
	for _, id := range []struct{ key, value, field string }{
		{"github_repository_id", s.GithubRepositoryID, ".id"},
		{"github_owner_id", s.GithubOwnerID, ".owner.id"},
	} {
		if id.value == "" {
			c.fault(id.key, "it is not set but github_repository is: a name can be taken over, its id cannot; `gh api repos/%s --jq %s` prints it", s.GithubRepository, id.field)
		}
	}
}

func (s Settings) checkAddresses(c *checker) {
	ranges := []struct {
		key, value  string
		short, long int // of the prefix, in bits
		prefix      netip.Prefix
	}{
		{key: "network_cidr", value: s.NetworkCIDR, short: 8, long: 28},
		{key: "pods_cidr", value: s.PodsCIDR, short: 9, long: 24},
		{key: "services_cidr", value: s.ServicesCIDR, short: 16, long: 27},
	}
	for i := range ranges {
		r := &ranges[i]
		p, err := netip.ParsePrefix(r.value)
		switch {
		case err != nil || !p.Addr().Is4():
			c.fault(r.key, "expected a range of IPv4 addresses such as 10.10.0.0/20, got %s", strictyaml.Quote(r.value))
			continue
		case p != p.Masked():
			c.fault(r.key, "the address of %s is not the first of its range; write %s", p, p.Masked())
			continue
		case p.Bits() < r.short || p.Bits() > r.long:
			c.fault(r.key, "expected a range from /%d to /%d, got %s", r.short, r.long, p)
		case p.Addr().IsLoopback() || p.Addr().IsMulticast() || p.Addr().IsLinkLocalUnicast() || p.Addr().IsUnspecified():
			c.fault(r.key, "%s is no range that a network can have; take a private one such as 10.10.0.0/20", p)
		}
		r.prefix = p
		for _, before := range ranges[:i] {
			if before.prefix.IsValid() && before.prefix.Overlaps(p) {
				c.fault(r.key, "%s overlaps %s of %s", p, before.prefix, before.key)
			}
		}
	}
}

func (s Settings) checkData(c *checker) {
	const least, most = 2 * time.Hour, 31 * 24 * time.Hour
	if s.TopicRetention < least || s.TopicRetention > most || s.TopicRetention%time.Second != 0 {
		c.fault("topic_retention", "expected whole seconds from 2h to 31d, got %s", dataset.FormatDuration(s.TopicRetention))
	}
	c.within("dead_letter_attempts", s.DeadLetterAttempts, 20, 100)
	c.match("instance", s.Instance, instanceID, "lower-case letters, digits and -, a letter first")
	if n := len(s.Instance); n > 0 && (n < minInstance || n > maxInstance) {
		c.fault("instance", "expected %d to %d characters, got %d", minInstance, maxInstance, n)
	}
	s.checkZones(c)
	s.checkNodes(c)
	c.oneOf("bigtable_storage", s.BigtableStorage, "SSD", "HDD")
	if s.BackupRetentionDays != 0 && (s.BackupRetentionDays < 3 || s.BackupRetentionDays > 90) {
		c.fault("backup_retention_days", "expected 3 to 90, or 0 for no backups, got %d", s.BackupRetentionDays)
	}
	c.need("bigquery_location", s.BigqueryLocation, locationName, "a region such as us-central1, or US or EU")
}

func (s Settings) checkZones(c *checker) {
	if len(s.BigtableZones) == 0 || len(s.BigtableZones) > 8 {
		c.fault("bigtable_zones", "expected 1 to 8 zones, got %d", len(s.BigtableZones))
	}
	zone := "a zone such as us-central1-b"
	if regionName.MatchString(s.Region) {
		zone = fmt.Sprintf("a zone of the region %s, such as %s-b", s.Region, s.Region)
	}
	c.distinct("bigtable_zones", s.BigtableZones, zoneName, zone)
	for _, z := range s.BigtableZones {
		if zoneName.MatchString(z) && z[:len(z)-2] != s.Region {
			c.fault("bigtable_zones", "expected %s, got %q", zone, z)
		}
	}
}

func (s Settings) checkNodes(c *checker) {
	c.within("bigtable_min_nodes", s.BigtableMinNodes, 1, 1000)
	c.within("bigtable_max_nodes", s.BigtableMaxNodes, 1, 1000)
	switch {
	case s.BigtableMinNodes > s.BigtableMaxNodes:
		c.fault("bigtable_min_nodes", "%d is more than bigtable_max_nodes, %d", s.BigtableMinNodes, s.BigtableMaxNodes)
	case s.BigtableMinNodes > 0 && s.BigtableMaxNodes > 10*s.BigtableMinNodes:
		c.fault("bigtable_max_nodes", "%d is more than ten times bigtable_min_nodes, %d, which Bigtable refuses", s.BigtableMaxNodes, s.BigtableMinNodes)
	}
	c.within("bigtable_cpu_target", s.BigtableCPUTarget, 10, 80)
}

func (s Settings) checkCluster(c *checker) {
	c.need("node_machine_type", s.NodeMachineType, machineType, "a machine type such as e2-standard-4")
	c.within("node_min", s.NodeMin, 0, 1000)
	c.within("node_max", s.NodeMax, 1, 1000)
	if s.NodeMin > s.NodeMax {
		c.fault("node_min", "%d is more than node_max, %d", s.NodeMin, s.NodeMax)
	}
	c.oneOf("release_channel", s.ReleaseChannel, "RAPID", "REGULAR", "STABLE", "EXTENDED")
	if _, err := time.Parse(time.RFC3339, s.MaintenanceStart); err != nil {
		c.fault("maintenance_start", "expected a time such as 2026-01-03T04:00:00Z, got %s", strictyaml.Quote(s.MaintenanceStart))
	}
	c.need("maintenance_recurrence", s.MaintenanceRecurrence, recurrenceRule, "a rule such as FREQ=WEEKLY;BYDAY=SA,SU")
	c.match("image", s.Image, imageDigest, "REF@sha256: and 64 hexadecimal digits, so that what runs is what was built")
}

func (s Settings) checkEdge(c *checker) {
	c.match("backend_host", s.BackendHost, hostName, "a DNS name such as backend.latam.example.com")
	c.match("dns_zone", s.DNSZone, resourceName, "the name of a managed zone, such as example-com")
	c.distinct("api_consumers", s.APIConsumers, resourceName, "names of lower-case letters, digits and -")
}

func (s Settings) checkWatch(c *checker) {
	c.match("billing_account", s.BillingAccount, billingID, "an id such as 01ABCD-234567-89EF01")
	if !(s.BudgetAmount >= 0 && s.BudgetAmount <= 1e12) {
		c.fault("budget_amount", "expected an amount from 0 to 1e12, got %v", s.BudgetAmount)
	}
	c.need("budget_currency", s.BudgetCurrency, currencyCode, "three capital letters such as USD")
	if len(s.BudgetEmails) > maxEmails {
		c.fault("budget_emails", "expected at most %d, got %d", maxEmails, len(s.BudgetEmails))
	}
	for i, email := range s.BudgetEmails {
		if slices.Contains(s.BudgetEmails[:i], email) {
			c.fault("budget_emails", "%s stands twice", strictyaml.Quote(email))
		}
		c.email("budget_emails", email)
	}
	c.need("datadog_site", s.DatadogSite, hostName, "a site such as datadoghq.com or datadoghq.eu")
	if s.DatadogIntegrationEmail != "" {
		c.email("datadog_integration_email", s.DatadogIntegrationEmail)
	}
}

func (c *checker) email(key, value string) {
	if a, err := mail.ParseAddress(value); err != nil || a.Address != value {
		c.fault(key, "expected an e-mail address, got %s", strictyaml.Quote(value))
	}
}
