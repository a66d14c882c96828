package dataset

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// CSVOptions says how the cells of a CSV file become records.
type CSVOptions struct {
	// Null are the texts that mean a missing value in every field, besides the
	// empty cell, and "NA" in fields that are not strings.
	Null []string
	// IgnoreUnknown drops columns that are not declared instead of refusing the file.
	IgnoreUnknown bool
}

// CSVReader turns a CSV file with a header row into records as JSON objects.
type CSVReader struct {
	csv     *csv.Reader
	columns []csvColumn
	null    []string
	size    int
}

// csvColumn is one column of the file; field is nil for one that is dropped or the row id.
type csvColumn struct {
	name  string
	field *Field
	drop  bool
}

// NewCSVReader reads the header row. The error names every column that is not
// declared, stands twice or is required and absent. A column "id" is passed on
// as it is, for Decode to compare.
func NewCSVReader(ds *Dataset, r io.Reader, opts CSVOptions) (*CSVReader, error) {
	in := bufio.NewReader(r)
	if bom, err := in.Peek(3); err == nil && string(bom) == "\uFEFF" {
		if _, err := in.Discard(3); err != nil {
			return nil, fmt.Errorf("read the CSV header: %w", err)
		}
	}
	c := csv.NewReader(in)
	c.ReuseRecord = true
	header, err := c.Read()
	if errors.Is(err, io.EOF) {
		return nil, errors.New("read the CSV header: the file is empty")
	}
	if err != nil {
		return nil, fmt.Errorf("read the CSV header: %w", err)
	}
	columns, err := csvColumns(ds, header, opts)
	if err != nil {
		return nil, fmt.Errorf("read the CSV header: %w", err)
	}
	return &CSVReader{csv: c, columns: columns, null: opts.Null}, nil
}

func csvColumns(ds *Dataset, header []string, opts CSVOptions) ([]csvColumn, error) {
	columns := make([]csvColumn, len(header))
	seen := map[string]bool{}
	var unknown, faults []string
	for i, cell := range header {
		name := strings.TrimSpace(cell)
		f := ds.Field(name)
		columns[i] = csvColumn{name: name, field: f}
		switch {
		case f == nil && name != IDMember:
			columns[i].drop = true
			unknown = append(unknown, name)
			continue
		case seen[name]:
			faults = append(faults, fmt.Sprintf("column %s stands twice", name))
		}
		seen[name] = true
	}
	if len(unknown) > 0 && !opts.IgnoreUnknown {
		faults = append(faults, unknownColumns(ds, unknown))
	}
	for _, f := range ds.Fields {
		if f.Required && !seen[f.Name] {
			faults = append(faults, fmt.Sprintf("the required column %s is absent", f.Name))
		}
	}
	if len(faults) > 0 {
		return nil, errors.New(strings.Join(faults, "; "))
	}
	return columns, nil
}

func unknownColumns(ds *Dataset, names []string) string {
	shown := make([]string, len(names))
	for i, name := range names {
		shown[i] = quoteCut(name)
		if near := Nearest(name, ds.FieldNames()); near != "" {
			shown[i] += " (did you mean " + near + "?)"
		}
	}
	return fmt.Sprintf("the dataset %s declares no column %s", ds.Name, strings.Join(shown, ", "))
}

// Next returns one record as a JSON object; io.EOF at the end. Cells become
// JSON by the types of their fields; a text that is not of the type becomes a
// JSON string, for Decode to reject with its reason. An error carries the line;
// after one about a single row, such as a wrong number of columns, Next may be
// called again for the row that follows.
func (r *CSVReader) Next() ([]byte, error) {
	row, err := r.csv.Read()
	if errors.Is(err, io.EOF) {
		return nil, io.EOF
	}
	if errors.Is(err, csv.ErrFieldCount) {
		line, _ := r.csv.FieldPos(0)
		return nil, fmt.Errorf("read CSV line %d: expected %s, got %d", line, plural(len(r.columns), "column"), len(row))
	}
	if err != nil {
		return nil, fmt.Errorf("read CSV: %w", err)
	}
	out := append(make([]byte, 0, r.size), '{')
	for i, cell := range row {
		c := r.columns[i]
		if c.drop || r.isNull(c.field, cell) {
			continue
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(appendJSONString(out, c.name), ':')
		out = appendCSVCell(out, c.field, cell)
	}
	out = append(out, '}')
	r.size = max(r.size, min(len(out)+len(out)/8, 1<<16))
	return out, nil
}

func (r *CSVReader) isNull(f *Field, cell string) bool {
	if cell == "" || slices.Contains(r.null, cell) {
		return true
	}
	return cell == "NA" && f != nil && f.Type != String
}

func appendCSVCell(dst []byte, f *Field, cell string) []byte {
	plain := false
	if f != nil {
		switch kindOf(f.Type) {
		case kindInt64, kindFloat64:
			plain = isJSONNumber(cell)
		case kindBool:
			plain = cell == "true" || cell == "false"
		case kindJSON:
			_, plain = compactJSON(cell)
		}
	}
	if plain {
		return append(dst, cell...)
	}
	return appendJSONString(dst, cell)
}
