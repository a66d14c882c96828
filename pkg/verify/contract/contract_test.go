package contract_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/verify/contract"
	"github.com/latamctl/latamctl/services/query/openapi"
)

const declaration = `
version: 1
name: latam
datasets:
  all:
    fields:
      code:  {type: string, required: true, pattern: "^[A-Z0-9]{2,3}$"}
      n:     {type: int64, required: true}
      small: {type: int64, minimum: -7, maximum: 7}
      big:   {type: int64, minimum: -9223372036854775808, maximum: 9223372036854775807}
      f:     {type: float64, minimum: -2.5, maximum: 1.5}
      ok:    bool
      at:    {type: timestamp, required: true}
      day:   date
      raw:   bytes
      doc:   json
    key: [code, n, at]
    time: at
    indexes: {by_small: [small]}
    api: {auth: api_key, quota_per_minute: 60}
`

// document is the text of a document that the program makes.
func document(t testing.TB) []byte {
	t.Helper()
	decl, err := dataset.Load("latam.yaml", []byte(declaration))
	if err != nil {
		t.Fatal(err)
	}
	doc, err := openapi.Build(openapi.Options{Declaration: decl})
	if err != nil {
		t.Fatal(err)
	}
	text, err := doc.Compact()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func parse(t testing.TB, text []byte) *contract.Document {
	t.Helper()
	doc, err := contract.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// TestAgainstALibrary makes values for every schema of the document, most of them a little wrong, and
// compares the verdicts with those of a whole implementation of JSON Schema.
func TestAgainstALibrary(t *testing.T) {
	t.Parallel()
	text := document(t)
	root, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft2020)
	compiler.AssertFormat()
	if err := compiler.AddResource("https://x.invalid/doc", root); err != nil {
		t.Fatal(err)
	}
	schemas := root.(map[string]any)["components"].(map[string]any)["schemas"].(map[string]any)
	for name, schema := range schemas {
		library := compiler.MustCompile("https://x.invalid/doc#/components/schemas/" + name)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ours, err := contract.CompileAt(text, "#/components/schemas/"+name)
			if err != nil {
				t.Fatal(err)
			}
			g := &generator{root: root.(map[string]any), random: rand.New(rand.NewPCG(1, 2))}
			good := 0
			for range 400 {
				g.wrong = g.random.IntN(3) / 2 * 8
				value := g.value(schema.(map[string]any), 0)
				want, got := library.Validate(value), ours.Validate(value)
				if (want == nil) != (got == nil) {
					encoded, _ := json.Marshal(value)
					t.Fatalf("%s\nours: %v\nthe library's: %v", encoded, got, want)
				}
				if want == nil {
					good++
				}
			}
			if good == 0 {
				t.Error("no value was right")
			}
		})
	}
}

// generator makes values that mostly fit a schema.
type generator struct {
	root   map[string]any
	random *rand.Rand
	wrong  int // in a hundred
}

func (g *generator) odd() any {
	return []any{nil, true, "", "x", "SCL", "2001-02-03", "2001-02-03T04:05:06Z", "9223372036854775807", "AA==", json.Number("0"), json.Number("-1"), json.Number("1e2"), json.Number("1.5"), json.Number("8"),
		json.Number("9007199254740993"), []any{}, []any{json.Number("1"), json.Number("1.0")}, map[string]any{}, map[string]any{"x": nil}}[g.random.IntN(19)]
}

func (g *generator) value(s map[string]any, depth int) any {
	if g.random.IntN(100) < g.wrong || depth > 8 {
		return g.odd()
	}
	if ref, ok := s["$ref"].(string); ok {
		node := any(g.root)
		for part := range strings.SplitSeq(strings.TrimPrefix(ref, "#/"), "/") {
			node = node.(map[string]any)[part]
		}
		return g.value(node.(map[string]any), depth+1)
	}
	for _, keyword := range []string{"oneOf", "allOf"} {
		if list, ok := s[keyword].([]any); ok {
			return g.value(list[g.random.IntN(len(list))].(map[string]any), depth+1)
		}
	}
	if list, ok := s["enum"].([]any); ok {
		return list[g.random.IntN(len(list))]
	}
	kind, _ := s["type"].(string)
	if list, ok := s["type"].([]any); ok {
		kind = list[g.random.IntN(len(list))].(string)
	}
	switch kind {
	case "null":
		return nil
	case "boolean":
		return g.random.IntN(2) == 0
	case "integer":
		low := int64(-5)
		if n, ok := s["minimum"].(json.Number); ok {
			if low, _ = n.Int64(); low < -1000 {
				low = -1000
			}
		}
		return json.Number(fmt.Sprint(low + g.random.Int64N(20) - g.random.Int64N(2)))
	case "number":
		return json.Number(fmt.Sprint(g.random.Float64()*4 - 2.5))
	case "array":
		list := []any{}
		items, _ := s["items"].(map[string]any)
		for range g.random.IntN(3) {
			list = append(list, g.value(items, depth+1))
		}
		return list
	case "object":
		return g.object(s, depth)
	case "string":
		return g.text(s)
	}
	return g.odd()
}

