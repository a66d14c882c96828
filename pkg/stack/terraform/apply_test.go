package terraform

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/latamctl/latamctl/pkg/proc"
)

func TestPlanAndApply(t *testing.T) {
	t.Parallel()
	r, w := runner(t, nil), workspace(t, chainOf("0"))
	if err := r.Init(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(w.RunDir, "demo.tfplan")
	var events []Event
	s, err := r.Plan(t.Context(), w, PlanOptions{Out: file}, func(e Event) { events = append(events, e) })
	if err != nil {
		t.Fatal(err)
	}
	if s.Add != 3 || len(s.Changes) != 3 || s.Changes[0] != (StreamChange{Address: "terraform_data.a", Type: "terraform_data", Action: "create"}) || s.Took <= 0 {
		t.Errorf("plan %+v", s)
	}
	if s.Outputs["last"].Action != "create" || len(events) < 5 {
		t.Errorf("outputs %v, %d events", s.Outputs, len(events))
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 || info.Size() == 0 {
		t.Errorf("plan file %v, %v; want it with mode 0600", info, err)
	}
	plan, err := r.Show(t.Context(), w, file)
	if err != nil || len(plan.ResourceChanges) != 3 {
		t.Errorf("show: %v, %v", plan, err)
	}
	var started Running
	w.Started = func(r Running) error { started = r; return nil }
	s, err = r.Apply(t.Context(), w, file, nil)
	if err != nil || s.Add != 3 {
		t.Fatalf("apply: %v, %+v", err, s)
	}
	if all, tainted := objects(t, w); all != "abc" || tainted != "" || exists(t, w) != "abc" {
		t.Errorf("state has %q, tainted %q, the world %q", all, tainted, exists(t, w))
	}
	if alive, err := r.Alive(started); alive || err != nil || started.PID == 0 || started.Command != "apply" {
		t.Errorf("%+v lives: %t, %v", started, alive, err)
	}
	outputs, err := r.Output(t.Context(), w)
	if err != nil || len(outputs["last"].Value) < 10 {
		t.Errorf("outputs %v, %v", outputs, err)
	}
	// The plan was carried out, so it is of no use any more.
	if _, err := r.Apply(t.Context(), w, file, nil); KindOf(err) != Stale {
		t.Errorf("second apply: %v, want a stale plan", err)
	}
	wantNoChanges(t, r, w)
	w.Started = nil
	if _, err := r.Plan(t.Context(), w, PlanOptions{Out: file, Destroy: true}, nil); err != nil {
		t.Fatal(err)
	}
	if s, err := r.Apply(t.Context(), w, file, nil); err != nil || s.Remove != 3 {
		t.Errorf("destroy: %v, %+v", err, s)
	}
}

// killPoints are how many lines of the stream have been written when latamctl is killed. The apply
// writes about 20. LATAM_KILL_POINTS=12 spreads so many points over them.
func killPoints(t *testing.T) []int {
	t.Helper()
	n, err := strconv.Atoi(os.Getenv("LATAM_KILL_POINTS"))
	if err != nil || n < 1 {
		return []int{0, 5, 12, 18}
	}
	var points []int
	for i := range n {
		points = append(points, i*19/n)
	}
	return points
}

// startParent starts a program that applies a plan, and returns it with the record that it wrote.
func startParent(t *testing.T, w Workspace, plan string, hold bool) (*exec.Cmd, Running) {
	t.Helper()
	o := parentOrder{Workspace: Workspace0{w.Stack, w.Dir, w.VarFile, w.RunDir}, Plan: plan, Record: filepath.Join(w.RunDir, "record.json"), Hold: hold}
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), parentVariable+"="+string(text))
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var r Running
	eventually(t, "the record of the apply", func() bool {
		b, err := os.ReadFile(o.Record)
		return err == nil && json.Unmarshal(b, &r) == nil
	})
	return cmd, r
}

