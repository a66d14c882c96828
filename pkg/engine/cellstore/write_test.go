package cellstore

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/bigtable/admin/apiv2/adminpb"
	"cloud.google.com/go/bigtable/apiv2/bigtablepb"
	"github.com/google/go-cmp/cmp"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func deleteRow() *bigtablepb.Mutation {
	return &bigtablepb.Mutation{Mutation: &bigtablepb.Mutation_DeleteFromRow_{DeleteFromRow: &bigtablepb.Mutation_DeleteFromRow{}}}
}

func deleteRange(fam, qualifier string, start, end int64) *bigtablepb.Mutation {
	return &bigtablepb.Mutation{Mutation: &bigtablepb.Mutation_DeleteFromColumn_{DeleteFromColumn: &bigtablepb.Mutation_DeleteFromColumn{
		FamilyName: fam, ColumnQualifier: []byte(qualifier),
		TimeRange: &bigtablepb.TimestampRange{StartTimestampMicros: start, EndTimestampMicros: end},
	}}}
}

// Every entry gets its own status, and a row with a bad mutation stays as it was.
func TestMutateRowsStatuses(t *testing.T) {
	t.Parallel()
	e := serve(t, Options{})
	e.createTable("t", fams("d"))
	good := setCell("d", "q", 1000, "v")
	entries := []struct {
		row  string
		muts []*bigtablepb.Mutation
		code codes.Code
		text string
	}{
		{"ok", []*bigtablepb.Mutation{good}, codes.OK, ""},
		{"second", []*bigtablepb.Mutation{good, setCell("nosuch", "q", 1000, "v")}, codes.NotFound, `Requested column family not found: "nosuch"`},
		{"time", []*bigtablepb.Mutation{good, setCell("d", "q", 1001, "v")}, codes.InvalidArgument, "Timestamp granularity mismatch. Expected a multiple of 1000"},
		{"negative", []*bigtablepb.Mutation{setCell("d", "q", -2, "v")}, codes.InvalidArgument, "Invalid timestamp"},
		{"", []*bigtablepb.Mutation{good}, codes.InvalidArgument, "Row keys must be non-empty"},
		{strings.Repeat("k", maxRowKeyBytes), []*bigtablepb.Mutation{good}, codes.OK, ""},
		{strings.Repeat("k", maxRowKeyBytes+1), []*bigtablepb.Mutation{good}, codes.InvalidArgument, "limit 4096"},
		{"longest", []*bigtablepb.Mutation{setCell("d", strings.Repeat("q", maxQualifierBytes), 1000, "v")}, codes.OK, ""},
		{"too long", []*bigtablepb.Mutation{good, setCell("d", strings.Repeat("q", maxQualifierBytes+1), 1000, "v")}, codes.InvalidArgument, "limit 16384"},
		{"none", nil, codes.InvalidArgument, "No mutations provided"},
		{"unset", []*bigtablepb.Mutation{good, {}}, codes.InvalidArgument, "empty"},
		{"range", []*bigtablepb.Mutation{good, deleteRange("d", "q", 2000, 1000)}, codes.InvalidArgument, "Invalid time range"},
		{"\xff\x00", []*bigtablepb.Mutation{setCell("no\"such", "q", 0, "")}, codes.NotFound, `row '\xff\x00'`},
		{"sum", []*bigtablepb.Mutation{good, addToCell("d", "q", 0, 1)}, codes.InvalidArgument, "not an aggregate"},
	}
	req := &bigtablepb.MutateRowsRequest{TableName: tableNamed("t")}
	for _, en := range entries {
		req.Entries = append(req.Entries, &bigtablepb.MutateRowsRequest_Entry{RowKey: []byte(en.row), Mutations: en.muts})
	}
	got := statuses(t, e, req)
	var want []string
	for i, en := range entries {
		if st := status.FromProto(got[i]); st.Code() != en.code || !strings.Contains(st.Message(), en.text) {
			t.Errorf("%.10q: %v, want %v with %q", en.row, st, en.code, en.text)
		}
		if en.code == codes.OK {
			want = append(want, en.row)
		}
	}
	var rows []string
	for _, c := range e.mustRead("t", nil) {
		row, _, _ := strings.Cut(c, " ")
		rows = append(rows, row)
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, rows); diff != "" {
		t.Errorf("rows written: %s", diff)
	}
}

