package cellstore

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"cloud.google.com/go/bigtable/apiv2/bigtablepb"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
)

// testRow is a row with two families, three columns and several versions, and
// bytes that are not UTF-8.
func testRow() []cell {
	a, b := &family{id: 1, name: "a"}, &family{id: 2, name: "b"}
	return []cell{
		{family: a, qualifier: []byte("x"), micros: 3000, value: []byte("v3")},
		{family: a, qualifier: []byte("x"), micros: 2000, value: []byte("v2")},
		{family: a, qualifier: []byte("y\n"), micros: 3000, value: []byte("")},
		{family: b, qualifier: []byte("x"), micros: 5000, value: []byte("\xff\x00")},
		{family: b, qualifier: []byte("x"), micros: 1000, value: []byte("v1")},
	}
}

func cellsText(cells []cell) string {
	var s []string
	for _, c := range cells {
		text := fmt.Sprintf("%s:%s@%d=%s", c.family.name, c.qualifier, c.micros/1000, c.value)
		if c.label != "" {
			text += "[" + c.label + "]"
		}
		s = append(s, strings.ReplaceAll(strings.ReplaceAll(text, "\n", "^"), "\xff\x00", "!"))
	}
	return strings.Join(s, " ")
}

// filterOf parses a filter's text form.
func filterOf(t testing.TB, text string) *bigtablepb.RowFilter {
	t.Helper()
	f := &bigtablepb.RowFilter{}
	if err := prototext.Unmarshal([]byte(text), f); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return f
}

const everything = "a:x@3=v3 a:x@2=v2 a:y^@3= b:x@5=! b:x@1=v1"

