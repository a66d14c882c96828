package query

import (
	"slices"

	"github.com/latamctl/latamctl/pkg/strictyaml"
)

// functions are those that Datadog documents for metric queries.
func functions() []string {
	return []string{
		"abs", "anomalies", "autosmooth", "calendar_shift", "clamp_max", "clamp_min", "count_nonzero", "count_not_null",
		"cumsum", "cutoff_max", "cutoff_min", "day_before", "default_zero", "derivative", "diff", "dt", "eq", "ewma_10",
		"ewma_20", "ewma_3", "ewma_5", "ewma_7", "exclude_null", "forecast", "ge", "gt", "hour_before", "integral", "le",
		"log10", "log2", "lt", "median_3", "median_5", "median_7", "median_9", "minus", "moving_rollup", "month_before",
		"monotonic_diff", "ne", "outliers", "per_hour", "per_minute", "per_second", "piecewise_constant", "rate", "robust_trend", "sqrt",
		"throughput", "time_shift", "timeshift", "top", "top10", "top15", "top20", "top5", "bottom10", "bottom15",
		"bottom20", "bottom5", "top_offset", "trend_line", "week_before",
	}
}

// KnownFunction tells whether Datadog documents a function of metric queries.
func KnownFunction(name string) bool { return slices.Contains(functions(), name) }

// nearFunction returns the function that an unknown name was probably meant to be. A name that is
// like none is let through: Datadog may know more than is listed here, and a spelling mistake is near.
func nearFunction(name string) string {
	if KnownFunction(name) {
		return ""
	}
	return strictyaml.Nearest(name, functions())
}
