package contract_test

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/latamctl/latamctl/pkg/stack/contract"
)

func goodSettings() contract.Settings {
	s := contract.DefaultSettings()
	s.Project = "my-project"
	return s.Defaults()
}

func TestDefaultSettings(t *testing.T) {
	t.Parallel()
	s := goodSettings()
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}
	if s.BigtableZones[0] != "us-central1-b" || s.BigqueryLocation != "us-central1" {
		t.Errorf("the zones are %v, BigQuery is in %s", s.BigtableZones, s.BigqueryLocation)
	}
	s.Region, s.BigtableZones, s.BigqueryLocation = "southamerica-west1", nil, ""
	if s = s.Defaults(); s.BigtableZones[0] != "southamerica-west1-b" || s.BigqueryLocation != "southamerica-west1" || s.Validate() != nil {
		t.Errorf("in another region: %+v, %v", s, s.Validate())
	}
}

func TestFields(t *testing.T) {
	t.Parallel()
	var s contract.Settings
	seen := map[string]bool{}
	for _, f := range s.Fields() {
		if seen[f.Key] || f.Key != strings.ToLower(f.Key) || f.Usage == "" || strings.Contains(f.Flag(), "_") {
			t.Errorf("the field %+v", f)
		}
		seen[f.Key] = true
		switch v := f.Value.(type) {
		case *string:
			*v = "x"
		case *int:
			*v = 7
		case *bool:
			*v = true
		case *float64:
			*v = 7
		case *[]string:
			*v = []string{"x"}
		case *time.Duration:
			*v = time.Hour
		default:
			t.Errorf("the field %s is a %T", f.Key, f.Value)
		}
	}
	// Every field of the struct is in the list: none is left at its zero.
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]any
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	for name, value := range all {
		if value == nil || value == "" || value == 0.0 || value == false {
			t.Errorf("Settings.%s is not among the fields", name)
		}
	}
	if len(all) != len(seen) {
		t.Errorf("%d fields of %d", len(seen), len(all))
	}
}

