package dataset

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// MaxRecordBytes is the size up to which a record is taken.
const MaxRecordBytes = 1 << 20

// MaxKeyBytes is the size of a row key that Bigtable takes.
const MaxKeyBytes = 4096

// maxSafeInt is the largest integer that every JSON reader keeps exactly.
const maxSafeInt = 1<<53 - 1

// IDMember is the member that the API adds to a row. No field may have this name.
const IDMember = "id"

// Record is one decoded record: Values[f.Index] is the value of field f, the
// zero Value when the record has none.
type Record struct {
	Dataset *Dataset
	Values  []Value
}

// Value returns the value of a field of the record's dataset.
func (r Record) Value(f *Field) Value { return r.Values[f.Index] }

// Reason says in one word why a record was rejected.
type Reason string

// The reasons for which Decode rejects a record; the last two are those of pkg/payload, for what does
// not become a JSON object.
const (
	ReasonBadJSON        Reason = "bad_json"
	ReasonUnknownField   Reason = "unknown_field"
	ReasonMissingField   Reason = "missing_field"
	ReasonDuplicateField Reason = "duplicate_field"
	ReasonWrongType      Reason = "wrong_type"
	ReasonPattern        Reason = "pattern"
	ReasonRange          Reason = "range"
	ReasonOversize       Reason = "oversize"
	ReasonTooOld         Reason = "too_old"
	ReasonTooNew         Reason = "too_new"
	ReasonKeyTooLong     Reason = "key_too_long"
	ReasonBadEncoding    Reason = "bad_encoding"
	ReasonBadPayload     Reason = "bad_payload"
)

// RejectError is a record that breaks the declaration.
type RejectError struct {
	Reason Reason
	// Field is the name of the field at fault, "" when it is the record.
	Field string
	// Detail says what was expected and what came, with values cut to 64 bytes.
	Detail string
}

func (e *RejectError) Error() string {
	if e.Field == "" {
		return string(e.Reason) + ": " + e.Detail
	}
	return string(e.Reason) + ": field " + e.Field + ": " + e.Detail
}

func reject(reason Reason, field, format string, args ...any) *RejectError {
	return &RejectError{Reason: reason, Field: field, Detail: fmt.Sprintf(format, args...)}
}

func badJSON(err error) *RejectError {
	return reject(ReasonBadJSON, "", "%v", err)
}

// Decode reads one JSON object and checks it against the declaration. The
// event time must lie between published less the retention and published plus
// the limit of max_ahead, both included; published is when the record was or
// will be published. The error is always a *RejectError for the first fault in
// the order of the text.
//
// A member "id" that equals the row id of the record is dropped, so that a row
// read from the API can be published again; any other "id" is unknown.
func (ds *Dataset) Decode(data []byte, published time.Time) (Record, error) {
	if len(data) > MaxRecordBytes { // Before it is copied.
		return Record{}, oversize(len(data))
	}
	return ds.DecodeString(string(data), published)
}

// DecodeString is Decode of a text that the record may keep parts of.
func (ds *Dataset) DecodeString(data string, published time.Time) (Record, error) {
	if len(data) > MaxRecordBytes {
		return Record{}, oversize(len(data))
	}
	if !utf8.ValidString(data) {
		return Record{}, reject(ReasonBadJSON, "", "the record is not valid UTF-8")
	}
	d := decoder{ds: ds, sc: jsonScanner{s: data}, values: make([]Value, len(ds.Fields))}
	if err := d.object(); err != nil {
		return Record{}, err
	}
	r := Record{Dataset: ds, Values: d.values}
	if err := d.finish(r, published); err != nil {
		return Record{}, err
	}
	return r, nil
}

func oversize(n int) *RejectError {
	return reject(ReasonOversize, "", "the record has %d bytes, at most %d are taken", n, MaxRecordBytes)
}

type decoder struct {
	ds     *Dataset
	sc     jsonScanner
	values []Value
	hasID  bool
	id     string
}

func (d *decoder) object() *RejectError {
	sc := &d.sc
	sc.skipSpace()
	if sc.peek() != '{' {
		return badJSON(sc.errorf("a JSON object"))
	}
	sc.pos++
	sc.skipSpace()
	if sc.peek() == '}' {
		sc.pos++
		return d.end()
	}
	for next := 0; ; next++ {
		if err := d.member(next); err != nil {
			return err
		}
		more, err := sc.comma('}')
		if err != nil {
			return badJSON(err)
		}
		if !more {
			return d.end()
		}
	}
}

