// Package store reads and writes dataset rows in Bigtable. It is the only package that imports
// the Bigtable client, so every write goes through one wrapper around its two error channels.
package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"cloud.google.com/go/bigtable"
	"go.opentelemetry.io/otel/metric"
	"google.golang.org/api/option"
	"google.golang.org/grpc"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/telemetry/roundtrip"
)

// The kinds of error that callers tell apart, with errors.Is.
var (
	// ErrNotFound says that the row does not exist.
	ErrNotFound = errors.New("row not found")
	// ErrUnavailable says that Bigtable could not be reached or asked for a retry.
	ErrUnavailable = errors.New("bigtable unavailable")
	// ErrExhausted comes with ErrUnavailable when Bigtable refuses for load: the caller sends too much at a time.
	ErrExhausted = errors.New("bigtable overloaded")
	// ErrPoison says that Bigtable refuses this row whatever happens: retrying cannot help.
	ErrPoison = errors.New("row refused by bigtable")
	// ErrMisconfigured says that the table, the family or a permission is missing: the environment is at fault, not the row.
	ErrMisconfigured = errors.New("bigtable misconfigured")
	// ErrDenied comes with ErrMisconfigured when it is a permission, or credentials, that are missing.
	ErrDenied = errors.New("not allowed by bigtable")
)

// Options say which instance to open and how patient to be.
type Options struct {
	// Project and Instance name the Bigtable instance.
	Project, Instance string
	// AppProfile is the Bigtable app profile; empty uses the instance's default.
	AppProfile string
	// CommitTimeout bounds one bulk write with the client's own retries. Default 5s.
	CommitTimeout time.Duration
	// MaxConcurrentGets is the number of requests for single rows of one table that run at a time;
	// further gets wait for one of them and are then sent together. Few make large batches, which
	// suits a server that is near; more suit one that is far away. Default 32.
	MaxConcurrentGets int
	// HedgeAfter sends a get once more when it has no answer after this time; the first answer
	// counts. Hedges are at most one in twenty requests. 0 sends each get once.
	HedgeAfter time.Duration
	// MaxRowBytes is the largest row that is read; a larger one is ErrPoison. It is ignored when Client
	// passes a connection. Default 32 MiB: a record has at most 10 MB, the limit of Pub/Sub.
	MaxRowBytes int
	// Pool is the number of gRPC channels; it is ignored when Client passes a connection. Default 4.
	Pool int
	// Direct allows DirectPath to Google's network, which works on Google Cloud only.
	Direct bool
	// Client options say where to dial; none dials Google Cloud with the default credentials.
	Client []option.ClientOption
	// Meter records db.client.operation.duration; nil records nothing.
	Meter metric.Meter
}

// Defaults fills in what is not set.
func (o Options) Defaults() Options {
	if o.CommitTimeout == 0 {
		o.CommitTimeout = 5 * time.Second
	}
	if o.Pool == 0 {
		o.Pool = 4
	}
	if o.MaxRowBytes == 0 {
		o.MaxRowBytes = 32 << 20
	}
	if o.MaxConcurrentGets == 0 {
		o.MaxConcurrentGets = 32
	}
	return o
}

// Validate says what is missing or out of range.
func (o Options) Validate() error {
	switch {
	case o.Project == "":
		return errors.New("store: project is not set")
	case o.Instance == "":
		return errors.New("store: instance is not set")
	case o.CommitTimeout < 10*time.Millisecond:
		return fmt.Errorf("store: commit timeout %s is under 10ms", o.CommitTimeout)
	case o.Pool < 1 || o.Pool > 256:
		return fmt.Errorf("store: pool of %d channels is not in 1..256", o.Pool)
	case o.MaxRowBytes < 1<<10 || o.MaxRowBytes > 256<<20:
		return fmt.Errorf("store: max row bytes %d are not in 1 KiB..256 MiB", o.MaxRowBytes)
	case o.MaxConcurrentGets < 1 || o.MaxConcurrentGets > 10_000:
		return fmt.Errorf("store: %d concurrent gets are not in 1..10000", o.MaxConcurrentGets)
	case o.HedgeAfter < 0 || o.HedgeAfter > time.Minute:
		return fmt.Errorf("store: hedging after %s is not in 0s..1m", o.HedgeAfter)
	}
	return nil
}

// Client is one Bigtable instance. It is safe for concurrent use.
type Client struct {
	opts     Options
	client   *bigtable.Client
	observed instruments
	queues   sync.Map // table name → *getQueue
	hedge    *hedger
}

