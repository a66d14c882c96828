package cli_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/latamctl/latamctl/pkg/testkit"
)

// A crash test is set by two variables, which its last line names: the number of kills and the seed
// of their schedule. The seed repeats the schedule and the load, not what the scheduler of the
// machine makes of them.
const (
	crashKillsVar = "LATAM_CRASH_KILLS"
	crashSeedVar  = "LATAM_CRASH_SEED"
)

const (
	// crashWindow is how long at most a process is left to work between its start and its kill.
	crashWindow = time.Second
	// crashStarting is one in how many kills hits a process that is still starting.
	crashStarting = 5
	// crashSettle is how long the system may take to settle what the last kill left behind.
	crashSettle = waitLimit
)

// TestCrashUnderLoadLosesNothing kills the whole program again and again while records are
// published and rows are written, then compares all that was acknowledged with all that is there.
func TestCrashUnderLoadLosesNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("20 kills take half a minute")
	}
	t.Parallel()
	kills, seed := int(fromEnv(t, crashKillsVar, crashKills)), fromEnv(t, crashSeedVar, rand.Uint64())
	t.Logf("%s=%d %s=%d", crashKillsVar, kills, crashSeedVar, seed)
	s := newCrashStack(t)
	l := newCrashLoad(t, s, seed)
	up := s.spawn()
	s.awaitReady(up)
	l.prepare()
	l.run()
	up = s.killUnderLoad(up, kills, rand.New(rand.NewPCG(seed, 0)))
	l.halt()

	l.receiveLetters()
	l.settle()
	l.settledStaysSettled(up)
	total := l.check(t)
	t.Logf("crash: %s kills=%d kills_starting=%d seed=%d restarts: %s", total, s.kills, s.killsStarting, seed, s.restartTimes())
}

// TestCrashOnFirstStart kills the program while it lays out a new data folder. Whatever it left
// there, the next start works.
func TestCrashOnFirstStart(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts the program 40 times")
	}
	t.Parallel()
	seed := fromEnv(t, crashSeedVar, rand.Uint64())
	t.Logf("%s=%d", crashSeedVar, seed)
	s, rng := newCrashStack(t), rand.New(rand.NewPCG(seed, 0))
	up := s.spawn()
	s.awaitReady(up)
	s.kill(up)
	for folder := range 13 {
		s.data = fmt.Sprintf("data-%d", folder)
		for range 2 {
			up := s.spawn()
			s.letWork(up, time.Duration(rng.Int64N(int64(s.restarts[0]))))
			s.kill(up)
		}
		up := s.spawn()
		s.awaitReady(up)
		if rows := walk(t, s.now.API, "flights", url.Values{}); len(rows) > 0 {
			t.Errorf("a new stack serves %d rows", len(rows))
		}
		s.kill(up)
	}
}

// TestCrashBetweenCreatingAndWritingFormat starts on what a kill leaves that hits a first start
// between the creation of the format mark and its content.
func TestCrashBetweenCreatingAndWritingFormat(t *testing.T) {
	t.Parallel()
	s := newCrashStack(t)
	if err := os.Mkdir(filepath.Join(s.dir, s.data), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.dir, s.data, "FORMAT"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	s.awaitReady(s.spawn())
}

func fromEnv(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// crashStack is a latamctl up that is killed and started again on the same data. Clients dial
// whichever process is up, as programs of a user do whose stack keeps its address.
type crashStack struct {
	t *testing.T
	// dir holds the data, the ledgers and the log; it stays when the test fails.
	dir  string
	data string // within dir
	log  *os.File

	kills, killsStarting int
	restarts             []time.Duration

	mu   sync.Mutex
	now  ready
	live chan struct{} // closed while a process is ready
}

// crashChild is one process of a crashStack.
type crashChild struct {
	cmd    *exec.Cmd
	stdout *lines
	began  time.Time
	ended  chan struct{}
}

func newCrashStack(t *testing.T) *crashStack {
	t.Helper()
	dir, err := os.MkdirTemp("", "latamctl-crash-")
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "up.log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = log.Close()
		if !t.Failed() {
			_ = os.RemoveAll(dir)
			return
		}
		text, _ := os.ReadFile(log.Name())
		t.Logf("the data, the ledgers and up.log stay in %s, whose log ends\n%s", dir, tail(string(text)))
	})
	return &crashStack{t: t, dir: dir, data: "data", log: log, live: make(chan struct{})}
}

func (s *crashStack) spawn() *crashChild {
	s.t.Helper()
	args := append([]string{"up", "-o", "json", "--no-sample", "--data-dir", filepath.Join(s.dir, s.data)}, freePorts...)
	c := &crashChild{stdout: &lines{out: make(chan string, 10)}, ended: make(chan struct{}), began: time.Now()}
	c.cmd = command(context.WithoutCancel(s.t.Context()), s.t, s.dir, nil, args...)
	c.cmd.Stdout, c.cmd.Stderr = c.stdout, s.log
	if err := c.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	go func() {
		defer close(c.ended)
		_ = c.cmd.Wait() // ProcessState says how it ended.
	}()
	s.t.Cleanup(func() {
		_ = c.cmd.Process.Kill()
		<-c.ended
	})
	return c
}

