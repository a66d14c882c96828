package verify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/dataset"
)

const maxAnswerBytes = 1 << 20

// get asks the API and returns the status and the body.
func (r *runner) get(ctx context.Context, path string) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.opts.URL+path, nil)
	if err != nil {
		return 0, nil, err
	}
	resp, err := r.deps.HTTP.Do(req)
	if err != nil {
		return 0, nil, fmt.Errorf("no answer: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes))
	if err != nil {
		return 0, nil, fmt.Errorf("answer cut: %w", err)
	}
	return resp.StatusCode, body, nil
}

func rowPath(ds *dataset.Dataset, id string) string {
	return "/v1/datasets/" + ds.Name + "/rows/" + url.PathEscape(id)
}

// canary publishes a record and waits until the API returns it, value for value.
func (r *runner) canary(ctx context.Context, ds *dataset.Dataset) Result {
	res := Result{
		Check: "canary readable", Dataset: ds.Name,
		Expected: "a record published to topic " + ds.Topic + " is returned by the API as it was published",
		Next:     "latamctl ingest logs and its /readyz; then topic " + ds.Topic + ", subscription " + ds.Subscription() + ", table " + ds.Table(),
	}
	if r.deps.Bus == nil {
		res.Status, res.Seen = Skip, "Pub/Sub cannot be reached from here"
		return res
	}
	c, err := r.newCanary(ctx, ds)
	if err != nil {
		res.Status, res.Seen = Fail, err.Error()
		return res
	}
	published := r.deps.Now()
	if _, err := r.deps.Bus.Publish(ctx, ds.Topic, c.data, map[string]string{"event_id": c.id}); err != nil {
		res.Status, res.Seen = Fail, err.Error()
		res.Next = "does topic " + ds.Topic + " exist, and may you publish to it?"
		return res
	}
	defer r.remove(ctx, ds, c)
	var body []byte
	err = r.waitFor(ctx, func(ctx context.Context) (bool, error) {
		status, b, err := r.get(ctx, rowPath(ds, c.id))
		body = b
		return status == http.StatusOK, err
	})
	if err != nil {
		res.Status, res.Seen = Fail, fmt.Sprintf("row %s did not appear within %s: %v", c.id, r.opts.Wait, err)
		return res
	}
	latency := r.deps.Now().Sub(published)
	res.LatencyMilliseconds = milliseconds(latency)
	if diff := c.differs(body); diff != "" {
		res.Status, res.Seen = Fail, diff
		return res
	}
	res.Status, res.Seen = Pass, fmt.Sprintf("row %s after %.1f ms", c.id, res.LatencyMilliseconds)
	return res
}

// remove takes the canary out of the table and the indexes; a failure leaves one recognisable row
// behind, or an entry that points to no row.
func (r *runner) remove(ctx context.Context, ds *dataset.Dataset, c canary) {
	if r.deps.Rows == nil {
		return
	}
	ctx = context.WithoutCancel(ctx)
	_ = r.deps.Rows.Delete(ctx, ds.Table(), c.key)
	for i, entry := range c.entries {
		_ = r.deps.Rows.Delete(ctx, ds.IndexTable(&ds.Indexes[i]), entry.Key)
	}
}

// poisonField is a field that no dataset has declared by this name.
const poisonField = "latamctl_verify_poison"

// poison publishes a record that breaks the declaration and waits for it at the dead-letter
// subscription; its row must never appear.
func (r *runner) poison(ctx context.Context, ds *dataset.Dataset) Result {
	res := Result{
		Check: "poison dead-lettered", Dataset: ds.Name,
		Expected: fmt.Sprintf("a record with an unknown field reaches %s with reason %s, and no row", ds.DeadLetterTopic(), dataset.ReasonUnknownField),
		Next:     "latamctl ingest logs; topic " + ds.DeadLetterTopic() + ", subscription " + ds.DeadLetterSubscription(),
	}
	if r.deps.Bus == nil {
		res.Status, res.Seen = Skip, "Pub/Sub cannot be reached from here"
		return res
	}
	c, err := r.newCanary(ctx, ds)
	if err != nil {
		res.Status, res.Seen = Fail, err.Error()
		return res
	}
	bad := append(bytes.TrimSuffix(bytes.Clone(c.data), []byte("}")), []byte(`,"`+poisonField+`":true}`)...)
	id, err := r.deps.Bus.Publish(ctx, ds.Topic, bad, map[string]string{"event_id": c.id})
	if err != nil {
		res.Status, res.Seen = Fail, err.Error()
		return res
	}
	letter, others, err := r.findLetter(ctx, ds, id)
	if err != nil {
		res.Status, res.Seen = Fail, fmt.Sprintf("not among the dead letters after %s (%d others there): %v", r.opts.Wait, others, err)
		return res
	}
	reason, field := letter.Attributes[bus.AttrReason], letter.Attributes[bus.AttrField]
	if reason != string(dataset.ReasonUnknownField) || field != poisonField {
		res.Status, res.Seen = Fail, fmt.Sprintf("dead letter with reason %q, field %q", reason, field)
		return res
	}
	if status, _, err := r.get(ctx, rowPath(ds, c.id)); err != nil || status != http.StatusNotFound {
		res.Status, res.Seen = Fail, fmt.Sprintf("dead-lettered, but GET of its row answered %d (error: %v)", status, err)
		return res
	}
	res.Status, res.Seen = Pass, fmt.Sprintf("reason %s, field %s, no row", reason, field)
	return res
}

// findLetter takes the dead letter of a message out of the inspect subscription and gives all
// others back. They are held until then, because one given back earlier would come again at once.
func (r *runner) findLetter(ctx context.Context, ds *dataset.Dataset, messageID string) (bus.Message, int, error) {
	ctx, cancel := context.WithTimeout(ctx, r.opts.Wait)
	defer cancel()
	found := make(chan bus.Message, 1)
	seen := make(chan struct{}, maxLettersHeld)
	err := r.deps.Bus.Receive(ctx, ds.DeadLetterSubscription(), bus.ReceiveOptions{MaxMessages: maxLettersHeld}, func(ctx context.Context, m bus.Message) bool {
		if m.Attributes[bus.AttrMessageID] == messageID {
			select {
			case found <- m:
			default: // A redelivery of the same letter.
			}
			cancel()
			return true
		}
		select {
		case seen <- struct{}{}:
		default:
		}
		<-ctx.Done()
		return false
	})
	select {
	case m := <-found:
		return m, len(seen), nil
	default:
		return bus.Message{}, len(seen), errors.Join(err, ctx.Err())
	}
}

// maxLettersHeld bounds how many other dead letters are looked through.
const maxLettersHeld = 10000

// differs compares the API's row with what was published; it returns "" when every field is equal.
func (c canary) differs(body []byte) string {
	var got map[string]any
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	if err := dec.Decode(&got); err != nil {
		return fmt.Sprintf("the row is not a JSON object: %v", err)
	}
	for field, want := range c.want {
		if g := fmt.Sprint(got[field]); g != want {
			return fmt.Sprintf("field %s is %s, published was %s", field, g, want)
		}
	}
	return ""
}
