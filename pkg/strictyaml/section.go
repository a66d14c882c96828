package strictyaml

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// MaxQuoted is how many bytes of a value a message shows.
const MaxQuoted = 64

// Quote quotes s for a message and cuts it to MaxQuoted bytes.
func Quote(s string) string {
	if len(s) <= MaxQuoted {
		return strconv.Quote(s)
	}
	cut := MaxQuoted
	for cut > MaxQuoted-utf8.UTFMax && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return strconv.Quote(s[:cut]) + "…"
}

// Cut shortens a name that is shown without quotes.
func Cut(name string) string {
	if len(name) <= MaxQuoted {
		return name
	}
	return strings.ToValidUTF8(name[:MaxQuoted], "") + "…"
}

// Section is a map whose keys are known.
type Section struct {
	At      Place
	Where   string // for messages: " in dataset flights", "" at the top
	Entries []Entry
}

// Get returns the value of a key; nil when it is absent, has no value or is broken.
func (s Section) Get(key string) *Node {
	for _, e := range s.Entries {
		if e.Key == key && !e.Value.IsNull() && !e.Value.Broken {
			return e.Value
		}
	}
	return nil
}

// Section checks that n is a map of known keys. ok is false when it is no map.
func (r *Reader) Section(n *Node, at Place, where string, known ...string) (s Section, ok bool) {
	if n.Broken {
		return Section{}, false
	}
	if n.Kind != Map {
		r.Fault(n.At, "its keys are "+strings.Join(known, ", "), "expected a map%s, got %s", where, n)
		return Section{}, false
	}
	for _, e := range n.Entries {
		switch {
		case !slices.Contains(known, e.Key):
			hint := "the known keys are " + strings.Join(known, ", ")
			if near := Nearest(e.Key, known); near != "" {
				hint = fmt.Sprintf("did you mean %q?", near)
			}
			r.Fault(e.At, hint, "unknown key %s%s", Quote(e.Key), where)
		case e.Value.IsNull():
			r.Fault(e.At, "give it a value or remove it", "the key %q%s has no value", e.Key, where)
		}
	}
	return Section{At: at, Where: where, Entries: n.Entries}, true
}

// Need returns the value of a key that must be there; nil when it is not, which is reported. A key
// without a value has been reported before.
func (r *Reader) Need(s Section, key, hint string) *Node {
	n := s.Get(key)
	if n == nil && !slices.ContainsFunc(s.Entries, func(e Entry) bool { return e.Key == key }) {
		r.Fault(s.At, hint, "the key %q is missing%s", key, s.Where)
	}
	return n
}

// Text reads a string; what names it in messages.
func (r *Reader) Text(n *Node, what string) (string, bool) {
	if n.Broken {
		return "", false
	}
	s, ok := n.Value.(string)
	if n.Kind != Scalar || !ok {
		hint := ""
		if n.Kind == Scalar {
			hint = "put it in quotes"
		}
		r.Fault(n.At, hint, "%s must be text, got %s", what, n)
		return "", false
	}
	return s, true
}

// OneOf reads a text that has to be one of the choices.
func (r *Reader) OneOf(n *Node, what string, choices ...string) string {
	text, ok := r.Text(n, what)
	if ok && !slices.Contains(choices, text) {
		hint := ""
		if near := Nearest(text, choices); near != "" {
			hint = fmt.Sprintf("did you mean %q?", near)
		}
		r.Fault(n.At, hint, "%s must be one of %s, got %s", what, strings.Join(choices, ", "), n)
	}
	return text
}

// Texts reads a list of strings, which may be empty. Each is returned with its place.
func (r *Reader) Texts(n *Node, what string) []*Node {
	if n.Broken {
		return nil
	}
	if n.Kind != List {
		r.Fault(n.At, "write [a, b]", "%s must be a list, got %s", what, n)
		return nil
	}
	var out []*Node
	for _, item := range n.Items {
		if _, ok := r.Text(item, "an entry of "+what); ok {
			out = append(out, item)
		}
	}
	return out
}

// Bool reads true or false; what names it in messages.
func (r *Reader) Bool(n *Node, what string) bool {
	b, ok := n.Value.(bool)
	if !ok && !n.Broken {
		r.Fault(n.At, "", "%s must be true or false, got %s", what, n)
	}
	return b
}
