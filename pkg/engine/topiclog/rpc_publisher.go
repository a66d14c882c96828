package topiclog

import (
	"context"
	"errors"
	"slices"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
)

// publisher serves google.pubsub.v1.Publisher.
type publisher struct {
	pubsubpb.UnimplementedPublisherServer
	*Server
}

// topic returns a topic that is not deleted.
func (s *Server) topic(name string) (*topic, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if t := s.topics[name]; t != nil {
		return t, nil
	}
	return nil, notFound(name)
}

func (p *publisher) Publish(ctx context.Context, req *pubsubpb.PublishRequest) (*pubsubpb.PublishResponse, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.life.RUnlock()
	if err := checkName(req.GetTopic(), "topics"); err != nil {
		return nil, err
	}
	t, err := p.topic(req.GetTopic())
	if err != nil {
		return nil, err
	}
	if err := checkMessages(req.GetMessages()); err != nil {
		return nil, err
	}
	if err := p.applySchema(t, req.GetMessages()); err != nil {
		return nil, err
	}
	if err := p.publish(ctx, t, req.GetMessages()); err != nil {
		return nil, err
	}
	res := &pubsubpb.PublishResponse{MessageIds: make([]string, len(req.GetMessages()))}
	for i, m := range req.GetMessages() {
		res.MessageIds[i] = m.GetMessageId()
	}
	return res, nil
}

// publish stores checked messages durably. It sets their ids and times.
func (s *Server) publish(ctx context.Context, t *topic, msgs []*pubsubpb.PubsubMessage) error {
	if err := ctx.Err(); err != nil {
		return status.FromContextError(err).Err()
	}
	pub := &publication{msgs: msgs, bodies: make([][]byte, len(msgs))}
	for i, m := range msgs {
		m.MessageId, m.PublishTime = "", nil
		body, err := proto.Marshal(m)
		if err != nil {
			return invalid("Message %d: %v", i, err)
		}
		pub.bodies[i] = body
		pub.bytes += len(body)
	}
	if err := t.log.append(pub); err != nil {
		return storageStatus(err)
	}
	return nil
}

func (p *publisher) CreateTopic(_ context.Context, req *pubsubpb.Topic) (*pubsubpb.Topic, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.life.RUnlock()
	if err := checkName(req.GetName(), "topics"); err != nil {
		return nil, err
	}
	cfg := proto.CloneOf(req)
	if err := checkTopic(cfg); err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.topics[cfg.GetName()] != nil {
		return nil, alreadyExists(cfg.GetName())
	}
	if err := p.checkSchemaSettings(cfg.GetSchemaSettings()); err != nil {
		return nil, err
	}
	p.uid++
	l, err := openLog(p.st, topicDir(p.uid), p.opts, p.newIDs)
	if err != nil {
		return nil, storageStatus(err)
	}
	t := newTopic(p.uid, cfg, l, p.opts)
	p.topics[t.name] = t
	if err := p.save(); err != nil {
		delete(p.topics, t.name)
		return nil, storageStatus(errors.Join(err, l.close(), p.st.remove(topicDir(t.uid))))
	}
	return cfg, nil
}

func checkTopic(cfg *pubsubpb.Topic) error {
	cfg.State, cfg.SatisfiesPzs, cfg.Tags = pubsubpb.Topic_ACTIVE, false, nil
	switch {
	case cfg.GetIngestionDataSourceSettings() != nil:
		return unimplemented("ingestion from other sources (ingestion_data_source_settings)")
	case len(cfg.GetMessageTransforms()) > 0:
		return unimplemented("message transforms (message_transforms)")
	}
	return checkRetention(cfg.GetMessageRetentionDuration())
}

func (p *publisher) GetTopic(_ context.Context, req *pubsubpb.GetTopicRequest) (*pubsubpb.Topic, error) {
	if err := checkName(req.GetTopic(), "topics"); err != nil {
		return nil, err
	}
	t, err := p.topic(req.GetTopic())
	if err != nil {
		return nil, err
	}
	return t.cfg.Load(), nil
}

func (p *publisher) UpdateTopic(_ context.Context, req *pubsubpb.UpdateTopicRequest) (*pubsubpb.Topic, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.life.RUnlock()
	in := req.GetTopic()
	if err := checkName(in.GetName(), "topics"); err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.topics[in.GetName()]
	if t == nil {
		return nil, notFound(in.GetName())
	}
	old := t.cfg.Load()
	cfg := proto.CloneOf(old)
	if err := updateTopic(cfg, in, req.GetUpdateMask().GetPaths()); err != nil {
		return nil, err
	}
	if err := p.checkSchemaSettings(cfg.GetSchemaSettings()); err != nil {
		return nil, err
	}
	t.cfg.Store(cfg)
	if err := p.save(); err != nil {
		t.cfg.Store(old)
		return nil, err
	}
	return cfg, nil
}

