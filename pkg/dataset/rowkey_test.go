package dataset

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

const keyTypesYAML = `version: 1
name: latam
datasets:
  all:
    fields:
      s: {type: string, required: true}
      i: {type: int64, required: true}
      f: {type: float64, required: true}
      b: {type: bool, required: true}
      t: {type: timestamp, required: true}
      d: {type: date, required: true}
      y: {type: bytes, required: true}
      oi: int64
      os: string
    key: [s, i, f, b, t, d, y]
    indexes: {by_optional: [oi, os, f]}
  one:
    fields:
      s: {type: string, required: true}
    key: [s]
`

// valueMaker makes values of every type from a stream of choices.
type valueMaker struct{ next func() uint64 }

// small values collide often, which is what an order has to be tested with.
func (m valueMaker) value(k kind) Value {
	n := m.next()
	switch k {
	case kindString, kindBytes:
		alphabet := []string{"", "\x00", "\x01", "a", "b", "\x00\x01", "é", "\x7f", ",", "~", "."}
		if k == kindBytes {
			alphabet = append(alphabet, "\xff", "\x00\xff", "\xfe")
		}
		s := ""
		for range n % 4 {
			s += alphabet[m.next()%uint64(len(alphabet))]
		}
		return Value{kind: k, str: s}
	case kindInt64:
		return Value{kind: k, num: []int64{0, 1, -1, math.MinInt64, math.MaxInt64, int64(m.next())}[n%6]}
	case kindFloat64:
		f := math.Float64frombits(m.next())
		if math.IsNaN(f) || math.IsInf(f, 0) {
			f = math.Copysign(0, -1)
		}
		return floatValue([]float64{0, 1, -1, math.SmallestNonzeroFloat64, -math.MaxFloat64, f}[n%6])
	case kindBool:
		return boolValue(n%2 == 1)
	case kindTimestamp:
		sec := []int64{0, -1, 1, minSecond, maxSecond, int64(m.next()%uint64(maxSecond-minSecond)) + minSecond}[n%6]
		return Value{kind: k, num: sec, nanos: []int32{0, 1, 999_999_999, int32(m.next() % 1e9)}[m.next()%4]}
	default:
		return Value{kind: kindDate, num: []int64{0, -1, 1, minDay, maxDay, int64(m.next()%(maxDay-minDay)) + minDay}[n%6]}
	}
}

func (m valueMaker) record(ds *Dataset) Record {
	r := Record{Dataset: ds, Values: make([]Value, len(ds.Fields))}
	for i, f := range ds.Fields {
		if f.Required || m.next()%2 == 0 {
			r.Values[i] = m.value(kindOf(f.Type))
		}
	}
	return r
}

func (r Record) keyValues() []Value {
	var values []Value
	for _, f := range r.Dataset.Key {
		values = append(values, r.Value(f))
	}
	return values
}

func compareValues(a, b []Value) int {
	return slices.CompareFunc(a, b, Value.Compare)
}

// checkKeys checks the promises of the row key for two records.
func checkKeys(t *testing.T, ds *Dataset, a, b Record) {
	t.Helper()
	va, vb := a.keyValues(), b.keyValues()
	ka, kb := a.RowKey(), b.RowKey()
	if got, want := strings.Compare(ka, kb), compareValues(va, vb); got != want {
		t.Fatalf("order of %v and %v is %d, of their keys %q and %q %d", va, vb, want, ka, kb, got)
	}
	if len(ka) != a.keySize(ds.Key) {
		t.Fatalf("the key of %v has %d bytes, counted %d", va, len(ka), a.keySize(ds.Key))
	}
	back, err := ds.SplitKey(ka)
	if err != nil || !slices.Equal(back, va) {
		t.Fatalf("SplitKey(%q) = %v, %v, want %v", ka, back, err, va)
	}
	for n := range len(va) + 1 {
		prefix := ds.KeyPrefix(va[:n])
		if got, want := strings.HasPrefix(kb, prefix), compareValues(va[:n], vb[:n]) == 0; got != want {
			t.Fatalf("key %q has the prefix %q of %v: %v, want %v", kb, prefix, va[:n], got, want)
		}
		if end := PrefixEnd(prefix); end != "" && (kb >= prefix && kb < end) != strings.HasPrefix(kb, prefix) {
			t.Fatalf("the range %q to %q is not that of the prefix, for %q", prefix, end, kb)
		}
	}
}

