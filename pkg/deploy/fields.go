package deploy

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/latamctl/latamctl/pkg/plan"
)

func compareText(a, b string) int { return strings.Compare(a, b) }

// settleReplicas decides who counts the pods of a Deployment that has an autoscaler. The colour that
// is not live was made with none, and while nobody else has changed that number it is still ours: it
// has to be sent as it is, because a field that we own and leave out is reset. In all other cases
// the number belongs to the autoscaler, or to whoever changed it, and is left out.
func settleReplicas(o, live *unstructured.Unstructured) {
	_, rendered, _ := unstructured.NestedFieldNoCopy(o.Object, "spec", "replicas")
	count, has, _ := unstructured.NestedInt64(live.Object, "spec", "replicas")
	if rendered && has && owns(live, "f:spec", "f:replicas") {
		_ = unstructured.SetNestedField(o.Object, count, "spec", "replicas") // It fails only when spec is no map.
		return
	}
	unstructured.RemoveNestedField(o.Object, "spec", "replicas")
}

// annotationImage is the image that a release gave a Deployment. From then on it is the declared one.
const annotationImage = "latamctl/image"

// settleImage keeps the image that a release put in. Until the first release it is the environment's.
func (p *planner) settleImage(o, live *unstructured.Unstructured) {
	image, declared := live.GetAnnotations()[annotationImage], p.m.opts.Values.Image
	if !imageForm.MatchString(image) || image == declared {
		return
	}
	containers, _, _ := unstructured.NestedSlice(o.Object, "spec", "template", "spec", "containers")
	for _, c := range containers {
		if c, ok := c.(map[string]any); ok && c["image"] == declared {
			c["image"] = image
		}
	}
	_ = unstructured.SetNestedSlice(o.Object, containers, "spec", "template", "spec", "containers") // It fails only when spec is no map.
	if o.GetName() == serve(otherColour(p.live)) {                                                  // It has the release before, as it should.
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !slices.Contains(p.released[image], o.GetName()) {
		p.released[image] = append(p.released[image], o.GetName())
	}
}

// releasedNote says which images stay although another one is declared.
func (p *planner) releasedNote() string {
	var parts []string
	for _, image := range slices.Sorted(maps.Keys(p.released)) {
		names := p.released[image]
		slices.Sort(names)
		_, digest, _ := strings.Cut(image, "@")
		parts = append(parts, strings.Join(names, ", ")+" keeps the released image @"+digest)
	}
	if len(parts) == 0 {
		return ""
	}
	return strings.Join(parts, "; ") + ", not the declared one: latamctl deploy changes it"
}

// owns tells whether the last value of a field is the one that we applied.
func owns(live *unstructured.Unstructured, path ...string) bool {
	for _, entry := range live.GetManagedFields() {
		if entry.Manager != manager || entry.Operation != metav1.ManagedFieldsOperationApply || entry.Subresource != "" || entry.FieldsV1 == nil {
			continue
		}
		var fields map[string]any
		if json.Unmarshal(entry.FieldsV1.GetRawBytes(), &fields) != nil {
			continue
		}
		if _, found, _ := unstructured.NestedFieldNoCopy(fields, path...); found {
			return true
		}
	}
	return false
}

// declaredElsewhere are the conflicts with a program that declares the field as we do: taking it
// would last until that program runs again. The rest are edits.
func declaredElsewhere(conflicts []Conflict, live *unstructured.Unstructured) []Conflict {
	declarers := []string{"kubectl-client-side-apply", "argocd-controller", "argocd-application-controller", "helm", "Helm", "terraform", "Terraform"}
	for _, entry := range live.GetManagedFields() {
		if entry.Operation == metav1.ManagedFieldsOperationApply {
			declarers = append(declarers, entry.Manager)
		}
	}
	return slices.DeleteFunc(slices.Clone(conflicts), func(c Conflict) bool { return !slices.Contains(declarers, c.Manager) })
}

func managersOf(conflicts []Conflict) string {
	var names []string
	for _, c := range conflicts {
		names = append(names, c.Manager)
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), ", ")
}

// maxShown is how much of a value a plan shows.
const maxShown = 200

// diff lists how an object would differ afterwards, by the fields that somebody declares.
func diff(before, after *unstructured.Unstructured) []plan.Attribute {
	d := differ{secret: before.GetKind() == "Secret"}
	d.walk("", plain(before), plain(after))
	return d.found
}

// plain is an object without what the cluster keeps about it.
func plain(o *unstructured.Unstructured) any {
	o = o.DeepCopy()
	for _, field := range []string{"managedFields", "resourceVersion", "generation", "uid", "creationTimestamp", "selfLink"} {
		unstructured.RemoveNestedField(o.Object, "metadata", field)
	}
	delete(o.Object, "status")
	return o.Object
}

type differ struct {
	secret bool
	found  []plan.Attribute
}

func (d *differ) walk(path string, before, after any) {
	if left, ok := before.(map[string]any); ok {
		if right, ok := after.(map[string]any); ok {
			d.maps(path, left, right)
			return
		}
	}
	if left, ok := before.([]any); ok {
		if right, ok := after.([]any); ok {
			d.lists(path, left, right)
			return
		}
	}
	if text(before) == text(after) {
		return
	}
	a := plan.Attribute{Path: path, Before: text(before), After: text(after)}
	if d.secret && !strings.HasPrefix(path, "metadata.labels") {
		a = plan.Attribute{Path: path, Sensitive: true}
	}
	a.Before, a.After = short(a.Before), short(a.After)
	d.found = append(d.found, a)
}

func (d *differ) maps(path string, before, after map[string]any) {
	var keys []string
	for key := range before {
		keys = append(keys, key)
	}
	for key := range after {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range slices.Compact(keys) {
		at := key
		if strings.ContainsAny(key, "./") {
			at = strconv.Quote(key)
		}
		if path != "" {
			at = path + "." + at
		}
		d.walk(at, before[key], after[key])
	}
}

// lists compares elements of the same name where they have names, and of the same place elsewhere.
func (d *differ) lists(path string, before, after []any) {
	left, named := byName(before)
	right, alsoNamed := byName(after)
	if named && alsoNamed {
		var names []string
		for _, item := range slices.Concat(before, after) {
			if name := nameOf(item); !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
		for _, name := range names {
			d.walk(path+"["+name+"]", left[name], right[name])
		}
		return
	}
	at := func(list []any, i int) any {
		if i < len(list) {
			return list[i]
		}
		return nil
	}
	for i := range max(len(before), len(after)) {
		d.walk(fmt.Sprintf("%s[%d]", path, i), at(before, i), at(after, i))
	}
}

func nameOf(item any) string {
	m, _ := item.(map[string]any)
	name, _ := m["name"].(string)
	return name
}

// byName indexes a list whose elements all have names of their own.
func byName(list []any) (map[string]any, bool) {
	index := map[string]any{}
	for _, item := range list {
		index[nameOf(item)] = item
	}
	_, nameless := index[""]
	return index, !nameless && len(index) == len(list)
}

// text is a value as a plan shows it; "" is none.
func text(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	}
	encoded, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(encoded)
}

func short(s string) string {
	if len(s) <= maxShown {
		return s
	}
	return strings.ToValidUTF8(s[:maxShown], "") + "…"
}