func (d *decoder) end() *RejectError {
	d.sc.skipSpace()
	if d.sc.pos != len(d.sc.s) {
		return badJSON(d.sc.errorf("nothing after the object"))
	}
	return nil
}

// member reads one name and its value. next is where the field stands when
// the record keeps the order of the declaration, which saves the look-up.
func (d *decoder) member(next int) *RejectError {
	name, err := d.sc.text()
	if err != nil {
		return badJSON(err)
	}
	if err := d.sc.colon(); err != nil {
		return badJSON(err)
	}
	var f *Field
	if next < len(d.ds.Fields) && d.ds.Fields[next].Name == name {
		f = d.ds.Fields[next]
	} else if f = d.ds.byName[name]; f == nil {
		return d.otherMember(name)
	}
	if d.values[f.Index].kind != kindMissing {
		return reject(ReasonDuplicateField, f.Name, "the field stands twice in the record")
	}
	v, rejected := d.value(f)
	if rejected != nil {
		return rejected
	}
	d.values[f.Index] = v
	return nil
}

func (d *decoder) otherMember(name string) *RejectError {
	if name == IDMember && d.sc.peek() == '"' {
		if d.hasID {
			return reject(ReasonDuplicateField, name, "the field stands twice in the record")
		}
		id, err := d.sc.text()
		if err != nil {
			return badJSON(err)
		}
		d.id, d.hasID = id, true
		return nil
	}
	shown := name
	if len(shown) > maxQuoted {
		shown = strings.ToValidUTF8(shown[:maxQuoted], "") + "…"
	}
	if near := Nearest(name, d.ds.FieldNames()); near != "" {
		return reject(ReasonUnknownField, shown, "the dataset %s has no such field; did you mean %s?", d.ds.Name, near)
	}
	return reject(ReasonUnknownField, shown, "the dataset %s has no such field", d.ds.Name)
}

// value reads the value of a field and checks its type, pattern and range.
func (d *decoder) value(f *Field) (Value, *RejectError) {
	start := d.sc.pos
	k := kindOf(f.Type)
	if d.sc.peek() == 'n' {
		if err := d.sc.literal("null"); err != nil {
			return Value{}, badJSON(err)
		}
		return Value{kind: kindNull}, nil
	}
	var v Value
	var ok bool
	var err error
	switch k {
	case kindInt64, kindFloat64:
		v, ok, err = d.number(k)
	case kindBool:
		ok = d.sc.peek() == 't' || d.sc.peek() == 'f'
		v = boolValue(d.sc.peek() == 't')
		err = d.sc.value(1)
	case kindJSON:
		ok = true
		v, err = d.json()
	default:
		v, ok, err = d.quoted(k)
	}
	if errors.Is(err, errDepth) && k == kindJSON {
		return Value{}, reject(ReasonBadJSON, f.Name, "the value is %v", err)
	}
	if err != nil {
		return Value{}, badJSON(err)
	}
	if !ok {
		return Value{}, reject(ReasonWrongType, f.Name, "expected %s, got %s", k.expected(), describe(d.sc.s[start:d.sc.pos]))
	}
	return v, checkLimits(f, v)
}

