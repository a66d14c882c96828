package topiclog

import (
	"context"
	"slices"
	"strings"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/latamctl/latamctl/pkg/schema"
)

// schemaService serves google.pubsub.v1.SchemaService.
type schemaService struct {
	pubsubpb.UnimplementedSchemaServiceServer
	*Server
}

func (c *schemaService) CreateSchema(_ context.Context, req *pubsubpb.CreateSchemaRequest) (*pubsubpb.Schema, error) {
	if err := c.enter(); err != nil {
		return nil, err
	}
	defer c.life.RUnlock()
	prefix, err := checkProject(req.GetParent(), "schemas")
	if err != nil {
		return nil, err
	}
	name := prefix + req.GetSchemaId()
	if err := checkName(name, "schemas"); err != nil {
		return nil, err
	}
	rev, err := c.newSchema(name, req.GetSchema())
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.schema[name] != nil {
		return nil, alreadyExists(name)
	}
	return rev.config, c.setRevisions(name, []*revision{rev})
}

// setRevisions replaces the revisions of a schema durably; none deletes it. The caller holds s.mu.
func (s *Server) setRevisions(name string, revs []*revision) error {
	old := s.schema[name]
	put := func(revs []*revision) {
		if s.schema[name] = revs; len(revs) == 0 {
			delete(s.schema, name)
		}
	}
	put(revs)
	if err := s.save(); err != nil {
		put(old)
		return err
	}
	return nil
}

// addRevision adds what make returns to a schema that exists.
func (c *schemaService) addRevision(name string, make func() (*revision, error)) (*pubsubpb.Schema, error) {
	if err := c.enter(); err != nil {
		return nil, err
	}
	defer c.life.RUnlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	newest, err := c.findRevision(name)
	if err != nil {
		return nil, err
	}
	rev, err := make()
	if err != nil {
		return nil, err
	}
	revs := c.schema[name]
	switch {
	case rev.config.GetType() != newest.config.GetType():
		return nil, invalid("The schema %s is of the type %s, which a revision cannot change.", name, newest.config.GetType())
	case len(revs) >= maxRevisions:
		return nil, status.Errorf(codes.ResourceExhausted, "The schema %s has %d revisions, which is the limit.", name, len(revs))
	}
	return rev.config, c.setRevisions(name, append(slices.Clone(revs), rev))
}

func (c *schemaService) CommitSchema(_ context.Context, req *pubsubpb.CommitSchemaRequest) (*pubsubpb.Schema, error) {
	if err := checkName(req.GetName(), "schemas"); err != nil {
		return nil, err
	}
	return c.addRevision(req.GetName(), func() (*revision, error) { return c.newSchema(req.GetName(), req.GetSchema()) })
}

// RollbackSchema makes an older definition the newest revision.
func (c *schemaService) RollbackSchema(_ context.Context, req *pubsubpb.RollbackSchemaRequest) (*pubsubpb.Schema, error) {
	if err := checkName(req.GetName(), "schemas"); err != nil {
		return nil, err
	}
	return c.addRevision(req.GetName(), func() (*revision, error) {
		old, err := c.findRevision(req.GetName() + "@" + req.GetRevisionId())
		if err != nil {
			return nil, err
		}
		return c.newSchema(req.GetName(), old.config)
	})
}

func (c *schemaService) GetSchema(_ context.Context, req *pubsubpb.GetSchemaRequest) (*pubsubpb.Schema, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	rev, err := c.findRevision(req.GetName())
	if err != nil {
		return nil, err
	}
	return viewOf(rev.config, req.GetView() != pubsubpb.SchemaView_BASIC), nil
}

func viewOf(sc *pubsubpb.Schema, full bool) *pubsubpb.Schema {
	if full {
		return sc
	}
	return &pubsubpb.Schema{Name: sc.GetName(), Type: sc.GetType(), RevisionId: sc.GetRevisionId(), RevisionCreateTime: sc.GetRevisionCreateTime()}
}

