package deploy_test

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"context"
	"io/fs"

	"github.com/latamctl/latamctl/pkg/deploy"
	"github.com/latamctl/latamctl/pkg/deploy/deploytest"
	"github.com/latamctl/latamctl/pkg/plan"
	"github.com/latamctl/latamctl/pkg/telemetry"
)

// world is an environment with its cluster.
type world struct {
	t      *testing.T
	server *deploytest.Server
	opts   deploy.Options
}

func newWorld(t *testing.T) *world {
	t.Helper()
	server := deploytest.New()
	t.Cleanup(server.Close)
	return &world{t: t, server: server, opts: deploy.Options{
		Base: base, Values: values(), RetryDelay: time.Millisecond,
		Token: func(context.Context) (string, error) { return deploytest.Token, nil },
	}}
}

func (w *world) manifests() *deploy.Manifests {
	w.t.Helper()
	m, err := deploy.New(w.opts)
	if err != nil {
		w.t.Fatal(err)
	}
	return m
}

func (w *world) cluster() deploy.Cluster {
	return deploy.Cluster{Endpoint: w.server.Endpoint, CA: w.server.CA}
}

func (w *world) plan() plan.Section {
	w.t.Helper()
	s, err := w.manifests().Plan(w.t.Context(), w.cluster())
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

func (w *world) apply() plan.Section {
	w.t.Helper()
	s, err := w.manifests().Apply(w.t.Context(), w.cluster(), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// expect compares the changes of a section, as "action address" lines.
func (w *world) expect(s plan.Section, want ...string) {
	w.t.Helper()
	var got []string
	for _, c := range s.Changes {
		got = append(got, string(c.Action)+" "+c.Address)
	}
	if d := cmp.Diff(want, got); d != "" {
		w.t.Errorf("changes (-want +got):\n%s", d)
	}
}

func (w *world) get(address string) *unstructured.Unstructured {
	w.t.Helper()
	o := w.server.Objects()[address]
	if o == nil {
		w.t.Fatalf("there is no %s", address)
	}
	return o
}

func (w *world) set(address, manager string, value any, path ...string) {
	w.t.Helper()
	w.server.Edit(address, manager, "", func(o map[string]any) {
		if err := unstructured.SetNestedField(o, value, path...); err != nil {
			w.t.Fatal(err)
		}
	})
}

// state is every object of the cluster by checksum.
func (w *world) state() map[string]string {
	sums := map[string]string{}
	for address, o := range w.server.Objects() {
		text, err := json.Marshal(o)
		if err != nil {
			w.t.Fatal(err)
		}
		sums[address] = fmt.Sprintf("%x", sha256.Sum256(text))
	}
	return sums
}

// withBase is the base with one file replaced.
func withBase(t *testing.T, name string, change func(string) string) fs.FS {
	t.Helper()
	files := fstest.MapFS{}
	err := fs.WalkDir(base, "base", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(base, path)
		files[path] = &fstest.MapFile{Data: data}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	before := string(files["base/"+name].Data)
	after := change(before)
	if before == after {
		t.Fatalf("nothing was changed in %s", name)
	}
	files["base/"+name] = &fstest.MapFile{Data: []byte(after)}
	return files
}

// TestLife is the life of an environment: planned without a cluster, created, unchanged, and gone.
func TestLife(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	fresh, err := w.manifests().Plan(t.Context(), deploy.Cluster{})
	if err != nil || fresh.Grade != plan.Provisional || fresh.Name != "kubernetes" {
		t.Fatalf("without a cluster: %+v, %v", fresh, err)
	}
	before := w.state()
	first := w.plan()
	if first.Grade != plan.Exact {
		t.Errorf("grade %s", first.Grade)
	}
	if d := cmp.Diff(before, w.state()); d != "" {
		t.Errorf("a plan changed the cluster:\n%s", d)
	}
	sorted := func(s plan.Section) (all []string) {
		for _, c := range s.Changes {
			all = append(all, string(c.Action)+" "+c.Address)
		}
		slices.Sort(all)
		return all
	}
	if d := cmp.Diff(sorted(fresh), sorted(first)); d != "" {
		t.Errorf("plans without and with an empty cluster:\n%s", d)
	}
	var told []string
	done, err := w.manifests().Apply(t.Context(), w.cluster(), func(m string) { told = append(told, m) })
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(sorted(first), sorted(done)); d != "" || len(told) != len(done.Changes) || told[0] != "created Namespace/flights" {
		t.Errorf("planned and done:\n%s\ntold %q", d, told)
	}
	w.server.Requests()
	w.expect(w.plan())
	if n := len(w.server.Requests()); n > 80 {
		t.Errorf("an empty plan took %d requests", n)
	}
	after := w.state()
	w.expect(w.apply())
	if d := cmp.Diff(after, w.state()); d != "" {
		t.Errorf("applying again changed:\n%s", d)
	}
	gone, err := w.manifests().PlanDelete(t.Context(), w.cluster())
	if err != nil || len(gone.Changes) != len(done.Changes) {
		t.Errorf("%d objects made, %d to delete: %v", len(done.Changes), len(gone.Changes), err)
	}
	if _, err := w.manifests().Delete(t.Context(), w.cluster(), nil); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(before, w.state()); d != "" {
		t.Errorf("left over:\n%s", d)
	}
}

// TestOutsideEdits: what somebody changed by hand shows with the attribute, and is put back.
func TestOutsideEdits(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply()
	want := w.get("Service/flights/serve").Object["spec"]
	w.set("Service/flights/serve", "kubectl-edit", "NodePort", "spec", "type")
	s := w.plan()
	w.expect(s, "update Service/flights/serve")
	c := s.Changes[0]
	if d := cmp.Diff([]plan.Attribute{{Path: "spec.type", Before: "NodePort", After: "ClusterIP"}}, c.Attributes); d != "" || c.Reason != "changed outside by kubectl-edit" {
		t.Errorf("reason %q, attributes:\n%s", c.Reason, d)
	}
	if d := cmp.Diff(s.Changes, s.Drift); d != "" {
		t.Errorf("drift (-changes +drift):\n%s", d)
	}
	w.expect(w.apply(), "update Service/flights/serve")
	if d := cmp.Diff(want, w.get("Service/flights/serve").Object["spec"]); d != "" {
		t.Errorf("after the apply:\n%s", d)
	}
	w.expect(w.plan())

	w.server.Edit("Deployment/flights/ingest", "kubectl-set", "", func(o map[string]any) {
		containers, _, _ := unstructured.NestedSlice(o, "spec", "template", "spec", "containers")
		containers[0].(map[string]any)["image"] = "evil:latest"
		_ = unstructured.SetNestedSlice(o, containers, "spec", "template", "spec", "containers")
	})
	s = w.plan()
	w.expect(s, "update Deployment/flights/ingest")
	if len(s.Drift) != 1 || s.Changes[0].Attributes[0].Path != "spec.template.spec.containers[ingest].image" || s.Changes[0].Attributes[0].Before != "evil:latest" {
		t.Errorf("%+v", s.Changes)
	}
	w.apply()
	w.expect(w.plan())
}

// TestAnotherDeclarer: a field that another program declares is not fought over.
func TestAnotherDeclarer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply()
	theirs := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Service", "metadata": map[string]any{"name": "serve", "namespace": "flights"},
		"spec": map[string]any{"type": "NodePort"},
	}}
	if err := w.server.Apply(theirs, "argo"); err != nil {
		t.Fatal(err)
	}
	w.set("ServiceAccount/flights/ingest", "kubectl-client-side-apply", true, "automountServiceAccountToken")
	before := w.state()
	for name, do := range map[string]func() error{
		"plan":  func() error { _, err := w.manifests().Plan(t.Context(), w.cluster()); return err },
		"apply": func() error { _, err := w.manifests().Apply(t.Context(), w.cluster(), nil); return err },
	} {
		var conflict *deploy.ConflictError
		if err := do(); !errors.As(err, &conflict) {
			t.Fatalf("%s: %v", name, err)
		}
		want := []deploy.Conflict{
			{Address: "Service/flights/serve", Field: ".spec.type", Manager: "argo"},
			{Address: "ServiceAccount/flights/ingest", Field: ".automountServiceAccountToken", Manager: "kubectl-client-side-apply"},
		}
		if d := cmp.Diff(want, conflict.Conflicts); d != "" {
			t.Errorf("%s:\n%s", name, d)
		}
	}
	if d := cmp.Diff(before, w.state()); d != "" {
		t.Errorf("a refused apply changed:\n%s", d)
	}
	w.opts.TakeOver = true
	w.expect(w.apply(), "update ServiceAccount/flights/ingest", "update Service/flights/serve")
	w.opts.TakeOver = false
	w.expect(w.plan())
}

// TestForeignObjects: 50 objects of others stay as they are, whatever we do; one with our name stops us.
func TestForeignObjects(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	put := func(kind, namespace, name string, labels map[string]any) {
		version := map[string]string{"Deployment": "apps/v1", "Job": "batch/v1"}[kind]
		if version == "" {
			version = "v1"
		}
		o := &unstructured.Unstructured{Object: map[string]any{"apiVersion": version, "kind": kind, "metadata": map[string]any{"name": name, "labels": labels}}}
		o.SetNamespace(namespace)
		w.server.Put(o)
	}
	w.apply()
	ours := map[string]any{"app.kubernetes.io/managed-by": "latamctl", "app.kubernetes.io/part-of": "flights"}
	put("Namespace", "", "other", ours)
	for i := range 49 {
		kind := []string{"ConfigMap", "Deployment", "Service", "Secret", "Job", "ServiceAccount", "Pod"}[i%7]
		namespace := []string{"flights", "other", "default"}[i%3]
		labels := []map[string]any{nil, {"app.kubernetes.io/managed-by": "Helm"}, {"app.kubernetes.io/managed-by": "latamctl", "app.kubernetes.io/part-of": "another"}}[i%5%3]
		if namespace != "flights" {
			labels = ours // In another namespace even our labels do not make it ours.
		}
		put(kind, namespace, fmt.Sprintf("theirs-%d", i), labels)
	}
	foreign := func() map[string]string {
		all := w.state()
		maps.DeleteFunc(all, func(address, _ string) bool {
			return !strings.Contains(address, "theirs-") && address != "Namespace/other"
		})
		return all
	}
	before := foreign()
	if len(before) != 50 {
		t.Fatalf("%d objects of others", len(before))
	}
	w.expect(w.plan())
	w.opts.Base = withBase(t, "kustomization.yaml", func(s string) string { return strings.Replace(s, "  - network.yaml\n", "", 1) })
	w.apply()
	if _, err := w.manifests().Delete(t.Context(), w.cluster(), nil); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(before, foreign()); d != "" {
		t.Errorf("objects of others changed:\n%s", d)
	}
	put("Deployment", "flights", "ingest", nil)
	var refused *deploy.ForeignError
	if _, err := w.manifests().Apply(t.Context(), w.cluster(), nil); !errors.As(err, &refused) || !slices.Equal(refused.Addresses, []string{"Deployment/flights/ingest"}) {
		t.Errorf("an object with our name: %v", err)
	}
}

// TestPrune removes what is no longer declared, and keeps the configuration of pods that still run.
func TestPrune(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply()
	w.opts.Base = withBase(t, "network.yaml", func(s string) string { return strings.Replace(s, "name: datadog\n", "name: agent\n", 1) })
	w.expect(w.plan(), "create NetworkPolicy/flights/agent", "delete NetworkPolicy/flights/datadog")
	w.apply()
	w.expect(w.plan())

	old := ""
	for address := range w.server.Objects() {
		if strings.HasPrefix(address, "ConfigMap/flights/declaration-") {
			old = address
		}
	}
	name := strings.TrimPrefix(old, "ConfigMap/flights/")
	w.server.Put(&unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apps/v1", "kind": "ReplicaSet",
		"metadata": map[string]any{"name": "ingest-1", "namespace": "flights", "labels": map[string]any{"app.kubernetes.io/managed-by": "latamctl", "app.kubernetes.io/part-of": "flights"}},
		"spec": map[string]any{"template": map[string]any{"spec": map[string]any{
			"containers": []any{}, "volumes": []any{map[string]any{"name": "d", "configMap": map[string]any{"name": name}}},
		}}},
	}})
	w.opts.Values.Declaration = append(w.opts.Values.Declaration, "# more\n"...)
	s := w.plan()
	var got []string
	for _, c := range s.Changes {
		got = append(got, string(c.Action)+" "+c.Type)
	}
	if d := cmp.Diff([]string{"create ConfigMap", "update Deployment", "update Deployment", "update Deployment"}, got); d != "" {
		t.Errorf("a changed declaration makes new pods:\n%s", d)
	}
	w.apply()
	w.get(old)
	w.server.Edit("ReplicaSet/flights/ingest-1", "x", "", func(o map[string]any) {
		_ = unstructured.SetNestedSlice(o, nil, "spec", "template", "spec", "volumes")
	})
	w.expect(w.plan(), "delete "+old)
}

