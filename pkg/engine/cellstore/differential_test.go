package cellstore

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/bigtable"
	"cloud.google.com/go/bigtable/bttest"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"
)

// The differential suite runs generated operations through the official client
// against this store and against Google's bttest, and wants the same answers.
// It steps around what bttest is known to do wrong:
//
//   - A row is not atomic: what precedes a failing mutation stays. Invalid
//     mutations stand alone here.
//   - Row errors are always Internal; only whether there was one is compared.
//   - It has no limits on keys, qualifiers, values or mutations.
//   - Sink is ignored.
//   - Intersection GC rules are unsupported, and collection runs at its own
//     pace; tables here have no rules.
//   - The per-row offset and limit filters visit families in random order; they
//     are used behind a filter for one family.
//   - Cells with the same column and timestamp, which interleave makes, come in
//     random order; they are sorted before comparing.
//   - CheckAndMutateRow validates the chosen branch only; both are valid here.
//   - DeleteFromFamily of an unknown family is not an error; not generated.
//   - Server timestamps come from its own clock; read-modify-write runs on
//     columns whose newest cell lies in the future, which both then replace.
//
// CELLSTORE_SEED runs one seed, CELLSTORE_SEEDS as many as it says.
const differentialSteps = 300

type subject struct {
	name  string
	table string
	tbl   *bigtable.Table
	adm   *bigtable.AdminClient
}

func bttestConn(t *testing.T) *grpc.ClientConn {
	lis := bufconn.Listen(4 << 20)
	srv, err := bttest.NewServerWithListener(lis, ServerOptions()...)
	if err != nil {
		t.Fatal(err)
	}
	conn := dial(t, lis)
	t.Cleanup(func() {
		_ = conn.Close() // else a failed test would wait for its streams
		go srv.Close()   // it waits for its own deadlocks
	})
	return conn
}

func newSubject(t *testing.T, name, table string, conn *grpc.ClientConn) *subject {
	s := &subject{name: name, table: table, tbl: client(t, conn).Open(table), adm: adminClient(t, conn)}
	if err := s.adm.CreateTable(t.Context(), table); err != nil {
		t.Fatal(err)
	}
	for _, fam := range diffFamilies {
		if err := s.adm.CreateColumnFamily(t.Context(), table, fam); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

var diffFamilies = []string{"m", "a", "z"}

func TestDifferential(t *testing.T) {
	t.Parallel()
	for _, seed := range differentialSeeds() {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			differ(t, seed, newSubject(t, "cellstore", "diff", serve(t, Options{}).conn), newSubject(t, "bttest", "diff", bttestConn(t)))
		})
	}
}

func differentialSeeds() []uint64 {
	if v, err := strconv.ParseUint(os.Getenv("CELLSTORE_SEED"), 10, 64); err == nil {
		return []uint64{v}
	}
	n, err := strconv.ParseUint(os.Getenv("CELLSTORE_SEEDS"), 10, 64)
	if err != nil {
		n = 6
	}
	var seeds []uint64
	for seed := range n {
		seeds = append(seeds, seed+1)
	}
	return seeds
}

// differ runs a seed's operations on both subjects and compares what they say.
func differ(t *testing.T, seed uint64, ours, theirs *subject) {
	t.Helper()
	g := &generator{rng: rand.New(rand.NewPCG(seed, 99))}
	for step := range differentialSteps {
		name, op := g.operation()
		got, want := op(t.Context(), ours), op(t.Context(), theirs)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("seed %d step %d, %s (-%s +%s):\n%s", seed, step, name, theirs.name, ours.name, diff)
		}
	}
}

// operation is run on each subject and describes its outcome.
type operation func(context.Context, *subject) string

type generator struct{ rng *rand.Rand }

func (g *generator) pick(s ...string) string { return s[g.rng.IntN(len(s))] }

func (g *generator) row() string {
	return g.pick("a", "b", "ab", "a\x00", "a\x00b", "a\x01", "a\xff", "c", "ca", "\xff", "\xff\xff", "b\x00\x00", "d1", "d2", "d3")
}

func (g *generator) family() string    { return g.pick(diffFamilies...) }
func (g *generator) qualifier() string { return g.pick("x", "y", "", "x\x00", "\xfe", "long-name") }
func (g *generator) value() string     { return g.pick("", "v", "w", "value", "\x00\xff\n", "12345678") }
func (g *generator) ts() bigtable.Timestamp {
	return bigtable.Timestamp(g.rng.IntN(6) * 1000)
}

func outcome(err error) string {
	if err != nil {
		return "error"
	}
	return "ok"
}

