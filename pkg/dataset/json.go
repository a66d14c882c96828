package dataset

import (
	"encoding/base64"
	"unicode/utf8"
)

// AppendJSON appends the record as a JSON object: "id" first, then the fields
// in the given order, without those that are missing. An empty id is left out;
// nil fields mean all of them. An int64 beyond ±(2^53-1) is written as a
// string, because most readers of JSON would round it.
func (r Record) AppendJSON(dst []byte, id string, fields []*Field) ([]byte, error) {
	if fields == nil {
		fields = r.Dataset.Fields
	}
	dst = append(dst, '{')
	first := true
	if id != "" {
		dst = appendJSONString(append(dst, `"id":`...), id)
		first = false
	}
	for _, f := range fields {
		v := r.Values[f.Index]
		if v.IsMissing() {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(dst, '"')
		dst = append(dst, f.Name...)
		dst = append(dst, '"', ':')
		dst = v.AppendJSON(dst)
	}
	return append(dst, '}'), nil
}

// AppendJSON appends the value as JSON, null when it is missing.
func (v Value) AppendJSON(dst []byte) []byte {
	switch v.kind {
	case kindString:
		return appendJSONString(dst, v.str)
	case kindBytes:
		dst = append(dst, '"')
		dst = base64.StdEncoding.AppendEncode(dst, []byte(v.str))
		return append(dst, '"')
	case kindTimestamp, kindDate:
		return append(v.appendText(append(dst, '"')), '"')
	case kindInt64:
		if v.num < -maxSafeInt || v.num > maxSafeInt {
			return append(v.appendText(append(dst, '"')), '"')
		}
	case kindMissing:
		return append(dst, "null"...)
	}
	return v.appendText(dst)
}

// appendJSONString quotes s. Bytes that are not UTF-8 are passed on, for the
// reader to refuse.
func appendJSONString[T string | []byte](dst []byte, s T) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= 0x20 && c != '"' && c != '\\' || c >= utf8.RuneSelf {
			continue
		}
		dst = append(dst, s[start:i]...)
		start = i + 1
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', upperHex[c>>4], upperHex[c&15])
		}
	}
	return append(append(dst, s[start:]...), '"')
}
