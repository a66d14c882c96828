package monitor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/latamctl/latamctl/pkg/monitor/declare"
	"github.com/latamctl/latamctl/pkg/monitor/query"
	"github.com/latamctl/latamctl/pkg/plan"
	"github.com/latamctl/latamctl/pkg/telemetry"
)

// Finder finds objects by a tag, whoever owns them. *datadog.Client is one.
type Finder interface {
	Find(ctx context.Context, kind declare.Kind, tag string) ([]Live, error)
}

// ImportOptions say how objects become declared.
type ImportOptions struct {
	// Roles are the handles of each role: they are written as the role.
	Roles map[string][]string
	// Load reads the declaration with a file added to it. With it the import proves that the file says
	// what Datadog has. It may be nil.
	Load func(file []byte) (*declare.Set, error)
	// Adopt puts the marks of ownership on the objects, when the proof holds for all of them.
	Adopt bool
}

// Imported is an object that was read into a file.
type Imported struct {
	Key declare.Key
	ID  string
	// Changes are what a sync would change, besides the marks of ownership. They are empty when the proof holds.
	Changes []plan.Attribute
	Adopted bool
}

// Import is what became of the objects.
type Import struct {
	// File is a file with all of them.
	File    []byte
	Objects []Imported
	// Skipped says by id why an object cannot be declared.
	Skipped map[string]string
	// Faults are what the declaration with the file has wrong; then nothing is proved.
	Faults error
}

// Import writes objects of Datadog as a team would declare them. Each spec is an id, the address of a
// page of Datadog, or tag: and a tag. Nothing is changed unless the objects are to be adopted.
func (s *Syncer) Import(ctx context.Context, specs []string, o ImportOptions) (*Import, error) {
	lives, err := s.fetch(ctx, specs)
	if err != nil {
		return nil, err
	}
	inv, err := s.read(ctx)
	if err != nil {
		return nil, err
	}
	keys := s.nameAll(lives, inv)
	known := map[declare.Kind]map[string]declare.Key{}
	for kind, ids := range inv.known {
		known[kind] = maps.Clone(ids)
	}
	for i, live := range lives {
		if known[live.Kind] != nil {
			known[live.Kind][live.ID] = keys[i]
		}
	}
	result := &Import{Skipped: map[string]string{}}
	sp := &speller{environment: s.o.Set.Environment, roles: o.Roles, known: known}
	sections := map[declare.Kind]fields{}
	spelled := map[declare.Key]Live{}
	for i, live := range lives {
		entry, err := sp.spell(live)
		if err != nil {
			result.Skipped[live.ID] = err.Error()
			continue
		}
		if live.Kind == declare.SLO {
			entry.add("no_data", s.partner(lives, keys))
		}
		sections[live.Kind] = append(sections[live.Kind], field{keys[i].Name, entry})
		spelled[keys[i]] = live
		result.Objects = append(result.Objects, Imported{Key: keys[i], ID: live.ID})
	}
	file := fields{{"version", 1.0}}
	file.add("metrics", unknownMetrics(lives))
	file.add("monitors", sections[declare.Monitor])
	file.add("slos", sections[declare.SLO])
	result.File = []byte(yamlText(file))
	if o.Load == nil {
		return result, nil
	}
	return result, s.prove(ctx, result, spelled, known, o)
}

// prove loads the file and compares it with what it was made of.
func (s *Syncer) prove(ctx context.Context, result *Import, lives map[declare.Key]Live, known map[declare.Kind]map[string]declare.Key, o ImportOptions) error {
	set, err := o.Load(result.File)
	if err != nil {
		result.Faults = err
	}
	var differ []string
	for i := range result.Objects {
		one := &result.Objects[i]
		live := lives[one.Key]
		if set == nil {
			break
		}
		declared := set.Lookup(one.Key)
		if declared == nil {
			return fmt.Errorf("prove the import: %s is not in the declaration with the file", one.Key)
		}
		one.Changes = differences(normalise(live.Kind, symbolic(live.Kind, live.Payload, known)), normalise(live.Kind, declared.Payload))
		if len(one.Changes) > 0 {
			differ = append(differ, one.Key.String())
		}
	}
	switch {
	case !o.Adopt:
		return nil
	case result.Faults != nil:
		return &Refusal{What: "the file does not load, so nothing was adopted", Hint: "write it with --out, mend it, and import again", Err: result.Faults}
	case len(differ) > 0:
		return refusef("write the file with --out, mend it, and sync it as new objects", "the file says something else than Datadog has, so nothing was adopted: %s", some(differ))
	}
	return s.adopt(ctx, result, lives, set)
}

