package declare

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/latamctl/latamctl/pkg/strictyaml"
)

// refText is a reference to another object as it stands in a text.
var refText = regexp.MustCompile(`\$\{ref:([a-z]+)\.([a-z0-9_.-]+)\}`)

// refForm is what stands between ${ref: and the brace.
var refForm = regexp.MustCompile(`^([a-z]+)\.([a-z0-9_-]+)$`)

// unset is the value of something of the environment that is not known.
type unset struct{ environment string }

// scope holds what ${} can name, the nearest first.
type scope struct {
	names map[string]any // string, bool, int, int64, uint64, float64, nil, unset or *value
	outer *scope
	// limits is shared by all scopes of a Load.
	limits *limits
}

// limits keep a Load from taking long, whatever the files say.
type limits struct {
	objects int
	values  int
	bytes   int
	hints   int
}

func (l *limits) exceeded(objects int) bool {
	return l.objects > objects || l.values > maxValues || l.bytes > maxTotalBytes
}

// maxHints is how many hints name what was probably meant; finding that takes a while.
const maxHints = 100

// hint names what was probably meant among the names that there are.
func (l *limits) hint(name, what string, names func() []string) string {
	if l.hints++; l.hints > maxHints {
		return ""
	}
	all := names()
	return didYouMean(name, all, known(what, all))
}

// The largest text that ${} makes, all of them together, and how many values are looked through for it.
const (
	maxTextBytes  = 64 << 10
	maxTotalBytes = 32 << 20
	maxValues     = 2_000_000
)

func (s *scope) inner(names map[string]any) *scope {
	return &scope{names: names, outer: s, limits: s.limits}
}

func (s *scope) lookup(name string) (any, bool) {
	for ; s != nil; s = s.outer {
		if v, ok := s.names[name]; ok {
			return v, true
		}
	}
	return nil, false
}

func (s *scope) all() []string {
	set := map[string]bool{}
	for ; s != nil; s = s.outer {
		for name := range s.names {
			set[name] = true
		}
	}
	return slices.Sorted(maps.Keys(set))
}

// filler puts values in the place of ${}.
type filler struct {
	*scope
	where string
	// partial leaves names alone that the scope does not have, and $${ as well: another filler follows.
	partial bool
	// lenient takes what is unset for an empty text.
	lenient bool
	bad     bool
}

// fill returns v with the values that its texts name. The value itself is not changed.
func (f *filler) fill(v *value) *value {
	if v == nil {
		return nil
	}
	if f.limits.values++; f.limits.values > maxValues {
		f.fault(v, "declare fewer objects", "the objects have more than %d values together", maxValues)
		return v
	}
	switch v.kind {
	case strictyaml.List:
		out := *v
		out.items = make([]*value, len(v.items))
		for i, item := range v.items {
			out.items[i] = f.fill(item)
		}
		return &out
	case strictyaml.Map:
		out := *v
		out.entries = make([]entry, len(v.entries))
		for i, e := range v.entries {
			out.entries[i] = entry{e.key, e.at, f.fill(e.value)}
		}
		return &out
	}
	text, ok := v.scalar.(string)
	if f.limits.bytes += len(text); f.limits.bytes > maxTotalBytes {
		f.fault(v, "declare fewer objects", "all texts together are longer than %d bytes", maxTotalBytes)
		return v
	}
	if !ok || !strings.Contains(text, "${") {
		return v
	}
	return f.scalar(v, text)
}

func (f *filler) scalar(v *value, text string) *value {
	out := *v
	if name, ok := whole(text); ok {
		found, ok := f.find(v, name)
		if !ok {
			return v
		}
		if tree, ok := found.(*value); ok {
			out = *tree
			out.file, out.at = v.file, v.at
			return &out
		}
		out.scalar = found
		return &out
	}
	filled, ok := f.text(v, text, 0)
	if ok {
		out.scalar = filled
	}
	return &out
}

// whole returns the name when text is one ${name} and nothing else.
func whole(text string) (string, bool) {
	inside, ok := strings.CutPrefix(text, "${")
	if !ok || !strings.HasSuffix(inside, "}") {
		return "", false
	}
	inside = inside[:len(inside)-1]
	return inside, !strings.ContainsAny(inside, "{}") && !strings.HasPrefix(inside, "ref:")
}

