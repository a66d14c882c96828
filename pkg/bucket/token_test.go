package bucket_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/latamctl/latamctl/pkg/bucket"
	"github.com/latamctl/latamctl/pkg/testkit/gcstest"
)

// TestRefusedCredentials has a stand-in of Google's token server refuse a user's credentials, and then take them.
func TestRefusedCredentials(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	var good atomic.Bool
	tokens := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		w.Header().Set("Content-Type", "application/json")
		if !good.Load() {
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(w, `{"error":"invalid_grant","error_description":"Token has been expired or revoked."}`)
			return
		}
		fmt.Fprint(w, `{"access_token":"good","token_type":"Bearer","expires_in":3600}`)
	}))
	t.Cleanup(tokens.Close)
	s := gcstest.New()
	t.Cleanup(s.Close)
	s.AddBucket("states", "my-project", nil)
	s.RequireToken("good")
	subject := t.TempDir() + "/subject"
	file, err := json.Marshal(map[string]any{
		"type": "external_account", "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/github",
		"subject_token_type": "urn:ietf:params:oauth:token-type:jwt", "token_url": tokens.URL, "credential_source": map[string]any{"file": subject},
	})
	if err != nil {
		t.Fatal(err)
	}
	p := environment(t, map[string]string{"GOOGLE_CREDENTIALS": string(file)})
	if err := p.WriteSecretFile(subject, []byte("canary-secret")); err != nil {
		t.Fatal(err)
	}
	b := open(t, "gs://states", bucket.Options{Proc: p, Endpoint: s.URL})
	_, err = b.List(t.Context(), "")
	if !errors.Is(err, bucket.ErrDenied) || errors.Is(err, bucket.ErrUnavailable) || asked.Load() != 1 || strings.Contains(fmt.Sprint(err), "canary-secret") {
		t.Errorf("refused credentials, asked %d times: %v", asked.Load(), err)
	}
	good.Store(true)
	if _, err := b.List(t.Context(), ""); err != nil {
		t.Errorf("the same credentials, taken: %v", err)
	}
}

// TestAnswersThatAreNotJSON keeps the sentence of an answer to a download, and no page of a proxy.
func TestAnswersThatAreNotJSON(t *testing.T) {
	t.Parallel()
	for body, says := range map[string]string{
		"plan@p does not have storage.objects.get access.\n": "403 plan@p does not have storage.objects.get access.",
		"<html><body>blocked by a proxy</body></html>":       "403 Forbidden",
		"bad \x1b[31m escape":                                "403 Forbidden",
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, body)
		}))
		t.Cleanup(server.Close)
		_, _, err := open(t, "gs://states", bucket.Options{Endpoint: server.URL}).Read(t.Context(), "k")
		if !errors.Is(err, bucket.ErrDenied) || !strings.HasSuffix(err.Error(), says) {
			t.Errorf("%q: %v", body, err)
		}
	}
}