func TestSettingsFaults(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		set  func(s *contract.Settings)
		want string // "" is no fault
	}{
		{"no project", func(s *contract.Settings) { s.Project = "" }, "setting project: it is not set; expected a project id"},
		{"project", func(s *contract.Settings) { s.Project = "My Project" }, `setting project: expected a project id of 6 to 30 lower-case letters, digits and -, such as my-project, got "My Project"`},
		{"region", func(s *contract.Settings) { s.Region = "us-central1-b" }, `setting region: expected a region such as us-central1, got "us-central1-b"`},
		{"state", func(s *contract.Settings) { s.State = "gs://Bad_" }, `setting state: expected gs:// and the name of a bucket, or a folder, got "gs://Bad_"`},
		{"state folder", func(s *contract.Settings) { s.State = "./state" }, ""},
		{"state bucket", func(s *contract.Settings) { s.State = "gs://our-states" }, ""},
		{"github", func(s *contract.Settings) { s.GithubRepository = "x" }, `setting github_repository: expected OWNER/NAME, got "x"`},
		{"github ids", func(s *contract.Settings) { s.GithubRepository = "o/n" }, "setting github_owner_id: it is not set but github_repository is: a name can be taken over, its id cannot; `gh api repos/o/n --jq .owner.id` prints it"},
		{"github whole", func(s *contract.Settings) {
			s.GithubRepository, s.GithubRepositoryID, s.GithubOwnerID = "o/n", "12", "3"
		}, ""},
		{"no range", func(s *contract.Settings) { s.NetworkCIDR = "10.0.0.0" }, `setting network_cidr: expected a range of IPv4 addresses such as 10.10.0.0/20, got "10.0.0.0"`},
		{"range of IPv6", func(s *contract.Settings) { s.NetworkCIDR = "fd00::/20" }, "setting network_cidr: expected a range of IPv4"},
		{"range begins inside", func(s *contract.Settings) { s.PodsCIDR = "10.20.0.1/14" }, "setting pods_cidr: the address of 10.20.0.1/14 is not the first of its range; write 10.20.0.0/14"},
		{"range too small", func(s *contract.Settings) { s.ServicesCIDR = "10.24.0.0/28" }, "setting services_cidr: expected a range from /16 to /27, got 10.24.0.0/28"},
		{"ranges overlap", func(s *contract.Settings) { s.ServicesCIDR = "10.21.0.0/20" }, "setting services_cidr: 10.21.0.0/20 overlaps 10.20.0.0/14 of pods_cidr"},
		{"loopback", func(s *contract.Settings) { s.NetworkCIDR = "127.0.0.0/20" }, "setting network_cidr: 127.0.0.0/20 is no range that a network can have"},
		{"retention", func(s *contract.Settings) { s.TopicRetention = time.Hour }, "setting topic_retention: expected whole seconds from 2h to 31d, got 1h"},
		{"retention long", func(s *contract.Settings) { s.TopicRetention = 32 * 24 * time.Hour }, "setting topic_retention: expected whole seconds from 2h to 31d, got 32d"},
		{"attempts", func(s *contract.Settings) { s.DeadLetterAttempts = 5 }, "setting dead_letter_attempts: expected a whole number from 20 to 100, got 5"},
		{"instance", func(s *contract.Settings) { s.Instance = "short" }, "setting instance: expected 6 to 33 characters, got 5"},
		{"zone of another region", func(s *contract.Settings) { s.BigtableZones = []string{"us-east1-b"} }, `setting bigtable_zones: expected a zone of the region us-central1, such as us-central1-b, got "us-east1-b"`},
		{"zone twice", func(s *contract.Settings) { s.BigtableZones = []string{"us-central1-b", "us-central1-b"} }, `setting bigtable_zones: "us-central1-b" stands twice`},
		{"nodes", func(s *contract.Settings) { s.BigtableMinNodes = 20 }, "setting bigtable_min_nodes: 20 is more than bigtable_max_nodes, 10"},
		{"nodes too far apart", func(s *contract.Settings) { s.BigtableMaxNodes = 11 }, "setting bigtable_max_nodes: 11 is more than ten times bigtable_min_nodes, 1"},
		{"cpu", func(s *contract.Settings) { s.BigtableCPUTarget = 90 }, "setting bigtable_cpu_target: expected a whole number from 10 to 80, got 90"},
		{"storage", func(s *contract.Settings) { s.BigtableStorage = "ssd" }, `setting bigtable_storage: expected one of SSD, HDD, got "ssd"; did you mean SSD?`},
		{"no backups", func(s *contract.Settings) { s.BackupRetentionDays = 0 }, ""},
		{"backups", func(s *contract.Settings) { s.BackupRetentionDays = 2 }, "setting backup_retention_days: expected 3 to 90, or 0 for no backups, got 2"},
		{"location", func(s *contract.Settings) { s.BigqueryLocation = "EU" }, ""},
		{"bad location", func(s *contract.Settings) { s.BigqueryLocation = "Europe" }, "setting bigquery_location: expected a region such as us-central1, or US or EU"},
		{"machine", func(s *contract.Settings) { s.NodeMachineType = "big" }, "setting node_machine_type: "},
		{"node counts", func(s *contract.Settings) { s.NodeMin = 6 }, "setting node_min: 6 is more than node_max, 5"},
		{"channel", func(s *contract.Settings) { s.ReleaseChannel = "REGULR" }, "setting release_channel: expected one of RAPID, REGULAR, STABLE, EXTENDED, got \"REGULR\"; did you mean REGULAR?"},
		{"start", func(s *contract.Settings) { s.MaintenanceStart = "04:00" }, "setting maintenance_start: expected a time such as 2026-01-03T04:00:00Z, got \"04:00\""},
		{"recurrence", func(s *contract.Settings) { s.MaintenanceRecurrence = "weekly" }, "setting maintenance_recurrence: expected a rule such as FREQ=WEEKLY;BYDAY=SA,SU"},
		{"host", func(s *contract.Settings) { s.BackendHost = "https://x" }, "setting backend_host: expected a DNS name"},
		{"zone", func(s *contract.Settings) { s.DNSZone = "example.com" }, "setting dns_zone: expected the name of a managed zone"},
		{"consumers", func(s *contract.Settings) { s.APIConsumers = []string{"a", "A"} }, `setting api_consumers: expected names of lower-case letters, digits and -, got "A"`},
		{"billing", func(s *contract.Settings) { s.BillingAccount = "x" }, "setting billing_account: expected an id such as 01ABCD-234567-89EF01"},
		{"amount", func(s *contract.Settings) { s.BudgetAmount = -1 }, "setting budget_amount: expected an amount from 0 to 1e12, got -1"},
		{"no number", func(s *contract.Settings) { s.BudgetAmount = math.NaN() }, "setting budget_amount: "},
		{"currency", func(s *contract.Settings) { s.BudgetCurrency = "usd" }, "setting budget_currency: expected three capital letters"},
		{"mail", func(s *contract.Settings) { s.BudgetEmails = []string{"A <a@b.c>"} }, `setting budget_emails: expected an e-mail address, got "A <a@b.c>"`},
		{"mails", func(s *contract.Settings) { s.BudgetEmails = strings.Fields("a@b.c b@b.c c@b.c d@b.c e@b.c f@b.c") }, "setting budget_emails: expected at most 5, got 6"},
		{"site", func(s *contract.Settings) { s.DatadogSite = "us" }, "setting datadog_site: expected a site such as datadoghq.com"},
		{"integration", func(s *contract.Settings) { s.DatadogIntegrationEmail = "x" }, "setting datadog_integration_email: expected an e-mail address"},
		{"image", func(s *contract.Settings) { s.Image = "x:latest" }, "setting image: expected REF@sha256: and 64 hexadecimal digits"},
		{"whole image", func(s *contract.Settings) {
			s.Image = "us-central1-docker.pkg.dev/my-project/latam/latamctl@sha256:" + strings.Repeat("0a", 32)
		}, ""},
	} {
		s := goodSettings()
		c.set(&s)
		err := s.Validate()
		if c.want == "" {
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		var setting *contract.SettingError
		if !errors.As(err, &setting) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got\n%v\nwant\n%s", c.name, err, c.want)
		}
	}
}

