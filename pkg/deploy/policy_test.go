package deploy_test

import (
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	"github.com/latamctl/latamctl/pkg/deploy"
	"github.com/latamctl/latamctl/pkg/deploy/deploytest"
)

// typed reads all objects of one kind into its type.
func typed[T any](t testing.TB, objects map[string]*unstructured.Unstructured, kind string) map[string]*T {
	t.Helper()
	found := map[string]*T{}
	for _, o := range objects {
		if o.GetKind() != kind {
			continue
		}
		into := new(T)
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, into); err != nil {
			t.Fatal(err)
		}
		found[o.GetName()] = into
	}
	return found
}

// breaches are the ways in which objects break the policy.
func breaches(t testing.TB, objects map[string]*unstructured.Unstructured) []string {
	t.Helper()
	var all []string
	deployments := typed[appsv1.Deployment](t, objects, "Deployment")
	for name, d := range deployments {
		for _, why := range slices.Concat(podBreaches(&d.Spec.Template.Spec), rolloutBreaches(t, objects, d)) {
			all = append(all, name+": "+why)
		}
	}
	if len(deployments) != 3 {
		all = append(all, fmt.Sprintf("%d deployments", len(deployments)))
	}
	for name, ns := range typed[corev1.Namespace](t, objects, "Namespace") {
		for _, mode := range []string{"enforce", "warn", "audit"} {
			if ns.Labels["pod-security.kubernetes.io/"+mode] != "restricted" {
				all = append(all, name+": "+mode+" is not restricted")
			}
		}
	}
	all = append(all, networkBreaches(t, objects)...)
	for _, sa := range typed[corev1.ServiceAccount](t, objects, "ServiceAccount") {
		if sa.AutomountServiceAccountToken == nil || *sa.AutomountServiceAccountToken {
			all = append(all, sa.Name+": the account mounts its token")
		}
	}
	slices.Sort(all)
	return all
}

// podBreaches are the rules of Pod Security restricted, and ours on top.
func podBreaches(pod *corev1.PodSpec) (all []string) {
	rule := func(kept bool, why string) {
		if !kept {
			all = append(all, why)
		}
	}
	is := func(b *bool, want bool) bool { return b != nil && *b == want }
	sc := pod.SecurityContext
	rule(sc != nil && is(sc.RunAsNonRoot, true), "runAsNonRoot")
	rule(sc != nil && sc.RunAsUser != nil && *sc.RunAsUser == 65532, "runAsUser")
	rule(sc != nil && sc.SeccompProfile != nil && sc.SeccompProfile.Type == corev1.SeccompProfileTypeRuntimeDefault, "seccomp")
	rule(sc == nil || len(sc.Sysctls) == 0 && sc.WindowsOptions == nil, "sysctls")
	rule(!pod.HostNetwork && !pod.HostPID && !pod.HostIPC, "host namespaces")
	rule(is(pod.AutomountServiceAccountToken, false), "token mounted")
	rule(len(pod.InitContainers)+len(pod.EphemeralContainers) == 0, "containers that nothing checks here")
	for _, v := range pod.Volumes {
		s := v.VolumeSource
		allowed := s.ConfigMap != nil || s.EmptyDir != nil || s.Secret != nil || s.Projected != nil || s.CSI != nil || s.DownwardAPI != nil || s.Ephemeral != nil || s.PersistentVolumeClaim != nil
		rule(allowed && s.HostPath == nil, "volume "+v.Name)
	}
	for _, c := range pod.Containers {
		sc := c.SecurityContext
		rule(sc != nil && is(sc.AllowPrivilegeEscalation, false), "allowPrivilegeEscalation")
		rule(sc != nil && is(sc.ReadOnlyRootFilesystem, true), "readOnlyRootFilesystem")
		rule(sc != nil && sc.Capabilities != nil && slices.Equal(sc.Capabilities.Drop, []corev1.Capability{"ALL"}) && len(sc.Capabilities.Add) == 0, "capabilities")
		rule(sc == nil || !is(sc.Privileged, true) && sc.ProcMount == nil, "privileged")
		rule(sc == nil || sc.RunAsNonRoot == nil && sc.RunAsUser == nil && sc.SeccompProfile == nil, "the container overrides the pod")
		for _, p := range c.Ports {
			rule(p.HostPort == 0, "hostPort")
		}
		request, limit := c.Resources.Requests.Memory(), c.Resources.Limits.Memory()
		rule(!limit.IsZero() && request.Cmp(*limit) == 0, "memory requests are not its limits")
		rule(!c.Resources.Requests.Cpu().IsZero(), "no cpu request")
		mib, err := strconv.ParseFloat(strings.TrimSuffix(env(c, "GOMEMLIMIT"), "MiB"), 64)
		share := mib * (1 << 20) / float64(limit.Value())
		rule(err == nil && share > 0.84 && share <= 0.85, "GOMEMLIMIT")
		rule(regexp.MustCompile(`^[^@:]+@sha256:[0-9a-f]{64}$`).MatchString(c.Image), "the image is not by digest")
		rule(c.LivenessProbe != nil && c.LivenessProbe.HTTPGet.Path == "/livez" && c.LivenessProbe.HTTPGet.Port.StrVal == "admin", "liveness")
		rule(c.ReadinessProbe != nil && c.ReadinessProbe.HTTPGet.Path == "/readyz" && c.ReadinessProbe.HTTPGet.Port.StrVal == "admin", "readiness")
		rule(c.StartupProbe != nil, "startup")
	}
	rule(enoughGrace(pod), "grace period")
	return all
}

