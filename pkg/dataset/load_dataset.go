package dataset

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/latamctl/latamctl/pkg/strictyaml"
)

// The defaults of a dataset's slo block.
const (
	defaultIngestLatency = 50 * time.Millisecond
	defaultResponse      = 100 * time.Millisecond
	defaultTarget        = 95
)

func (l *loader) dataset(e strictyaml.Entry) {
	ds := &Dataset{
		Name:   e.Key,
		Topic:  e.Key,
		SLO:    SLO{IngestLatency: defaultIngestLatency, Response: defaultResponse, Target: defaultTarget},
		byName: map[string]*Field{},
	}
	at := datasetPlaces{name: e.At, topic: e.At}
	if fault := checkTableName(ds.Name); fault != "" {
		l.Fault(e.At, "", "dataset name %s %s", quoteCut(ds.Name), fault)
	}
	s, ok := l.Section(e.Value, e.At, " in dataset "+strictyaml.Cut(ds.Name), "description", "fields", "key", "time", "indexes", "retention", "max_ahead", "topic", "api", "slo")
	if !ok {
		return
	}
	if n := s.Get("description"); n != nil {
		ds.Description, _ = l.Text(n, "description"+s.Where)
	}
	if n := l.Need(s, "fields", "declare at least one field"); n != nil {
		l.fields(ds, n)
	}
	if n := l.Need(s, "key", "name the fields that identify a record"); n != nil {
		l.key(ds, n)
	}
	if n := s.Get("time"); n != nil {
		l.time(ds, n)
	}
	if n := s.Get("indexes"); n != nil {
		l.indexes(ds, n, &at)
	}
	if n := s.Get("retention"); n != nil {
		if ds.Retention = l.duration(n, "retention"+s.Where, "400d"); ds.Retention%time.Second != 0 {
			l.Fault(n.At, "", "retention%s must be whole seconds, got %s", s.Where, n)
		}
		if s.Get("time") == nil {
			l.Fault(n.At, "declare as time the timestamp or date field that says how old a row is", "retention needs the key \"time\"%s", s.Where)
		}
	}
	if n := s.Get("max_ahead"); n != nil {
		ds.MaxAhead = l.duration(n, "max_ahead"+s.Where, "24h")
		if s.Get("time") == nil {
			l.Fault(n.At, "declare as time the timestamp or date field that it limits", "max_ahead needs the key \"time\"%s", s.Where)
		}
	}
	l.topic(ds, s, &at)
	if n := s.Get("api"); n != nil {
		l.api(ds, n)
	}
	if n := s.Get("slo"); n != nil {
		l.slo(ds, n)
	}
	l.decl.Datasets = append(l.decl.Datasets, ds)
	l.places = append(l.places, at)
}

func (l *loader) topic(ds *Dataset, s strictyaml.Section, at *datasetPlaces) {
	n := s.Get("topic")
	if n == nil {
		if fault := checkTopic(ds.Topic); fault != "" && checkTableName(ds.Name) == "" {
			l.Fault(at.name, `set the key "topic"`, "topic %s, by default the name of the dataset, %s", quoteCut(ds.Topic), fault)
		}
		return
	}
	topic, ok := l.Text(n, "topic"+s.Where)
	if !ok {
		return
	}
	ds.Topic, at.topic = topic, n.At
	if fault := checkTopic(topic); fault != "" {
		l.Fault(n.At, "", "topic %s%s %s", quoteCut(topic), s.Where, fault)
	}
}

func (l *loader) fields(ds *Dataset, n *strictyaml.Node) {
	if n.Kind != strictyaml.Map {
		l.Fault(n.At, "write each field as its name and its type", "fields must be a map of fields by name, got %s", n)
		return
	}
	if len(n.Entries) == 0 {
		l.Fault(n.At, "declare at least one field", "fields is empty")
	}
	folded := map[string]string{}
	for _, e := range n.Entries {
		if fault := checkFieldName(e.Key); fault != "" {
			l.Fault(e.At, "choose another name", "field name %s %s", quoteCut(e.Key), fault)
		} else if other, ok := folded[strings.ToLower(e.Key)]; ok {
			l.Fault(e.At, "rename one of them", "the fields %s and %s differ only in case, which BigQuery does not tell apart", other, e.Key)
		}
		folded[strings.ToLower(e.Key)] = e.Key
		before := l.Faults()
		f := l.field(e)
		l.faulty[f] = l.Faults() > before || e.Value.Broken
		f.Index = len(ds.Fields)
		ds.Fields = append(ds.Fields, f)
		ds.byName[f.Name] = f
	}
}

