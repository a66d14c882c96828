package deploy_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/latamctl/latamctl/pkg/deploy"
	"github.com/latamctl/latamctl/pkg/deploy/clustertest"
)

// asReleaser makes the test binary release what the variable says, so that it can be killed.
const asReleaser = "LATAM_TEST_RELEASE"

func TestMain(m *testing.M) {
	if order := os.Getenv(asReleaser); order != "" {
		os.Exit(releaseAsOrdered(order))
	}
	os.Exit(m.Run())
}

// order is what a child process releases.
type order struct {
	Kubeconfig, Name, Image string
	Rollback                bool
}

func releaseAsOrdered(text string) int {
	var o order
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		panic(err)
	}
	opts := clusterOptions([]byte(o.Kubeconfig), o.Name)
	m, err := deploy.New(opts)
	if err != nil {
		panic(err)
	}
	r := realRelease(o.Image)
	r.Rollback = o.Rollback
	r.On = func(e deploy.Event) {
		if !e.Cluster {
			fmt.Println(e.Step, e.Message)
		}
	}
	if _, err := m.Release(context.Background(), deploy.Cluster{}, r); err != nil {
		fmt.Println("error", err)
		return 1
	}
	return 0
}

func clusterOptions(kubeconfig []byte, name string) deploy.Options {
	v := values()
	v.Name, v.Image = name, at("latamctl", "1")
	return deploy.Options{Base: os.DirFS("../../stacks/apps/kubernetes"), Values: v, Kubeconfig: kubeconfig, LeaseDuration: time.Second, Holder: "tests"}
}

// at is an image by its name and a digit.
func at(name, digit string) string {
	return "registry.example.com/flights/" + name + "@sha256:" + strings.Repeat(digit, 64)
}

func realRelease(image string) deploy.ReleaseOptions {
	return deploy.ReleaseOptions{Image: image, Poll: 150 * time.Millisecond, Settle: time.Millisecond, RolloutTimeout: 4 * time.Minute, UndoTimeout: 4 * time.Minute}
}

// real is an environment of its own in the cluster.
type real struct {
	t       *testing.T
	cluster *clustertest.Cluster
	opts    deploy.Options
	log     bytes.Buffer
}

func newReal(t *testing.T, c *clustertest.Cluster, name string) *real {
	t.Helper()
	r := &real{t: t, cluster: c, opts: clusterOptions(c.Kubeconfig, name)}
	r.opts.Log = slog.New(slog.NewTextHandler(&r.log, nil))
	if _, err := r.manifests().Apply(t.Context(), deploy.Cluster{}, nil); err != nil {
		t.Fatal(err)
	}
	c.WaitFor("the pods of "+name, func(ctx context.Context) (bool, error) {
		s, err := r.manifests().Running(ctx, deploy.Cluster{})
		if err != nil {
			return false, err
		}
		return s.Parts[0].Ready == 2 && s.Parts[2].Ready == 2 && r.ready(ctx) == 2, nil
	})
	return r
}

func (r *real) manifests() *deploy.Manifests {
	m, err := deploy.New(r.opts)
	if err != nil {
		r.t.Fatal(err)
	}
	return m
}

func (r *real) slices() string {
	return "/apis/discovery.k8s.io/v1/namespaces/" + r.opts.Values.Name + "/endpointslices?labelSelector=kubernetes.io/service-name%3Dserve"
}

// ready counts the pods that the Service leads to.
func (r *real) ready(ctx context.Context) int {
	var list struct{ Items []map[string]any }
	if err := r.cluster.Get(ctx, r.slices(), &list); err != nil {
		return 0
	}
	n := 0
	for _, item := range list.Items {
		n += readyIn(item)
	}
	return n
}

func readyIn(slice map[string]any) int {
	n := 0
	endpoints, _, _ := unstructured.NestedSlice(slice, "endpoints")
	for _, e := range endpoints {
		if ready, _, _ := unstructured.NestedBool(e.(map[string]any), "conditions", "ready"); ready {
			n++
		}
	}
	return n
}

