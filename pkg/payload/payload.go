// Package payload turns the payload of a Pub/Sub message into the JSON object of its record: it unpacks
// what is compressed and reads what a schema of the topic describes. Which attributes say so, and what
// becomes of each type, is in docs/payloads.md.
package payload

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/schema"
)

// AttrEncoding is the attribute that names the compression of a payload: gzip or zstd. As in HTTP its
// name and its value are compared without case.
const AttrEncoding = "content-encoding"

// The attributes that Pub/Sub sets on each message of a topic with a schema.
const (
	AttrSchemaName     = "googclient_schemaname"
	AttrSchemaRevision = "googclient_schemarevisionid"
	AttrSchemaEncoding = "googclient_schemaencoding"
)

// Schemas fetches definitions; pkg/bus's Client is one. Language is that of pkg/schema.
type Schemas interface {
	Schema(ctx context.Context, name, revision string) (language, definition string, err error)
}

// ErrBadSchema says that a schema was fetched and cannot be used, which only a new revision mends.
var ErrBadSchema = errors.New("the schema cannot be used")

// Decoder reads payloads. It may be used by several goroutines.
type Decoder struct {
	compiled *cache
	// large bounds how many large messages of a schema are read at a time: what they take while they
	// are read may be a hundred times their size.
	large chan struct{}
}

// largeBytes is the size from which on a message of a schema is large.
const largeBytes = 64 << 10

// New makes a decoder. The log tells of schemas that cannot be had, once a second at most for each.
func New(schemas Schemas, log *slog.Logger) *Decoder {
	return &Decoder{compiled: newCache(schemas, log), large: make(chan struct{}, runtime.GOMAXPROCS(0))}
}

// JSON returns the record of a message; the same slice when the payload is JSON already. What cannot
// be read is a *dataset.RejectError. Any other error says that the schema could not be had, so the
// message is to be tried again; it keeps the cause from Schemas, or is ErrBadSchema.
func (d *Decoder) JSON(ctx context.Context, data []byte, attributes map[string]string) ([]byte, error) {
	if len(attributes) == 0 {
		return data, nil
	}
	encoding, err := encodingOf(attributes)
	if err != nil {
		return nil, err
	}
	if encoding != "" {
		if data, err = Unpack(encoding, data); err != nil {
			return nil, err
		}
	}
	name := attributes[AttrSchemaName]
	if name == "" {
		return data, nil
	}
	return d.readSchema(ctx, data, name, attributes[AttrSchemaRevision], attributes[AttrSchemaEncoding])
}

// encodingOf returns the compression that the attributes name, "" for none.
func encodingOf(attributes map[string]string) (string, error) {
	found := ""
	for name, value := range attributes {
		if len(name) != len(AttrEncoding) || !strings.EqualFold(name, AttrEncoding) {
			continue
		}
		if found != "" && !strings.EqualFold(found, value) {
			return "", rejectf(dataset.ReasonBadEncoding, "the message has the attribute %s twice, as %.64q and %.64q", AttrEncoding, min(found, value), max(found, value))
		}
		found = value
	}
	return found, nil
}

func (d *Decoder) readSchema(ctx context.Context, data []byte, name, revision, encoding string) ([]byte, error) {
	if len(data) > dataset.MaxRecordBytes {
		return nil, rejectf(dataset.ReasonOversize, "the record has %d bytes, at most %d are taken", len(data), dataset.MaxRecordBytes)
	}
	compiled, err := d.compiled.get(ctx, schemaKey{name, revision})
	if err != nil {
		return nil, fmt.Errorf("schema %.256q, revision %.64q: %w", name, revision, err)
	}
	if len(data) >= largeBytes {
		select {
		case d.large <- struct{}{}:
			defer func() { <-d.large }()
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	text, err := compiled.Read(data, schema.Encoding(encoding))
	if err != nil {
		return nil, rejectf(dataset.ReasonBadPayload, "%s", clip(err.Error()))
	}
	return text, nil
}

// maxDetail bounds what a message takes over from a library.
const maxDetail = 400

func clip(s string) string {
	if len(s) > maxDetail {
		s = s[:maxDetail] + "…"
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

func rejectf(reason dataset.Reason, format string, args ...any) *dataset.RejectError {
	return &dataset.RejectError{Reason: reason, Detail: fmt.Sprintf(format, args...)}
}
