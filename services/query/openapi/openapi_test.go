package openapi

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/go-cmp/cmp"

	"github.com/latamctl/latamctl/examples"
	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/web"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing them")

// every has all types, all ways to ask callers, and names that do not fit into an operation id.
const every = `version: 1
name: shop
datasets:
  orders:
    description: What was bought
    fields:
      shop:     {type: string, required: true, pattern: "^[a-z]{2}[0-9]{2,4}$"}
      order_no: {type: int64, required: true, minimum: 1}
      code:     {type: string, pattern: "(?i)^x[[:alpha:]]+\\z"}
      items:    {type: int64, minimum: 1, maximum: 500}
      price:    {type: float64, minimum: 0.5}
      paid:     bool
      at:       {type: timestamp, required: true, minimum: "2002-01-01T00:00:00Z"}
      day:      date
      photo:    bytes
      extra:    {type: json, description: What the till adds}
    key: [shop, order_no]
    time: at
    retention: 400d
    indexes: {by_day: [day, shop], by_price: [price]}
    api: {auth: api_key, quota_per_minute: 600}
  order-events:
    fields: {seq: {type: int64, required: true}}
    key: [seq]
    api: {auth: oidc, quota_per_minute: 60}
  order_events:
    fields: {seq: {type: date, required: true}}
    key: [seq]
    api: {auth: gateway, quota_per_minute: 5}
  datasets:
    fields: {any: {type: json}, flag: {type: bool, required: true}}
    key: [flag]
`

// metered asks for keys and tokens, in little.
const metered = `version: 1
name: shop
datasets:
  orders:
    fields: {order_no: {type: int64, required: true, minimum: 1, maximum: 1000000}}
    key: [order_no]
    api: {auth: api_key, quota_per_minute: 600}
  returns:
    fields: {order_no: {type: int64, required: true, minimum: 1, maximum: 1000000}}
    key: [order_no]
    api: {auth: oidc}
`