// watch follows what the Service leads to; the function that it returns gives the least that it was, and
// fails the test when less changed than has to.
func (r *real) watch(changes int) (least func() int) {
	r.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	f := &follower{least: -1, byName: map[string]int{}}
	version := f.list(ctx, r)
	if version == "" {
		r.t.Fatal("the endpoints cannot be listed")
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			f.follow(ctx, r, version)
			if ctx.Err() == nil {
				version = f.list(ctx, r)
			}
		}
	}()
	return func() int {
		cancel()
		<-done
		if f.least < 1 || f.events < changes {
			r.t.Logf("what the Service led to:\n%s", strings.Join(f.history, "\n"))
		}
		if f.events < changes {
			r.t.Errorf("only %d changes of the endpoints were seen", f.events)
		}
		return f.least
	}
}

// follower keeps how many ready pods the slices of a Service have.
type follower struct {
	least, events int
	byName        map[string]int
	history       []string
}

func (f *follower) note(what string) {
	total := 0
	for _, n := range f.byName {
		total += n
	}
	f.history = append(f.history, fmt.Sprintf("%s %s: %d", time.Now().Format("05.000"), what, total))
	if f.least < 0 || total < f.least {
		f.least = total
	}
}

func (f *follower) list(ctx context.Context, r *real) (version string) {
	var list struct {
		Metadata struct{ ResourceVersion string }
		Items    []map[string]any
	}
	if r.cluster.Get(ctx, r.slices(), &list) != nil {
		return ""
	}
	clear(f.byName)
	for _, item := range list.Items {
		name, _, _ := unstructured.NestedString(item, "metadata", "name")
		f.byName[name] = readyIn(item)
	}
	f.note("list")
	return list.Metadata.ResourceVersion
}

func (f *follower) follow(ctx context.Context, r *real, version string) {
	body, err := r.cluster.Stream(ctx, r.slices()+"&watch=1&resourceVersion="+version)
	if err != nil {
		return
	}
	defer body.Close()
	for d := json.NewDecoder(body); ; {
		var e struct {
			Type   string
			Object map[string]any
		}
		if d.Decode(&e) != nil || e.Type == "ERROR" {
			f.history = append(f.history, fmt.Sprint(e.Object))
			return
		}
		name, _, _ := unstructured.NestedString(e.Object, "metadata", "name")
		f.byName[name] = readyIn(e.Object)
		if e.Type == "DELETED" {
			delete(f.byName, name)
		}
		f.events++
		f.note(e.Type + " " + name)
	}
}

// stands is what world.stands compares.
func (r *real) stands(want string) {
	r.t.Helper()
	w := &world{t: r.t, opts: r.opts}
	got, lock := w.standing(r.manifests(), deploy.Cluster{})
	if got != want || lock != "" {
		r.t.Errorf("it stands as %q (lock %q), want %q", got, lock, want)
	}
}

func (r *real) release(o deploy.ReleaseOptions) (*deploy.Outcome, error) {
	r.t.Helper()
	return r.manifests().Release(r.t.Context(), deploy.Cluster{}, o)
}

func (r *real) mustRelease(o deploy.ReleaseOptions) {
	r.t.Helper()
	if _, err := r.release(o); err != nil {
		var failed *deploy.ReleaseError
		if errors.As(err, &failed) {
			r.t.Logf("evidence: %+v", failed.Evidence)
		}
		r.t.Fatal(err)
	}
}

// TestCluster releases on a real control plane.
func TestCluster(t *testing.T) {
	if os.Getenv("LATAM_CLUSTER") == "" {
		t.Skip("make cluster runs it, on a real control plane")
	}
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "hello from "+r.URL.Path) }))
	t.Cleanup(api.Close)
	c := clustertest.Start(t, clustertest.Options{Address: api.Listener.Addr().String(), Log: "2026-01-02T03:04:05.000000000Z stderr F cannot open table\n"})
	t.Run("cases", func(t *testing.T) {
		for name, test := range map[string]func(*testing.T, *clustertest.Cluster){
			"admitted": clusterAdmits, "releases": clusterReleases, "never-ready": clusterNeverReady, "verification": clusterVerification,
			"kills": clusterKills, "two-at-once": clusterTwo, "forward": clusterForward,
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				test(t, c)
			})
		}
	})
}

