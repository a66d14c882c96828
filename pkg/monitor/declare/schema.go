package declare

import (
	"encoding/json"
	"fmt"
)

// Schema is the JSON Schema (draft 2020-12) of the files, for editors. It is written from what Load
// checks files against. What takes more than one value to see, Load alone reports.
func Schema() ([]byte, error) {
	s := fileShape().schema(false)
	s["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	s["title"] = "Monitors of latamctl"
	out, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write the JSON Schema of the monitors: %w", err)
	}
	return append(out, '\n'), nil
}

// interpolated is what stands for a value that is not known before ${} is filled.
const interpolated = `\$\{`

// schema describes a shape; fixed is set within what is taken as it is, without ${}. Keys that a definition can take from what it extends are not required.
func (s *shape) schema(fixed bool) map[string]any {
	out := s.bare(fixed || s.fixed)
	if s.doc != "" {
		out["description"] = s.doc
	}
	return out
}

func (s *shape) bare(fixed bool) map[string]any {
	switch s.form {
	case text:
		return s.textSchema(fixed)
	case boolean:
		return orInterpolated(map[string]any{"type": "boolean"}, fixed)
	case num, integer:
		out := map[string]any{"type": map[form]string{num: "number", integer: "integer"}[s.form]}
		if s.min != nil {
			out["minimum"] = *s.min
		}
		if s.max != nil {
			out["maximum"] = *s.max
		}
		return orInterpolated(out, fixed)
	case list:
		out := map[string]any{"type": "array", "items": s.of.schema(fixed)}
		if s.most > 0 {
			out["maxItems"] = s.most
		}
		return orInterpolated(out, fixed)
	case table:
		out := map[string]any{"type": "object", "additionalProperties": s.of.schema(fixed)}
		if s.names != nil {
			out["propertyNames"] = map[string]any{"pattern": s.names.String()}
		}
		return out
	case record:
		return s.recordSchema(fixed)
	case union:
		var choices []any
		for _, one := range s.either {
			choices = append(choices, one.schema(fixed))
		}
		return map[string]any{"anyOf": choices}
	}
	return map[string]any{}
}

func (s *shape) textSchema(fixed bool) map[string]any {
	out := map[string]any{"type": "string"}
	switch {
	case s.choices != nil:
		out["enum"] = s.choices
		return orInterpolated(out, fixed)
	case s.pattern != nil:
		out["pattern"] = s.pattern.String()
		return orInterpolated(out, fixed)
	}
	return out
}

func (s *shape) recordSchema(fixed bool) map[string]any {
	properties := map[string]any{}
	required := []string{}
	for _, k := range s.keys {
		properties[k.name] = k.shape.schema(fixed)
		// What an object needs may come from another that it extends, or it is off.
		if k.needed && s.key("enabled") == nil {
			required = append(required, k.name)
		}
	}
	out := map[string]any{"type": "object", "additionalProperties": false, "properties": properties}
	if len(required) > 0 {
		out["required"] = required
	}
	return out
}

func orInterpolated(s map[string]any, fixed bool) map[string]any {
	if fixed {
		return s
	}
	return map[string]any{"anyOf": []any{s, map[string]any{"type": "string", "pattern": interpolated}}}
}
