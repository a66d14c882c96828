package declare

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/strictyaml"
)

// definition is an object as it is declared, before for_each.
type definition struct {
	key  Key
	base string // the name of its runbook
	at   strictyaml.Place
	tree *value
	own  bool
	// replaced is the built-in definition whose place it takes, for extends.
	replaced *definition
	// merged is the tree with what it extends; nil until it is needed.
	merged  *value
	merging bool
	failed  bool // what it extends is at fault and reported
}

func (d *definition) where() string { return fmt.Sprintf(" in %s %s", d.key.Kind, d.key.Name) }

// instance is an object that is made: a definition for one key of its for_each.
type instance struct {
	*definition
	key     Key
	each    string // the key of for_each
	dataset string
	tree    *value
	bad     bool // at fault and reported
	// options has the options of a monitor with the places where they stand, profiles included.
	options map[string]*value
	object  *Object
}

func (d *definition) file() *file { return d.tree.file }

// fault reports a fault of the object as a whole, at its name.
func (d *definition) fault(hint, format string, args ...any) {
	d.file().fault(d.at, hint, format+"%s", append(args, d.where())...)
}

// define enters a definition under its name.
func (l *loader) define(d *definition) {
	if d.tree.kind != strictyaml.Map {
		return // at fault and reported
	}
	before := l.defs[d.key]
	switch {
	case before == nil:
	case before.own == d.own:
		d.file().fault(d.at, "rename one of them", "the %s %s stands in %s:%d already", d.key.Kind, d.key.Name, before.file().path, before.at.Line)
		return
	case before.own:
		before.replaced = d
		return
	default:
		d.replaced = before
	}
	l.defs[d.key] = d
}

// useTemplates defines the objects of the templates in use.
func (l *loader) useTemplates() {
	for _, name := range sortedKeys(l.uses) {
		use := l.uses[name]
		if use.tree.kind != strictyaml.Map {
			continue
		}
		where := " in use " + name
		template := use.tree.get("template")
		if template == nil || template.text() == "" {
			use.tree.file.fault(use.at, "name one of the templates", "the key \"template\" is missing%s", where)
			continue
		}
		t := l.templates[template.text()]
		if t == nil {
			names := func() []string { return sortedKeys(l.templates) }
			template.fault(l.hint(template.text(), "templates", names), "there is no template %s", strictyaml.Quote(template.text()))
			continue
		}
		params := l.params(use, t, where)
		for _, section := range []string{"monitors", "slos"} {
			objects := t.tree.get(section)
			if objects == nil || objects.kind != strictyaml.Map {
				continue
			}
			for _, e := range objects.entries {
				if !l.room(e.value.file, e.at) {
					return
				}
				fill := &filler{scope: params, where: fmt.Sprintf(" in template %s", t.name), partial: true}
				l.define(&definition{
					key: Key{sections()[section], name + "-" + e.key}, base: t.name + "-" + e.key, at: e.at, tree: fill.fill(e.value),
					own: use.tree.file.own || t.tree.file.own,
				})
			}
		}
	}
}

// params are what a use gives to its template, over the defaults.
func (l *loader) params(use, template *named, where string) *scope {
	names := map[string]any{"use": use.name}
	with := use.tree.get("with")
	declared := template.tree.get("params")
	var all []string
	if declared != nil {
		for _, p := range declared.entries {
			all = append(all, p.key)
			if _, taken := l.top.lookup(p.key); taken || isThreshold(p.key) || p.key == "use" || p.key == "each" {
				declared.file.fault(p.at, "rename it", "the name %q of a parameter is taken", p.key)
			}
			given := with.get(p.key)
			switch {
			case given != nil:
				names[p.key] = given
			case p.value.isNull():
				use.tree.file.fault(use.at, "give it in with", "the parameter %s of template %s is missing%s", p.key, template.name, where)
				names[p.key] = ""
			default:
				names[p.key] = p.value
			}
		}
	}
	if with != nil {
		for _, e := range with.entries {
			if !slices.Contains(all, e.key) {
				with.file.fault(e.at, l.hint(e.key, "parameters", func() []string { return all }), "template %s has no parameter %s", template.name, strictyaml.Quote(e.key))
			}
		}
	}
	return &scope{names: names, limits: l.top.limits}
}