func (g *generator) text(s map[string]any) string {
	if pattern, _ := s["pattern"].(string); pattern == "^[A-Z0-9]{2,3}$" {
		return []string{"AB", "SCL", "A", "abc"}[g.random.IntN(2)]
	}
	switch s["format"] {
	case "date-time":
		return []string{"2001-02-03T04:05:06Z", "2001-02-03T04:05:06.789+01:00", "2001-02-30T04:05:06Z"}[g.random.IntN(3)]
	case "date":
		return []string{"2001-02-03", "2001-02-30"}[g.random.IntN(2)]
	case "uri":
		return "https://example.com/x"
	}
	return []string{"", "x", "AA==", "9223372036854775807", "-9223372036854775808"}[g.random.IntN(5)]
}

func (g *generator) object(s map[string]any, depth int) any {
	o := map[string]any{}
	properties, _ := s["properties"].(map[string]any)
	required, _ := s["required"].([]any)
	for name, sub := range properties {
		needed := false
		for _, r := range required {
			needed = needed || r == name
		}
		if needed && g.random.IntN(100) >= g.wrong || g.random.IntN(3) == 0 {
			o[name] = g.value(sub.(map[string]any), depth+1)
		}
	}
	if extra, ok := s["additionalProperties"].(map[string]any); ok {
		o["extra"] = g.value(extra, depth+1)
	} else if g.random.IntN(100) < g.wrong {
		o["extra"] = g.odd()
	}
	return o
}

// TestChecksOfAnswers pins what is looked at besides the schema.
func TestChecksOfAnswers(t *testing.T) {
	t.Parallel()
	doc := parse(t, document(t))
	row := `{"id":"AB,1,2001-02-03T04:05:06Z","code":"AB","n":1,"at":"2001-02-03T04:05:06Z"}`
	page := `{"data":[` + row + `],"next_cursor":null,"next_url":null,"meta":{"dataset":"all","access":"key","rows_scanned":1,"as_of":"2001-02-03T04:05:06Z"}}`
	problem := `{"type":"https://x","title":"t","status":404,"code":"ROW_NOT_FOUND","request_id":"r"}`
	head := func(kind string) http.Header { return http.Header{"X-Request-Id": {"r"}, "Content-Type": {kind}} }
	for _, tt := range []struct {
		name, method, path string
		status             int
		header             http.Header
		body, want         string
	}{
		{"a row", "GET", "/rows/{id}", 200, head("application/json"), row, ""},
		{"no request id", "GET", "/rows/{id}", 200, http.Header{"Content-Type": {"application/json"}}, row, "header X-Request-Id is missing"},
		{"another type", "GET", "/rows/{id}", 200, head("text/plain"), row, "content type text/plain is not in the contract"},
		{"no type", "GET", "/rows/{id}", 200, head(""), row, "content type"},
		{"another status", "GET", "/rows/{id}", 201, head("application/json"), row, "status 201 is not in the contract"},
		{"a member more", "GET", "/rows/{id}", 200, head("application/json"), strings.Replace(row, `"n":1`, `"n":1,"m":1`, 1), `the value: the member "m" is not described`},
		{"a member less", "GET", "/rows/{id}", 200, head("application/json"), strings.Replace(row, `"id":"AB,1,2001-02-03T04:05:06Z",`, ``, 1), `the member "id" is missing`},
		{"a wrong type", "GET", "/rows/{id}", 200, head("application/json"), strings.Replace(row, `"n":1`, `"n":"1"`, 1), `/n: `},
		{"a page", "GET", "/rows", 200, head("application/json; charset=utf-8"), page, ""},
		{"a wrong row of a page", "GET", "/rows", 200, head("application/json"), strings.Replace(page, `"n":1`, `"n":null`, 1), `/data/0/n: `},
		{"half a page", "GET", "/rows", 200, head("application/json"), page[:len(page)-1], "not JSON"},
		{"two pages", "GET", "/rows", 200, head("application/json"), page + page, "something follows"},
		{"CSV", "GET", "/rows", 200, head("text/csv"), "id,code\n1,AB\n", ""},
		{"bad CSV", "GET", "/rows", 200, head("text/csv"), "id,code\n1\n", "not CSV"},
		{"a problem", "GET", "/rows/{id}", 404, head("application/problem+json"), problem, ""},
		{"a problem of another status", "GET", "/rows/{id}", 400, head("application/problem+json"), problem, "/code: expected one of"},
		{"not modified", "GET", "/rows/{id}", 304, head(""), "", ""},
		{"head", "HEAD", "/rows/{id}", 200, head(""), "", ""},
	} {
		op := doc.Find(tt.method, "/v1/datasets/all"+tt.path)
		if op == nil {
			t.Fatalf("%s %s is not there", tt.method, tt.path)
		}
		err := op.Check(tt.status, tt.header, []byte(tt.body))
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
	for _, tt := range []struct {
		status     int
		code, kind string
		want       string
	}{
		{404, "ROW_NOT_FOUND", "application/problem+json", ""}, {404, "", "application/problem+json", ""},
		{404, "SCAN_REFUSED", "application/problem+json", "code ROW_NOT_FOUND, expected SCAN_REFUSED"},
		{400, "", "application/problem+json", "says status 404"}, {404, "", "text/html", "content type"},
	} {
		err := doc.CheckProblem(tt.status, tt.code, head(tt.kind), []byte(problem))
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("problem %+v: %v", tt, err)
		}
	}
	publish := doc.Find("POST", "/v1/datasets/all/records")
	if publish.Success() != 202 || publish.Example() == nil {
		t.Errorf("publish succeeds with %d, example %s", publish.Success(), publish.Example())
	}
	tail := doc.Find("GET", "/v1/datasets/all/tail")
	if !tail.Streams() || publish.Streams() || tail.CheckItem("text/event-stream", []byte(row)) != nil || tail.CheckItem("text/event-stream", []byte(`{}`)) == nil {
		t.Error("the tail is not known as a stream of rows")
	}
}

