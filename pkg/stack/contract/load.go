package contract

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/typeexpr"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/latamctl/latamctl/pkg/strictyaml"
)

var (
	stackName    = regexp.MustCompile(`^[a-z]([a-z0-9-]{0,28}[a-z0-9])?$`)
	resourceType = regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)+$`)
	identifier   = regexp.MustCompile(`^[a-z][a-z0-9_]{0,63}$`)
)

// maxTypeBytes is the length of the longest type that is read; the parser recurses.
const maxTypeBytes = 4096

// reservedStack is the name of the section of the Kubernetes manifests in plans.
const reservedStack = "kubernetes"

// Load reads the contracts of all folders of builtin and own that have one. A folder of own with a
// built-in stack's name replaces it. Either may be nil. The error joins a *strictyaml.Problems for
// each contract at fault, by the names of the stacks.
func Load(builtin, own fs.FS) (*Set, error) {
	contracts := map[string]*reading{}
	for _, source := range []struct {
		files fs.FS
		own   bool
	}{{builtin, false}, {own, true}} {
		if source.files == nil {
			continue
		}
		if err := readAll(source.files, source.own, contracts); err != nil {
			return nil, err
		}
	}
	names := slices.Sorted(maps.Keys(contracts))
	for _, name := range names {
		contracts[name].link(contracts, names)
	}
	stacks := make([]*Stack, len(names))
	for i, name := range names {
		stacks[i] = contracts[name].stack
	}
	sorted, cycle := order(stacks)
	if cycle != nil {
		first := contracts[cycle[0]]
		first.Fault(first.needsAt[cycle[1]], "remove one of these needs", "the stacks need each other: %s", strings.Join(cycle, " → "))
	}
	var faults []error
	for _, name := range names {
		if err := contracts[name].Err(contractPath(name)); err != nil {
			faults = append(faults, err)
		}
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return &Set{Stacks: sorted}, nil
}

func contractPath(stack string) string { return path.Join("stacks", stack, File) }

func readAll(files fs.FS, own bool, into map[string]*reading) error {
	entries, err := fs.ReadDir(files, ".")
	if err != nil {
		return fmt.Errorf("list the stacks: %w", err)
	}
	for _, e := range entries {
		if !e.IsDir() || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		src, err := fs.ReadFile(files, path.Join(e.Name(), File))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read the contract of stack %s: %w", e.Name(), err)
		}
		folder, err := fs.Sub(files, e.Name())
		if err != nil {
			return fmt.Errorf("open the folder of stack %s: %w", e.Name(), err)
		}
		r := read(e.Name(), src)
		r.stack.Files, r.stack.Own = folder, own
		into[e.Name()] = r
	}
	return nil
}

// reading is a contract with its faults and the places of what refers to other stacks.
type reading struct {
	strictyaml.Reader
	stack   *Stack
	needsAt map[string]strictyaml.Place // by stack, of needs and from
	fromAt  map[string]strictyaml.Place // by variable
}

// read reads what one contract says by itself.
func read(name string, src []byte) *reading {
	r := &reading{stack: &Stack{Name: name}, needsAt: map[string]strictyaml.Place{}, fromAt: map[string]strictyaml.Place{}}
	root := r.Read(src, `a contract begins with "description: …"`)
	switch {
	case !stackName.MatchString(name):
		r.Fault(strictyaml.Place{}, "rename its folder", "the name of stack %s may have at most 30 lower-case letters, digits and -, a letter first", strictyaml.Quote(name))
	case name == reservedStack:
		r.Fault(strictyaml.Place{}, "rename its folder", "the name %s is taken by the Kubernetes manifests", name)
	}
	if root == nil {
		return r
	}
	s, ok := r.Section(root, root.At, "", "description", "needs", "inputs", "from", "outputs", "protected", "keep", "requires")
	if !ok {
		return r
	}
	if n := r.Need(s, "description", "say in one sentence what the stack makes"); n != nil {
		r.stack.Description = r.sentence(n, "description")
	}
	r.needs(s.Get("needs"))
	r.inputs(s.Get("inputs"))
	r.from(s.Get("from"))
	r.outputs(s.Get("outputs"))
	r.stack.Protected = r.unique(s.Get("protected"), "protected", func(n *strictyaml.Node, text string) {
		if !resourceType.MatchString(text) {
			r.Fault(n.At, `write a type such as google_bigtable_table`, "protected: %s is no resource type", strictyaml.Quote(text))
		}
	})
	if n := s.Get("keep"); n != nil {
		r.stack.Keep = r.Bool(n, "keep")
	}
	keys := SettingKeys()
	r.stack.Requires = r.unique(s.Get("requires"), "requires", func(n *strictyaml.Node, text string) {
		if !slices.Contains(keys, text) {
			r.unknown(n, text, "requires: there is no setting", keys)
		}
	})
	slices.SortFunc(r.stack.Inputs, func(a, b Input) int { return strings.Compare(a.Name, b.Name) })
	slices.Sort(r.stack.Needs)
	return r
}

// sentence reads a text of one line that is not empty.
func (r *reading) sentence(n *strictyaml.Node, what string) string {
	text, ok := r.Text(n, what)
	switch {
	case !ok:
	case strings.TrimSpace(text) == "":
		r.Fault(n.At, "say it in one sentence", "%s is empty", what)
	case strings.ContainsAny(text, "\r\n"):
		r.Fault(n.At, "say it in one sentence", "%s has more than one line", what)
	}
	return text
}

// unknown reports a name that is none of known.
func (r *reading) unknown(n *strictyaml.Node, name, what string, known []string) {
	hint := ""
	switch near := strictyaml.Nearest(name, known); {
	case near != "":
		hint = fmt.Sprintf("did you mean %q?", near)
	case len(known) > 0 && len(known) <= 16:
		hint = "there are " + strings.Join(known, ", ")
	}
	r.Fault(n.At, hint, "%s %s", what, strictyaml.Quote(name))
}

// unique reads a list of texts of which none stands twice.
func (r *reading) unique(n *strictyaml.Node, what string, check func(n *strictyaml.Node, text string)) []string {
	if n == nil {
		return nil
	}
	var out []string
	for _, item := range r.Texts(n, what) {
		text, _ := item.Value.(string)
		if slices.Contains(out, text) {
			r.Fault(item.At, "remove one of them", "%s: %s stands twice", what, strictyaml.Quote(text))
			continue
		}
		check(item, text)
		out = append(out, text)
	}
	return out
}

func (r *reading) needs(n *strictyaml.Node) {
	r.stack.Needs = r.unique(n, "needs", func(n *strictyaml.Node, text string) {
		r.needsAt[text] = n.At
		if text == r.stack.Name {
			r.Fault(n.At, "remove it", "needs: stack %s needs itself", text)
		}
	})
}

func (r *reading) inputs(n *strictyaml.Node) {
	known := VariableNames()
	for _, name := range r.unique(n, "inputs", func(n *strictyaml.Node, text string) {
		if !slices.Contains(known, text) {
			r.unknown(n, text, "inputs: the catalogue has no variable", known)
		}
	}) {
		if v, ok := variable(name); ok {
			r.stack.Inputs = append(r.stack.Inputs, Input{Name: name, Type: v.Type, Sensitive: v.Sensitive, Description: v.Description})
		}
	}
}

// from reads the variables that take an output; link gives them their types.
func (r *reading) from(n *strictyaml.Node) {
	if n == nil {
		return
	}
	if n.Kind != strictyaml.Map {
		r.Fault(n.At, "write variable: stack.output", "from must be a map of outputs by variable, got %s", n)
		return
	}
	for _, e := range n.Entries {
		ref, ok := r.Text(e.Value, "from: "+strictyaml.Cut(e.Key))
		if !ok {
			continue
		}
		stack, output, dot := strings.Cut(ref, ".")
		switch {
		case !identifier.MatchString(e.Key):
			r.Fault(e.At, "", "from: %s is no name of a variable", strictyaml.Quote(e.Key))
		case !dot || stack == "" || output == "":
			r.Fault(e.Value.At, "write stack.output, such as cluster.endpoint", "from: %s must name an output, got %s", e.Key, e.Value)
		case stack == r.stack.Name:
			r.Fault(e.Value.At, "", "from: %s reads an output of its own stack", e.Key)
		case r.has(e.Key):
			r.Fault(e.At, "remove it from one of them", "from: %s is among the inputs as well", e.Key)
		default:
			r.fromAt[e.Key] = e.Value.At
			if _, ok := r.needsAt[stack]; !ok {
				r.needsAt[stack] = e.Value.At
				r.stack.Needs = append(r.stack.Needs, stack)
			}
			r.stack.Inputs = append(r.stack.Inputs, Input{Name: e.Key, From: ref})
		}
	}
}

func (r *reading) has(input string) bool {
	_, ok := r.stack.Input(input)
	return ok
}

func (r *reading) outputs(n *strictyaml.Node) {
	if n == nil {
		return
	}
	if n.Kind != strictyaml.Map {
		r.Fault(n.At, `write "name: {type: string, description: …}"`, "outputs must be a map by name, got %s", n)
		return
	}
	for _, e := range n.Entries {
		what := " in output " + strictyaml.Cut(e.Key)
		if !identifier.MatchString(e.Key) {
			r.Fault(e.At, "use lower-case letters, digits and _", "outputs: %s is no name of an output", strictyaml.Quote(e.Key))
		}
		s, ok := r.Section(e.Value, e.At, what, "type", "description", "sensitive")
		if !ok {
			continue
		}
		out := Output{Name: e.Key}
		if n := r.Need(s, "type", "write a type such as string"); n != nil {
			if text, ok := r.Text(n, "type"+what); ok {
				out.Type = text
				if _, err := parseType(text); err != nil {
					r.Fault(n.At, "write a type such as string or list(string)", "type%s: %v", what, err)
				}
			}
		}
		if n := r.Need(s, "description", "say what it is"); n != nil {
			out.Description = r.sentence(n, "description"+what)
		}
		if n := s.Get("sensitive"); n != nil {
			out.Sensitive = r.Bool(n, "sensitive"+what)
		}
		r.stack.Provides = append(r.stack.Provides, out)
	}
	slices.SortFunc(r.stack.Provides, func(a, b Output) int { return strings.Compare(a.Name, b.Name) })
}

// link checks what the contract says about others and takes the types of outputs.
func (r *reading) link(all map[string]*reading, names []string) {
	// What is at fault is left out, so that the order of the others can be found.
	r.stack.Needs = slices.DeleteFunc(r.stack.Needs, func(need string) bool {
		if all[need] == nil {
			r.unknown(&strictyaml.Node{At: r.needsAt[need]}, need, "there is no stack", names)
		}
		return all[need] == nil || need == r.stack.Name
	})
	for i := range r.stack.Inputs {
		in := &r.stack.Inputs[i]
		stack, output := in.Source()
		if stack == "" || all[stack] == nil {
			continue
		}
		at := r.fromAt[in.Name]
		out, ok := all[stack].stack.Output(output)
		if !ok {
			known := make([]string, len(all[stack].stack.Provides))
			for j, p := range all[stack].stack.Provides {
				known[j] = p.Name
			}
			r.unknown(&strictyaml.Node{At: at}, output, fmt.Sprintf("from: stack %s has no output", stack), known)
			continue
		}
		in.Type, in.Sensitive, in.Description = out.Type, out.Sensitive, out.Description
		if v, ok := variable(in.Name); ok && !sameType(v.Type, out.Type) {
			r.Fault(at, "take an output of that type, or name the variable otherwise", "from: the variable %s has the type %s, the output %s has %s", in.Name, v.Type, in.From, out.Type)
		}
	}
}

// parseType reads a type constraint.
func parseType(text string) (cty.Type, error) {
	if len(text) > maxTypeBytes {
		return cty.NilType, fmt.Errorf("the type has %d bytes, at most %d are read", len(text), maxTypeBytes)
	}
	expr, diags := hclsyntax.ParseExpression([]byte(text), "type", hcl.InitialPos)
	if !diags.HasErrors() {
		var t cty.Type
		if t, diags = typeexpr.TypeConstraint(expr); !diags.HasErrors() {
			return t, nil
		}
	}
	return cty.NilType, fmt.Errorf("%s is no type of Terraform", strictyaml.Quote(text))
}

func sameType(a, b string) bool {
	ta, errA := parseType(a)
	tb, errB := parseType(b)
	return errA == nil && errB == nil && ta.Equals(tb)
}
