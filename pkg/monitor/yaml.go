package monitor

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// field is an entry of a map whose order is that of the writer.
type field struct {
	key   string
	value any
}

// fields are a map in the order in which a person would write it.
type fields []field

// plainWord is a text that YAML reads as itself without quotes.
var plainWord = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_./-]*( [A-Za-z0-9_./-]+)*$`)

// yamlText writes a value of JSON's types, or fields, as YAML that reads as the same. Maps are sorted.
func yamlText(value any) string {
	var b strings.Builder
	writeYAML(&b, value, 0)
	return b.String()
}

func writeYAML(b *strings.Builder, value any, indent int) {
	switch v := value.(type) {
	case map[string]any:
		ordered := make(fields, 0, len(v))
		for _, key := range slices.Sorted(maps.Keys(v)) {
			ordered = append(ordered, field{key, v[key]})
		}
		writeYAML(b, ordered, indent)
	case fields:
		for _, f := range v {
			b.WriteString(strings.Repeat("  ", indent) + scalarText(f.key) + ":")
			writeEntry(b, f.value, indent+1)
		}
	case []any:
		for _, item := range v {
			b.WriteString(strings.Repeat("  ", indent) + "-")
			writeItem(b, item, indent+1)
		}
	default:
		b.WriteString(scalarText(v) + "\n")
	}
}

// writeEntry writes what follows a key and its colon.
func writeEntry(b *strings.Builder, value any, indent int) {
	switch {
	case emptyTree(value):
		b.WriteString(" " + emptyText(value) + "\n")
	case isTree(value):
		b.WriteString("\n")
		writeYAML(b, value, indent)
	default:
		writeScalar(b, value, indent)
	}
}

// writeItem writes what follows the dash of a list; a map begins on the same line.
func writeItem(b *strings.Builder, value any, indent int) {
	if !isTree(value) || emptyTree(value) {
		writeEntry(b, value, indent)
		return
	}
	var inner strings.Builder
	writeYAML(&inner, value, indent)
	b.WriteString(" " + strings.TrimPrefix(inner.String(), strings.Repeat("  ", indent)))
}

func writeScalar(b *strings.Builder, value any, indent int) {
	text, isText := value.(string)
	if !isText || !blockable(text) {
		b.WriteString(" " + scalarText(value) + "\n")
		return
	}
	b.WriteString(" |-\n")
	for line := range strings.SplitSeq(text, "\n") {
		if line != "" {
			line = strings.Repeat("  ", indent) + line
		}
		b.WriteString(line + "\n")
	}
}

// blockable tells whether a text of several lines can be written line by line.
func blockable(text string) bool {
	if !strings.Contains(text, "\n") || strings.HasPrefix(text, " ") || strings.HasPrefix(text, "\n") || strings.HasSuffix(text, "\n") {
		return false
	}
	for line := range strings.SplitSeq(text, "\n") {
		if strings.TrimRight(line, " ") != line {
			return false
		}
	}
	return !strings.ContainsFunc(text, func(r rune) bool { return r != '\n' && (!strconv.IsPrint(r) || r == '\uFEFF') })
}

func isTree(value any) bool {
	switch value.(type) {
	case map[string]any, fields, []any:
		return true
	}
	return false
}

func emptyTree(value any) bool {
	switch v := value.(type) {
	case map[string]any:
		return len(v) == 0
	case fields:
		return len(v) == 0
	case []any:
		return len(v) == 0
	}
	return false
}

func emptyText(value any) string {
	if _, list := value.([]any); list {
		return "[]"
	}
	return "{}"
}

// scalarText is a value on one line. Texts have quotes unless they are plain words.
func scalarText(value any) string {
	switch v := value.(type) {
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case string:
		if plainWord.MatchString(v) && !slices.Contains([]string{"true", "false", "yes", "no", "on", "off", "y", "n", "null", "nan", "inf"}, strings.ToLower(v)) {
			return v
		}
		var b strings.Builder
		encoder := json.NewEncoder(&b)
		encoder.SetEscapeHTML(false)
		if err := encoder.Encode(v); err != nil {
			return strconv.Quote(v)
		}
		return strings.TrimSuffix(b.String(), "\n")
	}
	return jsonText(value)
}