func FuzzSettings(f *testing.F) {
	f.Add("project", "my-project")
	f.Add("network_cidr", "10.0.0.0/8")
	f.Add("bigtable_zones", "us-central1-b,us-central1-c")
	f.Add("region", "a+b")
	f.Add("topic_retention", "7d")
	f.Add("budget_emails", "a@b.c")
	f.Fuzz(func(t *testing.T, key, value string) {
		s := goodSettings()
		for _, field := range s.Fields() {
			if field.Key != key {
				continue
			}
			switch v := field.Value.(type) {
			case *string:
				*v = value
			case *[]string:
				*v = strings.Split(value, ",")
			case *int:
				*v = len(value) * 7
			case *float64:
				*v = float64(len(value)) * 1e11
			case *time.Duration:
				*v = time.Duration(len(value)) * time.Hour
			case *bool:
				*v = value != ""
			}
		}
		err := s.Validate()
		for _, line := range strings.Split(errText(err), "\n") {
			if err != nil && !strings.HasPrefix(line, "setting ") {
				t.Fatalf("%s = %q: the message is %q", key, value, line)
			}
		}
		// What Validate takes has values that a var file can have.
		e := example(t)
		e.Settings = s
		if err != nil {
			return
		}
		values, err := e.Values(everything())
		if err != nil {
			var setting *contract.SettingError
			if !errors.As(err, &setting) {
				t.Fatalf("%s = %q: %v", key, value, err)
			}
			return
		}
		if _, err := json.Marshal(values); err != nil {
			t.Fatalf("%s = %q: %v", key, value, err)
		}
	})
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
