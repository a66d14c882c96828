package docpage

import (
	"encoding/json"
	"fmt"
	"html/template"
	"slices"
	"strings"

	"github.com/latamctl/latamctl/services/query/openapi"
)

// view is what the layout shows.
type view struct {
	Title, Version string
	Intro          []string
	Groups         []group
	Codes          []code
	Schemes        []scheme
	Style          template.CSS
	Script         template.JS
}

// group is a dataset, or the service itself.
type group struct {
	Name, Description string
	Fields            []field
	Operations        []operation
}

type field struct {
	Name, Type, Description string
	Operators               []string
}

type operation struct {
	ID, Method, Path, Summary, Description string
	Auth                                   string
	Filters                                bool // it takes the filters of the group's fields
	Parameters                             []parameter
	Body                                   *content
	Responses                              []response
	Snippets                               []snippet
	Try                                    bool
}

type parameter struct {
	Name, In, Type, Description, Example string
	Choices                              []string
	Required                             bool
}

type content struct{ Kind, Example string }

type response struct {
	Status, Description string
	Kinds               []string
	Codes               []string
	Example             string
}

type code struct {
	Name, Title string
	Status      int
}

type scheme struct{ Name, Header, Prefix, Description string }

type snippet struct{ Name, Text string }

// viewer reads one document.
type viewer struct{ doc *openapi.Document }

func newView(doc *openapi.Document) view {
	r := viewer{doc}
	v := view{Title: doc.Info.Title, Version: doc.OpenAPI, Intro: strings.Split(doc.Info.Description, "\n\n")}
	// The datasets come first: they are what the page is read for.
	tags := append(slices.Clone(doc.Tags[1:]), doc.Tags[0])
	for _, tag := range tags {
		g := group{Name: tag.Name, Description: tag.Description}
		for _, path := range doc.Paths {
			for _, op := range path.Value.Operations() {
				if slices.Contains(op.Value.Tags, tag.Name) && op.Name != "HEAD" {
					g.Operations = append(g.Operations, r.operation(op.Name, path.Name, op.Value))
				}
			}
		}
		g.Fields = r.fields(tag.Name)
		v.Groups = append(v.Groups, g)
	}
	for _, s := range doc.Components.SecuritySchemes {
		known := scheme{Name: s.Name, Header: s.Value.Name, Description: s.Value.Description}
		if known.Header == "" {
			known.Header, known.Prefix = "authorization", "Bearer "
		}
		v.Schemes = append(v.Schemes, known)
	}
	v.Codes = r.codes()
	return v
}

// fields are those of a dataset's rows, with what can be asked of each.
func (r viewer) fields(dataset string) []field {
	item, ok := r.doc.Paths.Get("/v1/datasets/" + dataset + "/rows")
	if !ok {
		return nil
	}
	row, _ := r.doc.Components.Schemas.Get(strings.TrimPrefix(item.Get.OperationID, "list") + "Row")
	var list []field
	for _, p := range row.Properties {
		f := field{Name: p.Name, Type: typeOf(p.Value), Description: p.Value.Description}
		for _, name := range item.Get.Parameters {
			resolved := r.parameter(name)
			if op, ok := strings.CutPrefix(resolved.Name, p.Name+"["); ok {
				f.Operators = append(f.Operators, strings.TrimSuffix(op, "]"))
			}
		}
		if p.Value.Pattern != "" && p.Value.Format == "" {
			f.Description = strings.TrimSpace(f.Description + " Pattern `" + p.Value.Pattern + "`.")
		}
		list = append(list, f)
	}
	return list
}

func (r viewer) parameter(p *openapi.Parameter) *openapi.Parameter {
	if name, ok := strings.CutPrefix(p.Ref, "#/components/parameters/"); ok {
		p, _ = r.doc.Components.Parameters.Get(name)
	}
	return p
}

