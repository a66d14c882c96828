package schema_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/twmb/avro"

	"github.com/latamctl/latamctl/pkg/schema"
)

// avroEverything has each type that a record can have.
const avroEverything = `{"type": "record", "name": "Everything", "namespace": "test", "fields": [
	{"name": "s", "type": "string"},
	{"name": "i", "type": "int"},
	{"name": "l", "type": "long"},
	{"name": "f", "type": "float"},
	{"name": "d", "type": "double"},
	{"name": "b", "type": "boolean"},
	{"name": "y", "type": "bytes"},
	{"name": "x", "type": {"type": "fixed", "name": "X", "size": 2}},
	{"name": "e", "type": {"type": "enum", "name": "E", "symbols": ["RED", "BLUE"]}},
	{"name": "n", "type": ["null", "string"], "default": null},
	{"name": "u", "type": ["null", "long", {"type": "int", "logicalType": "date"}, "string"]},
	{"name": "day", "type": {"type": "int", "logicalType": "date"}},
	{"name": "ms", "type": {"type": "long", "logicalType": "timestamp-millis"}},
	{"name": "us", "type": {"type": "long", "logicalType": "timestamp-micros"}},
	{"name": "maybe", "type": ["null", {"type": "long", "logicalType": "timestamp-millis"}]},
	{"name": "local", "type": {"type": "long", "logicalType": "local-timestamp-micros"}},
	{"name": "clock", "type": {"type": "int", "logicalType": "time-millis"}},
	{"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
	{"name": "fee", "type": ["null", {"type": "fixed", "name": "Fee", "size": 4, "logicalType": "decimal", "precision": 8, "scale": 3}]},
	{"name": "id", "type": {"type": "string", "logicalType": "uuid"}},
	{"name": "list", "type": {"type": "array", "items": "int"}},
	{"name": "map", "type": {"type": "map", "values": "string"}},
	{"name": "inner", "type": {"type": "record", "name": "Inner", "fields": [{"name": "z", "type": "int"}, {"name": "a", "type": ["null", "boolean"]}]}}
]}`

const avroEverythingJSON = `{"s":"a\"é\n","i":-2147483648,"l":9223372036854775807,"f":0.1,"d":1e300,"b":true,"y":"\u0000\u00ff","x":"\u0001\u0002","e":"BLUE",
	"n":{"string":"there"},"u":{"string":"text"},"day":-1,"ms":-62135596800000,"us":978310020123456,"maybe":{"long.timestamp-millis":978310020001},"local":978310020123456,
	"clock":61001,"price":"\u00ff\u0085","fee":{"test.Fee":"\u0000\u0000\u0000\u0005"},"id":"f81d4fae-7dec-11d0-a765-00a0c91e6bf6","list":[1,-1],"map":{"b":"2","a":"1"},"inner":{"z":7,"a":{"boolean":false}}}`

const avroEverythingRecord = `{"s":"a\"é\u000a","i":-2147483648,"l":9223372036854775807,"f":0.1,"d":1e+300,"b":true,"y":"AP8=","x":"AQI=","e":"BLUE",` +
	`"n":"there","u":"text","day":"1969-12-31","ms":"0001-01-01T00:00:00Z","us":"2001-01-01T00:47:00.123456Z","maybe":"2001-01-01T00:47:00.001Z","local":"2001-01-01T00:47:00.123456",` +
	`"clock":"00:01:01.001","price":-1.23,"fee":0.005,"id":"f81d4fae-7dec-11d0-a765-00a0c91e6bf6","list":[1,-1],"map":{"a":"1","b":"2"},"inner":{"a":false,"z":7}}`

func TestAvro(t *testing.T) {
	t.Parallel()
	s := compile(t, schema.Avro, avroEverything)
	text, err := s.Read([]byte(avroEverythingJSON), schema.JSON)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(text); got != avroEverythingRecord {
		t.Errorf("JSON:\n got %s\nwant %s", got, avroEverythingRecord)
	}
	text, err = s.Read(avroBinary(t, avroEverything, avroEverythingJSON), schema.Binary)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(text); got != avroEverythingRecord || !json.Valid(text) {
		t.Errorf("binary:\n got %s\nwant %s", got, avroEverythingRecord)
	}
}

// avroBinary encodes a message in Avro's JSON as its binary form, without any of our types.
func avroBinary(t testing.TB, definition, text string) []byte {
	t.Helper()
	plain, err := avro.Parse(definition)
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := plain.DecodeJSON([]byte(text), &v, avro.TaggedUnions()); err != nil {
		t.Fatal(err)
	}
	data, err := plain.Encode(v, avro.TaggedUnions())
	if err != nil {
		t.Fatal(err)
	}
	return data
}

const avroFlight = `{"type": "record", "name": "Flight", "fields": [
	{"name": "origin", "type": "string"},
	{"name": "delay_minutes", "type": ["null", "long"]},
	{"name": "extra", "type": {"type": "map", "values": "bytes"}}]}`

