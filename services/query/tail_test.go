package query

import (
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/store"
	"github.com/latamctl/latamctl/pkg/web"
)

const tailPath = "/v1/datasets/flights/tail"

func TestTailSendsRowsAsTheyBecomeReadable(t *testing.T) {
	inTail(t, TailOptions{}, func(t *testing.T, w *tailWorld) {
		c := w.connect(tailPath)
		first := c.events()
		if len(first) != 1 || first[0].comment != "live rows of flights" || first[0].id == "" || !strings.HasPrefix(c.text(), "retry: 1000\n") {
			t.Errorf("begins with %q", c.text())
		}
		for name, want := range map[string]string{"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"} {
			if got := c.header.Get(name); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
		m := w.follower.publish(flightTo("LIM", 7))
		time.Sleep(5 * time.Second)
		if got := c.rows(); got != nil {
			t.Errorf("shown before it can be read: %q", got)
		}
		w.storeMessage(m)
		time.Sleep(time.Second)
		if d := cmp.Diff([]string{rowTo("LIM", 7)}, c.rows()); d != "" {
			t.Error(d)
		}
		listed := w.do("GET", "/v1/datasets/flights/rows/"+url.PathEscape("SCL,1999-12-01T08:00:00Z,LIM"), "")
		if listed.Body.String() != rowTo("LIM", 7) {
			t.Errorf("GET shows %s", listed.Body)
		}
		w.storeMessage(w.follower.publish(flightTo("GRU", 1)))
		time.Sleep(20 * time.Millisecond)
		if d := cmp.Diff([]string{rowTo("GRU", 1)}, c.rows()); d != "" {
			t.Errorf("not within 20ms: %s", d)
		}
		c.end()
		if open, held, _, acked := w.follower.counts(); open != 0 || held != 0 || acked != 2 {
			t.Errorf("after the end %d follow, %d messages are held, %d were acknowledged", open, held, acked)
		}
	})
}

func TestTailFiltersAndProjects(t *testing.T) {
	inTail(t, TailOptions{}, func(t *testing.T, w *tailWorld) {
		c := w.connect(tailPath + "?delay_minutes[gte]=5&destination=LIM&fields=delay_minutes&from=now")
		for _, record := range []string{flightTo("LIM", 4), flightTo("GRU", 9), `{"no":"flight"}`, "not JSON", flightTo("LIM", 5)} {
			m := w.follower.publish(record)
			if strings.HasPrefix(record, `{"origin"`) {
				w.storeMessage(m)
			}
		}
		time.Sleep(time.Second)
		if d := cmp.Diff([]string{`{"id":"SCL,1999-12-01T08:00:00Z,LIM","delay_minutes":5}`}, c.rows()); d != "" {
			t.Error(d)
		}
		if _, held, _, acked := w.follower.counts(); held != 0 || acked != 5 {
			t.Errorf("%d messages are held, %d acknowledged", held, acked)
		}
	})
}

// TestTailShowsAChangeNotWhatWasThereBefore: a new version of a row has the event time of the old.
func TestTailShowsAChangeNotWhatWasThereBefore(t *testing.T) {
	inTail(t, TailOptions{}, func(t *testing.T, w *tailWorld) {
		w.add("flights", flightTo("LIM", 1))
		c := w.connect(tailPath)
		two, three := w.follower.publish(flightTo("LIM", 2)), w.follower.publish(flightTo("LIM", 3))
		time.Sleep(3 * time.Second)
		if got := c.rows(); got != nil {
			t.Errorf("shows the old version: %q", got)
		}
		_ = two // Ingest merged both and stored the later one only.
		w.storeMessage(three)
		time.Sleep(2 * time.Second)
		if d := cmp.Diff([]string{rowTo("LIM", 3)}, c.rows()); d != "" {
			t.Error(d)
		}
		if _, held, _, _ := w.follower.counts(); held != 0 {
			t.Errorf("%d messages wait for a version that is gone", held)
		}
	})
}

func TestTailIgnoresWhatChangesNothing(t *testing.T) {
	inTail(t, TailOptions{}, func(t *testing.T, w *tailWorld) {
		ds := w.decl.Dataset("tags")
		c := w.connect("/v1/datasets/tags/tail")
		old := w.follower.publish(`{"name":"a","note":"old"}`)
		time.Sleep(5 * time.Millisecond)
		rec, err := ds.Decode([]byte(`{"name":"a","note":"new"}`), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		w.store.put(ds.Table(), rec.Row(old.PublishTime.Add(time.Second)))
		time.Sleep(time.Second)
		if got := c.events(); len(got) != 1 {
			t.Errorf("shown: %v", got)
		}
		if _, held, _, acked := w.follower.counts(); held != 0 || acked != 1 {
			t.Errorf("%d messages are held, %d acknowledged", held, acked)
		}
	})
}

func TestTailGivesUpOnWhatIsNeverStored(t *testing.T) {
	inTail(t, TailOptions{}, func(t *testing.T, w *tailWorld) {
		c := w.connect(tailPath)
		w.follower.publish(flightTo("LIM", 1))
		late := w.follower.publish(flightTo("GRU", 2))
		time.Sleep(29 * time.Second)
		w.storeMessage(late)
		time.Sleep(900 * time.Millisecond)
		for _, e := range c.events() {
			if e.kind == "gap" {
				t.Errorf("gave up early: %v", e)
			}
		}
		time.Sleep(5 * time.Second)
		var gaps []string
		for _, e := range c.events() {
			if e.kind == "gap" {
				gaps = append(gaps, e.data)
			}
		}
		if d := cmp.Diff([]string{`{"detail":"1 records were not stored within 30s"}`}, gaps); d != "" {
			t.Error(d)
		}
		if _, held, _, _ := w.follower.counts(); held != 0 {
			t.Errorf("%d messages are held", held)
		}
	})
}

func TestTailResumes(t *testing.T) {
	inTail(t, TailOptions{}, func(t *testing.T, w *tailWorld) {
		c := w.connect(tailPath)
		w.storeMessage(w.follower.publish(flightTo("AAA", 1)))
		time.Sleep(time.Second)
		w.storeMessage(w.follower.publish(flightTo("BBB", 1)))
		time.Sleep(time.Second)
		events := c.events()
		last := events[len(events)-1]
		if last.kind != "row" || last.id == "" {
			t.Fatalf("last event %v", last)
		}
		c.end()
		seen := w.follower.messages[1]
		time.Sleep(time.Minute)
		w.storeMessage(w.follower.publish(flightTo("CCC", 1)))
		time.Sleep(time.Minute)
		c = w.connect(tailPath, "Last-Event-ID", last.id)
		if want := seen.PublishTime.Add(-time.Second); !w.follower.from[1].Equal(want) {
			t.Errorf("goes on from %v, want %v", w.follower.from[1], want)
		}
		time.Sleep(20 * time.Second)
		got := c.events()
		if !slices.ContainsFunc(got, func(e event) bool { return e.data == rowTo("CCC", 1) }) {
			t.Errorf("missed the row of meanwhile: %v", got)
		}
		if slices.ContainsFunc(got, func(e event) bool { return e.kind == "gap" }) {
			t.Errorf("speaks of a gap: %v", got)
		}
	})
}

// TestTailPositionNeverPassesWhatWaits: the id of an event must not skip an older message whose row
// was not sent yet.
func TestTailPositionNeverPassesWhatWaits(t *testing.T) {
	inTail(t, TailOptions{}, func(t *testing.T, w *tailWorld) {
		c := w.connect(tailPath)
		waits := w.follower.publish(flightTo("AAA", 1))
		time.Sleep(5 * time.Second)
		w.storeMessage(w.follower.publish(flightTo("BBB", 1)))
		time.Sleep(time.Second)
		events := c.events()
		last := events[len(events)-1]
		if last.data != rowTo("BBB", 1) {
			t.Fatalf("got %v", events)
		}
		at, ok := w.service.sealer.openEvent(w.service.endpoints["flights"].scope, lastID(events))
		if !ok || !at.published.Equal(waits.PublishTime) || at.messageID != waits.ID {
			t.Errorf("the event's place is %v, want that of %v", at, waits)
		}
		c.end()
		w.storeMessage(waits)
		c = w.connect(tailPath, "Last-Event-ID", lastID(events))
		time.Sleep(time.Second)
		if got := c.rows(); !slices.Contains(got, rowTo("AAA", 1)) {
			t.Errorf("after going on: %q", got)
		}
	})
}

// lastID is what an EventSource would send: ids stay until another comes.
func lastID(events []event) (id string) {
	for _, e := range events {
		if e.id != "" {
			id = e.id
		}
	}
	return id
}

func TestTailSaysWhenItCannotResume(t *testing.T) {
	for name, forget := range map[string]bool{"nothing kept": true, "all kept": false} {
		t.Run(name, func(t *testing.T) {
			inTail(t, TailOptions{}, func(t *testing.T, w *tailWorld) {
				c := w.connect(tailPath)
				w.storeMessage(w.follower.publish(flightTo("AAA", 1)))
				time.Sleep(time.Second)
				id := lastID(c.events())
				c.end()
				w.follower.forget = forget
				c = w.connect(tailPath, "Last-Event-ID", id)
				time.Sleep(11 * time.Second)
				gap := slices.ContainsFunc(c.events(), func(e event) bool {
					return e.kind == "gap" && strings.Contains(e.data, "no longer keeps")
				})
				if gap != forget {
					t.Errorf("says so: %v\n%s", gap, c.text())
				}
			})
		})
	}
}

func TestTailEventIDsCannotBeMade(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testYAML, Options{})
	w.service.deps.Follower = &fakeFollower{err: bus.ErrUnavailable}
	w.addFlights()
	refused := func(path, id string) {
		t.Helper()
		rec := w.do("GET", path, "", "Last-Event-ID", id)
		if rec.Code != 400 || problemOf(t, rec).Code != web.CursorMismatch {
			t.Fatalf("%s with %q: %d %s", path, id, rec.Code, rec.Body)
		}
	}
	scope := w.service.endpoints["flights"].scope
	id := w.service.sealer.sealEvent(scope, tailPosition{published: time.Unix(1, 2), messageID: "7"})
	if at, ok := w.service.sealer.openEvent(scope, id); !ok || !at.published.Equal(time.Unix(1, 2)) || at.messageID != "7" {
		t.Fatalf("opens as %v, %v", at, ok)
	}
	box, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(id, eventVersion))
	if err != nil {
		t.Fatal(err)
	}
	for i := range len(box) * 8 {
		changed := slices.Clone(box)
		changed[i/8] ^= 1 << (i % 8)
		refused(tailPath, eventVersion+base64.RawURLEncoding.EncodeToString(changed))
	}
	cursor := *w.page("/v1/datasets/flights/rows?limit=1").NextCursor
	for _, bad := range []string{"x", "t1.", "v1." + id[3:], cursor, "t1." + cursor[3:], id + "A", strings.Repeat("t1.A", 1000)} {
		refused(tailPath, bad)
	}
	refused("/v1/datasets/days/tail", id)
	rec := w.do("GET", "/v1/datasets/flights/rows?cursor=v1."+id[3:], "")
	if problemOf(t, rec).Code != web.CursorMismatch {
		t.Errorf("an event id as a cursor: %s", rec.Body)
	}
}

