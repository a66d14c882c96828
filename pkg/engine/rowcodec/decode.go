package rowcodec

import (
	"bytes"
	"math"
	"unicode/utf8"

	"cloud.google.com/go/bigtable/apiv2/bigtablepb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// decodeResponse reads a response that consists of chunks and keeps parts of data. ok is false when
// there is anything else in it, or anything wrong with it.
func decodeResponse(data []byte) (chunks []*bigtablepb.ReadRowsResponse_CellChunk, ok bool) {
	n := 0
	for rest := data; len(rest) > 0; n++ {
		if _, rest, ok = field(rest, tagChunks); !ok {
			return nil, false
		}
	}
	if n == 0 {
		return nil, true
	}
	slab := make([]bigtablepb.ReadRowsResponse_CellChunk, n)
	chunks = make([]*bigtablepb.ReadRowsResponse_CellChunk, n)
	d := decoder{commit: &bigtablepb.ReadRowsResponse_CellChunk_CommitRow{CommitRow: true}}
	for i := range slab {
		var chunk []byte
		if chunk, data, ok = field(data, tagChunks); !ok || !d.chunk(&slab[i], chunk) {
			return nil, false
		}
		chunks[i] = &slab[i]
	}
	return chunks, true
}

// field reads a field of bytes at the start of data.
func field(data []byte, tag byte) (value, rest []byte, ok bool) {
	if len(data) == 0 || data[0] != tag {
		return nil, nil, false
	}
	return lengthed(data[1:])
}

// lengthed reads bytes behind their length.
func lengthed(data []byte) (value, rest []byte, ok bool) {
	size, n := varint(data)
	if n <= 0 || size > uint64(len(data)-n) {
		return nil, nil, false
	}
	end := n + int(size)
	return data[n:end:end], data[end:], true
}

// varint returns n ≤ 0 when there is no number at the start of data.
func varint(data []byte) (v uint64, n int) {
	if len(data) > 0 && data[0] < 0x80 {
		return uint64(data[0]), 1
	}
	return protowire.ConsumeVarint(data)
}

// decoder shares what the chunks of one response have in common: they are read, never changed.
type decoder struct {
	commit     *bigtablepb.ReadRowsResponse_CellChunk_CommitRow
	family     *wrapperspb.StringValue
	qualifiers []*wrapperspb.BytesValue
	next       int // the qualifier that follows the last one as a rule
}

// chunk reads one chunk. Its fields come in the order of their numbers, each once at most, as every
// known server writes them; others are left to the protobuf library.
func (d *decoder) chunk(c *bigtablepb.ReadRowsResponse_CellChunk, data []byte) (ok bool) {
	for last := byte(0); len(data) > 0; {
		tag := data[0]
		if tag <= last {
			return false
		}
		last = tag
		if tag&7 == 2 {
			var value []byte
			if value, data, ok = lengthed(data[1:]); !ok || !d.bytes(c, tag, value) {
				return false
			}
			continue
		}
		value, n := varint(data[1:])
		if n <= 0 || !d.number(c, tag, value) {
			return false
		}
		data = data[1+n:]
	}
	return true
}

func (d *decoder) bytes(c *bigtablepb.ReadRowsResponse_CellChunk, tag byte, value []byte) (ok bool) {
	switch tag {
	case tagRowKey:
		c.RowKey = value
	case tagFamily:
		c.FamilyName, ok = d.familyOf(value)
		return ok
	case tagQualifier:
		c.Qualifier, ok = d.qualifierOf(value)
		return ok
	case tagValue:
		c.Value = value
	default:
		return false
	}
	return true
}

func (d *decoder) number(c *bigtablepb.ReadRowsResponse_CellChunk, tag byte, value uint64) bool {
	switch tag {
	case tagTimestamp:
		c.TimestampMicros = int64(value)
	case tagValueSize:
		if value > math.MaxInt32 {
			return false
		}
		c.ValueSize = int32(value)
	case tagCommit:
		if value != 1 {
			return false
		}
		c.RowStatus = d.commit
	default:
		return false
	}
	return true
}

// unwrap reads the only field of a wrapper, which is absent when it is empty.
func unwrap(data []byte) (value []byte, ok bool) {
	if len(data) == 0 {
		return nil, true
	}
	value, rest, ok := field(data, tagWrapped)
	return value, ok && len(rest) == 0
}

func (d *decoder) familyOf(data []byte) (*wrapperspb.StringValue, bool) {
	name, ok := unwrap(data)
	if !ok || !utf8.Valid(name) {
		return nil, false
	}
	if d.family == nil || d.family.Value != string(name) {
		d.family = &wrapperspb.StringValue{Value: string(name)}
	}
	return d.family, true
}

// maxShared is how many qualifiers of one response are remembered.
const maxShared = 64

// qualifierOf finds the qualifier among those met before, which repeat row by row.
func (d *decoder) qualifierOf(data []byte) (*wrapperspb.BytesValue, bool) {
	name, ok := unwrap(data)
	if !ok {
		return nil, false
	}
	if d.next >= len(d.qualifiers) {
		d.next = 0
	}
	for i := range d.qualifiers {
		at := (d.next + i) % len(d.qualifiers)
		if q := d.qualifiers[at]; bytes.Equal(q.Value, name) {
			d.next = at + 1
			return q, true
		}
	}
	q := &wrapperspb.BytesValue{Value: name}
	if len(d.qualifiers) < maxShared {
		d.qualifiers = append(d.qualifiers, q)
		d.next = len(d.qualifiers)
	}
	return q, true
}
