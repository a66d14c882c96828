package store_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/bigtable/apiv2/bigtablepb"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"google.golang.org/api/option"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/store"
	"github.com/latamctl/latamctl/pkg/telemetry/roundtrip"
)

// answer is what the scripted server says to one MutateRows call.
type answer struct {
	// rows are the statuses of rows by key; a key that is not there gets no entry at all.
	rows map[string]codes.Code
	// end is how the stream ends.
	end error
	// hang keeps the stream open until the caller gives up.
	hang bool
}

// scriptedServer answers each call as its script says and remembers the keys of the calls.
type scriptedServer struct {
	bigtablepb.UnimplementedBigtableServer
	script func(call int, keys []string) answer

	mu    sync.Mutex
	calls [][]string
}

func (s *scriptedServer) MutateRows(req *bigtablepb.MutateRowsRequest, stream bigtablepb.Bigtable_MutateRowsServer) error {
	var keys []string
	for _, e := range req.GetEntries() {
		keys = append(keys, string(e.GetRowKey()))
	}
	s.mu.Lock()
	call := len(s.calls)
	s.calls = append(s.calls, keys)
	s.mu.Unlock()
	a := s.script(call, keys)
	resp := &bigtablepb.MutateRowsResponse{}
	for i, key := range keys {
		if code, ok := a.rows[key]; ok {
			resp.Entries = append(resp.Entries, &bigtablepb.MutateRowsResponse_Entry{
				Index: int64(i), Status: &statuspb.Status{Code: int32(code), Message: "scripted"},
			})
		}
	}
	if len(resp.GetEntries()) > 0 {
		if err := stream.Send(resp); err != nil {
			return err
		}
	}
	if a.hang {
		<-stream.Context().Done()
	}
	return a.end
}

// PingAndWarm is what a client asks of each connection that it dials itself.
func (s *scriptedServer) PingAndWarm(context.Context, *bigtablepb.PingAndWarmRequest) (*bigtablepb.PingAndWarmResponse, error) {
	return &bigtablepb.PingAndWarmResponse{}, nil
}

func (s *scriptedServer) seen() [][]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

