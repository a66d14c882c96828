package stack

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/latamctl/latamctl/pkg/stack/contract"
	"github.com/latamctl/latamctl/pkg/stack/terraform"
)

// digests name everything that the plan of a stack is made from.
type digests struct {
	Sources  string `json:"sources"`
	Values   string `json:"values"`
	Consumed string `json:"consumed"`
	Backend  string `json:"backend"`
}

// inputs is one digest of all of them and of the program.
func (g digests) inputs(program string) string {
	return digestOf(g.Sources, g.Values, g.Consumed, g.Backend, program)
}

const digestPrefix = "sha256:"

func digestOf(parts ...string) string {
	h := sha256.New()
	for _, part := range parts {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	return digestPrefix + hex.EncodeToString(h.Sum(nil))
}

// jsonDigest is the digest of a value's JSON, which has its keys in order.
func jsonDigest(v any) (string, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	return digestOf(string(data)), nil
}

// backendFile is the file that tells Terraform where the state is.
const backendFile = "backend.tf.json"

func (d *Driver) backend(stack string) map[string]any {
	kind, config := d.opts.State.Backend(d.states.Prefix(stack))
	return map[string]any{"terraform": map[string]any{"backend": map[string]any{kind: config}}}
}

// digests computes what a stack would be planned from, and writes nothing.
func (d *Driver) digests(s *contract.Stack, in inputs) (digests, error) {
	var g digests
	var err error
	if g.Sources, err = s.SourceDigest(); err != nil {
		return g, err
	}
	for _, part := range []struct {
		to *string
		v  any
	}{{&g.Values, in.derived}, {&g.Consumed, in.consumed}, {&g.Backend, d.backend(s.Name)}} {
		if *part.to, err = jsonDigest(part.v); err != nil {
			return g, fmt.Errorf("write the variables of stack %s as JSON: %w", s.Name, err)
		}
	}
	return g, nil
}

// prepare writes the working folder of a stack and its variables. A throwaway folder has an empty
// local state instead of the real one: nothing may be applied from it.
func (d *Driver) prepare(r *run, s *contract.Stack, in inputs, throwaway bool) (terraform.Workspace, error) {
	w := terraform.Workspace{
		Stack: s.Name, Dir: d.folder(s.Name), RunDir: r.dir,
		VarFile: filepath.Join(r.dir, s.Name+".tfvars.json"),
	}
	doing := "prepare stack " + s.Name
	backend := d.backend(s.Name)
	if throwaway {
		w.Dir = filepath.Join(r.dir, "empty", s.Name)
		path := filepath.Join(r.dir, "empty", s.Name+".tfstate")
		backend = map[string]any{"terraform": map[string]any{"backend": map[string]any{"local": map[string]any{"path": path}}}}
	}
	files, err := sources(s)
	if err != nil {
		return w, err
	}
	if files[backendFile], err = json.MarshalIndent(backend, "", "  "); err != nil {
		return w, fmt.Errorf("%s: %w", doing, err)
	}
	if err := d.opts.Proc.SyncFolder(w.Dir, files, staysInFolder); err != nil {
		return w, fmt.Errorf("%s: %w", doing, err)
	}
	variables, err := json.Marshal(in.all())
	if err != nil {
		return w, fmt.Errorf("%s: write its variables as JSON: %w", doing, err)
	}
	if err := d.opts.Proc.WriteSecretFile(w.VarFile, variables); err != nil {
		return w, fmt.Errorf("%s: %w", doing, err)
	}
	return w, nil
}

func (d *Driver) folder(stack string) string {
	return filepath.Join(d.opts.Dir, "work", d.opts.Environment, stack)
}

// staysInFolder are the files that belong to Terraform: its own folder, the lock file of providers,
// and a state that could not be saved, which is known nowhere else.
func staysInFolder(path string) bool {
	return path == ".terraform" || path == ".terraform.lock.hcl" || strings.HasPrefix(path, "errored.tfstate")
}

func sources(s *contract.Stack) (map[string][]byte, error) {
	paths, err := s.Sources()
	if err != nil {
		return nil, err
	}
	files := make(map[string][]byte, len(paths)+1)
	for _, path := range paths {
		if files[path], err = fs.ReadFile(s.Files, path); err != nil {
			return nil, fmt.Errorf("read %s of stack %s: %w", path, s.Name, err)
		}
	}
	return files, nil
}
