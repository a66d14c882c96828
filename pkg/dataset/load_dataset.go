package dataset

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"
)

// The defaults of a dataset's slo block.
const (
	defaultIngestLatency = 50 * time.Millisecond
	defaultResponse      = 100 * time.Millisecond
	defaultTarget        = 95
)

func (l *loader) dataset(e yamlEntry) {
	ds := &Dataset{
		Name:   e.key,
		Topic:  e.key,
		SLO:    SLO{IngestLatency: defaultIngestLatency, Response: defaultResponse, Target: defaultTarget},
		byName: map[string]*Field{},
	}
	at := datasetPlaces{name: e.at, topic: e.at}
	if fault := checkTableName(ds.Name); fault != "" {
		l.fault(e.at, "", "dataset name %s %s", quoteCut(ds.Name), fault)
	}
	s, ok := l.section(e.value, e.at, " in dataset "+cutName(ds.Name), "description", "fields", "key", "time", "indexes", "retention", "topic", "api", "slo")
	if !ok {
		return
	}
	if n := s.get("description"); n != nil {
		ds.Description, _ = l.text(n, "description"+s.where)
	}
	if n := l.need(s, "fields", "declare at least one field"); n != nil {
		l.fields(ds, n)
	}
	if n := l.need(s, "key", "name the fields that identify a record"); n != nil {
		l.key(ds, n)
	}
	if n := s.get("time"); n != nil {
		l.time(ds, n)
	}
	if n := s.get("indexes"); n != nil {
		l.indexes(ds, n, &at)
	}
	if n := s.get("retention"); n != nil {
		ds.Retention = l.duration(n, "retention"+s.where, "400d")
		if s.get("time") == nil {
			l.fault(n.at, "declare as time the timestamp or date field that says how old a row is", "retention needs the key \"time\"%s", s.where)
		}
	}
	l.topic(ds, s, &at)
	if n := s.get("api"); n != nil {
		l.api(ds, n)
	}
	if n := s.get("slo"); n != nil {
		l.slo(ds, n)
	}
	l.decl.Datasets = append(l.decl.Datasets, ds)
	l.places = append(l.places, at)
}

// cutName shortens a name that is shown without quotes.
func cutName(name string) string {
	if len(name) <= maxQuoted {
		return name
	}
	return strings.ToValidUTF8(name[:maxQuoted], "") + "…"
}

func (l *loader) topic(ds *Dataset, s section, at *datasetPlaces) {
	n := s.get("topic")
	if n == nil {
		if fault := checkTopic(ds.Topic); fault != "" && checkTableName(ds.Name) == "" {
			l.fault(at.name, `set the key "topic"`, "topic %s, by default the name of the dataset, %s", quoteCut(ds.Topic), fault)
		}
		return
	}
	topic, ok := l.text(n, "topic"+s.where)
	if !ok {
		return
	}
	ds.Topic, at.topic = topic, n.at
	if fault := checkTopic(topic); fault != "" {
		l.fault(n.at, "", "topic %s%s %s", quoteCut(topic), s.where, fault)
	}
}

func (l *loader) fields(ds *Dataset, n *yamlNode) {
	if n.kind != yamlMap {
		l.fault(n.at, "write each field as its name and its type", "fields must be a map of fields by name, got %s", n)
		return
	}
	if len(n.entries) == 0 {
		l.fault(n.at, "declare at least one field", "fields is empty")
	}
	folded := map[string]string{}
	for _, e := range n.entries {
		if fault := checkFieldName(e.key); fault != "" {
			l.fault(e.at, "choose another name", "field name %s %s", quoteCut(e.key), fault)
		} else if other, ok := folded[strings.ToLower(e.key)]; ok {
			l.fault(e.at, "rename one of them", "the fields %s and %s differ only in case, which BigQuery does not tell apart", other, e.key)
		}
		folded[strings.ToLower(e.key)] = e.key
		before := len(l.problems)
		f := l.field(e)
		l.faulty[f] = len(l.problems) > before || e.value.broken
		f.Index = len(ds.Fields)
		ds.Fields = append(ds.Fields, f)
		ds.byName[f.Name] = f
	}
}

