package openapi

import (
	"strings"

	"github.com/latamctl/latamctl/pkg/dataset"
)

// addShared adds what all datasets refer to.
func (b *builder) addShared() {
	b.addHeaders()
	b.addSharedParameters()
	for _, s := range []Member[*Schema]{
		{"Problem", b.problemSchema()},
		{"Count", countSchema()},
		{"Access", b.accessSchema()},
		{"PageMeta", b.pageMeta()},
		{"Explanation", b.explanation()},
		{"DatasetHead", b.datasetHead()},
		{"DatasetList", object("The datasets.", []string{"data"}, Map[*Schema]{{"data", &Schema{Type: typeArray, Items: ref("DatasetHead")}}})},
		{"Dataset", b.datasetSchema()},
		{"AggregateMeta", b.aggregateMeta()},
		{"Stats", b.statsSchema()},
		{"Published", publishedSchema()},
	} {
		b.schema(s.Name, s.Value)
	}
	if !b.d.v30 {
		b.schema("ExportEnd", exportEnd(b.d))
	}
}

// object is an object whose listed members are all that it has.
func object(description string, required []string, properties Map[*Schema]) *Schema {
	return &Schema{Type: typeObject, Description: description, Required: required, Properties: properties, AdditionalProperties: false}
}

// open lets an object have more members than are listed: new ones may come.
func open(s *Schema) *Schema {
	s.AdditionalProperties = nil
	return s
}

func str(description string) *Schema { return &Schema{Type: typeString, Description: description} }

func whole(description string) *Schema {
	return &Schema{Type: typeInteger, Minimum: number(0), Description: description}
}

func instant(description string) *Schema {
	return &Schema{Type: typeString, Format: "date-time", Description: description}
}

func listOf(items *Schema, description string) *Schema {
	return &Schema{Type: typeArray, Items: items, Description: description}
}

func countSchema() *Schema {
	return object("A number of rows.", []string{"value", "relation"}, Map[*Schema]{
		{"value", whole("")},
		{"relation", &Schema{Type: typeString, Enum: []any{"eq", "gte"}, Description: "gte: there may be more, the counting stopped at its bound."}},
	})
}

func (b *builder) accessSchema() *Schema {
	return open(object("How rows are found.", []string{"access"}, Map[*Schema]{
		{"access", str("key, or index: and the name of the index.")},
		{"prefix", listOf(str(""), "The leading fields that are compared for equality.")},
		{"range", str("The field behind them that is compared for a range.")},
		{"filtered", listOf(str(""), "The fields that are compared row by row.")},
	}))
}

func (b *builder) pageMeta() *Schema {
	return open(object("How the page was made.", []string{"dataset", "access", "rows_scanned", "as_of"}, Map[*Schema]{
		{"dataset", str("")},
		{"access", str("key, or index: and the name of the index.")},
		{"prefix", listOf(str(""), "The leading fields that are compared for equality.")},
		{"range", str("The field behind them that is compared for a range.")},
		{"filtered", listOf(str(""), "The fields that are compared row by row.")},
		{"rows_scanned", whole("The rows that were read for the page.")},
		{"as_of", instant("When the page was read.")},
		{"count", ref("Count")},
	}))
}

func (b *builder) explanation() *Schema {
	how := open(object("How one access would serve the query.", []string{"access", "prefix", "filtered", "ranges", "note"}, Map[*Schema]{
		{"access", str("")}, {"prefix", listOf(str(""), "")}, {"range", str("")}, {"filtered", listOf(str(""), "")},
		{"ranges", whole("The key ranges that would be read.")}, {"note", str("The same in words.")},
	}))
	plan := *how
	s := open(object("How a query would be served; the answer to explain=true.", []string{"plan", "order", "columns", "considered", "limits"}, Map[*Schema]{
		{"plan", b.d.orNull(&plan)},
		{"order", &Schema{Type: typeString, Enum: []any{"asc", "desc"}}},
		{"columns", listOf(str(""), "The columns that would be read.")},
		{"rows_to_read", ref("Count")},
		{"refused", open(object("Why the query would be refused.", []string{"code", "detail"}, Map[*Schema]{{"code", str("")}, {"detail", str("")}, {"hint", str("")}}))},
		{"considered", listOf(how, "All that could serve it, the best first.")},
		{"limits", &Schema{Type: typeObject, Description: "The bounds of a query."}},
	}))
	return s
}

