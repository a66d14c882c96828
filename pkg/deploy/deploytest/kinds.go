package deploytest

import (
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// kind is one kind of objects that the server keeps.
type kind struct {
	gvk        schema.GroupVersionKind
	resource   string
	namespaced bool
}

func (k kind) groupResource() schema.GroupResource {
	return schema.GroupResource{Group: k.gvk.Group, Resource: k.resource}
}

func (k kind) key(namespace, name string) string {
	if !k.namespaced {
		namespace = ""
	}
	return k.gvk.Group + "/" + k.gvk.Kind + "/" + namespace + "/" + name
}

// kinds are those of a GKE cluster that matter here.
func kinds() []kind {
	var all []kind
	add := func(group, version string, names ...string) {
		for _, name := range names {
			resource := strings.ToLower(name) + "s"
			if strings.HasSuffix(name, "y") {
				resource = strings.TrimSuffix(strings.ToLower(name), "y") + "ies"
			}
			gvk := schema.GroupVersionKind{Group: group, Version: version, Kind: name}
			all = append(all, kind{gvk: gvk, resource: resource, namespaced: name != "Namespace"})
		}
	}
	add("", "v1", "Namespace", "ServiceAccount", "ConfigMap", "Secret", "Service", "Pod", "PersistentVolumeClaim", "Event")
	add("apps", "v1", "Deployment", "ReplicaSet", "StatefulSet", "DaemonSet")
	add("batch", "v1", "Job", "CronJob")
	add("autoscaling", "v2", "HorizontalPodAutoscaler")
	add("coordination.k8s.io", "v1", "Lease")
	add("discovery.k8s.io", "v1", "EndpointSlice")
	add("policy", "v1", "PodDisruptionBudget")
	add("networking.k8s.io", "v1", "NetworkPolicy")
	add("gateway.networking.k8s.io", "v1", "Gateway", "HTTPRoute")
	add("networking.gke.io", "v1", "GCPBackendPolicy", "GCPGatewayPolicy", "HealthCheckPolicy")
	add("datadoghq.com", "v1alpha1", "DatadogMetric")
	return all
}

func kindOf(gvk schema.GroupVersionKind) (kind, bool) {
	for _, k := range kinds() {
		if k.gvk == gvk {
			return k, true
		}
	}
	return kind{}, false
}

func kindAt(gv schema.GroupVersion, resource string) (kind, bool) {
	for _, k := range kinds() {
		if k.gvk.GroupVersion() == gv && k.resource == resource {
			return k, true
		}
	}
	return kind{}, false
}

// apiResources is what an API has.
func apiResources(gv schema.GroupVersion) (any, error) {
	list := metav1.APIResourceList{TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: gv.String()}
	for _, k := range kinds() {
		if k.gvk.GroupVersion() == gv {
			list.APIResources = append(list.APIResources, metav1.APIResource{Name: k.resource, Namespaced: k.namespaced, Kind: k.gvk.Kind})
		}
	}
	return list, nil
}

// path is where a request goes.
type path struct {
	gv                        schema.GroupVersion
	namespace, resource, name string
	sub                       string // such as log
}

// parsePath reads /api/v1/…, /apis/group/version/…, each with namespaces/NAME/ or without.
func parsePath(text string) (at path, ok bool) {
	parts := strings.Split(strings.Trim(text, "/"), "/")
	switch {
	case len(parts) >= 2 && parts[0] == "api":
		at.gv, parts = schema.GroupVersion{Version: parts[1]}, parts[2:]
	case len(parts) >= 3 && parts[0] == "apis":
		at.gv, parts = schema.GroupVersion{Group: parts[1], Version: parts[2]}, parts[3:]
	default:
		return at, false
	}
	if len(parts) >= 3 && parts[0] == "namespaces" {
		at.namespace, parts = parts[1], parts[2:]
	}
	if len(parts) > 0 {
		at.resource = parts[0]
	}
	if len(parts) > 1 {
		at.name = parts[1]
	}
	if len(parts) > 2 {
		at.sub = parts[2]
	}
	return at, len(parts) <= 3
}
