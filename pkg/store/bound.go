package store

import (
	"context"

	"cloud.google.com/go/bigtable/apiv2/bigtablepb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// maxResponseBytes is the largest message that is taken from Bigtable, which sends parts of a few MiB.
const maxResponseBytes = 64 << 20

// boundRows are the dial options by which a row that is larger than the limit ends its reading. The
// client gathers a row in memory until its last part comes, and nothing else would bound it.
func boundRows(maxRowBytes int) []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxResponseBytes)),
		grpc.WithChainStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			stream, err := streamer(ctx, desc, cc, method, opts...)
			if err != nil || method != bigtablepb.Bigtable_ReadRows_FullMethodName {
				return stream, err
			}
			return &boundStream{ClientStream: stream, limit: maxRowBytes}, nil
		}),
	}
}

// boundStream counts the bytes of the row that is under way.
type boundStream struct {
	grpc.ClientStream
	limit, bytes int
}

func (s *boundStream) RecvMsg(m any) error {
	if err := s.ClientStream.RecvMsg(m); err != nil {
		return err
	}
	res, ok := m.(*bigtablepb.ReadRowsResponse)
	if !ok {
		return nil
	}
	for _, chunk := range res.GetChunks() {
		s.bytes += len(chunk.GetRowKey()) + len(chunk.GetQualifier().GetValue()) + len(chunk.GetValue()) + cellOverhead
		// The client makes room for the whole of a value at its first part.
		if s.bytes > s.limit || int(chunk.GetValueSize()) > s.limit {
			return status.Errorf(codes.OutOfRange, "a row has more than %d bytes", s.limit)
		}
		if chunk.GetCommitRow() || chunk.GetResetRow() {
			s.bytes = 0
		}
	}
	return nil
}

// cellOverhead is about what a cell costs besides its bytes.
const cellOverhead = 128