// serve opens a client on a server of its own in this process.
func serve(t *testing.T, server bigtablepb.BigtableServer, opts store.Options) *store.Client {
	t.Helper()
	pipe := bufconn.Listen(1 << 20)
	g := grpc.NewServer(grpc.MaxRecvMsgSize(256 << 20))
	bigtablepb.RegisterBigtableServer(g, server)
	go func() { _ = g.Serve(pipe) }()
	t.Cleanup(g.Stop)
	conn, err := grpc.NewClient("passthrough:///scripted",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return pipe.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	opts.Project, opts.Instance = "p", "i"
	opts.Client = []option.ClientOption{option.WithGRPCConn(conn)}
	c, err := store.Open(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func rowsOf(keys ...string) []dataset.Row {
	var rows []dataset.Row
	for _, key := range keys {
		rows = append(rows, dataset.Row{Key: key, Time: time.UnixMilli(1), Cells: []dataset.Cell{{Column: "a", Value: []byte("v")}}})
	}
	return rows
}

// all gives every key the same status.
func all(keys []string, code codes.Code) map[string]codes.Code {
	rows := map[string]codes.Code{}
	for _, key := range keys {
		rows[key] = code
	}
	return rows
}

// kinds are the errors that callers tell apart; an outcome is exactly one of them, or none.
func checkKind(t *testing.T, what string, err, want error) {
	t.Helper()
	if want == nil {
		if err != nil {
			t.Errorf("%s: %v, want it committed", what, err)
		}
		return
	}
	for _, kind := range []error{store.ErrUnavailable, store.ErrPoison, store.ErrMisconfigured, store.ErrNotFound} {
		if is := errors.Is(err, kind); is != (kind == want) {
			t.Errorf("%s: %v; is %q: %v, want only %q", what, err, kind, is, want)
		}
	}
}

func TestPutClassifies(t *testing.T) {
	t.Parallel()
	refuse := func(code codes.Code) func(int, []string) answer {
		return func(int, []string) answer { return answer{end: status.Error(code, "scripted")} }
	}
	byRow := func(code codes.Code) func(int, []string) answer {
		return func(_ int, keys []string) answer {
			rows := all(keys, codes.OK)
			rows["b"] = code
			return answer{rows: rows}
		}
	}
	const short, long = 150 * time.Millisecond, 5 * time.Second
	cases := []struct {
		name    string
		timeout time.Duration
		script  func(call int, keys []string) answer
		// want is the kind of the rows a, b and c.
		want [3]error
		// calls is the number of requests, 0 for any.
		calls int
	}{
		{"all committed", long, func(_ int, keys []string) answer { return answer{rows: all(keys, codes.OK)} }, [3]error{}, 1},
		{"row refused", long, byRow(codes.InvalidArgument), [3]error{nil, store.ErrPoison, nil}, 1},
		{"row out of range", long, byRow(codes.OutOfRange), [3]error{nil, store.ErrPoison, nil}, 1},
		{"row without its family", long, byRow(codes.NotFound), [3]error{nil, store.ErrMisconfigured, nil}, 1},
		{"row failed for an unknown reason", long, byRow(codes.Internal), [3]error{nil, store.ErrUnavailable, nil}, 1},
		{"row over a quota", long, byRow(codes.ResourceExhausted), [3]error{nil, store.ErrUnavailable, nil}, 1},
		{"two rows, two reasons", long, func(int, []string) answer {
			return answer{rows: map[string]codes.Code{"a": codes.InvalidArgument, "b": codes.PermissionDenied, "c": codes.OK}}
		}, [3]error{store.ErrPoison, store.ErrMisconfigured, nil}, 1},
		{"row aborted once", long, func(call int, keys []string) answer {
			rows := all(keys, codes.OK)
			if call == 0 {
				rows["b"] = codes.Aborted
			}
			return answer{rows: rows}
		}, [3]error{}, 2},
		{"row without an answer", long, func(_ int, keys []string) answer {
			rows := all(keys, codes.OK)
			delete(rows, "b")
			return answer{rows: rows}
		}, [3]error{nil, store.ErrUnavailable, nil}, 1},
		{"no answers at all", long, func(int, []string) answer { return answer{} },
			[3]error{store.ErrUnavailable, store.ErrUnavailable, store.ErrUnavailable}, 1},
		{"stream cut after some answers", long, func(call int, keys []string) answer {
			if call == 0 {
				return answer{rows: map[string]codes.Code{"a": codes.OK}, end: status.Error(codes.Unavailable, "cut")}
			}
			return answer{rows: all(keys, codes.OK)}
		}, [3]error{}, 2},
		{"stream always cut after all answers", short, func(_ int, keys []string) answer {
			return answer{rows: all(keys, codes.OK), end: status.Error(codes.Unavailable, "cut")}
		}, [3]error{store.ErrUnavailable, store.ErrUnavailable, store.ErrUnavailable}, 0},
		{"unavailable twice", long, func(call int, keys []string) answer {
			if call < 2 {
				return answer{end: status.Error(codes.Unavailable, "scripted")}
			}
			return answer{rows: all(keys, codes.OK)}
		}, [3]error{}, 3},
		{"unavailable for ever", short, refuse(codes.Unavailable), [3]error{store.ErrUnavailable, store.ErrUnavailable, store.ErrUnavailable}, 0},
		{"quota exhausted", short, refuse(codes.ResourceExhausted), [3]error{store.ErrUnavailable, store.ErrUnavailable, store.ErrUnavailable}, 0},
		{"internal", short, refuse(codes.Internal), [3]error{store.ErrUnavailable, store.ErrUnavailable, store.ErrUnavailable}, 0},
		{"table not found", long, refuse(codes.NotFound), [3]error{store.ErrMisconfigured, store.ErrMisconfigured, store.ErrMisconfigured}, 1},
		{"not allowed", long, refuse(codes.PermissionDenied), [3]error{store.ErrMisconfigured, store.ErrMisconfigured, store.ErrMisconfigured}, 1},
		{"no credentials", long, refuse(codes.Unauthenticated), [3]error{store.ErrMisconfigured, store.ErrMisconfigured, store.ErrMisconfigured}, 1},
		{"precondition", long, refuse(codes.FailedPrecondition), [3]error{store.ErrMisconfigured, store.ErrMisconfigured, store.ErrMisconfigured}, 1},
		{"every row refused by the request", long, refuse(codes.InvalidArgument), [3]error{store.ErrPoison, store.ErrPoison, store.ErrPoison}, 5},
		{"no answer in time", short, func(int, []string) answer { return answer{hang: true} },
			[3]error{store.ErrUnavailable, store.ErrUnavailable, store.ErrUnavailable}, 1},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			server := &scriptedServer{script: tc.script}
			c := serve(t, server, store.Options{CommitTimeout: tc.timeout})
			errs := c.Put(t.Context(), "t", rowsOf("a", "b", "c"))
			if len(errs) != 3 {
				t.Fatalf("%d outcomes for 3 rows", len(errs))
			}
			for i, key := range []string{"a", "b", "c"} {
				checkKind(t, "row "+key, errs[i], tc.want[i])
			}
			if calls := server.seen(); tc.calls != 0 && len(calls) != tc.calls {
				t.Errorf("%d requests, want %d: %q", len(calls), tc.calls, calls)
			}
		})
	}
}

// TestPutSaysWhenItIsTooMuch checks that load is told from an outage, of a row and of a request.
func TestPutSaysWhenItIsTooMuch(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name      string
		answer    func(keys []string) answer
		exhausted bool
	}{
		{"row over a quota", func(keys []string) answer { return answer{rows: all(keys, codes.ResourceExhausted)} }, true},
		{"request over a quota", func([]string) answer { return answer{end: status.Error(codes.ResourceExhausted, "scripted")} }, true},
		{"row failed", func(keys []string) answer { return answer{rows: all(keys, codes.Internal)} }, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c := serve(t, &scriptedServer{script: func(_ int, keys []string) answer { return tc.answer(keys) }}, store.Options{CommitTimeout: time.Second})
			err := c.Put(t.Context(), "t", rowsOf("a"))[0]
			if !errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrExhausted) != tc.exhausted {
				t.Errorf("error %v; exhausted: %v, want %v with ErrUnavailable", err, errors.Is(err, store.ErrExhausted), tc.exhausted)
			}
		})
	}
}