func env(c corev1.Container, name string) string {
	for _, e := range c.Env {
		if e.Name == name {
			return e.Value
		}
	}
	return ""
}

// enoughGrace adds up what the end of a pod takes: the stop hook, then serve's delay and 10 s for
// running requests or ingest's drain, then 5 s of telemetry.
func enoughGrace(pod *corev1.PodSpec) bool {
	if pod.TerminationGracePeriodSeconds == nil || len(pod.Containers) != 1 {
		return false
	}
	c := pod.Containers[0]
	if c.Lifecycle == nil || c.Lifecycle.PreStop == nil || c.Lifecycle.PreStop.Sleep == nil {
		return false
	}
	took := c.Lifecycle.PreStop.Sleep.Seconds + 5
	drain := map[string]int64{"--drain-delay=": 10, "--drain-timeout=": 0}
	found := false
	for _, arg := range c.Args {
		for flag, more := range drain {
			if value, ok := strings.CutPrefix(arg, flag); ok {
				seconds, err := strconv.ParseInt(strings.TrimSuffix(value, "s"), 10, 64)
				found = err == nil
				took += seconds + more
			}
		}
	}
	return found && c.Lifecycle.PreStop.Sleep.Seconds >= 5 && took+5 <= *pod.TerminationGracePeriodSeconds
}

// rolloutBreaches are about the pods of a Deployment together: its budget, its autoscaler, its spread.
func rolloutBreaches(t testing.TB, objects map[string]*unstructured.Unstructured, d *appsv1.Deployment) (all []string) {
	rule := func(kept bool, why string) {
		if !kept {
			all = append(all, why)
		}
	}
	pods := labels.Set(d.Spec.Template.Labels)
	rule(labels.SelectorFromSet(d.Spec.Selector.MatchLabels).Matches(pods), "the selector does not match")
	rule(d.Spec.Replicas == nil || *d.Spec.Replicas == 0, "replicas beside an autoscaler")
	rule(d.Spec.Strategy.RollingUpdate != nil && d.Spec.Strategy.RollingUpdate.MaxUnavailable.IntVal == 0, "a rollout takes pods away")
	budgets := 0
	for _, b := range typed[policyv1.PodDisruptionBudget](t, objects, "PodDisruptionBudget") {
		if labels.SelectorFromSet(b.Spec.Selector.MatchLabels).Matches(pods) {
			budgets++
			rule(b.Spec.MinAvailable != nil && b.Spec.MinAvailable.IntVal == 1, "budget")
		}
	}
	rule(budgets == 1, "budgets")
	scalers := 0
	for _, h := range typed[autoscalingv2.HorizontalPodAutoscaler](t, objects, "HorizontalPodAutoscaler") {
		if h.Spec.ScaleTargetRef.Name != d.Name {
			continue
		}
		scalers++
		rule(h.Spec.MinReplicas != nil && *h.Spec.MinReplicas >= 2, "fewer than 2 replicas")
		targets := map[corev1.ResourceName]int32{}
		for _, m := range h.Spec.Metrics {
			if m.Type == autoscalingv2.ExternalMetricSourceType && d.Name == "ingest" {
				continue // It adds pods to what the others ask for; see TestScaleOnLag.
			}
			targets[m.Resource.Name] = *m.Resource.Target.AverageUtilization
		}
		rule(cmp.Equal(targets, map[corev1.ResourceName]int32{"cpu": 60, "memory": 60}), "autoscaler targets")
		rule(h.Spec.Behavior != nil && *h.Spec.Behavior.ScaleDown.StabilizationWindowSeconds >= 300, "no stabilization")
	}
	rule(scalers == 1, "autoscalers")
	spread := map[string]int32{}
	for _, c := range d.Spec.Template.Spec.TopologySpreadConstraints {
		if labels.SelectorFromSet(c.LabelSelector.MatchLabels).Matches(pods) {
			spread[c.TopologyKey] = c.MaxSkew
		}
	}
	rule(cmp.Equal(spread, map[string]int32{"topology.kubernetes.io/zone": 1, "kubernetes.io/hostname": 1}), "spread")
	return all
}

