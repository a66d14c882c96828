package topiclog

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"slices"
	"strings"
	"sync"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/latamctl/latamctl/pkg/schema"
)

// The attributes that a message of a topic with a schema has.
const (
	attrSchemaName     = "googclient_schemaname"
	attrSchemaRevision = "googclient_schemarevisionid"
	attrSchemaEncoding = "googclient_schemaencoding"
)

// deletedSchema stands in the settings of a topic whose schema was deleted.
const deletedSchema = "_deleted-schema_"

// maxRevisions is how many revisions of a schema the service keeps.
const maxRevisions = 20

// revision is one definition of a schema.
type revision struct {
	config  *pubsubpb.Schema               // never changed
	compile func() (*schema.Schema, error) // compiles once
}

func newRevision(sc *pubsubpb.Schema) *revision {
	return &revision{config: sc, compile: sync.OnceValues(func() (*schema.Schema, error) {
		return schema.Compile(context.Background(), schema.Language(sc.GetType().String()), sc.GetDefinition())
	})}
}

// newSchema makes a revision out of a request, whose definition must compile.
func (s *Server) newSchema(name string, in *pubsubpb.Schema) (*revision, error) {
	if in.GetType() == pubsubpb.Schema_TYPE_UNSPECIFIED || in.GetDefinition() == "" {
		return nil, invalid("A schema needs a type and a definition.")
	}
	id := make([]byte, 4)
	if _, err := rand.Read(id); err != nil {
		return nil, storageStatus(err)
	}
	sc := proto.CloneOf(in)
	sc.Name, sc.RevisionId, sc.RevisionCreateTime = name, hex.EncodeToString(id), timestamppb.New(s.opts.Now())
	rev := newRevision(sc)
	if _, err := rev.compile(); err != nil {
		return nil, invalid("Invalid schema definition: %v", err)
	}
	return rev, nil
}

// findRevision returns a revision by the name of its schema, with @ and its id or without for the
// newest. The caller holds s.mu.
func (s *Server) findRevision(name string) (*revision, error) {
	plain, id, _ := strings.Cut(name, "@")
	if err := checkName(plain, "schemas"); err != nil {
		return nil, err
	}
	revs := s.schema[plain]
	for _, rev := range slices.Backward(revs) {
		if id == "" || rev.config.GetRevisionId() == id {
			return rev, nil
		}
	}
	return nil, notFound(name)
}

// checkSchemaSettings checks the settings of a topic. The caller holds s.mu.
func (s *Server) checkSchemaSettings(set *pubsubpb.SchemaSettings) error {
	if set == nil || set.GetSchema() == deletedSchema {
		return nil
	}
	if set.GetEncoding() == pubsubpb.Encoding_ENCODING_UNSPECIFIED {
		return invalid("schema_settings needs an encoding, JSON or BINARY.")
	}
	for _, id := range []string{"", set.GetFirstRevisionId(), set.GetLastRevisionId()} {
		name := set.GetSchema()
		if id != "" {
			name += "@" + id
		}
		if _, err := s.findRevision(name); err != nil {
			return err
		}
	}
	return nil
}

// allowedRevisions returns what messages of a topic may be written in, newest first.
func (s *Server) allowedRevisions(set *pubsubpb.SchemaSettings) []*revision {
	s.mu.RLock()
	defer s.mu.RUnlock()
	revs := s.schema[set.GetSchema()]
	at := func(id string, otherwise int) int {
		if i := slices.IndexFunc(revs, func(r *revision) bool { return r.config.GetRevisionId() == id }); i >= 0 {
			return i
		}
		return otherwise
	}
	first, last := at(set.GetFirstRevisionId(), 0), at(set.GetLastRevisionId(), len(revs)-1)
	if first > last {
		return nil
	}
	allowed := slices.Clone(revs[first : last+1])
	slices.Reverse(allowed)
	return allowed
}

// applySchema validates messages as the topic's settings say, and adds the attributes that tell a
// subscriber how they are written.
func (s *Server) applySchema(t *topic, msgs []*pubsubpb.PubsubMessage) error {
	set := t.cfg.Load().GetSchemaSettings()
	if set == nil {
		return nil
	}
	allowed := s.allowedRevisions(set)
	if len(allowed) == 0 {
		return status.Errorf(codes.NotFound, "The schema of the topic %s was deleted.", t.name)
	}
	encoding := set.GetEncoding().String()
	for i, m := range msgs {
		rev, err := fitting(allowed, m.GetData(), schema.Encoding(encoding))
		if err != nil {
			return invalid("Message %d: Invalid data in message: Message failed schema validation: %v", i, err)
		}
		if m.Attributes == nil {
			m.Attributes = map[string]string{}
		}
		m.Attributes[attrSchemaName] = rev.config.GetName()
		m.Attributes[attrSchemaRevision] = rev.config.GetRevisionId()
		m.Attributes[attrSchemaEncoding] = encoding
	}
	return nil
}

// fitting returns the newest revision that a message fits; else the error of the newest.
func fitting(allowed []*revision, data []byte, enc schema.Encoding) (*revision, error) {
	var first error
	for _, rev := range allowed {
		compiled, err := rev.compile()
		if err == nil {
			_, err = compiled.Read(data, enc)
		}
		if err == nil {
			return rev, nil
		}
		if first == nil {
			first = err
		}
	}
	return nil, first
}
