package dataset

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Encoder writes rows as JSON or CSV straight from their cells. It writes what Record and AppendJSON
// would write, and refuses what Record refuses, but copies the text of a cell that is canonical
// instead of reading it into a Value. It is safe for concurrent use.
type Encoder struct {
	ds     *Dataset
	fields []encoderField
	// slots is the place in fields of each field of the dataset, -1 for one that is not written.
	slots []int
	// sorted are the dataset's fields by name, the order in which Bigtable returns columns.
	sorted []*Field
}

// encoderField is a field with the text that stands before its value in JSON.
type encoderField struct {
	name, json string
	kind       kind
}

// NewEncoder compiles an encoder of the fields in the given order, with the id before them; nil
// fields mean all of them. The fields are the dataset's own and each comes once.
func (ds *Dataset) NewEncoder(fields []*Field) *Encoder {
	if fields == nil {
		fields = ds.Fields
	}
	e := &Encoder{ds: ds, slots: make([]int, len(ds.Fields)), sorted: slices.Clone(ds.Fields)}
	for i := range e.slots {
		e.slots[i] = -1
	}
	for i, f := range fields {
		e.slots[f.Index] = i
		e.fields = append(e.fields, encoderField{name: f.Name, json: `,"` + f.Name + `":`, kind: kindOf(f.Type)})
	}
	slices.SortFunc(e.sorted, func(a, b *Field) int { return strings.Compare(a.Name, b.Name) })
	return e
}

// stackCells is how many fields a row may have without an allocation.
const stackCells = 48

// AppendJSON appends a row as a JSON object: its id, then its fields without those that are missing,
// as Record.AppendJSON. The error names the column and what was expected there; dst is then
// returned as it was.
func (e *Encoder) AppendJSON(dst []byte, row Row) ([]byte, error) {
	var room [stackCells][]byte
	cells, err := e.place(room[:0], row)
	if err != nil {
		return dst, err
	}
	start := len(dst)
	dst = append(dst, `{"id":"`...)
	if dst, err = e.ds.AppendRowID(dst, row.Key); err != nil {
		return dst[:start], err
	}
	dst = append(dst, '"')
	for i, text := range cells {
		if len(text) == 0 {
			continue
		}
		f := &e.fields[i]
		dst = append(dst, f.json...)
		var ok bool
		if dst, ok = appendCellJSON(dst, f.kind, text); !ok {
			return dst[:start], e.ds.cellFault(row, f.name, f.kind, text)
		}
	}
	return append(dst, '}'), nil
}

// AppendCSVHeader appends the header row: id, then the names of the fields.
func (e *Encoder) AppendCSVHeader(dst []byte) []byte {
	dst = append(dst, IDMember...)
	for i := range e.fields {
		dst = append(append(dst, ','), e.fields[i].name...)
	}
	return append(dst, "\r\n"...)
}

// AppendCSV appends a row of CSV (RFC 4180) with its line end: its id, then its fields, of which a
// missing one is empty. Values are their canonical texts, bytes are base64. Safe puts an apostrophe
// before a string that begins with = + - @, a tab or a carriage return, which spreadsheets would
// run as a formula. The error is that of AppendJSON.
func (e *Encoder) AppendCSV(dst []byte, row Row, safe bool) ([]byte, error) {
	var room [stackCells][]byte
	cells, err := e.place(room[:0], row)
	if err != nil {
		return dst, err
	}
	start := len(dst)
	// The comma between the parts of an id makes quotes necessary, nothing else in it does.
	quoted := len(e.ds.Key) > 1
	if quoted {
		dst = append(dst, '"')
	}
	if dst, err = e.ds.AppendRowID(dst, row.Key); err != nil {
		return dst[:start], err
	}
	if quoted {
		dst = append(dst, '"')
	}
	for i, text := range cells {
		dst = append(dst, ',')
		if len(text) == 0 {
			continue
		}
		f := &e.fields[i]
		var ok bool
		if dst, ok = appendCellCSV(dst, f.kind, text, safe); !ok {
			return dst[:start], e.ds.cellFault(row, f.name, f.kind, text)
		}
	}
	return append(dst, "\r\n"...), nil
}

// place returns the text of each field that is written, nil for one that is missing. Cells that are
// not written are checked here, because a row with a broken cell is refused as a whole.
func (e *Encoder) place(room [][]byte, row Row) ([][]byte, error) {
	cells := append(room, make([][]byte, len(e.fields))...)
	next := 0
	for _, c := range row.Cells {
		var f *Field
		// Columns come in the order of their names as a rule, so the next one is known.
		if next < len(e.sorted) && e.sorted[next].Name == c.Column {
			f = e.sorted[next]
			next++
		} else if f = e.ds.byName[c.Column]; f != nil {
			next, _ = slices.BinarySearchFunc(e.sorted, f.Name, func(a *Field, name string) int { return strings.Compare(a.Name, name) })
			next++
		}
		if f == nil || len(c.Value) == 0 {
			continue
		}
		slot := e.slots[f.Index]
		if slot >= 0 && cells[slot] == nil {
			cells[slot] = c.Value
			continue
		}
		if slot >= 0 { // A column that comes twice: the last one counts, and both are checked.
			cells[slot], c.Value = c.Value, cells[slot]
		}
		if _, ok := cellValue(kindOf(f.Type), c.Value); !ok {
			return nil, e.ds.cellFault(row, f.Name, kindOf(f.Type), c.Value)
		}
	}
	return cells, nil
}