func (g *generator) operation() (string, operation) {
	switch n := g.rng.IntN(100); {
	case n < 25:
		return "apply", g.apply()
	case n < 35:
		return "apply bulk", g.bulk()
	case n < 43:
		return "check and mutate", g.conditional()
	case n < 50:
		return "read-modify-write", g.readModifyWrite()
	case n < 52:
		prefix := g.pick("a", "d", "\xff", "a\x00", "q")
		return "drop rows", func(ctx context.Context, s *subject) string {
			return outcome(s.adm.DropRowRange(ctx, s.table, prefix))
		}
	case n < 54:
		fam := g.family()
		return "renew family", func(ctx context.Context, s *subject) string {
			return outcome(s.adm.DeleteColumnFamily(ctx, s.table, fam)) + outcome(s.adm.CreateColumnFamily(ctx, s.table, fam))
		}
	case n < 56:
		return "table info", func(ctx context.Context, s *subject) string {
			info, err := s.adm.TableInfo(ctx, s.table)
			if err != nil {
				return outcome(err)
			}
			slices.Sort(info.Families)
			return fmt.Sprint(info.Families, info.DeletionProtection)
		}
	default:
		return g.read()
	}
}

// mutation makes a mutation of one row, which may be one that both refuse.
func (g *generator) mutation() *bigtable.Mutation {
	if g.rng.IntN(12) == 0 {
		m := bigtable.NewMutation()
		switch g.rng.IntN(3) {
		case 0:
			m.Set("nosuch", "x", 1000, []byte("v"))
		case 1:
			m.Set(g.family(), "x", 1001, []byte("granularity"))
		case 2:
			m.DeleteCellsInColumn("nosuch", "x")
		}
		return m
	}
	return g.validMutation()
}

func (g *generator) validMutation() *bigtable.Mutation {
	m := bigtable.NewMutation()
	for range 1 + g.rng.IntN(5) {
		switch n := g.rng.IntN(20); {
		case n < 14:
			m.Set(g.family(), g.qualifier(), g.ts(), []byte(g.value()))
		case n < 16:
			m.DeleteCellsInColumn(g.family(), g.qualifier())
		case n < 18:
			start := g.ts()
			end := bigtable.Timestamp(0)
			if g.rng.IntN(3) > 0 {
				end = start + bigtable.Timestamp(1+g.rng.IntN(3))*1000
			}
			m.DeleteTimestampRange(g.family(), g.qualifier(), start, end)
		case n < 19:
			m.DeleteCellsInFamily(g.family())
		default:
			m.DeleteRow()
		}
	}
	return m
}

func (g *generator) apply() operation {
	row, m := g.row(), g.mutation()
	if g.rng.IntN(30) == 0 {
		row = ""
	}
	return func(ctx context.Context, s *subject) string { return outcome(s.tbl.Apply(ctx, row, m)) }
}

func (g *generator) bulk() operation {
	var rows []string
	var muts []*bigtable.Mutation
	for range 1 + g.rng.IntN(20) {
		rows, muts = append(rows, g.row()), append(muts, g.mutation())
	}
	return func(ctx context.Context, s *subject) string {
		errs, err := s.tbl.ApplyBulk(ctx, rows, muts)
		out := outcome(err)
		for _, err := range errs {
			out += " " + outcome(err)
		}
		return out
	}
}

func (g *generator) conditional() operation {
	row, yes, no := g.row(), g.validMutation(), g.validMutation()
	filter := g.filter(2)
	return func(ctx context.Context, s *subject) string {
		var matched bool
		err := s.tbl.Apply(ctx, row, bigtable.NewCondMutation(filter, yes, no), bigtable.GetCondMutationResult(&matched))
		return outcome(err) + fmt.Sprint(matched)
	}
}

func (g *generator) readModifyWrite() operation {
	const future = bigtable.Timestamp(4_102_444_800_000_000)
	row, fam, qualifier, n, value := g.row(), g.family(), g.qualifier(), int64(g.rng.IntN(1000)-500), g.value()
	present := g.pick("\x00\x00\x00\x00\x00\x00\x01\x00", "\xff\xff\xff\xff\xff\xff\xff\xff", "", "short")
	append1 := g.rng.IntN(2) == 0
	return func(ctx context.Context, s *subject) string {
		m := bigtable.NewMutation()
		m.Set(fam, qualifier, future, []byte(present))
		if err := s.tbl.Apply(ctx, row, m); err != nil {
			return outcome(err)
		}
		rmw := bigtable.NewReadModifyWrite()
		rmw.Increment(fam, qualifier, n)
		if append1 {
			rmw.AppendValue(fam, qualifier, []byte(value))
			rmw.AppendValue(fam, qualifier, []byte(value))
		}
		res, err := s.tbl.ApplyReadModifyWrite(ctx, row, rmw)
		return outcome(err) + rowText(res)
	}
}

func rowText(r bigtable.Row) string {
	var b strings.Builder
	var names []string
	for name := range r {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		items := slices.Clone(r[name])
		for i, it := range items {
			for j := i + 1; j < len(items) && items[j].Column == it.Column && items[j].Timestamp == it.Timestamp; j++ {
				if fmt.Sprint(items[j].Labels, items[j].Value) < fmt.Sprint(items[i].Labels, items[i].Value) {
					items[i], items[j] = items[j], items[i]
				}
			}
		}
		for _, it := range items {
			fmt.Fprintf(&b, "%q %q@%d=%q%v\n", it.Row, it.Column, it.Timestamp, it.Value, it.Labels)
		}
	}
	return b.String()
}

