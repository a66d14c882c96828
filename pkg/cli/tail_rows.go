package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/latamctl/latamctl/pkg/dataset"
)

// liveRows prints rows one at a time, each as soon as it is there.
type liveRows interface {
	write(id string, row []byte) error
}

func (a *app) liveRows(ds *dataset.Dataset, fields string) liveRows {
	if a.global.output == outputJSON {
		return &liveJSON{out: a.proc.Out, dataset: ds.Name}
	}
	columns := ds.FieldNames()
	if fields != "" {
		columns = strings.Split(fields, ",")
	}
	t := &liveTable{out: a.proc.Out, columns: columns, widths: make([]int, len(columns))}
	for i, column := range columns {
		t.widths[i] = len(column)
		if f := ds.Field(column); f != nil {
			t.widths[i] = max(t.widths[i], usualWidth(f.Type))
		}
	}
	return t
}

// liveJSON prints one document a line.
type liveJSON struct {
	out     io.Writer
	dataset string
}

func (j *liveJSON) write(id string, row []byte) error {
	if !json.Valid(row) {
		return fmt.Errorf("it is not JSON: %.64q", row)
	}
	event, err := json.Marshal(id)
	if err == nil {
		_, err = fmt.Fprintf(j.out, `{"schema":"latamctl.tail/v1","dataset":%q,"event_id":%s,"row":%s}`+"\n", j.dataset, event, row)
	}
	return err
}

// liveTable prints columns whose widths grow when they must: the rows to come are not known.
type liveTable struct {
	out     io.Writer
	columns []string
	widths  []int
	started bool
}

// usualWidth is the width of the usual values of a type.
func usualWidth(t dataset.Type) int {
	switch t {
	case dataset.Timestamp:
		return len("2001-01-31T08:30:00Z")
	case dataset.Date:
		return len("2001-01-31")
	}
	return 0
}

func (t *liveTable) write(_ string, raw []byte) error {
	var row map[string]json.RawMessage
	if err := json.Unmarshal(raw, &row); err != nil {
		return err
	}
	cells := make([]string, len(t.columns))
	for i, column := range t.columns {
		cells[i] = cellText(row[column])
	}
	if !t.started {
		t.started = true
		header := make([]string, len(t.columns))
		for i, column := range t.columns {
			header[i] = strings.ToUpper(column)
		}
		if err := t.line(header); err != nil {
			return err
		}
	}
	return t.line(cells)
}

func (t *liveTable) line(cells []string) error {
	var b strings.Builder
	for i, cell := range cells {
		b.WriteString(cell)
		if i == len(cells)-1 {
			break
		}
		n := utf8.RuneCountInString(cell)
		t.widths[i] = max(t.widths[i], n)
		b.WriteString(strings.Repeat(" ", t.widths[i]-n+2))
	}
	b.WriteByte('\n')
	_, err := io.WriteString(t.out, b.String())
	return err
}
