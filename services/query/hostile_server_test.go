package query

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cloud.google.com/go/bigtable/apiv2/bigtablepb"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/store"
)

// lyingServer is a Bigtable that holds rows and, once it is told a lie, does not answer as it should.
type lyingServer struct {
	bigtablepb.UnimplementedBigtableServer
	tables map[string][]dataset.Row // in key order
	lie    atomic.Pointer[lie]
	sent   atomic.Int64 // bytes of values since the lie was told
}

// lie is how a server answers the reads of one table.
type lie struct {
	name  string
	table string // its suffix
	tell  func(*telling) error
}

// telling is one call that is answered with a lie.
type telling struct {
	server *lyingServer
	req    *bigtablepb.ReadRowsRequest
	stream bigtablepb.Bigtable_ReadRowsServer
	rows   []dataset.Row // of the table
	honest []dataset.Row // those that were asked for
}

type chunk = bigtablepb.ReadRowsResponse_CellChunk

func (c *telling) send(chunks ...*chunk) error {
	for _, k := range chunks {
		c.server.sent.Add(int64(len(k.GetValue())))
	}
	return c.stream.Send(&bigtablepb.ReadRowsResponse{Chunks: chunks})
}

// hang waits until the caller gives up.
func (c *telling) hang() error {
	<-c.stream.Context().Done()
	return c.stream.Context().Err()
}

// sendRows is the honest way to send rows.
func (c *telling) sendRows(rows ...dataset.Row) error {
	for _, row := range rows {
		if err := c.send(chunksOf(row)...); err != nil {
			return err
		}
	}
	return nil
}

func chunksOf(row dataset.Row) []*chunk {
	var chunks []*chunk
	for _, cell := range row.Cells {
		chunks = append(chunks, cellOf("", dataset.Family, cell.Column, row.Time, cell.Value))
	}
	if len(chunks) > 0 {
		chunks[0].RowKey = []byte(row.Key)
		chunks[len(chunks)-1].RowStatus = &bigtablepb.ReadRowsResponse_CellChunk_CommitRow{CommitRow: true}
	}
	return chunks
}

func cellOf(key, family, column string, at time.Time, value []byte) *chunk {
	k := &chunk{FamilyName: wrapperspb.String(family), Qualifier: wrapperspb.Bytes([]byte(column)), TimestampMicros: at.UnixMicro(), Value: value}
	if key != "" {
		k.RowKey = []byte(key)
	}
	return k
}

// ReadRows answers reads as far as the service sends them, or lies.
func (s *lyingServer) ReadRows(req *bigtablepb.ReadRowsRequest, stream bigtablepb.Bigtable_ReadRowsServer) error {
	table := req.GetTableName()[strings.LastIndexByte(req.GetTableName(), '/')+1:]
	c := &telling{server: s, req: req, stream: stream, rows: slices.Clone(s.tables[table])}
	c.honest = asked(req, c.rows)
	mark := len(req.GetRows().GetRowKeys()) == 1 && string(req.GetRows().GetRowKeys()[0]) == dataset.IndexMark
	if l := s.lie.Load(); l != nil && l.table == table && !mark {
		return l.tell(c)
	}
	return c.sendRows(c.honest...)
}

// asked are the rows that a request is for. Filters are not looked at: reads of whole rows have none
// that matters here.
func asked(req *bigtablepb.ReadRowsRequest, rows []dataset.Row) (out []dataset.Row) {
	for _, row := range rows {
		key := []byte(row.Key)
		wanted := slices.ContainsFunc(req.GetRows().GetRowKeys(), func(k []byte) bool { return bytes.Equal(k, key) })
		for _, r := range req.GetRows().GetRowRanges() {
			after := bytes.Compare(key, r.GetStartKeyClosed()) >= 0 && (r.GetStartKeyOpen() == nil || bytes.Compare(key, r.GetStartKeyOpen()) > 0)
			before := (r.GetEndKeyOpen() == nil || bytes.Compare(key, r.GetEndKeyOpen()) < 0) && (r.GetEndKeyClosed() == nil || bytes.Compare(key, r.GetEndKeyClosed()) <= 0)
			wanted = wanted || after && before
		}
		if wanted {
			out = append(out, row)
		}
	}
	if req.GetReversed() {
		slices.Reverse(out)
	}
	if limit := int(req.GetRowsLimit()); limit > 0 && len(out) > limit {
		out = out[:limit]
	}
	return out
}

const maxTestRowBytes = 1 << 20

// newLyingWorld is the service over the real client over the lying server.
func newLyingWorld(t *testing.T, opts Options, maxRowBytes int) (*world, *lyingServer) {
	t.Helper()
	w := newWorld(t, indexedYAML, opts)
	w.addOrders(12)
	server := &lyingServer{tables: map[string][]dataset.Row{}}
	for name, table := range w.store.tables {
		for _, key := range table.keys {
			server.tables[name] = append(server.tables[name], table.rows[key])
		}
	}
	pipe := bufconn.Listen(1 << 20)
	g := grpc.NewServer(grpc.MaxSendMsgSize(256 << 20))
	bigtablepb.RegisterBigtableServer(g, server)
	go func() { _ = g.Serve(pipe) }()
	t.Cleanup(g.Stop)
	client, err := store.Open(t.Context(), store.Options{
		Project: "p", Instance: "i", Pool: 1, MaxRowBytes: maxRowBytes,
		Client: []option.ClientOption{
			option.WithEndpoint("passthrough:///lying"), option.WithoutAuthentication(),
			option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())),
			option.WithGRPCDialOption(grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return pipe.DialContext(ctx) })),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	w.service.deps.Store, w.service.deps.Now = client, time.Now
	return w, server
}

// order makes a row of the dataset orders.
func (w *world) order(n int) dataset.Row {
	rec, err := w.decl.Dataset("orders").Decode(fmt.Appendf(nil, `{"order_no":%d,"placed":"2001-01-01T00:00:00Z","status":"open"}`, n), w.now)
	if err != nil {
		w.t.Fatal(err)
	}
	return rec.Row(w.now)
}

// PingAndWarm is how the client opens a connection.
func (s *lyingServer) PingAndWarm(context.Context, *bigtablepb.PingAndWarmRequest) (*bigtablepb.PingAndWarmResponse, error) {
	return &bigtablepb.PingAndWarmResponse{}, nil
}

// safeBuffer is a log that many write to.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
