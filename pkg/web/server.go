package web

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"
)

// Deps are what a server works with. Only Handler is required.
type Deps struct {
	Handler http.Handler
	Log     *slog.Logger
	// Meter records http.server.request.duration and latam.errors; nil records nothing.
	Meter metric.Meter
	// Tracer makes one server span per request; nil makes none, yet the caller's trace context still travels.
	Tracer trace.Tracer
	Now    func() time.Time
	// OnDrain is called first when the server begins to drain, to switch readiness off.
	OnDrain func()
}

func (d Deps) defaults() Deps {
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	if d.Meter == nil {
		d.Meter = metricnoop.NewMeterProvider().Meter("")
	}
	if d.Tracer == nil {
		d.Tracer = tracenoop.NewTracerProvider().Tracer("")
	}
	if d.Now == nil {
		d.Now = time.Now
	}
	if d.OnDrain == nil {
		d.OnDrain = func() {}
	}
	return d
}

// Server is one listener with its handler.
type Server struct {
	opts     Options
	deps     Deps
	http     *http.Server
	listener *cappedListener
	draining atomic.Bool
}

// Listen checks the options and opens the listener. Connections wait in the kernel's queue until Run.
func Listen(ctx context.Context, opts Options, deps Deps) (*Server, error) {
	opts, deps = opts.Defaults(), deps.defaults()
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	if deps.Handler == nil {
		return nil, errors.New("web: handler is not set")
	}
	s := &Server{opts: opts, deps: deps}
	handler, err := Harden(opts, deps)
	if err != nil {
		return nil, err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", opts.Addr)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", opts.Addr, err)
	}
	s.listener = &cappedListener{Listener: l, limit: int64(opts.MaxConns), log: deps.Log, now: deps.Now}
	s.http = s.newHTTPServer(context.WithoutCancel(ctx), handler)
	return s, nil
}

func (s *Server) newHTTPServer(base context.Context, handler http.Handler) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if s.draining.Load() {
				w.Header().Set("Connection", "close")
			}
			handler.ServeHTTP(w, r)
		}),
		ReadHeaderTimeout:            s.opts.ReadHeaderTimeout,
		ReadTimeout:                  s.opts.ReadTimeout,
		WriteTimeout:                 s.opts.WriteTimeout,
		IdleTimeout:                  s.opts.IdleTimeout,
		MaxHeaderBytes:               s.opts.MaxHeaderBytes,
		DisableGeneralOptionsHandler: true,
		Protocols:                    protocols,
		ErrorLog:                     slog.NewLogLogger(s.deps.Log.Handler(), slog.LevelDebug),
		// Requests outlive the signal that ends the server: they are drained, not cut.
		BaseContext: func(net.Listener) context.Context { return base },
	}
}

// Addr is the address with the real port.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Refused is the number of connections closed at the cap since the start.
func (s *Server) Refused() int64 { return s.listener.refused.Load() }

// Close ends a server that never ran.
func (s *Server) Close() error { return s.listener.Close() }

// Run serves until ctx ends, then drains: readiness off, DrainDelay, no new connections, wait for
// the running requests. It returns nil when all of them ended within DrainTimeout.
func (s *Server) Run(ctx context.Context) error {
	served := make(chan error, 1)
	go func() { served <- s.http.Serve(s.listener) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve %s: %w", s.Addr(), err)
	case <-ctx.Done():
	}
	err := s.drain(context.WithoutCancel(ctx), served)
	<-served //nolint:errcheck // It always says that the server was closed, on purpose.
	return err
}

func (s *Server) drain(ctx context.Context, served chan error) error {
	s.draining.Store(true)
	s.deps.OnDrain()
	if s.opts.DrainDelay > 0 {
		select {
		case <-time.After(s.opts.DrainDelay):
		case err := <-served:
			served <- err
			return fmt.Errorf("serve %s: %w", s.Addr(), err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, s.opts.DrainTimeout)
	defer cancel()
	if err := s.http.Shutdown(ctx); err != nil {
		_ = s.http.Close()
		return fmt.Errorf("drain %s: requests still ran after %s and were cut: %w", s.Addr(), s.opts.DrainTimeout, err)
	}
	return nil
}