// checkIndexKeys checks the promises of the index key for two records.
func checkIndexKeys(t *testing.T, ds *Dataset, a, b Record) {
	t.Helper()
	ix := &ds.Indexes[0]
	values := func(r Record) (values []Value) {
		for _, f := range ix.Fields {
			values = append(values, r.Value(f))
		}
		return append(values, r.keyValues()...)
	}
	va, vb := values(a), values(b)
	ka, kb := ds.IndexKey(ix, a), ds.IndexKey(ix, b)
	if got, want := strings.Compare(ka, kb), compareValues(va, vb); got != want {
		t.Fatalf("order of %v and %v is %d, of their index keys %q and %q %d", va, vb, want, ka, kb, got)
	}
	fields, rowKey, err := ds.SplitIndexKey(ix, ka)
	if err != nil || rowKey != a.RowKey() || !slices.Equal(fields, va[:len(ix.Fields)]) {
		t.Fatalf("SplitIndexKey(%q) = %v, %q, %v, want %v", ka, fields, rowKey, err, va)
	}
	for n := range len(va) + 1 {
		if got, want := strings.HasPrefix(kb, ds.IndexPrefix(ix, va[:n])), compareValues(va[:n], vb[:n]) == 0; got != want {
			t.Fatalf("index key %q has the prefix of %v: %v, want %v", kb, va[:n], got, want)
		}
	}
}

func TestKeysKeepTheOrderOfValues(t *testing.T) {
	t.Parallel()
	ds := load(t, keyTypesYAML).Dataset("all")
	random := rand.New(rand.NewPCG(1, 2))
	m := valueMaker{next: random.Uint64}
	for range 20_000 {
		a, b := m.record(ds), m.record(ds)
		// Records that share their first fields are the hard ones.
		copy(b.Values[:random.IntN(len(ds.Fields)+1)], a.Values)
		checkKeys(t, ds, a, b)
		checkIndexKeys(t, ds, a, b)
	}
}

