package cellstore

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"cloud.google.com/go/bigtable/admin/apiv2/adminpb"
	"cloud.google.com/go/bigtable/apiv2/bigtablepb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
)

// emulatorFault is a request that the Cloud SDK's emulator was seen to answer
// unlike Bigtable's documentation, and the answer that this store gives.
type emulatorFault struct {
	fault string
	ask   func(*probe) string
	want  string
}

// probe is a table with row "r", of three families, and one of sums.
type probe struct {
	*env
	table string
}

func probing(t *testing.T, conn *grpc.ClientConn) *probe {
	return &probe{env: &env{
		t: t, conn: conn, data: bigtablepb.NewBigtableClient(conn), adm: adminpb.NewBigtableTableAdminClient(conn),
	}}
}

func (p *probe) newTable(i int) *probe {
	q := &probe{env: p.env, table: fmt.Sprint("fault-", i)}
	families := fams("a", "m", "z")
	families["sum"] = sumFamily()
	q.createTable(q.table, families)
	q.mustMutate(q.table, "r", setCell("a", "x", 1000, "a"), setCell("m", "x", 1000, "text"), setCell("z", "x", 1000, "z"))
	return q
}

// read reads with a ReadRowsRequest in text form and says what came, cells
// sorted, as the order of families is nobody's business.
func (p *probe) read(text string) string {
	p.t.Helper()
	req := &bigtablepb.ReadRowsRequest{}
	if err := prototext.Unmarshal([]byte(text), req); err != nil {
		p.t.Fatalf("%s: %v", text, err)
	}
	out, err := p.readAll(p.table, req)
	slices.Sort(out)
	return strings.Join(append(out, status.Code(err).String()), " ")
}

// reads asks 16 times and joins the different answers.
func (p *probe) reads(text string) string {
	var answers []string
	for range 16 {
		answers = append(answers, p.read(text))
	}
	slices.Sort(answers)
	return strings.Join(slices.Compact(answers), " or ")
}

func (p *probe) set(row string, muts ...*bigtablepb.Mutation) string {
	return status.Code(p.mutate(p.table, row, muts...)).String()
}

func (p *probe) bulk(muts ...*bigtablepb.Mutation) string {
	stream, err := p.data.MutateRows(testContext(p.t), &bigtablepb.MutateRowsRequest{
		TableName: tableNamed(p.table), Entries: []*bigtablepb.MutateRowsRequest_Entry{{RowKey: []byte("r"), Mutations: muts}},
	})
	if err != nil {
		return err.Error()
	}
	res, err := stream.Recv()
	if err != nil || len(res.Entries) != 1 {
		return fmt.Sprint(res, err)
	}
	return codes.Code(res.Entries[0].Status.GetCode()).String()
}

func (p *probe) conditional(yes, no []*bigtablepb.Mutation) string {
	_, err := p.data.CheckAndMutateRow(testContext(p.t), &bigtablepb.CheckAndMutateRowRequest{
		TableName: tableNamed(p.table), RowKey: []byte("r"), TrueMutations: yes, FalseMutations: no,
	})
	return status.Code(err).String()
}

func (p *probe) modify(rules ...*bigtablepb.ReadModifyWriteRule) string {
	_, err := p.data.ReadModifyWriteRow(testContext(p.t), &bigtablepb.ReadModifyWriteRowRequest{
		TableName: tableNamed(p.table), RowKey: []byte("r"), Rules: rules,
	})
	return status.Code(err).String()
}

func increment(fam, qualifier string) *bigtablepb.ReadModifyWriteRule {
	return &bigtablepb.ReadModifyWriteRule{
		FamilyName: fam, ColumnQualifier: []byte(qualifier), Rule: &bigtablepb.ReadModifyWriteRule_IncrementAmount{IncrementAmount: 1},
	}
}

