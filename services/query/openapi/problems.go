package openapi

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/latamctl/latamctl/pkg/web"
)

const refResponses = "#/components/responses/"

// kind is what an operation does, as far as its errors and headers depend on it.
type kind string

const (
	kindDocument  kind = "document"
	kindList      kind = "list"
	kindGet       kind = "get"
	kindBatch     kind = "batch-get"
	kindAggregate kind = "aggregate"
	kindStats     kind = "stats"
	kindTail      kind = "tail"
	kindPublish   kind = "publish"
)

// codesOf lists the errors that a kind of operation can answer with, besides those of all and those
// that come with authentication and quota.
func codesOf(k kind) []web.Code {
	parameters := []web.Code{web.BadRequest, web.InvalidParameter, web.UnknownParameter, web.NotAcceptable}
	reading := append(slices.Clone(parameters), web.Unavailable, web.Overloaded, web.DeadlineExceeded)
	body := []web.Code{web.RequestTimeout, web.BodyTooLarge, web.UnsupportedMediaType}
	switch k {
	case kindList:
		return append(reading, web.ScanRefused, web.CursorMismatch, web.CursorExpired)
	case kindGet:
		return append(reading, web.InvalidID, web.RowNotFound)
	case kindBatch:
		return append(append(reading, body...), web.InvalidID)
	case kindAggregate:
		return append(reading, web.ScanRefused)
	case kindStats:
		return reading
	case kindTail:
		return append(reading, web.CursorMismatch)
	case kindPublish:
		return append(append(reading, body...), web.InvalidRecord, web.PublishIncomplete)
	}
	return parameters
}

// usesIndexes says whether a kind of operation can be served by an index.
func usesIndexes(k kind) bool { return k == kindList || k == kindAggregate }

// codes are all errors of an operation, in the order of web.Codes.
func (b *builder) codes(k kind, ds *datasetNames) []web.CodeInfo {
	can := append(codesOf(k), web.Forbidden, web.URITooLong, web.HeadersTooLarge, web.Internal)
	if ds != nil && k != kindDocument {
		if authOf(ds.Dataset) != authNone {
			can = append(can, web.Unauthenticated, web.Unavailable)
		}
		if ds.API.QuotaPerMinute > 0 {
			can = append(can, web.RateLimited)
		}
		if usesIndexes(k) && len(ds.Indexes) > 0 {
			can = append(can, web.IndexBuilding)
		}
	}
	return slices.DeleteFunc(web.Codes(), func(c web.CodeInfo) bool { return !slices.Contains(can, c.Code) })
}

// problems are the responses for the errors of an operation: one a status, in its order.
func (b *builder) problems(k kind, ds *datasetNames) Map[*Response] {
	var out Map[*Response]
	for codes := b.codes(k, ds); len(codes) > 0; {
		n := 1
		for n < len(codes) && codes[n].Status == codes[0].Status {
			n++
		}
		out.Set(strconv.Itoa(codes[0].Status), &Response{Ref: refResponses + b.problem(k, codes[:n])})
		codes = codes[n:]
	}
	return out
}

// problem returns the name of the response for some codes of one status. The same codes are one
// component, named after the code or after the first kind of operation that can answer with them.
func (b *builder) problem(k kind, codes []web.CodeInfo) string {
	status := codes[0].Status
	list := make([]string, len(codes))
	enum := make([]any, len(codes))
	var text strings.Builder
	for i, c := range codes {
		list[i], enum[i] = string(c.Code), string(c.Code)
		fmt.Fprintf(&text, "- `%s`: %s.\n", c.Code, c.Title)
	}
	set := strings.Join(list, " ")
	if name, ok := b.problemSets[set]; ok {
		return name
	}
	name := list[0]
	if len(list) > 1 {
		name = fmt.Sprintf("%s-%d", k, status)
	}
	for n := 2; b.taken[name]; n++ {
		name = fmt.Sprintf("%s-%d-%d", k, status, n)
	}
	b.taken[name], b.problemSets[set] = true, name
	example := Map[any]{
		{"type", web.ProblemType(codes[0].Code)}, {"title", codes[0].Title}, {"status", status}, {"code", list[0]},
		{"detail", "What is wrong with this request."}, {"hint", "What to do about it."}, {"request_id", "MZXW6YTBOI"},
	}
	r := &Response{
		Description: strings.TrimSuffix(text.String(), "\n"), Headers: headerRefs("X-Request-Id", "Cache-Control", "X-Content-Type-Options", "Connection"),
		Content: Map[*MediaType]{{mediaProblem, &MediaType{
			Schema: &Schema{AllOf: []*Schema{ref("Problem"), {Type: typeObject, Properties: Map[*Schema]{
				{"status", &Schema{Type: typeInteger, Enum: []any{status}}}, {"code", &Schema{Type: typeString, Enum: enum}},
			}}}},
			Example: example,
		}}},
	}
	switch status {
	case 401:
		r.Headers = append(r.Headers, headerRefs("WWW-Authenticate")...)
	case 429, 503:
		r.Headers = append(r.Headers, headerRefs("Retry-After")...)
	}
	r.Headers = append(r.Headers, headerRefs("RateLimit-Policy", "RateLimit", "Vary", "Server-Timing")...)
	b.doc.Components.Responses.Set(name, r)
	return name
}

// problemSchema is the body of every error; code lists all codes that the API knows.
func (b *builder) problemSchema() *Schema {
	var codes []any
	for _, c := range web.Codes() {
		codes = append(codes, string(c.Code))
	}
	text := func(description string) *Schema { return &Schema{Type: typeString, Description: description} }
	fault := &Schema{Type: typeObject, Required: []string{"code"}, AdditionalProperties: false, Properties: Map[*Schema]{
		{"line", &Schema{Type: typeInteger, Minimum: number(1), Description: "The line of the body, from 1."}},
		{"parameter", text("The parameter at fault.")},
		{"field", text("The dataset's field at fault.")},
		{"code", text("The kind of fault.")},
		{"detail", text("What was expected and what came.")},
	}}
	return &Schema{
		Type: typeObject, Description: "An error (RFC 9457).", Required: []string{"type", "title", "status", "code"}, AdditionalProperties: false,
		Properties: Map[*Schema]{
			{"type", &Schema{Type: typeString, Format: "uri", Description: "The page that explains the code."}},
			{"title", text("What the code means.")},
			{"status", &Schema{Type: typeInteger, Minimum: number(400), Maximum: number(599)}},
			{"code", &Schema{Type: typeString, Enum: codes, Description: "Stable, for programs."}},
			{"detail", text("What is wrong with this request.")},
			{"hint", text("What to do about it.")},
			{"errors", &Schema{Type: typeArray, Items: fault, Description: "The single faults, where there can be several."}},
			{"metadata", &Schema{Type: typeObject, Description: "For programs; its members depend on the code."}},
			{"instance", text("The path that was asked.")},
			{"request_id", text("Names the request in the log.")},
			{"trace_id", text("Names the trace.")},
		},
	}
}
