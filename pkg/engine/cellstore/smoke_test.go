package cellstore

import (
	"fmt"
	"testing"

	"cloud.google.com/go/bigtable"
)

// The official client, with all its negotiation, works from table to rows.
func TestOfficialClient(t *testing.T) {
	t.Parallel()
	e := serve(t, Options{})
	ctx := testContext(t)
	adm := adminClient(t, e.conn)
	if err := adm.CreateTable(ctx, "flights"); err != nil {
		t.Fatal(err)
	}
	if err := adm.CreateColumnFamily(ctx, "flights", "d"); err != nil {
		t.Fatal(err)
	}
	tbl := client(t, e.conn).Open("flights")
	var keys []string
	var muts []*bigtable.Mutation
	for i := range 1000 {
		m := bigtable.NewMutation()
		m.Set("d", "a", bigtable.Timestamp(int64(i)*1000), fmt.Appendf(nil, "v%d", i))
		m.Set("d", "b", bigtable.Timestamp(int64(i)*1000), []byte("w"))
		keys, muts = append(keys, fmt.Sprintf("row%04d", i)), append(muts, m)
	}
	if errs, err := tbl.ApplyBulk(ctx, keys, muts); err != nil || errs != nil {
		t.Fatal(errs, err)
	}
	n := 0
	err := tbl.ReadRows(ctx, bigtable.PrefixRange("row05"), func(r bigtable.Row) bool {
		if want := fmt.Sprintf("row05%02d", n); r.Key() != want || len(r["d"]) != 2 {
			t.Errorf("row %d is %q with %d cells, want %q", n, r.Key(), len(r["d"]), want)
		}
		n++
		return true
	})
	if err != nil || n != 100 {
		t.Errorf("read %d rows, error %v", n, err)
	}
	n = 0
	err = tbl.ReadRows(ctx, bigtable.InfiniteRange(""), func(r bigtable.Row) bool {
		if want := fmt.Sprintf("row%04d", 999-n); r.Key() != want {
			t.Errorf("reversed row %d is %q, want %q", n, r.Key(), want)
		}
		n++
		return true
	}, bigtable.ReverseScan(), bigtable.LimitRows(10))
	if err != nil || n != 10 {
		t.Errorf("read %d rows reversed, error %v", n, err)
	}
	row, err := tbl.ReadRow(ctx, "row0007")
	if err != nil || string(row["d"][0].Value) != "v7" {
		t.Errorf("ReadRow = %v, %v", row, err)
	}
}