// admin sends a request in text form, with the table's name in it, and says
// which families the table then has.
func admin[T proto.Message, R any](
	call func(adminpb.BigtableTableAdminClient, T, *probe) (R, error), req T, text string,
) func(*probe) string {
	return func(p *probe) string {
		req := proto.Clone(req).(T)
		text := strings.NewReplacer("TABLE", tableNamed(p.table), "PARENT", testParent).Replace(text)
		if err := prototext.Unmarshal([]byte(text), req); err != nil {
			p.t.Fatalf("%s: %v", text, err)
		}
		_, err := call(p.adm, req, p)
		table, gerr := p.adm.GetTable(testContext(p.t), &adminpb.GetTableRequest{Name: tableNamed(p.table)})
		if gerr != nil {
			return gerr.Error()
		}
		return fmt.Sprint(status.Code(err), len(table.ColumnFamilies))
	}
}

func createTable(text string) func(*probe) string {
	return admin(func(a adminpb.BigtableTableAdminClient, req *adminpb.CreateTableRequest, p *probe) (*adminpb.Table, error) {
		return a.CreateTable(testContext(p.t), req)
	}, &adminpb.CreateTableRequest{}, text)
}

func modifyFamilies(text string) func(*probe) string {
	return admin(func(a adminpb.BigtableTableAdminClient, req *adminpb.ModifyColumnFamiliesRequest, p *probe) (*adminpb.Table, error) {
		return a.ModifyColumnFamilies(testContext(p.t), req)
	}, &adminpb.ModifyColumnFamiliesRequest{}, text)
}

func dropRows(text string) func(*probe) string {
	return admin(func(a adminpb.BigtableTableAdminClient, req *adminpb.DropRowRangeRequest, p *probe) (any, error) {
		return a.DropRowRange(testContext(p.t), req)
	}, &adminpb.DropRowRangeRequest{}, text)
}

func read(text string) func(*probe) string { return func(p *probe) string { return p.read(text) } }

func set(muts ...*bigtablepb.Mutation) func(*probe) string {
	return func(p *probe) string { return p.set("r", muts...) }
}

// emulatorFaults is the written list. The last one ends the emulator.
func emulatorFaults() []emulatorFault {
	return slices.Concat(writeFaults(), readFaults(), adminFaults(), []emulatorFault{
		{"A negative cells_per_row_offset_filter ends the process.", read(`filter{cells_per_row_offset_filter: -1}`), "InvalidArgument"},
	})
}

func writeFaults() []emulatorFault {
	good, bad := setCell("m", "q", 1000, "v"), setCell("nosuch", "q", 1000, "v")
	dropFamily := &bigtablepb.Mutation{Mutation: &bigtablepb.Mutation_DeleteFromFamily_{
		DeleteFromFamily: &bigtablepb.Mutation_DeleteFromFamily{FamilyName: "nosuch"},
	}}
	half := func(p *probe) string { return p.set("half", good, bad) + " " + p.read(`rows{row_keys: "half"}`) }
	halfRule := func(p *probe) string {
		return p.modify(increment("m", "n"), increment("m", "x")) + " " + p.read(`filter{column_qualifier_regex_filter: "n"}`)
	}
	modify := func(rules ...*bigtablepb.ReadModifyWriteRule) func(p *probe) string {
		return func(p *probe) string { return p.modify(rules...) }
	}
	return []emulatorFault{
		{"A row whose second mutation is refused keeps the first.", half, "NotFound OK"},
		{"An unknown family is Unknown in MutateRow.", set(bad), "NotFound"},
		{"An unknown family is Internal in MutateRows.", func(p *probe) string { return p.bulk(bad) }, "NotFound"},
		{"An unknown family is Unknown in ReadModifyWriteRow.", modify(increment("nosuch", "q")), "NotFound"},
		{"Timestamps finer than the table's are Unknown in MutateRow.", set(setCell("m", "q", 1, "v")), "InvalidArgument"},
		{"Negative timestamps are Internal in MutateRows.", func(p *probe) string { return p.bulk(setCell("m", "q", -2, "v")) }, "InvalidArgument"},
		{"A time range that ends before it starts is Unknown.", set(deleteRange("m", "x", 2000, 1000)), "InvalidArgument"},
		{"A mutation without content is Unknown.", set(&bigtablepb.Mutation{}), "InvalidArgument"},
		{"DeleteFromFamily takes an unknown family.", set(dropFamily), "NotFound"},
		{"Row keys have no limit of 4 KiB.", func(p *probe) string { return p.set(strings.Repeat("k", 4097), good) }, "InvalidArgument"},
		{"Qualifiers have no limit of 16 KiB.", set(setCell("m", strings.Repeat("q", 16385), 0, "")), "InvalidArgument"},
		{"MutateRow has no limit of 100,000 mutations.", set(slices.Repeat([]*bigtablepb.Mutation{good}, 100_001)...), "InvalidArgument"},
		{"CheckAndMutateRow does not look at the other branch.", func(p *probe) string {
			return p.conditional([]*bigtablepb.Mutation{good}, []*bigtablepb.Mutation{bad})
		}, "NotFound"},
		{"CheckAndMutateRow takes no mutations at all.", func(p *probe) string { return p.conditional(nil, nil) }, "InvalidArgument"},
		{"ReadModifyWriteRow takes no rules.", modify(), "InvalidArgument"},
		{"An increment of what is no number is Unknown.", modify(increment("m", "x")), "FailedPrecondition"},
		{"A refused rule keeps what the rules before it wrote.", halfRule, "FailedPrecondition OK"},
		{"SetCell writes into a family of sums.", set(setCell("sum", "q", 0, "v")), "InvalidArgument"},
		{"ReadModifyWriteRow writes into a family of sums.", modify(increment("sum", "q")), "InvalidArgument"},
		{"AddToCell of a family without sums is Unknown.", set(addToCell("m", "q", 0, 1)), "InvalidArgument"},
		{"AddToCell takes timestamps finer than the table's.", set(addToCell("sum", "q", 1, 1)), "InvalidArgument"},
	}
}