// networkBreaches wants both directions denied for all pods, and exactly the openings that are known.
func networkBreaches(t testing.TB, objects map[string]*unstructured.Unstructured) (all []string) {
	denied := false
	var openings []string
	for _, p := range typed[networkingv1.NetworkPolicy](t, objects, "NetworkPolicy") {
		if len(p.Spec.PodSelector.MatchLabels)+len(p.Spec.PodSelector.MatchExpressions) == 0 && len(p.Spec.PolicyTypes) == 2 && len(p.Spec.Ingress)+len(p.Spec.Egress) == 0 {
			denied = true
		}
		for _, rule := range p.Spec.Ingress {
			openings = append(openings, opening("in", rule.From, rule.Ports)...)
		}
		for _, rule := range p.Spec.Egress {
			openings = append(openings, opening("out", rule.To, rule.Ports)...)
		}
	}
	slices.Sort(openings)
	want := []string{
		"in 130.211.0.0/22 http", "in 35.191.0.0/16 http", "in datadog admin",
		"out 0.0.0.0/0 but 10.0.0.0/8,172.16.0.0/12,192.168.0.0/16 443", "out 169.254.169.252/32 988", "out 169.254.169.254/32 53,53", "out 169.254.169.254/32 80", "out 169.254.20.10/32 53,53",
		"out datadog 4317,4318", "out kube-system 53,53",
	}
	if d := cmp.Diff(want, openings); d != "" {
		all = append(all, "network openings")
	}
	if !denied {
		all = append(all, "nothing denies by default")
	}
	return all
}

func opening(direction string, peers []networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort) (all []string) {
	var named []string
	for _, p := range ports {
		named = append(named, p.Port.String())
	}
	if len(peers) == 0 {
		all = append(all, direction+" anybody "+strings.Join(named, ","))
	}
	for _, p := range peers {
		who := "pods"
		if p.IPBlock != nil {
			who = p.IPBlock.CIDR
			if len(p.IPBlock.Except) > 0 {
				who += " but " + strings.Join(p.IPBlock.Except, ",")
			}
		} else if p.NamespaceSelector != nil {
			who = p.NamespaceSelector.MatchLabels["kubernetes.io/metadata.name"]
		}
		all = append(all, direction+" "+who+" "+strings.Join(named, ","))
	}
	return all
}

// TestPolicy: everything that is rendered keeps all rules, without an exception.
func TestPolicy(t *testing.T) {
	t.Parallel()
	for _, live := range []string{deploy.Blue, deploy.Green} {
		v := values()
		v.Live = live
		if d := cmp.Diff([]string(nil), breaches(t, render(t, v))); d != "" {
			t.Errorf("live %s:\n%s", live, d)
		}
	}
}