func TestFilters(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ filter, want string }{
		{``, everything},
		{`pass_all_filter: true`, everything},
		{`block_all_filter: true`, ""},
		{`row_key_regex_filter: "ro."`, everything},
		{`row_key_regex_filter: "ro"`, ""}, // the whole key must match
		{`row_key_regex_filter: "row"`, everything},
		{`row_key_regex_filter: "a|row"`, everything},
		{`family_name_regex_filter: "[a]"`, "a:x@3=v3 a:x@2=v2 a:y^@3="},
		{`family_name_regex_filter: "b"`, "b:x@5=! b:x@1=v1"},
		{`column_qualifier_regex_filter: "x"`, "a:x@3=v3 a:x@2=v2 b:x@5=! b:x@1=v1"},
		{`column_qualifier_regex_filter: "y."`, ""}, // . is not a newline
		{`column_qualifier_regex_filter: "y\\C"`, "a:y^@3="},
		{`column_qualifier_regex_filter: "\\Qx\\E"`, "a:x@3=v3 a:x@2=v2 b:x@5=! b:x@1=v1"},
		{`value_regex_filter: "v[12]"`, "a:x@2=v2 b:x@1=v1"},
		{`value_regex_filter: ""`, "a:y^@3="},
		{`value_regex_filter: "\\C*"`, everything},
		{`value_regex_filter: "\\xff\\x00"`, "b:x@5=!"},
		{`value_regex_filter: "\xff\\C"`, "b:x@5=!"},
		{`value_regex_filter: "\xff\x00"`, "b:x@5=!"},
		{`column_range_filter {family_name: "a"}`, "a:x@3=v3 a:x@2=v2 a:y^@3="},
		{`column_range_filter {family_name: "a" start_qualifier_open: "x"}`, "a:y^@3="},
		{`column_range_filter {family_name: "a" start_qualifier_closed: "x" end_qualifier_open: "y"}`, "a:x@3=v3 a:x@2=v2"},
		{`column_range_filter {family_name: "a" end_qualifier_closed: "x"}`, "a:x@3=v3 a:x@2=v2"},
		{`column_range_filter {family_name: "z"}`, ""},
		{`timestamp_range_filter {start_timestamp_micros: 2000 end_timestamp_micros: 5000}`, "a:x@3=v3 a:x@2=v2 a:y^@3="},
		{`timestamp_range_filter {start_timestamp_micros: 3000}`, "a:x@3=v3 a:y^@3= b:x@5=!"},
		{`value_range_filter {start_value_closed: "v1" end_value_closed: "v2"}`, "a:x@2=v2 b:x@1=v1"},
		{`value_range_filter {start_value_open: "v1" end_value_open: "v3"}`, "a:x@2=v2"},
		{`value_range_filter {end_value_open: "v1"}`, "a:y^@3="},
		{`value_range_filter {start_value_open: ""}`, "a:x@3=v3 a:x@2=v2 b:x@5=! b:x@1=v1"},
		{`value_bitmask_filter {mask: "\x80\x00"}`, "b:x@5=!"},
		{`cells_per_row_limit_filter: 3`, "a:x@3=v3 a:x@2=v2 a:y^@3="},
		{`cells_per_row_offset_filter: 3`, "b:x@5=! b:x@1=v1"},
		{`cells_per_row_offset_filter: 0`, everything},
		{`cells_per_column_limit_filter: 1`, "a:x@3=v3 a:y^@3= b:x@5=!"},
		{`strip_value_transformer: true`, "a:x@3= a:x@2= a:y^@3= b:x@5= b:x@1="},
		{`chain {filters {family_name_regex_filter: "b"} filters {apply_label_transformer: "l-1"}}`, "b:x@5=![l-1] b:x@1=v1[l-1]"},
		{`chain {filters {block_all_filter: true} filters {pass_all_filter: true}}`, ""},
		{`chain {filters {cells_per_column_limit_filter: 1} filters {family_name_regex_filter: "a"} filters {cells_per_row_offset_filter: 1}}`, "a:y^@3="},
		{`interleave {filters {value_regex_filter: "v1"} filters {family_name_regex_filter: "b"}}`, "b:x@5=! b:x@1=v1 b:x@1=v1"},
		{`interleave {filters {strip_value_transformer: true} filters {cells_per_row_limit_filter: 1}}`, "a:x@3= a:x@3=v3 a:x@2= a:y^@3= b:x@5= b:x@1="},
		{`chain {filters {interleave {filters {pass_all_filter: true} filters {pass_all_filter: true}}} filters {cells_per_column_limit_filter: 3}}`,
			"a:x@3=v3 a:x@3=v3 a:x@2=v2 a:y^@3= a:y^@3= b:x@5=! b:x@5=! b:x@1=v1"},
		{`condition {predicate_filter {value_regex_filter: "v1"} true_filter {family_name_regex_filter: "a"} false_filter {family_name_regex_filter: "b"}}`,
			"a:x@3=v3 a:x@2=v2 a:y^@3="},
		{`condition {predicate_filter {value_regex_filter: "no"} true_filter {family_name_regex_filter: "a"} false_filter {family_name_regex_filter: "b"}}`,
			"b:x@5=! b:x@1=v1"},
		{`condition {predicate_filter {value_regex_filter: "no"} true_filter {pass_all_filter: true}}`, ""},
		{`condition {predicate_filter {strip_value_transformer: true} true_filter {value_regex_filter: "v1"}}`, "b:x@1=v1"},
		{`chain {filters {family_name_regex_filter: "b"}
			filters {interleave {filters {pass_all_filter: true} filters {chain {filters {apply_label_transformer: "foo"} filters {sink: true}}}}}
			filters {timestamp_range_filter {start_timestamp_micros: 5000}}}`,
			"b:x@5=! b:x@5=![foo] b:x@1=v1[foo]"},
		{`sink: true`, everything},
	} {
		f, err := compileFilter(filterOf(t, tt.filter))
		if err != nil {
			t.Errorf("%s: %v", tt.filter, err)
			continue
		}
		for range 2 { // a compiled filter keeps no state
			if got := cellsText(f.run([]byte("row"), testRow())); got != tt.want {
				t.Errorf("%s:\n got %s\nwant %s", tt.filter, got, tt.want)
			}
		}
	}
}

func TestFilterErrors(t *testing.T) {
	t.Parallel()
	nested := &bigtablepb.RowFilter{Filter: &bigtablepb.RowFilter_PassAllFilter{PassAllFilter: true}}
	for range maxFilterDepth {
		nested = &bigtablepb.RowFilter{Filter: &bigtablepb.RowFilter_Chain_{
			Chain: &bigtablepb.RowFilter_Chain{Filters: []*bigtablepb.RowFilter{nested, nil}},
		}}
	}
	filters := []*bigtablepb.RowFilter{nested}
	for _, text := range []string{
		`pass_all_filter: false`, `block_all_filter: false`, `sink: false`, `strip_value_transformer: false`,
		`chain {}`, `chain {filters {pass_all_filter: true}}`, `interleave {}`, `condition {}`,
		`condition {predicate_filter {sink: true}}`,
		`condition {predicate_filter {pass_all_filter: true} true_filter {sink: true}}`,
		`row_key_regex_filter: ""`, `row_key_regex_filter: "("`, `value_regex_filter: "a)|(b"`, `value_regex_filter: "["`,
		`value_regex_filter: "(((a{100}){100}){100})"`, `value_regex_filter: "` + strings.Repeat("a{1000}", 1000) + `"`,
		`family_name_regex_filter: "a:b"`, `column_qualifier_regex_filter: "(?P<n"`,
		`row_sample_filter: 0`, `row_sample_filter: 1`, `row_sample_filter: nan`, `row_sample_filter: -1`,
		`cells_per_row_limit_filter: 0`, `cells_per_row_offset_filter: -1`, `cells_per_column_limit_filter: -5`,
		`apply_label_transformer: ""`, `apply_label_transformer: "UPPER"`, `apply_label_transformer: "0123456789abcdef"`,
		`chain {filters {apply_label_transformer: "a"} filters {interleave {filters {apply_label_transformer: "b"} filters {pass_all_filter: true}}}}`,
		`value_regex_filter: "` + strings.Repeat("x", maxFilterBytes) + `"`,
	} {
		filters = append(filters, filterOf(t, text))
	}
	for _, f := range filters {
		if _, err := compileFilter(f); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%.100v: error %v, want InvalidArgument", f, err)
		}
	}
}