// clusterAdmits: every manifest is taken under the restricted profile, which refuses others.
func clusterAdmits(t *testing.T, c *clustertest.Cluster) {
	r := newReal(t, c, "admitted")
	if strings.Contains(r.log.String(), "level=WARN") {
		t.Errorf("the cluster remarks:\n%s", &r.log)
	}
	s, err := r.manifests().Plan(t.Context(), deploy.Cluster{})
	if err != nil || len(s.Changes) > 0 {
		t.Errorf("plan right after: %+v, %v", s.Changes, err)
	}
	r.opts.Values.Live, r.opts.Values.OTLPEndpoint = deploy.Green, ""
	r.opts.Values.Name = "admitted-green"
	if _, err := r.manifests().Apply(t.Context(), deploy.Cluster{}, nil); err != nil {
		t.Error(err)
	}
	pod := map[string]any{
		"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": "root"},
		"spec": map[string]any{"containers": []any{map[string]any{"name": "a", "image": "a", "securityContext": map[string]any{"privileged": true}}}},
	}
	if err := c.Send(t.Context(), "POST", "/api/v1/namespaces/admitted/pods", pod, nil); err == nil || !strings.Contains(err.Error(), "violates PodSecurity") {
		t.Errorf("a privileged pod: %v", err)
	}
}

func clusterReleases(t *testing.T, c *clustertest.Cluster) {
	r := newReal(t, c, "releases")
	least := r.watch(2)
	r.stands("blue blue:1:2 green:1:0 ingest:1:2")
	if _, err := r.release(rollbackOf(realRelease(""))); !errors.Is(err, deploy.ErrNothingBefore) {
		t.Errorf("rollback before the first release: %v", err)
	}
	r.mustRelease(realRelease(at("latamctl", "2")))
	r.stands("green blue:1:0 green:2:2 ingest:2:2")
	// The autoscaler of the live colour has 4 pods; the other one gets as many.
	c.Do("PATCH", "/apis/apps/v1/namespaces/releases/deployments/serve-green/scale", map[string]any{"spec": map[string]any{"replicas": 4}}, nil)
	r.mustRelease(realRelease(at(clustertest.SlowReady, "3")))
	r.stands("blue blue:3:4 green:2:0 ingest:3:2")
	// What up does afterwards is nothing, whatever image is declared.
	for _, image := range []string{at(clustertest.SlowReady, "3"), at("latamctl", "1")} {
		r.opts.Values.Image = image
		s, err := r.manifests().Plan(t.Context(), deploy.Cluster{})
		if err != nil || len(s.Changes) > 0 {
			t.Errorf("up with %s: %+v, %v", image, s.Changes, err)
		}
	}
	r.opts.Values.Declaration = []byte("version: 1\nname: flights\n# changed\n")
	if _, err := r.manifests().Apply(t.Context(), deploy.Cluster{}, nil); err != nil {
		t.Fatal(err)
	}
	r.stands("blue blue:3:4 green:2:0 ingest:3:2")
	r.mustRelease(rollbackOf(realRelease("")))
	r.stands("green blue:3:0 green:2:4 ingest:2:2")
	if n := least(); n < 1 {
		t.Errorf("the Service once led to %d ready pods", n)
	}
}

func rollbackOf(o deploy.ReleaseOptions) deploy.ReleaseOptions {
	o.Rollback = true
	return o
}

func clusterNeverReady(t *testing.T, c *clustertest.Cluster) {
	r := newReal(t, c, "never")
	r.mustRelease(realRelease(at("latamctl", "2")))
	least := r.watch(0)
	o := realRelease(at(clustertest.NeverReady, "3"))
	o.RolloutTimeout = 15 * time.Second // Until then the new pods have crashed.
	_, err := r.release(o)
	var failed *deploy.ReleaseError
	if !errors.As(err, &failed) || failed.Step != deploy.StepPods || !failed.WentBack {
		t.Fatalf("error %v", err)
	}
	e := failed.Evidence
	if len(e.Pods) == 0 || !strings.Contains(e.Pods[0].State, "waiting: CrashLoopBackOff back-off 40s restarting failed container, 3 restarts, ended before with Error, exit status 1") {
		t.Errorf("evidence of pods %+v", e.Pods)
	}
	if len(e.Pods) > 0 && (len(e.Pods[0].Log) != 1 || !strings.Contains(e.Pods[0].Log[0], "cannot open table")) {
		t.Errorf("log %q, %s", e.Pods[0].Log, e.Pods[0].LogError)
	}
	if !slices.ContainsFunc(e.Events, func(s string) bool { return strings.HasPrefix(s, "ScalingReplicaSet serve-blue: ") }) ||
		!slices.ContainsFunc(e.Conditions, func(s string) bool { return strings.HasPrefix(s, "Available=False") }) {
		t.Errorf("events %q\nconditions %q", e.Events, e.Conditions)
	}
	r.stands("green blue:1:0 green:2:2 ingest:2:2")
	if n := least(); n < 2 {
		t.Errorf("the Service once led to %d ready pods", n)
	}
}

