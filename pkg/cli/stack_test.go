package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/engine"
)

// program is a running latamctl.
type program struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdout *lines
	stderr output
	done   chan error
	ended  chan struct{} // closed at the end of the process
}

// output is what a program has printed so far; it may be read while the program runs.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// lines passes on each line written to it.
type lines struct {
	rest bytes.Buffer
	out  chan string
}

func (l *lines) Write(b []byte) (int, error) {
	l.rest.Write(b)
	for {
		line, err := l.rest.ReadString('\n')
		if err != nil {
			l.rest.Reset()
			l.rest.WriteString(line)
			return len(b), nil
		}
		l.out <- strings.TrimSuffix(line, "\n")
	}
}

// command prepares latamctl in a folder with extra environment variables.
func command(ctx context.Context, t *testing.T, dir string, env []string, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, exe, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), asProgram+"=1", "PUBSUB_EMULATOR_HOST=", "BIGTABLE_EMULATOR_HOST=")
	cmd.Env = append(cmd.Env, env...)
	return cmd
}

// start starts a service; the test's end kills it if it still runs.
func start(t *testing.T, dir string, env []string, args ...string) *program {
	t.Helper()
	p := &program{t: t, stdout: &lines{out: make(chan string, 1000)}, done: make(chan error, 1), ended: make(chan struct{})}
	p.cmd = command(context.WithoutCancel(t.Context()), t, dir, env, args...)
	p.cmd.Stdout, p.cmd.Stderr = p.stdout, &p.stderr
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.done <- p.cmd.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // It fails for one that has ended.
		for ended := false; !ended; {
			select {
			case <-p.stdout.out: // Nobody reads the rest, which must not hold up the end.
			case <-p.ended:
				ended = true
			}
		}
		if t.Failed() {
			t.Logf("%v\n%s", args, tail(p.stderr.String()))
		}
	})
	return p
}

func tail(s string) string {
	const keep = 4000
	if len(s) > keep {
		return "…" + s[len(s)-keep:]
	}
	return s
}

// terminate sends SIGTERM and expects exit 0.
func (p *program) terminate() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
	select {
	case err := <-p.done:
		p.done <- err
		if err != nil {
			p.t.Fatalf("after SIGTERM: %v\n%s", err, tail(p.stderr.String()))
		}
	case <-time.After(waitLimit):
		p.t.Fatalf("still running %s after SIGTERM\n%s", waitLimit, tail(p.stderr.String()))
	}
}

// ready is the line that up prints.
type ready struct {
	API, Admin, Pubsub, Bigtable, Project, Instance string
	Ready                                           bool
}

