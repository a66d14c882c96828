package datadog

import (
	"context"
	"net/http"
	"slices"

	"github.com/DataDog/datadog-api-client-go/v2/api/datadogV1"

	"github.com/latamctl/latamctl/pkg/monitor/declare"
)

// Find returns the monitors or SLOs that carry a tag, whoever owns them.
func (c *Client) Find(ctx context.Context, kind declare.Kind, tag string) ([]declare.Live, error) {
	var all []declare.Live
	var err error
	switch kind {
	case declare.Monitor:
		all, err = c.readMonitors(ctx, datadogV1.ListMonitorsOptionalParameters{MonitorTags: &tag})
	case declare.SLO:
		all, err = c.findSLOs(ctx, tag)
	case declare.Metric, declare.Dashboard:
	}
	return slices.DeleteFunc(all, func(l declare.Live) bool {
		tags, _ := l.Payload["tags"].([]any)
		return !slices.Contains(tags, any(tag))
	}), err
}

func (c *Client) findSLOs(ctx context.Context, tag string) ([]declare.Live, error) {
	items, err := c.walk(ctx, declare.SLO, func(ctx context.Context, offset, limit int) (chunk, error) {
		from, most := int64(offset), int64(limit)
		var page struct {
			Data []map[string]any `json:"data"`
		}
		err := c.read(ctx, &page, func(ctx context.Context) (*http.Response, error) {
			_, response, err := c.slos.ListSLOs(ctx, datadogV1.ListSLOsOptionalParameters{TagsQuery: &tag, Offset: &from, Limit: &most})
			return response, err
		})
		return chunk{page.Data, -1}, err
	})
	if err != nil {
		return nil, err
	}
	all := make([]declare.Live, len(items))
	for i, item := range items {
		if all[i], err = liveOf(declare.SLO, item); err != nil {
			return nil, partial(declare.SLO, "%v", err)
		}
	}
	return all, nil
}
