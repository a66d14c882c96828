package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/engine"
	"github.com/latamctl/latamctl/pkg/store"
)

// disownIndexes takes the marks away from indexes of the datasets that are not declared any more:
// from now on rows are stored without their entries, so that whoever declares such an index again
// must not take it for complete. It comes before ingest stores the first row.
func (a *app) disownIndexes(ctx context.Context, p *platform, datasets []*dataset.Dataset) error {
	ctx, cancel := context.WithTimeout(ctx, ensureTimeout)
	defer cancel()
	err := p.disownIndexes(ctx, a.decl, datasets)
	if err == nil {
		return nil
	}
	err = fmt.Errorf("look for indexes that are not declared any more: %w", err)
	if p.engine.Kind == engine.GCP && ctx.Err() == nil {
		// The permission to list tables is worth a warning, not a service that does not start.
		a.log.Warn("an index that is declared again later may lack rows: give it a new name then", "error", err)
		return nil
	}
	return fail(exitUnavailable, "check that the emulators answer: latamctl doctor", err)
}

func (p *platform) disownIndexes(ctx context.Context, decl *dataset.Declaration, datasets []*dataset.Dataset) error {
	admin, err := store.OpenAdmin(ctx, p.project, p.instance, p.engine.Bigtable...)
	if err != nil {
		return err
	}
	if p.engine.Kind == engine.GCP { // On the others it shares the engine's connection.
		defer func() { _ = admin.Close() }()
	}
	tables, err := admin.Tables(ctx)
	if err != nil {
		return err
	}
	for _, table := range undeclaredIndexes(tables, decl, datasets) {
		mark, err := p.store.Get(ctx, table, dataset.IndexMark, nil)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		row, marked := dataset.IndexUnmarkRow(mark)
		if !marked {
			continue
		}
		if err := p.store.Put(ctx, table, []dataset.Row{row})[0]; err != nil {
			return err
		}
	}
	return nil
}

// undeclaredIndexes returns those tables that could be of an index of the datasets and are not of
// the declaration.
func undeclaredIndexes(tables []string, decl *dataset.Declaration, datasets []*dataset.Dataset) (undeclared []string) {
	declared := map[string]bool{}
	for _, ds := range decl.Datasets {
		for _, t := range store.TablesOf(ds) {
			declared[t.Name] = true
		}
	}
	for _, table := range tables {
		for _, ds := range datasets {
			if !declared[table] && strings.HasPrefix(table, ds.Table()+"-") {
				undeclared = append(undeclared, table)
				break
			}
		}
	}
	return undeclared
}
