package query

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/latamctl/latamctl/pkg/web"
)

// nasty are values that parameters, ids and bodies are attacked with.
var nasty = []string{
	"", "0", "-1", "1e9", "NaN", "Infinity", "99999999999999999999", "0x10", "1.5", "null", "true", "%00", "%ff", "%C0%80", "%", "%zz", "%25%30",
	"..", "../", "../../etc/passwd", "..%2f", "%2e%2e", ".", "//", "\\", "'", "\"", "<script>alert(1)</script>", "' OR 1=1 --", "{}", "[]", "{", "[gt]", "a[gt]=1", "[", "]",
	"+", "%20", "&", "=", "==", ";", "#", "?", "~", "~~", "~G", "~0", "~41", ",", ",,", ",,,", "SCL,2001-01-01T09:00:00Z,GRU", "SCL", "scl", "2001-01-01", "2001-02-30",
	"9999-12-31T23:59:59.999999999Z", "0000-01-01", "-15m", "-999999999999d", "-", "now", "now-1h", "desc", "asc", "allow", "v1.", "v1.AAAA", "v2.AAAA", "\u202e", "é", "%F0%9F%92%A9",
	strings.Repeat("A", 4096), strings.Repeat("%41", 2000), strings.Repeat(",", 500), strings.Repeat("[", 300), "%0d%0aX-Injected:%20yes", "%1b[31m",
}

var abuseNames = []string{
	"origin", "departed_at", "destination", "delay_minutes", "crew", "late", "photo", "from", "to", "order", "fields", "limit", "cursor", "scan",
	"origin[gt]", "departed_at[gte]", "departed_at[lt]", "late[gt]", "crew[eq]", "origin[]", "origin[[gt]]", "[gt]", "limit[gt]", "index", "count", "format", "explain", "id", "constructor", "__proto__",
}

func randomTarget(rng *rand.Rand, cursors []string) string {
	path := pick(rng, []string{
		"/v1/datasets/flights/rows", "/v1/datasets/flights/rows", "/v1/datasets/flights/rows", "/v1/datasets/days/rows", "/v1/datasets/flights/records",
		"/v1/datasets/flights/rows/" + pick(rng, nasty), "/v1/datasets/" + pick(rng, nasty), "/v1/datasets/" + pick(rng, nasty) + "/rows", "/" + pick(rng, nasty), "/", "/healthz", "/v1/datasets",
	})
	var ps []string
	for range rng.IntN(5) {
		name, value := pick(rng, abuseNames), pick(rng, nasty)
		switch rng.IntN(8) {
		case 0:
			name = pick(rng, nasty)
		case 1:
			name, value = "cursor", pick(rng, cursors)
		case 2:
			b := []byte(pick(rng, cursors))
			b[rng.IntN(len(b))] = byte('A' + rng.IntN(26))
			name, value = "cursor", string(b)
		}
		ps = append(ps, name+"="+value)
	}
	if rng.IntN(10) == 0 {
		ps = append(ps, ps...)
	}
	if len(ps) > 0 {
		path += "?" + strings.Join(ps, "&")
	}
	return path
}

func randomRequest(rng *rand.Rand, cursors []string) *http.Request {
	method := pick(rng, []string{"GET", "GET", "GET", "GET", "GET", "GET", "GET", "GET", "HEAD", "HEAD", "POST", "POST", "POST", "POST", pick(rng, []string{"PUT", "DELETE", "OPTIONS", "TRACE", "BREW", "PRI"})})
	target := randomTarget(rng, cursors)
	if method == "POST" && rng.IntN(4) > 0 {
		target = "/v1/datasets/flights/records"
	}
	u, err := url.ParseRequestURI(target)
	if err != nil || strings.ContainsAny(target, "\r\n ") {
		return nil // net/http answers these itself
	}
	r := httptest.NewRequest("GET", "/", nil)
	r.Method, r.URL, r.RequestURI = method, u, target
	if method == "POST" {
		body := pick(rng, []string{flight(1), flight(1) + "\n" + flight(2), "{", "", "[]", "null", strings.Repeat("[", 5000), strings.Repeat("{\"a\":", 3000), "\xff\xfe", `{"origin":"` + strings.Repeat("x", 5000) + `"}`, pick(rng, nasty), strings.Repeat("{}\n", 1200)})
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
		r.Header.Set("Content-Type", pick(rng, []string{"application/json", "application/x-ndjson", "text/plain", "", ";", "application/json; charset=\xff"}))
	}
	if rng.IntN(5) == 0 {
		r.Header.Set("Accept", pick(rng, nasty))
	}
	if rng.IntN(5) == 0 {
		r.Header.Set("X-Request-Id", pick(rng, nasty))
	}
	if rng.IntN(5) == 0 {
		r.Header.Set("Traceparent", pick(rng, append(nasty, "00-00000000000000000000000000000000-0000000000000000-00")))
	}
	if rng.IntN(20) == 0 {
		r.Header.Set("X-HTTP-Method-Override", "DELETE")
	}
	return r
}

