// Package contract reads the OpenAPI document that an API serves and checks the API's answers
// against it. It knows the document from its text alone, as any caller does, not from the code that
// made it.
package contract

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"maps"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// MaxDocumentBytes bounds the document.
const MaxDocumentBytes = 16 << 20

// The media types that are looked into.
const (
	mediaProblem = "application/problem+json"
	mediaCSV     = "text/csv"
)

// Document is an OpenAPI document with all schemas compiled.
type Document struct {
	// Operations are in the order of their paths and methods.
	Operations []*Operation
	problem    *Schema
}

// Operation is one method of one path.
type Operation struct {
	// Method is in capitals.
	Method, Path string
	// Tags group the operations: a dataset's name, or service.
	Tags      []string
	responses map[string]response // by status
	example   []byte              // of a JSON request
}

type response struct {
	content  map[string]body // by media type; nil where no body is described
	required []string        // headers that have to be there
}

type body struct{ whole, item *Schema }

// Parse reads a document. What it refers to must be there, and its schemas must use no keyword that
// is not checked.
func Parse(text []byte) (*Document, error) {
	root, err := decode(text)
	if err != nil {
		return nil, fmt.Errorf("read the OpenAPI document: %w", err)
	}
	p := &parser{compiler: compiler{root: root, done: map[string]*Schema{}}}
	doc := &Document{}
	paths := p.object("#/paths")
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		for _, method := range []string{"get", "head", "post", "put", "patch", "delete"} {
			at := "#/paths/" + escape(path) + "/" + method
			if item, _ := paths[path].(map[string]any); item[method] != nil {
				doc.Operations = append(doc.Operations, p.operation(at, method, path))
			}
		}
	}
	if schemas, err := resolve(root, "#/components/schemas/Problem"); err == nil && schemas != nil {
		doc.problem = p.schema("#/components/schemas/Problem")
	}
	switch {
	case p.err != nil:
		return nil, fmt.Errorf("read the OpenAPI document: %w", p.err)
	case len(doc.Operations) == 0:
		return nil, errors.New("read the OpenAPI document: it has no operations")
	}
	return doc, nil
}

// parser keeps the first error.
type parser struct {
	compiler
	err error
}

func (p *parser) fail(err error) {
	if p.err == nil {
		p.err = err
	}
}

// object returns the object at a pointer, through one reference; nil when it is something else.
func (p *parser) object(pointer string) map[string]any {
	node, err := resolve(p.root, pointer)
	if err != nil {
		p.fail(err)
		return nil
	}
	o, ok := node.(map[string]any)
	if !ok {
		p.fail(fmt.Errorf("%s is not an object", pointer))
	}
	return o
}

func (p *parser) schema(pointer string) *Schema {
	s, err := p.at(pointer)
	if err != nil {
		p.fail(err)
		return &Schema{maxLength: -1, maxItems: -1}
	}
	return s
}

func (p *parser) operation(at, method, path string) *Operation {
	op := &Operation{Method: strings.ToUpper(method), Path: path, responses: map[string]response{}}
	o := p.object(at)
	op.Tags, _ = names(o["tags"])
	responses, _ := o["responses"].(map[string]any)
	for status := range responses {
		op.responses[status] = p.response(at + "/responses/" + status)
	}
	if request, _ := o["requestBody"].(map[string]any); request != nil {
		content, _ := request["content"].(map[string]any)
		json, _ := content["application/json"].(map[string]any)
		if json["example"] != nil {
			op.example = []byte(marshal(json["example"]))
		}
	}
	return op
}

// follow returns the pointer behind a reference, or the pointer itself.
func (p *parser) follow(pointer string) (string, map[string]any) {
	o := p.object(pointer)
	if ref, ok := o["$ref"].(string); ok {
		return ref, p.object(ref)
	}
	return pointer, o
}

func (p *parser) response(pointer string) response {
	at, o := p.follow(pointer)
	r := response{}
	headers, _ := o["headers"].(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		if _, h := p.follow(at + "/headers/" + escape(name)); h["required"] == true {
			r.required = append(r.required, name)
		}
	}
	content, _ := o["content"].(map[string]any)
	for media, v := range content {
		if r.content == nil {
			r.content = map[string]body{}
		}
		here := at + "/content/" + escape(media)
		var b body
		m, _ := v.(map[string]any)
		if m["schema"] != nil {
			b.whole = p.schema(here + "/schema")
		}
		if m["x-item-schema"] != nil {
			b.item = p.schema(here + "/x-item-schema")
		}
		r.content[media] = b
	}
	return r
}