func statuses(t *testing.T, e *env, req *bigtablepb.MutateRowsRequest) map[int]*spb.Status {
	t.Helper()
	stream, err := e.data.MutateRows(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	got := map[int]*spb.Status{}
	for {
		res, err := stream.Recv()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range res.Entries {
			got[int(entry.Index)] = entry.Status
		}
	}
	if len(got) != len(req.Entries) {
		t.Fatalf("%d statuses for %d entries", len(got), len(req.Entries))
	}
	return got
}

func TestRequestLimits(t *testing.T) {
	t.Parallel()
	e := serve(t, Options{})
	e.createTable("t", fams("d"))
	muts := slices.Repeat([]*bigtablepb.Mutation{setCell("d", "q", 1000, "v")}, maxMutations)
	if err := e.mutate("t", "r", muts...); err != nil {
		t.Errorf("%d mutations: %v", len(muts), err)
	}
	muts = append(muts, muts[0])
	err := e.mutate("t", "r", muts...)
	if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "Too many mutations: 100001 provided; limit 100000") {
		t.Errorf("%d mutations: %v", len(muts), err)
	}
	half := len(muts) / 2
	err = e.sendBatch(&bigtablepb.MutateRowsRequest{TableName: tableNamed("t"), Entries: []*bigtablepb.MutateRowsRequest_Entry{
		{RowKey: []byte("a"), Mutations: muts[:half]}, {RowKey: []byte("b"), Mutations: muts[half:]},
	}})
	if status.Code(err) != codes.InvalidArgument {
		t.Errorf("too many mutations in two entries: %v", err)
	}
	err = e.mutate("gone", "r", setCell("d", "q", 1000, "v"))
	if status.Code(err) != codes.NotFound || !strings.Contains(err.Error(), tableNamed("gone")) {
		t.Errorf("unknown table: %v", err)
	}
	sc := &schema{families: map[string]*family{"d": {name: "d"}}, unit: 1000}
	huge := &bigtablepb.Mutation_SetCell{FamilyName: "d", Value: make([]byte, maxValueBytes+1)}
	if err := sc.checkSetCell([]byte("r"), huge, 0); status.Code(err) != codes.InvalidArgument {
		t.Errorf("value of %d bytes: %v", len(huge.Value), err)
	}
}

