package topiclog

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// metadataFile lists every resource. It is replaced in one step whenever one
// changes.
const metadataFile = "metadata.json"

const metadataFormat = 1

type metadata struct {
	Format        int            `json:"format"`
	Epoch         uint64         `json:"epoch"` // of the newest start, never repeated
	UID           uint64         `json:"uid"`   // of the newest resource
	Topics        []topicMeta    `json:"topics,omitempty"`
	Subscriptions []subMeta      `json:"subscriptions,omitempty"`
	Snapshots     []snapshotMeta `json:"snapshots,omitempty"`
	Schemas       []resource     `json:"schemas,omitempty"` // each revision; those of one schema from the oldest on
}

type topicMeta struct {
	UID     uint64   `json:"uid"`
	Deleted bool     `json:"deleted,omitempty"`
	Config  resource `json:"config"`
}

type subMeta struct {
	UID     uint64   `json:"uid"`
	Topic   uint64   `json:"topic,omitempty"` // uid, 0 once detached
	Created uint64   `json:"created"`
	Config  resource `json:"config"`
}

type snapshotMeta struct {
	UID    uint64   `json:"uid"`
	Topic  uint64   `json:"topic"`
	State  []byte   `json:"state"`
	Config resource `json:"config"`
}

// resource is a protobuf message as JSON.
type resource = json.RawMessage

// save writes the metadata durably. The caller holds s.mu.
func (s *Server) save() error {
	m := metadata{Format: metadataFormat, Epoch: s.epoch, UID: s.uid}
	var e encoder
	for _, t := range s.topics {
		m.Topics = append(m.Topics, topicMeta{t.uid, false, e.json(t.cfg.Load())})
	}
	for _, t := range s.orphan {
		m.Topics = append(m.Topics, topicMeta{t.uid, true, e.json(t.cfg.Load())})
	}
	for _, sub := range s.subs {
		cfg, t := sub.config()
		sm := subMeta{UID: sub.uid, Created: sub.created, Config: e.json(cfg)}
		if t != nil {
			sm.Topic = t.uid
		}
		m.Subscriptions = append(m.Subscriptions, sm)
	}
	for _, sn := range s.snaps {
		m.Snapshots = append(m.Snapshots, snapshotMeta{sn.uid, sn.topic.uid, sn.state.encode(0), e.json(sn.cfg)})
	}
	for _, revs := range s.schema {
		for _, rev := range revs {
			m.Schemas = append(m.Schemas, e.json(rev.config))
		}
	}
	b, err := json.Marshal(m)
	if err = errors.Join(e.err, err); err != nil {
		return status.Errorf(codes.Internal, "encode %s: %v", metadataFile, err)
	}
	if err := s.st.replace(metadataFile, b, true); err != nil {
		return storageStatus(fmt.Errorf("write %s: %w", metadataFile, err))
	}
	return nil
}

// encoder keeps the first error of many encodings.
type encoder struct{ err error }

func (e *encoder) json(m proto.Message) resource {
	b, err := protojson.Marshal(m)
	e.err = errors.Join(e.err, err)
	return b
}

// load reads the metadata, opens every log and restores every subscription,
// then starts a new epoch of message ids.
func (s *Server) load() error {
	b, err := readAll(s.st, "", metadataFile)
	if err != nil {
		return fmt.Errorf("read %s: %w", metadataFile, err)
	}
	m := metadata{Format: metadataFormat}
	if b != nil {
		if err := json.Unmarshal(b, &m); err != nil {
			return fmt.Errorf("read %s: %w", metadataFile, err)
		}
	}
	if m.Format != metadataFormat {
		return fmt.Errorf("%s has format %d, this program reads %d", metadataFile, m.Format, metadataFormat)
	}
	s.uid = m.UID
	byUID := map[uint64]*topic{}
	newest, err := s.loadTopics(m, byUID)
	if err != nil {
		return err
	}
	for _, load := range []func(metadata, map[uint64]*topic) error{s.loadSubscriptions, s.loadSnapshots, s.loadSchemas} {
		if err := load(m, byUID); err != nil {
			return err
		}
	}
	s.startEpoch(m.Epoch, newest)
	if err := s.save(); err != nil {
		return err
	}
	return s.dropLeftovers(byUID)
}

// startEpoch chooses ids above all that were ever given: the upper half of an
// id is the second of the start, or one more than any epoch known.
func (s *Server) startEpoch(known, newestID uint64) {
	s.epoch = max(uint64(max(s.opts.Now().Unix(), 1)), known+1, newestID>>32+1)
	s.ids.Store(s.epoch << 32)
}

