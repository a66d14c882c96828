package declare

import (
	"slices"

	"github.com/latamctl/latamctl/pkg/monitor/query"
)

// The types of monitors that something is known about.
const (
	typeQuery     = "query alert"
	typeCheck     = "service check"
	typeComposite = "composite"
	typeSLO       = "slo alert"
)

// compile makes the objects of the instances: SLOs with their alerts first, because what refers to
// them can only be checked then.
func (l *loader) compile() {
	for _, in := range l.order {
		if in.key.Kind == SLO && !in.bad {
			l.compileSLO(in)
		}
	}
	for _, in := range l.order {
		if in.key.Kind == Monitor && !in.bad {
			l.compileMonitor(in)
		}
	}
	for _, in := range l.order {
		if in.key.Kind == Dashboard && !in.bad {
			l.compileDashboard(in)
		}
	}
	l.compileMetrics()
}

// newObject enters the object of an instance.
func (l *loader) newObject(in *instance, key Key, payload map[string]any) *Object {
	o := &Object{Key: key, Payload: payload, Base: in.base, Dataset: in.dataset, File: in.file().path, At: in.at}
	if before := l.objects[key]; before != nil {
		in.definition.fault("rename one of them", "%s is made by %s:%d as well", key, before.File, before.At.Line)
		return o
	}
	l.objects[key] = o
	l.from[o] = in
	return o
}

// title is the name at Datadog: what is declared, behind the environment.
func (l *loader) title(text string) string { return "[" + l.Environment + "] " + text }

// name is the title of an object, without the environment if it is verbatim.
func (l *loader) name(in *instance) string {
	text := in.tree.get("title").text()
	if in.verbatim() {
		return text
	}
	return l.title(text)
}

// verbatim tells whether an object was made elsewhere, and is to stay as it is.
func (in *instance) verbatim() bool { return in.tree.get("verbatim").truth() }

func (l *loader) compileMonitor(in *instance) {
	tree := in.tree
	kind := tree.get("type").text()
	if kind == "" {
		kind = typeQuery
	}
	l.options(in)
	options := map[string]any{}
	for name, v := range in.options {
		options[name] = v.json()
	}
	for _, section := range []string{"thresholds", "threshold_windows"} {
		if v := tree.get(section); v != nil {
			options[section] = v.json()
		}
	}
	payload := map[string]any{
		"name": l.name(in), "type": kind, "options": options,
		"tags": l.ownTags(in),
	}
	if n, ok := tree.get("priority").number(); ok {
		payload["priority"] = n
	}
	in.object = l.newObject(in, in.key, payload)
	payload["query"] = l.query(in, kind)
	l.notify(in)
	payload["message"] = l.message(in)
}

// query reads the query and returns the text that is sent: the canonical one, with references resolved.
func (l *loader) query(in *instance, kind string) string {
	v := in.tree.get("query")
	text := l.resolveRefs(in, v, v.text())
	q, err := query.Parse(kind, text)
	if err != nil {
		v.fault("", "query%s: %v", in.where(), err)
		in.bad = true
		q = &query.Opaque{Text: text}
	}
	in.object.Query = q
	l.measures = append(l.measures, measure{q, v, in})
	return q.String()
}

// options joins the options of the profiles with those of the monitor.
func (l *loader) options(in *instance) {
	in.options = map[string]*value{}
	for _, name := range in.tree.get("profile").texts() {
		for key, v := range l.profile(name, name.text(), nil) {
			in.options[key] = v
		}
	}
	if own := in.tree.get("options"); own != nil {
		for _, e := range own.entries {
			in.options[e.key] = e.value
		}
	}
}

// profile returns the options of a profile, those of what it extends included. at is who asks for it.
func (l *loader) profile(at *value, name string, path []string) map[string]*value {
	p := l.profiles[name]
	if p == nil {
		at.fault(l.hint(name, "profiles", func() []string { return sortedKeys(l.profiles) }), "there is no profile %s", quote(name))
		return nil
	}
	if slices.Contains(path, name) {
		at.fault("remove one of them", "profile %s extends itself over others", name)
		return nil
	}
	if out, ok := l.profileOptions[name]; ok {
		return out
	}
	out := map[string]*value{}
	if base := p.tree.get("extends"); base != nil {
		for key, v := range l.profile(base, base.text(), append(path, name)) {
			out[key] = v
		}
	}
	fill := &filler{scope: l.top, where: " in profile " + name}
	for _, e := range p.tree.entries {
		if e.key == "extends" || e.value.isNull() {
			continue
		}
		if k := l.optionShape.key(e.key); k != nil {
			v := fill.fill(e.value)
			check := &checker{needs: true}
			if check.check(v, k.shape, e.key, " in profile "+name); !check.bad {
				out[e.key] = v
			}
		}
	}
	l.profileOptions[name] = out
	return out
}

// ownTags are the tags of an object. A verbatim one has those that it declares and no others.
func (l *loader) ownTags(in *instance) []any {
	declared := in.tree.get("tags")
	if !in.verbatim() {
		return l.tags(in, declared)
	}
	var all []string
	for _, tag := range declared.texts() {
		all = append(all, tag.text())
	}
	slices.Sort(all)
	return anys(slices.Compact(all))
}

// tags joins the tags of the file, of the object and of the environment, in order and each once.
func (l *loader) tags(in *instance, own *value, more ...string) []any {
	all := append([]string{"env:" + l.Environment}, in.file().tags...)
	for _, tag := range own.texts() {
		all = append(all, tag.text())
	}
	all = append(all, more...)
	slices.Sort(all)
	return anys(slices.Compact(all))
}

func anys(texts []string) []any {
	out := make([]any, len(texts))
	for i, t := range texts {
		out[i] = t
	}
	return out
}

// resolveRefs checks the references in a text and completes those to objects of the same for_each:
// in the round flights, a reference to stalled is one to stalled-flights unless there is a stalled.
func (l *loader) resolveRefs(in *instance, v *value, text string) string {
	return refText.ReplaceAllStringFunc(text, func(ref string) string {
		parts := refText.FindStringSubmatch(ref)
		key, ok := l.resolve(in, v, Kind(parts[1]), parts[2])
		if !ok {
			return ref
		}
		return "${ref:" + key.String() + "}"
	})
}

// resolve finds the object that a name means, and reports a name that means none.
func (l *loader) resolve(in *instance, v *value, kind Kind, name string) (Key, bool) {
	for _, candidate := range []string{name, name + "-" + in.each} {
		key := Key{kind, candidate}
		if l.instances[key] != nil || l.objects[key] != nil {
			return key, true
		}
	}
	hint := l.hint(name, string(kind)+"s", func() []string { return l.namesOf(kind) })
	if l.defs[Key{kind, name}] != nil {
		hint = "it is one for each of its for_each: add its key to the name, or it is not enabled"
	}
	in.bad = true
	v.fault(hint, "there is no %s %s, which%s names", kind, quote(name), in.where()[len(" in"):])
	return Key{}, false
}

// namesOf are the names of all objects of a kind.
func (l *loader) namesOf(kind Kind) []string {
	names := map[string]bool{}
	for key := range l.instances {
		if key.Kind == kind {
			names[key.Name] = true
		}
	}
	for key := range l.objects {
		if key.Kind == kind {
			names[key.Name] = true
		}
	}
	return sortedKeys(names)
}