// TestPutDeadline checks that a caller can tell a timeout from a refusal.
func TestPutDeadline(t *testing.T) {
	t.Parallel()
	c := serve(t, &scriptedServer{script: func(int, []string) answer { return answer{hang: true} }},
		store.Options{CommitTimeout: 20 * time.Millisecond})
	start := time.Now()
	err := c.Put(t.Context(), "t", rowsOf("a"))[0]
	if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("error %v, want ErrUnavailable by context.DeadlineExceeded", err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("gave up after %v, the limit is 20ms", took)
	}
}

// TestPutFindsRowAtFault checks that a request refused for one row costs that row only, and about
// two requests for each halving.
func TestPutFindsRowAtFault(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 2, 3, 7, 64, 500} {
		for _, at := range []int{0, n / 2, n - 1} {
			server := &scriptedServer{script: func(_ int, keys []string) answer {
				if slices.Contains(keys, "bad") {
					return answer{end: status.Error(codes.InvalidArgument, "one of the rows is bad")}
				}
				return answer{rows: all(keys, codes.OK)}
			}}
			keys := make([]string, n)
			for i := range keys {
				keys[i] = fmt.Sprint("row", i)
			}
			keys[at] = "bad"
			c := serve(t, server, store.Options{})
			for i, err := range c.Put(t.Context(), "t", rowsOf(keys...)) {
				want := error(nil)
				if i == at {
					want = store.ErrPoison
				}
				checkKind(t, fmt.Sprintf("%d rows, bad at %d: row %d", n, at, i), err, want)
			}
			calls := server.seen()
			if most := 1 + 2*bits.Len(uint(n-1)); len(calls) > most {
				t.Errorf("%d rows, bad at %d: %d requests, want at most %d", n, at, len(calls), most)
			}
			committed := map[string]int{}
			for _, call := range calls {
				if !slices.Contains(call, "bad") {
					for _, key := range call {
						committed[key]++
					}
				}
			}
			if len(committed) != n-1 {
				t.Errorf("%d rows, bad at %d: %d rows written, want %d", n, at, len(committed), n-1)
			}
		}
	}
}

