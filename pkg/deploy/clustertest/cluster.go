// Package clustertest runs a real control plane for tests: etcd, kube-apiserver,
// kube-controller-manager and kube-scheduler on this machine, with kwok as the nodes and pods. Pods get
// ready without a process; what is forwarded to their ports goes to one address of the test.
package clustertest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/latamctl/latamctl/pkg/proc"
)

// NeverReady is the name of an image whose pods never get ready: they crash again and again.
const NeverReady = "never-ready"

// SlowReady is the name of an image whose pods take a second to get ready.
const SlowReady = "slow-ready"

// token is the administrator's.
const token = "the-token-of-tests" //nolint:gosec // It opens nothing but this cluster.

// Options say what pods answer.
type Options struct {
	// Address is where connections go that are forwarded to a pod, such as 127.0.0.1:8080.
	Address string
	// Log is what the log of a pod has.
	Log string
}

// Cluster is a control plane that runs.
type Cluster struct {
	Endpoint   string
	CA         []byte
	Token      string
	Kubeconfig []byte

	t        testing.TB
	p        *proc.Process
	bin      string // folder of the programs
	dir      string
	children []*proc.Child
}

// Start runs a control plane until the end of the test. The programs are those of `make kubernetes`.
func Start(t testing.TB, o Options) *Cluster {
	t.Helper()
	c := &Cluster{t: t, p: proc.OS(), dir: t.TempDir(), Token: token}
	c.find()
	t.Cleanup(c.stop)
	ports := c.freePorts(4)
	c.Endpoint = "https://127.0.0.1:" + ports[1]
	c.certificates()
	c.write("token.csv", c.Token+`,admin,admin,"system:masters"`+"\n")
	c.writeKubeconfig()
	etcd := "http://127.0.0.1:" + ports[0]
	c.run("etcd", "--data-dir="+c.path("etcd"), "--listen-client-urls="+etcd, "--advertise-client-urls="+etcd,
		"--listen-peer-urls=http://127.0.0.1:"+ports[3], "--unsafe-no-fsync", "--log-level=error")
	c.run("kube-apiserver", "--etcd-servers="+etcd, "--bind-address=127.0.0.1", "--secure-port="+ports[1], "--endpoint-reconciler-type=none",
		"--tls-cert-file="+c.path("server.crt"), "--tls-private-key-file="+c.path("server.key"), "--token-auth-file="+c.path("token.csv"),
		"--authorization-mode=RBAC", "--service-cluster-ip-range=10.0.0.0/16", "--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file="+c.path("server.key"), "--service-account-signing-key-file="+c.path("server.key"),
		"--kubelet-preferred-address-types=InternalIP", "--allow-privileged=true", "--profiling=false")
	c.WaitFor("the API server", func(ctx context.Context) (bool, error) {
		body, err := c.request(ctx, "GET", "/readyz", "", nil)
		return string(body) == "ok", err
	})
	c.run("kube-controller-manager", "--kubeconfig="+c.path("kubeconfig"), "--leader-elect=false", "--secure-port=0",
		"--service-account-private-key-file="+c.path("server.key"), "--root-ca-file="+c.path("ca.crt"), "--horizontal-pod-autoscaler-sync-period=1s",
		"--kube-api-qps=1000", "--kube-api-burst=2000")
	c.run("kube-scheduler", "--kubeconfig="+c.path("kubeconfig"), "--leader-elect=false", "--secure-port=0", "--kube-api-qps=1000", "--kube-api-burst=2000")
	c.write("kwok.yaml", c.stages(o))
	c.run("kwok", "--config="+c.path("kwok.yaml"), "--kubeconfig="+c.path("kubeconfig"), "--manage-all-nodes=true", "--node-ip=127.0.0.1",
		"--node-port="+ports[2], "--server-address=127.0.0.1:"+ports[2], "--node-lease-duration-seconds=40",
		"--tls-cert-file="+c.path("server.crt"), "--tls-private-key-file="+c.path("server.key"))
	c.populate()
	return c
}

var kubernetesVersion = regexp.MustCompile(`(?m)^\s*k8s\.io/kubernetes (v[0-9.]+)`)

// find looks for the programs where `make kubernetes` puts them.
func (c *Cluster) find() {
	c.t.Helper()
	mod, err := c.p.ReadFile(filepath.Join(c.root(), "tools", "kubernetes", "go.mod"))
	if err != nil {
		c.t.Fatalf("read which Kubernetes tests need: %v", err)
	}
	version := kubernetesVersion.FindSubmatch(mod)
	if version == nil {
		c.t.Fatal("tools/kubernetes/go.mod requires no k8s.io/kubernetes")
	}
	cache := c.p.Env("LATAM_KUBERNETES_CACHE")
	if cache == "" {
		cache = filepath.Join(c.p.UserCacheDir(), "kubernetes")
	}
	c.bin = filepath.Join(cache, fmt.Sprintf("%s-%.6x", version[1], sha256.Sum256(mod)))
	if !c.p.IsDir(c.bin) {
		c.t.Fatalf("there is no Kubernetes in %s: make kubernetes builds it", c.bin)
	}
}

