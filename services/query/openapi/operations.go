package openapi

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/latamctl/latamctl/pkg/dataset"
)

// addRoot adds the operations of the service itself.
func (b *builder) addRoot() {
	get := func(path, id, summary, description string, ok *Response) {
		responses := Map[*Response]{{"200", ok}, {"304", notModified()}}
		b.add("GET", path, &Operation{
			Tags: []string{tagService}, Summary: summary, Description: description, OperationID: id,
			Responses: append(responses, b.problems(kindDocument, nil)...),
		})
	}
	document := func(description string, content Map[*MediaType], more ...string) *Response {
		return &Response{Description: description, Headers: answerHeaders(append([]string{"ETag"}, more...)...), Content: content}
	}
	get("/", "index", "Where to start", "Links to the datasets, the documentation and the health check.",
		document("The links.", jsonContent(open(object("", []string{"name", "links"}, Map[*Schema]{
			{"name", str("")}, {"links", &Schema{Type: typeObject, AdditionalProperties: str("")}},
		})), nil)))
	get("/healthz", "health", "Whether the service answers", "200 while the process serves. It asks nobody else: readiness is at the admin address.",
		document("It does.", jsonContent(object("", []string{"status"}, Map[*Schema]{{"status", &Schema{Type: typeString, Enum: []any{"ok"}}}}), Map[any]{{"status", "ok"}})))
	get("/openapi.json", "openapi", "This document", "The contract of the API as OpenAPI 3.1, made from the declaration.",
		document("The document.", jsonContent(&Schema{Type: typeObject, Required: []string{"openapi", "info", "paths"}}, nil)))
	get("/docs", "docs", "This document as a page", "The contract for people, with a form to try each request that reads.",
		document("The page.", Map[*MediaType]{{mediaHTML, &MediaType{Schema: &Schema{Type: typeString}}}}, "Content-Security-Policy", "Referrer-Policy"))
	get("/v1/datasets", "listDatasets", "The datasets", "Lists the datasets with their keys, indexes and links.",
		document("The datasets.", jsonContent(ref("DatasetList"), nil)))
}

func notModified() *Response {
	return &Response{Description: "Nothing changed since the answer that If-None-Match names.", Headers: answerHeaders("ETag", "Last-Modified", "Link", "Server-Timing", "RateLimit-Policy", "RateLimit", "Content-Security-Policy", "Referrer-Policy")}
}

// addDataset adds the operations of a dataset under its literal paths.
func (b *builder) addDataset(raw *dataset.Dataset) {
	ds := &datasetNames{Dataset: raw, name: b.exported(raw.Name), path: "/v1/datasets/" + url.PathEscape(raw.Name), example: newExample(raw)}
	ds.security = b.security(raw)
	b.addFilters(ds)
	b.addDatasetParameters(ds)
	b.schema(ds.name+"Row", withExample(b.d, b.d.row(raw), ds.example.row))
	b.schema(ds.name+"Record", withExample(b.d, b.d.record(raw), ds.example.record))
	b.schema(ds.name+"Page", b.pageSchema(ds))
	b.schema(ds.name+"Aggregate", b.aggregateSchema(ds))
	b.addDescriptions(ds)
	b.addList(ds)
	b.addGet(ds)
	b.addBatch(ds)
	b.addAggregate(ds)
	b.addStats(ds)
	if !b.d.v30 {
		b.addTail(ds)
	}
	b.addPublish(ds)
}

func withExample(d dialect, s *Schema, v Map[any]) *Schema {
	if len(v) == 0 {
		return s
	}
	return d.example(s, v)
}

// operation is an operation of a dataset that touches its rows.
func (b *builder) operation(ds *datasetNames, k kind, id, summary, description string) *Operation {
	return &Operation{
		Tags: []string{ds.Name}, Summary: summary, Description: description, OperationID: id + ds.name, Security: ds.security,
		Quota: b.cost(ds, k),
	}
}

