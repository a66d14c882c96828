package verify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/store"
)

// poisonField is a field that no dataset has declared by this name.
const poisonField = "latamctl_verify_poison"

// letter is a record that breaks the declaration, on its way to the dead letters.
type letter struct {
	ds    *dataset.Dataset
	data  []byte
	found bool
}

// removable says whether canaries may be published: only when they can be removed again.
func (r *runner) removable(ctx context.Context, ds *dataset.Dataset, res *Result) bool {
	if r.deps.Bus == nil || r.deps.Rows == nil {
		res.skip(r.deps.Unseen)
		return false
	}
	c, err := makeCanary(ds, r.deps.Now())
	if err != nil {
		res.fail(fmt.Sprintf("no record could be made up that the declaration accepts: %v", err))
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, r.opts.Wait)
	defer cancel()
	// A deletion of what is not there changes nothing, and shows whether it is allowed.
	err = r.deps.Rows.Delete(ctx, ds.Table(), c.key)
	if errors.Is(err, store.ErrDenied) {
		res.skip("you may not delete rows of table " + ds.Table() + ", so a canary would stay")
		return false
	}
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		res.Next = "does table " + ds.Table() + " exist, and does Bigtable answer?"
		res.fail(err.Error())
		return false
	}
	return true
}

// publish sends a canary. From here on it is removed at the end, whatever happens.
func (r *runner) publish(ctx context.Context, c *canary) error {
	r.track(c)
	_, err := r.deps.Bus.Publish(ctx, c.ds.Topic, c.data, map[string]string{"event_id": c.id})
	return err
}

func (r *runner) track(c *canary) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c.published++
	if !slices.Contains(r.canaries, c) {
		r.canaries = append(r.canaries, c)
	}
}

// readable waits until the API answers with the canary's row, and returns it.
func (r *runner) readable(ctx context.Context, c *canary, start time.Time) (row []byte, took time.Duration, err error) {
	err = r.waitFor(ctx, r.opts.Wait, func(ctx context.Context) (bool, error) {
		a, err := r.get(ctx, rowPath(c.ds, c.id))
		if err == nil && a.status != http.StatusOK && a.status != http.StatusNotFound {
			err = fmt.Errorf("its GET answered %d", a.status)
		}
		row = a.body
		return err == nil && a.status == http.StatusOK, err
	})
	took = r.deps.Now().Sub(start)
	if err == nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		c.seen = true
		r.slowest = max(r.slowest, took)
	}
	return row, took, err
}

// missing says where a canary is that did not become readable.
func (r *runner) missing(ctx context.Context, c *canary, cause error) string {
	text := fmt.Sprintf("row %s did not appear within %s", c.id, r.opts.Wait)
	if ctx.Err() != nil {
		return text + ": " + cause.Error()
	}
	if _, err := r.deps.Rows.Get(ctx, c.ds.Table(), c.key, nil); err == nil {
		c.seen = true
		return fmt.Sprintf("%s, but table %s has it: the API does not show it (%v)", text, c.ds.Table(), cause)
	}
	if got := r.reclaim(ctx, c.ds.DeadLetterSubscription(), [][]byte{c.data}); len(got) > 0 {
		c.seen = true
		return fmt.Sprintf("%s: it is a dead letter with reason %s, field %q", text, got[0].Attributes[bus.AttrReason], got[0].Attributes[bus.AttrField])
	}
	if r.deps.Standing != nil {
		return text + ": nobody stored it. Its message is left to ingest, and its row is removed when it comes"
	}
	if got := r.reclaim(ctx, c.ds.Subscription(), [][]byte{c.data}); len(got) > 0 {
		c.seen = true
		return fmt.Sprintf("%s: its message waits in subscription %s, nobody takes it", text, c.ds.Subscription())
	}
	return text + ": " + cause.Error()
}

const (
	// maxHeld bounds how many other messages are looked through.
	maxHeld = 10_000
	// reclaimTime bounds how long others' messages are held while one of ours is looked for.
	reclaimTime = 2 * time.Second
)

// reclaim takes messages with the contents out of a subscription and gives all others back. They are
// held until then, because one given back earlier would come again at once.
func (r *runner) reclaim(ctx context.Context, subscription string, contents [][]byte) []bus.Message {
	got, _ := r.take(ctx, subscription, contents, min(reclaimTime, r.opts.Wait))
	return got
}

// take is reclaim with a wait of its own. It also returns how many others were seen.
func (r *runner) take(ctx context.Context, subscription string, contents [][]byte, wait time.Duration) (got []bus.Message, others int) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	var mu sync.Mutex
	left := len(contents)
	taken := make([]bool, len(contents))
	_ = r.deps.Bus.Receive(ctx, subscription, bus.ReceiveOptions{MaxMessages: maxHeld}, func(ctx context.Context, m bus.Message) bool {
		mu.Lock()
		i, ours := -1, false
		for at, data := range contents {
			if bytes.Equal(data, m.Data) && (i < 0 || taken[i]) {
				i, ours = at, true
			}
		}
		switch {
		case !ours:
			others++
			mu.Unlock()
			<-ctx.Done()
			return false
		case !taken[i]:
			taken[i], got = true, append(got, m)
			left--
		}
		if left == 0 {
			cancel()
		}
		mu.Unlock()
		return true
	}) // What it could not receive is not among what was got.
	mu.Lock()
	defer mu.Unlock()
	return got, others
}

