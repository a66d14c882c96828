package stacks_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// textFields are the fields that the transform under test hands over as text.
var textFields = []string{"cart", `q"uote`, "é"}

// runTransform passes each record through the transform of the BigQuery subscription, as Pub/Sub does.
func runTransform(t *testing.T, records []string) []string {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("node is not on PATH: the transform is JavaScript")
	}
	source, err := os.ReadFile("analytics/json_as_text.js")
	if err != nil {
		t.Fatal(err)
	}
	script := strings.Replace(string(source), "${fields}", marshal(t, textFields), 1) + `
for (const data of JSON.parse(require("fs").readFileSync(0, "utf8"))) {
  console.log(JSON.stringify(jsonAsText({data: data, attributes: {}}, {}).data));
}`
	cmd := exec.CommandContext(t.Context(), node, "-e", script)
	cmd.Stdin = strings.NewReader(marshal(t, records))
	var out, problem bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problem
	if err := cmd.Run(); err != nil {
		t.Fatalf("node: %v: %.2000s", err, problem.String())
	}
	var results []string
	for line := range strings.Lines(out.String()) {
		var data string
		if err := json.Unmarshal([]byte(line), &data); err != nil {
			t.Fatal(err)
		}
		results = append(results, data)
	}
	if len(results) != len(records) {
		t.Fatalf("%d results of %d records", len(results), len(records))
	}
	return results
}

func marshal(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestJSONAsText(t *testing.T) {
	t.Parallel()
	cases := []struct{ record, want string }{
		{`{}`, `{}`},
		{`{"n":1}`, `{"n":1}`},
		{`{"cart":null}`, `{"cart":null}`},
		{`{"cart":{"a":[1,2]},"n":9007199254740993}`, `{"cart":"{\"a\":[1,2]}","n":9007199254740993}`},
		{`{"cart": "x" , "n": 1e400}`, `{"cart":"\"x\"", "n": 1e400}`},
		{`{"n":{"cart":[1]},"cart":[{"cart":1}]}`, `{"n":{"cart":[1]},"cart":"[{\"cart\":1}]"}`},
		{`{"s":"}\",\"cart\":{","cart":false}`, `{"s":"}\",\"cart\":{","cart":"false"}`},
		{`{"q\"uote":[]}`, `{"q\"uote":"[]"}`},
		{`{"\u00e9":0}`, `{"\u00e9":"0"}`},
		{`[{"cart":1}]`, `[{"cart":1}]`}, // It is for BigQuery to refuse.
		{`not JSON`, `not JSON`},
		{`{"cart":[`, `{"cart":[`},
	}
	records := make([]string, len(cases))
	for i, c := range cases {
		records[i] = c.record
	}
	for i, got := range runTransform(t, records) {
		if got != cases[i].want {
			t.Errorf("%s\ngot  %s\nwant %s", cases[i].record, got, cases[i].want)
		}
	}
}

// TestJSONAsTextKeepsTheRest compares with a transform that reads the record.
func TestJSONAsTextKeepsTheRest(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(7, 7))
	records := make([]string, 20_000)
	for i := range records {
		records[i] = randomObject(t, rng, 0)
	}
	for i, got := range runTransform(t, records) {
		var before, after map[string]json.RawMessage
		if err := json.Unmarshal([]byte(records[i]), &before); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(got), &after); err != nil {
			t.Fatalf("%s became %s: %v", records[i], got, err)
		}
		for name, value := range before {
			want := string(value)
			if text := ""; slices.Contains(textFields, name) && want != "null" {
				if err := json.Unmarshal(after[name], &text); err != nil || text != want {
					t.Fatalf("%s\nfield %s became %s", records[i], name, after[name])
				}
			} else if string(after[name]) != want {
				t.Fatalf("%s\nfield %s became %s", records[i], name, after[name])
			}
		}
		if len(after) != len(before) {
			t.Fatalf("%s became %s", records[i], got)
		}
	}
}

func randomObject(t *testing.T, rng *rand.Rand, depth int) string {
	t.Helper()
	space := []string{"", " ", "\n\t"}[rng.IntN(3)]
	names := []string{"cart", `q"uote`, "é", "a", "b:{", "c,", `\`}
	rng.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	members := make([]string, rng.IntN(len(names)))
	for i := range members {
		members[i] = space + marshal(t, names[i]) + space + ":" + space + randomValue(t, rng, depth) + space
	}
	return "{" + strings.Join(members, ",") + "}"
}

func randomValue(t *testing.T, rng *rand.Rand, depth int) string {
	t.Helper()
	kinds := 7
	if depth > 3 {
		kinds = 5
	}
	switch rng.IntN(kinds) {
	case 0:
		return []string{"null", "true", "false"}[rng.IntN(3)]
	case 1:
		return fmt.Sprint(rng.Int64())
	case 2:
		return fmt.Sprint(rng.NormFloat64() * 1e20)
	case 3, 4:
		return marshal(t, []string{"", `"`, `\"`, "{", "}", "]", ",", `:"cart":`, "\u2028", "null"}[rng.IntN(10)])
	case 5:
		return randomObject(t, rng, depth+1)
	}
	items := make([]string, rng.IntN(4))
	for i := range items {
		items[i] = randomValue(t, rng, depth+1)
	}
	return "[" + strings.Join(items, ", ") + "]"
}