func clusterVerification(t *testing.T, c *clustertest.Cluster) {
	r := newReal(t, c, "verification")
	least := r.watch(2)
	o, calls := realRelease(at("latamctl", "2")), 0
	o.Forward = func(_ context.Context, pod string) (string, func(), error) { return pod, func() {}, nil }
	o.Verify = func(context.Context, string) error {
		if calls++; calls == 2 {
			return errors.New("GET /healthz answers 500")
		}
		return nil
	}
	_, err := r.release(o)
	var failed *deploy.ReleaseError
	if !errors.As(err, &failed) || failed.Step != deploy.StepVerify || !failed.WentBack {
		t.Fatalf("error %v", err)
	}
	r.stands("blue blue:1:2 green:1:0 ingest:1:2")
	if n := least(); n < 1 {
		t.Errorf("the Service once led to %d ready pods", n)
	}
}

// clusterKills ends the program by SIGKILL at each thing that it says, and runs it again.
func clusterKills(t *testing.T, c *clustertest.Cluster) {
	r := newReal(t, c, "kills")
	least := r.watch(8)
	kills := 0
	for n, ended := 1, false; !ended; n++ {
		image := at("latamctl", fmt.Sprintf("%x", 2+n%8))
		ended = r.killAt(order{Kubeconfig: string(c.Kubeconfig), Name: "kills", Image: image}, n)
		if !ended {
			kills++
		}
		r.mustRelease(realRelease(image))
		live, digit := "blue", fmt.Sprintf("%x", 2+n%8)
		if n%2 == 1 {
			live = "green"
		}
		got, lock := (&world{t: t}).standing(r.manifests(), deploy.Cluster{})
		if !strings.HasPrefix(got, live+" ") || !strings.Contains(got, live+":"+digit+":2") || !strings.HasSuffix(got, "ingest:"+digit+":2") || lock != "" {
			t.Errorf("after a kill at %d it stands as %q, lock %q", n, got, lock)
		}
	}
	if kills < 8 {
		t.Errorf("it was killed %d times, want 8 at least", kills)
	}
	t.Logf("killed %d times", kills)
	if n := least(); n < 1 {
		t.Errorf("the Service once led to %d ready pods", n)
	}
}

// killAt runs a release in a program of its own and kills it at the nth line; true is that it ended before.
func (r *real) killAt(o order, n int) bool {
	r.t.Helper()
	text, err := json.Marshal(o)
	if err != nil {
		r.t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), asReleaser+"="+string(text))
	out, err := cmd.StdoutPipe()
	if err != nil {
		r.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for i := 1; lines.Scan(); i++ {
		if i == n {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			return false
		}
	}
	if err := cmd.Wait(); err != nil {
		r.t.Fatalf("the release that nobody killed: %v", err)
	}
	return true
}

func clusterTwo(t *testing.T, c *clustertest.Cluster) {
	r := newReal(t, c, "two")
	o := realRelease(at("latamctl", "2"))
	o.Forward = func(_ context.Context, pod string) (string, func(), error) { return pod, func() {}, nil }
	o.Verify = func(context.Context, string) error {
		var held *deploy.HeldError
		if _, err := r.release(realRelease(at("latamctl", "3"))); !errors.As(err, &held) || !strings.HasPrefix(held.Holder, "tests (") {
			t.Errorf("another release meanwhile: %v", err)
		}
		return nil
	}
	r.mustRelease(o)
	r.stands("green blue:1:0 green:2:2 ingest:2:2")
}

// clusterForward verifies a pod through the API server.
func clusterForward(t *testing.T, c *clustertest.Cluster) {
	r := newReal(t, c, "forward")
	o, calls := realRelease(at("latamctl", "2")), 0
	o.Verify = func(ctx context.Context, base string) error {
		calls++
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/healthz", nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if body, err := io.ReadAll(resp.Body); string(body) != "hello from /healthz" {
			return fmt.Errorf("got %q, %w", body, err)
		}
		return nil
	}
	r.mustRelease(o)
	if calls != 3 {
		t.Errorf("verified %d times, want 3", calls)
	}
}
