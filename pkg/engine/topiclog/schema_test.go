package topiclog

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
)

const (
	schemaA = project + "/schemas/flight"
	// avroOld and avroNew are two revisions; a message of one does not fit the other.
	avroOld = `{"type":"record","name":"F","fields":[{"name":"a","type":"string"}]}`
	avroNew = `{"type":"record","name":"F","fields":[{"name":"a","type":"string"},{"name":"b","type":"long"}]}`
	oldText = "\x04ab"
	newText = "\x04ab\x02"
)

func avroSchema(definition string) *pubsubpb.Schema {
	return &pubsubpb.Schema{Type: pubsubpb.Schema_AVRO, Definition: definition}
}

func (f *fixture) createSchema(definition string) *pubsubpb.Schema {
	f.t.Helper()
	sc, err := f.sch.CreateSchema(f.ctx, &pubsubpb.CreateSchemaRequest{Parent: project, SchemaId: "flight", Schema: avroSchema(definition)})
	if err != nil {
		f.t.Fatal(err)
	}
	return sc
}

func (f *fixture) commitSchema(definition string) *pubsubpb.Schema {
	f.t.Helper()
	sc, err := f.sch.CommitSchema(f.ctx, &pubsubpb.CommitSchemaRequest{Name: schemaA, Schema: avroSchema(definition)})
	if err != nil {
		f.t.Fatal(err)
	}
	return sc
}

func (f *fixture) getSchema(name string) (*pubsubpb.Schema, error) {
	return f.sch.GetSchema(f.ctx, &pubsubpb.GetSchemaRequest{Name: name})
}

func TestSchemas(t *testing.T) {
	t.Parallel()
	f := open(t, Options{Dir: t.TempDir()})
	first := f.createSchema(avroOld)
	if first.GetName() != schemaA || first.GetRevisionId() == "" {
		t.Fatalf("created %v", first)
	}
	_, err := f.sch.CreateSchema(f.ctx, &pubsubpb.CreateSchemaRequest{Parent: project, SchemaId: "flight", Schema: avroSchema(avroOld)})
	wantCode(t, "create again", err, codes.AlreadyExists)
	_, err = f.sch.CreateSchema(f.ctx, &pubsubpb.CreateSchemaRequest{Parent: project, SchemaId: "broken", Schema: avroSchema("{}")})
	wantCode(t, "create a broken one", err, codes.InvalidArgument)
	second := f.commitSchema(avroNew)
	_, err = f.sch.CommitSchema(f.ctx, &pubsubpb.CommitSchemaRequest{Name: schemaA, Schema: &pubsubpb.Schema{Type: pubsubpb.Schema_PROTOCOL_BUFFER, Definition: `syntax = "proto3"; message A {}`}})
	wantCode(t, "another type", err, codes.InvalidArgument)
	third, err := f.sch.RollbackSchema(f.ctx, &pubsubpb.RollbackSchemaRequest{Name: schemaA, RevisionId: first.GetRevisionId()})
	if err != nil || third.GetDefinition() != avroOld || third.GetRevisionId() == first.GetRevisionId() {
		t.Fatalf("rolled back to %v, %v", third, err)
	}

	f = f.reopen()
	for name, want := range map[string]*pubsubpb.Schema{
		schemaA: third, schemaA + "@" + first.GetRevisionId(): first, schemaA + "@" + second.GetRevisionId(): second,
	} {
		if got, err := f.getSchema(name); err != nil || !proto.Equal(got, want) {
			t.Errorf("get %s: %v, %v", name, got, err)
		}
	}
	if res, err := f.sch.ListSchemas(f.ctx, &pubsubpb.ListSchemasRequest{Parent: project}); err != nil || len(res.GetSchemas()) != 1 || res.GetSchemas()[0].GetDefinition() != "" {
		t.Errorf("list: %v, %v", res, err)
	}
	revs, err := f.sch.ListSchemaRevisions(f.ctx, &pubsubpb.ListSchemaRevisionsRequest{Name: schemaA, View: pubsubpb.SchemaView_FULL})
	if err != nil || !slices.EqualFunc(revs.GetSchemas(), []*pubsubpb.Schema{third, second, first}, func(a, b *pubsubpb.Schema) bool { return proto.Equal(a, b) }) {
		t.Errorf("revisions: %v, %v", revs, err)
	}

	if _, err := f.sch.DeleteSchemaRevision(f.ctx, &pubsubpb.DeleteSchemaRevisionRequest{Name: schemaA + "@" + second.GetRevisionId()}); err != nil {
		t.Error(err)
	}
	_, err = f.getSchema(schemaA + "@" + second.GetRevisionId())
	wantCode(t, "get a deleted revision", err, codes.NotFound)
	for range maxRevisions - 2 {
		f.commitSchema(avroNew)
	}
	_, err = f.sch.CommitSchema(f.ctx, &pubsubpb.CommitSchemaRequest{Name: schemaA, Schema: avroSchema(avroNew)})
	wantCode(t, "too many revisions", err, codes.ResourceExhausted)
	if _, err := f.sch.DeleteSchema(f.ctx, &pubsubpb.DeleteSchemaRequest{Name: schemaA}); err != nil {
		t.Fatal(err)
	}
	_, err = f.getSchema(schemaA)
	wantCode(t, "get deleted", err, codes.NotFound)
}

