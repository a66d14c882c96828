// Package contract knows what every stack needs and provides: its place in the order, its variables
// with where their values come from, its outputs, and what in it must not be lost.
package contract

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// File is the name of the contract in a stack's folder.
const File = "contract.yaml"

// Stack is one Terraform root module with its contract, contract.yaml.
type Stack struct {
	Name        string
	Description string // one sentence
	// Needs are the stacks that must be applied before this one, sorted. The stacks that Inputs read from are among them.
	Needs []string
	// Inputs are its Terraform variables, sorted by name.
	Inputs []Input
	// Provides are its Terraform outputs, sorted by name.
	Provides []Output
	// Protected are the resource types that are deleted or replaced only when their address is named.
	Protected []string
	// Keep leaves the stack alone in `down` unless it is named.
	Keep bool
	// Requires are the settings without which the stack is left out, such as billing_account.
	Requires []string
	// Files has the stack's files at its root.
	Files fs.FS
	// Own is true for a stack of the user's folder, false for a built-in one.
	Own bool
}

// Input is one variable of a stack.
type Input struct {
	Name string
	// Type is Terraform's type constraint, such as string, or map(object({…})).
	Type string
	// From is "stack.output" for a value that only an apply makes, and empty for one that is derived
	// from the declaration and the settings.
	From string
	// Sensitive values are never shown.
	Sensitive bool
	// Description is one sentence, for people.
	Description string
}

// Source splits From into the stack and its output; both are "" for a derived value.
func (in Input) Source() (stack, output string) {
	stack, output, _ = strings.Cut(in.From, ".")
	return stack, output
}

// Output is one output of a stack.
type Output struct {
	Name, Type, Description string
	Sensitive               bool
}

// Input returns the variable with that name.
func (s *Stack) Input(name string) (Input, bool) {
	for _, in := range s.Inputs {
		if in.Name == name {
			return in, true
		}
	}
	return Input{}, false
}

// Output returns the output with that name.
func (s *Stack) Output(name string) (Output, bool) {
	for _, out := range s.Provides {
		if out.Name == name {
			return out, true
		}
	}
	return Output{}, false
}

// Sources are the paths of the files that a run of the stack needs, sorted. Left out are its README,
// its tests, folders whose name begins with a dot, and Kubernetes manifests, which are not Terraform's.
func (s *Stack) Sources() ([]string, error) {
	var paths []string
	err := fs.WalkDir(s.Files, ".", func(name string, d fs.DirEntry, err error) error {
		base := path.Base(name)
		switch {
		case err != nil:
			return err
		case name == ".":
		case d.IsDir():
			if strings.HasPrefix(base, ".") || name == "tests" || name == "kubernetes" {
				return fs.SkipDir
			}
		case base == "README.md", strings.HasSuffix(base, ".tftest.hcl"):
		default:
			paths = append(paths, name)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list files of stack %s: %w", s.Name, err)
	}
	slices.Sort(paths)
	return paths, nil
}

// SourceDigest names what the stack is made of: "sha256:" and 64 hexadecimal digits over Sources. It
// is the same wherever the files come from, and changes with any of their names and contents.
func (s *Stack) SourceDigest() (string, error) {
	paths, err := s.Sources()
	if err != nil {
		return "", err
	}
	h := sha256.New()
	for _, name := range paths {
		data, err := fs.ReadFile(s.Files, name)
		if err != nil {
			return "", fmt.Errorf("read %s of stack %s: %w", name, s.Name, err)
		}
		fmt.Fprintf(h, "%d:%s%d:", len(name), name, len(data))
		h.Write(data)
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil)), nil
}
