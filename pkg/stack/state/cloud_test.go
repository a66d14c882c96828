package state_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/latamctl/latamctl/pkg/bucket"
	"github.com/latamctl/latamctl/pkg/proc"
	"github.com/latamctl/latamctl/pkg/stack/state"
	"github.com/latamctl/latamctl/pkg/testkit/gcstest"
)

// google is a stand-in of Service Usage and Resource Manager.
type google struct {
	enabled map[string]bool
	status  int // of every answer, when it is set
	reason  string
	state   string
	hang    bool
}

func (g google) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if g.hang {
		<-r.Context().Done()
		return
	}
	answer := map[string]any{}
	switch {
	case g.status != 0:
		w.WriteHeader(g.status)
		answer["error"] = map[string]any{"code": g.status, "message": g.reason}
	case strings.HasSuffix(r.URL.Path, ":batchGet"):
		services := []any{}
		for _, name := range r.URL.Query()["names"] {
			on := "DISABLED"
			if g.enabled[name[strings.LastIndexByte(name, '/')+1:]] {
				on = "ENABLED"
			}
			services = append(services, map[string]any{"name": "projects/123/services/" + name[strings.LastIndexByte(name, '/')+1:], "state": on})
		}
		answer["services"] = services
	case r.URL.Path == "/v1/projects/my-project":
		answer = map[string]any{"projectId": "my-project", "projectNumber": "123", "lifecycleState": g.state}
	default:
		http.NotFound(w, r)
		return
	}
	_ = json.NewEncoder(w).Encode(answer)
}

// checks runs CheckCloud and returns its findings by check, as "status seen | fix".
func checks(t *testing.T, g google, s *gcstest.Server, env map[string]string, change func(*state.CloudOptions)) map[string]string {
	t.Helper()
	api := httptest.NewServer(g)
	t.Cleanup(api.Close)
	t.Cleanup(api.CloseClientConnections)
	p := &proc.Process{Now: time.Now, Dir: t.TempDir(), Getenv: func(key string) (string, bool) { v, ok := env[key]; return v, ok }}
	o := state.CloudOptions{
		Proc: p, Environment: "prod", Project: "my-project", State: "gs://states", Endpoint: api.URL,
		APIs: []string{"pubsub.googleapis.com", "bigtableadmin.googleapis.com"}, Stacks: []string{"network", "storage"},
		Settings: bucket.Settings{Project: "my-project", Location: "us-central1"},
		Bucket:   bucket.Options{Endpoint: s.URL, RetryDelay: time.Millisecond},
	}
	if change != nil {
		change(&o)
	}
	found := map[string]string{}
	for _, f := range state.CheckCloud(t.Context(), o) {
		found[f.Check] = f.Status + " " + f.Seen + " | " + f.Fix
		if f.Status != state.Pass && f.Fix == "" {
			t.Errorf("no word on how to mend %+v", f)
		}
	}
	return found
}

func expect(t *testing.T, found map[string]string, want map[string]string) {
	t.Helper()
	for check, says := range want {
		if got, ok := found[check]; !ok || !strings.Contains(got, says) {
			t.Errorf("%s: %q, want %q", check, got, says)
		}
	}
}

func stand(t *testing.T) *gcstest.Server {
	t.Helper()
	s := gcstest.New()
	t.Cleanup(s.Close)
	return s
}

func TestCheckCloudGood(t *testing.T) {
	t.Parallel()
	s := stand(t)
	b := openBucket(t, "gs://states", s.URL)
	if _, err := b.Ensure(t.Context(), bucket.Settings{Project: "my-project", Location: "us-central1"}); err != nil {
		t.Fatal(err)
	}
	on := google{state: "ACTIVE", enabled: map[string]bool{"pubsub.googleapis.com": true, "bigtableadmin.googleapis.com": true}}
	env := map[string]string{"GOOGLE_OAUTH_ACCESS_TOKEN": "canary-secret"}
	found := checks(t, on, s, env, nil)
	expect(t, found, map[string]string{
		"credentials": "pass access token, from GOOGLE_OAUTH_ACCESS_TOKEN", "project": "pass my-project exists, number 123", "APIs": "pass all 2 are on",
		"state bucket": "pass gs://states can be read", "locks": "pass none of 2 stacks is locked",
	})
	if len(found) != 5 || strings.Contains(fmt.Sprint(found), "canary-secret") {
		t.Errorf("findings %v", found)
	}
}

