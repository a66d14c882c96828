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
)

// The attributes that a dead letter carries besides the original ones.
const (
	AttrStage        = "latam.stage"        // decode or commit
	AttrReason       = "latam.reason"       // one of dataset's reasons, or refused_by_store
	AttrError        = "latam.error"        // the whole message for a person
	AttrField        = "latam.field"        // the field at fault, when there is one
	AttrDataset      = "latam.dataset"      // the dataset
	AttrSubscription = "latam.subscription" // where the record came from
	AttrMessageID    = "latam.message_id"   // the original message's id
	AttrPublishTime  = "latam.publish_time" // the original message's publish time, RFC 3339
	AttrAttempt      = "latam.attempt"      // the delivery attempt, when the subscription counts them
	attrPrefix       = "latam."
	attrReserved     = "goog"
)

// Pub/Sub's limits on attributes.
const (
	maxAttributes          = 100
	maxAttributeValueBytes = 1024
	maxErrorBytes          = 1000
)

// deadLetter returns the attributes of a rejected message: where, why and what it was. Original
// attributes follow as far as Pub/Sub's limit lets them, so that a dead letter can always be published.
func deadLetter(ds *dataset.Dataset, m bus.Message, stage string, cause error) map[string]string {
	reason, field := rejection(cause)
	attrs := map[string]string{
		AttrStage:        stage,
		AttrReason:       reason,
		AttrError:        cut(cause.Error(), maxErrorBytes),
		AttrDataset:      ds.Name,
		AttrSubscription: ds.Subscription(),
		AttrMessageID:    m.ID,
		AttrPublishTime:  m.PublishTime.UTC().Format(time.RFC3339Nano),
	}
	if field != "" {
		attrs[AttrField] = cut(field, maxAttributeValueBytes)
	}
	if m.DeliveryAttempt > 0 {
		attrs[AttrAttempt] = strconv.Itoa(m.DeliveryAttempt)
	}
	for _, key := range slices.Sorted(maps.Keys(m.Attributes)) {
		if len(attrs) == maxAttributes {
			break
		}
		if strings.HasPrefix(key, attrPrefix) || strings.HasPrefix(key, attrReserved) {
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
