package datadog

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/DataDog/datadog-api-client-go/v2/api/datadogV1"

	"github.com/latamctl/latamctl/pkg/monitor/declare"
)

// maxHistory is the span of one question. Datadog does not document how much it answers at once; its longest timeframe is this.
const maxHistory = 90 * 24 * time.Hour

// The units of a History.
const (
	Events  = "events"
	Seconds = "seconds"
)

// History is what an SLO counted over a span.
type History struct {
	From, To time.Time
	// Good and Total are events, or seconds of an SLO of time slices or monitors.
	Good, Total float64
	Unit        string
	// NoData is how long there was no data. Datadog counts that as good time.
	NoData time.Duration
	// Missing is how long Datadog has no value for; it is not in Total.
	Missing time.Duration
}

// history is the part of an answer that counts.
type history struct {
	Data *struct {
		Type    string
		Overall struct {
			Value   *float64     `json:"sli_value"`
			History [][2]float64 `json:"history"`
		}
		Series *struct {
			Numerator, Denominator struct{ Sum float64 }
		}
	}
	Errors []struct{ Error string }
}

// History adds up what an SLO counted from one time to another, in spans that Datadog answers. The sums of events are exact; values of
// time are weighted by their spans. The target, in percent, only makes Datadog check it; 0 leaves it out.
func (c *Client) History(ctx context.Context, id string, from, to time.Time, target float64) (History, error) {
	from, to = from.UTC().Truncate(time.Second), to.UTC().Truncate(time.Second)
	total := History{From: from, To: to}
	if _, err := checkID(declare.SLO, id); err != nil {
		return total, err
	}
	if !from.Before(to) || target < 0 || target >= 100 {
		return total, invalid(fmt.Sprintf("history from %s to %s with target %v", from.Format(time.RFC3339), to.Format(time.RFC3339), target))
	}
	optional := datadogV1.GetSLOHistoryOptionalParameters{}
	if target > 0 {
		optional.Target = &target
	}
	for start := from; start.Before(to); start = start.Add(maxHistory) {
		end := start.Add(maxHistory)
		if end.After(to) {
			end = to
		}
		var answer history
		err := c.read(ctx, &answer, func(ctx context.Context) (*http.Response, error) {
			_, response, err := c.slos.GetSLOHistory(ctx, id, start.Unix(), end.Unix(), optional)
			return response, err
		})
		if err == nil {
			err = c.add(&total, answer, start, end)
		}
		if err != nil {
			return total, fmt.Errorf("read the history of SLO %s from %s: %w", id, start.Format(time.DateOnly), err)
		}
	}
	return total, nil
}

func (c *Client) add(total *History, answer history, start, end time.Time) error {
	d := answer.Data
	if d == nil {
		var why []string
		for _, e := range answer.Errors {
			why = append(why, c.clean(e.Error))
		}
		return fmt.Errorf("%w: no data: %s", ErrPartial, strings.Join(why, "; "))
	}
	span := end.Sub(start)
	unit := Seconds
	if d.Type == "metric" || d.Series != nil {
		unit = Events
	}
	if total.Unit != "" && total.Unit != unit {
		return errors.New("it was counted in events and in seconds")
	}
	total.Unit = unit
	switch {
	case d.Series != nil:
		good, all := d.Series.Numerator.Sum, d.Series.Denominator.Sum
		if good < 0 || good > all*(1+1e-9) {
			return fmt.Errorf("%v of %v events cannot be good", good, all)
		}
		total.Good += min(good, all)
		total.Total += all
	case unit == Seconds && d.Overall.Value != nil:
		if *d.Overall.Value < 0 || *d.Overall.Value > 100 {
			return fmt.Errorf("the value is %v percent", *d.Overall.Value)
		}
		total.Good += *d.Overall.Value / 100 * span.Seconds()
		total.Total += span.Seconds()
		total.NoData += withoutData(d.Overall.History, start, end)
	default:
		total.Missing += span
	}
	return nil
}

// withoutData adds up the spans whose state is 2, no data. A state lasts until the next one.
func withoutData(states [][2]float64, start, end time.Time) time.Duration {
	const noData = 2
	var sum time.Duration
	for i, state := range states {
		from, to := time.Unix(int64(state[0]), 0), end
		if i+1 < len(states) {
			to = time.Unix(int64(states[i+1][0]), 0)
		}
		if from.Before(start) {
			from = start
		}
		if to.After(end) {
			to = end
		}
		if state[1] == noData && from.Before(to) {
			sum += to.Sub(from)
		}
	}
	return sum
}