func (l *loader) field(e strictyaml.Entry) *Field {
	f := &Field{Name: e.Key}
	what := "field " + strictyaml.Cut(e.Key)
	switch {
	case e.Value.Broken:
		return f
	case e.Value.IsNull():
		l.Fault(e.At, "give it one of "+strings.Join(typeNames(), ", "), "%s has no type", what)
		return f
	case e.Value.Kind == strictyaml.Scalar:
		f.Type = l.fieldType(e.Value, what)
		return f
	}
	s, ok := l.Section(e.Value, e.At, " in "+what, "type", "required", "pattern", "minimum", "maximum", "description")
	if !ok {
		return f
	}
	if n := l.Need(s, "type", "give it one of "+strings.Join(typeNames(), ", ")); n != nil {
		f.Type = l.fieldType(n, what)
	}
	if n := s.Get("required"); n != nil {
		if f.Required, ok = n.Value.(bool); !ok {
			l.Fault(n.At, "", "%s: required must be true or false, got %s", what, n)
		}
	}
	if n := s.Get("description"); n != nil {
		f.Description, _ = l.Text(n, what+": description")
	}
	if n := s.Get("pattern"); n != nil {
		l.pattern(f, n, what)
	}
	if n := s.Get("minimum"); n != nil {
		f.Minimum = l.limit(n, f, "minimum")
	}
	if n := s.Get("maximum"); n != nil {
		f.Maximum = l.limit(n, f, "maximum")
		if f.Minimum != nil && f.Maximum != nil && f.Minimum.Compare(*f.Maximum) > 0 {
			l.Fault(n.At, "", "%s: the maximum %s is less than the minimum %s", what, f.Maximum.Text(), f.Minimum.Text())
		}
	}
	return f
}

func typeNames() []string {
	return []string{string(String), string(Int64), string(Float64), string(Bool), string(Timestamp), string(Date), string(Bytes), string(JSON)}
}

func (l *loader) fieldType(n *strictyaml.Node, what string) Type {
	hint := "the types are " + strings.Join(typeNames(), ", ")
	name, ok := n.Value.(string)
	if !ok {
		l.Fault(n.At, hint, "%s: type must be text, got %s", what, n)
		return ""
	}
	if kindOf(Type(name)) != kindMissing {
		return Type(name)
	}
	if near := nearestType(name); near != "" {
		hint = fmt.Sprintf("did you mean %q?", near)
	}
	l.Fault(n.At, hint, "%s: unknown type %s", what, quoteCut(name))
	return ""
}

// nearestType knows what other systems call our types.
func nearestType(name string) string {
	switch strings.ToLower(name) {
	case "int", "integer", "long", "int32", "bigint", "smallint":
		return string(Int64)
	case "float", "double", "number", "numeric", "decimal", "float32", "real":
		return string(Float64)
	case "boolean":
		return string(Bool)
	case "datetime", "time", "timestamptz":
		return string(Timestamp)
	case "text", "str", "varchar", "char":
		return string(String)
	case "object", "array", "list", "map", "struct", "record":
		return string(JSON)
	case "blob", "binary":
		return string(Bytes)
	}
	return Nearest(name, typeNames())
}

func (l *loader) pattern(f *Field, n *strictyaml.Node, what string) {
	text, ok := l.Text(n, what+": pattern")
	if !ok {
		return
	}
	if f.Type != String && f.Type != "" {
		l.Fault(n.At, "it applies to string", "%s: pattern does not apply to the type %s", what, f.Type)
		return
	}
	re, err := regexp.Compile(text)
	if err != nil {
		l.Fault(n.At, "", "%s: pattern %s does not compile: %s", what, quoteCut(text),
			strictyaml.Cut(strings.TrimPrefix(err.Error(), "error parsing regexp: ")))
		return
	}
	f.Pattern = re
}

// lookup finds a field that the declaration refers to; nil when it does not
// exist, which is reported unless the dataset has no fields at all.
func (l *loader) lookup(ds *Dataset, n *strictyaml.Node, what string) *Field {
	name, _ := n.Value.(string)
	f := ds.byName[name]
	if f == nil && len(ds.Fields) > 0 {
		hint := "the fields are " + cutList(ds.FieldNames())
		if near := Nearest(name, ds.FieldNames()); near != "" {
			hint = fmt.Sprintf("did you mean %q?", near)
		}
		l.Fault(n.At, hint, "%s: there is no field %s", what, quoteCut(name))
	}
	return f
}

// cutList joins the first names of a list for a message.
func cutList(names []string) string {
	const shown = 12
	if len(names) > shown {
		return strings.Join(names[:shown], ", ") + ", …"
	}
	return strings.Join(names, ", ")
}

func (l *loader) key(ds *Dataset, n *strictyaml.Node) {
	what := "key of dataset " + strictyaml.Cut(ds.Name)
	for _, item := range l.names(n, what, `"key: [field, …]"`) {
		f := l.lookup(ds, item, what)
		switch {
		case f == nil:
			continue
		case f.InKey:
			l.Fault(item.At, "", "%s: field %s stands twice", what, f.Name)
			continue
		case f.Type == JSON:
			l.Fault(item.At, "json has no order; use a string", "%s: field %s is of type json", what, f.Name)
		case !f.Required && !l.faulty[f]:
			l.Fault(item.At, "add \"required: true\" to the field", "%s: field %s is not required", what, f.Name)
		}
		f.InKey = true
		ds.Key = append(ds.Key, f)
	}
}