// TestInterrupted: stopped at every write in turn, the next apply completes the rest and the one
// after it has nothing to do.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	total := len(newWorld(t).plan().Changes)
	for after := 0; after < total; after += 2 {
		w := newWorld(t)
		ctx, cancel := context.WithCancel(t.Context())
		writes := 0
		w.server.Before(func(r deploytest.Request) *apierrors.StatusError {
			if r.Writes {
				if writes++; writes > after {
					cancel() // The answer of the last write never arrives.
				}
			}
			return nil
		})
		done, err := w.manifests().Apply(ctx, w.cluster(), nil)
		if err == nil || len(done.Changes) < after-1 || len(done.Changes) > after+1 {
			t.Fatalf("stopped after %d writes: %d done, %v", after, len(done.Changes), err)
		}
		w.server.Before(nil)
		w.apply()
		w.expect(w.plan())
		if n := len(w.state()); n != total+2 {
			t.Errorf("stopped after %d: %d objects, want %d", after, n, total+2)
		}
	}
}

// TestReplicas: the autoscaler and whoever fills the idle colour count the pods, not us.
func TestReplicas(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply()
	replicas := func(name string) any {
		return w.get("Deployment/flights/" + name).Object["spec"].(map[string]any)["replicas"]
	}
	if replicas("serve-green") != int64(0) || replicas("serve-blue") != int64(1) {
		t.Fatalf("green %v, blue %v", replicas("serve-green"), replicas("serve-blue"))
	}
	scale := func(name string, n int64) {
		w.server.Edit("Deployment/flights/"+name, "kube-controller-manager", "scale", func(o map[string]any) { _ = unstructured.SetNestedField(o, n, "spec", "replicas") })
	}
	for _, name := range []string{"ingest", "serve-blue"} {
		scale(name, 7)
	}
	w.expect(w.plan())
	scale("serve-green", 3)
	w.expect(w.plan())
	w.set("Service/flights/serve", "kubectl-patch", "green", "spec", "selector", "latamctl/colour")
	w.expect(w.plan())
	scale("serve-blue", 0)
	w.expect(w.plan())
	w.opts.Values.Image = strings.Replace(w.opts.Values.Image, "0123", "4567", 1)
	w.expect(w.apply(), "update Deployment/flights/ingest", "update Deployment/flights/serve-blue", "update Deployment/flights/serve-green")
	if replicas("serve-green") != int64(3) || replicas("serve-blue") != int64(0) || replicas("ingest") != int64(7) {
		t.Errorf("after a new image: green %v, blue %v, ingest %v", replicas("serve-green"), replicas("serve-blue"), replicas("ingest"))
	}
	for _, entry := range w.get("Deployment/flights/serve-blue").GetManagedFields() {
		if entry.Manager == "latamctl" && strings.Contains(string(entry.FieldsV1.GetRawBytes()), "f:replicas") {
			t.Error("a number that the autoscaler set became ours as well")
		}
	}
}

