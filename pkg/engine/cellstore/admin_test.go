package cellstore

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"cloud.google.com/go/bigtable"
	"cloud.google.com/go/bigtable/admin/apiv2/adminpb"
	"cloud.google.com/go/bigtable/apiv2/bigtablepb"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
)

func (e *env) modify(mods ...*adminpb.ModifyColumnFamiliesRequest_Modification) (*adminpb.Table, error) {
	return e.adm.ModifyColumnFamilies(e.t.Context(), &adminpb.ModifyColumnFamiliesRequest{Name: tableNamed("t"), Modifications: mods})
}

func createFam(id string, cf *adminpb.ColumnFamily) *adminpb.ModifyColumnFamiliesRequest_Modification {
	return &adminpb.ModifyColumnFamiliesRequest_Modification{Id: id, Mod: &adminpb.ModifyColumnFamiliesRequest_Modification_Create{Create: cf}}
}

func updateFam(id string, cf *adminpb.ColumnFamily, paths ...string) *adminpb.ModifyColumnFamiliesRequest_Modification {
	m := &adminpb.ModifyColumnFamiliesRequest_Modification{Id: id, Mod: &adminpb.ModifyColumnFamiliesRequest_Modification_Update{Update: cf}}
	if len(paths) > 0 {
		m.UpdateMask = &fieldmaskpb.FieldMask{Paths: paths}
	}
	return m
}

func dropFam(id string) *adminpb.ModifyColumnFamiliesRequest_Modification {
	return &adminpb.ModifyColumnFamiliesRequest_Modification{Id: id, Mod: &adminpb.ModifyColumnFamiliesRequest_Modification_Drop{Drop: true}}
}

func TestCreateTableErrors(t *testing.T) {
	t.Parallel()
	e := serve(t, Options{})
	e.createTable("taken", nil)
	for _, tt := range []struct {
		name string
		req  *adminpb.CreateTableRequest
		code codes.Code
	}{
		{"empty", &adminpb.CreateTableRequest{}, codes.InvalidArgument},
		{"parent", &adminpb.CreateTableRequest{Parent: "projects/p", TableId: "t"}, codes.InvalidArgument},
		{"id", &adminpb.CreateTableRequest{Parent: testParent, TableId: "-t"}, codes.InvalidArgument},
		{"slash", &adminpb.CreateTableRequest{Parent: testParent, TableId: "a/b"}, codes.InvalidArgument},
		{"long id", &adminpb.CreateTableRequest{Parent: testParent, TableId: strings.Repeat("t", 51)}, codes.InvalidArgument},
		{"longest id", &adminpb.CreateTableRequest{Parent: testParent, TableId: strings.Repeat("t", 50)}, codes.OK},
		{"taken", &adminpb.CreateTableRequest{Parent: testParent, TableId: "taken"}, codes.AlreadyExists},
		{"family", &adminpb.CreateTableRequest{Parent: testParent, TableId: "t", Table: &adminpb.Table{ColumnFamilies: fams("a b")}}, codes.InvalidArgument},
		{"family length", &adminpb.CreateTableRequest{Parent: testParent, TableId: "t", Table: &adminpb.Table{ColumnFamilies: fams(strings.Repeat("f", 65))}}, codes.InvalidArgument},
		{"rule", &adminpb.CreateTableRequest{Parent: testParent, TableId: "t", Table: &adminpb.Table{ColumnFamilies: map[string]*adminpb.ColumnFamily{"d": family1(versions(-1))}}}, codes.InvalidArgument},
		{"granularity", &adminpb.CreateTableRequest{Parent: testParent, TableId: "t", Table: &adminpb.Table{Granularity: 9}}, codes.InvalidArgument},
		{"streams", &adminpb.CreateTableRequest{Parent: testParent, TableId: "t", Table: &adminpb.Table{ChangeStreamConfig: &adminpb.ChangeStreamConfig{}}}, codes.Unimplemented},
		{"split", &adminpb.CreateTableRequest{Parent: testParent, TableId: "t", InitialSplits: []*adminpb.CreateTableRequest_Split{nil}}, codes.InvalidArgument},
		{"nil family", &adminpb.CreateTableRequest{Parent: testParent, TableId: "nf", Table: &adminpb.Table{ColumnFamilies: map[string]*adminpb.ColumnFamily{"-.d_": nil}}}, codes.OK},
	} {
		if _, err := e.adm.CreateTable(t.Context(), tt.req); status.Code(err) != tt.code {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.code)
		}
	}
}