// Open connects to the instance. It does not fail when the instance cannot be reached; Ping does.
func Open(ctx context.Context, opts Options) (*Client, error) {
	opts = opts.Defaults()
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	observed, err := newInstruments(opts.Meter)
	if err != nil {
		return nil, err
	}
	clientOpts := []option.ClientOption{
		option.WithGRPCConnectionPool(opts.Pool),
		option.WithGRPCDialOption(grpc.WithChainStreamInterceptor(roundtrip.Interceptor)),
	}
	for _, dial := range boundRows(opts.MaxRowBytes) {
		clientOpts = append(clientOpts, option.WithGRPCDialOption(dial))
	}
	clientOpts = append(clientOpts, opts.Client...)
	client, err := bigtable.NewClientWithConfig(ctx, opts.Project, opts.Instance, bigtable.ClientConfig{
		AppProfile:          opts.AppProfile,
		MetricsProvider:     bigtable.NoopMetricsProvider{},
		DisableDirectAccess: !opts.Direct,
		DisableSession:      true,
	}, clientOpts...)
	if err != nil {
		return nil, fmt.Errorf("open bigtable instance %s: %w", opts.Instance, err)
	}
	return &Client{opts: opts, client: client, observed: observed, hedge: newHedger(opts.HedgeAfter)}, nil
}

// Close ends the connection.
func (c *Client) Close() error { return c.client.Close() }

// Ping asks for a row that cannot exist: it is answered only when the instance can be reached, the
// table exists and the caller may read it.
func (c *Client) Ping(ctx context.Context, table string) error {
	if _, err := c.Get(ctx, table, "\x00", nil); err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	return nil
}

// Get reads the newest cells of one row; columns nil reads all. It returns ErrNotFound when the
// row does not exist or has none of the columns. Gets of one table at the same time share requests
// (Options.MaxConcurrentGets); callers must not change the row, which two of them may hold.
func (c *Client) Get(ctx context.Context, table, key string, columns []string) (row dataset.Row, err error) {
	defer c.observed.time(ctx, table, "read_row", time.Now(), &err)
	row, err = c.queueOf(table).get(ctx, key, columns)
	if err == nil && len(row.Cells) == 0 {
		err = ErrNotFound
	}
	return row, err
}

// Range is the row keys in [Start, End); an empty bound leaves that side open.
type Range struct{ Start, End string }

// Scan says which rows of a table to read, in key order.
type Scan struct {
	// Start and End bound the keys, [Start, End); an empty one leaves that side open.
	Start, End string
	// Ranges, when not nil, are read instead of Start and End. They are in key order and apart.
	Ranges []Range
	// Reverse reads from the end of the range to its start.
	Reverse bool
	// Limit stops after that many rows; 0 reads all.
	Limit int
	// Columns to read; nil reads all.
	Columns []string
	// KeysOnly reads one cell of each row without its value, which is all that a count needs.
	KeysOnly bool
}

// Scan calls each with the rows of the range until each returns false. Rows that have none of
// the columns are not seen.
func (c *Client) Scan(ctx context.Context, table string, s Scan, each func(dataset.Row) bool) (err error) {
	defer c.observed.time(ctx, table, "read_rows", time.Now(), &err)
	rows := rowSet(s)
	if len(rows) == 0 {
		return nil
	}
	opts := []bigtable.ReadOption{bigtable.RowFilter(s.filter())}
	if s.Limit > 0 {
		opts = append(opts, bigtable.LimitRows(int64(s.Limit)))
	}
	if s.Reverse {
		opts = append(opts, bigtable.ReverseScan())
	}
	check := newAsked(s)
	var cells cellSlab
	var wrong error
	err = c.queueOf(table).table.ReadRows(ctx, rows, func(raw bigtable.Row) bool {
		row := cells.row(raw)
		if wrong = check.take(row.Key); wrong != nil {
			return false
		}
		return len(row.Cells) == 0 || each(row)
	}, opts...)
	if wrong != nil {
		return fmt.Errorf("scan table %s: %w", table, wrong)
	}
	if err != nil {
		return fmt.Errorf("scan table %s: %w", table, classify(err))
	}
	return nil
}

// rowSet is what the scan reads, without ranges that hold no key.
func rowSet(s Scan) bigtable.RowRangeList {
	ranges := s.Ranges
	if ranges == nil {
		ranges = []Range{{s.Start, s.End}}
	}
	set := make(bigtable.RowRangeList, 0, len(ranges))
	for _, r := range ranges {
		switch {
		case r.End == "":
			set = append(set, bigtable.InfiniteRange(r.Start))
		case r.Start < r.End:
			set = append(set, bigtable.NewRange(r.Start, r.End))
		}
	}
	return set
}

