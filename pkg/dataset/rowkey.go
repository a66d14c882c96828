package dataset

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"
	"unicode/utf8"
)

// Strings and bytes in a key end with 0x00 0x01; a 0x00 inside is 0x00 0xFF.
// So no encoding is a prefix of another, and their order is that of the values.
const (
	keyEscape     = 0x00
	keyEscapedNul = 0xFF
	keyEnd        = 0x01
)

const signBit = 1 << 63

// An optional field of an index starts with one of these.
const (
	keyAbsent  = 0x00
	keyPresent = 0x01
)

// RowKey returns the row key: an encoding of the key fields, one after the
// other, whose byte order is the order of the values. It has at most
// MaxKeyBytes for a record that Decode took.
func (r Record) RowKey() string {
	dst := make([]byte, 0, r.keySize(r.Dataset.Key))
	for _, f := range r.Dataset.Key {
		dst = appendKey(dst, r.Values[f.Index])
	}
	return string(dst)
}

func (r Record) keySize(fields []*Field) int {
	n := 0
	for _, f := range fields {
		n += keySize(r.Values[f.Index])
	}
	return n
}

// KeyPrefix returns the bytes that exactly those row keys start with whose
// first len(values) key fields have these values.
func (ds *Dataset) KeyPrefix(values []Value) string {
	var dst []byte
	for _, v := range values {
		dst = appendKey(dst, v)
	}
	return string(dst)
}

// SplitKey returns the values of the key fields of a row key.
func (ds *Dataset) SplitKey(key string) ([]Value, error) {
	values := make([]Value, len(ds.Key))
	rest := key
	for i, f := range ds.Key {
		v, n, err := splitKey(kindOf(f.Type), rest)
		if err != nil {
			return nil, fmt.Errorf("row key of %s, field %s: %w", ds.Name, f.Name, err)
		}
		values[i], rest = v, rest[n:]
	}
	if rest != "" {
		return nil, fmt.Errorf("row key of %s: %d bytes follow the last field", ds.Name, len(rest))
	}
	return values, nil
}

// KeyRecord returns the record that a row key tells: its key fields, the others missing.
func (ds *Dataset) KeyRecord(key string) (Record, error) {
	values, err := ds.SplitKey(key)
	if err != nil {
		return Record{}, err
	}
	r := Record{Dataset: ds, Values: make([]Value, len(ds.Fields))}
	for i, f := range ds.Key {
		r.Values[f.Index] = values[i]
	}
	return r, nil
}

// IndexKey returns the row key of a record in the table of an index: the
// index's fields, then the row key. A record without an optional field of the
// index comes before those that have it.
func (ds *Dataset) IndexKey(ix *Index, r Record) string {
	dst := make([]byte, 0, ds.indexKeySize(ix, r))
	for _, f := range ix.Fields {
		dst = appendIndexed(dst, f, r.Values[f.Index])
	}
	for _, f := range ds.Key {
		dst = appendKey(dst, r.Values[f.Index])
	}
	return string(dst)
}

// IndexKeyOf returns the row key of a record in the table of an index, from the fields of the index
// and the row key. The record needs no other fields.
func (ds *Dataset) IndexKeyOf(ix *Index, r Record, rowKey string) string {
	var dst []byte
	for _, f := range ix.Fields {
		dst = appendIndexed(dst, f, r.Values[f.Index])
	}
	return string(append(dst, rowKey...))
}

// IndexPrefix returns the bytes that exactly those index keys start with whose
// first fields, those of the index and then those of the row key, have these values.
func (ds *Dataset) IndexPrefix(ix *Index, values []Value) string {
	var dst []byte
	for i, v := range values {
		if i < len(ix.Fields) {
			dst = appendIndexed(dst, ix.Fields[i], v)
			continue
		}
		dst = appendKey(dst, v)
	}
	return string(dst)
}

// SplitIndexKey returns the values of the index's fields and the row key that
// an index key stands for.
func (ds *Dataset) SplitIndexKey(ix *Index, key string) (values []Value, rowKey string, err error) {
	values = make([]Value, len(ix.Fields))
	rest := key
	for i, f := range ix.Fields {
		if !f.Required {
			if rest == "" || rest[0] > keyPresent {
				return nil, "", fmt.Errorf("key of index %s-%s, field %s: %w", ds.Name, ix.Name, f.Name, errKeyShort)
			}
			present := rest[0] == keyPresent
			if rest = rest[1:]; !present {
				continue
			}
		}
		v, n, err := splitKey(kindOf(f.Type), rest)
		if err != nil {
			return nil, "", fmt.Errorf("key of index %s-%s, field %s: %w", ds.Name, ix.Name, f.Name, err)
		}
		values[i], rest = v, rest[n:]
	}
	return values, rest, nil
}

func (ds *Dataset) indexKeySize(ix *Index, r Record) int {
	n := r.keySize(ds.Key)
	for _, f := range ix.Fields {
		n += keySize(r.Values[f.Index])
		if !f.Required {
			n++
		}
	}
	return n
}