func TestTailRefusals(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testYAML, Options{})
	for _, tt := range []struct {
		target, accept string
		code           web.Code
		says           string
	}{
		{tailPath + "?limit=5", "", web.UnknownParameter, "limit"},
		{tailPath + "?cursor=x", "", web.UnknownParameter, "cursor"},
		{tailPath + "?to=now", "", web.UnknownParameter, "to"},
		{tailPath + "?scan=allow", "", web.UnknownParameter, "scan"},
		{tailPath + "?orign=SCL", "", web.UnknownParameter, "Did you mean origin"},
		{tailPath + "?feilds=origin", "", web.UnknownParameter, "Did you mean fields"},
		{tailPath + "?from=-5m", "", web.InvalidParameter, "begins now"},
		{tailPath + "?fields=nope", "", web.InvalidParameter, "nope"},
		{tailPath + "?delay_minutes[gte]=x", "", web.InvalidParameter, "int64"},
		{tailPath + "?delay_minutes=", "", web.InvalidParameter, "empty"},
		{"/v1/datasets/flight/tail", "", web.DatasetNotFound, "Did you mean flights"},
		{tailPath, "application/json", web.NotAcceptable, "text/event-stream"},
		{tailPath, "text/event-stream;q=0", web.NotAcceptable, "text/event-stream"},
		{tailPath, "text/event-stream", web.Unavailable, "no message bus"},
		{tailPath, "text/html, */*;q=0.1", web.Unavailable, "no message bus"},
		{tailPath, "", web.Unavailable, "no message bus"},
		{"/v1/datasets/tags/tail?note=x&name=y", "", web.Unavailable, "no message bus"},
	} {
		var headers []string
		if tt.accept != "" {
			headers = []string{"Accept", tt.accept}
		}
		rec := w.do("GET", tt.target, "", headers...)
		p := problemOf(t, rec)
		if p.Code != tt.code || !strings.Contains(p.Detail+p.Hint, tt.says) {
			t.Errorf("%s %q: %s", tt.target, tt.accept, rec.Body)
		}
	}
	w.service.deps.Follower = newFakeFollower()
	if rec := w.do("HEAD", tailPath, ""); rec.Code != 200 || rec.Header().Get("Content-Type") != "text/event-stream" {
		t.Errorf("HEAD: %d %v", rec.Code, rec.Header())
	}
	for _, tt := range []struct {
		err  error
		code web.Code
	}{{fmt.Errorf("x: %w", bus.ErrUnavailable), web.Unavailable}, {fmt.Errorf("x: %w", bus.ErrDenied), web.Internal}, {errors.New("x"), web.Unavailable}} {
		w.service.deps.Follower = &fakeFollower{err: tt.err}
		rec := w.do("GET", tailPath, "")
		if p := problemOf(t, rec); p.Code != tt.code || strings.Contains(rec.Body.String(), `"x`) {
			t.Errorf("%v: %s", tt.err, rec.Body)
		}
	}
}

