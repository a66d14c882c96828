package deploy_test

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/latamctl/latamctl/pkg/deploy"
	"github.com/latamctl/latamctl/pkg/deploy/deploytest"
)

// img is an image of the environment by a digit.
func img(digit string) string {
	return "us-central1-docker.pkg.dev/flights-prod-1/flights/latamctl@sha256:" + strings.Repeat(digit, 64)
}

// broken never gets ready.
var broken = img("b")

// running is a world whose Deployments have pods, after a first up with image 1.
func running(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.opts.LeaseDuration = time.Second
	w.opts.Values.Image = img("1")
	w.apply()
	w.server.Run(func(_, image string) bool { return image != broken })
	return w
}

var deployments = schema.GroupResource{Group: "apps", Resource: "deployments"}

// copy is the same world with a cluster of its own.
func (w *world) copy(t *testing.T) *world {
	c := &world{t: t, server: w.server.Copy(), opts: w.opts}
	t.Cleanup(c.server.Close)
	return c
}

// fast are options without real waits.
func fast(image string) deploy.ReleaseOptions {
	return deploy.ReleaseOptions{
		Image: image, Poll: 2 * time.Millisecond, Settle: time.Millisecond, RolloutTimeout: 40 * time.Millisecond, UndoTimeout: 5 * time.Second,
		Forward: func(_ context.Context, pod string) (string, func(), error) { return "pod:" + pod, func() {}, nil },
		Verify:  func(context.Context, string) error { return nil },
	}
}

func (w *world) release(o deploy.ReleaseOptions) (*deploy.Outcome, error) {
	w.t.Helper()
	return w.manifests().Release(w.t.Context(), w.cluster(), o)
}

