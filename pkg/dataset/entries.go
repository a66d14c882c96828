package dataset

import "time"

// IndexEntries returns the entry of a record in each index, in the order of ds.Indexes, for a row
// that is stored at the given time. An entry has one empty cell, so that it says nothing that its
// key does not say, and the row's time, so that to write it again changes nothing. The entries
// share their cells. A dataset without indexes has none, and nil is returned.
func (ds *Dataset) IndexEntries(r Record, at time.Time) []Row {
	if len(ds.Indexes) == 0 {
		return nil
	}
	cells := []Cell{{Column: IndexColumn}}
	entries := make([]Row, len(ds.Indexes))
	for i := range ds.Indexes {
		entries[i] = Row{Key: ds.IndexKey(&ds.Indexes[i], r), Time: at, Cells: cells}
	}
	return entries
}

// IndexMarkRow returns the row which says in the table of an index that every stored row has its
// entry. Its time is the same for all and far ahead: a later mark takes the place of an earlier one,
// and the table's age limit never collects it.
func (ds *Dataset) IndexMarkRow(ix *Index) Row { return indexMark(ds.Signature(ix)) }

// indexNotKept is the mark of an index that is not declared any more. It is no signature.
const indexNotKept = "not kept"

// IndexUnmarkRow returns what takes the place of a mark, as read under IndexMark, when rows are stored
// without entries from now on. ok is false when the row is no mark or takes one away already.
func IndexUnmarkRow(mark Row) (row Row, ok bool) {
	row = indexMark(indexNotKept)
	if mark.Key != row.Key || !mark.Time.Equal(row.Time) || len(mark.Cells) != 1 || mark.Cells[0].Column != IndexMarkColumn {
		return row, false
	}
	return row, string(mark.Cells[0].Value) != indexNotKept
}

func indexMark(text string) Row {
	return Row{
		Key: IndexMark, Time: time.Date(9000, 1, 1, 0, 0, 0, 0, time.UTC),
		Cells: []Cell{{Column: IndexMarkColumn, Value: []byte(text)}},
	}
}

// IndexBuilt reports whether a row read from an index's table under IndexMark says that the index
// is complete as it is declared now. A row without cells says that it is not.
func (ds *Dataset) IndexBuilt(ix *Index, mark Row) bool {
	for _, c := range mark.Cells {
		if c.Column == IndexMarkColumn {
			return string(c.Value) == ds.Signature(ix)
		}
	}
	return false
}