func (l *loader) time(ds *Dataset, n *strictyaml.Node) {
	what := "time of dataset " + strictyaml.Cut(ds.Name)
	if _, ok := l.Text(n, what); !ok {
		return
	}
	f := l.lookup(ds, n, what)
	switch {
	case f == nil:
		return
	case f.Type != Timestamp && f.Type != Date && f.Type != "":
		l.Fault(n.At, "it must be a timestamp or a date", "%s: field %s is of type %s", what, f.Name, f.Type)
	case !f.Required && !l.faulty[f]:
		l.Fault(n.At, "add \"required: true\" to the field", "%s: field %s is not required", what, f.Name)
	}
	ds.Time = f
}

func (l *loader) indexes(ds *Dataset, n *strictyaml.Node, at *datasetPlaces) {
	if n.Kind != strictyaml.Map {
		l.Fault(n.At, `write "indexes: {by_field: [field, …]}"`, "indexes of dataset %s must be a map of field lists by name, got %s", strictyaml.Cut(ds.Name), n)
		return
	}
	for _, e := range n.Entries {
		ix := Index{Name: e.Key}
		what := "index " + strictyaml.Cut(e.Key) + " of dataset " + strictyaml.Cut(ds.Name)
		if fault := checkTableName(e.Key); fault != "" {
			l.Fault(e.At, "", "index name %s %s", quoteCut(e.Key), fault)
		} else if len(ds.IndexTable(&ix)) > maxTableLen {
			l.Fault(e.At, "", "%s: its table %s must have at most %d characters, it has %d", what,
				quoteCut(ds.IndexTable(&ix)), maxTableLen, len(ds.IndexTable(&ix)))
		}
		for _, item := range l.names(e.Value, what, `"`+strictyaml.Cut(e.Key)+`: [field, …]"`) {
			f := l.lookup(ds, item, what)
			switch {
			case f == nil:
				continue
			case slices.Contains(ix.Fields, f):
				l.Fault(item.At, "", "%s: field %s stands twice", what, f.Name)
				continue
			case f.Type == JSON:
				l.Fault(item.At, "json has no order; use a string", "%s: field %s is of type json", what, f.Name)
			}
			ix.Fields = append(ix.Fields, f)
		}
		ds.Indexes = append(ds.Indexes, ix)
		at.indexes = append(at.indexes, e.At)
	}
}

func (l *loader) api(ds *Dataset, n *strictyaml.Node) {
	s, ok := l.Section(n, n.At, " in api of dataset "+strictyaml.Cut(ds.Name), "auth", "quota_per_minute", "cache_max_age", "aggregate")
	if !ok {
		return
	}
	if n := s.Get("auth"); n != nil {
		ds.API.Auth = l.OneOf(n, "auth"+s.Where, "none", "api_key", "oidc", "gateway")
	}
	if n := s.Get("aggregate"); n != nil {
		ds.API.Aggregate = l.OneOf(n, "aggregate"+s.Where, "rows", "bigquery")
	}
	if n := s.Get("cache_max_age"); n != nil {
		ds.API.CacheMaxAge = l.duration(n, "cache_max_age"+s.Where, "5s")
	}
	if n := s.Get("quota_per_minute"); n != nil {
		quota, ok := n.Value.(int64)
		if !ok || quota < 1 || quota > math.MaxInt32 {
			l.Fault(n.At, "", "quota_per_minute%s must be a whole number from 1 to %d, got %s", s.Where, math.MaxInt32, n)
		}
		ds.API.QuotaPerMinute = int(quota)
	}
}

func (l *loader) slo(ds *Dataset, n *strictyaml.Node) {
	s, ok := l.Section(n, n.At, " in slo of dataset "+strictyaml.Cut(ds.Name), "ingest_latency", "response", "target")
	if !ok {
		return
	}
	if n := s.Get("ingest_latency"); n != nil {
		ds.SLO.IngestLatency = l.duration(n, "ingest_latency"+s.Where, "50ms")
	}
	if n := s.Get("response"); n != nil {
		ds.SLO.Response = l.duration(n, "response"+s.Where, "100ms")
	}
	if n := s.Get("target"); n != nil {
		switch v := n.Value.(type) {
		case int64:
			ds.SLO.Target = float64(v)
		case float64:
			ds.SLO.Target = v
		default:
			ds.SLO.Target = math.NaN()
		}
		if !(ds.SLO.Target > 0 && ds.SLO.Target < 100) {
			l.Fault(n.At, "", "target%s must be a percentage greater than 0 and less than 100, got %s", s.Where, n)
		}
	}
}