func TestAvroFaults(t *testing.T) {
	t.Parallel()
	s := compile(t, schema.Avro, avroFlight)
	good := avroBinary(t, avroFlight, `{"origin":"SCL","delay_minutes":{"long":5},"extra":{"a":"x"}}`)
	for name, c := range map[string]struct {
		data []byte
		enc  schema.Encoding
		want string
	}{
		"nothing":            {nil, schema.Binary, "AVRO"},
		"cut":                {good[:len(good)-2], schema.Binary, "AVRO"},
		"bytes behind":       {append(append([]byte(nil), good...), 0), schema.Binary, "1 bytes follow the record"},
		"no such branch":     {[]byte("\x06SCL\x04"), schema.Binary, `field "delay_minutes": invalid null-union index`},
		"a length too large": {[]byte("\xfe\xff\xff\xff\x0fSCL"), schema.Binary, "short buffer for string"},
		"not UTF-8":          {[]byte("\x02\xff\x00\x00"), schema.Binary, "not valid UTF-8"},
		"JSON as binary":     {[]byte(`{"origin":"SCL"}`), schema.Binary, "AVRO"},
		"binary as JSON":     {good, schema.JSON, "AVRO"},
		"no encoding":        {good, "", `the schema encoding "" is not known`},
		"a wrong type":       {[]byte(`{"origin":"SCL","delay_minutes":{"long":"x"},"extra":{}}`), schema.JSON, `field "delay_minutes"`},
		"an unknown field":   {[]byte(`{"origin":"SCL","delay_minutes":null,"extra":{},"more":1}`), schema.JSON, `the schema has no field "more"`},
		"a field twice":      {[]byte(`{"origin":"SCL","origin":"LIM","delay_minutes":null,"extra":{}}`), schema.JSON, `field "origin" stands twice`},
		"a key twice":        {[]byte(`{"origin":"SCL","delay_minutes":null,"extra":{"a":"x","a":"y"}}`), schema.JSON, `field "extra.a" stands twice`},
		"a missing field":    {[]byte(`{"origin":"SCL","delay_minutes":null}`), schema.JSON, "extra"},
	} {
		text, err := s.Read(c.data, c.enc)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %s, %v, want an error with %q", name, text, err, c.want)
		}
	}
}

// TestAvroMembers: at every depth, in lists, maps and unions, what the schema does not have is refused.
func TestAvroMembers(t *testing.T) {
	t.Parallel()
	s := compile(t, schema.Avro, `{"type": "record", "name": "Tree", "namespace": "n", "fields": [
		{"name": "v", "type": ["null", "int", {"type": "enum", "name": "E", "symbols": ["A"]}, {"type": "fixed", "name": "X", "size": 1}]},
		{"name": "left", "type": ["null", "Tree"]},
		{"name": "list", "type": ["null", {"type": "array", "items": "Tree"}]},
		{"name": "map", "type": {"type": "map", "values": ["null", {"type": "record", "name": "Leaf", "fields": [{"name": "q", "type": "int"}]}]}}]}`)
	leaf := func(v string) string { return `{"v":` + v + `,"left":null,"list":null,"map":{}%}` }
	for name, text := range map[string]string{
		"union":       leaf(`{"int":1}`),
		"enum":        leaf(`{"n.E":"A"}`),
		"fixed":       leaf(`{"n.X":"a"}`),
		"bare union":  leaf(`1`),
		"tree":        `{"v":null,"left":{"n.Tree":` + leaf("null") + `},"list":null,"map":{}}`,
		"list":        `{"v":null,"left":null,"list":{"array":[` + leaf("null") + `]},"map":{}}`,
		"map":         `{"v":null,"left":null,"list":null,"map":{"k":{"n.Leaf":{"q":1%}},"z":null}}`,
		"in its form": `{"v":null,"left":null,"list":null,"map":{}%}`,
	} {
		if got, err := s.Read([]byte(strings.ReplaceAll(text, "%", "")), schema.JSON); err != nil {
			t.Errorf("%s: %s, %v", name, got, err)
		}
		got, err := s.Read([]byte(strings.ReplaceAll(text, "%", `,"lost":1`)), schema.JSON)
		if err == nil || !strings.Contains(err.Error(), `lost"`) {
			t.Errorf("%s with a member that is lost: %s, %v", name, got, err)
		}
	}
}

func TestCompileFaults(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		lang       schema.Language
		definition string
		want       string
	}{
		"no language":        {"", "x", "is not known; AVRO and PROTOCOL_BUFFER are"},
		"no Avro":            {schema.Avro, "message A {}", "read the Avro schema"},
		"no record":          {schema.Avro, `"string"`, "expected a record"},
		"no Protocol Buffer": {schema.Protobuf, avroFlight, "read the Protocol Buffer schema"},
		"two messages":       {schema.Protobuf, `syntax = "proto3"; message A {} message B {}`, "2 messages at its top"},
		"no message":         {schema.Protobuf, `syntax = "proto3";`, "0 messages at its top"},
		"a file":             {schema.Protobuf, `syntax = "proto3"; import "/etc/passwd"; message A {}`, "/etc/passwd"},
		"too large":          {schema.Avro, strings.Repeat(" ", schema.MaxDefinitionBytes+1), "at most 307200 are taken"},
	} {
		if _, err := schema.Compile(t.Context(), c.lang, c.definition); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want an error with %q", name, err, c.want)
		}
	}
}

func compile(t testing.TB, lang schema.Language, definition string) *schema.Schema {
	t.Helper()
	s, err := schema.Compile(t.Context(), lang, definition)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