func (w *world) mustRelease(o deploy.ReleaseOptions) *deploy.Outcome {
	w.t.Helper()
	out, err := w.release(o)
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

// stands compares what runs: the live colour, then "part:image-digit:pods".
func (w *world) stands(want string) {
	w.t.Helper()
	if got, lock := w.standing(w.manifests(), w.cluster()); got != want || lock != "" {
		w.t.Errorf("it stands as %q (lock %q), want %q", got, lock, want)
	}
}

// standing is what runs, and what is left of a lock.
func (w *world) standing(m *deploy.Manifests, cluster deploy.Cluster) (text, lock string) {
	w.t.Helper()
	r, err := m.Running(w.t.Context(), cluster)
	if err != nil {
		w.t.Fatal(err)
	}
	text = r.Live
	for _, name := range []string{"serve-blue", "serve-green", "ingest"} {
		for _, p := range r.Parts {
			if p.Name == name {
				_, digest, _ := strings.Cut(p.Image, "@sha256:")
				text += fmt.Sprintf(" %s:%s:%d", strings.TrimPrefix(name, "serve-"), digest[:1], p.Pods)
			}
		}
	}
	return text, r.Lock + r.Unfinished
}

func TestReleases(t *testing.T) {
	t.Parallel()
	w := running(t)
	w.stands("blue blue:1:2 green:1:0 ingest:1:2")
	out := w.mustRelease(fast(img("2")))
	if d := cmp.Diff(&deploy.Outcome{Image: img("2"), Before: img("1"), Live: "green", Switched: true, Changed: true}, out); d != "" {
		t.Errorf("first release (-want +got):\n%s", d)
	}
	w.stands("green blue:1:0 green:2:2 ingest:2:2")
	w.mustRelease(fast(img("3")))
	w.stands("blue blue:3:2 green:2:0 ingest:3:2")
	before := w.state()
	out = w.mustRelease(fast(img("3")))
	if out.Changed || out.Switched {
		t.Errorf("the same release again: %+v", out)
	}
	if d := cmp.Diff(before, w.state()); d != "" {
		t.Errorf("the same release again changed something:\n%s", d)
	}
	if least := w.server.MinReady(); least < 1 {
		t.Errorf("the Service once led to %d ready pods", least)
	}
}

func TestReleaseHasAsManyPodsAsTheLiveColour(t *testing.T) {
	t.Parallel()
	w := running(t)
	w.server.Edit("Deployment/flights/serve-blue", "kube-controller-manager", "scale", func(o map[string]any) {
		_ = unstructured.SetNestedField(o, int64(7), "spec", "replicas")
	})
	o := fast(img("2"))
	first := true
	o.Verify = func(context.Context, string) error { // The autoscaler works meanwhile; it comes too late to wait for.
		if first {
			first = false
			if n := w.get("Deployment/flights/serve-green").Object["spec"].(map[string]any)["replicas"]; n != int64(7) {
				t.Errorf("green is verified with %v pods, want 7", n)
			}
		}
		return nil
	}
	w.mustRelease(o)
	w.stands("green blue:1:0 green:2:7 ingest:2:2")
	if least := w.server.MinReady(); least < 1 {
		t.Errorf("the Service once led to %d ready pods", least)
	}
}

func TestReleaseThatNeverGetsReady(t *testing.T) {
	t.Parallel()
	w := running(t)
	w.mustRelease(fast(img("2")))
	_, err := w.release(fast(broken))
	var failed *deploy.ReleaseError
	if !errors.As(err, &failed) || failed.Step != deploy.StepPods || !failed.WentBack || failed.Live != "green" || failed.Image != img("2") {
		t.Fatalf("error %v", err)
	}
	e := failed.Evidence
	if e.Deployment != "serve-blue" || len(e.Pods) == 0 || !strings.Contains(e.Pods[0].State, "CrashLoopBackOff") ||
		strings.Join(e.Pods[0].Log, "|") != "started "+e.Pods[0].Name+"|ready" || len(e.Events) == 0 {
		t.Errorf("evidence %+v", e)
	}
	w.stands("green blue:1:0 green:2:2 ingest:2:2")
	w.mustRelease(rollback())
	w.stands("blue blue:1:2 green:2:0 ingest:1:2")
}

func rollback() deploy.ReleaseOptions {
	o := fast("")
	o.Rollback = true
	return o
}

func TestReleaseThatFailsAVerification(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		fails int // which verification
		step  string
	}{
		"before the switch": {1, deploy.StepCheck}, "after the switch": {2, deploy.StepVerify}, "after ingest": {3, deploy.StepSettle},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := running(t)
			w.mustRelease(fast(img("2")))
			o, calls := fast(img("3")), 0
			o.Verify = func(_ context.Context, base string) error {
				if !strings.HasPrefix(base, "pod:serve-blue-") {
					t.Errorf("verified %s", base)
				}
				if calls++; calls == test.fails {
					return errors.New("GET /healthz answers 500")
				}
				return nil
			}
			_, err := w.release(o)
			var failed *deploy.ReleaseError
			var verify *deploy.VerifyError
			if !errors.As(err, &failed) || !errors.As(err, &verify) || failed.Step != test.step || !failed.WentBack || !strings.Contains(err.Error(), "GET /healthz answers 500") {
				t.Fatalf("error %v", err)
			}
			if len(failed.Evidence.Pods) != 1 || failed.Evidence.Pods[0].Name != verify.Pod {
				t.Errorf("evidence %+v", failed.Evidence)
			}
			w.stands("green blue:1:0 green:2:2 ingest:2:2")
			if least := w.server.MinReady(); least < 1 {
				t.Errorf("the Service once led to %d ready pods", least)
			}
		})
	}
}

// TestIngestThatFails has an image that serve starts and ingest does not.
func TestIngestThatFails(t *testing.T) {
	t.Parallel()
	w := running(t)
	w.mustRelease(fast(img("2")))
	w.server.Run(func(deployment, image string) bool { return deployment != "ingest" || image != img("3") })
	_, err := w.release(fast(img("3")))
	var failed *deploy.ReleaseError
	if !errors.As(err, &failed) || failed.Step != deploy.StepIngest || !failed.WentBack || failed.Evidence.Deployment != "ingest" {
		t.Fatalf("error %v", err)
	}
	w.stands("green blue:1:0 green:2:2 ingest:2:2")
	if least := w.server.MinReady(); least < 1 {
		t.Errorf("the Service once led to %d ready pods", least)
	}
}

func TestRollback(t *testing.T) {
	t.Parallel()
	w := running(t)
	if _, err := w.release(rollback()); !errors.Is(err, deploy.ErrNothingBefore) {
		t.Errorf("rollback before the first release: %v", err)
	}
	w.mustRelease(fast(img("2")))
	w.mustRelease(rollback())
	w.stands("blue blue:1:2 green:2:0 ingest:1:2")
	w.mustRelease(rollback()) // And forth.
	w.stands("green blue:1:0 green:2:2 ingest:2:2")
}