// headProperties are those that the list of datasets shows of each.
func (b *builder) headProperties() Map[*Schema] {
	return Map[*Schema]{
		{"name", str("")},
		{"description", str("")},
		{"key", listOf(str(""), "The fields of the key, in order.")},
		{"time", str("The field of the event time.")},
		{"retention", str("How long rows are kept by their event time.")},
		{"max_ahead", str("How far the event time may lie after the publication.")},
		{"topic", str("The Pub/Sub topic of its records.")},
		{"indexes", &Schema{Type: typeObject, AdditionalProperties: listOf(str(""), ""), Description: "The fields of each index."}},
		{"auth", &Schema{Type: typeString, Enum: []any{authNone, authAPIKey, authOIDC, authGateway}}},
		{"quota_per_minute", whole("How many requests a caller has in a minute.")},
		{"links", &Schema{Type: typeObject, AdditionalProperties: str("")}},
	}
}

func (b *builder) datasetHead() *Schema {
	return open(object("What a dataset is.", []string{"name", "key", "topic", "links"}, b.headProperties()))
}

func (b *builder) datasetSchema() *Schema {
	types := []any{}
	for _, t := range []dataset.Type{dataset.String, dataset.Int64, dataset.Float64, dataset.Bool, dataset.Timestamp, dataset.Date, dataset.Bytes, dataset.JSON} {
		types = append(types, string(t))
	}
	field := open(object("", []string{"name", "type", "required", "key", "operators"}, Map[*Schema]{
		{"name", str("")}, {"type", &Schema{Type: typeString, Enum: types}}, {"description", str("")},
		{"required", &Schema{Type: typeBoolean}}, {"key", &Schema{Type: typeBoolean, Description: "Whether it is part of the key."}},
		{"pattern", str("RE2 syntax.")}, {"minimum", &Schema{}}, {"maximum", &Schema{}},
		{"operators", listOf(str(""), "What can be asked of it.")},
	}))
	all := append(b.headProperties(), Map[*Schema]{
		{"fields", listOf(field, "In the order of the declaration.")},
		{"limits", &Schema{Type: typeObject, Description: "The bounds of one request."}},
	}...)
	return open(object("A dataset with its fields and limits.", []string{"name", "key", "topic", "links", "fields", "limits"}, all))
}

func (b *builder) aggregateMeta() *Schema {
	return open(object("How the groups were computed.", []string{"dataset"}, Map[*Schema]{
		{"dataset", str("")},
		{"source", &Schema{Type: typeString, Enum: []any{"rows", "bigquery"}}},
		{"access", str("key, or index: and the name of the index.")},
		{"groups", whole("")},
		{"complete", &Schema{Type: typeBoolean, Description: "false: a bound was met, so the numbers cover a part of the rows only."}},
		{"stopped", str("The bound that was met.")},
		{"stopped_before", str("The id of the first row that was not read.")},
		{"rows_scanned", whole("")},
		{"rows_matched", whole("")},
		{"as_of", instant("")},
	}))
}

