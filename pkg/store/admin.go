package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	"cloud.google.com/go/bigtable"
	"google.golang.org/api/option"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/latamctl/latamctl/pkg/dataset"
)

// Admin creates and inspects tables. On Google Cloud only Terraform creates them; local engines
// and emulators have no Terraform, so the services do it there.
type Admin struct {
	client *bigtable.AdminClient
}

// OpenAdmin connects to the instance's table administration.
func OpenAdmin(ctx context.Context, project, instance string, clientOpts ...option.ClientOption) (*Admin, error) {
	client, err := bigtable.NewAdminClient(ctx, project, instance, clientOpts...)
	if err != nil {
		return nil, fmt.Errorf("open administration of bigtable instance %s: %w", instance, err)
	}
	return &Admin{client: client}, nil
}

// Close ends the connection.
func (a *Admin) Close() error { return a.client.Close() }

// Table is a table as a declaration wants it.
type Table struct {
	Name string
	// MaxAge is the age by cell timestamp at which cells may be collected; 0 keeps them.
	MaxAge time.Duration
}

// TableOf returns the table that holds a dataset's rows.
func TableOf(ds *dataset.Dataset) Table { return Table{Name: ds.Table(), MaxAge: ds.Retention} }

// TablesOf returns the dataset's table and those of its indexes, whose entries grow old with their rows.
func TablesOf(ds *dataset.Dataset) []Table {
	tables := []Table{TableOf(ds)}
	for i := range ds.Indexes {
		tables = append(tables, Table{Name: ds.IndexTable(&ds.Indexes[i]), MaxAge: ds.Retention})
	}
	return tables
}

// Ensure creates the table and its data family, or brings the family's garbage collection rule
// up to date. It is safe to call from several processes at once.
func (a *Admin) Ensure(ctx context.Context, t Table) error {
	families := map[string]bigtable.GCPolicy{dataset.Family: policy(t)}
	err := a.client.CreateTableFromConf(ctx, &bigtable.TableConf{TableID: t.Name, Families: families})
	if err == nil {
		return nil
	}
	if status.Code(err) != codes.AlreadyExists {
		return fmt.Errorf("create table %s: %w", t.Name, classify(err))
	}
	info, err := a.client.TableInfo(ctx, t.Name)
	if err != nil {
		return fmt.Errorf("describe table %s: %w", t.Name, classify(err))
	}
	if !slices.Contains(info.Families, dataset.Family) {
		if err := a.client.CreateColumnFamily(ctx, t.Name, dataset.Family); err != nil && status.Code(err) != codes.AlreadyExists {
			return fmt.Errorf("create family %s of table %s: %w", dataset.Family, t.Name, classify(err))
		}
	}
	if err := a.client.SetGCPolicy(ctx, t.Name, dataset.Family, policy(t)); err != nil {
		return fmt.Errorf("set garbage collection of table %s: %w", t.Name, classify(err))
	}
	return nil
}

// policy keeps one version of a cell: the row is its newest event. An age limit joins it as a
// union, which collects what either rule names.
func policy(t Table) bigtable.GCPolicy {
	newest := bigtable.MaxVersionsPolicy(1)
	if t.MaxAge == 0 {
		return newest
	}
	return bigtable.UnionPolicy(newest, bigtable.MaxAgePolicy(t.MaxAge))
}

// Tables returns the names of all tables of the instance.
func (a *Admin) Tables(ctx context.Context) ([]string, error) {
	names, err := a.client.Tables(ctx)
	if err != nil {
		return nil, fmt.Errorf("list tables: %w", classify(err))
	}
	return names, nil
}

// Missing returns the names of those tables that the instance does not have.
func (a *Admin) Missing(ctx context.Context, tables []Table) ([]string, error) {
	var missing []string
	for _, t := range tables {
		_, err := a.client.TableInfo(ctx, t.Name)
		switch {
		case err == nil:
		case status.Code(err) == codes.NotFound:
			missing = append(missing, t.Name)
		default:
			return nil, fmt.Errorf("describe table %s: %w", t.Name, classify(err))
		}
	}
	return missing, nil
}

// Unfit returns the names of those tables that exist without the family of the columns. Those that do
// not exist are Missing's.
func (a *Admin) Unfit(ctx context.Context, tables []Table) ([]string, error) {
	var unfit []string
	for _, t := range tables {
		info, err := a.client.TableInfo(ctx, t.Name)
		switch {
		case status.Code(err) == codes.NotFound:
		case err != nil:
			return nil, fmt.Errorf("describe table %s: %w", t.Name, classify(err))
		case !slices.Contains(info.Families, dataset.Family):
			unfit = append(unfit, t.Name)
		}
	}
	return unfit, nil
}
