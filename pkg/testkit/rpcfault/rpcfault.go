// Package rpcfault breaks the gRPC calls of a Bigtable and a Pub/Sub server from within, for tests: a
// write that is applied and answered with an error, rows that fail one by one, calls that are late, a
// topic that takes nothing. It also counts what passes. Only tests import it.
package rpcfault

import (
	"context"
	"math/rand/v2"
	"path"
	"sync"
	"time"

	"cloud.google.com/go/bigtable/apiv2/bigtablepb"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// Writes say how often a MutateRows goes wrong, each a share from 0 to 1. The zero value is none.
type Writes struct {
	// Ambiguous calls are applied and then answered with Unavailable.
	Ambiguous float64
	// Late calls are answered with DeadlineExceeded, every second one after it was applied.
	Late float64
	// Rows are refused one by one with one of RowCodes, and not applied.
	Rows     float64
	RowCodes []codes.Code
	// Slow calls take Delay longer.
	Slow  float64
	Delay time.Duration
}

// Counts are what has passed since the start.
type Counts struct {
	// Calls are MutateRows, Ambiguous and Late those of them that went wrong that way.
	Calls, Ambiguous, Late int64
	// RowsAsked are rows of all calls, RowsRefused those that were refused, RowsApplied those stored.
	RowsAsked, RowsRefused, RowsApplied int64
	// Delivered are deliveries of the watched subscription, Redelivered those of a message that had
	// been delivered before.
	Delivered, Redelivered int64
	// PublishesRefused are publishes to a topic that takes nothing.
	PublishesRefused int64
}

// Faults are those of one server pair. Its methods may be used concurrently.
type Faults struct {
	watched string // a subscription's id

	mu      sync.Mutex
	rng     *rand.Rand
	writes  Writes
	refused map[string]codes.Code // by topic id
	seen    map[string]bool       // message ids of the watched subscription
	counts  Counts
	late    int64
}

// New returns faults that are all off. Watched is the id of the subscription whose deliveries count.
func New(seed uint64, watched string) *Faults {
	return &Faults{
		watched: watched, rng: rand.New(rand.NewPCG(seed, 0)),
		refused: map[string]codes.Code{}, seen: map[string]bool{},
	}
}

// SetWrites changes how writes go wrong.
func (f *Faults) SetWrites(w Writes) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.writes = w
}

// RefusePublishes makes a topic answer publishes with a code; codes.OK ends that.
func (f *Faults) RefusePublishes(topic string, code codes.Code) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refused[topic] = code
}

// Counts returns what has passed.
func (f *Faults) Counts() Counts {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.counts
}

// ServerOptions put the faults into a server.
func (f *Faults) ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{grpc.ChainUnaryInterceptor(f.unary), grpc.ChainStreamInterceptor(f.stream)}
}

func (f *Faults) unary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if publish, ok := req.(*pubsubpb.PublishRequest); ok {
		f.mu.Lock()
		code := f.refused[path.Base(publish.GetTopic())]
		if code != codes.OK {
			f.counts.PublishesRefused += int64(len(publish.GetMessages()))
		}
		f.mu.Unlock()
		if code != codes.OK {
			return nil, status.Error(code, "refused by a test")
		}
	}
	return handler(ctx, req)
}

func (f *Faults) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	switch path.Base(info.FullMethod) {
	case "MutateRows":
		return f.mutateRows(srv, ss, handler)
	case "StreamingPull":
		return handler(srv, &pullStream{ServerStream: ss, faults: f})
	}
	return handler(srv, ss)
}

// fate is what happens to one MutateRows.
type fate struct {
	delay           time.Duration
	ambiguous, late bool
	apply           bool
	writes          Writes
}

func (f *Faults) decide() fate {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.counts.Calls++
	w := f.writes
	d := fate{apply: true, writes: w}
	if f.rng.Float64() < w.Slow {
		d.delay = w.Delay
	}
	switch at := f.rng.Float64(); {
	case at < w.Ambiguous:
		d.ambiguous = true
		f.counts.Ambiguous++
	case at < w.Ambiguous+w.Late:
		d.late = true
		f.counts.Late++
		f.late++
		d.apply = f.late%2 == 0
	}
	return d
}