func (l *loader) field(e yamlEntry) *Field {
	f := &Field{Name: e.key}
	what := "field " + cutName(e.key)
	switch {
	case e.value.broken:
		return f
	case e.value.isNull():
		l.fault(e.at, "give it one of "+strings.Join(typeNames(), ", "), "%s has no type", what)
		return f
	case e.value.kind == yamlScalar:
		f.Type = l.fieldType(e.value, what)
		return f
	}
	s, ok := l.section(e.value, e.at, " in "+what, "type", "required", "pattern", "minimum", "maximum", "description")
	if !ok {
		return f
	}
	if n := l.need(s, "type", "give it one of "+strings.Join(typeNames(), ", ")); n != nil {
		f.Type = l.fieldType(n, what)
	}
	if n := s.get("required"); n != nil {
		if f.Required, ok = n.value.(bool); !ok {
			l.fault(n.at, "", "%s: required must be true or false, got %s", what, n)
		}
	}
	if n := s.get("description"); n != nil {
		f.Description, _ = l.text(n, what+": description")
	}
	if n := s.get("pattern"); n != nil {
		l.pattern(f, n, what)
	}
	if n := s.get("minimum"); n != nil {
		f.Minimum = l.limit(n, f, "minimum")
	}
	if n := s.get("maximum"); n != nil {
		f.Maximum = l.limit(n, f, "maximum")
		if f.Minimum != nil && f.Maximum != nil && f.Minimum.Compare(*f.Maximum) > 0 {
			l.fault(n.at, "", "%s: the maximum %s is less than the minimum %s", what, f.Maximum.Text(), f.Minimum.Text())
		}
	}
	return f
}

func typeNames() []string {
	return []string{string(String), string(Int64), string(Float64), string(Bool), string(Timestamp), string(Date), string(Bytes), string(JSON)}
}

