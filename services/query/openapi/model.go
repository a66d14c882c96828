package openapi

import (
	"bytes"
	"encoding/json"
)

// Map is a JSON object whose members keep their order, so that a document reads in the order in
// which it was written.
type Map[V any] []Member[V]

// Member is one entry of a Map.
type Member[V any] struct {
	Name  string
	Value V
}

// Set adds a member, or replaces the one of the same name.
func (m *Map[V]) Set(name string, value V) {
	for i := range *m {
		if (*m)[i].Name == name {
			(*m)[i].Value = value
			return
		}
	}
	*m = append(*m, Member[V]{name, value})
}

// Get returns a member.
func (m Map[V]) Get(name string) (value V, ok bool) {
	for _, e := range m {
		if e.Name == name {
			return e.Value, true
		}
	}
	return value, false
}

// MarshalJSON writes the members in their order.
func (m Map[V]) MarshalJSON() ([]byte, error) {
	b := []byte{'{'}
	for i, e := range m {
		if i > 0 {
			b = append(b, ',')
		}
		for j, part := range []any{e.Name, e.Value} {
			text, err := encode(part)
			if err != nil {
				return nil, err
			}
			if j > 0 {
				b = append(b, ':')
			}
			b = append(b, text...)
		}
	}
	return append(b, '}'), nil
}

// encode is json.Marshal without \u003c for <, which nobody can read in a pattern.
func encode(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}

// Document is an OpenAPI document: what of 3.0.4 and 3.1.1 is used here.
type Document struct {
	OpenAPI    string         `json:"openapi"`
	Info       Info           `json:"info"`
	Management *Management    `json:"x-google-api-management,omitempty"`
	Backend    string         `json:"x-google-backend,omitempty"`
	Servers    []Server       `json:"servers,omitempty"`
	Tags       []Tag          `json:"tags,omitempty"`
	Paths      Map[*PathItem] `json:"paths"`
	Components Components     `json:"components"`
}

// Info is the head of a document.
type Info struct {
	Title       string   `json:"title"`
	Description string   `json:"description"`
	Version     string   `json:"version"`
	License     *License `json:"license,omitempty"`
}

// License names the licence of the API's program.
type License struct {
	Name       string `json:"name"`
	Identifier string `json:"identifier,omitempty"` // 3.1 only
	URL        string `json:"url,omitempty"`
}

// Server is where the API is served.
type Server struct {
	URL      string    `json:"url"`
	Endpoint *Endpoint `json:"x-google-endpoint,omitempty"`
}

// Endpoint is Google's extension of a server.
type Endpoint struct {
	AllowCORS bool `json:"allowCors"`
}

// Tag groups operations: one for each dataset.
type Tag struct {
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
}

// PathItem holds the operations of a path.
type PathItem struct {
	Get  *Operation `json:"get,omitempty"`
	Head *Operation `json:"head,omitempty"`
	Post *Operation `json:"post,omitempty"`
}

// Operations lists the operations with their methods.
func (p *PathItem) Operations() Map[*Operation] {
	var m Map[*Operation]
	all := Map[*Operation]{{"GET", p.Get}, {"HEAD", p.Head}, {"POST", p.Post}}
	for _, e := range all {
		if e.Value != nil {
			m = append(m, e)
		}
	}
	return m
}

// Operation is one method of one path.
type Operation struct {
	Tags        []string         `json:"tags,omitempty"`
	Summary     string           `json:"summary"`
	Description string           `json:"description"`
	OperationID string           `json:"operationId"`
	Quota       *Quota           `json:"x-google-quota,omitempty"`
	Security    *[]Map[[]string] `json:"security,omitempty"`
	Parameters  []*Parameter     `json:"parameters,omitempty"`
	RequestBody *RequestBody     `json:"requestBody,omitempty"`
	Responses   Map[*Response]   `json:"responses"`
}

// Quota is what an operation costs.
type Quota struct {
	MetricCosts Map[int] `json:"metricCosts"`
}

// Parameter is a parameter, or a reference to one.
type Parameter struct {
	Ref         string  `json:"$ref,omitempty"`
	Name        string  `json:"name,omitempty"`
	In          string  `json:"in,omitempty"`
	Description string  `json:"description,omitempty"`
	Required    bool    `json:"required,omitempty"`
	Style       string  `json:"style,omitempty"`
	Explode     *bool   `json:"explode,omitempty"`
	Schema      *Schema `json:"schema,omitempty"`
	Example     any     `json:"example,omitempty"`
}

// RequestBody is what an operation takes.
type RequestBody struct {
	Description string          `json:"description,omitempty"`
	Required    bool            `json:"required"`
	Content     Map[*MediaType] `json:"content"`
}

