package deploytest

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/client-go/applyconfigurations"
	"k8s.io/client-go/kubernetes/scheme"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/structured-merge-diff/v6/typed"
)

// converter knows the built-in kinds by their schemas and deduces those of the others.
type converter struct{ known, deduced managedfields.TypeConverter }

func newConverter() converter {
	return converter{applyconfigurations.NewTypeConverter(scheme.Scheme), managedfields.NewDeducedTypeConverter()}
}

func (c converter) of(o runtime.Object) managedfields.TypeConverter {
	if scheme.Scheme.Recognizes(o.GetObjectKind().GroupVersionKind()) {
		return c.known
	}
	return c.deduced
}

func (c converter) ObjectToTyped(o runtime.Object, opts ...typed.ValidationOptions) (*typed.TypedValue, error) {
	return c.of(o).ObjectToTyped(o, opts...)
}

func (c converter) TypedToObject(v *typed.TypedValue) (runtime.Object, error) {
	return c.deduced.TypedToObject(v)
}

// unchanged stands for conversions and defaults: each kind has one version, and defaults are set
// where objects are stored.
type unchanged struct{}

func (unchanged) Convert(_, _, _ any) error { return errors.New("deploytest: no conversion") }
func (unchanged) ConvertToVersion(in runtime.Object, _ runtime.GroupVersioner) (runtime.Object, error) {
	return in, nil
}
func (unchanged) ConvertFieldLabel(_ schema.GroupVersionKind, label, value string) (string, string, error) {
	return label, value, nil
}
func (unchanged) Default(runtime.Object) {}
func (unchanged) New(gvk schema.GroupVersionKind) (runtime.Object, error) {
	o := &unstructured.Unstructured{}
	o.SetGroupVersionKind(gvk)
	return o, nil
}

func (s *Server) manager(k kind, subresource string) (*managedfields.FieldManager, error) {
	return managedfields.NewDefaultFieldManager(s.schema, unchanged{}, unchanged{}, unchanged{}, k.gvk, k.gvk.GroupVersion(), subresource, nil)
}

type applyOptions struct {
	manager               string
	force, dryRun, strict bool
}

// apply is server-side apply.
func (s *Server) apply(k kind, o *unstructured.Unstructured, opts applyOptions) (*unstructured.Unstructured, error) {
	if err := s.admit(k, o, opts.strict); err != nil {
		return nil, err
	}
	key := k.key(o.GetNamespace(), o.GetName())
	live := s.objects[key]
	if given := o.GetResourceVersion(); given != "" && (live == nil || live.GetResourceVersion() != given) {
		return nil, apierrors.NewConflict(k.groupResource(), o.GetName(), errors.New("the object has been modified; please apply your changes to the latest version and try again"))
	}
	if uid := o.GetUID(); uid != "" && (live == nil || live.GetUID() != uid) {
		return nil, apierrors.NewConflict(k.groupResource(), o.GetName(), errors.New("uid mismatch"))
	}
	base := live
	if base == nil {
		base = &unstructured.Unstructured{}
		base.SetGroupVersionKind(k.gvk)
		base.SetName(o.GetName())
		base.SetNamespace(o.GetNamespace())
	}
	fields, err := s.manager(k, "")
	if err != nil {
		return nil, err
	}
	merged, err := fields.Apply(base.DeepCopy(), o, opts.manager, opts.force)
	if err != nil {
		return nil, err
	}
	result, ok := merged.(*unstructured.Unstructured)
	if !ok {
		return nil, fmt.Errorf("applied object is a %T", merged)
	}
	return s.store(k, live, result, opts.dryRun), nil
}

// update is a whole object sent by somebody else.
func (s *Server) update(k kind, live, o *unstructured.Unstructured, manager, subresource string) error {
	if err := s.admit(k, o, true); err != nil {
		return err
	}
	fields, err := s.manager(k, subresource)
	if err != nil {
		return err
	}
	base := live
	if base == nil {
		base = &unstructured.Unstructured{}
		base.SetGroupVersionKind(k.gvk)
	}
	defaults(o)
	result, err := fields.Update(base.DeepCopy(), o, manager)
	if err != nil {
		return err
	}
	s.store(k, live, result.(*unstructured.Unstructured), false)
	return nil
}