func (b *builder) addDescriptions(ds *datasetNames) {
	add := func(path, id, summary, description string, content Map[*MediaType]) {
		op := b.operation(ds, kindDocument, id, summary, description)
		op.Security, op.Quota = nil, nil // The contract is public, the data is not.
		op.Responses = append(Map[*Response]{{"200", &Response{Description: summary + ".", Headers: answerHeaders("ETag"), Content: content}}, {"304", notModified()}}, b.problems(kindDocument, ds)...)
		b.add("GET", path, op)
	}
	add(ds.path, "describe", "What "+ds.Name+" is", "The dataset's fields with the operators of each, its key, indexes, limits and links.", jsonContent(ref("Dataset"), nil))
	add(ds.path+"/schema", "schema", "The JSON Schema of "+ds.Name, "A JSON Schema (2020-12) to check records with before they are published.",
		Map[*MediaType]{{mediaSchema, &MediaType{Schema: &Schema{Type: typeObject, Required: []string{"$schema", "type", "properties"}}}}})
}

func (b *builder) addList(ds *datasetNames) {
	op := b.operation(ds, kindList, "list", "List rows of "+ds.Name, listText(ds, b.o.Limits))
	op.Parameters = b.listParameters(ds)
	ok := &Response{Description: "A page of rows, or with explain=true how the query would be served.", Headers: dataHeaders(ds, "ETag", "Last-Modified", "Link")}
	var example any
	if ds.example.id != "" {
		example = Map[any]{
			{"data", []any{ds.example.row}}, {"next_cursor", nil}, {"next_url", nil},
			{"meta", Map[any]{{"dataset", ds.Name}, {"access", "key"}, {"prefix", []any{}}, {"rows_scanned", 1}, {"as_of", "2001-02-01T12:00:00.000Z"}}},
		}
	}
	ok.Content = jsonContent(&Schema{OneOf: []*Schema{ref(ds.name + "Page"), ref("Explanation")}}, example)
	if !b.d.v30 {
		ok.Description += " As NDJSON or CSV all rows are streamed, with trailers at the end."
		ok.Headers = append(ok.Headers, headerRefs("Trailer")...)
		ok.Content.Set(mediaNDJSON, &MediaType{
			Schema:     &Schema{Type: typeString, Description: "One row a line, and a last line that says whether more follows."},
			ItemSchema: &Schema{OneOf: []*Schema{ref(ds.name + "Row"), ref("ExportEnd")}},
		})
		ok.Content.Set(mediaCSV, &MediaType{Schema: &Schema{Type: typeString, Description: "RFC 4180 with a header line."}})
	}
	op.Responses = append(Map[*Response]{{"200", ok}, {"304", notModified()}}, b.problems(kindList, ds)...)
	b.add("GET", ds.path+"/rows", op)
}

func listText(ds *datasetNames, l Limits) string {
	text := fmt.Sprintf("Rows in the order of the key (%s)", joined(ds.Key))
	for _, ix := range ds.Indexes {
		text += fmt.Sprintf(", or of the index %s (%s)", ix.Name, joined(ix.Fields))
	}
	first := "its first fields"
	if len(ds.Indexes) > 0 {
		first = "the first fields of one of them"
	}
	return text + fmt.Sprintf(". Equalities on "+first+", and a range on the next, read just those rows; other filters are applied to what that reads. "+
		"A query that would read everything is refused unless scan=allow. At most %d filters, and %d rows read for a page: a page may be short or empty and still have a next_cursor.", l.MaxFilters, l.MaxScannedRows)
}