// number reads the value of an int64 or float64 field. ok is false when it has
// another type; then the scanner stands behind it all the same.
func (d *decoder) number(k kind) (v Value, ok bool, err error) {
	c := d.sc.peek()
	if c == '"' && k == kindInt64 {
		s, err := d.sc.text()
		n, ok := bigInt(s)
		return Value{kind: k, num: n}, ok && err == nil, err
	}
	if c != '-' && c-'0' > 9 {
		return Value{}, false, d.sc.value(1)
	}
	text, integer, err := d.sc.number()
	if err != nil {
		return Value{}, false, err
	}
	if k == kindFloat64 {
		f, err := strconv.ParseFloat(text, 64)
		return floatValue(f), err == nil, nil
	}
	if !integer {
		n, ok := exactInt(text)
		return Value{kind: k, num: n}, ok, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	return Value{kind: k, num: n}, err == nil, nil
}

// bigInt reads an integer that AppendJSON writes as a string, and no other.
func bigInt(s string) (int64, bool) {
	if len(s) < 16 || len(s) > 20 {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n >= -maxSafeInt && n <= maxSafeInt {
		return 0, false
	}
	return n, strconv.FormatInt(n, 10) == s
}

// quoted reads the types that JSON carries as a string.
func (d *decoder) quoted(k kind) (v Value, ok bool, err error) {
	if d.sc.peek() != '"' {
		return Value{}, false, d.sc.value(1)
	}
	s, err := d.sc.text()
	if err != nil {
		return Value{}, false, err
	}
	switch k {
	case kindString:
		return Value{kind: k, str: s}, true, nil
	case kindBytes:
		raw, err := base64.StdEncoding.Strict().DecodeString(s)
		return Value{kind: k, str: string(raw)}, err == nil && !strings.ContainsAny(s, "\r\n"), nil
	}
	v, ok = parseScalar(k, s, false)
	return v, ok, nil
}

func (d *decoder) json() (Value, error) {
	start := d.sc.pos
	d.sc.spaced = false
	if err := d.sc.value(0); err != nil {
		return Value{}, err
	}
	text := d.sc.s[start:d.sc.pos]
	if d.sc.spaced {
		text = stripSpace(text)
	}
	return Value{kind: kindJSON, str: text}, nil
}

// describe names a JSON value for a message.
func describe(raw string) string {
	switch raw[0] {
	case '"':
		s := raw[1 : len(raw)-1]
		if strings.IndexByte(s, '\\') >= 0 {
			s = unescapeJSON(s)
		}
		return "the string " + quoteCut(s)
	case '{':
		return "an object"
	case '[':
		return "an array"
	case 't', 'f', 'n':
		return raw
	}
	if len(raw) > maxQuoted {
		return "the number " + raw[:maxQuoted] + "…"
	}
	return "the number " + raw
}

func checkLimits(f *Field, v Value) *RejectError {
	if f.Pattern != nil && !f.Pattern.MatchString(v.str) {
		return reject(ReasonPattern, f.Name, "%s does not match the pattern %s", quoteCut(v.str), f.Pattern)
	}
	if f.Minimum != nil && v.Compare(*f.Minimum) < 0 {
		return reject(ReasonRange, f.Name, "%s is less than the minimum %s", v.Text(), f.Minimum.Text())
	}
	if f.Maximum != nil && v.Compare(*f.Maximum) > 0 {
		return reject(ReasonRange, f.Name, "%s is greater than the maximum %s", v.Text(), f.Maximum.Text())
	}
	return nil
}

// finish checks what concerns the record as a whole.
func (d *decoder) finish(r Record, published time.Time) *RejectError {
	for i, f := range d.ds.Fields {
		null := d.values[i].kind == kindNull
		if null {
			d.values[i] = Value{}
		}
		if f.Required && d.values[i].IsMissing() {
			if null {
				return reject(ReasonMissingField, f.Name, "the field is required, got null")
			}
			return reject(ReasonMissingField, f.Name, "the field is required")
		}
	}
	if err := d.ds.checkTime(r, published); err != nil {
		return err
	}
	if n := r.keySize(d.ds.Key); n > MaxKeyBytes {
		return reject(ReasonKeyTooLong, "", "the row key has %d bytes, at most %d are taken", n, MaxKeyBytes)
	}
	for i := range d.ds.Indexes {
		if n := d.ds.indexKeySize(&d.ds.Indexes[i], r); n > MaxKeyBytes {
			return reject(ReasonKeyTooLong, "", "the row key of index %s has %d bytes, at most %d are taken",
				d.ds.Indexes[i].Name, n, MaxKeyBytes)
		}
	}
	if d.hasID {
		return d.checkID(r)
	}
	return nil
}

func (d *decoder) checkID(r Record) *RejectError {
	id, err := d.ds.RowID(r.RowKey())
	if err == nil && id == d.id {
		return nil
	}
	return reject(ReasonUnknownField, IDMember, "the id is made from the key; leave it out, or send %s", quoteCut(id))
}

func (ds *Dataset) checkTime(r Record, published time.Time) *RejectError {
	if ds.Time == nil {
		return nil
	}
	v := r.Value(ds.Time)
	if v.num < 0 {
		return reject(ReasonRange, ds.Time.Name, "%s is before 1970, which an event time cannot be", v.Text())
	}
	// The cells of a row have its time in whole milliseconds, and that is what garbage collection goes by.
	if ds.Retention > 0 && floorMilli(v.Time()).Before(published.Add(-ds.Retention)) {
		return reject(ReasonTooOld, ds.Time.Name, "%s is older than the retention of %s", v.Text(), FormatDuration(ds.Retention))
	}
	if ds.MaxAhead > 0 && v.Time().After(published.Add(ds.MaxAhead)) {
		return reject(ReasonTooNew, ds.Time.Name, "%s is more than %s after the record was published", v.Text(), FormatDuration(ds.MaxAhead))
	}
	return nil
}