// store keeps an object with what the server sets itself. One that is the same stays as it is.
func (s *Server) store(k kind, live, o *unstructured.Unstructured, dryRun bool) *unstructured.Unstructured {
	defaults(o)
	if live != nil && same(live, o) {
		return live.DeepCopy()
	}
	version := s.version + 1
	if live == nil {
		o.SetUID(types.UID(fmt.Sprintf("uid-%d", version)))
		o.SetCreationTimestamp(metav1.Now())
		o.SetGeneration(1)
	} else {
		o.SetUID(live.GetUID())
		o.SetCreationTimestamp(live.GetCreationTimestamp())
		o.SetGeneration(live.GetGeneration())
		if !reflect.DeepEqual(live.Object["spec"], o.Object["spec"]) {
			o.SetGeneration(live.GetGeneration() + 1)
		}
	}
	o.SetResourceVersion(fmt.Sprint(version))
	if !dryRun {
		s.version = version
		s.objects[k.key(o.GetNamespace(), o.GetName())] = o.DeepCopy()
	}
	return o
}

// same compares without the times of managed fields.
func same(a, b *unstructured.Unstructured) bool {
	plain := func(o *unstructured.Unstructured) string {
		o = o.DeepCopy()
		fields := o.GetManagedFields()
		for i := range fields {
			fields[i].Time = nil
		}
		o.SetManagedFields(fields)
		o.SetResourceVersion("")
		text, _ := json.Marshal(o)
		return string(text)
	}
	return plain(a) == plain(b)
}

// admit refuses what a real server refuses: a namespace that is missing, and fields that a built-in
// kind does not have.
func (s *Server) admit(k kind, o *unstructured.Unstructured, strict bool) error {
	if o.GroupVersionKind() != k.gvk || o.GetName() == "" {
		return apierrors.NewBadRequest(fmt.Sprintf("the object is a %s named %q", o.GroupVersionKind(), o.GetName()))
	}
	if ns := o.GetNamespace(); k.namespaced && s.objects["/Namespace//"+ns] == nil {
		return apierrors.NewNotFound(schema.GroupResource{Resource: "namespaces"}, ns)
	}
	if !strict || !scheme.Scheme.Recognizes(k.gvk) {
		return nil
	}
	return Strict(o)
}

// Strict refuses an object of a built-in kind that has fields which the kind does not have, or values
// of another type.
func Strict(o *unstructured.Unstructured) error {
	into, err := scheme.Scheme.New(o.GroupVersionKind())
	if err != nil {
		return apierrors.NewBadRequest(err.Error())
	}
	text, err := json.Marshal(o)
	if err != nil {
		return apierrors.NewBadRequest(err.Error())
	}
	unknown, err := kjson.UnmarshalStrict(text, into)
	if err != nil || len(unknown) > 0 {
		return apierrors.NewBadRequest(fmt.Sprintf("strict decoding error: %v", errors.Join(append(unknown, err)...)))
	}
	return nil
}

// defaults sets some of the fields that a real server sets, because they make plans lie when they
// are compared with manifests instead of a dry run.
func defaults(o *unstructured.Unstructured) {
	set := func(value any, path ...string) {
		if _, found, _ := unstructured.NestedFieldNoCopy(o.Object, path...); !found {
			_ = unstructured.SetNestedField(o.Object, value, path...)
		}
	}
	switch o.GetKind() {
	case "Deployment":
		set(int64(1), "spec", "replicas")
		set("Always", "spec", "template", "spec", "restartPolicy")
		set("default-scheduler", "spec", "template", "spec", "schedulerName")
		set("ClusterFirst", "spec", "template", "spec", "dnsPolicy")
	case "Service":
		set("10.24.0.10", "spec", "clusterIP")
		set("None", "spec", "sessionAffinity")
		set(map[string]any{"loadBalancer": map[string]any{}}, "status")
	case "Namespace":
		set(map[string]any{"phase": "Active"}, "status")
	}
}