// adopt puts marks on objects whose declaration is proved to be the same.
func (s *Syncer) adopt(ctx context.Context, result *Import, lives map[declare.Key]Live, set *declare.Set) error {
	ids := map[declare.Key]string{}
	for key, live := range lives {
		ids[key] = live.ID
	}
	inv, err := s.read(ctx)
	if err != nil {
		return err
	}
	for key, list := range inv.objects {
		if len(list) == 1 {
			ids[key] = list[0].live.ID
		}
	}
	var errs []error
	for i := range result.Objects {
		one := &result.Objects[i]
		object := set.Lookup(one.Key)
		signed := sign(object.Payload, s.stack, mark{key: one.Key, hash: digest(one.Key.Kind, normalise(one.Key.Kind, object.Payload))})
		payload, missing := resolve(one.Key.Kind, signed, ids)
		if one.Key.Kind == declare.Monitor {
			payload = pick(payload, "tags") // All else stays as it is, mutes as well.
		} else if len(missing) > 0 {
			errs = append(errs, fmt.Errorf("adopt %s: it names %s, which is not at Datadog", one.Key, some(names(missing))))
			continue
		}
		if _, err := s.o.Remote.Update(ctx, one.Key.Kind, one.ID, payload); err != nil {
			errs = append(errs, fmt.Errorf("adopt %s: %w", one.Key, err))
			continue
		}
		one.Adopted = true
	}
	return errors.Join(errs...)
}

var (
	numberSpec    = regexp.MustCompile(`^[0-9]+$`)
	sloSpec       = regexp.MustCompile(`^[0-9a-f]{32}$`)
	dashboardSpec = regexp.MustCompile(`^[a-z0-9]{3}-[a-z0-9]{3}-[a-z0-9]{3}$`)
	monitorPage   = regexp.MustCompile(`^https://[^/]+/monitors/([0-9]+)`)
	sloPage       = regexp.MustCompile(`^https://[^/]+/slo(?:/manage)?(?:/|.*[?&]slo_id=|.*[?&]sp=.*?)([0-9a-f]{32})`)
	dashboardPage = regexp.MustCompile(`^https://[^/]+/dashboard/([a-z0-9]{3}-[a-z0-9]{3}-[a-z0-9]{3})`)
)

// meant tells what a spec names.
func meant(spec string) (kind declare.Kind, id string, ok bool) {
	for _, form := range []struct {
		kind declare.Kind
		is   *regexp.Regexp
	}{
		{declare.Monitor, numberSpec}, {declare.SLO, sloSpec}, {declare.Dashboard, dashboardSpec},
		{declare.Monitor, monitorPage}, {declare.SLO, sloPage}, {declare.Dashboard, dashboardPage},
	} {
		if m := form.is.FindStringSubmatch(spec); m != nil {
			return form.kind, m[len(m)-1], true
		}
	}
	return "", "", false
}

// BadSpec is something to import that names nothing.
type BadSpec struct{ Spec, text string }

func (b *BadSpec) Error() string {
	if b.text != "" {
		return b.text
	}
	return fmt.Sprintf("%q names no object of Datadog: expected the number of a monitor, the id of an SLO, the address of a page, or tag:KEY:VALUE", b.Spec)
}

// fetch reads what the specs name, each object once.
func (s *Syncer) fetch(ctx context.Context, specs []string) ([]Live, error) {
	var lives []Live
	add := func(more ...Live) {
		for _, live := range more {
			if !slices.ContainsFunc(lives, func(l Live) bool { return l.Kind == live.Kind && l.ID == live.ID }) {
				lives = append(lives, live)
			}
		}
	}
	for _, spec := range specs {
		if tag, ok := strings.CutPrefix(spec, "tag:"); ok && tag != "" {
			found, err := s.findTag(ctx, tag)
			if err != nil {
				return nil, err
			}
			add(found...)
			continue
		}
		kind, id, ok := meant(spec)
		if !ok {
			return nil, &BadSpec{Spec: spec}
		}
		live, err := s.o.Remote.Get(ctx, kind, id)
		if err != nil {
			return nil, fmt.Errorf("import %s %s: %w", kind, id, err)
		}
		add(live)
	}
	return lives, nil
}

