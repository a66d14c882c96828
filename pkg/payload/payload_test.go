package payload_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/payload"
)

const record = `{"origin":"DTW","departed_at":"2001-01-01T00:47:00Z","destination":"LAS","delay_minutes":66,"distance_miles":1750}`

func gzipped(t testing.TB, data string) []byte { return packed(t, payload.Gzip, data) }

func packed(t testing.TB, encoding, data string) []byte {
	t.Helper()
	b, err := payload.Pack(encoding, []byte(data))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func zstandard(t testing.TB, data string, opts ...zstd.EOption) []byte {
	t.Helper()
	if len(opts) == 0 {
		return packed(t, payload.Zstd, data)
	}
	w, err := zstd.NewWriter(nil, opts...)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Close() }()
	return w.EncodeAll([]byte(data), nil)
}

// streamed is a zstd stream whose header does not know its size.
func streamed(t testing.TB, data string) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := zstd.NewWriter(&b, zstd.WithWindowSize(8<<20))
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{data[:1], data[1:]} {
		if _, err = w.Write([]byte(part)); err == nil {
			err = w.Flush()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestUnpack(t *testing.T) {
	t.Parallel()
	largest := strings.Repeat("a", dataset.MaxRecordBytes)
	for name, c := range map[string]struct {
		encoding string
		data     []byte
		want     string
	}{
		"none":                  {"", []byte(record), record},
		"identity":              {"identity", []byte(record), record},
		"gzip":                  {"gzip", gzipped(t, record), record},
		"gzip, other case":      {"GZip", gzipped(t, record), record},
		"gzip, its old name":    {"x-gzip", gzipped(t, record), record},
		"gzip of the largest":   {"gzip", gzipped(t, largest), largest},
		"gzip of nothing":       {"gzip", gzipped(t, ""), ""},
		"zstd":                  {"zstd", zstandard(t, record), record},
		"zstd, no checksum":     {"zstd", zstandard(t, record, zstd.WithEncoderCRC(false)), record},
		"zstd, not compressed":  {"zstd", zstandard(t, "abc"), "abc"},
		"zstd, a stream":        {"zstd", streamed(t, record), record},
		"zstd of the largest":   {"zstd", zstandard(t, largest), largest},
		"zstd of large, stream": {"zstd", streamed(t, largest), largest},
	} {
		got, err := payload.Unpack(c.encoding, c.data)
		if err != nil || string(got) != c.want {
			t.Errorf("%s: got %.100q, %v", name, got, err)
		}
	}
}

func TestUnpackRejects(t *testing.T) {
	t.Parallel()
	bomb := strings.Repeat("\x00", 100<<20)
	gz, zs := gzipped(t, record), zstandard(t, record)
	badSum := append(bytes.Clone(gz[:len(gz)-8]), 1, 2, 3, 4, 5, 6, 7, 8)
	for name, c := range map[string]struct {
		encoding string
		data     []byte
		want     dataset.Reason
	}{
		"unknown":               {"br", gz, dataset.ReasonBadEncoding},
		"two at once":           {"gzip, zstd", gz, dataset.ReasonBadEncoding},
		"plain as gzip":         {"gzip", []byte(record), dataset.ReasonBadEncoding},
		"plain as zstd":         {"zstd", []byte(record), dataset.ReasonBadEncoding},
		"nothing as gzip":       {"gzip", nil, dataset.ReasonBadEncoding},
		"nothing as zstd":       {"zstd", nil, dataset.ReasonBadEncoding},
		"gzip, cut":             {"gzip", gz[:len(gz)-1], dataset.ReasonBadEncoding},
		"gzip, cut in its head": {"gzip", gz[:5], dataset.ReasonBadEncoding},
		"gzip, cut in its data": {"gzip", gz[:30], dataset.ReasonBadEncoding},
		"gzip, wrong checksum":  {"gzip", badSum, dataset.ReasonBadEncoding},
		"gzip, bytes behind":    {"gzip", append(bytes.Clone(gz), 0), dataset.ReasonBadEncoding},
		"gzip twice":            {"gzip", append(bytes.Clone(gz), gz...), dataset.ReasonBadEncoding},
		"gzip, one byte more":   {"gzip", gzipped(t, strings.Repeat("a", dataset.MaxRecordBytes+1)), dataset.ReasonOversize},
		"gzip bomb":             {"gzip", gzipped(t, bomb), dataset.ReasonOversize},
		"zstd, cut":             {"zstd", zs[:len(zs)-1], dataset.ReasonBadEncoding},
		"zstd, cut in its head": {"zstd", zs[:3], dataset.ReasonBadEncoding},
		"zstd, bytes behind":    {"zstd", append(bytes.Clone(zs), 0), dataset.ReasonBadEncoding},
		"zstd twice":            {"zstd", append(bytes.Clone(zs), zs...), dataset.ReasonBadEncoding},
		"zstd, skippable":       {"zstd", append([]byte("\x50\x2a\x4d\x18\x00\x00\x00\x00"), zs...), dataset.ReasonBadEncoding},
		"zstd, one byte more":   {"zstd", zstandard(t, strings.Repeat("a", dataset.MaxRecordBytes+1)), dataset.ReasonOversize},
		"zstd bomb":             {"zstd", zstandard(t, bomb), dataset.ReasonOversize},
		"zstd bomb, a stream":   {"zstd", streamed(t, bomb), dataset.ReasonOversize},
	} {
		got, err := payload.Unpack(c.encoding, c.data)
		var reject *dataset.RejectError
		if !errors.As(err, &reject) || reject.Reason != c.want || reject.Detail == "" {
			t.Errorf("%s: got %.100q, %v, want %s", name, got, err, c.want)
		}
	}
}

func TestAttributes(t *testing.T) {
	t.Parallel()
	d := payload.New(nil, silent())
	for name, c := range map[string]struct {
		attributes map[string]string
		want       string // "" takes the payload as gzip
	}{
		"lower case":     {map[string]string{"content-encoding": "gzip"}, ""},
		"as HTTP has it": {map[string]string{"Content-Encoding": "gzip", "other": "x"}, ""},
		"twice, alike":   {map[string]string{"Content-Encoding": "gzip", "content-encoding": "GZIP"}, ""},
		"twice":          {map[string]string{"Content-Encoding": "gzip", "content-encoding": "zstd"}, `bad_encoding: the message has the attribute content-encoding twice, as "gzip" and "zstd"`},
		"unknown":        {map[string]string{"content-encoding": "snappy"}, `bad_encoding: the encoding "snappy" of the attribute content-encoding is not known; gzip and zstd are`},
	} {
		got, err := d.JSON(t.Context(), gzipped(t, record), c.attributes)
		if c.want == "" && (err != nil || string(got) != record) || c.want != "" && (err == nil || err.Error() != c.want) {
			t.Errorf("%s: got %.100q, %v", name, got, err)
		}
	}
	data := []byte(record)
	for _, attributes := range []map[string]string{nil, {"event_id": "1"}, {"content-encoding": ""}} {
		got, err := d.JSON(t.Context(), data, attributes)
		if err != nil || &got[0] != &data[0] {
			t.Errorf("%v: got another slice, or %v", attributes, err)
		}
	}
}

//nolint:paralleltest // Allocations are counted for the whole process.
func TestPlainTakesNothing(t *testing.T) {
	d, ctx, data := payload.New(nil, silent()), t.Context(), []byte(record)
	for _, attributes := range []map[string]string{nil, {"event_id": "1", "traceparent": "x"}} {
		if n := testing.AllocsPerRun(100, func() { _, _ = d.JSON(ctx, data, attributes) }); n > 0 {
			t.Errorf("a message with the attributes %v takes %v allocations", attributes, n)
		}
	}
}

func silent() *slog.Logger { return slog.New(slog.DiscardHandler) }

// schemaService has schemas by their name and revision.
type schemaService struct {
	definitions map[string][2]string
	err         error
	wait        chan struct{} // of each call; nil does not wait
	calls       atomic.Int32
}

func (s *schemaService) Schema(ctx context.Context, name, revision string) (language, definition string, err error) {
	s.calls.Add(1)
	if s.wait != nil {
		select {
		case <-s.wait:
		case <-ctx.Done():
			return "", "", ctx.Err()
		}
	}
	got, ok := s.definitions[name+"@"+revision]
	if s.err != nil || !ok {
		return "", "", fmt.Errorf("not found: %w", s.err)
	}
	return got[0], got[1], nil
}

const (
	avroFlight = `{"type":"record","name":"Flight","fields":[{"name":"origin","type":"string"},{"name":"departed_at","type":{"type":"long","logicalType":"timestamp-millis"}},
		{"name":"destination","type":"string"},{"name":"delay_minutes","type":["null","long"]},{"name":"distance_miles","type":"int"}]}`
	avroRecord  = "\x06DTW\xc0\xee\x91\xfd\xf8\x38\x06LAS\x02\x84\x01\xac\x1b"
	protoFlight = `syntax = "proto3"; import "google/protobuf/timestamp.proto";
		message Flight { string origin = 1; google.protobuf.Timestamp departed_at = 2; string destination = 3; optional int64 delay_minutes = 4; int32 distance_miles = 5; }`
	protoRecord = "\x0a\x03DTW\x12\x06\x08\x84\xa7\xbf\xd2\x03\x1a\x03LAS\x20\x42\x28\xd6\x0d"
	schemaName  = "projects/p/schemas/flight"
)

func flightSchemas() *schemaService {
	return &schemaService{definitions: map[string][2]string{
		schemaName + "@r1": {"AVRO", avroFlight}, schemaName + "@r2": {"PROTOCOL_BUFFER", protoFlight}, schemaName + "@broken": {"AVRO", "{"},
	}}
}

func of(revision, encoding string) map[string]string {
	return map[string]string{
		payload.AttrSchemaName: schemaName, payload.AttrSchemaRevision: revision, payload.AttrSchemaEncoding: encoding,
	}
}

func TestSchemas(t *testing.T) {
	t.Parallel()
	service := flightSchemas()
	d := payload.New(service, silent())
	for range 3 {
		for name, c := range map[string]struct {
			data       string
			attributes map[string]string
		}{
			"avro":          {avroRecord, of("r1", "BINARY")},
			"avro JSON":     {`{"origin":"DTW","departed_at":978310020000,"destination":"LAS","delay_minutes":{"long":66},"distance_miles":1750}`, of("r1", "JSON")},
			"protobuf":      {protoRecord, of("r2", "BINARY")},
			"protobuf JSON": {`{"origin":"DTW","departedAt":"2001-01-01T00:47:00Z","destination":"LAS","delay_minutes":"66","distance_miles":1750}`, of("r2", "JSON")},
		} {
			got, err := d.JSON(t.Context(), []byte(c.data), c.attributes)
			if err != nil || string(got) != record {
				t.Errorf("%s: got %s, %v", name, got, err)
			}
		}
	}
	if n := service.calls.Load(); n != 2 {
		t.Errorf("two revisions were fetched %d times", n)
	}
	inZstd := of("r1", "BINARY")
	inZstd["content-encoding"] = "zstd"
	if got, err := d.JSON(t.Context(), zstandard(t, avroRecord), inZstd); err != nil || string(got) != record {
		t.Errorf("avro in zstd: got %s, %v", got, err)
	}
}

func TestSchemaFaults(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	d := payload.New(flightSchemas(), slog.New(slog.NewTextHandler(&log, nil)))
	elsewhere := of("r1", "BINARY")
	elsewhere[payload.AttrSchemaName] = "_deleted-schema_"
	for name, c := range map[string]struct {
		data       string
		attributes map[string]string
		want       dataset.Reason // "" is not the record's fault
	}{
		"does not fit":     {avroRecord + "x", of("r1", "BINARY"), dataset.ReasonBadPayload},
		"no encoding":      {avroRecord, of("r1", "?"), dataset.ReasonBadPayload},
		"too large":        {strings.Repeat("x", dataset.MaxRecordBytes+1), of("r1", "BINARY"), dataset.ReasonOversize},
		"a deleted schema": {avroRecord, elsewhere, dataset.ReasonBadPayload},
		"no such revision": {avroRecord, of("r9", "BINARY"), ""},
		"a broken schema":  {avroRecord, of("broken", "BINARY"), ""},
	} {
		got, err := d.JSON(t.Context(), []byte(c.data), c.attributes)
		var reject *dataset.RejectError
		if err == nil || errors.As(err, &reject) != (c.want != "") || reject != nil && reject.Reason != c.want {
			t.Errorf("%s: got %s, %v, want %q", name, got, err, c.want)
		}
		if errors.Is(err, payload.ErrBadSchema) != (name == "a broken schema") {
			t.Errorf("%s: %v is or is not ErrBadSchema", name, err)
		}
	}
	for _, revision := range []string{"r9", "broken"} {
		if n := strings.Count(log.String(), "schema="+schemaName+" revision="+revision+" "); n != 1 {
			t.Errorf("revision %s is %d times in the log, want once:\n%s", revision, n, log.String())
		}
	}
}

// TestOneFetch makes sure that messages that come at once share a fetch, that each can leave it, and
// that an error is asked about again, yet not by each message.
func TestOneFetch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		service := flightSchemas()
		service.wait, service.err = make(chan struct{}), errors.New("unavailable")
		d := payload.New(service, silent())
		leaving, leave := context.WithCancel(t.Context())
		var all sync.WaitGroup
		for i := range 100 {
			all.Go(func() {
				ctx := t.Context()
				if i == 0 {
					ctx = leaving
				}
				if _, err := d.JSON(ctx, []byte(avroRecord), of("r1", "BINARY")); err == nil || i > 0 && !errors.Is(err, service.err) {
					t.Errorf("message %d: %v", i, err)
				}
			})
		}
		synctest.Wait()
		leave()
		synctest.Wait()
		close(service.wait)
		all.Wait()
		if n := service.calls.Load(); n != 1 {
			t.Errorf("100 messages made %d calls", n)
		}
		service.err = nil
		if _, err := d.JSON(t.Context(), []byte(avroRecord), of("r1", "BINARY")); err == nil {
			t.Error("an error was forgotten at once")
		}
		time.Sleep(time.Second)
		if _, err := d.JSON(t.Context(), []byte(avroRecord), of("r1", "BINARY")); err != nil {
			t.Errorf("after a second: %v", err)
		}
		calls := service.calls.Load()
		time.Sleep(time.Hour)
		if _, err := d.JSON(t.Context(), []byte(avroRecord), of("r1", "BINARY")); err != nil || service.calls.Load() != calls {
			t.Errorf("after an hour: %v, and %d more calls for what never changes", err, service.calls.Load()-calls)
		}
	})
}

