package dataset

// Encoder writes rows of a dataset.
type Encoder struct {
	ds     *Dataset
	fields []*Field
}

// NewEncoder makes one; nil fields mean all.
func (ds *Dataset) NewEncoder(fields []*Field) *Encoder {
	if fields == nil {
		fields = ds.Fields
	}
	return &Encoder{ds: ds, fields: fields}
}

// AppendJSON appends the row as a JSON object.
func (e *Encoder) AppendJSON(dst []byte, row Row) ([]byte, error) {
	rec, err := e.ds.Record(row)
	if err != nil {
		return dst, err
	}
	id, err := e.ds.RowID(row.Key)
	if err != nil {
		return dst, err
	}
	return rec.AppendJSON(dst, id, e.fields)
}

// AppendCSV is a placeholder until the compiled one comes.
func (e *Encoder) AppendCSV(dst []byte, row Row, _ bool) ([]byte, error) { return dst, nil }

// AppendCSVHeader too.
func (e *Encoder) AppendCSVHeader(dst []byte) []byte { return dst }
