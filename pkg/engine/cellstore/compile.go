package cellstore

import (
	"bytes"
	"strings"

	"cloud.google.com/go/bigtable/apiv2/bigtablepb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// Bigtable's limits on filters.
const (
	maxFilterBytes = 20 << 10
	maxFilterDepth = 20
	maxLabelBytes  = 15
)

// compileFilter checks a filter and prepares it; nil passes every cell.
func compileFilter(f *bigtablepb.RowFilter) (*rowFilter, error) {
	if f == nil {
		return &rowFilter{}, nil
	}
	if n := proto.Size(f); n > maxFilterBytes {
		return nil, status.Errorf(codes.InvalidArgument, "Filter is too large: %d bytes; limit %d", n, maxFilterBytes)
	}
	c := filterCompiler{}
	root, err := c.compile(f)
	if err != nil {
		return nil, err
	}
	return &rowFilter{root: root}, nil
}

// filterCompiler walks a filter. It knows how deep it is and whether it is
// inside a condition.
type filterCompiler struct {
	depth, conditions int
}

func filterError(field, format string, args ...any) error {
	return status.Errorf(codes.InvalidArgument, "Error in field '"+field+"' : "+format, args...)
}

func (c *filterCompiler) compile(f *bigtablepb.RowFilter) (node, error) {
	c.depth++
	defer func() { c.depth-- }()
	if c.depth > maxFilterDepth {
		return nil, status.Errorf(codes.InvalidArgument, "Filters are nested more than %d deep", maxFilterDepth)
	}
	switch f := f.GetFilter().(type) {
	case nil:
		return chain(nil), nil
	case *bigtablepb.RowFilter_Chain_:
		return c.compileChain(f.Chain.GetFilters())
	case *bigtablepb.RowFilter_Interleave_:
		branches, err := c.compileAll("interleave", "Interleave", f.Interleave.GetFilters())
		return interleave(branches), err
	case *bigtablepb.RowFilter_Condition_:
		return c.compileCondition(f.Condition)
	case *bigtablepb.RowFilter_Sink:
		if c.conditions > 0 {
			return nil, filterError("sink", "sink cannot be nested in a condition filter")
		}
		return flag("sink", f.Sink, sink{})
	case *bigtablepb.RowFilter_PassAllFilter:
		return flag("pass_all_filter", f.PassAllFilter, chain(nil))
	case *bigtablepb.RowFilter_BlockAllFilter:
		return flag("block_all_filter", f.BlockAllFilter, rowLimit(0))
	case *bigtablepb.RowFilter_StripValueTransformer:
		return flag("strip_value_transformer", f.StripValueTransformer, cellChange(func(c *cell) { c.value = nil }))
	case *bigtablepb.RowFilter_ApplyLabelTransformer:
		return compileLabel(f.ApplyLabelTransformer)
	case *bigtablepb.RowFilter_RowSampleFilter:
		if p := f.RowSampleFilter; !(p > 0 && p < 1) { // also refuses NaN
			return nil, filterError("row_sample_filter", "argument must be between 0.0 and 1.0, exclusive, got %v", p)
		}
		return sample(f.RowSampleFilter), nil
	}
	if n, ok, err := compileCount(f); ok {
		return n, err
	}
	if n, ok, err := compileRegex(f); ok {
		return n, err
	}
	return compileRange(f)
}

// flag is a filter that is either true or an error.
func flag(field string, set bool, n node) (node, error) {
	if !set {
		return nil, filterError(field, "must be true if set")
	}
	return n, nil
}

func (c *filterCompiler) compileAll(field, kind string, filters []*bigtablepb.RowFilter) ([]node, error) {
	if len(filters) < 2 {
		return nil, filterError(field, "%s must contain at least two RowFilters", kind)
	}
	nodes := make([]node, len(filters))
	for i, f := range filters {
		var err error
		if nodes[i], err = c.compile(f); err != nil {
			return nil, err
		}
	}
	return nodes, nil
}

func (c *filterCompiler) compileChain(filters []*bigtablepb.RowFilter) (node, error) {
	nodes, err := c.compileAll("chain", "Chain", filters)
	if err != nil {
		return nil, err
	}
	labels := 0
	for _, f := range filters {
		if hasLabel(f) {
			labels++
		}
	}
	if labels > 1 {
		return nil, filterError("chain", "a Chain may have no more than one sub-filter which contains an apply_label_transformer")
	}
	return chain(nodes), nil
}

// hasLabel reports whether a filter, whose depth is already checked, labels.
func hasLabel(f *bigtablepb.RowFilter) bool {
	switch f := f.GetFilter().(type) {
	case *bigtablepb.RowFilter_ApplyLabelTransformer:
		return true
	case *bigtablepb.RowFilter_Chain_:
		return anyLabel(f.Chain.GetFilters()...)
	case *bigtablepb.RowFilter_Interleave_:
		return anyLabel(f.Interleave.GetFilters()...)
	case *bigtablepb.RowFilter_Condition_:
		return anyLabel(f.Condition.GetTrueFilter(), f.Condition.GetFalseFilter())
	}
	return false
}

func anyLabel(filters ...*bigtablepb.RowFilter) bool {
	for _, f := range filters {
		if hasLabel(f) {
			return true
		}
	}
	return false
}

func (c *filterCompiler) compileCondition(f *bigtablepb.RowFilter_Condition) (node, error) {
	c.conditions++
	defer func() { c.conditions-- }()
	if f.GetPredicateFilter() == nil {
		return nil, filterError("condition", "predicate_filter is required")
	}
	var (
		n   condition
		err error
	)
	for _, part := range []struct {
		dst *node
		f   *bigtablepb.RowFilter
	}{{&n.predicate, f.GetPredicateFilter()}, {&n.yes, f.GetTrueFilter()}, {&n.no, f.GetFalseFilter()}} {
		if part.f == nil {
			continue
		}
		if *part.dst, err = c.compile(part.f); err != nil {
			return nil, err
		}
	}
	return n, nil
}

func compileLabel(label string) (node, error) {
	ok := label != "" && len(label) <= maxLabelBytes
	for _, c := range []byte(label) {
		ok = ok && (c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-')
	}
	if !ok {
		return nil, filterError("apply_label_transformer", `%q must match RE2([a-z0-9\-]{1,%d})`, label, maxLabelBytes)
	}
	return cellChange(func(c *cell) { c.label = label }), nil
}

// compileCount compiles the filters that count cells.
func compileCount(f *bigtablepb.RowFilter) (n node, ok bool, err error) {
	field, least, value := "", int32(1), int32(0)
	switch f := f.GetFilter().(type) {
	case *bigtablepb.RowFilter_CellsPerRowOffsetFilter:
		field, least, value = "cells_per_row_offset_filter", 0, f.CellsPerRowOffsetFilter
		n = rowOffset(value)
	case *bigtablepb.RowFilter_CellsPerRowLimitFilter:
		field, value = "cells_per_row_limit_filter", f.CellsPerRowLimitFilter
		n = rowLimit(value)
	case *bigtablepb.RowFilter_CellsPerColumnLimitFilter:
		field, value = "cells_per_column_limit_filter", f.CellsPerColumnLimitFilter
		n = columnLimit(value)
	default:
		return nil, false, nil
	}
	if value < least {
		return nil, true, filterError(field, "argument must be > %d", least-1)
	}
	return n, true, nil
}

// compileRegex compiles the filters that match a regular expression.
func compileRegex(f *bigtablepb.RowFilter) (n node, ok bool, err error) {
	var (
		field string
		expr  []byte
		p     pattern
	)
	switch f := f.GetFilter().(type) {
	case *bigtablepb.RowFilter_RowKeyRegexFilter:
		if field, expr = "row_key_regex_filter", f.RowKeyRegexFilter; len(expr) == 0 {
			return nil, true, filterError(field, "argument must not be empty")
		}
		n = rowTest(func(row []byte) bool { return p.match(row) })
	case *bigtablepb.RowFilter_FamilyNameRegexFilter:
		if field, expr = "family_name_regex_filter", []byte(f.FamilyNameRegexFilter); bytes.ContainsRune(expr, ':') {
			return nil, true, filterError(field, "the expression must not contain ':'")
		}
		n = columnTest(func(f *family, _ []byte) bool { return p.matchString(f.name) })
	case *bigtablepb.RowFilter_ColumnQualifierRegexFilter:
		field, expr = "column_qualifier_regex_filter", f.ColumnQualifierRegexFilter
		n = columnTest(func(_ *family, qualifier []byte) bool { return p.match(qualifier) })
	case *bigtablepb.RowFilter_ValueRegexFilter:
		field, expr = "value_regex_filter", f.ValueRegexFilter
		n = cellTest(func(c *cell) bool { return p.match(c.value) })
	default:
		return nil, false, nil
	}
	if p, err = newPattern(expr); err != nil {
		return nil, true, filterError(field, "%s", strings.ToValidUTF8(err.Error(), "?"))
	}
	return n, true, nil
}

// compileRange compiles the filters that compare.
func compileRange(f *bigtablepb.RowFilter) (node, error) {
	switch f := f.GetFilter().(type) {
	case *bigtablepb.RowFilter_ColumnRangeFilter:
		name, in := f.ColumnRangeFilter.GetFamilyName(), columnRange(f.ColumnRangeFilter)
		return columnTest(func(f *family, qualifier []byte) bool { return f.name == name && in.contains(qualifier) }), nil
	case *bigtablepb.RowFilter_ValueRangeFilter:
		in := valueRange(f.ValueRangeFilter)
		return cellTest(func(c *cell) bool { return in.contains(c.value) }), nil
	case *bigtablepb.RowFilter_TimestampRangeFilter:
		start, end := f.TimestampRangeFilter.GetStartTimestampMicros(), f.TimestampRangeFilter.GetEndTimestampMicros()
		return cellTest(func(c *cell) bool { return c.micros >= start && (end == 0 || c.micros < end) }), nil
	case *bigtablepb.RowFilter_ValueBitmaskFilter:
		mask := f.ValueBitmaskFilter.GetMask()
		return cellTest(func(c *cell) bool { return hasBits(c.value, mask) }), nil
	default:
		return nil, status.Errorf(codes.Unimplemented, "filters of type %T are not implemented", f)
	}
}

func columnRange(r *bigtablepb.ColumnRange) byteRange {
	var b byteRange
	switch q := r.GetStartQualifier().(type) {
	case *bigtablepb.ColumnRange_StartQualifierClosed:
		b.low = q.StartQualifierClosed
	case *bigtablepb.ColumnRange_StartQualifierOpen:
		b.low, b.lowOpen = q.StartQualifierOpen, true
	}
	switch q := r.GetEndQualifier().(type) {
	case *bigtablepb.ColumnRange_EndQualifierClosed:
		b.high = q.EndQualifierClosed
	case *bigtablepb.ColumnRange_EndQualifierOpen:
		b.high, b.highOpen = q.EndQualifierOpen, true
	default:
		b.unbounded = true
	}
	return b
}

func valueRange(r *bigtablepb.ValueRange) byteRange {
	var b byteRange
	switch v := r.GetStartValue().(type) {
	case *bigtablepb.ValueRange_StartValueClosed:
		b.low = v.StartValueClosed
	case *bigtablepb.ValueRange_StartValueOpen:
		b.low, b.lowOpen = v.StartValueOpen, true
	}
	switch v := r.GetEndValue().(type) {
	case *bigtablepb.ValueRange_EndValueClosed:
		b.high = v.EndValueClosed
	case *bigtablepb.ValueRange_EndValueOpen:
		b.high, b.highOpen = v.EndValueOpen, true
	default:
		b.unbounded = true
	}
	return b
}

func hasBits(value, mask []byte) bool {
	if len(value) != len(mask) {
		return false
	}
	for i, m := range mask {
		if value[i]&m != m {
			return false
		}
	}
	return true
}
