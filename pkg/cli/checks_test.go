package cli

import (
	"strings"
	"testing"

	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/engine"
	"github.com/latamctl/latamctl/pkg/store"
)

// TestChecksAskForEveryDataset has the topic and the table of the last dataset missing: the service is not
// ready, and says which.
func TestChecksAskForEveryDataset(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	d, err := dataset.Load("latam.yaml", []byte(`
version: 1
name: shop
datasets:
  orders: {fields: {number: {type: int64, required: true}}, key: [number]}
  stock:  {fields: {number: {type: int64, required: true}}, key: [number]}
`))
	if err != nil {
		t.Fatal(err)
	}
	e, err := engine.Start(ctx, engine.Options{Kind: engine.Memory})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	p := &platform{engine: e, project: localProject, instance: "shop"}
	if p.bus, err = bus.Open(ctx, bus.Options{Project: p.project, Client: e.Pubsub}); err != nil {
		t.Fatal(err)
	}
	if p.store, err = store.Open(ctx, store.Options{Project: p.project, Instance: p.instance, Client: e.Bigtable}); err != nil {
		t.Fatal(err)
	}
	for made, want := range []string{"orders", "stock", ""} {
		if made > 0 {
			if err := p.ensure(ctx, d.Datasets[made-1:made]); err != nil {
				t.Fatal(err)
			}
		}
		for _, check := range p.checks(d.Datasets, nil) {
			if err := check.Run(ctx); want == "" && err != nil || want != "" && (err == nil || made > 0 && !strings.Contains(err.Error(), want)) {
				t.Errorf("with %d of 2 datasets %s says %v, want %q", made, check.Name, err, want)
			}
		}
	}
}
