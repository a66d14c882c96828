package estimate

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"time"
)

// Load is what arrives and what is asked for, all datasets together.
type Load struct {
	// Rate is how many records are published a second.
	Rate float64 `json:"records_per_second"`
	// Bytes is the size of a record as JSON.
	Bytes int64 `json:"record_bytes"`
	// Retention is how long rows are kept.
	Retention time.Duration `json:"-"`
	// Reads is how many pages of PageRows rows the API answers a second.
	Reads float64 `json:"reads_per_second"`
	// Datasets is how many topics the records come by.
	Datasets int `json:"datasets"`
	// Indexes is how many index entries are written with a record.
	Indexes int `json:"indexes"`
}

// Environment is where the load runs: the settings that its size and cost depend on.
type Environment struct {
	Name string `json:"name"`
	// Region is compared with that of the prices; empty is the same.
	Region      string `json:"region,omitempty"`
	MachineType string `json:"node_machine_type"`
	// NodeZones is in how many zones the cluster has nodes; NodeMin and NodeMax count in each.
	NodeZones int `json:"node_zones"`
	NodeMin   int `json:"node_min"`
	NodeMax   int `json:"node_max"`
	// BigtableClusters is how many copies of the tables there are, one in each of bigtable_zones.
	BigtableClusters  int           `json:"bigtable_clusters"`
	BigtableMinNodes  int           `json:"bigtable_min_nodes"`
	BigtableMaxNodes  int           `json:"bigtable_max_nodes"`
	BigtableCPUTarget int           `json:"bigtable_cpu_target"`
	BigtableStorage   string        `json:"bigtable_storage"`
	BackupDays        int           `json:"backup_retention_days"`
	TopicRetention    time.Duration `json:"-"`
	// Datadog counts the Agent's hosts into the total.
	Datadog bool `json:"datadog"`
}

// MarshalJSON writes the retention in seconds.
func (l Load) MarshalJSON() ([]byte, error) {
	type plain Load
	return json.Marshal(struct {
		plain
		Seconds float64 `json:"retention_seconds"`
	}{plain(l), l.Retention.Seconds()})
}

// MarshalJSON writes the retention of topics in seconds.
func (e Environment) MarshalJSON() ([]byte, error) {
	type plain Environment
	return json.Marshal(struct {
		plain
		Seconds float64 `json:"topic_retention_seconds"`
	}{plain(e), e.TopicRetention.Seconds()})
}

// The limits of what an estimate takes.
const (
	maxRate      = 10e6
	maxBytes     = 10_000_000 // Pub/Sub takes no larger message.
	maxRetention = 100 * 365 * 24 * time.Hour
)

// InputError says that a number cannot be used. Field is named as the flag or the setting is.
type InputError struct{ Field, Detail string }

func (e *InputError) Error() string { return e.Field + ": " + e.Detail }

func inputf(field, format string, args ...any) error {
	return &InputError{Field: field, Detail: fmt.Sprintf(format, args...)}
}

// Validate finds numbers that no system can have.
func (l Load) Validate() error {
	switch {
	case !(l.Rate > 0 && l.Rate <= maxRate): // So NaN is refused too.
		return inputf("rate", "expected more than 0/s and at most %s, got %s", FormatRate(maxRate), FormatRate(l.Rate))
	case l.Bytes < 1 || l.Bytes > maxBytes:
		return inputf("size", "expected 1B to 10MB, which is as large as a message of Pub/Sub can be, got %s", FormatBytes(l.Bytes))
	case l.Retention < time.Hour || l.Retention > maxRetention:
		return inputf("retention", "expected 1h to 36500d, got %s", l.Retention)
	case !(l.Reads >= 0 && l.Reads <= maxRate):
		return inputf("reads", "expected at most %s, got %s", FormatRate(maxRate), FormatRate(l.Reads))
	case l.Datasets < 1 || l.Indexes < 0:
		return inputf("datasets", "expected one at least, got %d with %d indexes", l.Datasets, l.Indexes)
	}
	return nil
}

