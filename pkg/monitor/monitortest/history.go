package monitortest

import (
	"net/http"
	"strconv"
	"time"
)

// Events tells how many good and bad events, or seconds of a time slice SLO, were in a span of time.
type Events func(from, to time.Time) (good, bad float64)

// History says what an SLO has counted. Without it an SLO has counted nothing.
func (d *Datadog) History(id string, events Events) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.history[id] = events
}

// longestHistory is the longest span of one call that the server answers. Datadog does not document its own.
const longestHistory = 92 * 24 * time.Hour

func (d *Datadog) sloHistory(r *request) *Response {
	o, answer := d.slo(r)
	if answer != nil {
		return answer
	}
	from, err := strconv.ParseInt(r.query.Get("from_ts"), 10, 64)
	to, err2 := strconv.ParseInt(r.query.Get("to_ts"), 10, 64)
	begin, end := time.Unix(from, 0), time.Unix(to, 0)
	switch {
	case err != nil || err2 != nil:
		return problem(http.StatusBadRequest, "The timeframe is incorrect: from_ts and to_ts are required")
	case !begin.Before(end):
		return problem(http.StatusBadRequest, "The timeframe is incorrect: from_ts must be before to_ts")
	case end.Sub(begin) > longestHistory:
		return problem(http.StatusBadRequest, "The timeframe is incorrect: it is too long")
	case end.After(d.o.Now().Add(time.Minute)):
		return problem(http.StatusBadRequest, "The timeframe is incorrect: to_ts is in the future")
	}
	events := d.history[o.id]
	if events == nil {
		events = func(time.Time, time.Time) (float64, float64) { return 0, 0 }
	}
	data := map[string]any{
		"from_ts": from, "to_ts": to, "type": o.body["type"], "type_id": o.body["type_id"], "group_by": []any{},
		"slo": wireSLO(o, turnRead),
	}
	thresholds := map[string]any{}
	for _, t := range wireSLO(o, turnRead)["thresholds"].([]any) {
		thresholds[str(get(t, "timeframe"))] = t
	}
	targets := sloTargets(o.body)
	if text := r.query.Get("target"); text != "" {
		target, err := strconv.ParseFloat(text, 64)
		if err != nil || target <= 0 || target >= 100 {
			return problem(http.StatusBadRequest, "The target is incorrect: %s", text)
		}
		targets["custom"] = target
		thresholds["custom"] = map[string]any{"timeframe": "custom", "target": decimal(target), "target_display": display(target)}
	}
	data["thresholds"] = thresholds
	good, bad := events(begin, end)
	data["overall"] = overall(good, bad, targets)
	if o.body["type"] == "metric" {
		data["series"] = countSeries(o, begin, end, events)
	}
	return ok(map[string]any{"errors": nil, "data": data})
}

// overall is the whole span. Without events there is no value.
func overall(good, bad float64, targets map[string]float64) map[string]any {
	body := map[string]any{"uptime": nil, "sli_value": nil, "errors": []any{}, "corrections": []any{}, "span_precision": 2.0}
	precision, left := map[string]any{}, map[string]any{}
	for timeframe, target := range targets {
		precision[timeframe] = 2.0
		if good+bad > 0 {
			left[timeframe] = 100 * (1 - bad/(good+bad)/(1-target/100))
		}
	}
	body["precision"] = precision
	if good+bad == 0 {
		body["errors"] = []any{map[string]any{"error_type": "ZERO_VALUED_DENOMINATOR", "error_message": "The denominator is zero valued"}}
		return body
	}
	value := 100 * good / (good + bad)
	body["uptime"], body["sli_value"], body["error_budget_remaining"] = value, value, left
	return body
}

// countSeries has a point for each day.
func countSeries(o *entity, begin, end time.Time, events Events) map[string]any {
	const day = 24 * time.Hour
	var times, goods, totals []any
	var goodSum, totalSum float64
	for at := begin; at.Before(end); at = at.Add(day) {
		until := at.Add(day)
		if until.After(end) {
			until = end
		}
		good, bad := events(at, until)
		times = append(times, decimal(at.UnixMilli()))
		goods, totals = append(goods, decimal(good)), append(totals, decimal(good+bad))
		goodSum, totalSum = goodSum+good, totalSum+good+bad
	}
	one := func(values []any, sum float64, query any, index int) map[string]any {
		return map[string]any{"count": len(values), "sum": decimal(sum), "values": values, "metadata": map[string]any{
			"unit": nil, "query_index": index, "aggr": "sum", "scope": "", "metric": "", "expression": query,
		}}
	}
	numerator, denominator := get(o.body, "query", "numerator"), get(o.body, "query", "denominator")
	return map[string]any{
		"res_type": "time_series", "resp_version": 2, "interval": int(day.Seconds()), "message": "", "times": times,
		"query":     str(numerator) + ", " + str(denominator),
		"numerator": one(goods, goodSum, numerator, 0), "denominator": one(totals, totalSum, denominator, 1),
	}
}