// TestTailOfAMissingTopic: the caller can only wait, and whoever reads the log knows what to do.
func TestTailOfAMissingTopic(t *testing.T) {
	inTail(t, TailOptions{}, func(t *testing.T, w *tailWorld) {
		log := &strings.Builder{}
		w.service.deps.Log = slog.New(slog.NewTextHandler(log, nil))
		w.follower.err = fmt.Errorf("follow topic flights: %w", bus.ErrNotFound)
		rec := w.do("GET", tailPath, "")
		if p := problemOf(t, rec); rec.Code != 503 || p.Code != web.Unavailable || !strings.Contains(p.Detail, "flights has no topic") {
			t.Errorf("%d %s", rec.Code, rec.Body)
		}
		if after := rec.Header().Get("Retry-After"); after != "5" {
			t.Errorf("Retry-After: %q, want 5", after)
		}
		for _, want := range []string{"level=ERROR", "topic=flights", "latamctl doctor", "latamctl up"} {
			if !strings.Contains(log.String(), want) {
				t.Errorf("the log has no %q: %s", want, log)
			}
		}
		w.follower.err = nil
		if c := w.connect(tailPath); c.ended() {
			t.Errorf("the topic is there, yet the stream ended: %s", c.text())
		}
	})
}

func TestTailHasAPlaceLimit(t *testing.T) {
	inTail(t, TailOptions{MaxTails: 2}, func(t *testing.T, w *tailWorld) {
		one := w.connect(tailPath)
		w.connect(tailPath)
		rec := w.do("GET", tailPath, "")
		if p := problemOf(t, rec); p.Code != web.Overloaded || rec.Header().Get("Retry-After") == "" {
			t.Errorf("third: %s", rec.Body)
		}
		w.connect("/v1/datasets/days/tail") // Another dataset has places of its own.
		one.end()
		if c := w.connect(tailPath); c.ended() {
			t.Errorf("the place of a stream that ended is not free: %s", c.text())
		}
	})
}

