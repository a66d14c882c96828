package estimate

import (
	"fmt"
	"math"
	"time"
)

// What a month and a size are in prices.
const (
	monthHours   = 730
	monthSeconds = monthHours * 3600
	gib          = 1 << 30
	tib          = 1 << 40
)

// What was measured, published or assumed. docs/capacity.md says which is which.
const (
	// IngestCPUSeconds is the processor time of a record. Measured: 40,000 records a second took 1.6 to
	// 1.8 processors with publisher and both engines in the process, which the cloud's pods do not have;
	// what TLS costs them stands in their place.
	IngestCPUSeconds = 50e-6
	// PageCPUSeconds is the processor time of a page of PageRows rows. Measured: 1,500 a second on one.
	PageCPUSeconds = 1.0 / 1500
	// PageRows is how many rows an answer has.
	PageRows = 100
	// MessageOverhead is what Pub/Sub counts beside the data: 20 bytes of time, and the message's id.
	MessageOverhead = 36
	// WarehouseOverhead is what a row has in BigQuery beside its fields: subscription, id, time, attributes.
	WarehouseOverhead = 100
	// IndexBytes is the size of an index entry.
	IndexBytes = 100
	// RequestBytes is the size of a request to the API with its headers.
	RequestBytes = 1000
	// LogBytesPerRead is what an answer leaves in the logs.
	LogBytesPerRead = 500
	// LogGiBPerNode and NATGiBPerNode are what a node logs, and sends and gets through the NAT, a month.
	LogGiBPerNode = 2.0
	NATGiBPerNode = 20.0

	// The pods, as stacks/apps/kubernetes declares them.
	podCPU, podGiB = 0.5, 0.5
	podLoad        = 0.6 // of the requests, which the autoscaler keeps them at
	minPods        = 2
	maxPods        = 10
	// systemPods are those of the cluster as a whole, as large as ours: Datadog's cluster agents.
	systemPods = 2
	// What is taken on each node: Kubernetes' and Google's own pods, and Datadog's Agent.
	nodeTakenCPU, nodeTakenGiB = 0.5 + 0.2, 1 + 0.25
	nodeDiskGiB                = 50

	// BigtableRowBytes is the size that Google's figures are for.
	BigtableRowBytes = 1000
	// BigtableWrites is how many rows a node writes a second, SSD or HDD. Google says up to 14,000 for SSD
	// and 10,000 for HDD.
	BigtableWrites = 10000
)

// nodeFigures are Google's published figures of a Bigtable node, by storage.
type nodeFigures struct {
	reads     float64 // rows a second
	scanBytes float64 // bytes a second
	maxGiB    float64 // what the autoscaler puts on a node
}

func figuresOf(storage string) nodeFigures {
	if storage == "HDD" {
		return nodeFigures{reads: 500, scanBytes: 180e6, maxGiB: 8192}
	}
	return nodeFigures{reads: 17000, scanBytes: 220e6, maxGiB: 2560}
}

// Sizes is what a load needs.
type Sizes struct {
	// Nodes are those of the Kubernetes cluster.
	Nodes      int `json:"nodes"`
	IngestPods int `json:"ingest_pods"`
	ServePods  int `json:"serve_pods"`
	// PodsPerNode is how many of them have room on a node.
	PodsPerNode int `json:"pods_per_node"`
	// BigtableNodes are those of all clusters.
	BigtableNodes int     `json:"bigtable_nodes"`
	BigtableGiB   float64 `json:"bigtable_gib"`
	BackupGiB     float64 `json:"backup_gib"`
	// BigQueryGiB is all of it, BigQueryLongTermGiB the part older than 90 days.
	BigQueryGiB         float64 `json:"bigquery_gib"`
	BigQueryLongTermGiB float64 `json:"bigquery_long_term_gib"`
	// TopicGiB is what the topics keep for replay.
	TopicGiB float64 `json:"topic_gib"`
	// MessageTiB is what is published in a month, as Pub/Sub counts it.
	MessageTiB float64 `json:"message_tib_per_month"`
	// AnswerGiB is what the API answers in a month.
	AnswerGiB float64 `json:"answer_gib_per_month"`
}

