package cellstore

import (
	"bytes"
	"context"
	"encoding/binary"
	"slices"

	"cloud.google.com/go/bigtable/apiv2/bigtablepb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func (d *dataService) ReadModifyWriteRow(
	_ context.Context, req *bigtablepb.ReadModifyWriteRowRequest,
) (*bigtablepb.ReadModifyWriteRowResponse, error) {
	res := &bigtablepb.ReadModifyWriteRowResponse{}
	err := d.s.writeTo(req, func(db *database, t *table, sc *schema) (err error) {
		res.Row, err = d.s.readModifyWrite(db, t, sc, req)
		return err
	})
	if err != nil {
		return nil, err
	}
	return res, nil
}

func (s *Server) readModifyWrite(
	db *database, t *table, sc *schema, req *bigtablepb.ReadModifyWriteRowRequest,
) (*bigtablepb.Row, error) {
	row := req.GetRowKey()
	if err := sc.checkRules(row, req.GetRules()); err != nil {
		return nil, err
	}
	var set stripeSet
	s.locks.add(&set, sc.id, row)
	s.locks.lock(&set, true)
	defer s.locks.unlock(&set, true)
	present, err := s.readRow(db, sc, row)
	if err != nil {
		return nil, err
	}
	now := s.opts.Now().UnixMicro()
	cells, err := sc.runRules(row, req.GetRules(), present.cells, now-now%sc.unit)
	if err != nil {
		return nil, err
	}
	m := mutator{sc: sc, batch: db.NewBatch()}
	defer func() { _ = m.batch.Close() }() // frees memory only
	m.key = appendRowPrefix(nil, sc.id, row)
	m.row = len(m.key)
	for _, c := range cells {
		if err := m.set(c.family, c.qualifier, c.micros, c.value); err != nil {
			return nil, readFailed(err)
		}
	}
	t.dirty.Add(m.cells)
	if err := db.commit(m.batch); err != nil {
		return nil, err
	}
	return protoRow(row, cells), nil
}

func (sc *schema) checkRules(row []byte, rules []*bigtablepb.ReadModifyWriteRule) error {
	if err := checkRowKey(row); err != nil {
		return err
	}
	switch n := len(rules); {
	case n == 0:
		return status.Error(codes.InvalidArgument, "No rules provided")
	case n > maxMutations:
		return status.Errorf(codes.InvalidArgument, "Too many rules: %d provided; limit %d", n, maxMutations)
	}
	for _, r := range rules {
		f, err := sc.mutationFamily(row, r.GetFamilyName())
		if err != nil {
			return err
		}
		if f.sums {
			return sc.mutationError(row, codes.InvalidArgument, "read-modify-write is not allowed in the aggregate family %q", f.name)
		}
		if err := sc.checkQualifier(row, r.GetColumnQualifier()); err != nil {
			return err
		}
		if r.GetRule() == nil {
			return sc.mutationError(row, codes.InvalidArgument, "the rule is empty")
		}
	}
	return nil
}

// runRules returns the new cells, one per column, in the row's order. A rule
// sees what the rules before it made of its column.
func (sc *schema) runRules(row []byte, rules []*bigtablepb.ReadModifyWriteRule, present []cell, now int64) ([]cell, error) {
	var fresh []cell
	for _, r := range rules {
		next := cell{family: sc.families[r.GetFamilyName()], qualifier: r.GetColumnQualifier(), micros: now}
		isColumn := func(c cell) bool { return c.sameColumn(&next) }
		at := slices.IndexFunc(fresh, isColumn)
		var old *cell
		if at >= 0 {
			old = &fresh[at]
		} else if i := slices.IndexFunc(present, isColumn); i >= 0 {
			old = &present[i] // newest first
		}
		if old != nil {
			next.micros = max(now, old.micros)
			next.value = old.value
		}
		if err := sc.runRule(row, r, &next, old != nil); err != nil {
			return nil, err
		}
		if at >= 0 {
			fresh[at] = next
		} else {
			fresh = append(fresh, next)
		}
	}
	slices.SortFunc(fresh, compareCells)
	return fresh, nil
}

// runRule changes the value of next, which is the present one if there is one.
// A present value of no bytes is not a number, only an absent one counts as 0.
func (sc *schema) runRule(row []byte, r *bigtablepb.ReadModifyWriteRule, next *cell, present bool) error {
	switch rule := r.GetRule().(type) {
	case *bigtablepb.ReadModifyWriteRule_AppendValue:
		next.value = append(bytes.Clone(next.value), rule.AppendValue...)
		if n := len(next.value); n > maxValueBytes {
			return sc.mutationError(row, codes.InvalidArgument, "Cell value is too large: %d bytes; limit %d", n, maxValueBytes)
		}
	case *bigtablepb.ReadModifyWriteRule_IncrementAmount:
		var v uint64
		switch {
		case !present:
		case len(next.value) == 8:
			v = binary.BigEndian.Uint64(next.value)
		default:
			return sc.mutationError(row, codes.FailedPrecondition,
				"increment of %s:%q needs a 64-bit value, its cell has %d bytes", next.family.name, next.qualifier, len(next.value))
		}
		next.value = binary.BigEndian.AppendUint64(nil, v+uint64(rule.IncrementAmount))
	default:
		return status.Errorf(codes.Unimplemented, "rules of type %T are not implemented", rule)
	}
	return nil
}

// protoRow renders cells, sorted, as a row message.
func protoRow(key []byte, cells []cell) *bigtablepb.Row {
	row := &bigtablepb.Row{Key: key}
	for i := range cells {
		c := &cells[i]
		if i == 0 || cells[i-1].family != c.family {
			row.Families = append(row.Families, &bigtablepb.Family{Name: c.family.name})
		}
		fam := row.Families[len(row.Families)-1]
		if i == 0 || !cells[i-1].sameColumn(c) {
			fam.Columns = append(fam.Columns, &bigtablepb.Column{Qualifier: c.qualifier})
		}
		col := fam.Columns[len(fam.Columns)-1]
		col.Cells = append(col.Cells, &bigtablepb.Cell{TimestampMicros: c.micros, Value: c.value})
	}
	return row
}
