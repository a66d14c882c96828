package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Pairs is a setting of names with one or more values each. A flag and a variable write it
// page=@a,chat=@b,chat=@c; a file as a map {page: "@a", chat: ["@b", "@c"]}.
type Pairs map[string][]string

// Set adds what a text in the form of flags says.
func (p *Pairs) Set(text string) error {
	if strings.TrimSpace(text) == "" {
		return nil
	}
	for part := range strings.SplitSeq(text, ",") {
		name, value, found := strings.Cut(part, "=")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		if !found || name == "" || value == "" {
			return fmt.Errorf("%q is not NAME=VALUE", strings.TrimSpace(part))
		}
		if *p == nil {
			*p = Pairs{}
		}
		(*p)[name] = append((*p)[name], value)
	}
	return nil
}

// Type is what help calls it.
func (*Pairs) Type() string { return "name=value" }

// String writes the pairs as Set reads them, by name.
func (p *Pairs) String() string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(*p)) {
		for _, value := range (*p)[name] {
			parts = append(parts, name+"="+value)
		}
	}
	return strings.Join(parts, ",")
}

// clear forgets all pairs, because settings can be resolved more than once.
func (p *Pairs) clear() { *p = nil }

// setMap takes what a file says.
func (p *Pairs) setMap(entries map[string]any) error {
	p.clear()
	for _, name := range slices.Sorted(maps.Keys(entries)) {
		values, isList := entries[name].([]any)
		if !isList {
			values = []any{entries[name]}
		}
		for _, value := range values {
			text, ok := value.(string)
			if !ok {
				return fmt.Errorf("%s must be a text or a list of texts, got %v", name, value)
			}
			if err := p.Set(name + "=" + text); err != nil {
				return err
			}
		}
	}
	return nil
}
