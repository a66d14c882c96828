package query

import (
	"context"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/web"
)

// page answers a listing with one page of JSON.
func (s *Service) page(l listing, w http.ResponseWriter, r *http.Request) *web.Problem {
	if p := l.ep.lists.enter(r.Context()); p != nil {
		return p
	}
	defer l.ep.lists.leave()
	buf := s.bodies.get()
	defer s.bodies.put(buf)
	pg := pageWriter{s: s, l: l, enc: l.ep.ds.NewEncoder(l.query.fields), body: append((*buf)[:0], `{"data":[`...)}
	ctx, cancel := context.WithTimeout(r.Context(), s.opts.ListTimeout)
	defer cancel()
	wk := walker{
		l: l, now: s.deps.Now, limit: l.limit, maxScanned: s.opts.MaxScannedRows,
		until: l.now.Add(s.opts.ListTimeout / 2), emit: pg.add,
	}
	start := s.deps.Now()
	err := wk.run(ctx, s)
	*buf = pg.body
	if err != nil {
		return s.storeProblem(ctx, r, l.ep, err)
	}
	var timing timings
	timing.add("store", s.deps.Now().Sub(start))
	var n counted
	if l.query.count != "" {
		start := s.deps.Now()
		if n, err = s.count(ctx, l); err != nil {
			return s.storeProblem(ctx, r, l.ep, err)
		}
		timing.add("count", s.deps.Now().Sub(start))
	}
	a := answer{kind: typeJSON, tag: s.pageTag(pg.body, wk.more, n), weak: true, modified: wk.newest, cache: l.ep.cache}
	if p := pg.finish(w.Header(), &wk, n); p != nil {
		return p
	}
	*buf, a.body = pg.body, pg.body
	timing.set(w.Header())
	s.respond(w, r, a)
	return nil
}

// pageTag is the same for the same rows and count, whatever the cursor looks like this time. A page
// that is kept must not offer a cursor that is not accepted any more: its tag changes twice in the
// life of a cursor, and with the key that seals them.
func (s *Service) pageTag(rows []byte, more bool, n counted) string {
	tag := tagOf(rows)
	if more {
		period := int64(max(s.opts.CursorTTL/2, time.Second) / time.Second)
		tag += "m" + s.sealer.name + strconv.FormatInt(s.deps.Now().Unix()/period, 10)
	}
	if n.relation != "" {
		tag += n.relation + strconv.Itoa(n.value)
	}
	return tag
}

// pageWriter writes the rows of a page into its body.
type pageWriter struct {
	s    *Service
	l    listing
	enc  *dataset.Encoder
	body []byte
	rows int
}

// add writes one row, unless it would make the page too large.
func (pg *pageWriter) add(row dataset.Row) (bool, error) {
	before := len(pg.body)
	if pg.rows > 0 {
		pg.body = append(pg.body, ',')
	}
	var err error
	if pg.body, err = pg.enc.AppendJSON(pg.body, row); err != nil {
		return false, err
	}
	if len(pg.body) > pg.s.opts.MaxPageBytes && pg.rows > 0 {
		pg.body = pg.body[:before]
		return false, nil
	}
	pg.rows++
	return true, nil
}

// finish adds what follows the rows, and the Link header.
func (pg *pageWriter) finish(h http.Header, wk *walker, n counted) *web.Problem {
	b := append(pg.body, `],"next_cursor":`...)
	if wk.more {
		cursor := pg.s.sealer.seal(pg.l.ep.scope, pg.l.position(pg.s.deps.Now(), wk.last))
		next, p := pg.l.nextURL(cursor, pg.s.opts.MaxURLBytes)
		if p != nil {
			return p
		}
		h.Set("Link", "<"+next+`>; rel="next"`)
		b = append(append(append(b, '"'), cursor...), `","next_url":"`...)
		b = append(append(b, next...), '"')
	} else {
		b = append(b, `null,"next_url":null`...)
	}
	b = pg.l.appendMeta(b, wk.scanned)
	if n.relation != "" {
		b = n.append(append(b, `,"count":`...))
	}
	pg.body = append(b, "}}"...)
	return nil
}

