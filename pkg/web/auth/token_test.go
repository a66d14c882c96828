package auth

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/latamctl/latamctl/pkg/testkit"
)

func segment(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// signedWith signs with the RSA key whatever header and payload are given as text.
func signedWith(k *testkit.IssuerKey, header, payload string) string {
	return k.SignRaw([]byte(header), []byte(payload))
}

const goodHeader = `{"alg":"RS256","typ":"JWT","kid":"rsa-1"}`

// tokenCase is one request with the only status that is right for it.
type tokenCase struct {
	name   string
	status int
	reason reason // "" for one that is let in
	header []string
}

func bearerCase(name string, status int, why reason, token string) tokenCase {
	return tokenCase{name, status, why, []string{"Authorization", "Bearer " + token}}
}

func gatewayCases(w *world) []tokenCase {
	k := keysOnce()
	good := k.rsa.Sign(w.claims())
	body := func(text string) string {
		b, _ := json.Marshal(w.claims())
		return strings.Replace(string(b), "{", text, 1)
	}
	now := w.clock.now().Unix()
	parts := strings.Split(good, ".")
	hs256 := func() string {
		input := segment(`{"alg":"HS256","kid":"rsa-1"}`) + "." + parts[1]
		mac := hmac.New(sha256.New, k.rsa.PublicModulus())
		mac.Write([]byte(input))
		return input + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
	}
	es256 := func(n int) string {
		return segment(`{"alg":"ES256","kid":"ec-1"}`) + "." + parts[1] + "." + segment(strings.Repeat("x", n))
	}
	payload := func(s string) string { return signedWith(k.rsa, goodHeader, s) }
	claim := func(changes ...any) string { return k.rsa.Sign(w.claims(changes...)) }
	cases := []tokenCase{
		bearerCase("good", 200, "", good),
		bearerCase("issuer without https", 200, "", claim("iss", "accounts.google.com")),
		bearerCase("audience in an array", 200, "", claim("aud", []string{"else", testAudience})),
		{"scheme in lower case", 200, "", []string{"Authorization", "bearer " + good}},

		{"none", 401, reasonMissing, nil},
		{"Bearer only", 401, reasonMissing, []string{"Authorization", "Bearer"}},
		{"another scheme", 401, reasonMalformed, []string{"Authorization", "Basic " + good}},
		{"two headers", 401, reasonTwice, []string{"Authorization", "Bearer " + good, "Authorization", "Bearer " + good}},
		{"two tokens in one header", 401, reasonMalformed, []string{"Authorization", "Bearer " + good + ", Bearer " + good}},
		{"an API key's header", 401, reasonMissing, []string{"X-Api-Key", good}},
		{"forwarded header only", 401, reasonMissing, []string{"X-Forwarded-Authorization", "Bearer " + good}},
		bearerCase("5 KiB", 401, reasonTooLong, claim("pad", strings.Repeat("x", 5<<10))),
		bearerCase("2 segments", 401, reasonMalformed, parts[0]+"."+parts[1]),
		bearerCase("4 segments", 401, reasonMalformed, good+".x"),
		bearerCase("empty signature", 401, reasonMalformed, parts[0]+"."+parts[1]+"."),
		bearerCase("only dots", 401, reasonMalformed, ".."),
		bearerCase("padding", 401, reasonMalformed, good+"="),
		bearerCase("another spelling of the last character", 401, reasonMalformed, restless(good)),
		bearerCase("standard base64", 401, reasonMalformed, "+/+/."+parts[1]+"."+parts[2]),

		bearerCase("alg none", 401, reasonAlgorithm, segment(`{"alg":"none","kid":"rsa-1"}`)+"."+parts[1]+"."+parts[2]),
		bearerCase("alg None", 401, reasonAlgorithm, segment(`{"alg":"None","kid":"rsa-1"}`)+"."+parts[1]+"."+parts[2]),
		bearerCase("alg HS256 by the public key", 401, reasonAlgorithm, hs256()),
		bearerCase("alg PS256", 401, reasonAlgorithm, signedWith(k.rsa, `{"alg":"PS256","kid":"rsa-1"}`, body("{"))),
		bearerCase("alg ES256, good elsewhere", 401, reasonAlgorithm, k.ec.Sign(w.claims())),
		bearerCase("alg missing", 401, reasonAlgorithm, signedWith(k.rsa, `{"kid":"rsa-1"}`, body("{"))),
		bearerCase("alg a list", 401, reasonAlgorithm, signedWith(k.rsa, `{"alg":["RS256"],"kid":"rsa-1"}`, body("{"))),
		bearerCase("alg twice", 401, reasonMalformed, signedWith(k.rsa, `{"alg":"none","kid":"rsa-1","alg":"RS256"}`, body("{"))),
		bearerCase("ALG beside alg", 200, "", signedWith(k.rsa, `{"alg":"RS256","ALG":"none","kid":"rsa-1"}`, body("{"))),
		bearerCase("critical extension", 401, reasonMalformed, signedWith(k.rsa, `{"alg":"RS256","kid":"rsa-1","crit":["b64"],"b64":false}`, body("{"))),
		bearerCase("embedded key", 401, reasonUnknownKey, signedWith(k.rsa2, `{"alg":"RS256","kid":"rsa-9","jwk":{"kty":"RSA","kid":"rsa-9","n":"AQAB","e":"AQAB"}}`, body("{"))),
		bearerCase("logout token", 401, reasonMalformed, signedWith(k.rsa, `{"alg":"RS256","typ":"logout+jwt","kid":"rsa-1"}`, body("{"))),

		bearerCase("header null", 401, reasonMalformed, signedWith(k.rsa, `null`, body("{"))),
		bearerCase("header array", 401, reasonMalformed, signedWith(k.rsa, `[]`, body("{"))),
		bearerCase("header string", 401, reasonMalformed, signedWith(k.rsa, `"x"`, body("{"))),
		bearerCase("header with more after it", 401, reasonMalformed, signedWith(k.rsa, goodHeader+`{}`, body("{"))),
		bearerCase("payload null", 401, reasonMalformed, payload(`null`)),
		bearerCase("payload array", 401, reasonMalformed, payload(`[]`)),
		bearerCase("payload string", 401, reasonMalformed, payload(`"x"`)),
		bearerCase("payload number", 401, reasonMalformed, payload(`1`)),
		bearerCase("payload cut", 401, reasonMalformed, payload(`{"sub":"a"`)),
		bearerCase("payload not UTF-8", 401, reasonMalformed, payload(body("{\"x\":\"\xff\","))),
		bearerCase("duplicate claim", 401, reasonMalformed, payload(body(`{"aud":"else",`))),
		bearerCase("duplicate claim by escape", 401, reasonMalformed, payload(body(`{"\u0061ud":"else",`))),
		bearerCase("duplicate deep inside", 401, reasonMalformed, payload(body(`{"x":[{"y":{"a":1,"a":2}}],`))),

		bearerCase("kid unknown", 401, reasonUnknownKey, signedWith(k.rsa, `{"alg":"RS256","kid":"rsa-2"}`, body("{"))),
		bearerCase("kid missing", 401, reasonMalformed, signedWith(k.rsa, `{"alg":"RS256"}`, body("{"))),
		bearerCase("kid number", 401, reasonMalformed, signedWith(k.rsa, `{"alg":"RS256","kid":1}`, body("{"))),
		bearerCase("kid path", 401, reasonUnknownKey, signedWith(k.rsa, `{"alg":"RS256","kid":"../../etc/passwd"}`, body("{"))),
		bearerCase("kid SQL", 401, reasonMalformed, signedWith(k.rsa, `{"alg":"RS256","kid":"x' OR 1=1 --"}`, body("{"))),
		bearerCase("kid of another key type", 401, reasonAlgorithm, signedWith(k.rsa, `{"alg":"RS256","kid":"ec-1"}`, body("{"))),
		bearerCase("signed by another key", 401, reasonSignature, signedWith(k.rsa2, goodHeader, body("{"))),
		bearerCase("payload changed", 401, reasonSignature, parts[0]+"."+segment(body(`{"admin":true,`))+"."+parts[2]),

		bearerCase("expired 1 s", 401, reasonEnded, claim("exp", now-1)),
		bearerCase("expires now", 401, reasonEnded, claim("exp", now)),
		bearerCase("expires in 1 s", 200, "", claim("exp", now+1)),
		bearerCase("exp missing", 401, reasonClaims, claim("exp", nil)),
		bearerCase("exp string", 401, reasonClaims, claim("exp", fmt.Sprint(now+60))),
		bearerCase("exp 1e400", 401, reasonClaims, payload(strings.Replace(body("{"), fmt.Sprint(now+3600), "1e400", 1))),
		bearerCase("exp 1e300", 401, reasonClaims, payload(strings.Replace(body("{"), fmt.Sprint(now+3600), "1e300", 1))),
		bearerCase("exp negative", 401, reasonClaims, claim("exp", -1)),
		bearerCase("exp null", 401, reasonClaims, payload(strings.Replace(body("{"), fmt.Sprint(now+3600), "null", 1))),
		bearerCase("exp spelt EXP", 401, reasonClaims, claim("exp", nil, "EXP", now+60)),
		bearerCase("iat 61 s ahead", 401, reasonNotYet, claim("iat", now+61)),
		bearerCase("iat 59 s ahead", 200, "", claim("iat", now+59)),
		bearerCase("iat string", 401, reasonClaims, claim("iat", "1")),
		bearerCase("nbf ahead", 401, reasonNotYet, claim("nbf", now+3000)),

		bearerCase("iss wrong", 401, reasonIssuer, claim("iss", "https://accounts.example.com")),
		bearerCase("iss missing", 401, reasonIssuer, claim("iss", nil)),
		bearerCase("iss look-alike", 401, reasonIssuer, claim("iss", "https://accounts.google.com.evil.example")),
		bearerCase("iss with a slash", 401, reasonIssuer, claim("iss", "https://accounts.google.com/")),
		bearerCase("iss a list", 401, reasonIssuer, claim("iss", []string{"https://accounts.google.com"})),
		bearerCase("aud wrong", 401, reasonAudience, claim("aud", "https://else.example.com")),
		bearerCase("aud missing", 401, reasonAudience, claim("aud", nil)),
		bearerCase("aud empty", 401, reasonAudience, claim("aud", "")),
		bearerCase("aud empty array", 401, reasonAudience, claim("aud", []string{})),
		bearerCase("aud array with a number", 401, reasonAudience, claim("aud", []any{testAudience, 1})),
		bearerCase("aud array with null", 401, reasonAudience, claim("aud", []any{testAudience, nil})),
		bearerCase("aud object", 401, reasonAudience, claim("aud", map[string]any{"x": testAudience})),
		bearerCase("aud prefix", 401, reasonAudience, claim("aud", testAudience+"/x")),
		bearerCase("sub missing", 401, reasonClaims, claim("sub", nil)),
		bearerCase("sub empty", 401, reasonClaims, claim("sub", "")),
		bearerCase("sub number", 401, reasonClaims, claim("sub", 7)),
		bearerCase("email_verified false", 401, reasonClaims, claim("email_verified", false)),
		bearerCase("email_verified string", 401, reasonClaims, claim("email_verified", "true")),
		bearerCase("email_verified missing", 401, reasonClaims, claim("email_verified", nil)),
		bearerCase("email missing", 401, reasonClaims, claim("email", nil)),
		bearerCase("email not in the list", 403, reasonForbidden, claim("email", "else@latam.iam.gserviceaccount.com")),
		bearerCase("email in other case", 403, reasonForbidden, claim("email", strings.ToUpper(testEmail))),
	}
	for _, n := range []int{0, 1, 31, 63, 64, 65} {
		why := reasonAlgorithm
		if n == 0 {
			why = reasonMalformed // An empty segment.
		}
		cases = append(cases, bearerCase(fmt.Sprintf("ES256 signature of %d bytes", n), 401, why, es256(n)))
	}
	return cases
}

// restless flips a bit of the last character that decodes to nothing.
func restless(token string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := len(token) - 1
	return token[:last] + string(alphabet[strings.IndexByte(alphabet, token[last])^1])
}

// TestGatewayTokenMatrix gives every case its one status, twice: a refusal is not remembered as
// anything else, and what was verified once is verified again.
func TestGatewayTokenMatrix(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.expect(w.bearer("gateway", keysOnce().rsa.Sign(w.claims())), 200) // The keys are fetched.
	cases := gatewayCases(w)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			for range 2 {
				w.t = t
				before := w.refusals()
				start := time.Now()
				rec := w.ask("gateway", c.header...)
				elapsed := time.Since(start)
				w.expect(rec, c.status)
				if c.reason != "" && w.refusals()[string(c.reason)] != before[string(c.reason)]+1 {
					t.Errorf("the reason is not %s: before %v, after %v", c.reason, before, w.refusals())
				}
				if elapsed > 500*time.Millisecond { // 5 ms where nothing else runs
					t.Errorf("it took %s", elapsed)
				}
			}
		})
	}
	w.t = t
	if n := w.issuer.Fetches(); n > 2 {
		t.Errorf("%d cases made %d fetches of the keys, want at most 2", len(cases), n)
	}
	if w.refusals()[string(reasonPanic)] != 0 || strings.Contains(w.log.String(), "panicked") {
		t.Errorf("a check panicked:\n%s", w.log)
	}
}