// TestKilledParent kills the program in its apply, and a later one finds everything in order.
func TestKilledParent(t *testing.T) {
	t.Parallel()
	for i, point := range killPoints(t) {
		t.Run(fmt.Sprintf("%d/line-%d", i, point), func(t *testing.T) {
			t.Parallel()
			r, w := runner(t, nil), workspace(t, chainOf("0.3"))
			plan := planned(t, r, w)
			cmd, record := startParent(t, w, plan, false)
			eventually(t, "the stream", func() bool { return lines(record.Output) >= point })
			if point == 0 { // It must have been told to go, or nothing is left to look at.
				eventually(t, "the start", func() bool { return lines(record.Output) > 0 })
			}
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait() // It was killed.
			var events int
			s, err := r.Wait(t.Context(), w, record, func(Event) { events++ })
			if err != nil || s.Add != 3 || events < 20 {
				t.Errorf("wait: %v, %+v, %d events", err, s, events)
			}
			if all, tainted := objects(t, w); all != "abc" || tainted != "" || exists(t, w) != "abc" || !isUnlocked(t, w) {
				t.Errorf("state has %q, tainted %q, the world %q, unlocked %t", all, tainted, exists(t, w), isUnlocked(t, w))
			}
			wantNoChanges(t, r, w)
		})
	}
}