// Success is the status that says that the operation did what it is for.
func (o *Operation) Success() int {
	for _, status := range slices.Sorted(maps.Keys(o.responses)) {
		if n, err := strconv.Atoi(status); err == nil && n/100 == 2 {
			return n
		}
	}
	return http.StatusOK
}

// Streams tells whether a successful answer is a stream of events, which has no end.
func (o *Operation) Streams() bool {
	_, ok := o.responses["200"].content["text/event-stream"]
	return ok
}

// Example is an example of the JSON that a request brings, nil when the document has none.
func (o *Operation) Example() []byte { return o.example }

// Find returns the operation with the method and the path as the document writes it, nil when there
// is none.
func (d *Document) Find(method, path string) *Operation {
	i := slices.IndexFunc(d.Operations, func(o *Operation) bool { return o.Method == method && o.Path == path })
	if i < 0 {
		return nil
	}
	return d.Operations[i]
}

// Check returns how an answer differs from what the document says: the status, the headers that have
// to be there, the media type and the body.
func (o *Operation) Check(status int, h http.Header, answer []byte) error {
	b, err := o.head(status, h)
	if err != nil || o.Method == http.MethodHead || status == http.StatusNotModified {
		return err
	}
	return b.check(h, answer)
}

// CheckHead is Check without the body.
func (o *Operation) CheckHead(status int, h http.Header) error {
	_, err := o.head(status, h)
	return err
}

// CheckItem checks one line or event of a stream.
func (o *Operation) CheckItem(media string, item []byte) error {
	b := o.responses["200"].content[media]
	if b.item == nil {
		return nil
	}
	return b.item.ValidateJSON(item)
}

func (o *Operation) head(status int, h http.Header) (body, error) {
	r, ok := o.responses[strconv.Itoa(status)]
	if !ok {
		return body{}, fmt.Errorf("the status %d is not in the contract", status)
	}
	for _, name := range r.required {
		if h.Get(name) == "" {
			return body{}, fmt.Errorf("the header %s is missing", name)
		}
	}
	if r.content == nil || o.Method == http.MethodHead {
		return body{}, nil
	}
	kind, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil {
		return body{}, fmt.Errorf("the content type %q: %w", h.Get("Content-Type"), err)
	}
	b, ok := r.content[kind]
	if !ok {
		return body{}, fmt.Errorf("the content type %s is not in the contract", kind)
	}
	return b, nil
}

func (b body) check(h http.Header, answer []byte) error {
	kind, _, _ := mime.ParseMediaType(h.Get("Content-Type")) // It was parsed before.
	switch {
	case kind == mediaCSV:
		if _, err := csv.NewReader(bytes.NewReader(answer)).ReadAll(); err != nil {
			return fmt.Errorf("the body is not CSV: %w", err)
		}
	case b.whole == nil || !strings.HasSuffix(kind, "json"):
	default:
		if err := b.whole.ValidateJSON(answer); err != nil {
			return fmt.Errorf("the body: %w", err)
		}
	}
	return nil
}

// CheckProblem returns how an answer differs from a problem document with the status and the code,
// "" for any.
func (d *Document) CheckProblem(status int, code string, h http.Header, answer []byte) error {
	kind, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil || kind != mediaProblem {
		return fmt.Errorf("the content type is %q, expected %s", h.Get("Content-Type"), mediaProblem)
	}
	v, err := decode(answer)
	if err != nil {
		return fmt.Errorf("the problem is not JSON: %w", err)
	}
	if d.problem != nil {
		if err := d.problem.Validate(v); err != nil {
			return fmt.Errorf("the problem: %w", err)
		}
	}
	o, _ := v.(map[string]any)
	if got := fmt.Sprint(o["status"]); got != strconv.Itoa(status) {
		return fmt.Errorf("the problem says status %s, the answer had %d", got, status)
	}
	if got := fmt.Sprint(o["code"]); code != "" && got != code {
		return fmt.Errorf("the problem has the code %s, expected %s", got, code)
	}
	return nil
}
