package ingest

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/payload"
)

// attrReserved begins the attribute names that Pub/Sub keeps for itself.
const attrReserved = "goog"

// Pub/Sub's limits on attributes.
const (
	maxAttributes          = 100
	maxAttributeValueBytes = 1024
	maxErrorBytes          = 1000
	maxMessageBytes        = 10_000_000
	perAttributeBytes      = 16 // what the encoding of an attribute may take besides its text
)

// fit shortens a payload that with the attributes would exceed what Pub/Sub takes, and notes its
// real size: a rejection that can never be published would come back for ever.
func fit(data []byte, attrs map[string]string) []byte {
	room := maxMessageBytes - perAttributeBytes
	attrs[bus.AttrDataBytes] = strconv.Itoa(len(data))
	for key, value := range attrs {
		room -= len(key) + len(value) + perAttributeBytes
	}
	if len(data) <= room {
		delete(attrs, bus.AttrDataBytes)
		return data
	}
	return data[:max(0, room)]
}

// deadLetter returns the attributes of a rejected message: where, why and what it was. Original
// attributes follow as far as Pub/Sub's limit lets them, so that a dead letter can always be published.
func deadLetter(ds *dataset.Dataset, m bus.Message, stage string, cause error) map[string]string {
	reason, field := rejection(cause)
	attrs := map[string]string{
		bus.AttrStage:        stage,
		bus.AttrReason:       reason,
		bus.AttrError:        cut(cause.Error(), maxErrorBytes),
		bus.AttrDataset:      ds.Name,
		bus.AttrSubscription: ds.Subscription(),
		bus.AttrMessageID:    m.ID,
		bus.AttrPublishTime:  recordTime(m).UTC().Format(time.RFC3339Nano),
	}
	if field != "" {
		attrs[bus.AttrField] = cut(field, maxAttributeValueBytes)
	}
	if m.DeliveryAttempt > 0 {
		attrs[bus.AttrAttempt] = strconv.Itoa(m.DeliveryAttempt)
	}
	// Pub/Sub keeps the names of these attributes for itself, and without them a binary payload says nothing.
	if name := m.Attributes[payload.AttrSchemaName]; name != "" {
		attrs[bus.AttrSchema] = cut(name+"@"+m.Attributes[payload.AttrSchemaRevision], maxAttributeValueBytes)
		attrs[bus.AttrEncoding] = cut(m.Attributes[payload.AttrSchemaEncoding], maxAttributeValueBytes)
	}
	for _, key := range slices.Sorted(maps.Keys(m.Attributes)) {
		if len(attrs) == maxAttributes-1 { // One is kept free for the size of a payload that is cut.
			break
		}
		if strings.HasPrefix(key, bus.AttrPrefix) || strings.HasPrefix(key, attrReserved) {
			continue
		}
		attrs[key] = m.Attributes[key]
	}
	return attrs
}

// cut shortens s to at most n bytes of valid UTF-8, which attributes must be.
func cut(s string, n int) string {
	s = strings.ToValidUTF8(s, "�")
	if len(s) <= n {
		return s
	}
	n -= len("…")
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}