// A request with one bad modification changes nothing.
func TestModifyColumnFamilies(t *testing.T) {
	t.Parallel()
	e := serve(t, Options{})
	e.createTable("t", map[string]*adminpb.ColumnFamily{"a": family1(versions(1)), "s": sumFamily()})
	for _, tt := range []struct {
		name string
		mods []*adminpb.ModifyColumnFamiliesRequest_Modification
		code codes.Code
	}{
		{"none", nil, codes.InvalidArgument},
		{"unset", []*adminpb.ModifyColumnFamiliesRequest_Modification{{Id: "a"}}, codes.InvalidArgument},
		{"nil", []*adminpb.ModifyColumnFamiliesRequest_Modification{nil}, codes.InvalidArgument},
		{"exists", []*adminpb.ModifyColumnFamiliesRequest_Modification{createFam("new", nil), createFam("a", nil)}, codes.AlreadyExists},
		{"unknown update", []*adminpb.ModifyColumnFamiliesRequest_Modification{createFam("new", nil), updateFam("x", nil)}, codes.NotFound},
		{"unknown drop", []*adminpb.ModifyColumnFamiliesRequest_Modification{dropFam("a"), dropFam("x")}, codes.NotFound},
		{"mask", []*adminpb.ModifyColumnFamiliesRequest_Modification{updateFam("a", nil, "stats")}, codes.InvalidArgument},
		{"aggregate", []*adminpb.ModifyColumnFamiliesRequest_Modification{updateFam("s", nil, "value_type")}, codes.InvalidArgument},
		{"rule", []*adminpb.ModifyColumnFamiliesRequest_Modification{createFam("new", nil), updateFam("a", family1(versions(0)))}, codes.InvalidArgument},
	} {
		if _, err := e.modify(tt.mods...); status.Code(err) != tt.code {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.code)
		}
	}
	tbl, err := e.adm.GetTable(t.Context(), &adminpb.GetTableRequest{Name: tableNamed("t")})
	if err != nil {
		t.Fatal(err)
	}
	if len(tbl.ColumnFamilies) != 2 || tbl.ColumnFamilies["a"].GetGcRule().GetMaxNumVersions() != 1 {
		t.Errorf("a failed request changed the table: %v", tbl)
	}
	// Dropped and made again in one request, the family is empty.
	e.mustMutate("t", "r", setCell("a", "q", 1000, "old"))
	if _, err := e.modify(dropFam("a"), createFam("a", family1(versions(3))), updateFam("a", family1(versions(2)), "gc_rule")); err != nil {
		t.Fatal(err)
	}
	if got := e.mustRead("t", nil); len(got) != 0 {
		t.Errorf("the new family shows %q", got)
	}
}