// TestPutSplitsLargeWrites checks that no request carries more mutations than Bigtable takes, and
// that a bad row is still found in a write of several requests.
func TestPutSplitsLargeWrites(t *testing.T) {
	t.Parallel()
	const limit = 100_000
	server := &countingServer{}
	c := serve(t, server, store.Options{CommitTimeout: 30 * time.Second})
	wide := make([]dataset.Cell, 3000)
	for i := range wide {
		wide[i] = dataset.Cell{Column: fmt.Sprint("c", i)}
	}
	rows := rowsOf(make([]string, 70)...)
	for i := range rows {
		rows[i].Key, rows[i].Cells = fmt.Sprint("row", i), wide
	}
	rows[40].Key = "bad"
	for i, err := range c.Put(t.Context(), "t", rows) {
		want := error(nil)
		if i == 40 {
			want = store.ErrPoison
		}
		checkKind(t, fmt.Sprint("row ", i), err, want)
	}
	if most := slices.Max(server.mutations); most > limit {
		t.Errorf("a request had %d mutations, the limit is %d", most, limit)
	}
}

// countingServer takes everything but a row with the key "bad".
type countingServer struct {
	bigtablepb.UnimplementedBigtableServer
	mutations []int
}

func (s *countingServer) MutateRows(req *bigtablepb.MutateRowsRequest, stream bigtablepb.Bigtable_MutateRowsServer) error {
	n, bad := 0, false
	resp := &bigtablepb.MutateRowsResponse{}
	for i, e := range req.GetEntries() {
		n += len(e.GetMutations())
		bad = bad || string(e.GetRowKey()) == "bad"
		resp.Entries = append(resp.Entries, &bigtablepb.MutateRowsResponse_Entry{Index: int64(i), Status: &statuspb.Status{}})
	}
	s.mutations = append(s.mutations, n) // Put sends one request at a time.
	if bad {
		return status.Error(codes.InvalidArgument, "one of the rows is bad")
	}
	return stream.Send(resp)
}

// TestPutSendsIdempotentMutations looks at the request itself: whatever is sent twice must be the
// same cell.
func TestPutSendsIdempotentMutations(t *testing.T) {
	t.Parallel()
	server := &recordingServer{}
	c := serve(t, server, store.Options{})
	row := dataset.Row{Key: "k", Time: time.UnixMilli(1234).Add(567 * time.Microsecond), Cells: []dataset.Cell{{Column: "a", Value: []byte("v")}, {Column: "b"}}}
	if err := c.Put(t.Context(), "t", []dataset.Row{row})[0]; err != nil {
		t.Fatal(err)
	}
	if len(server.mutations) != len(row.Cells) {
		t.Fatalf("%d mutations for %d cells", len(server.mutations), len(row.Cells))
	}
	for i, m := range server.mutations {
		set := m.GetSetCell()
		if set == nil || set.GetTimestampMicros() != 1_234_000 || set.GetFamilyName() != dataset.Family || string(set.GetColumnQualifier()) != row.Cells[i].Column {
			t.Errorf("mutation %d is %v, want SetCell of %s at the event's millisecond", i, m, row.Cells[i].Column)
		}
	}
}

type recordingServer struct {
	bigtablepb.UnimplementedBigtableServer
	mutations []*bigtablepb.Mutation
}

func (s *recordingServer) MutateRows(req *bigtablepb.MutateRowsRequest, stream bigtablepb.Bigtable_MutateRowsServer) error {
	s.mutations = req.GetEntries()[0].GetMutations()
	return stream.Send(&bigtablepb.MutateRowsResponse{Entries: []*bigtablepb.MutateRowsResponse_Entry{{Status: &statuspb.Status{}}}})
}

