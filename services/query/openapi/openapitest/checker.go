// Package openapitest checks answers of the API against its own contract. Only tests import it.
package openapitest

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/latamctl/latamctl/services/query/openapi"
)

// Checker knows the operations of a public document, with all schemas compiled.
type Checker struct {
	operations []operation
	problem    *jsonschema.Schema
}

type operation struct {
	method    string
	segments  []string
	responses map[string]response // by status
}

type response struct {
	headers  map[string]header // by canonical name
	content  map[string]body   // by media type
	anything bool              // no content is described
}

type header struct {
	required bool
	schema   *jsonschema.Schema
}

type body struct{ whole, item *jsonschema.Schema }

// New compiles a document that Build made for the public target.
func New(doc *openapi.Document) (*Checker, error) {
	text, err := doc.Compact()
	if err != nil {
		return nil, err
	}
	c := &compiler{Compiler: jsonschema.NewCompiler()}
	c.DefaultDraft(jsonschema.Draft2020)
	c.AssertFormat()
	root, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	if err := c.AddResource(location, root); err != nil {
		return nil, err
	}
	k := &Checker{problem: c.at("components", "schemas", "Problem")}
	for _, path := range doc.Paths {
		for _, op := range path.Value.Operations() {
			o := operation{method: op.Name, segments: strings.Split(path.Name, "/"), responses: map[string]response{}}
			for _, r := range op.Value.Responses {
				o.responses[r.Name] = c.response(doc, r.Value, "paths", path.Name, strings.ToLower(op.Name), "responses", r.Name)
			}
			k.operations = append(k.operations, o)
		}
	}
	return k, c.err
}

const location = "https://openapi.invalid/openapi.json"

// compiler compiles schemas by their place in the document and keeps the first error.
type compiler struct {
	*jsonschema.Compiler
	err error
}

func (c *compiler) at(place ...string) *jsonschema.Schema {
	pointer := location + "#"
	for _, part := range place {
		pointer += "/" + url.PathEscape(strings.ReplaceAll(strings.ReplaceAll(part, "~", "~0"), "/", "~1"))
	}
	s, err := c.Compile(pointer)
	if err != nil && c.err == nil {
		c.err = fmt.Errorf("compile %v: %w", place, err)
	}
	return s
}

func (c *compiler) response(doc *openapi.Document, r *openapi.Response, place ...string) response {
	if name, ok := strings.CutPrefix(r.Ref, "#/components/responses/"); ok {
		r, _ = doc.Components.Responses.Get(name)
		place = []string{"components", "responses", name}
	}
	out := response{headers: map[string]header{}, content: map[string]body{}, anything: len(r.Content) == 0}
	for _, h := range r.Headers {
		known, _ := doc.Components.Headers.Get(h.Name)
		out.headers[http.CanonicalHeaderKey(h.Name)] = header{known.Required, c.at("components", "headers", h.Name, "schema")}
	}
	for _, m := range r.Content {
		at := append(slices.Clone(place), "content", m.Name)
		b := body{whole: c.at(append(slices.Clone(at), "schema")...)}
		if m.Value.ItemSchema != nil {
			b.item = c.at(append(slices.Clone(at), "x-item-schema")...)
		}
		out.content[m.Name] = b
	}
	return out
}

// Check fails the test when an answer is not what the document promises for its request: the status,
// the headers (their values, those that have to be there, and none that is not described), the
// content type and the body. A request that the document does not know has to be answered with a problem.
func (k *Checker) Check(t testing.TB, r *http.Request, status int, h http.Header, answer []byte) {
	t.Helper()
	if err := k.Validate(r, status, h, answer); err != nil {
		t.Errorf("%s %s answered %d, which is not in the contract: %v\n%.500s", r.Method, r.URL, status, err, answer)
	}
}

// Validate is Check that returns what is wrong.
func (k *Checker) Validate(r *http.Request, status int, h http.Header, answer []byte) error {
	op := k.find(r)
	if op == nil {
		return k.unknown(r, status, h, answer)
	}
	want, ok := op.responses[strconv.Itoa(status)]
	if !ok {
		return fmt.Errorf("the operation does not have the status %d", status)
	}
	if err := want.checkHeaders(h); err != nil {
		return err
	}
	if status == http.StatusNotModified && len(answer) > 0 {
		return fmt.Errorf("there is a body of %d bytes, and there must be none", len(answer))
	}
	if r.Method == http.MethodHead || status == http.StatusNotModified {
		return nil // A recorder keeps the body of HEAD, which a server does not send.
	}
	return want.checkBody(h, answer)
}

