package monitor_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/latamctl/latamctl/pkg/monitor"
	"github.com/latamctl/latamctl/pkg/monitor/datadog"
	"github.com/latamctl/latamctl/pkg/monitor/declare"
	"github.com/latamctl/latamctl/pkg/monitor/monitortest"
	"github.com/latamctl/latamctl/pkg/plan"
	"github.com/latamctl/latamctl/pkg/proc"
	"github.com/latamctl/latamctl/pkg/telemetry"
)

// many is a set of n monitors, and what depends on some of them.
func many(n int) []*declare.Object {
	objects := pipeline()
	for i := range n {
		objects = append(objects, simple(fmt.Sprintf("service-%03d", i), float64(i+1)))
	}
	return objects
}

// whole checks that everything is there exactly once, and nothing of others was touched.
func (w *world) whole(foreign string) {
	w.t.Helper()
	for _, o := range w.set.Objects {
		if o.Key.Kind != declare.Metric {
			w.id(o.Key.Kind, o.Key.Name)
		}
	}
	if w.server.Checksum() != foreign {
		w.t.Error("a foreign object was touched")
	}
	w.wants(w.plan(monitor.PlanOptions{Prune: true}))
}

// Whatever goes wrong, syncs that are repeated end with everything there once.
func TestStorms(t *testing.T) {
	scripts := map[string]monitortest.Script{
		"limits":       {Rate429: 0.3, Reset: 2},
		"outages":      {Rate5xx: 0.1},
		"cut bodies":   {CutBody: 0.2},
		"lost answers": {CommitThenDrop: 0.2},
		"lost creates": {CommitThenDrop: 0.5, On: func(r *http.Request) bool { return r.Method == http.MethodPost }},
		"wrong 5xx":    {CommitThen5xx: 0.2, DropBefore: 0.1},
		"everything":   {Rate429: 0.3, Reset: 1, Rate5xx: 0.1, CutBody: 0.1, CommitThenDrop: 0.2, CommitThen5xx: 0.05, DropBefore: 0.05},
	}
	for name, script := range scripts {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				if err := w.server.AddForeign(50, stack); err != nil {
					w.t.Fatal(err)
				}
				foreign := w.server.Checksum()
				w.declares(many(25)...)
				script.Seed = 7
				w.server.Faults(script)
				w.storm(8)
				w.server.Faults(monitortest.Script{})
				w.whole(foreign)

				// Changes, a replacement and deletions go through the same weather.
				objects := replaced()
				for i := range 25 {
					objects = append(objects, simple(fmt.Sprintf("service-%03d", i), float64(i+2)))
				}
				w.declares(objects[:len(objects)-3]...)
				script.Seed = 8
				w.server.Faults(script)
				w.storm(8)
				w.server.Faults(monitortest.Script{})
				w.whole(foreign)
			})
		})
	}
}

// storm syncs until it works, as a person would; the attempts are few.
func (w *world) storm(attempts int) {
	w.t.Helper()
	for n := 1; ; n++ {
		s := w.syncer()
		p, err := s.Plan(w.t.Context(), monitor.PlanOptions{Prune: true, Validate: true})
		if err == nil {
			_, err = s.Sync(w.t.Context(), p, monitor.SyncOptions{Verify: true, MaxDeletes: plan.Limit{Set: true, Value: 10}})
		}
		if err == nil {
			return
		}
		if n == attempts {
			w.t.Fatalf("after %d syncs: %v", n, err)
		}
		time.Sleep(time.Minute) // Of the bubble.
	}
}

// A sync of 1,000 monitors meets no limit, and the next one asks for hardly anything.
func TestScale(t *testing.T) {
	inWorld(t, func(w *world) {
		w.declares(many(1000)...)
		start := time.Now()
		w.sync()
		for _, c := range w.server.Calls() {
			if c.Status == http.StatusTooManyRequests {
				w.t.Fatalf("%s met a limit", c)
			}
		}
		if took := time.Since(start); took > 2*time.Minute {
			w.t.Errorf("the first sync took %s", took)
		}
		w.server.ResetCalls()
		w.sync(monitor.PlanOptions{Validate: true})
		if calls := w.server.Calls(); len(calls) > 12 {
			w.t.Errorf("nothing was to do, and it took %d calls: %v", len(calls), calls)
		}
	})
}