// appendMeta says how the rows were found; the caller closes the object.
func (l *listing) appendMeta(b []byte, scanned int) []byte {
	b = append(b, `,"meta":{"dataset":"`...)
	b = append(b, l.ep.ds.Name...)
	b = l.plan.appendJSON(append(b, `",`...))
	b = append(b, `,"rows_scanned":`...)
	b = strconv.AppendInt(b, int64(scanned), 10)
	b = append(b, `,"as_of":"`...)
	b = l.now.UTC().AppendFormat(b, asOfLayout)
	return append(b, '"')
}

const asOfLayout = "2006-01-02T15:04:05.000Z07:00"

// appendJSON writes the plan as members of an object.
func (pl plan) appendJSON(b []byte) []byte {
	b = append(append(append(b, `"access":"`...), pl.access.name()...), '"')
	b = appendNames(b, "prefix", pl.prefix)
	if pl.ranged != nil {
		b = append(append(append(b, `,"range":"`...), pl.ranged.Name...), '"')
	}
	if len(pl.residual) > 0 {
		var fields []*dataset.Field
		for _, f := range pl.residual {
			fields = append(fields, f.field)
		}
		b = appendNames(b, "filtered", fields)
	}
	return b
}

// appendNames writes a member with an array of names. Names of fields and datasets need no escaping.
func appendNames(b []byte, member string, fields []*dataset.Field) []byte {
	b = append(append(append(b, `,"`...), member...), `":[`...)
	for i, f := range fields {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(append(b, '"'), f.Name...), '"')
	}
	return append(b, ']')
}

// counted is a number of rows; when relation is gte there may be more. Without a relation nothing
// was counted.
type counted struct {
	value    int
	relation string
}

func (c counted) append(b []byte) []byte {
	b = strconv.AppendInt(append(b, `{"value":`...), int64(c.value), 10)
	return append(append(append(b, `,"relation":"`...), c.relation...), `"}`...)
}

// count counts the rows that meet the filters of a listing, from its beginning and within bounds.
func (s *Service) count(ctx context.Context, l listing) (counted, error) {
	bound, within := s.opts.MaxCountedRows, s.opts.CountTimeout
	if l.query.count == countEstimated {
		bound, within = min(bound, estimatedRows), min(within, estimateTimeout)
	}
	fresh, p := l.ep.choose(listQuery{filters: l.query.filters, scan: l.query.scan, access: l.plan.access.name()}, s.ready(ctx, l.ep))
	if p != nil {
		return counted{}, p
	}
	return s.countRows(ctx, l, fresh, bound, within)
}

// The bounds of an estimate.
const (
	estimatedRows   = 10_000
	estimateTimeout = 250 * time.Millisecond
)

func (s *Service) countRows(ctx context.Context, l listing, pl plan, bound int, within time.Duration) (counted, error) {
	l.plan, l.query.fields = pl, []*dataset.Field{}
	wk := walker{
		l: l, now: s.deps.Now, maxScanned: bound, keysOnly: true, until: s.deps.Now().Add(within),
		emit: func(dataset.Row) (bool, error) { return true, nil },
	}
	if err := wk.run(ctx, s); err != nil {
		return counted{}, err
	}
	if wk.more {
		return counted{wk.rows, "gte"}, nil
	}
	return counted{wk.rows, "eq"}, nil
}

// bufferPool keeps response bodies for reuse.
type bufferPool struct{ pool sync.Pool }

// maxPooledBytes keeps a few large pages from holding their memory for ever.
const maxPooledBytes = 1 << 20

func (p *bufferPool) get() *[]byte {
	if b, ok := p.pool.Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, 0, 4<<10)
	return &b
}

func (p *bufferPool) put(b *[]byte) {
	if cap(*b) <= maxPooledBytes {
		p.pool.Put(b)
	}
}
