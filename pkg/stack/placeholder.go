package stack

import "strings"

// knownAfterApply is what a text is planned with while its value does not exist.
const knownAfterApply = "known-after-apply"

// placeholder returns a value of a Terraform type for a plan that is made before the real value
// exists. A type that it cannot read gets the text, which Terraform then refuses by name.
func placeholder(constraint string) any {
	constraint = strings.TrimSpace(constraint)
	kind, rest, nested := strings.Cut(constraint, "(")
	if !nested {
		switch kind {
		case "number":
			return 0
		case "bool":
			return false
		case "list", "set", "tuple":
			return []any{}
		case "map", "object":
			return map[string]any{}
		}
		return knownAfterApply
	}
	inner := strings.TrimSuffix(strings.TrimSpace(rest), ")")
	switch strings.TrimSpace(kind) {
	case "list", "set":
		return []any{}
	case "map":
		return map[string]any{}
	case "optional":
		return placeholder(splitTop(inner)[0])
	case "tuple":
		values := []any{}
		for _, part := range splitTop(trimBrackets(inner)) {
			values = append(values, placeholder(part))
		}
		return values
	case "object":
		object := map[string]any{}
		for _, part := range splitTop(trimBrackets(inner)) {
			if name, of, ok := strings.Cut(part, "="); ok && !strings.HasPrefix(strings.TrimSpace(of), "optional(") {
				object[strings.Trim(strings.TrimSpace(name), `"`)] = placeholder(of)
			}
		}
		return object
	}
	return knownAfterApply
}

func trimBrackets(s string) string {
	s = strings.TrimSpace(s)
	if len(s) >= 2 && (s[0] == '{' || s[0] == '[') {
		s = s[1 : len(s)-1]
	}
	return s
}

// splitTop splits at commas and line ends that stand within no bracket.
func splitTop(s string) []string {
	var parts []string
	depth, start := 0, 0
	add := func(end int) {
		if part := strings.TrimSpace(s[start:end]); part != "" {
			parts = append(parts, part)
		}
		start = end + 1
	}
	for i := range len(s) {
		switch s[i] {
		case '(', '{', '[':
			depth++
		case ')', '}', ']':
			depth--
		case ',', '\n':
			if depth == 0 {
				add(i)
			}
		}
	}
	if start < len(s) {
		add(len(s))
	}
	if len(parts) == 0 {
		return []string{""}
	}
	return parts
}
