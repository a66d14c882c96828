package dataset

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/latamctl/latamctl/pkg/strictyaml"
)

// kind is the compact form of Type that a Value carries.
type kind uint8

const (
	kindMissing kind = iota
	kindString
	kindInt64
	kindFloat64
	kindBool
	kindTimestamp
	kindDate
	kindBytes
	kindJSON
	kindNull // a JSON null while a record is being decoded; never leaves Decode
)

func kindOf(t Type) kind {
	switch t {
	case String:
		return kindString
	case Int64:
		return kindInt64
	case Float64:
		return kindFloat64
	case Bool:
		return kindBool
	case Timestamp:
		return kindTimestamp
	case Date:
		return kindDate
	case Bytes:
		return kindBytes
	case JSON:
		return kindJSON
	}
	return kindMissing
}

func (k kind) typ() Type {
	switch k {
	case kindString:
		return String
	case kindInt64:
		return Int64
	case kindFloat64:
		return Float64
	case kindBool:
		return Bool
	case kindTimestamp:
		return Timestamp
	case kindDate:
		return Date
	case kindBytes:
		return Bytes
	case kindJSON:
		return JSON
	}
	return ""
}

// expected says in words what a value of the kind looks like.
func (k kind) expected() string {
	switch k {
	case kindString:
		return "a string"
	case kindInt64:
		return "an int64 number such as 42"
	case kindFloat64:
		return "a float64 number such as 1.5"
	case kindBool:
		return "true or false"
	case kindTimestamp:
		return "a timestamp such as 2001-01-01T00:47:00Z"
	case kindDate:
		return "a date such as 2001-01-31"
	case kindBytes:
		return "bytes in standard base64"
	case kindJSON:
		return "a JSON value"
	}
	return "a declared type"
}

// Value is one value of a field. The zero Value means that the field is
// missing. Two values are the same exactly when they are equal by ==; NaN and
// negative zero never occur.
type Value struct {
	kind  kind
	nanos int32  // timestamp
	num   int64  // int64, bool 0 or 1, float64 bits, timestamp seconds, date days since 1970-01-01
	str   string // string, bytes, compact JSON
}

// IsMissing reports whether the record has no value for the field.
func (v Value) IsMissing() bool { return v.kind == kindMissing }

// Type returns the type of the value, "" for a missing one.
func (v Value) Type() Type { return v.kind.typ() }

// Int returns an int64 value, 0 for other types.
func (v Value) Int() int64 {
	if v.kind != kindInt64 {
		return 0
	}
	return v.num
}

// Float returns a float64 value, or an int64 value as the nearest float64; 0 for other types.
func (v Value) Float() float64 {
	switch v.kind {
	case kindFloat64:
		return math.Float64frombits(uint64(v.num))
	case kindInt64:
		return float64(v.num)
	}
	return 0
}

// Bool returns a bool value, false for other types.
func (v Value) Bool() bool { return v.kind == kindBool && v.num == 1 }

// Time returns a timestamp, or a date's midnight, in UTC; the zero Time for other types.
func (v Value) Time() time.Time {
	switch v.kind {
	case kindTimestamp:
		return time.Unix(v.num, int64(v.nanos)).UTC()
	case kindDate:
		return time.Unix(v.num*secondsPerDay, 0).UTC()
	}
	return time.Time{}
}

// Text returns the canonical text: a string as it is, an int64 in decimal, a
// float64 in the shortest form JSON knows, true or false, a timestamp as RFC
// 3339 in UTC with the nanoseconds it needs, a date as 2006-01-02, bytes raw,
// json compact. A missing value gives "".
func (v Value) Text() string {
	switch v.kind {
	case kindString, kindBytes, kindJSON:
		return v.str
	}
	var buf [40]byte
	return string(v.appendText(buf[:0]))
}

