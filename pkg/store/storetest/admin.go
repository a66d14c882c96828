package storetest

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/store"
)

const day = 24 * time.Hour

// gcRule returns the garbage collection rule of a table's data family as the client prints it.
func (s *suite) gcRule(t *testing.T, table string) string {
	t.Helper()
	info, err := s.rawAdmin.TableInfo(limited(t), table)
	if err != nil {
		t.Fatalf("describe table %s: %v", table, err)
	}
	for _, family := range info.FamilyInfos {
		if family.Name == dataset.Family {
			return family.GCPolicy
		}
	}
	t.Fatalf("table %s has families %q, not %q", table, info.Families, dataset.Family)
	return ""
}

func (s *suite) ensure(t *testing.T, want store.Table) {
	t.Helper()
	if err := s.admin.Ensure(limited(t), want); err != nil {
		t.Fatalf("ensure %+v: %v", want, err)
	}
}

func testEnsure(t *testing.T, s *suite) {
	table := s.newName()
	s.ensure(t, store.Table{Name: table})
	s.put(t, table, row("k", eventTime(), "a", "1"))
	s.ensure(t, store.Table{Name: table})
	if names, err := s.admin.Tables(limited(t)); err != nil || !slices.Contains(names, table) {
		t.Errorf("tables are %q, %v, and %s is not among them", names, err, table)
	}
	if keys := s.scan(t, table, store.Scan{}); !slices.Equal(keys, []string{"k"}) {
		t.Errorf("rows after the second ensure: %q, want the one from before", keys)
	}
}

func testEnsureConcurrently(t *testing.T, s *suite) {
	if s.backend.OneAdmin {
		t.Skip("this backend changes a table without a lock")
	}
	want := store.Table{Name: s.newName(), MaxAge: 30 * day}
	ctx := limited(t)
	var workers sync.WaitGroup
	for range 8 {
		workers.Go(func() {
			if err := s.admin.Ensure(ctx, want); err != nil {
				t.Errorf("ensure beside others: %v", err)
			}
		})
	}
	workers.Wait()
	s.put(t, want.Name, row("k", time.Now(), "a", "1"))
}

func testEnsureFamily(t *testing.T, s *suite) {
	table := s.newName()
	if err := s.rawAdmin.CreateTable(limited(t), table); err != nil {
		t.Fatal(err)
	}
	s.ensure(t, store.Table{Name: table})
	s.put(t, table, row("k", eventTime(), "a", "1"))
}

func testEnsureGC(t *testing.T, s *suite) {
	table := s.newName()
	for _, tc := range []struct {
		maxAge time.Duration
		want   []string
	}{
		{0, []string{"versions() > 1"}},
		{400 * day, []string{"versions() > 1", "age() > 400d", "||"}},
		{7 * day, []string{"versions() > 1", "age() > 7d", "||"}},
		{0, []string{"versions() > 1"}},
	} {
		s.ensure(t, store.Table{Name: table, MaxAge: tc.maxAge})
		rule := s.gcRule(t, table)
		for _, part := range tc.want {
			if !strings.Contains(rule, part) {
				t.Errorf("max age %v gives rule %q, want %q in it", tc.maxAge, rule, part)
			}
		}
		if tc.maxAge == 0 && strings.Contains(rule, "age()") {
			t.Errorf("no max age gives rule %q, want rows kept", rule)
		}
	}
}

func testMissing(t *testing.T, s *suite) {
	present := s.newTable(t)
	absent, other := s.newName(), s.newName()
	got, err := s.admin.Missing(limited(t), []store.Table{{Name: absent}, {Name: present}, {Name: other}})
	if err != nil || !slices.Equal(got, []string{absent, other}) {
		t.Errorf("missing: %q, %v; want %q", got, err, []string{absent, other})
	}
	bare := s.newName()
	if err := s.rawAdmin.CreateTable(limited(t), bare); err != nil {
		t.Fatal(err)
	}
	got, err = s.admin.Unfit(limited(t), []store.Table{{Name: absent}, {Name: present}, {Name: bare}})
	if err != nil || !slices.Equal(got, []string{bare}) {
		t.Errorf("without the family: %q, %v; want %q", got, err, bare)
	}
	got, err = s.admin.Missing(limited(t), []store.Table{{Name: present}})
	if err != nil || len(got) != 0 {
		t.Errorf("missing: %q, %v; want none", got, err)
	}
}
