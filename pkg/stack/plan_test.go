package stack

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	tfjson "github.com/hashicorp/terraform-json"

	"github.com/latamctl/latamctl/pkg/plan"
	"github.com/latamctl/latamctl/pkg/stack/terraform"
)

func TestBundle(t *testing.T) {
	f := chained(t)
	p, err := f.driver().Plan(t.Context(), PlanOptions{Bundle: "bundle"})
	if err != nil || len(p.Sections) != 4 {
		t.Fatal(err)
	}
	files, err := f.proc.Glob("bundle/*")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, path := range files {
		got = append(got, filepath.Base(path))
		if mode, err := f.proc.Mode(path); err != nil || mode != 0o600 {
			t.Errorf("%s has mode %v, %v", path, mode, err)
		}
	}
	if want := []string{"cluster.tfplan", "manifest.json", "network.tfplan", "plan.json", "registry.tfplan"}; !slices.Equal(got, want) {
		t.Errorf("the bundle has %v, want %v", got, want)
	}
	f.calls = nil
	wantPhases(t, f.mustUp(UpOptions{Bundle: "bundle"}), "network done, cluster done, apps done, registry done")
	if f.count("plan") != 1 || f.count("plan apps") != 1 {
		t.Errorf("calls %v: want only apps to be planned again", f.calls)
	}
	_, err = f.up(UpOptions{Bundle: "bundle"})
	var stale *StaleBundle
	if !errors.As(err, &stale) || f.count("apply") != 4 {
		t.Errorf("a bundle that was applied: %v", err)
	}
}

// TestStaleBundle changes everything that a bundle is made from, one at a time.
func TestStaleBundle(t *testing.T) {
	edit := func(file string, change func(map[string]any)) func(f *fixture) {
		return func(f *fixture) {
			data, _ := f.proc.ReadFile("bundle/" + file)
			m := map[string]any{}
			_ = json.Unmarshal(data, &m)
			change(m)
			data, _ = json.Marshal(m)
			_ = f.proc.WriteSecretFile("bundle/"+file, data)
		}
	}
	for _, c := range []struct {
		name, want string
		differ     func(f *fixture)
	}{
		{"sources", "stack network: its sources changed", func(f *fixture) { f.set.Stacks[0].Files = fstest.MapFS{"main.tf": {Data: []byte("# other")}} }},
		{"values", "stack network: what the declaration and the settings give it changed", func(f *fixture) { f.values["project"] = "other" }},
		{"serial", "stack cluster: the serial of its state", func(f *fixture) { f.save("cluster", true) }},
		{"lineage", "stack cluster: its state was x", func(f *fixture) { f.save("cluster", true) }},
		{"consumed outputs", "stack apps: the outputs that it takes changed", func(f *fixture) {
			f.stacks["cluster"].outputs["endpoint"] = "10.9.9.9"
			f.save("cluster", true)
		}},
		{"terraform", "the terraform program changed", func(f *fixture) { f.opts.TerraformDigest = "sha256:2" }},
		{"version", "the version of terraform was", func(f *fixture) { f.opts.TerraformVersion = "1.12.0" }},
		{"plan file", "stack network: its plan file changed", func(f *fixture) { _ = f.proc.WriteSecretFile("bundle/network.tfplan", []byte("{}")) }},
		{"plan.json", "plan.json changed", edit("plan.json", func(m map[string]any) { m["note"] = "x" })},
		{"actions", "stack network: its actions in plan.json changed", edit("manifest.json", func(m map[string]any) { m["stacks"].([]any)[0].(map[string]any)["actions"] = "x" })},
		{"environment", "environment", edit("manifest.json", func(m map[string]any) { m["environment"] = "dev" })},
		{"backend", "stack network: the place of its state changed", edit("manifest.json", func(m map[string]any) {
			m["stacks"].([]any)[0].(map[string]any)["digests"].(map[string]any)["backend"] = "x"
		})},
		{"off", "stack network: off", func(f *fixture) { f.off["network"] = "set billing_account" }},
		{"gone", "stack registry is no more", func(f *fixture) { f.set.Stacks = f.set.Stacks[:3] }},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := chained(t)
			f.mustUp(UpOptions{Selection: Selection{Stacks: []string{"apps"}, WithDeps: true}})
			f.stacks["network"].resources = append(f.stacks["network"].resources, "thing.more")
			if _, err := f.driver().Plan(t.Context(), PlanOptions{Bundle: "bundle"}); err != nil {
				t.Fatal(err)
			}
			if c.name == "lineage" {
				edit("manifest.json", func(m map[string]any) { m["stacks"].([]any)[1].(map[string]any)["lineage"] = "x" })(f)
			} else {
				c.differ(f)
			}
			f.calls = nil
			_, err := f.up(UpOptions{Bundle: "bundle"})
			var stale *StaleBundle
			if !errors.As(err, &stale) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want it to say %q", err, c.want)
			}
			if len(f.calls) != 0 || len(f.asked) != 1 {
				t.Errorf("something was touched: %v", f.calls)
			}
		})
	}
}

