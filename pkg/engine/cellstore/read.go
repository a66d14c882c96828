package cellstore

import (
	"bytes"
	"context"
	"encoding/base64"
	"slices"
	"strings"

	"cloud.google.com/go/bigtable/apiv2/bigtablepb"
	"github.com/cockroachdb/pebble/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// scanReport is after how many rows without a result a client that asks for it
// hears how far the scan has come.
const scanReport = 10_000

func (d *dataService) ReadRows(req *bigtablepb.ReadRowsRequest, stream bigtablepb.Bigtable_ReadRowsServer) error {
	if req.GetMaterializedViewName() != "" {
		return status.Error(codes.Unimplemented, "materialized views are not implemented")
	}
	name, err := tableName(req)
	if err != nil {
		return err
	}
	_, sc, err := d.s.lookup(name)
	if err != nil {
		return err
	}
	if req.GetRowsLimit() < 0 {
		return status.Errorf(codes.InvalidArgument, "rows_limit must not be negative, got %d", req.GetRowsLimit())
	}
	features := clientFeatures(stream.Context())
	if req.GetReversed() && !features.GetReverseScans() {
		return status.Error(codes.Unimplemented, "the client's feature flags do not include reverse_scans, which reversed reads need")
	}
	intervals, err := rowIntervals(req.GetRows())
	if err != nil {
		return err
	}
	filter, err := compileFilter(req.GetFilter())
	if err != nil {
		return err
	}
	db, err := d.s.hold()
	if err != nil {
		return err
	}
	defer db.release()
	r := d.s.reader()
	defer d.s.reuse(r)
	r.s, r.reversed = d.s, req.GetReversed()
	r.scan.wanted, r.filter = filter.split()
	r.out.send = stream.Send
	r.reports = features.GetLastScannedRowResponses()
	r.limit = req.GetRowsLimit()
	r.stopping = d.s.ctx
	r.scan.sc, r.scan.now, r.scan.maxBytes = sc, d.s.opts.Now().UnixMicro(), d.s.opts.MaxRowBytes
	return r.read(stream.Context(), db, intervals)
}

// reader returns a rowReader that has the memory of an earlier one, if there is any.
func (s *Server) reader() *rowReader {
	if r, ok := s.readers.Get().(*rowReader); ok {
		return r
	}
	return &rowReader{}
}

// maxReusedBytes is the most memory for rows that an idle reader keeps.
const maxReusedBytes = 1 << 20

// reuse keeps the memory of a reader whose request is done for the next one.
func (s *Server) reuse(r *rowReader) {
	if cap(r.scan.arena) > maxReusedBytes || len(r.out.slots) > 2*flushChunks {
		return
	}
	r.out.forget()
	r.s, r.filter, r.stopping, r.found, r.idle = nil, nil, nil, 0, 0
	clear(r.scan.cells[:cap(r.scan.cells)])
	r.scan = rowScanner{
		cells: r.scan.cells[:0], prefix: r.scan.prefix, arena: r.scan.arena[:0], buf: r.scan.buf,
		col: columnState{name: r.scan.col.name[:0]},
	}
	s.readers.Put(r)
}

// clientFeatures are the feature flags that a client sends with every request.
// Padded or not, in any number of headers: clients differ.
func clientFeatures(ctx context.Context) *bigtablepb.FeatureFlags {
	flags := &bigtablepb.FeatureFlags{}
	for _, value := range metadata.ValueFromIncomingContext(ctx, "bigtable-features") {
		if raw, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(value, "=")); err == nil {
			_ = proto.UnmarshalOptions{Merge: true}.Unmarshal(raw, flags) // what cannot be read is not claimed
		}
	}
	return flags
}

// rowReader runs one ReadRows request.
type rowReader struct {
	s        *Server
	filter   *rowFilter
	reversed bool
	limit    int64 // rows; 0 has no limit
	reports  bool
	stopping context.Context
	scan     rowScanner
	out      chunkWriter

	found int64
	idle  int // rows scanned since the last one found

	lower, upper []byte // the bounds of the interval being read
}

func (r *rowReader) read(ctx context.Context, db *database, intervals []interval) (err error) {
	r.scan.it, err = db.NewIterWithContext(ctx, &pebble.IterOptions{})
	if err != nil {
		return readFailed(err)
	}
	defer func() {
		if cerr := r.scan.it.Close(); err == nil {
			err = readFailed(cerr)
		}
	}()
	if r.reversed {
		slices.Reverse(intervals)
	}
	for _, iv := range intervals {
		if more, err := r.readInterval(ctx, iv); err != nil || !more {
			if err != nil {
				return err
			}
			break
		}
	}
	return r.out.flush()
}

// readInterval reads the rows of one interval and reports whether more rows may
// follow: false once the limit is reached.
func (r *rowReader) readInterval(ctx context.Context, iv interval) (more bool, err error) {
	it := r.scan.it
	r.position(iv)
	for it.Valid() {
		if err := cmpErr(ctx.Err(), r.stopping.Err()); err != nil {
			return false, err
		}
		mark := len(r.scan.arena)
		if r.reversed {
			err = r.scan.backward()
		} else {
			err = r.scan.forward()
		}
		if err != nil {
			return false, err
		}
		cells := r.filter.run(r.scan.key, r.scan.cells)
		if len(cells) == 0 {
			if err := r.skipped(mark); err != nil {
				return false, err
			}
			continue
		}
		r.idle = 0
		r.found++
		if err := r.out.row(r.scan.key, cells); err != nil {
			return false, err
		}
		if r.limit > 0 && r.found >= r.limit {
			return false, nil
		}
		if r.out.empty() {
			r.scan.arena = r.scan.arena[:0]
		}
	}
	return true, readFailed(it.Error())
}

// position moves the iterator to the first row of an interval, in read order.
func (r *rowReader) position(iv interval) {
	it, table := r.scan.it, r.scan.sc.id
	r.lower, r.upper = iv.appendBounds(r.lower[:0], r.upper[:0], table)
	it.SetBounds(r.lower, r.upper)
	switch {
	case r.reversed:
		it.Last()
	case iv.single():
		r.lower = appendRowPrefix(r.lower[:0], table, iv.start)
		it.SeekPrefixGE(r.lower)
	default:
		it.First()
	}
}

// skipped forgets a row without results, whose data begins at mark.
func (r *rowReader) skipped(mark int) error {
	if r.idle++; r.idle%scanReport == 0 && r.reports {
		if err := r.out.flush(); err != nil {
			return err
		}
		return r.out.send(&bigtablepb.ReadRowsResponse{LastScannedRowKey: bytes.Clone(r.scan.key)})
	}
	if mark <= len(r.scan.arena) {
		r.scan.arena = r.scan.arena[:mark]
	}
	return nil
}

// cmpErr turns the end of the request, or of the server, into a status.
func cmpErr(request, server error) error {
	switch {
	case request != nil:
		return status.FromContextError(request).Err()
	case server != nil:
		return errClosed
	}
	return nil
}
