package rowcodec

import (
	"unicode/utf8"

	"cloud.google.com/go/bigtable/apiv2/bigtablepb"
	"google.golang.org/protobuf/encoding/protowire"
)

// The fields of ReadRowsResponse and CellChunk, from Google's bigtable.proto, as tags: the field's
// number and its wire type.
const (
	tagChunks = 1<<3 | 2

	tagRowKey    = 1<<3 | 2
	tagFamily    = 2<<3 | 2
	tagQualifier = 3<<3 | 2
	tagTimestamp = 4 << 3
	tagValue     = 6<<3 | 2
	tagValueSize = 7 << 3
	tagCommit    = 9 << 3

	// tagWrapped is the field of the messages around a family and a qualifier.
	tagWrapped = 1<<3 | 2
)

// sizeResponse returns how many bytes appendResponse writes; ok is false for a response with
// parts that it does not write. Unknown fields are not looked for: servers make no such chunks.
func sizeResponse(res *bigtablepb.ReadRowsResponse) (size int, ok bool) {
	if len(res.LastScannedRowKey) > 0 || res.RequestStats != nil || len(res.ProtoReflect().GetUnknown()) > 0 {
		return 0, false
	}
	for _, c := range res.Chunks {
		n, ok := sizeChunk(c)
		if !ok {
			return 0, false
		}
		size += sizeBytes(n)
	}
	return size, true
}

// sizeBytes is the size of a field of n bytes whose tag takes one.
func sizeBytes(n int) int { return 1 + protowire.SizeBytes(n) }

func sizeChunk(c *bigtablepb.ReadRowsResponse_CellChunk) (size int, ok bool) {
	if c == nil || len(c.Labels) > 0 {
		return 0, false
	}
	switch status := c.RowStatus.(type) {
	case nil:
	case *bigtablepb.ReadRowsResponse_CellChunk_CommitRow:
		if !status.CommitRow {
			return 0, false
		}
		size += 2
	default:
		return 0, false
	}
	if len(c.RowKey) > 0 {
		size += sizeBytes(len(c.RowKey))
	}
	if c.FamilyName != nil {
		if !utf8.ValidString(c.FamilyName.Value) {
			return 0, false
		}
		size += sizeBytes(sizeWrapped(len(c.FamilyName.Value)))
	}
	if c.Qualifier != nil {
		size += sizeBytes(sizeWrapped(len(c.Qualifier.Value)))
	}
	if c.TimestampMicros != 0 {
		size += 1 + protowire.SizeVarint(uint64(c.TimestampMicros))
	}
	if len(c.Value) > 0 {
		size += sizeBytes(len(c.Value))
	}
	if c.ValueSize != 0 {
		size += 1 + protowire.SizeVarint(uint64(c.ValueSize))
	}
	return size, true
}

func sizeWrapped(n int) int {
	if n == 0 {
		return 0
	}
	return sizeBytes(n)
}

// appendResponse appends a response for which sizeResponse said ok.
func appendResponse(dst []byte, res *bigtablepb.ReadRowsResponse) []byte {
	for _, c := range res.Chunks {
		size, _ := sizeChunk(c)
		dst = protowire.AppendVarint(append(dst, tagChunks), uint64(size))
		dst = appendChunk(dst, c)
	}
	return dst
}

func appendChunk(dst []byte, c *bigtablepb.ReadRowsResponse_CellChunk) []byte {
	if len(c.RowKey) > 0 {
		dst = protowire.AppendBytes(append(dst, tagRowKey), c.RowKey)
	}
	if c.FamilyName != nil {
		name := c.FamilyName.Value
		dst = protowire.AppendVarint(append(dst, tagFamily), uint64(sizeWrapped(len(name))))
		if name != "" {
			dst = protowire.AppendString(append(dst, tagWrapped), name)
		}
	}
	if c.Qualifier != nil {
		name := c.Qualifier.Value
		dst = protowire.AppendVarint(append(dst, tagQualifier), uint64(sizeWrapped(len(name))))
		if len(name) > 0 {
			dst = protowire.AppendBytes(append(dst, tagWrapped), name)
		}
	}
	if c.TimestampMicros != 0 {
		dst = protowire.AppendVarint(append(dst, tagTimestamp), uint64(c.TimestampMicros))
	}
	if len(c.Value) > 0 {
		dst = protowire.AppendBytes(append(dst, tagValue), c.Value)
	}
	if c.ValueSize != 0 {
		dst = protowire.AppendVarint(append(dst, tagValueSize), uint64(c.ValueSize))
	}
	if c.RowStatus != nil {
		dst = append(dst, tagCommit, 1)
	}
	return dst
}