func (b *builder) addGet(ds *datasetNames) {
	var row any
	if ds.example.id != "" {
		row = ds.example.row
	}
	headers := dataHeaders(ds, "ETag", "Last-Modified")
	op := b.operation(ds, kindGet, "get", "Get one row of "+ds.Name, "The row with this id, as it is now. The id is part of every row, and can be made from the key: "+joined(ds.Key)+".")
	op.Parameters = parameterRefs(ds.Name+".id", ds.Name+".fields")
	op.Responses = append(Map[*Response]{
		{"200", &Response{Description: "The row.", Headers: headers, Content: jsonContent(ref(ds.name+"Row"), row)}}, {"304", notModified()},
	}, b.problems(kindGet, ds)...)
	b.add("GET", ds.path+"/rows/{id}", op)

	head := b.operation(ds, kindGet, "head", "Whether a row of "+ds.Name+" is there", "The headers of the same GET, without the row.")
	head.Parameters = op.Parameters
	head.Responses = Map[*Response]{{"200", &Response{Description: "It is.", Headers: headers}}, {"304", notModified()}}
	for _, r := range b.problems(kindGet, ds) {
		of, _ := b.doc.Components.Responses.Get(strings.TrimPrefix(r.Value.Ref, refResponses))
		head.Responses.Set(r.Name, &Response{Description: "The same error as of GET, without a body.", Headers: of.Headers})
	}
	b.add("HEAD", ds.path+"/rows/{id}", head)
}

func (b *builder) addBatch(ds *datasetNames) {
	op := b.operation(ds, kindBatch, "batchGet", "Get several rows of "+ds.Name, fmt.Sprintf("Up to %d rows by their ids, in the order of the ids. Ids without a row come back in missing.", b.o.Limits.MaxIDs))
	fields := []any{dataset.IDMember}
	for _, f := range ds.Fields {
		fields = append(fields, f.Name)
	}
	request := object("", []string{"ids"}, Map[*Schema]{
		{"ids", &Schema{Type: typeArray, Items: &Schema{Type: typeString, MinLength: 1}, MinItems: 1, MaxItems: b.o.Limits.MaxIDs}},
		{"fields", &Schema{Type: typeArray, Items: &Schema{Type: typeString, Enum: fields}, MinItems: 1, UniqueItems: true, Description: "The fields to return; all by default."}},
	})
	var example any
	if ds.example.id != "" {
		example = Map[any]{{"ids", []any{ds.example.id}}}
	}
	op.RequestBody = &RequestBody{Required: true, Content: jsonContent(request, example)}
	answer := object("", []string{"data", "missing"}, Map[*Schema]{
		{"data", listOf(ref(ds.name+"Row"), "")}, {"missing", listOf(str(""), "The ids that have no row.")},
	})
	op.Responses = append(Map[*Response]{{"200", &Response{Description: "The rows.", Headers: dataHeaders(ds), Content: jsonContent(answer, nil)}}}, b.problems(kindBatch, ds)...)
	b.add("POST", ds.path+"/rows/batch-get", op)
}

func (b *builder) addAggregate(ds *datasetNames) {
	op := b.operation(ds, kindAggregate, "aggregate", "Count and compute over rows of "+ds.Name,
		"Computes metrics over the rows that meet the filters, in groups. The numbers are exact over the rows that were read; meta.complete is false when a bound ended the reading.")
	op.Parameters = b.aggregateParameters(ds)
	op.Responses = append(Map[*Response]{
		{"200", &Response{Description: "The groups.", Headers: dataHeaders(ds), Content: jsonContent(ref(ds.name+"Aggregate"), nil)}},
	}, b.problems(kindAggregate, ds)...)
	b.add("GET", ds.path+"/aggregate", op)
}

func (b *builder) addStats(ds *datasetNames) {
	op := b.operation(ds, kindStats, "stats", "How many rows "+ds.Name+" has and how fresh they are", "The number of rows within bounds, the first and the last event time, the state of the indexes, and what ingest does where it runs in the same process.")
	op.Responses = append(Map[*Response]{{"200", &Response{Description: "The statistics.", Headers: dataHeaders(ds), Content: jsonContent(ref("Stats"), nil)}}}, b.problems(kindStats, ds)...)
	b.add("GET", ds.path+"/stats", op)
}