func TestDeletionProtection(t *testing.T) {
	t.Parallel()
	e := serve(t, Options{})
	adm := adminClient(t, e.conn)
	ctx := testContext(t)
	err := adm.CreateTableFromConf(ctx, &bigtable.TableConf{
		TableID: "t", Families: map[string]bigtable.GCPolicy{"d": bigtable.MaxVersionsPolicy(1)}, DeletionProtection: bigtable.Protected,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := adm.DeleteTable(ctx, "t"); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("DeleteTable: %v", err)
	}
	if err := adm.DeleteColumnFamily(ctx, "t", "d"); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("DeleteColumnFamily: %v", err)
	}
	if err := adm.UpdateTableWithDeletionProtection(ctx, "t", bigtable.Unprotected); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"change_stream_config", "automated_backup_policy.frequency"} {
		_, err := e.adm.UpdateTable(ctx, &adminpb.UpdateTableRequest{
			Table: &adminpb.Table{Name: tableNamed("t")}, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{path}},
		})
		if status.Code(err) != codes.Unimplemented {
			t.Errorf("UpdateTable %s: %v", path, err)
		}
	}
	held := e.s.tables[tableNamed("t")]
	if err := adm.DeleteTable(ctx, "t"); err != nil {
		t.Errorf("DeleteTable: %v", err)
	}
	if held.schema.Load() != nil {
		t.Error("a request that waits for the deleted table could still write to it")
	}
	if err := adm.DeleteTable(ctx, "t"); status.Code(err) != codes.NotFound {
		t.Errorf("DeleteTable again: %v", err)
	}
}