func TestTailOfASlowClient(t *testing.T) {
	inTail(t, TailOptions{MaxPending: 20}, func(t *testing.T, w *tailWorld) {
		slow, quick := w.connect(tailPath), w.connect(tailPath)
		slow.hold(true)
		for i := range 200 {
			w.storeMessage(w.follower.publish(flightTo(fmt.Sprintf("%c%c%c", 'A'+i/26, 'A'+i%26, 'X'), i)))
		}
		time.Sleep(time.Second)
		if got := quick.rows(); len(got) != 200 {
			t.Errorf("the other client has %d rows", len(got))
		}
		if _, held, _, _ := w.follower.counts(); held != 20 {
			t.Errorf("%d messages are held for the slow one, want 20", held)
		}
		slow.hold(false)
		_ = slow.SetWriteDeadline(time.Now().Add(time.Second)) // It wakes up and reads on.
		time.Sleep(time.Second)
		if got := slow.rows(); len(got) != 200 {
			t.Errorf("the slow client has %d rows", len(got))
		}
		slow.hold(true)
		w.storeMessage(w.follower.publish(flightTo("ZZZ", 1)))
		time.Sleep(14 * time.Second)
		if slow.ended() {
			t.Error("cut before the write timeout")
		}
		time.Sleep(2 * time.Second)
		if !slow.ended() {
			t.Error("a client that takes nothing is not cut")
		}
		if open, _, _, _ := w.follower.counts(); open != 1 {
			t.Errorf("%d follow, want 1", open)
		}
	})
}

