package ingest

import (
	"testing"
	"time"

	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/dataset"
)

func TestRecordTime(t *testing.T) {
	t.Parallel()
	published := time.Date(2024, 2, 29, 12, 0, 0, 5000, time.UTC)
	for _, tc := range []struct {
		name, attribute string
		want            time.Time
	}{
		{"none", "", published},
		{"earlier", "2024-02-29T11:59:59.123456789Z", time.Date(2024, 2, 29, 11, 59, 59, 123456789, time.UTC)},
		{"earlier in another zone", "2024-02-29T08:00:00-03:00", time.Date(2024, 2, 29, 11, 0, 0, 0, time.UTC)},
		{"the same", "2024-02-29T12:00:00.000005Z", published},
		{"later", "2024-02-29T12:00:01Z", published},
		{"far later", "9999-12-31T23:59:59Z", published},
		{"not a time", "yesterday", published},
		{"before 1970", "1969-12-31T23:59:59Z", published},
		{"long before 1970", "0001-01-01T00:00:00Z", published},
		{"the first of all", "1970-01-01T00:00:00Z", time.Unix(0, 0).UTC()},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			m := bus.Message{PublishTime: published, Attributes: map[string]string{bus.AttrPublishTime: tc.attribute}}
			if got := recordTime(m); !got.Equal(tc.want) {
				t.Errorf("got %v, want %v", got, tc.want)
			}
			// A record that is rejected a second time still says when it was published first.
			letter := deadLetter(loadDataset(t), m, stageDecode, &dataset.RejectError{Reason: dataset.ReasonBadJSON})
			if got, err := time.Parse(time.RFC3339Nano, letter[bus.AttrPublishTime]); err != nil || !got.Equal(tc.want) {
				t.Errorf("its dead letter says %v, %v; want %v", got, err, tc.want)
			}
		})
	}
}