func appendIndexed(dst []byte, f *Field, v Value) []byte {
	if !f.Required {
		if v.IsMissing() {
			return append(dst, keyAbsent)
		}
		dst = append(dst, keyPresent)
	}
	return appendKey(dst, v)
}

// PrefixEnd returns the smallest string greater than all strings with that
// prefix; "" means that there is none.
func PrefixEnd(prefix string) string {
	i := len(prefix)
	for i > 0 && prefix[i-1] == 0xFF {
		i--
	}
	if i == 0 {
		return ""
	}
	return prefix[:i-1] + string([]byte{prefix[i-1] + 1})
}

func keySize(v Value) int {
	switch v.kind {
	case kindString, kindBytes:
		return len(v.str) + strings.Count(v.str, "\x00") + 2
	case kindInt64, kindFloat64:
		return 8
	case kindTimestamp:
		return 12
	case kindDate:
		return 4
	case kindBool:
		return 1
	}
	return 0
}

func appendKey(dst []byte, v Value) []byte {
	switch v.kind {
	case kindString, kindBytes:
		return appendKeyString(dst, v.str)
	case kindInt64:
		return binary.BigEndian.AppendUint64(dst, uint64(v.num)^signBit)
	case kindFloat64:
		bits := uint64(v.num)
		if bits&signBit != 0 {
			return binary.BigEndian.AppendUint64(dst, ^bits)
		}
		return binary.BigEndian.AppendUint64(dst, bits^signBit)
	case kindTimestamp:
		dst = binary.BigEndian.AppendUint64(dst, uint64(v.num)^signBit)
		return binary.BigEndian.AppendUint32(dst, uint32(v.nanos))
	case kindDate:
		return binary.BigEndian.AppendUint32(dst, uint32(int32(v.num))^(1<<31))
	case kindBool:
		return append(dst, byte(v.num))
	}
	return dst
}

func appendKeyString(dst []byte, s string) []byte {
	for {
		i := strings.IndexByte(s, keyEscape)
		if i < 0 {
			break
		}
		dst = append(dst, s[:i]...)
		dst = append(dst, keyEscape, keyEscapedNul)
		s = s[i+1:]
	}
	dst = append(dst, s...)
	return append(dst, keyEscape, keyEnd)
}

type keyError string

func (e keyError) Error() string { return string(e) }

const (
	errKeyShort keyError = "the key ends too early"
	errKeyValue keyError = "the bytes are no value of the field's type"
)

// splitKey reads one value at the start of key and returns how many bytes it takes.
func splitKey(k kind, key string) (v Value, n int, err error) {
	switch k {
	case kindString, kindBytes:
		return splitKeyString(k, key)
	case kindBool:
		n = 1
	case kindDate:
		n = 4
	case kindTimestamp:
		n = 12
	default:
		n = 8
	}
	if len(key) < n {
		return Value{}, 0, errKeyShort
	}
	v, ok := keyNumber(k, []byte(key[:n]))
	if !ok {
		return Value{}, 0, errKeyValue
	}
	return v, n, nil
}

func keyNumber(k kind, b []byte) (Value, bool) {
	switch k {
	case kindBool:
		return Value{kind: k, num: int64(b[0])}, b[0] <= 1
	case kindDate:
		day := int64(int32(binary.BigEndian.Uint32(b) ^ (1 << 31)))
		return Value{kind: k, num: day}, day >= minDay && day <= maxDay
	case kindInt64:
		return Value{kind: k, num: int64(binary.BigEndian.Uint64(b) ^ signBit)}, true
	case kindTimestamp:
		sec := int64(binary.BigEndian.Uint64(b) ^ signBit)
		nanos := binary.BigEndian.Uint32(b[8:])
		return Value{kind: k, num: sec, nanos: int32(nanos)}, sec >= minSecond && sec <= maxSecond && nanos < 1e9
	case kindFloat64:
		bits := binary.BigEndian.Uint64(b)
		if bits&signBit != 0 {
			bits ^= signBit
		} else {
			bits = ^bits
		}
		f := math.Float64frombits(bits)
		return Value{kind: k, num: int64(bits)}, !math.IsNaN(f) && !math.IsInf(f, 0) && bits != signBit
	}
	return Value{}, false
}

func splitKeyString(k kind, key string) (Value, int, error) {
	escapes := 0
	for from := 0; ; {
		i := strings.IndexByte(key[from:], keyEscape)
		if i < 0 || from+i+1 >= len(key) {
			return Value{}, 0, errKeyShort
		}
		from += i + 2
		switch key[from-1] {
		case keyEscapedNul:
			escapes++
			continue
		case keyEnd:
			s := key[:from-2]
			if escapes > 0 {
				s = strings.ReplaceAll(s, "\x00\xFF", "\x00")
			}
			if k == kindString && !utf8.ValidString(s) {
				return Value{}, 0, errKeyValue
			}
			return Value{kind: k, str: s}, from, nil
		}
		return Value{}, 0, errKeyValue
	}
}