// cellFault says which cell of a row cannot be read.
func (ds *Dataset) cellFault(row Row, column string, k kind, value []byte) error {
	return fmt.Errorf("row %s of %s, column %s: expected %s, got %s", ds.showKey(row.Key), ds.Name,
		column, k.expected(), quoteCut(string(value[:min(len(value), maxQuoted+1)])))
}

// appendCellJSON appends the JSON of a cell that is not empty; ok is false when it cannot be read.
func appendCellJSON(dst []byte, k kind, text []byte) (out []byte, ok bool) {
	switch k {
	case kindString:
		text = unmarked(text)
		return appendJSONString(dst, text), utf8.Valid(text)
	case kindBytes:
		dst = base64.StdEncoding.AppendEncode(append(dst, '"'), unmarked(text))
		return append(dst, '"'), true
	case kindTimestamp, kindDate:
		if canonicalCell(k, text) {
			return append(append(append(dst, '"'), text...), '"'), true
		}
	default:
		if canonicalCell(k, text) {
			return append(dst, text...), true
		}
	}
	v, ok := cellValue(k, text)
	return v.AppendJSON(dst), ok
}

// appendCellCSV appends the field of a cell that is not empty; ok is false when it cannot be read.
func appendCellCSV(dst []byte, k kind, text []byte, safe bool) (out []byte, ok bool) {
	switch k {
	case kindString:
		text = unmarked(text)
		return appendCSVString(dst, text, safe), utf8.Valid(text)
	case kindBytes:
		return base64.StdEncoding.AppendEncode(dst, unmarked(text)), true
	case kindJSON:
		compact, ok := compactJSON(string(text))
		return appendCSVString(dst, []byte(compact), false), ok
	}
	if canonicalCell(k, text) {
		return append(dst, text...), true
	}
	v, ok := cellValue(k, text)
	return v.appendText(dst), ok
}

func unmarked(text []byte) []byte {
	if text[0] == cellMark {
		return text[1:]
	}
	return text
}

// appendCSVString appends a field of CSV, in quotes when it needs them.
func appendCSVString(dst, s []byte, safe bool) []byte {
	guard := safe && len(s) > 0 && strings.IndexByte("=+-@\t\r", s[0]) >= 0
	quoted := len(s) > 0 && s[0] == ' '
	for _, c := range s {
		quoted = quoted || c == '"' || c == ',' || c == '\n' || c == '\r'
	}
	if quoted {
		dst = append(dst, '"')
	}
	if guard {
		dst = append(dst, '\'')
	}
	if !quoted {
		return append(dst, s...)
	}
	for _, c := range s {
		if c == '"' {
			dst = append(dst, '"')
		}
		dst = append(dst, c)
	}
	return append(dst, '"')
}

// canonicalCell reports whether a text is sure to be what Value writes for it, as JSON besides its
// quotes. A text that is canonical and long may be taken for one that is not.
func canonicalCell(k kind, text []byte) bool {
	switch k {
	case kindInt64:
		return canonicalInt(text)
	case kindFloat64:
		return canonicalFloat(text)
	case kindBool:
		return string(text) == "true" || string(text) == "false"
	case kindDate:
		_, ok := parseDate(string(text))
		return ok
	case kindTimestamp:
		n := len(text)
		if n < 20 || n > 30 || text[10] != 'T' || text[n-1] != 'Z' || n > 20 && text[n-2] == '0' {
			return false
		}
		_, _, ok := parseTimestamp(string(text), false)
		return ok
	}
	return false
}

// safeDigits is a number of digits that neither an int64 that JSON readers keep exactly nor the
// shortest text of a float64 exceeds.
const safeDigits = 15

func canonicalInt(text []byte) bool {
	if text[0] == '-' {
		text = text[1:]
	} else if len(text) == 1 {
		return text[0]-'0' <= 9
	}
	return len(text) > 0 && len(text) <= safeDigits && text[0] != '0' && allDigits(text)
}

// canonicalFloat knows decimals of few digits: they differ by more than float64's precision, so
// that the shortest text of a number is the only one.
func canonicalFloat(text []byte) bool {
	text = bytes.TrimPrefix(text, []byte{'-'})
	point := bytes.IndexByte(text, '.')
	if point < 0 {
		return len(text) > 0 && text[0] != '-' && text[0] != '0' && canonicalInt(text)
	}
	whole, fraction := text[:point], text[point+1:]
	if len(text) > safeDigits+1 || len(whole) == 0 || len(fraction) == 0 || fraction[len(fraction)-1] == '0' {
		return false
	}
	if whole[0] == '0' && (len(whole) > 1 || len(fraction) > 6) { // A smaller one may have an exponent.
		return false
	}
	return allDigits(whole) && allDigits(fraction)
}

func allDigits(text []byte) bool {
	for _, c := range text {
		if c-'0' > 9 {
			return false
		}
	}
	return true
}
