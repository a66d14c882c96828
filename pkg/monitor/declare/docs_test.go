package declare_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/latamctl/latamctl/monitors"
	"github.com/latamctl/latamctl/pkg/monitor/declare"
)

var yamlBlock = regexp.MustCompile("(?s)```yaml\n(version: 1\n.*?)```")

// TestExamples loads each example of the page about the format as a team's own file.
func TestExamples(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../../docs/monitors-format.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := yamlBlock.FindAllStringSubmatch(string(page), -1)
	if len(blocks) < 5 {
		t.Fatalf("the page has %d examples", len(blocks))
	}
	for _, block := range blocks {
		o := options(t, nil)
		o.BuiltIn, o.Own, o.OwnDir = monitors.FS(), folder(map[string]string{"example.yaml": block[1]}), "own"
		if _, err := declare.Load(o); err != nil {
			t.Errorf("%v\n%s", err, block[1])
		}
		if err := compileSchema(t).Validate(parsed(t, block[1])); err != nil {
			t.Errorf("%v\n%s", err, block[1])
		}
	}
}

// TestKeys tells whether the page has every key of the files.
func TestKeys(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../../docs/monitors-format.md")
	if err != nil {
		t.Fatal(err)
	}
	schema, err := declare.Schema()
	if err != nil {
		t.Fatal(err)
	}
	key := regexp.MustCompile(`(?m)^ +"([a-z_0-9]+)": \{$`)
	for _, match := range key.FindAllStringSubmatch(string(schema), -1) {
		switch match[1] {
		case "properties", "items", "additionalProperties": // of JSON Schema itself
			continue
		}
		if name := match[1]; !strings.Contains(string(page), "`"+name+"`") && !strings.Contains(string(page), name+":") {
			t.Errorf("the page says nothing of the key %s", name)
		}
	}
}
