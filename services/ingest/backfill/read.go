package backfill

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/services/ingest"
	"github.com/latamctl/latamctl/services/ingest/replay"
)

// compareRecords is how many records are compared at a time.
const compareRecords = 500

// Read gives every record of the files to a comparer and stores none. At is the time of rows without a
// time field, and progress is told how many were read.
func Read(ctx context.Context, ds *dataset.Dataset, files []File, at time.Time, to *replay.Comparer, progress func(int64)) error {
	total := int64(0)
	var batch []replay.Placed
	take := func(data []byte) error {
		total++
		m := bus.Message{ID: strconv.FormatInt(total, 10), PublishTime: at, Data: data}
		row, err := ingest.Row(ctx, ds, nil, m)
		var rejected *dataset.RejectError
		switch {
		case errors.As(err, &rejected):
			to.Reject(rejected)
			return nil
		case err != nil:
			return err
		}
		m.Data = nil
		if batch = append(batch, replay.Placed{Row: row, Message: m}); len(batch) < compareRecords {
			return nil
		}
		err = to.Compare(ctx, batch)
		batch = batch[:0]
		progress(total)
		return err
	}
	for _, f := range files {
		if err := readFile(ctx, f, take); err != nil {
			return err
		}
	}
	progress(total)
	return to.Compare(ctx, batch)
}

func readFile(ctx context.Context, f File, take func([]byte) error) error {
	records, err := f.Open(ctx)
	if err != nil {
		return fmt.Errorf("%s %w: %w", f.Name, ErrUnreadable, err)
	}
	defer func() { _ = records.Close() }() // It was only read.
	for n := 0; ; n++ {
		data, err := records.Next()
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("%s %w after %d records: %w", f.Name, ErrUnreadable, n, err)
		}
		if err := take(data); err != nil {
			return err
		}
	}
}
