package cli_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/latamctl/latamctl/pkg/deploy"
	"github.com/latamctl/latamctl/pkg/deploy/deploytest"
)

// shopImage is an image of the scripts' environment by a hexadecimal digit.
func shopImage(digit string) string {
	return "us-central1-docker.pkg.dev/my-project/shop/latamctl@sha256:" + strings.Repeat(digit, 64)
}

// TestDeployScripts runs testdata/deploy/*.txtar against a stand-in of a cluster in which up was there
// with image 1. Image b never gets ready; image e answers 500.
func TestDeployScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:   "testdata/deploy",
		Setup: setupCluster,
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"await":        await,
			"await-output": awaitOutput,
			"image-runs":   imageRuns,
			"lock-is-of":   lockIsOf,
			"lock-is-let":  lockIsLet,
		},
		RequireExplicitExec: true,
	})
}

// lockIsLet ends what lock-is-of began.
func lockIsLet(ts *testscript.TestScript, _ bool, _ []string) {
	close(ts.Value(lockKey{}).(chan struct{}))
	ts.Value(clusterKey{}).(*deploytest.Server).Edit("Lease/shop/latamctl-release", "somebody", "", func(o map[string]any) {
		_ = unstructured.SetNestedField(o, "", "spec", "holderIdentity")
	})
}

type (
	clusterKey struct{}
	lockKey    struct{}
)

func setupCluster(env *testscript.Env) error {
	env.Setenv(raceOptions, os.Getenv(raceOptions))
	server := deploytest.New()
	env.Defer(server.Close)
	env.Values[clusterKey{}], env.Values[lockKey{}] = server, make(chan struct{})
	m, err := deploy.New(deploy.Options{
		Base: os.DirFS("../../stacks/apps/kubernetes"),
		Values: deploy.Values{
			Environment: "prod", Name: "shop", Project: "my-project", Image: shopImage("1"), BackendHost: "backend.shop.example.com",
			Declaration: []byte("version: 1\n"),
		},
		Token: func(context.Context) (string, error) { return deploytest.Token, nil },
	})
	if err != nil {
		return err
	}
	if _, err := m.Apply(context.Background(), deploy.Cluster{Endpoint: server.Endpoint, CA: server.CA}, nil); err != nil {
		return err
	}
	server.Run(func(_, image string) bool { return image != shopImage("b") })
	wrong := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusInternalServerError)
		_, _ = io.WriteString(w, `{"code":"INTERNAL","detail":"no table"}`)
	}))
	env.Defer(wrong.Close)
	server.Serve(shopImage("e"), wrong.Listener.Addr().String())
	config, err := json.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Config", "current-context": "test",
		"clusters": []any{map[string]any{"name": "test", "cluster": map[string]any{"server": server.Endpoint, "certificate-authority-data": server.CA}}},
		"users":    []any{map[string]any{"name": "test", "user": map[string]any{"token": deploytest.Token}}},
		"contexts": []any{map[string]any{"name": "test", "context": map[string]any{"cluster": "test", "user": "test"}}},
	})
	if err != nil {
		return err
	}
	env.Setenv("LATAM_KUBECONFIG", env.WorkDir+"/kubeconfig.json")
	for _, digit := range []string{"1", "2", "b", "e"} {
		env.Setenv("IMAGE_"+digit, shopImage(digit))
	}
	return os.WriteFile(env.WorkDir+"/kubeconfig.json", config, 0o600)
}

// imageRuns makes the API of a running stack what pods of an image answer: image-runs RUN.json DIGIT...
func imageRuns(ts *testscript.TestScript, _ bool, args []string) {
	var run struct {
		API string `json:"api"`
	}
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &run))
	u, err := url.Parse(run.API)
	ts.Check(err)
	for _, digit := range args[1:] {
		ts.Value(clusterKey{}).(*deploytest.Server).Serve(shopImage(digit), u.Host)
	}
}

// lockIsOf makes somebody hold the lock, with signs of life, until lock-is-let or the end.
func lockIsOf(ts *testscript.TestScript, _ bool, args []string) {
	server, end := ts.Value(clusterKey{}).(*deploytest.Server), ts.Value(lockKey{}).(chan struct{})
	server.Put(&unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": map[string]any{"name": "latamctl-release", "namespace": "shop"},
		"spec": map[string]any{"holderIdentity": args[0], "leaseDurationSeconds": int64(15), "acquireTime": "2026-01-02T03:04:05.000000Z"},
	}})
	go func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-end:
				return
			case now := <-tick.C:
				server.Edit("Lease/shop/latamctl-release", "somebody", "", func(o map[string]any) {
					_ = unstructured.SetNestedField(o, now.UTC().Format("2006-01-02T15:04:05.000000Z"), "spec", "renewTime")
				})
			}
		}
	}()
	ts.Defer(func() {
		select {
		case <-end:
		default:
			close(end)
		}
	})
}
