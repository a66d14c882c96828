package cellstore

import (
	"bytes"
	"encoding/binary"
	"errors"

	"github.com/cockroachdb/pebble/v2"
)

// Every Pebble key starts with one of these bytes.
const (
	spaceMeta byte = 0x01 // schemas and counters
	spaceData byte = 0x02 // cells
)

// A cell's key is
//
//	spaceData | table id (4) | escaped row key, end | family id (2) | escaped qualifier, end | ^timestamp (8)
//
// Inside an escaped string a zero byte becomes 00 FF and the end is 00 01, so
// that bytes.Compare on keys orders cells as Bigtable does: by row key, family,
// qualifier, then newest timestamp first. Families and tables appear by number,
// and numbers are never used again, so dropping either needs no rewrite.
const (
	escapeByte  byte = 0x00
	escapedZero byte = 0xff
	escapedEnd  byte = 0x01

	tablePrefixLen = 5
	familyIDLen    = 2
	timestampLen   = 8
)

// comparerName is part of the on-disk format.
const comparerName = "latamctl.cellstore.v1"

var errBadKey = errors.New("malformed cell key")

func appendEscaped(dst, s []byte) []byte {
	for {
		i := bytes.IndexByte(s, escapeByte)
		if i < 0 {
			return append(append(dst, s...), escapeByte, escapedEnd)
		}
		dst = append(append(dst, s[:i]...), escapeByte, escapedZero)
		s = s[i+1:]
	}
}

// appendEscapedOpen appends s without its end, which makes the smallest key of
// every string that starts with s.
func appendEscapedOpen(dst, s []byte) []byte {
	dst = appendEscaped(dst, s)
	return dst[:len(dst)-2]
}

// appendUnescaped reverses appendEscaped on a string whose end is cut off.
func appendUnescaped(dst, esc []byte) []byte {
	for {
		i := bytes.IndexByte(esc, escapeByte)
		if i < 0 || i+1 >= len(esc) {
			return append(dst, esc...)
		}
		dst = append(append(dst, esc[:i]...), 0)
		esc = esc[i+2:]
	}
}

func appendTablePrefix(dst []byte, table uint32) []byte {
	return binary.BigEndian.AppendUint32(append(dst, spaceData), table)
}

// appendRowPrefix appends what all keys of a row, and no others, start with.
func appendRowPrefix(dst []byte, table uint32, row []byte) []byte {
	return appendEscaped(appendTablePrefix(dst, table), row)
}

func appendFamily(dst []byte, family uint16) []byte {
	return binary.BigEndian.AppendUint16(dst, family)
}

func appendTimestamp(dst []byte, micros int64) []byte {
	return binary.BigEndian.AppendUint64(dst, ^uint64(micros))
}

// upperBound turns a prefix in place into the smallest key above everything
// that starts with it. The prefixes of this package never consist of 0xff only.
func upperBound(prefix []byte) []byte {
	for i := len(prefix) - 1; i >= 0; i-- {
		if prefix[i] != 0xff {
			prefix[i]++
			return prefix[:i+1]
		}
	}
	return prefix
}

// splitKey returns how long the part of a key is that names its table and row:
// all of it when it is not a cell's key.
func splitKey(key []byte) int {
	if len(key) < tablePrefixLen || key[0] != spaceData {
		return len(key)
	}
	for i := tablePrefixLen; ; {
		j := bytes.IndexByte(key[i:], escapeByte)
		if j < 0 || i+j+1 >= len(key) {
			return len(key)
		}
		switch key[i+j+1] {
		case escapedEnd:
			return i + j + 2
		case escapedZero:
			i += j + 2
		default:
			return len(key)
		}
	}
}

// rowOf returns the row key inside a row prefix, appended to dst.
func rowOf(dst, rowPrefix []byte) []byte {
	return appendUnescaped(dst, rowPrefix[tablePrefixLen:len(rowPrefix)-2])
}

// column is the part of a cell's key behind its row prefix.
type column struct {
	family    uint16
	qualifier []byte // escaped, without its end; aliases the key
	micros    int64
}

func parseColumn(suffix []byte) (column, error) {
	end := len(suffix) - timestampLen - 2
	if end < familyIDLen {
		return column{}, errBadKey
	}
	return column{
		family:    binary.BigEndian.Uint16(suffix),
		qualifier: suffix[familyIDLen:end],
		micros:    int64(^binary.BigEndian.Uint64(suffix[end+2:])),
	}, nil
}

// newComparer orders keys by their bytes and tells Pebble where the row ends,
// so that its bloom filters answer for whole rows.
func newComparer() *pebble.Comparer {
	c := *pebble.DefaultComparer
	c.Name = comparerName
	c.Split = splitKey
	c.ImmediateSuccessor = func(dst, prefix []byte) []byte {
		n := len(prefix)
		dst = append(dst, prefix...)
		if n > tablePrefixLen && prefix[0] == spaceData && splitKey(prefix) == n &&
			prefix[n-2] == escapeByte && prefix[n-1] == escapedEnd {
			dst[len(dst)-1]++
			return dst
		}
		return append(dst, 0)
	}
	return &c
}
