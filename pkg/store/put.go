package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"cloud.google.com/go/bigtable"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/latamctl/latamctl/pkg/dataset"
)

// maxCells is the number of mutations that one request may carry. The client would split a larger
// one itself and then report a part that is refused as a whole as if each of its rows were at fault.
const maxCells = 100_000

// Put writes rows in one bulk request, or in several where they are too many for one, and returns
// one error for each row, in their order; nil means that the row is committed. An error is
// ErrUnavailable (the outcome may be unknown: write it again, it is idempotent; ErrExhausted comes with
// it when fewer rows at a time would help), ErrPoison, ErrMisconfigured, or context.Canceled when the
// caller gave up.
//
// Only SetCell with the row's own timestamp is used, because the client retries a whole group
// after a broken stream: any other write would leave a second cell behind.
func (c *Client) Put(ctx context.Context, table string, rows []dataset.Row) []error {
	errs := make([]error, len(rows))
	c.putBisecting(ctx, table, rows, errs)
	return errs
}

// putBisecting splits a request that Bigtable refuses as a whole until the row at fault stands
// alone: one bad row in many must not take its neighbours with it.
func (c *Client) putBisecting(ctx context.Context, table string, rows []dataset.Row, errs []error) {
	if len(rows) == 0 {
		return
	}
	if len(rows) == 1 || countCells(rows) <= maxCells {
		rowErrs, err := c.apply(ctx, table, rows)
		if err == nil {
			for i, rowErr := range rowErrs {
				if rowErr != nil {
					errs[i] = fmt.Errorf("write row to table %s: %w", table, classify(rowErr))
				}
			}
			return
		}
		err = fmt.Errorf("write %d rows to table %s: %w", len(rows), table, err)
		if !errors.Is(err, ErrPoison) || len(rows) == 1 {
			for i := range errs {
				errs[i] = err
			}
			return
		}
	}
	half := len(rows) / 2
	c.putBisecting(ctx, table, rows[:half], errs[:half])
	c.putBisecting(ctx, table, rows[half:], errs[half:])
}

func countCells(rows []dataset.Row) (n int) {
	for _, row := range rows {
		n += len(row.Cells)
	}
	return n
}

func (c *Client) apply(ctx context.Context, table string, rows []dataset.Row) ([]error, error) {
	keys := make([]string, len(rows))
	muts := make([]*bigtable.Mutation, len(rows))
	for i, row := range rows {
		keys[i], muts[i] = row.Key, toMutation(row)
	}
	return c.applyBulk(ctx, table, keys, muts)
}

// applyBulk is the only call of ApplyBulk; its error has its kind. The deadline is ours because the
// client retries without end, and it retries a whole group: what comes here must do no harm twice.
func (c *Client) applyBulk(ctx context.Context, table string, keys []string, muts []*bigtable.Mutation) (rowErrs []error, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.opts.CommitTimeout)
	defer cancel()
	defer c.observed.time(ctx, table, "mutate_rows", time.Now(), &err)
	rowErrs, err = c.client.Open(table).ApplyBulk(ctx, keys, muts)
	if err != nil {
		return nil, classify(err)
	}
	return rowErrs, nil
}

func toMutation(row dataset.Row) *bigtable.Mutation {
	m := bigtable.NewMutation()
	ts := bigtable.Timestamp(row.Time.UnixMilli() * 1000)
	for _, cell := range row.Cells {
		m.Set(dataset.Family, cell.Column, ts, cell.Value)
	}
	return m
}

// classify adds the kind of an error from the client. Unknown codes count as unavailable, because
// a retry is harmless: every write here is idempotent.
func classify(err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	switch status.Code(err) {
	case codes.InvalidArgument, codes.OutOfRange:
		return fmt.Errorf("%w: %w", ErrPoison, err)
	case codes.PermissionDenied, codes.Unauthenticated:
		return fmt.Errorf("%w: %w: %w", ErrMisconfigured, ErrDenied, err)
	case codes.NotFound, codes.FailedPrecondition, codes.Unimplemented:
		return fmt.Errorf("%w: %w", ErrMisconfigured, err)
	case codes.Canceled:
		return fmt.Errorf("%w: %w", context.Canceled, err)
	case codes.ResourceExhausted:
		return fmt.Errorf("%w: %w: %w", ErrUnavailable, ErrExhausted, err)
	case codes.DeadlineExceeded:
		return fmt.Errorf("%w: %w: %w", ErrUnavailable, context.DeadlineExceeded, err)
	default:
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
}
