package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"cloud.google.com/go/bigtable"

	"github.com/latamctl/latamctl/pkg/dataset"
)

// Entry names the cells of an index entry up to a time.
type Entry struct {
	Key string
	// Through is the newest time whose cell goes, in whole milliseconds.
	Through time.Time
}

// DeleteEntries removes from an index table what the entries name and leaves newer cells of the
// same key alone. It may be repeated, and repeated late: a cell written since stays when its time
// is after Through. The error is that of the first entry that was not deleted, with its kind.
func (c *Client) DeleteEntries(ctx context.Context, table string, entries []Entry) error {
	for len(entries) > 0 {
		part := entries[:min(len(entries), maxCells)]
		entries = entries[len(part):]
		if err := c.deleteEntries(ctx, table, part); err != nil {
			return fmt.Errorf("delete %d entries of table %s: %w", len(part), table, err)
		}
	}
	return nil
}

func (c *Client) deleteEntries(ctx context.Context, table string, entries []Entry) error {
	keys := make([]string, len(entries))
	muts := make([]*bigtable.Mutation, len(entries))
	for i, e := range entries {
		// An end of zero would mean without end; event times are not before 1970, so it cannot be.
		end := bigtable.Timestamp((e.Through.UnixMilli() + 1) * 1000)
		if end <= 0 {
			return errors.New("a time before 1970 is not one of an entry")
		}
		keys[i], muts[i] = e.Key, bigtable.NewMutation()
		muts[i].DeleteTimestampRange(dataset.Family, dataset.IndexColumn, 0, end)
	}
	entryErrs, err := c.applyBulk(ctx, table, keys, muts)
	if err != nil {
		return err
	}
	for _, err := range entryErrs {
		if err != nil {
			return classify(err)
		}
	}
	return nil
}
