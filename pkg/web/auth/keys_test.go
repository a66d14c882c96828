package auth

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/latamctl/latamctl/pkg/telemetry"
)

// addKey puts a key into the world's file and lets its Access see it.
func (w *world) addKey(name string, datasets []string, expires time.Time) (string, *Key) {
	w.t.Helper()
	ring := NewKeyring()
	if w.files.content != nil {
		var err error
		if ring, err = ParseKeyring(w.files.content); err != nil {
			w.t.Fatal(err)
		}
	}
	secret, k, err := ring.Create(name, datasets, w.clock.now(), expires)
	if err != nil {
		w.t.Fatal(err)
	}
	w.save(ring)
	return secret.Reveal(), k
}

func (w *world) save(ring *Keyring) {
	w.t.Helper()
	b, err := ring.Marshal()
	if err != nil {
		w.t.Fatal(err)
	}
	w.files.write(b)
	w.clock.add(time.Second)
}

func (w *world) key(name, text string) int {
	w.t.Helper()
	rec := w.ask(name, keyHeader, text)
	w.expect(rec, rec.Code)
	return rec.Code
}

func TestKeyOpensItsDatasets(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	all, _ := w.addKey("all", nil, time.Time{})
	one, _ := w.addKey("one", []string{"keyed"}, time.Time{})
	for _, c := range []struct {
		dataset, key string
		status       int
	}{
		{"keyed", all, 200}, {"other", all, 200}, {"keyed", one, 200}, {"other", one, 403},
		{"oidc", all, 401}, {"gateway", all, 401}, {"keyed", "", 401},
	} {
		if got := w.key(c.dataset, c.key); got != c.status {
			t.Errorf("dataset %s: status %d, want %d", c.dataset, got, c.status)
		}
	}
	w.expect(w.bearer("keyed", one), 200)
	w.expect(w.ask("keyed"), 401)
	w.expect(w.ask("keyed", keyHeader, one, keyHeader, one), 401)
	w.expect(w.ask("keyed", keyHeader, one, "Authorization", "Bearer "+all), 401)
	w.expect(w.ask("keyed", keyHeader, one, "Authorization", "Bearer "+one), 200)
	w.expect(w.ask("keyed", keyHeader, one, "Authorization", "Bearer eyJ-of-a-proxy"), 200)
	w.expect(w.ask("keyed", keyHeader, one, "Authorization", "Bearer a", "Authorization", "Bearer b"), 401)
	w.expect(w.ask("keyed", "Authorization", "Basic "+one), 401)
	w.expect(w.ask("open"), 200)
}

// TestKeyTampered: no key that differs anywhere gets in.
func TestKeyTampered(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	text, _ := w.addKey("one", nil, time.Time{})
	other, _ := w.addKey("two", nil, time.Time{})
	for i := range text {
		b := []byte(text)
		b[i] ^= 1
		if got := w.key("keyed", string(b)); got != 401 {
			t.Errorf("byte %d changed: status %d", i, got)
		}
	}
	for _, bad := range []string{
		text[:len(text)-1], text + "a", " " + text, text + " x", strings.ToUpper(text),
		text[:11] + other[11:], "lk_" + strings.Repeat("a", 8) + "_" + strings.Repeat("a", 52), "lk__" + text[4:], "lk_", "",
	} {
		if got := w.key("keyed", bad); got != 401 {
			t.Errorf("key %q: status %d", bad, got)
		}
	}
	if got := w.key("keyed", text); got != 200 {
		t.Errorf("the key itself: status %d", got)
	}
}

func TestKeyEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	short, _ := w.addKey("short", nil, w.clock.now().Add(time.Hour))
	long, k := w.addKey("long", nil, time.Time{})
	w.clock.add(time.Hour - 3*time.Second)
	if got := w.key("keyed", short); got != 200 {
		t.Errorf("just before its end: status %d", got)
	}
	w.clock.add(time.Second)
	if got := w.key("keyed", short); got != 401 {
		t.Errorf("at its end: status %d", got)
	}
	ring, _ := ParseKeyring(w.files.content)
	if _, err := ring.Revoke(k.ID, w.clock.now()); err != nil {
		t.Fatal(err)
	}
	w.save(ring)
	if got := w.key("keyed", long); got != 401 {
		t.Errorf("revoked: status %d", got)
	}
	if got := w.refusals()[string(reasonEnded)]; got != 2 {
		t.Errorf("%d refusals as ended, want 2: %v", got, w.refusals())
	}
}