func TestValidate(t *testing.T) {
	t.Parallel()
	f := open(t, Options{})
	sc := f.createSchema(avroOld)
	for name, c := range map[string]struct {
		req  *pubsubpb.ValidateMessageRequest
		want codes.Code
	}{
		"by name":       {&pubsubpb.ValidateMessageRequest{SchemaSpec: &pubsubpb.ValidateMessageRequest_Name{Name: schemaA}, Message: []byte(oldText)}, codes.OK},
		"by revision":   {&pubsubpb.ValidateMessageRequest{SchemaSpec: &pubsubpb.ValidateMessageRequest_Name{Name: schemaA + "@" + sc.GetRevisionId()}, Message: []byte(oldText)}, codes.OK},
		"by definition": {&pubsubpb.ValidateMessageRequest{SchemaSpec: &pubsubpb.ValidateMessageRequest_Schema{Schema: avroSchema(avroNew)}, Message: []byte(newText)}, codes.OK},
		"does not fit":  {&pubsubpb.ValidateMessageRequest{SchemaSpec: &pubsubpb.ValidateMessageRequest_Name{Name: schemaA}, Message: []byte(newText)}, codes.InvalidArgument},
		"not there":     {&pubsubpb.ValidateMessageRequest{SchemaSpec: &pubsubpb.ValidateMessageRequest_Name{Name: schemaA + "x"}, Message: []byte(oldText)}, codes.NotFound},
	} {
		c.req.Parent, c.req.Encoding = project, pubsubpb.Encoding_BINARY
		_, err := f.sch.ValidateMessage(f.ctx, c.req)
		wantCode(t, name, err, c.want)
	}
	_, err := f.sch.ValidateSchema(f.ctx, &pubsubpb.ValidateSchemaRequest{Parent: project, Schema: avroSchema(avroNew)})
	wantCode(t, "a good schema", err, codes.OK)
	_, err = f.sch.ValidateSchema(f.ctx, &pubsubpb.ValidateSchemaRequest{Parent: project, Schema: avroSchema("{}")})
	wantCode(t, "a broken schema", err, codes.InvalidArgument)
}

// send publishes one message and returns the error and the attributes that it was stored with.
func (f *fixture) send(data string) (map[string]string, error) {
	m := &pubsubpb.PubsubMessage{Data: []byte(data), Attributes: map[string]string{"own": "x"}}
	_, err := f.pub.Publish(f.ctx, &pubsubpb.PublishRequest{Topic: topicA, Messages: []*pubsubpb.PubsubMessage{m}})
	if err != nil {
		return nil, err
	}
	got, err := f.sub.Pull(f.ctx, &pubsubpb.PullRequest{Subscription: subA, MaxMessages: 1})
	if err != nil || len(got.GetReceivedMessages()) != 1 {
		return nil, fmt.Errorf("pull: %v, %w", got, err)
	}
	_, err = f.sub.Acknowledge(f.ctx, &pubsubpb.AcknowledgeRequest{Subscription: subA, AckIds: []string{got.GetReceivedMessages()[0].GetAckId()}})
	return got.GetReceivedMessages()[0].GetMessage().GetAttributes(), err
}