// A process that is killed at any write leaves what the next sync completes.
func TestKilledSyncs(t *testing.T) {
	t.Parallel()
	const points, ofFirst = 20, 13 // The first sync writes 13 times, the second 7 times.
	for point := 1; point <= points; point++ {
		t.Run(fmt.Sprint(point), func(t *testing.T) {
			t.Parallel()
			server := monitortest.NewServer(monitortest.Options{Report: func(v string) { t.Error(v) }})
			if err := server.AddForeign(20, stack); err != nil {
				t.Fatal(err)
			}
			foreign := server.Checksum()
			// The first sync makes everything, the second one replaces, changes and deletes.
			last := "make"
			if point > ofFirst {
				killed(t, server, last, 0)
				last = "change"
				killed(t, server, last, point-ofFirst)
			} else {
				killed(t, server, last, point)
			}
			killed(t, server, last, 0)
			synctest.Test(t, func(t *testing.T) {
				w := &world{t: t, server: server, client: newClient(t, server), dir: t.TempDir()}
				w.declares(killedSet(last)...)
				w.whole(foreign)
			})
		})
	}
}

func killedSet(which string) []*declare.Object {
	if which == "make" {
		return append(pipeline(), simple("gone-1", 1), simple("gone-2", 1))
	}
	objects := replaced()
	objects[3] = simple("backlog", 200)
	return objects
}

// killed runs a sync in another process and kills it at a write; 0 lets it end.
func killed(t *testing.T, server *monitortest.Datadog, which string, at int) {
	t.Helper()
	var writes atomic.Int32
	var process atomic.Pointer[os.Process]
	started := make(chan struct{})
	handler := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && int(writes.Add(1)) == at {
			<-started
			if at%2 == 0 { // Half of the time the write happened.
				server.ServeHTTP(httptest.NewRecorder(), r)
			}
			process.Load().Kill()
			panic(http.ErrAbortHandler)
		}
		server.ServeHTTP(rw, r)
	})
	listener := httptest.NewUnstartedServer(handler)
	listener.Config.ErrorLog = nil
	listener.Start()
	defer listener.Close()
	command := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilledChild$")
	command.Env = append(os.Environ(), "MONITOR_CHILD="+which, "MONITOR_URL="+listener.URL, "MONITOR_DIR="+t.TempDir())
	var output bytes.Buffer
	command.Stdout, command.Stderr = &output, &output
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	process.Store(command.Process)
	close(started)
	err := command.Wait()
	var exit *exec.ExitError
	if at == 0 && err != nil {
		t.Fatalf("the sync failed: %v\n%s", err, output.String())
	}
	if at > 0 && (!errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL) {
		t.Fatalf("the sync was not killed at write %d: %v\n%s", at, err, output.String())
	}
}

// TestKilledChild is the sync that TestKilledSyncs kills.
func TestKilledChild(t *testing.T) {
	which := os.Getenv("MONITOR_CHILD")
	if which == "" {
		t.Skip("it runs as a child of TestKilledSyncs")
	}
	client, err := datadog.New(datadog.Options{
		URL: os.Getenv("MONITOR_URL"), APIKey: telemetry.NewSecret(monitortest.APIKey), AppKey: telemetry.NewSecret(monitortest.AppKey),
	})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t}
	w.declares(killedSet(which)...)
	s := monitor.New(monitor.Options{Remote: client, Set: w.set, Process: proc.OS(), Dir: os.Getenv("MONITOR_DIR"), Parallel: 2, Backoff: time.Millisecond})
	p, err := s.Plan(t.Context(), monitor.PlanOptions{Prune: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Sync(t.Context(), p, monitor.SyncOptions{Verify: true, MaxDeletes: plan.Limit{Set: true, Value: 10}}); err != nil {
		t.Fatal(err)
	}
}
