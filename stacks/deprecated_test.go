package stacks_test

import (
	"compress/gzip"
	"encoding/json"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
)

// The real providers warn of deprecated arguments when they validate; their stand-ins do not. So the
// configuration in a plan is compared with the marks in the schemas.

const schemas = "../../shared/terraform/schemas/"

type schema struct {
	Resources map[string]struct{ Block block } `json:"resource_schemas"`
	Data      map[string]struct{ Block block } `json:"data_source_schemas"`
}

type block struct {
	Deprecated bool
	Attributes map[string]struct{ Deprecated, Computed bool }
	Blocks     map[string]struct{ Block block } `json:"block_types"`
}

// schemaOf reads the schema of a provider, once.
func schemaOf(t *testing.T, provider string) schema {
	t.Helper()
	v, _ := loadedSchemas.LoadOrStore(provider, sync.OnceValues(func() (schema, error) { return loadSchema(provider) }))
	s, err := v.(func() (schema, error))()
	if err != nil {
		t.Fatalf("read the schema of provider %s: %v", provider, err)
	}
	return s
}

var loadedSchemas sync.Map

func loadSchema(provider string) (schema, error) {
	f, err := os.Open(schemas + path.Base(provider) + ".json.gz")
	if err != nil {
		return schema{}, err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return schema{}, err
	}
	var s schema
	return s, json.NewDecoder(z).Decode(&s)
}

// deprecated finds arguments, blocks and types of resources that the provider wants nobody to use.
func deprecated(t *testing.T, p plan) []string {
	t.Helper()
	var out []string
	for _, r := range p.Configuration.Root.Resources {
		if r.Type == "terraform_data" {
			continue // Terraform's own, of which there is no schema.
		}
		s := schemaOf(t, p.Configuration.Providers[r.ProviderKey].FullName)
		known, ok := s.Resources[r.Type]
		if r.Mode == "data" {
			known, ok = s.Data[r.Type]
		}
		switch {
		case !ok:
			out = append(out, r.Address+" is of a type that the schema does not have")
		case known.Block.Deprecated:
			out = append(out, r.Address+" is of a deprecated type")
		}
		for _, name := range known.Block.written(r.Expressions) {
			out = append(out, r.Address+" sets "+name+", which is deprecated")
		}
	}
	// Blocks that are made by dynamic ones show in what is planned only.
	for _, r := range p.resources() {
		if r.Type == "terraform_data" {
			continue
		}
		for _, name := range schemaOf(t, r.Provider).Resources[r.Type].Block.planned(r.Change.After) {
			out = append(out, r.Address+" gets "+name+", which is deprecated")
		}
	}
	return out
}

// written names the deprecated arguments and blocks of a configuration.
func (b block) written(expressions map[string]any) []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(expressions)) {
		nested, isBlock := b.Blocks[name]
		if b.Attributes[name].Deprecated || nested.Block.Deprecated {
			out = append(out, name)
		}
		if !isBlock {
			continue
		}
		bodies, _ := expressions[name].([]any)
		if body, ok := expressions[name].(map[string]any); ok {
			bodies = []any{body}
		}
		for _, body := range bodies {
			m, _ := body.(map[string]any)
			for _, inner := range nested.Block.written(m) {
				out = append(out, name+"."+inner)
			}
		}
	}
	return out
}

// planned names the deprecated arguments below a planned value. Computed ones may come from the provider.
func (b block) planned(v values) []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(v)) {
		if a := b.Attributes[name]; a.Deprecated && !a.Computed && v[name] != nil {
			out = append(out, name)
		}
		nested := b.Blocks[name]
		for _, body := range v.blocks(name) {
			if nested.Block.Deprecated {
				out = append(out, name)
			}
			for _, inner := range nested.Block.planned(body) {
				out = append(out, name+"."+inner)
			}
		}
	}
	return out
}

func TestDeprecatedArgumentsAreFound(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat(schemas); err != nil {
		t.Skip("the schemas of the providers are not beside the module: " + err.Error())
	}
	const provider = `"provider_config": {"google-beta": {"full_name": "registry.terraform.io/hashicorp/google-beta"}}`
	for _, tt := range []struct{ what, plan, want string }{
		{"an argument", `{"configuration": {` + provider + `, "root_module": {"resources": [{"address": "google_compute_firewall.a", "mode": "managed",
			"type": "google_compute_firewall", "provider_config_key": "google-beta", "expressions": {"name": {"constant_value": "a"}, "enable_logging": {"constant_value": true}}}]}}}`,
			"google_compute_firewall.a sets enable_logging"},
		{"an argument of a block", `{"configuration": {` + provider + `, "root_module": {"resources": [{"address": "google_container_cluster.a", "mode": "managed",
			"type": "google_container_cluster", "provider_config_key": "google-beta", "expressions": {"binary_authorization": [{"enabled": {"constant_value": true}}]}}]}}}`,
			"sets binary_authorization.enabled"},
		{"a type", `{"configuration": {` + provider + `, "root_module": {"resources": [{"address": "google_pubsub_lite_topic.a", "mode": "managed",
			"type": "google_pubsub_lite_topic", "provider_config_key": "google-beta", "expressions": {}}]}}}`,
			"google_pubsub_lite_topic.a is of a deprecated type"},
		{"a dynamic block", `{"resource_changes": [{"address": "google_container_cluster.a", "mode": "managed", "type": "google_container_cluster",
			"provider_name": "registry.terraform.io/hashicorp/google-beta", "change": {"after": {"binary_authorization": [{"enabled": true}]}}}]}`,
			"gets binary_authorization.enabled"},
		{"nothing", `{"configuration": {` + provider + `, "root_module": {"resources": [{"address": "google_compute_firewall.a", "mode": "managed",
			"type": "google_compute_firewall", "provider_config_key": "google-beta", "expressions": {"name": {"constant_value": "a"}}}]}}}`, ""},
	} {
		t.Run(tt.what, func(t *testing.T) {
			t.Parallel()
			var p plan
			if err := json.Unmarshal([]byte(tt.plan), &p); err != nil {
				t.Fatal(err)
			}
			got := strings.Join(deprecated(t, p), "\n")
			if (tt.want == "") != (got == "") || !strings.Contains(got, tt.want) {
				t.Errorf("found %q, want %q", got, tt.want)
			}
		})
	}
}