// TestKeyFileIsFollowed: a change counts after a second, a broken file changes nothing and is
// logged once, a file that is gone takes the keys with it, and nothing is read in between.
func TestKeyFileIsFollowed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	text, _ := w.addKey("one", nil, time.Time{})
	good := w.files.content
	for range 100 {
		w.key("keyed", text)
	}
	if w.files.stamps != 2 || w.files.reads != 1 {
		t.Errorf("%d looks and %d reads for 100 requests in a second, want 2 and 1", w.files.stamps, w.files.reads)
	}
	w.files.write([]byte(`{"schema":`))
	for range 3 {
		w.clock.add(time.Second)
		if got := w.key("keyed", text); got != 200 {
			t.Errorf("with a broken file: status %d", got)
		}
	}
	if n := strings.Count(w.log.String(), "their file cannot be read"); n != 1 {
		t.Errorf("the broken file was logged %d times, want once:\n%s", n, w.log)
	}
	w.files.err = errors.New("input/output error")
	w.files.write(good)
	w.clock.add(time.Second)
	if got := w.key("keyed", text); got != 200 {
		t.Errorf("with an unreadable file: status %d", got)
	}
	w.files.err = nil
	w.files.write(nil)
	if got := w.key("keyed", text); got != 200 {
		t.Errorf("within the second: status %d", got)
	}
	w.clock.add(time.Second)
	if got := w.key("keyed", text); got != 401 {
		t.Errorf("without the file: status %d", got)
	}
	w.files.write(good)
	w.clock.add(time.Second)
	if got := w.key("keyed", text); got != 200 {
		t.Errorf("with the file back: status %d", got)
	}
}

// A clock that is set back does not keep a revoked key in force.
func TestKeyFileIsFollowedWhenTheClockGoesBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	text, _ := w.addKey("one", nil, time.Time{})
	if got := w.key("keyed", text); got != 200 {
		t.Fatalf("status %d", got)
	}
	w.files.write(nil)
	w.clock.add(-time.Hour)
	if got := w.key("keyed", text); got != 401 {
		t.Errorf("an hour back, without the file: status %d", got)
	}
}

func TestBrokenKeyFileAtStart(t *testing.T) {
	t.Parallel()
	files := &memFiles{content: []byte("{}")}
	_, err := New(Options{KeysFile: "k.json"}, Deps{Files: files}, testDatasets()[2:4])
	if err == nil || !strings.Contains(err.Error(), "k.json") || !strings.Contains(err.Error(), KeysSchema) {
		t.Errorf("error %v, want one that names the file and the schema", err)
	}
}

func TestParseKeyring(t *testing.T) {
	t.Parallel()
	const key = `{"id":"abcdefgh","name":"n","sha256":"` + "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef" + `","datasets":[],"created":"2026-01-01T00:00:00Z"}`
	doc := func(keys string) string { return `{"schema":"latamctl.keys/v1","keys":[` + keys + `]}` }
	for _, c := range []struct{ in, want string }{
		{doc(""), ""},
		{doc(key), ""},
		{"", "it is empty"},
		{"[]", "not a file of API keys"},
		{`{"keys":[]}`, `schema is ""`},
		{`{"schema":"latamctl.keys/v2","keys":[]}`, `expected "latamctl.keys/v1"`},
		{doc(key) + "x", "more after"},
		{doc(key + "," + key), `key 2: id "abcdefgh" is there twice`},
		{doc("null"), "key 1 is null"},
		{doc(strings.Replace(key, "abcdefgh", "abc", 1)), "id is not 8 characters"},
		{doc(strings.Replace(key, "0123", "", 1)), "sha256 is not 64 hex digits"},
		{doc(strings.Replace(key, `"n"`, `""`, 1)), "name"},
		{doc(strings.Replace(key, `"n"`, `"a\u001b[31m"`, 1)), "cannot be printed"},
		{doc(strings.Replace(key, `[]`, `[""]`, 1)), "empty name"},
		{doc(strings.Replace(key, `"created"`, `"expire":null,"created"`, 1)), `unknown field "expire"`},
		{doc(strings.Replace(key, `2026-01-01T00`, `soon`, 1)), "not a file of API keys"},
		{doc(strings.Replace(key, `,"created":"2026-01-01T00:00:00Z"`, "", 1)), "created is missing"},
	} {
		_, err := ParseKeyring([]byte(c.in))
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s\ngives %v, want %q", c.in, err, c.want)
		}
	}
}