// room counts an object; it is false, and reported once, when there are too many.
func (l *loader) room(f *file, at strictyaml.Place) bool {
	l.top.limits.objects++
	if l.top.limits.objects <= l.MaxObjects {
		return true
	}
	if l.top.limits.objects == l.MaxObjects+1 {
		f.fault(at, "declare fewer, or split them over stacks", "there are more than %d objects", l.MaxObjects)
	}
	return false
}

// expand makes the instances of all definitions.
func (l *loader) expand() {
	l.top.limits.objects = 0
	for _, key := range l.sortedDefinitions() {
		l.instantiate(l.defs[key])
	}
	// A team can leave out one of several that a built-in object becomes.
	l.order = slices.DeleteFunc(l.order, func(in *instance) bool {
		if in.own || !l.off[in.key] {
			return false
		}
		delete(l.instances, in.key)
		return true
	})
	slices.SortFunc(l.order, func(a, b *instance) int { return compareKeys(a.key, b.key) })
}

func (l *loader) sortedDefinitions() []Key {
	return slices.SortedFunc(maps.Keys(l.defs), compareKeys)
}

func compareKeys(a, b Key) int {
	return cmp.Or(
		cmp.Compare(slices.Index(Kinds(), a.Kind), slices.Index(Kinds(), b.Kind)),
		strings.Compare(a.Name, b.Name))
}

// mergedTree is the definition with everything of what it extends; nil when that is at fault.
func (l *loader) mergedTree(d *definition) *value {
	if d.merged != nil || d.failed {
		return d.merged
	}
	name := d.tree.get("extends")
	if name == nil {
		d.merged = d.tree
		return d.merged
	}
	if d.merging {
		name.fault("remove one of them", "%s extends itself over others", d.key.Name)
		d.failed = true
		return nil
	}
	d.merging = true
	defer func() { d.merging = false }()
	base := l.defs[Key{d.key.Kind, name.text()}]
	if base == d {
		base = d.replaced
	}
	if base == nil {
		names := func() []string {
			var names []string
			for key := range l.defs {
				if key.Kind == d.key.Kind && key.Name != d.key.Name {
					names = append(names, key.Name)
				}
			}
			slices.Sort(names)
			return names
		}
		name.fault(l.hint(name.text(), string(d.key.Kind)+"s", names), "there is no %s %s to extend%s", d.key.Kind, strictyaml.Quote(name.text()), d.where())
		d.failed = true
		return nil
	}
	under := l.mergedTree(base)
	if under == nil {
		d.failed = true
		return nil
	}
	if under.bad || d.tree.bad {
		bad := *d.tree
		bad.bad = true
		d.merged = &bad
		return d.merged
	}
	d.merged = merge(under, d.tree, "thresholds", "threshold_windows", "options", "notify", "message")
	return d.merged
}

// instantiate makes the instances of a definition.
func (l *loader) instantiate(d *definition) {
	if l.top.limits.objects > l.MaxObjects {
		return
	}
	tree := l.mergedTree(d)
	if tree == nil {
		l.add(&instance{definition: d, key: d.key, tree: d.tree, bad: true})
		return
	}
	if off := tree.get("enabled"); off != nil && off.scalar == false {
		l.off[d.key] = d.own
		return
	}
	for _, one := range l.keys(d, tree.get("for_each")) {
		if !l.room(d.file(), d.at) {
			return
		}
		name := d.key.Name
		if one.key != "" {
			name += "-" + one.key
		}
		in := &instance{definition: d, key: Key{d.key.Kind, name}, each: one.key, dataset: one.dataset}
		if !l.fillInstance(in, tree, l.top.inner(one.names)) {
			l.off[in.key] = l.off[in.key] || in.own
			continue
		}
		l.add(in)
	}
}

// add enters an instance. One of a team's own files takes the place of a built-in one.
func (l *loader) add(in *instance) {
	before := l.instances[in.key]
	switch {
	case before != nil && before.own == in.own:
		in.definition.fault("rename one of them", "%s comes of %s:%d as well", in.key, before.file().path, before.at.Line)
		return
	case before != nil && before.own:
		return
	case before != nil:
		l.order = slices.DeleteFunc(l.order, func(other *instance) bool { return other == before })
	}
	l.instances[in.key] = in
	l.order = append(l.order, in)
}

