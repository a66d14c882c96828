package auth

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestQuota(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	for i := range 60 {
		rec := w.ask("metered")
		w.expect(rec, http.StatusOK)
		want := fmt.Sprintf(`"default";r=%d;t=%d`, 59-i, i+1)
		if got := rec.Header().Get("RateLimit"); got != want {
			t.Errorf("request %d: RateLimit %s, want %s", i+1, got, want)
		}
		if got := rec.Header().Get("RateLimit-Policy"); got != `"default";q=60;w=60` {
			t.Errorf("RateLimit-Policy %s", got)
		}
	}
	rec := w.ask("metered")
	w.expect(rec, http.StatusTooManyRequests)
	if got := []string{rec.Header().Get("Retry-After"), rec.Header().Get("RateLimit")}; got[0] != "1" || got[1] != `"default";r=0;t=60` {
		t.Errorf("Retry-After and RateLimit %q", got)
	}
	w.clock.add(999 * time.Millisecond)
	w.expect(w.ask("metered"), http.StatusTooManyRequests)
	w.clock.add(time.Millisecond)
	w.expect(w.ask("metered"), http.StatusOK)
	w.expect(w.ask("metered"), http.StatusTooManyRequests)
	w.clock.add(time.Minute)
	for range 60 {
		w.expect(w.ask("metered"), http.StatusOK)
	}
	w.expect(w.ask("metered"), http.StatusTooManyRequests)
	w.expect(w.ask("open"), http.StatusOK)
	for range 100 { // The owner is not counted.
		w.expect(w.bearer("metered", "lo_owner"), http.StatusOK)
	}
	if got := w.refusals()[string(reasonQuota)]; got != 4 {
		t.Errorf("%d refusals for the quota, want 4", got)
	}
}

// TestQuotaByCaller: each caller has its own count, wherever it asks from and however it spells itself.
func TestQuotaByCaller(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	token := keysOnce().rsa.Sign(w.claims())
	as := func(sub string) int {
		return w.ask("metered-gateway", "Authorization", "Bearer "+token, userinfoHeader, segment(fmt.Sprintf(`{"sub":%q}`, sub))).Code
	}
	got := []int{as("alice"), as("alice"), as("alice"), as("bob"), as("bob"), as("bob"), w.bearer("metered-gateway", token).Code}
	if diff := cmp.Diff([]int{200, 200, 429, 200, 200, 429, 200}, got); diff != "" {
		t.Error(diff)
	}
	for range 5 { // Who is not let in is not counted.
		w.expect(w.bearer("metered-gateway", "x"), http.StatusUnauthorized)
	}
}

func TestRemoteAddress(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ in, want string }{
		{"192.0.2.1:1234", "192.0.2.1"},
		{"[::ffff:192.0.2.1]:1", "192.0.2.1"},
		{"[2001:db8:1:2:3:4:5:6]:1", "2001:db8:1:2::"},
		{"[fe80::1%eth0]:1", "fe80::"},
		{"@", "invalid IP"},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RemoteAddr = c.in
		r.Header.Set("X-Forwarded-For", "203.0.113.9") // Anybody can say that.
		if got := remote(r); got.Addr.String() != c.want || got.Kind != KindAddress {
			t.Errorf("%s: %v, want %s", c.in, got, c.want)
		}
	}
}

// naiveQuota is the same promise by counting: a bucket that gains tokens with time.
type naiveQuota struct {
	perMinute int
	tokens    map[string]float64
	seen      map[string]time.Time
}

func (q *naiveQuota) take(id string, now time.Time) bool {
	tokens, known := q.tokens[id]
	if !known {
		tokens = float64(q.perMinute)
	} else {
		tokens = min(float64(q.perMinute), tokens+now.Sub(q.seen[id]).Minutes()*float64(q.perMinute))
	}
	ok := tokens >= 1
	if ok {
		tokens--
	}
	q.tokens[id], q.seen[id] = tokens, now
	return ok
}

// TestQuotaAgainstModel compares with the naive count under random callers and pauses, and checks
// that coming back when told to is enough.
func TestQuotaAgainstModel(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 50 {
		perMinute := 1 + rng.IntN(1000)
		q := newQuotas(perMinute, 100)
		model := &naiveQuota{perMinute: perMinute, tokens: map[string]float64{}, seen: map[string]time.Time{}}
		now := newClock().now()
		for range 500 {
			now = now.Add(time.Duration(rng.IntN(3)*rng.IntN(60_000/perMinute+1)) * time.Millisecond)
			id := strconv.Itoa(rng.IntN(3))
			edge := model.tokens[id]
			s := q.take(Caller{Kind: KindKey, ID: id}, now)
			allowed := model.take(id, now)
			if near := model.tokens[id]; allowed != (s.retry == 0) && near > 1e-6 && near < 1-1e-6 {
				t.Fatalf("quota %d, caller %s: let in %v, the model says %v at %v then %v tokens", perMinute, id, s.retry == 0, allowed, edge, near)
			} else if allowed != (s.retry == 0) {
				break // Rounding at the edge of a token; from here the two differ for good.
			}
			if s.remaining < 0 || s.remaining > perMinute-1 || s.full < 0 || s.full > time.Minute+time.Millisecond {
				t.Fatalf("quota %d: standing %+v", perMinute, s)
			}
		}
	}
}

func TestRetryIsEnough(t *testing.T) {
	t.Parallel()
	for _, perMinute := range []int{1, 7, 60, 600, 59_999} {
		q := newQuotas(perMinute, 10)
		now := newClock().now()
		c := Caller{Kind: KindKey, ID: "a"}
		for q.take(c, now).retry == 0 {
		}
		s := q.take(c, now)
		if next := q.take(c, now.Add(s.retry+time.Millisecond)); next.retry != 0 {
			t.Errorf("quota %d: told to come back after %s, and refused then", perMinute, s.retry)
		}
	}
}

// TestQuotaIsBounded: a flood of callers takes a bounded room and costs the busy ones nothing.
func TestQuotaIsBounded(t *testing.T) {
	t.Parallel()
	q := newQuotas(10, 100)
	now := newClock().now()
	busy := Caller{Kind: KindKey, ID: "busy"}
	for i := range 5000 {
		addr := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		q.take(Caller{Kind: KindAddress, Addr: addr}, now)
		if i%50 == 0 {
			q.take(busy, now)
		}
	}
	if len(q.buckets) != 100 || q.recent.Len() != 100 {
		t.Errorf("%d callers are remembered, want 100", len(q.buckets))
	}
	if q.take(busy, now).retry == 0 {
		t.Error("the busy caller was forgotten and got a new quota")
	}
}
