package query

import (
	"encoding/json"
	"fmt"
	"net/url"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/services/query/openapi"
)

// description is a dataset as GET /v1/datasets/{dataset} shows it; the list shows its head.
type description struct {
	descriptionHead
	Fields []fieldDescription `json:"fields"`
	Limits map[string]any     `json:"limits"`
}

type descriptionHead struct {
	Name           string              `json:"name"`
	Description    string              `json:"description,omitempty"`
	Key            []string            `json:"key"`
	Time           string              `json:"time,omitempty"`
	Retention      string              `json:"retention,omitempty"`
	MaxAhead       string              `json:"max_ahead,omitempty"`
	Topic          string              `json:"topic"`
	Indexes        map[string][]string `json:"indexes,omitempty"`
	Auth           string              `json:"auth"`
	QuotaPerMinute int                 `json:"quota_per_minute,omitempty"`
	Links          map[string]string   `json:"links"`
}

type fieldDescription struct {
	Name        string          `json:"name"`
	Type        dataset.Type    `json:"type"`
	Description string          `json:"description,omitempty"`
	Required    bool            `json:"required"`
	Key         bool            `json:"key"`
	Pattern     string          `json:"pattern,omitempty"`
	Minimum     json.RawMessage `json:"minimum,omitempty"`
	Maximum     json.RawMessage `json:"maximum,omitempty"`
	// Operators are those of a filter; none means that the field cannot be filtered.
	Operators []string `json:"operators"`
}

func describe(ds *dataset.Dataset, path string, opts Options) ([]byte, error) {
	d := description{descriptionHead: describeHead(ds, path), Limits: limits(opts)}
	for _, f := range ds.Fields {
		fd := fieldDescription{Name: f.Name, Type: f.Type, Description: f.Description, Required: f.Required, Key: f.InKey, Operators: openapi.Operators(f.Type)}
		if f.Pattern != nil {
			fd.Pattern = f.Pattern.String()
		}
		if f.Minimum != nil {
			fd.Minimum = f.Minimum.AppendJSON(nil)
		}
		if f.Maximum != nil {
			fd.Maximum = f.Maximum.AppendJSON(nil)
		}
		d.Fields = append(d.Fields, fd)
	}
	body, err := json.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("describe dataset %s: %w", ds.Name, err)
	}
	return body, nil
}

func describeHead(ds *dataset.Dataset, path string) descriptionHead {
	h := descriptionHead{
		Name: ds.Name, Description: ds.Description, Key: fieldNames(ds.Key), Topic: ds.Topic,
		Auth: ds.API.Auth, QuotaPerMinute: ds.API.QuotaPerMinute,
		Links: map[string]string{
			"self": path, "schema": path + "/schema", "rows": path + "/rows", "row": path + "/rows/{id}", "batch_get": path + "/rows/batch-get",
			"aggregate": path + "/aggregate", "stats": path + "/stats", "tail": path + "/tail", "records": path + "/records",
		},
	}
	if h.Auth == "" {
		h.Auth = "none"
	}
	for _, ix := range ds.Indexes {
		if h.Indexes == nil {
			h.Indexes = map[string][]string{}
		}
		h.Indexes[ix.Name] = fieldNames(ix.Fields)
	}
	if ds.Time != nil {
		h.Time = ds.Time.Name
	}
	if ds.Retention > 0 {
		h.Retention = dataset.FormatDuration(ds.Retention)
	}
	if ds.MaxAhead > 0 {
		h.MaxAhead = dataset.FormatDuration(ds.MaxAhead)
	}
	return h
}

func limits(o Options) map[string]any {
	return map[string]any{
		"page_rows":             map[string]int{"default": DefaultLimit, "max": MaxLimit},
		"page_bytes":            o.MaxPageBytes,
		"rows_scanned":          o.MaxScannedRows,
		"filters":               o.MaxFilters,
		"in_values":             MaxIn,
		"fields":                MaxFields,
		"batch_ids":             MaxIDs,
		"count_rows":            o.MaxCountedRows,
		"count_timeout":         o.CountTimeout.String(),
		"export_timeout":        o.ExportTimeout.String(),
		"aggregate_rows":        o.Aggregate.MaxAggregateRows,
		"aggregate_timeout":     o.Aggregate.AggregateTimeout.String(),
		"aggregate_groups":      o.Aggregate.MaxGroups,
		"concurrent_aggregates": o.Aggregate.MaxConcurrentAggregates,
		"tails":                 o.Tail.MaxTails,
		"tail_time":             o.Tail.MaxTailTime.String(),
		"queue_timeout":         o.QueueTimeout.String(),
		"concurrent_exports":    o.MaxConcurrentExports,
		"url_bytes":             o.MaxURLBytes,
		"get_timeout":           o.GetTimeout.String(),
		"list_timeout":          o.ListTimeout.String(),
		"cursor_lifetime":       dataset.FormatDuration(o.CursorTTL),
		"publish_bytes":         o.MaxBodyBytes,
		"publish_records":       o.MaxRecords,
		"concurrent_gets":       o.MaxConcurrentGets,
		"concurrent_lists":      o.MaxConcurrentLists,
		"concurrent_writes":     o.MaxConcurrentPublishes,
	}
}

func describeAll(d *dataset.Declaration) ([]byte, error) {
	list := struct {
		Data []descriptionHead `json:"data"`
	}{Data: []descriptionHead{}}
	for _, ds := range d.Datasets {
		list.Data = append(list.Data, describeHead(ds, "/v1/datasets/"+url.PathEscape(ds.Name)))
	}
	body, err := json.Marshal(list)
	if err != nil {
		return nil, fmt.Errorf("describe the datasets: %w", err)
	}
	return body, nil
}

func describeIndex() ([]byte, error) {
	body, err := json.Marshal(map[string]any{
		"name":  "latamctl",
		"links": map[string]string{"datasets": "/v1/datasets", "openapi": "/openapi.json", "docs": "/docs", "health": "/healthz"},
	})
	if err != nil {
		return nil, fmt.Errorf("describe the index: %w", err)
	}
	return body, nil
}
