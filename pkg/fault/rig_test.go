//go:build fault

package fault_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cloud.google.com/go/bigtable"
	"cloud.google.com/go/pubsub/v2"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/fault"
	"github.com/latamctl/latamctl/pkg/testkit"
	"github.com/latamctl/latamctl/pkg/testkit/netfault"
)

// seedVar repeats the schedule and the load of a test, not what the scheduler of the machine makes
// of them.
const seedVar = "LATAM_SEED"

const (
	project         = "latam-local"
	instance        = "latam"
	topic           = "flights"
	subscription    = "flights-ingest"
	letterTopic     = "flights-dead"
	letterInspect   = "flights-dead-inspect"
	indexTable      = "flights_by_destination"
	deliveryLimit   = 20 // as the stack of topics declares
	ackDeadline     = 10 * time.Second
	settleLimit     = 2*ackDeadline + 60*time.Second
	quietFor        = 500 * time.Millisecond
	logLinesOfFault = 200
)

// rigOptions say what a rig is made of.
type rigOptions struct {
	seed     uint64
	separate bool // the engines are a process that can be killed
	disk     bool // the engines keep their data in files
	now      func() time.Time
	emulator *emulators // instead of the engines
	declare  string     // another declaration than the flights
	batch    int        // rows of a batch; 0 is fault.FullBatch, which small loads fill
}

// rig is one system under test: engines, the network before them, and what was handed to them.
type rig struct {
	t    *testing.T
	opts rigOptions
	dir  string // the ledger, the log and the data; it stays when the test fails
	log  *lockedFile
	rng  *rand.Rand
	ds   *dataset.Dataset

	host     *host    // in this process, or nil
	engine   *process // the engines as a process, or nil
	hostOpts hostOptions
	// pubsubAddr and bigtableAddr are the engines', pubsub and bigtable the way of the program to them.
	pubsubAddr, bigtableAddr string
	pubsub, bigtable         *netfault.Proxy

	bus    *bus.Client
	ledger *testkit.Ledger
	stall  *stallWatch
	began  time.Time
	starts int
	// accepted counts the acknowledged publishes.
	accepted atomic.Int64
	letters  func() []testkit.Letter // nil until somebody reads them
}

// lockedFile is a log that several processes write to.
type lockedFile struct {
	mu   sync.Mutex
	file *os.File
}

func (l *lockedFile) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.file.Write(b)
}

// seeds returns the seed of a run.
func newSeed(t *testing.T) uint64 {
	t.Helper()
	if text := os.Getenv(seedVar); text != "" {
		return uint64(number(t, seedVar, 0))
	}
	return uint64(rand.Uint32())
}

