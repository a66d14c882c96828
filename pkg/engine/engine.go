// Package engine gives the rest of the program a Pub/Sub and a Bigtable to dial: servers of its
// own in this process, Google's emulators, or Google Cloud. Callers use Google's client libraries
// with the options it returns and cannot tell which one it is.
package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"time"

	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/test/bufconn"

	"github.com/latamctl/latamctl/pkg/engine/cellstore"
	"github.com/latamctl/latamctl/pkg/engine/rowcodec"
	"github.com/latamctl/latamctl/pkg/engine/topiclog"
	"github.com/latamctl/latamctl/pkg/telemetry/roundtrip"
)

// Kind says where Pub/Sub and Bigtable run.
type Kind string

// The kinds.
const (
	Embedded Kind = "embedded" // in this process, on disk
	Memory   Kind = "memory"   // in this process, without files
	Emulator Kind = "emulator" // Google's emulators, at the addresses given
	GCP      Kind = "gcp"      // Google Cloud, with the default credentials
)

// Kinds lists the kinds in the order to show them.
func Kinds() []Kind { return []Kind{Embedded, Memory, Emulator, GCP} }

// Options say which engine to start.
type Options struct {
	Kind Kind
	// Dir is the folder of the embedded engine's data.
	Dir string
	// PubsubAddr and BigtableAddr are host:port. The in-process engines listen there ("" does not
	// listen, port 0 picks a free one); for emulators they are the ones to dial, and an empty one
	// leaves that side without client options.
	PubsubAddr, BigtableAddr string
	Log                      *slog.Logger
}

// Validate says what is missing.
func (o Options) Validate() error {
	switch {
	case !slices.Contains(Kinds(), o.Kind):
		return fmt.Errorf("engine %q is not one of %v", o.Kind, Kinds())
	case o.Kind == Embedded && o.Dir == "":
		return errors.New("engine embedded: no data folder is set")
	case o.Kind == Emulator && o.PubsubAddr == "" && o.BigtableAddr == "":
		return errors.New("engine emulator: neither PUBSUB_EMULATOR_HOST nor BIGTABLE_EMULATOR_HOST is set")
	}
	return nil
}

// Engine is a started engine.
type Engine struct {
	Kind Kind
	// Pubsub and Bigtable are the options to open Google's clients with.
	Pubsub, Bigtable []option.ClientOption
	// PubsubAddr and BigtableAddr are the bound or dialled addresses, empty where there is none.
	PubsubAddr, BigtableAddr string

	// redialPubsub dials one more connection to a Pub/Sub on this machine.
	redialPubsub func() (*grpc.ClientConn, error)

	topics *topiclog.Server
	cells  *cellstore.Server
	stops  []func() error
}

// Start starts the engine; Close ends it. Google Cloud and emulators are not asked anything yet.
func Start(ctx context.Context, opts Options) (*Engine, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	e := &Engine{Kind: opts.Kind}
	var err error
	switch opts.Kind {
	case Embedded, Memory:
		err = e.startServers(ctx, opts)
	case Emulator:
		err = e.dialEmulators(opts)
	case GCP:
		soon := option.WithGRPCDialOption(grpc.WithConnectParams(reconnect()))
		patient := option.WithGRPCDialOption(grpc.WithChainStreamInterceptor(patientPull))
		e.Pubsub, e.Bigtable = []option.ClientOption{soon, patient}, []option.ClientOption{soon}
	}
	if err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return e, nil
}

// Close ends connections first and servers after them, in the reverse order of their start.
func (e *Engine) Close() error {
	var errs []error
	for _, stop := range slices.Backward(e.stops) {
		errs = append(errs, stop())
	}
	e.stops = nil
	return errors.Join(errs...)
}

// RedialPubsub returns options that open a client on a connection of its own, which the client closes.
func (e *Engine) RedialPubsub() ([]option.ClientOption, error) {
	if e.redialPubsub == nil {
		return e.Pubsub, nil // Google's clients dial anew each time.
	}
	conn, err := e.redialPubsub()
	if err != nil {
		return nil, fmt.Errorf("dial pub/sub: %w", err)
	}
	return []option.ClientOption{option.WithGRPCConn(conn)}, nil
}

func (e *Engine) onClose(stop func() error) { e.stops = append(e.stops, stop) }

func (e *Engine) dialEmulators(opts Options) error {
	e.PubsubAddr, e.BigtableAddr = opts.PubsubAddr, opts.BigtableAddr
	if opts.PubsubAddr != "" {
		e.redialPubsub = func() (*grpc.ClientConn, error) { return grpc.NewClient(opts.PubsubAddr, dialOptions()...) }
	}
	for _, side := range []struct {
		addr string
		to   *[]option.ClientOption
	}{{opts.PubsubAddr, &e.Pubsub}, {opts.BigtableAddr, &e.Bigtable}} {
		if side.addr == "" {
			continue
		}
		conn, err := grpc.NewClient(side.addr, dialOptions()...)
		if err != nil {
			return fmt.Errorf("dial emulator %s: %w", side.addr, err)
		}
		e.use(conn, side.to)
	}
	return nil
}

