package monitortest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/getkin/kin-openapi/openapi3"
)

// contract is Datadog's description of its API, version 1, made strict: what it does not name is not
// allowed. A nil contract checks nothing.
type contract struct{ doc *openapi3.T }

// deviation is what the wire has and the description has not.
type deviation struct {
	schema, field string
	// nullable tells that the field is described, but not that it can be null.
	nullable bool
	why      string
}

// deviations are the places where recorded traffic and the description do not agree. The server follows the traffic.
func deviations() []deviation {
	const recorded = "recorded answers have it"
	return []deviation{
		{schema: "Monitor", field: "org_id", why: recorded},
		{schema: "Monitor", field: "created_at", why: recorded},
		{schema: "Monitor", field: "overall_state_modified", why: recorded},
		{schema: "MonitorSearchResult", field: "quality_issues", nullable: true, why: recorded},
		{schema: "ServiceLevelObjective", field: "type_id", why: recorded},
		{schema: "SLOResponseData", field: "type_id", why: recorded},
		{schema: "SLOListResponse", field: "error", why: "SLOs are answered with \"error\": null, not with errors"},
		{schema: "SLOResponse", field: "error", why: "SLOs are answered with \"error\": null, not with errors"},
		{schema: "SLODeleteResponse", field: "error", why: "SLOs are answered with \"error\": null, not with errors"},
		{schema: "SLODeleteResponse", field: "data", nullable: true, why: "a refused delete has null"},
		{schema: "CheckCanDeleteSLOResponse", field: "errors", nullable: true, why: "it is null when all can be deleted"},
		{schema: "CheckCanDeleteSLOResponseData", field: "denied_ids", why: recorded},
		{schema: "SLOHistoryResponseData", field: "slo", why: recorded},
		{schema: "SLOHistorySLIData", field: "corrections", why: recorded},
	}
}

// ErrNoDescription is why nothing is compared with the description.
var ErrNoDescription = errors.New("no folder above has shared/datadog/openapi-v1.json, so Datadog's description of its API is not compared")

// description is read once in a process: it takes a quarter of a second.
var description = sync.OnceValues(readContract) //nolint:gochecknoglobals // It is a cache of a file that does not change.

func readContract() (*contract, error) {
	dir := "."
	for range 8 {
		text, err := os.ReadFile(filepath.Join(dir, "shared", "datadog", "openapi-v1.json"))
		if err != nil {
			dir = filepath.Join(dir, "..")
			continue
		}
		doc, err := openapi3.NewLoader().LoadFromData(text)
		if err != nil {
			return nil, fmt.Errorf("read the description of Datadog's API: %w", err)
		}
		return strict(doc)
	}
	return nil, ErrNoDescription
}

// strict applies the deviations and closes all objects.
func strict(doc *openapi3.T) (*contract, error) {
	for _, d := range deviations() {
		ref := doc.Components.Schemas[d.schema]
		if ref == nil {
			return nil, fmt.Errorf("the description of Datadog's API has no %s any more", d.schema)
		}
		properties := ref.Value.Properties
		switch have := properties[d.field]; {
		case have != nil && d.nullable:
			copied := *have.Value
			copied.Nullable = true
			properties[d.field] = &openapi3.SchemaRef{Value: &copied}
		case have != nil || d.nullable:
			return nil, fmt.Errorf("the deviation of %s.%s is none any more", d.schema, d.field)
		default:
			properties[d.field] = &openapi3.SchemaRef{Value: &openapi3.Schema{Nullable: true}}
		}
	}
	seen := map[*openapi3.Schema]bool{}
	for _, ref := range doc.Components.Schemas {
		closeObjects(ref, seen)
	}
	return &contract{doc: doc}, nil
}

func closeObjects(ref *openapi3.SchemaRef, seen map[*openapi3.Schema]bool) {
	if ref == nil || ref.Value == nil || seen[ref.Value] {
		return
	}
	s := ref.Value
	seen[s] = true
	if len(s.Properties) > 0 && s.AdditionalProperties.Has == nil && s.AdditionalProperties.Schema == nil {
		s.AdditionalProperties.Has = new(bool)
	}
	for _, property := range s.Properties {
		closeObjects(property, seen)
	}
	for _, alternative := range slices.Concat(s.OneOf, s.AnyOf, s.AllOf) {
		closeObjects(alternative, seen)
	}
	closeObjects(s.Items, seen)
	closeObjects(s.AdditionalProperties.Schema, seen)
}

// Described tells whether requests and answers are compared with Datadog's description of its API.
func Described() error {
	_, err := description()
	return err
}

// check reports a request that was accepted, or an answer, that the description does not allow.
func (d *Datadog) check(rt *route, r *http.Request, body []byte, answer *Response) {
	if d.contract == nil || d.o.Report == nil || !strings.HasPrefix(rt.pattern, "/api/v1/") {
		return
	}
	operation := d.contract.doc.Paths.Value(rt.pattern).GetOperation(rt.method)
	violated := func(what string, err error) {
		if err != nil {
			d.o.Report(fmt.Sprintf("%s %s: the %s is not as Datadog describes it: %v", r.Method, r.URL, what, err))
		}
	}
	if answer.Status < http.StatusMultipleChoices {
		violated("query", parametersFault(operation, r))
		if content := operation.RequestBody; content != nil {
			violated("body of the request", bodyFault(content.Value.Content, body, openapi3.VisitAsRequest()))
		}
	}
	described := operation.Responses.Status(answer.Status)
	if described == nil {
		violated("answer", fmt.Errorf("it has no status %d", answer.Status))
		return
	}
	violated(fmt.Sprintf("answer %d", answer.Status), bodyFault(described.Value.Content, answer.bytes(), openapi3.VisitAsResponse()))
}

func bodyFault(content openapi3.Content, body []byte, direction openapi3.SchemaValidationOption) error {
	media := content.Get("application/json")
	if media == nil || media.Schema == nil {
		if len(body) > 0 {
			return errors.New("there is a body")
		}
		return nil
	}
	var value any
	if err := json.Unmarshal(body, &value); err != nil {
		return err
	}
	return media.Schema.Value.VisitJSON(value, direction, openapi3.EnableFormatValidation())
}

// parametersFault wants all parameters of the query to be described, and those that are required.
func parametersFault(operation *openapi3.Operation, r *http.Request) error {
	query := r.URL.Query()
	for _, ref := range operation.Parameters {
		p := ref.Value
		if p.In != openapi3.ParameterInQuery {
			continue
		}
		values, given := query[p.Name]
		delete(query, p.Name)
		if !given && p.Required {
			return fmt.Errorf("%s is required", p.Name)
		}
		for _, text := range values {
			if err := p.Schema.Value.VisitJSON(parameter(p.Schema.Value, text)); err != nil {
				return fmt.Errorf("%s: %w", p.Name, err)
			}
		}
	}
	for name := range query {
		return fmt.Errorf("%s is not a parameter", name)
	}
	return nil
}

// parameter reads a text as what its schema wants, as far as that works.
func parameter(schema *openapi3.Schema, text string) any {
	switch {
	case schema.Type.Is(openapi3.TypeInteger), schema.Type.Is(openapi3.TypeNumber):
		if n, err := strconv.ParseFloat(text, 64); err == nil {
			return n
		}
	case schema.Type.Is(openapi3.TypeBoolean):
		if b, err := strconv.ParseBool(text); err == nil {
			return b
		}
	case schema.Type.Is(openapi3.TypeArray):
		items := []any{}
		for _, item := range strings.Split(text, ",") {
			items = append(items, parameter(schema.Items.Value, item))
		}
		return items
	}
	return text
}
