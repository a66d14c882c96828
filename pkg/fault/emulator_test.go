//go:build fault

package fault_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/bigtable/apiv2/bigtablepb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	"github.com/latamctl/latamctl/pkg/testkit/rpcfault"
)

// emulators are Google's of the Cloud SDK, for one test. The program reaches Bigtable through faulty,
// which breaks its writes.
type emulators struct {
	pubsub, bigtable, faulty string
	faults                   *rpcfault.Faults
}

// startEmulators starts both, or Bigtable alone; it skips the test where the Cloud SDK does not have
// them.
func startEmulators(t *testing.T, seed uint64, withPubsub bool) *emulators {
	t.Helper()
	root, err := exec.Command("gcloud", "info", "--format=value(installation.sdk_root)").Output()
	if err != nil {
		t.Skipf("the Cloud SDK is not installed: gcloud info: %v", err)
	}
	platform := filepath.Join(strings.TrimSpace(string(root)), "platform")
	e := &emulators{faults: rpcfault.New(seed, subscription)}
	if withPubsub {
		jars, _ := filepath.Glob(filepath.Join(platform, "pubsub-emulator", "lib", "cloud-pubsub-emulator-*-all.jar"))
		java, err := exec.LookPath("java")
		if len(jars) == 0 || err != nil {
			t.Skip("the Cloud SDK has no Pub/Sub emulator, or java is not installed")
		}
		e.pubsub = emulator(t, java, "-jar", jars[0], "--host=127.0.0.1", "--port=%s")
	}
	cbt := filepath.Join(platform, "bigtable-emulator", "cbtemulator")
	if _, err := os.Stat(cbt); err != nil {
		t.Skipf("the Cloud SDK has no Bigtable emulator: %v", err)
	}
	e.bigtable = emulator(t, cbt, "-host=127.0.0.1", "-port=%s")
	e.faulty = faultyBigtable(t, e.bigtable, e.faults)
	return e
}

// emulator starts a program on a free port, which takes the place of the last argument's verb.
func emulator(t *testing.T, name string, args ...string) (addr string) {
	t.Helper()
	addr = freeAddr(t)
	_, port, _ := net.SplitHostPort(addr)
	args[len(args)-1] = fmt.Sprintf(args[len(args)-1], port)
	background(t, name, args...)
	eventually(t, 60*time.Second, func() (bool, string) {
		conn, err := net.DialTimeout("tcp", addr, time.Second)
		if err != nil {
			return false, err.Error()
		}
		return conn.Close() == nil, ""
	})
	return addr
}

func background(t *testing.T, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
}

// frame is a message that is passed on unread.
type frame struct{ data []byte }

// frameCodec passes frames on and reads every other message.
type frameCodec struct{}

func (frameCodec) Name() string { return "proto" }

func (frameCodec) Marshal(v any) ([]byte, error) {
	if f, ok := v.(*frame); ok {
		return f.data, nil
	}
	return proto.Marshal(v.(proto.Message))
}

func (frameCodec) Unmarshal(data []byte, v any) error {
	if f, ok := v.(*frame); ok {
		f.data = append([]byte(nil), data...)
		return nil
	}
	return proto.Unmarshal(data, v.(proto.Message))
}

// faultyBigtable passes calls on to a Bigtable, writes through the faults.
func faultyBigtable(t *testing.T, upstream string, faults *rpcfault.Faults) string {
	t.Helper()
	const most = 256 << 20
	conn, err := grpc.NewClient(upstream, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(frameCodec{}), grpc.MaxCallRecvMsgSize(most), grpc.MaxCallSendMsgSize(most)))
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(append(faults.ServerOptions(), grpc.ForceServerCodec(frameCodec{}), grpc.MaxRecvMsgSize(most), grpc.MaxSendMsgSize(most),
		grpc.UnknownServiceHandler(func(_ any, in grpc.ServerStream) error { return passOn(conn, in) }))...)
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: "google.bigtable.v2.Bigtable", HandlerType: (*any)(nil),
		Streams: []grpc.StreamDesc{{StreamName: "MutateRows", ServerStreams: true, Handler: func(_ any, in grpc.ServerStream) error {
			req := &bigtablepb.MutateRowsRequest{}
			if err := in.RecvMsg(req); err != nil {
				return err
			}
			out, err := bigtablepb.NewBigtableClient(conn).MutateRows(in.Context(), req)
			if err != nil {
				return err
			}
			for {
				res, err := out.Recv()
				if errors.Is(err, io.EOF) {
					return nil
				}
				if err == nil {
					err = in.SendMsg(res)
				}
				if err != nil {
					return err
				}
			}
		}}},
	}, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { server.Stop(); _ = conn.Close() })
	return l.Addr().String()
}