// size computes what a load needs.
func size(l Load, e Environment, m machine) (Sizes, error) {
	perNode := podsPerNode(m)
	if perNode < 1 {
		return Sizes{}, inputf("node_machine_type", "%s has no room for a pod of half a processor and 512 MiB beside what Kubernetes takes; expected e2-standard-2 or larger", e.MachineType)
	}
	stored := float64(l.Bytes) + float64(l.Indexes)*IndexBytes
	seconds := l.Retention.Seconds()
	clusters := float64(e.BigtableClusters)
	s := Sizes{
		PodsPerNode: perNode,
		IngestPods:  pods(l.Rate * IngestCPUSeconds),
		ServePods:   pods(l.Reads * PageCPUSeconds),
		BigtableGiB: clusters * l.Rate * seconds * stored / gib,
		BigQueryGiB: l.Rate * seconds * float64(l.Bytes+WarehouseOverhead) / gib,
		TopicGiB:    l.Rate * e.TopicRetention.Seconds() * float64(l.Bytes+MessageOverhead) / gib,
		MessageTiB:  l.Rate * monthSeconds * float64(l.Bytes+MessageOverhead) / tib,
		AnswerGiB:   l.Reads * monthSeconds * PageRows * float64(l.Bytes) / gib,
	}
	const longTerm = 90 * 24 * time.Hour
	if l.Retention > longTerm {
		s.BigQueryLongTermGiB = s.BigQueryGiB * float64(l.Retention-longTerm) / float64(l.Retention)
	}
	if e.BackupDays > 0 { // The table as it is, and all that came since the oldest backup.
		s.BackupGiB = s.BigtableGiB + clusters*l.Rate*stored*float64(e.BackupDays)*86400/gib
	}
	s.Nodes = max(e.NodeZones*max(1, e.NodeMin), ceil(float64(s.IngestPods+s.ServePods+systemPods)/float64(perNode)))
	s.BigtableNodes = e.BigtableClusters * bigtableNodes(l, e, s.BigtableGiB/clusters)
	return s, nil
}

// bigtableNodes are those of one cluster. Each cluster gets all writes, and has room for all reads, so
// that it can stand alone.
func bigtableNodes(l Load, e Environment, storedGiB float64) int {
	f := figuresOf(e.BigtableStorage)
	writes := l.Rate * (max(1, float64(l.Bytes)/BigtableRowBytes) + float64(l.Indexes)) / BigtableWrites
	read := max(1/f.reads, PageRows*float64(l.Bytes)/f.scanBytes)
	byCPU := (writes + l.Reads*read) / (float64(e.BigtableCPUTarget) / 100)
	return max(e.BigtableMinNodes, ceil(byCPU), ceil(storedGiB/f.maxGiB))
}

// pods is how many the autoscaler runs for a load in processors.
func pods(processors float64) int {
	return max(minPods, ceil(processors/(podCPU*podLoad)))
}

// podsPerNode takes off a machine what GKE reserves, by its published tables, and what runs on each node.
func podsPerNode(m machine) int {
	cpu := m.vcpu - reserved(m.vcpu, []part{{1, 0.06}, {1, 0.01}, {2, 0.005}, {math.Inf(1), 0.0025}})
	const evictionGiB = 100.0 / 1024
	memory := m.gib - evictionGiB - reserved(m.gib, []part{{4, 0.25}, {4, 0.2}, {8, 0.1}, {112, 0.06}, {math.Inf(1), 0.02}})
	return int(min((cpu-nodeTakenCPU)/podCPU, (memory-nodeTakenGiB)/podGiB))
}

// part is a share of the next so many units.
type part struct{ units, share float64 }

func reserved(units float64, parts []part) float64 {
	total := 0.0
	for _, p := range parts {
		n := min(units, p.units)
		total += n * p.share
		units -= n
	}
	return total
}

// ceil rounds up, and takes what is a whole number but for the last bits of a float as one.
func ceil(x float64) int { return int(math.Ceil(x - 1e-9)) }

// warnings say where the load does not fit into what the environment may grow to.
func (s Sizes) warnings(e Environment) []string {
	all := []string{}
	if most := e.NodeZones * e.NodeMax; s.Nodes > most {
		all = append(all, fmt.Sprintf("it takes %d nodes, and node_max %d lets %d zones have %d: raise node_max or take a larger node_machine_type", s.Nodes, e.NodeMax, e.NodeZones, most))
	}
	if per := s.BigtableNodes / e.BigtableClusters; per > e.BigtableMaxNodes {
		all = append(all, fmt.Sprintf("a Bigtable cluster takes %d nodes, and bigtable_max_nodes is %d: raise it", per, e.BigtableMaxNodes))
	}
	for _, d := range []struct {
		name string
		pods int
	}{{"ingest", s.IngestPods}, {"serve", s.ServePods}} {
		if d.pods > maxPods {
			all = append(all, fmt.Sprintf("%s takes %d pods, and its autoscaler stops at %d: raise maxReplicas in an overlay of the manifests", d.name, d.pods, maxPods))
		}
	}
	return all
}
