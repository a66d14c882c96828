package query

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/web"
)

// The trailers of an export. Without trailerEnd the export was cut.
const (
	trailerEnd    = "Latam-End"
	trailerRows   = "Latam-Rows"
	trailerCursor = "Latam-Next-Cursor"
)

// exportChunkBytes is how much is gathered before it is sent.
const exportChunkBytes = 64 << 10

// exportFlushEvery bounds how long a row waits for company.
const exportFlushEvery = time.Second

// export streams all rows of a listing. Whatever ends it before the last row — a limit, its time, a
// drain — leaves a cursor at its end, with which another request goes on.
func (s *Service) export(l listing, w http.ResponseWriter, r *http.Request) *web.Problem {
	if r.Method == http.MethodHead {
		exportHeaders(w.Header(), l.format, web.Coding(r.Header)) // Rows that nobody gets are not read.
		return nil
	}
	web.SetAnswer(r.Context(), web.Stream)
	if p := l.ep.exports.enter(r.Context()); p != nil {
		return p
	}
	defer l.ep.exports.leave()
	// A reading that is stuck must end, so it has a little more time than the rows have.
	ctx, cancel := context.WithTimeout(r.Context(), s.opts.ExportTimeout+s.opts.ListTimeout)
	defer cancel()
	buf := s.bodies.get()
	defer s.bodies.put(buf)
	st := &stream{
		s: s, l: l, w: w, control: http.NewResponseController(w), coding: web.Coding(r.Header),
		enc: l.ep.ds.NewEncoder(l.query.fields), body: (*buf)[:0], flushed: l.now,
	}
	if l.format != formatNDJSON {
		st.body = st.enc.AppendCSVHeader(st.body)
	}
	wk := walker{
		l: l, now: s.deps.Now, limit: l.limit, until: l.now.Add(s.opts.ExportTimeout), stop: s.draining,
		emit: st.add, tick: st.tick,
	}
	err := wk.run(ctx, s)
	if err == nil {
		err = st.end(&wk)
	}
	*buf = st.body
	if err == nil {
		return nil
	}
	if errors.Is(err, errStalled) {
		panic(http.ErrAbortHandler) // The client takes nothing any more: there is nobody to tell.
	}
	// Once rows were sent, this aborts the connection, so that nobody takes a part for the whole.
	return s.storeProblem(ctx, r, l.ep, err)
}

// errStalled says that the client does not take what is sent to it.
var errStalled = errors.New("the client does not read")

// stream sends rows as they come.
type stream struct {
	s       *Service
	l       listing
	w       http.ResponseWriter
	control *http.ResponseController
	coding  string
	enc     *dataset.Encoder

	body    []byte
	begun   bool
	out     io.Writer
	z       web.Compressor // nil = not compressed
	waiting bool           // rows that the client may not have yet: here, in the compressor or on the connection
	flushed time.Time
}

func (st *stream) add(row dataset.Row) (bool, error) {
	var err error
	st.waiting = true
	if st.l.format == formatNDJSON {
		st.body, err = st.enc.AppendJSON(st.body, row)
		st.body = append(st.body, '\n')
	} else {
		st.body, err = st.enc.AppendCSV(st.body, row, st.l.format == formatCSVSafe)
	}
	if err == nil && len(st.body) >= exportChunkBytes {
		err = st.send()
	}
	return err == nil, err
}

// tick sends what has waited for a while, so that a slow search shows its first rows.
func (st *stream) tick(now time.Time) error {
	if !st.waiting || now.Sub(st.flushed) < exportFlushEvery {
		return nil
	}
	st.waiting, st.flushed = false, now
	if err := st.send(); err != nil {
		return err
	}
	return st.flush()
}

func exportHeaders(h http.Header, f format, coding string) {
	h["Vary"] = varyHeader
	h.Set("Content-Type", f.kind())
	if f != formatNDJSON {
		h.Set("Content-Type", typeCSV+"; charset=utf-8; header=present")
	}
	h.Set("Cache-Control", "no-store")
	h.Set("Trailer", trailerEnd+", "+trailerRows+", "+trailerCursor)
	if coding != "" {
		h.Set("Content-Encoding", coding)
	}
}

func (st *stream) begin() {
	st.begun = true
	exportHeaders(st.w.Header(), st.l.format, st.coding)
	st.out = st.w
	if st.coding != "" {
		st.z = web.NewCompressor(st.w, st.coding)
		st.out = st.z
	}
	st.w.WriteHeader(http.StatusOK)
}

// send writes the body so far. Each write has its own deadline: an export may take long, a client
// that reads nothing may not.
func (st *stream) send() error {
	if !st.begun {
		st.begin()
	}
	// A writer without deadlines, as in tests, has none to move.
	_ = st.control.SetWriteDeadline(time.Now().Add(st.s.opts.WriteTimeout))
	_, err := st.out.Write(st.body)
	st.body = st.body[:0]
	if err != nil {
		return errors.Join(errStalled, err)
	}
	return nil
}

func (st *stream) flush() error {
	if st.z != nil {
		if err := st.z.Flush(); err != nil {
			return errors.Join(errStalled, err)
		}
	}
	if err := st.control.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return errors.Join(errStalled, err)
	}
	return nil
}

// end writes the end marker: the last line of NDJSON, and the trailers of both formats.
func (st *stream) end(wk *walker) error {
	cursor := ""
	if wk.more {
		cursor = st.s.sealer.seal(st.l.ep.scope, st.l.position(st.s.deps.Now(), wk.last))
	}
	if st.l.format == formatNDJSON {
		st.body = strconv.AppendInt(append(st.body, `{"_end":true,"rows":`...), int64(wk.rows), 10)
		st.body = append(st.body, `,"next_cursor":`...)
		if cursor != "" {
			st.body = append(append(append(st.body, '"'), cursor...), `"}`+"\n"...)
		} else {
			st.body = append(st.body, "null}\n"...)
		}
	}
	if err := st.send(); err != nil {
		return err
	}
	if st.z != nil {
		if err := st.z.Close(); err != nil {
			return errors.Join(errStalled, err)
		}
	}
	h := st.w.Header()
	h.Set(trailerEnd, "complete")
	if cursor != "" {
		h.Set(trailerEnd, "more")
		h.Set(trailerCursor, cursor)
	}
	h.Set(trailerRows, strconv.Itoa(wk.rows))
	return nil
}