func TestRowSample(t *testing.T) {
	t.Parallel()
	f, err := compileFilter(filterOf(t, `row_sample_filter: 0.3`))
	if err != nil {
		t.Fatal(err)
	}
	passed := 0
	for range 10_000 {
		switch n := len(f.run([]byte("row"), testRow())); n {
		case 5:
			passed++
		case 0:
		default:
			t.Fatalf("%d cells passed: a sample takes a row whole", n)
		}
	}
	if passed < 2500 || passed > 3500 {
		t.Errorf("%d of 10000 rows passed, want about 3000", passed)
	}
}

// A filter of any shape compiles or errs; run, it neither panics nor loses the
// row's order.
func FuzzFilter(f *testing.F) {
	for _, text := range []string{
		`interleave {filters {sink: true} filters {cells_per_row_limit_filter: 2}}`,
		`condition {predicate_filter {value_regex_filter: "\\C+"} true_filter {strip_value_transformer: true}}`,
		`chain {filters {cells_per_row_offset_filter: 1} filters {cells_per_column_limit_filter: 2147483647}}`,
		`column_range_filter {}`, `value_range_filter {}`, `timestamp_range_filter {}`, `value_bitmask_filter {}`,
		`row_key_regex_filter: "\\Q\\E[\\x80-\\xff]"`,
	} {
		raw, err := proto.Marshal(filterOf(f, text))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		p := &bigtablepb.RowFilter{}
		if proto.Unmarshal(raw, p) != nil {
			return
		}
		c, err := compileFilter(p)
		if err != nil {
			if code := status.Code(err); code != codes.InvalidArgument && code != codes.Unimplemented {
				t.Errorf("error %v", err)
			}
			return
		}
		out := c.run([]byte("row"), testRow())
		if !slices.IsSortedFunc(out, compareCells) {
			t.Errorf("out of order: %s", cellsText(out))
		}
	})
}

// RE2 expressions over bytes mean the same after their translation.
func TestPatternRewrite(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		expr, match, miss string
	}{
		{`abc`, "abc", "abcd"},
		{``, "", "a"},
		{`a.c`, "a\xffc", "a\nc"},
		{`a\Cc`, "a\nc", "ac"},
		{`\Q.*\E+`, ".**", ".*x"},
		{`\Qa`, "a", `\Qa`},
		{"\\Q\xff.\\E", "\xff.", "\xffa"},
		{"\xc3\xa9", "\xc3\xa9", "\xe9"},
		{"[\x80-\xff]+", "\x80\xfe", "a"},
		{"\\\xff", "\xff", "a"},
		{`\x00\x01`, "\x00\x01", "\x00"},
		{`(?i)Ab`, "aB", "b"},
		{`a|ab`, "ab", "b"},
		{`^a$`, "a", "aa"},
	} {
		p, err := newPattern([]byte(tt.expr))
		if err != nil {
			t.Errorf("%q: %v", tt.expr, err)
			continue
		}
		if !p.match([]byte(tt.match)) || p.match([]byte(tt.miss)) {
			t.Errorf("%q: matches %q: %v, matches %q: %v", tt.expr, tt.match, p.match([]byte(tt.match)), tt.miss, p.match([]byte(tt.miss)))
		}
	}
}

// Filters work on rows from disk, and the limit counts rows with results only.
func TestFilterAndLimit(t *testing.T) {
	t.Parallel()
	e := serve(t, Options{})
	e.createTable("t", fams("d"))
	for i := range 100 {
		e.mustMutate("t", fmt.Sprintf("r%02d", i), setCell("d", "q", 1000, fmt.Sprint(i%10)))
	}
	filter := filterOf(t, `value_regex_filter: "7"`)
	want := []string{"r07 d:q@1000=7", "r17 d:q@1000=7", "r27 d:q@1000=7"}
	got := e.mustRead("t", &bigtablepb.ReadRowsRequest{Filter: filter, RowsLimit: 3})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	want = []string{"r97 d:q@1000=7", "r87 d:q@1000=7"}
	got = e.mustRead("t", &bigtablepb.ReadRowsRequest{Filter: filter, RowsLimit: 2, Reversed: true})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