func (b *builder) addTail(ds *datasetNames) {
	op := b.operation(ds, kindTail, "tail", "Follow "+ds.Name+" live", "Server-sent events: each row as it becomes readable, from now on. A client that connects again with Last-Event-ID misses nothing; it may see some rows twice.")
	op.Parameters = append(filterRefs(ds), parameterRefs(ds.Name+".fields")...)
	op.Parameters = append(op.Parameters,
		&Parameter{Name: "from", In: "query", Description: "Only now, which is the default.", Schema: &Schema{Type: typeString, Enum: []any{"now"}}},
		&Parameter{Name: "Last-Event-ID", In: "header", Description: "The id of the last event that was seen.", Schema: &Schema{Type: typeString, MinLength: 1}})
	ok := &Response{Description: "The stream: events named row with a row as data, and comments as signs of life.", Headers: dataHeaders(ds, "X-Accel-Buffering"), Content: Map[*MediaType]{
		{mediaEvents, &MediaType{Schema: &Schema{Type: typeString}, ItemSchema: ref(ds.name + "Row")}},
	}}
	op.Responses = append(Map[*Response]{{"200", ok}}, b.problems(kindTail, ds)...)
	b.add("GET", ds.path+"/tail", op)
}

func (b *builder) addPublish(ds *datasetNames) {
	op := b.operation(ds, kindPublish, "publish", "Publish records to "+ds.Name, fmt.Sprintf("Publishes one record, or up to %d, one on each line. All are checked before the first is sent, so one bad record refuses them all. "+
		"202 means that Pub/Sub has them; they are readable a moment later. Sending the same records again does no harm.", b.o.Limits.MaxRecords))
	var one any
	lines := &MediaType{Schema: &Schema{Type: typeString, Description: "One record on each line."}}
	if ds.example.id != "" {
		one = ds.example.record
		if text, err := encode(ds.example.record); err == nil {
			lines.Example = string(text) + "\n"
		}
	}
	if !b.d.v30 {
		lines.ItemSchema = ref(ds.name + "Record")
	}
	op.RequestBody = &RequestBody{Required: true, Content: append(jsonContent(ref(ds.name+"Record"), one), Member[*MediaType]{mediaNDJSON, lines})}
	op.Responses = append(Map[*Response]{
		{"202", &Response{Description: "Pub/Sub has all records.", Headers: dataHeaders(ds), Content: jsonContent(ref("Published"), Map[any]{{"published", 1}, {"message_ids", []any{"1"}}})}},
	}, b.problems(kindPublish, ds)...)
	b.add("POST", ds.path+"/records", op)
}

// security is what a dataset asks of its callers: nil when it asks nothing.
func (b *builder) security(ds *dataset.Dataset) *[]Map[[]string] {
	var name string
	switch authOf(ds) {
	case authAPIKey, authGateway:
		name = schemeAPIKey
	case authOIDC:
		name = schemeOIDC
	default:
		return nil
	}
	b.scheme(name)
	return &[]Map[[]string]{{{name, []string{}}}}
}

const (
	schemeAPIKey = "api_key"
	schemeOIDC   = "oidc"
)

// scheme adds a security scheme that a dataset uses.
func (b *builder) scheme(name string) {
	s := &SecurityScheme{Type: "apiKey", In: "header", Name: "x-api-key", Description: "An API key."}
	if name == schemeOIDC {
		s = &SecurityScheme{Type: "http", Scheme: "bearer", BearerFormat: "JWT", Description: "An access token of the issuer that the service trusts."}
		if b.o.OIDCIssuer != "" {
			s = &SecurityScheme{Type: "openIdConnect", OpenIDConnectURL: strings.TrimSuffix(b.o.OIDCIssuer, "/") + "/.well-known/openid-configuration", Description: s.Description}
		}
		if b.d.v30 {
			s.GoogleAuth = &GoogleAuth{Issuer: b.o.OIDCIssuer, JWKSURI: b.o.OIDCJWKS, Audiences: []string{b.o.OIDCAudience}}
		}
	}
	b.doc.Components.SecuritySchemes.Set(name, s)
}