// find looks a name up. It returns false when there is nothing to put in its place.
func (f *filler) find(v *value, name string) (any, bool) {
	found, ok := f.lookup(name)
	if !ok {
		if !f.partial {
			f.unknown(v, name)
		}
		return nil, false
	}
	if missing, ok := found.(unset); ok {
		if f.lenient {
			return "", true
		}
		f.fault(v, fmt.Sprintf("set it, or leave the object out with enabled: \"${%s}\"", name), "${%s}%s is not known in environment %s", name, f.where, missing.environment)
		return nil, false
	}
	return found, true
}

func (f *filler) unknown(v *value, name string) {
	hint := "give it in thresholds"
	if _, each := f.lookup("each.key"); strings.HasPrefix(name, "each.") && !each {
		hint = "each is known in objects with for_each"
	} else if !isThreshold(name) {
		hint = f.limits.hint(name, "names", f.all)
	}
	f.fault(v, hint, "nothing is called ${%s}%s", strictyaml.Cut(name), f.where)
}

func (f *filler) fault(v *value, hint, format string, args ...any) {
	f.bad = true
	v.fault(hint, format, args...)
}

// text fills a text. Depth is 1 inside of ${ref:…}.
func (f *filler) text(v *value, text string, depth int) (string, bool) {
	var b strings.Builder
	for {
		i := strings.Index(text, "${")
		if i < 0 {
			b.WriteString(text)
			break
		}
		if i > 0 && text[i-1] == '$' {
			b.WriteString(text[:i-1])
			if f.partial {
				b.WriteByte('$')
			}
			b.WriteString("${")
			text = text[i+2:]
			continue
		}
		b.WriteString(text[:i])
		inside, rest, ok := braces(text[i+2:])
		if !ok {
			f.fault(v, "write $${ for a literal ${", "a ${%s has no matching }", f.where)
			return "", false
		}
		text = rest
		filled, ok := f.braced(v, inside, depth)
		if !ok {
			return "", false
		}
		b.WriteString(filled)
		if b.Len()+len(text) > maxTextBytes {
			f.fault(v, "", "the text%s becomes longer than %d bytes", f.where, maxTextBytes)
			return "", false
		}
	}
	f.limits.bytes += b.Len()
	if f.limits.bytes > maxTotalBytes {
		f.fault(v, "declare fewer objects", "all texts together are longer than %d bytes", maxTotalBytes)
		return "", false
	}
	return b.String(), true
}

// braces cuts text at the brace that closes it; one pair may stand inside.
func braces(text string) (inside, rest string, ok bool) {
	depth := 0
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '$' && i+1 < len(text) && text[i+1] == '{':
			if depth++; depth > 1 {
				return "", "", false
			}
		case text[i] == '}' && depth == 0:
			return text[:i], text[i+1:], true
		case text[i] == '}':
			depth--
		}
	}
	return "", "", false
}

func (f *filler) braced(v *value, inside string, depth int) (string, bool) {
	name, isRef := strings.CutPrefix(inside, "ref:")
	if isRef && depth == 0 {
		filled, ok := f.text(v, name, 1)
		if ok && !f.partial && !refForm.MatchString(filled) {
			f.fault(v, "write ${ref:monitor.NAME} or ${ref:slo.NAME}", "the reference %s%s has an unexpected form", strictyaml.Quote(filled), f.where)
			return "", false
		}
		return "${ref:" + filled + "}", ok
	}
	if f.partial {
		if _, ok := f.lookup(inside); !ok {
			return "${" + inside + "}", true
		}
	}
	found, ok := f.find(v, inside)
	if !ok {
		return "", false
	}
	filled, ok := plain(found)
	if !ok {
		f.fault(v, "put ${"+inside+"} alone", "${%s}%s is a list or a map, which has no place inside a text", inside, f.where)
	}
	return filled, ok
}

// plain writes a scalar as it stands in a text; ok is false of a list and of a map.
func plain(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case bool:
		return strconv.FormatBool(v), true
	case nil:
		return "", true
	case *value:
		if v.kind != strictyaml.Scalar {
			return "", false
		}
		return plain(v.scalar)
	case int64:
		return strconv.FormatInt(v, 10), true
	case uint64:
		return strconv.FormatUint(v, 10), true
	}
	n, ok := number(v)
	return strconv.FormatFloat(n, 'f', -1, 64), ok
}
