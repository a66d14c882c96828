package cellstore

import (
	"bytes"
	"context"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

const (
	// gcStepCells is how many cells one step of a collection looks at, and
	// gcStepRows how many rows it cleans, so that its iterators and locks are
	// short-lived.
	gcStepCells = 20_000
	gcStepRows  = 256
	// gcPause is the rest between steps in the background.
	gcPause = 10 * time.Millisecond
)

// CollectGarbage removes, in all tables, the cells that GC rules or dropped
// families have made garbage, and returns how many it removed. It changes nothing
// that a read can see. The same happens in the background every GCInterval.
func (s *Server) CollectGarbage(ctx context.Context) (cells int, err error) {
	return s.collect(ctx, true)
}

// collect visits every table that may hold garbage; force visits all of them and
// does not rest.
func (s *Server) collect(ctx context.Context, force bool) (cells int, err error) {
	s.gcMu.Lock()
	defer s.gcMu.Unlock()
	for _, name := range s.tableNames("") {
		t, sc, err := s.lookup(name)
		if err != nil {
			continue // deleted meanwhile
		}
		if !force && (!sc.collectable() || (t.dirty.Load() == 0 && !sc.agesOut())) {
			continue
		}
		dirty := t.dirty.Swap(0)
		n, err := s.collectTable(ctx, t, sc, force)
		cells += n
		if err != nil {
			t.dirty.Add(dirty)
			return cells, err
		}
		if n > 0 {
			s.opts.Log.Debug("collected garbage", "table", name, "cells", n)
		}
	}
	return cells, nil
}

func (s *Server) collectTable(ctx context.Context, t *table, first *schema, force bool) (cells int, err error) {
	from := appendTablePrefix(nil, first.id)
	for from != nil {
		if err := ctx.Err(); err != nil {
			return cells, err
		}
		var n int
		if n, from, err = s.collectStep(t, from); err != nil {
			return cells, err
		}
		cells += n
		if !force {
			rest(ctx)
		}
	}
	if !first.dropped {
		return cells, nil
	}
	return cells, s.forgetDropped(first)
}

// rest pauses for gcPause or until the context ends.
func rest(ctx context.Context) {
	timer := time.NewTimer(gcPause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// forgetDropped notes that no dropped family has cells left, unless the families
// have changed since the collection began.
func (s *Server) forgetDropped(first *schema) error {
	s.adminMu.Lock()
	defer s.adminMu.Unlock()
	t, sc, err := s.lookup(first.name)
	if err != nil || sc != first {
		return nil
	}
	next := sc.with()
	next.dropped = false
	if err := s.save(next, nil); err != nil {
		return err
	}
	t.schema.Store(next)
	return nil
}

// collectStep cleans the next rows from the key from on and returns where to go
// on, nil at the end of the table.
func (s *Server) collectStep(t *table, from []byte) (cells int, next []byte, err error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	sc := t.schema.Load()
	if sc == nil {
		return 0, nil, nil
	}
	db, err := s.hold()
	if err != nil {
		return 0, nil, err
	}
	defer db.release()
	rows, next, err := s.garbageRows(db, sc, from)
	if err != nil || len(rows) == 0 {
		return 0, next, err
	}
	var set stripeSet
	var buf []byte
	for _, prefix := range rows {
		buf = rowOf(buf[:0], prefix)
		s.locks.add(&set, sc.id, buf)
	}
	s.locks.lock(&set, true)
	defer s.locks.unlock(&set, true)
	cells, err = s.cleanRows(db, sc, rows)
	return cells, next, err
}

func (s *Server) scanner(db *database, sc *schema, lower, upper []byte) (*rowScanner, error) {
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return nil, readFailed(err)
	}
	return &rowScanner{it: it, sc: sc, now: s.opts.Now().UnixMicro(), maxBytes: s.opts.MaxRowBytes}, nil
}

// garbageRows returns the prefixes of the next rows that hold garbage.
func (s *Server) garbageRows(db *database, sc *schema, from []byte) (rows [][]byte, next []byte, err error) {
	r, err := s.scanner(db, sc, from, upperBound(appendTablePrefix(nil, sc.id)))
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if cerr := r.it.Close(); err == nil {
			err = readFailed(cerr)
		}
	}()
	seen := 0
	for ok := r.it.First(); ok; ok = r.it.Valid() {
		if seen >= gcStepCells || len(rows) >= gcStepRows {
			return rows, bytes.Clone(r.it.Key()), nil
		}
		r.arena = r.arena[:0]
		r.start()
		for r.inRow() {
			seen++
			_, garbage, err := r.enter(r.it.Key()[len(r.prefix):])
			if err != nil {
				return nil, nil, err
			}
			if garbage {
				rows = append(rows, bytes.Clone(r.prefix))
				r.it.NextPrefix()
				break
			}
			r.it.Next()
		}
	}
	return rows, nil, readFailed(r.it.Error())
}

// cleanRows deletes the garbage of rows, whose locks the caller holds. A loss of
// these deletions in a crash does no harm, so they are not synced.
func (s *Server) cleanRows(db *database, sc *schema, rows [][]byte) (cells int, err error) {
	if err := db.admit(); err != nil {
		return 0, err
	}
	b := db.NewBatch()
	defer func() { _ = b.Close() }() // frees memory only
	for _, prefix := range rows {
		n, err := s.cleanRow(db, b, sc, prefix)
		cells += n
		if err != nil {
			return 0, err
		}
	}
	if err := b.Commit(pebble.NoSync); err != nil {
		return 0, diskStatus(err)
	}
	return cells, nil
}

func (s *Server) cleanRow(db *database, b *pebble.Batch, sc *schema, prefix []byte) (cells int, err error) {
	r, err := s.scanner(db, sc, prefix, upperBound(bytes.Clone(prefix)))
	if err != nil {
		return 0, err
	}
	defer func() {
		if cerr := r.it.Close(); err == nil {
			err = readFailed(cerr)
		}
	}()
	if !r.it.First() {
		return 0, readFailed(r.it.Error())
	}
	for r.start(); r.inRow(); {
		_, garbage, err := r.enter(r.it.Key()[len(r.prefix):])
		if err != nil {
			return cells, err
		}
		switch {
		case !garbage:
			r.it.Next()
			continue
		case r.col.garbage > pointDeletes:
			// Rules only ever doom a column's oldest cells, so the rest goes at once.
			end := upperBound(append(bytes.Clone(r.prefix), r.col.name...))
			err = b.DeleteRange(r.it.Key(), end, nil)
			r.it.SeekGE(end)
		default:
			err = b.Delete(r.it.Key(), nil)
			r.it.Next()
		}
		if err != nil {
			return cells, readFailed(err)
		}
		cells++
	}
	return cells, readFailed(r.it.Error())
}
