package topiclog

import (
	"context"
	"crypto/rand"
	"fmt"
	"math"
	"strings"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// Seek moves a subscription to a time or to a snapshot. Ack ids given before
// it settle nothing afterwards.
func (b *subscriber) Seek(_ context.Context, req *pubsubpb.SeekRequest) (*pubsubpb.SeekResponse, error) {
	if err := b.enter(); err != nil {
		return nil, err
	}
	defer b.life.RUnlock()
	sub, err := b.subscription(req.GetSubscription())
	if err != nil {
		return nil, err
	}
	_, t := sub.config()
	if t == nil {
		return nil, errDetached(sub.name)
	}
	switch target := req.GetTarget().(type) {
	case *pubsubpb.SeekRequest_Time:
		err = b.seekTime(sub, t, target.Time)
	case *pubsubpb.SeekRequest_Snapshot:
		err = b.seekSnapshot(sub, t, target.Snapshot)
	default:
		err = invalid("A seek needs a time or a snapshot.")
	}
	if err != nil {
		return nil, err
	}
	if err := b.flush(sub, true); err != nil {
		return nil, storageStatus(err)
	}
	return &pubsubpb.SeekResponse{}, nil
}

func (s *Server) seekTime(sub *subscription, t *topic, to *timestamppb.Timestamp) error {
	if err := to.CheckValid(); err != nil {
		return invalid("The time of the seek: %v", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := sub.seekTime(clampNanos(to.AsTime())); err != nil {
		return storageStatus(err)
	}
	return nil
}

// clampNanos keeps times that do not fit into nanoseconds at the ends.
func clampNanos(t time.Time) int64 {
	switch {
	case t.Before(time.Unix(0, math.MinInt64)):
		return math.MinInt64
	case t.After(time.Unix(0, math.MaxInt64)):
		return math.MaxInt64
	}
	return t.UnixNano()
}

// seekTime acknowledges what was published before to. What came later is
// unacknowledged again if it was retained; otherwise it stays as it is. The
// caller holds the topic's mutex.
func (s *subscription) seekTime(to int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.topic.log
	kept, err := s.keptFrom()
	if err != nil {
		return err
	}
	target, err := l.seqAt(to)
	if err != nil {
		return err
	}
	s.generation++
	for s.first != nil && s.first.time < to {
		s.remove(s.first)
	}
	from := max(target, kept)
	switch {
	case target >= s.next:
		s.clear()
		s.next = target
	case from < s.next:
		for s.last != nil && s.last.seq >= from {
			s.remove(s.last)
		}
		s.next = from
		s.resetEntries()
	default:
		s.resetEntries()
	}
	s.changed()
	s.wakeReady()
	return nil
}

// keptFrom is the first number whose message a seek may bring back although it
// was acknowledged. What is newer was kept by the same setting.
func (s *subscription) keptFrom() (uint64, error) {
	l := s.topic.log
	now := s.opts.Now().UnixNano()
	first, _ := l.bounds()
	kept := uint64(math.MaxUint64)
	if s.cfg.GetRetainAckedMessages() {
		seq, err := l.seqAt(s.cutoff(now))
		if err != nil {
			return 0, err
		}
		kept = max(seq, s.created, first)
	}
	if r := s.topic.retention(); r > 0 {
		seq, err := l.seqAt(now - int64(r))
		if err != nil {
			return 0, err
		}
		kept = min(kept, max(seq, first))
	}
	return kept, nil
}

// resetEntries makes every unacknowledged message deliverable at once, as if
// for the first time.
func (s *subscription) resetEntries() {
	entries := make([]*entry, 0, len(s.entries))
	for e := s.first; e != nil; e = e.next {
		entries = append(entries, e)
	}
	s.clear()
	for _, old := range entries {
		e := s.add(old.seq, old.bytes, old.time)
		if old.key == nil || !s.enterKey(e, old.key.key) {
			s.makeReady(e)
		}
	}
}

func (s *Server) seekSnapshot(sub *subscription, t *topic, name string) error {
	if err := checkName(name, "snapshots"); err != nil {
		return err
	}
	s.mu.RLock()
	sn := s.snaps[name]
	s.mu.RUnlock()
	if sn == nil || !sn.cfg.GetExpireTime().AsTime().After(s.opts.Now()) {
		return notFound(name)
	}
	if sn.topic != t {
		return invalid("The snapshot %s is of another topic than the subscription %s.", name, sub.name)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	state := sn.state
	state.generation = sub.nextGeneration()
	if err := sub.restore(state); err != nil {
		return storageStatus(err)
	}
	sub.notify()
	return nil
}

func (s *subscription) nextGeneration() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.generation + 1
}

func (b *subscriber) CreateSnapshot(_ context.Context, req *pubsubpb.CreateSnapshotRequest) (*pubsubpb.Snapshot, error) {
	if err := b.enter(); err != nil {
		return nil, err
	}
	defer b.life.RUnlock()
	sub, err := b.subscription(req.GetSubscription())
	if err != nil {
		return nil, err
	}
	name := req.GetName()
	if name == "" {
		name = fmt.Sprintf("projects/%s/snapshots/s%s", strings.Split(sub.name, "/")[1], strings.ToLower(rand.Text()))
	}
	if err := checkName(name, "snapshots"); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.snaps[name] != nil {
		return nil, alreadyExists(name)
	}
	_, t := sub.config()
	if t == nil {
		return nil, errDetached(sub.name)
	}
	return b.addSnapshot(&pubsubpb.Snapshot{Name: name, Topic: t.name, Labels: req.GetLabels()}, sub, t)
}

// addSnapshot captures the place of a subscription. The caller holds s.mu.
func (s *Server) addSnapshot(cfg *pubsubpb.Snapshot, sub *subscription, t *topic) (*pubsubpb.Snapshot, error) {
	t.mu.Lock()
	state, oldest, err := sub.capture()
	if err != nil {
		t.mu.Unlock()
		return nil, storageStatus(err)
	}
	now := s.opts.Now()
	life := snapshotLife
	if oldest != 0 {
		life -= max(now.Sub(time.Unix(0, oldest)), 0)
	}
	if life < minSnapshotLife {
		t.mu.Unlock()
		return nil, status.Errorf(codes.FailedPrecondition, "The snapshot would expire in %v, because the backlog of %s is that old.", life, sub.name)
	}
	cfg.ExpireTime = timestamppb.New(now.Add(life))
	s.uid++
	sn := &snapshot{uid: s.uid, topic: t, state: state, cfg: cfg}
	t.snaps = append(t.snaps, sn)
	t.mu.Unlock()
	s.snaps[cfg.GetName()] = sn
	if err := s.save(); err != nil {
		delete(s.snaps, cfg.GetName())
		t.forget(sn)
		return nil, err
	}
	return cfg, nil
}

// capture returns the state and the publish time of the oldest unacknowledged
// message, 0 without one.
func (s *subscription) capture() (st cursorState, oldest int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st = s.state()
	for i := range st.runs {
		st.runs[i].attempts = 0
	}
	oldest, err = s.oldest()
	return st, oldest, err
}

// oldest returns the publish time of the oldest unacknowledged message, before
// filters, 0 without one. The caller holds s.mu.
func (s *subscription) oldest() (int64, error) {
	if s.first != nil {
		return s.first.time, nil
	}
	if s.topic == nil {
		return 0, nil
	}
	first, end := s.topic.log.bounds()
	if next := max(s.next, first); next < end {
		return s.topic.log.timeOf(next)
	}
	return 0, nil
}

func (t *topic) forget(sn *snapshot) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, o := range t.snaps {
		if o == sn {
			t.snaps = append(t.snaps[:i:i], t.snaps[i+1:]...)
			return
		}
	}
}

func (b *subscriber) GetSnapshot(_ context.Context, req *pubsubpb.GetSnapshotRequest) (*pubsubpb.Snapshot, error) {
	if err := checkName(req.GetSnapshot(), "snapshots"); err != nil {
		return nil, err
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	sn := b.snaps[req.GetSnapshot()]
	if sn == nil {
		return nil, notFound(req.GetSnapshot())
	}
	return sn.describe(), nil
}

func (sn *snapshot) describe() *pubsubpb.Snapshot {
	if !sn.topic.deleted.Load() {
		return sn.cfg
	}
	cfg := proto.CloneOf(sn.cfg)
	cfg.Topic = deletedTopic
	return cfg
}

func (b *subscriber) ListSnapshots(_ context.Context, req *pubsubpb.ListSnapshotsRequest) (*pubsubpb.ListSnapshotsResponse, error) {
	prefix, err := checkProject(req.GetProject(), "snapshots")
	if err != nil {
		return nil, err
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	names, next, err := page(keysWithPrefix(b.snaps, prefix), req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	res := &pubsubpb.ListSnapshotsResponse{NextPageToken: next}
	for _, n := range names {
		res.Snapshots = append(res.Snapshots, b.snaps[n].describe())
	}
	return res, nil
}

func (b *subscriber) UpdateSnapshot(_ context.Context, req *pubsubpb.UpdateSnapshotRequest) (*pubsubpb.Snapshot, error) {
	if err := b.enter(); err != nil {
		return nil, err
	}
	defer b.life.RUnlock()
	in := req.GetSnapshot()
	if err := checkName(in.GetName(), "snapshots"); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	sn := b.snaps[in.GetName()]
	if sn == nil {
		return nil, notFound(in.GetName())
	}
	old := sn.cfg
	cfg := proto.CloneOf(old)
	paths := req.GetUpdateMask().GetPaths()
	if len(paths) == 0 {
		return nil, invalid("The update_mask in the UpdateSnapshotRequest must be set, and must contain a non-empty paths list.")
	}
	for _, path := range paths {
		switch path {
		case "labels":
			cfg.Labels = in.GetLabels()
		case "expire_time":
			if err := b.checkExpireTime(in.GetExpireTime()); err != nil {
				return nil, err
			}
			cfg.ExpireTime = in.GetExpireTime()
		default:
			return nil, invalid("Invalid update_mask provided in the UpdateSnapshotRequest: %q is not a field that can be changed.", path)
		}
	}
	sn.cfg = cfg
	if err := b.save(); err != nil {
		sn.cfg = old
		return nil, err
	}
	return sn.describe(), nil
}

func (s *Server) checkExpireTime(t *timestamppb.Timestamp) error {
	now := s.opts.Now()
	if !t.IsValid() || t.AsTime().Before(now) || t.AsTime().After(now.Add(snapshotLife)) {
		return invalid("expire_time must be within 7 days from now.")
	}
	return nil
}

func (b *subscriber) DeleteSnapshot(_ context.Context, req *pubsubpb.DeleteSnapshotRequest) (*emptypb.Empty, error) {
	if err := b.enter(); err != nil {
		return nil, err
	}
	defer b.life.RUnlock()
	if err := checkName(req.GetSnapshot(), "snapshots"); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	sn := b.snaps[req.GetSnapshot()]
	if sn == nil {
		return nil, notFound(req.GetSnapshot())
	}
	delete(b.snaps, req.GetSnapshot())
	if err := b.save(); err != nil {
		b.snaps[req.GetSnapshot()] = sn
		return nil, err
	}
	sn.topic.forget(sn)
	return &emptypb.Empty{}, b.dropOrphans()
}

// dropSnapshots deletes the expired ones.
func (s *Server) dropSnapshots(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	dropped := false
	for name, sn := range s.snaps {
		if !sn.cfg.GetExpireTime().AsTime().After(now) {
			delete(s.snaps, name)
			sn.topic.forget(sn)
			dropped = true
		}
	}
	if !dropped {
		return
	}
	if err := s.save(); err != nil {
		s.opts.Log.Warn("drop expired snapshots", "error", err)
	}
	if err := s.dropOrphans(); err != nil {
		s.opts.Log.Warn("drop expired snapshots", "error", err)
	}
}
