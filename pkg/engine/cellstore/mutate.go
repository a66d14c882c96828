package cellstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"

	"cloud.google.com/go/bigtable/apiv2/bigtablepb"
	"github.com/cockroachdb/pebble/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Bigtable's limits.
const (
	maxMutations      = 100_000
	maxRowKeyBytes    = 4 << 10
	maxQualifierBytes = 16 << 10
	maxValueBytes     = 100 << 20
)

// pointDeletes is up to how many cells a deletion removes one by one. Many small
// range tombstones would slow down every read that comes near them.
const pointDeletes = 1000

func checkRowKey(row []byte) error {
	switch n := len(row); {
	case n == 0:
		return status.Error(codes.InvalidArgument, "Row keys must be non-empty")
	case n > maxRowKeyBytes:
		return status.Errorf(codes.InvalidArgument, "Row key is too long: %d bytes; limit %d", n, maxRowKeyBytes)
	}
	return nil
}

func checkMutationCount(n int) error {
	switch {
	case n == 0:
		return status.Error(codes.InvalidArgument, "No mutations provided")
	case n > maxMutations:
		return status.Errorf(codes.InvalidArgument, "Too many mutations: %d provided; limit %d", n, maxMutations)
	}
	return nil
}

// mutationError says which row a mutation's error belongs to, as Bigtable does.
func (sc *schema) mutationError(row []byte, code codes.Code, format string, args ...any) error {
	return status.Errorf(code, "Error while mutating the row '%s' (%s) : %s", shown(row), sc.name, fmt.Sprintf(format, args...))
}

// shown renders a row key, whatever its bytes, for a message, which must be
// UTF-8.
func shown(row []byte) string {
	const limit = 64
	quoted := strconv.Quote(string(row[:min(len(row), limit)]))
	return quoted[1 : len(quoted)-1]
}

// mutationFamily finds the family that a mutation names.
func (sc *schema) mutationFamily(row []byte, name string) (*family, error) {
	if f := sc.families[name]; f != nil {
		return f, nil
	}
	return nil, sc.mutationError(row, codes.NotFound, "Requested column family not found: %q", name)
}

// checkMutations validates one row's mutations, so that applying them cannot
// fail half-way. reads reports whether applying them needs the present cells.
func (sc *schema) checkMutations(row []byte, muts []*bigtablepb.Mutation) (reads bool, err error) {
	if err := checkRowKey(row); err != nil {
		return false, err
	}
	if err := checkMutationCount(len(muts)); err != nil {
		return false, err
	}
	for _, m := range muts {
		switch mut := m.GetMutation().(type) {
		case *bigtablepb.Mutation_SetCell_:
			err = sc.checkSetCell(row, mut.SetCell, m.GetTimestampOrigin())
		case *bigtablepb.Mutation_AddToCell_:
			reads = true
			in := mut.AddToCell.GetInput()
			_, isInt := in.GetKind().(*bigtablepb.Value_IntValue)
			err = sc.checkAggregate(row, mut.AddToCell, isInt)
		case *bigtablepb.Mutation_MergeToCell_:
			reads = true
			err = sc.checkAggregate(row, mut.MergeToCell, len(mut.MergeToCell.GetInput().GetRawValue()) == 8)
		case *bigtablepb.Mutation_DeleteFromColumn_:
			reads = true
			err = sc.checkDeleteFromColumn(row, mut.DeleteFromColumn)
		case *bigtablepb.Mutation_DeleteFromFamily_:
			reads = true
			_, err = sc.mutationFamily(row, mut.DeleteFromFamily.GetFamilyName())
		case *bigtablepb.Mutation_DeleteFromRow_:
			reads = true
		case nil:
			err = sc.mutationError(row, codes.InvalidArgument, "the mutation is empty")
		default:
			err = status.Errorf(codes.Unimplemented, "mutations of type %T are not implemented", mut)
		}
		if err != nil {
			return false, err
		}
	}
	return reads, nil
}