func (r viewer) operation(method, path string, op *openapi.Operation) operation {
	o := operation{
		ID: op.OperationID, Method: method, Path: path, Summary: op.Summary, Description: op.Description,
		Try: method == "GET" && !strings.HasSuffix(path, "/tail") && path != "/docs",
	}
	if op.Security != nil {
		o.Auth = (*op.Security)[0][0].Name
	}
	fields := map[string]bool{}
	for _, f := range r.fields(op.Tags[0]) {
		fields[f.Name] = true
	}
	for _, p := range op.Parameters {
		p = r.parameter(p)
		base, _, _ := strings.Cut(p.Name, "[")
		if p.In == "query" && fields[base] {
			o.Filters = true
			continue
		}
		o.Parameters = append(o.Parameters, showParameter(p))
	}
	if op.RequestBody != nil {
		first := op.RequestBody.Content[0]
		o.Body = &content{Kind: first.Name, Example: r.example(first.Value)}
	}
	for _, res := range op.Responses {
		o.Responses = append(o.Responses, r.response(res.Name, res.Value))
	}
	o.Snippets = snippets(o)
	return o
}

func showParameter(p *openapi.Parameter) parameter {
	out := parameter{Name: p.Name, In: p.In, Type: typeOf(p.Schema), Description: p.Description, Required: p.Required}
	if p.Schema != nil && p.Schema.Items == nil {
		for _, v := range p.Schema.Enum {
			out.Choices = append(out.Choices, fmt.Sprint(v))
		}
		if p.Schema.Type == "boolean" {
			out.Choices = []string{"true", "false"}
		}
	}
	switch v := p.Example.(type) {
	case nil:
	case []any:
		var parts []string
		for _, e := range v {
			parts = append(parts, fmt.Sprint(e))
		}
		out.Example = strings.Join(parts, ",")
	default:
		out.Example = fmt.Sprint(v)
	}
	return out
}

// typeOf is a schema in a few words.
func typeOf(s *openapi.Schema) string {
	if s == nil {
		return ""
	}
	if len(s.OneOf) > 0 && s.OneOf[0].Type == "integer" {
		return "int64"
	}
	name, _ := s.Type.(string)
	switch {
	case name == "array":
		return "list of " + typeOf(s.Items)
	case name == "":
		return "any"
	case s.ContentEncoding != "":
		return "bytes"
	case s.Format == "date-time":
		return "timestamp"
	case s.Format != "" && name != "number":
		return s.Format
	}
	return name
}

// example is the example of a body, or of what its schema refers to.
func (r viewer) example(m *openapi.MediaType) string {
	v := m.Example
	if v == nil && m.Schema != nil {
		if s, ok := r.doc.Components.Schemas.Get(strings.TrimPrefix(m.Schema.Ref, "#/components/schemas/")); ok && len(s.Examples) > 0 {
			v = s.Examples[0]
		}
	}
	if v == nil {
		return ""
	}
	if text, ok := v.(string); ok {
		return text
	}
	body, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return ""
	}
	return string(body)
}

func (r viewer) response(status string, res *openapi.Response) response {
	if name, ok := strings.CutPrefix(res.Ref, "#/components/responses/"); ok {
		res, _ = r.doc.Components.Responses.Get(name)
		m := res.Content[0].Value
		names, _ := m.Schema.AllOf[1].Properties.Get("code")
		out := response{Status: status}
		for _, c := range names.Enum {
			out.Codes = append(out.Codes, fmt.Sprint(c))
		}
		return out
	}
	out := response{Status: status, Description: res.Description}
	for _, c := range res.Content {
		out.Kinds = append(out.Kinds, c.Name)
		if out.Example == "" {
			out.Example = r.example(c.Value)
		}
	}
	return out
}

// codes lists all errors that operations answer with.
func (r viewer) codes() []code {
	var list []code
	for _, res := range r.doc.Components.Responses {
		m := res.Value.Content[0].Value
		names, _ := m.Schema.AllOf[1].Properties.Get("code")
		status, _ := m.Schema.AllOf[1].Properties.Get("status")
		for i, line := range strings.Split(res.Value.Description, "\n") {
			_, title, _ := strings.Cut(line, ": ")
			n, _ := status.Enum[0].(int)
			c := code{Name: fmt.Sprint(names.Enum[i]), Title: title, Status: n}
			if !slices.Contains(list, c) {
				list = append(list, c)
			}
		}
	}
	slices.SortStableFunc(list, func(a, b code) int { return a.Status - b.Status })
	return list
}
