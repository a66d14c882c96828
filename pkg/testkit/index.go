package testkit

// CheckIndexed compares the rows of a table with the entries of an index in which no row moves, once
// everything is settled: entryOf returns the key of a row's entry. Each row has its entry, once, and
// there is no other, not even of a write that was cut: what was written is written again.
func CheckIndexed(rows, entries []Row, entryOf func(Row) string) Report {
	r := Report{Rows: len(entries)}
	left := map[string]int{}
	for _, e := range entries {
		left[e.Key]++
	}
	for _, row := range rows {
		key := entryOf(row)
		switch left[key] {
		case 0:
			r.violate(&r.Lost, "row %q has no entry %q", row.Key, key)
		default:
			left[key]--
		}
	}
	for _, e := range entries {
		if len(e.Cells) > 1 {
			r.violate(&r.ExtraCells, "entry %q has %d cells: %v", e.Key, len(e.Cells), e.Cells)
		}
		if left[e.Key] > 0 {
			r.violate(&r.Foreign, "entry %q is of no row", e.Key)
		}
	}
	return r
}
