package dataset

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

const allTypesYAML = `version: 1
name: latam
datasets:
  all:
    fields:
      s: {type: string, required: true, pattern: "^[^!]*$"}
      t: {type: timestamp, required: true}
      i: {type: int64, minimum: -9223372036854775807, maximum: 9223372036854775806}
      f: {type: float64, minimum: -1.0e+300, maximum: 1.0e+300}
      b: bool
      d: {type: date, minimum: 1900-01-01}
      y: bytes
      j: json
    key: [s, t]
    time: t
    retention: 36500d
    indexes: {by_i: [i, b], by_s: [s]}
`

var testNow = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func allTypes(t testing.TB) *Dataset { return load(t, allTypesYAML).Datasets[0] }

// fieldsOf are the values of a record by field name, as their canonical texts.
func fieldsOf(r Record) map[string]string {
	m := map[string]string{}
	for _, f := range r.Dataset.Fields {
		if v := r.Value(f); !v.IsMissing() {
			m[f.Name] = string(v.Type()) + " " + v.Text()
		}
	}
	return m
}

func TestDecode(t *testing.T) {
	t.Parallel()
	ds := allTypes(t)
	const base = `"s":"a","t":"2001-01-01T00:47:00Z"`
	plain := map[string]string{"s": "string a", "t": "timestamp 2001-01-01T00:47:00Z"}
	with := func(more ...string) map[string]string {
		m := map[string]string{}
		for k, v := range plain {
			m[k] = v
		}
		for i := 0; i < len(more); i += 2 {
			m[more[i]] = more[i+1]
		}
		return m
	}
	for in, want := range map[string]map[string]string{
		`{` + base + `}`: plain,
		" {\t\"t\" : \"2001-01-01T00:47:00Z\" ,\r\n\"s\":\"a\" } \n":              plain,
		`{` + base + `,"i":null,"f":null,"b":null,"d":null,"y":null,"j":null}`:    plain,
		`{"\u0073":"\u0061","t":"2001-01-01T00:47:00Z"}`:                          plain,
		`{"s":"a","t":"2001-01-01T02:47:00+02:00"}`:                               plain,
		`{"s":"a","t":"2000-12-31t19:47:00.000-05:00"}`:                           plain,
		`{"s":"a","t":"2001-01-01T00:47:00.120Z"}`:                                with("t", "timestamp 2001-01-01T00:47:00.12Z"),
		`{"s":"a","t":"2001-01-01T00:47:00.000000001Z"}`:                          with("t", "timestamp 2001-01-01T00:47:00.000000001Z"),
		`{"s":"é\n\"\\\/\b\f\r\t\ud83d\ude00\ud800x","t":"2001-01-01T00:47:00Z"}`: with("s", "string é\n\"\\/\b\f\r\t😀\ufffdx"),
		`{` + base + `,"i":12}`:                                                   with("i", "int64 12"),
		`{` + base + `,"i":-0}`:                                                   with("i", "int64 0"),
		`{` + base + `,"i":1e3}`:                                                  with("i", "int64 1000"),
		`{` + base + `,"i":12.0}`:                                                 with("i", "int64 12"),
		`{` + base + `,"i":-1.25E+2}`:                                             with("i", "int64 -125"),
		`{` + base + `,"i":1200e-2}`:                                              with("i", "int64 12"),
		`{` + base + `,"i":0e99999999999999999999}`:                               with("i", "int64 0"),
		`{` + base + `,"i":9223372036854775806}`:                                  with("i", "int64 9223372036854775806"),
		`{` + base + `,"i":9.223372036854775806e18}`:                              with("i", "int64 9223372036854775806"),
		`{` + base + `,"i":"9007199254740992"}`:                                   with("i", "int64 9007199254740992"),
		`{` + base + `,"i":"-9007199254740992"}`:                                  with("i", "int64 -9007199254740992"),
		`{` + base + `,"f":-0.0}`:                                                 with("f", "float64 0"),
		`{` + base + `,"f":0.1}`:                                                  with("f", "float64 0.1"),
		`{` + base + `,"f":1e21}`:                                                 with("f", "float64 1e+21"),
		`{` + base + `,"f":1E-7}`:                                                 with("f", "float64 1e-7"),
		`{` + base + `,"f":1e-400}`:                                               with("f", "float64 0"),
		`{` + base + `,"b":true}`:                                                 with("b", "bool true"),
		`{` + base + `,"b":false}`:                                                with("b", "bool false"),
		`{` + base + `,"d":"2024-02-29"}`:                                         with("d", "date 2024-02-29"),
		`{` + base + `,"y":"AP8="}`:                                               with("y", "bytes \x00\xff"),
		`{` + base + `,"y":""}`:                                                   with("y", "bytes "),
		`{` + base + `,"j":{ "b" : [1, 2.50,"a b \" c" , null ] , "a":{ } } }`:    with("j", `json {"b":[1,2.50,"a b \" c",null],"a":{}}`),
		`{` + base + `,"j":"x"}`:                                                  with("j", `json "x"`),
		`{` + base + `,"id":"a,2001-01-01T00:47:00Z"}`:                            plain,
		`{` + base + `,"j":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `,"i":null}`: with("j", "json "+strings.Repeat("[", 100)+strings.Repeat("]", 100)),
	} {
		r, err := ds.Decode([]byte(in), testNow)
		if err != nil {
			t.Errorf("Decode(%s): %v", in, err)
			continue
		}
		if diff := cmp.Diff(want, fieldsOf(r)); diff != "" {
			t.Errorf("Decode(%s): %s", in, diff)
		}
	}
}

func TestDecodeRejects(t *testing.T) {
	t.Parallel()
	ds := allTypes(t)
	const base = `"s":"a","t":"2001-01-01T00:47:00Z"`
	long := strings.Repeat("é", 40)
	for in, want := range map[string]string{
		``:                                       "bad_json: expected a JSON object, but the text ends at byte 1",
		`[]`:                                     "bad_json: expected a JSON object at byte 1, got '['",
		`{`:                                      "bad_json: expected '\"', but the text ends at byte 2",
		`{` + base + `,}`:                        "bad_json: expected '\"' at byte 37, got '}'",
		`{` + base + `} x`:                       "bad_json: expected nothing after the object at byte 38, got 'x'",
		`{` + base + `,"i":01}`:                  "bad_json: expected ',' or '}' at byte 42, got '1'",
		`{` + base + `,"i":+1}`:                  "bad_json: expected a JSON value at byte 41, got '+'",
		`{` + base + `,"i":1.}`:                  "bad_json: expected a digit at byte 43, got '}'",
		`{` + base + `,"b":tru}`:                 "bad_json: expected a JSON value at byte 41, got 't'",
		`{"s":"a` + "\x01" + `"}`:                "bad_json: expected an escaped control character at byte 8, got '\\x01'",
		`{"s":"a` + "\x1f" + `"}`:                "bad_json: expected an escaped control character at byte 8, got '\\x1f'",
		`{"s":"\x"}`:                             "bad_json: expected an escape that JSON knows at byte 8, got 'x'",
		`{"s":"\u12"}`:                           "bad_json: expected four hexadecimal digits at byte 11, got '\"'",
		`{"s":"` + "\xff" + `"}`:                 "bad_json: the record is not valid UTF-8",
		`{` + base + `,"planet":1}`:              "unknown_field: field planet: the dataset all has no such field",
		`{` + base + `,"S":1}`:                   "unknown_field: field S: the dataset all has no such field; did you mean s?",
		`{` + base + `,"id":"b,c"}`:              `unknown_field: field id: the id is made from the key; leave it out, or send "a,2001-01-01T00:47:00Z"`,
		`{` + base + `,"id":5}`:                  "unknown_field: field id: the dataset all has no such field",
		`{` + base + `,"id":"","id":1}`:          "unknown_field: field id: the dataset all has no such field",
		`{` + base + `,"id":"","id":""}`:         "duplicate_field: field id: the field stands twice in the record",
		`{"t":"2001-01-01T00:47:00Z"}`:           "missing_field: field s: the field is required",
		`{}`:                                     "missing_field: field s: the field is required",
		`{"s":null,"t":"2001-01-01T00:47:00Z"}`:  "missing_field: field s: the field is required, got null",
		`{"s":"a","s":"a"}`:                      "duplicate_field: field s: the field stands twice in the record",
		`{"i":null,"i":1}`:                       "duplicate_field: field i: the field stands twice in the record",
		`{"s":12}`:                               "wrong_type: field s: expected a string, got the number 12",
		`{"s":{"a":[1]}}`:                        "wrong_type: field s: expected a string, got an object",
		`{"i":"12"}`:                             `wrong_type: field i: expected an int64 number such as 42, got the string "12"`,
		`{"i":"9007199254740991"}`:               `wrong_type: field i: expected an int64 number such as 42, got the string "9007199254740991"`,
		`{"i":"09007199254740992"}`:              `wrong_type: field i: expected an int64 number such as 42, got the string "09007199254740992"`,
		`{"i":12.5}`:                             "wrong_type: field i: expected an int64 number such as 42, got the number 12.5",
		`{"i":9223372036854775808}`:              "wrong_type: field i: expected an int64 number such as 42, got the number 9223372036854775808",
		`{"i":1e19}`:                             "wrong_type: field i: expected an int64 number such as 42, got the number 1e19",
		`{"i":1e-99999999999999999999}`:          "wrong_type: field i: expected an int64 number such as 42, got the number 1e-99999999999999999999",
		`{"i":true}`:                             "wrong_type: field i: expected an int64 number such as 42, got true",
		`{"f":1e400}`:                            "wrong_type: field f: expected a float64 number such as 1.5, got the number 1e400",
		`{"f":"1.5"}`:                            `wrong_type: field f: expected a float64 number such as 1.5, got the string "1.5"`,
		`{"b":1}`:                                "wrong_type: field b: expected true or false, got the number 1",
		`{"b":"true"}`:                           `wrong_type: field b: expected true or false, got the string "true"`,
		`{"t":"2001-01-01"}`:                     `wrong_type: field t: expected a timestamp such as 2001-01-01T00:47:00Z, got the string "2001-01-01"`,
		`{"t":"2001-01-01T00:47:00"}`:            `wrong_type: field t: expected a timestamp such as 2001-01-01T00:47:00Z, got the string "2001-01-01T00:47:00"`,
		`{"t":"2001-02-29T00:47:00Z"}`:           `wrong_type: field t: expected a timestamp such as 2001-01-01T00:47:00Z, got the string "2001-02-29T00:47:00Z"`,
		`{"t":"0000-01-01T00:00:00+00:01"}`:      `wrong_type: field t: expected a timestamp such as 2001-01-01T00:47:00Z, got the string "0000-01-01T00:00:00+00:01"`,
		`{"t":978307200}`:                        "wrong_type: field t: expected a timestamp such as 2001-01-01T00:47:00Z, got the number 978307200",
		`{"d":"2001-1-1"}`:                       `wrong_type: field d: expected a date such as 2001-01-31, got the string "2001-1-1"`,
		`{"y":"a"}`:                              `wrong_type: field y: expected bytes in standard base64, got the string "a"`,
		`{"y":"AB=="}`:                           `wrong_type: field y: expected bytes in standard base64, got the string "AB=="`,
		`{"y":"A\nA=="}`:                         `wrong_type: field y: expected bytes in standard base64, got the string "A\nA=="`,
		`{"i":"` + long + `"}`:                   `wrong_type: field i: expected an int64 number such as 42, got the string "` + long[:64] + `"…`,
		`{"s":"a!"}`:                             `pattern: field s: "a!" does not match the pattern ^[^!]*$`,
		`{"i":9223372036854775807}`:              "range: field i: 9223372036854775807 is greater than the maximum 9223372036854775806",
		`{"f":-1e301}`:                           "range: field f: -1e+301 is less than the minimum -1e+300",
		`{"d":"1899-12-31"}`:                     "range: field d: 1899-12-31 is less than the minimum 1900-01-01",
		`{"s":"a","t":"1969-12-31T23:59:59.9Z"}`: "range: field t: 1969-12-31T23:59:59.9Z is before 1970, which an event time cannot be",
		`{` + base + `,"j":` + strings.Repeat("[", 101) + strings.Repeat("]", 101) + `}`: "bad_json: field j: the value is nested deeper than 100 levels",
		`{"s":"` + strings.Repeat("a", 4083) + `","t":"2001-01-01T00:47:00Z"}`:           "key_too_long: the row key has 4097 bytes, at most 4096 are taken",
		`{"s":"` + strings.Repeat("a", 3000) + `","t":"2001-01-01T00:47:00Z"}`:           "key_too_long: the row key of index by_s has 6016 bytes, at most 4096 are taken",
		strings.Repeat(" ", MaxRecordBytes+1):                                            "oversize: the record has 1048577 bytes, at most 1048576 are taken",
	} {
		r, err := ds.Decode([]byte(in), testNow)
		var rejected *RejectError
		if !errors.As(err, &rejected) {
			t.Errorf("Decode(%.80s): %v, %v", in, r, err)
			continue
		}
		if got := rejected.Error(); got != want {
			t.Errorf("Decode(%.80s):\n got %s\nwant %s", in, got, want)
		}
	}
}

func TestDecodeRetention(t *testing.T) {
	t.Parallel()
	ds := load(t, strings.Replace(exampleYAML, "pattern: \"^[A-Z]{3}$\"", "pattern: \"\"", 1)).Dataset("flights")
	record := func(at time.Time) []byte {
		return []byte(`{"origin":"A","destination":"SCL","departed_at":"` + at.Format(time.RFC3339Nano) + `"}`)
	}
	oldest := testNow.Add(-400 * 24 * time.Hour)
	if _, err := ds.Decode(record(oldest), testNow); err != nil {
		t.Errorf("just kept: %v", err)
	}
	if _, err := ds.Decode(record(testNow.AddDate(1000, 0, 0)), testNow); err != nil {
		t.Errorf("in the future: %v", err)
	}
	// Its cells have the time 400d minus a part of a millisecond earlier, which is too old.
	if _, err := ds.Decode(record(oldest.Add(time.Microsecond)), testNow.Add(time.Microsecond)); err == nil {
		t.Error("a record is taken whose cells are garbage at once")
	}
	_, err := ds.Decode(record(oldest.Add(-1)), testNow)
	want := "too_old: field departed_at: 2024-11-28T03:04:04.999999999Z is older than the retention of 400d"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestDecodeMaxAhead(t *testing.T) {
	t.Parallel()
	ds := load(t, strings.Replace(exampleYAML, "retention: 400d", "max_ahead: 24h", 1)).Dataset("flights")
	record := func(at time.Time) []byte {
		return []byte(`{"origin":"SCL","destination":"LIM","departed_at":"` + at.Format(time.RFC3339Nano) + `"}`)
	}
	if _, err := ds.Decode(record(testNow.Add(24*time.Hour)), testNow); err != nil {
		t.Errorf("just taken: %v", err)
	}
	if _, err := ds.Decode(record(testNow.AddDate(-50, 0, 0)), testNow); err != nil {
		t.Errorf("long ago: %v", err)
	}
	_, err := ds.Decode(record(testNow.Add(24*time.Hour+1)), testNow)
	want := "too_new: field departed_at: 2026-01-03T03:04:05.000000001Z is more than 1d after the record was published"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// TestDecodeKeepsNoInput makes sure that a record survives the reuse of the buffer it came in.
func TestDecodeKeepsNoInput(t *testing.T) {
	t.Parallel()
	ds := allTypes(t)
	data := []byte(`{"s":"abc","t":"2001-01-01T00:47:00Z","j":{"a":1},"y":"AP8="}`)
	r, err := ds.Decode(data, testNow)
	if err != nil {
		t.Fatal(err)
	}
	before := fieldsOf(r)
	for i := range data {
		data[i] = 'x'
	}
	if diff := cmp.Diff(before, fieldsOf(r)); diff != "" {
		t.Error(diff)
	}
}

func TestParseText(t *testing.T) {
	t.Parallel()
	ds := allTypes(t)
	for _, c := range []struct{ field, text, want string }{
		{"s", "", "string "}, {"s", "a b", "string a b"},
		{"i", "-12", "int64 -12"}, {"f", "1.50", "float64 1.5"}, {"f", "-0", "float64 0"}, {"f", "1e3", "float64 1000"}, {"b", "true", "bool true"},
		{"t", "2001-01-01", "timestamp 2001-01-01T00:00:00Z"}, {"t", "2001-01-01T02:00:00+02:00", "timestamp 2001-01-01T00:00:00Z"},
		{"t", "2001-01-01T02:00:00 02:00", "timestamp 2001-01-01T00:00:00Z"}, {"d", "0000-01-01", "date 0000-01-01"}, {"d", "9999-12-31", "date 9999-12-31"},
		{"y", "\xff", "bytes \xff"}, {"j", " [1, 2] ", "json [1,2]"},
	} {
		v, err := ParseText(ds.Field(c.field), c.text)
		if got := string(v.Type()) + " " + v.Text(); err != nil || got != c.want {
			t.Errorf("ParseText(%s, %q) = %q, %v, want %q", c.field, c.text, got, err, c.want)
		}
	}
	for _, c := range []struct{ field, text, want string }{
		{"s", "\xff", `field s: expected a string of valid UTF-8, got "\xff"`},
		{"i", "1.5", `field i: expected an int64 number such as 42, got "1.5"`}, {"i", "", `field i: expected an int64 number such as 42, got ""`},
		{"f", "NaN", `field f: expected a float64 number such as 1.5, got "NaN"`}, {"f", "0x1p3", `field f: expected a float64 number such as 1.5, got "0x1p3"`},
		{"b", "1", `field b: expected true or false, got "1"`}, {"t", "now", `field t: expected a timestamp such as 2001-01-01T00:47:00Z, got "now"`},
		{"t", "2001-01-01T24:00:00Z", `field t: expected a timestamp such as 2001-01-01T00:47:00Z, got "2001-01-01T24:00:00Z"`},
		{"d", "2001-02-29", `field d: expected a date such as 2001-01-31, got "2001-02-29"`}, {"j", "{", `field j: expected a JSON value, got "{"`},
	} {
		if v, err := ParseText(ds.Field(c.field), c.text); err == nil || err.Error() != c.want {
			t.Errorf("ParseText(%s, %q) = %v, %v, want %s", c.field, c.text, v, err, c.want)
		}
	}
}

// TestCivil compares the calendar with that of package time on every day of the years 0000 to 9999.
func TestCivil(t *testing.T) {
	t.Parallel()
	at := time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC)
	if at.Unix() != minSecond {
		t.Fatalf("minSecond is %d, want %d", minSecond, at.Unix())
	}
	for days := int64(minDay); days <= maxDay; days++ {
		year, month, day := at.Date()
		if y, m, d := civil(days); y != year || m != int(month) || d != day || dayOf(y, m, d) != days {
			t.Fatalf("civil(%d) = %d-%d-%d, want %v", days, y, m, d, at)
		}
		at = at.AddDate(0, 0, 1)
	}
	if at.Unix() != maxSecond+1 {
		t.Fatalf("maxSecond is %d, want %d", maxSecond, at.Unix()-1)
	}
}

func TestParseDateRefuses(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"1900-02-29", "2001-02-29", "2004-02-30", "2001-04-31", "2001-06-31", "2001-09-31", "2001-11-31", "2001-01-32", "2001-00-01",
		"2001-13-01", "2001-01-00", "2001/01/01", "2001-01-1", "01-01-2001", "2001-01-01 ", "+001-01-01", "2001-a1-01"} {
		if days, ok := parseDate(s); ok {
			t.Errorf("parseDate(%q) = %d", s, days)
		}
	}
	for _, s := range []string{"2000-02-29", "2004-02-29", "1900-02-28", "2001-04-30", "2001-12-31"} {
		if days, ok := parseDate(s); !ok || string(appendDate(nil, days)) != s {
			t.Errorf("parseDate(%q) = %d, %v", s, days, ok)
		}
	}
}

func FuzzTimestamp(f *testing.F) {
	for _, s := range []string{"2001-01-01T00:47:00Z", "2024-02-29T23:59:59.123456789-23:59", "0000-01-01T00:00:00Z", "2001-01-01", "2001-01-01T00:47:00.Z"} {
		f.Add(s)
	}
	rfc3339 := regexp.MustCompile(`^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)$`)
	f.Fuzz(func(t *testing.T, s string) {
		sec, nanos, ok := parseTimestamp(s, false)
		at, err := time.Parse(time.RFC3339Nano, strings.ToUpper(s))
		if ok && err != nil {
			t.Fatalf("took %q, time.Parse says %v", s, err)
		}
		if !ok {
			// package time also takes a comma, one digit of an hour and more than nine of a second.
			if err == nil && rfc3339.MatchString(s) && at.UTC().Year() >= 0 && at.UTC().Year() <= 9999 {
				t.Fatalf("refused %q, which is %v", s, at)
			}
			return
		}
		if at.Unix() != sec || at.Nanosecond() != int(nanos) {
			t.Fatalf("%q is %d.%09d, want %v", s, sec, nanos, at)
		}
		text := string(appendTimestamp(nil, sec, nanos))
		if want := at.UTC().Format(time.RFC3339Nano); text != want {
			t.Fatalf("text of %q is %s, want %s", s, text, want)
		}
	})
}

// FuzzDecode compares the JSON reader with encoding/json.
func FuzzDecode(f *testing.F) {
	ds := allTypes(f)
	for _, s := range []string{
		`{"s":"a","t":"2001-01-01T00:47:00Z"}`, `{"s":"é\u00e9\ud83d\ude00\udead","t":"2001-01-01T00:47:00+01:00","i":1e3,"f":-0.0,"b":true,"d":"2001-01-01","y":"AA==","j":[1, {"a": null}]}`,
		`{"s":"a","t":"2001-01-01T00:47:00Z","i":"9007199254740993","f":1e400}`, `{"s":null}`, `[1,2,{"a":1.5e+3}]`, ` "x" `, `{"a":}`, `-`, `01`, `tru`, `"\u12g4"`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		checkScanner(t, data)
		r, err := ds.Decode(data, testNow)
		if err != nil {
			var rejected *RejectError
			if !errors.As(err, &rejected) || rejected.Reason == "" || rejected.Detail == "" || !utf8.ValidString(rejected.Error()) {
				t.Fatalf("error %#v", err)
			}
			if rejected.Reason == ReasonBadJSON && rejected.Field == "" && isObject(data) && !strings.Contains(rejected.Detail, "nested") {
				t.Fatalf("%q is good JSON: %v", data, err)
			}
			return
		}
		checkValues(t, r, data)
	})
}

func isObject(data []byte) bool {
	return utf8.Valid(data) && json.Valid(data) && bytes.HasPrefix(bytes.TrimLeft(data, " \t\r\n"), []byte("{"))
}

// checkScanner compares what is JSON at all, and its compact form.
func checkScanner(t *testing.T, data []byte) {
	t.Helper()
	text, ok := compactJSON(string(data))
	want := json.Valid(data) && utf8.Valid(data)
	if ok != want && (ok || !deep(data)) {
		t.Fatalf("%q: valid %v, want %v", data, ok, want)
	}
	if !ok {
		return
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, data); err != nil || compact.String() != text {
		t.Fatalf("compact %q, want %q", text, compact.String())
	}
}

// deep reports nesting that might be beyond maxJSONDepth.
func deep(data []byte) bool {
	return bytes.Count(data, []byte("["))+bytes.Count(data, []byte("{")) > maxJSONDepth
}

// checkValues compares a decoded record with what encoding/json reads.
func checkValues(t *testing.T, r Record, data []byte) {
	t.Helper()
	var want map[string]json.RawMessage
	if err := json.Unmarshal(data, &want); err != nil {
		t.Fatalf("took %q: %v", data, err)
	}
	for _, f := range r.Dataset.Fields {
		v, raw := r.Value(f), want[f.Name]
		if len(raw) == 0 || string(raw) == "null" {
			if !v.IsMissing() {
				t.Fatalf("%s is %v, want missing", f.Name, v)
			}
			continue
		}
		ok := true
		switch f.Type {
		case String:
			var s string
			ok = json.Unmarshal(raw, &s) == nil && s == v.Text()
		case Float64:
			var x float64
			ok = json.Unmarshal(raw, &x) == nil && x == v.Float()
		case Int64:
			x, err := strconv.ParseFloat(strings.Trim(string(raw), `"`), 64)
			ok = err == nil && math.Abs(x-float64(v.Int())) <= math.Abs(x)*1e-15
		case Bool:
			ok = string(raw) == v.Text()
		case Bytes:
			var b []byte
			ok = json.Unmarshal(raw, &b) == nil && string(b) == v.Text()
		case Timestamp:
			var s string
			at, err := time.Parse(time.RFC3339Nano, "")
			if json.Unmarshal(raw, &s) == nil {
				at, err = time.Parse(time.RFC3339Nano, strings.ToUpper(s))
			}
			ok = err == nil && at.Equal(v.Time())
		}
		if !ok || v.IsMissing() {
			t.Fatalf("%s is %v, want %s", f.Name, v, raw)
		}
	}
}

// BenchmarkDecodeToCells is what ingest does with a record besides sending it: decode, key and cells.
func BenchmarkDecodeToCells(b *testing.B) {
	ds := load(b, strings.Replace(exampleYAML, "retention: 400d", "retention: 40000d", 1)).Dataset("flights")
	data := []byte(`{"origin":"DTW","departed_at":"2001-01-01T00:47:00Z","destination":"LAS","delay_minutes":66,"distance_miles":1750}`)
	b.ReportAllocs()
	for b.Loop() {
		rec, err := ds.Decode(data, testNow)
		if err != nil {
			b.Fatal(err)
		}
		if row := rec.Row(testNow); row.Key == "" {
			b.Fatal("no key")
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	ds := load(b, strings.Replace(exampleYAML, "retention: 400d", "retention: 40000d", 1)).Dataset("flights")
	data := []byte(`{"origin":"DTW","departed_at":"2001-01-01T00:47:00Z","destination":"LAS","delay_minutes":66,"distance_miles":1750}`)
	b.ReportAllocs()
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if _, err := ds.Decode(data, testNow); err != nil {
			b.Fatal(err)
		}
	}
}
