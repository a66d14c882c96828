// Package dataset holds the declaration: the strict load of latam.yaml, and for
// each dataset the pure codecs derived from it (record decode, row key, row id,
// cells, JSON). It reads no clock, file or network.
package dataset

import (
	"regexp"
	"strings"
	"time"
)

// Declaration is a loaded and checked latam.yaml.
type Declaration struct {
	// File is the path shown in messages; it is empty for the built-in example.
	File string
	// Name prefixes every cloud resource and names the Bigtable instance.
	Name string
	// Datasets are in the order of the file.
	Datasets []*Dataset
	// Environments are in the order of the file.
	Environments []Environment
}

// Environment is one entry of environments: settings as written, to be checked by the settings loader.
type Environment struct {
	Name     string
	Settings []Setting
}

// Setting is one key of an environment with the place where it stands, for messages.
type Setting struct {
	Key    string
	Value  any // string, int64, uint64, float64, bool, nil, []any or map[string]any
	Line   int
	Column int
}

// Type is a field's type as the declaration spells it.
type Type string

// The types a field can have.
const (
	String    Type = "string"
	Int64     Type = "int64"
	Float64   Type = "float64"
	Bool      Type = "bool"
	Timestamp Type = "timestamp"
	Date      Type = "date"
	Bytes     Type = "bytes"
	JSON      Type = "json"
)

// Dataset is one declared dataset. All of it is read-only after Load.
type Dataset struct {
	Name        string
	Description string
	// Fields are in the order of the file; Field.Index is the position here.
	Fields []*Field
	// Key is the identity: the same key again replaces the row.
	Key []*Field
	// Time is the event time field, nil when none is declared.
	Time *Field
	// Indexes are in the order of the file.
	Indexes []Index
	// Retention is how long rows are kept by event time; 0 keeps them.
	Retention time.Duration
	// MaxAhead is how far the event time may lie after the publish time; 0 has no limit.
	MaxAhead time.Duration
	// Topic is the Pub/Sub topic id.
	Topic string
	API   API
	SLO   SLO

	byName map[string]*Field
}

// Field is one declared field.
type Field struct {
	Name        string
	Index       int
	Type        Type
	Description string
	Required    bool
	Pattern     *regexp.Regexp // nil when none; strings only
	Minimum     *Value         // nil when none; numbers, timestamps and dates
	Maximum     *Value
	InKey       bool
}

// Index is a declared secondary index: its fields, then the key, give its row key.
type Index struct {
	Name   string
	Fields []*Field
}

// API is a dataset's api block.
type API struct {
	Auth           string        // none, api_key, oidc or gateway; "" when not declared
	QuotaPerMinute int           // requests of one caller; 0 = no limit
	CacheMaxAge    time.Duration // how long clients may reuse an answer unasked; 0 = they ask each time
	// Aggregate is where aggregates are computed: "" or "rows" from the rows in Bigtable, "bigquery" on BigQuery.
	Aggregate string
}

// SLO is a dataset's slo block with its defaults filled in.
type SLO struct {
	IngestLatency time.Duration // default 50ms
	Response      time.Duration // default 100ms
	Target        float64       // percent, default 95
}

// Dataset returns the dataset with that name, nil when there is none.
func (d *Declaration) Dataset(name string) *Dataset {
	for _, ds := range d.Datasets {
		if ds.Name == name {
			return ds
		}
	}
	return nil
}

// Environment returns the environment with that name, nil when there is none.
func (d *Declaration) Environment(name string) *Environment {
	for i := range d.Environments {
		if d.Environments[i].Name == name {
			return &d.Environments[i]
		}
	}
	return nil
}

// Names returns the dataset names in the order of the file.
func (d *Declaration) Names() []string {
	names := make([]string, len(d.Datasets))
	for i, ds := range d.Datasets {
		names[i] = ds.Name
	}
	return names
}

// Field returns the field with that name, nil when there is none.
func (ds *Dataset) Field(name string) *Field { return ds.byName[name] }

// FieldNames returns the field names in the order of the file.
func (ds *Dataset) FieldNames() []string {
	names := make([]string, len(ds.Fields))
	for i, f := range ds.Fields {
		names[i] = f.Name
	}
	return names
}

// Subscription is the id of the subscription that ingest pulls.
func (ds *Dataset) Subscription() string { return ds.Topic + "-ingest" }

// DeadLetterTopic is the id of the topic that rejected records go to.
func (ds *Dataset) DeadLetterTopic() string { return ds.Topic + "-dead" }

// DeadLetterSubscription is the id of the subscription that keeps rejected records for inspection.
func (ds *Dataset) DeadLetterSubscription() string { return ds.Topic + "-dead-inspect" }

// Table is the Bigtable table id of the dataset's rows.
func (ds *Dataset) Table() string { return ds.Name }

// Family is the one column family of every table.
const Family = "d"

// IndexTable is the Bigtable table id of an index.
func (ds *Dataset) IndexTable(ix *Index) string { return ds.Name + "-" + ix.Name }

// The columns of an index table. An entry has IndexColumn, empty, at the time of its row. The row
// IndexMark, which no entry can have for its key, has IndexMarkColumn with the Signature for which
// every stored row has its entry.
const (
	IndexColumn     = "k"
	IndexMark       = "\x00"
	IndexMarkColumn = "built"
)

// IndexStart is where the entries of an index table begin: just behind IndexMark.
const IndexStart = IndexMark + "\x00"

// Signature names what the entries of an index are made of; entries of another one are of no use.
func (ds *Dataset) Signature(ix *Index) string {
	var b strings.Builder
	for _, fields := range [][]*Field{ix.Fields, ds.Key} {
		for _, f := range fields {
			b.WriteString(f.Name + ":" + string(f.Type))
			if !f.Required {
				b.WriteByte('?')
			}
			b.WriteByte(' ')
		}
		b.WriteString("/ ")
	}
	return strings.TrimSuffix(b.String(), " / ")
}

// Fixed reports whether the key alone decides the index's entry, so that a row never moves in it.
func (ix *Index) Fixed() bool {
	for _, f := range ix.Fields {
		if !f.InKey {
			return false
		}
	}
	return true
}

// Index returns the index with that name, nil when there is none.
func (ds *Dataset) Index(name string) *Index {
	for i := range ds.Indexes {
		if ds.Indexes[i].Name == name {
			return &ds.Indexes[i]
		}
	}
	return nil
}
