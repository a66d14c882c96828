package query

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/store"
	"github.com/latamctl/latamctl/pkg/web"
)

// listing is one request for a page.
type listing struct {
	query     listQuery
	plan      plan
	limit     int
	canonical string
	at        time.Time
	now       time.Time
	explicit  bool // the caller gave a limit
}

// list answers GET /v1/datasets/{dataset}/rows.
func (s *Service) list(ep *endpoint, w http.ResponseWriter, r *http.Request) *web.Problem {
	l, p := s.parseListing(ep, r.URL.RawQuery)
	if p != nil {
		return p
	}
	if p := ep.lists.enter(r.Context()); p != nil {
		return p
	}
	defer ep.lists.leave()
	buf := s.bodies.get()
	defer s.bodies.put(buf)
	pg := page{ep: ep, l: l, opts: s.opts, now: s.deps.Now, body: append((*buf)[:0], `{"data":[`...)}
	ctx, cancel := context.WithTimeout(r.Context(), s.opts.ListTimeout)
	defer cancel()
	err := pg.read(ctx, s.deps.Store)
	*buf = pg.body
	if err != nil {
		return s.storeProblem(ctx, r, ep, err)
	}
	if p := pg.finish(w, s.sealer); p != nil {
		return p
	}
	*buf = pg.body
	writeJSON(w, http.StatusOK, pg.body)
	return nil
}

// parseListing understands the parameters, and continues at the cursor when there is one.
func (s *Service) parseListing(ep *endpoint, rawQuery string) (l listing, p *web.Problem) {
	ps, p := parseParams(rawQuery)
	if p != nil {
		return l, p
	}
	if l.limit, p = parseLimit(ps); p != nil {
		return l, p
	}
	l.explicit = valueOf(ps, paramLimit) != ""
	l.now = s.deps.Now()
	l.at, l.canonical = l.now, encodeParams(ps)
	var from position
	cursor := valueOf(ps, paramCursor)
	if cursor != "" {
		if from, p = s.openCursor(ep, cursor, l.now); p != nil {
			return l, p
		}
		l.at = from.at
		if l.canonical == "" && from.sealed {
			l.canonical = from.query
			if ps, p = parseParams(from.query); p != nil {
				return l, p
			}
		}
	}
	if l.query, p = ep.parseListQuery(ps, l.at, s.opts.MaxFilters); p != nil {
		return l, p
	}
	if l.plan, p = makePlan(ep.ds, l.query.filters, l.query.scan); p != nil {
		return l, p
	}
	if cursor != "" {
		if hashQuery(l.canonical) != from.queryHash || l.query.desc != from.desc {
			return l, cursorMismatch("The cursor continues a query with other parameters.", "Repeat the parameters of the first page; only limit may change. Or start again without cursor.")
		}
		l.plan.after(from.key, from.desc)
	}
	return l, nil
}

func (s *Service) openCursor(ep *endpoint, cursor string, now time.Time) (position, *web.Problem) {
	from, ok := s.sealer.open(ep.scope, cursor)
	if !ok {
		return from, cursorMismatch(fmt.Sprintf("The cursor was not made by this service for %s.", ep.ds.Name), "Take next_cursor as it is, for the same dataset; or start again without cursor.")
	}
	if now.Sub(from.issued) > s.opts.CursorTTL {
		p := web.NewProblem(web.CursorExpired, fmt.Sprintf("The cursor is older than %s.", dataset.FormatDuration(s.opts.CursorTTL)), "Start again without cursor.")
		p.Errors = []web.Fault{{Parameter: paramCursor, Code: string(web.CursorExpired)}}
		return from, p
	}
	return from, nil
}

// page reads the rows of one listing into a response body.
type page struct {
	ep   *endpoint
	l    listing
	opts Options
	now  func() time.Time
	body []byte

	rows    int
	scanned int
	last    string // key of the last row that was read and either served or filtered out
	more    bool
	err     error
}

// checkClockEvery is how many rows are read between two looks at the clock.
const checkClockEvery = 64

func (pg *page) read(ctx context.Context, st Store) error {
	if pg.l.plan.empty {
		return nil
	}
	scan := store.Scan{
		Start: pg.l.plan.start, End: pg.l.plan.end, Reverse: pg.l.query.desc,
		Limit: pg.opts.MaxScannedRows + 1, Columns: pg.columns(),
	}
	if len(pg.l.plan.residual) == 0 {
		scan.Limit = min(scan.Limit, pg.l.limit+1)
	}
	if err := st.Scan(ctx, pg.ep.ds.Table(), scan, pg.take); err != nil {
		return err
	}
	return pg.err
}