func (g *generator) rowSet() bigtable.RowSet {
	a, b := g.row(), g.row()
	if a > b {
		a, b = b, a
	}
	switch g.rng.IntN(10) {
	case 0:
		return bigtable.InfiniteRange("")
	case 1:
		return bigtable.InfiniteRange(a)
	case 2:
		return bigtable.NewRange(a, b)
	case 3:
		return bigtable.NewClosedRange(a, b)
	case 4:
		return bigtable.NewOpenRange(a, b)
	case 5:
		return bigtable.NewOpenClosedRange(a, b)
	case 6:
		return bigtable.PrefixRange(a)
	case 7:
		return bigtable.InfiniteReverseRange(b)
	case 8:
		return bigtable.RowList{g.row(), g.row(), a, a, b}
	default:
		return bigtable.RowRangeList{bigtable.NewRange(a, b), bigtable.PrefixRange(g.row()), bigtable.NewClosedRange(a, a)}
	}
}

func (g *generator) read() (string, operation) {
	set := g.rowSet()
	var opts []bigtable.ReadOption
	name := fmt.Sprintf("read %v", set)
	if g.rng.IntN(3) > 0 {
		f := g.filter(3)
		if g.rng.IntN(4) == 0 {
			f = bigtable.ChainFilters(f, g.transformer())
		}
		name += fmt.Sprintf(" filter %v", f)
		opts = append(opts, bigtable.RowFilter(f))
	}
	if g.rng.IntN(3) == 0 {
		n := int64(1 + g.rng.IntN(5))
		name += fmt.Sprintf(" limit %d", n)
		opts = append(opts, bigtable.LimitRows(n))
	}
	if g.rng.IntN(3) == 0 {
		name += " reversed"
		opts = append(opts, bigtable.ReverseScan())
	}
	return name, func(ctx context.Context, s *subject) string {
		ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
		defer cancel()
		var b strings.Builder
		err := s.tbl.ReadRows(ctx, set, func(r bigtable.Row) bool {
			b.WriteString(rowText(r))
			return true
		}, opts...)
		return b.String() + outcome(err)
	}
}

func (g *generator) transformer() bigtable.Filter {
	if g.rng.IntN(2) == 0 {
		return bigtable.StripValueFilter()
	}
	return bigtable.LabelFilter("label")
}

// filter makes a filter of up to depth levels.
func (g *generator) filter(depth int) bigtable.Filter {
	if depth > 0 && g.rng.IntN(2) == 0 {
		switch g.rng.IntN(4) {
		case 0, 1:
			return bigtable.ChainFilters(g.filter(depth-1), g.filter(depth-1))
		case 2:
			return bigtable.InterleaveFilters(g.filter(depth-1), g.filter(depth-1))
		default:
			var yes, no bigtable.Filter
			if g.rng.IntN(3) > 0 {
				yes = g.filter(depth - 1)
			}
			if g.rng.IntN(3) > 0 || yes == nil {
				no = g.filter(depth - 1)
			}
			return bigtable.ConditionFilter(g.filter(depth-1), yes, no)
		}
	}
	return g.leaf()
}

func (g *generator) leaf() bigtable.Filter {
	switch g.rng.IntN(14) {
	case 0:
		return bigtable.PassAllFilter()
	case 1:
		return bigtable.BlockAllFilter()
	case 2:
		return bigtable.RowKeyFilter(g.pick("a.*", "a", "[a-c]b?", ".*\xff", "d[12]", "a\x00"))
	case 3:
		return bigtable.FamilyFilter(g.pick("m", "a|z", ".", "nosuch", "[a-l]"))
	case 4:
		return bigtable.ColumnFilter(g.pick("x", "x.*", "", "\xfe", "[a-z-]+", "nosuch"))
	case 5:
		return bigtable.ValueFilter(g.pick("v.*", "", "w|v", "[0-9]+", "nosuch", ".", `\C+`))
	case 6:
		return bigtable.ColumnRangeFilter(g.family(), g.qualifier(), g.pick("y", "z", "", "long-name"))
	case 7:
		return bigtable.ValueRangeFilter([]byte(g.value()), []byte(g.pick("w", "x", "1")))
	case 8:
		return bigtable.TimestampRangeFilterMicros(g.ts(), g.ts())
	case 9, 10:
		return bigtable.LatestNFilter(1 + g.rng.IntN(3))
	case 11:
		return bigtable.ChainFilters(bigtable.FamilyFilter(g.family()), bigtable.CellsPerRowLimitFilter(1+g.rng.IntN(4)))
	case 12:
		return bigtable.ChainFilters(bigtable.FamilyFilter(g.family()), bigtable.CellsPerRowOffsetFilter(g.rng.IntN(4)))
	default:
		return bigtable.ValueFilter(".*")
	}
}