// Mutations of a row see those before them, in one request and across entries.
func TestMutationOrder(t *testing.T) {
	t.Parallel()
	clock := newFakeClock()
	e := serve(t, Options{Now: clock.Now})
	e.createTable("t", fams("d", "e"))
	e.mustMutate("t", "r", setCell("d", "old", 1000, "v"), setCell("e", "old", 1000, "v"))
	err := e.sendBatch(&bigtablepb.MutateRowsRequest{TableName: tableNamed("t"), Entries: []*bigtablepb.MutateRowsRequest_Entry{
		{RowKey: []byte("r"), Mutations: []*bigtablepb.Mutation{
			setCell("d", "a", 1000, "1"), deleteRow(), setCell("d", "b", 1000, "2"), setCell("d", "b", 2000, "3"), setCell("d", "b", 3000, "4"),
		}},
		{RowKey: []byte("r"), Mutations: []*bigtablepb.Mutation{deleteRange("d", "b", 1000, 2000), deleteRange("d", "b", 3000, 0), setCell("e", "c", -1, "now")}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"r d:b@2000=3", fmt.Sprintf("r e:c@%d=now", clock.Now().UnixMilli()*1000)}
	if diff := cmp.Diff(want, e.mustRead("t", nil)); diff != "" {
		t.Error(diff)
	}
}

// A deletion of more cells than are deleted one by one.
func TestDeleteWideRow(t *testing.T) {
	t.Parallel()
	e := serve(t, Options{})
	e.createTable("t", fams("d", "e"))
	var muts []*bigtablepb.Mutation
	for i := range 2 * pointDeletes {
		muts = append(muts, setCell("d", fmt.Sprint(i), 1000, "v"))
	}
	e.mustMutate("t", "r", append(muts, setCell("e", "q", 1000, "stays"))...)
	e.mustMutate("t", "r\x00", setCell("d", "q", 1000, "stays"))
	e.mustMutate("t", "r", &bigtablepb.Mutation{Mutation: &bigtablepb.Mutation_DeleteFromFamily_{
		DeleteFromFamily: &bigtablepb.Mutation_DeleteFromFamily{FamilyName: "d"},
	}})
	want := []string{"r e:q@1000=stays", "r\x00 d:q@1000=stays"}
	if diff := cmp.Diff(want, e.mustRead("t", nil)); diff != "" {
		t.Error(diff)
	}
}

func TestMicrosGranularity(t *testing.T) {
	t.Parallel()
	e := serve(t, Options{})
	if _, err := e.adm.CreateTable(t.Context(), &adminpb.CreateTableRequest{Parent: testParent, TableId: "t", Table: &adminpb.Table{
		ColumnFamilies: fams("d"), Granularity: adminpb.Table_MICROS,
	}}); err != nil {
		t.Fatal(err)
	}
	e.mustMutate("t", "r", setCell("d", "q", 1001, "v"))
	e.createTable("ms", fams("d"))
	auto := setCell("d", "q", 1999, "v")
	auto.TimestampOrigin = bigtablepb.Mutation_CLIENT_AUTO_GENERATED
	e.mustMutate("ms", "r", auto)
	if diff := cmp.Diff([]string{"r d:q@1000=v"}, e.mustRead("ms", nil)); diff != "" {
		t.Error(diff)
	}
}

func addToCell(fam, qualifier string, ts, n int64) *bigtablepb.Mutation {
	return &bigtablepb.Mutation{Mutation: &bigtablepb.Mutation_AddToCell_{AddToCell: &bigtablepb.Mutation_AddToCell{
		FamilyName:      fam,
		ColumnQualifier: &bigtablepb.Value{Kind: &bigtablepb.Value_RawValue{RawValue: []byte(qualifier)}},
		Timestamp:       &bigtablepb.Value{Kind: &bigtablepb.Value_RawTimestampMicros{RawTimestampMicros: ts}},
		Input:           &bigtablepb.Value{Kind: &bigtablepb.Value_IntValue{IntValue: n}},
	}}}
}

func sumFamily() *adminpb.ColumnFamily {
	return &adminpb.ColumnFamily{ValueType: &adminpb.Type{Kind: &adminpb.Type_AggregateType{AggregateType: &adminpb.Type_Aggregate{
		InputType:  &adminpb.Type{Kind: &adminpb.Type_Int64Type{Int64Type: &adminpb.Type_Int64{}}},
		Aggregator: &adminpb.Type_Aggregate_Sum_{Sum: &adminpb.Type_Aggregate_Sum{}},
	}}}}
}

// addOnce applies mutations to row r through one method or the other.
func (e *env) addOnce(bulk bool, muts []*bigtablepb.Mutation) error {
	if !bulk {
		return e.mutate("t", "r", muts...)
	}
	return e.sendBatch(&bigtablepb.MutateRowsRequest{TableName: tableNamed("t"), Entries: []*bigtablepb.MutateRowsRequest_Entry{
		{RowKey: []byte("r"), Mutations: muts[:1]}, {RowKey: []byte("r"), Mutations: muts[1:]},
	}})
}

// Concurrent additions, increments and check-and-mutates lose nothing.
func TestConcurrentReadModifyWrite(t *testing.T) {
	t.Parallel()
	const workers, each = 8, 25
	// The clock is read between a row's read and its write: a slow one makes
	// lost updates certain if nothing prevents them.
	e := serve(t, Options{Now: func() time.Time { time.Sleep(50 * time.Microsecond); return time.Now() }})
	e.createTable("t", map[string]*adminpb.ColumnFamily{"sum": sumFamily(), "d": family1(versions(1))})
	var wg sync.WaitGroup
	var mu sync.Mutex
	wins := 0
	for w := range workers {
		wg.Go(func() {
			for i := range each {
				add := []*bigtablepb.Mutation{addToCell("sum", "n", 0, 2), addToCell("sum", "n", 0, -1)}
				if err := e.addOnce(i%2 == 0, add); err != nil {
					t.Error(err)
				}
				if _, err := e.data.ReadModifyWriteRow(t.Context(), &bigtablepb.ReadModifyWriteRowRequest{
					TableName: tableNamed("t"), RowKey: []byte("r"),
					Rules: []*bigtablepb.ReadModifyWriteRule{{FamilyName: "d", ColumnQualifier: []byte("n"),
						Rule: &bigtablepb.ReadModifyWriteRule_IncrementAmount{IncrementAmount: 1}}},
				}); err != nil {
					t.Error(err)
				}
				if err := e.mutate("t", "r", setCell("d", "noise", 1000, fmt.Sprint(w, i))); err != nil {
					t.Error(err)
				}
				res, err := e.data.CheckAndMutateRow(t.Context(), &bigtablepb.CheckAndMutateRowRequest{
					TableName: tableNamed("t"), RowKey: fmt.Appendf(nil, "once%d", i),
					FalseMutations: []*bigtablepb.Mutation{setCell("d", "winner", 1000, fmt.Sprint(w))},
				})
				if err != nil {
					t.Error(err)
				} else if !res.PredicateMatched {
					mu.Lock()
					wins++
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	want := string(binary.BigEndian.AppendUint64(nil, workers*each))
	got := map[string]bool{}
	for _, c := range e.mustRead("t", &bigtablepb.ReadRowsRequest{Rows: &bigtablepb.RowSet{RowKeys: [][]byte{[]byte("r")}}}) {
		_, value, _ := strings.Cut(c, "=")
		got[value] = true
	}
	if !got[want] || len(got) != 2 {
		t.Errorf("cells %v, want the sum and the counter at %q", got, want)
	}
	if wins != each {
		t.Errorf("%d rows were created, want %d", wins, each)
	}
}

func TestReadModifyWriteErrors(t *testing.T) {
	t.Parallel()
	e := serve(t, Options{})
	e.createTable("t", fams("d"))
	e.mustMutate("t", "r", setCell("d", "text", 1000, "abc"), setCell("d", "none", 1000, ""))
	increment := &bigtablepb.ReadModifyWriteRule_IncrementAmount{IncrementAmount: 1}
	for _, tt := range []struct {
		rule *bigtablepb.ReadModifyWriteRule
		code codes.Code
	}{
		{&bigtablepb.ReadModifyWriteRule{FamilyName: "d", ColumnQualifier: []byte("text"), Rule: increment}, codes.FailedPrecondition},
		{&bigtablepb.ReadModifyWriteRule{FamilyName: "d", ColumnQualifier: []byte("none"), Rule: increment}, codes.FailedPrecondition},
		{&bigtablepb.ReadModifyWriteRule{FamilyName: "x", Rule: increment}, codes.NotFound},
		{&bigtablepb.ReadModifyWriteRule{FamilyName: "d"}, codes.InvalidArgument},
		{nil, codes.NotFound},
	} {
		_, err := e.data.ReadModifyWriteRow(t.Context(), &bigtablepb.ReadModifyWriteRowRequest{
			TableName: tableNamed("t"), RowKey: []byte("r"),
			Rules: []*bigtablepb.ReadModifyWriteRule{
				{FamilyName: "d", ColumnQualifier: []byte("other"), Rule: increment}, tt.rule,
			},
		})
		if status.Code(err) != tt.code {
			t.Errorf("rule %v: %v, want %v", tt.rule, err, tt.code)
		}
	}
	if diff := cmp.Diff([]string{"r d:none@1000=", "r d:text@1000=abc"}, e.mustRead("t", nil)); diff != "" {
		t.Errorf("a failed rule left something: %s", diff)
	}
}

// Large cells arrive in chunks that the official client accepts, and a row over
// the limit is refused.
func TestLargeCells(t *testing.T) {
	t.Parallel()
	e := serve(t, Options{MaxRowBytes: 20 << 20})
	e.createTable("t", fams("d"))
	big := bytes.Repeat([]byte("0123456789abcdef"), (9<<20)/16)
	exact := big[:splitBytes]
	e.mustMutate("t", "big", setCell("d", "a", 2000, string(big)), setCell("d", "a", 1000, "small"),
		setCell("d", "b", 1000, string(exact)), setCell("d", "c", 1000, ""), setCell("d", "d", 1000, string(big[:2*splitBytes+1])))
	e.mustMutate("t", "next", setCell("d", "a", 1000, string(big)))
	tbl := client(t, e.conn).Open("t")
	row, err := tbl.ReadRow(testContext(t), "big")
	if err != nil {
		t.Fatal(err)
	}
	want := [][]byte{big, []byte("small"), exact, {}, big[:2*splitBytes+1]}
	for i, it := range row["d"] {
		if !bytes.Equal(it.Value, want[i]) {
			t.Errorf("cell %d has %d bytes, want %d", i, len(it.Value), len(want[i]))
		}
	}
	e.mustMutate("t", "big", setCell("d", "e", 1000, string(big)))
	if _, err := e.readAll("t", nil); status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "'big'") {
		t.Errorf("row over the limit: %v", err)
	}
	if got := e.mustRead("t", &bigtablepb.ReadRowsRequest{Rows: &bigtablepb.RowSet{RowKeys: [][]byte{[]byte("next")}}}); len(got) != 1 {
		t.Errorf("the row after it: %d cells", len(got))
	}
}