func (b *builder) statsSchema() *Schema {
	index := open(object("", []string{"name", "built"}, Map[*Schema]{{"name", str("")}, {"built", &Schema{Type: typeBoolean, Description: "Whether it has every row."}}}))
	ingest := open(object("What ingest does, where it runs in the same process.", []string{"stored", "per_second", "in_flight"}, Map[*Schema]{
		{"stored", whole("Records since the start.")}, {"per_second", &Schema{Type: typeNumber}}, {"in_flight", whole("")},
		{"behind_seconds", &Schema{Type: typeNumber, Description: "Age of the oldest message in work, by publish time."}},
		{"paused", str("Why nothing is stored now: receive, store, schema or rejects. Absent when ingest works.")}, {"last_store", instant("")},
	}))
	return open(object("How many rows there are and how fresh they are.", []string{"dataset", "rows", "as_of"}, Map[*Schema]{
		{"dataset", str("")},
		{"rows", ref("Count")},
		{"first_event_time", instant("")},
		{"last_event_time", instant("")},
		{"lag_seconds", &Schema{Type: typeNumber, Description: "How long before as_of the last event was."}},
		{"indexes", listOf(index, "")},
		{"ingest", ingest},
		{"as_of", instant("When the rows were looked at; the answer is reused for some seconds.")},
	}))
}

func publishedSchema() *Schema {
	return object("Pub/Sub has all records.", []string{"published", "message_ids"}, Map[*Schema]{
		{"published", &Schema{Type: typeInteger, Minimum: number(1)}},
		{"message_ids", listOf(str(""), "In the order of the records.")},
	})
}

func exportEnd(d dialect) *Schema {
	return object("The last line of an NDJSON export. Without it the export was cut.", []string{"_end", "rows", "next_cursor"}, Map[*Schema]{
		{"_end", &Schema{Type: typeBoolean, Enum: []any{true}}},
		{"rows", whole("")},
		{"next_cursor", d.orNull(str("Where another request goes on; null when everything came."))},
	})
}

// pageSchema is a page of a dataset's rows.
func (b *builder) pageSchema(ds *datasetNames) *Schema {
	return object(sentence("A page of "+ds.Name), []string{"data", "next_cursor", "next_url", "meta"}, Map[*Schema]{
		{"data", listOf(ref(ds.name+"Row"), "")},
		{"next_cursor", b.d.orNull(str("Where the next page begins; only null is the end."))},
		{"next_url", b.d.orNull(str("The next page."))},
		{"meta", ref("PageMeta")},
	})
}

// aggregateSchema is the answer of an aggregate: the fields that it groups by, and one member for
// each metric. All names are known, which of them come depends on the query.
func (b *builder) aggregateSchema(ds *datasetNames) *Schema {
	group := &Schema{Type: typeObject, Description: "One group: the fields of group_by, interval, and a member for each metric. null: the rows have no value.", AdditionalProperties: false}
	for _, f := range ds.Fields {
		if groupable(f.Type) {
			group.Properties.Set(f.Name, b.d.orNull(b.d.ofType(f)))
		}
	}
	if ds.Time != nil {
		group.Properties.Set("interval", b.d.orNull(instant("The beginning of the interval.")))
	}
	for _, m := range metricsOf(ds.Dataset) {
		name, _ := m.(string)
		group.Properties.Set(name, b.metricValue(ds.Dataset, name))
	}
	b.schema(ds.name+"Group", group)
	return object(sentence("Groups of "+ds.Name+", in the order of their values"), []string{"data", "meta"}, Map[*Schema]{
		{"data", listOf(ref(ds.name+"Group"), "")}, {"meta", ref("AggregateMeta")},
	})
}

func (b *builder) metricValue(ds *dataset.Dataset, metric string) *Schema {
	fn, field, _ := strings.Cut(metric, ":")
	f := ds.Field(field)
	switch {
	case fn == "count":
		return &Schema{OneOf: []*Schema{whole(""), {Type: typeString, Pattern: "^" + bigDigits, Description: "A count beyond 2^53-1."}}}
	case fn == "avg":
		return b.d.orNull(&Schema{Type: typeNumber})
	case fn == "sum" && f.Type == dataset.Int64:
		digits := &Schema{Type: typeString, Pattern: `^-?[1-9][0-9]{15,}$`, Description: "A sum beyond 2^53-1."}
		return b.d.orNull(&Schema{OneOf: []*Schema{{Type: typeInteger}, digits}})
	case fn == "sum" || f.Type == dataset.Float64:
		return b.d.orNull(&Schema{Type: typeNumber})
	}
	return b.d.orNull(b.d.ofType(f))
}