// Validate finds settings that no environment can have.
func (e Environment) Validate() error {
	switch {
	case e.NodeZones < 1 || e.NodeMin < 0 || e.NodeMax < max(1, e.NodeMin):
		return inputf("node_max", "expected node_max of at least 1 and node_min in %d zones, got %d to %d", e.NodeZones, e.NodeMin, e.NodeMax)
	case e.BigtableClusters < 1 || e.BigtableMinNodes < 1 || e.BigtableMaxNodes < e.BigtableMinNodes:
		return inputf("bigtable_max_nodes", "expected at least one cluster and bigtable_min_nodes of 1, got %d clusters of %d to %d nodes", e.BigtableClusters, e.BigtableMinNodes, e.BigtableMaxNodes)
	case e.BigtableCPUTarget < 10 || e.BigtableCPUTarget > 80:
		return inputf("bigtable_cpu_target", "expected 10 to 80, got %d", e.BigtableCPUTarget)
	case e.BigtableStorage != "SSD" && e.BigtableStorage != "HDD":
		return inputf("bigtable_storage", "expected SSD or HDD, got %q", e.BigtableStorage)
	case e.BackupDays < 0 || e.TopicRetention < 0:
		return inputf("backup_retention_days", "expected no negative retention, got %d days, and %s of topics", e.BackupDays, e.TopicRetention)
	}
	return nil
}

// machine is a machine type: what it has, and of which family its prices are.
type machine struct {
	family    string
	vcpu, gib float64
}

var machineType = regexp.MustCompile(`^([a-z0-9]+)-(standard|highmem|highcpu)-([0-9]{1,3})$`)

// parseMachine reads a predefined machine type. Memory follows from its kind, for the families whose
// prices are in the list.
func parseMachine(name string, prices *PriceList) (machine, error) {
	match := machineType.FindStringSubmatch(name)
	if match == nil {
		return machine{}, inputf("node_machine_type", "expected one such as e2-standard-4, got %q", name)
	}
	if _, ok := prices.Find("compute." + match[1] + ".vcpu"); !ok {
		return machine{}, inputf("node_machine_type", "the price list has e2, n2 and n2d, not %q; estimate with the nearest of these", name)
	}
	vcpu, err := strconv.Atoi(match[3])
	if err != nil || vcpu < 2 {
		return machine{}, inputf("node_machine_type", "expected 2 processors at least, got %q", name)
	}
	perCPU := map[string]float64{"standard": 4, "highmem": 8, "highcpu": 1}[match[2]]
	return machine{family: match[1], vcpu: float64(vcpu), gib: float64(vcpu) * perCPU}, nil
}

// Estimate is what a load needs and costs.
type Estimate struct {
	Schema      string      `json:"schema"`
	Load        Load        `json:"load"`
	Environment Environment `json:"environment"`
	Sizes       Sizes       `json:"sizes"`
	// Lines are the parts of TotalUSD, by component.
	Lines    []Line  `json:"lines"`
	TotalUSD float64 `json:"total_usd_per_month"`
	// Optional is what comes on top, and is not in the total.
	Optional []Line `json:"optional"`
	// Ways compares how records can come from the topic to Bigtable.
	Ways []Way `json:"ways"`
	// Warnings are limits of the environment that the load does not fit into.
	Warnings []string `json:"warnings"`
	// Prices are those that were used, each with its source.
	Prices     []Price `json:"prices"`
	PriceRead  string  `json:"prices_read"`
	PricesFrom string  `json:"prices_region"`
}

// Schema is the name of the JSON form of an Estimate.
const Schema = "latamctl.estimate/v1"

// Compute sizes and prices a load in an environment. An error is an *InputError, or says that the
// price list lacks a price.
func Compute(prices *PriceList, load Load, env Environment) (*Estimate, error) {
	if err := load.Validate(); err != nil {
		return nil, err
	}
	if err := env.Validate(); err != nil {
		return nil, err
	}
	m, err := parseMachine(env.MachineType, prices)
	if err != nil {
		return nil, err
	}
	s, err := size(load, env, m)
	if err != nil {
		return nil, err
	}
	b := &bill{prices: prices, load: load, env: env, machine: m, sizes: s}
	b.messaging()
	b.storage()
	b.analytics()
	b.cluster()
	b.wayIn()
	e := &Estimate{
		Schema: Schema, Load: load, Environment: env, Sizes: s, Lines: b.lines,
		Warnings: s.warnings(env), PriceRead: prices.Read, PricesFrom: prices.Region,
	}
	e.Optional = []Line{b.priced("Datadog", "hosts with the Agent, without logs and custom metrics", "datadog.host", float64(s.Nodes))}
	if env.Datadog {
		e.Lines, e.Optional = append(e.Lines, e.Optional...), []Line{}
	}
	for _, l := range e.Lines {
		e.TotalUSD += l.USD
	}
	if env.Region != "" && env.Region != prices.Region {
		e.Warnings = append(e.Warnings, fmt.Sprintf("the prices are of %s, and the environment is in %s, which may cost more", prices.Region, env.Region))
	}
	e.Ways = b.ways()
	e.Prices = b.used()
	return e, b.err
}
