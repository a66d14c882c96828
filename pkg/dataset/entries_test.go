package dataset

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestIndexEntries(t *testing.T) {
	t.Parallel()
	d, err := Load("latam.yaml", []byte(`
version: 1
name: test
datasets:
  parcels:
    fields:
      code:  {type: string, required: true}
      place: {type: string}
    key: [code]
    indexes: {by_place: [place], by_code: [code]}
  plain:
    fields:
      code: {type: string, required: true}
    key: [code]
`))
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	entry := func(key string) Row { return Row{Key: key, Time: at, Cells: []Cell{{Column: IndexColumn}}} }
	for record, want := range map[string][]Row{
		`{"code":"a","place":"x"}`: {entry("\x01x\x00\x01a\x00\x01"), entry("a\x00\x01a\x00\x01")},
		`{"code":"a"}`:             {entry("\x00a\x00\x01"), entry("a\x00\x01a\x00\x01")},
	} {
		rec, err := d.Datasets[0].Decode([]byte(record), at)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, d.Datasets[0].IndexEntries(rec, at)); diff != "" {
			t.Errorf("entries of %s (-want +got):\n%s", record, diff)
		}
	}
	rec, err := d.Datasets[1].Decode([]byte(`{"code":"a"}`), at)
	if err != nil {
		t.Fatal(err)
	}
	if entries := d.Datasets[1].IndexEntries(rec, at); entries != nil {
		t.Errorf("a dataset without indexes has entries %v", entries)
	}
}

// TestIndexMark takes the mark of an index for this index only, and only of its declaration.
func TestIndexMark(t *testing.T) {
	t.Parallel()
	load := func(indexes string) *Dataset {
		d, err := Load("latam.yaml", []byte(`
version: 1
name: test
datasets:
  parcels:
    fields:
      code:  {type: string, required: true}
      place: {type: string}
    key: [code]
    indexes: `+indexes))
		if err != nil {
			t.Fatal(err)
		}
		return d.Datasets[0]
	}
	ds := load("{by_place: [place]}")
	ix := &ds.Indexes[0]
	mark := ds.IndexMarkRow(ix)
	if !ds.IndexBuilt(ix, mark) {
		t.Errorf("the mark %v does not mark its index", mark)
	}
	other := load("{by_place: [place, code]}")
	for name, row := range map[string]Row{
		"nothing":              {},
		"an entry":             {Key: IndexMark, Cells: []Cell{{Column: IndexColumn}}},
		"the mark of a change": other.IndexMarkRow(&other.Indexes[0]),
	} {
		if ds.IndexBuilt(ix, row) {
			t.Errorf("%s marks the index", name)
		}
	}
	if again := other.IndexMarkRow(&other.Indexes[0]); again.Key != mark.Key || !again.Time.Equal(mark.Time) || again.Time.Before(time.Now().AddDate(100, 0, 0)) {
		t.Errorf("marks %v and %v: want them in one cell, which no age limit reaches", mark, again)
	}
}

// TestIndexUnmark: what takes a mark away sits in the mark's cell and marks nothing; rows that are no
// marks are left alone.
func TestIndexUnmark(t *testing.T) {
	t.Parallel()
	d, err := Load("latam.yaml", []byte(`{version: 1, name: test, datasets: {parcels: {fields: {code: {type: string, required: true}}, key: [code], indexes: {by_code: [code]}}}}`))
	if err != nil {
		t.Fatal(err)
	}
	ds, ix := d.Datasets[0], &d.Datasets[0].Indexes[0]
	mark := ds.IndexMarkRow(ix)
	un, ok := IndexUnmarkRow(mark)
	if !ok || un.Key != mark.Key || !un.Time.Equal(mark.Time) || un.Cells[0].Column != mark.Cells[0].Column || ds.IndexBuilt(ix, un) {
		t.Errorf("the mark %v becomes %v, %v", mark, un, ok)
	}
	elsewhen := mark
	elsewhen.Time = elsewhen.Time.Add(-time.Millisecond)
	for name, row := range map[string]Row{
		"nothing":               {},
		"a mark taken away":     un,
		"a row of another time": elsewhen,
		"a row of other fields": {Key: IndexMark, Time: mark.Time, Cells: []Cell{{Column: "name", Value: []byte("x")}}},
	} {
		if _, ok := IndexUnmarkRow(row); ok {
			t.Errorf("%s is taken for a mark", name)
		}
	}
}