// number reads a size from the environment.
func number(t *testing.T, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

func newRig(t *testing.T, o rigOptions) *rig {
	t.Helper()
	r := &rig{t: t, opts: o, rng: rand.New(rand.NewPCG(o.seed, 1)), began: time.Now()}
	dir, err := os.MkdirTemp("", "latamctl-fault-")
	if err != nil {
		t.Fatal(err)
	}
	r.dir = dir
	file, err := os.Create(filepath.Join(dir, "log.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	r.log = &lockedFile{file: file}
	t.Cleanup(r.keepOrRemove)
	text := flightsDeclaration
	if o.declare != "" {
		text = o.declare
	}
	if err := os.WriteFile(filepath.Join(dir, "latam.yaml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	decl, err := dataset.Load("latam.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	r.ds = decl.Datasets[0]
	r.openEngines()
	r.pubsub, r.bigtable = r.proxy(r.pubsubAddr), r.proxy(r.bigtableAddr)
	if o.emulator != nil {
		r.bigtable.SetUpstream(o.emulator.faulty)
	}
	if r.bus, err = bus.Open(t.Context(), bus.Options{Project: project, Client: []option.ClientOption{r.dial(r.pubsubAddr)}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.bus.Close() })
	if r.ledger, err = testkit.CreateLedger(filepath.Join(dir, "ledger.jsonl")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.ledger.Close() })
	r.route()
	r.stall = watchStall(r)
	return r
}

// keepOrRemove leaves what explains a failure, and says where.
func (r *rig) keepOrRemove() {
	_ = r.log.file.Close()
	if !r.t.Failed() {
		_ = os.RemoveAll(r.dir)
		return
	}
	text, _ := os.ReadFile(r.log.file.Name())
	lines := strings.SplitAfter(string(text), "\n")
	last := strings.Join(lines[max(0, len(lines)-logLinesOfFault):], "")
	path := filepath.Join(r.dir, "last.log")
	_ = os.WriteFile(path, []byte(last), 0o644)
	r.t.Logf("the ledger, the log and its last %d lines are in %s; repeat it with %s=%d", logLinesOfFault, r.dir, seedVar, r.opts.seed)
}

func (r *rig) openEngines() {
	r.t.Helper()
	switch {
	case r.blind():
		r.pubsubAddr, r.bigtableAddr = r.opts.emulator.pubsub, r.opts.emulator.bigtable
	case r.opts.separate:
		r.hostOpts = hostOptions{Dir: filepath.Join(r.dir, "data"), Pubsub: freeAddr(r.t), Bigtable: freeAddr(r.t), Stats: freeAddr(r.t), Seed: r.opts.seed}
		if err := os.Mkdir(r.hostOpts.Dir, 0o755); err != nil {
			r.t.Fatal(err)
		}
		r.pubsubAddr, r.bigtableAddr = r.hostOpts.Pubsub, r.hostOpts.Bigtable
		r.startEngine().await()
	default:
		o := hostOptions{Pubsub: "127.0.0.1:0", Bigtable: "127.0.0.1:0", Seed: r.opts.seed, now: r.opts.now}
		if r.opts.disk {
			o.Dir = filepath.Join(r.dir, "data")
			if err := os.Mkdir(o.Dir, 0o755); err != nil {
				r.t.Fatal(err)
			}
		}
		var err error
		r.host, err = openHost(o)
		if err != nil {
			r.t.Fatal(err)
		}
		r.t.Cleanup(func() { _ = r.host.close() })
		r.pubsubAddr, r.bigtableAddr = r.host.pubsub, r.host.bigtable
		if r.opts.emulator != nil {
			r.bigtableAddr = r.opts.emulator.bigtable
		}
	}
}

// blind tells whether the Pub/Sub is one that does not say what waits.
func (r *rig) blind() bool { return r.opts.emulator != nil && r.opts.emulator.pubsub != "" }

// startEngine starts the engines as a process.
func (r *rig) startEngine() *process {
	r.t.Helper()
	options, err := json.Marshal(r.hostOpts)
	if err != nil {
		r.t.Fatal(err)
	}
	r.engine = newProcess(r.t, r.log, "engine", []string{asEngine + "=" + string(options)})
	return r.engine
}

func (r *rig) proxy(upstream string) *netfault.Proxy {
	r.t.Helper()
	p, err := netfault.Listen(upstream, r.opts.seed)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(p.Close)
	return p
}

// dial returns a connection for a client that outlives the engines.
func (r *rig) dial(addr string) option.ClientOption {
	r.t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+addr,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(256<<20)),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.5, MaxDelay: 200 * time.Millisecond},
			MinConnectTimeout: 20 * time.Second,
		}))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = conn.Close() })
	return option.WithGRPCConn(conn)
}