// find returns the operation of a request. HEAD without an operation of its own is that of GET.
func (k *Checker) find(r *http.Request) *operation {
	for _, method := range []string{r.Method, map[string]string{http.MethodHead: http.MethodGet}[r.Method]} {
		var best *operation
		variables := 0
		for i := range k.operations {
			op := &k.operations[i]
			if n, ok := op.match(r.URL.EscapedPath()); ok && op.method == method && (best == nil || n < variables) {
				best, variables = op, n
			}
		}
		if best != nil {
			return best
		}
	}
	return nil
}

func (o *operation) match(path string) (variables int, ok bool) {
	parts := strings.Split(path, "/")
	if len(parts) != len(o.segments) {
		return 0, false
	}
	for i, want := range o.segments {
		switch {
		case strings.HasPrefix(want, "{") && parts[i] != "":
			variables++
		case want != parts[i]:
			return 0, false
		}
	}
	return variables, true
}

// unknown checks the answer to a request for a path or a method that is not there.
func (k *Checker) unknown(r *http.Request, status int, h http.Header, answer []byte) error {
	if r.Method == http.MethodOptions && status == http.StatusNoContent {
		return nil
	}
	kind, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	if status < http.StatusBadRequest || err != nil || kind != "application/problem+json" {
		return fmt.Errorf("the document has no such operation, so a problem is due, not %s", h.Get("Content-Type"))
	}
	if r.Method == http.MethodHead {
		return nil
	}
	return validate(k.problem, answer)
}

// transport are the headers that belong to HTTP and not to the API.
func transport() []string {
	return []string{"Content-Type", "Content-Length", "Date", "Transfer-Encoding", "Allow", "Latam-End", "Latam-Rows", "Latam-Next-Cursor"}
}

func (want response) checkHeaders(h http.Header) error {
	for name, values := range h {
		known, ok := want.headers[name]
		if !ok {
			if slices.Contains(transport(), name) || strings.HasPrefix(name, http.TrailerPrefix) {
				continue
			}
			return fmt.Errorf("the header %s is not described", name)
		}
		for _, value := range values {
			var v any = value
			if n, err := strconv.ParseInt(value, 10, 64); err == nil {
				v = json.Number(strconv.FormatInt(n, 10))
				if known.schema.Validate(v) != nil {
					v = value
				}
			}
			if err := known.schema.Validate(v); err != nil {
				return fmt.Errorf("the header %s: %q: %w", name, value, err)
			}
		}
	}
	for name, known := range want.headers {
		if known.required && len(h[name]) == 0 {
			return fmt.Errorf("the header %s is missing", name)
		}
	}
	return nil
}

func (want response) checkBody(h http.Header, answer []byte) error {
	if want.anything {
		return nil
	}
	kind, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil {
		return fmt.Errorf("the content type %q: %w", h.Get("Content-Type"), err)
	}
	b, ok := want.content[kind]
	if !ok {
		return fmt.Errorf("the content type %s is not described", kind)
	}
	if h.Get("Content-Encoding") != "" {
		return nil // What is inside was checked without a coding, by another request.
	}
	switch kind {
	case "application/x-ndjson":
		return b.checkLines(answer)
	case "text/event-stream":
		return b.checkEvents(answer)
	case "text/csv":
		_, err := csv.NewReader(bytes.NewReader(answer)).ReadAll()
		return err
	case "text/html":
		return nil
	}
	return validate(b.whole, answer)
}

func (b body) checkLines(answer []byte) error {
	for i, line := range bytes.Split(bytes.TrimSuffix(answer, []byte("\n")), []byte("\n")) {
		if err := validate(b.item, line); err != nil {
			return fmt.Errorf("line %d: %w", i+1, err)
		}
	}
	return nil
}

func (b body) checkEvents(answer []byte) error {
	lines := bufio.NewScanner(bytes.NewReader(answer))
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		if data, ok := strings.CutPrefix(lines.Text(), "data:"); ok {
			if err := validate(b.item, []byte(data)); err != nil {
				return err
			}
		}
	}
	return lines.Err()
}

func validate(s *jsonschema.Schema, text []byte) error {
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return fmt.Errorf("the body is not JSON: %w", err)
	}
	return s.Validate(v)
}