// TestUpAfterRelease: up keeps what was released, and says so.
func TestUpAfterRelease(t *testing.T) {
	t.Parallel()
	w := running(t)
	w.mustRelease(fast(img("2")))
	w.opts.Values.Image = img("2")
	s := w.plan()
	w.expect(s)
	if s.Note != "" {
		t.Errorf("note %q", s.Note)
	}
	for _, declared := range []string{img("1"), img("3")} { // Older, and newer.
		w.opts.Values.Image = declared
		s = w.plan()
		w.expect(s)
		if want := "ingest, serve-green keeps the released image @sha256:" + strings.Repeat("2", 64) + ", not the declared one: latamctl deploy changes it"; s.Note != want {
			t.Errorf("note %q, want %q", s.Note, want)
		}
		w.apply()
		w.stands("green blue:1:0 green:2:2 ingest:2:2")
	}
	// Another change reaches all parts, each with its image.
	w.opts.Values.Declaration = []byte("version: 1\nname: flights\n# changed\n")
	w.apply()
	w.stands("green blue:1:0 green:2:2 ingest:2:2")
	w.expect(w.plan())
	// An edit of the image is taken back to what was released.
	w.server.Edit("Deployment/flights/serve-green", "kubectl-set", "", func(o map[string]any) {
		containers, _, _ := unstructured.NestedSlice(o, "spec", "template", "spec", "containers")
		containers[0].(map[string]any)["image"] = "evil:latest"
		_ = unstructured.SetNestedSlice(o, containers, "spec", "template", "spec", "containers")
	})
	if s = w.plan(); len(s.Drift) != 1 {
		t.Errorf("drift %+v", s.Drift)
	}
	w.apply()
	w.stands("green blue:1:0 green:2:2 ingest:2:2")
	w.mustRelease(rollback())
	w.stands("blue blue:1:2 green:2:0 ingest:1:2")
}

func TestOneAtATime(t *testing.T) {
	t.Parallel()
	w := running(t)
	w.opts.Holder = "ana on a laptop"
	o, other := fast(img("2")), *w
	other.opts.Holder = "ben in CI"
	o.Verify = func(context.Context, string) error {
		for what, act := range map[string]func() error{
			"another release": func() error { _, err := other.release(fast(img("3"))); return err },
			"up": func() error {
				other.opts.Values.Declaration = []byte("version: 1\nname: flights\n# other\n")
				_, err := other.manifests().Apply(t.Context(), other.cluster(), nil)
				return err
			},
		} {
			var held *deploy.HeldError
			if err := act(); !errors.As(err, &held) || !strings.HasPrefix(held.Holder, "ana on a laptop") || time.Since(held.Since) > time.Minute {
				t.Errorf("%s meanwhile: %v", what, err)
			}
		}
		return nil
	}
	o.Settle = time.Nanosecond
	w.mustRelease(o)
	w.stands("green blue:1:0 green:2:2 ingest:2:2")
}

// TestLostLock: a release whose lock was taken changes nothing any more, not even back.
func TestLostLock(t *testing.T) {
	t.Parallel()
	w := running(t)
	o := fast(img("2"))
	o.Verify = func(ctx context.Context, _ string) error {
		w.server.Edit("Lease/flights/latamctl-release", "somebody", "", func(o map[string]any) {
			_ = unstructured.SetNestedField(o, "ben in CI", "spec", "holderIdentity")
		})
		<-ctx.Done()
		return ctx.Err()
	}
	if _, err := w.release(o); !errors.Is(err, deploy.ErrLockLost) {
		t.Fatalf("error %v", err)
	}
	if n := w.get("Deployment/flights/serve-green").Object["spec"].(map[string]any)["replicas"]; n != int64(2) {
		t.Errorf("green has %v pods, want the 2 as they were", n)
	}
}