// route creates the topics and gives the subscription the limit of deliveries that it has on Google
// Cloud: a healthy message that is killed with its process too often would end as a dead letter.
func (r *rig) route() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 30*time.Second)
	defer cancel()
	if err := r.bus.Ensure(ctx, bus.RouteOf(r.ds)); err != nil {
		r.t.Fatal(err)
	}
	if r.blind() {
		return // Google's emulator has no limit of deliveries.
	}
	client, err := pubsub.NewClient(ctx, project, r.dial(r.pubsubAddr))
	if err != nil {
		r.t.Fatal(err)
	}
	defer client.Close()
	_, err = client.SubscriptionAdminClient.UpdateSubscription(ctx, &pubsubpb.UpdateSubscriptionRequest{
		Subscription: &pubsubpb.Subscription{
			Name: fmt.Sprintf("projects/%s/subscriptions/%s", project, r.ds.Subscription()),
			DeadLetterPolicy: &pubsubpb.DeadLetterPolicy{
				DeadLetterTopic:     fmt.Sprintf("projects/%s/topics/%s", project, r.ds.DeadLetterTopic()),
				MaxDeliveryAttempts: deliveryLimit,
			},
		},
		UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"dead_letter_policy"}},
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

// spawn starts an ingest with faults from the environment.
func (r *rig) spawn(env ...string) *process {
	r.t.Helper()
	r.starts++
	env = append([]string{
		asProgram + "=1", "PUBSUB_EMULATOR_HOST=" + r.pubsub.Addr(), "BIGTABLE_EMULATOR_HOST=" + r.bigtable.Addr(),
	}, env...)
	return newProcess(r.t, r.log, fmt.Sprintf("ingest %d", r.starts), env,
		"ingest", "--config", filepath.Join(r.dir, "latam.yaml"), "--admin", "127.0.0.1:0", "--log-format", "json",
		"--batch-rows", strconv.Itoa(cmp.Or(r.opts.batch, fault.FullBatch)))
}

// ingest is spawn that waits until it works.
func (r *rig) ingest(env ...string) *process {
	r.t.Helper()
	p := r.spawn(env...)
	p.await()
	return p
}

// publish hands a batch over. Only the absence of the engine excuses a failure.
func (r *rig) publish(attempts []testkit.Attempt) bool {
	if len(attempts) == 0 {
		return true
	}
	if err := r.ledger.Intend(attempts); err != nil {
		r.t.Error(err)
		return false
	}
	ctx, cancel := context.WithTimeout(r.t.Context(), publishPatience)
	defer cancel()
	batch := make([]bus.Message, len(attempts))
	for i, a := range attempts {
		batch[i].Data = []byte(a.Payload)
	}
	ids, err := r.bus.PublishBatch(ctx, r.ds.Topic, batch)
	switch {
	case err == nil:
		r.accepted.Add(int64(len(ids)))
		if err := r.ledger.Acknowledge(attempts, ids); err != nil {
			r.t.Error(err)
		}
	case !errors.Is(err, bus.ErrUnavailable) && r.t.Context().Err() == nil:
		r.t.Errorf("attempts %d and on: %v", attempts[0].N, err)
	}
	return err == nil
}

const publishPatience = 5 * time.Second

// stats asks the engines for their figures.
func (r *rig) stats() (hostStats, error) {
	switch {
	case r.host != nil:
		return r.host.stats(), nil
	case r.blind():
		return hostStats{}, errors.New("an emulator has no figures")
	}
	client := http.Client{Timeout: 2 * time.Second}
	resp, err := client.Get("http://" + r.hostOpts.Stats)
	if err != nil {
		return hostStats{}, err
	}
	defer resp.Body.Close()
	var s hostStats
	return s, json.NewDecoder(resp.Body).Decode(&s)
}

// settle waits until every message is acknowledged and nothing happens any more, and returns how
// long that took. After settleLimit it gives up: the check says what is missing then.
func (r *rig) settle() time.Duration {
	r.t.Helper()
	began := time.Now()
	last, since := hostStats{}, time.Now()
	for time.Since(began) < settleLimit {
		now, err := r.stats()
		if err != nil || now.Backlog[r.ds.Subscription()] > 0 || now.Counts != last.Counts {
			last, since = now, time.Now()
		} else if time.Since(since) >= quietFor {
			return time.Since(began)
		}
		time.Sleep(20 * time.Millisecond) // Between two looks.
	}
	r.t.Errorf("not settled within %s: %+v", settleLimit, last)
	return time.Since(began)
}

