package query

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net/http"
	"strconv"
	"time"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/warehouse"
	"github.com/latamctl/latamctl/pkg/web"
)

// Warehouse runs SQL; pkg/warehouse's Client is one.
type Warehouse interface {
	// View is the quoted name of the view that shows each row of a dataset once.
	View(ds *dataset.Dataset) string
	Query(ctx context.Context, q warehouse.Query) (warehouse.Result, error)
}

// InWarehouse is the value of api.aggregate that leaves a dataset's aggregates to BigQuery.
const InWarehouse = "bigquery"

// ErrNoWarehouse says that a dataset leaves its aggregates to BigQuery and there is no client for it.
var ErrNoWarehouse = errors.New("no BigQuery client is given")

func (s *Service) aggregatesInWarehouse(ep *endpoint) bool {
	return ep.ds.API.Aggregate == InWarehouse && !s.deps.AggregateOnRows
}

// checkWarehouse refuses to start with aggregates that could not be answered.
func (d Deps) checkWarehouse() error {
	for _, ds := range d.Declaration.Datasets {
		if ds.API.Aggregate == InWarehouse && !d.AggregateOnRows && d.Warehouse == nil {
			return fmt.Errorf("query: aggregates of dataset %s are computed on BigQuery: %w", ds.Name, ErrNoWarehouse)
		}
	}
	return nil
}

// aggregateInWarehouse leaves the work to BigQuery. Any filter will do there: it reads columns, not
// rows, and within a limit of bytes.
func (s *Service) aggregateInWarehouse(ep *endpoint, r *http.Request, q aggregateQuery, dst []byte) ([]byte, *web.Problem) {
	opts := s.opts.Aggregate
	st, p := makeStatement(ep.ds, q, s.deps.Warehouse.View(ep.ds), opts.MaxGroups+1)
	if p != nil {
		return dst, p
	}
	if p := ep.aggregates.enter(r.Context()); p != nil {
		return dst, p
	}
	defer ep.aggregates.leave()
	ctx, cancel := context.WithTimeout(r.Context(), 2*opts.AggregateTimeout)
	defer cancel()
	result, err := s.deps.Warehouse.Query(ctx, warehouse.Query{
		SQL: st.String(), Params: st.params, Columns: len(st.groups) + len(st.values), MaxRows: opts.MaxGroups + 1,
		Labels: map[string]string{"app": "latamctl", "dataset": ep.ds.Name},
	})
	if err != nil {
		return dst, s.warehouseProblem(ctx, r, ep, err)
	}
	groups, stopped := result.Rows, ""
	if len(groups) > opts.MaxGroups {
		groups, stopped = groups[:opts.MaxGroups], stoppedGroups
	}
	dst = append(dst, `{"data":[`...)
	for i, cells := range groups {
		if i > 0 {
			dst = append(dst, ',')
		}
		if dst, err = st.appendGroup(append(dst, '{'), q, cells); err != nil {
			return dst, s.warehouseProblem(ctx, r, ep, err)
		}
		dst = append(dst, '}')
	}
	dst = append(append(append(dst, `],"meta":{"dataset":"`...), ep.ds.Name...), `","source":"bigquery"`...)
	dst = appendGroups(dst, len(groups), stopped)
	dst = strconv.AppendInt(append(dst, `,"bytes_processed":`...), result.BytesProcessed, 10)
	return strconv.AppendBool(append(dst, `,"cache_hit":`...), result.CacheHit), nil
}