// TestRefusalsLookAlike: nothing in a 401 says why.
func TestRefusalsLookAlike(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	bodies := map[string]string{}
	for _, c := range gatewayCases(w) {
		if c.status != http.StatusUnauthorized {
			continue
		}
		rec := w.ask("gateway", append(c.header, "X-Request-Id", "same")...)
		rec.Header().Del("Date")
		bodies[fmt.Sprint(rec.Body, rec.Header())] = c.name
	}
	if len(bodies) != 1 {
		t.Errorf("refusals tell themselves apart: %v", bodies)
	}
}

func TestOIDCTokens(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	k := keysOnce()
	oidc := func(changes ...any) map[string]any {
		return w.claims(append([]any{"iss", w.issuer.URL, "email", nil, "email_verified", nil}, changes...)...)
	}
	ec := k.ec.Sign(oidc())
	parts := strings.Split(ec, ".")
	for _, c := range []tokenCase{
		bearerCase("RS256", 200, "", k.rsa.Sign(oidc())),
		bearerCase("ES256", 200, "", ec),
		bearerCase("Google's issuer", 401, reasonIssuer, k.rsa.Sign(w.claims())),
		bearerCase("ES256 by another key", 401, reasonSignature, parts[0]+"."+parts[1]+"."+segment(strings.Repeat("x", 64))),
		bearerCase("ES256 of zeroes", 401, reasonSignature, parts[0]+"."+parts[1]+"."+segment(strings.Repeat("\x00", 64))),
		bearerCase("ES256 of 31 bytes", 401, reasonSignature, parts[0]+"."+parts[1]+"."+segment(strings.Repeat("x", 31))),
		bearerCase("ES256 in DER", 401, reasonSignature, parts[0]+"."+parts[1]+"."+segment("0E\x02 "+strings.Repeat("x", 66))),
		bearerCase("RS256 with the EC key's id", 401, reasonAlgorithm, k.rsa.SignRaw([]byte(`{"alg":"RS256","kid":"ec-1"}`), []byte(`{}`))),
		bearerCase("access token type", 200, "", k.rsa.SignRaw([]byte(`{"alg":"RS256","typ":"at+jwt","kid":"rsa-1"}`), mustJSON(oidc()))),
		bearerCase("the owner's token", 200, "", "lo_owner"),
		bearerCase("almost the owner's token", 401, reasonMalformed, "lo_owneR"),
	} {
		t.Run(c.name, func(t *testing.T) {
			w.t = t
			before := w.refusals()
			w.expect(w.ask("oidc", c.header...), c.status)
			if c.reason != "" && w.refusals()[string(c.reason)] != before[string(c.reason)]+1 {
				t.Errorf("the reason is not %s: %v", c.reason, w.refusals())
			}
		})
	}
}