// settleTo is settle for engines without figures: it waits until nothing is lost.
func (r *rig) settleTo() {
	r.t.Helper()
	attempts := r.attempts()
	letters := r.readLetters()
	for began := time.Now(); time.Since(began) < settleLimit; {
		if report := testkit.CheckStored(attempts, r.rows(r.ds.Table()), letters(), shapeOf(r.ds)); report.Lost == 0 {
			return
		}
		time.Sleep(500 * time.Millisecond) // Between two looks at everything.
	}
}

// readLetters begins to read the dead letters, unless it has begun, and returns what gives those
// read so far.
func (r *rig) readLetters() func() []testkit.Letter {
	r.t.Helper()
	if r.letters != nil {
		return r.letters
	}
	var mu sync.Mutex
	var letters []testkit.Letter
	ctx, cancel := context.WithCancel(r.t.Context())
	ended := make(chan struct{})
	r.t.Cleanup(func() { cancel(); <-ended })
	go func() {
		defer close(ended)
		_ = r.bus.Receive(ctx, r.ds.DeadLetterSubscription(), bus.ReceiveOptions{}, func(_ context.Context, m bus.Message) bool {
			mu.Lock()
			defer mu.Unlock()
			letters = append(letters, testkit.Letter{MessageID: m.Attributes[bus.AttrMessageID], Reason: m.Attributes[bus.AttrReason], Payload: string(m.Data)})
			return true
		})
	}()
	r.letters = func() []testkit.Letter {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(letters)
	}
	return r.letters
}

// allLetters reads every dead letter.
func (r *rig) allLetters() []testkit.Letter {
	r.t.Helper()
	letters := r.readLetters()
	if r.blind() {
		return letters() // settleTo has waited for them.
	}
	eventually(r.t, 60*time.Second, func() (bool, string) {
		s, err := r.stats()
		left := s.Backlog[r.ds.DeadLetterSubscription()]
		return err == nil && left == 0, fmt.Sprintf("%d dead letters are not read: %v", left, err)
	})
	return letters()
}

func (r *rig) attempts() []testkit.Attempt {
	r.t.Helper()
	attempts, err := testkit.ReadLedger(r.ledger.Path())
	if err != nil {
		r.t.Fatal(err)
	}
	return attempts
}

// showEverything takes the rule off a table that hides all but the newest version of a cell from
// every read. Nothing has been collected yet, so the hidden cells are there to be counted.
func (r *rig) showEverything(ctx context.Context, table string) {
	r.t.Helper()
	admin, err := bigtable.NewAdminClient(ctx, project, instance, r.dial(r.bigtableAddr))
	if err != nil {
		r.t.Fatal(err)
	}
	defer admin.Close()
	if err := admin.SetGCPolicy(ctx, table, dataset.Family, bigtable.NoGcPolicy()); err != nil {
		r.t.Fatalf("take the rule off table %s: %v", table, err)
	}
}

// rows reads a table with every version of every cell.
func (r *rig) rows(table string) []testkit.Row {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 60*time.Second)
	defer cancel()
	client, err := bigtable.NewClientWithConfig(ctx, project, instance, bigtable.ClientConfig{
		MetricsProvider: bigtable.NoopMetricsProvider{}, DisableDirectAccess: true, DisableSession: true,
	}, r.dial(r.bigtableAddr))
	if err != nil {
		r.t.Fatal(err)
	}
	defer client.Close()
	r.showEverything(ctx, table)
	var rows []testkit.Row
	err = client.Open(table).ReadRows(ctx, bigtable.InfiniteRange(""), func(raw bigtable.Row) bool {
		row := testkit.Row{Key: raw.Key()}
		for _, items := range raw {
			for _, item := range items {
				row.Cells = append(row.Cells, testkit.Cell{Column: item.Column, Time: item.Timestamp.Time(), Value: string(item.Value)})
			}
		}
		rows = append(rows, row)
		return true
	})
	if err != nil {
		r.t.Fatalf("read table %s: %v", table, err)
	}
	return rows
}