// TestPolicyCatches shows each rule red, on objects that break it.
func TestPolicyCatches(t *testing.T) {
	t.Parallel()
	pod := func(o map[string]any) map[string]any {
		return o["spec"].(map[string]any)["template"].(map[string]any)["spec"].(map[string]any)
	}
	container := func(o map[string]any) map[string]any { return pod(o)["containers"].([]any)[0].(map[string]any) }
	inPod := func(value any, path ...string) func(map[string]any) {
		return func(o map[string]any) { put(pod(o), value, path...) }
	}
	in := func(value any, path ...string) func(map[string]any) {
		return func(o map[string]any) { put(container(o), value, path...) }
	}
	at := func(value any, path ...string) func(map[string]any) {
		return func(o map[string]any) { put(o, value, path...) }
	}
	ingest := "Deployment/flights/ingest"
	sound := render(t, values())
	for _, c := range []struct {
		object string
		change func(map[string]any)
		want   string
	}{
		{ingest, inPod(nil, "securityContext", "runAsNonRoot"), "runAsNonRoot"},
		{ingest, inPod(int64(0), "securityContext", "runAsUser"), "runAsUser"},
		{ingest, inPod("Unconfined", "securityContext", "seccompProfile", "type"), "seccomp"},
		{ingest, inPod([]any{map[string]any{"name": "kernel.x", "value": "1"}}, "securityContext", "sysctls"), "sysctls"},
		{ingest, inPod(true, "hostNetwork"), "host namespaces"},
		{ingest, inPod(true, "hostPID"), "host namespaces"},
		{ingest, inPod(nil, "automountServiceAccountToken"), "token mounted"},
		{ingest, inPod([]any{map[string]any{"name": "x"}}, "initContainers"), "containers that nothing checks here"},
		{ingest, inPod([]any{map[string]any{"name": "x", "hostPath": map[string]any{"path": "/"}}}, "volumes"), "volume x"},
		{ingest, in(true, "securityContext", "allowPrivilegeEscalation"), "allowPrivilegeEscalation"},
		{ingest, in(nil, "securityContext", "readOnlyRootFilesystem"), "readOnlyRootFilesystem"},
		{ingest, in([]any{"NET_RAW"}, "securityContext", "capabilities", "drop"), "capabilities"},
		{ingest, in([]any{"NET_BIND_SERVICE"}, "securityContext", "capabilities", "add"), "capabilities"},
		{ingest, in(true, "securityContext", "privileged"), "privileged"},
		{ingest, in(int64(0), "securityContext", "runAsUser"), "the container overrides the pod"},
		{ingest, in([]any{map[string]any{"containerPort": int64(1), "hostPort": int64(1)}}, "ports"), "hostPort"},
		{ingest, in("1Gi", "resources", "requests", "memory"), "memory requests are not its limits"},
		{ingest, in(nil, "resources", "requests", "cpu"), "no cpu request"},
		{ingest, in([]any{map[string]any{"name": "GOMEMLIMIT", "value": "512MiB"}}, "env"), "GOMEMLIMIT"},
		{ingest, in("latamctl:v1", "image"), "the image is not by digest"},
		{ingest, in(nil, "livenessProbe"), "liveness"},
		{ingest, in("/livez", "readinessProbe", "httpGet", "path"), "readiness"},
		{ingest, in(nil, "startupProbe"), "startup"},
		{ingest, inPod(int64(30), "terminationGracePeriodSeconds"), "grace period"},
		{ingest, in(nil, "lifecycle"), "grace period"},
		{ingest, at(int64(3), "spec", "replicas"), "replicas beside an autoscaler"},
		{ingest, at(int64(1), "spec", "strategy", "rollingUpdate", "maxUnavailable"), "a rollout takes pods away"},
		{ingest, at("other", "spec", "selector", "matchLabels", "app.kubernetes.io/name"), "the selector does not match"},
		{ingest, inPod([]any{}, "topologySpreadConstraints"), "spread"},
		{"PodDisruptionBudget/flights/ingest", at(int64(0), "spec", "minAvailable"), "budget"},
		{"PodDisruptionBudget/flights/ingest", at("x", "spec", "selector", "matchLabels", "app.kubernetes.io/name"), "budgets"},
		{"HorizontalPodAutoscaler/flights/ingest", at(int64(1), "spec", "minReplicas"), "fewer than 2 replicas"},
		{"HorizontalPodAutoscaler/flights/ingest", at([]any{}, "spec", "metrics"), "autoscaler targets"},
		{"HorizontalPodAutoscaler/flights/ingest", at(int64(0), "spec", "behavior", "scaleDown", "stabilizationWindowSeconds"), "no stabilization"},
		{"HorizontalPodAutoscaler/flights/ingest", at("x", "spec", "scaleTargetRef", "name"), "autoscalers"},
		{"Namespace/flights", at("baseline", "metadata", "labels", "pod-security.kubernetes.io/enforce"), "enforce is not restricted"},
		{"Namespace/flights", at(nil, "metadata", "labels", "pod-security.kubernetes.io/warn"), "warn is not restricted"},
		{"Namespace/flights", at(nil, "metadata", "labels", "pod-security.kubernetes.io/audit"), "audit is not restricted"},
		{"NetworkPolicy/flights/default-deny", at([]any{"Ingress"}, "spec", "policyTypes"), "nothing denies by default"},
		{"NetworkPolicy/flights/load-balancer", at([]any{map[string]any{}}, "spec", "ingress"), "network openings"},
		{"ServiceAccount/flights/serve", at(nil, "automountServiceAccountToken"), "the account mounts its token"},
	} {
		objects := maps.Clone(sound)
		objects[c.object] = sound[c.object].DeepCopy()
		c.change(objects[c.object].Object)
		got := breaches(t, objects)
		if !slices.ContainsFunc(got, func(s string) bool { return s == c.want || strings.HasSuffix(s, ": "+c.want) }) {
			t.Errorf("%s: %q, want %q", c.object, got, c.want)
		}
	}
}