func (sc *schema) checkSetCell(row []byte, set *bigtablepb.Mutation_SetCell, origin bigtablepb.Mutation_TimestampOrigin) error {
	f, err := sc.mutationFamily(row, set.GetFamilyName())
	if err != nil {
		return err
	}
	if f.sums {
		return sc.mutationError(row, codes.InvalidArgument, "SetCell is not allowed in the aggregate family %q", f.name)
	}
	if err := sc.checkQualifier(row, set.GetColumnQualifier()); err != nil {
		return err
	}
	if n := len(set.GetValue()); n > maxValueBytes {
		return sc.mutationError(row, codes.InvalidArgument, "Cell value is too large: %d bytes; limit %d", n, maxValueBytes)
	}
	ts := set.GetTimestampMicros()
	if ts == -1 || (ts >= 0 && origin == bigtablepb.Mutation_CLIENT_AUTO_GENERATED) {
		return nil
	}
	return sc.checkTimestamp(row, ts)
}

func (sc *schema) checkQualifier(row, qualifier []byte) error {
	if n := len(qualifier); n > maxQualifierBytes {
		return sc.mutationError(row, codes.InvalidArgument, "Column qualifier is too long: %d bytes; limit %d", n, maxQualifierBytes)
	}
	return nil
}

func (sc *schema) checkTimestamp(row []byte, ts int64) error {
	if ts < 0 {
		return sc.mutationError(row, codes.InvalidArgument, "Invalid timestamp: %d", ts)
	}
	if ts%sc.unit != 0 {
		return sc.mutationError(row, codes.InvalidArgument,
			"Timestamp granularity mismatch. Expected a multiple of %d (millisecond granularity), but got %d.", sc.unit, ts)
	}
	return nil
}

// aggregation is what AddToCell and MergeToCell have in common.
type aggregation interface {
	GetFamilyName() string
	GetColumnQualifier() *bigtablepb.Value
	GetTimestamp() *bigtablepb.Value
	GetInput() *bigtablepb.Value
}

func (sc *schema) checkAggregate(row []byte, a aggregation, inputOK bool) error {
	f, err := sc.mutationFamily(row, a.GetFamilyName())
	switch {
	case err != nil:
		return err
	case !f.sums:
		return sc.mutationError(row, codes.InvalidArgument, "the family %q is not an aggregate", f.name)
	case !inputOK:
		return sc.mutationError(row, codes.InvalidArgument, "the input does not fit the int64 sum family %q", f.name)
	}
	if err := sc.checkQualifier(row, a.GetColumnQualifier().GetRawValue()); err != nil {
		return err
	}
	return sc.checkTimestamp(row, a.GetTimestamp().GetRawTimestampMicros())
}

func (sc *schema) checkDeleteFromColumn(row []byte, del *bigtablepb.Mutation_DeleteFromColumn) error {
	if _, err := sc.mutationFamily(row, del.GetFamilyName()); err != nil {
		return err
	}
	if err := sc.checkQualifier(row, del.GetColumnQualifier()); err != nil {
		return err
	}
	start, end := del.GetTimeRange().GetStartTimestampMicros(), del.GetTimeRange().GetEndTimestampMicros()
	for _, ts := range []int64{start, end} {
		if err := sc.checkTimestamp(row, ts); err != nil {
			return err
		}
	}
	if end != 0 && start >= end {
		return sc.mutationError(row, codes.InvalidArgument, "Invalid time range: start %d must be less than end %d", start, end)
	}
	return nil
}

// mutator turns validated mutations into operations of one Pebble batch.
type mutator struct {
	sc    *schema
	batch *pebble.Batch // indexed when the mutations read
	now   int64         // microseconds, a multiple of the table's unit
	cells int64         // written or deleted

	row int    // length of the row prefix in key
	key []byte // row prefix, then scratch
}

func (m *mutator) apply(row []byte, muts []*bigtablepb.Mutation) error {
	m.key = appendRowPrefix(m.key[:0], m.sc.id, row)
	m.row = len(m.key)
	for _, mut := range muts {
		if err := m.applyOne(mut); err != nil {
			return err
		}
	}
	return nil
}