// TestKilledBeforeStart kills the program when it has written its record and terraform has not begun.
func TestKilledBeforeStart(t *testing.T) {
	t.Parallel()
	r, w := runner(t, nil), workspace(t, chainOf("0"))
	plan := planned(t, r, w)
	cmd, record := startParent(t, w, plan, true)
	if alive, err := r.Alive(record); !alive || err != nil {
		t.Errorf("the leader that waits lives: %t, %v", alive, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // It was killed.
	if _, err := r.Wait(t.Context(), w, record, nil); KindOf(err) != Interrupted || !strings.Contains(err.Error(), neverBegan) {
		t.Errorf("wait for an apply that never began: %v", err)
	}
	if all, _ := objects(t, w); all != "" || exists(t, w) != "" || !isUnlocked(t, w) {
		t.Errorf("state has %q, the world %q, unlocked %t; want nothing", all, exists(t, w), isUnlocked(t, w))
	}
	if _, err := r.Apply(t.Context(), w, plan, nil); err != nil {
		t.Errorf("the plan cannot be applied: %v", err)
	}
}

// TestInterrupt ends the context in the middle of an apply.
func TestInterrupt(t *testing.T) {
	t.Parallel()
	r, w := runner(t, nil), workspace(t, chainOf("0.5"))
	plan := planned(t, r, w)
	ctx, cancel := context.WithCancelCause(t.Context())
	s, err := r.Apply(ctx, w, plan, func(e Event) {
		if e.Type == "provision_start" && e.Address == "terraform_data.b" {
			cancel(proc.ErrInterrupted)
		}
	})
	var f *Failure
	if !errors.As(err, &f) || f.Kind != Interrupted || !errors.Is(err, proc.ErrInterrupted) || s == nil {
		t.Fatalf("apply: %v, want an interrupt", err)
	}
	if all, tainted := objects(t, w); all != "ab" || tainted != "b" || exists(t, w) != "a" || !isUnlocked(t, w) {
		t.Errorf("state has %q, tainted %q, the world %q, unlocked %t", all, tainted, exists(t, w), isUnlocked(t, w))
	}
	b, _ := os.ReadFile(f.Output)
	if n := bytes.Count(b, []byte("Interrupt received")) + bytes.Count(b, []byte("interrupts")); n != 1 {
		t.Errorf("terraform speaks of %d interrupts, want 1:\n%s", n, b)
	}
	plan = planned(t, r, w)
	if s, err := r.Apply(t.Context(), w, plan, nil); err != nil || s.Add != 2 || s.Remove != 1 {
		t.Errorf("go on: %v, %+v", err, s)
	}
	if exists(t, w) != "abc" {
		t.Errorf("the world is %q", exists(t, w))
	}
}

// TestInterruptAnywhere ends the context after any number of events: whatever was created is known.
func TestInterruptAnywhere(t *testing.T) {
	t.Parallel()
	for _, point := range killPoints(t) {
		t.Run(fmt.Sprint(point), func(t *testing.T) {
			t.Parallel()
			r, w := runner(t, nil), workspace(t, chainOf("0.1"))
			plan := planned(t, r, w)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if point == 0 {
				w.Started = func(Running) error { go cancel(); return nil }
			}
			events := 0
			_, err := r.Apply(ctx, w, plan, func(Event) {
				if events++; events == point {
					cancel()
				}
			})
			if err != nil && KindOf(err) != Interrupted {
				t.Errorf("apply: %v", err)
			}
			if all, _ := objects(t, w); !strings.HasPrefix(all, exists(t, w)) || !isUnlocked(t, w) {
				t.Errorf("state has %q, the world %q, unlocked %t", all, exists(t, w), isUnlocked(t, w))
			}
			w.Started = nil
			if _, err := r.Apply(t.Context(), w, planned(t, r, w), nil); err != nil || exists(t, w) != "abc" {
				t.Errorf("go on: %v, the world is %q", err, exists(t, w))
			}
			wantNoChanges(t, r, w)
		})
	}
}

// TestEnvironmentOfTerraform looks at what a program that terraform starts can see.
func TestEnvironmentOfTerraform(t *testing.T) {
	t.Parallel()
	r := runner(t, func(o *Options) { o.Env["PASSED_ON"] = "yes" })
	w := workspace(t, `
variable "world" { type = string }
resource "terraform_data" "x" {
  provisioner "local-exec" { command = "env > ${var.world}/env" }
}`)
	if _, err := r.Apply(t.Context(), w, planned(t, r, w), nil); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(world(t, w), "env"))
	if err != nil || !strings.Contains(string(b), "PASSED_ON=yes\n") {
		t.Errorf("environment %s, %v", b, err)
	}
	allowed := map[string]bool{"PASSED_ON": true, "PATH": true, "HOME": true, "PWD": true, "OLDPWD": true, "SHLVL": true, "_": true, "CHECKPOINT_DISABLE": true}
	for line := range strings.Lines(string(b)) {
		if name, _, _ := strings.Cut(line, "="); !allowed[name] && !strings.HasPrefix(name, "TF_") {
			t.Errorf("terraform sees %s", line)
		}
	}
}

// TestHangup closes the terminal, so to say, in the middle of an apply.
func TestHangup(t *testing.T) {
	t.Parallel()
	r, w := runner(t, nil), workspace(t, chainOf("0.1"))
	plan := planned(t, r, w)
	_, err := r.Apply(t.Context(), w, plan, func(e Event) {
		if e.Type != "provision_start" {
			return
		}
		running, ok := r.Running("demo")
		if err := syscall.Kill(running.PID, syscall.SIGHUP); !ok || err != nil {
			t.Errorf("hang up process %d: %v", running.PID, err)
		}
	})
	if err != nil || exists(t, w) != "abc" {
		t.Errorf("apply: %v, the world is %q", err, exists(t, w))
	}
}

// TestNoTimerKills looks at what terraform-exec was told. Its default kills a minute after an
// interrupt, which is longer than a test may take and shorter than many an apply.
func TestNoTimerKills(t *testing.T) {
	t.Parallel()
	x := &execution{t: runner(t, nil), w: workspace(t, "")}
	tf, err := x.program()
	if err != nil {
		t.Fatal(err)
	}
	if delay := reflect.ValueOf(tf).Elem().FieldByName("waitDelay"); delay.Int() != 0 {
		t.Errorf("it is killed %s after an interrupt", time.Duration(delay.Int()))
	}
}

func TestMissingPrograms(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*Options){
		"/nonexistent/terraform": func(o *Options) { o.Bin = "/nonexistent/terraform" },
		"/nonexistent/leader":    func(o *Options) { o.Leader = "/nonexistent/leader" },
		"Usage":                  func(o *Options) { o.Leader = o.Bin }, // It is no leader.
	} {
		r, w := runner(t, change), workspace(t, chainOf("0"))
		w.Started = func(Running) error { return nil }
		if _, err := r.Apply(t.Context(), w, "x.tfplan", nil); err == nil || want != "Usage" && !strings.Contains(err.Error(), want) {
			t.Errorf("apply: %v, want %s in it", err, want)
		}
	}
}

