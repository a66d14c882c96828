package contract

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/typeexpr"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/latamctl/latamctl/pkg/strictyaml"
)

func stringValue(s string) cty.Value { return cty.StringVal(s) }

// Check proves without terraform and without a network that the HCL of every stack fits its
// contract: the same variables with the same types, the same outputs, protected types that occur,
// and no backend of its own. What contracts say about each other was checked by Load. The error joins
// a *strictyaml.Problems for each file at fault, in the order of the stacks.
func Check(set *Set) error {
	var faults []error
	for _, s := range set.Stacks {
		faults = append(faults, CheckStack(s))
	}
	return errors.Join(faults...)
}

// CheckStack is Check of one stack.
func CheckStack(s *Stack) error {
	m := &module{stack: s, files: map[string]*strictyaml.Problems{}, sources: map[string][]string{}, types: map[string]bool{}}
	if err := m.read(); err != nil {
		return err
	}
	if len(m.files) == 0 {
		m.variables()
		m.outputs()
		m.protected()
	}
	var faults []error
	for _, name := range slices.Sorted(maps.Keys(m.files)) {
		faults = append(faults, m.files[name])
	}
	return errors.Join(faults...)
}

// module is the HCL of a stack.
type module struct {
	stack   *Stack
	files   map[string]*strictyaml.Problems // by path, those with faults
	sources map[string][]string             // lines, by path
	vars    []*hclsyntax.Block
	outs    []*hclsyntax.Block
	types   map[string]bool // of its resources
}

func (m *module) fault(at hcl.Range, hint, format string, args ...any) {
	p := strictyaml.Problem{Line: max(1, at.Start.Line), Column: max(1, at.Start.Column), Message: fmt.Sprintf(format, args...), Hint: hint}
	if lines := m.sources[at.Filename]; p.Line <= len(lines) {
		p.Source = lines[p.Line-1]
	}
	if m.files[at.Filename] == nil {
		m.files[at.Filename] = &strictyaml.Problems{File: at.Filename}
	}
	m.files[at.Filename].List = append(m.files[at.Filename].List, p)
}

// inContract is where a fault of the contract as a whole is shown.
func (m *module) inContract() hcl.Range {
	return hcl.Range{Filename: path.Join("stacks", m.stack.Name, File), Start: hcl.InitialPos}
}

func (m *module) read() error {
	names, err := fs.Glob(m.stack.Files, "*.tf")
	if err != nil {
		return fmt.Errorf("list files of stack %s: %w", m.stack.Name, err)
	}
	if len(names) == 0 {
		m.fault(m.inContract(), "write what it makes in main.tf", "stack %s has no .tf file", m.stack.Name)
	}
	if src, err := fs.ReadFile(m.stack.Files, File); err == nil {
		m.sources[m.inContract().Filename] = strings.Split(string(src), "\n")
	}
	for _, name := range names {
		src, err := fs.ReadFile(m.stack.Files, name)
		if err != nil {
			return fmt.Errorf("read %s of stack %s: %w", name, m.stack.Name, err)
		}
		m.file(path.Join("stacks", m.stack.Name, name), src)
	}
	return nil
}

func (m *module) file(name string, src []byte) {
	m.sources[name] = strings.Split(string(src), "\n")
	if len(src) > strictyaml.MaxFileBytes {
		m.fault(hcl.Range{Filename: name}, "", "the file has %d bytes, at most %d are read", len(src), strictyaml.MaxFileBytes)
		return
	}
	tokens, _ := hclsyntax.LexConfig(src, name, hcl.InitialPos) // The parser reports the same faults.
	if at, err := tooDeep(tokens); err != nil {
		m.fault(at, "", "%v", err)
		return
	}
	file, diags := hclsyntax.ParseConfig(src, name, hcl.InitialPos)
	for _, d := range diags {
		at := hcl.Range{Filename: name}
		if d.Subject != nil {
			at = *d.Subject
		}
		m.fault(at, "", "%s: %s", d.Summary, d.Detail)
	}
	body, ok := file.Body.(*hclsyntax.Body)
	if !ok || diags.HasErrors() {
		return
	}
	for _, b := range body.Blocks {
		switch {
		case b.Type == "variable" && len(b.Labels) == 1:
			m.vars = append(m.vars, b)
		case b.Type == "output" && len(b.Labels) == 1:
			m.outs = append(m.outs, b)
		case b.Type == "resource" && len(b.Labels) == 2:
			m.types[b.Labels[0]] = true
		case b.Type == "terraform":
			m.backends(b)
		}
	}
}