// TestUnreachable dials a server that is not there.
func TestUnreachable(t *testing.T) {
	t.Parallel()
	conn, err := grpc.NewClient("passthrough:///nowhere", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return nil, io.ErrClosedPipe }))
	if err != nil {
		t.Fatal(err)
	}
	c, err := store.Open(t.Context(), store.Options{
		Project: "p", Instance: "i", CommitTimeout: 50 * time.Millisecond, Client: []option.ClientOption{option.WithGRPCConn(conn)},
	})
	if err != nil {
		t.Fatalf("open: %v, want success: only Ping asks", err)
	}
	t.Cleanup(func() { _ = c.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	checkKind(t, "ping", c.Ping(ctx, "t"), store.ErrUnavailable)
	checkKind(t, "put", c.Put(t.Context(), "t", rowsOf("a"))[0], store.ErrUnavailable)
}

func TestOptions(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string]store.Options{
		"no project":               {Instance: "i"},
		"no instance":              {Project: "p"},
		"commit timeout too short": {Project: "p", Instance: "i", CommitTimeout: time.Millisecond},
		"negative pool":            {Project: "p", Instance: "i", Pool: -1},
		"large pool":               {Project: "p", Instance: "i", Pool: 257},
	} {
		if c, err := store.Open(t.Context(), opts); err == nil {
			t.Errorf("%s: opened", name)
			_ = c.Close()
		}
	}
	if err := (store.Options{Project: "p", Instance: "i"}).Defaults().Validate(); err != nil {
		t.Errorf("defaults: %v", err)
	}
}

// TestMetrics checks that each call is timed, with the kind of its error.
func TestMetrics(t *testing.T) {
	t.Parallel()
	reader := sdkmetric.NewManualReader()
	meter := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)).Meter("")
	server := &scriptedServer{script: func(call int, keys []string) answer {
		if call == 0 {
			return answer{rows: all(keys, codes.OK)}
		}
		return answer{end: status.Error(codes.NotFound, "scripted")}
	}}
	c := serve(t, server, store.Options{Meter: meter})
	c.Put(t.Context(), "t", rowsOf("a"))
	c.Put(t.Context(), "t", rowsOf("a"))
	var got metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &got); err != nil {
		t.Fatal(err)
	}
	m := got.ScopeMetrics[0].Metrics[0]
	counts := map[string]uint64{}
	for _, point := range m.Data.(metricdata.Histogram[float64]).DataPoints {
		table, _ := point.Attributes.Value("db.collection.name")
		operation, _ := point.Attributes.Value("db.operation.name")
		errorType, _ := point.Attributes.Value("error.type")
		counts[fmt.Sprint(table.AsString(), " ", operation.AsString(), " ", errorType.AsString())] = point.Count
	}
	if m.Name != "db.client.operation.duration" || counts["t mutate_rows "] != 1 || counts["t mutate_rows misconfigured"] != 1 {
		t.Errorf("metric %s counts %v, want one success and one misconfigured", m.Name, counts)
	}
}

// TestPutIsTimed dials as one dials Google Cloud: what a request took is known, and the client's
// pause before it tried again is no part of it.
func TestPutIsTimed(t *testing.T) {
	t.Parallel()
	server := &scriptedServer{script: func(call int, keys []string) answer {
		if call < 4 {
			return answer{end: status.Error(codes.Unavailable, "scripted")}
		}
		return answer{rows: all(keys, codes.OK)}
	}}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer()
	bigtablepb.RegisterBigtableServer(g, server)
	go func() { _ = g.Serve(listener) }()
	t.Cleanup(g.Stop)
	c, err := store.Open(t.Context(), store.Options{Project: "p", Instance: "i", Pool: 1, Client: []option.ClientOption{
		option.WithEndpoint("passthrough:///" + listener.Addr().String()), option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())),
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	ctx, times := roundtrip.Watch(t.Context())
	began := time.Now()
	if err := c.Put(ctx, "t", rowsOf("a"))[0]; err != nil {
		t.Fatal(err)
	}
	whole := time.Since(began)
	took, known := times.Slowest()
	if !known || took <= 0 || took > whole/2 || times.Made() != 5 {
		t.Errorf("%d requests, the slowest %v (known: %v) of %v; want 5, and the time without pauses", times.Made(), took, known, whole)
	}
}