// TestPodsThatDie: requests go to no colour without a ready pod, neither forth nor back.
func TestPodsThatDie(t *testing.T) {
	t.Parallel()
	w := running(t)
	o := fast(img("2"))
	o.Verify = func(context.Context, string) error {
		w.server.Run(func(_, image string) bool { return image != img("2") })
		return nil
	}
	_, err := w.release(o)
	if err == nil || !strings.Contains(err.Error(), "no pod of serve-green is ready, so that requests stay where they are; went back: blue is live") {
		t.Errorf("pods that die before the switch: %v", err)
	}
	w.stands("blue blue:1:2 green:1:0 ingest:1:2")
	if least := w.server.MinReady(); least < 1 {
		t.Errorf("the Service once led to %d ready pods", least)
	}

	w = running(t)
	o, calls := fast(img("2")), 0
	o.Verify = func(context.Context, string) error {
		if calls++; calls == 1 {
			return nil
		}
		w.server.Run(func(deployment, _ string) bool { return deployment != "serve-blue" })
		return errors.New("GET /healthz answers 500")
	}
	_, err = w.release(o)
	if err == nil || !strings.Contains(err.Error(), "green stays live with "+img("2")+", because there is nothing better to go back to") {
		t.Errorf("an old colour that dies: %v", err)
	}
	w.server.Run(func(string, string) bool { return true })
	w.mustRelease(fast(img("2")))
	w.stands("green blue:1:0 green:2:2 ingest:2:2")
}

// TestSwitchIsExact: the requests are moved only from the state that was looked at.
func TestSwitchIsExact(t *testing.T) {
	t.Parallel()
	w := running(t)
	switches := 0
	w.server.Before(func(r deploytest.Request) *apierrors.StatusError {
		if !r.Writes || !strings.HasSuffix(r.Path, "/services/serve") {
			return nil
		}
		if !strings.Contains(string(r.Body), `"resourceVersion":"`) {
			t.Errorf("a switch from any state: %s", r.Body)
		}
		if switches++; switches == 1 {
			return apierrors.NewConflict(schema.GroupResource{Resource: "services"}, "serve", errors.New("the object has been modified"))
		}
		return nil
	})
	w.mustRelease(fast(img("2")))
	w.stands("green blue:1:0 green:2:2 ingest:2:2")
	if switches != 2 {
		t.Errorf("%d tries, want 2", switches)
	}
}

func TestInterruptedRelease(t *testing.T) {
	t.Parallel()
	w := running(t)
	w.mustRelease(fast(img("2")))
	ctx, cancel := context.WithCancel(t.Context())
	o, calls := fast(img("3")), 0
	o.Verify = func(context.Context, string) error {
		if calls++; calls == 2 {
			cancel()
		}
		return nil
	}
	_, err := w.manifests().Release(ctx, w.cluster(), o)
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v", err)
	}
	r, err := w.manifests().Running(t.Context(), w.cluster())
	if err != nil || r.Live != "blue" || r.Unfinished != img("3") || r.Lock != "" || r.Before != img("2") {
		t.Errorf("afterwards %+v, %v", r, err)
	}
	w.mustRelease(fast(img("3"))) // At once: nobody holds the lock.
	w.stands("blue blue:3:2 green:2:0 ingest:3:2")
}

// TestGivenUpRelease: a rollback after an interrupted release ends where that began.
func TestGivenUpRelease(t *testing.T) {
	t.Parallel()
	for _, at := range []int{1, 2} { // Before the switch, and after it.
		w := running(t)
		w.mustRelease(fast(img("2")))
		w.mustRelease(fast(img("3")))
		ctx, cancel := context.WithCancel(t.Context())
		o, calls := fast(img("4")), 0
		o.Verify = func(context.Context, string) error {
			if calls++; calls == at {
				cancel()
			}
			return nil
		}
		if _, err := w.manifests().Release(ctx, w.cluster(), o); !errors.Is(err, context.Canceled) {
			t.Fatalf("error %v", err)
		}
		w.mustRelease(rollback())
		w.stands(map[int]string{1: "blue blue:3:2 green:2:0 ingest:3:2", 2: "blue blue:3:2 green:4:0 ingest:3:2"}[at])
	}
}

// mortal is a program's way to the cluster, which ends for ever at its nth write.
func mortal(t *testing.T, w *world, n int, before bool) deploy.Cluster {
	t.Helper()
	pool := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} // It is a stand-in on this machine.
	t.Cleanup(pool.CloseIdleConnections)
	var mu sync.Mutex
	writes := 0
	proxy := httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		dead := writes >= n
		if r.Method != http.MethodGet && !strings.Contains(r.URL.RawQuery, "dryRun") {
			writes++
		}
		dying := !dead && writes == n
		die := func() { http.Error(rw, "dead", http.StatusForbidden) } // It is not tried again, and ends the program's part.
		if dead || dying && before {
			die()
			return
		}
		req, err := http.NewRequestWithContext(r.Context(), r.Method, w.server.Endpoint+r.URL.RequestURI(), r.Body)
		if err != nil {
			panic(err)
		}
		req.Header = r.Header
		resp, err := pool.RoundTrip(req)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		defer resp.Body.Close()
		if dying {
			die()
			return
		}
		for key, values := range resp.Header {
			rw.Header()[key] = values
		}
		rw.WriteHeader(resp.StatusCode)
		_, _ = io.Copy(rw, resp.Body)
	}))
	proxy.Config.ErrorLog = nil
	t.Cleanup(proxy.Close)
	return deploy.Cluster{Endpoint: proxy.URL, CA: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: proxy.Certificate().Raw})}
}