func TestInterruptBeforeStart(t *testing.T) {
	t.Parallel()
	r, w := runner(t, nil), workspace(t, chainOf("0"))
	plan := planned(t, r, w)
	ctx, cancel := context.WithCancelCause(t.Context())
	w.Started = func(Running) error { cancel(proc.ErrInterrupted); return nil }
	if _, err := r.Apply(ctx, w, plan, nil); KindOf(err) != Interrupted {
		t.Errorf("apply: %v, want an interrupt", err)
	}
	if _, err := r.Apply(ctx, w, plan, nil); KindOf(err) != Interrupted {
		t.Errorf("apply after the interrupt: %v", err)
	}
	w.Started = func(Running) error { return errors.New("disk full") }
	if _, err := r.Apply(t.Context(), w, plan, nil); err == nil || !strings.Contains(err.Error(), "disk full") {
		t.Errorf("apply without a record: %v", err)
	}
	if all, _ := objects(t, w); all != "" || exists(t, w) != "" || !isUnlocked(t, w) {
		t.Errorf("state has %q, the world %q", all, exists(t, w))
	}
}

// TestKill is the end that only a person may choose.
func TestKill(t *testing.T) {
	t.Parallel()
	r, w := runner(t, nil), workspace(t, chainOf("5"))
	plan := planned(t, r, w)
	if killed, err := r.Kill("demo"); killed || err != nil {
		t.Errorf("killed %t, %v, while nothing runs", killed, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, err := r.Apply(ctx, w, plan, func(e Event) {
		if e.Type == "provision_start" {
			cancel() // A person interrupts before insisting.
			if killed, err := r.Kill("demo"); !killed || err != nil {
				t.Errorf("killed %t, %v", killed, err)
			}
		}
	})
	if KindOf(err) != Killed {
		t.Errorf("apply: %v, want a kill", err)
	}
	if _, ok := r.Running("demo"); ok {
		t.Error("it still runs")
	}
}

// TestSlowReader does not take the events until everything is done.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	r, w := runner(t, nil), workspace(t, chainOf("0"))
	plan := planned(t, r, w)
	first := true
	_, err := r.Apply(t.Context(), w, plan, func(Event) {
		if first {
			first = false
			eventually(t, "the apply", func() bool { all, _ := objects(t, w); return all == "abc" })
		}
	})
	if err != nil {
		t.Error(err)
	}
}

func TestFailedApply(t *testing.T) {
	t.Parallel()
	r, w := runner(t, nil), workspace(t, `
variable "world" { type = string }
resource "terraform_data" "x" {
  provisioner "local-exec" { command = "echo 'googleapi: Error 503: The service is unavailable, backendError' >&2; exit 7" }
}`)
	plan := planned(t, r, w)
	s, err := r.Apply(t.Context(), w, plan, nil)
	var f *Failure
	if !errors.As(err, &f) || f.Kind != Transient || len(f.Diagnostics) != 1 || f.Diagnostics[0].Address != "terraform_data.x" || len(s.Diagnostics) != 1 {
		t.Fatalf("apply: %v, %+v", err, f)
	}
	for _, want := range []string{"apply of stack demo: ", "terraform_data.x", f.Output, "503"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q, want %q in it", err, want)
		}
	}
	if info, err := os.Stat(f.Output); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("output %v, %v; want mode 0600", info, err)
	}
	write(t, filepath.Join(w.Dir, "more.tf"), `resource "terraform_data" "y" { nothing = 1 }`)
	if _, err := r.Plan(t.Context(), w, PlanOptions{}, nil); KindOf(err) != Invalid {
		t.Errorf("plan of a wrong configuration: %v", err)
	}
	write(t, filepath.Join(w.Dir, "more.tf"), `resource "terraform_data" "y" {`)
	if _, err := r.Plan(t.Context(), w, PlanOptions{}, nil); err == nil || !strings.Contains(err.Error(), "more.tf:1") {
		t.Errorf("plan of half a configuration: %v", err)
	}
}