// updateTopic applies the named fields of in to cfg.
func updateTopic(cfg, in *pubsubpb.Topic, paths []string) error {
	if len(paths) == 0 {
		return invalid("The update_mask in the UpdateTopicRequest must be set, and must contain a non-empty paths list.")
	}
	in = proto.CloneOf(in)
	for _, path := range paths {
		switch path {
		case "labels":
			cfg.Labels = in.GetLabels()
		case "message_storage_policy":
			cfg.MessageStoragePolicy = in.GetMessageStoragePolicy()
		case "message_retention_duration":
			cfg.MessageRetentionDuration = in.GetMessageRetentionDuration()
		case "schema_settings":
			cfg.SchemaSettings = in.GetSchemaSettings()
		case "ingestion_data_source_settings":
			cfg.IngestionDataSourceSettings = in.GetIngestionDataSourceSettings()
		case "message_transforms":
			cfg.MessageTransforms = in.GetMessageTransforms()
		default:
			return invalid("Invalid update_mask provided in the UpdateTopicRequest: %q is not a field that can be changed.", path)
		}
	}
	return checkTopic(cfg)
}

func (p *publisher) ListTopics(_ context.Context, req *pubsubpb.ListTopicsRequest) (*pubsubpb.ListTopicsResponse, error) {
	prefix, err := checkProject(req.GetProject(), "topics")
	if err != nil {
		return nil, err
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	names, next, err := page(keysWithPrefix(p.topics, prefix), req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	res := &pubsubpb.ListTopicsResponse{NextPageToken: next}
	for _, n := range names {
		res.Topics = append(res.Topics, p.topics[n].cfg.Load())
	}
	return res, nil
}

func (p *publisher) ListTopicSubscriptions(_ context.Context, req *pubsubpb.ListTopicSubscriptionsRequest) (*pubsubpb.ListTopicSubscriptionsResponse, error) {
	if err := checkName(req.GetTopic(), "topics"); err != nil {
		return nil, err
	}
	t, err := p.topic(req.GetTopic())
	if err != nil {
		return nil, err
	}
	var names []string
	for _, sub := range *t.readers.Load() {
		names = append(names, sub.name)
	}
	names, next, err := page(names, req.GetPageSize(), req.GetPageToken())
	return &pubsubpb.ListTopicSubscriptionsResponse{Subscriptions: names, NextPageToken: next}, err
}

func (p *publisher) ListTopicSnapshots(_ context.Context, req *pubsubpb.ListTopicSnapshotsRequest) (*pubsubpb.ListTopicSnapshotsResponse, error) {
	if err := checkName(req.GetTopic(), "topics"); err != nil {
		return nil, err
	}
	t, err := p.topic(req.GetTopic())
	if err != nil {
		return nil, err
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	var names []string
	for n, sn := range p.snaps {
		if sn.topic == t {
			names = append(names, n)
		}
	}
	names, next, err := page(names, req.GetPageSize(), req.GetPageToken())
	return &pubsubpb.ListTopicSnapshotsResponse{Snapshots: names, NextPageToken: next}, err
}

// DeleteTopic makes the name free. Subscriptions keep their backlog.
func (p *publisher) DeleteTopic(_ context.Context, req *pubsubpb.DeleteTopicRequest) (*emptypb.Empty, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.life.RUnlock()
	if err := checkName(req.GetTopic(), "topics"); err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.topics[req.GetTopic()]
	if t == nil {
		return nil, notFound(req.GetTopic())
	}
	delete(p.topics, t.name)
	p.orphan = append(p.orphan, t)
	t.deleted.Store(true)
	if err := p.save(); err != nil {
		t.deleted.Store(false)
		p.topics[t.name] = t
		p.orphan = p.orphan[:len(p.orphan)-1]
		return nil, err
	}
	return &emptypb.Empty{}, p.dropOrphans()
}

// dropOrphans deletes the logs of deleted topics that nobody reads any more.
// The caller holds s.mu.
func (s *Server) dropOrphans() error {
	var errs []error
	s.orphan = slices.DeleteFunc(s.orphan, func(t *topic) bool {
		if t.needed() {
			return false
		}
		errs = append(errs, t.log.close(), s.st.remove(topicDir(t.uid)))
		return true
	})
	if err := errors.Join(errs...); err != nil {
		return storageStatus(err)
	}
	return nil
}

func errDetached(name string) error {
	return status.Errorf(codes.FailedPrecondition, "The subscription %s is detached from its topic.", name)
}

// DetachSubscription drops the backlog of a subscription and ends its streams.
func (p *publisher) DetachSubscription(_ context.Context, req *pubsubpb.DetachSubscriptionRequest) (*pubsubpb.DetachSubscriptionResponse, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.life.RUnlock()
	if err := checkName(req.GetSubscription(), "subscriptions"); err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	sub := p.subs[req.GetSubscription()]
	if sub == nil {
		return nil, notFound(req.GetSubscription())
	}
	old, t := sub.config()
	if t == nil {
		return &pubsubpb.DetachSubscriptionResponse{}, nil
	}
	cfg := proto.CloneOf(old)
	cfg.Detached = true
	sub.setConfig(cfg)
	if err := p.save(); err != nil {
		sub.setConfig(old)
		return nil, err
	}
	sub.end(errDetached(sub.name))
	t.mu.Lock()
	t.detach(sub)
	t.mu.Unlock()
	return &pubsubpb.DetachSubscriptionResponse{}, p.dropOrphans()
}