// Response is a response, or a reference to one.
type Response struct {
	Ref         string          `json:"$ref,omitempty"`
	Description string          `json:"description,omitempty"`
	Headers     Map[*Header]    `json:"headers,omitempty"`
	Content     Map[*MediaType] `json:"content,omitempty"`
}

// Header is a header of a response, or a reference to one.
type Header struct {
	Ref         string  `json:"$ref,omitempty"`
	Description string  `json:"description,omitempty"`
	Required    bool    `json:"required,omitempty"`
	Schema      *Schema `json:"schema,omitempty"`
}

// MediaType is a body. ItemSchema describes one line or event of a stream; OpenAPI has it from 3.2
// on under the name itemSchema.
type MediaType struct {
	Schema     *Schema `json:"schema,omitempty"`
	ItemSchema *Schema `json:"x-item-schema,omitempty"`
	Example    any     `json:"example,omitempty"`
}

// Components holds what is referred to.
type Components struct {
	SecuritySchemes Map[*SecurityScheme] `json:"securitySchemes,omitempty"`
	Parameters      Map[*Parameter]      `json:"parameters,omitempty"`
	Headers         Map[*Header]         `json:"headers,omitempty"`
	Responses       Map[*Response]       `json:"responses,omitempty"`
	Schemas         Map[*Schema]         `json:"schemas,omitempty"`
}

// SecurityScheme is a way to say who calls.
type SecurityScheme struct {
	Type             string      `json:"type"`
	Description      string      `json:"description,omitempty"`
	Name             string      `json:"name,omitempty"`
	In               string      `json:"in,omitempty"`
	Scheme           string      `json:"scheme,omitempty"`
	BearerFormat     string      `json:"bearerFormat,omitempty"`
	OpenIDConnectURL string      `json:"openIdConnectUrl,omitempty"`
	GoogleAuth       *GoogleAuth `json:"x-google-auth,omitempty"`
}

// GoogleAuth tells API Gateway how to check a token.
type GoogleAuth struct {
	Issuer    string   `json:"issuer"`
	JWKSURI   string   `json:"jwksUri"`
	Audiences []string `json:"audiences,omitempty"`
}

// Management is Google's extension at the root.
type Management struct {
	Backends Map[*Backend] `json:"backends"`
	Metrics  Map[*Metric]  `json:"metrics,omitempty"`
	Quota    *QuotaLimits  `json:"quota,omitempty"`
}

// Backend is a service behind the gateway.
type Backend struct {
	Address         string  `json:"address"`
	JWTAudience     string  `json:"jwtAudience"`
	Deadline        float64 `json:"deadline"`
	PathTranslation string  `json:"pathTranslation"`
	Protocol        string  `json:"protocol"`
}

// Metric is something that a quota counts.
type Metric struct {
	DisplayName string `json:"displayName"`
}

// QuotaLimits are the limits of the metrics, for each minute and consumer project.
type QuotaLimits struct {
	Limits Map[*QuotaLimit] `json:"limits"`
}

// QuotaLimit is the limit of one metric.
type QuotaLimit struct {
	Metric string `json:"metric"`
	Values int    `json:"values"`
}

// Schema is a JSON Schema of 2020-12, or in a 3.0 document what that version has of it.
type Schema struct {
	Ref         string `json:"$ref,omitempty"`
	Dialect     string `json:"$schema,omitempty"`
	ID          string `json:"$id,omitempty"`
	Title       string `json:"title,omitempty"`
	Description string `json:"description,omitempty"`
	// Type is a string, or in 3.1 also an array of them.
	Type                 any             `json:"type,omitempty"`
	Nullable             bool            `json:"nullable,omitempty"` // 3.0 only
	Format               string          `json:"format,omitempty"`
	ContentEncoding      string          `json:"contentEncoding,omitempty"` // 3.1 only
	Enum                 []any           `json:"enum,omitempty"`
	Default              any             `json:"default,omitempty"`
	Pattern              string          `json:"pattern,omitempty"`
	MinLength            int             `json:"minLength,omitempty"`
	MaxLength            int             `json:"maxLength,omitempty"`
	Minimum              json.RawMessage `json:"minimum,omitempty"`
	Maximum              json.RawMessage `json:"maximum,omitempty"`
	Items                *Schema         `json:"items,omitempty"`
	MinItems             int             `json:"minItems,omitempty"`
	MaxItems             int             `json:"maxItems,omitempty"`
	UniqueItems          bool            `json:"uniqueItems,omitempty"`
	Required             []string        `json:"required,omitempty"`
	Properties           Map[*Schema]    `json:"properties,omitempty"`
	AdditionalProperties any             `json:"additionalProperties,omitempty"` // a bool or a *Schema
	AllOf                []*Schema       `json:"allOf,omitempty"`
	OneOf                []*Schema       `json:"oneOf,omitempty"`
	Example              any             `json:"example,omitempty"`  // 3.0 only
	Examples             []any           `json:"examples,omitempty"` // 3.1 only
}
