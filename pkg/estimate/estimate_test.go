package estimate_test

import (
	"encoding/json"
	"errors"
	"math"
	"math/rand"
	"strings"
	"testing"
	"time"

	"github.com/latamctl/latamctl/pkg/estimate"
)

const day = 24 * time.Hour

func prices(t *testing.T) *estimate.PriceList {
	t.Helper()
	list, err := estimate.Prices()
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// environment is what the default settings are.
func environment() estimate.Environment {
	return estimate.Environment{
		Name: "prod", MachineType: "e2-standard-4", NodeZones: 3, NodeMin: 1, NodeMax: 5,
		BigtableClusters: 1, BigtableMinNodes: 1, BigtableMaxNodes: 10, BigtableCPUTarget: 60, BigtableStorage: "SSD",
		BackupDays: 7, TopicRetention: 7 * day,
	}
}

func compute(t *testing.T, l estimate.Load, e estimate.Environment) *estimate.Estimate {
	t.Helper()
	got, err := estimate.Compute(prices(t), l, e)
	if err != nil {
		t.Fatalf("%+v in %+v: %v", l, e, err)
	}
	return got
}

// TestByHand is a case whose numbers were computed on paper: 20,000 records of 500 bytes a second with
// an index, kept for 100 days, 100 pages a second. A month is 730 hours, 2,628,000 seconds.
func TestByHand(t *testing.T) {
	t.Parallel()
	got := compute(t, estimate.Load{Rate: 20000, Bytes: 500, Retention: 100 * day, Reads: 100, Datasets: 2, Indexes: 1}, environment())
	want := map[string]float64{
		// 20,000 × 2,628,000 × (500 + 36) / 2^40 = 25.622739 TiB; twice, less 10 GiB: 51.235712 × 40
		"pubsub.delivery": 2049.43,
		"pubsub.bigquery": 1281.14, // 25.622739 × 50
		"pubsub.storage":  1630.31, // 20,000 × 604,800 × 536 / 2^30 = 6,038.19 GiB × 0.27
		// Writes: 20,000 × (1 + 1) / 10,000 = 4 nodes' worth; reads: 100 × max(1/17,000, 50,000 / 220e6 = 0.000227) = 0.0227.
		// By CPU: 4.0227 / 0.6 = 6.7, so 7. By storage: 96,559.5 GiB / 2,560 = 37.7, so 38 × 730 × 0.65
		"bigtable.node": 18031,
		// 20,000 × 8,640,000 × (500 + 100) / 2^30 = 96,559.5 GiB × 0.17
		"bigtable.ssd": 16415.12,
		// 96,559.5 + 20,000 × 604,800 × 600 / 2^30 = 6,759.2, together 103,318.7 × 0.026
		"bigtable.backup": 2686.29,
		// 20,000 × 8,640,000 × (500 + 100) / 2^30 = 96,559.5 GiB, nine tenths of it active: 86,903.6 − 10 free, × 0.02
		"bigquery.active":   1737.87,
		"bigquery.longterm": 96.56, // 9,655.95 × 0.01
		"gke.cluster":       73,
		// Ingest: 20,000 × 50 µs = 1 processor / (0.5 × 0.6) = 3.3, so 4 pods; serve: 100 / 1,500 = 0.067 / 0.3, so 2; 2 of the system.
		// A node has 4 − 0.06 − 0.01 − 0.01 − 0.7 = 3.22 processors for 6 pods: 8 / 6, so 2; three zones want 3.
		"compute.e2.vcpu":   191.07, // 3 × 730 × 4 × 0.02181159
		"compute.e2.memory": 102.44, // 3 × 730 × 16 × 0.00292353
		"compute.disk":      15,     // 3 × 50 × 0.10
		"nat.vm":            3.07,   // 3 × 730 × 0.0014
		"nat.address":       3.65,   // 730 × 0.005
		"nat.data":          2.70,   // 3 × 20 × 0.045
		"lb.rule":           18.25,  // 730 × 0.025
		// Answers: 100 × 2,628,000 × 100 × 500 / 2^30 = 12,237.6 GiB; requests: 100 × 2,628,000 × 1,000 / 2^30 = 244.8; × 0.008
		"lb.data":        99.86,
		"armor.policy":   5,
		"armor.rule":     9,
		"armor.requests": 197.10, // 262.8 million × 0.75
		"gateway.calls":  782.40, // (262.8 − 2) × 3
		// 1,024 × 0.12 + 9,216 × 0.11 + (12,237.6 − 10,240) × 0.08 = 122.88 + 1,013.76 + 159.81
		"network.out":     1296.45,
		"logging.storage": 39.19, // 3 × 2 + 262.8e6 × 500 / 2^30 = 122.4, 128.4 − 50 free, × 0.5
	}
	total := 0.0
	for _, l := range got.Lines {
		if math.Abs(l.USD-want[l.Price]) > 0.02+0.00002*want[l.Price] {
			t.Errorf("%s: %.4f %s are %.2f USD, by hand %.2f", l.Price, l.Amount, l.Unit, l.USD, want[l.Price])
		}
		total += want[l.Price]
		delete(want, l.Price)
	}
	if len(want) > 0 {
		t.Errorf("no line for %v", want)
	}
	if math.Abs(got.TotalUSD-total) > 0.00002*total {
		t.Errorf("total %.2f, by hand %.2f", got.TotalUSD, total)
	}
	s := got.Sizes
	if s.Nodes != 3 || s.PodsPerNode != 6 || s.IngestPods != 4 || s.ServePods != 2 || s.BigtableNodes != 38 {
		t.Errorf("sizes: %+v", s)
	}
	if len(got.Warnings) != 1 || !strings.Contains(got.Warnings[0], "takes 38 nodes, and bigtable_max_nodes is 10") {
		t.Errorf("warnings: %q", got.Warnings)
	}
	if len(got.Optional) != 1 || got.Optional[0].USD != 3*18 {
		t.Errorf("on top: %+v", got.Optional)
	}
	// Pull: 25.622739 × 40 = 1,024.91 for both. Ingest: 4 of 6 places on a node of (191.07 + 102.44) / 3 + 5 = 102.84, 68.56.
	// Dataflow: 10,000 a second and job / 36,000, so a worker each; 730 × (2 × 0.069 + 8 × 0.0035557 + 30 × 0.000054) = 122.69;
	// 20,000 × 2,628,000 × 500 / 2^30 = 24,475 GiB × 0.018 = 440.55. The subscription: 25.622739 × 50.
	for i, usd := range []float64{1093.47, 1710.84, 1281.14} {
		if math.Abs(got.Ways[i].USD-usd) > 0.02 {
			t.Errorf("%s: %.2f USD, by hand %.2f", got.Ways[i].Name, got.Ways[i].USD, usd)
		}
	}
}

// TestMoreIsNeverCheaper: whatever grows in a load, neither the bill nor a size gets smaller.
func TestMoreIsNeverCheaper(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewSource(1))
	machines := []string{"e2-standard-2", "e2-standard-4", "n2-highmem-8", "n2d-highcpu-16"}
	for range 3000 {
		e := environment()
		e.MachineType, e.BigtableStorage = machines[r.Intn(len(machines))], []string{"SSD", "HDD"}[r.Intn(2)]
		e.BigtableClusters, e.BackupDays, e.NodeMin = 1+r.Intn(3), r.Intn(30), r.Intn(3)
		less := estimate.Load{
			Rate: math.Exp(r.Float64() * 14), Bytes: 1 + int64(math.Exp(r.Float64()*12)), Retention: time.Hour + time.Duration(r.Int63n(int64(4000*day))),
			Reads: math.Exp(r.Float64()*9) - 1, Datasets: 1 + r.Intn(5), Indexes: r.Intn(3),
		}
		more := less
		switch r.Intn(5) {
		case 0:
			more.Rate *= 1 + r.Float64()
		case 1:
			more.Bytes += 1 + r.Int63n(5000)
		case 2:
			more.Retention += time.Duration(r.Int63n(int64(400 * day)))
		case 3:
			more.Reads *= 1 + r.Float64()
		case 4:
			more.Indexes++
		}
		a, b := compute(t, less, e), compute(t, more, e)
		const slack = 1e-6
		if b.TotalUSD < a.TotalUSD-slack || b.Sizes.Nodes < a.Sizes.Nodes || b.Sizes.BigtableNodes < a.Sizes.BigtableNodes || b.Sizes.IngestPods < a.Sizes.IngestPods || b.Sizes.ServePods < a.Sizes.ServePods {
			t.Fatalf("%+v: %.2f USD, %+v\n%+v: %.2f USD, %+v", less, a.TotalUSD, a.Sizes, more, b.TotalUSD, b.Sizes)
		}
		for i := range a.Ways {
			if b.Ways[i].USD < a.Ways[i].USD-slack {
				t.Fatalf("%s: %.2f after %.2f USD for %+v after %+v", a.Ways[i].Name, b.Ways[i].USD, a.Ways[i].USD, more, less)
			}
		}
	}
}

