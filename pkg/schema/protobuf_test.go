package schema_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/bufbuild/protocompile"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/latamctl/latamctl/pkg/schema"
)

const protoEverything = `syntax = "proto3";
package test;
import "google/protobuf/timestamp.proto";
import "google/protobuf/duration.proto";
import "google/protobuf/wrappers.proto";
import "google/protobuf/struct.proto";
message Everything {
  string s = 1;
  int32 i = 2;
  sint64 l = 3;
  fixed64 u = 4;
  float f = 5;
  double d = 6;
  bool b = 7;
  bytes y = 8;
  enum Color { RED = 0; BLUE = 1; }
  Color e = 9;
  optional int64 maybe = 10;
  oneof one { string text = 11; int64 count = 12; }
  google.protobuf.Timestamp at = 13;
  google.protobuf.Duration took = 14;
  google.protobuf.Int64Value wrapped = 15;
  google.protobuf.Struct free = 16;
  repeated int32 list = 17;
  map<string, int64> map = 18;
  message Inner { int32 z = 1; Inner more = 2; }
  Inner inner = 19;
  repeated Inner inners = 20;
  int64 delay_minutes = 21;
}`

const protoEverythingJSON = `{"s":"a\"é\n","i":-2147483648,"l":"9223372036854775807","u":"18446744073709551615","f":0.1,"d":1e300,"b":true,"y":"AP8=","e":"BLUE",
	"maybe":"0","count":"0","at":"2001-01-01T00:47:00.000000001Z","took":"1.500s","wrapped":"7","free":{"k":[1]},"list":[1,-1],"map":{"b":"2","a":"1"},
	"inner":{"z":7,"more":{}},"inners":[{},{"z":1}],"delayMinutes":"5"}`

const protoEverythingRecord = `{"s":"a\"é\u000a","i":-2147483648,"l":9223372036854775807,"u":18446744073709551615,"f":0.1,"d":1e+300,"b":true,"y":"AP8=","e":"BLUE",` +
	`"maybe":0,"count":0,"at":"2001-01-01T00:47:00.000000001Z","took":"1.500s","wrapped":7,"free":{"k":[1]},"list":[1,-1],"map":{"a":1,"b":2},` +
	`"inner":{"z":7,"more":{"z":0}},"inners":[{"z":0},{"z":1}],"delay_minutes":5}`

func TestProtobuf(t *testing.T) {
	t.Parallel()
	s := compile(t, schema.Protobuf, protoEverything)
	text, err := s.Read([]byte(protoEverythingJSON), schema.JSON)
	if err != nil {
		t.Fatal(err)
	}
	if got := spaceless(string(text)); got != protoEverythingRecord {
		t.Errorf("JSON:\n got %s\nwant %s", got, protoEverythingRecord)
	}
	text, err = s.Read(protoBinary(t, protoEverything, protoEverythingJSON), schema.Binary)
	if err != nil {
		t.Fatal(err)
	}
	if got := spaceless(string(text)); got != protoEverythingRecord || !json.Valid(text) {
		t.Errorf("binary:\n got %s\nwant %s", got, protoEverythingRecord)
	}
	// What is absent: scalars without presence have their default, what has presence is left out.
	text, err = s.Read(nil, schema.Binary)
	want := `{"s":"","i":0,"l":0,"u":0,"f":0,"d":0,"b":false,"y":"","e":"RED","list":[],"map":{},"inners":[],"delay_minutes":0}`
	if err != nil || string(text) != want {
		t.Errorf("empty message: got %s, %v\nwant %s", text, err, want)
	}
}

// spaceless drops the spaces that the library puts at random into the JSON of well-known types.
func spaceless(s string) string { return strings.ReplaceAll(s, " ", "") }

func protoBinary(t testing.TB, definition, text string) []byte {
	t.Helper()
	compiler := protocompile.Compiler{Resolver: protocompile.WithStandardImports(&protocompile.SourceResolver{
		Accessor: protocompile.SourceAccessorFromMap(map[string]string{"a.proto": definition}),
	})}
	files, err := compiler.Compile(t.Context(), "a.proto")
	if err != nil {
		t.Fatal(err)
	}
	m := dynamicpb.NewMessage(files[0].Messages().Get(0))
	if err := protojson.Unmarshal([]byte(text), m); err != nil {
		t.Fatal(err)
	}
	data, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestProtobufFaults(t *testing.T) {
	t.Parallel()
	s := compile(t, schema.Protobuf, protoEverything)
	nested := ""
	for range 200 {
		nested = "\x12" + varint(len(nested)) + nested
	}
	for name, c := range map[string]struct {
		data string
		enc  schema.Encoding
		want string
	}{
		"cut":                  {"\x0a\x05ab", schema.Binary, "PROTOCOL_BUFFER"},
		"not UTF-8":            {"\x0a\x01\xff", schema.Binary, "UTF-8"},
		"an unknown field":     {"\xf0\x07\x01", schema.Binary, "Everything has no field number 126"},
		"unknown, in a field":  {"\x9a\x01\x03\xf0\x07\x01", schema.Binary, "field inner: the message test.Everything.Inner has no field number 126"},
		"a time beyond 9999":   {"\x6a\x07\x08\xff\xff\xff\xff\xff\x7f", schema.Binary, "not in the years 1 to 9999"},
		"nested too deep":      {"\x9a\x01" + varint(len(nested)) + nested, schema.Binary, "recursion"},
		"an unknown JSON name": {`{"more":1}`, schema.JSON, "more"},
		"no JSON":              {`{`, schema.JSON, "PROTOCOL_BUFFER"},
	} {
		text, err := s.Read([]byte(c.data), c.enc)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %.200s, %v, want an error with %q", name, text, err, c.want)
		}
	}
}

func varint(n int) string {
	s := ""
	for ; n >= 0x80; n >>= 7 {
		s += string([]byte{byte(n) | 0x80})
	}
	return s + string([]byte{byte(n)})
}
