package auth

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

func benchmark(b *testing.B, dataset string, headers func(*world) []string, want bool) {
	w := newWorld(b, nil)
	r := httptest.NewRequest(http.MethodGet, "/"+dataset, nil)
	list := headers(w)
	for i := 0; i < len(list); i += 2 {
		r.Header.Add(list[i], list[i+1])
	}
	ds, h := w.byName[dataset], http.Header{}
	b.ReportAllocs()
	for b.Loop() {
		if _, p := w.access.Admit(h, r, ds); (p == nil) != want {
			b.Fatal(p)
		}
	}
}

func none(*world) []string { return nil }

func bearerOf(token func(*world) string) func(*world) []string {
	return func(w *world) []string { return []string{"Authorization", "Bearer " + token(w)} }
}

func BenchmarkNone(b *testing.B) { benchmark(b, "open", none, true) }

func BenchmarkKey(b *testing.B) {
	benchmark(b, "keyed", func(w *world) []string {
		text, _ := w.addKey("one", nil, time.Time{})
		return []string{keyHeader, text}
	}, true)
}

func BenchmarkKeyWithQuota(b *testing.B) {
	w := newWorld(b, nil)
	q := newQuotas(1_000_000_000, 10_000)
	w.access.quotas["other"] = q
	text, _ := w.addKey("one", nil, time.Time{})
	r := httptest.NewRequest(http.MethodGet, "/other", nil)
	r.Header.Set(keyHeader, text)
	h := http.Header{}
	b.ReportAllocs()
	for b.Loop() {
		if _, p := w.access.Admit(h, r, w.byName["other"]); p != nil {
			b.Fatal(p)
		}
	}
}

func BenchmarkOIDC(b *testing.B) {
	benchmark(b, "oidc", bearerOf(func(w *world) string { return keysOnce().ec.Sign(w.claims("iss", w.issuer.URL)) }), true)
}

func BenchmarkGateway(b *testing.B) {
	benchmark(b, "gateway", bearerOf(func(w *world) string { return keysOnce().rsa.Sign(w.claims()) }), true)
}

func BenchmarkGatewayFirstTime(b *testing.B) {
	w := newWorld(b, nil)
	token := keysOnce().rsa.Sign(w.claims())
	b.ReportAllocs()
	for b.Loop() {
		w.access.gateway.verified = newVerifiedTokens(1)
		if _, err := w.access.gateway.verify(b.Context(), token); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRefused(b *testing.B) {
	benchmark(b, "gateway", bearerOf(func(*world) string { return "x" }), false)
}

// TestOpenCostsNothing: a dataset that asks for nothing allocates nothing.
func TestOpenCostsNothing(t *testing.T) {
	w := newWorld(t, nil)
	r, h := httptest.NewRequest(http.MethodGet, "/open", nil), http.Header{}
	if n := testing.AllocsPerRun(100, func() { _, _ = w.access.Admit(h, r, w.byName["open"]) }); n != 0 {
		t.Errorf("%v allocations a request, want 0", n)
	}
}
