// Package web is the hardened HTTP server under the data API and the admin endpoints: limits,
// connection cap, drain, request ids, traces, metrics, panic recovery, routing, and one shape of
// error (RFC 9457 problem details) whose codes are all listed in one table.
package web

import (
	"errors"
	"fmt"
	"time"
)

// Options are the limits of one listener. The zero value of a field means its default.
type Options struct {
	// Addr is the address to listen on; port 0 picks a free one.
	Addr string
	// ReadHeaderTimeout bounds the time a client may take to send the request's headers. Default 5s.
	ReadHeaderTimeout time.Duration
	// ReadTimeout bounds the time a client may take to send the whole request. Default 10s.
	ReadTimeout time.Duration
	// WriteTimeout bounds the time from the end of the headers to the end of the response. Default 15s.
	WriteTimeout time.Duration
	// IdleTimeout closes a kept-alive connection without requests. Default 60s; it has to be longer
	// than the keep-alive of a load balancer in front (Google's is 600s).
	IdleTimeout time.Duration
	// MaxHeaderBytes bounds the request line and headers, answered with 431. Default 16 KiB; net/http adds 4 KiB.
	MaxHeaderBytes int
	// MaxHeaders bounds the number of header lines, answered with 431. Default 128.
	MaxHeaders int
	// MaxURLBytes bounds the request target, answered with 414. Default 8 KiB.
	MaxURLBytes int
	// MaxBodyBytes bounds a request's body, answered with 413. Default 1 MiB.
	MaxBodyBytes int64
	// MaxConns is the number of open connections; further ones are closed at once. Default 1024.
	MaxConns int
	// DrainDelay keeps accepting after readiness went off, so that load balancers notice. Default 0.
	DrainDelay time.Duration
	// DrainTimeout bounds the wait for running requests at the end. Default 10s.
	DrainTimeout time.Duration
	// LocalHostsOnly refuses requests whose Host is not localhost, a loopback address or one of
	// AllowedHosts, with 403. It keeps the pages of other sites out of a listener that asks nobody
	// for credentials because only this machine reaches it.
	LocalHostsOnly bool
	// AllowedHosts are names without a port, such as api.example.com.
	AllowedHosts []string
}

// Defaults fills in what is not set.
func (o Options) Defaults() Options {
	setDuration(&o.ReadHeaderTimeout, 5*time.Second)
	setDuration(&o.ReadTimeout, 10*time.Second)
	setDuration(&o.WriteTimeout, 15*time.Second)
	setDuration(&o.IdleTimeout, 60*time.Second)
	setDuration(&o.DrainTimeout, 10*time.Second)
	setInt(&o.MaxHeaderBytes, 16<<10)
	setInt(&o.MaxHeaders, 128)
	setInt(&o.MaxURLBytes, 8<<10)
	setInt(&o.MaxConns, 1024)
	if o.MaxBodyBytes == 0 {
		o.MaxBodyBytes = 1 << 20
	}
	return o
}

// AdminDefaults are the limits of the admin listener: few connections, and writes that may last as
// long as a CPU profile.
func AdminDefaults(addr string) Options {
	return Options{Addr: addr, MaxConns: 64, WriteTimeout: 2 * time.Minute, DrainTimeout: 2 * time.Second}.Defaults()
}

// Validate says what is missing or out of range.
func (o Options) Validate() error {
	var errs []error
	if o.Addr == "" {
		errs = append(errs, errors.New("address is not set"))
	}
	for _, d := range []struct {
		name       string
		value, min time.Duration
	}{
		{"read header timeout", o.ReadHeaderTimeout, time.Millisecond},
		{"read timeout", o.ReadTimeout, time.Millisecond},
		{"write timeout", o.WriteTimeout, time.Millisecond},
		{"idle timeout", o.IdleTimeout, time.Millisecond},
		{"drain timeout", o.DrainTimeout, time.Millisecond},
		{"drain delay", o.DrainDelay, 0},
	} {
		if d.value < d.min || d.value > time.Hour {
			errs = append(errs, fmt.Errorf("%s %s is not in %s..1h", d.name, d.value, d.min))
		}
	}
	for _, n := range []struct {
		name            string
		value, min, max int64
	}{
		{"max header bytes", int64(o.MaxHeaderBytes), 1 << 10, 1 << 20},
		{"max headers", int64(o.MaxHeaders), 8, 10_000},
		{"max URL bytes", int64(o.MaxURLBytes), 256, 64 << 10},
		{"max body bytes", o.MaxBodyBytes, 1, 1 << 30},
		{"max connections", int64(o.MaxConns), 1, 1 << 20},
	} {
		if n.value < n.min || n.value > n.max {
			errs = append(errs, fmt.Errorf("%s %d is not in %d..%d", n.name, n.value, n.min, n.max))
		}
	}
	errs = append(errs, checkAllowedHosts(o.AllowedHosts))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("web: %w", err)
	}
	return nil
}

func setDuration(d *time.Duration, value time.Duration) {
	if *d == 0 {
		*d = value
	}
}

func setInt(n *int, value int) {
	if *n == 0 {
		*n = value
	}
}
