package cellstore

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/bigtable/admin/apiv2/adminpb"
	"cloud.google.com/go/bigtable/apiv2/bigtablepb"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"
)

// methods lists every method of the registered services.
func methods(t *testing.T) []protoreflect.MethodDescriptor {
	var out []protoreflect.MethodDescriptor
	for _, name := range []protoreflect.FullName{
		"google.bigtable.v2.Bigtable", "google.bigtable.admin.v2.BigtableTableAdmin", "google.bigtable.admin.v2.BigtableInstanceAdmin",
	} {
		d, err := protoregistry.GlobalFiles.FindDescriptorByName(name)
		if err != nil {
			t.Fatal(err)
		}
		ms := d.(protoreflect.ServiceDescriptor).Methods()
		for i := range ms.Len() {
			out = append(out, ms.Get(i))
		}
	}
	return out
}

func methodPath(m protoreflect.MethodDescriptor) string {
	return fmt.Sprintf("/%s/%s", m.Parent().FullName(), m.Name())
}

// call sends one request to a method, whatever its kind, and drains the answer.
func call(ctx context.Context, conn *grpc.ClientConn, m protoreflect.MethodDescriptor, req proto.Message) error {
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, methodPath(m))
	if err != nil {
		return err
	}
	if err := stream.SendMsg(req); err != nil && err != io.EOF {
		return err
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	for {
		if err := stream.RecvMsg(dynamicpb.NewMessage(m.Output())); err != nil {
			if err == io.EOF {
				return nil
			}
			return err
		}
	}
}

// scramble fills a message with values that are odd, or nearly right.
func scramble(rng *rand.Rand, m protoreflect.Message, depth int) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if rng.IntN(3) == 0 || depth <= 0 && f.Message() != nil {
			continue
		}
		switch {
		case f.IsMap():
			k, v := oddScalar(rng, f.MapKey()).MapKey(), m.Mutable(f).Map().NewValue()
			if f.MapValue().Message() != nil {
				scramble(rng, v.Message(), depth-1)
			} else {
				v = oddScalar(rng, f.MapValue())
			}
			m.Mutable(f).Map().Set(k, v)
		case f.IsList():
			for range rng.IntN(4) {
				v := m.Mutable(f).List().NewElement()
				if f.Message() != nil {
					scramble(rng, v.Message(), depth-1)
				} else {
					v = oddScalar(rng, f)
				}
				m.Mutable(f).List().Append(v)
			}
		case f.Message() != nil:
			scramble(rng, m.Mutable(f).Message(), depth-1)
		default:
			m.Set(f, oddScalar(rng, f))
		}
	}
}

func oddScalar(rng *rand.Rand, f protoreflect.FieldDescriptor) protoreflect.Value {
	texts := []string{"", "d", "t", testParent, tableNamed("t"), "\x00", "(", "\\", "a:b", strings.Repeat("é", 3000), "gc_rule", "TokenFor-" + tableNamed("t")}
	ints := []int64{0, 1, -1, 1000, -1 << 31, 1<<31 - 1, 7}
	n := ints[rng.IntN(len(ints))]
	switch f.Kind() {
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(texts[rng.IntN(len(texts))])
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte(append(texts, "\xff\xff")[rng.IntN(len(texts)+1)]))
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(n > 0)
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(n % 10))
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return protoreflect.ValueOfInt32(int32(n))
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return protoreflect.ValueOfUint32(uint32(n))
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return protoreflect.ValueOfInt64(n << (rng.IntN(2) * 31))
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return protoreflect.ValueOfUint64(uint64(n))
	case protoreflect.FloatKind:
		return protoreflect.ValueOfFloat32(float32(n))
	default:
		return protoreflect.ValueOfFloat64(float64(n) / 3)
	}
}

// No request, to any method, panics or hangs, and what is not served says so by
// name.
func TestOddRequests(t *testing.T) {
	t.Parallel()
	e := serve(t, Options{})
	rng := rand.New(rand.NewPCG(3, 4))
	unimplemented := 0
	for _, m := range methods(t) {
		err := call(testContext(t), e.conn, m, dynamicpb.NewMessage(m.Input()))
		if status.Code(err) == codes.Unimplemented {
			unimplemented++
			if !strings.Contains(err.Error(), string(m.Name())) {
				t.Errorf("%s: %v does not name the method", m.Name(), err)
			}
			continue
		}
		for range 300 {
			if _, _, err := e.s.lookup(tableNamed("t")); err != nil {
				e.createTable("t", map[string]*adminpb.ColumnFamily{"d": family1(versions(2)), "s": sumFamily()})
			}
			req := dynamicpb.NewMessage(m.Input())
			scramble(rng, req, 6)
			for _, name := range []protoreflect.Name{"table_name", "name"} {
				if f := m.Input().Fields().ByName(name); f != nil && f.Kind() == protoreflect.StringKind && rng.IntN(4) > 0 {
					req.Set(f, protoreflect.ValueOfString(tableNamed("t")))
				}
			}
			for _, name := range []protoreflect.Name{"authorized_view_name", "materialized_view_name"} {
				if f := m.Input().Fields().ByName(name); f != nil && rng.IntN(8) > 0 {
					req.Clear(f)
				}
			}
			switch code := status.Code(call(testContext(t), e.conn, m, req)); code {
			case codes.Internal, codes.Unknown, codes.DeadlineExceeded, codes.Unavailable, codes.DataLoss:
				t.Errorf("%s: code %v for %.300v", m.Name(), code, req)
			}
		}
	}
	if unimplemented == 0 {
		t.Error("no method is unimplemented: the list of methods is wrong")
	}
}