// root is the folder of the module.
func (c *Cluster) root() string {
	dir, err := filepath.Abs(".")
	for ; err == nil && !c.p.Exists(filepath.Join(dir, "tools", "kubernetes", "go.mod")); dir = filepath.Dir(dir) {
		if dir == filepath.Dir(dir) {
			c.t.Fatal("no folder above has tools/kubernetes/go.mod")
		}
	}
	return dir
}

func (c *Cluster) path(name string) string { return filepath.Join(c.dir, name) }

func (c *Cluster) write(name, text string) {
	c.t.Helper()
	if err := c.p.WriteSecretFile(c.path(name), []byte(text)); err != nil {
		c.t.Fatal(err)
	}
}

// freePorts are ports that nobody listened to a moment ago.
func (c *Cluster) freePorts(n int) []string {
	c.t.Helper()
	var ports []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // It is closed at once.
		if err != nil {
			c.t.Fatal(err)
		}
		defer func() { _ = l.Close() }()
		_, port, _ := net.SplitHostPort(l.Addr().String()) // An address of a listener has a port.
		ports = append(ports, port)
	}
	return ports
}

// run starts a program of the cache. Where it can be had, the program ends when the test is killed.
func (c *Cluster) run(name string, args ...string) {
	c.t.Helper()
	args = append([]string{filepath.Join(c.bin, name)}, args...)
	if setpriv, err := c.p.LookPath("setpriv"); err == nil {
		args = append([]string{setpriv, "--pdeathsig=KILL"}, args...)
	}
	child, err := c.p.StartChild("/bin/sh", append([]string{"-c", `exec "$0" "$@" > "` + c.log(name) + `" 2>&1`}, args...)...)
	if err != nil {
		c.t.Fatal(err)
	}
	c.children = append(c.children, child)
}

// log is where a program writes to: a file that goes with the test, unless LATAM_CLUSTER_LOGS names a folder.
func (c *Cluster) log(name string) string {
	if dir := c.p.Env("LATAM_CLUSTER_LOGS"); dir != "" {
		return filepath.Join(dir, name+".log")
	}
	return c.path(name + ".log")
}

// stop ends the programs, the last one first.
func (c *Cluster) stop() {
	for i := len(c.children) - 1; i >= 0; i-- {
		if err := c.children[i].Stop(time.Second); err != nil {
			c.t.Error(err)
		}
	}
}

// waitLimit is long because tests share few cores with compilers.
const waitLimit = 4 * time.Minute

// WaitFor looks again and again until it is done; after a while the test fails.
func (c *Cluster) WaitFor(what string, done func(context.Context) (bool, error)) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), waitLimit)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, err := done(ctx)
		if ok {
			return
		}
		for _, child := range c.children {
			if ended := child.Err(); ended != nil {
				c.t.Fatalf("wait for %s: %v; LATAM_CLUSTER_LOGS=FOLDER keeps what it said", what, ended)
			}
		}
		select {
		case <-ctx.Done():
			c.t.Fatalf("wait for %s: %v", what, errors.Join(err, ctx.Err()))
		case <-tick.C:
		}
	}
}

// stages are the configuration of kwok: how nodes and pods get ready, and what pods answer.
func (c *Cluster) stages(o Options) string {
	c.t.Helper()
	var all bytes.Buffer
	for _, name := range []string{"node-initialize", "pod-ready", "pod-complete", "pod-delete"} {
		stage := c.object("stages", name+".yaml")
		if name == "pod-ready" {
			all.WriteString(slow(c.t, stage.DeepCopy()))
			unless(stage, NeverReady+"|"+SlowReady)
		}
		all.WriteString(document(c.t, stage))
	}
	all.WriteString(crashing)
	log := c.path("pod.log")
	c.write("pod.log", o.Log)
	host, port, err := net.SplitHostPort(o.Address)
	if err != nil {
		host, port = "127.0.0.1", "9"
	}
	fmt.Fprintf(&all, answering, port, host, log)
	return all.String()
}

// imageOf is the question about a pod that is answered when one of its images has a name.
func imageOf(pattern string) string {
	return fmt.Sprintf(`.spec.containers.[].image | select( test("/(%s)[@:]") )`, pattern)
}