func (s Scan) filter() bigtable.Filter {
	if !s.KeysOnly {
		return newestCells(s.Columns)
	}
	return bigtable.ChainFilters(bigtable.FamilyFilter(dataset.Family), bigtable.CellsPerRowLimitFilter(1), bigtable.StripValueFilter())
}

// GetMany reads rows by their keys in one request and returns one row for each key, in their
// order; one that does not exist, or has none of the columns, has no cells. A key may come twice.
func (c *Client) GetMany(ctx context.Context, table string, keys, columns []string) (rows []dataset.Row, err error) {
	rows = make([]dataset.Row, len(keys))
	if len(keys) == 0 {
		return rows, nil
	}
	defer c.observed.time(ctx, table, "read_rows", time.Now(), &err)
	at := make(map[string]int, len(keys))
	list := make(bigtable.RowList, 0, len(keys))
	for i, key := range keys {
		if _, twice := at[key]; !twice {
			at[key] = i
			list = append(list, key)
		}
	}
	err = readAsked(ctx, c.queueOf(table).table, list, columns, func(row dataset.Row) bool {
		i, ok := at[row.Key]
		if ok {
			rows[i] = row
		}
		return ok
	})
	if err != nil {
		return nil, fmt.Errorf("read %d rows of table %s: %w", len(list), table, err)
	}
	for i, key := range keys {
		rows[i] = rows[at[key]]
	}
	return rows, nil
}

// readAsked reads rows by their keys. Place returns false for a row that was not asked for, which
// ends the reading. The error has its kind.
func readAsked(ctx context.Context, table *bigtable.Table, keys bigtable.RowList, columns []string, place func(dataset.Row) bool) error {
	var cells cellSlab
	var wrong error
	err := table.ReadRows(ctx, keys, func(raw bigtable.Row) bool {
		if !place(cells.row(raw)) {
			wrong = fmt.Errorf("%w: a row has another key", ErrWrongAnswer)
		}
		return wrong == nil
	}, bigtable.RowFilter(newestCells(columns)), bigtable.LimitRows(int64(len(keys))))
	if wrong != nil {
		return wrong
	}
	if err != nil {
		return classify(err)
	}
	return nil
}

// Delete removes a whole row. Ingest never deletes; verification removes its canaries with it.
func (c *Client) Delete(ctx context.Context, table, key string) (err error) {
	defer c.observed.time(ctx, table, "mutate_row", time.Now(), &err)
	m := bigtable.NewMutation()
	m.DeleteRow()
	if err := c.client.Open(table).Apply(ctx, key, m); err != nil {
		return fmt.Errorf("delete row of table %s: %w", table, classify(err))
	}
	return nil
}

// newestCells keeps one cell of each column of the data family. Only a write of an older event
// time leaves more than one, until garbage collection runs. Column names need no escaping in the
// pattern: they are letters, digits and underscores.
func newestCells(columns []string) bigtable.Filter {
	filters := []bigtable.Filter{bigtable.FamilyFilter(dataset.Family)}
	if len(columns) > 0 {
		filters = append(filters, bigtable.ColumnFilter(strings.Join(columns, "|")))
	}
	return bigtable.ChainFilters(append(filters, bigtable.LatestNFilter(1))...)
}

// cellSlab hands out the cells of many rows from few allocations. Rows share no cell, so a row may
// be kept.
type cellSlab struct{ free []dataset.Cell }

// slabCells is how many cells are allocated at once, from the second row of a reading on.
const slabCells = 256

func (c *cellSlab) take(n int) []dataset.Cell {
	if len(c.free) < n {
		size := n
		if c.free != nil {
			size = max(n, slabCells)
		}
		c.free = make([]dataset.Cell, size)
	}
	taken := c.free[:n:n]
	c.free = c.free[n:]
	return taken
}

func (c *cellSlab) row(raw bigtable.Row) dataset.Row {
	items := raw[dataset.Family]
	if len(items) == 0 {
		return dataset.Row{Key: raw.Key()}
	}
	row := dataset.Row{Key: items[0].Row, Cells: c.take(len(items))}
	var newest bigtable.Timestamp
	for i := range items {
		item := &items[i]
		row.Cells[i] = dataset.Cell{Column: item.Column[len(dataset.Family)+1:], Value: item.Value}
		newest = max(newest, item.Timestamp)
	}
	row.Time = newest.Time()
	return row
}
