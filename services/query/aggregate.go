package query

import (
	"context"
	"net/http"
	"strconv"

	"github.com/latamctl/latamctl/pkg/dataset"
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
	compute := s.aggregateOnRows
	if s.aggregatesInWarehouse(ep) {
		compute = s.aggregateInWarehouse
		web.SetAnswer(r.Context(), web.FromWarehouse)
	}
	buf := s.bodies.get()
	defer s.bodies.put(buf)
	body, p := compute(ep, r, q, (*buf)[:0])
	*buf = body
	if p != nil {
		return p
	}
	body = append(body, `,"as_of":"`...)
	body = at.UTC().AppendFormat(body, asOfLayout)
	*buf = append(body, `"}}`...)
	s.respond(w, r, answer{kind: typeJSON, body: *buf, cache: "no-store"})
	return nil
}

// aggregateOnRows reads the rows and computes the metrics here. It returns the body up to the end
// of meta, which is left open.
func (s *Service) aggregateOnRows(ep *endpoint, r *http.Request, q aggregateQuery, dst []byte) ([]byte, *web.Problem) {
	pl, p := ep.choose(q.list, s.ready(r.Context(), ep))
	if p != nil {
		return dst, p
	}
	if p := ep.aggregates.enter(r.Context()); p != nil {
		return dst, p
	}
	defer ep.aggregates.leave()
	opts := s.opts.Aggregate
	ctx, cancel := context.WithTimeout(r.Context(), 2*opts.AggregateTimeout)
	defer cancel()
	a := newAggregation(ep.ds, q, opts, s.deps.Now)
	err := s.aggregateRows(ctx, ep, pl, a)
	if err == nil {
		dst = a.appendData(append(dst, `{"data":`...))
		dst = append(append(append(dst, `,"meta":{"dataset":"`...), ep.ds.Name...), `","source":"rows",`...)
		dst, err = a.appendProgress(pl.appendJSON(dst), ep.ds)
	}
	if err != nil {
		return dst, s.storeProblem(ctx, r, ep, err)
	}
	return dst, nil
}

// aggregateRows adds the rows of a plan that meet its filters, as far as the bounds let it. Where no
// column is needed only the keys are read.
func (s *Service) aggregateRows(ctx context.Context, ep *endpoint, pl plan, a *aggregation) error {
	rd := reading{plan: pl, limit: a.opts.MaxAggregateRows + 1, columns: a.columns(ep.ds)}
	for _, f := range pl.residual {
		rd.columns = append(rd.columns, f.field.Name)
	}
	rd.keysOnly = len(rd.columns) == 0
	rd.columns = withColumns(ep.ds, rd.columns, ep.ds.Key[:1]) // A row with none of the columns would not be seen.
	var failed error
	err := s.read(ctx, rd, func(_ string, row dataset.Row, shown bool) bool {
		if !shown {
			return a.skip(row.Key)
		}
		if rd.keysOnly {
			return a.add(row.Key, dataset.Record{})
		}
		rec, err := ep.ds.Record(row)
		if err != nil {
			failed = err
			return false
		}
		if !matchAll(pl.residual, rec) {
			return a.skip(row.Key)
		}
		return a.add(row.Key, rec)
	})
	if err == nil {
		err = failed
	}
	return err
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