var freePorts = []string{"--http", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--pubsub", "127.0.0.1:0", "--bigtable", "127.0.0.1:0"}

// startUp starts up on free ports and waits until it is ready.
func startUp(t *testing.T, dir string, args ...string) (*program, ready) {
	t.Helper()
	return startUpWith(t, dir, nil, args...)
}

// startUpWith is startUp with extra environment variables.
func startUpWith(t *testing.T, dir string, env []string, args ...string) (*program, ready) {
	t.Helper()
	p := start(t, dir, env, append(append([]string{"up", "-o", "json"}, freePorts...), args...)...)
	var r ready
	select {
	case line := <-p.stdout.out:
		if err := json.Unmarshal([]byte(line), &r); err != nil || !r.Ready {
			t.Fatalf("ready line %q: %v", line, err)
		}
	case err := <-p.done:
		p.done <- err
		t.Fatalf("up ended: %v\n%s", err, tail(p.stderr.String()))
	case <-time.After(waitLimit):
		t.Fatalf("up was not ready within %s\n%s", waitLimit, tail(p.stderr.String()))
	}
	return p, r
}

// run runs a command to its end and returns its standard output.
func run(t *testing.T, dir string, env []string, args ...string) string {
	t.Helper()
	cmd := command(t.Context(), t, dir, env, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("latamctl %v: %v\n%s%s", args, err, out, tail(stderr.String()))
	}
	return string(out)
}

// getJSON asks the API.
func getJSON(t *testing.T, address string, into any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %d, %v: %s", address, resp.StatusCode, err, body)
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	if err := dec.Decode(into); err != nil {
		t.Fatalf("GET %s: %v in %s", address, err, body)
	}
}

// walk pages through a list by its cursors and returns each row by its id.
func walk(t *testing.T, api, dataset string, query url.Values) map[string]map[string]any {
	t.Helper()
	rows := map[string]map[string]any{}
	query.Set("limit", "1000")
	next := fmt.Sprintf("%s/v1/datasets/%s/rows?%s", api, dataset, query.Encode())
	for next != "" {
		var page struct {
			Data       []map[string]any `json:"data"`
			NextCursor *string          `json:"next_cursor"`
			NextURL    *string          `json:"next_url"`
		}
		getJSON(t, next, &page)
		for _, row := range page.Data {
			id, _ := row["id"].(string)
			if _, twice := rows[id]; twice || id == "" {
				t.Fatalf("row %q came twice or has no id", id)
			}
			delete(row, "id")
			rows[id] = row
		}
		next = ""
		if page.NextCursor != nil {
			next = api + *page.NextURL
		}
	}
	return rows
}

// waitLimit is how long a test waits for what has to come. Only a broken program makes it last, or a
// machine with much else to do.
const waitLimit = 2 * time.Minute

// eventually waits for a condition and says what it last saw.
func eventually(t *testing.T, within time.Duration, condition func() (done bool, seen string)) {
	t.Helper()
	deadline := time.Now().Add(within)
	for {
		asked := time.Now()
		done, seen := condition()
		if done {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", within, seen)
		}
		askAgain(time.Since(asked))
	}
}

// askAgain waits before a question that took so long is repeated. What costs much is asked less often, or
// the questions would keep the machine from what they wait for.
func askAgain(took time.Duration) {
	time.Sleep(min(max(3*took, 20*time.Millisecond), time.Second))
}

// settled waits until ingest has settled that many records, by its own metrics.
func settled(t *testing.T, admin string, outcome string, want int) {
	t.Helper()
	pattern := regexp.MustCompile(`(?m)^latam_ingest_records_total\{[^}]*outcome="` + outcome + `"[^}]*\} (\S+)$`)
	eventually(t, waitLimit, func() (bool, string) {
		resp, err := http.Get(admin + "/metrics")
		if err != nil {
			return false, err.Error()
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		total := 0.0
		for _, m := range pattern.FindAllSubmatch(body, -1) {
			var n float64
			if _, err := fmt.Sscan(string(m[1]), &n); err != nil {
				t.Fatal(err)
			}
			total += n
		}
		return int(total) >= want, fmt.Sprintf("%v of %d records %s", total, want, outcome)
	})
}

// deadLetters reads a dataset's dead letters until there are that many.
func deadLetters(t *testing.T, r ready, subscription string, want int) []bus.Message {
	t.Helper()
	eng, err := engine.Start(t.Context(), engine.Options{Kind: engine.Emulator, PubsubAddr: r.Pubsub})
	if err != nil {
		t.Fatal(err)
	}
	defer eng.Close()
	client, err := bus.Open(t.Context(), bus.Options{Project: r.Project, Client: eng.Pubsub})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	got := make(chan bus.Message, 10000)
	go func() {
		_ = client.Receive(ctx, subscription, bus.ReceiveOptions{}, func(_ context.Context, m bus.Message) bool {
			got <- m
			return true
		})
		close(got)
	}()
	var letters []bus.Message
	for m := range got {
		if letters = append(letters, m); len(letters) == want {
			cancel()
		}
	}
	if len(letters) != want {
		t.Fatalf("%d dead letters, want %d", len(letters), want)
	}
	return letters
}

// shared finds a file of real data beside the checkout.
func shared(name string) (path string, ok bool) {
	path, err := filepath.Abs(filepath.Join("..", "..", "..", "shared", "data", name))
	if err != nil {
		return "", false
	}
	_, err = os.Stat(path)
	return path, err == nil
}

// freePort finds a port that nothing listens on.
func freePort(t *testing.T) int {
	t.Helper()
	for {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := l.Addr().(*net.TCPAddr).Port
		_ = l.Close()
		if _, twice := handedOut.LoadOrStore(port, true); !twice {
			return port
		}
	}
}

// handedOut are the ports that freePort has returned: the system gives a port that was closed again.
var handedOut sync.Map
