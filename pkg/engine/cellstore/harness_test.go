package cellstore

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/bigtable"
	"cloud.google.com/go/bigtable/admin/apiv2/adminpb"
	"cloud.google.com/go/bigtable/apiv2/bigtablepb"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
)

const (
	testProject  = "latam-local"
	testInstance = "latam"
	testParent   = "projects/" + testProject + "/instances/" + testInstance
)

func tableNamed(id string) string { return testParent + "/tables/" + id }

// fakeClock is a clock that tests set.
type fakeClock struct {
	mu  sync.Mutex
	now time.Time
}

func newFakeClock() *fakeClock { return &fakeClock{now: time.UnixMilli(1_700_000_000_000)} }

func (c *fakeClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *fakeClock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// env is a server and clients of it.
type env struct {
	t    testing.TB
	s    *Server
	conn *grpc.ClientConn
	data bigtablepb.BigtableClient
	adm  adminpb.BigtableTableAdminClient
	stop func()
}

func open(t testing.TB, o Options) *Server {
	t.Helper()
	if o.GCInterval == 0 {
		o.GCInterval = -1 // tests collect by hand
	}
	s, err := Open(o)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	return s
}

// serve opens a server on an in-memory connection; it ends with the test.
func serve(t testing.TB, o Options) *env {
	t.Helper()
	s := open(t, o)
	lis := bufconn.Listen(4 << 20)
	g := grpc.NewServer(ServerOptions()...)
	s.Register(g)
	go func() { _ = g.Serve(lis) }()
	e := &env{t: t, s: s, conn: dial(t, lis)}
	e.data = bigtablepb.NewBigtableClient(e.conn)
	e.adm = adminpb.NewBigtableTableAdminClient(e.conn)
	e.stop = sync.OnceFunc(func() {
		_ = e.conn.Close()
		g.Stop()
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	t.Cleanup(e.stop)
	return e
}

func dial(t testing.TB, lis *bufconn.Listener) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///bufnet",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MaxMessageBytes), grpc.MaxCallSendMsgSize(MaxMessageBytes)))
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// client returns the official data client on a connection.
func client(t testing.TB, conn *grpc.ClientConn) *bigtable.Client {
	t.Helper()
	c, err := bigtable.NewClientWithConfig(testContext(t), testProject, testInstance,
		bigtable.ClientConfig{MetricsProvider: bigtable.NoopMetricsProvider{}}, option.WithGRPCConn(conn))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func adminClient(t testing.TB, conn *grpc.ClientConn) *bigtable.AdminClient {
	t.Helper()
	c, err := bigtable.NewAdminClient(testContext(t), testProject, testInstance, option.WithGRPCConn(conn))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func versions(n int32) *adminpb.GcRule {
	return &adminpb.GcRule{Rule: &adminpb.GcRule_MaxNumVersions{MaxNumVersions: n}}
}

func family1(rule *adminpb.GcRule) *adminpb.ColumnFamily { return &adminpb.ColumnFamily{GcRule: rule} }

// createTable makes a table whose families are given with their rules.
func (e *env) createTable(id string, fams map[string]*adminpb.ColumnFamily) {
	e.t.Helper()
	_, err := e.adm.CreateTable(testContext(e.t), &adminpb.CreateTableRequest{
		Parent: testParent, TableId: id, Table: &adminpb.Table{ColumnFamilies: fams},
	})
	if err != nil {
		e.t.Fatalf("CreateTable: %v", err)
	}
}

func setCell(fam, qualifier string, ts int64, value string) *bigtablepb.Mutation {
	return &bigtablepb.Mutation{Mutation: &bigtablepb.Mutation_SetCell_{SetCell: &bigtablepb.Mutation_SetCell{
		FamilyName: fam, ColumnQualifier: []byte(qualifier), TimestampMicros: ts, Value: []byte(value),
	}}}
}

// mutate applies one row's mutations.
func (e *env) mutate(table, row string, muts ...*bigtablepb.Mutation) error {
	_, err := e.data.MutateRow(testContext(e.t), &bigtablepb.MutateRowRequest{
		TableName: tableNamed(table), RowKey: []byte(row), Mutations: muts,
	})
	return err
}

func (e *env) mustMutate(table, row string, muts ...*bigtablepb.Mutation) {
	e.t.Helper()
	if err := e.mutate(table, row, muts...); err != nil {
		e.t.Fatalf("MutateRow(%q): %v", row, err)
	}
}

// withFeatures has the requests of a context carry feature flags, as every
// official client does.
func withFeatures(ctx context.Context, flags *bigtablepb.FeatureFlags) context.Context {
	raw, err := proto.Marshal(flags)
	if err != nil {
		panic(err)
	}
	return metadata.AppendToOutgoingContext(ctx, "bigtable-features", base64.URLEncoding.EncodeToString(raw))
}

// readAll returns every cell as "row family:qualifier@ts=value[label]".
func (e *env) readAll(table string, req *bigtablepb.ReadRowsRequest) ([]string, error) {
	if req == nil {
		req = &bigtablepb.ReadRowsRequest{}
	}
	req.TableName = tableNamed(table)
	stream, err := e.data.ReadRows(withFeatures(testContext(e.t), &bigtablepb.FeatureFlags{ReverseScans: true}), req)
	if err != nil {
		return nil, err
	}
	var out []string
	var key, fam, qual, label, value string
	var ts int64
	var partial bool
	for {
		res, err := stream.Recv()
		if err != nil {
			if errors.Is(err, io.EOF) {
				return out, nil
			}
			return out, err
		}
		for _, c := range res.Chunks {
			if c.RowKey != nil {
				key = string(c.RowKey)
			}
			if c.FamilyName != nil {
				fam = c.FamilyName.Value
			}
			if c.Qualifier != nil {
				qual = string(c.Qualifier.Value)
			}
			if !partial {
				ts, value, label = c.TimestampMicros, "", ""
				if len(c.Labels) > 0 {
					label = "[" + c.Labels[0] + "]"
				}
			}
			value += string(c.Value)
			if partial = c.ValueSize > 0; !partial {
				out = append(out, fmt.Sprintf("%s %s:%s@%d=%s%s", key, fam, qual, ts, value, label))
			}
		}
	}
}

func (e *env) mustRead(table string, req *bigtablepb.ReadRowsRequest) []string {
	e.t.Helper()
	out, err := e.readAll(table, req)
	if err != nil {
		e.t.Fatalf("ReadRows: %v", err)
	}
	return out
}

// fams are families without GC rules.
func fams(names ...string) map[string]*adminpb.ColumnFamily {
	m := map[string]*adminpb.ColumnFamily{}
	for _, name := range names {
		m[name] = family1(nil)
	}
	return m
}
