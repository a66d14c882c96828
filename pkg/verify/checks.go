package verify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/dataset"
)

// fresh publishes a record and waits until the API returns it, value for value.
func (r *runner) fresh(ctx context.Context, ds *dataset.Dataset, res *Result) {
	res.Expected = "a record published to topic " + ds.Topic + " is returned by the API as it was published"
	res.Next = "latamctl ingest logs and its /readyz; then topic " + ds.Topic + ", subscription " + ds.Subscription() + ", table " + ds.Table()
	if !r.removable(ctx, ds, res) {
		return
	}
	c, err := r.nextCanary(ctx, ds)
	if err != nil {
		res.fail(err.Error())
		return
	}
	start := r.deps.Now()
	if err := r.publish(ctx, c); err != nil {
		if errors.Is(err, bus.ErrDenied) {
			c.seen = true // It was refused.
			res.skip("you may not publish to topic " + ds.Topic)
			return
		}
		res.Next = "does topic " + ds.Topic + " exist, and may you publish to it?"
		res.fail(err.Error())
		return
	}
	if took, ok := r.appears(ctx, c, start, res); ok {
		res.LatencyMilliseconds = milliseconds(took)
		res.pass(fmt.Sprintf("row %s after %.1f ms", c.id, res.LatencyMilliseconds))
	}
}

// appears waits for a canary's row and compares it; when that goes wrong it says so in the result.
func (r *runner) appears(ctx context.Context, c *canary, start time.Time, res *Result) (took time.Duration, ok bool) {
	row, took, err := r.readable(ctx, c, start)
	if err != nil {
		res.fail(r.missing(ctx, c, err))
		return 0, false
	}
	if diff := c.differs(row); diff != "" {
		res.fail(diff)
		return 0, false
	}
	return took, true
}

// send publishes a canary and waits for it.
func (r *runner) send(ctx context.Context, c *canary, res *Result) bool {
	start := r.deps.Now()
	if err := r.publish(ctx, c); err != nil {
		res.fail(err.Error())
		return false
	}
	_, ok := r.appears(ctx, c, start, res)
	return ok
}

// fence publishes another record and waits for it. What was published before it has most likely been
// worked off by then: a record that changes nothing cannot be waited for otherwise.
func (r *runner) fence(ctx context.Context, ds *dataset.Dataset, res *Result) bool {
	c, err := r.newCanary(ctx, ds)
	if err != nil {
		res.fail(err.Error())
		return false
	}
	return r.send(ctx, c, res)
}

// duplicate publishes a record twice and finds one row.
func (r *runner) duplicate(ctx context.Context, ds *dataset.Dataset, res *Result) {
	res.Next = "does ingest make the row's key of the declared key alone, and its cells of the record alone?"
	if !r.removable(ctx, ds, res) {
		return
	}
	c, err := r.newCanary(ctx, ds)
	if err == nil {
		err = r.publish(ctx, c)
	}
	if err != nil {
		res.fail(err.Error())
		return
	}
	if !r.send(ctx, c, res) || !r.fence(ctx, ds, res) {
		return
	}
	a, err := r.get(ctx, rowPath(ds, c.id))
	if err == nil && a.status != http.StatusOK {
		err = fmt.Errorf("GET of row %s answered %d once the second came", c.id, a.status)
	}
	if err != nil {
		res.fail(err.Error())
		return
	}
	if diff := c.differs(a.body); diff != "" {
		res.fail("once the second came " + diff)
		return
	}
	query := url.Values{}
	for _, f := range ds.Key {
		query.Set(f.Name+"[eq]", c.text(f))
	}
	p, err := r.page(ctx, ds, query)
	switch {
	case err != nil:
		res.fail("list the rows of its key: " + err.Error())
	case len(p.Data) != 1:
		res.fail(fmt.Sprintf("its key has %d rows", len(p.Data)))
	default:
		res.pass("one row with the values of the record")
	}
}

// text is a field's value as a filter takes it.
func (c *canary) text(f *dataset.Field) string {
	rec, err := c.ds.Decode(c.data, c.at)
	if err != nil {
		return "" // It was decoded before.
	}
	return rec.Value(f).Text()
}

// lateness is how much older the record is that comes late.
const lateness = time.Minute

