package query

import (
	"context"
	"net/http"
	"strconv"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/store"
	"github.com/latamctl/latamctl/pkg/web"
)

// aggregate answers GET /v1/datasets/{dataset}/aggregate.
func (s *Service) aggregate(ep *endpoint, w http.ResponseWriter, r *http.Request) *web.Problem {
	ps, p := parseParams(r.URL.RawQuery)
	if p != nil {
		return p
	}
	at := s.deps.Now()
	q, p := ep.parseAggregate(ps, at, s.opts.MaxFilters)
	if p != nil {
		return p
	}
	answer := s.aggregateOnRows
	if s.aggregatesInWarehouse(ep) {
		answer = s.aggregateInWarehouse
	}
	buf := s.bodies.get()
	defer s.bodies.put(buf)
	body, p := answer(ep, r, q, (*buf)[:0])
	*buf = body
	if p != nil {
		return p
	}
	body = append(body, `,"as_of":"`...)
	body = at.UTC().AppendFormat(body, "2006-01-02T15:04:05.000Z07:00")
	*buf = append(body, `"}}`...)
	writeJSON(w, http.StatusOK, *buf)
	return nil
}

// aggregateOnRows reads the rows and computes the metrics here. It returns the body up to the end
// of meta, which is left open.
func (s *Service) aggregateOnRows(ep *endpoint, r *http.Request, q aggregateQuery, dst []byte) ([]byte, *web.Problem) {
	pl, p := makePlan(ep.ds, q.list.filters, q.list.scan)
	if p != nil {
		return dst, p
	}
	if p := ep.aggregates.enter(r.Context()); p != nil {
		return dst, p
	}
	defer ep.aggregates.leave()
	opts := s.deps.Aggregate
	ctx, cancel := context.WithTimeout(r.Context(), 2*opts.AggregateTimeout)
	defer cancel()
	a := newAggregation(ep.ds, q, opts, s.deps.Now)
	var failed error
	err := s.aggregateRows(ctx, ep, pl, a.columns(ep.ds), opts.MaxAggregateRows+1, func(row dataset.Row) bool {
		rec, err := ep.ds.Record(row)
		if err != nil {
			failed = err
			return false
		}
		for _, f := range pl.residual {
			if !f.match(rec) {
				return a.skip(row.Key)
			}
		}
		return a.add(row.Key, rec)
	})
	if err == nil {
		err = failed
	}
	if err == nil {
		dst = a.appendData(append(dst, `{"data":`...))
		dst = append(append(append(dst, `,"meta":{"dataset":"`...), ep.ds.Name...), `","source":"rows"`...)
		dst, err = a.appendProgress(appendAccess(dst, pl), ep.ds)
	}
	if err != nil {
		return dst, s.storeProblem(ctx, r, ep, err)
	}
	return dst, nil
}

// aggregateRows reads the rows of a plan with the columns, and those that its filters need. Without
// any column only the keys are read.
func (s *Service) aggregateRows(ctx context.Context, ep *endpoint, pl plan, columns []string, limit int, each func(dataset.Row) bool) error {
	if pl.empty {
		return nil
	}
	scan := store.Scan{Start: pl.start, End: pl.end, Limit: limit}
	for _, f := range pl.residual {
		columns = append(columns, f.field.Name)
	}
	if scan.KeysOnly = len(columns) == 0; !scan.KeysOnly {
		// A row with none of the columns would not be seen.
		scan.Columns = append(columns, ep.ds.Key[0].Name)
	}
	return s.deps.Store.Scan(ctx, ep.ds.Table(), scan, each)
}

// appendAccess says how the rows are read, as a list does.
func appendAccess(dst []byte, pl plan) []byte {
	dst = append(dst, `,"access":"key"`...)
	dst = appendNames(dst, "prefix", pl.prefix)
	if pl.ranged != nil {
		dst = append(append(append(dst, `,"range":"`...), pl.ranged.Name...), '"')
	}
	if len(pl.residual) > 0 {
		var fields []*dataset.Field
		for _, f := range pl.residual {
			fields = append(fields, f.field)
		}
		dst = appendNames(dst, "filtered", fields)
	}
	return dst
}

// appendProgress says how far the reading came.
func (a *aggregation) appendProgress(dst []byte, ds *dataset.Dataset) ([]byte, error) {
	dst = appendGroups(dst, len(a.groups), a.stopped)
	if a.stopped != "" && a.before != "" {
		id, err := ds.RowID(a.before)
		if err != nil {
			return dst, err
		}
		dst = append(append(append(dst, `,"stopped_before":"`...), id...), '"')
	}
	dst = strconv.AppendInt(append(dst, `,"rows_scanned":`...), int64(a.scanned), 10)
	return strconv.AppendInt(append(dst, `,"rows_matched":`...), int64(a.matched), 10), nil
}

func appendGroups(dst []byte, groups int, stopped string) []byte {
	dst = strconv.AppendInt(append(dst, `,"groups":`...), int64(groups), 10)
	dst = strconv.AppendBool(append(dst, `,"complete":`...), stopped == "")
	if stopped != "" {
		dst = append(append(append(dst, `,"stopped":"`...), stopped...), '"')
	}
	return dst
}