func TestLockedState(t *testing.T) {
	t.Parallel()
	r, w := runner(t, nil), workspace(t, chainOf("20"))
	plan := planned(t, r, w)
	ctx, cancel := context.WithCancel(t.Context())
	other, ended := runner(t, nil), make(chan struct{})
	_, err := r.Apply(ctx, w, plan, func(e Event) {
		if e.Type != "provision_start" {
			return
		}
		go func() {
			defer close(ended)
			defer cancel()
			_, err := other.Plan(context.WithoutCancel(ctx), w, PlanOptions{}, nil)
			var f *Failure
			if !errors.As(err, &f) || f.Kind != Locked || f.Lock.ID == "" || f.Lock.Operation != "OperationTypeApply" || f.Lock.Created.IsZero() {
				t.Errorf("plan of a locked state: %v, %+v", err, f)
			}
			if _, err := other.Plan(context.WithoutCancel(ctx), w, PlanOptions{NoLock: true, NoRefresh: true}, nil); err != nil {
				t.Errorf("plan without a lock: %v", err)
			}
		}()
	})
	<-ended
	if KindOf(err) != Interrupted {
		t.Errorf("apply: %v", err)
	}
}

// TestSecrets looks for a value in all that is left of a run.
func TestSecrets(t *testing.T) {
	t.Parallel()
	const canary = "canary-5d1f0a"
	r, w := runner(t, nil), workspace(t, `
variable "world" { type = string }
variable "secret" {
  type      = string
  sensitive = true
}
resource "terraform_data" "x" { input = var.secret }
resource "terraform_data" "fails" {
  input = var.secret
  provisioner "local-exec" {
    command     = "echo $SECRET; test -z $FAIL"
    environment = { SECRET = var.secret }
  }
  provisioner "local-exec" { command = "exit 1" }
}
output "secret" {
  value     = var.secret
  sensitive = true
}`)
	write(t, w.VarFile, fmt.Sprintf(`{"world": "/", "secret": %q}`, canary))
	plan := planned(t, r, w)
	if _, err := r.Show(t.Context(), w, plan); err != nil {
		t.Fatal(err)
	}
	w.Started = func(r Running) error {
		for _, file := range []string{"cmdline", "environ"} {
			if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", r.PID, file)); err == nil && bytes.Contains(b, []byte(canary)) {
				t.Errorf("the secret is in %s of terraform", file)
			}
		}
		return nil
	}
	s, err := r.Apply(t.Context(), w, plan, func(e Event) {
		if strings.Contains(fmt.Sprintf("%+v", e), canary) {
			t.Errorf("the secret is in the event %+v", e)
		}
	})
	if err == nil || strings.Contains(fmt.Sprintf("%v %+v", err, s), canary) {
		t.Errorf("apply: %v, %+v", err, s)
	}
	w.Started = nil
	if outputs, err := r.Output(t.Context(), w); err != nil || !outputs["secret"].Sensitive {
		t.Errorf("outputs: %v, %v", outputs, err)
	}
	if err := filepath.WalkDir(w.RunDir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || path == plan {
			return err
		}
		b, err := os.ReadFile(path)
		if bytes.Contains(b, []byte(canary)) {
			t.Errorf("the secret is in %s:\n%s", path, b)
		}
		return err
	}); err != nil {
		t.Error(err)
	}
}