// TestSettingsCount: what an environment chooses is in its estimate.
func TestSettingsCount(t *testing.T) {
	t.Parallel()
	load := estimate.Load{Rate: 50000, Bytes: 300, Retention: day, Reads: 1, Datasets: 1}
	base := compute(t, load, environment())
	for name, c := range map[string]struct {
		set   func(e *estimate.Environment)
		holds func(e *estimate.Estimate) bool
	}{
		"two clusters take twice the nodes": {func(e *estimate.Environment) { e.BigtableClusters = 2 }, func(e *estimate.Estimate) bool {
			return e.Sizes.BigtableNodes == 2*base.Sizes.BigtableNodes && e.Sizes.BigtableGiB == 2*base.Sizes.BigtableGiB
		}},
		"a lower CPU target takes more":  {func(e *estimate.Environment) { e.BigtableCPUTarget = 30 }, func(e *estimate.Estimate) bool { return e.Sizes.BigtableNodes == 17 }}, // 5 / 0.3
		"fewest nodes":                   {func(e *estimate.Environment) { e.NodeMin = 4 }, func(e *estimate.Estimate) bool { return e.Sizes.Nodes == 12 }},
		"small machines take more nodes": {func(e *estimate.Environment) { e.MachineType = "e2-standard-2" }, func(e *estimate.Estimate) bool { return e.Sizes.PodsPerNode == 2 && e.Sizes.Nodes == 7 }}, // (9 + 2 + 2) / 2
		"no backups":                     {func(e *estimate.Environment) { e.BackupDays = 0 }, func(e *estimate.Estimate) bool { return e.Sizes.BackupGiB == 0 && e.TotalUSD < base.TotalUSD }},
		"Datadog": {func(e *estimate.Environment) { e.Datadog = true }, func(e *estimate.Estimate) bool {
			return len(e.Optional) == 0 && math.Abs(e.TotalUSD-base.TotalUSD-18*float64(base.Sizes.Nodes)) < 1e-6
		}},
		"another region is a warning": {func(e *estimate.Environment) { e.Region = "southamerica-west1" }, func(e *estimate.Estimate) bool {
			return len(e.Warnings) == 1 && strings.HasPrefix(e.Warnings[0], "the prices are of us-central1, and the environment is in southamerica-west1")
		}},
		"few nodes are a warning": {func(e *estimate.Environment) { e.MachineType, e.NodeMax, e.NodeMin = "e2-standard-2", 1, 1 }, func(e *estimate.Estimate) bool {
			return len(e.Warnings) == 1 && strings.HasPrefix(e.Warnings[0], "it takes 7 nodes, and node_max 1 lets 3 zones have 3")
		}},
	} {
		e := environment()
		c.set(&e)
		if got := compute(t, load, e); !c.holds(got) {
			t.Errorf("%s: %+v, %.2f USD, %q", name, got.Sizes, got.TotalUSD, got.Warnings)
		}
	}
	if w := compute(t, estimate.Load{Rate: 70000, Bytes: 300, Retention: day, Datasets: 1}, environment()).Warnings; len(w) != 2 || !strings.Contains(w[1], "ingest takes 12 pods") {
		t.Errorf("warnings of 70,000 a second: %q", w)
	}
}

