package dataset

import (
	"bytes"
	"encoding/base64"
	"encoding/csv"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// naiveJSON is what the encoder has to write, by way of the record.
func naiveJSON(ds *Dataset, row Row, fields []*Field) (string, bool) {
	r, err := ds.Record(row)
	if err != nil {
		return "", false
	}
	id, err := ds.RowID(row.Key)
	if err != nil {
		return "", false
	}
	text, err := r.AppendJSON(nil, id, fields)
	return string(text), err == nil
}

// checkEncoder compares the encoder with the record's own JSON, and reads its CSV back.
func checkEncoder(t *testing.T, ds *Dataset, row Row, fields []*Field) {
	t.Helper()
	e := ds.NewEncoder(fields)
	want, ok := naiveJSON(ds, row, fields)
	got, err := e.AppendJSON([]byte("-"), row)
	if !ok {
		want = ""
	}
	if (err == nil) != ok || string(got) != "-"+want {
		t.Fatalf("cells %q\ngot  %s, %v\nwant -%s, %v", row.Cells, got, err, want, ok)
	}
	line, err := e.AppendCSV(e.AppendCSVHeader(nil), row, false)
	if (err == nil) != ok {
		t.Fatalf("cells %q: CSV says %v, JSON is good: %v", row.Cells, err, ok)
	}
	if !ok {
		return
	}
	records, err := csv.NewReader(bytes.NewReader(line)).ReadAll()
	if err != nil || len(records) != 2 {
		t.Fatalf("CSV %q is read as %q, %v", line, records, err)
	}
	checkCSVRow(t, ds, row, fields, records)
}

func checkCSVRow(t *testing.T, ds *Dataset, row Row, fields []*Field, records [][]string) {
	t.Helper()
	if fields == nil {
		fields = ds.Fields
	}
	r, err := ds.Record(row)
	if err != nil {
		t.Fatal(err)
	}
	id, err := ds.RowID(row.Key)
	if err != nil {
		t.Fatal(err)
	}
	header, want := []string{"id"}, []string{id}
	for _, f := range fields {
		text := r.Value(f).Text()
		if f.Type == Bytes {
			text = base64.StdEncoding.EncodeToString([]byte(text))
		}
		// encoding/csv reads every line end inside quotes as \n.
		header, want = append(header, f.Name), append(want, strings.ReplaceAll(text, "\r\n", "\n"))
	}
	if !slices.Equal(records[0], header) || !slices.Equal(records[1], want) {
		t.Fatalf("CSV is %q\nwant   %q", records, [][]string{header, want})
	}
}

// spoil changes a row as another version of the program, another order or a broken disk could.
func spoil(m valueMaker, row *Row) {
	texts := []string{
		"", "0", "-0", "007", "+5", "-5", "-", "1.50", ".5", "5.", "1e3", "0.0000001", "0.1234567", "-0.5", "123456789012345678",
		"true", "TRUE", "2001-01-01", "2001-02-30", "2001-01-01T00:00:00Z", "2001-01-01t00:00:00.10Z", "2001-01-01T00:00:00+01:00",
		"\xff", "\xff\xff", "\xfe", "a\"b", "a,b\r\n", " a", "=1+1", `{"a": 1}`, `{"a":`, "NaN",
	}
	for range m.next() % 4 {
		c := Cell{Value: []byte(texts[m.next()%uint64(len(texts))])}
		i := m.next() % uint64(len(row.Cells))
		switch m.next() % 4 {
		case 0:
			row.Cells[i].Value = c.Value
		case 1:
			c.Column = row.Cells[i].Column
			row.Cells = append(row.Cells, c)
		case 2:
			c.Column = "removed"
			row.Cells = slices.Insert(row.Cells, int(i), c)
		case 3:
			row.Cells = slices.Delete(row.Cells, int(i), int(i)+1)
		}
		if len(row.Cells) == 0 {
			return
		}
	}
}

func TestEncoderAgreesWithRecord(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	ds := load(t, keyTypesYAML).Dataset("all")
	m := valueMaker{next: rng.Uint64}
	for i := range 6000 {
		row := m.record(ds).Row(testNow)
		if i%2 == 0 {
			slices.SortFunc(row.Cells, func(a, b Cell) int { return strings.Compare(a.Column, b.Column) })
		}
		if i%3 > 0 {
			spoil(m, &row)
		}
		if i%50 == 0 {
			row.Key = row.Key[:len(row.Key)-1]
		}
		var fields []*Field
		if i%4 == 0 {
			fields = slices.Clone(ds.Fields)
			rng.Shuffle(len(fields), func(a, b int) { fields[a], fields[b] = fields[b], fields[a] })
			fields = fields[:rng.IntN(len(fields)+1)]
		}
		checkEncoder(t, ds, row, fields)
	}
}

func FuzzEncoder(f *testing.F) {
	ds := allTypes(f)
	key := ds.KeyPrefix([]Value{{kind: kindString, str: "a"}, {kind: kindTimestamp}})
	for _, c := range []struct{ column, value string }{
		{"i", "-9007199254740993"}, {"f", "0.000001"}, {"f", "-"}, {"j", `[1, "x"]`}, {"s", "\xffé\n"}, {"t", "2001-01-01T00:47:00.5Z"}, {"b", "true"}, {"y", "\xff\xff"},
	} {
		f.Add(c.column, []byte(c.value), []byte("x"))
	}
	f.Fuzz(func(t *testing.T, column string, value, twice []byte) {
		row := Row{Key: key, Cells: []Cell{{Column: column, Value: value}}}
		checkEncoder(t, ds, row, nil)
		checkEncoder(t, ds, row, []*Field{ds.Field("b"), ds.Field("i")})
		row.Cells = append(row.Cells, Cell{Column: column, Value: twice})
		checkEncoder(t, ds, row, nil)
	})
}

func TestEncoderCSV(t *testing.T) {
	t.Parallel()
	ds := allTypes(t)
	e := ds.NewEncoder([]*Field{ds.Field("s"), ds.Field("i"), ds.Field("y")})
	if got := string(e.AppendCSVHeader(nil)); got != "id,s,i,y\r\n" {
		t.Errorf("header %q", got)
	}
	key := ds.KeyPrefix([]Value{{kind: kindString, str: "a"}, {kind: kindTimestamp}})
	for _, c := range []struct {
		s    string
		safe bool
		want string
	}{
		{"plain", true, "plain"},
		{"=1+1", false, "=1+1"},
		{"=1+1", true, "'=1+1"},
		{"+1", true, "'+1"},
		{"-1", true, "'-1"},
		{"@x", true, "'@x"},
		{"\tx", true, "'\tx"},
		{"\rx", true, "\"'\rx\""},
		{`=a,"b"`, true, `"'=a,""b"""`},
		{" x", true, `" x"`},
		{"a\nb", false, "\"a\nb\""},
		{"\xff", true, ""}, // The empty string, which is not missing.
	} {
		row := Row{Key: key, Cells: []Cell{{"i", []byte("-7")}, {"s", []byte(c.s)}, {"y", []byte("\xff\xff\x00")}}}
		got, err := e.AppendCSV(nil, row, c.safe)
		if want := `"a,1970-01-01T00:00:00Z",` + c.want + ",-7,/wA=\r\n"; err != nil || string(got) != want {
			t.Errorf("%q: got %q, %v, want %q", c.s, got, err, want)
		}
	}
}

func TestEncoderNamesTheBrokenCell(t *testing.T) {
	t.Parallel()
	ds := allTypes(t)
	key := ds.KeyPrefix([]Value{{kind: kindString, str: "a"}, {kind: kindTimestamp}})
	row := Row{Key: key, Cells: []Cell{{"i", []byte("seven")}}}
	const want = `row a,1970-01-01T00:00:00Z of all, column i: expected an int64 number such as 42, got "seven"`
	// Also where the field is not asked for.
	for _, fields := range [][]*Field{nil, {ds.Field("s")}} {
		got, err := ds.NewEncoder(fields).AppendJSON([]byte("kept"), row)
		if err == nil || err.Error() != want || string(got) != "kept" {
			t.Errorf("got %q, %v, want %s", got, err, want)
		}
	}
}

func TestEncoderAllocatesNothing(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector allocates")
	}
	r := exampleRecord(t)
	row := r.Row(testNow)
	e := r.Dataset.NewEncoder(nil)
	buf := make([]byte, 0, 4096)
	var err error
	allocs := testing.AllocsPerRun(100, func() {
		if buf, err = e.AppendJSON(buf[:0], row); err == nil {
			buf, err = e.AppendCSV(buf, row, true)
		}
	})
	if err != nil || allocs > 0 {
		t.Errorf("%.0f allocations a row, %v", allocs, err)
	}
}

func BenchmarkEncoder(b *testing.B) {
	r := exampleRecord(b)
	row := r.Row(testNow)
	slices.SortFunc(row.Cells, func(a, b Cell) int { return strings.Compare(a.Column, b.Column) })
	e := r.Dataset.NewEncoder(nil)
	var buf []byte
	var err error
	b.Run("json", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if buf, err = e.AppendJSON(buf[:0], row); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("csv", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if buf, err = e.AppendCSV(buf[:0], row, true); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("record", func(b *testing.B) { // What the encoder replaces.
		b.ReportAllocs()
		for b.Loop() {
			if _, ok := naiveJSON(r.Dataset, row, nil); !ok {
				b.Fatal("refused")
			}
		}
	})
}
