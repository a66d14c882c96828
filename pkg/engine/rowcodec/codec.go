// Package rowcodec is a gRPC codec for Bigtable connections. It writes and reads the responses of
// ReadRows, which hold nearly all bytes of a read, without reflection and with a few allocations a
// response instead of several a cell. What is on the wire is the same Protocol Buffers encoding;
// every other message, and every response that has something unusual in it, goes through the
// protobuf library.
package rowcodec

import (
	"cloud.google.com/go/bigtable/apiv2/bigtablepb"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"

	// The standard codec registers itself under its name.
	"google.golang.org/grpc/encoding/proto"
)

// Codec implements encoding.CodecV2 under the name of the standard codec, so that the other side
// of a connection may use either.
//
// The byte slices of one decoded response share their memory: who keeps one keeps all of them.
type Codec struct{ standard encoding.CodecV2 }

// New returns a codec, for grpc.ForceServerCodecV2 or grpc.ForceCodecV2.
func New() Codec { return Codec{standard: encoding.GetCodecV2(proto.Name)} }

// Name implements encoding.CodecV2.
func (c Codec) Name() string { return c.standard.Name() }

// Marshal implements encoding.CodecV2.
func (c Codec) Marshal(v any) (mem.BufferSlice, error) {
	res, ok := v.(*bigtablepb.ReadRowsResponse)
	if !ok {
		return c.standard.Marshal(v)
	}
	size, ok := sizeResponse(res)
	if !ok {
		return c.standard.Marshal(v)
	}
	if mem.IsBelowBufferPoolingThreshold(size) {
		return mem.BufferSlice{mem.SliceBuffer(appendResponse(make([]byte, 0, size), res))}, nil
	}
	pool := mem.DefaultBufferPool()
	buf := pool.Get(size)
	*buf = appendResponse((*buf)[:0], res)
	return mem.BufferSlice{mem.NewBuffer(buf, pool)}, nil
}

// Unmarshal implements encoding.CodecV2.
func (c Codec) Unmarshal(data mem.BufferSlice, v any) error {
	res, ok := v.(*bigtablepb.ReadRowsResponse)
	if !ok {
		return c.standard.Unmarshal(data, v)
	}
	// The response keeps parts of this copy.
	if chunks, ok := decodeResponse(data.Materialize()); ok {
		res.Reset()
		res.Chunks = chunks
		return nil
	}
	return c.standard.Unmarshal(data, v)
}
