package bus

import (
	"context"
	"fmt"

	vkit "cloud.google.com/go/pubsub/v2/apiv1"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
)

// Schema returns the language, AVRO or PROTOCOL_BUFFER, and the definition of a schema by its full
// name, projects/{project}/schemas/{schema}, as of a revision; "" means the newest.
func (c *Client) Schema(ctx context.Context, name, revision string) (language, definition string, err error) {
	client, err := c.schemaClient(ctx)
	if err != nil {
		return "", "", err
	}
	if revision != "" {
		name += "@" + revision
	}
	got, err := client.GetSchema(ctx, &pubsubpb.GetSchemaRequest{Name: name, View: pubsubpb.SchemaView_FULL})
	if err != nil {
		return "", "", fmt.Errorf("get schema %s: %w", name, classify(err))
	}
	return got.GetType().String(), got.GetDefinition(), nil
}

// schemaClient opens the client of the schema service when it is first needed: few topics have a schema.
func (c *Client) schemaClient(ctx context.Context) (*vkit.SchemaClient, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.schemas == nil {
		client, err := vkit.NewSchemaClient(context.WithoutCancel(ctx), c.opts.Client...)
		if err != nil {
			return nil, fmt.Errorf("open the schema service of project %s: %w", c.opts.Project, err)
		}
		c.schemas = client
	}
	return c.schemas, nil
}