// TestDocumentsThatAreRefused: what is not understood is not taken for right.
func TestDocumentsThatAreRefused(t *testing.T) {
	t.Parallel()
	with := func(schema string) string {
		return `{"paths":{"/x":{"get":{"responses":{"200":{"content":{"application/json":{"schema":` + schema + `}}}}}}}}`
	}
	for text, want := range map[string]string{
		`{`:                                    "read the OpenAPI document",
		`[]`:                                   `"#/paths" leads nowhere`,
		`{"paths":[]}`:                         "is not an object",
		`{"paths":{}}`:                         "no operations",
		with(`{"if":{}}`):                      "the keyword if is not known",
		with(`{"type":1}`):                     "has a value that a schema cannot have",
		with(`{"minLength":-1}`):               "has a value that a schema cannot have",
		with(`{"$ref":"#/nowhere"}`):           "leads nowhere",
		with(`{"$ref":"https://example.com"}`): "leads out of the document",
		with(`{"properties":{"a":{"oneOf":[{"not":{}}]}}}`): "the keyword not is not known",
		with(`true`): "is not an object",
	} {
		if _, err := contract.Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// TestAlternatives: exactly one has to fit, and the reason is that of the nearest.
func TestAlternatives(t *testing.T) {
	t.Parallel()
	s, err := contract.CompileAt([]byte(`{"s":{"oneOf":[{"type":"integer","minimum":5},{"type":"integer","maximum":7},{"type":"string"}]}}`), "#/s")
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		`8`: "", `4`: "", `"x"`: "", `6`: "fits 2 of the alternatives", `null`: "expected integer, got null",
	} {
		if err := s.ValidateJSON([]byte(text)); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// TestCircles: a schema may refer to itself, and a value that is nested without end is refused.
func TestCircles(t *testing.T) {
	t.Parallel()
	s, err := contract.CompileAt([]byte(`{"s":{"type":"object","properties":{"next":{"$ref":"#/s"}},"additionalProperties":false}}`), "#/s")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.ValidateJSON([]byte(`{"next":{"next":{}}}`)); err != nil {
		t.Error(err)
	}
	if err := s.ValidateJSON([]byte(`{"next":{"last":{}}}`)); err == nil {
		t.Error("a member that is not described is right")
	}
	deep := strings.Repeat(`{"next":`, 1000) + `{}` + strings.Repeat(`}`, 1000)
	if err := s.ValidateJSON([]byte(deep)); err == nil {
		t.Error("1000 levels are right")
	}
	loop, err := contract.CompileAt([]byte(`{"s":{"$ref":"#/s"}}`), "#/s")
	if err != nil {
		t.Fatal(err)
	}
	if loop.ValidateJSON([]byte(`1`)) == nil {
		t.Error("a reference to itself is right")
	}
}

// FuzzParse: no document makes it panic, and none takes long.
func FuzzParse(f *testing.F) {
	f.Add(document(f), []byte(`{"a":1e999999999}`))
	f.Add([]byte(`{"paths":{"/x":{"get":{"responses":{"200":{"content":{"application/json":{"schema":{"minimum":1e999999999}}}}}}}}}`), []byte(`1e-999999999`))
	f.Fuzz(func(t *testing.T, text, answer []byte) {
		doc, err := contract.Parse(text)
		if err != nil {
			return
		}
		for _, op := range doc.Operations {
			_ = op.Check(200, http.Header{"Content-Type": {"application/json"}, "X-Request-Id": {"r"}}, answer)
			_ = op.CheckItem("text/event-stream", answer)
			_, _, _ = op.Success(), op.Streams(), op.Example()
		}
		_ = doc.CheckProblem(400, "", http.Header{"Content-Type": {"application/problem+json"}}, answer)
	})
}