func declaration(t testing.TB, yaml string) *dataset.Declaration {
	t.Helper()
	d, err := dataset.Load("latam.yaml", []byte(yaml))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func flights(t testing.TB) *dataset.Declaration { return declaration(t, string(examples.Declaration)) }

func gatewayOptions(d *dataset.Declaration) Options {
	return Options{
		Declaration: d, Target: Gateway, ServerURL: "https://api.example.com", GatewayHost: "latam-1a2b3c4d.uc.gateway.dev",
		OIDCIssuer: "https://accounts.example.com", OIDCAudience: "shop", OIDCJWKS: "https://accounts.example.com/keys",
	}
}

func build(t testing.TB, o Options) *Document {
	t.Helper()
	doc, err := Build(o)
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func TestGolden(t *testing.T) {
	t.Parallel()
	schema, err := RecordSchema(flights(t).Datasets[0])
	if err != nil {
		t.Fatal(err)
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, append(schema, '\n'), "", "  "); err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{"flights.schema.json": indented.Bytes()}
	for name, o := range map[string]Options{
		"flights.public.yaml": {Declaration: flights(t)}, "flights.gateway.yaml": gatewayOptions(flights(t)),
		"metered.gateway.yaml": gatewayOptions(declaration(t, metered)),
	} {
		if files[name], err = build(t, o).YAML(); err != nil {
			t.Fatal(err)
		}
	}
	for name, got := range files {
		path := filepath.Join("testdata", name)
		if *update {
			if err := os.WriteFile(path, got, 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("%s is out of date, run go test ./services/query/openapi -update:\n%s", path, diff)
		}
	}
}

// load reads a document as its users do: every reference is resolved, and none leaves the document.
func load(t testing.TB, text []byte) *openapi3.T {
	t.Helper()
	loader := openapi3.NewLoader()
	loader.IsExternalRefsAllowed = false
	doc, err := loader.LoadFromData(text)
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// targets are the documents that the tests look at.
func targets(t testing.TB) map[string]*Document {
	t.Helper()
	return map[string]*Document{
		"flights public":  build(t, Options{Declaration: flights(t)}),
		"flights gateway": build(t, gatewayOptions(flights(t))),
		"every public":    build(t, Options{Declaration: declaration(t, every), OIDCIssuer: "https://accounts.example.com"}),
		"every gateway":   build(t, gatewayOptions(declaration(t, every))),
	}
}

func TestDocumentsAreValid(t *testing.T) {
	t.Parallel()
	for name, doc := range targets(t) {
		t.Run(name, func(t *testing.T) {
			asJSON, err := doc.JSON()
			if err != nil {
				t.Fatal(err)
			}
			asYAML, err := doc.YAML()
			if err != nil {
				t.Fatal(err)
			}
			fromJSON, fromYAML := load(t, asJSON), load(t, asYAML)
			opts := []openapi3.ValidationOption{openapi3.EnableExamplesValidation(), openapi3.EnableSchemaDefaultsValidation(), openapi3.EnableMultiError()}
			if strings.Contains(name, "public") {
				opts = append(opts, openapi3.IsOpenAPI31OrLater())
			}
			if err := fromJSON.Validate(context.Background(), opts...); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			a, errA := json.Marshal(fromJSON)
			b, errB := json.Marshal(fromYAML)
			if errA != nil || errB != nil {
				t.Fatal(errA, errB)
			}
			if diff := cmp.Diff(string(a), string(b)); diff != "" {
				t.Errorf("YAML says something else than JSON:\n%s", diff)
			}
		})
	}
}

func TestOperations(t *testing.T) {
	t.Parallel()
	for name, doc := range targets(t) {
		seen := map[string]string{}
		for _, path := range doc.Paths {
			for _, op := range path.Value.Operations() {
				at := name + ": " + op.Name + " " + path.Name
				if other, ok := seen[op.Value.OperationID]; ok {
					t.Errorf("%s and %s are both %s", at, other, op.Value.OperationID)
				}
				seen[op.Value.OperationID] = at
				if op.Value.Summary == "" || op.Value.Description == "" || len(op.Value.Tags) != 1 {
					t.Errorf("%s lacks a summary, a description or its tag", at)
				}
				checkParameters(t, at, doc, op.Value)
			}
		}
	}
}

func checkParameters(t *testing.T, at string, doc *Document, op *Operation) {
	seen := map[string]bool{}
	for _, p := range op.Parameters {
		if p.Ref != "" {
			name := strings.TrimPrefix(p.Ref, "#/components/parameters/")
			var ok bool
			if p, ok = doc.Components.Parameters.Get(name); !ok {
				t.Errorf("%s: there is no parameter %s", at, name)
				continue
			}
		}
		if seen[p.In+p.Name] {
			t.Errorf("%s has the parameter %s twice", at, p.Name)
		}
		seen[p.In+p.Name] = true
		if p.Description == "" {
			t.Errorf("%s: parameter %s has no description", at, p.Name)
		}
	}
}

func TestOperationIDs(t *testing.T) {
	t.Parallel()
	var got []string
	for _, path := range build(t, Options{Declaration: declaration(t, every)}).Paths {
		for _, op := range path.Value.Operations() {
			got = append(got, op.Value.OperationID)
		}
	}
	for _, want := range []string{
		"index", "health", "openapi", "docs", "listDatasets", "describeOrders", "schemaOrders", "listOrders", "getOrders", "headOrders",
		"batchGetOrders", "aggregateOrders", "statsOrders", "tailOrders", "publishOrders", "listOrderEvents", "listOrderEvents2", "listDatasets2",
	} {
		if !slices.Contains(got, want) {
			t.Errorf("there is no operation %s in %v", want, got)
		}
	}
}

// TestGatewayRules checks what API Gateway refuses or ignores.
func TestGatewayRules(t *testing.T) {
	t.Parallel()
	doc := build(t, gatewayOptions(declaration(t, every)))
	text, err := doc.JSON()
	if err != nil {
		t.Fatal(err)
	}
	for _, no := range []string{"text/event-stream", "/tail", `"text/csv"`, `"format",`, "x-item-schema", `"null"`, `"examples"`} {
		if bytes.Contains(text, []byte(no)) {
			t.Errorf("the document has %s, which is not for the gateway", no)
		}
	}
	if len(text) > 10<<20 || doc.OpenAPI != "3.0.4" || doc.Backend != "serve" {
		t.Errorf("%d bytes, version %s, backend %s", len(text), doc.OpenAPI, doc.Backend)
	}
	if len(doc.Servers) != 1 || doc.Servers[0].Endpoint == nil || doc.Servers[0].URL != "https://latam-1a2b3c4d.uc.gateway.dev" {
		t.Errorf("servers %+v", doc.Servers)
	}
	backend, _ := doc.Management.Backends.Get("serve")
	if want := (Backend{"https://api.example.com", "https://api.example.com", 14, "APPEND_PATH_TO_ADDRESS", "h2"}); backend == nil || *backend != want {
		t.Errorf("backend %+v, want %+v", backend, want)
	}
	want := `{"orders-requests":{"metric":"orders-requests","values":600},"order_events-requests":{"metric":"order_events-requests","values":5}}`
	if got, _ := encode(doc.Management.Quota.Limits); string(got) != want {
		t.Errorf("limits %s\nwant %s", got, want)
	}
	checkCosts(t, doc)
	for path, scheme := range map[string]string{"/v1/datasets/orders/rows": "api_key", "/v1/datasets/order-events/rows": "oidc", "/v1/datasets/order_events/rows": "api_key", "/v1/datasets/datasets/rows": "", "/v1/datasets/orders": ""} {
		item, _ := doc.Paths.Get(path)
		got := ""
		if item.Get.Security != nil {
			got = (*item.Get.Security)[0][0].Name
		}
		if got != scheme {
			t.Errorf("%s asks for %q, want %q", path, got, scheme)
		}
	}
}

func checkCosts(t *testing.T, doc *Document) {
	costs := map[string]int{}
	for _, path := range doc.Paths {
		for _, op := range path.Value.Operations() {
			if op.Value.Quota != nil {
				n, _ := op.Value.Quota.MetricCosts.Get("orders-requests")
				costs[op.Value.OperationID] = n
			}
		}
	}
	for id, want := range map[string]int{"getOrders": 1, "headOrders": 1, "listOrders": 2, "batchGetOrders": 10, "aggregateOrders": 10, "statsOrders": 2, "publishOrders": 1} {
		if costs[id] != want {
			t.Errorf("%s costs %d, want %d", id, costs[id], want)
		}
	}
	if _, ok := costs["describeOrders"]; ok || costs["listOrderEvents"] != 0 {
		t.Errorf("what asks for no API key has no quota at the gateway: %v", costs)
	}
}

// TestErrorCodes keeps the lists of codes true: each code stands under its status, and every code
// that a client can see belongs to some operation.
func TestErrorCodes(t *testing.T) {
	t.Parallel()
	doc := build(t, Options{Declaration: declaration(t, every)})
	used := map[string]bool{}
	for _, r := range doc.Components.Responses {
		media, _ := r.Value.Content.Get(mediaProblem)
		code, _ := media.Schema.AllOf[1].Properties.Get("code")
		status, _ := media.Schema.AllOf[1].Properties.Get("status")
		for _, c := range code.Enum {
			info, ok := web.LookupCode(c.(string))
			if !ok || info.Status != status.Enum[0].(int) {
				t.Errorf("%s stands under %v", c, status.Enum)
			}
			used[c.(string)] = true
		}
	}
	// A path of the document exists and has its method; a client that went away sees nothing.
	never := []web.Code{web.NotFound, web.DatasetNotFound, web.MethodNotAllowed, web.ClientClosed}
	for _, c := range web.Codes() {
		if used[string(c.Code)] == slices.Contains(never, c.Code) {
			t.Errorf("%s: used %v", c.Code, used[string(c.Code)])
		}
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	oidc := declaration(t, every)
	for _, c := range []struct {
		name string
		o    Options
		want string
	}{
		{"target", Options{Declaration: oidc, Target: "swagger"}, `target: "swagger" is not one of public, gateway`},
		{"public url", Options{Declaration: oidc, ServerURL: "https://"}, `server-url: expected an address`},
		{"no url", Options{Declaration: oidc, Target: Gateway}, "server-url: the gateway needs the address"},
		{"http", Options{Declaration: oidc, Target: Gateway, ServerURL: "http://api.example.com"}, "server-url: expected an https address"},
		{"port", Options{Declaration: oidc, Target: Gateway, ServerURL: "https://api.example.com:8443"}, "server-url: the port 8443 is not possible"},
		{"host", Options{Declaration: oidc, Target: Gateway, ServerURL: "https://api.example.com", GatewayHost: "a/b"}, "gateway-host: expected a host name"},
		{"issuer", Options{Declaration: oidc, Target: Gateway, ServerURL: "https://api.example.com"}, "oidc-issuer: dataset order-events has auth: oidc"},
		{"jwks", Options{Declaration: oidc, Target: Gateway, ServerURL: "https://api.example.com", OIDCIssuer: "https://a.example", OIDCAudience: "x", OIDCJWKS: "http://a.example"}, "oidc-jwks-url: expected an https address"},
		{"declaration", Options{}, "a declaration is needed"},
		{"limits", Options{Declaration: oidc, Limits: Limits{MaxIn: -1}}, "max values of in -1 is not at least 1"},
	} {
		if _, err := Build(c.o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", c.name, err, c.want)
		}
	}
}

func TestBuildIsRepeatable(t *testing.T) {
	t.Parallel()
	var first []byte
	for range 5 {
		text, err := build(t, gatewayOptions(declaration(t, every))).JSON()
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = text
		}
		if !bytes.Equal(first, text) {
			t.Fatal("the same declaration gave two documents")
		}
	}
}
