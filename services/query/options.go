// Package query is the HTTP API over the store: it lists and gets rows, and publishes records.
// Every dataset of the declaration is compiled once into an endpoint; no request uses reflection
// on rows.
package query

import (
	"errors"
	"fmt"
	"time"
)

// The limit parameter of a list: what is used when it is absent and what is the most, in rows.
const (
	DefaultLimit = 100
	MaxLimit     = 1000
)

// MaxFields is how many fields a projection may name.
const MaxFields = 64

// Options bound what one request may cost. The zero value of a field means its default.
type Options struct {
	// GetTimeout bounds the read of one row. Default 2s.
	GetTimeout time.Duration
	// ListTimeout bounds the read of one page. Default 10s; after half of it a page is cut short.
	ListTimeout time.Duration
	// PublishTimeout bounds the publishing of one request. Default 10s.
	PublishTimeout time.Duration
	// QueueTimeout is how long a request waits for its turn before it is refused with 503. Default 500ms.
	QueueTimeout time.Duration
	// CursorTTL is how long a cursor is accepted. Default 7 days.
	CursorTTL time.Duration
	// ExportTimeout bounds an export; what is left then has a cursor. Default 10m.
	ExportTimeout time.Duration
	// WriteTimeout is how long a client of an export may take nothing. Default 15s.
	WriteTimeout time.Duration
	// CountTimeout and MaxCountedRows bound a count, which then says that there are more. Default 2s and 100,000.
	CountTimeout   time.Duration
	MaxCountedRows int
	// Aggregate bounds aggregates.
	Aggregate AggregateOptions
	// Tail bounds live streams.
	Tail TailOptions
	// StatsTTL is how long the statistics of a dataset are reused. Default 10s.
	StatsTTL time.Duration
	// MaxScannedRows is how many rows one page may read. Default 50,000.
	MaxScannedRows int
	// MaxPageBytes is how large the rows of one page may be. Default 8 MiB.
	MaxPageBytes int
	// MaxFilters is how many filters one query may have. Default 16.
	MaxFilters int
	// MaxURLBytes is the longest URL that the listener takes; no next_url is longer. Default 8 KiB.
	MaxURLBytes int
	// MaxConcurrentGets, MaxConcurrentLists, MaxConcurrentExports and MaxConcurrentPublishes are how
	// many requests of one dataset run at once. Default 256, 32, 8 and 32.
	MaxConcurrentGets, MaxConcurrentLists, MaxConcurrentExports, MaxConcurrentPublishes int
	// MaxBodyBytes and MaxRecords bound one request to publish. Default 1 MiB and 1,000.
	MaxBodyBytes int64
	MaxRecords   int
}

// Defaults fills in what is not set.
func (o Options) Defaults() Options {
	for d, value := range map[*time.Duration]time.Duration{
		&o.GetTimeout: 2 * time.Second, &o.ListTimeout: 10 * time.Second, &o.PublishTimeout: 10 * time.Second,
		&o.ExportTimeout: 10 * time.Minute, &o.WriteTimeout: 15 * time.Second, &o.CountTimeout: 2 * time.Second, &o.StatsTTL: 10 * time.Second,
		&o.QueueTimeout: 500 * time.Millisecond, &o.CursorTTL: 7 * 24 * time.Hour,
	} {
		if *d == 0 {
			*d = value
		}
	}
	for n, value := range map[*int]int{
		&o.MaxScannedRows: 50_000, &o.MaxCountedRows: 100_000, &o.MaxConcurrentExports: 8, &o.MaxPageBytes: 8 << 20, &o.MaxFilters: 16, &o.MaxURLBytes: 8 << 10,
		&o.MaxConcurrentGets: 256, &o.MaxConcurrentLists: 32, &o.MaxConcurrentPublishes: 32,
		&o.MaxRecords: 1000,
	} {
		if *n == 0 {
			*n = value
		}
	}
	o.Aggregate, o.Tail = o.Aggregate.Defaults(), o.Tail.Defaults()
	if o.MaxBodyBytes == 0 {
		o.MaxBodyBytes = 1 << 20
	}
	return o
}

// Validate says what is out of range.
func (o Options) Validate() error {
	var errs []error
	for _, d := range []struct {
		name       string
		value, max time.Duration
	}{
		{"get timeout", o.GetTimeout, time.Minute},
		{"list timeout", o.ListTimeout, 10 * time.Minute},
		{"publish timeout", o.PublishTimeout, 10 * time.Minute},
		{"export timeout", o.ExportTimeout, 24 * time.Hour},
		{"write timeout", o.WriteTimeout, time.Hour},
		{"count timeout", o.CountTimeout, time.Minute},
		{"lifetime of statistics", o.StatsTTL, time.Hour},
		{"queue timeout", o.QueueTimeout, time.Minute},
		{"cursor lifetime", o.CursorTTL, 365 * 24 * time.Hour},
	} {
		if d.value < time.Millisecond || d.value > d.max {
			errs = append(errs, fmt.Errorf("%s %s is not in 1ms..%s", d.name, d.value, d.max))
		}
	}
	for _, n := range []struct {
		name       string
		value, max int64
	}{
		{"max scanned rows", int64(o.MaxScannedRows), 10_000_000},
		{"max counted rows", int64(o.MaxCountedRows), 10_000_000},
		{"max concurrent exports", int64(o.MaxConcurrentExports), 1 << 20},
		{"max page bytes", int64(o.MaxPageBytes), 1 << 30},
		{"max filters", int64(o.MaxFilters), 1000},
		{"max URL bytes", int64(o.MaxURLBytes), 64 << 10},
		{"max concurrent gets", int64(o.MaxConcurrentGets), 1 << 20},
		{"max concurrent lists", int64(o.MaxConcurrentLists), 1 << 20},
		{"max concurrent publishes", int64(o.MaxConcurrentPublishes), 1 << 20},
		{"max body bytes", o.MaxBodyBytes, 1 << 30},
		{"max records", int64(o.MaxRecords), 100_000},
	} {
		if n.value < 1 || n.value > n.max {
			errs = append(errs, fmt.Errorf("%s %d is not in 1..%d", n.name, n.value, n.max))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("query: %w", err)
	}
	return errors.Join(o.Aggregate.Validate(), o.Tail.Validate())
}