func TestTailDrains(t *testing.T) {
	inTail(t, TailOptions{}, func(t *testing.T, w *tailWorld) {
		c, stuck := w.connect(tailPath), w.connect(tailPath)
		stuck.hold(true)
		w.storeMessage(w.follower.publish(flightTo("AAA", 1)))
		time.Sleep(time.Second)
		w.service.Drain()
		w.service.Drain()
		synctest.Wait()
		if !c.ended() || !strings.HasSuffix(c.text(), ": draining\n\n") {
			t.Errorf("ends with %q", c.text())
		}
		time.Sleep(2 * time.Second)
		if !stuck.ended() {
			t.Error("a client that takes nothing holds up the drain")
		}
		rec := w.do("GET", tailPath, "")
		if p := problemOf(t, rec); p.Code != web.Unavailable || !strings.Contains(p.Detail, "stopping") {
			t.Errorf("while draining: %s", rec.Body)
		}
	})
}

func TestTailBeats(t *testing.T) {
	inTail(t, TailOptions{}, func(t *testing.T, w *tailWorld) {
		c := w.connect(tailPath + "?origin=LIM")
		c.events()
		for i := range 3 {
			m := w.follower.publish(flightTo("AAA", i))
			time.Sleep(10 * time.Second)
			events := c.events()
			if len(events) != 1 || events[0].comment != "keep-alive" {
				t.Fatalf("in 10s: %v", events)
			}
			// The place moves on although nothing was shown.
			at, ok := w.service.sealer.openEvent(w.service.endpoints["flights"].scope, events[0].id)
			if !ok || at.messageID != m.ID {
				t.Errorf("beat at %v, want message %s", at, m.ID)
			}
		}
		time.Sleep(10 * time.Second)
		if events := c.events(); len(events) != 1 || events[0].id != "" {
			t.Errorf("a beat without news: %v", events)
		}
		time.Sleep(time.Hour)
		if !c.ended() || !strings.HasSuffix(c.text(), ": this stream has lasted long enough, connect again\n\n") {
			t.Errorf("after an hour: %q", c.text()[len(c.text())-100:])
		}
	})
}

