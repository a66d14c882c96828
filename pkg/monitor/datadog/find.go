package datadog

import (
	"context"
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
		all, err = c.slosWith(ctx, tag)
	case declare.Metric, declare.Dashboard:
	}
	return slices.DeleteFunc(all, func(l declare.Live) bool {
		tags, _ := l.Payload["tags"].([]any)
		return !slices.Contains(tags, any(tag))
	}), err
}