func (v Value) appendText(dst []byte) []byte {
	switch v.kind {
	case kindString, kindBytes, kindJSON:
		return append(dst, v.str...)
	case kindInt64:
		return strconv.AppendInt(dst, v.num, 10)
	case kindFloat64:
		return appendFloat(dst, v.Float())
	case kindBool:
		return strconv.AppendBool(dst, v.num == 1)
	case kindTimestamp:
		return appendTimestamp(dst, v.num, v.nanos)
	case kindDate:
		return appendDate(dst, v.num)
	}
	return dst
}

// Compare orders two values of one type as their row keys are ordered: -1, 0
// or 1. A missing value comes first.
func (v Value) Compare(o Value) int {
	if v.kind != o.kind {
		return cmp.Compare(v.kind, o.kind)
	}
	switch v.kind {
	case kindString, kindBytes, kindJSON:
		return strings.Compare(v.str, o.str)
	case kindFloat64:
		return cmp.Compare(v.Float(), o.Float())
	}
	if c := cmp.Compare(v.num, o.num); c != 0 {
		return c
	}
	return cmp.Compare(v.nanos, o.nanos)
}

func boolValue(b bool) Value {
	if b {
		return Value{kind: kindBool, num: 1}
	}
	return Value{kind: kindBool}
}

// floatValue folds negative zero into zero, so that equal numbers are equal values.
func floatValue(f float64) Value {
	if f == 0 {
		f = 0
	}
	return Value{kind: kindFloat64, num: int64(math.Float64bits(f))}
}

// ParseText reads a value of the field's type from its canonical text or from
// a form that people write in a query: a timestamp with any offset, or a plain
// date meaning its midnight in UTC. Only the type is checked, neither pattern
// nor range. The error says what was expected.
func ParseText(f *Field, text string) (Value, error) {
	k := kindOf(f.Type)
	switch k {
	case kindString:
		if utf8.ValidString(text) {
			return Value{kind: k, str: text}, nil
		}
		return Value{}, fmt.Errorf("field %s: expected a string of valid UTF-8, got %s", f.Name, quoteCut(text))
	case kindBytes:
		return Value{kind: k, str: text}, nil
	case kindJSON:
		if compact, ok := compactJSON(text); ok {
			return Value{kind: k, str: compact}, nil
		}
	default:
		if v, ok := parseScalar(k, text, true); ok {
			return v, nil
		}
	}
	return Value{}, fmt.Errorf("field %s: expected %s, got %s", f.Name, k.expected(), quoteCut(text))
}

// parseScalar reads the text of every type that is not kept as a string.
func parseScalar(k kind, text string, lenient bool) (Value, bool) {
	switch k {
	case kindInt64:
		n, err := strconv.ParseInt(text, 10, 64)
		return Value{kind: k, num: n}, err == nil
	case kindFloat64:
		if !isJSONNumber(text) {
			return Value{}, false
		}
		f, err := strconv.ParseFloat(text, 64)
		return floatValue(f), err == nil
	case kindBool:
		return boolValue(text == "true"), text == "true" || text == "false"
	case kindTimestamp:
		sec, nanos, ok := parseTimestamp(text, lenient)
		return Value{kind: k, num: sec, nanos: nanos}, ok
	case kindDate:
		days, ok := parseDate(text)
		return Value{kind: k, num: days}, ok
	}
	return Value{}, false
}

// appendFloat writes the shortest text that reads back as f, in the form that
// encoding/json uses.
func appendFloat(dst []byte, f float64) []byte {
	abs := math.Abs(f)
	if abs == 0 || abs >= 1e-6 && abs < 1e21 {
		return strconv.AppendFloat(dst, f, 'f', -1, 64)
	}
	start := len(dst)
	dst = strconv.AppendFloat(dst, f, 'e', -1, 64)
	if i := bytes.Index(dst[start:], []byte("e-0")); i >= 0 {
		at := start + i + 2
		dst = append(dst[:at], dst[at+1:]...)
	}
	return dst
}

// maxQuoted is how much of a value a message shows.
const maxQuoted = strictyaml.MaxQuoted

// quoteCut quotes s for a message and cuts it to maxQuoted bytes.
func quoteCut(s string) string { return strictyaml.Quote(s) }
