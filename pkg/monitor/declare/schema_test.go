package declare_test

import (
	"bytes"
	"io/fs"
	"path"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/latamctl/latamctl/monitors"
	"github.com/latamctl/latamctl/pkg/monitor/declare"
	"github.com/latamctl/latamctl/pkg/strictyaml"
)

func compileSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	text, err := declare.Schema()
	if err != nil {
		t.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("monitors.json", document); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("monitors.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// parsed is a YAML file as an editor hands it to a JSON Schema.
func parsed(t *testing.T, text string) any {
	t.Helper()
	var r strictyaml.Reader
	root := r.Read([]byte(text), "")
	if root == nil || r.Err("a.yaml") != nil {
		t.Fatal(r.Err("a.yaml"))
	}
	return root.Any()
}

// TestSchema tells whether an editor accepts the built-in files, and sees what Load sees of mistakes in the form.
func TestSchema(t *testing.T) {
	t.Parallel()
	schema := compileSchema(t)
	files, err := fs.Glob(monitors.FS(), "*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	good := map[string]string{"small": small, "extended": extended}
	for _, name := range files {
		text, err := fs.ReadFile(monitors.FS(), name)
		if err != nil {
			t.Fatal(err)
		}
		good[path.Base(name)] = string(text)
	}
	for name, text := range good {
		if err := schema.Validate(parsed(t, text)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	broken := 0
	for _, f := range formFaults() {
		text, _ := f.files()
		if strings.Contains(f.want, "duplicate key") || strings.Contains(f.want, `"title" is missing`) || strings.Contains(f.want, "is empty") || strings.Contains(f.want, "60 or 300") || strings.Contains(text, ".nan") {
			continue // what a schema cannot see
		}
		broken++
		if err := schema.Validate(parsed(t, text)); err == nil {
			t.Errorf("the schema accepts what Load refuses: %s", f.want)
		}
	}
	if broken < 15 {
		t.Errorf("only %d mistakes were tried", broken)
	}
}