func TestTopicWithSchema(t *testing.T) {
	t.Parallel()
	f := open(t, Options{Dir: t.TempDir()})
	old := f.createSchema(avroOld)
	set := &pubsubpb.SchemaSettings{Schema: schemaA, Encoding: pubsubpb.Encoding_BINARY}
	if _, err := f.pub.CreateTopic(f.ctx, &pubsubpb.Topic{Name: topicA, SchemaSettings: set}); err != nil {
		t.Fatal(err)
	}
	f.subscribe(&pubsubpb.Subscription{Name: subA, Topic: topicA})
	newer := f.commitSchema(avroNew)
	f = f.reopen()
	want := func(what, data, revision string) {
		t.Helper()
		attributes, err := f.send(data)
		if err != nil || attributes[attrSchemaName] != schemaA || attributes[attrSchemaRevision] != revision || attributes[attrSchemaEncoding] != "BINARY" || attributes["own"] != "x" {
			t.Errorf("%s: %v, %v", what, attributes, err)
		}
	}
	want("the old revision", oldText, old.GetRevisionId())
	want("the new revision", newText, newer.GetRevisionId())
	_, err := f.send("\x04a")
	wantCode(t, "no revision fits", err, codes.InvalidArgument)

	newest := f.commitSchema(strings.Replace(avroNew, `"name":"F"`, `"name":"F","doc":"the same"`, 1))
	want("two revisions fit", newText, newest.GetRevisionId())
	newer = newest

	set.FirstRevisionId = newer.GetRevisionId()
	_, err = f.pub.UpdateTopic(f.ctx, &pubsubpb.UpdateTopicRequest{Topic: &pubsubpb.Topic{Name: topicA, SchemaSettings: set}, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"schema_settings"}}})
	if err != nil {
		t.Fatal(err)
	}
	want("the new revision alone", newText, newer.GetRevisionId())
	_, err = f.send(oldText)
	wantCode(t, "a revision that is not allowed", err, codes.InvalidArgument)

	if _, err := f.sch.DeleteSchema(f.ctx, &pubsubpb.DeleteSchemaRequest{Name: schemaA}); err != nil {
		t.Fatal(err)
	}
	f = f.reopen()
	f.createSchema(avroNew) // One of the same name is another schema.
	_, err = f.send(newText)
	wantCode(t, "the schema was deleted", err, codes.NotFound)
	if got, err := f.pub.GetTopic(f.ctx, &pubsubpb.GetTopicRequest{Topic: topicA}); err != nil || got.GetSchemaSettings().GetSchema() != deletedSchema {
		t.Errorf("the topic says %v, %v", got, err)
	}
}

func TestSchemaSettings(t *testing.T) {
	t.Parallel()
	f := open(t, Options{})
	f.createSchema(avroOld)
	for name, c := range map[string]struct {
		set  *pubsubpb.SchemaSettings
		want codes.Code
	}{
		"no encoding": {&pubsubpb.SchemaSettings{Schema: schemaA}, codes.InvalidArgument},
		"no schema":   {&pubsubpb.SchemaSettings{Schema: schemaA + "x", Encoding: pubsubpb.Encoding_JSON}, codes.NotFound},
		"no name":     {&pubsubpb.SchemaSettings{Encoding: pubsubpb.Encoding_JSON}, codes.InvalidArgument},
		"no revision": {&pubsubpb.SchemaSettings{Schema: schemaA, Encoding: pubsubpb.Encoding_JSON, LastRevisionId: "1"}, codes.NotFound},
	} {
		_, err := f.pub.CreateTopic(f.ctx, &pubsubpb.Topic{Name: topicB, SchemaSettings: c.set})
		wantCode(t, name, err, c.want)
	}
}