// report settles nothing: it compares what is there with the ledger.
func (r *rig) report() testkit.Report {
	r.t.Helper()
	rows := r.rows(r.ds.Table())
	report := testkit.CheckStored(r.attempts(), rows, r.allLetters(), shapeOf(r.ds))
	if s, err := r.stats(); err == nil {
		report.Redelivered = int(s.Counts.Redelivered)
	}
	return report
}

// verdict prints the line of figures, and fails the test unless nothing is wrong.
func (r *rig) verdict(name string, more ...any) testkit.Report {
	r.t.Helper()
	report := r.report()
	if len(r.ds.Indexes) > 0 {
		index := r.indexReport()
		report.Lost += index.Lost
		report.ExtraCells += index.ExtraCells
		report.Foreign += index.Foreign
		report.Violations = append(report.Violations, index.Violations...)
	}
	r.print(name, report, more...)
	if !report.OK() {
		for i, v := range report.Violations {
			report.Violations[i] = fmt.Sprintf("%.300s", v) // The ledger has all of it.
		}
		r.t.Errorf("%s:\n%s", name, strings.Join(report.Violations, "\n"))
	}
	return report
}

func (r *rig) print(name string, report testkit.Report, more ...any) {
	r.t.Helper()
	r.t.Logf("%s: %s max_stall_s=%.1f took_s=%.1f %sseed=%d", name, report, r.stall.worst().Seconds(),
		time.Since(r.began).Seconds(), fmt.Sprintln(more...)[:max(0, len(fmt.Sprintln(more...))-1)]+" ", r.opts.seed)
}

// indexReport compares the index with the rows.
func (r *rig) indexReport() testkit.Report {
	r.t.Helper()
	ix := &r.ds.Indexes[0]
	entries := slices.DeleteFunc(r.rows(r.ds.IndexTable(ix)), func(row testkit.Row) bool { return row.Key == dataset.IndexMark })
	return testkit.CheckIndexed(r.rows(r.ds.Table()), entries, func(row testkit.Row) string {
		stored := dataset.Row{Key: row.Key}
		for _, c := range row.Cells {
			stored.Cells = append(stored.Cells, dataset.Cell{Column: strings.TrimPrefix(c.Column, dataset.Family+":"), Value: []byte(c.Value)})
		}
		rec, err := r.ds.Record(stored)
		if err != nil {
			r.t.Error(err)
		}
		return r.ds.IndexKey(ix, rec)
	})
}

// stallWatch measures how long no row was stored while messages waited.
type stallWatch struct {
	mu  sync.Mutex
	max time.Duration
}

func watchStall(r *rig) *stallWatch {
	w := &stallWatch{}
	if r.opts.emulator != nil {
		return w
	}
	ctx, cancel := context.WithCancel(r.t.Context())
	ended := make(chan struct{})
	r.t.Cleanup(func() { cancel(); <-ended })
	go func() {
		defer close(ended)
		applied, since := int64(-1), time.Now()
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			s, err := r.stats()
			if err == nil && (s.Counts.RowsApplied != applied || s.Backlog[r.ds.Subscription()] == 0) {
				applied, since = s.Counts.RowsApplied, time.Now()
			}
			w.mu.Lock()
			w.max = max(w.max, time.Since(since))
			w.mu.Unlock()
		}
	}()
	return w
}

// worst is the longest stall since the last call of reset.
func (w *stallWatch) worst() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.max
}

func (w *stallWatch) reset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.max = 0
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

var _ io.Writer = (*lockedFile)(nil)
