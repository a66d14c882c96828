package query

import (
	"slices"
	"strings"

	"github.com/latamctl/latamctl/pkg/strictyaml"
)

// functions are those that Datadog documents for metric queries.
func functions() []string {
	return []string{
		"abs", "anomalies", "autosmooth", "calendar_shift", "clamp_max", "clamp_min", "count_nonzero", "count_not_null",
		"cumsum", "cutoff_max", "cutoff_min", "day_before", "default_zero", "derivative", "diff", "dt", "ewma_10",
		"ewma_20", "ewma_3", "ewma_5", "ewma_7", "exclude_null", "forecast", "hour_before", "integral", "log10", "log2",
		"median_3", "median_5", "median_7", "median_9", "monotonic_diff", "month_before", "moving_rollup", "outliers",
		"per_hour", "per_minute", "per_second", "piecewise_constant", "robust_trend", "throughput", "timeshift", "top",
		"trend_line", "week_before",
	}
}

// isRank knows top5, bottom10, top5_mean and the others that are short for top(…).
func isRank(name string) bool {
	rest, top := strings.CutPrefix(name, "top")
	rest, bottom := strings.CutPrefix(rest, "bottom")
	count, by, _ := strings.Cut(rest, "_")
	return top != bottom && slices.Contains([]string{"5", "10", "15", "20"}, count) &&
		slices.Contains([]string{"", "mean", "min", "max", "last", "area", "l2norm"}, by)
}

// KnownFunction tells whether Datadog documents a function of metric queries.
func KnownFunction(name string) bool { return slices.Contains(functions(), name) || isRank(name) }

// nearFunction returns the function that an unknown name was probably meant to be. A name that is
// like none is let through: Datadog may know more than is listed here, and a spelling mistake is near.
func nearFunction(name string) string {
	if KnownFunction(name) {
		return ""
	}
	return strictyaml.Nearest(name, functions())
}