func (c *schemaService) ListSchemas(_ context.Context, req *pubsubpb.ListSchemasRequest) (*pubsubpb.ListSchemasResponse, error) {
	prefix, err := checkProject(req.GetParent(), "schemas")
	if err != nil {
		return nil, err
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	names, next, err := page(keysWithPrefix(c.schema, prefix), req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	res := &pubsubpb.ListSchemasResponse{NextPageToken: next}
	for _, n := range names {
		newest := c.schema[n][len(c.schema[n])-1]
		res.Schemas = append(res.Schemas, viewOf(newest.config, req.GetView() == pubsubpb.SchemaView_FULL))
	}
	return res, nil
}

// ListSchemaRevisions answers with all in one page, newest first: there are few.
func (c *schemaService) ListSchemaRevisions(_ context.Context, req *pubsubpb.ListSchemaRevisionsRequest) (*pubsubpb.ListSchemaRevisionsResponse, error) {
	if err := checkName(req.GetName(), "schemas"); err != nil {
		return nil, err
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	if _, err := c.findRevision(req.GetName()); err != nil {
		return nil, err
	}
	res := &pubsubpb.ListSchemaRevisionsResponse{}
	for _, rev := range slices.Backward(c.schema[req.GetName()]) {
		res.Schemas = append(res.Schemas, viewOf(rev.config, req.GetView() == pubsubpb.SchemaView_FULL))
	}
	return res, nil
}

func (c *schemaService) DeleteSchemaRevision(_ context.Context, req *pubsubpb.DeleteSchemaRevisionRequest) (*pubsubpb.Schema, error) {
	if err := c.enter(); err != nil {
		return nil, err
	}
	defer c.life.RUnlock()
	name, id, _ := strings.Cut(req.GetName(), "@")
	if id == "" {
		return nil, invalid("The name %s has no revision; write it as schema@revision.", req.GetName())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	rev, err := c.findRevision(req.GetName())
	if err != nil {
		return nil, err
	}
	revs := slices.DeleteFunc(slices.Clone(c.schema[name]), func(r *revision) bool { return r == rev })
	if len(revs) == 0 {
		return nil, invalid("The schema %s has only this revision; delete the schema.", name)
	}
	return rev.config, c.setRevisions(name, revs)
}

// DeleteSchema leaves the topics that use it without one, so that they take no more messages.
func (c *schemaService) DeleteSchema(_ context.Context, req *pubsubpb.DeleteSchemaRequest) (*emptypb.Empty, error) {
	if err := c.enter(); err != nil {
		return nil, err
	}
	defer c.life.RUnlock()
	if err := checkName(req.GetName(), "schemas"); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.schema[req.GetName()] == nil {
		return nil, notFound(req.GetName())
	}
	var undo []func()
	for _, t := range c.topics {
		old := t.cfg.Load()
		if old.GetSchemaSettings().GetSchema() != req.GetName() {
			continue
		}
		cfg := proto.CloneOf(old)
		cfg.SchemaSettings.Schema = deletedSchema
		t.cfg.Store(cfg)
		undo = append(undo, func() { t.cfg.Store(old) })
	}
	if err := c.setRevisions(req.GetName(), nil); err != nil {
		for _, f := range undo {
			f()
		}
		return nil, err
	}
	return &emptypb.Empty{}, nil
}

func (c *schemaService) ValidateSchema(_ context.Context, req *pubsubpb.ValidateSchemaRequest) (*pubsubpb.ValidateSchemaResponse, error) {
	if _, err := checkProject(req.GetParent(), "schemas"); err != nil {
		return nil, err
	}
	if _, err := c.newSchema(req.GetSchema().GetName(), req.GetSchema()); err != nil {
		return nil, err
	}
	return &pubsubpb.ValidateSchemaResponse{}, nil
}

func (c *schemaService) ValidateMessage(_ context.Context, req *pubsubpb.ValidateMessageRequest) (*pubsubpb.ValidateMessageResponse, error) {
	if _, err := checkProject(req.GetParent(), "schemas"); err != nil {
		return nil, err
	}
	rev, err := c.revisionOf(req)
	if err != nil {
		return nil, err
	}
	if _, err := fitting([]*revision{rev}, req.GetMessage(), schema.Encoding(req.GetEncoding().String())); err != nil {
		return nil, invalid("Invalid data in message: Message failed schema validation: %v", err)
	}
	return &pubsubpb.ValidateMessageResponse{}, nil
}

func (c *schemaService) revisionOf(req *pubsubpb.ValidateMessageRequest) (*revision, error) {
	if req.GetSchema() != nil {
		return c.newSchema(req.GetSchema().GetName(), req.GetSchema())
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.findRevision(req.GetName())
}