// TestAbuseNeverBreaksTheService sends 10,000 hostile requests: none may be answered with a 5xx, every
// answer is one of the contract, and every refusal is a problem without the caller's bytes or our internals.
func TestAbuseNeverBreaksTheService(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 2))
	w := newAbuseWorld(t)
	checker := newChecker(t, w)
	var cursors []string
	for _, query := range []string{"flights/rows?limit=1", "days/rows?limit=1", "flights/rows?limit=1&order=desc", "orders/rows?limit=3", "orders/rows?status=open&limit=2", "orders/rows?index=by_due&order=desc&limit=2"} {
		cursors = append(cursors, *w.page("/v1/datasets/" + query).NextCursor)
	}
	answers := map[string]int{} // by route and status
	for n := 0; n < abuseSize(t, "LATAM_ABUSE_REQUESTS", 10_000); {
		r := randomRequest(rng, cursors)
		if n%2 == 0 {
			r = surfaceRequest(rng, w, cursors)
		}
		if r == nil {
			continue
		}
		n++
		rec := httptest.NewRecorder()
		w.handler.ServeHTTP(rec, r)
		answers[fmt.Sprint(rec.Code)]++
		answers[fmt.Sprint(r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:], " ", rec.Code)]++
		what := fmt.Sprintf("seed %d: %s %.300s %v: %d %.300s", seed, r.Method, r.RequestURI, r.Header, rec.Code, rec.Body)
		if rec.Code >= 500 {
			t.Fatal(what)
		}
		if rec.Code >= 400 {
			checkProblemBody(t, rec, what)
		}
		if err := checker.Validate(r, rec.Code, rec.Header(), rec.Body.Bytes()); err != nil {
			t.Fatalf("not in the contract: %v: %s", err, what)
		}
		for name, values := range rec.Header() {
			if name == "X-Injected" || strings.ContainsAny(strings.Join(values, ""), "\r\n") {
				t.Fatalf("header %s: %s", name, what)
			}
		}
	}
	for _, answer := range []string{
		"200", "202", "400", "403", "404", "405", "406", "413", "415", "rows 200", "rows 400", "aggregate 200", "aggregate 400",
		"batch-get 200", "batch-get 400", "tail 200", "tail 400", "stats 200", "schema 200", "7 200",
	} {
		if answers[answer] == 0 {
			t.Errorf("no request was answered with %s: the generator is too tame: %v", answer, answers)
		}
	}
}

// abuseSize is how much a test does: little by default, and what make abuse says.
func abuseSize(t *testing.T, variable string, size int) int {
	t.Helper()
	if text := os.Getenv(variable); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			t.Fatalf("%s=%s is no size", variable, text)
		}
		return n
	}
	return size
}

func checkProblemBody(t *testing.T, rec *httptest.ResponseRecorder, what string) {
	body := rec.Body.Bytes()
	var p web.Problem
	if err := json.Unmarshal(body, &p); err != nil || rec.Header().Get("Content-Type") != "application/problem+json" {
		t.Fatalf("not a problem: %s", what)
	}
	if _, ok := web.LookupCode(string(p.Code)); !ok || p.Detail == "" {
		t.Fatalf("incomplete problem: %s", what)
	}
	if !utf8.Valid(body) || bytes.ContainsAny(body, "\x00\x1b\r\n") || len(body) > 16<<10 || bytes.Contains(body, []byte(strings.Repeat("A", 65))) ||
		bytes.Contains(body, []byte("goroutine ")) || bytes.Contains(body, []byte(".go:")) || bytes.Contains(body, []byte("<script>")) {
		t.Fatalf("raw bytes in the answer: %s", what)
	}
}