// TestManySchemas makes sure that names from outside do not fill the memory.
func TestManySchemas(t *testing.T) {
	t.Parallel()
	service := flightSchemas()
	for i := range 200 {
		service.definitions[fmt.Sprintf("%s@x%d", schemaName, i)] = [2]string{"AVRO", avroFlight}
	}
	d := payload.New(service, silent())
	for i := range 200 {
		if _, err := d.JSON(t.Context(), []byte(avroRecord), of(fmt.Sprint("x", i), "BINARY")); err != nil {
			t.Fatal(err)
		}
	}
	before := service.calls.Load()
	for i := range 200 {
		_, _ = d.JSON(t.Context(), []byte(avroRecord), of(fmt.Sprint("x", i), "BINARY"))
	}
	if again := service.calls.Load() - before; again < 200-64 {
		t.Errorf("only %d of 200 schemas were fetched again, so more than 64 were kept", again)
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add("gzip", gzipped(f, record))
	f.Add("zstd", zstandard(f, record))
	f.Add("zstd", streamed(f, record))
	f.Fuzz(func(t *testing.T, encoding string, data []byte) {
		got, err := payload.Unpack(encoding, data)
		var reject *dataset.RejectError
		if err != nil && (!errors.As(err, &reject) || len(err.Error()) > 1000) {
			t.Errorf("got %v", err)
		}
		if len(got) > dataset.MaxRecordBytes && encoding != "" && !strings.EqualFold(encoding, "identity") {
			t.Errorf("unpacked %d bytes", len(got))
		}
	})
}

func BenchmarkPayload(b *testing.B) {
	d := payload.New(flightSchemas(), silent())
	in := func(encoding string) map[string]string { return map[string]string{"content-encoding": encoding} }
	for _, c := range []struct {
		name       string
		data       []byte
		attributes map[string]string
	}{
		{"json", []byte(record), nil},
		{"gzip", gzipped(b, record), in("gzip")},
		{"zstd", zstandard(b, record), in("zstd")},
		{"avro", []byte(avroRecord), of("r1", "BINARY")},
		{"protobuf", []byte(protoRecord), of("r2", "BINARY")},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if got, err := d.JSON(b.Context(), c.data, c.attributes); err != nil || len(got) != len(record) {
					b.Fatal(err)
				}
			}
		})
	}
}
