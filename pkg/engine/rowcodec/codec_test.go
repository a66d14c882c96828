package rowcodec_test

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"cloud.google.com/go/bigtable/apiv2/bigtablepb"
	"google.golang.org/grpc/encoding"
	standard "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/latamctl/latamctl/pkg/engine/rowcodec"
)

type chunk = bigtablepb.ReadRowsResponse_CellChunk

func commit(v bool) *bigtablepb.ReadRowsResponse_CellChunk_CommitRow {
	return &bigtablepb.ReadRowsResponse_CellChunk_CommitRow{CommitRow: v}
}

// randomChunk makes chunks as servers do, and now and then one that no server makes.
func randomChunk(r *rand.Rand) *chunk {
	text := func() []byte {
		return bytes.Repeat([]byte{byte(r.IntN(256))}, []int{0, 1, 5, 127, 128, 300}[r.IntN(6)])
	}
	c := &chunk{}
	if r.IntN(3) == 0 {
		c.RowKey = text()
	}
	if r.IntN(2) == 0 {
		c.FamilyName = wrapperspb.String([]string{"d", "", "é"}[r.IntN(3)])
	}
	if r.IntN(2) == 0 {
		c.Qualifier = wrapperspb.Bytes([][]byte{[]byte("origin"), []byte("delay"), nil, text()}[r.IntN(4)])
	}
	if r.IntN(2) == 0 {
		c.TimestampMicros = []int64{1, -1, 1 << 40}[r.IntN(3)]
	}
	if r.IntN(4) > 0 {
		c.Value = text()
	}
	switch r.IntN(24) {
	case 0, 1, 2, 3, 4, 5:
		c.RowStatus = commit(true)
	case 6:
		c.RowStatus = commit(false)
	case 7:
		c.RowStatus = &bigtablepb.ReadRowsResponse_CellChunk_ResetRow{ResetRow: true}
	case 8:
		c.ValueSize = []int32{1, -1, 1 << 20}[r.IntN(3)]
	case 9:
		c.Labels = []string{"x", ""}
	}
	return c
}

func randomResponse(r *rand.Rand) *bigtablepb.ReadRowsResponse {
	res := &bigtablepb.ReadRowsResponse{}
	for range r.IntN(12) {
		res.Chunks = append(res.Chunks, randomChunk(r))
	}
	if r.IntN(10) == 0 {
		res.LastScannedRowKey = []byte("last")
	}
	if r.IntN(20) == 0 {
		res.RequestStats = &bigtablepb.RequestStats{}
	}
	return res
}

// The codec writes the very bytes of the standard one, and reads what the standard one writes.
func TestAgreesWithProtobuf(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	ours, google := rowcodec.New(), encoding.GetCodecV2(standard.Name)
	if ours.Name() != google.Name() {
		t.Fatalf("the codec is called %q, which the other side does not know", ours.Name())
	}
	for range 3000 {
		want := randomResponse(r)
		ourBytes, err := ours.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		googleBytes, err := google.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(ourBytes.Materialize(), googleBytes.Materialize()) {
			t.Fatalf("%v is written as\n%x\nwant\n%x", want, ourBytes.Materialize(), googleBytes.Materialize())
		}
		got := &bigtablepb.ReadRowsResponse{LastScannedRowKey: []byte("of the response before")}
		if err := ours.Unmarshal(ourBytes, got); err != nil || !proto.Equal(got, want) {
			t.Fatalf("%v is read as\n%v, %v", want, got, err)
		}
	}
}

// The codec writes the fields that it knows and no others: one that a new version of Google's messages
// adds has to be looked at before the library is upgraded.
func TestKnowsEveryField(t *testing.T) {
	t.Parallel()
	for _, m := range []struct {
		message protoreflect.ProtoMessage
		fields  string
	}{
		{&bigtablepb.ReadRowsResponse{}, "chunks last_scanned_row_key request_stats"},
		{&chunk{}, "row_key family_name qualifier timestamp_micros labels value value_size reset_row commit_row"},
	} {
		var names []string
		fields := m.message.ProtoReflect().Descriptor().Fields()
		for i := range fields.Len() {
			names = append(names, string(fields.Get(i).Name()))
		}
		if got := strings.Join(names, " "); got != m.fields {
			t.Errorf("%T has the fields\n%s, the codec knows\n%s", m.message, got, m.fields)
		}
	}
}

