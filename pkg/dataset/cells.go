package dataset

import (
	"time"
	"unicode/utf8"
)

// cellMark stands before a string or bytes value that would otherwise look
// like a missing one. It never begins UTF-8 text.
const cellMark = 0xFF

// Cell is one column of a row. An empty Value means that the field is missing.
type Cell struct {
	Column string
	Value  []byte
}

// Row is a record as Bigtable keeps it.
type Row struct {
	Key string
	// Time is the timestamp of every cell, in UTC and whole milliseconds.
	Time  time.Time
	Cells []Cell
}

// Row returns the row of a record. Its time is the dataset's time field, or
// publishTime when none is declared. It has one cell for each declared field
// in their order, also for the missing ones, so that it hides all of an older
// record with the same key.
func (r Record) Row(publishTime time.Time) Row {
	ds := r.Dataset
	at := publishTime.UTC()
	if ds.Time != nil {
		at = r.Value(ds.Time).Time()
	}
	size := 0
	for _, v := range r.Values {
		size += len(v.str) + 24
	}
	buf := make([]byte, 0, size)
	cells := make([]Cell, len(ds.Fields))
	for i, f := range ds.Fields {
		start := len(buf)
		buf = appendCell(buf, r.Values[i])
		cells[i] = Cell{Column: f.Name, Value: buf[start:len(buf):len(buf)]}
	}
	return Row{Key: r.RowKey(), Time: floorMilli(at), Cells: cells}
}

// floorMilli rounds down to milliseconds of the Unix time, as a cell timestamp does.
func floorMilli(t time.Time) time.Time { return time.UnixMilli(t.UnixMilli()).UTC() }

func appendCell(dst []byte, v Value) []byte {
	if (v.kind == kindString || v.kind == kindBytes) && (v.str == "" || v.str[0] == cellMark) {
		dst = append(dst, cellMark)
	}
	return v.appendText(dst)
}

// Record returns the record of a row. A column that is not declared is
// ignored: it belongs to a field that was removed. A declared field without a
// column is missing: it was added later.
func (ds *Dataset) Record(row Row) (Record, error) {
	r := Record{Dataset: ds, Values: make([]Value, len(ds.Fields))}
	for _, c := range row.Cells {
		f := ds.byName[c.Column]
		if f == nil || len(c.Value) == 0 {
			continue
		}
		v, ok := cellValue(kindOf(f.Type), c.Value)
		if !ok {
			return Record{}, ds.cellFault(row, c.Column, kindOf(f.Type), c.Value)
		}
		r.Values[f.Index] = v
	}
	return r, nil
}

// showKey is the row id, or the quoted bytes of a key that has none.
func (ds *Dataset) showKey(key string) string {
	if id, err := ds.RowID(key); err == nil && len(id) <= maxQuoted {
		return id
	}
	return quoteCut(key)
}

func cellValue(k kind, b []byte) (Value, bool) {
	switch k {
	case kindString, kindBytes:
		if b[0] == cellMark {
			b = b[1:]
		}
		return Value{kind: k, str: string(b)}, k == kindBytes || utf8.Valid(b)
	case kindJSON:
		text, ok := compactJSON(string(b))
		return Value{kind: k, str: text}, ok
	}
	return parseScalar(k, string(b), false)
}
