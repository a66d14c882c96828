package openapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/latamctl/latamctl/pkg/dataset"
)

// The versions of the two targets. Google's own samples for API Gateway are 3.0.4.
const (
	publicVersion  = "3.1.1"
	gatewayVersion = "3.0.4"
)

// Build derives the document of a target from the declaration. The same declaration and options give
// the same document.
func Build(o Options) (*Document, error) {
	o = o.Defaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	b := &builder{o: o, d: dialect{v30: o.Target == Gateway}, taken: map[string]bool{"Datasets": true}, problemSets: map[string]string{}, doc: &Document{OpenAPI: publicVersion}}
	if o.Target == Gateway {
		b.doc.OpenAPI = gatewayVersion
	}
	b.head()
	b.addShared()
	b.addRoot()
	for _, ds := range o.Declaration.Datasets {
		b.addDataset(ds)
	}
	if o.Target == Gateway {
		b.addGateway()
	}
	return b.doc, nil
}

// Compact writes the document as JSON without white space, to be served.
func (d *Document) Compact() ([]byte, error) {
	text, err := encode(d)
	if err != nil {
		return nil, fmt.Errorf("write the OpenAPI document as JSON: %w", err)
	}
	return text, nil
}

// JSON writes the document as JSON with two spaces of indentation, to be read.
func (d *Document) JSON() ([]byte, error) {
	text, err := d.Compact()
	if err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	if err := json.Indent(&buf, text, "", "  "); err != nil {
		return nil, fmt.Errorf("write the OpenAPI document as JSON: %w", err)
	}
	buf.WriteByte('\n')
	return buf.Bytes(), nil
}

// YAML writes the document as YAML without anchors and aliases.
func (d *Document) YAML() ([]byte, error) {
	text, err := encode(d)
	if err != nil {
		return nil, fmt.Errorf("write the OpenAPI document as YAML: %w", err)
	}
	out, err := yamlOf(text)
	if err != nil {
		return nil, fmt.Errorf("write the OpenAPI document as YAML: %w", err)
	}
	return out, nil
}

type builder struct {
	o     Options
	d     dialect
	doc   *Document
	taken map[string]bool // names that stand for one thing already
	// problemSets names the response of each set of error codes.
	problemSets map[string]string
}

func (b *builder) head() {
	name := b.o.Declaration.Name
	b.doc.Info = Info{
		Title: name + " data API", Version: b.o.Version,
		Description: "Reads the rows of the datasets below and publishes records to them. Everything here is derived from the declaration, latam.yaml.\n\n" +
			"Rows come as JSON; a row is its fields and its `id`. Lists are paged with a cursor: only `next_cursor: null` is the end. " +
			"Errors are `application/problem+json` with a stable `code`. HEAD works wherever GET does. Unknown parameters are errors.",
		License: &License{Name: "Apache-2.0", URL: "https://www.apache.org/licenses/LICENSE-2.0"},
	}
	if !b.d.v30 {
		b.doc.Info.License = &License{Name: "Apache License 2.0", Identifier: "Apache-2.0"}
		b.doc.Servers = []Server{{URL: b.o.ServerURL}}
	} else {
		b.doc.Info.Description += "\n\nA refusal by the gateway itself (a bad key, a used-up quota, a timeout) has a body of its own: `{\"code\", \"message\"}`."
	}
	b.doc.Tags = append(b.doc.Tags, Tag{Name: tagService, Description: "The service itself: what there is, and how it is."})
	for _, ds := range b.o.Declaration.Datasets {
		b.doc.Tags = append(b.doc.Tags, Tag{Name: ds.Name, Description: sentence(describeDataset(ds))})
	}
}

const tagService = "service"

func describeDataset(ds *dataset.Dataset) string {
	if ds.Description != "" {
		return ds.Description
	}
	return "The dataset " + ds.Name
}

// datasetNames is a dataset with the names that the document has for it.
type datasetNames struct {
	*dataset.Dataset
	name     string // in operation ids and schemas: FlightEvents for flight-events
	path     string
	example  example
	security *[]Map[[]string]
}

// exported makes a name for operation ids of a dataset's name; each is given once.
func (b *builder) exported(name string) string {
	var out strings.Builder
	for _, part := range strings.FieldsFunc(name, func(r rune) bool { return r == '-' || r == '_' }) {
		out.WriteString(strings.ToUpper(part[:1]) + part[1:])
	}
	unique := out.String()
	for n := 2; b.taken[unique]; n++ {
		unique = fmt.Sprintf("%s%d", out.String(), n)
	}
	b.taken[unique] = true
	return unique
}

// add puts an operation under its path.
func (b *builder) add(method, path string, op *Operation) {
	item, ok := b.doc.Paths.Get(path)
	if !ok {
		item = &PathItem{}
		b.doc.Paths.Set(path, item)
	}
	switch method {
	case "GET":
		item.Get = op
	case "HEAD":
		item.Head = op
	case "POST":
		item.Post = op
	}
}

// ref points to a schema of the components.
func ref(name string) *Schema { return &Schema{Ref: "#/components/schemas/" + name} }

func (b *builder) schema(name string, s *Schema) { b.doc.Components.Schemas.Set(name, s) }

func jsonContent(s *Schema, example any) Map[*MediaType] {
	return Map[*MediaType]{{mediaJSON, &MediaType{Schema: s, Example: example}}}
}

// The media types of bodies.
const (
	mediaJSON    = "application/json"
	mediaNDJSON  = "application/x-ndjson"
	mediaCSV     = "text/csv"
	mediaEvents  = "text/event-stream"
	mediaProblem = "application/problem+json"
	mediaSchema  = "application/schema+json"
	mediaHTML    = "text/html"
)
