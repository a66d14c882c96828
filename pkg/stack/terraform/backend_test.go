package terraform

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// stateServer is a backend of terraform over HTTP, with a lock.
type stateServer struct {
	mu     sync.Mutex
	state  []byte
	lock   []byte
	delay  time.Duration // before a state is saved
	broken bool          // refuses to save a state
	saves  int
}

func (s *stateServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	delay, broken := s.delay, s.broken
	s.mu.Unlock()
	if r.Method == http.MethodPost {
		time.Sleep(delay)
		if broken {
			http.Error(w, "no", http.StatusForbidden)
			return
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch r.Method {
	case "LOCK":
		if s.lock != nil {
			w.WriteHeader(http.StatusLocked)
			_, _ = w.Write(s.lock)
			return
		}
		s.lock = body
	case "UNLOCK":
		s.lock = nil
	case http.MethodPost:
		s.state, s.saves = body, s.saves+1
	case http.MethodGet:
		if s.state == nil {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		_, _ = w.Write(s.state)
	}
}

func (s *stateServer) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

// remote makes a stack whose state is with a server.
func remote(t *testing.T, source string) (*stateServer, Workspace) {
	t.Helper()
	s := &stateServer{}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	w := workspace(t, source)
	write(t, filepath.Join(w.Dir, "backend.tf.json"), fmt.Sprintf(
		`{"terraform": {"backend": {"http": {"address": %q, "lock_address": %q, "unlock_address": %q, "retry_max": 0}}}}`, server.URL, server.URL, server.URL))
	return s, w
}

// TestSlowSave interrupts an apply whose state takes long to save: it is waited for.
func TestSlowSave(t *testing.T) {
	t.Parallel()
	r := runner(t, nil)
	s, w := remote(t, chainOf("0"))
	plan := planned(t, r, w)
	s.set(func() { s.delay = 1500 * time.Millisecond })
	ctx, cancel := context.WithCancel(t.Context())
	_, err := r.Apply(ctx, w, plan, func(e Event) {
		if e.Type == "apply_complete" && e.Address == "terraform_data.a" {
			cancel()
		}
	})
	// It may have been through before the interrupt came; what counts is that nothing was lost.
	if err != nil && KindOf(err) != Interrupted {
		t.Errorf("apply: %v", err)
	}
	s.set(func() {
		if all, _ := objectsIn(t, s.state); !strings.HasPrefix(all, exists(t, w)) || s.lock != nil || s.saves == 0 {
			t.Errorf("the state has %q, the world %q, lock %s, %d saves", all, exists(t, w), s.lock, s.saves)
		}
	})
}

// TestErroredState has a backend that does not save: what was created is not forgotten.
func TestErroredState(t *testing.T) {
	t.Parallel()
	r := runner(t, nil)
	s, w := remote(t, chainOf("0"))
	plan := planned(t, r, w)
	s.set(func() { s.broken = true })
	_, err := r.Apply(t.Context(), w, plan, nil)
	var f *Failure
	if !errors.As(err, &f) || f.ErroredState == "" || f.ErroredState != r.Errored(w) || !strings.Contains(err.Error(), f.ErroredState) {
		t.Fatalf("apply: %v, %+v", err, f)
	}
	if exists(t, w) != "abc" {
		t.Errorf("the world is %q", exists(t, w))
	}
	if _, err := r.Apply(t.Context(), w, plan, nil); err == nil || !strings.Contains(err.Error(), "push") {
		t.Errorf("apply over a state that was not saved: %v", err)
	}
	if _, err := r.Plan(t.Context(), w, PlanOptions{}, nil); err == nil || !strings.Contains(err.Error(), "state push errored.tfstate") {
		t.Errorf("plan with a state that was not saved: %v", err)
	}
	if err := r.StatePush(t.Context(), w, f.ErroredState); err == nil {
		t.Error("the broken backend took the state")
	}
	s.set(func() { s.broken = false })
	if err := r.StatePush(t.Context(), w, f.ErroredState); err != nil || r.Errored(w) != "" {
		t.Errorf("push: %v, left %q", err, r.Errored(w))
	}
	wantNoChanges(t, r, w)
}

func TestForceUnlock(t *testing.T) {
	t.Parallel()
	r := runner(t, nil)
	s, w := remote(t, chainOf("0"))
	if err := r.Init(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	const id = "6a1f5d0e-0000-4000-8000-000000000001"
	s.set(func() {
		s.lock = fmt.Appendf(nil, `{"ID":%q,"Operation":"OperationTypeApply","Who":"ci@runner","Version":"1.11.4","Created":"2026-03-01T10:00:00Z","Path":"p"}`, id)
	})
	_, err := r.Plan(t.Context(), w, PlanOptions{}, nil)
	var f *Failure
	// This backend names the holder's id only; the rest of the block is about the one that asked.
	if !errors.As(err, &f) || f.Kind != Locked || f.Lock == nil || !strings.Contains(f.Diagnostics[0].Detail, id) {
		t.Fatalf("plan: %v, %+v", err, f)
	}
	if err := r.ForceUnlock(t.Context(), w, id); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Plan(t.Context(), w, PlanOptions{}, nil); err != nil {
		t.Errorf("plan after the lock is gone: %v", err)
	}
}

// TestMovedBackend changes where a state is: it is not taken for an empty one.
func TestMovedBackend(t *testing.T) {
	t.Parallel()
	r, w := runner(t, nil), workspace(t, chainOf("0"))
	backend := filepath.Join(w.Dir, "backend.tf.json")
	write(t, backend, `{"terraform": {"backend": {"local": {"path": "one.tfstate"}}}}`)
	if _, err := r.Apply(t.Context(), w, planned(t, r, w), nil); err != nil {
		t.Fatal(err)
	}
	write(t, backend, `{"terraform": {"backend": {"local": {"path": "two.tfstate"}}}}`)
	err := r.Init(t.Context(), w)
	if KindOf(err) != Invalid || !strings.Contains(err.Error(), filepath.Join(w.Dir, ".terraform")) {
		t.Errorf("init: %v", err)
	}
	if _, err := r.Plan(t.Context(), w, PlanOptions{}, nil); KindOf(err) != Invalid {
		t.Errorf("plan: %v", err)
	}
	if err := os.Rename(filepath.Join(w.Dir, "one.tfstate"), filepath.Join(w.Dir, "two.tfstate")); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(w.Dir, ".terraform")); err != nil {
		t.Fatal(err)
	}
	if err := r.Init(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	wantNoChanges(t, r, w)
}

func TestInitIsSkipped(t *testing.T) {
	t.Parallel()
	r, w := runner(t, nil), workspace(t, chainOf("0"))
	inits := func() int {
		found, err := filepath.Glob(filepath.Join(w.RunDir, "demo-init*.ndjson"))
		if err != nil {
			t.Fatal(err)
		}
		return len(found)
	}
	prepare := func(r *Terraform, what string, want int) {
		t.Helper()
		if err := r.Init(t.Context(), w); err != nil {
			t.Fatal(err)
		}
		if got := inits(); got != want {
			t.Errorf("%s: init ran %d times, want %d", what, got, want)
		}
	}
	prepare(r, "first", 1)
	prepare(r, "again", 1)
	write(t, filepath.Join(w.Dir, "backend.tf.json"), `{"terraform": {"backend": {"local": {"path": "here.tfstate"}}}}`)
	prepare(r, "another backend", 2)
	prepare(r, "again", 2)
	prepare(runner(t, func(o *Options) { o.Digest = "other" }), "another program", 3)
	prepare(r, "this program", 4)
	if err := os.Remove(filepath.Join(w.Dir, ".terraform", "terraform.tfstate")); err != nil {
		t.Fatal(err)
	}
	prepare(r, "something is gone", 5)
	if err := os.RemoveAll(filepath.Join(w.Dir, ".terraform")); err != nil {
		t.Fatal(err)
	}
	prepare(r, "everything is gone", 6)
	// What is remembered is wrong: a plan finds out and puts it right.
	b, err := os.ReadFile(filepath.Join(w.Dir, preparedFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(w.Dir, ".terraform")); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(w.Dir, preparedFile), string(b))
	if _, err := r.Plan(t.Context(), w, PlanOptions{}, nil); err != nil || inits() != 7 {
		t.Errorf("plan: %v, init ran %d times", err, inits())
	}
}