// outOfOrder publishes a newer record first and then an older one, of the same row where the event
// time is not part of the key.
func (r *runner) outOfOrder(ctx context.Context, ds *dataset.Dataset, res *Result) {
	res.Next = "does ingest store cells with the event time " + timeName(ds) + " as their timestamp?"
	if ds.Time == nil {
		res.skip("the dataset declares no event time")
		return
	}
	if !r.removable(ctx, ds, res) {
		return
	}
	newer, err := r.newCanary(ctx, ds)
	if err != nil {
		res.fail(err.Error())
		return
	}
	older, err := newer.earlier(lateness)
	if err != nil {
		res.skip(fmt.Sprintf("no earlier record could be made up: %v", err))
		return
	}
	if bytes.Equal(older.data, newer.data) || older.want[ds.Time.Name] == newer.want[ds.Time.Name] {
		res.skip("the bounds of " + ds.Time.Name + " leave no earlier time")
		return
	}
	if a, err := r.get(ctx, rowPath(ds, older.id)); err != nil || a.status != http.StatusNotFound {
		res.skip("no earlier record could be made up whose row does not exist yet")
		return
	}
	if !r.send(ctx, newer, res) {
		return
	}
	if older.key != newer.key {
		res.Expected = "an earlier record that comes later is stored as well"
		if r.send(ctx, older, res) {
			res.pass("both rows are there; the event time is part of the key")
		}
		return
	}
	if err := r.publish(ctx, older); err != nil {
		res.fail(err.Error())
		return
	}
	older.seen = true // Its row is the newer one's.
	if !r.fence(ctx, ds, res) {
		return
	}
	a, err := r.get(ctx, rowPath(ds, newer.id))
	if err != nil {
		res.fail(err.Error())
		return
	}
	if diff := newer.differs(a.body); diff != "" {
		res.fail("once the older record came " + diff)
		return
	}
	res.pass("the row still has the values of the newer record")
}

func timeName(ds *dataset.Dataset) string {
	if ds.Time == nil {
		return ""
	}
	return ds.Time.Name
}

// poison publishes a record that breaks the declaration and waits for it at the dead-letter
// subscription; its row must never appear.
func (r *runner) poison(ctx context.Context, ds *dataset.Dataset, res *Result) {
	res.Expected = fmt.Sprintf("a record with an unknown field reaches %s with reason %s, and no row", ds.DeadLetterTopic(), dataset.ReasonUnknownField)
	res.Next = "latamctl ingest logs; topic " + ds.DeadLetterTopic() + ", subscription " + ds.DeadLetterSubscription()
	if !r.removable(ctx, ds, res) {
		return
	}
	c, err := r.newCanary(ctx, ds)
	if err != nil {
		res.fail(err.Error())
		return
	}
	bad := append(bytes.TrimSuffix(bytes.Clone(c.data), []byte("}")), []byte(`,"`+poisonField+`":true}`)...)
	l := &letter{ds: ds, data: bad}
	r.letters = append(r.letters, l)
	if _, err := r.deps.Bus.Publish(ctx, ds.Topic, bad, map[string]string{"event_id": c.id}); err != nil {
		res.fail(err.Error())
		return
	}
	got, others := r.take(ctx, ds.DeadLetterSubscription(), [][]byte{bad}, r.opts.Wait)
	if len(got) == 0 {
		r.track(c) // Ingest may have stored it in spite of the field.
		c.seen = true
		res.fail(fmt.Sprintf("not among the dead letters after %s (%d others there)", r.opts.Wait, others))
		return
	}
	l.found = true
	reason, field := got[0].Attributes[bus.AttrReason], got[0].Attributes[bus.AttrField]
	if reason != string(dataset.ReasonUnknownField) || field != poisonField {
		res.fail(fmt.Sprintf("dead letter with reason %q, field %q", reason, field))
		return
	}
	if a, err := r.get(ctx, rowPath(ds, c.id)); err != nil || a.status != http.StatusNotFound {
		r.track(c)
		c.seen = true
		res.fail(fmt.Sprintf("dead-lettered, but GET of its row answered %d (error: %v)", a.status, err))
		return
	}
	res.pass(fmt.Sprintf("reason %s, field %s, no row", reason, field))
}