func TestBundleOfFailedPlan(t *testing.T) {
	f := chained(t)
	if _, err := f.driver().Plan(t.Context(), PlanOptions{Bundle: "bundle"}); err != nil {
		t.Fatal(err)
	}
	f.fail("plan", "cluster", fault{kind: terraform.Denied})
	p, err := f.driver().Plan(t.Context(), PlanOptions{Bundle: "bundle"})
	var failed *Failed
	if !errors.As(err, &failed) || !slices.Equal(failed.Stacks, []string{"cluster"}) || sectionOf(p, "cluster").Error == "" || sectionOf(p, "apps").Blocked != "cluster" || sectionOf(p, "registry").Error != "" {
		t.Fatalf("%v %+v", err, p)
	}
	if f.proc.Exists("bundle/manifest.json") {
		t.Error("the plan from before is still there")
	}
}

func TestDrift(t *testing.T) {
	f := chained(t)
	f.mustUp(UpOptions{Selection: Selection{Stacks: []string{"cluster"}, WithDeps: true}})
	f.stacks["network"].drift = []string{"thing.network1"}
	f.stacks["network"].resources = append(f.stacks["network"].resources, "thing.more")
	f.memory.objects["prod/cluster/default.tflock"] = []byte(`{"Who":"ana@laptop","Operation":"OperationTypeApply"}`)
	p, err := f.driver().Drift(t.Context(), Selection{})
	if err != nil {
		t.Fatal(err)
	}
	network := sectionOf(p, "network")
	if len(network.Drift) != 1 || network.Drift[0].Reason != "changed outside" || len(network.Changes) != 1 {
		t.Errorf("network: %+v", network)
	}
	if note := sectionOf(p, "cluster").Note; note != "busy: held by ana@laptop (OperationTypeApply)" {
		t.Errorf("cluster: %q", note)
	}
	if note := sectionOf(p, "apps").Note; note != "not applied yet" {
		t.Errorf("apps: %q", note)
	}
}

func TestDown(t *testing.T) {
	f := chained(t)
	f.mustUp(UpOptions{})
	f.calls, f.asked = nil, nil
	_, err := f.down(DownOptions{Selection: Selection{Stacks: []string{"cluster"}}})
	var refused *Refused
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), "stack apps needs it") || len(f.calls) != 0 {
		t.Fatalf("got %v, calls %v", err, f.calls)
	}
	r, err := f.down(DownOptions{Selection: Selection{Stacks: []string{"cluster"}}, Cascade: true})
	if err != nil {
		t.Fatal(err)
	}
	wantPhases(t, r, "apps done, cluster done")
	if r.Outcomes[0].Deleted != 2 || len(f.asked) != 1 {
		t.Errorf("%+v", r.Outcomes[0])
	}
	if f.memory.objects["prod/apps/latamctl.json"] != nil {
		t.Error("the note of a stack that is gone is left")
	}
	r, err = f.down(DownOptions{})
	if err != nil {
		t.Fatal(err)
	}
	wantPhases(t, r, "registry done, apps unchanged, cluster unchanged, network done")
	if slices.Index(f.calls, "apply network") < slices.Index(f.calls, "apply cluster") {
		t.Errorf("destroyed in a wrong order: %v", f.calls)
	}
	f.asked = nil
	if _, err = f.down(DownOptions{}); err != nil || len(f.asked) != 0 {
		t.Errorf("a second down: %v, asked %d times", err, len(f.asked))
	}
}