func TestListTables(t *testing.T) {
	t.Parallel()
	e := serve(t, Options{})
	var want []string
	for i := range 25 {
		e.createTable(fmt.Sprintf("t%02d", i), fams("d"))
		want = append(want, tableNamed(fmt.Sprintf("t%02d", i)))
	}
	var got []string
	req := &adminpb.ListTablesRequest{Parent: testParent, PageSize: 10}
	for {
		res, err := e.adm.ListTables(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		if len(res.Tables) > 10 {
			t.Errorf("page of %d", len(res.Tables))
		}
		for _, tbl := range res.Tables {
			got = append(got, tbl.Name)
		}
		if req.PageToken = res.NextPageToken; req.PageToken == "" {
			break
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if _, err := e.adm.ListTables(t.Context(), &adminpb.ListTablesRequest{Parent: testParent, PageToken: "!"}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("bad token: %v", err)
	}
	res, err := e.adm.ListTables(t.Context(), &adminpb.ListTablesRequest{Parent: "projects/other/instances/other"})
	if err != nil || len(res.Tables) != 0 {
		t.Errorf("other instance: %v, %v", res, err)
	}
}

func TestConsistency(t *testing.T) {
	t.Parallel()
	e := serve(t, Options{})
	e.createTable("t", nil)
	if err := adminClient(t, e.conn).WaitForReplication(testContext(t), "t"); err != nil {
		t.Error(err)
	}
	_, err := e.adm.CheckConsistency(t.Context(), &adminpb.CheckConsistencyRequest{Name: tableNamed("t"), ConsistencyToken: "x"})
	if status.Code(err) != codes.InvalidArgument {
		t.Errorf("bad token: %v", err)
	}
}

// What was written, made and dropped is the same after a reopening; the folder
// opens once at a time.
func TestReopen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	e := serve(t, Options{Dir: dir})
	e.createTable("t", map[string]*adminpb.ColumnFamily{"a": family1(versions(1)), "s": sumFamily(), "gone": nil})
	e.createTable("deleted", fams("d"))
	e.mustMutate("deleted", "r", setCell("d", "q", 1000, "must not come back"))
	e.mustMutate("t", "r1", setCell("a", "q", 1000, "v"), addToCell("s", "n", 0, 5), setCell("gone", "q", 1000, "x"))
	e.mustMutate("t", "r2", setCell("a", "q", 1000, "dropped by prefix"))
	if _, err := e.modify(dropFam("gone")); err != nil {
		t.Fatal(err)
	}
	if _, err := e.adm.DropRowRange(t.Context(), &adminpb.DropRowRangeRequest{
		Name: tableNamed("t"), Target: &adminpb.DropRowRangeRequest_RowKeyPrefix{RowKeyPrefix: []byte("r2")},
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := e.adm.DeleteTable(t.Context(), &adminpb.DeleteTableRequest{Name: tableNamed("deleted")}); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("second Open: %v", err)
	}
	before := e.mustRead("t", nil)
	e.stop()
	if err := e.s.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	e = serve(t, Options{Dir: dir})
	if diff := cmp.Diff(before, e.mustRead("t", nil)); diff != "" || len(before) != 2 {
		t.Errorf("after reopening: %s", diff)
	}
	e.createTable("deleted", fams("d"))
	if got := e.mustRead("deleted", nil); len(got) != 0 {
		t.Errorf("a new table of a deleted one's name shows %q", got)
	}
	e.mustMutate("t", "r1", addToCell("s", "n", 0, 1))
	if n, err := e.s.CollectGarbage(t.Context()); err != nil || n != 1 {
		t.Errorf("collected %d, %v, want the dropped family's cell", n, err)
	}
}

func TestClosed(t *testing.T) {
	t.Parallel()
	e := serve(t, Options{})
	e.createTable("t", fams("d"))
	if err := e.s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := e.mutate("t", "r", setCell("d", "q", 0, "")); status.Code(err) != codes.Unavailable {
		t.Errorf("write: %v", err)
	}
	if _, err := e.readAll("t", nil); status.Code(err) != codes.Unavailable {
		t.Errorf("read: %v", err)
	}
	_, err := e.adm.CreateTable(t.Context(), &adminpb.CreateTableRequest{Parent: testParent, TableId: "u"})
	if status.Code(err) != codes.Unavailable {
		t.Errorf("create: %v", err)
	}
	if st := e.s.Stats(); st.Tables != nil {
		t.Errorf("stats: %v", st)
	}
}

func TestOpenErrors(t *testing.T) {
	t.Parallel()
	if _, err := Open(Options{MemTableBytes: 1}); err == nil || !strings.Contains(err.Error(), "MemTableBytes") {
		t.Errorf("MemTableBytes: %v", err)
	}
	fs := &fullFS{FS: vfs.NewMem(), err: errors.New("broken")}
	all := ""
	fs.refuse.Store(&all)
	if _, err := Open(Options{fs: fs}); err == nil {
		t.Error("Open succeeds on a broken disk")
	}
}

func TestStatsAndSamples(t *testing.T) {
	t.Parallel()
	e := serve(t, Options{MemTableBytes: 256 << 10})
	if _, err := e.adm.CreateTable(t.Context(), &adminpb.CreateTableRequest{
		Parent: testParent, TableId: "bench", Table: &adminpb.Table{ColumnFamilies: fams("d")},
		InitialSplits: []*adminpb.CreateTableRequest_Split{{Key: []byte("m")}, {Key: []byte("b")}, {Key: []byte("m")}},
	}); err != nil {
		t.Fatal(err)
	}
	const rows = 60_000
	for i := range rows / 1000 {
		if err := e.sendBatch(benchBatch(i*1000, 1000)); err != nil {
			t.Fatal(err)
		}
	}
	e.createTable("small", fams("d"))
	e.mustMutate("small", "r", setCell("d", "q", 0, ""))
	st := e.s.Stats()
	if len(st.Tables) != 2 || st.Tables[0].Name != tableNamed("bench") || st.Tables[1].Rows != 1 || st.DiskBytes == 0 {
		t.Errorf("stats %+v", st)
	}
	if n := st.Tables[0].Rows; n < rows/2 || n > rows*2 {
		t.Errorf("%d rows estimated, want about %d", n, rows)
	}
	stream, err := e.data.SampleRowKeys(t.Context(), &bigtablepb.SampleRowKeysRequest{TableName: tableNamed("bench")})
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	var offset int64
	for {
		res, err := stream.Recv()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if res.OffsetBytes < offset {
			t.Errorf("offset %d after %d", res.OffsetBytes, offset)
		}
		offset = res.OffsetBytes
		keys = append(keys, string(res.RowKey))
	}
	last := len(keys) - 1
	if last < 3 || keys[last] != "" || !slices.IsSorted(keys[:last]) || !slices.Contains(keys, "b") || !slices.Contains(keys, "m") {
		t.Errorf("samples %q", keys)
	}
}