func readFaults() []emulatorFault {
	first := func(p *probe) string { return p.reads(`filter{cells_per_row_limit_filter: 1}`) }
	skipped := func(p *probe) string { return p.reads(`filter{cells_per_row_offset_filter: 2}`) }
	return []emulatorFault{
		{"A sink is a filter that passes all.", read(`filter{chain{filters{sink: true} filters{block_all_filter: true}}}`),
			"r a:x@1000=a r m:x@1000=text r z:x@1000=z OK"},
		{"The per-row limit counts families in random order.", first, "r a:x@1000=a OK"},
		{"The per-row offset counts families in random order.", skipped, "r z:x@1000=z OK"},
		{"Labels have no limit of 15 characters.", read(`filter{apply_label_transformer: "abcdefghijklmnop"}`), "InvalidArgument"},
		{"A chain labels twice.", read(`filter{chain{filters{apply_label_transformer: "a"} filters{apply_label_transformer: "b"}}}`), "InvalidArgument"},
		{"strip_value_transformer strips when it is false.", read(`filter{strip_value_transformer: false}`), "InvalidArgument"},
		{"A condition needs no predicate.", read(`filter{condition{true_filter{pass_all_filter: true}}}`), "InvalidArgument"},
		{"rows_limit may be negative, and then reads nothing.", read(`rows_limit: -1`), "InvalidArgument"},
	}
}

func adminFaults() []emulatorFault {
	granularity := func(p *probe) string {
		table, err := p.adm.GetTable(testContext(p.t), &adminpb.GetTableRequest{Name: tableNamed(p.table)})
		return fmt.Sprint(table.GetGranularity(), err)
	}
	return []emulatorFault{
		{"GetTable does not tell the granularity.", granularity, "MILLIS <nil>"},
		{"CreateTable takes any table id.", createTable(`parent: "PARENT" table_id: "a b"`), "InvalidArgument 4"},
		{"ModifyColumnFamilies takes any family id.", modifyFamilies(`name: "TABLE" modifications{id: "a b" create{}}`), "InvalidArgument 4"},
		{"ModifyColumnFamilies takes no modifications.", modifyFamilies(`name: "TABLE"`), "InvalidArgument 4"},
		{"ModifyColumnFamilies keeps what precedes a refused modification, and an unknown family is Unknown.",
			modifyFamilies(`name: "TABLE" modifications{id: "new" create{}} modifications{id: "nosuch" drop: true}`), "NotFound 4"},
		{"DropRowRange takes an empty prefix.", dropRows(`name: "TABLE" row_key_prefix: ""`), "InvalidArgument 4"},
		{"DropRowRange of nothing is Unknown.", dropRows(`name: "TABLE"`), "InvalidArgument 4"},
	}
}