func TestDownKeeps(t *testing.T) {
	f := newFixture(t)
	f.add("bootstrap")
	f.add("storage", "bootstrap").Keep = true
	f.add("apps", "bootstrap", "storage")
	f.set.Stacks[1].Protected = []string{"thing"}
	f.mustUp(UpOptions{})
	if _, err := f.down(DownOptions{Selection: Selection{Stacks: []string{"bootstrap", "apps"}}}); err == nil || !strings.Contains(err.Error(), "stack storage needs it") {
		t.Errorf("destroying what a kept stack needs: %v", err)
	}
	r, err := f.down(DownOptions{})
	if err != nil {
		t.Fatal(err)
	}
	wantPhases(t, r, "apps done")
	if note := sectionOf(r.Plan, "bootstrap").Note; note != "stays: storage needs it" {
		t.Errorf("bootstrap: %q", note)
	}
	if note := sectionOf(r.Plan, "storage").Note; !strings.Contains(note, "--include-kept storage") {
		t.Errorf("storage: %q", note)
	}
	_, err = f.down(DownOptions{IncludeKept: []string{"storage"}})
	var refusal *plan.Refusal
	if !errors.As(err, &refusal) || !slices.Equal(refusal.Protected, []string{"storage/thing.storage1", "storage/thing.storage2"}) {
		t.Fatalf("protected objects: %v", err)
	}
	f.changes["thing.storage1"] = &tfjson.Change{Actions: tfjson.Actions{tfjson.ActionDelete}, Before: map[string]any{"deletion_protection": "PROTECTED"}}
	r, err = f.down(DownOptions{IncludeKept: []string{"storage"}, AllowDelete: []string{"storage/*"}})
	if err != nil {
		t.Fatal(err)
	}
	wantPhases(t, r, "apps unchanged, storage done, bootstrap done")
	if note := sectionOf(r.Plan, "storage").Note; !strings.Contains(note, "thing.storage1") {
		t.Errorf("deletion protection is not said: %q", note)
	}
}

// TestDownFails blocks what the failed stack stands on, and nothing else.
func TestDownFails(t *testing.T) {
	f := chained(t)
	f.mustUp(UpOptions{})
	f.fail("apply", "apps", fault{kind: terraform.Denied})
	r, err := f.down(DownOptions{})
	if err == nil {
		t.Fatal("no error")
	}
	wantPhases(t, r, "registry done, apps failed, cluster blocked by apps, network blocked by apps")
}

// objects are manifests in memory.
type objects struct {
	want, have []string
	clusters   []Cluster
}

func (o *objects) section(from, to []string, action plan.Action) plan.Section {
	s := plan.Section{Grade: plan.Exact}
	for _, name := range to {
		if !slices.Contains(from, name) {
			s.Changes = append(s.Changes, plan.Change{Address: name, Type: "Deployment", Action: action})
		}
	}
	return s
}

func (o *objects) Plan(_ context.Context, c Cluster) (plan.Section, error) {
	o.clusters = append(o.clusters, c)
	s := o.section(o.have, o.want, plan.Create)
	if c.Endpoint == "" {
		s.Grade = plan.Provisional
	}
	return s, nil
}

func (o *objects) Apply(_ context.Context, c Cluster, _ func(string)) (plan.Section, error) {
	s := o.section(o.have, o.want, plan.Create)
	o.clusters, o.have = append(o.clusters, c), o.want
	return s, nil
}

func (o *objects) Delete(context.Context, Cluster, func(string)) (plan.Section, error) {
	s := o.section(nil, o.have, plan.Delete)
	o.have = nil
	return s, nil
}

func (o *objects) PlanDelete(context.Context, Cluster) (plan.Section, error) {
	return o.section(nil, o.have, plan.Delete), nil
}

