package cellstore

import (
	"fmt"
	"testing"
	"time"

	"cloud.google.com/go/bigtable/admin/apiv2/adminpb"
	"cloud.google.com/go/bigtable/apiv2/bigtablepb"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

func maxAge(d time.Duration) *adminpb.GcRule {
	return &adminpb.GcRule{Rule: &adminpb.GcRule_MaxAge{MaxAge: durationpb.New(d)}}
}

func union(rules ...*adminpb.GcRule) *adminpb.GcRule {
	return &adminpb.GcRule{Rule: &adminpb.GcRule_Union_{Union: &adminpb.GcRule_Union{Rules: rules}}}
}

func intersection(rules ...*adminpb.GcRule) *adminpb.GcRule {
	return &adminpb.GcRule{Rule: &adminpb.GcRule_Intersection_{Intersection: &adminpb.GcRule_Intersection{Rules: rules}}}
}

func TestGCRules(t *testing.T) {
	t.Parallel()
	const now = 100 * 1_000_000
	ages := []int64{0, 5, 10, 20, 50} // seconds, newest first
	for _, tt := range []struct {
		name string
		rule *adminpb.GcRule
		want string // k keeps, d dooms
	}{
		{"none", nil, "kkkkk"},
		{"unset", &adminpb.GcRule{}, "kkkkk"},
		{"versions", versions(2), "kkddd"},
		{"age", maxAge(10 * time.Second), "kkkdd"},
		{"union", union(versions(4), maxAge(10*time.Second)), "kkkdd"},
		{"union of versions", union(versions(4), versions(1)), "kdddd"},
		{"intersection", intersection(versions(1), maxAge(10*time.Second)), "kkkdd"},
		{"intersection keeps the versions", intersection(versions(4), maxAge(time.Second)), "kkkkd"},
		{"nested", union(intersection(versions(1), maxAge(15*time.Second)), versions(4)), "kkkdd"},
		{"empty union", union(), "kkkkk"},
		{"empty intersection", intersection(), "kkkkk"},
	} {
		rule, err := newGCRule(tt.rule)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		got := ""
		for i, age := range ages {
			if rule.doomed(i, now-age*1_000_000, now) {
				got += "d"
			} else {
				got += "k"
			}
		}
		if got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

func TestGCRuleErrors(t *testing.T) {
	t.Parallel()
	deep := versions(1)
	for range 30 {
		deep = union(deep, versions(2))
	}
	for _, rule := range []*adminpb.GcRule{versions(0), versions(-1), maxAge(0), maxAge(-time.Second), maxAge(time.Microsecond), deep} {
		if _, err := newGCRule(rule); status.Code(err) != codes.InvalidArgument {
			t.Errorf("rule %v: error %v, want InvalidArgument", rule, err)
		}
	}
}

// Garbage is invisible at once, and gone from disk after a collection.
func TestGarbageCollection(t *testing.T) {
	t.Parallel()
	clock := newFakeClock()
	e := serve(t, Options{Now: clock.Now})
	e.createTable("t", map[string]*adminpb.ColumnFamily{
		"keep": family1(nil), "two": family1(versions(2)), "young": family1(maxAge(time.Hour)),
	})
	now := clock.Now().UnixMilli() * 1000
	for i := range int64(5) {
		ts := now + i*1000
		e.mustMutate("t", "r", setCell("keep", "c", ts, "k"), setCell("two", "c", ts, "t"), setCell("young", "c", ts, "y"))
	}
	want := func(n int) {
		t.Helper()
		for _, reversed := range []bool{false, true} {
			if got := e.mustRead("t", &bigtablepb.ReadRowsRequest{Reversed: reversed}); len(got) != n {
				t.Errorf("reversed=%v: %d cells, want %d: %q", reversed, len(got), n, got)
			}
		}
	}
	collected := func(n int) {
		t.Helper()
		if got, err := e.s.CollectGarbage(t.Context()); err != nil || got != n {
			t.Errorf("collected %d, %v, want %d", got, err, n)
		}
	}
	want(5 + 2 + 5)
	collected(3)
	want(5 + 2 + 5)
	clock.advance(2 * time.Hour)
	want(5 + 2)
	collected(5)
	collected(0)
	if _, err := e.adm.ModifyColumnFamilies(t.Context(), &adminpb.ModifyColumnFamiliesRequest{
		Name: tableNamed("t"),
		Modifications: []*adminpb.ModifyColumnFamiliesRequest_Modification{{
			Id: "keep", Mod: &adminpb.ModifyColumnFamiliesRequest_Modification_Drop{Drop: true},
		}},
	}); err != nil {
		t.Fatal(err)
	}
	want(2)
	collected(5)
	collected(0)
	want(2)
	if sc := e.s.tables[tableNamed("t")].schema.Load(); sc.dropped {
		t.Error("the dropped family is collected but not forgotten")
	}
}

// A column with very many old versions is stepped over on read and collected by
// range.
func TestManyVersions(t *testing.T) {
	t.Parallel()
	e := serve(t, Options{})
	e.createTable("t", map[string]*adminpb.ColumnFamily{"d": family1(versions(3))})
	for batch := range 6 {
		var muts []*bigtablepb.Mutation
		for i := range 1000 {
			ts := int64(batch*1000+i) * 1000
			muts = append(muts, setCell("d", "a", ts, "x"), setCell("d", "b\x00", ts, fmt.Sprint(ts)))
		}
		e.mustMutate("t", "row", muts...)
	}
	e.mustMutate("t", "row2", setCell("d", "a", 0, "next"))
	want := []string{
		"row d:a@5999000=x", "row d:a@5998000=x", "row d:a@5997000=x",
		"row d:b\x00@5999000=5999000", "row d:b\x00@5998000=5998000", "row d:b\x00@5997000=5997000",
		"row2 d:a@0=next",
	}
	for range 2 {
		if diff := cmp.Diff(want, e.mustRead("t", nil)); diff != "" {
			t.Error(diff)
		}
		if _, err := e.s.CollectGarbage(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	sc := e.s.tables[tableNamed("t")].schema.Load()
	rows, _, err := e.s.garbageRows(e.s.db, sc, appendTablePrefix(nil, sc.id))
	if err != nil || len(rows) != 0 {
		t.Errorf("%d rows of garbage left, %v", len(rows), err)
	}
}