func TestKeyringByName(t *testing.T) {
	t.Parallel()
	now := newClock().now()
	ring := NewKeyring()
	create := func(name string) *Key {
		t.Helper()
		_, k, err := ring.Create(name, nil, now, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	first := create("etl")
	if _, _, err := ring.Create("etl", nil, now, time.Time{}); err == nil {
		t.Error("the name of an active key was given twice")
	}
	if _, _, err := ring.Create(first.ID, nil, now, time.Time{}); err == nil {
		t.Error("the id of a key was taken as a name")
	}
	if k, err := ring.Revoke("etl", now); err != nil || k != first || first.State(now) != KeyRevoked {
		t.Errorf("revoke by name: %v, %v", k, err)
	}
	second := create("etl")
	if k, err := ring.Revoke("etl", now); err != nil || k != second {
		t.Errorf("revoke by name means %v, %v; want the active one", k, err)
	}
	if _, err := ring.Revoke("etl", now); !errors.Is(err, ErrAmbiguous) {
		t.Errorf("revoke of two ended keys: %v", err)
	}
	if k, err := ring.Revoke(first.ID, now.Add(time.Hour)); err != nil || !k.Revoked.Equal(now) {
		t.Errorf("revoking again changed the time: %v, %v", k, err)
	}
	if _, err := ring.Revoke("none", now); !errors.Is(err, ErrNoKey) {
		t.Errorf("revoke of no key: %v", err)
	}
}

// TestSecretsStayInside asks with canaries in every place, good and bad, and looks for them in the
// log at debug, the answers and the metrics.
func TestSecretsStayInside(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	good, k := w.addKey("one", nil, time.Time{})
	token := keysOnce().rsa.Sign(w.claims("canary", "CANARY-claim"))
	parts := strings.Split(token, ".")
	var answers strings.Builder
	for _, name := range []string{"open", "metered", "keyed", "other", "oidc", "gateway"} {
		for _, secret := range []string{
			good, token, "lo_owner", "CANARY-bearer", "lk_CANARY", good[:12] + strings.Repeat("c", 52),
			parts[0] + "." + parts[1] + "." + segment("CANARY"), segment(`{"alg":"RS256","kid":"CANARY-kid"}`) + "." + parts[1] + "." + parts[2],
			strings.Repeat("CANARY", 2000),
		} {
			for _, header := range []string{keyHeader, "Authorization"} {
				value := secret
				if header == "Authorization" {
					value = "Bearer " + secret
				}
				rec := w.ask(name, header, value)
				rec.Header().Del("Caller")
				answers.WriteString(rec.Body.String())
				for h, v := range rec.Header() {
					answers.WriteString(h + strings.Join(v, ","))
				}
			}
		}
	}
	w.issuer.SetDown(true)
	w.clock.add(48 * time.Hour)
	w.expect(w.bearer("gateway", token), http.StatusServiceUnavailable)
	if !strings.Contains(w.log.String(), `"msg":"caller refused"`) {
		t.Fatalf("nothing was logged:\n%s", w.log)
	}
	for where, text := range map[string]string{"the log": w.log.String(), "an answer": answers.String(), "the file": string(w.files.content)} {
		for _, secret := range []string{"CANARY", good, good[12:], "lo_owner", parts[0], parts[1], parts[2]} {
			if strings.Contains(text, secret) {
				t.Errorf("%s holds %q", where, secret)
			}
		}
	}
	if s := telemetry.NewSecret(good); strings.Contains(s.String(), k.ID) {
		t.Error("a secret shows itself")
	}
}
