package cellstore

import (
	"bytes"
	"fmt"
	"slices"

	"cloud.google.com/go/bigtable/apiv2/bigtablepb"
	"github.com/cockroachdb/pebble/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Stats describes a store at one moment.
type Stats struct {
	DiskBytes uint64       // of all files, the log included
	Tables    []TableStats // in the order of their names
}

// TableStats describes one table.
type TableStats struct {
	Name  string // projects/P/instances/I/tables/T
	Rows  uint64 // counted in small tables, estimated in large ones
	Bytes uint64 // in table files; what is still in memory is not counted
}

const (
	// countRows is how many rows are counted before the rest is estimated, and
	// countBytes how many bytes of files they must fill to estimate from.
	countRows    = 20_000
	countBytes   = 256 << 10
	maxCountRows = 1_000_000
)

// Stats looks at the store. It is zero when the store is closed.
func (s *Server) Stats() Stats {
	db, err := s.hold()
	if err != nil {
		return Stats{}
	}
	defer db.release()
	st := Stats{DiskBytes: db.Metrics().DiskSpaceUsage()}
	for _, name := range s.tableNames("") {
		_, sc, err := s.lookup(name)
		if err != nil {
			continue // deleted meanwhile
		}
		t, err := tableStats(db, sc)
		if err != nil {
			s.opts.Log.Warn("table statistics are incomplete", "table", name, "error", err)
		}
		st.Tables = append(st.Tables, t)
	}
	return st
}

func tableStats(db *database, sc *schema) (t TableStats, err error) {
	t.Name = sc.name
	lower := appendTablePrefix(nil, sc.id)
	upper := upperBound(bytes.Clone(lower))
	if t.Bytes, err = db.EstimateDiskUsage(lower, upper); err != nil {
		return t, fmt.Errorf("estimate size of %s: %w", sc.name, err)
	}
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return t, fmt.Errorf("count rows of %s: %w", sc.name, err)
	}
	defer func() {
		if cerr := it.Close(); err == nil && cerr != nil {
			err = fmt.Errorf("count rows of %s: %w", sc.name, cerr)
		}
	}()
	for ok := it.First(); ok; ok = it.NextPrefix() {
		t.Rows++
		if t.Rows%countRows != 0 {
			continue
		}
		part, err := db.EstimateDiskUsage(lower, it.Key())
		if err != nil {
			return t, fmt.Errorf("estimate size of %s: %w", sc.name, err)
		}
		if part >= countBytes || t.Rows >= maxCountRows {
			t.Rows = uint64(float64(t.Rows) * max(1, float64(t.Bytes)/float64(max(part, 1))))
			break
		}
	}
	return t, it.Error()
}

// SampleRowKeys returns the table's split keys, row keys that divide its files
// into parts of similar size and, last, an empty key: the end of the table.
func (d *dataService) SampleRowKeys(req *bigtablepb.SampleRowKeysRequest, stream bigtablepb.Bigtable_SampleRowKeysServer) error {
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
	db, err := d.s.hold()
	if err != nil {
		return err
	}
	defer db.release()
	lower := appendTablePrefix(nil, sc.id)
	upper := upperBound(bytes.Clone(lower))
	keys, err := fileKeys(db, lower)
	if err != nil {
		return err
	}
	for _, key := range append(sortedSplits(append(keys, sc.splits...)), nil) {
		end := upper
		if key != nil {
			end = appendEscapedOpen(appendTablePrefix(nil, sc.id), key)
		}
		offset, err := db.EstimateDiskUsage(lower, end)
		if err != nil {
			return readFailed(err)
		}
		if err := stream.Send(&bigtablepb.SampleRowKeysResponse{RowKey: key, OffsetBytes: int64(offset)}); err != nil {
			return err
		}
	}
	return nil
}

// fileKeys returns row keys at which files of a table begin, at most about a
// hundred and far enough apart to be worth a scan of their own.
func fileKeys(db *database, tablePrefix []byte) ([][]byte, error) {
	levels, err := db.SSTables()
	if err != nil {
		return nil, readFailed(err)
	}
	var files []pebble.SSTableInfo
	var total uint64
	for _, level := range levels {
		for _, file := range level {
			if key := file.Smallest.UserKey; bytes.HasPrefix(key, tablePrefix) && splitKey(key) < len(key) {
				files = append(files, file)
				total += file.Size
			}
		}
	}
	slices.SortFunc(files, func(a, b pebble.SSTableInfo) int {
		return bytes.Compare(a.Smallest.UserKey, b.Smallest.UserKey)
	})
	var keys [][]byte
	var part uint64
	for _, file := range files {
		if part += file.Size; part >= max(countBytes, total/100) {
			part = 0
			key := file.Smallest.UserKey
			keys = append(keys, rowOf(nil, key[:splitKey(key)]))
		}
	}
	return keys, nil
}
