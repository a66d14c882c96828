package ingest

import (
	"context"

	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/dataset"
)

// Row returns the row that ingest stores for a message.
// A message that ingest would reject is a *dataset.RejectError; any other error says that its payload
// cannot be read at the moment. Payloads may be nil, as in Deps.
func Row(ctx context.Context, ds *dataset.Dataset, payloads Payloads, m bus.Message) (dataset.Row, error) {
	r := route{ds: ds, deps: Deps{Payloads: payloads}}
	rec, err := r.decode(ctx, m)
	if err != nil {
		return dataset.Row{}, err
	}
	return rec.Row(recordTime(m)), nil
}