// awaitReady waits until the process serves and lets the clients at it.
func (s *crashStack) awaitReady(c *crashChild) {
	s.t.Helper()
	var r ready
	select {
	case line := <-c.stdout.out:
		if err := json.Unmarshal([]byte(line), &r); err != nil || !r.Ready {
			s.t.Fatalf("ready line %q: %v", line, err)
		}
	case <-c.ended:
		s.t.Fatalf("up ended by itself while it started: %v", c.cmd.ProcessState)
	case <-time.After(waitLimit):
		s.t.Fatalf("up was not ready within %s", waitLimit)
	}
	s.restarts = append(s.restarts, time.Since(c.began))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = r
	close(s.live)
}

// killUnderLoad kills the process and its successors at random times and returns the one that is
// left to live.
func (s *crashStack) killUnderLoad(up *crashChild, kills int, rng *rand.Rand) *crashChild {
	s.t.Helper()
	for range kills {
		s.letWork(up, time.Duration(rng.Int64N(int64(crashWindow))))
		s.kill(up)
		up = s.spawn()
		for rng.IntN(crashStarting) == 0 && s.kills < kills {
			s.letWork(up, time.Duration(rng.Int64N(int64(2*slices.Min(s.restarts)))))
			s.killsStarting++
			s.kill(up)
			up = s.spawn()
		}
		s.awaitReady(up)
		if s.kills >= kills {
			return up
		}
	}
	return up
}

// letWork lets a process run for d; it must not end by itself.
func (s *crashStack) letWork(c *crashChild, d time.Duration) {
	s.t.Helper()
	select {
	case <-time.After(d):
	case <-c.ended:
		s.t.Fatalf("up ended by itself: %v", c.cmd.ProcessState)
	}
}

// kill ends a process without a warning.
func (s *crashStack) kill(c *crashChild) {
	s.t.Helper()
	s.mu.Lock()
	select {
	case <-s.live:
		s.live = make(chan struct{})
	default: // It was still starting.
	}
	s.mu.Unlock()
	if err := c.cmd.Process.Kill(); err != nil {
		s.t.Fatalf("kill up: %v", err)
	}
	<-c.ended
	if status, ok := c.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !status.Signaled() || status.Signal() != syscall.SIGKILL {
		s.t.Fatalf("up ended by itself before it was killed: %v", c.cmd.ProcessState)
	}
	s.kills++
	fmt.Fprintf(s.log, "--- kill %d at %s\n", s.kills, time.Now().Format(time.RFC3339Nano))
}

// address waits until a process is ready and returns where it listens.
func (s *crashStack) address(ctx context.Context) (ready, error) {
	for {
		r, live := s.current()
		select {
		case <-live:
			return r, nil
		default:
		}
		select {
		case <-live: // Read the address again: it has changed.
		case <-ctx.Done():
			return ready{}, ctx.Err()
		}
	}
}

// current returns where the newest process that became ready listens, and what is closed while it
// is alive; there is another one as soon as it is not.
func (s *crashStack) current() (r ready, live <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now, s.live
}

// dial returns a connection for a client that outlives every process.
func (s *crashStack) dial(port func(ready) string) option.ClientOption {
	s.t.Helper()
	conn, err := grpc.NewClient("passthrough:///up",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.5, MaxDelay: 200 * time.Millisecond},
			MinConnectTimeout: 20 * time.Second,
		}),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			r, err := s.address(ctx)
			if err != nil {
				return nil, err
			}
			return (&net.Dialer{}).DialContext(ctx, "tcp", port(r))
		}))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = conn.Close() })
	return option.WithGRPCConn(conn)
}

// restartTimes tells how long it took from the start of a process until it was ready: the first, those
// under load, and the last, which nobody disturbed.
func (s *crashStack) restartTimes() string {
	last := len(s.restarts) - 1
	loaded := slices.Sorted(slices.Values(s.restarts[1:last]))
	round := func(d time.Duration) time.Duration { return d.Round(time.Millisecond) }
	return fmt.Sprintf("first=%s p50=%s max=%s at_rest=%s", round(s.restarts[0]),
		round(loaded[len(loaded)/2]), round(loaded[len(loaded)-1]), round(s.restarts[last]))
}

// crashLedger creates a ledger beside the data.
func (s *crashStack) crashLedger(name string) *testkit.Ledger {
	s.t.Helper()
	l, err := testkit.CreateLedger(filepath.Join(s.dir, name+".jsonl"))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = l.Close() })
	return l
}