func TestRefuses(t *testing.T) {
	t.Parallel()
	good := estimate.Load{Rate: 1000, Bytes: 300, Retention: 30 * day, Reads: 1, Datasets: 1}
	for _, c := range []struct {
		field string
		set   func(l *estimate.Load, e *estimate.Environment)
		want  string
	}{
		{"rate", func(l *estimate.Load, _ *estimate.Environment) { l.Rate = 0 }, "expected more than 0/s and at most 10M/s, got 0/s"},
		{"rate", func(l *estimate.Load, _ *estimate.Environment) { l.Rate = math.NaN() }, "expected more than 0/s"},
		{"rate", func(l *estimate.Load, _ *estimate.Environment) { l.Rate = math.Inf(1) }, "at most 10M/s"},
		{"size", func(l *estimate.Load, _ *estimate.Environment) { l.Bytes = 0 }, "expected 1B to 10MB"},
		{"size", func(l *estimate.Load, _ *estimate.Environment) { l.Bytes = 10_000_001 }, "as large as a message of Pub/Sub can be"},
		{"retention", func(l *estimate.Load, _ *estimate.Environment) { l.Retention = time.Minute }, "expected 1h to 36500d, got 1m0s"},
		{"reads", func(l *estimate.Load, _ *estimate.Environment) { l.Reads = -1 }, "expected at most"},
		{"datasets", func(l *estimate.Load, _ *estimate.Environment) { l.Datasets = 0 }, "expected one at least"},
		{"node_max", func(_ *estimate.Load, e *estimate.Environment) { e.NodeMax = 0 }, "expected node_max"},
		{"bigtable_max_nodes", func(_ *estimate.Load, e *estimate.Environment) { e.BigtableMaxNodes = 0 }, "bigtable_min_nodes"},
		{"bigtable_cpu_target", func(_ *estimate.Load, e *estimate.Environment) { e.BigtableCPUTarget = 0 }, "expected 10 to 80, got 0"},
		{"bigtable_storage", func(_ *estimate.Load, e *estimate.Environment) { e.BigtableStorage = "ssd" }, `expected SSD or HDD, got "ssd"`},
		{"backup_retention_days", func(_ *estimate.Load, e *estimate.Environment) { e.BackupDays = -1 }, "no negative retention"},
		{"node_machine_type", func(_ *estimate.Load, e *estimate.Environment) { e.MachineType = "big" }, `expected one such as e2-standard-4, got "big"`},
		{"node_machine_type", func(_ *estimate.Load, e *estimate.Environment) { e.MachineType = "n4-standard-4" }, `the price list has e2, n2 and n2d, not "n4-standard-4"`},
		{"node_machine_type", func(_ *estimate.Load, e *estimate.Environment) { e.MachineType = "n2-standard-1" }, "expected 2 processors at least"},
		{"node_machine_type", func(_ *estimate.Load, e *estimate.Environment) { e.MachineType = "e2-highcpu-2" }, "e2-highcpu-2 has no room for a pod"},
	} {
		l, e := good, environment()
		c.set(&l, &e)
		_, err := estimate.Compute(prices(t), l, e)
		var input *estimate.InputError
		if !errors.As(err, &input) || input.Field != c.field || !strings.Contains(input.Detail, c.want) {
			t.Errorf("got %v, want %s: %s", err, c.field, c.want)
		}
	}
	short := *prices(t)
	short.Prices = nil
	for _, p := range prices(t).Prices {
		if p.Key != "dataflow.data" {
			short.Prices = append(short.Prices, p)
		}
	}
	if _, err := estimate.Compute(&short, good, environment()); err == nil || !strings.Contains(err.Error(), "no price dataflow.data") {
		t.Errorf("with a price missing: %v", err)
	}
}

