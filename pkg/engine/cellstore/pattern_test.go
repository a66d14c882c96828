package cellstore

import (
	"io"
	"slices"
	"testing"

	"cloud.google.com/go/bigtable/admin/apiv2/adminpb"
	"cloud.google.com/go/bigtable/apiv2/bigtablepb"
	"rsc.io/binaryregexp"
)

// Alternatives of plain text are compared by bytes; that must mean what the expression means.
func TestLiteralAlternatives(t *testing.T) {
	t.Parallel()
	inputs := []string{"", "a", "b", "ab", "a|b", "|", "é", "\xff", "aa"}
	for _, expr := range []string{"", "a", "a|b", "ab|a", "|", "a|", "|b", "a||b", "é|\xff", "a|a"} {
		p, err := newPattern([]byte(expr))
		if err != nil || p.re != nil {
			t.Fatalf("%q: compiled to %v, %v, want plain text", expr, p.re, err)
		}
		re := binaryregexp.MustCompile(`\A(?:` + rewritePattern([]byte(expr)) + `)\z`)
		for _, in := range inputs {
			if got, want := p.match([]byte(in)), re.MatchString(in); got != want || p.matchString(in) != want {
				t.Errorf("%q matches %q: %v and %v, want %v", expr, in, got, p.matchString(in), want)
			}
		}
	}
}

// A reader takes over the memory of the one before it, and nothing else.
func TestReadersKeepNothingOfEarlierRequests(t *testing.T) {
	t.Parallel()
	e := serve(t, Options{})
	e.createTable("t", map[string]*adminpb.ColumnFamily{"d": family1(versions(1))})
	for _, row := range []string{"a", "b", "c"} {
		e.mustMutate("t", row, setCell("d", "x", 1000, row+"x"), setCell("d", "y", 1000, row+"y"))
	}
	column := func(name string) *bigtablepb.RowFilter {
		return &bigtablepb.RowFilter{Filter: &bigtablepb.RowFilter_ColumnQualifierRegexFilter{ColumnQualifierRegexFilter: []byte(name)}}
	}
	all := []string{"a d:x ax", "a d:y ay", "b d:x bx", "b d:y by", "c d:x cx", "c d:y cy"}
	for range 3 {
		for _, tc := range []struct {
			req  *bigtablepb.ReadRowsRequest
			want []string
		}{
			{&bigtablepb.ReadRowsRequest{Filter: column("x"), RowsLimit: 1}, all[:1]},
			{&bigtablepb.ReadRowsRequest{}, all},
			{&bigtablepb.ReadRowsRequest{Filter: column("y|z"), Reversed: true, RowsLimit: 2}, []string{"c d:y cy", "b d:y by"}},
			{&bigtablepb.ReadRowsRequest{Rows: &bigtablepb.RowSet{RowKeys: [][]byte{[]byte("c"), []byte("a"), []byte("none")}}}, []string{all[0], all[1], all[4], all[5]}},
			{&bigtablepb.ReadRowsRequest{Filter: column("z")}, nil},
		} {
			if got := e.cellsOf(tc.req); !slices.Equal(got, tc.want) {
				t.Errorf("%v: got %q, want %q", tc.req, got, tc.want)
			}
		}
	}
}

// cellsOf reads rows of the table t as "row family:qualifier value".
func (e *env) cellsOf(req *bigtablepb.ReadRowsRequest) []string {
	e.t.Helper()
	req.TableName = tableNamed("t")
	stream, err := e.data.ReadRows(withFeatures(e.t.Context(), &bigtablepb.FeatureFlags{ReverseScans: true}), req)
	if err != nil {
		e.t.Fatal(err)
	}
	var cells []string
	var row, family, qualifier string
	for {
		res, err := stream.Recv()
		if err == io.EOF {
			return cells
		}
		if err != nil {
			e.t.Fatal(err)
		}
		for _, c := range res.GetChunks() {
			if len(c.GetRowKey()) > 0 {
				row = string(c.GetRowKey())
			}
			if c.GetFamilyName() != nil {
				family = c.GetFamilyName().GetValue()
			}
			if c.GetQualifier() != nil {
				qualifier = string(c.GetQualifier().GetValue())
			}
			cells = append(cells, row+" "+family+":"+qualifier+" "+string(c.GetValue()))
		}
	}
}