func TestManifestsThatAreOff(t *testing.T) {
	f := chained(t)
	f.opts.ManifestsOff = "set image"
	p, err := f.driver().Plan(t.Context(), PlanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if s := sectionOf(p, "kubernetes"); s == nil || s.Note != "off: set image" || s.Pending() {
		t.Errorf("kubernetes was planned as %+v", s)
	}
	wantPhases(t, f.mustUp(UpOptions{}), "network done, cluster done, apps done, kubernetes skipped, registry done")
	r, err := f.down(DownOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if s := sectionOf(r.Plan, "kubernetes"); s == nil || s.Note != "off: set image" {
		t.Errorf("kubernetes was planned to go as %+v", s)
	}
	wantPhases(t, r, "registry done, kubernetes skipped, apps done, cluster done, network done")
}

func TestManifests(t *testing.T) {
	f := chained(t)
	f.add("gateway", "apps")
	f.stacks["cluster"].outputs["ca"] = "LS0tLS1CRUdJTg=="
	m := &objects{want: []string{"ingest", "serve"}}
	f.opts.Manifests = m
	r := f.mustUp(UpOptions{})
	wantPhases(t, r, "network done, cluster done, apps done, kubernetes done, registry done, gateway done")
	if s := sectionOf(f.asked[0], "kubernetes"); s.Grade != plan.Provisional || len(s.Changes) != 2 {
		t.Errorf("kubernetes was planned as %+v", s)
	}
	if last := m.clusters[len(m.clusters)-1]; last.Endpoint != "10.0.0.1" || string(last.CA) != "-----BEGIN" {
		t.Errorf("applied to %q", last)
	}
	wantPhases(t, f.mustUp(UpOptions{}), "network unchanged, cluster unchanged, apps unchanged, kubernetes unchanged, registry unchanged, gateway unchanged")
	m.want = append(m.want, "job")
	r = f.mustUp(UpOptions{Selection: Selection{Stacks: []string{ManifestsName}}})
	if wantPhases(t, r, "kubernetes done"); r.Outcomes[0].Created != 1 {
		t.Errorf("%+v", r.Outcomes[0])
	}
	r, err := f.down(DownOptions{Selection: Selection{Stacks: []string{"apps"}}, Cascade: true})
	if err != nil {
		t.Fatal(err)
	}
	wantPhases(t, r, "gateway done, kubernetes done, apps done")
	if len(m.have) != 0 {
		t.Errorf("objects are left: %v", m.have)
	}
}

func TestOff(t *testing.T) {
	f := chained(t)
	f.off["registry"] = "set registry"
	r := f.mustUp(UpOptions{})
	wantPhases(t, r, "network done, cluster done, apps done, registry skipped")
	if note := sectionOf(r.Plan, "registry").Note; note != "off: set registry" {
		t.Errorf("note %q", note)
	}
}

func TestSelection(t *testing.T) {
	d := chained(t).driver()
	for _, c := range []struct {
		s    Selection
		want string
	}{
		{Selection{}, "network cluster apps registry"},
		{Selection{Stacks: []string{"cluster"}}, "cluster"},
		{Selection{Stacks: []string{"apps"}, WithDeps: true}, "network cluster apps"},
		{Selection{Stacks: []string{"network"}, WithDependents: true}, "network cluster apps"},
		{Selection{Stacks: []string{"cluster"}, WithDependents: true, WithDeps: true}, "network cluster apps"},
	} {
		nodes, err := d.choose(c.s)
		if got := strings.Join(names(nodes), " "); err != nil || got != c.want {
			t.Errorf("%+v selects %s (%v), want %s", c.s, got, err, c.want)
		}
	}
	if _, err := d.choose(Selection{Stacks: []string{"nothing"}}); err == nil || !strings.Contains(err.Error(), "the stacks are network, cluster, apps, registry") {
		t.Errorf("got %v", err)
	}
}

func TestAttributes(t *testing.T) {
	const canary = "canary-3f9c"
	c := &tfjson.Change{
		Before: map[string]any{
			"name": "a", "same": "x", "secret": canary, "deep": map[string]any{"token": canary, "n": json.Number("1")},
			"list": []any{"a", "b"}, "blocks": []any{map[string]any{"key": canary}}, "id": "1", "copied": "old",
		},
		After: map[string]any{
			"name": "b", "same": "x", "secret": canary + "2", "deep": map[string]any{"token": canary + "2", "n": json.Number("2")},
			"list": []any{"a", "c"}, "blocks": []any{}, "long": strings.Repeat("é", 500), "copied": []any{"with " + canary + " in it"},
		},
		AfterUnknown:    map[string]any{"id": true},
		BeforeSensitive: map[string]any{"secret": true, "deep": map[string]any{"token": true}, "blocks": []any{map[string]any{"key": true}}},
		AfterSensitive:  map[string]any{"secret": true},
	}
	got := attributes(c, secretsOf(&tfjson.Plan{ResourceChanges: []*tfjson.ResourceChange{{Change: c}}}))
	long := strings.Repeat("é", maxValue-1) + "…"
	want := []plan.Attribute{
		{Path: "blocks", Sensitive: true}, {Path: "copied", Sensitive: true}, {Path: "deep.n", Before: "1", After: "2"}, {Path: "deep.token", Sensitive: true},
		{Path: "id", Before: "1", Unknown: true}, {Path: "list[1]", Before: "b", After: "c"}, {Path: "long", After: long},
		{Path: "name", Before: "a", After: "b"}, {Path: "secret", Sensitive: true},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if data, _ := json.Marshal(got); strings.Contains(string(data), canary) {
		t.Errorf("a sensitive value is shown: %s", data)
	}
	c.ReplacePaths = []any{[]any{"name"}, []any{"retry_policy", json.Number("0"), "minimum_backoff"}}
	if got := forces(c); !slices.Equal(got, []string{"name", "retry_policy[0].minimum_backoff"}) {
		t.Errorf("forced by %v", got)
	}
}

func TestPlaceholder(t *testing.T) {
	for constraint, want := range map[string]string{
		"string": `"known-after-apply"`, "any": `"known-after-apply"`, "number": "0", "bool": "false", "list(string)": "[]", "set(object({a=string}))": "[]",
		"map(list(string))": "{}", "object({ a = string, b = list(number), c = optional(string), d = object({e = bool}) })": `{"a":"known-after-apply","b":[],"d":{"e":false}}`,
		"object({\n  a = number\n  b = map(any)\n})": `{"a":0,"b":{}}`, "tuple([string, number])": `["known-after-apply",0]`, " string ": `"known-after-apply"`,
	} {
		if got, err := json.Marshal(placeholder(constraint)); err != nil || string(got) != want {
			t.Errorf("%s: got %s (%v), want %s", constraint, got, err, want)
		}
	}
}

func FuzzPlaceholder(f *testing.F) {
	f.Add("object({a=optional(list(string)), b=tuple([any])})")
	f.Add("object({")
	f.Add("tuple([")
	f.Fuzz(func(t *testing.T, constraint string) {
		if _, err := json.Marshal(placeholder(constraint)); err != nil {
			t.Error(err)
		}
	})
}

func TestWorkspaceKeepsTerraformsFiles(t *testing.T) {
	f := newFixture(t)
	f.add("a")
	d := f.driver()
	dir := d.folder("a")
	for _, name := range []string{"old.tf", "modules/old/main.tf", ".terraform/x", ".terraform.lock.hcl", "errored.tfstate"} {
		if err := f.proc.WriteFile(filepath.Join(dir, name), []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	r, err := d.newRun()
	if err != nil {
		t.Fatal(err)
	}
	w, err := d.prepare(r, f.set.Stacks[0], inputs{derived: map[string]any{"a": 1}}, false)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{
		"old.tf": false, "modules/old/main.tf": false, ".terraform/x": true, ".terraform.lock.hcl": true, "errored.tfstate": true, "main.tf": true, "backend.tf.json": true,
	} {
		if f.proc.Exists(filepath.Join(dir, name)) != want {
			t.Errorf("%s: want %v", name, want)
		}
	}
	if mode, err := f.proc.Mode(w.VarFile); err != nil || mode != 0o600 {
		t.Errorf("variables have mode %v, %v", mode, err)
	}
	before, _ := f.proc.Stamp(filepath.Join(dir, "main.tf"))
	if _, err := d.prepare(r, f.set.Stacks[0], inputs{}, false); err != nil {
		t.Fatal(err)
	}
	if after, _ := f.proc.Stamp(filepath.Join(dir, "main.tf")); before != after {
		t.Error("a file that is the same was written again")
	}
}

func TestOptions(t *testing.T) {
	f := newFixture(t)
	for name, broken := range map[string]func(o *Options){
		"environment": func(o *Options) { o.Environment = "a/b" }, "stacks": func(o *Options) { o.Stacks = nil },
		"dir": func(o *Options) { o.Dir = "" }, "parallel": func(o *Options) { o.Parallel = -1 },
	} {
		o := f.opts
		broken(&o)
		if _, err := New(o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := f.driver().Up(t.Context(), UpOptions{}); err == nil {
		t.Error("an up that asks nobody was begun")
	}
}

func TestSlots(t *testing.T) {
	t.Parallel()
	for free, want := range map[int64]int{0: 4, 64 << 30: 4, 1600 << 20: 4, 1599 << 20: 3, 1 << 30: 2, 500 << 20: 1, 1: 1} {
		if got := slots(free); got != want {
			t.Errorf("%d bytes free: %d programs, want %d", free, got, want)
		}
	}
}
