package query

import (
	"errors"
	"fmt"
	"time"
)

// AggregateOptions bound what one aggregate may cost. The zero value of a field means its default.
type AggregateOptions struct {
	// MaxAggregateRows is how many rows one aggregate may read. Default 500,000.
	MaxAggregateRows int
	// AggregateTimeout is when an aggregate stops reading rows and answers with what it has. Twice that
	// time ends one whose rows do not come, or that BigQuery does not answer. Default 5s.
	AggregateTimeout time.Duration
	// MaxGroups is how many groups one aggregate may have. Default 10,000.
	MaxGroups int
	// MaxAggregateBytes bounds the memory of groups and of the values that percentiles need, as
	// estimated. Default 64 MiB.
	MaxAggregateBytes int
	// MaxConcurrentAggregates is how many aggregates of one dataset run at once. Default 4.
	MaxConcurrentAggregates int
}

// Defaults fills in what is not set.
func (o AggregateOptions) Defaults() AggregateOptions {
	if o.AggregateTimeout == 0 {
		o.AggregateTimeout = 5 * time.Second
	}
	for n, value := range map[*int]int{
		&o.MaxAggregateRows: 500_000, &o.MaxGroups: 10_000, &o.MaxAggregateBytes: 64 << 20, &o.MaxConcurrentAggregates: 4,
	} {
		if *n == 0 {
			*n = value
		}
	}
	return o
}

// Validate says what is out of range.
func (o AggregateOptions) Validate() error {
	var errs []error
	if o.AggregateTimeout < time.Millisecond || o.AggregateTimeout > time.Minute {
		errs = append(errs, fmt.Errorf("aggregate timeout %s is not in 1ms..1m", o.AggregateTimeout))
	}
	for _, n := range []struct {
		name       string
		value, max int
	}{
		{"max aggregate rows", o.MaxAggregateRows, 100_000_000},
		{"max groups", o.MaxGroups, 1_000_000},
		{"max aggregate bytes", o.MaxAggregateBytes, 8 << 30},
		{"max concurrent aggregates", o.MaxConcurrentAggregates, 1 << 20},
	} {
		if n.value < 1 || n.value > n.max {
			errs = append(errs, fmt.Errorf("%s %d is not in 1..%d", n.name, n.value, n.max))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("query: %w", err)
	}
	return nil
}
