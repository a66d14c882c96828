package topiclog

import (
	"context"
	"crypto/rand"
	"encoding/hex"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// schemaService serves google.pubsub.v1.SchemaService as far as keeping
// definitions. It validates nothing, so topics cannot use them; revisions and
// validation answer Unimplemented.
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
	if req.GetSchema().GetType() == pubsubpb.Schema_TYPE_UNSPECIFIED || req.GetSchema().GetDefinition() == "" {
		return nil, invalid("A schema needs a type and a definition.")
	}
	revision := make([]byte, 4)
	if _, err := rand.Read(revision); err != nil {
		return nil, storageStatus(err)
	}
	sc := proto.CloneOf(req.GetSchema())
	sc.Name, sc.RevisionId, sc.RevisionCreateTime = name, hex.EncodeToString(revision), timestamppb.New(c.opts.Now())
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.schema[name] != nil {
		return nil, alreadyExists(name)
	}
	c.schema[name] = sc
	if err := c.save(); err != nil {
		delete(c.schema, name)
		return nil, err
	}
	return sc, nil
}

func (c *schemaService) GetSchema(_ context.Context, req *pubsubpb.GetSchemaRequest) (*pubsubpb.Schema, error) {
	if err := checkName(req.GetName(), "schemas"); err != nil {
		return nil, err
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	sc := c.schema[req.GetName()]
	if sc == nil {
		return nil, notFound(req.GetName())
	}
	return viewOf(sc, req.GetView() != pubsubpb.SchemaView_BASIC), nil
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
		res.Schemas = append(res.Schemas, viewOf(c.schema[n], req.GetView() == pubsubpb.SchemaView_FULL))
	}
	return res, nil
}

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
	sc := c.schema[req.GetName()]
	if sc == nil {
		return nil, notFound(req.GetName())
	}
	delete(c.schema, req.GetName())
	if err := c.save(); err != nil {
		c.schema[req.GetName()] = sc
		return nil, err
	}
	return &emptypb.Empty{}, nil
}

func (c *schemaService) ListSchemaRevisions(context.Context, *pubsubpb.ListSchemaRevisionsRequest) (*pubsubpb.ListSchemaRevisionsResponse, error) {
	return nil, unimplemented("schema revisions (ListSchemaRevisions)")
}

func (c *schemaService) CommitSchema(context.Context, *pubsubpb.CommitSchemaRequest) (*pubsubpb.Schema, error) {
	return nil, unimplemented("schema revisions (CommitSchema)")
}

func (c *schemaService) RollbackSchema(context.Context, *pubsubpb.RollbackSchemaRequest) (*pubsubpb.Schema, error) {
	return nil, unimplemented("schema revisions (RollbackSchema)")
}

func (c *schemaService) DeleteSchemaRevision(context.Context, *pubsubpb.DeleteSchemaRevisionRequest) (*pubsubpb.Schema, error) {
	return nil, unimplemented("schema revisions (DeleteSchemaRevision)")
}

func (c *schemaService) ValidateSchema(context.Context, *pubsubpb.ValidateSchemaRequest) (*pubsubpb.ValidateSchemaResponse, error) {
	return nil, unimplemented("validation of Avro and Protocol Buffer schemas (ValidateSchema)")
}

func (c *schemaService) ValidateMessage(context.Context, *pubsubpb.ValidateMessageRequest) (*pubsubpb.ValidateMessageResponse, error) {
	return nil, unimplemented("validation of messages against schemas (ValidateMessage)")
}