// removed takes everything away that was published, and makes sure that it stays away.
func (r *runner) removed(ctx context.Context, _ *dataset.Dataset, res *Result) {
	res.Next = "remove what is named once it appears; latamctl verify --only canary shows whether records come through"
	ctx, cancel := context.WithTimeout(ctx, 2*r.opts.Wait+10*reclaimTime)
	defer cancel()
	lost := r.settle(ctx)
	rows, err := r.clear(ctx)
	switch {
	case err != nil:
		res.fail(fmt.Sprintf("could not be removed: %v", err))
	case len(lost) > 0 && r.leave:
		res.pass(fmt.Sprintf("%d rows were removed; not there yet, and looked for in the next rounds: %s", rows, some(lost)))
	case len(lost) > 0:
		res.fail("published, and neither stored nor found elsewhere, so that it may still appear: " + some(lost))
	default:
		res.pass(fmt.Sprintf("%d rows and %d dead letters were removed", rows, len(r.letters)))
	}
}

// settle looks for what is still on its way: rows that nobody saw, messages that nobody took, letters
// that did not come. It returns what it did not find.
func (r *runner) settle(ctx context.Context) (lost []string) {
	for _, ds := range r.opts.Datasets {
		unseen := slices.DeleteFunc(slices.Clone(r.canaries), func(c *canary) bool { return c.ds != ds || c.seen })
		letters := slices.DeleteFunc(slices.Clone(r.letters), func(l *letter) bool { return l.ds != ds || l.found })
		if len(unseen) > 0 {
			_ = r.waitFor(ctx, min(reclaimTime, r.opts.Wait), func(ctx context.Context) (bool, error) {
				unseen = slices.DeleteFunc(unseen, func(c *canary) bool { return r.stored(ctx, c) })
				return len(unseen) == 0, nil
			}) // What is left then is looked for elsewhere.
		}
		subscriptions := []string{ds.Subscription(), ds.DeadLetterSubscription()}
		if r.leave {
			subscriptions = subscriptions[1:]
		}
		for _, subscription := range subscriptions {
			var contents [][]byte
			for _, c := range unseen {
				for range c.published {
					contents = append(contents, c.data)
				}
			}
			for _, l := range letters {
				contents = append(contents, l.data)
			}
			if len(contents) == 0 {
				break
			}
			got := r.reclaim(ctx, subscription, contents)
			is := func(data []byte) bool {
				return slices.ContainsFunc(got, func(m bus.Message) bool { return bytes.Equal(m.Data, data) })
			}
			unseen = slices.DeleteFunc(unseen, func(c *canary) bool { return is(c.data) })
			letters = slices.DeleteFunc(letters, func(l *letter) bool { l.found = l.found || is(l.data); return l.found })
		}
		for _, c := range unseen {
			if !r.stored(ctx, c) {
				lost = append(lost, "row "+c.id+" of "+ds.Name)
			}
		}
		for range letters {
			lost = append(lost, "a dead letter of "+ds.Name)
		}
	}
	return lost
}

func (r *runner) stored(ctx context.Context, c *canary) bool {
	_, err := r.deps.Rows.Get(ctx, c.ds.Table(), c.key, nil)
	return err == nil
}

// clear removes all rows and entries again and again until none came back for a while: a message may
// be delivered twice, and the second delivery stores the row once more.
func (r *runner) clear(ctx context.Context) (rows int, err error) {
	if len(r.canaries) == 0 {
		return 0, nil
	}
	quiet := time.NewTimer(0)
	defer quiet.Stop()
	for {
		select {
		case <-quiet.C:
		case <-ctx.Done():
			return rows, errors.Join(errors.New("rows come back again and again"), context.Cause(ctx))
		}
		n, err := r.clearOnce(ctx)
		if rows == 0 {
			rows = n
		}
		if err != nil || n == 0 && r.cleared {
			return rows, err
		}
		r.cleared = true
		quiet.Reset(max(r.opts.Settle, 3*r.slowest))
	}
}

const clearAtATime = 16

// clearOnce removes what is there now, and says how many rows and entries it were.
func (r *runner) clearOnce(ctx context.Context) (int, error) {
	type place struct {
		table, key string
		of         *canary
	}
	var places []place
	for _, c := range r.canaries {
		places = append(places, place{c.ds.Table(), c.key, c})
		for i, entry := range c.entries {
			places = append(places, place{c.ds.IndexTable(&c.ds.Indexes[i]), entry.Key, c})
		}
	}
	var mu sync.Mutex
	var removed int
	var errs []error
	var all sync.WaitGroup
	slots := make(chan struct{}, clearAtATime)
	for _, p := range places {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			_, err := r.deps.Rows.Get(ctx, p.table, p.key, nil)
			found := err == nil
			if found {
				err = r.deps.Rows.Delete(ctx, p.table, p.key)
			}
			mu.Lock()
			defer mu.Unlock()
			if found {
				removed++
				p.of.seen = true
			}
			if err != nil && !errors.Is(err, store.ErrNotFound) {
				errs = append(errs, err)
			}
		})
	}
	all.Wait()
	return removed, errors.Join(errs...)
}