func (m *mutator) applyOne(mut *bigtablepb.Mutation) error {
	switch mu := mut.GetMutation().(type) {
	case *bigtablepb.Mutation_SetCell_:
		set := mu.SetCell
		ts := set.GetTimestampMicros()
		if ts == -1 {
			ts = m.now
		}
		f := m.sc.families[set.GetFamilyName()]
		return m.set(f, set.GetColumnQualifier(), ts-ts%m.sc.unit, set.GetValue())
	case *bigtablepb.Mutation_AddToCell_:
		return m.add(mu.AddToCell, mu.AddToCell.GetInput().GetIntValue())
	case *bigtablepb.Mutation_MergeToCell_:
		return m.add(mu.MergeToCell, int64(binary.BigEndian.Uint64(mu.MergeToCell.GetInput().GetRawValue())))
	case *bigtablepb.Mutation_DeleteFromRow_:
		return m.deletePrefix(m.key[:m.row])
	case *bigtablepb.Mutation_DeleteFromFamily_:
		f := m.sc.families[mu.DeleteFromFamily.GetFamilyName()]
		return m.deletePrefix(appendFamily(m.key[:m.row], f.id))
	case *bigtablepb.Mutation_DeleteFromColumn_:
		del := mu.DeleteFromColumn
		start, end := del.GetTimeRange().GetStartTimestampMicros(), del.GetTimeRange().GetEndTimestampMicros()
		if end == 0 {
			end = math.MaxInt64
		} else {
			end--
		}
		m.column(m.sc.families[del.GetFamilyName()], del.GetColumnQualifier())
		lower := appendTimestamp(bytes.Clone(m.key), end)
		upper := appendTimestamp(m.key, start)
		return m.deleteRange(lower, upperBound(upper))
	}
	return nil
}

// column leaves the key of a column, short of its timestamp, in m.key.
func (m *mutator) column(f *family, qualifier []byte) {
	m.key = appendEscaped(appendFamily(m.key[:m.row], f.id), qualifier)
}

func (m *mutator) set(f *family, qualifier []byte, ts int64, value []byte) error {
	m.column(f, qualifier)
	m.key = appendTimestamp(m.key, ts)
	m.cells++
	return m.batch.Set(m.key, value, nil)
}

// add adds to an int64 sum, which the caller has locked.
func (m *mutator) add(a aggregation, amount int64) error {
	f := m.sc.families[a.GetFamilyName()]
	m.column(f, a.GetColumnQualifier().GetRawValue())
	m.key = appendTimestamp(m.key, a.GetTimestamp().GetRawTimestampMicros())
	old, closer, err := m.batch.Get(m.key)
	if err == nil {
		if len(old) == 8 {
			amount += int64(binary.BigEndian.Uint64(old))
		}
		err = closer.Close()
	} else if errors.Is(err, pebble.ErrNotFound) {
		err = nil
	}
	if err != nil {
		return readFailed(err)
	}
	m.cells++
	return m.batch.Set(m.key, binary.BigEndian.AppendUint64(nil, uint64(amount)), nil)
}

func (m *mutator) deletePrefix(prefix []byte) error {
	return m.deleteRange(prefix, upperBound(bytes.Clone(prefix)))
}

// deleteRange deletes the cells with lower <= key < upper.
func (m *mutator) deleteRange(lower, upper []byte) (err error) {
	it, err := m.batch.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return readFailed(err)
	}
	var keys [][]byte
	for ok := it.First(); ok && len(keys) <= pointDeletes; ok = it.Next() {
		keys = append(keys, bytes.Clone(it.Key()))
	}
	if err := it.Close(); err != nil {
		return readFailed(err)
	}
	m.cells += int64(len(keys))
	if len(keys) > pointDeletes {
		return m.batch.DeleteRange(lower, upper, nil)
	}
	for _, key := range keys {
		if err := m.batch.Delete(key, nil); err != nil {
			return err
		}
	}
	return nil
}