func (e *Engine) use(conn *grpc.ClientConn, to *[]option.ClientOption) {
	*to = []option.ClientOption{option.WithGRPCConn(conn)}
	e.onClose(func() error {
		_ = conn.Close() // A client that was closed before has closed it already.
		return nil
	})
}

// service is one of the servers in this process.
type service interface {
	Register(grpc.ServiceRegistrar)
	Close() error
}

func (e *Engine) startServers(ctx context.Context, opts Options) error {
	topicDir, cellDir := "", ""
	if opts.Kind == Embedded {
		dirs, err := e.openDir(opts.Dir)
		if err != nil {
			return err
		}
		topicDir, cellDir = dirs.topics, dirs.cells
	}
	var err error
	if e.topics, err = topiclog.Open(topiclog.Options{Dir: topicDir, Log: opts.Log}); err != nil {
		return fmt.Errorf("open topic log: %w", err)
	}
	if e.PubsubAddr, err = e.serve(ctx, e.topics, opts.PubsubAddr, &e.Pubsub); err != nil {
		return fmt.Errorf("serve pub/sub: %w", err)
	}
	if e.cells, err = cellstore.Open(cellstore.Options{Dir: cellDir, Log: opts.Log}); err != nil {
		return fmt.Errorf("open cell store: %w", err)
	}
	if e.BigtableAddr, err = e.serve(ctx, e.cells, opts.BigtableAddr, &e.Bigtable); err != nil {
		return fmt.Errorf("serve bigtable: %w", err)
	}
	return nil
}

const (
	maxMessageBytes = 256 << 20 // what Google's Bigtable client sends and receives at most
	pipeBytes       = 1 << 20
	// windowBytes lets a page of rows go without a wait for the reader to ask for more.
	windowBytes = 1 << 20
	stopTimeout = 2 * time.Second
)

// serve offers a service on an in-process pipe, and on addr for other programs when it is set.
func (e *Engine) serve(ctx context.Context, svc service, addr string, to *[]option.ClientOption) (bound string, err error) {
	e.onClose(svc.Close)
	server := grpc.NewServer(
		grpc.MaxRecvMsgSize(maxMessageBytes), grpc.MaxSendMsgSize(maxMessageBytes),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true}),
		grpc.ForceServerCodecV2(rowcodec.New()), grpc.InitialWindowSize(windowBytes), grpc.InitialConnWindowSize(windowBytes),
	)
	svc.Register(server)
	pipe := bufconn.Listen(pipeBytes)
	go func() { _ = server.Serve(pipe) }()
	if addr != "" {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
		if err != nil {
			server.Stop()
			return "", fmt.Errorf("listen on %s: %w", addr, err)
		}
		bound = l.Addr().String()
		go func() { _ = server.Serve(l) }()
	}
	e.onClose(func() error { stop(server); return nil })
	dial := func() (*grpc.ClientConn, error) {
		return grpc.NewClient("passthrough:///"+"in-process", append(dialOptions(),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return pipe.DialContext(ctx) }))...)
	}
	if to == &e.Pubsub {
		e.redialPubsub = dial
	}
	conn, err := dial()
	if err != nil {
		return "", fmt.Errorf("dial the in-process server: %w", err)
	}
	e.use(conn, to)
	return bound, nil
}

// reconnect bounds the pause before a connection that failed is tried again: with gRPC's own bound of
// two minutes a service would stay away long after the network is back.
func reconnect() grpc.ConnectParams {
	return grpc.ConnectParams{
		Backoff:           backoff.Config{BaseDelay: 200 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 3 * time.Second},
		MinConnectTimeout: 5 * time.Second,
	}
}

// patientPull lets the opening of a StreamingPull wait for the connection. Google's client would open it
// again itself, after pauses that have grown to half a minute by the time the network is back.
func patientPull(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	if method == "/google.pubsub.v1.Subscriber/StreamingPull" {
		opts = append(opts, grpc.WaitForReady(true))
	}
	return open(ctx, desc, conn, method, opts...)
}

func dialOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithConnectParams(reconnect()), grpc.WithChainStreamInterceptor(patientPull, roundtrip.Interceptor),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessageBytes), grpc.MaxCallSendMsgSize(maxMessageBytes), grpc.ForceCodecV2(rowcodec.New())),
		grpc.WithInitialWindowSize(windowBytes), grpc.WithInitialConnWindowSize(windowBytes),
	}
}

// stop lets calls finish for a moment; a stream that a client keeps open must not hold up the exit.
func stop(server *grpc.Server) {
	timer := time.AfterFunc(stopTimeout, server.Stop)
	defer timer.Stop()
	server.GracefulStop()
}
