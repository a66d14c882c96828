package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/payload"
)

// deadLetter is a message of a dead-letter topic, as people and programs see it.
type deadLetter struct {
	// ID is the original message's id; the letter's own when Pub/Sub itself forwarded it, which does
	// not tell the original's.
	ID string
	// Rejected is when the letter was published; Published is when the record was, first.
	Rejected, Published         time.Time
	Stage, Reason, Field, Error string
	// CutFrom is the size of the original payload in bytes when the letter has only its beginning.
	CutFrom int
	// Deliveries is how often the record was delivered, 0 when it was not counted.
	Deliveries int
	// Attributes are those of the original message.
	Attributes map[string]string

	letterID string
	data     []byte
	// schema is the one that the payload keeps to, name@revision, "" without one.
	schema, schemaEncoding string
}

const (
	// attrForwarded begins the attributes of what Pub/Sub's own dead-letter policy has forwarded.
	attrForwarded = "CloudPubSubDeadLetterSource"
	// attrPubsub begins the attributes that Pub/Sub keeps for itself, which nobody else may publish.
	attrPubsub = "goog"

	// reasonUndeliverable is that of a message that Pub/Sub gave up on.
	reasonUndeliverable = "undeliverable"
	// reasonUnknown is that of a message that neither ingest nor Pub/Sub has sent to the topic.
	reasonUnknown = "unknown"
	// reasonRefused is that of a record that Bigtable would not take.
	reasonRefused = "refused_by_store"
)

// readDeadLetter reads what a message of a dead-letter topic says about itself.
func readDeadLetter(m bus.Message) deadLetter {
	get := func(name string) string { return m.Attributes[name] }
	l := deadLetter{
		ID: get(bus.AttrMessageID), Rejected: m.PublishTime, Published: m.PublishTime,
		Stage: get(bus.AttrStage), Reason: get(bus.AttrReason), Field: get(bus.AttrField), Error: get(bus.AttrError),
		Attributes: originalAttributes(m.Attributes), letterID: m.ID, data: m.Data,
		schema: get(attrLetterSchema), schemaEncoding: get(attrLetterEncoding),
	}
	l.Deliveries, _ = strconv.Atoi(get(bus.AttrAttempt)) // Without one it was not counted.
	l.CutFrom, _ = strconv.Atoi(get(bus.AttrDataBytes))  // Without one it is whole.
	published := []string{get(bus.AttrPublishTime)}      // The first that is one counts.
	forwarded := get(attrForwarded+"Subscription") != "" || get(attrForwarded+"DeliveryCount") != ""
	switch {
	case l.Reason != "":
	case forwarded:
		if name := get(attrSchemaName); name != "" {
			l.schema, l.schemaEncoding = name+"@"+get(attrSchemaRevision), get(attrSchemaEncoding)
		}
		l.Reason = reasonUndeliverable
		l.ID = "" // A record that was replayed before brings none of ours, or that of another time.
		l.Deliveries, _ = strconv.Atoi(get(attrForwarded + "DeliveryCount"))
		l.Error = undeliverable(l.Deliveries, get(attrForwarded+"Subscription"), get(attrForwarded+"DeliveryErrorMessage"))
		published = append(published, get(attrForwarded+"TopicPublishTime"))
	default:
		l.Reason, l.ID = reasonUnknown, ""
		l.Error = "neither ingest nor Pub/Sub has sent it here: it has none of their attributes"
	}
	if l.ID == "" {
		l.ID = l.letterID
	}
	for _, text := range published {
		if at, err := time.Parse(time.RFC3339Nano, text); err == nil {
			l.Published = at.UTC()
			break
		}
	}
	return l
}

func undeliverable(deliveries int, subscription, said string) string {
	text := fmt.Sprintf("Pub/Sub gave up after %d deliveries from %s: each was given back or not answered", deliveries, subscription)
	if said != "" {
		text += "; the last error: " + said
	}
	return text
}

// originalAttributes leaves out what was added on the way to the dead-letter topic.
func originalAttributes(attributes map[string]string) map[string]string {
	original := maps.Clone(attributes)
	maps.DeleteFunc(original, func(name, _ string) bool {
		return strings.HasPrefix(name, bus.AttrPrefix) || strings.HasPrefix(name, attrForwarded) || strings.HasPrefix(name, attrPubsub)
	})
	return original
}

