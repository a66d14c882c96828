package cli

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/latamctl/latamctl/pkg/dataset"
)

// everyType has a field of each type.
const everyType = `
version: 1
name: test
datasets:
  things:
    fields:
      code:  {type: string, required: true}
      note:  {type: string}
      n:     {type: int64, minimum: 0}
      f:     {type: float64}
      b:     {type: bool}
      at:    {type: timestamp}
      day:   {type: date}
      raw:   {type: bytes}
      doc:   {type: json}
    key: [code]
  timed:
    fields: {code: {type: string, required: true}, at: {type: timestamp, required: true}}
    key: [code]
    time: at
`

func loadThings(t testing.TB) *dataset.Dataset {
	t.Helper()
	d, err := dataset.Load("latam.yaml", []byte(everyType))
	if err != nil {
		t.Fatal(err)
	}
	return d.Datasets[0]
}

func TestMemberValue(t *testing.T) {
	t.Parallel()
	ds := loadThings(t)
	for _, tc := range []struct{ field, text, want, wantErr string }{
		{"note", "SCL", `"SCL"`, ""},
		{"note", "", `""`, ""},
		{"note", "12", `"12"`, ""},
		{"note", "true", `"true"`, ""},
		{"note", "null", `null`, ""},
		{"note", `"null"`, `"null"`, ""},
		{"note", `"a\nb"`, `"a\nb"`, ""},
		{"note", `"open`, `"\"open"`, ""},
		{"note", "a=b", `"a=b"`, ""},
		{"code", "null", "", "field code is required and cannot be null"},
		{"n", "12", `12`, ""},
		{"n", "9007199254740993", `"9007199254740993"`, ""},
		{"n", "12.5", "", "expected an int64 number"},
		{"n", "", "", "expected an int64 number"},
		{"f", "1.5", `1.5`, ""},
		{"f", "NaN", "", "expected a float64 number"},
		{"b", "true", `true`, ""},
		{"b", "yes", "", "expected true or false"},
		{"at", "2024-02-29T01:02:03-03:00", `"2024-02-29T04:02:03Z"`, ""},
		{"at", "2024-02-29", `"2024-02-29T00:00:00Z"`, ""},
		{"at", "noon", "", "expected a timestamp"},
		{"day", "2024-02-29", `"2024-02-29"`, ""},
		{"day", "2023-02-29", "", "expected a date"},
		{"raw", "AAE=", `"AAE="`, ""},
		{"raw", "?", "", "expected bytes in standard base64"},
		{"doc", `{"a": [1, 2]}`, `{"a":[1,2]}`, ""},
		{"doc", "null", `null`, ""},
		{"doc", "{", "", "expected a JSON value"},
	} {
		got, err := memberValue(ds.Field(tc.field), tc.text)
		if string(got) != tc.want || (err == nil) != (tc.wantErr == "") || err != nil && !strings.Contains(err.Error(), tc.wantErr) {
			t.Errorf("%s=%s: got %s, %v; want %s, error %q", tc.field, tc.text, got, err, tc.want, tc.wantErr)
			continue
		}
		if tc.wantErr != "" || tc.field == "code" {
			continue
		}
		// What --set takes is what ingest takes.
		if _, err := ds.Decode([]byte(`{"code":"a","`+tc.field+`":`+string(got)+`}`), time.Now()); err != nil {
			t.Errorf("%s=%s: the record would be rejected: %v", tc.field, tc.text, err)
		}
	}
}

func TestReadEdits(t *testing.T) {
	t.Parallel()
	a, ds := &app{}, loadThings(t)
	for _, tc := range []struct {
		set, unset []string
		want       string
	}{
		{[]string{"n"}, nil, "--set 'n' is not field=value"},
		{[]string{"nn=1"}, nil, `dataset things has no field "nn"`},
		{[]string{"n=1", "n=2"}, nil, "field n is changed twice"},
		{[]string{"n=1"}, []string{"n"}, "field n is changed twice"},
		{nil, []string{"code"}, "field code is required"},
		{[]string{"n=x"}, nil, "--set: field n: expected an int64 number"},
		{[]string{"n=1", "note=null"}, []string{"unheard_of"}, ""},
	} {
		_, err := a.readEdits(ds, tc.set, tc.unset)
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("--set %v --unset %v: %v, want %q", tc.set, tc.unset, err, tc.want)
		}
		if f := new(fault); err != nil && (!errors.As(err, &f) || f.code != exitUsage) {
			t.Errorf("--set %v --unset %v: exit code of %v", tc.set, tc.unset, err)
		}
	}
}

