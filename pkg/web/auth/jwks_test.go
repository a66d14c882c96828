package auth

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// settle waits until no fetch of the keys runs.
func (w *world) settle(v *verifier) {
	w.t.Helper()
	v.keys.mu.Lock()
	flight := v.keys.flight
	v.keys.mu.Unlock()
	if flight != nil {
		select {
		case <-flight:
		case <-time.After(10 * time.Second):
			w.t.Fatal("a fetch of the keys did not end")
		}
	}
}

// TestKeysUnreachableCold: without keys a token can be neither good nor bad, so it is 503 and not
// 401; and an issuer that is down is not hammered.
func TestKeysUnreachableCold(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.issuer.SetDown(true)
	token := keysOnce().rsa.Sign(w.claims())
	for range 5 {
		w.expect(w.bearer("gateway", token), http.StatusServiceUnavailable)
	}
	if n := w.issuer.Fetches(); n != 1 {
		t.Errorf("%d fetches within the pause, want 1", n)
	}
	w.expect(w.bearer("gateway", "not.a.token"), http.StatusUnauthorized) // That needs no keys.
	w.issuer.SetDown(false)
	w.clock.add(5 * time.Second)
	w.expect(w.bearer("gateway", token), http.StatusOK)
}

// TestKeysUnreachableWarm: the last good keys are used for an hour past their age, and no longer.
func TestKeysUnreachableWarm(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.issuer.SetCacheControl("public, max-age=600")
	token := keysOnce().rsa.Sign(w.claims("exp", w.clock.now().Add(10*time.Hour).Unix()))
	w.expect(w.bearer("gateway", token), http.StatusOK)
	w.issuer.SetDown(true)
	for _, age := range []time.Duration{599 * time.Second, time.Second, 59 * time.Minute} {
		w.clock.add(age)
		w.expect(w.bearer("gateway", token), http.StatusOK)
		w.settle(w.access.gateway)
	}
	// An id that is not among the last good keys may be a new one.
	w.expect(w.bearer("gateway", keysOnce().rsa2.Sign(w.claims())), http.StatusServiceUnavailable)
	w.clock.add(61 * time.Second)
	w.expect(w.bearer("gateway", token), http.StatusServiceUnavailable)
	w.issuer.SetDown(false)
	w.clock.add(5 * time.Second)
	w.expect(w.bearer("gateway", token), http.StatusOK)
}

// TestKeyRotation: a new key is found at its first token, and a withdrawn one takes its tokens with
// it, those that were verified before too.
func TestKeyRotation(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	k := keysOnce()
	first, second := k.rsa.Sign(w.claims()), k.rsa2.Sign(w.claims())
	w.expect(w.bearer("gateway", first), http.StatusOK)
	w.expect(w.bearer("gateway", second), http.StatusUnauthorized) // Asked too soon, and it was not there.
	w.issuer.Publish(k.rsa2)
	w.clock.add(29 * time.Second)
	w.expect(w.bearer("gateway", second), http.StatusUnauthorized)
	w.clock.add(time.Second)
	w.expect(w.bearer("gateway", second), http.StatusOK)
	w.expect(w.bearer("gateway", first), http.StatusUnauthorized)
	if n := w.issuer.Fetches(); n != 2 {
		t.Errorf("%d fetches, want 2", n)
	}
}

// TestWithdrawnKeyTakesItsTokens: a token that was verified is refused once its key is gone, even
// when nobody else has asked since.
func TestWithdrawnKeyTakesItsTokens(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.issuer.SetCacheControl("max-age=60")
	k := keysOnce()
	token := k.rsa.Sign(w.claims())
	w.expect(w.bearer("gateway", token), http.StatusOK)
	w.issuer.Publish(k.rsa2)
	w.clock.add(time.Minute)
	w.expect(w.bearer("gateway", token), http.StatusOK) // The new keys are fetched behind it.
	w.settle(w.access.gateway)
	w.expect(w.bearer("gateway", token), http.StatusUnauthorized)
}

// TestUnknownKeysDoNotAmplify: a thousand made-up ids cause one fetch in 30 s.
func TestUnknownKeysDoNotAmplify(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.expect(w.bearer("gateway", keysOnce().rsa.Sign(w.claims())), http.StatusOK)
	w.clock.add(30 * time.Second)
	for i := range 1000 {
		header := fmt.Sprintf(`{"alg":"RS256","kid":"made-up-%d"}`, i)
		w.expect(w.bearer("gateway", segment(header)+"."+segment(`{}`)+"."+segment("x")), http.StatusUnauthorized)
	}
	if n := w.issuer.Fetches(); n != 2 {
		t.Errorf("%d fetches of the keys, want 2", n)
	}
}

// TestOneFetchForAll: callers that come while the keys are fetched wait for that one fetch.
func TestOneFetchForAll(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	token := keysOnce().rsa.Sign(w.claims())
	release := w.issuer.Hold()
	defer release()
	var all sync.WaitGroup
	statuses := make(chan int, 50)
	for range cap(statuses) {
		all.Go(func() { statuses <- w.bearer("gateway", token).Code })
	}
	for w.issuer.Fetches() == 0 {
		time.Sleep(time.Millisecond)
	}
	release()
	all.Wait()
	for range cap(statuses) {
		if status := <-statuses; status != http.StatusOK {
			t.Errorf("status %d", status)
		}
	}
	if n := w.issuer.Fetches(); n != 1 {
		t.Errorf("%d fetches, want 1", n)
	}
}

