package contract

import (
	"errors"
	"fmt"
	"strings"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/warehouse"
)

// Names are the names of what the stacks make for all datasets together. They follow from the
// declaration's name alone, so that a plan knows them before anything exists.
type Names struct {
	Network, Subnetwork, Router, NAT string
	// PodsRange and ServicesRange are secondary ranges of the subnet.
	PodsRange, ServicesRange string
	Registry, Cluster        string
	// The accounts are ids; the e-mail of one is made by Email.
	IngestAccount, ServeAccount, NodeAccount, GatewayAccount, PlanAccount, ApplyAccount string
	Namespace                                                                           string
	BigtableInstance, BigqueryDataset                                                   string
	Address, Gateway, GatewayAPI                                                        string
	// ManagedService is how API Gateway names the service of GatewayAPI: with a part of its own choice, which is * here.
	ManagedService string
	DatadogSecret  string
	// DatadogAppSecret holds an application key, where ingest scales on its lag.
	DatadogAppSecret string
	// StateBucket is the bucket of the states unless the setting state names another place.
	StateBucket string
}

// BigtableInstance is the id of the instance of a declaration in the cloud: its name, with
// "-bigtable" when the name alone has fewer than the 6 characters that Bigtable asks for.
func BigtableInstance(declaration string) string {
	if len(declaration) < minInstance {
		return declaration + "-bigtable"
	}
	return declaration
}

// Names returns the environment's names.
func (e *Environment) Names() Names {
	name := e.Declaration.Name
	n := Names{ //nolint:gosec // Names of objects are no credentials.
		Network: name, Subnetwork: name, Router: name, NAT: name + "-nat",
		PodsRange: "pods", ServicesRange: "services",
		Registry: name, Cluster: name, Namespace: name,
		IngestAccount: name + "-ingest", ServeAccount: name + "-serve", NodeAccount: name + "-nodes",
		GatewayAccount: name + "-gateway", PlanAccount: name + "-plan", ApplyAccount: name + "-apply",
		BigtableInstance: e.Settings.Instance, BigqueryDataset: warehouse.DatasetID(name),
		Address: name + "-api", Gateway: name, GatewayAPI: name,
		ManagedService:   name + "-*.apigateway." + e.Settings.Project + ".cloud.goog",
		DatadogSecret:    "datadog-keys",
		DatadogAppSecret: "datadog-app",
		StateBucket:      e.Settings.Project + "-" + name + "-tfstate",
	}
	if n.BigtableInstance == "" {
		n.BigtableInstance = BigtableInstance(name)
	}
	return n
}

// Email is the address of one of the environment's service accounts.
func (e *Environment) Email(account string) string {
	return account + "@" + e.Settings.Project + ".iam.gserviceaccount.com"
}

// StateLocation is where the environment's states are: gs:// and a bucket, or a folder.
func (e *Environment) StateLocation() string {
	if e.Settings.State == "" {
		return "gs://" + e.Names().StateBucket
	}
	return e.Settings.State
}

// What Google Cloud asks of names, in characters.
const (
	minInstance = 6
	maxInstance = 33
	maxCluster  = 30
	maxAccount  = 30
	maxBucket   = 63
	maxPubsub   = 255
	maxLabel    = 63 // also of an API key's name
)

// checkNames returns an error for each name that Google Cloud would refuse.
func (e *Environment) checkNames() error {
	var faults []error
	check := func(what, name string, least, most int) {
		switch {
		case len(name) > most:
			faults = append(faults, &SettingError{Key: "name", Message: fmt.Sprintf("the %s %s has %d characters, at most %d are allowed; shorten \"name\" in %s", what, name, len(name), most, e.file())})
		case len(name) < least:
			faults = append(faults, &SettingError{Key: "name", Message: fmt.Sprintf("the %s %s has %d characters, at least %d are needed; lengthen \"name\" in %s", what, name, len(name), least, e.file())})
		}
	}
	n := e.Names()
	for _, id := range []string{n.IngestAccount, n.ServeAccount, n.NodeAccount, n.GatewayAccount, n.PlanAccount, n.ApplyAccount} {
		check("service account", id, 6, maxAccount)
	}
	if e.StateBucket != "" {
		check("state bucket", e.StateBucket, 3, maxBucket)
	}
	if e.Settings.Instance == "" {
		check("Bigtable instance", n.BigtableInstance, minInstance, maxInstance)
	}
	for _, zone := range e.Settings.BigtableZones {
		check("Bigtable cluster", e.Declaration.Name+"-"+zoneSuffix(zone), 6, maxCluster)
	}
	// A key is named <name>-<consumer>-<6 characters>, which has to fit maxLabel.
	for _, consumer := range e.Settings.APIConsumers {
		if most := maxLabel - len("--123456") - len(e.Declaration.Name); len(consumer) > most {
			faults = append(faults, &SettingError{Key: "api_consumers", Message: fmt.Sprintf("%s has %d characters, at most %d are allowed beside the name %s", consumer, len(consumer), most, e.Declaration.Name)})
		}
	}
	return errors.Join(append(faults, e.checkDatasets()...)...)
}

func (e *Environment) file() string {
	if e.Declaration.File == "" {
		return "latam.yaml"
	}
	return e.Declaration.File
}

// zoneSuffix is what a zone's name has after its region: b for us-central1-b.
func zoneSuffix(zone string) string { return zone[strings.LastIndexByte(zone, '-')+1:] }

// The names of a dataset that only the cloud has.

func bigquerySubscription(ds *dataset.Dataset) string { return ds.Topic + "-bigquery" }

func bigqueryDead(ds *dataset.Dataset) string { return bigquerySubscription(ds) + "-dead" }

func bigqueryDeadInspect(ds *dataset.Dataset) string { return bigqueryDead(ds) + "-inspect" }

func bigqueryTable(ds *dataset.Dataset) string { return strings.ReplaceAll(ds.Name, "-", "_") }

// bigqueryView is the view that aggregates are read from; its name has the dashes of the dataset.
func bigqueryView(ds *dataset.Dataset) string { return ds.Name + "_latest" }

// checkDatasets finds datasets that would share a name in the cloud, or have one that is too long.
func (e *Environment) checkDatasets() []error {
	var faults []error
	owner := map[string]string{}
	claim := func(what, name, key, ds string) {
		if before, ok := owner[what+" "+name]; ok && before != ds {
			faults = append(faults, &SettingError{Key: "datasets", Message: fmt.Sprintf("the %s %s of dataset %s is also one of dataset %s; %s in %s", what, name, ds, before, key, e.file())})
			return
		}
		owner[what+" "+name] = ds
	}
	for _, ds := range e.Declaration.Datasets {
		for _, id := range []string{ds.Topic, ds.DeadLetterTopic(), bigqueryDead(ds)} {
			claim("topic", id, "rename one of their topics", ds.Name)
		}
		for _, id := range []string{ds.Subscription(), ds.DeadLetterSubscription(), bigquerySubscription(ds), bigqueryDeadInspect(ds)} {
			claim("subscription", id, "rename one of their topics", ds.Name)
		}
		for _, id := range []string{bigqueryTable(ds), bigqueryView(ds), bigqueryTable(ds) + "_live"} {
			claim("BigQuery table", id, "rename one of them", ds.Name)
		}
		if id := bigqueryDeadInspect(ds); len(id) > maxPubsub {
			faults = append(faults, &SettingError{Key: "datasets", Message: fmt.Sprintf("dataset %s: the subscription %s has %d characters, at most %d are allowed; set a shorter \"topic\" in %s",
				ds.Name, id, len(id), maxPubsub, e.file())})
		}
	}
	return faults
}
