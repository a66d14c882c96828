package estimate

import "fmt"

// Line is one part of the bill of a month.
type Line struct {
	Component string `json:"component"`
	What      string `json:"what"`
	// Amount counts units of the price.
	Amount float64 `json:"amount"`
	Unit   string  `json:"unit"`
	USD    float64 `json:"usd_per_month"`
	// Price is the key of the price.
	Price string `json:"price"`
}

// bill adds up lines, and keeps the first price that is not in the list as its error.
type bill struct {
	prices  *PriceList
	load    Load
	env     Environment
	machine machine
	sizes   Sizes
	lines   []Line
	keys    []string
	err     error
}

// priced is a line that is not on the bill yet.
func (b *bill) priced(component, what, key string, amount float64) Line {
	p, ok := b.prices.Find(key)
	if !ok && b.err == nil {
		b.err = fmt.Errorf("compute an estimate: the price list has no price %s", key)
	}
	b.keys = append(b.keys, key)
	return Line{Component: component, What: what, Amount: amount, Unit: p.Unit, USD: p.cost(amount), Price: key}
}

func (b *bill) add(component, what, key string, amount float64) {
	b.lines = append(b.lines, b.priced(component, what, key, amount))
}

// used are the prices of the bill, in the order of the list.
func (b *bill) used() []Price {
	keys := map[string]bool{}
	for _, k := range b.keys {
		keys[k] = true
	}
	var used []Price
	for _, p := range b.prices.Prices {
		if keys[p.Key] {
			used = append(used, p)
		}
	}
	return used
}

func (b *bill) messaging() {
	b.add("Pub/Sub", "published, and delivered to ingest", "pubsub.delivery", 2*b.sizes.MessageTiB)
	b.add("Pub/Sub", "BigQuery subscription", "pubsub.bigquery", b.sizes.MessageTiB)
	b.add("Pub/Sub", "kept by the topics for replay", "pubsub.storage", b.sizes.TopicGiB)
}

func (b *bill) storage() {
	disk := map[string]string{"SSD": "bigtable.ssd", "HDD": "bigtable.hdd"}[b.env.BigtableStorage]
	b.add("Bigtable", "nodes", "bigtable.node", float64(b.sizes.BigtableNodes)*monthHours)
	b.add("Bigtable", "rows and indexes", disk, b.sizes.BigtableGiB)
	if b.env.BackupDays > 0 {
		b.add("Bigtable", "backups", "bigtable.backup", b.sizes.BackupGiB)
	}
}

func (b *bill) analytics() {
	b.add("BigQuery", "records of the last 90 days", "bigquery.active", b.sizes.BigQueryGiB-b.sizes.BigQueryLongTermGiB)
	if b.sizes.BigQueryLongTermGiB > 0 {
		b.add("BigQuery", "older records", "bigquery.longterm", b.sizes.BigQueryLongTermGiB)
	}
}

func (b *bill) cluster() {
	hours := float64(b.sizes.Nodes) * monthHours
	b.add("GKE", "control plane", "gke.cluster", monthHours)
	b.add("GKE", "processors of the nodes", "compute."+b.machine.family+".vcpu", hours*b.machine.vcpu)
	b.add("GKE", "memory of the nodes", "compute."+b.machine.family+".memory", hours*b.machine.gib)
	b.add("GKE", "disks of the nodes", "compute.disk", float64(b.sizes.Nodes)*nodeDiskGiB)
	const natVMs = 32 // More cost nothing more.
	b.add("NAT", "nodes", "nat.vm", float64(min(b.sizes.Nodes, natVMs))*monthHours)
	b.add("NAT", "address", "nat.address", monthHours)
	b.add("NAT", "data", "nat.data", float64(b.sizes.Nodes)*NATGiBPerNode)
}

func (b *bill) wayIn() {
	const armorRules = 9
	millions := b.load.Reads * monthSeconds / 1e6
	asked := b.load.Reads * monthSeconds * RequestBytes / gib
	b.add("Load balancer", "forwarding rule", "lb.rule", monthHours)
	b.add("Load balancer", "requests and answers", "lb.data", asked+b.sizes.AnswerGiB)
	b.add("Cloud Armor", "policy", "armor.policy", 1)
	b.add("Cloud Armor", "rules", "armor.rule", armorRules)
	b.add("Cloud Armor", "requests", "armor.requests", millions)
	b.add("API Gateway", "calls", "gateway.calls", millions)
	b.add("API Gateway", "answers to the internet", "network.out", b.sizes.AnswerGiB)
	b.add("Logging", "logs", "logging.storage", float64(b.sizes.Nodes)*LogGiBPerNode+b.load.Reads*monthSeconds*LogBytesPerRead/gib)
}

// Way is how records can come from the topic to Bigtable, with what only that costs.
type Way struct {
	Name string `json:"name"`
	// USD is what this step costs a month. Publishing, and Bigtable itself, are the same for all.
	USD float64 `json:"usd_per_month"`
	// Needs is what it runs on.
	Needs string `json:"needs"`
	// Note says what the number does not.
	Note string `json:"note"`
}

// The worker that Google's figure for writing to Bigtable is from, an e2-standard-2.
const (
	dataflowVCPU, dataflowGiB, dataflowDiskGiB = 2, 8, 30
	// DataflowWrites is Google's figure of a batch that writes rows of 1 kB, elements a second.
	DataflowWrites = 60000
	dataflowLoad   = 0.6
)

// ways compares the step from the topic to Bigtable. Free allowances, which the bill has once, are left out.
func (b *bill) ways() []Way {
	flat := func(key string, amount float64) float64 {
		b.priced("", "", key, 0) // So that a missing price is an error, and a used one is listed.
		p, _ := b.prices.Find(key)
		p.Free = 0
		return p.cost(amount)
	}
	delivery := flat("pubsub.delivery", b.sizes.MessageTiB)
	node := monthHours*(flat("compute."+b.machine.family+".vcpu", b.machine.vcpu)+flat("compute."+b.machine.family+".memory", b.machine.gib)) + flat("compute.disk", nodeDiskGiB)
	share := float64(b.sizes.IngestPods) / float64(b.sizes.PodsPerNode)

	perJob := b.load.Rate / float64(b.load.Datasets) * max(1, float64(b.load.Bytes)/BigtableRowBytes)
	workers := b.load.Datasets * max(1, ceil(perJob/(DataflowWrites*dataflowLoad)))
	worker := monthHours * (flat("dataflow.vcpu", dataflowVCPU) + flat("dataflow.memory", dataflowGiB) + flat("dataflow.disk", dataflowDiskGiB))
	data := flat("dataflow.data", b.load.Rate*monthSeconds*float64(b.load.Bytes)/gib)
	return []Way{
		{
			Name: "latamctl ingest", USD: delivery + share*node,
			Needs: plural(b.sizes.IngestPods, "pod") + " for all datasets",
			Note:  "the pods' share of the nodes, which the minimum of nodes may pay for anyway",
		},
		{
			Name: "Dataflow, streaming", USD: delivery + float64(workers)*worker + data,
			Needs: plural(workers, "worker") + " of 2 processors, a job for each dataset",
			Note:  "Google's figure of a batch, at 60 % load; a stream does less, and a shuffle costs more",
		},
		{
			Name: "Bigtable subscription of Pub/Sub", USD: flat("pubsub.bigtable", b.sizes.MessageTiB),
			Needs: "nothing of yours",
			Note:  "a preview, its price assumed; checks no declaration, writes no index entries",
		},
	}
}