func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// TestDatasetsClaim: a token opens the datasets that its claim lists, and no other.
func TestDatasetsClaim(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *Options) { o.OIDC.DatasetsClaim = "datasets" })
	for _, c := range []struct {
		claim  any
		status int
	}{
		{[]string{"else", "oidc"}, 200},
		{"else oidc", 200},
		{"*", 200},
		{[]string{"else"}, 403},
		{"oidc2 oid", 403},
		{"", 403},
		{[]string{}, 403},
		{nil, 403},
		{7, 403},
		{[]any{"oidc", 7}, 403},
		{map[string]any{"oidc": true}, 403},
	} {
		rec := w.bearer("oidc", keysOnce().rsa.Sign(w.claims("iss", w.issuer.URL, "datasets", c.claim)))
		if rec.Code != c.status {
			t.Errorf("datasets %v: status %d, want %d", c.claim, rec.Code, c.status)
		}
	}
}

// TestConsumerOfTheGateway: what the gateway says of its consumer counts behind its token only, and
// only when it can be read in one way.
func TestConsumerOfTheGateway(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	token := keysOnce().rsa.Sign(w.claims())
	userinfo := segment(`{"sub":"alice","email":"a@example.com"}`)
	for _, c := range []struct {
		name   string
		header []string
		want   string
	}{
		{"plain", []string{userinfoHeader, userinfo}, "subject alice"},
		{"padded", []string{userinfoHeader, base64.URLEncoding.EncodeToString([]byte(`{"sub":"alice","x":1}`))}, "subject alice"},
		{"none", nil, "gateway " + testEmail},
		{"twice", []string{userinfoHeader, userinfo, userinfoHeader, userinfo}, "gateway " + testEmail},
		{"no JSON", []string{userinfoHeader, segment(`sub`)}, "gateway " + testEmail},
		{"no base64", []string{userinfoHeader, "%%%"}, "gateway " + testEmail},
		{"sub twice", []string{userinfoHeader, segment(`{"sub":"alice","sub":"bob"}`)}, "gateway " + testEmail},
		{"sub number", []string{userinfoHeader, segment(`{"sub":1}`)}, "gateway " + testEmail},
	} {
		rec := w.ask("gateway", append([]string{"Authorization", "Bearer " + token}, c.header...)...)
		if got := rec.Header().Get("Caller"); got != c.want {
			t.Errorf("%s: caller %q, want %q", c.name, got, c.want)
		}
	}
	w.expect(w.ask("gateway", userinfoHeader, userinfo), 401)
	rec := w.ask("oidc", "Authorization", "Bearer "+keysOnce().rsa.Sign(w.claims("iss", w.issuer.URL)), userinfoHeader, userinfo)
	if got := rec.Header().Get("Caller"); got != "subject 1234567890" {
		t.Errorf("without a gateway the header named the caller: %q", got)
	}
}

// TestAPanicIsARefusal: whatever breaks inside a check, the caller is refused and the process lives.
func TestAPanicIsARefusal(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	token := keysOnce().rsa.Sign(w.claims())
	w.access.gateway.verified = nil
	w.expect(w.bearer("gateway", token), http.StatusUnauthorized)
	if w.refusals()[string(reasonPanic)] != 1 || !strings.Contains(w.log.String(), "checking a token panicked") {
		t.Errorf("the panic is in no metric or log: %v\n%s", w.refusals(), w.log)
	}
	w = newWorld(t, nil)
	w.access.gateway.keys.discover = func(context.Context, *fetcher) (string, error) { panic("broken") }
	w.expect(w.bearer("gateway", token), http.StatusServiceUnavailable)
}