func TestApplyEdits(t *testing.T) {
	t.Parallel()
	ds := loadThings(t)
	for _, tc := range []struct {
		name, before string
		edits        []edit
		want         string
		changes      int
		wantErr      string
	}{
		{"in its place", `{"code":"a","n":"x","note":"y"}`, []edit{{"n", []byte("3")}}, `{"code":"a","n":3,"note":"y"}`, 1, ""},
		{"added", `{"code":"a"}`, []edit{{"n", []byte("3")}}, `{"code":"a","n":3}`, 1, ""},
		{"the first", `{}`, []edit{{"n", []byte("3")}}, `{"n":3}`, 1, ""},
		{"removed", `{"code":"a","x":{"y":[1]},"n":1}`, []edit{{"x", nil}}, `{"code":"a","n":1}`, 1, ""},
		{"the last one", `{"x":1}`, []edit{{"x", nil}}, `{}`, 1, ""},
		{"removed and not there", `{ "code" : "a" }`, []edit{{"x", nil}}, `{ "code" : "a" }`, 0, ""},
		{"the same", `{ "n" : 3 }`, []edit{{"n", []byte("3")}}, `{ "n" : 3 }`, 0, ""},
		{"twice", `{"n":1,"code":"a","n":2}`, []edit{{"n", []byte("1")}}, `{"n":1,"code":"a"}`, 1, ""},
		{"twice removed", `{"x":1,"code":"a","x":2}`, []edit{{"x", nil}}, `{"code":"a"}`, 1, ""},
		{"escaped name", `{"\u006e":1}`, []edit{{"n", []byte("2")}}, `{"n":2}`, 1, ""},
		{"others as written", `{"f": 1.10e2, "n":1, "big":12345678901234567890}`, []edit{{"n", []byte("2")}}, `{"f":1.10e2,"n":2,"big":12345678901234567890}`, 1, ""},
		{"id follows the key", `{"id":"a","code":"a","n":1}`, []edit{{"code", []byte(`"b"`)}}, `{"code":"b","n":1}`, 2, ""},
		{"id stays else", `{"id":"a","code":"a","n":1}`, []edit{{"n", []byte("2")}}, `{"id":"a","code":"a","n":2}`, 1, ""},
		{"array", `[{"n":1}]`, []edit{{"n", []byte("2")}}, "", 0, "not a JSON object"},
		{"cut off", `{"n":1`, []edit{{"n", []byte("2")}}, "", 0, "not valid JSON"},
		{"more behind", `{"n":1}{}`, []edit{{"n", []byte("2")}}, "", 0, "stands after"},
		{"garbage behind", `{"n":1}x`, []edit{{"n", []byte("2")}}, "", 0, "stands after"},
		{"empty", ``, []edit{{"n", []byte("2")}}, "", 0, "not a JSON object"},
		{"name without quotes", `{n:1}`, []edit{{"n", []byte("2")}}, "", 0, "not valid JSON"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got, changes, err := applyEdits(ds, []byte(tc.before), tc.edits)
			if string(got) != tc.want || len(changes) != tc.changes || (err == nil) != (tc.wantErr == "") || err != nil && !strings.Contains(err.Error(), tc.wantErr) {
				t.Errorf("got %s with %d changes, %v; want %s with %d, error %q", got, len(changes), err, tc.want, tc.changes, tc.wantErr)
			}
		})
	}
}

// FuzzApplyEdits compares with the same change made on a decoded object.
func FuzzApplyEdits(f *testing.F) {
	for _, seed := range []string{`{}`, `{"code":"a","n":1}`, `{"n":1,"n":2,"x":null}`, `{"a":{"n":1}}`, `[1]`, `{"n":1} `, "{\"\xff\":1}", `{"n":01}`} {
		f.Add([]byte(seed))
	}
	ds := loadThings(f)
	edits := []edit{{"n", []byte("7")}, {"x", nil}}
	f.Fuzz(func(t *testing.T, object []byte) {
		var want map[string]any
		wantErr := json.Unmarshal(object, &want)
		got, _, err := applyEdits(ds, object, edits)
		if (err == nil) != (wantErr == nil && want != nil) {
			t.Fatalf("%q: %v; encoding/json says %v", object, err, wantErr)
		}
		if err != nil {
			return
		}
		want["n"] = 7.0
		delete(want, "x")
		var have map[string]any
		if err := json.Unmarshal(got, &have); err != nil {
			t.Fatalf("%q became %q: %v", object, got, err)
		}
		if !reflect.DeepEqual(have, want) {
			t.Errorf("%q became %q, want %v", object, got, want)
		}
	})
}