func TestRowKeyBytes(t *testing.T) {
	t.Parallel()
	ds := load(t, keyTypesYAML).Dataset("all")
	values := make([]Value, 0, 7)
	for i, text := range []string{"a\x00b", "-2", "1.5", "true", "1970-01-01T00:00:01.000000002Z", "1970-01-02", ""} {
		v, err := ParseText(ds.Key[i], text)
		if err != nil {
			t.Fatal(err)
		}
		values = append(values, v)
	}
	want := "a\x00\xffb\x00\x01" + "\x7f\xff\xff\xff\xff\xff\xff\xfe" + "\xbf\xf8\x00\x00\x00\x00\x00\x00" + "\x01" +
		"\x80\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x02" + "\x80\x00\x00\x01" + "\x00\x01"
	if got := ds.KeyPrefix(values); got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestSplitKeyRefuses(t *testing.T) {
	t.Parallel()
	d := load(t, keyTypesYAML)
	good := d.Dataset("all").KeyPrefix([]Value{{kind: kindString}, {kind: kindInt64}, floatValue(0), boolValue(true), {kind: kindTimestamp}, {kind: kindDate}, {kind: kindBytes}})
	for n := range len(good) {
		if v, err := d.Dataset("all").SplitKey(good[:n]); err == nil {
			t.Errorf("a key cut to %d bytes gives %v", n, v)
		}
	}
	if v, err := d.Dataset("all").SplitKey(good + "x"); err == nil {
		t.Errorf("a key with one byte more gives %v", v)
	}
	for _, key := range []string{"", "a", "\x00", "a\x00\x02", "\xff\x00\x01", "a\x00\x01\x00"} {
		if v, err := d.Dataset("one").SplitKey(key); err == nil {
			t.Errorf("SplitKey(%q) = %v", key, v)
		}
	}
	for k, b := range map[kind]string{
		kindBool: "\x02", kindDate: "\x00\x00\x00\x00", kindTimestamp: "\x80\x00\x00\x00\x00\x00\x00\x00\x3b\x9a\xca\x00",
		kindFloat64: "\x7f\xff\xff\xff\xff\xff\xff\xff", // negative zero
	} {
		if v, _, err := splitKey(k, b); err == nil {
			t.Errorf("splitKey(%s, %q) = %v", k.typ(), b, v)
		}
	}
}

func TestPrefixEnd(t *testing.T) {
	t.Parallel()
	for prefix, want := range map[string]string{"": "", "\xff": "", "\xff\xff": "", "a": "b", "a\xff": "b", "a\xff\xff": "b", "a\x00": "a\x01", "\xfe\xff": "\xff"} {
		if got := PrefixEnd(prefix); got != want {
			t.Errorf("PrefixEnd(%q) = %q, want %q", prefix, got, want)
		}
	}
}

func FuzzRowKey(f *testing.F) {
	ds := load(f, keyTypesYAML).Dataset("all")
	f.Add([]byte("0123456789abcdef"), []byte("0123456789abcdeF"), 3)
	f.Add([]byte{}, []byte{0, 0, 0, 0, 0, 0, 0, 0, 1}, 0)
	f.Add(bytes.Repeat([]byte{5, 0xff}, 90), bytes.Repeat([]byte{5, 0xfe}, 90), 5)
	f.Add([]byte("a\x00\x01"), []byte("\x80\x00\x00\x00\x00\x00\x00\x00"), 1)
	f.Fuzz(func(t *testing.T, one, two []byte, same int) {
		a, b := valueMaker{choices(one)}.record(ds), valueMaker{choices(two)}.record(ds)
		copy(b.Values[:min(max(0, same), len(b.Values))], a.Values)
		checkKeys(t, ds, a, b)
		checkIndexKeys(t, ds, a, b)
		// Any bytes that split into values are the key of these values.
		if values, err := ds.SplitKey(string(one)); err == nil && ds.KeyPrefix(values) != string(one) {
			t.Fatalf("%q splits into %v", one, values)
		}
		if values, _, err := ds.SplitIndexKey(&ds.Indexes[0], string(two)); err == nil && !strings.HasPrefix(string(two), ds.IndexPrefix(&ds.Indexes[0], values)) {
			t.Fatalf("%q splits into %v", two, values)
		}
	})
}

// choices turns fuzzed bytes into the numbers that a valueMaker asks for.
func choices(data []byte) func() uint64 {
	return func() uint64 {
		if len(data) == 0 {
			return 0
		}
		var buf [8]byte
		n := copy(buf[:], data)
		data = data[n:]
		return binary.BigEndian.Uint64(buf[:])
	}
}

func TestValue(t *testing.T) {
	t.Parallel()
	var missing Value
	if !missing.IsMissing() || missing.Type() != "" || missing.Text() != "" || !missing.Time().IsZero() || missing.Compare(boolValue(false)) != -1 {
		t.Error("the zero Value is not a missing one")
	}
	date := Value{kind: kindDate, num: 1}
	if want := time.Unix(86400, 0).UTC(); !date.Time().Equal(want) || date.Time().Location() != time.UTC {
		t.Errorf("date is %v", date.Time())
	}
	if n := (Value{kind: kindInt64, num: 3}); n.Int() != 3 || n.Float() != 3 || n.Bool() {
		t.Error("int64")
	}
	if !boolValue(true).Bool() || boolValue(true).Int() != 0 || floatValue(1.5).Float() != 1.5 || floatValue(math.Copysign(0, -1)) != floatValue(0) {
		t.Error("bool or float64")
	}
	if v := floatValue(math.MaxFloat64); v.Text() != "1.7976931348623157e+308" {
		t.Errorf("text %s", v.Text())
	}
}

func BenchmarkRowKey(b *testing.B) {
	r := exampleRecord(b)
	b.ReportAllocs()
	for b.Loop() {
		_ = r.RowKey()
	}
}

func exampleRecord(t testing.TB) Record {
	ds := load(t, strings.Replace(exampleYAML, "retention: 400d", "", 1)).Dataset("flights")
	r, err := ds.Decode([]byte(`{"origin":"DTW","departed_at":"2001-01-01T00:47:00Z","destination":"LAS","delay_minutes":66,"distance_miles":1750}`), testNow)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