// payloadReader reads payloads that are not plain JSON, by the attributes of their message. What
// cannot be read is a *dataset.RejectError; any other error is no fault of the payload.
type payloadReader interface {
	JSON(ctx context.Context, data []byte, attributes map[string]string) ([]byte, error)
}

// recordJSON is the JSON object of a letter's record.
func (b *letterBox) recordJSON(ctx context.Context, l *deadLetter) ([]byte, error) {
	if l.encoded() == "" {
		return l.data, nil
	}
	return b.payloads.JSON(ctx, l.data, l.payloadAttributes())
}

// The attributes that say how a payload is written. Those of a schema are Pub/Sub's own, which the
// letter has under other names, because nobody else may publish them.
const (
	attrContentEncoding = payload.AttrEncoding
	attrLetterSchema    = bus.AttrSchema // name@revision
	attrLetterEncoding  = bus.AttrEncoding
	attrSchemaName      = payload.AttrSchemaName
	attrSchemaRevision  = payload.AttrSchemaRevision
	attrSchemaEncoding  = payload.AttrSchemaEncoding
)

// encoded says how the payload is written, "" for plain JSON.
func (l *deadLetter) encoded() string {
	for name, value := range l.Attributes {
		if strings.EqualFold(name, attrContentEncoding) {
			return value
		}
	}
	if l.schema != "" {
		return "a message of schema " + l.schema
	}
	return ""
}

// payloadAttributes are the attributes that the original message had for its reader.
func (l *deadLetter) payloadAttributes() map[string]string {
	if l.schema == "" {
		return l.Attributes
	}
	all := maps.Clone(l.Attributes)
	if all == nil {
		all = map[string]string{}
	}
	all[attrSchemaName], all[attrSchemaRevision], _ = strings.Cut(l.schema, "@")
	all[attrSchemaEncoding] = l.schemaEncoding
	return all
}

// plainAttributes are the attributes of a record whose payload is JSON from now on.
func plainAttributes(attributes map[string]string) map[string]string {
	plain := maps.Clone(attributes)
	maps.DeleteFunc(plain, func(name, _ string) bool { return strings.EqualFold(name, attrContentEncoding) })
	return plain
}

// check decodes a letter's record with the declaration as it is now. A *dataset.RejectError says
// why it would be rejected again; any other error that it cannot be told here.
func (b *letterBox) check(ctx context.Context, l *deadLetter) error {
	if l.CutFrom > 0 {
		return &dataset.RejectError{Reason: dataset.ReasonOversize, Detail: cutText(l)}
	}
	text, err := b.recordJSON(ctx, l)
	if err == nil {
		_, err = b.ds.Decode(text, b.app.proc.Now())
	}
	return err
}

func cutText(l *deadLetter) string {
	return fmt.Sprintf("only the first %d of its %d bytes were kept, because Pub/Sub takes no larger message with the reason beside it", len(l.data), l.CutFrom)
}

// otherReasons are those that dataset.Reasons does not have, because no record is rejected for them.
func otherReasons() map[string]string {
	return map[string]string{
		reasonRefused:       "Bigtable refused the row itself; the record keeps to the declaration.",
		reasonUndeliverable: "Ingest never settled the record: it was away, crashed on it, or Bigtable was unreachable for longer than the deliveries took.",
		reasonUnknown:       "Somebody else has published to the dead-letter topic.",
	}
}

// reasonText explains a reason to a person who has not met it before.
func reasonText(reason string) string {
	if text := otherReasons()[reason]; text != "" {
		return text
	}
	if info, ok := dataset.LookupReason(reason); ok {
		return info.Explanation
	}
	return "This version of latamctl does not know the reason."
}

// knownReasons are the reasons that --reason completes.
func knownReasons() []string {
	var names []string
	for _, info := range dataset.Reasons() {
		names = append(names, string(info.Reason))
	}
	return append(names, slices.Sorted(maps.Keys(otherReasons()))...)
}
