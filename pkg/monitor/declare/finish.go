package declare

import (
	"fmt"
	"maps"
	"slices"
)

// finish puts the set together.
func (l *loader) finish() *Set {
	for _, o := range l.objects {
		o.Refs = refs(o.Payload)
		l.set.Objects = append(l.set.Objects, o)
	}
	slices.SortFunc(l.set.Objects, func(a, b *Object) int { return compareKeys(a.Key, b.Key) })
	if warning := l.handleWarning(); warning != "" {
		l.set.Warnings = append(l.set.Warnings, warning)
	}
	return l.set
}

// warn notes what is allowed and probably not meant.
func (l *loader) warn(format string, args ...any) {
	l.set.Warnings = append(l.set.Warnings, fmt.Sprintf(format, args...))
}

// refs are the objects that a payload names, each once, sorted.
func refs(payload map[string]any) []Key {
	found := map[Key]bool{}
	var visit func(v any)
	visit = func(v any) {
		switch v := v.(type) {
		case string:
			for _, parts := range refText.FindAllStringSubmatch(v, -1) {
				found[Key{Kind(parts[1]), parts[2]}] = true
			}
		case []any:
			for _, item := range v {
				visit(item)
			}
		case map[string]any:
			for _, item := range v {
				visit(item)
			}
		}
	}
	visit(payload)
	return slices.SortedFunc(maps.Keys(found), compareKeys)
}