func (l *loader) fieldType(n *yamlNode, what string) Type {
	hint := "the types are " + strings.Join(typeNames(), ", ")
	name, ok := n.value.(string)
	if !ok {
		l.fault(n.at, hint, "%s: type must be text, got %s", what, n)
		return ""
	}
	if kindOf(Type(name)) != kindMissing {
		return Type(name)
	}
	if near := nearestType(name); near != "" {
		hint = fmt.Sprintf("did you mean %q?", near)
	}
	l.fault(n.at, hint, "%s: unknown type %s", what, quoteCut(name))
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

func (l *loader) pattern(f *Field, n *yamlNode, what string) {
	text, ok := l.text(n, what+": pattern")
	if !ok {
		return
	}
	if f.Type != String && f.Type != "" {
		l.fault(n.at, "it applies to string", "%s: pattern does not apply to the type %s", what, f.Type)
		return
	}
	re, err := regexp.Compile(text)
	if err != nil {
		l.fault(n.at, "", "%s: pattern %s does not compile: %s", what, quoteCut(text),
			cutName(strings.TrimPrefix(err.Error(), "error parsing regexp: ")))
		return
	}
	f.Pattern = re
}

// lookup finds a field that the declaration refers to; nil when it does not
// exist, which is reported unless the dataset has no fields at all.
func (l *loader) lookup(ds *Dataset, n *yamlNode, what string) *Field {
	name, _ := n.value.(string)
	f := ds.byName[name]
	if f == nil && len(ds.Fields) > 0 {
		hint := "the fields are " + cutList(ds.FieldNames())
		if near := Nearest(name, ds.FieldNames()); near != "" {
			hint = fmt.Sprintf("did you mean %q?", near)
		}
		l.fault(n.at, hint, "%s: there is no field %s", what, quoteCut(name))
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

func (l *loader) key(ds *Dataset, n *yamlNode) {
	what := "key of dataset " + cutName(ds.Name)
	for _, item := range l.names(n, what, `"key: [field, …]"`) {
		f := l.lookup(ds, item, what)
		switch {
		case f == nil:
			continue
		case f.InKey:
			l.fault(item.at, "", "%s: field %s stands twice", what, f.Name)
			continue
		case f.Type == JSON:
			l.fault(item.at, "json has no order; use a string", "%s: field %s is of type json", what, f.Name)
		case !f.Required && !l.faulty[f]:
			l.fault(item.at, "add \"required: true\" to the field", "%s: field %s is not required", what, f.Name)
		}
		f.InKey = true
		ds.Key = append(ds.Key, f)
	}
}

func (l *loader) time(ds *Dataset, n *yamlNode) {
	what := "time of dataset " + cutName(ds.Name)
	if _, ok := l.text(n, what); !ok {
		return
	}
	f := l.lookup(ds, n, what)
	switch {
	case f == nil:
		return
	case f.Type != Timestamp && f.Type != Date && f.Type != "":
		l.fault(n.at, "it must be a timestamp or a date", "%s: field %s is of type %s", what, f.Name, f.Type)
	case !f.Required && !l.faulty[f]:
		l.fault(n.at, "add \"required: true\" to the field", "%s: field %s is not required", what, f.Name)
	}
	ds.Time = f
}

func (l *loader) indexes(ds *Dataset, n *yamlNode, at *datasetPlaces) {
	if n.kind != yamlMap {
		l.fault(n.at, `write "indexes: {by_field: [field, …]}"`, "indexes of dataset %s must be a map of field lists by name, got %s", cutName(ds.Name), n)
		return
	}
	for _, e := range n.entries {
		ix := Index{Name: e.key}
		what := "index " + cutName(e.key) + " of dataset " + cutName(ds.Name)
		if fault := checkTableName(e.key); fault != "" {
			l.fault(e.at, "", "index name %s %s", quoteCut(e.key), fault)
		} else if len(ds.IndexTable(&ix)) > maxTableLen {
			l.fault(e.at, "", "%s: its table %s must have at most %d characters, it has %d", what,
				quoteCut(ds.IndexTable(&ix)), maxTableLen, len(ds.IndexTable(&ix)))
		}
		for _, item := range l.names(e.value, what, `"`+cutName(e.key)+`: [field, …]"`) {
			f := l.lookup(ds, item, what)
			switch {
			case f == nil:
				continue
			case slices.Contains(ix.Fields, f):
				l.fault(item.at, "", "%s: field %s stands twice", what, f.Name)
				continue
			case f.Type == JSON:
				l.fault(item.at, "json has no order; use a string", "%s: field %s is of type json", what, f.Name)
			}
			ix.Fields = append(ix.Fields, f)
		}
		ds.Indexes = append(ds.Indexes, ix)
		at.indexes = append(at.indexes, e.at)
	}
}

func (l *loader) api(ds *Dataset, n *yamlNode) {
	s, ok := l.section(n, n.at, " in api of dataset "+cutName(ds.Name), "auth", "quota_per_minute", "cache_max_age", "aggregate")
	if !ok {
		return
	}
	if n := s.get("auth"); n != nil {
		ds.API.Auth = l.oneOf(n, "auth"+s.where, "none", "api_key", "oidc", "gateway")
	}
	if n := s.get("aggregate"); n != nil {
		ds.API.Aggregate = l.oneOf(n, "aggregate"+s.where, "rows", "bigquery")
	}
	if n := s.get("cache_max_age"); n != nil {
		ds.API.CacheMaxAge = l.duration(n, "cache_max_age"+s.where, "5s")
	}
	if n := s.get("quota_per_minute"); n != nil {
		quota, ok := n.value.(int64)
		if !ok || quota < 1 || quota > math.MaxInt32 {
			l.fault(n.at, "", "quota_per_minute%s must be a whole number from 1 to %d, got %s", s.where, math.MaxInt32, n)
		}
		ds.API.QuotaPerMinute = int(quota)
	}
}

// oneOf reads a text that has to be one of the choices.
func (l *loader) oneOf(n *yamlNode, what string, choices ...string) string {
	text, ok := l.text(n, what)
	if ok && !slices.Contains(choices, text) {
		hint := ""
		if near := Nearest(text, choices); near != "" {
			hint = fmt.Sprintf("did you mean %q?", near)
		}
		l.fault(n.at, hint, "%s must be one of %s, got %s", what, strings.Join(choices, ", "), n)
	}
	return text
}

func (l *loader) slo(ds *Dataset, n *yamlNode) {
	s, ok := l.section(n, n.at, " in slo of dataset "+cutName(ds.Name), "ingest_latency", "response", "target")
	if !ok {
		return
	}
	if n := s.get("ingest_latency"); n != nil {
		ds.SLO.IngestLatency = l.duration(n, "ingest_latency"+s.where, "50ms")
	}
	if n := s.get("response"); n != nil {
		ds.SLO.Response = l.duration(n, "response"+s.where, "100ms")
	}
	if n := s.get("target"); n != nil {
		switch v := n.value.(type) {
		case int64:
			ds.SLO.Target = float64(v)
		case float64:
			ds.SLO.Target = v
		default:
			ds.SLO.Target = math.NaN()
		}
		if !(ds.SLO.Target > 0 && ds.SLO.Target < 100) {
			l.fault(n.at, "", "target%s must be a percentage greater than 0 and less than 100, got %s", s.where, n)
		}
	}
}
