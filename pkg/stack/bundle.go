package stack

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/latamctl/latamctl/pkg/plan"
)

// bundleVersion is the version of the bundles that this program writes and reads.
const bundleVersion = 1

// manifest says what the plans of a bundle were made from.
type manifest struct {
	Version          int             `json:"version"`
	Run              string          `json:"run"`
	Time             time.Time       `json:"time"`
	Environment      string          `json:"environment"`
	TerraformVersion string          `json:"terraform_version"`
	TerraformDigest  string          `json:"terraform_digest"`
	Plan             string          `json:"plan"` // digest of plan.json
	Stacks           []manifestStack `json:"stacks"`
}

type manifestStack struct {
	Name    string     `json:"name"`
	Grade   plan.Grade `json:"grade"`
	Digests digests    `json:"digests"`
	Lineage string     `json:"lineage"`
	Serial  uint64     `json:"serial"`
	Actions string     `json:"actions"`             // digest of the set of actions
	File    string     `json:"plan_file,omitempty"` // digest of the plan file of an exact plan
}

const (
	manifestFile = "manifest.json"
	planFile     = "plan.json"
)

func actionsDigest(changes []plan.Change) string {
	set := make([]string, 0, len(changes))
	for i := range changes {
		set = append(set, string(changes[i].Action)+" "+changes[i].Address)
	}
	slices.Sort(set)
	return digestOf(set...)
}

func (d *Driver) fileDigest(path string) (string, error) {
	data, err := d.opts.Proc.ReadFile(path)
	return digestOf(string(data)), err
}

// writeBundle saves a plan so that it can be applied later. A plan with a stack that could not be
// planned is not saved, and takes away the one that was there.
func (d *Driver) writeBundle(r *run, folder string, p *plan.Plan, plans *planning, nodes []*node) error {
	doing := "save the plan in " + folder
	if err := d.opts.Proc.Remove(filepath.Join(folder, manifestFile)); err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	if p.Failed() {
		return nil
	}
	text, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	m := manifest{
		Version: bundleVersion, Run: r.id, Time: d.opts.Proc.Now().UTC(), Environment: d.opts.Environment,
		TerraformVersion: d.opts.TerraformVersion, TerraformDigest: d.opts.TerraformDigest, Plan: digestOf(string(text)),
	}
	for _, n := range nodes {
		one := plans.get(n.name)
		if n.stack == nil || n.off != "" {
			continue
		}
		s := manifestStack{
			Name: n.name, Grade: one.section.Grade, Digests: one.digests, Lineage: one.lineage, Serial: one.serial, Actions: actionsDigest(one.section.Changes),
		}
		if one.appliable && one.section.Pending() {
			to := filepath.Join(folder, n.name+".tfplan")
			if err := d.opts.Proc.CopySecretFile(one.file, to); err != nil {
				return fmt.Errorf("%s: %w", doing, err)
			}
			if s.File, err = d.fileDigest(to); err != nil {
				return fmt.Errorf("%s: %w", doing, err)
			}
		}
		m.Stacks = append(m.Stacks, s)
	}
	if err := d.opts.Proc.WriteSecretFile(filepath.Join(folder, planFile), text); err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	if text, err = json.MarshalIndent(m, "", "  "); err == nil { // Last, so that a bundle with a manifest is complete.
		err = d.opts.Proc.WriteSecretFile(filepath.Join(folder, manifestFile), append(text, '\n'))
	}
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return nil
}

