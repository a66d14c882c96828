package topiclog

import (
	"context"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/emptypb"
)

// subscriber serves google.pubsub.v1.Subscriber.
type subscriber struct {
	pubsubpb.UnimplementedSubscriberServer
	*Server
}

func (s *Server) subscription(name string) (*subscription, error) {
	if err := checkName(name, "subscriptions"); err != nil {
		return nil, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if sub := s.subs[name]; sub != nil {
		return sub, nil
	}
	return nil, notFound(name)
}

// describe returns the settings with the fields that only the server sets.
func (s *Server) describe(sub *subscription) *pubsubpb.Subscription {
	cfg, t := sub.config()
	cfg = proto.CloneOf(cfg)
	cfg.State = pubsubpb.Subscription_ACTIVE
	if t == nil {
		return cfg
	}
	if t.deleted.Load() {
		cfg.Topic = deletedTopic
	} else if r := t.retention(); r > 0 {
		cfg.TopicMessageRetentionDuration = durationpb.New(r)
	}
	return cfg
}

func (b *subscriber) CreateSubscription(_ context.Context, req *pubsubpb.Subscription) (*pubsubpb.Subscription, error) {
	if err := b.enter(); err != nil {
		return nil, err
	}
	defer b.life.RUnlock()
	if err := checkName(req.GetName(), "subscriptions"); err != nil {
		return nil, err
	}
	if err := checkName(req.GetTopic(), "topics"); err != nil {
		return nil, err
	}
	cfg := proto.CloneOf(req)
	cfg.Detached, cfg.Tags, cfg.AnalyticsHubSubscriptionInfo, cfg.TopicMessageRetentionDuration = false, nil, nil, nil
	if err := checkSubscription(cfg); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.subs[cfg.GetName()] != nil {
		return nil, alreadyExists(cfg.GetName())
	}
	t := b.topics[cfg.GetTopic()]
	if t == nil {
		return nil, notFound(cfg.GetTopic())
	}
	if err := b.checkDeadLetterTopic(cfg); err != nil {
		return nil, err
	}
	return b.addSubscription(cfg, t)
}

// addSubscription begins at the end of the log: it sees what is published
// from now on. The caller holds s.mu.
func (s *Server) addSubscription(cfg *pubsubpb.Subscription, t *topic) (*pubsubpb.Subscription, error) {
	t.mu.Lock()
	_, end := t.log.bounds()
	s.uid++
	sub, err := newSubscription(s.uid, cfg, t, end, s.opts)
	if err != nil {
		t.mu.Unlock()
		return nil, invalid("%v", err)
	}
	s.adopt(sub)
	t.attach(sub)
	t.mu.Unlock()
	s.subs[sub.name] = sub
	if err := s.save(); err != nil {
		delete(s.subs, sub.name)
		t.mu.Lock()
		t.detach(sub)
		t.mu.Unlock()
		return nil, err
	}
	return s.describe(sub), nil
}

// checkSubscription checks settings and fills in the defaults that the service
// shows.
func checkSubscription(cfg *pubsubpb.Subscription) error {
	switch {
	case cfg.GetPushConfig().GetPushEndpoint() != "":
		return unimplemented("push delivery (push_config)")
	case cfg.GetBigqueryConfig() != nil:
		return unimplemented("BigQuery subscriptions (bigquery_config)")
	case cfg.GetCloudStorageConfig() != nil:
		return unimplemented("Cloud Storage subscriptions (cloud_storage_config)")
	case cfg.GetBigtableConfig() != nil:
		return unimplemented("Bigtable subscriptions (bigtable_config)")
	case cfg.GetEnableExactlyOnceDelivery():
		return unimplemented("exactly-once delivery (enable_exactly_once_delivery)")
	case len(cfg.GetMessageTransforms()) > 0:
		return unimplemented("message transforms (message_transforms)")
	}
	if err := checkDeadline(cfg.GetAckDeadlineSeconds(), int32(defaultAckDeadline/time.Second)); err != nil {
		return err
	}
	if cfg.GetAckDeadlineSeconds() == 0 {
		cfg.AckDeadlineSeconds = int32(defaultAckDeadline / time.Second)
	}
	if cfg.GetMessageRetentionDuration() == nil {
		cfg.MessageRetentionDuration = durationpb.New(defaultRetention)
	}
	if err := checkRetention(cfg.GetMessageRetentionDuration()); err != nil {
		return err
	}
	if _, err := parseFilter(cfg.GetFilter()); err != nil {
		return invalid("%v", err)
	}
	if err := checkExpiration(cfg.GetExpirationPolicy()); err != nil {
		return err
	}
	if err := checkRetry(cfg); err != nil {
		return err
	}
	return checkDeadLetter(cfg)
}

func checkExpiration(p *pubsubpb.ExpirationPolicy) error {
	if ttl := p.GetTtl(); ttl != nil && (!ttl.IsValid() || ttl.AsDuration() < 24*time.Hour) {
		return invalid("expiration_policy.ttl is %v, want at least 1 day.", ttl.AsDuration())
	}
	return nil
}

func checkRetry(cfg *pubsubpb.Subscription) error {
	p := cfg.GetRetryPolicy()
	if p == nil {
		return nil
	}
	p = proto.CloneOf(p)
	if p.MinimumBackoff == nil {
		p.MinimumBackoff = durationpb.New(defaultMinBackoff)
	}
	if p.MaximumBackoff == nil {
		p.MaximumBackoff = durationpb.New(defaultMaxBackoff)
	}
	for _, d := range []*durationpb.Duration{p.MinimumBackoff, p.MaximumBackoff} {
		if !d.IsValid() || d.AsDuration() < 0 || d.AsDuration() > defaultMaxBackoff {
			return invalid("retry_policy has a backoff of %v, want 0 to %v.", d.AsDuration(), defaultMaxBackoff)
		}
	}
	if p.MinimumBackoff.AsDuration() > p.MaximumBackoff.AsDuration() {
		return invalid("retry_policy has a minimum backoff above its maximum.")
	}
	cfg.RetryPolicy = p
	return nil
}

func checkDeadLetter(cfg *pubsubpb.Subscription) error {
	p := cfg.GetDeadLetterPolicy()
	if p == nil {
		return nil
	}
	p = proto.CloneOf(p)
	if p.MaxDeliveryAttempts == 0 {
		p.MaxDeliveryAttempts = defaultAttempts
	}
	if p.MaxDeliveryAttempts < 5 || p.MaxDeliveryAttempts > 100 {
		return invalid("dead_letter_policy.max_delivery_attempts is %d, want 5 to 100.", p.MaxDeliveryAttempts)
	}
	cfg.DeadLetterPolicy = p
	return checkName(p.GetDeadLetterTopic(), "topics")
}

// checkDeadLetterTopic requires the topic to exist. The caller holds s.mu.
func (s *Server) checkDeadLetterTopic(cfg *pubsubpb.Subscription) error {
	p := cfg.GetDeadLetterPolicy()
	if p != nil && s.topics[p.GetDeadLetterTopic()] == nil {
		return notFound(p.GetDeadLetterTopic())
	}
	return nil
}

func (b *subscriber) GetSubscription(_ context.Context, req *pubsubpb.GetSubscriptionRequest) (*pubsubpb.Subscription, error) {
	sub, err := b.subscription(req.GetSubscription())
	if err != nil {
		return nil, err
	}
	return b.describe(sub), nil
}

func (b *subscriber) UpdateSubscription(_ context.Context, req *pubsubpb.UpdateSubscriptionRequest) (*pubsubpb.Subscription, error) {
	if err := b.enter(); err != nil {
		return nil, err
	}
	defer b.life.RUnlock()
	in := req.GetSubscription()
	if err := checkName(in.GetName(), "subscriptions"); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	sub := b.subs[in.GetName()]
	if sub == nil {
		return nil, notFound(in.GetName())
	}
	old, _ := sub.config()
	cfg := proto.CloneOf(old)
	if err := updateSubscription(cfg, in, req.GetUpdateMask().GetPaths()); err != nil {
		return nil, err
	}
	if err := checkSubscription(cfg); err != nil {
		return nil, err
	}
	if !proto.Equal(old.GetDeadLetterPolicy(), cfg.GetDeadLetterPolicy()) {
		if err := b.checkDeadLetterTopic(cfg); err != nil {
			return nil, err
		}
	}
	sub.setConfig(cfg)
	if err := b.save(); err != nil {
		sub.setConfig(old)
		return nil, err
	}
	return b.describe(sub), nil
}

// updateSubscription applies the named fields of in to cfg.
func updateSubscription(cfg, in *pubsubpb.Subscription, paths []string) error {
	if len(paths) == 0 {
		return invalid("The update_mask in the UpdateSubscriptionRequest must be set, and must contain a non-empty paths list.")
	}
	in = proto.CloneOf(in)
	for _, path := range paths {
		switch path {
		case "ack_deadline_seconds":
			cfg.AckDeadlineSeconds = in.GetAckDeadlineSeconds()
		case "labels":
			cfg.Labels = in.GetLabels()
		case "retain_acked_messages":
			cfg.RetainAckedMessages = in.GetRetainAckedMessages()
		case "message_retention_duration":
			cfg.MessageRetentionDuration = in.GetMessageRetentionDuration()
		case "expiration_policy":
			cfg.ExpirationPolicy = in.GetExpirationPolicy()
		case "dead_letter_policy":
			cfg.DeadLetterPolicy = in.GetDeadLetterPolicy()
		case "retry_policy":
			cfg.RetryPolicy = in.GetRetryPolicy()
		case "push_config":
			cfg.PushConfig = in.GetPushConfig()
		case "bigquery_config":
			cfg.BigqueryConfig = in.GetBigqueryConfig()
		case "cloud_storage_config":
			cfg.CloudStorageConfig = in.GetCloudStorageConfig()
		case "bigtable_config":
			cfg.BigtableConfig = in.GetBigtableConfig()
		case "enable_exactly_once_delivery":
			cfg.EnableExactlyOnceDelivery = in.GetEnableExactlyOnceDelivery()
		case "message_transforms":
			cfg.MessageTransforms = in.GetMessageTransforms()
		default:
			if err := updateNested(cfg, in, path); err != nil {
				return err
			}
		}
	}
	return nil
}

// updateNested applies a field inside one of the policies.
func updateNested(cfg, in *pubsubpb.Subscription, path string) error {
	switch path {
	case "dead_letter_policy.dead_letter_topic", "dead_letter_policy.max_delivery_attempts":
		if cfg.DeadLetterPolicy == nil {
			cfg.DeadLetterPolicy = &pubsubpb.DeadLetterPolicy{}
		}
	case "retry_policy.minimum_backoff", "retry_policy.maximum_backoff":
		if cfg.RetryPolicy == nil {
			cfg.RetryPolicy = &pubsubpb.RetryPolicy{}
		}
	}
	switch path {
	case "dead_letter_policy.dead_letter_topic":
		cfg.DeadLetterPolicy.DeadLetterTopic = in.GetDeadLetterPolicy().GetDeadLetterTopic()
	case "dead_letter_policy.max_delivery_attempts":
		cfg.DeadLetterPolicy.MaxDeliveryAttempts = in.GetDeadLetterPolicy().GetMaxDeliveryAttempts()
	case "retry_policy.minimum_backoff":
		cfg.RetryPolicy.MinimumBackoff = in.GetRetryPolicy().GetMinimumBackoff()
	case "retry_policy.maximum_backoff":
		cfg.RetryPolicy.MaximumBackoff = in.GetRetryPolicy().GetMaximumBackoff()
	case "expiration_policy.ttl":
		cfg.ExpirationPolicy = &pubsubpb.ExpirationPolicy{Ttl: in.GetExpirationPolicy().GetTtl()}
	default:
		return invalid("Invalid update_mask provided in the UpdateSubscriptionRequest: %q is not a field that can be changed.", path)
	}
	return nil
}

func (b *subscriber) ListSubscriptions(_ context.Context, req *pubsubpb.ListSubscriptionsRequest) (*pubsubpb.ListSubscriptionsResponse, error) {
	prefix, err := checkProject(req.GetProject(), "subscriptions")
	if err != nil {
		return nil, err
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	names, next, err := page(keysWithPrefix(b.subs, prefix), req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	res := &pubsubpb.ListSubscriptionsResponse{NextPageToken: next}
	for _, n := range names {
		res.Subscriptions = append(res.Subscriptions, b.describe(b.subs[n]))
	}
	return res, nil
}

// DeleteSubscription ends the subscription's streams and drops its backlog.
func (b *subscriber) DeleteSubscription(_ context.Context, req *pubsubpb.DeleteSubscriptionRequest) (*emptypb.Empty, error) {
	if err := b.enter(); err != nil {
		return nil, err
	}
	defer b.life.RUnlock()
	if err := checkName(req.GetSubscription(), "subscriptions"); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	sub := b.subs[req.GetSubscription()]
	if sub == nil {
		return nil, notFound(req.GetSubscription())
	}
	delete(b.subs, sub.name)
	if err := b.save(); err != nil {
		b.subs[sub.name] = sub
		return nil, err
	}
	_, t := sub.config()
	sub.end(notFound(sub.name))
	if t != nil {
		t.mu.Lock()
		t.detach(sub)
		t.mu.Unlock()
	}
	if err := sub.discard(b.st); err != nil {
		return nil, storageStatus(err)
	}
	return &emptypb.Empty{}, b.dropOrphans()
}

func (b *subscriber) ModifyPushConfig(_ context.Context, req *pubsubpb.ModifyPushConfigRequest) (*emptypb.Empty, error) {
	if _, err := b.subscription(req.GetSubscription()); err != nil {
		return nil, err
	}
	if req.GetPushConfig().GetPushEndpoint() == "" {
		return &emptypb.Empty{}, nil // already a pull subscription
	}
	return nil, unimplemented("push delivery (push_config)")
}

func (b *subscriber) Acknowledge(_ context.Context, req *pubsubpb.AcknowledgeRequest) (*emptypb.Empty, error) {
	sub, refs, err := b.settling(req.GetSubscription(), req.GetAckIds())
	if err != nil {
		return nil, err
	}
	defer b.life.RUnlock()
	sub.acknowledge(refs)
	return &emptypb.Empty{}, nil
}

func (b *subscriber) ModifyAckDeadline(_ context.Context, req *pubsubpb.ModifyAckDeadlineRequest) (*emptypb.Empty, error) {
	if err := checkDeadline(req.GetAckDeadlineSeconds(), 0); err != nil {
		return nil, err
	}
	sub, refs, err := b.settling(req.GetSubscription(), req.GetAckIds())
	if err != nil {
		return nil, err
	}
	defer b.life.RUnlock()
	sub.modify(refs, time.Duration(req.GetAckDeadlineSeconds())*time.Second)
	return &emptypb.Empty{}, nil
}

// settling checks a request about ack ids. Without an error it has entered the
// server, and the caller must leave it.
func (b *subscriber) settling(name string, ids []string) (*subscription, []ackRef, error) {
	sub, err := b.subscription(name)
	if err != nil {
		return nil, nil, err
	}
	if len(ids) == 0 {
		return nil, nil, invalid("No ack ids specified.")
	}
	refs, err := parseAckIDs(ids)
	if err != nil {
		return nil, nil, err
	}
	return sub, refs, b.enter()
}

func (b *subscriber) Pull(ctx context.Context, req *pubsubpb.PullRequest) (*pubsubpb.PullResponse, error) {
	sub, err := b.subscription(req.GetSubscription())
	if err != nil {
		return nil, err
	}
	if req.GetMaxMessages() <= 0 {
		return nil, invalid("max_messages is %d, want a positive number.", req.GetMaxMessages())
	}
	c := newConsumer(int(min(req.GetMaxMessages(), maxPullMessages)), int64(b.opts.MaxBatchBytes))
	sub.join(c)
	defer sub.leave(c)
	timeout := time.NewTimer(b.opts.PullWait)
	defer timeout.Stop()
	for {
		msgs, again, err := b.take(sub, c)
		if err != nil || len(msgs) > 0 || req.GetReturnImmediately() && !again { //nolint:staticcheck // clients still send it
			return &pubsubpb.PullResponse{ReceivedMessages: msgs}, err
		}
		if again {
			continue
		}
		select {
		case <-c.wake:
		case <-timeout.C:
			return &pubsubpb.PullResponse{}, nil
		case <-ctx.Done():
			return nil, status.FromContextError(ctx.Err()).Err()
		case <-b.stop:
			return nil, errClosing()
		}
	}
}

// take is subscription.take as an operation of the server.
func (s *Server) take(sub *subscription, c *consumer) ([]*pubsubpb.ReceivedMessage, bool, error) {
	if err := s.enter(); err != nil {
		return nil, false, err
	}
	defer s.life.RUnlock()
	msgs, again, err := sub.take(c)
	if err != nil && len(msgs) == 0 {
		return nil, false, storageStatus(err)
	}
	return msgs, again, nil
}