// TestSecrets are made once, follow what is set, and are never shown.
func TestSecrets(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const canary, second = "canary-dd-key-1", "canary-dd-key-2"
	w.opts.DatadogKey = telemetry.NewSecret(canary)
	shown, err := json.Marshal(w.apply())
	if err != nil {
		t.Fatal(err)
	}
	cursor := w.get("Secret/flights/serve-cursor").Object["data"].(map[string]any)["key"].(string)
	if len(cursor) < 43 || w.get("Secret/datadog/datadog-keys") == nil {
		t.Errorf("cursor key %q", cursor)
	}
	token := w.get("Secret/datadog/datadog-token").Object["data"].(map[string]any)["token"].(string)
	if len(token) < 43 || token == cursor {
		t.Errorf("token of the Agent %q", token)
	}
	if agent, err := os.ReadFile("../../stacks/observability/main.tf"); err != nil || !strings.Contains(string(agent), `token_secret = "datadog-token"`) {
		t.Errorf("the stack observability does not name the secret datadog-token (%v)", err)
	}
	w.expect(w.plan())
	w.set("Secret/flights/serve-cursor", "somebody", map[string]any{"key": "b3duCg=="}, "data")
	w.expect(w.plan()) // A key that was rotated stays.
	w.opts.DatadogKey = telemetry.NewSecret(second)
	s := w.plan()
	w.expect(s, "update Secret/datadog/datadog-keys")
	if d := cmp.Diff([]plan.Attribute{{Path: "data.api-key", Sensitive: true}}, s.Changes[0].Attributes); d != "" {
		t.Error(d)
	}
	w.server.Before(func(r deploytest.Request) *apierrors.StatusError {
		if r.Writes && strings.Contains(r.Path, "secrets") {
			return apierrors.NewBadRequest("the value " + second + " (Y2FuYXJ5LWRkLWtleS0y) is refused")
		}
		return nil
	})
	_, err = w.manifests().Apply(t.Context(), w.cluster(), nil)
	if err == nil || !strings.Contains(err.Error(), "[REDACTED]") {
		t.Errorf("a refused secret: %v", err)
	}
	again, _ := json.Marshal(s)
	for _, leak := range []string{canary, second, "Y2FuYXJ5", cursor, token} {
		if strings.Contains(string(shown)+string(again)+fmt.Sprint(err), leak) {
			t.Errorf("%q is shown", leak)
		}
	}
	w.server.Before(nil)
	w.opts.DatadogKey = telemetry.Secret{}
	w.expect(w.plan())
	gone, err := w.manifests().PlanDelete(t.Context(), w.cluster())
	if err != nil || !slices.ContainsFunc(gone.Changes, func(c plan.Change) bool { return c.Address == "Secret/datadog/datadog-token" }) {
		t.Errorf("the token stays: %v", err)
	}
}