func TestCheckCloudFindings(t *testing.T) {
	t.Parallel()
	s := stand(t)
	s.AddBucket("states", "my-project", map[string]any{"location": "EU"})
	s.Put("states", "prod/network/default.tflock", []byte(fmt.Sprintf(`{"ID":"u","Who":"ana@laptop","Operation":"OperationTypeApply","Created":%q}`, time.Now().Add(-time.Hour).Format(time.RFC3339Nano))))
	s.Put("states", "prod/latamctl.lock", []byte(`{"id":"x","user":"ana","host":"laptop","pid":7}`))
	some := google{state: "DELETE_REQUESTED", enabled: map[string]bool{"pubsub.googleapis.com": true}}
	expect(t, checks(t, some, s, nil, nil), map[string]string{
		"credentials": "pass none are needed: a stand-in is asked instead of Google", "project": "fail my-project is DELETE_REQUESTED | gcloud projects undelete",
		"APIs":         "warn off: bigtableadmin.googleapis.com | latamctl up",
		"state bucket": "pass", "settings of the state bucket": "warn location is EU, not us-central1; versioning is off, not on",
		"run": "warn the environment is changed by ana@laptop", "lock of stack network": "warn held by ana@laptop for 1h0m0s (OperationTypeApply) | wait for it; when its program is dead, latamctl unlock network --env prod",
	})
	expect(t, checks(t, google{status: 403, reason: "Cloud Resource Manager API has not been used in project 1 before or it is disabled"}, stand(t), nil, nil), map[string]string{
		"project": "warn not checked: the Resource Manager API is off | gcloud services enable", "APIs": "warn not checked", "state bucket": "warn gs://states does not exist yet | latamctl up --env prod makes it",
	})
	expect(t, checks(t, google{status: 403, reason: "no"}, stand(t), nil, nil), map[string]string{"project": "fail my-project does not exist, or these credentials may not see it"})
	expect(t, checks(t, google{status: 400, reason: "canary"}, stand(t), nil, nil), map[string]string{"project": "fail Google answers 400", "APIs": "fail Google answers 400"})
	begin := time.Now()
	expect(t, checks(t, google{hang: true}, stand(t), nil, func(o *state.CloudOptions) { o.Timeout = 50 * time.Millisecond }), map[string]string{
		"project": "fail no answer from Google within 50ms", "APIs": "fail no answer from Google within 50ms",
	})
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
	denied := stand(t)
	denied.AddBucket("states", "x", nil)
	denied.DenyBucket("states")
	expect(t, checks(t, some, denied, map[string]string{"GOOGLE_CREDENTIALS": "/none"}, nil), map[string]string{"credentials": "fail read the credentials that GOOGLE_CREDENTIALS names"})
	expect(t, checks(t, some, denied, nil, nil), map[string]string{"state bucket": "fail"})
}

func TestCheckCloudFolder(t *testing.T) {
	t.Parallel()
	s := stand(t)
	found := checks(t, google{state: "ACTIVE"}, s, nil, func(o *state.CloudOptions) {
		o.State = "states"
		if err := o.Proc.WriteFile("states/x", nil); err != nil { // Others may enter it.
			t.Fatal(err)
		}
	})
	expect(t, found, map[string]string{"state bucket": "pass states can be read", "settings of the state bucket": "warn permissions is 0755, not 0700 | chmod 700 states", "locks": "pass"})
	if n := len(s.Requests()); n != 0 {
		t.Errorf("%d requests to a bucket", n)
	}
}
