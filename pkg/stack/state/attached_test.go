package state

import (
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/latamctl/latamctl/pkg/proc"
)

func withEnv(t *testing.T, env map[string]string) *proc.Process {
	t.Helper()
	return &proc.Process{Dir: t.TempDir(), Getenv: func(key string) (string, bool) { v, ok := env[key]; return v, ok }}
}

func TestAttachedAccount(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		flavor, body string
		status       int
		want, wrong  string
	}{
		"a machine of Google's": {"Google", "ingest@p.iam.gserviceaccount.com\n", 200, "ingest@p.iam.gserviceaccount.com", ""},
		"no account":            {"Google", "not found", 404, "", "404"},
		"something else":        {"", "<html>log in @ the hotel", 200, "", "no service account"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Metadata-Flavor") != "Google" || r.URL.Path != "/computeMetadata/v1/instance/service-accounts/default/email" {
					t.Errorf("asked for %s with %v", r.URL.Path, r.Header)
				}
				w.Header().Set("Metadata-Flavor", tt.flavor)
				w.WriteHeader(tt.status)
				_, _ = w.Write([]byte(tt.body)) // A client that is gone fails the test by itself.
			}))
			defer s.Close()
			got, err := attachedAccount(t.Context(), withEnv(t, map[string]string{"GCE_METADATA_HOST": strings.TrimPrefix(s.URL, "http://")}))
			if got != tt.want || (err == nil) != (tt.wrong == "") || err != nil && !strings.Contains(err.Error(), tt.wrong) {
				t.Errorf("got %q, %v; want %q, an error with %q", got, err, tt.want, tt.wrong)
			}
		})
	}
}

// TestNoCredentials: where nothing gives credentials, doctor says so, and asks Google nothing.
func TestNoCredentials(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.NotFoundHandler())
	host := strings.TrimPrefix(s.URL, "http://")
	s.Close()
	p := withEnv(t, map[string]string{"GCE_METADATA_HOST": host})
	found := CheckCloud(t.Context(), CloudOptions{Proc: p, Environment: "prod", Project: "my-project", State: filepath.Join(p.Dir, "state")})
	for _, f := range found {
		switch f.Check {
		case "credentials":
			if f.Status != Fail || !strings.Contains(f.Seen, "none: no variable names any") || !strings.Contains(f.Fix, "gcloud auth") {
				t.Errorf("%+v", f)
			}
		case "project", "APIs":
			t.Errorf("Google was asked without credentials: %+v", f)
		}
	}
}