func TestClusterFaults(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.server.Remove("gateway.networking.k8s.io/v1")
	before := w.state()
	var missing *deploy.MissingAPIError
	if _, err := w.manifests().Apply(t.Context(), w.cluster(), nil); !errors.As(err, &missing) || !slices.Equal(missing.APIs, []string{"gateway.networking.k8s.io/v1 (Gateway, HTTPRoute)"}) {
		t.Errorf("a missing API: %v", err)
	}
	if d := cmp.Diff(before, w.state()); d != "" {
		t.Errorf("changed:\n%s", d)
	}

	w = newWorld(t)
	failures := map[string]int{}
	w.server.Before(func(r deploytest.Request) *apierrors.StatusError {
		key := fmt.Sprint(r.Method, r.Path, r.DryRun)
		if failures[key]++; failures[key] == 1 {
			return apierrors.NewServiceUnavailable("starting")
		}
		return nil
	})
	w.apply()
	w.server.Before(nil)
	w.expect(w.plan())

	w.server.Before(func(deploytest.Request) *apierrors.StatusError {
		return apierrors.NewForbidden(schema.GroupResource{Resource: "services"}, "serve", errors.New("no role"))
	})
	w.server.Requests()
	if _, err := w.manifests().Plan(t.Context(), w.cluster()); !errors.Is(err, deploy.ErrDenied) || len(w.server.Requests()) > 2 {
		t.Errorf("403: %v", err)
	}
	w.server.Before(func(deploytest.Request) *apierrors.StatusError {
		return apierrors.NewGenericServerResponse(http.StatusBadGateway, "get", schema.GroupResource{}, "", "", 0, true)
	})
	w.opts.Retries = 1
	if _, err := w.manifests().Plan(t.Context(), w.cluster()); !errors.Is(err, deploy.ErrUnavailable) {
		t.Errorf("502: %v", err)
	}
	if _, err := w.manifests().Plan(t.Context(), deploy.Cluster{Endpoint: "127.0.0.1:1"}); !errors.Is(err, deploy.ErrUnavailable) {
		t.Errorf("nothing listens: %v", err)
	}
	if _, err := w.manifests().Plan(t.Context(), deploy.Cluster{Endpoint: "http://127.0.0.1:1"}); err == nil || !strings.Contains(err.Error(), "https") {
		t.Errorf("a token over http: %v", err)
	}
	w.opts.Token = func(context.Context) (string, error) { return "", errors.New("no credentials") }
	if _, err := w.manifests().Plan(t.Context(), w.cluster()); !errors.Is(err, deploy.ErrDenied) || !strings.Contains(err.Error(), "gcloud auth application-default login") {
		t.Errorf("no token: %v", err)
	}
	if _, err := w.manifests().Apply(t.Context(), deploy.Cluster{}, nil); err == nil {
		t.Error("applied to no cluster")
	}
}

// TestKubeconfig reaches the cluster by a file instead.
func TestKubeconfig(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.opts.Token = func(context.Context) (string, error) { return "", errors.New("not asked for") }
	ca, err := json.Marshal(w.server.CA) // Bytes are base64 in JSON.
	if err != nil {
		t.Fatal(err)
	}
	w.opts.Kubeconfig = fmt.Appendf(nil, `{"apiVersion":"v1","kind":"Config","current-context":"c",
		"clusters":[{"name":"c","cluster":{"server":%q,"certificate-authority-data":%s}}],
		"users":[{"name":"u","user":{"token":%q}}],"contexts":[{"name":"c","context":{"cluster":"c","user":"u"}}]}`, w.server.Endpoint, ca, deploytest.Token)
	if _, err := w.manifests().Apply(t.Context(), deploy.Cluster{}, nil); err != nil {
		t.Fatal(err)
	}
	w.expect(w.plan())
}