// TestKilledAnywhere ends a program at each of its writes, done or not, and runs it again.
func TestKilledAnywhere(t *testing.T) {
	t.Parallel()
	base := running(t)
	base.mustRelease(fast(img("2")))
	for what, test := range map[string]struct {
		options deploy.ReleaseOptions
		want    string
	}{
		"release":  {fast(img("3")), "blue blue:3:2 green:2:0 ingest:3:2"},
		"rollback": {rollback(), "blue blue:1:2 green:2:0 ingest:1:2"},
		"broken":   {fast(broken), "green blue:1:0 green:2:2 ingest:2:2"},
	} {
		for n := 1; n <= 12; n++ {
			for _, before := range []bool{true, false} {
				if what != "release" && before == (n%2 == 0) { // The half of them shows it too.
					continue
				}
				t.Run(fmt.Sprintf("%s, write %d, before %t", what, n, before), func(t *testing.T) {
					t.Parallel()
					w := base.copy(t)
					w.opts.Retries, w.opts.RetryDelay, w.opts.LeaseDuration = 1, time.Millisecond, 100*time.Millisecond
					first := test.options
					first.UndoTimeout = 20 * time.Millisecond
					_, err := w.manifests().Release(t.Context(), mortal(t, w, n, before), first)
					if _, lock := w.standing(w.manifests(), w.cluster()); err != nil || lock != "" || what != "rollback" { // A second rollback would go forth again.
						_, err = w.release(test.options)
					}
					var failed *deploy.ReleaseError
					if what == "broken" && !errors.As(err, &failed) || what != "broken" && err != nil {
						t.Fatal(err)
					}
					w.stands(test.want)
					if least := w.server.MinReady(); least < 1 {
						t.Errorf("the Service once led to %d ready pods", least)
					}
				})
			}
		}
	}
}

func TestReleaseFaults(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var missing *deploy.MissingError
	if _, err := w.release(fast(img("2"))); !errors.As(err, &missing) || len(missing.Addresses) != 4 {
		t.Errorf("release into an empty cluster: %v", err)
	}
	for text, o := range map[string]deploy.ReleaseOptions{
		"neither an image nor a rollback": {}, "a rollback takes the image": {Image: img("1"), Rollback: true},
		"is not by digest": {Image: "example.com/latamctl:v1"}, "settle time 2h0m0s is not in": {Image: img("1"), Settle: 2 * time.Hour},
	} {
		if _, err := w.release(o); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("error %v, want %q", err, text)
		}
	}
	w = running(t)
	w.server.Before(func(r deploytest.Request) *apierrors.StatusError {
		if r.Writes && strings.HasSuffix(r.Path, "/deployments/serve-green") {
			return apierrors.NewForbidden(deployments, "serve-green", errors.New("no"))
		}
		return nil
	})
	if _, err := w.release(fast(img("2"))); !errors.Is(err, deploy.ErrDenied) {
		t.Errorf("without the right: %v", err)
	}
}

// TestForward reaches what runs in a pod as users do, through the API server.
func TestForward(t *testing.T) {
	t.Parallel()
	w := running(t)
	api := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(rw, "hello from "+r.URL.Path) }))
	t.Cleanup(api.Close)
	w.server.Serve(img("2"), api.Listener.Addr().String())
	o := fast(img("2"))
	o.Forward = nil
	calls := 0
	o.Verify = func(ctx context.Context, base string) error {
		calls++
		for range 2 {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/healthz", nil)
			if err != nil {
				return err
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				return err
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if string(body) != "hello from /healthz" {
				return fmt.Errorf("got %q, %w", body, err)
			}
		}
		return nil
	}
	w.mustRelease(o)
	if calls != 3 {
		t.Errorf("verified %d times, want 3: before the switch, after it, and before the old colour goes", calls)
	}
}
