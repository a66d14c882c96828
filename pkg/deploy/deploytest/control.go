package deploytest

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// Run lets Deployments have pods from now on: at once, as a rolling update would end. starts tells
// whether the pods of an image get ready; those of the version before stay until they are.
func (s *Server) Run(starts func(deployment, image string) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.starts, s.minReady, s.controlled = starts, -1, -1
	s.control()
}

// MinReady is the smallest number of ready pods that the Service serve ever led to, since Run or the
// last call; -1 is that there was none to count.
func (s *Server) MinReady() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	least := s.minReady
	s.minReady, s.controlled = -1, -1
	s.control()
	return least
}

// control does what the controllers of a cluster do.
func (s *Server) control() {
	if s.starts == nil || s.controlled == s.version {
		return
	}
	defer func() { s.controlled = s.version }()
	for _, key := range s.keys() {
		if o := s.objects[key]; o.GetKind() == "Deployment" {
			s.autoscale(o)
			s.runPods(s.objects[key])
		}
	}
	for _, key := range s.keys() {
		if o := s.objects[key]; o.GetKind() == "Service" {
			s.endpoints(o)
		}
	}
}

// autoscale keeps the least number of pods where there are any.
func (s *Server) autoscale(d *unstructured.Unstructured) {
	scaler := s.objects["autoscaling/HorizontalPodAutoscaler/"+d.GetNamespace()+"/"+d.GetName()]
	if scaler == nil {
		return
	}
	least, _, _ := unstructured.NestedInt64(scaler.Object, "spec", "minReplicas")
	pods, _, _ := unstructured.NestedInt64(d.Object, "spec", "replicas")
	if pods == 0 || pods >= least {
		return
	}
	scaled := d.DeepCopy()
	_ = unstructured.SetNestedField(scaled.Object, least, "spec", "replicas") // It fails only when spec is no map.
	k, _ := kindOf(d.GroupVersionKind())
	if err := s.update(k, d, scaled, "kube-controller-manager", "scale"); err != nil {
		panic(err)
	}
}

// runPods makes the pods of a Deployment.
func (s *Server) runPods(d *unstructured.Unstructured) {
	template, _, _ := unstructured.NestedMap(d.Object, "spec", "template")
	containers, _, _ := unstructured.NestedSlice(template, "spec", "containers")
	image, _ := containers[0].(map[string]any)["image"].(string)
	want, _, _ := unstructured.NestedInt64(d.Object, "spec", "replicas")
	version := fmt.Sprintf("%x", sha256.Sum256(fmt.Append(nil, template)))[:8]
	old := map[string]bool{}
	for key, o := range s.objects {
		if o.GetKind() == "Pod" && o.GetNamespace() == d.GetNamespace() && strings.HasPrefix(o.GetName(), d.GetName()+"-") {
			if int64(len(old)) < want && !strings.HasPrefix(o.GetName(), d.GetName()+"-"+version) && isReady(o) {
				old[key] = true
				continue
			}
			if !strings.HasPrefix(o.GetName(), d.GetName()+"-"+version) || want == 0 {
				delete(s.objects, key)
			}
		}
	}
	starts, updated := s.starts(d.GetName(), image), want
	if starts {
		for key := range old {
			delete(s.objects, key)
		}
		old = nil
	} else if len(old) > 0 {
		updated = min(want, 1)
	}
	s.onlyPods(d, version, updated)
	for i := range updated {
		s.putPod(d, template, fmt.Sprintf("%s-%s-%d", d.GetName(), version, i), image, starts)
	}
	ready := int64(len(old))
	if starts {
		ready += updated
	}
	s.put(d, func(o map[string]any) {
		o["status"] = map[string]any{
			"observedGeneration": d.GetGeneration(), "replicas": updated + int64(len(old)), "updatedReplicas": updated, "readyReplicas": ready, "availableReplicas": ready,
		}
	})
}

// onlyPods removes pods of this version that are too many.
func (s *Server) onlyPods(d *unstructured.Unstructured, version string, want int64) {
	prefix := d.GetName() + "-" + version + "-"
	for key, o := range s.objects {
		if o.GetKind() != "Pod" || o.GetNamespace() != d.GetNamespace() || !strings.HasPrefix(o.GetName(), prefix) {
			continue
		}
		var i int64
		if _, err := fmt.Sscan(strings.TrimPrefix(o.GetName(), prefix), &i); err != nil || i >= want {
			delete(s.objects, key)
		}
	}
}

