package monitortest

import (
	"net/http"
	"strconv"
	"time"
)

// Limit is how many calls a bucket takes in each period.
type Limit struct {
	Calls  int
	Period time.Duration
}

// limit returns the limit of a bucket: those that were seen on the wire.
func (d *Datadog) limit(bucket string) Limit {
	if l, ok := d.o.Limits[bucket]; ok {
		return l
	}
	switch bucket {
	case "post_monitors", "put_monitors":
		return Limit{500, 10 * time.Second}
	case "get_monitors", "slo_get":
		return Limit{3000, 10 * time.Second}
	case "get_all_monitors":
		return Limit{1000, 10 * time.Second}
	case "slo_create", "slo_update":
		return Limit{200, time.Minute}
	case "slo_delete", "slo_check_can_delete":
		return Limit{100, 10 * time.Second}
	case "slo_history":
		return Limit{150, 10 * time.Second}
	}
	return Limit{12000, time.Minute} // global_org
}

// window is the period of a bucket that has begun.
type window struct {
	name  string
	limit Limit
	start time.Time
	used  int
	now   time.Time
}

// take counts a call. Over the limit it returns the answer.
func (d *Datadog) take(bucket string) (*window, *Response) {
	limit, now := d.limit(bucket), d.o.Now()
	start := now.Truncate(limit.Period)
	w := d.windows[bucket]
	if w == nil || !w.start.Equal(start) {
		w = &window{name: bucket, limit: limit, start: start}
		d.windows[bucket] = w
	}
	w.now = now
	if w.used >= limit.Calls {
		header := http.Header{}
		w.describe(header)
		return w, tooMany(limit, header)
	}
	w.used++
	return w, nil
}

func tooMany(limit Limit, header http.Header) *Response {
	answer := problem(http.StatusTooManyRequests, "Rate limit of %d requests in %d seconds reached. Please try again later.",
		limit.Calls, int(limit.Period.Seconds()))
	answer.Header = header
	return answer
}

// describe writes the headers that every answer has. Seconds are rounded up, so that waiting them is enough.
func (w *window) describe(header http.Header) {
	reset := w.start.Add(w.limit.Period).Sub(w.now)
	header.Set("X-RateLimit-Limit", strconv.Itoa(w.limit.Calls))
	header.Set("X-RateLimit-Period", strconv.Itoa(int(w.limit.Period.Seconds())))
	header.Set("X-RateLimit-Remaining", strconv.Itoa(w.limit.Calls-w.used))
	header.Set("X-RateLimit-Reset", strconv.Itoa(int((reset+time.Second-1)/time.Second)))
	header.Set("X-RateLimit-Name", w.name)
}