// A cancelled read ends the scan.
func TestReadCancelled(t *testing.T) {
	t.Parallel()
	e := serve(t, Options{})
	e.createTable("bench", fams("d"))
	for i := range 20 {
		if err := e.sendBatch(benchBatch(i*1000, 1000)); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	stream, err := e.data.ReadRows(ctx, &bigtablepb.ReadRowsRequest{TableName: tableNamed("bench")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	cancel()
	for err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.Canceled {
		t.Errorf("error %v", err)
	}
	e.s.mu.RLock()
	db := e.s.db
	e.s.mu.RUnlock()
	waitFor(t, "the scan to let go of the database", func() bool {
		db.mu.Lock()
		defer db.mu.Unlock()
		return db.users == 0
	})
}

// Reversed reads are for clients that announce them, padded or not.
func TestReverseNeedsFeature(t *testing.T) {
	t.Parallel()
	e := serve(t, Options{})
	e.createTable("t", fams("d"))
	for _, tt := range []struct {
		features string
		code     codes.Code
	}{
		{"", codes.Unimplemented}, {"!", codes.Unimplemented}, {"CAE=", codes.OK}, {"CAE", codes.OK}, {"CAA=", codes.Unimplemented},
	} {
		ctx := metadata.AppendToOutgoingContext(testContext(t), "bigtable-features", tt.features)
		stream, err := e.data.ReadRows(ctx, &bigtablepb.ReadRowsRequest{TableName: tableNamed("t"), Reversed: true})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != io.EOF && status.Code(err) != tt.code || err == io.EOF && tt.code != codes.OK {
			t.Errorf("features %q: %v, want %v", tt.features, err, tt.code)
		}
	}
}

// A scan that finds nothing reports how far it is to clients that ask for it.
func TestScanReports(t *testing.T) {
	t.Parallel()
	sent := []string{}
	r := &rowReader{reports: true, out: chunkWriter{send: func(res *bigtablepb.ReadRowsResponse) error {
		sent = append(sent, string(res.LastScannedRowKey))
		return nil
	}}}
	for i := range 2*scanReport + 1 {
		r.scan.key = fmt.Append(nil, i+1)
		if err := r.skipped(0); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]string{fmt.Sprint(scanReport), fmt.Sprint(2 * scanReport)}, sent); diff != "" {
		t.Error(diff)
	}
}

// Google's own command-line client works against a TCP listener.
func TestCBT(t *testing.T) {
	t.Parallel()
	cbt, err := exec.LookPath("cbt")
	if err != nil {
		t.Skip("cbt is not on PATH")
	}
	s := open(t, Options{})
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer(ServerOptions()...)
	s.Register(g)
	go func() { _ = g.Serve(lis) }()
	t.Cleanup(func() {
		g.Stop()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	home := t.TempDir()
	for _, step := range []struct{ args, want string }{
		{"createtable flights families=d:maxversions=2", ""},
		{"ls flights", "versions() > 2"},
		{"set flights SCL#1 d:delay=42", ""},
		{"read flights prefix=SCL count=1", "SCL#1"},
		{"lookup flights SCL#1", "42"},
		{"count flights", "1"},
		{"listinstances", testInstance},
		{"deletetable flights", ""},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		cmd := exec.CommandContext(ctx, cbt, append([]string{"-project", testProject, "-instance", testInstance}, strings.Fields(step.args)...)...)
		cmd.Env = append(os.Environ(), "BIGTABLE_EMULATOR_HOST="+lis.Addr().String(), "HOME="+home,
			"PATH="+home) // without gcloud, which it would ask for an account every time
		out, err := cmd.CombinedOutput()
		cancel()
		if err != nil || !strings.Contains(string(out), step.want) {
			t.Fatalf("cbt %s: %v, want %q in:\n%s", step.args, err, step.want, out)
		}
	}
}