func (s *Server) loadTopics(m metadata, byUID map[uint64]*topic) (newestID uint64, err error) {
	for _, tm := range m.Topics {
		cfg := &pubsubpb.Topic{}
		if err := protojson.Unmarshal(tm.Config, cfg); err != nil {
			return 0, fmt.Errorf("read a topic of %s: %w", metadataFile, err)
		}
		l, err := openLog(s.st, topicDir(tm.UID), s.opts, s.newIDs)
		if err != nil {
			return 0, fmt.Errorf("open topic %s: %w", cfg.GetName(), err)
		}
		t := newTopic(tm.UID, cfg, l, s.opts)
		byUID[t.uid] = t
		if tm.Deleted {
			t.deleted.Store(true)
			s.orphan = append(s.orphan, t)
		} else {
			s.topics[t.name] = t
		}
		id, err := l.newestID()
		if err != nil {
			return 0, fmt.Errorf("open topic %s: %w", cfg.GetName(), err)
		}
		newestID = max(newestID, id)
	}
	return newestID, nil
}

// newestID returns the id of the last stored message, 0 without one.
func (l *messageLog) newestID() (uint64, error) {
	first, end := l.bounds()
	if first == end {
		return 0, nil
	}
	m, err := l.read(&logReader{}, end-1)
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(m.pb.GetMessageId(), 10, 64)
}

func (s *Server) loadSubscriptions(m metadata, byUID map[uint64]*topic) error {
	for _, sm := range m.Subscriptions {
		cfg := &pubsubpb.Subscription{}
		if err := protojson.Unmarshal(sm.Config, cfg); err != nil {
			return fmt.Errorf("read a subscription of %s: %w", metadataFile, err)
		}
		t := byUID[sm.Topic]
		if t == nil && sm.Topic != 0 {
			return fmt.Errorf("%s: subscription %s reads topic %d, which is missing", metadataFile, cfg.GetName(), sm.Topic)
		}
		sub, err := newSubscription(sm.UID, cfg, t, sm.Created, s.opts)
		if err != nil {
			return fmt.Errorf("open subscription %s: %w", cfg.GetName(), err)
		}
		s.adopt(sub)
		s.subs[sub.name] = sub
		if t == nil {
			sub.gone = errDetached(sub.name)
			continue
		}
		t.attach(sub)
		if err := s.loadPosition(sub, t); err != nil {
			return err
		}
	}
	return nil
}

// loadPosition restores what a subscription has read. When the state files are
// lost it starts over: messages come twice rather than never.
func (s *Server) loadPosition(sub *subscription, t *topic) error {
	state, number, found, err := loadCursor(s.st, sub.uid)
	if err != nil {
		s.opts.Log.Warn("a state file is unusable, messages may be delivered again", "subscription", sub.name, "error", err)
	}
	sub.flushed = number
	if !found {
		first, end := t.log.bounds()
		state = cursorState{next: min(max(sub.created, first), end)}
	}
	return sub.restore(state)
}

func (s *Server) loadSnapshots(m metadata, byUID map[uint64]*topic) error {
	for _, sm := range m.Snapshots {
		cfg := &pubsubpb.Snapshot{}
		if err := protojson.Unmarshal(sm.Config, cfg); err != nil {
			return fmt.Errorf("read a snapshot of %s: %w", metadataFile, err)
		}
		state, _, err := decodeCursor(sm.State)
		t := byUID[sm.Topic]
		if err != nil || t == nil {
			return fmt.Errorf("%s: snapshot %s has no usable place: %w", metadataFile, cfg.GetName(), errors.Join(errCursor, err))
		}
		sn := &snapshot{uid: sm.UID, topic: t, state: state, cfg: cfg}
		t.snaps = append(t.snaps, sn)
		s.snaps[cfg.GetName()] = sn
	}
	return nil
}

func (s *Server) loadSchemas(m metadata, _ map[uint64]*topic) error {
	for _, b := range m.Schemas {
		sc := &pubsubpb.Schema{}
		if err := protojson.Unmarshal(b, sc); err != nil {
			return fmt.Errorf("read a schema of %s: %w", metadataFile, err)
		}
		s.schema[sc.GetName()] = append(s.schema[sc.GetName()], newRevision(sc))
	}
	return nil
}

// dropLeftovers deletes logs of topics that a crash kept from being deleted.
// A log that the metadata has never heard of is left alone.
func (s *Server) dropLeftovers(byUID map[uint64]*topic) error {
	names, err := s.st.list("topics")
	if err != nil {
		return fmt.Errorf("list topics: %w", err)
	}
	for _, n := range names {
		uid, err := strconv.ParseUint(n, 10, 64)
		if err != nil || byUID[uid] != nil {
			continue
		}
		if uid > s.uid {
			s.opts.Log.Warn("a log belongs to no topic and is left alone", "folder", join("topics", n))
			s.uid = uid
			continue
		}
		if err := s.st.remove(topicDir(uid)); err != nil {
			return fmt.Errorf("delete the log of a deleted topic: %w", err)
		}
	}
	return nil
}
