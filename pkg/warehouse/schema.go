package warehouse

import (
	"strings"

	"github.com/latamctl/latamctl/pkg/dataset"
)

// Column is one column of a table, in the words of BigQuery's table schema.
type Column struct {
	// Name is the field's.
	Name string
	// Type is STRING, INTEGER, FLOAT, BOOLEAN, TIMESTAMP, DATE, BYTES or JSON.
	Type string
	// Mode is REQUIRED or NULLABLE.
	Mode        string
	Description string
}

// Schema returns the columns of a dataset's table, one for each field in their order.
func Schema(ds *dataset.Dataset) []Column {
	columns := make([]Column, len(ds.Fields))
	for i, f := range ds.Fields {
		columns[i] = Column{Name: f.Name, Type: columnType(f.Type), Mode: "NULLABLE", Description: f.Description}
		if f.Required {
			columns[i].Mode = "REQUIRED"
		}
	}
	return columns
}

func columnType(t dataset.Type) string {
	switch t {
	case dataset.Int64:
		return "INTEGER"
	case dataset.Float64:
		return "FLOAT"
	case dataset.Bool:
		return "BOOLEAN"
	}
	return SQLType(t)
}

// SQLType is the name of a field's type in SQL and in parameters, where it differs from the one in
// table schemas: INT64, FLOAT64 and BOOL.
func SQLType(t dataset.Type) string {
	switch t {
	case dataset.Int64:
		return "INT64"
	case dataset.Float64:
		return "FLOAT64"
	case dataset.Bool:
		return "BOOL"
	case dataset.Timestamp:
		return "TIMESTAMP"
	case dataset.Date:
		return "DATE"
	case dataset.Bytes:
		return "BYTES"
	case dataset.JSON:
		return "JSON"
	}
	return "STRING"
}

// DatasetID is the BigQuery dataset of a declaration, whose names have no dashes there.
func DatasetID(declaration string) string { return strings.ReplaceAll(declaration, "-", "_") }
