package schema_test

import (
	"encoding/json"
	"runtime"
	"testing"

	"github.com/latamctl/latamctl/pkg/schema"
)

// checkRead reads hostile bytes: what is taken is valid JSON, and reading takes memory in proportion.
func checkRead(t *testing.T, s *schema.Schema, data []byte, enc schema.Encoding) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	text, err := s.Read(data, enc)
	runtime.ReadMemStats(&after)
	if err == nil && !json.Valid(text) {
		t.Errorf("read %q as %q, which is no JSON", data, text)
	}
	// The fuzzer's own workers allocate too, so the bound is generous; what it finds are lengths that are believed.
	if took := after.TotalAlloc - before.TotalAlloc; took > 4<<20+512*uint64(len(data)) {
		t.Errorf("reading %d bytes took %d bytes of memory", len(data), took)
	}
}

func FuzzAvro(f *testing.F) {
	s := compile(f, schema.Avro, avroEverything)
	f.Add(avroBinary(f, avroEverything, avroEverythingJSON), []byte(avroEverythingJSON))
	f.Add([]byte("\xfe\xff\xff\xff\x0f"), []byte(`{}`))
	f.Fuzz(func(t *testing.T, data, text []byte) {
		checkRead(t, s, data, schema.Binary)
		checkRead(t, s, text, schema.JSON)
	})
}

func FuzzProtobuf(f *testing.F) {
	s := compile(f, schema.Protobuf, protoEverything)
	f.Add(protoBinary(f, protoEverything, protoEverythingJSON), []byte(protoEverythingJSON))
	f.Add([]byte("\x9a\x01\x02\x12\x00"), []byte(`{"at":"0000-00-00"}`))
	f.Fuzz(func(t *testing.T, data, text []byte) {
		checkRead(t, s, data, schema.Binary)
		checkRead(t, s, text, schema.JSON)
	})
}

// FuzzCompile makes sure that no definition stops the process.
func FuzzCompile(f *testing.F) {
	f.Add(avroEverything)
	f.Add(protoEverything)
	f.Fuzz(func(t *testing.T, definition string) {
		for _, lang := range []schema.Language{schema.Avro, schema.Protobuf} {
			if s, err := schema.Compile(t.Context(), lang, definition); err == nil {
				checkRead(t, s, []byte("\x02\x02\x02\x02"), schema.Binary)
			}
		}
	})
}