// put sets a field, or removes it with nil.
func put(o map[string]any, value any, path ...string) {
	if value == nil {
		unstructured.RemoveNestedField(o, path...)
	} else if err := unstructured.SetNestedField(o, value, path...); err != nil {
		panic(err)
	}
}

// TestFieldsExist: each field of a built-in kind is one that Kubernetes knows.
func TestFieldsExist(t *testing.T) {
	t.Parallel()
	builtIn := 0
	for address, o := range render(t, values()) {
		if !scheme.Scheme.Recognizes(o.GroupVersionKind()) {
			continue
		}
		builtIn++
		if err := deploytest.Strict(o); err != nil {
			t.Errorf("%s: %v", address, err)
		}
	}
	if builtIn != 20 {
		t.Errorf("%d objects of built-in kinds", builtIn)
	}
	bad := render(t, values())["Deployment/flights/ingest"]
	put(bad.Object, true, "spec", "template", "spec", "runAsNonRoot")
	if err := deploytest.Strict(bad); err == nil || !strings.Contains(err.Error(), "spec.template.spec.runAsNonRoot") {
		t.Errorf("a field in the wrong place: %v", err)
	}
}

// TestGatewayObjects: the objects of Google's controllers have the fields that we know from its
// documentation, the names of the environment, and the port and path that answer.
func TestGatewayObjects(t *testing.T) {
	t.Parallel()
	objects := render(t, values())
	field := func(address string, path ...string) any {
		o := objects[address]
		if o == nil {
			t.Fatalf("no %s", address)
		}
		v, _, _ := unstructured.NestedFieldCopy(o.Object, path...)
		return v
	}
	target := func(group, kind, name string) map[string]any {
		return map[string]any{"group": group, "kind": kind, "name": name}
	}
	for _, c := range []struct {
		got, want any
	}{
		{field("Gateway/flights/api", "metadata", "annotations"), map[string]any{"networking.gke.io/certmap": "flights-api"}},
		{field("Gateway/flights/api", "spec"), map[string]any{
			"gatewayClassName": "gke-l7-global-external-managed",
			"addresses":        []any{map[string]any{"type": "NamedAddress", "value": "flights-api"}},
			"listeners": []any{map[string]any{
				"name": "https", "protocol": "HTTPS", "port": int64(443), "allowedRoutes": map[string]any{"namespaces": map[string]any{"from": "Same"}},
			}},
		}},
		{field("HTTPRoute/flights/api", "spec", "hostnames"), []any{"backend.flights.example.com"}},
		{field("GCPGatewayPolicy/flights/api", "spec"), map[string]any{
			"default": map[string]any{"sslPolicy": "flights-api"}, "targetRef": target("gateway.networking.k8s.io", "Gateway", "api"),
		}},
		{field("GCPBackendPolicy/flights/serve", "spec"), map[string]any{
			"default": map[string]any{
				"securityPolicy": "flights-api", "timeoutSec": int64(3600), "connectionDraining": map[string]any{"drainingTimeoutSec": int64(30)},
				"logging": map[string]any{"enabled": true, "sampleRate": int64(100000)},
			},
			"targetRef": target("", "Service", "serve"),
		}},
		{field("HealthCheckPolicy/flights/serve", "spec", "default", "config"), map[string]any{
			"type": "HTTP", "httpHealthCheck": map[string]any{"portSpecification": "USE_SERVING_PORT", "requestPath": "/healthz"},
		}},
		{field("ServiceAccount/flights/serve", "metadata", "annotations"), map[string]any{"iam.gke.io/gcp-service-account": "flights-serve@flights-prod-1.iam.gserviceaccount.com"}},
	} {
		if d := cmp.Diff(c.want, c.got); d != "" {
			t.Error(d)
		}
	}
	serve := typed[appsv1.Deployment](t, objects, "Deployment")["serve-blue"].Spec.Template.Spec.Containers[0]
	if !slices.Contains(serve.Args, "--behind-gateway") || !slices.Contains(serve.Args, "--http=:8080") {
		t.Errorf("serve is started with %q", serve.Args)
	}
	var settings map[string]string
	for name, m := range typed[corev1.ConfigMap](t, objects, "ConfigMap") {
		if strings.HasPrefix(name, "settings-") {
			settings = m.Data
		}
	}
	want := map[string]string{
		"LATAM_ENV": "prod", "LATAM_ENGINE": "gcp", "LATAM_PROJECT": "flights-prod-1", "LATAM_INSTANCE": "flights",
		"LATAM_GATEWAY_AUDIENCE": "https://backend.flights.example.com", "LATAM_GATEWAY_EMAIL": "flights-gateway@flights-prod-1.iam.gserviceaccount.com",
		"OTEL_EXPORTER_OTLP_ENDPOINT": "http://datadog.datadog:4318",
	}
	if d := cmp.Diff(want, settings); d != "" {
		t.Error(d)
	}
}

