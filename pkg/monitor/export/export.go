// Package export writes what is declared in the formats of others, so that nobody is bound to latamctl.
package export

import (
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/latamctl/latamctl/pkg/monitor/declare"
)

// The formats.
const (
	// JSON is everything, as Datadog's API takes it, with references by name.
	JSON = "json"
	// Terraform is HCL for the provider DataDog/datadog.
	Terraform = "terraform"
	// OpenSLO is the SLOs with their alerts as OpenSLO v1. It knows no monitors and dashboards.
	OpenSLO = "openslo"
)

// Formats returns the formats that Write knows.
func Formats() []string { return []string{JSON, Terraform, OpenSLO} }

// Write writes a set in a format. Equal sets give equal bytes. What a format cannot express is an error
// or, for OpenSLO, a comment.
func Write(w io.Writer, set *declare.Set, format string) error {
	var text []byte
	var err error
	switch format {
	case JSON:
		text, err = writeJSON(set)
	case Terraform:
		text, err = writeTerraform(set)
	case OpenSLO:
		text, err = writeOpenSLO(set)
	default:
		return fmt.Errorf("export: there is no format %q; choose one of %s", format, strings.Join(Formats(), ", "))
	}
	if err != nil {
		return fmt.Errorf("export stack %s as %s: %w", set.Stack, format, err)
	}
	if _, err := w.Write(text); err != nil {
		return fmt.Errorf("export stack %s as %s: %w", set.Stack, format, err)
	}
	return nil
}

// schema names the form of the JSON. Its number changes when readers have to.
const schema = "latamctl.monitors-export/v1"

func writeJSON(set *declare.Set) ([]byte, error) {
	type object struct {
		Kind    declare.Kind   `json:"kind"`
		Name    string         `json:"name"`
		Payload map[string]any `json:"payload"`
	}
	document := struct {
		Schema      string   `json:"schema"`
		Stack       string   `json:"stack"`
		Environment string   `json:"environment"`
		Objects     []object `json:"objects"`
	}{Schema: schema, Stack: set.Stack, Environment: set.Environment, Objects: []object{}}
	for _, o := range set.Objects {
		document.Objects = append(document.Objects, object{o.Key.Kind, o.Key.Name, o.Payload})
	}
	var b strings.Builder
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false) // Queries are full of < and >, and are to be read.
	encoder.SetIndent("", "  ")
	err := encoder.Encode(document)
	return []byte(b.String()), err
}

// reference is how a payload names another object.
var reference = regexp.MustCompile(`\$\{ref:([a-z]+)\.([a-z0-9][a-z0-9._-]*)\}`)

// get reads what is at a path of fields, or nil.
func get(v any, path ...string) any {
	for _, name := range path {
		m, _ := v.(map[string]any)
		v = m[name]
	}
	return v
}

func str(v any) string { s, _ := v.(string); return s }

// items returns the elements of a list, whatever type they have.
func items(v any) []any {
	switch v := v.(type) {
	case []any:
		return v
	case []string:
		var list []any
		for _, s := range v {
			list = append(list, s)
		}
		return list
	}
	return nil
}

// counts are the queries of good and of all events of a metric SLO, each as one expression.
func counts(payload map[string]any) (good, total string, err error) {
	if q := get(payload, "query"); q != nil {
		return str(get(q, "numerator")), str(get(q, "denominator")), nil
	}
	count := get(payload, "sli_specification", "count")
	if count == nil {
		return "", "", fmt.Errorf("it counts nothing")
	}
	good = expression(str(get(count, "good_events_formula", "formula")), get(count, "queries"))
	if all := get(count, "total_events_formula", "formula"); all != nil {
		return good, expression(str(all), get(count, "queries")), nil
	}
	bad := expression(str(get(count, "bad_events_formula", "formula")), get(count, "queries"))
	return good, "(" + good + ") + (" + bad + ")", nil
}

var word = regexp.MustCompile(`[A-Za-z_][A-Za-z0-9_]*`)

// expression puts queries in the place of their names in a formula.
func expression(formula string, queries any) string {
	return word.ReplaceAllStringFunc(formula, func(name string) string {
		for _, q := range items(queries) {
			if str(get(q, "name")) == name {
				return str(get(q, "query"))
			}
		}
		return name
	})
}

// of returns the objects of a kind in their order.
func of(set *declare.Set, kind declare.Kind) []*declare.Object {
	return slices.DeleteFunc(slices.Clone(set.Objects), func(o *declare.Object) bool { return o.Key.Kind != kind })
}
