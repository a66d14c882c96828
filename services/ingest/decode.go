package ingest

import (
	"context"
	"errors"
	"fmt"
	"time"
	"unsafe"

	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/dataset"
)

// Payloads turns the payload of a message into the JSON object of its record. A payload that cannot
// be read is a *dataset.RejectError; any other error says nothing about the payload, such as that of
// a schema that cannot be fetched now. Nobody may write to what JSON returns.
type Payloads interface {
	JSON(ctx context.Context, data []byte, attributes map[string]string) ([]byte, error)
}

// decode reads and checks the record of a message. Whether it is too old or too new depends on when
// it was published and not on the time now, because this machine's clock may be wrong.
func (r *route) decode(ctx context.Context, m bus.Message) (dataset.Record, error) {
	data := m.Data
	if r.deps.Payloads != nil {
		var err error
		if data, err = r.deps.Payloads.JSON(ctx, data, m.Attributes); err != nil {
			return dataset.Record{}, fmt.Errorf("read payload: %w", err)
		}
	}
	// Nobody writes to the data of a message, so that the record can share it.
	return r.ds.DecodeString(unsafe.String(unsafe.SliceData(data), len(data)), m.PublishTime) //nolint:gosec // The string cannot change.
}

// rejected tells whether the record is at fault, and not what was needed to read it.
func rejected(err error) bool {
	var reject *dataset.RejectError
	return errors.As(err, &reject)
}

// recordTime is the time of a record without a time field: when its message was published. A dead
// letter that is published again says when it was published first, else a replay would make an old
// record newer than those that came after it. Only an earlier time is believed, and none that a cell
// cannot have.
func recordTime(m bus.Message) time.Time {
	text := m.Attributes[bus.AttrPublishTime]
	if text == "" {
		return m.PublishTime // Nearly always; parsing nothing costs an error each time.
	}
	original, err := time.Parse(time.RFC3339Nano, text)
	if err != nil || original.Unix() < 0 || !original.Before(m.PublishTime) {
		return m.PublishTime
	}
	return original.UTC()
}