// passOn connects a call with one of the same method upstream.
func passOn(conn *grpc.ClientConn, in grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(in)
	ctx, cancel := context.WithCancel(in.Context())
	defer cancel()
	out, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method)
	if err != nil {
		return err
	}
	go func() {
		for {
			f := &frame{}
			if in.RecvMsg(f) != nil {
				_ = out.CloseSend()
				return
			}
			if out.SendMsg(f) != nil {
				return
			}
		}
	}()
	for {
		f := &frame{}
		if err := out.RecvMsg(f); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := in.SendMsg(f); err != nil {
			return err
		}
	}
}

func emulatorRig(t *testing.T, withPubsub bool) *rig {
	t.Helper()
	if testing.Short() {
		t.Skip("the emulators take a while to start")
	}
	seed := newSeed(t)
	return newRig(t, rigOptions{seed: seed, emulator: startEmulators(t, seed, withPubsub)})
}

// TestEmulatorsF01 kills ingest on Google's Bigtable emulator. That of Pub/Sub keeps messages leased
// for ever to a stream that was cut, and so has no part in it.
func TestEmulatorsF01(t *testing.T) {
	t.Parallel()
	r := emulatorRig(t, false)
	kills := 8
	atPoints := r.killUnderLoad(2000, kills, r.mixed())
	r.ingest()
	r.settle()
	r.verdict("emulators F1", fmt.Sprintf("kills=%d kills_at_failpoints=%d", kills, atPoints))
}

// TestEmulatorsF03 breaks the writes to Google's emulator.
func TestEmulatorsF03(t *testing.T) {
	t.Parallel()
	r := emulatorRig(t, true)
	faults := r.opts.emulator.faults
	faults.SetWrites(rpcfault.Writes{
		Ambiguous: 0.20, Late: 0.05, Rows: 0.10, RowCodes: []codes.Code{codes.Aborted, codes.Internal, codes.ResourceExhausted},
	})
	r.ingest()
	r.publishAll(2000, r.mixed()...)
	r.settleTo()
	c := faults.Counts()
	r.verdict("emulators F3", fmt.Sprintf("calls=%d ambiguous=%d late=%d rows_refused=%d", c.Calls, c.Ambiguous, c.Late, c.RowsRefused))
	if c.Ambiguous == 0 || c.RowsRefused == 0 {
		t.Errorf("a fault did not happen: %+v", c)
	}
}

// TestEmulatorsF08 publishes poison to Google's emulators.
func TestEmulatorsF08(t *testing.T) {
	t.Parallel()
	r := emulatorRig(t, true)
	p := r.ingest()
	l := poisonous(r.opts.seed, 0.01, 50_000)
	for range 200 {
		r.publish(l.batch(5))
	}
	r.settleTo()
	p.alive()
	r.verdict("emulators F8")
}

// TestEmulatorsF10 stops ingest under load on Google's emulators.
func TestEmulatorsF10(t *testing.T) {
	t.Parallel()
	r := emulatorRig(t, true)
	loads := r.mixed()
	slowest := time.Duration(0)
	for range 5 {
		before := r.opts.emulator.faults.Counts().RowsApplied
		p := r.ingest()
		var publishing sync.WaitGroup
		publishing.Go(func() { r.publishAll(400, loads...) })
		eventually(t, 60*time.Second, func() (bool, string) {
			n := r.opts.emulator.faults.Counts().RowsApplied - before
			return n > int64(r.rng.IntN(200)), fmt.Sprintf("%d rows stored", n)
		})
		slowest = max(slowest, p.drain(drainLimit))
		publishing.Wait()
	}
	r.ingest()
	r.settleTo()
	r.verdict("emulators F10", fmt.Sprintf("stops=5 slowest_drain_s=%.2f", slowest.Seconds()))
}
