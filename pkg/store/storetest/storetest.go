// Package storetest is the conformance suite for anything that a store.Client is opened on. What
// passes it behaves as the rest of the program expects of Bigtable. Tests import it, nothing else.
package storetest

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"cloud.google.com/go/bigtable"
	"google.golang.org/api/option"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/store"
)

// Backend is a Bigtable instance without tables.
type Backend struct {
	Project, Instance string
	// Client are the options to dial it with.
	Client []option.ClientOption
	// Strict says that it keeps Bigtable's limits and gives a refused row Bigtable's own code.
	// Emulators take keys of any size and answer Internal for whatever they refuse in a row.
	Strict bool
	// OneAdmin says that it cannot take changes of one table from several callers at a time.
	OneAdmin bool
}

// Run runs the suite against the backend that open returns. Open is called once; the suite's
// parts use tables of their own and run in parallel.
func Run(t *testing.T, open func(t *testing.T) Backend) {
	t.Helper()
	s := newSuite(t, open(t))
	parts := []struct {
		name string
		run  func(*testing.T, *suite)
	}{
		{"round trip", testRoundTrip},
		{"column projection", testProjection},
		{"absent rows and tables", testAbsent},
		{"canceled", testCanceled},
		{"scan ranges", testScanRanges},
		{"scan of binary keys", testScanModel},
		{"scan stops early", testScanStops},
		{"scan columns", testScanColumns},
		{"scan of keys only", testKeysOnly},
		{"get many", testGetMany},
		{"newest event time wins", testNewestWins},
		{"same event time is overwritten", testSameTime},
		{"rewrite leaves one cell", testRewrite},
		{"put to an unknown table", testPutUnknownTable},
		{"put to a table without the family", testPutUnknownFamily},
		{"put with a key too long", testPutKeyTooLong},
		{"put with a refused row", testPutMixed},
		{"put of many rows", testPutMany},
		{"delete", testDelete},
		{"delete entries", testDeleteEntries},
		{"ping", testPing},
		{"ensure", testEnsure},
		{"ensure from many", testEnsureConcurrently},
		{"ensure adds the family", testEnsureFamily},
		{"ensure updates garbage collection", testEnsureGC},
		{"missing", testMissing},
	}
	// The group keeps the parallel parts within Run, so that the caller may stop the backend after it.
	t.Run("store", func(t *testing.T) {
		for _, part := range parts {
			t.Run(part.name, func(t *testing.T) {
				t.Parallel()
				part.run(t, s)
			})
		}
	})
}

// suite is the backend with a client of each kind on it.
type suite struct {
	backend Backend
	admin   *store.Admin
	client  *store.Client
	// raw and rawAdmin see what the wrapper hides, such as the older versions of a cell.
	raw      *bigtable.Client
	rawAdmin *bigtable.AdminClient
	tables   atomic.Int64
}

const timeout = 30 * time.Second

func newSuite(t *testing.T, b Backend) *suite {
	t.Helper()
	ctx := t.Context()
	s := &suite{backend: b}
	var err error
	if s.admin, err = store.OpenAdmin(ctx, b.Project, b.Instance, b.Client...); err != nil {
		t.Fatal(err)
	}
	closeAtEnd(t, s.admin.Close)
	s.client, err = store.Open(ctx, store.Options{Project: b.Project, Instance: b.Instance, Client: b.Client, CommitTimeout: timeout})
	if err != nil {
		t.Fatal(err)
	}
	closeAtEnd(t, s.client.Close)
	config := bigtable.ClientConfig{MetricsProvider: bigtable.NoopMetricsProvider{}, DisableDirectAccess: true, DisableSession: true}
	if s.raw, err = bigtable.NewClientWithConfig(ctx, b.Project, b.Instance, config, b.Client...); err != nil {
		t.Fatal(err)
	}
	closeAtEnd(t, s.raw.Close)
	if s.rawAdmin, err = bigtable.NewAdminClient(ctx, b.Project, b.Instance, b.Client...); err != nil {
		t.Fatal(err)
	}
	closeAtEnd(t, s.rawAdmin.Close)
	return s
}

// closeAtEnd ignores the error: clients that share a connection find it closed by the first of them.
func closeAtEnd(t *testing.T, end func() error) {
	t.Cleanup(func() { _ = end() })
}

// limited returns a context that ends with the test or after a generous time.
func limited(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	t.Cleanup(cancel)
	return ctx
}

func (s *suite) newName() string { return fmt.Sprintf("table-%d", s.tables.Add(1)) }

// newTable creates a table of its own for a part of the suite.
func (s *suite) newTable(t *testing.T) string {
	t.Helper()
	name := s.newName()
	if err := s.admin.Ensure(limited(t), store.Table{Name: name}); err != nil {
		t.Fatalf("ensure table %s: %v", name, err)
	}
	return name
}

// put writes rows that must all be taken.
func (s *suite) put(t *testing.T, table string, rows ...dataset.Row) {
	t.Helper()
	for i, err := range s.client.Put(limited(t), table, rows) {
		if err != nil {
			t.Fatalf("put row %q: %v", rows[i].Key, err)
		}
	}
}

// scan reads the keys of a scan in the order they come.
func (s *suite) scan(t *testing.T, table string, scan store.Scan) []string {
	t.Helper()
	keys := []string{}
	err := s.client.Scan(limited(t), table, scan, func(row dataset.Row) bool {
		keys = append(keys, row.Key)
		return true
	})
	if err != nil {
		t.Fatalf("scan %+v: %v", scan, err)
	}
	return keys
}

// rawCells reads every version of every cell of a row.
func (s *suite) rawCells(t *testing.T, table, key string) []bigtable.ReadItem {
	t.Helper()
	row, err := s.raw.Open(table).ReadRow(limited(t), key)
	if err != nil {
		t.Fatalf("read raw row %q: %v", key, err)
	}
	return row[dataset.Family]
}

// eventTime is some whole millisecond that tests add to.
func eventTime() time.Time { return time.UnixMilli(1_700_000_000_123).UTC() }

// row makes a row from pairs of column and value.
func row(key string, at time.Time, pairs ...string) dataset.Row {
	r := dataset.Row{Key: key, Time: at}
	for i := 0; i < len(pairs); i += 2 {
		r.Cells = append(r.Cells, dataset.Cell{Column: pairs[i], Value: []byte(pairs[i+1])})
	}
	return r
}