// fillInstance puts the values in. It is false for an instance that is not enabled.
func (l *loader) fillInstance(in *instance, tree *value, s *scope) bool {
	where := in.where()
	if enabled := tree.get("enabled"); enabled != nil {
		fill := &filler{scope: s, where: where, lenient: true}
		v := fill.fill(enabled)
		if v.scalar == false || v.scalar == "" || v.scalar == "false" {
			return false
		}
	}
	bare := *tree
	bare.entries = slices.DeleteFunc(slices.Clone(tree.entries), func(e entry) bool {
		return e.key == "enabled" || e.key == "for_each" || e.key == "extends"
	})
	fill := &filler{scope: s, where: where}
	if thresholds := fill.fill(bare.get("thresholds")); thresholds != nil {
		own := map[string]any{}
		for _, e := range thresholds.entries {
			own[e.key] = e.value.scalar
		}
		fill.scope = s.inner(own)
	}
	in.tree = fill.fill(&bare)
	in.bad = fill.bad || tree.bad
	if !in.bad {
		check := &checker{needs: true}
		in.tree.at = in.at // a missing key is reported at the name
		check.check(in.tree, l.shapes[in.key.Kind], "", where)
		in.bad = check.bad
	}
	return true
}

// eachKey is one round of a for_each.
type eachKey struct {
	key     string
	dataset string
	names   map[string]any
}

// keys are the rounds of a for_each; one without a key when there is none.
func (l *loader) keys(d *definition, v *value) []eachKey {
	if v == nil {
		return []eachKey{{}}
	}
	fill := &filler{scope: l.top, where: d.where()}
	v = fill.fill(v)
	if fill.bad {
		return nil
	}
	switch {
	case v.scalar == "datasets":
		return l.datasets()
	case v.kind == strictyaml.Scalar:
		v.fault("", "for_each%s must be the word datasets, a list or a map, got %s", d.where(), v)
		return nil
	}
	var out []eachKey
	add := func(v *value, key string, names map[string]any) {
		if !objectName.MatchString(key) {
			v.fault("write it like us-east1", "the key %s of for_each%s becomes a part of a name and has an unexpected form", strictyaml.Quote(key), d.where())
			return
		}
		names["each.key"] = key
		out = append(out, eachKey{key: key, names: names})
	}
	for _, item := range v.items {
		text, ok := plain(item.scalar)
		if item.kind != strictyaml.Scalar || !ok {
			item.fault("write a map when each has fields", "an entry of for_each%s must be text or a number, got %s", d.where(), item)
			continue
		}
		add(item, text, map[string]any{"each.value": item.scalar})
	}
	for _, e := range v.entries {
		names := map[string]any{}
		switch e.value.kind {
		case strictyaml.Map:
			for _, field := range e.value.entries {
				names["each."+field.key] = field.value
			}
		default:
			names["each.value"] = e.value
		}
		add(e.value, e.key, names)
	}
	return out
}

func (l *loader) datasets() []eachKey {
	if l.Declaration == nil {
		return nil
	}
	var out []eachKey
	for _, ds := range l.Declaration.Datasets {
		out = append(out, eachKey{key: ds.Name, dataset: ds.Name, names: datasetNames(ds)})
	}
	return out
}

// datasetNames is what ${each.…} knows of a dataset.
func datasetNames(ds *dataset.Dataset) map[string]any {
	seconds := func(d time.Duration) float64 {
		// Dividing by 1e9 gives the float that is nearest to the decimal number of seconds.
		return float64(d.Nanoseconds()) / 1e9
	}
	return map[string]any{
		"each.key": ds.Name, "each.value": ds.Name, "each.name": ds.Name, "each.description": ds.Description,
		"each.topic": ds.Topic, "each.subscription": ds.Subscription(),
		"each.dead_topic": ds.DeadLetterTopic(), "each.dead_subscription": ds.DeadLetterSubscription(),
		"each.table": ds.Table(), "each.ingest_latency": seconds(ds.SLO.IngestLatency), "each.response": seconds(ds.SLO.Response),
		"each.target": ds.SLO.Target,
	}
}

func isThreshold(name string) bool {
	return slices.Contains([]string{"critical", "warning", "critical_recovery", "warning_recovery", "ok"}, name)
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// numberText writes a number as it stands in a query.
func numberText(n float64) string { return strconv.FormatFloat(n, 'f', -1, 64) }
