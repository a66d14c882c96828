package cli_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCloudSecrets follows a secret value through every command: it is in the states and, while they
// exist, in saved plans, and nowhere else.
func TestCloudSecrets(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	c.ownStack("keys", nil, googleStack+"resource \"google_apikeys_key\" \"a\" {\n  name = \"a\"\n}\noutput \"key\" {\n  value     = google_apikeys_key.a.key_string\n  sensitive = true\n}\n",
		"outputs:\n  key: {type: string, sensitive: true, description: A key}\n")
	// The one that takes the secret passes it on to an object, to an output, and to an error.
	c.ownStack("takes", []string{"keys"}, "variable \"key\" {\n  type      = string\n  sensitive = true\n}\nresource \"terraform_data\" \"a\" {\n  input = \"a ${var.key} b\"\n}\n"+
		"resource \"terraform_data\" \"refuses\" {\n  input = terraform_data.a.output\n  lifecycle {\n    postcondition {\n      condition     = !strcontains(var.key, \"REFUSED\")\n      error_message = \"it is refused: ${nonsensitive(\"for a test\")}\"\n    }\n  }\n}\n"+
		"output \"derived\" {\n  value     = terraform_data.a.output\n  sensitive = true\n}\n",
		"from:\n  key: keys.key\noutputs:\n  derived: {type: string, sensitive: true, description: Made from it}\n")
	quiet := func(code int, args ...string) result {
		t.Helper()
		r := c.want(code, c.run(args...), strings.Join(args, " "))
		if strings.Contains(r.stdout+r.stderr, stubSecret) {
			t.Errorf("%v shows the secret:\n%s%s", args, r.stdout, r.stderr)
		}
		return r
	}
	both := []string{"-s", "keys,takes"}
	and := func(args ...string) []string { return append(args, both...) }
	quiet(3, and("plan", "-o", "json")...)
	quiet(0, and("up", "--yes", "-v", "-o", "json", "--events", "events.ndjson")...)
	quiet(0, and("up", "--yes", "--events", "-")...)
	quiet(0, and("plan", "--detail")...)
	quiet(0, "output")
	quiet(0, "output", "keys", "-o", "json")
	quiet(0, and("drift", "-o", "json")...)

	// The secret changes, and so does everything that was made from it.
	c.change("google_apikeys_key", "", func(s map[string]any) { s["key_string"] = stubSecret + "-REFUSED" })
	r := c.run(and("plan", "--format", "md", "--out", "bundle")...)
	t.Logf("plan: exit %d\n%s%s", r.code, r.stdout, r.stderr)
	if strings.Contains(r.stdout+r.stderr, stubSecret) {
		t.Error("the plan of a secret that changed shows it")
	}
	c.hidden("bundle/keys.tfplan", "bundle/takes.tfplan")
	r = c.run(and("up", "--yes", "--events", "events2.ndjson")...)
	t.Logf("up: exit %d\n%s%s", r.code, r.stdout, r.stderr)
	if strings.Contains(r.stdout+r.stderr, stubSecret) || r.code == 0 {
		t.Error("an apply that fails shows the secret, or does not fail")
	}
	c.hidden("bundle/keys.tfplan", "bundle/takes.tfplan")
	if shown := c.want(0, c.run("output", "keys", "--reveal"), "output --reveal"); !strings.Contains(shown.stdout, stubSecret) {
		t.Errorf("there is no secret to hide:\n%s", shown.stdout)
	}
}

// hidden fails the test when a file holds the secret that is no state and none of the allowed ones.
func (c *cloud) hidden(allowed ...string) {
	t := c.t
	t.Helper()
	may := map[string]bool{}
	for _, name := range allowed {
		may[filepath.Join(c.dir, name)] = true
	}
	err := filepath.WalkDir(c.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if path == c.world || path == filepath.Join(c.dir, "state") {
				return filepath.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() || may[path] {
			return nil
		}
		b, err := os.ReadFile(path)
		if err == nil && bytes.Contains(b, []byte(stubSecret)) {
			t.Errorf("%s holds the secret", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
