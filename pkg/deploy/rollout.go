package deploy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// until looks again and again until it is done, or the time is over. seen is what the last look saw.
func (r *release) until(ctx context.Context, limit time.Duration, what string, look func(context.Context) (done bool, seen string, err error)) error {
	start, last := time.Now(), ""
	for {
		done, seen, err := look(ctx)
		if err != nil {
			return err
		}
		if seen != last && seen != "" {
			r.say("%s", seen)
			last = seen
		}
		switch {
		case done:
			return nil
		case time.Since(start) > limit:
			return fmt.Errorf("%s: not after %s: %s", what, limit, last)
		}
		if err := pause(ctx, r.o.Poll); err != nil {
			return err
		}
	}
}

// rollout waits until all pods of a Deployment are of its last version, and ready.
func (r *release) rollout(ctx context.Context, name string) error {
	return r.until(ctx, r.o.RolloutTimeout, "wait for the pods of "+name, func(ctx context.Context) (bool, string, error) {
		if err := r.showEvents(ctx, name); err != nil {
			return false, "", err
		}
		o, err := r.c.get(ctx, deploymentKind(), r.namespace(), name)
		switch {
		case err != nil:
			return false, "", err
		case o == nil:
			return false, "", fmt.Errorf("the Deployment %s is gone", name)
		}
		return rolled(o)
	})
}

// rolled tells whether a Deployment has what it is asked for.
func rolled(o *unstructured.Unstructured) (done bool, seen string, err error) {
	number := func(path ...string) int64 {
		n, _, _ := unstructured.NestedInt64(o.Object, path...)
		return n
	}
	if number("status", "observedGeneration") < o.GetGeneration() {
		return false, "", nil
	}
	want, all, updated, ready := number("spec", "replicas"), number("status", "replicas"), number("status", "updatedReplicas"), number("status", "readyReplicas")
	seen = fmt.Sprintf("%s: %d of %d pods are ready", o.GetName(), min(ready, updated), want)
	if all > updated {
		seen += fmt.Sprintf(", %d of the version before are left", all-updated)
	}
	for _, c := range conditions(o) {
		if c.kind == "Progressing" && c.status == "False" {
			return false, seen, fmt.Errorf("the pods of %s do not get ready (%d of %d are): %s", o.GetName(), min(ready, updated), want, cmp.Or(c.message, c.reason))
		}
	}
	return updated >= want && all == updated && ready >= want && number("status", "availableReplicas") >= want, seen, nil
}

type condition struct{ kind, status, reason, message string }

func conditions(o *unstructured.Unstructured) []condition {
	list, _, _ := unstructured.NestedSlice(o.Object, "status", "conditions")
	var all []condition
	for _, item := range list {
		m, _ := item.(map[string]any)
		get := func(key string) string { s, _ := m[key].(string); return s }
		all = append(all, condition{get("type"), get("status"), get("reason"), get("message")})
	}
	return all
}

// endpoints waits until the Service leads to ready pods of a colour and to no others.
func (r *release) endpoints(ctx context.Context, colour string) error {
	return r.until(ctx, r.o.RolloutTimeout, "wait until the Service leads to "+colour, func(ctx context.Context) (bool, string, error) {
		pods, err := r.targets(ctx)
		if err != nil {
			return false, "", err
		}
		others := slices.DeleteFunc(slices.Clone(pods), func(pod string) bool { return strings.HasPrefix(pod, serve(colour)+"-") })
		return len(pods) > 0 && len(others) == 0, fmt.Sprintf("the Service leads to %d pods of %s and %d others", len(pods)-len(others), colour, len(others)), nil
	})
}

// targets are the ready pods that the Service leads to.
func (r *release) targets(ctx context.Context) ([]string, error) {
	slicesKind := schema.GroupVersionKind{Group: "discovery.k8s.io", Version: "v1", Kind: "EndpointSlice"}
	items, err := r.c.list(ctx, slicesKind, r.namespace(), "kubernetes.io/service-name=serve")
	if err != nil {
		return nil, err
	}
	var pods []string
	for i := range items {
		endpoints, _, _ := unstructured.NestedSlice(items[i].Object, "endpoints")
		for _, item := range endpoints {
			e, _ := item.(map[string]any)
			if ready, _, _ := unstructured.NestedBool(e, "conditions", "ready"); ready {
				pod, _, _ := unstructured.NestedString(e, "targetRef", "name")
				pods = append(pods, pod)
			}
		}
	}
	slices.Sort(pods)
	return pods, nil
}

func podKind() schema.GroupVersionKind {
	return schema.GroupVersionKind{Version: "v1", Kind: "Pod"}
}

// pods lists the pods of a Deployment, by name.
func (r *release) pods(ctx context.Context, name string) ([]unstructured.Unstructured, error) {
	selector := r.m.selector() + ",app.kubernetes.io/name=" + ingestName
	if colour, isServe := strings.CutPrefix(name, "serve-"); isServe {
		selector = r.m.selector() + ",app.kubernetes.io/name=serve," + labelColour + "=" + colour
	}
	items, err := r.c.list(ctx, podKind(), r.namespace(), selector)
	slices.SortFunc(items, func(a, b unstructured.Unstructured) int { return compareText(a.GetName(), b.GetName()) })
	return items, err
}

func podReady(pod *unstructured.Unstructured) bool {
	return pod.GetDeletionTimestamp() == nil && slices.ContainsFunc(conditions(pod), func(c condition) bool { return c.kind == "Ready" && c.status == "True" })
}

// readyPod finds a pod of a colour that answers.
func (r *release) readyPod(ctx context.Context, colour string) (string, error) {
	pods, err := r.pods(ctx, serve(colour))
	if err != nil {
		return "", err
	}
	for i := range pods {
		if podReady(&pods[i]) {
			return pods[i].GetName(), nil
		}
	}
	return "", fmt.Errorf("no pod of %s is ready any more", serve(colour))
}

// verifyLive verifies a pod that the Service leads to.
func (r *release) verifyLive(ctx context.Context, colour string) error {
	if err := r.endpoints(ctx, colour); err != nil {
		return err
	}
	pods, err := r.targets(ctx)
	if err != nil {
		return err
	}
	if len(pods) == 0 {
		return errors.New("the Service leads to no ready pod")
	}
	return r.verify(ctx, pods[0])
}

// verify proves that the API of a pod works.
func (r *release) verify(ctx context.Context, pod string) error {
	if r.o.Verify == nil {
		return nil
	}
	base, closeForward, err := r.o.Forward(ctx, pod)
	if err != nil {
		return fmt.Errorf("reach pod %s: %w", pod, err)
	}
	defer closeForward()
	if err := r.o.Verify(ctx, base); err != nil {
		return &VerifyError{Pod: pod, Err: err}
	}
	r.say("pod %s does what it should", pod)
	return nil
}

// VerifyError says that an API does not work although its pod is ready.
type VerifyError struct {
	Pod string
	Err error
}

func (e *VerifyError) Error() string {
	return fmt.Sprintf("pod %s is ready and does not work: %v", e.Pod, e.Err)
}
func (e *VerifyError) Unwrap() error { return e.Err }
