package dataset

import (
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestRow(t *testing.T) {
	t.Parallel()
	ds := allTypes(t)
	r, err := ds.Decode([]byte(`{"s":"","t":"2001-01-01T02:00:00.0019+01:00","i":9007199254740993,"f":1e21,"b":false,"d":"2001-01-01","y":"/wA=","j":[ 1 ]}`), testNow)
	if err != nil {
		t.Fatal(err)
	}
	row := r.Row(testNow)
	want := Row{
		Key: r.RowKey(), Time: time.Date(2001, 1, 1, 1, 0, 0, 1e6, time.UTC),
		Cells: []Cell{
			{"s", []byte("\xff")}, {"t", []byte("2001-01-01T01:00:00.0019Z")}, {"i", []byte("9007199254740993")}, {"f", []byte("1e+21")},
			{"b", []byte("false")}, {"d", []byte("2001-01-01")}, {"y", []byte("\xff\xff\x00")}, {"j", []byte("[1]")},
		},
	}
	if diff := cmp.Diff(want, row); diff != "" {
		t.Error(diff)
	}
	for i := range row.Cells {
		if len(row.Cells[i].Value) != cap(row.Cells[i].Value) {
			t.Error("appending to a cell would write into its neighbour")
		}
	}
}

func TestRowWithoutTime(t *testing.T) {
	t.Parallel()
	ds := load(t, exampleYAML).Dataset("prices")
	r, err := ds.Decode([]byte(`{"day":"2001-01-01"}`), testNow)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2020, 1, 2, 3, 4, 5, 999_999_999, time.FixedZone("", 3600))
	want := Row{
		Key: r.RowKey(), Time: time.Date(2020, 1, 2, 2, 4, 5, 999e6, time.UTC),
		Cells: []Cell{{"day", []byte("2001-01-01")}, {"price", []byte{}}, {"note", []byte{}}},
	}
	if diff := cmp.Diff(want, r.Row(at)); diff != "" {
		t.Error(diff)
	}
}

func TestRecordOfRow(t *testing.T) {
	t.Parallel()
	ds := allTypes(t)
	row := Row{Cells: []Cell{{"removed", []byte("x")}, {"i", []byte("5")}, {"s", []byte("\xff")}, {"b", nil}}}
	r, err := ds.Record(row)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"i": "int64 5", "s": "string "}, fieldsOf(r)); diff != "" {
		t.Error(diff)
	}
	key := ds.KeyPrefix([]Value{{kind: kindString, str: "a"}, {kind: kindTimestamp}})
	for _, c := range []struct{ column, value, want string }{
		{"i", "x", `row a,1970-01-01T00:00:00Z of all, column i: expected an int64 number such as 42, got "x"`},
		{"s", "a\xff", `row a,1970-01-01T00:00:00Z of all, column s: expected a string, got "a\xff"`},
		{"j", "{", `row a,1970-01-01T00:00:00Z of all, column j: expected a JSON value, got "{"`},
		{"f", "NaN", `row a,1970-01-01T00:00:00Z of all, column f: expected a float64 number such as 1.5, got "NaN"`},
	} {
		if _, err := ds.Record(Row{Key: key, Cells: []Cell{{c.column, []byte(c.value)}}}); err == nil || err.Error() != c.want {
			t.Errorf("%s %q: got %v, want %s", c.column, c.value, err, c.want)
		}
	}
}

// checkCells checks that a record survives its cells, in whatever order they come back.
func checkCells(t *testing.T, r Record) {
	t.Helper()
	row := r.Row(testNow)
	if len(row.Cells) != len(r.Dataset.Fields) || row.Key != r.RowKey() {
		t.Fatalf("row %v", row)
	}
	for i, c := range row.Cells {
		if (len(c.Value) == 0) != r.Values[i].IsMissing() {
			t.Fatalf("cell %q of %v", c, r.Values[i])
		}
	}
	slices.Reverse(row.Cells)
	back, err := r.Dataset.Record(row)
	if err != nil || !slices.Equal(back.Values, r.Values) {
		t.Fatalf("back is %v, %v, want %v", back.Values, err, r.Values)
	}
}

// checkJSON checks that a record survives its JSON.
func checkJSON(t *testing.T, r Record, id string) {
	t.Helper()
	text, err := r.AppendJSON(nil, id, nil)
	if err != nil || !json.Valid(text) {
		t.Fatalf("JSON %q, %v", text, err)
	}
	back, err := r.Dataset.Decode(text, testNow)
	if err != nil || !slices.Equal(back.Values, r.Values) {
		t.Fatalf("%s is decoded as %v, %v, want %v", text, back.Values, err, r.Values)
	}
}

