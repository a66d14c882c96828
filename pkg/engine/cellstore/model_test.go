package cellstore

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/bigtable/admin/apiv2/adminpb"
	"cloud.google.com/go/bigtable/apiv2/bigtablepb"
	"github.com/google/go-cmp/cmp"
)

// modelCell names a cell of the naive model, whose rows are one flat map.
type modelCell struct {
	row, fam, qualifier string
	ts                  int64
}

type model struct {
	cells map[modelCell]string
	fams  []string // in the order of their creation
	rules map[string]func(index int, ageMillis int64) (garbage bool)
}

func (m *model) deleteIf(doomed func(modelCell) bool) {
	for c := range m.cells {
		if doomed(c) {
			delete(m.cells, c)
		}
	}
}

// visible lists what a read at the time now must return; collect removes the
// rest, which a deletion of newer cells could otherwise bring back.
func (m *model) visible(now int64, collect bool) []string {
	var keys []modelCell
	for c := range m.cells {
		keys = append(keys, c)
	}
	slices.SortFunc(keys, func(a, b modelCell) int {
		if c := strings.Compare(a.row, b.row); c != 0 {
			return c
		}
		if c := slices.Index(m.fams, a.fam) - slices.Index(m.fams, b.fam); c != 0 {
			return c
		}
		if c := strings.Compare(a.qualifier, b.qualifier); c != 0 {
			return c
		}
		return int(b.ts - a.ts)
	})
	var out []string
	index := 0
	for i, c := range keys {
		if i == 0 || keys[i-1].row != c.row || keys[i-1].fam != c.fam || keys[i-1].qualifier != c.qualifier {
			index = 0
		}
		if rule := m.rules[c.fam]; rule == nil || !rule(index, now-c.ts/1000) {
			out = append(out, fmt.Sprintf("%s %s:%s@%d=%s", c.row, c.fam, c.qualifier, c.ts, m.cells[c]))
		} else if collect {
			delete(m.cells, c)
		}
		index++
	}
	return out
}

// modelRun drives a store and the model side by side.
type modelRun struct {
	rng   *rand.Rand
	clock *fakeClock
	m     *model
	e     *env
	open  func() *env
}

func (r *modelRun) row() string { return []string{"a", "a\x00", "ab", "b", "\xff"}[r.rng.IntN(5)] }
func (r *modelRun) fam() string { return r.m.fams[r.rng.IntN(len(r.m.fams))] }

// mutations makes mutations and what they do to the model; a bad one makes the
// whole row fail.
func (r *modelRun) mutations(row string) (muts []*bigtablepb.Mutation, effects []func(), bad bool) {
	for range 1 + r.rng.IntN(4) {
		fam, qualifier := r.fam(), []string{"", "q", "q\x00"}[r.rng.IntN(3)]
		ts := (r.clock.Now().UnixMilli() - int64(r.rng.IntN(8))) * 1000
		switch r.rng.IntN(12) {
		case 0:
			muts = append(muts, deleteRow())
			effects = append(effects, func() { r.m.deleteIf(func(c modelCell) bool { return c.row == row }) })
		case 1:
			muts = append(muts, deleteRange(fam, qualifier, ts-2000, ts))
			effects = append(effects, func() {
				r.m.deleteIf(func(c modelCell) bool {
					return c.row == row && c.fam == fam && c.qualifier == qualifier && c.ts >= ts-2000 && c.ts < ts
				})
			})
		case 2:
			if r.rng.IntN(2) == 0 {
				muts, bad = append(muts, setCell("nosuch", "q", ts, "v")), true
			}
		default:
			value := fmt.Sprint(r.rng.IntN(1000))
			muts = append(muts, setCell(fam, qualifier, ts, value))
			effects = append(effects, func() { r.m.cells[modelCell{row, fam, qualifier, ts}] = value })
		}
	}
	return muts, effects, bad || len(muts) == 0
}

func (r *modelRun) step(t *testing.T) {
	switch n := r.rng.IntN(40); {
	case n < 26:
		req := &bigtablepb.MutateRowsRequest{TableName: tableNamed("t")}
		var apply []func()
		for range 1 + r.rng.IntN(4) {
			row := r.row()
			muts, effects, bad := r.mutations(row)
			req.Entries = append(req.Entries, &bigtablepb.MutateRowsRequest_Entry{RowKey: []byte(row), Mutations: muts})
			if !bad {
				apply = append(apply, effects...)
			}
		}
		_ = r.e.sendBatch(req) // bad rows fail
		for _, f := range apply {
			f()
		}
	case n < 30:
		r.clock.advance(time.Duration(r.rng.IntN(4)) * time.Millisecond)
	case n < 33:
		if _, err := r.e.s.CollectGarbage(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.m.visible(r.clock.Now().UnixMilli(), true)
	case n < 35:
		prefix := r.row()
		if _, err := r.e.adm.DropRowRange(t.Context(), &adminpb.DropRowRangeRequest{
			Name: tableNamed("t"), Target: &adminpb.DropRowRangeRequest_RowKeyPrefix{RowKeyPrefix: []byte(prefix)},
		}); err != nil {
			t.Fatal(err)
		}
		r.m.deleteIf(func(c modelCell) bool { return strings.HasPrefix(c.row, prefix) })
	case n < 37:
		// Only the family without a rule is renewed: it goes to the end.
		if _, err := r.e.modify(dropFam("plain"), createFam("plain", nil)); err != nil {
			t.Fatal(err)
		}
		r.m.deleteIf(func(c modelCell) bool { return c.fam == "plain" })
		r.m.fams = append(slices.DeleteFunc(r.m.fams, func(f string) bool { return f == "plain" }), "plain")
	case n < 38:
		r.e.stop()
		r.e = r.open()
	}
}

// Whatever is done to a store, it shows what the naive model shows.
func TestAgainstModel(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			clock, dir := newFakeClock(), t.TempDir()
			r := &modelRun{rng: rand.New(rand.NewPCG(seed, 5)), clock: clock}
			r.open = func() *env { return serve(t, Options{Dir: dir, Now: clock.Now, MemTableBytes: 64 << 10}) }
			r.m = &model{
				cells: map[modelCell]string{},
				fams:  []string{"both", "either", "new", "plain", "two"},
				rules: map[string]func(int, int64) bool{
					"two":    func(i int, _ int64) bool { return i >= 2 },
					"new":    func(_ int, age int64) bool { return age > 5 },
					"either": func(i int, age int64) bool { return i >= 3 || age > 5 },
					"both":   func(i int, age int64) bool { return i >= 1 && age > 5 },
				},
			}
			r.e = r.open()
			r.e.createTable("t", map[string]*adminpb.ColumnFamily{
				"two": family1(versions(2)), "new": family1(maxAge(5 * time.Millisecond)), "plain": nil,
				"either": family1(union(versions(3), maxAge(5*time.Millisecond))),
				"both":   family1(intersection(versions(1), maxAge(5*time.Millisecond))),
			})
			for step := range 250 {
				r.step(t)
				want := r.m.visible(clock.Now().UnixMilli(), false)
				if diff := cmp.Diff(want, r.e.mustRead("t", nil)); diff != "" {
					t.Fatalf("seed %d step %d (-model +store):\n%s", seed, step, diff)
				}
				reversed := r.e.mustRead("t", &bigtablepb.ReadRowsRequest{Reversed: true})
				if len(reversed) != len(want) {
					t.Fatalf("seed %d step %d: %d cells reversed, want %d", seed, step, len(reversed), len(want))
				}
			}
		})
	}
}