func (m *module) backends(b *hclsyntax.Block) {
	for _, inner := range b.Body.Blocks {
		if inner.Type == "backend" || inner.Type == "cloud" {
			m.fault(inner.TypeRange, "remove it; the setting state says where states are", "the block %s is written by latamctl", inner.Type)
		}
	}
}

const writeHint = "run `latamctl stacks check --write`"

func (m *module) variables() {
	seen := map[string]bool{}
	for _, b := range m.vars {
		name := b.Labels[0]
		in, ok := m.stack.Input(name)
		if !ok {
			known := make([]string, len(m.stack.Inputs))
			for i, in := range m.stack.Inputs {
				known[i] = in.Name
			}
			hint := "add it to inputs or from in contract.yaml, or remove it"
			if near := strictyaml.Nearest(name, known); near != "" {
				hint = fmt.Sprintf("did you mean %q?", near)
			}
			m.fault(b.LabelRanges[0], hint, "the variable %s is not in the contract", strictyaml.Quote(name))
			continue
		}
		seen[name] = true
		m.variableType(b, in)
		if literalTrue(b.Body.Attributes["sensitive"]) != in.Sensitive {
			m.fault(b.LabelRanges[0], writeHint, "the variable %s must have sensitive = %t, as in the contract", name, in.Sensitive)
		}
	}
	for _, in := range m.stack.Inputs {
		if !seen[in.Name] {
			m.fault(m.inContract(), writeHint, "no variable block takes the input %s", in.Name)
		}
	}
}

func (m *module) variableType(b *hclsyntax.Block, in Input) {
	attr := b.Body.Attributes["type"]
	if attr == nil {
		m.fault(b.LabelRanges[0], writeHint, "the variable %s has no type, the contract says %s", in.Name, shortType(in.Type))
		return
	}
	t, diags := typeexpr.TypeConstraint(attr.Expr)
	want, err := parseType(in.Type)
	if diags.HasErrors() || err != nil || !t.Equals(want) {
		m.fault(attr.SrcRange, writeHint, "the variable %s must have the type %s, as in the contract", in.Name, shortType(in.Type))
	}
}

func (m *module) outputs() {
	seen := map[string]bool{}
	for _, b := range m.outs {
		name := b.Labels[0]
		out, ok := m.stack.Output(name)
		if !ok {
			m.fault(b.LabelRanges[0], "add it to outputs in contract.yaml, or remove it", "the output %s is not in the contract", strictyaml.Quote(name))
			continue
		}
		seen[name] = true
		if literalTrue(b.Body.Attributes["sensitive"]) != out.Sensitive {
			m.fault(b.LabelRanges[0], "make them the same", "the output %s must have sensitive = %t, as in the contract", name, out.Sensitive)
		}
	}
	for _, out := range m.stack.Provides {
		if !seen[out.Name] {
			m.fault(m.inContract(), "add it to outputs.tf, or remove it from the contract", "no output block gives the output %s", out.Name)
		}
	}
}

func (m *module) protected() {
	known := slices.Sorted(maps.Keys(m.types))
	for _, t := range m.stack.Protected {
		if m.types[t] {
			continue
		}
		hint := "remove it"
		if near := strictyaml.Nearest(t, known); near != "" {
			hint = fmt.Sprintf("did you mean %q?", near)
		}
		m.fault(m.inContract(), hint, "protected: the stack has no resource of type %s", t)
	}
}

// literalTrue reports whether an attribute is there and is written as true.
func literalTrue(attr *hclsyntax.Attribute) bool {
	if attr == nil {
		return false
	}
	v, diags := attr.Expr.Value(nil)
	return !diags.HasErrors() && v.Type() == cty.Bool && v.IsKnown() && !v.IsNull() && v.True()
}

// Stale returns the generated files of a stack that are not what its contract makes, by path with
// what they should have: variables.tf, and README.md when the stack has one.
func Stale(s *Stack) ([]NewFile, error) {
	var out []NewFile
	keep := func(name string, want []byte, got []byte) {
		if !bytes.Equal(want, got) {
			out = append(out, NewFile{Path: path.Join(s.Name, name), Data: want})
		}
	}
	got, err := fs.ReadFile(s.Files, VariablesFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read %s of stack %s: %w", VariablesFile, s.Name, err)
	}
	keep(VariablesFile, VariablesTF(s), got)
	readme, err := fs.ReadFile(s.Files, readmeFile)
	if errors.Is(err, fs.ErrNotExist) {
		return out, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s of stack %s: %w", readmeFile, s.Name, err)
	}
	want, err := Readme(s, readme)
	if err != nil {
		return nil, err
	}
	keep(readmeFile, want, readme)
	return out, nil
}

const readmeFile = "README.md"
