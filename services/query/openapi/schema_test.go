package openapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/latamctl/latamctl/pkg/dataset"
)

func compileRecord(t testing.TB, ds *dataset.Dataset) *jsonschema.Schema {
	t.Helper()
	text, err := RecordSchema(ds)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("https://schema.invalid/"+ds.Name, doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("https://schema.invalid/" + ds.Name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// candidates are texts of values, some good for a field and many not.
var candidates = []string{
	"null", "true", "false", "0", "1", "-1", "42", "42.0", "1e2", "1.5", "0.25", "500", "501", "9007199254740991", "9007199254740993", "9223372036854775807",
	"9223372036854775808", "-9223372036854775808", `"9007199254740993"`, `"9007199254740991"`, `"42"`, `"09007199254740993"`, `"-9223372036854775808"`,
	`""`, `"ab12"`, `"ab123"`, `"AB12"`, `"ab12 "`, `"text"`, `"é"`, `"2003-01-31T08:30:00Z"`, `"2003-01-31t08:30:00.123456789z"`, `"2003-01-31T08:30:00+02:00"`,
	`"2003-01-31T08:30:00.1234567891Z"`, `"2003-01-31T24:00:00Z"`, `"2003-02-30T08:30:00Z"`, `"2003-01-31T08:30:00"`, `"2003-01-31 08:30:00Z"`, `"2003-01-31T08:30:60Z"`,
	`"2003-01-31"`, `"2003-02-29"`, `"2004-02-29"`, `"2003-1-31"`, `"0000-01-01"`, `"aGVsbG8="`, `"aGVsbG8"`, `"//8="`, `"_-8="`, `"AB=="`, `"a"`, `[]`, `[1,null]`, `{}`, `{"a":{"b":[true]}}`,
}

// goodFor gives a field mostly values that it takes, so that whole records pass often enough.
func goodFor(f *dataset.Field, rnd *rand.Rand) string {
	if rnd.IntN(4) == 0 {
		return candidates[rnd.IntN(len(candidates))]
	}
	v, ok := exampleValue(f)
	if !ok {
		return `"text"`
	}
	text, err := encode(v)
	if err != nil {
		return "null"
	}
	return strings.Replace(string(text), "2001-", "2003-", 1)
}

// TestSchemaAgreesWithDecode generates records and compares the verdict of the JSON Schema with that
// of the declaration. Where they differ, it has to be for what the schema's description names.
func TestSchemaAgreesWithDecode(t *testing.T) {
	t.Parallel()
	const seed = 20260901
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, seed))
	now := time.Date(2003, 2, 1, 0, 0, 0, 0, time.UTC)
	for _, ds := range declaration(t, every).Datasets {
		schema := compileRecord(t, ds)
		good, bad := 0, 0
		for range 4000 {
			record := randomRecord(ds, rnd)
			_, err := ds.Decode([]byte(record), now)
			v, jsonErr := jsonschema.UnmarshalJSON(strings.NewReader(record))
			if jsonErr != nil {
				t.Fatal(jsonErr)
			}
			schemaErr := schema.Validate(v)
			if err == nil {
				good++
			} else {
				bad++
			}
			if err == nil && schemaErr != nil {
				t.Fatalf("%s: the declaration takes %s, the schema does not: %v", ds.Name, record, schemaErr)
			}
			if err != nil && schemaErr == nil && !beyondSchema(ds, err) {
				t.Fatalf("%s: the schema takes %s, the declaration does not: %v", ds.Name, record, err)
			}
		}
		if good < 20 || bad < 20 {
			t.Errorf("%s: %d good and %d bad records are too few of one kind", ds.Name, good, bad)
		}
	}
}

func randomRecord(ds *dataset.Dataset, rnd *rand.Rand) string {
	var members []string
	for _, f := range ds.Fields {
		if f.Required && rnd.IntN(20) > 0 || rnd.IntN(2) == 0 {
			members = append(members, fmt.Sprintf("%q:%s", f.Name, goodFor(f, rnd)))
		}
	}
	if rnd.IntN(10) == 0 {
		members = append(members, `"more":1`)
	}
	return "{" + strings.Join(members, ",") + "}"
}

// beyondSchema says whether a refusal is one that the schema's description tells of.
func beyondSchema(ds *dataset.Dataset, err error) bool {
	var r *dataset.RejectError
	if !errors.As(err, &r) {
		return false
	}
	f := ds.Field(r.Field)
	switch r.Reason {
	case dataset.ReasonTooOld, dataset.ReasonTooNew, dataset.ReasonKeyTooLong, dataset.ReasonOversize, dataset.ReasonDuplicateField:
		return true
	case dataset.ReasonRange: // of times: JSON Schema has no bounds for strings
		return f.Type == dataset.Timestamp || f.Type == dataset.Date
	case dataset.ReasonPattern:
		return !portable(f.Pattern.String())
	case dataset.ReasonWrongType: // unused bits of base64, and an integer that is too large as a string
		return f.Type == dataset.Bytes || f.Type == dataset.Int64 && strings.Contains(r.Detail, "the string")
	}
	return false
}

func TestPortablePatterns(t *testing.T) {
	t.Parallel()
	for pattern, want := range map[string]bool{
		`^[A-Z]{3}$`: true, `^(?:a|b)+\d\w\s\.$`: true, `^\\A$`: true, `(?i)a`: false, `^a\z`: false, `\Aa`: false, `[[:alpha:]]`: false, `[^[:digit:]]`: false, `\pL`: false, `(?P<n>a)`: false, `\Qa\E`: false,
	} {
		if got := portable(pattern); got != want {
			t.Errorf("%s: %v, want %v", pattern, got, want)
		}
	}
}

func TestExamples(t *testing.T) {
	t.Parallel()
	for pattern, ok := range map[string]bool{`^[A-Z]{3}$`: true, `^[a-z]{2}[0-9]{2,4}$`: true, `^(LA|JJ)[0-9]+x?$`: true, `.+@.+\.cl`: true, `\bword\b`: true, `^a{200}$`: false} {
		ds := declaration(t, fmt.Sprintf("version: 1\nname: shop\ndatasets:\n  orders:\n    fields: {a: {type: string, required: true, pattern: %q}}\n    key: [a]\n", pattern)).Datasets[0]
		e := newExample(ds)
		if ok != (e.id != "") {
			t.Errorf("%s: example %v", pattern, e.row)
		}
	}
}

func FuzzYAML(f *testing.F) {
	for _, s := range []string{`{"a":[{"b":[]},[[1]],{}],"c":"yes","d e":null}`, `"~"`, `{"2001-01-31":"2001-01-31"}`, `{"":[-0.5,1e21,true]}`, `{"/a/{b}":"# no","x":"a: b","y":" a","z":"a\u0085b\ufeff"}`, `["- a","a #b","0x1f",".5","=","<<"]`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var want any
		if json.Unmarshal([]byte(text), &want) != nil {
			return
		}
		canonical, err := encode(want)
		if err != nil {
			t.Fatal(err)
		}
		out, err := yamlOf(canonical)
		if err != nil {
			t.Fatal(err)
		}
		var got any
		if err := yaml.Unmarshal(out, &got); err != nil {
			t.Fatalf("%q: %v\n%s", text, err, out)
		}
		back, err := encode(got)
		if err != nil {
			t.Fatal(err)
		}
		var a, b any
		_ = json.Unmarshal(canonical, &a)
		_ = json.Unmarshal(back, &b)
		if diff := cmp.Diff(a, b); diff != "" {
			t.Errorf("%q became\n%s\n%s", text, out, diff)
		}
	})
}
