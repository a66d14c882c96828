package verify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/store"
)

// described is what the API says of a dataset, as far as it is compared.
type described struct {
	Key       []string            `json:"key"`
	Time      string              `json:"time"`
	Retention string              `json:"retention"`
	MaxAhead  string              `json:"max_ahead"`
	Topic     string              `json:"topic"`
	Indexes   map[string][]string `json:"indexes"`
	Auth      string              `json:"auth"`
	Quota     int                 `json:"quota_per_minute"`
	Fields    []describedField    `json:"fields"`
}

type describedField struct {
	Name     string          `json:"name"`
	Type     dataset.Type    `json:"type"`
	Required bool            `json:"required"`
	Pattern  string          `json:"pattern"`
	Minimum  json.RawMessage `json:"minimum"`
	Maximum  json.RawMessage `json:"maximum"`
}

// served compares the API's description of a dataset with the declaration.
func (r *runner) served(ctx context.Context, ds *dataset.Dataset, res *Result) {
	path := datasetPath(ds)
	res.Expected = "GET " + path + " describes it as it is declared here"
	res.Next = "the API runs with another latam.yaml: deploy this one, or name the other with --config"
	a, err := r.get(ctx, path)
	switch {
	case err != nil:
		res.fail(err.Error())
		return
	case a.status == http.StatusNotFound:
		res.fail("the API does not know the dataset")
		return
	case a.status != http.StatusOK:
		res.fail(fmt.Sprintf("it answered %d", a.status))
		return
	}
	var got described
	if err := json.Unmarshal(a.body, &got); err != nil {
		res.fail(fmt.Sprintf("the description is not as docs/api.md says: %v", err))
		return
	}
	if faults := differences(declared(ds), got); len(faults) > 0 {
		res.fail(some(faults))
		return
	}
	res.pass(fmt.Sprintf("%d fields and %d indexes are as declared", len(ds.Fields), len(ds.Indexes)))
}

func declared(ds *dataset.Dataset) described {
	d := described{Key: fieldNames(ds.Key), Topic: ds.Topic, Indexes: map[string][]string{}, Auth: ds.API.Auth, Quota: ds.API.QuotaPerMinute}
	if d.Auth == "" {
		d.Auth = "none"
	}
	if ds.Time != nil {
		d.Time = ds.Time.Name
	}
	if ds.Retention > 0 {
		d.Retention = dataset.FormatDuration(ds.Retention)
	}
	if ds.MaxAhead > 0 {
		d.MaxAhead = dataset.FormatDuration(ds.MaxAhead)
	}
	for _, ix := range ds.Indexes {
		d.Indexes[ix.Name] = fieldNames(ix.Fields)
	}
	for _, f := range ds.Fields {
		df := describedField{Name: f.Name, Type: f.Type, Required: f.Required}
		if f.Pattern != nil {
			df.Pattern = f.Pattern.String()
		}
		if f.Minimum != nil {
			df.Minimum = f.Minimum.AppendJSON(nil)
		}
		if f.Maximum != nil {
			df.Maximum = f.Maximum.AppendJSON(nil)
		}
		d.Fields = append(d.Fields, df)
	}
	return d
}

func fieldNames(fields []*dataset.Field) []string {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.Name
	}
	return names
}

// differences says how what is served differs from what is declared.
func differences(want, got described) (faults []string) {
	note := func(what string, want, got any) {
		if w, g := fmt.Sprint(want), fmt.Sprint(got); w != g {
			faults = append(faults, fmt.Sprintf("%s is %s here and %s there", what, orNone(w), orNone(g)))
		}
	}
	note("key", strings.Join(want.Key, ", "), strings.Join(got.Key, ", "))
	note("time", want.Time, got.Time)
	note("retention", want.Retention, got.Retention)
	note("max_ahead", want.MaxAhead, got.MaxAhead)
	note("topic", want.Topic, got.Topic)
	note("auth", want.Auth, got.Auth)
	note("quota_per_minute", want.Quota, got.Quota)
	for _, name := range unionOf(want.Indexes, got.Indexes) {
		note("index "+name, strings.Join(want.Indexes[name], ", "), strings.Join(got.Indexes[name], ", "))
	}
	wantFields, gotFields := byName(want.Fields), byName(got.Fields)
	for _, name := range unionOf(wantFields, gotFields) {
		w, here := wantFields[name]
		g, there := gotFields[name]
		if !here || !there {
			note("field "+name, w.Type, g.Type)
			continue
		}
		note("type of "+name, w.Type, g.Type)
		note("required of "+name, w.Required, g.Required)
		note("pattern of "+name, w.Pattern, g.Pattern)
		note("minimum of "+name, string(bytes.TrimSpace(w.Minimum)), string(bytes.TrimSpace(g.Minimum)))
		note("maximum of "+name, string(bytes.TrimSpace(w.Maximum)), string(bytes.TrimSpace(g.Maximum)))
	}
	return faults
}

func orNone(text string) string {
	if text == "" {
		return "none"
	}
	return text
}

func byName(fields []describedField) map[string]describedField {
	m := map[string]describedField{}
	for _, f := range fields {
		m[f.Name] = f
	}
	return m
}

func unionOf[V any](a, b map[string]V) []string {
	names := slices.AppendSeq(slices.Collect(maps.Keys(a)), maps.Keys(b))
	slices.Sort(names)
	return slices.Compact(names)
}

func (r *runner) topics(ctx context.Context, ds *dataset.Dataset, res *Result) {
	res.Expected = fmt.Sprintf("topics %s and %s exist", ds.Topic, ds.DeadLetterTopic())
	r.resource(ctx, ds, res, Resources.Topics)
}

func (r *runner) subscriptions(ctx context.Context, ds *dataset.Dataset, res *Result) {
	res.Expected = fmt.Sprintf("subscription %s is on topic %s, and %s on %s", ds.Subscription(), ds.Topic, ds.DeadLetterSubscription(), ds.DeadLetterTopic())
	r.resource(ctx, ds, res, Resources.Subscriptions)
}

func (r *runner) tables(ctx context.Context, ds *dataset.Dataset, res *Result) {
	tables := []string{ds.Table()}
	for i := range ds.Indexes {
		tables = append(tables, ds.IndexTable(&ds.Indexes[i]))
	}
	res.Expected = fmt.Sprintf("tables %s exist, with the family %s", strings.Join(tables, ", "), dataset.Family)
	r.resource(ctx, ds, res, Resources.Tables)
}

func (r *runner) resource(ctx context.Context, ds *dataset.Dataset, res *Result, look func(Resources, context.Context, *dataset.Dataset) ([]string, error)) {
	res.Next = "latamctl up makes what is missing: on this machine and on emulators at its start, with --env by Terraform"
	if r.deps.Resources == nil {
		res.skip(r.deps.Unseen)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, r.opts.Wait)
	defer cancel()
	faults, err := look(r.deps.Resources, ctx, ds)
	switch {
	case errors.Is(err, bus.ErrDenied), errors.Is(err, store.ErrDenied):
		res.skip("you may not look: " + err.Error())
	case err != nil:
		res.Next = "does it answer? latamctl doctor checks the way to it"
		res.fail(err.Error())
	case len(faults) > 0:
		res.fail(some(faults))
	default:
		res.pass("all are there")
	}
}
