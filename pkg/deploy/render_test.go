package deploy_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/latamctl/latamctl/pkg/deploy"
)

const digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func values() deploy.Values {
	return deploy.Values{
		Environment: "prod", Name: "flights", Project: "flights-prod-1", Image: "us-central1-docker.pkg.dev/flights-prod-1/flights/latamctl@" + digest,
		BackendHost: "backend.flights.example.com", Declaration: []byte("version: 1\nname: flights\n"), OTLPEndpoint: "http://datadog.datadog:4318",
	}
}

var base = os.DirFS("../../stacks/apps/kubernetes")

func render(t testing.TB, v deploy.Values) map[string]*unstructured.Unstructured {
	t.Helper()
	objects, err := deploy.Render(base, v)
	if err != nil {
		t.Fatal(err)
	}
	byAddress := map[string]*unstructured.Unstructured{}
	for _, o := range objects {
		byAddress[strings.Replace(o.GetKind()+"/"+o.GetNamespace()+"/"+o.GetName(), "//", "/", 1)] = o
	}
	if len(byAddress) != len(objects) {
		t.Fatalf("%d objects have %d addresses", len(objects), len(byAddress))
	}
	return byAddress
}

// TestRenderIsWhatKubectlMakes compares with another build of kustomize, from the files that a team gets.
func TestRenderIsWhatKubectlMakes(t *testing.T) {
	t.Parallel()
	kubectl, err := exec.LookPath("kubectl")
	if err != nil {
		t.Skip("kubectl is not on PATH")
	}
	for _, live := range []string{deploy.Blue, deploy.Green} {
		v := values()
		v.Live, v.ScaleOnLag = live, live == deploy.Green
		dir := t.TempDir()
		files, err := deploy.Files(base, v)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			path := filepath.Join(dir, filepath.FromSlash(f.Path))
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, f.Data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		out, err := exec.Command(kubectl, "kustomize", filepath.Join(dir, "overlays", "prod")).CombinedOutput()
		if err != nil {
			t.Fatalf("kubectl kustomize: %v\n%s", err, out)
		}
		theirs := map[string]map[string]any{}
		for _, doc := range strings.Split(string(out), "\n---\n") {
			o := &unstructured.Unstructured{}
			text, err := yaml.YAMLToJSON([]byte(doc))
			if err != nil {
				t.Fatal(err)
			}
			if err := o.UnmarshalJSON(text); err != nil {
				t.Fatal(err)
			}
			theirs[strings.Replace(o.GetKind()+"/"+o.GetNamespace()+"/"+o.GetName(), "//", "/", 1)] = o.Object
		}
		ours := map[string]map[string]any{}
		for name, o := range render(t, v) {
			ours[name] = o.Object
		}
		if d := cmp.Diff(theirs, ours); d != "" {
			t.Errorf("live %s (-kubectl +ours):\n%s", live, d)
		}
	}
}
