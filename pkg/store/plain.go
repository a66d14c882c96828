package store

import (
	"context"
	"fmt"

	"cloud.google.com/go/bigtable"
)

// Plain reads with Google's client as its documentation shows, over the same connection, and does
// nothing else: benchmarks measure the services against it.
type Plain struct{ client *bigtable.Client }

// Plain returns the client to compare with.
func (c *Client) Plain() Plain { return Plain{client: c.client} }

// Get reads one row and returns how many cells it has.
func (p Plain) Get(ctx context.Context, table, key string) (cells int, err error) {
	row, err := p.client.Open(table).ReadRow(ctx, key)
	if err != nil {
		return 0, fmt.Errorf("read row of table %s: %w", table, err)
	}
	for _, items := range row {
		cells += len(items)
	}
	return cells, nil
}

// Page reads the first rows of [start, end) and returns how many there are.
func (p Plain) Page(ctx context.Context, table, start, end string, limit int) (rows int, err error) {
	err = p.client.Open(table).ReadRows(ctx, bigtable.NewRange(start, end), func(bigtable.Row) bool {
		rows++
		return true
	}, bigtable.LimitRows(int64(limit)))
	if err != nil {
		return 0, fmt.Errorf("scan table %s: %w", table, err)
	}
	return rows, nil
}
