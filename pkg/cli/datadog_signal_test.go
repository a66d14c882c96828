package cli_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/latamctl/latamctl/pkg/monitor/declare"
	"github.com/latamctl/latamctl/pkg/monitor/monitortest"
)

const watchedYAML = `version: 1
name: latam
datasets:
  flights:
    fields: {number: {type: int64, required: true}}
    key: [number]
environments:
  prod: {engine: gcp, project: my-project, notify: {page: "@pagerduty-latam", chat: "@slack-latam", ticket: "@jira-LATAM", mail: "@a@example.com"}}
`

// watched is a folder with a declaration, and a Datadog for it.
type watched struct {
	t   *testing.T
	dir string
	dd  *monitortest.Server
	env []string
}

func newWatched(t *testing.T) *watched {
	t.Helper()
	w := &watched{t: t, dir: t.TempDir(), dd: monitortest.New(t)}
	if err := os.WriteFile(filepath.Join(w.dir, "latam.yaml"), []byte(watchedYAML), 0o644); err != nil {
		t.Fatal(err)
	}
	w.env = append(os.Environ(), asProgram+"=1", "GITHUB_STEP_SUMMARY=", "DD_SITE=", "DD_BEARER_TOKEN=",
		"DD_URL="+w.dd.URL(), "DD_API_KEY="+monitortest.APIKey, "DD_APP_KEY="+monitortest.AppKey)
	return w
}

// command is latamctl as another process.
func (w *watched) command(args ...string) (cmd *exec.Cmd, out, errs *bytes.Buffer) {
	exe, err := os.Executable()
	if err != nil {
		w.t.Fatal(err)
	}
	cmd = exec.CommandContext(w.t.Context(), exe, args...)
	cmd.Dir, cmd.Env = w.dir, w.env
	out, errs = &bytes.Buffer{}, &bytes.Buffer{}
	cmd.Stdout, cmd.Stderr = out, errs
	return cmd, out, errs
}

func (w *watched) run(args ...string) (code int, out, errs string) {
	cmd, o, e := w.command(args...)
	_ = cmd.Run() // Its code is what counts.
	return cmd.ProcessState.ExitCode(), o.String(), e.String()
}

// TestMonitorsInterrupted: Ctrl-C in the middle of a first sync lets what is under way end, says how
// to go on, and going on makes nothing twice.
func TestMonitorsInterrupted(t *testing.T) {
	t.Parallel()
	w := newWatched(t)
	cmd, out, errs := w.command("monitors", "sync", "--env", "prod", "-o", "json")
	var creates atomic.Int32
	middle, signalled := make(chan struct{}), make(chan struct{})
	w.dd.Before(func(r *http.Request) *monitortest.Response {
		if r.Method == http.MethodPost && r.URL.Path == "/api/v1/monitor" && creates.Add(1) == 20 {
			close(middle)
			<-signalled
		}
		return nil
	})
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case <-middle:
		if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
			t.Error(err)
		}
	case <-ended:
		t.Fatalf("it ended before:\n%s%s", out, errs)
	}
	close(signalled)
	<-ended // Its code is what counts.
	var doc struct {
		OK, Interrupted bool
		Done, Waiting   []struct{ Kind, Name, ID string }
	}
	if err := json.Unmarshal(out.Bytes(), &doc); err != nil {
		t.Fatalf("%v\n%s%s", err, out, errs)
	}
	made := w.dd.Objects(declare.Monitor)
	doneMonitors := 0
	for _, d := range doc.Done {
		if d.Kind == "monitor" {
			doneMonitors++
		}
	}
	if code := cmd.ProcessState.ExitCode(); code != 130 || doc.OK || !doc.Interrupted || len(doc.Waiting) == 0 {
		t.Errorf("exit %d, document %+v", code, doc)
	}
	if doneMonitors != len(made) || doneMonitors < 20 {
		t.Errorf("it says that %d monitors are made, and %d are", doneMonitors, len(made))
	}
	for _, want := range []string{"nothing new is started", "latamctl monitors sync --env prod goes on from here"} {
		if !strings.Contains(errs.String(), want) {
			t.Errorf("it does not say %q:\n%s", want, errs)
		}
	}
	if code, out, errs := w.run("monitors", "sync", "--env", "prod"); code != 0 {
		t.Fatalf("going on: exit %d\n%s%s", code, out, errs)
	}
	names := map[any]int{}
	for _, o := range w.dd.Objects(declare.Monitor) {
		if names[o["name"]]++; names[o["name"]] > 1 {
			t.Errorf("%v is made twice", o["name"])
		}
	}
	if code, out, errs := w.run("monitors", "plan", "--env", "prod"); code != 0 {
		t.Errorf("the plan after it: exit %d\n%s%s", code, out, errs)
	}
}

// TestMonitorsShowNoKeys looks for the keys in everything that the commands write: outputs, logs,
// plans, backups and exports, when all is well and when Datadog refuses, fails or echoes what it got.
func TestMonitorsShowNoKeys(t *testing.T) {
	if raceDetector {
		t.Skip("it reads what commands write one after the other, which shows no race")
	}
	t.Parallel()
	w := newWatched(t)
	keys := []string{monitortest.APIKey, monitortest.AppKey}
	check := func(want int, args ...string) {
		t.Helper()
		code, out, errs := w.run(args...)
		if want >= 0 && code != want {
			t.Errorf("%v: exit %d, want %d\n%.2000s%.2000s", args, code, want, out, errs)
		}
		for _, key := range keys {
			if strings.Contains(out+errs, key) {
				t.Errorf("%v shows a key", args)
			}
		}
	}
	check(3, "monitors", "plan", "--env", "prod", "-v", "--out", "plan.json")
	check(0, "monitors", "sync", "--env", "prod", "-v", "--log-format", "json")
	check(0, "monitors", "status", "--env", "prod", "-v")
	check(0, "monitors", "diff", "--env", "prod", "-v")
	check(0, "monitors", "delete", "--env", "prod", "-v", "errors-burn-fast")
	check(0, "monitors", "export", "--env", "prod", "--format", "terraform", "--out", "datadog.tf")
	check(-1, "slo", "report", "--env", "prod", "-v")
	check(-1, "doctor", "--env", "prod", "-v", "-o", "json")
	check(0, "config", "show", "--env", "prod")
	w.dd.Before(func(r *http.Request) *monitortest.Response {
		return &monitortest.Response{Status: http.StatusForbidden, Body: map[string]any{"errors": []string{"no right for " + r.Header.Get("DD-API-KEY") + " and " + r.Header.Get("DD-APPLICATION-KEY")}}}
	})
	for _, command := range []string{"plan", "sync", "status"} {
		check(4, "monitors", command, "--env", "prod", "-v")
	}
	check(-1, "doctor", "--env", "prod", "-v")
	err := filepath.WalkDir(w.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		for _, key := range keys {
			if bytes.Contains(content, []byte(key)) {
				t.Errorf("%s holds a key", path)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
