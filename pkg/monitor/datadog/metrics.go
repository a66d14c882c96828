package datadog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"time"

	"github.com/latamctl/latamctl/pkg/monitor/declare"
)

// metricName is what Datadog takes as the name of a metric, of at most maxMetricName characters.
var metricName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.]*$`)

const maxMetricName = 200

func isMetric(name string) bool { return len(name) <= maxMetricName && metricName.MatchString(name) }

// maxConflicts is how often the settings of a metric are tried when Datadog says that they clash with others.
const maxConflicts = 4

// metricSettings is the tag configuration of a metric, the only thing that is needed of version 2 of the API.
type metricSettings struct {
	Data struct {
		Type       string           `json:"type"`
		ID         string           `json:"id"`
		Attributes metricAttributes `json:"attributes"`
	} `json:"data"`
}

type metricAttributes struct {
	MetricType         string   `json:"metric_type,omitempty"`
	IncludePercentiles *bool    `json:"include_percentiles,omitempty"`
	Tags               []string `json:"tags"`
	ModifiedAt         string   `json:"modified_at,omitempty"`
}

func metricPath(name string) string { return "/api/v2/metrics/" + url.PathEscape(name) + "/tags" }

// getMetric reads the settings of a metric, in the shape in which they are declared.
func (c *Client) getMetric(ctx context.Context, name string) (declare.Live, error) {
	return c.metric(ctx, http.MethodGet, name, nil)
}

// createMetric sets up a metric. Settings that someone else made meanwhile stay, and ours are added.
func (c *Client) createMetric(ctx context.Context, payload map[string]any) (declare.Live, error) {
	settings, err := settingsOf(payload)
	if err != nil {
		return declare.Live{}, err
	}
	settings.Data.Attributes.MetricType = "distribution"
	name := settings.Data.ID
	for try := 1; ; try++ {
		live, err := c.metric(ctx, http.MethodPost, name, settings)
		var refused *Error
		if !errors.As(err, &refused) || refused.Status != http.StatusConflict {
			return live, err
		}
		existing, getErr := c.getMetric(ctx, name)
		if getErr == nil {
			return c.updateMetric(ctx, name, united(existing.Payload, payload))
		}
		if !errors.Is(getErr, ErrNotFound) || try == maxConflicts {
			return live, err
		}
		if err := pause(ctx, backoff(try)+time.Second, nil); err != nil {
			return live, err
		}
	}
}

func (c *Client) updateMetric(ctx context.Context, name string, payload map[string]any) (declare.Live, error) {
	settings, err := settingsOf(payload)
	if err != nil {
		return declare.Live{}, err
	}
	if settings.Data.ID != name {
		return declare.Live{}, invalid(fmt.Sprintf("metric: %q instead of %q", settings.Data.ID, name))
	}
	return c.metric(ctx, http.MethodPatch, name, settings)
}

func (c *Client) metric(ctx context.Context, method, name string, settings any) (declare.Live, error) {
	var answer metricSettings
	err := c.read(ctx, &answer, func(ctx context.Context) (*http.Response, error) {
		return c.raw(ctx, method, metricPath(name), settings)
	})
	if err != nil {
		return declare.Live{}, err
	}
	a := answer.Data.Attributes
	tags := make([]any, len(a.Tags))
	for i, tag := range a.Tags {
		tags[i] = tag
	}
	payload := map[string]any{"metric": name, "tags": tags, "include_percentiles": a.IncludePercentiles != nil && *a.IncludePercentiles}
	if a.MetricType != "" {
		payload["metric_type"] = a.MetricType
	}
	return declare.Live{Kind: declare.Metric, ID: name, Payload: payload, Modified: a.ModifiedAt}, nil
}

// settingsOf reads a declared metric: metric, include_percentiles and tags. What a read one has besides is left out.
func settingsOf(payload map[string]any) (metricSettings, error) {
	var settings metricSettings
	var declared struct {
		Metric             string   `json:"metric"`
		IncludePercentiles *bool    `json:"include_percentiles"`
		Tags               []string `json:"tags"`
	}
	for key := range payload {
		if !slices.Contains([]string{"metric", "include_percentiles", "tags", "metric_type"}, key) {
			return settings, invalid(key + ": the settings of a metric have no such field")
		}
	}
	data, err := json.Marshal(payload)
	if err == nil {
		err = json.Unmarshal(data, &declared)
	}
	if err != nil {
		return settings, invalid(err.Error())
	}
	if !isMetric(declared.Metric) {
		return settings, invalid(fmt.Sprintf("metric: %q is not the name of one", declared.Metric))
	}
	settings.Data.Type, settings.Data.ID = "manage_tags", declared.Metric
	settings.Data.Attributes = metricAttributes{IncludePercentiles: declared.IncludePercentiles, Tags: append([]string{}, declared.Tags...)}
	return settings, nil
}

// united is a metric with the tags of both, and the percentiles of either.
func united(live, wanted map[string]any) map[string]any {
	tags := map[string]bool{}
	var all []any
	for _, of := range []map[string]any{live, wanted} {
		list, _ := of["tags"].([]any)
		for _, tag := range list {
			if text, ok := tag.(string); ok && !tags[text] {
				tags[text] = true
				all = append(all, text)
			}
		}
	}
	return map[string]any{
		"metric": wanted["metric"], "tags": all,
		"include_percentiles": live["include_percentiles"] == true || wanted["include_percentiles"] == true,
	}
}