func TestUnits(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]float64{"5k/s": 5000, "500/s": 500, "0.5/s": 0.5, "1.5M/h": 1.5e6 / 3600, "60/m": 1, "86400/d": 1, "0/s": 0} {
		if got, err := estimate.ParseRate(text); err != nil || got != want {
			t.Errorf("rate %q: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "5k", "5000", "/s", "k/s", "-5/s", "5K/s", "5 k/s", "1e3/s", "5/x", "5/s/s", "1..2/s", "Inf/s", "0x1p4/s", "9999999999999999M/s"} {
		if got, err := estimate.ParseRate(text); err == nil || !strings.Contains(err.Error(), "expected a rate such as 500/s") || !strings.Contains(err.Error(), text) {
			t.Errorf("rate %q: %v, %v", text, got, err)
		}
	}
	for text, want := range map[string]int64{"300B": 300, "1.5kB": 1500, "2KB": 2000, "2KiB": 2048, "1MB": 1e6, "1MiB": 1 << 20, "0.5KiB": 512} {
		if got, err := estimate.ParseBytes(text); err != nil || got != want {
			t.Errorf("size %q: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "300", "B", "0.5B", "-1B", "2 KiB", "2kb", "1GB", "1e3B", "9999999999999999MiB"} {
		if got, err := estimate.ParseBytes(text); err == nil || !strings.Contains(err.Error(), "expected a size in whole bytes such as 300B") {
			t.Errorf("size %q: %v, %v", text, got, err)
		}
	}
}

func FuzzUnits(f *testing.F) {
	for _, text := range []string{"5k/s", "1.5M/h", "300B", "2KiB", ".", "1./s", "/"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if rate, err := estimate.ParseRate(text); err == nil {
			again, err := estimate.ParseRate(estimate.FormatRate(rate))
			if math.IsNaN(rate) || rate < 0 || err != nil || math.Abs(again-rate) > 1e-9*rate {
				t.Errorf("%q is %v, %q is %v, %v", text, rate, estimate.FormatRate(rate), again, err)
			}
		}
		if n, err := estimate.ParseBytes(text); err == nil {
			if again, err := estimate.ParseBytes(estimate.FormatBytes(n)); err != nil || n < 0 || again != n {
				t.Errorf("%q is %d, %q is %d, %v", text, n, estimate.FormatBytes(n), again, err)
			}
		}
	})
}

func TestPriceList(t *testing.T) {
	t.Parallel()
	list := prices(t)
	if _, err := time.Parse(time.DateOnly, list.Read); err != nil || list.Region != "us-central1" || list.Currency != "USD" {
		t.Errorf("the list is of %s in %s, read %s", list.Region, list.Currency, list.Read)
	}
	for _, p := range list.Prices {
		if _, err := time.Parse(time.DateOnly, p.Read); err != nil || p.Read > list.Read || !strings.HasPrefix(p.URL, "https://") {
			t.Errorf("%s: read %s from %s", p.Key, p.Read, p.URL)
		}
	}
	// Every price is used by some estimate: one that is not would be kept up for nothing.
	used := map[string]bool{}
	for _, machine := range []string{"e2-standard-4", "n2-standard-4", "n2d-standard-4"} {
		for _, storage := range []string{"SSD", "HDD"} {
			e := environment()
			e.MachineType, e.BigtableStorage = machine, storage
			for _, p := range compute(t, estimate.Load{Rate: 1, Bytes: 1, Retention: 200 * day, Datasets: 1}, e).Prices {
				used[p.Key] = true
			}
		}
	}
	for _, p := range list.Prices {
		if !used[p.Key] {
			t.Errorf("no estimate uses %s", p.Key)
		}
	}
	one := `{"key":"a","usd":1,"unit":"x","seen":"page","url":"u","read":"r","note":"n"}`
	for _, c := range []struct{ prices, want string }{
		{one, ""},
		{one + "," + one, `price "a": expected a name of its own`},
		{strings.Replace(one, `"usd":1`, `"usd":0`, 1), "an amount above 0"},
		{strings.Replace(one, `"page"`, `"dream"`, 1), "expected seen to be page, copy or assumed"},
		{strings.Replace(one, `"url":"u"`, `"url":""`, 1), "expected url, read and note"},
		{strings.Replace(one, `"unit":"x"`, `"unit":"x","steps":[{"above":5,"usd":1},{"above":4,"usd":1}]`, 1), "steps that ascend"},
		{strings.Replace(one, `"unit"`, `"unti"`, 1), `unknown field "unti"`},
	} {
		_, err := estimate.ReadPrices([]byte(`{"prices":[` + c.prices + `]}`))
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got %v, want %q", c.prices, err, c.want)
		}
	}
}

func TestRenders(t *testing.T) {
	t.Parallel()
	e := compute(t, estimate.Load{Rate: 1234.5, Bytes: 2048, Retention: 36 * time.Hour, Reads: 1, Datasets: 2}, environment())
	var text, page strings.Builder
	if err := errors.Join(e.Text(&text), e.Markdown(&page)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"1,234 records/s of 2KiB in 2 datasets, kept 36 hours; 1 pages/s of 100 rows read.", "3 of e2-standard-4, 6 pods on each at most",
		"TOTAL", "on top: Datadog", "Dataflow, streaming", "read " + e.PriceRead, "(pubsub.bigtable, bigtable.backup)",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the text lacks %q:\n%s", want, text.String())
		}
	}
	if !strings.Contains(page.String(), "| **total** | | | **") {
		t.Error(page.String())
	}
	b, err := json.Marshal(e)
	if err != nil || !strings.Contains(string(b), `"warnings":[]`) || !strings.Contains(string(b), `"seen":"assumed"`) ||
		!strings.Contains(string(b), `"retention_seconds":129600}`) || !strings.Contains(string(b), `"topic_retention_seconds":604800}`) {
		t.Errorf("%s, %v", b, err)
	}
}
