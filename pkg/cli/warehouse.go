package cli

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/latamctl/latamctl/pkg/engine"
	"github.com/latamctl/latamctl/pkg/warehouse"
	"github.com/latamctl/latamctl/services/query"
)

// warehouseOptions say where BigQuery is, for the datasets that leave their aggregates to it.
type warehouseOptions struct {
	dataset, suffix, endpoint, location string
	maxBytes                            int64
	// onRows computes all aggregates from the rows: on this machine there is no BigQuery.
	onRows bool
}

func addWarehouseFlags(cmd *cobra.Command, o *warehouseOptions) {
	d := warehouse.Options{}.Defaults()
	f := cmd.Flags()
	f.StringVar(&o.dataset, "bigquery-dataset", "", "BigQuery dataset of datasets with aggregate: bigquery (default the declaration's name, - as _)")
	f.StringVar(&o.suffix, "bigquery-view-suffix", d.ViewSuffix, "what follows a dataset's name in the name of the view that shows each row once")
	f.StringVar(&o.location, "bigquery-location", "", "location of the BigQuery dataset (default BigQuery finds it)")
	f.Int64Var(&o.maxBytes, "bigquery-max-bytes", d.MaxBytesBilled, "most bytes that one aggregate may be billed for")
	f.StringVar(&o.endpoint, "bigquery-endpoint", "", "URL of the BigQuery API (default Google's); one on this machine is asked without credentials")
}

// needsWarehouse says whether a dataset leaves its aggregates to BigQuery.
func (a *app) needsWarehouse() (dataset string, needs bool) {
	for _, ds := range a.decl.Datasets {
		if ds.API.Aggregate == query.InWarehouse {
			return ds.Name, true
		}
	}
	return "", false
}

// checkWarehouse refuses, before anything is dialled, to serve aggregates that nobody could compute.
func (a *app) checkWarehouse(kind engine.Kind, o warehouseOptions) error {
	name, needs := a.needsWarehouse()
	if !needs || o.onRows || kind == engine.GCP || o.endpoint != "" {
		return nil
	}
	return failf(exitInvalid, "set --bigquery-endpoint, or aggregate: rows in the api of the dataset; latamctl up computes them from the rows",
		"aggregates of dataset %s are computed on BigQuery, which engine %s does not have", name, kind)
}

// openWarehouse returns nil when no dataset needs BigQuery.
func (a *app) openWarehouse(ctx context.Context, p *platform, o warehouseOptions) (query.Warehouse, error) {
	if _, needs := a.needsWarehouse(); !needs || o.onRows {
		return nil, nil //nolint:nilnil // The absence of a warehouse is no error.
	}
	opts := warehouse.Options{
		Project: p.project, Dataset: o.dataset, ViewSuffix: o.suffix, Location: o.location, MaxBytesBilled: o.maxBytes, Endpoint: o.endpoint,
	}
	if opts.Dataset == "" {
		opts.Dataset = warehouse.DatasetID(a.decl.Name)
	}
	client, err := warehouse.Open(ctx, opts)
	switch {
	case errors.Is(err, warehouse.ErrDenied):
		return nil, fail(exitDenied, "gcloud auth application-default login, or run where a service account is", err)
	case err != nil:
		return nil, fail(exitInvalid, "latamctl serve --help lists the flags of BigQuery", err)
	}
	return client, nil
}
