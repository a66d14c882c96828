package query

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/latamctl/latamctl/pkg/bus"
)

// fail makes the calls that follow fail.
func (s *fakeStore) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

// fakeFollower keeps a topic's messages and delivers them as Pub/Sub does: on goroutines of their
// own, in no order, and no more than may be held.
type fakeFollower struct {
	err    error // of Follow
	forget bool  // it keeps nothing, yet claims to

	mu       sync.Mutex
	messages []bus.Message
	news     chan struct{} // closed and replaced with each message
	from     []time.Time   // of each Follow
	open     int
	held     int // not settled now
	most     int
	acked    int
}

func newFakeFollower() *fakeFollower { return &fakeFollower{news: make(chan struct{})} }

func (f *fakeFollower) publish(data string) bus.Message {
	f.mu.Lock()
	defer f.mu.Unlock()
	m := bus.Message{ID: fmt.Sprint(len(f.messages) + 98), PublishTime: time.Now(), Data: []byte(data)}
	f.messages = append(f.messages, m)
	close(f.news)
	f.news = make(chan struct{})
	return m
}

func (f *fakeFollower) begin(opts bus.FollowOptions) (next int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.from = append(f.from, opts.From)
	f.open++
	next = len(f.messages)
	for !f.forget && !opts.From.IsZero() && next > 0 && !f.messages[next-1].PublishTime.Before(opts.From) {
		next--
	}
	return next
}

func (f *fakeFollower) Follow(ctx context.Context, _ string, opts bus.FollowOptions, handle func(context.Context, bus.Message) bool) error {
	opts = opts.Defaults()
	next := f.begin(opts)
	defer func() {
		f.mu.Lock()
		f.open--
		f.mu.Unlock()
	}()
	if f.err != nil {
		return f.err
	}
	since := opts.From
	if since.IsZero() {
		since = time.Now()
	}
	opts.Ready(since)
	places := make(chan struct{}, opts.MaxMessages)
	var workers sync.WaitGroup
	defer workers.Wait()
	for {
		f.mu.Lock()
		waiting, news := f.messages[next:], f.news
		f.mu.Unlock()
		for _, m := range waiting {
			select {
			case places <- struct{}{}:
			case <-ctx.Done():
				return nil
			}
			next++
			workers.Go(func() {
				defer func() { <-places }()
				// What is given back comes again.
				for ctx.Err() == nil {
					f.hold(1)
					acked := handle(ctx, m)
					f.hold(-1)
					if acked {
						f.mu.Lock()
						f.acked++
						f.mu.Unlock()
						return
					}
				}
			})
		}
		select {
		case <-news:
		case <-ctx.Done():
			return nil
		}
	}
}

func (f *fakeFollower) hold(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.held += n
	f.most = max(f.most, f.held)
}

func (f *fakeFollower) counts() (open, held, most, acked int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.open, f.held, f.most, f.acked
}

// tailWorld is a world whose clock is the bubble's.
type tailWorld struct {
	*world
	follower *fakeFollower
}

// inTail runs a test in a bubble of time with a service that has a follower.
func inTail(t *testing.T, opts TailOptions, f func(*testing.T, *tailWorld)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &tailWorld{world: newWorld(t, testYAML, Options{}), follower: newFakeFollower()}
		w.service.deps.Follower = w.follower
		w.service.opts.Tail = opts.Defaults()
		if err := w.service.opts.Tail.Validate(); err != nil {
			t.Fatal(err)
		}
		w.service.deps.Now = time.Now
		w.now = time.Now()
		f(t, w)
	})
}

// client is one connection of a stream: a ResponseWriter that a test can read and hold up.
type client struct {
	t      *testing.T
	header http.Header
	cancel context.CancelFunc
	done   chan struct{}

	mu       sync.Mutex
	status   int
	body     strings.Builder
	seen     int
	stuck    bool
	deadline time.Time
	changed  chan struct{} // closed and replaced with each change of the deadline
}

func (c *client) Header() http.Header { return c.header }

func (c *client) WriteHeader(status int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status = status
}

func (c *client) Write(b []byte) (int, error) {
	for {
		c.mu.Lock()
		if !c.stuck {
			n, err := c.body.Write(b)
			c.mu.Unlock()
			return n, err
		}
		deadline, changed := c.deadline, c.changed
		c.mu.Unlock()
		if !time.Now().Before(deadline) {
			return 0, os.ErrDeadlineExceeded
		}
		select {
		case <-time.After(time.Until(deadline)):
		case <-changed:
		}
	}
}

func (c *client) Flush() {}

func (c *client) SetReadDeadline(time.Time) error { return nil }

func (c *client) SetWriteDeadline(at time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = at
	close(c.changed)
	c.changed = make(chan struct{})
	return nil
}

// connect opens a stream and waits until it stands still.
func (w *tailWorld) connect(target string, headers ...string) *client {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	c := &client{t: w.t.(*testing.T), header: http.Header{}, cancel: cancel, done: make(chan struct{}), changed: make(chan struct{})}
	r := httptest.NewRequest("GET", target, nil).WithContext(ctx)
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	go func() {
		defer close(c.done)
		w.handler.ServeHTTP(c, r)
	}()
	synctest.Wait()
	return c
}

func (c *client) text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.body.String()
}

func (c *client) hold(stuck bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stuck = stuck
}

// end closes the connection.
func (c *client) end() {
	c.cancel()
	<-c.done
}

func (c *client) ended() bool {
	synctest.Wait()
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// event is one block of a stream.
type event struct{ id, kind, data, comment string }

// events returns the blocks that came since the last call.
func (c *client) events() (events []event) {
	c.t.Helper()
	synctest.Wait()
	blocks := strings.SplitAfter(c.text(), "\n\n")
	for ; c.seen < len(blocks); c.seen++ {
		block := blocks[c.seen]
		if !strings.HasSuffix(block, "\n\n") {
			break
		}
		var e event
		for line := range strings.SplitSeq(strings.TrimSuffix(block, "\n\n"), "\n") {
			name, value, ok := strings.Cut(line, ": ")
			switch {
			case !ok:
				c.t.Fatalf("line %q of %q", line, block)
			case name == "id":
				e.id = value
			case name == "event":
				e.kind = value
			case name == "data":
				e.data = value
			case name == "":
				e.comment = value
			case name != "retry":
				c.t.Fatalf("line %q of %q", line, block)
			}
		}
		events = append(events, e)
	}
	return events
}

// rows returns the data of the row events that came since the last call.
func (c *client) rows() (rows []string) {
	c.t.Helper()
	for _, e := range c.events() {
		if e.kind == "row" {
			rows = append(rows, e.data)
		}
	}
	return rows
}

// store stores a record that was published, as ingest does.
func (w *tailWorld) storeMessage(m bus.Message) {
	w.t.Helper()
	ds := w.decl.Dataset("flights")
	rec, err := ds.Decode(m.Data, time.Now())
	if err != nil {
		w.t.Fatal(err)
	}
	w.store.put(ds.Table(), rec.Row(m.PublishTime))
}

func flightTo(destination string, delay int) string {
	return fmt.Sprintf(`{"origin":"SCL","departed_at":"1999-12-01T08:00:00Z","destination":%q,"delay_minutes":%d}`, destination, delay)
}

func rowTo(destination string, delay int) string {
	return fmt.Sprintf(`{"id":"SCL,1999-12-01T08:00:00Z,%s",`, destination) + flightTo(destination, delay)[1:]
}