// readBundle reads a plan from before and checks that everything it was made from is still the same.
// What differs is a *StaleBundle.
func (d *Driver) readBundle(ctx context.Context, r *run, folder string) (*plan.Plan, *planning, []*node, error) {
	doing := "read the plan in " + folder
	var m manifest
	var p plan.Plan
	text, err := d.opts.Proc.ReadFile(filepath.Join(folder, manifestFile))
	if err == nil {
		err = json.Unmarshal(text, &m)
	}
	if err != nil {
		return nil, nil, nil, fmt.Errorf("%s: %w; make it with latamctl plan --env %s --out %s", doing, err, d.opts.Environment, folder)
	}
	text, err = d.opts.Proc.ReadFile(filepath.Join(folder, planFile))
	if err == nil {
		err = json.Unmarshal(text, &p)
	}
	if err != nil {
		return nil, nil, nil, fmt.Errorf("%s: %w", doing, err)
	}
	stale := &StaleBundle{Folder: folder}
	differ := func(what string, planned, now any) {
		if before, ok := planned.(string); ok && planned != now && strings.HasPrefix(before, "sha256:") {
			stale.Mismatches = append(stale.Mismatches, what+" changed") // Two digests say no more.
			return
		}
		if planned != now {
			stale.Mismatches = append(stale.Mismatches, mismatch(what, planned, now))
		}
	}
	differ("version of the bundle", m.Version, bundleVersion)
	differ("environment", m.Environment, d.opts.Environment)
	differ("the version of terraform", m.TerraformVersion, d.opts.TerraformVersion)
	differ("the terraform program", m.TerraformDigest, d.opts.TerraformDigest)
	differ(planFile, m.Plan, digestOf(string(text)))
	var nodes []*node
	plans := newPlanning()
	all := d.allNodes()
	for _, section := range p.Sections {
		n := find(all, section.Name)
		if n == nil {
			stale.Mismatches = append(stale.Mismatches, "stack "+section.Name+" is no more")
			continue
		}
		one := &planned{node: n, section: section}
		if i := slices.IndexFunc(m.Stacks, func(s manifestStack) bool { return s.Name == n.name }); i >= 0 {
			if err := d.checkPlanned(ctx, r, folder, m.Stacks[i], one, differ); err != nil {
				return nil, nil, nil, fmt.Errorf("%s: %w", doing, err)
			}
		} else if n.stack != nil && n.off == "" {
			stale.Mismatches = append(stale.Mismatches, "stack "+n.name+" was off and is on now")
		}
		nodes = append(nodes, n)
		plans.put(one)
	}
	if len(stale.Mismatches) > 0 {
		return nil, nil, nil, stale
	}
	return &p, plans, nodes, nil
}

// mismatch says what is not as it was planned. Digests tell nobody anything.
func mismatch(what string, planned, now any) string {
	for _, v := range []any{planned, now} {
		if text, ok := v.(string); ok && strings.HasPrefix(text, digestPrefix) {
			return what + " changed"
		}
	}
	return fmt.Sprintf("%s was %v, is %v", what, planned, now)
}

// checkPlanned compares what a plan was made from with what is there now.
func (d *Driver) checkPlanned(ctx context.Context, r *run, folder string, m manifestStack, one *planned, differ func(what string, planned, now any)) error {
	s := one.node.stack
	where := "stack " + m.Name + ": "
	differ(where+"off", "", one.node.off)
	in, err := d.resolve(ctx, s, nil)
	if err != nil {
		return err
	}
	if one.digests, err = d.digests(s, in); err != nil {
		return err
	}
	st, err := d.states.Read(ctx, m.Name)
	if err != nil {
		return err
	}
	one.inputs, one.serial, one.lineage = one.digests.inputs(d.program()), st.Serial, st.Lineage
	differ(where+"its sources", m.Digests.Sources, one.digests.Sources)
	differ(where+"what the declaration and the settings give it", m.Digests.Values, one.digests.Values)
	differ(where+"the place of its state", m.Digests.Backend, one.digests.Backend)
	if m.Lineage != st.Lineage {
		differ(where+"its state", cmp.Or(m.Lineage, "none"), cmp.Or(st.Lineage, "none"))
	} else {
		differ(where+"the serial of its state, which every apply raises,", m.Serial, st.Serial)
	}
	differ(where+"its actions in "+planFile, m.Actions, actionsDigest(one.section.Changes))
	if m.Grade != plan.Exact {
		return nil // It is planned again when what it takes is there.
	}
	differ(where+"the outputs that it takes", m.Digests.Consumed, one.digests.Consumed)
	one.appliable = true
	if m.File == "" {
		return nil
	}
	one.file = filepath.Join(r.dir, m.Name+".tfplan") // A copy, so that what was checked is what is applied.
	if err := d.opts.Proc.CopySecretFile(filepath.Join(folder, m.Name+".tfplan"), one.file); err != nil {
		return err
	}
	digest, err := d.fileDigest(one.file)
	differ(where+"its plan file", m.File, digest)
	return err
}
