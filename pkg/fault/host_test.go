//go:build fault

package fault_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"github.com/latamctl/latamctl/pkg/engine/cellstore"
	"github.com/latamctl/latamctl/pkg/engine/topiclog"
	"github.com/latamctl/latamctl/pkg/testkit/rpcfault"
)

// hostOptions say where the engines run.
type hostOptions struct {
	Dir              string // "" keeps everything in memory
	Pubsub, Bigtable string // addresses
	Stats            string // address of the figures, "" for none
	Seed             uint64
	now              func() time.Time
}

// host is a Pub/Sub and a Bigtable on loopback ports, with faults in between.
type host struct {
	topics           *topiclog.Server
	cells            *cellstore.Server
	faults           *rpcfault.Faults
	pubsub, bigtable string
	servers          []*grpc.Server
}

// hostStats are the figures of a host.
type hostStats struct {
	// Backlog are the messages of each subscription that are not acknowledged.
	Backlog map[string]int64
	Counts  rpcfault.Counts
}

// never keeps the engine from collecting cells that a check has to count.
const never = -1

func openHost(o hostOptions) (*host, error) {
	h := &host{faults: rpcfault.New(o.Seed, subscription)}
	topicDir, cellDir := "", ""
	if o.Dir != "" {
		topicDir, cellDir = filepath.Join(o.Dir, "topics"), filepath.Join(o.Dir, "cells")
	}
	var err error
	if h.topics, err = topiclog.Open(topiclog.Options{Dir: topicDir, Now: o.now}); err != nil {
		return nil, err
	}
	if h.cells, err = cellstore.Open(cellstore.Options{Dir: cellDir, Now: o.now, GCInterval: never}); err != nil {
		return nil, err
	}
	if h.pubsub, err = h.serve(h.topics.Register, o.Pubsub); err != nil {
		return nil, err
	}
	h.bigtable, err = h.serve(h.cells.Register, o.Bigtable)
	return h, err
}

func (h *host) serve(register func(grpc.ServiceRegistrar), addr string) (string, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return "", err
	}
	server := grpc.NewServer(append(h.faults.ServerOptions(),
		grpc.MaxRecvMsgSize(cellstore.MaxMessageBytes), grpc.MaxSendMsgSize(cellstore.MaxMessageBytes),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true}))...)
	register(server)
	h.servers = append(h.servers, server)
	go func() { _ = server.Serve(l) }()
	return l.Addr().String(), nil
}

func (h *host) close() error {
	for _, s := range h.servers {
		s.Stop()
	}
	return errors.Join(h.topics.Close(), h.cells.Close())
}

func (h *host) stats() hostStats {
	s := hostStats{Backlog: map[string]int64{}, Counts: h.faults.Counts()}
	for _, sub := range h.topics.Stats().Subscriptions {
		s.Backlog[path.Base(sub.Subscription)] = sub.BacklogMessages
	}
	return s
}

// runEngine is a host as a process of its own. It ends with its parent.
func runEngine(options string) error {
	var o hostOptions
	if err := json.Unmarshal([]byte(options), &o); err != nil {
		return err
	}
	h, err := openHost(o)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", o.Stats)
	if err != nil {
		return err
	}
	go func() {
		_ = http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(h.stats()) }))
	}()
	fmt.Fprintln(os.Stderr, engineReady)
	_, err = io.Copy(io.Discard, os.Stdin) // It ends when the parent does.
	return errors.Join(err, h.close())
}

const engineReady = `{"msg":"engine ready"}`