// columns are those that the response and the filters need; nil reads all. The first key field is
// always read, because a row with none of the columns would not be seen.
func (pg *page) columns() []string {
	if pg.l.query.fields == nil {
		return nil
	}
	need := make([]bool, len(pg.ep.ds.Fields))
	need[pg.ep.ds.Key[0].Index] = true
	for _, f := range pg.l.query.fields {
		need[f.Index] = true
	}
	for _, f := range pg.l.plan.residual {
		need[f.field.Index] = true
	}
	var names []string
	for i, f := range pg.ep.ds.Fields {
		if need[i] {
			names = append(names, f.Name)
		}
	}
	return names
}

// take adds one row; false ends the scan. A page ends at its limit, its bytes, its rows read or
// its time, and then there may be more.
func (pg *page) take(row dataset.Row) bool {
	pg.scanned++
	if pg.rows == pg.l.limit || pg.scanned > pg.opts.MaxScannedRows || pg.scanned > 1 && pg.late() {
		pg.more = true
		return false
	}
	rec, err := pg.ep.ds.Record(row)
	if err != nil {
		pg.err = err
		return false
	}
	for _, f := range pg.l.plan.residual {
		if !f.match(rec) {
			pg.last = row.Key
			return true
		}
	}
	before := len(pg.body)
	if pg.err = pg.add(rec, row.Key); pg.err != nil {
		return false
	}
	if len(pg.body) > pg.opts.MaxPageBytes && pg.rows > 0 {
		pg.body, pg.more = pg.body[:before], true
		return false
	}
	pg.rows++
	pg.last = row.Key
	return true
}

func (pg *page) late() bool {
	return pg.scanned%checkClockEvery == 0 && pg.now().Sub(pg.l.now) > pg.opts.ListTimeout/2
}

func (pg *page) add(rec dataset.Record, key string) (err error) {
	if pg.rows > 0 {
		pg.body = append(pg.body, ',')
	}
	id, err := pg.ep.ds.RowID(key)
	if err != nil {
		return err
	}
	pg.body, err = rec.AppendJSON(pg.body, id, pg.l.query.fields)
	return err
}

// finish adds what follows the rows, and the Link header.
func (pg *page) finish(w http.ResponseWriter, s *sealer) *web.Problem {
	b := append(pg.body, `],"next_cursor":`...)
	if pg.more {
		cursor := s.seal(pg.ep.scope, pg.position())
		next, p := pg.nextURL(cursor)
		if p != nil {
			return p
		}
		w.Header().Set("Link", "<"+next+`>; rel="next"`)
		b = append(append(append(b, '"'), cursor...), `","next_url":"`...)
		b = append(append(b, next...), '"')
	} else {
		b = append(b, `null,"next_url":null`...)
	}
	pg.body = append(pg.appendMeta(b), '}')
	return nil
}

func (pg *page) position() position {
	p := position{issued: pg.now(), at: pg.l.at, desc: pg.l.query.desc, key: pg.last, queryHash: hashQuery(pg.l.canonical)}
	if len(pg.l.canonical) <= maxSealedQueryBytes {
		p.query, p.sealed = pg.l.canonical, true
	}
	return p
}

// nextURL repeats the query where the URL stays within the limit, and else relies on the query
// inside the cursor.
func (pg *page) nextURL(cursor string) (string, *web.Problem) {
	base := pg.ep.path + "/rows?"
	tail := paramCursor + "=" + cursor
	if pg.l.explicit {
		tail += "&" + paramLimit + "=" + strconv.Itoa(pg.l.limit)
	}
	whole := base + tail
	if pg.l.canonical != "" {
		whole = base + pg.l.canonical + "&" + tail
	}
	if len(whole) <= pg.opts.MaxURLBytes {
		return whole, nil
	}
	if short := base + tail; len(pg.l.canonical) <= maxSealedQueryBytes && len(short) <= pg.opts.MaxURLBytes {
		return short, nil
	}
	return "", web.NewProblem(web.URITooLong, fmt.Sprintf("The URL of the next page would have %d bytes, the limit is %d.", len(whole), pg.opts.MaxURLBytes), "Use fewer or shorter filters.")
}

func (pg *page) appendMeta(b []byte) []byte {
	b = append(b, `,"meta":{"dataset":"`...)
	b = append(b, pg.ep.ds.Name...)
	b = append(b, `","access":"key"`...)
	b = appendNames(b, "prefix", pg.l.plan.prefix)
	if pg.l.plan.ranged != nil {
		b = append(append(append(b, `,"range":"`...), pg.l.plan.ranged.Name...), '"')
	}
	if len(pg.l.plan.residual) > 0 {
		var fields []*dataset.Field
		for _, f := range pg.l.plan.residual {
			fields = append(fields, f.field)
		}
		b = appendNames(b, "filtered", fields)
	}
	b = append(b, `,"rows_scanned":`...)
	b = strconv.AppendInt(b, int64(pg.scanned), 10)
	b = append(b, `,"as_of":"`...)
	b = pg.l.now.UTC().AppendFormat(b, "2006-01-02T15:04:05.000Z07:00")
	return append(b, `"}`...)
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
