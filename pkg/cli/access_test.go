package cli_test

import (
	"bytes"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/latamctl/latamctl/pkg/testkit"
)

const tokensYAML = `version: 1
name: shop
datasets:
  sales:
    fields: {number: {type: int64, required: true}}
    key: [number]
    api: {auth: oidc}
  stock:
    fields: {number: {type: int64, required: true}}
    key: [number]
    api: {auth: gateway, quota_per_minute: 1}
environments:
  local:
    oidc_audience: shop
    oidc_datasets_claim: datasets
    gateway_audience: https://shop.example.com
    gateway_email: [gw@shop.iam.gserviceaccount.com]
`

// TestTokensEndToEnd runs the program against an issuer: settings from the file, a variable and a
// flag, tokens accepted and refused, the command with a token, and no token in what it printed.
func TestTokensEndToEnd(t *testing.T) {
	t.Parallel()
	issuer := testkit.NewIssuer()
	defer issuer.Close()
	key := testkit.NewRSAKey("k1", 2048)
	issuer.Publish(key)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "latam.yaml"), []byte(tokensYAML), 0o644); err != nil {
		t.Fatal(err)
	}
	p, r := startUpWith(t, dir, []string{"LATAM_OIDC_ISSUER=" + issuer.URL}, "-v", "--google-jwks-url", issuer.URL+"/keys")

	now := time.Now().Unix()
	access := key.Sign(map[string]any{"iss": issuer.URL, "aud": "shop", "sub": "alice", "exp": now + 600, "datasets": "sales"})
	elsewhere := key.Sign(map[string]any{"iss": issuer.URL, "aud": "shop", "sub": "alice", "exp": now + 600, "datasets": "other"})
	gateway := key.Sign(map[string]any{
		"iss": "https://accounts.google.com", "aud": "https://shop.example.com", "sub": "1", "iat": now, "exp": now + 600,
		"email": "gw@shop.iam.gserviceaccount.com", "email_verified": true,
	})
	consumer := func(sub string) string { return base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"` + sub + `"}`)) }
	for _, c := range []struct {
		dataset, token, userinfo string
		status                   int
	}{
		{"sales", access, "", 200}, {"sales", elsewhere, "", 403}, {"sales", gateway, "", 401}, {"sales", "", "", 401},
		{"stock", gateway, consumer("a"), 200}, {"stock", gateway, consumer("a"), 429}, {"stock", gateway, consumer("b"), 200},
		{"stock", access, "", 401}, {"stock", "", consumer("c"), 401},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.API+"/v1/datasets/"+c.dataset+"/rows", nil)
		if err != nil {
			t.Fatal(err)
		}
		if c.token != "" {
			req.Header.Set("Authorization", "Bearer "+c.token)
		}
		if c.userinfo != "" {
			req.Header.Set("X-Apigateway-Api-Userinfo", c.userinfo)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != c.status {
			t.Errorf("%s: status %d, want %d", c.dataset, resp.StatusCode, c.status)
		}
	}
	if out := run(t, dir, []string{"LATAM_BEARER_TOKEN=" + access}, "get", "sales", "--url", r.API, "-o", "json"); !strings.Contains(out, `"rows":[]`) {
		t.Errorf("get with a token printed %s", out)
	}
	if out := run(t, dir, nil, "verify"); !strings.Contains(out, " passed, 0 failed") || !strings.Contains(out, "PASS  access/auth sales") {
		t.Errorf("verify printed %s", out)
	}
	note, err := os.ReadFile(filepath.Join(dir, ".latam", "run.json"))
	if err != nil || !bytes.Contains(note, []byte(`"token": "lo_`)) {
		t.Fatalf("run.json: %v: %s", err, note)
	}
	p.terminate()
	for _, secret := range []string{access, gateway, strings.Split(access, ".")[2], "lo_"} {
		if strings.Contains(p.stderr.String(), secret) {
			t.Errorf("the log at debug holds %.20s…", secret)
		}
	}
	if !strings.Contains(p.stderr.String(), "caller refused") {
		t.Errorf("the log at debug does not say why callers were refused:\n%s", tail(p.stderr.String()))
	}
}

// TestKeysAtTheSameTime makes keys from several processes at once: none is lost.
func TestKeysAtTheSameTime(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const n = 8
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			cmd := command(t.Context(), t, dir, nil, "keys", "create", "key-"+string(rune('a'+i)), "-q")
			if out, err := cmd.Output(); err != nil || !strings.HasPrefix(string(out), "lk_") {
				t.Errorf("create: %v: %s", err, out)
			}
		})
	}
	all.Wait()
	if out := run(t, dir, nil, "keys", "list"); strings.Count(out, " active") != n {
		t.Errorf("of %d keys there are:\n%s", n, out)
	}
}

// TestCredentialsStayHome: a redirect to another host does not take the key with it.
func TestCredentialsStayHome(t *testing.T) {
	t.Parallel()
	seen := make(chan http.Header, 10)
	thief := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen <- r.Header }))
	defer thief.Close()
	home := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen <- r.Header
		http.Redirect(w, r, thief.URL+"/", http.StatusFound)
	}))
	defer home.Close()
	cmd := command(t.Context(), t, t.TempDir(), []string{"LATAM_API_KEY=lk_secret"}, "get", "flights", "--url", home.URL)
	out, err := cmd.CombinedOutput()
	if err == nil || bytes.Contains(out, []byte("secret")) {
		t.Errorf("get: %v: %s", err, out)
	}
	if h := <-seen; h.Get("X-Api-Key") != "lk_secret" {
		t.Errorf("the API did not get the key: %v", h)
	}
	if h := <-seen; h.Get("X-Api-Key") != "" {
		t.Error("the key went along with a redirect to another host")
	}
}

var yamlBlock = regexp.MustCompile("(?s)```yaml\n(.*?)```")

// TestAuthPage runs the commands of the page about callers, in their order and with its declaration.
func TestAuthPage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "auth.md"))
	if err != nil {
		t.Fatal(err)
	}
	yaml, shell := yamlBlock.FindSubmatch(page), shellBlock.FindAllSubmatch(page, -1)
	if yaml == nil || len(shell) == 0 {
		t.Fatal("docs/auth.md has no declaration or no commands")
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "latam.yaml"), yaml[1], 0o644); err != nil {
		t.Fatal(err)
	}
	_, r := startUp(t, dir)
	for _, block := range shell {
		runShell(t, dir, r, "set -e\n"+string(block[1]))
	}
	if out := run(t, dir, nil, "keys", "list"); !strings.Contains(out, "revoked") {
		t.Errorf("after the page's commands there are:\n%s", out)
	}
}
