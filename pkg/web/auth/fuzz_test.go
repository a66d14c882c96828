package auth

import (
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"unicode/utf8"

	"github.com/go-jose/go-jose/v4"
)

func seedTokens(f *testing.F, w *world) {
	f.Helper()
	for _, c := range gatewayCases(w) {
		if len(c.header) > 1 {
			f.Add(strings.TrimPrefix(c.header[1], "Bearer "))
		}
	}
}

// FuzzPrecheck: whatever passes has a header and a payload that mean one thing.
func FuzzPrecheck(f *testing.F) {
	seedTokens(f, newWorld(f, nil))
	algs := []jose.SignatureAlgorithm{jose.RS256, jose.ES256}
	f.Fuzz(func(t *testing.T, text string) {
		tok, err := precheck(text, 4096, algs)
		if err != nil {
			var why reason
			if !errors.As(err, &why) {
				t.Fatalf("the error is no reason: %v", err)
			}
			return
		}
		if len(text) > 4096 || strings.Count(text, ".") != 2 || tok.kid == "" || tok.claims == nil || !utf8.Valid(tok.payload) {
			t.Fatalf("passed: %q as %+v", text, tok)
		}
		if tok.alg != "RS256" && tok.alg != "ES256" {
			t.Fatalf("alg %q passed", tok.alg)
		}
		if _, err := jose.ParseSignedCompact(text, algs); err != nil {
			t.Fatalf("passed, and the library refuses it: %v", err)
		}
	})
}

// FuzzVerifier: nothing but the tokens that were signed is ever accepted, nothing panics, and a
// refusal is a 401, or a 403 for those that are good but not here.
func FuzzVerifier(f *testing.F) {
	w := newWorld(f, nil)
	signed := map[string]int{}
	for _, c := range gatewayCases(w) {
		if len(c.header) > 1 && c.status != http.StatusUnauthorized {
			signed["Bearer "+strings.TrimPrefix(strings.TrimPrefix(c.header[1], "Bearer "), "bearer ")] = c.status
		}
	}
	seedTokens(f, w)
	for _, good := range []string{"lo_owner", keysOnce().ec.Sign(w.claims("iss", w.issuer.URL))} {
		f.Add(good)
		signed["Bearer "+good] = http.StatusOK
	}
	var panicked atomic.Bool
	for _, v := range []*verifier{w.access.gateway, w.access.oidc} {
		v.onPanic = func(any) { panicked.Store(true) }
	}
	w.access.deps.Log = slog.New(slog.DiscardHandler) // It would hold every input.
	f.Fuzz(func(t *testing.T, text string) {
		for _, name := range []string{"gateway", "oidc", "keyed"} {
			r := httptest.NewRequest(http.MethodGet, "/"+name, nil)
			r.Header["Authorization"] = []string{"Bearer " + text}
			h := http.Header{}
			_, p := w.access.Admit(h, r, w.byName[name])
			if p == nil {
				if status := signed["Bearer "+text]; status != http.StatusOK {
					t.Fatalf("%s accepted %q", name, text)
				}
				continue
			}
			if p.Code != "UNAUTHENTICATED" && (p.Code != "FORBIDDEN" || signed["Bearer "+text] != http.StatusForbidden) {
				t.Fatalf("%s answered %s to %q", name, p.Code, text)
			}
		}
		if panicked.Load() {
			t.Fatalf("%q made a check panic", text)
		}
	})
}

// FuzzKeyring: a file that is read is written and read again as the same.
func FuzzKeyring(f *testing.F) {
	ring := NewKeyring()
	for _, name := range []string{"a", "b"} {
		if _, _, err := ring.Create(name, []string{"d"}, newClock().now(), newClock().now()); err != nil {
			f.Fatal(err)
		}
	}
	b, err := ring.Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"schema":"latamctl.keys/v1","keys":[null]}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		ring, err := ParseKeyring(in)
		if err != nil {
			return
		}
		b, err := ring.Marshal()
		if err != nil {
			t.Skip("a year that RFC 3339 cannot write") // time.Time reads more than it writes.
		}
		again, err := ParseKeyring(b)
		if err != nil || len(again.Keys) != len(ring.Keys) {
			t.Fatalf("%s\nwas read, and written anew is refused: %v\n%s", in, err, b)
		}
	})
}