// TestExampleLeavesNothing: no value of the base's example is left in an environment with others.
func TestExampleLeavesNothing(t *testing.T) {
	t.Parallel()
	v := values()
	v.ScaleOnLag, v.Environment = true, "test"
	for address, o := range render(t, v) {
		text, err := o.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		for _, example := range []string{"my-project", "latam.example.com", "latam-api", `"namespace":"latam"`, `part-of":"latam"`, "latam-serve", "latam-ingest@", "latam:", "env:prod", strings.Repeat("0", 64)} {
			if strings.Contains(string(text), example) {
				t.Errorf("%s has %q", address, example)
			}
		}
		if o.GetLabels()["app.kubernetes.io/part-of"] != "flights" || o.GetLabels()["app.kubernetes.io/managed-by"] != "latamctl" {
			t.Errorf("%s has the labels %v", address, o.GetLabels())
		}
	}
}

// TestBaseStandsAlone: the base is valid without an overlay.
func TestBaseStandsAlone(t *testing.T) {
	t.Parallel()
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), filepath.Join("..", "..", "stacks", "apps", "kubernetes", "base"))
	if err != nil {
		t.Fatal(err)
	}
	byAddress := map[string]*unstructured.Unstructured{}
	for _, r := range resources.Resources() {
		text, err := r.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		o := &unstructured.Unstructured{}
		if err := o.UnmarshalJSON(text); err != nil {
			t.Fatal(err)
		}
		byAddress[o.GetKind()+"/"+o.GetName()] = o
	}
	if d := cmp.Diff([]string(nil), breaches(t, byAddress)); d != "" {
		t.Error(d)
	}
}

func TestValues(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		change func(*deploy.Values)
		want   string
	}{
		{func(v *deploy.Values) { v.Image = "" }, "image is not set: expected an image by digest"},
		{func(v *deploy.Values) { v.Image = "example.com/latamctl:v1" }, `image "example.com/latamctl:v1" is not an image by digest`},
		{func(v *deploy.Values) { v.Image = "x\n  evil: y@" + digest }, "image"},
		{func(v *deploy.Values) { v.BackendHost = "" }, "backend_host is not set: expected a DNS name"},
		{func(v *deploy.Values) { v.BackendHost = "https://x.example.com" }, "backend_host"},
		{func(v *deploy.Values) { v.Project = "P" }, "project"},
		{func(v *deploy.Values) { v.Name = "Flights" }, "name"},
		{func(v *deploy.Values) { v.Environment = "../prod" }, "environment"},
		{func(v *deploy.Values) { v.Declaration = nil }, "the declaration is empty"},
		{func(v *deploy.Values) { v.Live = "red" }, `live colour "red"`},
		{func(v *deploy.Values) { v.OTLPEndpoint = "datadog" }, "OTLP endpoint"},
	} {
		v := values()
		c.change(&v)
		if _, err := deploy.Render(base, v); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
		if _, err := deploy.New(deploy.Options{Base: base, Values: v}); err == nil {
			t.Errorf("New took values that break %q", c.want)
		}
	}
	v := values()
	v.Name, v.Project = "true", "example.com:my-project-1"
	objects := render(t, v)
	if got := objects["ServiceAccount/true/serve"].GetAnnotations()["iam.gke.io/gcp-service-account"]; got != "true-serve@my-project-1.example.com.iam.gserviceaccount.com" {
		t.Errorf("account %q", got)
	}
}