func TestCellsRoundTrip(t *testing.T) {
	t.Parallel()
	ds := load(t, keyTypesYAML).Dataset("all")
	m := valueMaker{next: rand.New(rand.NewPCG(5, 6)).Uint64}
	for range 3000 {
		r := m.record(ds)
		checkCells(t, r)
		checkJSON(t, r, "")
		id, err := ds.RowID(r.RowKey())
		if err != nil {
			t.Fatal(err)
		}
		checkJSON(t, r, id)
	}
}

func FuzzCells(f *testing.F) {
	ds := allTypes(f)
	f.Add([]byte(`{"s":"a","t":"2001-01-01T00:47:00Z","i":1,"f":2.5,"b":true,"d":"2001-01-01","y":"/w==","j":{"a":[1, "x"]}}`), "s", []byte("\xff"))
	f.Add([]byte(`{"s":"","t":"2001-01-01T00:47:00.1Z","y":"","i":"9007199254740993"}`), "j", []byte(`{"a": 1}`))
	f.Add([]byte(`{}`), "t", []byte("2001-01-01T00:47:00+01:00"))
	f.Fuzz(func(t *testing.T, data []byte, column string, value []byte) {
		if r, err := ds.Decode(data, testNow); err == nil {
			checkCells(t, r)
			checkJSON(t, r, "")
		}
		r, err := ds.Record(Row{Cells: []Cell{{Column: column, Value: value}}})
		if err != nil {
			return
		}
		// What was taken from a cell is written in one form only.
		again, err := ds.Record(Row{Cells: []Cell{{Column: column, Value: appendCell(nil, fieldValue(r, column))}}})
		if err != nil || !slices.Equal(again.Values, r.Values) {
			t.Fatalf("%q is read as %v, then as %v, %v", value, r.Values, again.Values, err)
		}
		if text, err := r.AppendJSON(nil, "", nil); err != nil || !json.Valid(text) {
			t.Fatalf("JSON %q, %v", text, err)
		}
	})
}

func fieldValue(r Record, name string) Value {
	if f := r.Dataset.Field(name); f != nil {
		return r.Value(f)
	}
	return Value{}
}

func TestAppendJSON(t *testing.T) {
	t.Parallel()
	ds := allTypes(t)
	r, err := ds.Decode([]byte(`{"s":"\u0000\u001f\"\\\n\r\t<é\u2028","t":"2001-01-01T00:47:00+01:00","i":-9007199254740992,"f":1e-7,"b":true,"y":"AP8=","j":{"z":1, "a":"<"}}`), testNow)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"s":"\u0000\u001F\"\\\n\r\t<é` + "\u2028" + `","t":"2000-12-31T23:47:00Z","i":"-9007199254740992","f":1e-7,"b":true,"y":"AP8=","j":{"z":1,"a":"<"}}`
	for _, c := range []struct {
		id     string
		fields []*Field
		want   string
	}{
		{"", nil, want},
		{"x,y", nil, `{"id":"x,y",` + want[1:]},
		{"x", []*Field{ds.Field("b"), ds.Field("d"), ds.Field("i")}, `{"id":"x","b":true,"i":"-9007199254740992"}`},
		{"", []*Field{ds.Field("d")}, `{}`},
		{"x", []*Field{}, `{"id":"x"}`},
	} {
		got, err := r.AppendJSON([]byte("-"), c.id, c.fields)
		if err != nil || string(got) != "-"+c.want {
			t.Errorf("got  %s, %v\nwant -%s", got, err, c.want)
		}
	}
	if got := string(Value{}.AppendJSON(nil)); got != "null" {
		t.Errorf("missing is %s", got)
	}
	if got := string(Value{kind: kindInt64, num: maxSafeInt}.AppendJSON(nil)); got != "9007199254740991" {
		t.Errorf("the largest exact integer is %s", got)
	}
}

func BenchmarkAppendJSON(b *testing.B) {
	r := exampleRecord(b)
	id, err := r.Dataset.RowID(r.RowKey())
	if err != nil {
		b.Fatal(err)
	}
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		if buf, err = r.AppendJSON(buf[:0], id, nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRow(b *testing.B) {
	r := exampleRecord(b)
	b.ReportAllocs()
	for b.Loop() {
		_ = r.Row(testNow)
	}
}

func BenchmarkRecord(b *testing.B) {
	r := exampleRecord(b)
	row := r.Row(testNow)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Dataset.Record(row); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRowID(b *testing.B) {
	r := exampleRecord(b)
	key := r.RowKey()
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		var err error
		if buf, err = r.Dataset.AppendRowID(buf[:0], key); err != nil {
			b.Fatal(err)
		}
	}
	if !strings.HasPrefix(string(buf), "DTW,") {
		b.Fatal(string(buf))
	}
}