func (f *Faults) mutateRows(srv any, ss grpc.ServerStream, handler grpc.StreamHandler) error {
	d := f.decide()
	if d.delay > 0 {
		t := time.NewTimer(d.delay)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ss.Context().Done():
		}
	}
	if !d.apply {
		return status.Error(codes.DeadlineExceeded, "not applied: a test")
	}
	m := &mutateStream{ServerStream: ss, faults: f, fate: d}
	if err := handler(srv, m); err != nil {
		return err
	}
	switch {
	case d.ambiguous:
		return status.Error(codes.Unavailable, "applied, and then lost: a test")
	case d.late:
		return status.Error(codes.DeadlineExceeded, "applied too late: a test")
	}
	return m.answerRest()
}

// mutateStream takes rows out of a request and puts their refusals into the answer.
type mutateStream struct {
	grpc.ServerStream
	faults *Faults
	fate   fate
	kept   []int64 // the place in the request of the rows that the server gets
	rest   []*bigtablepb.MutateRowsResponse_Entry
}

// RecvMsg implements grpc.ServerStream.
func (m *mutateStream) RecvMsg(msg any) error {
	if err := m.ServerStream.RecvMsg(msg); err != nil {
		return err
	}
	req, ok := msg.(*bigtablepb.MutateRowsRequest)
	if !ok {
		return nil
	}
	f, w := m.faults, m.fate.writes
	f.mu.Lock()
	defer f.mu.Unlock()
	f.counts.RowsAsked += int64(len(req.GetEntries()))
	var kept []*bigtablepb.MutateRowsRequest_Entry
	for i, e := range req.GetEntries() {
		// The server takes no request without a row, so the last one stays when all others went.
		last := i == len(req.GetEntries())-1 && len(kept) == 0
		if !last && len(w.RowCodes) > 0 && f.rng.Float64() < w.Rows {
			code := w.RowCodes[f.rng.IntN(len(w.RowCodes))]
			m.rest = append(m.rest, &bigtablepb.MutateRowsResponse_Entry{
				Index: int64(i), Status: &spb.Status{Code: int32(code), Message: "row refused by a test"},
			})
			continue
		}
		kept = append(kept, e)
		m.kept = append(m.kept, int64(i))
	}
	req.Entries = kept
	f.counts.RowsRefused += int64(len(m.rest))
	return nil
}

// SendMsg implements grpc.ServerStream.
func (m *mutateStream) SendMsg(msg any) error {
	res, ok := msg.(*bigtablepb.MutateRowsResponse)
	if !ok {
		return m.ServerStream.SendMsg(msg)
	}
	applied := int64(0)
	for _, e := range res.GetEntries() {
		if e.GetStatus().GetCode() == int32(codes.OK) {
			applied++
		}
	}
	m.faults.mu.Lock()
	m.faults.counts.RowsApplied += applied
	m.faults.mu.Unlock()
	if m.fate.ambiguous || m.fate.late {
		return nil
	}
	answer, ok := proto.Clone(res).(*bigtablepb.MutateRowsResponse)
	if !ok {
		return m.ServerStream.SendMsg(msg)
	}
	for _, e := range answer.GetEntries() {
		e.Index = m.kept[e.GetIndex()]
	}
	return m.ServerStream.SendMsg(answer)
}

// answerRest sends the refusals.
func (m *mutateStream) answerRest() error {
	if len(m.rest) == 0 {
		return nil
	}
	return m.ServerStream.SendMsg(&bigtablepb.MutateRowsResponse{Entries: m.rest})
}

// pullStream counts deliveries.
type pullStream struct {
	grpc.ServerStream
	faults  *Faults
	watched bool
}

// RecvMsg implements grpc.ServerStream.
func (p *pullStream) RecvMsg(msg any) error {
	err := p.ServerStream.RecvMsg(msg)
	if req, ok := msg.(*pubsubpb.StreamingPullRequest); ok && err == nil && req.GetSubscription() != "" {
		p.faults.mu.Lock()
		p.watched = path.Base(req.GetSubscription()) == p.faults.watched
		p.faults.mu.Unlock()
	}
	return err
}

// SendMsg implements grpc.ServerStream.
func (p *pullStream) SendMsg(msg any) error {
	if res, ok := msg.(*pubsubpb.StreamingPullResponse); ok {
		p.count(res)
	}
	return p.ServerStream.SendMsg(msg)
}

func (p *pullStream) count(res *pubsubpb.StreamingPullResponse) {
	f := p.faults
	f.mu.Lock()
	defer f.mu.Unlock()
	if !p.watched {
		return
	}
	for _, m := range res.GetReceivedMessages() {
		f.counts.Delivered++
		if id := m.GetMessage().GetMessageId(); f.seen[id] {
			f.counts.Redelivered++
		} else {
			f.seen[id] = true
		}
	}
}