func TestTailEndsWhenRowsCannotBeRead(t *testing.T) {
	inTail(t, TailOptions{}, func(t *testing.T, w *tailWorld) {
		c := w.connect(tailPath)
		w.store.fail(fmt.Errorf("read: %w", store.ErrUnavailable))
		m := w.follower.publish(flightTo("AAA", 1))
		time.Sleep(10 * time.Second)
		w.store.fail(nil)
		w.storeMessage(m)
		time.Sleep(2 * time.Second)
		if d := cmp.Diff([]string{rowTo("AAA", 1)}, c.rows()); d != "" {
			t.Errorf("after a short outage: %s", d)
		}
		w.store.fail(fmt.Errorf("read: %w", store.ErrUnavailable))
		w.follower.publish(flightTo("BBB", 1))
		time.Sleep(40 * time.Second)
		if !c.ended() || !strings.HasSuffix(c.text(), ": the store cannot be reached, connect again\n\n") {
			t.Errorf("after a long outage: %q", c.text())
		}
		if _, _, _, acked := w.follower.counts(); acked != 1 {
			t.Errorf("%d messages acknowledged, want 1", acked)
		}
	})
}

// TestTailLosesNothing cuts the connection again and again while records are published, stored late
// and in another order, and rejected: what all connections showed is what was stored.
func TestTailLosesNothing(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	for round := range uint64(20) {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			inTail(t, TailOptions{MaxPending: 50, BatchRows: 7}, func(t *testing.T, w *tailWorld) {
				loseNothing(t, w, rand.New(rand.NewPCG(seed, round)))
			})
		})
	}
}

func loseNothing(t *testing.T, w *tailWorld, rng *rand.Rand) {
	const n = 400
	want, got := map[string]bool{}, map[string]bool{}
	published, pause := make(chan struct{}), rand.New(rand.NewPCG(rng.Uint64(), 1))
	c := w.connect(tailPath)
	go func() {
		defer close(published)
		for i := range n {
			time.Sleep(time.Duration(rng.IntN(200)) * time.Millisecond)
			if i%17 == 0 {
				w.follower.publish("poison")
				continue
			}
			m := w.follower.publish(flightTo(fmt.Sprintf("%c%c%c", 'A'+i/26, 'A'+i%26, 'X'), i))
			time.AfterFunc(time.Duration(rng.IntN(3000))*time.Millisecond, func() { w.storeMessage(m) })
		}
	}()
	for i := range n {
		if i%17 != 0 {
			want[rowTo(fmt.Sprintf("%c%c%c", 'A'+i/26, 'A'+i%26, 'X'), i)] = true
		}
	}
	id, cuts := "", 0
	collect := func() {
		events := c.events()
		if last := lastID(events); last != "" {
			id = last
		}
		for _, e := range events {
			switch e.kind {
			case "row":
				if !want[e.data] {
					t.Errorf("never published: %s", e.data)
				}
				got[e.data] = true
			case "gap":
				t.Errorf("speaks of a gap: %s", e.data)
			}
		}
	}
	for done := false; !done; cuts++ {
		select {
		case <-time.After(time.Duration(pause.IntN(3000)) * time.Millisecond):
			collect()
			c.end()
			time.Sleep(time.Duration(pause.IntN(2000)) * time.Millisecond)
			c = w.connect(tailPath, "Last-Event-ID", id)
		case <-published:
			done = true
		}
	}
	time.Sleep(10 * time.Second)
	collect()
	for row := range want {
		if !got[row] {
			t.Errorf("never shown, with %d cuts: %s", cuts, row)
		}
	}
}