func (s *Server) putPod(d *unstructured.Unstructured, template map[string]any, name, image string, ready bool) {
	key := "/Pod/" + d.GetNamespace() + "/" + name
	if old := s.objects[key]; old != nil && isReady(old) == ready {
		return
	}
	labelsOf, _, _ := unstructured.NestedStringMap(template, "metadata", "labels")
	pod := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Pod", "spec": template["spec"]}}
	pod.SetName(name)
	pod.SetNamespace(d.GetNamespace())
	pod.SetLabels(labelsOf)
	status, state := "True", map[string]any{"running": map[string]any{}}
	if !ready {
		status, state = "False", map[string]any{"waiting": map[string]any{"reason": "CrashLoopBackOff", "message": "back-off restarting"}}
	}
	pod.Object["status"] = map[string]any{
		"phase": "Running", "conditions": []any{map[string]any{"type": "Ready", "status": status}},
		"containerStatuses": []any{map[string]any{"name": d.GetName(), "image": image, "ready": ready, "restartCount": int64(0), "state": state}},
	}
	s.put(pod, nil)
	event := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Event", "type": "Normal", "reason": "SuccessfulCreate", "message": "Created pod: " + name, "count": int64(1),
		"involvedObject": map[string]any{"kind": "Deployment", "name": d.GetName()},
	}}
	event.SetNamespace(d.GetNamespace())
	event.SetName(fmt.Sprintf("%s.%d", name, s.version))
	s.put(event, nil)
}

// put stores an object as a controller does: nobody's fields, and no new generation.
func (s *Server) put(o *unstructured.Unstructured, change func(map[string]any)) {
	k, _ := kindOf(o.GroupVersionKind())
	key := k.key(o.GetNamespace(), o.GetName())
	next := o.DeepCopy()
	if change != nil {
		change(next.Object)
	}
	if live := s.objects[key]; live != nil {
		next.SetResourceVersion(live.GetResourceVersion())
		if reflect.DeepEqual(live.Object, next.Object) {
			return
		}
	}
	s.version++
	if next.GetUID() == "" {
		next.SetUID(types.UID(fmt.Sprintf("uid-%d", s.version)))
	}
	next.SetResourceVersion(fmt.Sprint(s.version))
	s.objects[key] = next
}

func isReady(pod *unstructured.Unstructured) bool {
	conditions, _, _ := unstructured.NestedSlice(pod.Object, "status", "conditions")
	return slices.ContainsFunc(conditions, func(c any) bool {
		m, _ := c.(map[string]any)
		return m["type"] == "Ready" && m["status"] == "True"
	})
}

// endpoints lists the pods that a Service leads to.
func (s *Server) endpoints(service *unstructured.Unstructured) {
	selector, _, _ := unstructured.NestedStringMap(service.Object, "spec", "selector")
	var ready []any
	for _, key := range slices.Sorted(maps.Keys(s.objects)) {
		o := s.objects[key]
		if o.GetKind() == "Pod" && o.GetNamespace() == service.GetNamespace() && isReady(o) && labels.SelectorFromSet(selector).Matches(labels.Set(o.GetLabels())) {
			ready = append(ready, map[string]any{"conditions": map[string]any{"ready": true}, "targetRef": map[string]any{"kind": "Pod", "name": o.GetName()}})
		}
	}
	if service.GetName() == "serve" && (s.minReady < 0 || len(ready) < s.minReady) {
		s.minReady = len(ready)
	}
	slice := &unstructured.Unstructured{Object: map[string]any{"addressType": "IPv4", "endpoints": ready}}
	slice.SetGroupVersionKind(schema.GroupVersionKind{Group: "discovery.k8s.io", Version: "v1", Kind: "EndpointSlice"})
	slice.SetNamespace(service.GetNamespace())
	slice.SetName(service.GetName() + "-1")
	slice.SetLabels(map[string]string{"kubernetes.io/service-name": service.GetName()})
	if old := s.objects["discovery.k8s.io/EndpointSlice/"+service.GetNamespace()+"/"+slice.GetName()]; old != nil {
		slice.SetUID(old.GetUID())
	}
	s.put(slice, nil)
}