// TestKeysThatCannotBeUsed: whatever an issuer answers, a token is never accepted by it, and the
// good keys stay.
func TestKeysThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{
		"empty":           ``,
		"HTML":            `<html>down</html>`,
		"no keys":         `{"keys":[]}`,
		"null":            `null`,
		"keys null":       `{"keys":null}`,
		"keys an object":  `{"keys":{}}`,
		"key null":        `{"keys":[null]}`,
		"symmetric":       `{"keys":[{"kty":"oct","kid":"rsa-1","k":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}]}`,
		"weak":            string(mustJSON(map[string]any{"keys": []any{map[string]any{"kty": "RSA", "kid": "rsa-1", "n": strings.Repeat("A", 100), "e": "AQAB"}}})),
		"point off curve": `{"keys":[{"kty":"EC","crv":"P-256","kid":"rsa-1","x":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE","y":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE"}]}`,
		"too large":       `{"keys":[],"pad":"` + strings.Repeat("x", 1<<20) + `"}`,
		"too many":        `{"keys":[` + strings.Repeat(`{},`, 200) + `{}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil)
			w.issuer.Replace([]byte(body))
			token := keysOnce().rsa.Sign(w.claims())
			w.expect(w.bearer("gateway", token), http.StatusServiceUnavailable)
			w.issuer.Replace(nil)
			w.clock.add(5 * time.Second)
			w.expect(w.bearer("gateway", token), http.StatusOK)
			w.issuer.Replace([]byte(body))
			w.clock.add(61 * time.Minute) // Older than an hour, which is what they are good for by default.
			again := keysOnce().rsa.Sign(w.claims())
			w.expect(w.bearer("gateway", again), http.StatusOK)
			w.settle(w.access.gateway)
			w.expect(w.bearer("gateway", again), http.StatusOK)
		})
	}
}

// TestWeakKeyIsNotUsed: a 1024-bit key is skipped, and the others beside it are not.
func TestWeakKeyIsNotUsed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	k := keysOnce()
	w.issuer.Publish(k.weak, k.rsa)
	w.expect(w.bearer("gateway", k.weak.Sign(w.claims())), http.StatusUnauthorized)
	w.expect(w.bearer("gateway", k.rsa.Sign(w.claims())), http.StatusOK)
}

func TestMaxAge(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		control, age string
		want         time.Duration
	}{
		{"", "", time.Hour},
		{"public, max-age=19845, must-revalidate, no-transform", "", 19845 * time.Second},
		{"max-age=600", "100", 500 * time.Second},
		{"MAX-AGE=60", "x", time.Minute},
		{`max-age="60"`, "", time.Minute},
		{"max-age=-1", "", time.Hour},
		{"max-age=99999999999999999999", "", time.Hour},
		{"no-store", "", 0},
		{"no-cache, max-age=600", "", 0},
	} {
		h := http.Header{"Cache-Control": {c.control}, "Age": {c.age}}
		if got := maxAge(h); got != c.want {
			t.Errorf("Cache-Control %q, Age %q: %s, want %s", c.control, c.age, got, c.want)
		}
	}
}

// TestAgeIsBounded: an issuer can neither have its keys fetched at every request nor kept for ever.
func TestAgeIsBounded(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		control    string
		stale, old time.Duration // when it is fetched again, and when it was not yet
	}{
		{"max-age=0", time.Minute, 59 * time.Second},
		{"max-age=31536000", 24 * time.Hour, 23 * time.Hour},
	} {
		w := newWorld(t, nil)
		w.issuer.SetCacheControl(c.control)
		ask := func() {
			w.expect(w.bearer("gateway", keysOnce().rsa.Sign(w.claims())), http.StatusOK)
			w.settle(w.access.gateway)
		}
		ask()
		w.clock.add(c.old)
		ask()
		if n := w.issuer.Fetches(); n != 1 {
			t.Errorf("%s: %d fetches after %s, want 1", c.control, n, c.old)
		}
		w.clock.add(c.stale - c.old)
		ask()
		if n := w.issuer.Fetches(); n != 2 {
			t.Errorf("%s: %d fetches after %s, want 2", c.control, n, c.stale)
		}
	}
}

func TestDiscoveryIsChecked(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		issuer, uri string
		good        bool
	}{
		{"https://issuer.example.com", "https://keys.example.com/jwks", true},
		{"https://issuer.example.com", "http://127.0.0.1:1/jwks", false},
		{"https://issuer.example.com", "http://issuer.example.com/jwks", false},
		{"https://issuer.example.com", "file:///etc/passwd", false},
		{"https://issuer.example.com", "", false},
		{"http://127.0.0.1:1", "http://127.0.0.1:1/jwks", true},
		{"http://127.0.0.1:1", "http://issuer.example.com/jwks", false},
	} {
		if err := checkURI(c.uri, c.issuer); (err == nil) != c.good {
			t.Errorf("jwks_uri %q of %s: %v, want good %v", c.uri, c.issuer, err, c.good)
		}
	}
	// The document has to be that of the issuer that was asked.
	w := newWorld(t, func(o *Options) { o.OIDC.Issuer += "/" })
	w.expect(w.bearer("oidc", keysOnce().rsa.Sign(w.claims("iss", w.issuer.URL+"/"))), http.StatusServiceUnavailable)
	if !strings.Contains(w.log.String(), "expected") {
		t.Errorf("the log does not say what was expected:\n%s", w.log)
	}
}