func TestInvalidFamilyIsRefused(t *testing.T) {
	t.Parallel()
	res := &bigtablepb.ReadRowsResponse{Chunks: []*chunk{{FamilyName: wrapperspb.String("\xff")}}}
	if _, err := rowcodec.New().Marshal(res); err == nil {
		t.Error("a family that is not UTF-8 was written")
	}
}

func TestOtherMessagesPass(t *testing.T) {
	t.Parallel()
	want := &bigtablepb.ReadRowsRequest{TableName: "t", RowsLimit: 7}
	data, err := rowcodec.New().Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	got := &bigtablepb.ReadRowsRequest{}
	if err := rowcodec.New().Unmarshal(data, got); err != nil || !proto.Equal(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
}

// What a server sent stays as it was when the transport uses its buffer again.
func TestDecodedRowsOwnTheirBytes(t *testing.T) {
	t.Parallel()
	want := &bigtablepb.ReadRowsResponse{Chunks: []*chunk{{RowKey: []byte("key"), Value: []byte("value")}, {Value: []byte("next")}}}
	data, err := proto.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	got := &bigtablepb.ReadRowsResponse{}
	if err := rowcodec.New().Unmarshal(mem.BufferSlice{mem.SliceBuffer(data)}, got); err != nil {
		t.Fatal(err)
	}
	clear(data)
	if !proto.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	_ = append(got.Chunks[0].Value, "!!!!"...)
	if !proto.Equal(got, want) {
		t.Errorf("appending to a value wrote into its neighbour: %v", got)
	}
}

// FuzzDecode reads any bytes as the protobuf library does: the same message, or an error as well.
func FuzzDecode(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		data, err := proto.Marshal(randomResponse(r))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte{0x0a, 0x02, 0x48, 0x02}) // commit_row is 2
	f.Add([]byte{0x0a, 0x03, 0x38, 0xff, 0x01})
	f.Fuzz(func(t *testing.T, data []byte) {
		got, want := &bigtablepb.ReadRowsResponse{}, &bigtablepb.ReadRowsResponse{}
		wantErr := proto.Unmarshal(data, want)
		// In two buffers, as frames come.
		half := len(data) / 2
		err := rowcodec.New().Unmarshal(mem.BufferSlice{mem.SliceBuffer(slices.Clone(data[:half])), mem.SliceBuffer(slices.Clone(data[half:]))}, got)
		if (err == nil) != (wantErr == nil) || err == nil && !proto.Equal(got, want) {
			t.Fatalf("%x is read as\n%v, %v\nwant\n%v, %v", data, got, err, want, wantErr)
		}
	})
}

func BenchmarkUnmarshal(b *testing.B) {
	res := &bigtablepb.ReadRowsResponse{}
	for row := range 100 {
		for i, name := range []string{"delay_minutes", "departed_at", "destination", "distance_miles", "origin"} {
			c := &chunk{Qualifier: wrapperspb.Bytes([]byte(name)), TimestampMicros: 1e15, Value: []byte("2001-01-01T00:47:00Z")}
			if i == 0 {
				c.RowKey, c.FamilyName = []byte{byte(row), 1, 2, 3, 4, 5, 6, 7, 8}, wrapperspb.String("d")
			}
			if i == 4 {
				c.RowStatus = commit(true)
			}
			res.Chunks = append(res.Chunks, c)
		}
	}
	for name, codec := range map[string]encoding.CodecV2{"rowcodec": rowcodec.New(), "protobuf": encoding.GetCodecV2(standard.Name)} {
		data, err := codec.Marshal(res)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := codec.Unmarshal(data, &bigtablepb.ReadRowsResponse{}); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"-marshal", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				data, err := codec.Marshal(res)
				if err != nil {
					b.Fatal(err)
				}
				data.Free()
			}
		})
	}
}