// appendGroup writes one row of the result as a group. Its columns are those of the statement.
func (st *sqlStatement) appendGroup(dst []byte, q aggregateQuery, cells []warehouse.Cell) ([]byte, error) {
	if len(cells) != len(st.groups)+len(st.values) {
		return dst, fmt.Errorf("%w: a row of %d columns, not %d", warehouse.ErrAnswer, len(cells), len(st.groups)+len(st.values))
	}
	var key groupKey
	var err error
	for i, f := range q.groupBy {
		if key.values[i], err = cellValue(f, cells[i]); err != nil {
			return dst, err
		}
	}
	if q.interval > 0 {
		start, err := cellValue(&dataset.Field{Name: paramInterval, Type: dataset.Timestamp}, cells[len(q.groupBy)])
		if err != nil {
			return dst, err
		}
		key.bucket, key.timed = start.Time().Unix(), !start.IsMissing()
	}
	dst = q.appendKey(dst, key)
	for i, m := range q.metrics {
		var parts [2]warehouse.Cell
		for j, column := range st.parts[i] {
			parts[j] = cells[column]
		}
		if dst, err = appendWarehouseMetric(appendMember(dst, m.name), m, parts); err != nil {
			return dst, fmt.Errorf("metric %s: %w", m.name, err)
		}
	}
	return dst, nil
}

// appendWarehouseMetric writes a metric of its parts: see valuesOf.
func appendWarehouseMetric(dst []byte, m metric, parts [2]warehouse.Cell) ([]byte, error) {
	if parts[0].Null {
		return append(dst, "null"...), nil
	}
	text := parts[0].Text
	integers := m.field == nil || m.field.Type == dataset.Int64
	switch {
	case m.fn == fnCount || m.fn == fnSum && integers:
		n, ok := new(big.Int).SetString(text, 10)
		if !ok {
			return dst, fmt.Errorf("%w: %q is no integer", warehouse.ErrAnswer, text)
		}
		return appendBig(dst, n), nil
	case m.fn == fnAvg && integers:
		sum, ok := new(big.Int).SetString(text, 10)
		n, err := strconv.ParseInt(parts[1].Text, 10, 64)
		if !ok || err != nil || n < 1 {
			return dst, fmt.Errorf("%w: %q of %q values is no average", warehouse.ErrAnswer, text, parts[1].Text)
		}
		return appendAverage(dst, sum, n), nil
	case m.field.Type == dataset.Float64:
		f, err := strconv.ParseFloat(text, 64)
		if err != nil && !errors.Is(err, strconv.ErrRange) {
			return dst, fmt.Errorf("%w: %q is no number", warehouse.ErrAnswer, text)
		}
		return appendFloat(dst, f), nil
	}
	v, err := cellValue(m.field, parts[0])
	return v.AppendJSON(dst), err
}

// cellValue reads a cell as a value of a field.
func cellValue(f *dataset.Field, c warehouse.Cell) (dataset.Value, error) {
	if c.Null {
		return dataset.Value{}, nil
	}
	text := c.Text
	if f.Type == dataset.Timestamp {
		micros, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return dataset.Value{}, fmt.Errorf("%w: column %s: %q is no time in microseconds", warehouse.ErrAnswer, f.Name, text)
		}
		text = time.UnixMicro(micros).UTC().Format(time.RFC3339Nano)
	}
	v, err := dataset.ParseText(f, text)
	if err != nil {
		return v, fmt.Errorf("%w: %w", warehouse.ErrAnswer, err)
	}
	return v, nil
}

// warehouseProblem is the answer to a failed query. The cause goes to the log only.
func (s *Service) warehouseProblem(ctx context.Context, r *http.Request, ep *endpoint, err error) *web.Problem {
	var p *web.Problem
	switch {
	case errors.Is(err, warehouse.ErrTooCostly):
		p = web.NewProblem(web.ScanRefused, "The query would read more of BigQuery than it may.", "Narrow it down with from and to, or ask for fewer fields.")
	case errors.Is(err, warehouse.ErrUnavailable) && r.Context().Err() == nil:
		p = web.NewProblem(web.Unavailable, "BigQuery cannot be reached.", "Retry.")
		p.RetryAfter = time.Second
	default:
		return s.storeProblem(ctx, r, ep, err)
	}
	s.deps.Log.LogAttrs(ctx, slog.LevelWarn, "request not answered", slog.String("dataset", ep.ds.Name),
		slog.String("request_id", web.RequestID(ctx)), slog.String("code", string(p.Code)), slog.Any("error", err))
	return p
}
