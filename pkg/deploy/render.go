package deploy

import (
	"cmp"
	"fmt"
	"io/fs"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// Render returns the objects of an environment in the order in which they are applied. It touches
// no file and no network.
func Render(baseFS fs.FS, v Values) ([]*unstructured.Unstructured, error) {
	v = v.Defaults()
	files, err := Files(baseFS, v)
	if err != nil {
		return nil, err
	}
	memory := filesys.MakeFsInMemory()
	for _, f := range files {
		if err := memory.WriteFile("/"+f.Path, f.Data); err != nil {
			return nil, fmt.Errorf("render the Kubernetes objects: %s: %w", f.Path, err)
		}
	}
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(memory, "/"+overlayDir(v.Environment))
	if err != nil {
		return nil, fmt.Errorf("render the Kubernetes objects: %w", err)
	}
	var objects []*unstructured.Unstructured
	for _, r := range resources.Resources() {
		text, err := r.MarshalJSON()
		if err != nil {
			return nil, fmt.Errorf("render %s: %w", r.CurId(), err)
		}
		object := &unstructured.Unstructured{}
		if err := object.UnmarshalJSON(text); err != nil { // Its numbers are int64, as in answers of a cluster.
			return nil, fmt.Errorf("render %s: %w", r.CurId(), err)
		}
		objects = append(objects, object)
	}
	slices.SortStableFunc(objects, func(a, b *unstructured.Unstructured) int {
		return cmp.Or(cmp.Compare(rank(a.GetKind()), rank(b.GetKind())), cmp.Compare(address(a), address(b)))
	})
	return objects, nil
}

// rank orders kinds: what others refer to comes first.
func rank(kind string) int {
	order := []string{"Namespace", "ServiceAccount", "NetworkPolicy", "ConfigMap", "Secret", "Service", "Deployment",
		"PodDisruptionBudget", "DatadogMetric", "HorizontalPodAutoscaler", "GCPBackendPolicy", "HealthCheckPolicy", "Gateway", "GCPGatewayPolicy", "HTTPRoute"}
	if i := slices.Index(order, kind); i >= 0 {
		return i
	}
	return len(order)
}

// address names an object in plans and messages, such as Deployment/latam/serve-blue.
func address(o *unstructured.Unstructured) string {
	if ns := o.GetNamespace(); ns != "" {
		return o.GetKind() + "/" + ns + "/" + o.GetName()
	}
	return o.GetKind() + "/" + o.GetName()
}

// metricKind is what Datadog's Cluster Agent asks Datadog for, to tell autoscalers.
func metricKind() schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: "datadoghq.com", Version: "v1alpha1", Kind: "DatadogMetric"}
}

// ownKinds are the kinds that the base has, for finding objects that it no longer has.
func ownKinds() []schema.GroupVersionKind {
	kind := func(group, version, kind string) schema.GroupVersionKind {
		return schema.GroupVersionKind{Group: group, Version: version, Kind: kind}
	}
	return []schema.GroupVersionKind{
		kind("", "v1", "ServiceAccount"), kind("", "v1", "ConfigMap"), kind("", "v1", "Service"),
		kind("apps", "v1", "Deployment"), kind("autoscaling", "v2", "HorizontalPodAutoscaler"), kind("policy", "v1", "PodDisruptionBudget"),
		kind("networking.k8s.io", "v1", "NetworkPolicy"),
		kind("gateway.networking.k8s.io", "v1", "Gateway"), kind("gateway.networking.k8s.io", "v1", "HTTPRoute"),
		metricKind(),
		kind("networking.gke.io", "v1", "GCPBackendPolicy"), kind("networking.gke.io", "v1", "GCPGatewayPolicy"), kind("networking.gke.io", "v1", "HealthCheckPolicy"),
	}
}

// Text is objects as YAML documents, as `kubectl apply -f -` takes them.
func Text(objects []*unstructured.Unstructured) ([]byte, error) {
	var text []byte
	for _, o := range objects {
		document, err := yaml.Marshal(o.Object)
		if err != nil {
			return nil, fmt.Errorf("write %s: %w", address(o), err)
		}
		text = append(append(text, "---\n"...), document...)
	}
	return text, nil
}