func matching(stage *unstructured.Unstructured, pattern, operator string) {
	list, _, _ := unstructured.NestedSlice(stage.Object, "spec", "selector", "matchExpressions")
	list = append(list, map[string]any{"key": imageOf(pattern), "operator": operator})
	_ = unstructured.SetNestedSlice(stage.Object, list, "spec", "selector", "matchExpressions") // It fails only when spec is no map.
}

func unless(stage *unstructured.Unstructured, pattern string) {
	matching(stage, pattern, "DoesNotExist")
}

func slow(t testing.TB, stage *unstructured.Unstructured) string {
	t.Helper()
	stage.SetName("pod-slow-ready")
	matching(stage, SlowReady, "Exists")
	_ = unstructured.SetNestedField(stage.Object, int64(1000), "spec", "delay", "durationMilliseconds") // It fails only when spec is no map.
	return document(t, stage)
}

func document(t testing.TB, o *unstructured.Unstructured) string {
	t.Helper()
	text, err := yaml.Marshal(o.Object)
	if err != nil {
		t.Fatal(err)
	}
	return "---\n" + string(text)
}

// object reads a file with one object from the cache.
func (c *Cluster) object(dir, name string) *unstructured.Unstructured {
	c.t.Helper()
	text, err := c.p.ReadFile(filepath.Join(c.bin, dir, name))
	o := &unstructured.Unstructured{}
	if err == nil {
		text, err = yaml.YAMLToJSON(text)
	}
	if err == nil {
		err = json.Unmarshal(text, &o.Object)
	}
	if err != nil {
		c.t.Fatalf("read %s/%s: %v", dir, name, err)
	}
	return o
}

const crashing = `---
apiVersion: kwok.x-k8s.io/v1alpha1
kind: Stage
metadata: {name: pod-never-ready}
spec:
  resourceRef: {apiGroup: v1, kind: Pod}
  selector:
    matchExpressions:
      - {key: .metadata.deletionTimestamp, operator: DoesNotExist}
      - {key: .status.phase, operator: In, values: [Pending]}
      - {key: '.spec.containers.[].image | select( test("/never-ready[@:]") )', operator: Exists}
  next:
    statusTemplate: |
      {{ $now := Now }}
      conditions:
      - {lastTransitionTime: {{ $now | Quote }}, status: "True", type: Initialized}
      - {lastTransitionTime: {{ $now | Quote }}, status: "False", type: Ready, reason: ContainersNotReady}
      - {lastTransitionTime: {{ $now | Quote }}, status: "False", type: ContainersReady, reason: ContainersNotReady}
      containerStatuses:
      {{ range .spec.containers }}
      - image: {{ .image | Quote }}
        name: {{ .name | Quote }}
        ready: false
        restartCount: 3
        state: {waiting: {reason: CrashLoopBackOff, message: back-off 40s restarting failed container}}
        lastState: {terminated: {exitCode: 1, reason: Error}}
      {{ end }}
      phase: Running
      startTime: {{ $now | Quote }}
`

const answering = `---
apiVersion: kwok.x-k8s.io/v1alpha1
kind: ClusterPortForward
metadata: {name: api}
spec:
  forwards:
    - {ports: [8080], target: {port: %s, address: %q}}
---
apiVersion: kwok.x-k8s.io/v1alpha1
kind: ClusterLogs
metadata: {name: logs}
spec:
  logs:
    - {logsFile: %[3]q, previousLogsFile: %[3]q}
`

// crds are what a GKE cluster with the Gateway API has besides Kubernetes.
func (c *Cluster) crds() []*unstructured.Unstructured {
	c.t.Helper()
	var all []*unstructured.Unstructured
	files, err := c.p.FS(filepath.Join(c.bin, "crds"))
	if err != nil {
		c.t.Fatal(err)
	}
	names, err := fs.Glob(files, "*.yaml")
	if err != nil || len(names) == 0 {
		c.t.Fatalf("definitions of the Gateway API: found %d: %v", len(names), err)
	}
	for _, name := range names {
		all = append(all, c.object("crds", name))
	}
	for _, kind := range []string{"GCPBackendPolicy", "GCPGatewayPolicy", "HealthCheckPolicy"} {
		plural := strings.TrimSuffix(strings.ToLower(kind), "y") + "ies"
		o := &unstructured.Unstructured{}
		definition := fmt.Sprintf(`{"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "%[1]s.networking.gke.io"},
			"spec": {"group": "networking.gke.io", "scope": "Namespaced", "names": {"kind": %[2]q, "plural": %[1]q},
			"versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]}}`, plural, kind)
		if err := o.UnmarshalJSON([]byte(definition)); err != nil {
			c.t.Fatal(err)
		}
		all = append(all, o)
	}
	return all
}