func (s *Syncer) findTag(ctx context.Context, tag string) ([]Live, error) {
	finder, ok := s.o.Remote.(Finder)
	if !ok {
		return nil, errors.New("objects cannot be found by their tags here; name them by their ids")
	}
	var all []Live
	for _, kind := range []declare.Kind{declare.Monitor, declare.SLO} {
		found, err := finder.Find(ctx, kind, tag)
		if err != nil {
			return nil, fmt.Errorf("find %s by the tag %s: %w", plural(kind), tag, err)
		}
		all = append(all, found...)
	}
	if len(all) == 0 {
		return nil, &BadSpec{Spec: "tag:" + tag, text: "no monitor and no SLO has the tag " + tag}
	}
	return all, nil
}

var notInName = regexp.MustCompile(`[^a-z0-9]+`)

// nameAll gives each object a name: the one that it has, or one made of its title that nothing else has.
func (s *Syncer) nameAll(lives []Live, inv *inventory) []declare.Key {
	taken := map[declare.Key]bool{}
	for _, o := range s.o.Set.Objects {
		taken[o.Key] = true
	}
	keys := make([]declare.Key, len(lives))
	for i, live := range lives {
		if key, ours := inv.known[live.Kind][live.ID]; ours {
			keys[i] = key
			continue
		}
		title := textOf(live.Payload["name"])
		if live.Kind == declare.Dashboard {
			title = textOf(live.Payload["title"])
		}
		title = strings.TrimPrefix(title, "["+s.o.Set.Environment+"]")
		base := strings.Trim(notInName.ReplaceAllString(strings.ToLower(title), "-"), "-")
		if len(base) > longestName {
			base = strings.Trim(base[:longestName], "-")
		}
		if base == "" {
			base = string(live.Kind)
		}
		key := declare.Key{Kind: live.Kind, Name: base}
		for n := 2; taken[key]; n++ {
			key.Name = fmt.Sprintf("%s-%d", base, n)
		}
		taken[key] = true
		keys[i] = key
	}
	return keys
}

// longestName keeps names of long titles handy.
const longestName = 60

// partner is a monitor that tells when there is no data, for SLOs that come without one: of those that
// are imported, else a declared one.
func (s *Syncer) partner(lives []Live, keys []declare.Key) string {
	tells := func(payload map[string]any) bool {
		options, _ := payload["options"].(map[string]any)
		return monitorType(payload) == typeQuery && (options["on_missing_data"] == "show_and_notify_no_data" || options["notify_no_data"] == true)
	}
	for i, live := range lives {
		if live.Kind == declare.Monitor && tells(live.Payload) {
			return keys[i].Name
		}
	}
	for _, o := range s.o.Set.Objects {
		if o.Key.Kind == declare.Monitor && tells(o.Payload) {
			return o.Key.Name
		}
	}
	return ""
}

// unknownMetrics are declarations of the metrics that the objects read and that nothing known here
// sends, with the tags that they use.
func unknownMetrics(lives []Live) fields {
	var nodes []query.Node
	for _, live := range lives {
		nodes = append(nodes, nodesOf(live)...)
	}
	var out fields
	for _, use := range query.Uses(nodes...) {
		_, known := query.Lookup(use.Metric)
		if known || slices.ContainsFunc(telemetry.Catalogue(), func(m telemetry.Metric) bool { return m.Name == use.Metric }) {
			continue
		}
		kind := "gauge"
		if use.Percentiles {
			kind = "distribution"
		}
		entry := fields{{"type", kind}}
		tags := make([]any, len(use.Tags))
		for i, tag := range use.Tags {
			tags[i] = tag
		}
		entry.add("tags", tags)
		out = append(out, field{use.Metric, entry})
	}
	return out
}

// nodesOf are the expressions that an object reads, as far as they are understood.
func nodesOf(live Live) []query.Node {
	p, _ := plain(live.Payload).(map[string]any)
	var nodes []query.Node
	if live.Kind == declare.Monitor {
		if q, err := query.Parse(monitorType(p), textOf(p["query"])); err == nil {
			nodes = append(nodes, q)
		}
		return nodes
	}
	var visit func(v any)
	visit = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for _, key := range slices.Sorted(maps.Keys(v)) {
				visit(v[key])
			}
		case string:
			if e, err := query.ParseExpr(v); err == nil {
				nodes = append(nodes, e)
			}
		}
	}
	visit(normalSLO(p)["sli_specification"])
	return nodes
}

// paste is what Datadog has of an object, as it would be declared; empty when a file cannot say it.
func (s *Syncer) paste(f *found, known map[declare.Kind]map[string]declare.Key, roles map[string][]string) string {
	sp := &speller{environment: s.o.Set.Environment, roles: roles, known: known}
	entry, err := sp.spell(f.live)
	if err != nil {
		return ""
	}
	return yamlText(fields{{sectionName(f.key.Kind), fields{{f.key.Name, entry}}}})
}
