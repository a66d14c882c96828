package dataset

import (
	"math/rand/v2"
	"net/url"
	"path"
	"strings"
	"testing"
)

func TestRowID(t *testing.T) {
	t.Parallel()
	r := exampleRecord(t)
	id, err := r.Dataset.RowID(r.RowKey())
	if want := "DTW,2001-01-01T00:47:00Z,LAS"; err != nil || id != want {
		t.Errorf("RowID = %q, %v, want %q", id, err, want)
	}
	one := load(t, keyTypesYAML).Dataset("one")
	for s, want := range map[string]string{
		"": "~", "a": "a", "~": "~7E", ",": "~2C", ".": "~2E", "..": "~2E~2E", "...": "...", ".a": ".a", "é": "~C3~A9", "a b": "a~20b",
		"a/b%?#+": "a~2Fb~25~3F~23~2B", "\x00\x01": "~00~01", "A-Z_z:0.9": "A-Z_z:0.9",
	} {
		key := one.KeyPrefix([]Value{{kind: kindString, str: s}})
		id, err := one.RowID(key)
		if err != nil || id != want {
			t.Errorf("RowID of %q = %q, %v, want %q", s, id, err, want)
		}
		if back, err := one.ParseRowID(id); err != nil || back != key {
			t.Errorf("ParseRowID(%q) = %q, %v, want %q", id, back, err, key)
		}
	}
	if dst, err := one.AppendRowID([]byte("."), one.KeyPrefix([]Value{{kind: kindString, str: "."}})); err != nil || string(dst) != ".~2E" {
		t.Errorf("AppendRowID = %q, %v", dst, err)
	}
	if dst, err := one.AppendRowID([]byte("x"), "no key"); err == nil || string(dst) != "x" {
		t.Errorf("AppendRowID of no key = %q, %v", dst, err)
	}
}

func TestParseRowID(t *testing.T) {
	t.Parallel()
	r := exampleRecord(t)
	ds := r.Dataset
	for _, id := range []string{"DTW,2001-01-01T00:47:00Z,LAS", "D~54W,2001-01-01T00~3a47:00Z,LAS", "DTW,2001-01-01T02:47:00+02:00,LAS", "DTW,2001-01-01T00:47:00.000Z,~4cAS"} {
		if key, err := ds.ParseRowID(id); err != nil || key != r.RowKey() {
			t.Errorf("ParseRowID(%q) = %q, %v", id, key, err)
		}
	}
	for id, want := range map[string]string{
		"":                               `row id of flights: expected 3 parts (origin,departed_at,destination), got 1 part in ""`,
		"DTW":                            `row id of flights: expected 3 parts (origin,departed_at,destination), got 1 part in "DTW"`,
		"DTW,2001-01-01T00:47:00Z,LAS,x": `row id of flights: expected 3 parts (origin,departed_at,destination), got 4 parts in "DTW,2001-01-01T00:47:00Z,LAS,x"`,
		"DTW,yesterday,LAS":              `row id of flights, part 2: field departed_at: expected a timestamp such as 2001-01-01T00:47:00Z, got "yesterday"`,
		"DTW,2001-01-01T00:47:00Z,":      `row id of flights, part 3 (destination): the part is empty; an empty value is written "~"`,
		"D~5,2001-01-01T00:47:00Z,LAS":   `row id of flights, part 1 (origin): expected two hexadecimal digits after "~" in "D~5"`,
		"D~xy,2001-01-01T00:47:00Z,LAS":  `row id of flights, part 1 (origin): expected two hexadecimal digits after "~" in "D~xy"`,
		"~FF,2001-01-01T00:47:00Z,LAS":   `row id of flights, part 1: field origin: expected a string of valid UTF-8, got "\xff"`,
		strings.Repeat("a", 5000) + ",2001-01-01T00:47:00Z,LAS": `row id of flights: the row key has 5019 bytes, at most 4096 are possible`,
	} {
		if key, err := ds.ParseRowID(id); err == nil || err.Error() != want {
			t.Errorf("ParseRowID(%.40q) = %q, %v, want %s", id, key, err, want)
		}
	}
}

// checkRowID checks that an id gives its key back and that a URL path carries it unchanged.
func checkRowID(t *testing.T, ds *Dataset, key string) {
	t.Helper()
	id, err := ds.RowID(key)
	if err != nil {
		t.Fatalf("RowID(%q): %v", key, err)
	}
	if back, err := ds.ParseRowID(id); err != nil || back != key {
		t.Fatalf("ParseRowID(%q) = %q, %v, want %q", id, back, err, key)
	}
	if strings.Trim(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:,~-") != "" {
		t.Fatalf("id %q", id)
	}
	u, err := url.Parse("http://h/v1/datasets/d/rows/" + id)
	if err != nil || path.Clean(u.EscapedPath()) != "/v1/datasets/d/rows/"+id || path.Base(u.Path) != id {
		t.Fatalf("the path of %q is %v, %v", id, u, err)
	}
}

func TestRowIDRoundTrip(t *testing.T) {
	t.Parallel()
	d := load(t, keyTypesYAML)
	m := valueMaker{next: rand.New(rand.NewPCG(3, 4)).Uint64}
	for range 3000 {
		checkRowID(t, d.Dataset("all"), m.record(d.Dataset("all")).RowKey())
		checkRowID(t, d.Dataset("one"), m.record(d.Dataset("one")).RowKey())
	}
}

func FuzzRowID(f *testing.F) {
	d := load(f, keyTypesYAML)
	for _, id := range []string{"~", "a,~,b", "..", "~2E", "a,5,1.5,true,2001-01-01T00:00:00Z,2001-01-01,~FF", "~~", "a~", ",", "~,0,1e+21,false,2001-01-01,0000-01-01,~"} {
		f.Add(id, []byte(id))
	}
	f.Fuzz(func(t *testing.T, id string, data []byte) {
		for _, ds := range d.Datasets {
			if key, err := ds.ParseRowID(id); err == nil {
				checkRowID(t, ds, key)
			}
			if _, err := ds.RowID(string(data)); err == nil && len(data) <= MaxKeyBytes {
				checkRowID(t, ds, string(data))
			}
			checkRowID(t, ds, valueMaker{choices(data)}.record(ds).RowKey())
		}
	})
}