// FuzzCursor: whatever is sent as a cursor is refused with 400 unless the service made it.
func FuzzCursor(f *testing.F) {
	w := newWorld(f, testYAML, Options{})
	w.addFlights()
	real := *w.page("/v1/datasets/flights/rows?limit=1").NextCursor
	f.Add(real[:len(real)-1])
	f.Add(real + "A")
	f.Add(strings.Replace(real, "v1.", "v2.", 1))
	f.Add("v1.")
	f.Add("v1." + base64.RawURLEncoding.EncodeToString(make([]byte, 28)))
	f.Add("v1." + base64.RawURLEncoding.EncodeToString(make([]byte, 200)))
	f.Add("\xff")
	f.Fuzz(func(t *testing.T, cursor string) {
		if cursor == real {
			return
		}
		rec := w.do("GET", "/v1/datasets/flights/rows?cursor="+url.QueryEscape(cursor), "")
		if rec.Code != http.StatusBadRequest && rec.Code != http.StatusRequestURITooLong {
			t.Fatalf("%d %s", rec.Code, rec.Body)
		}
		problemOf(t, rec)
	})
}

// TestEveryChangeOfACursorIsNoticed flips each bit of a cursor.
func TestEveryChangeOfACursorIsNoticed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testYAML, Options{})
	w.addFlights()
	cursor := *w.page("/v1/datasets/flights/rows?limit=1").NextCursor
	box, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(cursor, cursorVersion))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(box, []byte("EZE")) {
		t.Error("the cursor shows the row key")
	}
	for i := range len(box) * 8 {
		changed := bytes.Clone(box)
		changed[i/8] ^= 1 << (i % 8)
		rec := w.do("GET", "/v1/datasets/flights/rows?cursor="+cursorVersion+base64.RawURLEncoding.EncodeToString(changed), "")
		if problemOf(t, rec).Code != web.CursorMismatch {
			t.Fatalf("bit %d: %s", i, rec.Body)
		}
	}
	other := newWorld(t, testYAML, Options{})
	other.service.sealer, err = newSealer([]byte(strings.Repeat("x", cursorKeyBytes)))
	if err != nil {
		t.Fatal(err)
	}
	if rec := other.do("GET", "/v1/datasets/flights/rows?cursor="+cursor, ""); problemOf(t, rec).Code != web.CursorMismatch {
		t.Errorf("another process's key: %s", rec.Body)
	}
	changedShape := newWorld(t, strings.Replace(testYAML, "late:           {type: bool}", "late:           {type: string}", 1), Options{})
	if rec := changedShape.do("GET", "/v1/datasets/flights/rows?cursor="+cursor, ""); problemOf(t, rec).Code != web.CursorMismatch {
		t.Errorf("another shape of rows: %s", rec.Body)
	}
}

// FuzzDecodePosition: no plain text, however short or odd, breaks the reader.
func FuzzDecodePosition(f *testing.F) {
	f.Add([]byte{})
	f.Add(make([]byte, positionHeadBytes))
	f.Add(append(make([]byte, positionHeadBytes), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01))
	f.Add(append(make([]byte, positionHeadBytes), 3, 'k', 'e', 'y', 'q'))
	f.Fuzz(func(t *testing.T, plain []byte) {
		p, ok := decodePosition(plain)
		if ok && len(p.key)+len(p.query) > len(plain) {
			t.Fatal("more than was sent")
		}
	})
}

// FuzzParams: any query string is understood or refused with a 4xx.
func FuzzParams(f *testing.F) {
	w := newWorld(f, testYAML, Options{})
	w.addFlights()
	for _, q := range []string{"origin=SCL&from=-7d&order=desc&limit=5", "departed_at[gte]=2001-01-01&scan=allow", "fields=id,origin&origin[lt]=Z", "a=%zz", "&&=&", "photo=AA==&scan=allow"} {
		f.Add(q)
	}
	f.Fuzz(func(t *testing.T, query string) {
		r := httptest.NewRequest("GET", "/v1/datasets/flights/rows", nil)
		r.URL.RawQuery = query
		rec := httptest.NewRecorder()
		w.handler.ServeHTTP(rec, r)
		if rec.Code >= 500 || rec.Code != 200 && rec.Header().Get("Content-Type") != "application/problem+json" || !json.Valid(rec.Body.Bytes()) {
			t.Fatalf("%d %s", rec.Code, rec.Body)
		}
	})
}
