package strictyaml_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/latamctl/latamctl/pkg/strictyaml"
)

// read reads a small file of the keys that a section can have.
func read(src string) (*strictyaml.Reader, []string, error) {
	r := &strictyaml.Reader{}
	var out []string
	root := r.Read([]byte(src), "write something")
	if root == nil {
		return r, nil, r.Err("dir/f.yaml")
	}
	s, ok := r.Section(root, root.At, "", "kind", "keep", "needs", "name")
	if !ok {
		return r, nil, r.Err("dir/f.yaml")
	}
	if n := r.Need(s, "name", "write \"name: x\""); n != nil {
		name, _ := r.Text(n, "name")
		out = append(out, name)
	}
	if n := s.Get("kind"); n != nil {
		out = append(out, r.OneOf(n, "kind", "stack", "monitor"))
	}
	if n := s.Get("keep"); n != nil && r.Bool(n, "keep") {
		out = append(out, "keep")
	}
	if n := s.Get("needs"); n != nil {
		for _, item := range r.Texts(n, "needs") {
			out = append(out, item.Value.(string))
		}
	}
	return r, out, r.Err("dir/f.yaml")
}

func TestRead(t *testing.T) {
	t.Parallel()
	r, got, err := read("name: x\nkind: stack\nkeep: true\nneeds: [a, &b b, *b]\n")
	if err != nil || r.Faults() != 0 {
		t.Fatal(err)
	}
	if want := "x stack keep a b b"; strings.Join(got, " ") != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	for src, want := range map[string]string{
		"":                           "dir/f.yaml:1:1: the file is empty; write something",
		"- a\n":                      "dir/f.yaml:1:1: expected a map, got a list; its keys are kind, keep, needs, name",
		"kind: stack\n":              `dir/f.yaml:1:1: the key "name" is missing; write "name: x"`,
		"name: x\nkeeep: true\n":     `dir/f.yaml:2:1: unknown key "keeep"; did you mean "keep"?`,
		"name: x\nkeep: yes please":  `dir/f.yaml:2:7: keep must be true or false, got the text "yes please"`,
		"name: x\nkind: stak\n":      `dir/f.yaml:2:7: kind must be one of stack, monitor, got the text "stak"; did you mean "stack"?`,
		"name: 5\n":                  "dir/f.yaml:1:7: name must be text, got the number 5; put it in quotes",
		"name: x\nneeds: a\n":        `dir/f.yaml:2:8: needs must be a list, got the text "a"; write [a, b]`,
		"name: x\nneeds: [a, [b]]\n": "dir/f.yaml:2:12: an entry of needs must be text, got a list",
		"name: x\nneeds:\n":          `dir/f.yaml:2:1: the key "needs" has no value; give it a value or remove it`,
		"name: x\nname: y\n":         `dir/f.yaml:2:1: duplicate key "name", which stands in line 1 already`,
		"name: x\n---\nname: y\n":    "dir/f.yaml:3:1: the file has more than one YAML document",
		"name: !x y\n":               "dir/f.yaml:1:7: YAML tags such as \"!x\" are not supported",
	} {
		_, _, err := read(src)
		var problems *strictyaml.Problems
		if !errors.As(err, &problems) {
			t.Errorf("%q gives %v", src, err)
		} else if !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q gives\n%v\nwant\n%s", src, err, want)
		}
	}
}
