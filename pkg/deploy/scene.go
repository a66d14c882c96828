package deploy

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// part is one Deployment as a release sees it.
type part struct {
	name, container string
	colour          string // "" for ingest
	uid             types.UID
	image           string // what its pods run, or would
	declared        string // what the last release wrote down
	served          string // with which it was live last
	wanted, ready   int64
	least           int64 // that its autoscaler keeps
}

// scene is what runs in the cluster.
type scene struct {
	live, idle, ingest *part
}

// MissingError says which objects a release needs and does not find. Nothing was changed.
type MissingError struct{ Addresses []string }

func (e *MissingError) Error() string {
	return "these objects are not in the cluster yet: " + strings.Join(e.Addresses, ", ")
}

func deploymentKind() schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "Deployment"}
}

func serviceKind() schema.GroupVersionKind {
	return schema.GroupVersionKind{Version: "v1", Kind: "Service"}
}

func (r *release) namespace() string { return r.m.opts.Values.Name }

// look reads what runs and which colour is live.
func (r *release) look(ctx context.Context) (*scene, error) {
	ns := r.namespace()
	service, err := r.c.get(ctx, serviceKind(), ns, "serve")
	if err != nil {
		return nil, err
	}
	missing := &MissingError{}
	if service == nil {
		missing.Addresses = append(missing.Addresses, "Service/"+ns+"/serve")
	}
	parts := map[string]*part{}
	for _, name := range []string{serve(Blue), serve(Green), ingestName} {
		p, err := r.part(ctx, name)
		if err != nil {
			return nil, err
		}
		if p == nil {
			missing.Addresses = append(missing.Addresses, "Deployment/"+ns+"/"+name)
		}
		parts[name] = p
	}
	if len(missing.Addresses) > 0 {
		return nil, fmt.Errorf("release: %w", missing)
	}
	live, _, _ := unstructured.NestedString(service.Object, "spec", "selector", labelColour)
	if live != Blue && live != Green {
		return nil, fmt.Errorf("read which colour is live: Service/%s/serve selects %s=%q, want %s or %s", ns, labelColour, live, Blue, Green)
	}
	return &scene{live: parts[serve(live)], idle: parts[serve(otherColour(live))], ingest: parts[ingestName]}, nil
}

// part reads one Deployment; nil is that there is none of ours.
func (r *release) part(ctx context.Context, name string) (*part, error) {
	o, err := r.c.get(ctx, deploymentKind(), r.namespace(), name)
	if err != nil || o == nil {
		return nil, err
	}
	if !r.m.ours(o) {
		return nil, &ForeignError{Addresses: []string{address(o)}}
	}
	p := &part{
		name: name, container: ingestName, uid: o.GetUID(),
		declared: o.GetAnnotations()[annotationImage], served: o.GetAnnotations()[annotationServed],
	}
	if colour, isServe := strings.CutPrefix(name, "serve-"); isServe {
		p.container, p.colour = "serve", colour
	}
	containers, _, _ := unstructured.NestedSlice(o.Object, "spec", "template", "spec", "containers")
	for _, c := range containers {
		if nameOf(c) == p.container {
			p.image, _ = c.(map[string]any)["image"].(string)
		}
	}
	p.wanted, _, _ = unstructured.NestedInt64(o.Object, "spec", "replicas")
	p.ready, _, _ = unstructured.NestedInt64(o.Object, "status", "readyReplicas")
	scaler, err := r.c.get(ctx, schema.GroupVersionKind{Group: "autoscaling", Version: "v2", Kind: "HorizontalPodAutoscaler"}, r.namespace(), name)
	if err != nil {
		return nil, err
	}
	if scaler != nil {
		p.least, _, _ = unstructured.NestedInt64(scaler.Object, "spec", "minReplicas")
	}
	return p, nil
}

// put gives a Deployment an image, and writes down that a release did, and with what it was live.
func (r *release) put(ctx context.Context, p *part, image, served string) error {
	if p.image == image && p.declared == image && p.served == served {
		return nil
	}
	notes := map[string]any{annotationImage: image}
	if served != "" {
		notes[annotationServed] = served
	}
	o := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apps/v1", "kind": "Deployment",
		// The uid makes an object that is gone by now an error, where a new one would be half of one.
		"metadata": map[string]any{"name": p.name, "namespace": r.namespace(), "uid": string(p.uid), "annotations": notes},
		"spec": map[string]any{"template": map[string]any{"spec": map[string]any{"containers": []any{
			map[string]any{"name": p.container, "image": image},
		}}}},
	}}
	if _, err := r.c.applyAs(ctx, releaser, o, false, true); err != nil {
		return err
	}
	p.image, p.declared, p.served, r.out.Changed = image, image, served, true
	return nil
}

// scale sets the number of pods. It is a plain change: a number that were declared would have to be
// repeated for ever, against the autoscaler.
func (r *release) scale(ctx context.Context, p *part, pods int64) error {
	body := map[string]any{"metadata": map[string]any{"uid": string(p.uid)}, "spec": map[string]any{"replicas": pods}}
	if err := r.c.merge(ctx, deploymentKind(), r.namespace(), p.name, body); err != nil {
		return err
	}
	p.wanted, r.out.Changed = pods, true
	return nil
}

// switchTo makes a colour live, from exactly the state that was looked at.
func (r *release) switchTo(ctx context.Context, colour string) error {
	for attempt := 1; ; attempt++ {
		err := r.trySwitch(ctx, colour)
		if err == nil {
			return r.endpoints(ctx, colour)
		}
		if !apierrors.IsConflict(err) || attempt == attempts {
			return err
		}
	}
}

func (r *release) trySwitch(ctx context.Context, colour string) error {
	p, err := r.part(ctx, serve(colour))
	switch {
	case err != nil:
		return err
	case p == nil || p.ready == 0:
		return fmt.Errorf("no pod of %s is ready, so that requests stay where they are", serve(colour))
	}
	service, err := r.c.get(ctx, serviceKind(), r.namespace(), "serve")
	if err != nil {
		return err
	}
	if service == nil {
		return errors.New("the Service serve is gone")
	}
	selector, _, _ := unstructured.NestedStringMap(service.Object, "spec", "selector")
	if selector[labelColour] == colour {
		return nil
	}
	next := map[string]any{}
	for key, value := range selector {
		next[key] = value
	}
	next[labelColour] = colour
	o := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Service",
		"metadata": map[string]any{"name": "serve", "namespace": r.namespace(), "resourceVersion": service.GetResourceVersion()},
		"spec":     map[string]any{"selector": next},
	}}
	if _, err := r.c.applyAs(ctx, releaser, o, false, true); err != nil {
		return err
	}
	r.out.Live, r.out.Switched, r.out.Changed, r.switched = colour, true, true, time.Now()
	r.say("the Service sends requests to %s", colour)
	return nil
}

// merge changes some fields of an object as a plain edit.
func (c *client) merge(ctx context.Context, gvk schema.GroupVersionKind, namespace, name string, fields map[string]any) error {
	in, err := c.on(ctx, gvk, namespace)
	if err != nil {
		return err
	}
	data := []byte(text(fields))
	return c.try(ctx, "change "+gvk.Kind+"/"+namespace+"/"+name, func(ctx context.Context) error {
		_, err := in.Patch(ctx, name, types.MergePatchType, data, metav1.PatchOptions{FieldManager: releaser, FieldValidation: metav1.FieldValidationStrict})
		return err
	})
}
