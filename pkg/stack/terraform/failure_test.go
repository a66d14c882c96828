package terraform

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/latamctl/latamctl/pkg/proc"
)

// TestNoProviders: what a registry that cannot be reached says is told without terraform's advice, and is
// not planned again, because terraform itself tried more than once.
func TestNoProviders(t *testing.T) {
	t.Parallel()
	f := &Failure{Command: "init", Stack: "network"}
	f.fill(&stream{Summary: Summary{Diagnostics: []Diagnostic{{
		Severity: "error", Summary: "Failed to query available provider packages",
		Detail: "Could not retrieve the list of\nversions: dial tcp: connect: connection refused\n\nTo see which modules are currently depending on it, run the following command:\n    terraform providers",
	}}}}, ending{code: 1})
	if want := "init of stack network: its providers cannot be had: Could not retrieve the list of versions: dial tcp: connect: connection refused"; f.Kind != NoProviders || f.Error() != want {
		t.Errorf("%s: %v, want %s", f.Kind, f, want)
	}
}

// TestKindOfDiagnostic has texts of Google's APIs, of the provider, and of terraform.
func TestKindOfDiagnostic(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		want            Kind
		summary, detail string
	}{
		{Transient, `Error creating Topic: googleapi: Error 429: Quota exceeded for quota metric 'Administrator operations' and limit 'Administrator operations per minute' of service 'pubsub.googleapis.com'., rateLimitExceeded`, ""},
		{Transient, `Error reading Subscription: googleapi: got HTTP response code 503 with body: `, "503 Service Unavailable"},
		{Transient, `Error creating Dataset: googleapi: Error 503: Error encountered during execution. Retrying may solve the problem., backendError`, ""},
		{Transient, `googleapi: Error 500: Internal error encountered., backendError`, ""},
		{Transient, `googleapi: Error 502: Server Error`, ""},
		{Transient, `googleapi: Error 403: Quota exceeded for quota metric 'Read requests' and limit 'Read requests per minute' of service 'compute.googleapis.com' for consumer 'project_number:1'., rateLimitExceeded`, ""},
		{Transient, `Error creating instance. rpc error: code = Unavailable desc = transport is closing`, ""},
		{Transient, `Error creating Table`, `rpc error: code = ResourceExhausted desc = Quota`},
		{Transient, `Error creating Network: Post "https://compute.googleapis.com/compute/v1/projects/p/global/networks?alt=json": net/http: TLS handshake timeout`, ""},
		{Transient, `Error reading Topic: Get "https://pubsub.googleapis.com/v1/x": read tcp 10.0.0.2:5000->142.250.1.1:443: read: connection reset by peer`, ""},
		{Transient, `Error waiting: Get "https://x": dial tcp: lookup container.googleapis.com on 169.254.169.254:53: server misbehaving`, ""},
		{Transient, `Error: Get "https://x": unexpected EOF`, ""},
		{Transient, `Error creating Topic: googleapi: Error 403: Cloud Pub/Sub API has not been used in project 123 before or it is disabled. Enable it by visiting https://console.developers.google.com/apis then retry.`, `"reason": "SERVICE_DISABLED"`},
		{Transient, `Error applying IAM policy for topic: Error setting IAM policy: googleapi: Error 400: Service account latam-ingest@p.iam.gserviceaccount.com does not exist., badRequest`, ""},
		{Transient, `Error setting IAM policy: googleapi: Error 400: Identity Pool does not exist (p.svc.id.goog). Please check that you specified a valid resource name`, ""},
		{Transient, `Error setting IAM policy: googleapi: Error 409: There were concurrent policy changes. Please retry the whole read-modify-write with exponential backoff., aborted`, ""},
		{Transient, `googleapi: Error 400: Cluster is running incompatible operation operation-1., failedPrecondition`, ""},
		{Transient, "Failed to query available provider packages", `Could not retrieve the list of available versions for provider hashicorp/google: could not connect to registry.terraform.io: failed to request discovery document: Get "https://registry.terraform.io/.well-known/terraform.json": net/http: request canceled while waiting for connection (Client.Timeout exceeded while awaiting headers)`},
		{Denied, `Error creating Topic: googleapi: Error 403: User not authorized to perform this action., forbidden`, ""},
		{Denied, `googleapi: Error 403: The caller does not have permission, forbidden`, ""},
		{Denied, `googleapi: Error 401: Request had invalid authentication credentials.`, ""},
		{Denied, `Error 403: Permission 'bigtable.instances.create' denied on resource (or it may not exist).`, ""},
		{Denied, "Attempted to load application default credentials since neither `credentials` nor `access_token` was set in the provider block.  No credentials loaded.", "google: could not find default credentials"},
		{Denied, "Error acquiring the state lock", `Error message: writing "gs://p-latam-tfstate/prod/network/default.tflock" failed: googleapi: Error 403: x does not have storage.objects.create access to the Google Cloud Storage object., forbidden`},
		{Denied, `rpc error: code = PermissionDenied desc = Access denied`, ""},
		{Invalid, `Error creating Subnetwork: googleapi: Error 400: Invalid IPCidrRange: 10.0.0.0/20 conflicts with existing subnetwork 'default'., invalidIPCidrRange`, ""},
		{Invalid, "Unsupported argument", `An argument named "nothing" is not expected here.`},
		{Invalid, "Invalid value for variable", "The CIDR is wrong."},
		{Invalid, "No value for required variable", ""},
		{Failed, "Instance cannot be destroyed", `Resource google_bigtable_instance.main has lifecycle.prevent_destroy set, but the plan calls for this resource to be destroyed.`},
		{Failed, `Error creating Instance: googleapi: Error 409: Requested entity already exists, alreadyExists`, ""},
		{Failed, `Error creating x: name "error-4031" is taken`, ""},
		{Failed, `Error reading Topic: googleapi: Error 404: Resource not found (resource=t)., notFound`, ""},
		{Failed, `cannot destroy instance without setting deletion_protection=false and running terraform apply`, ""},
		{Failed, `Error creating NodePool: Insufficient quota to satisfy the request: Not all instances running in IGM. Quota 'CPUS' exceeded.  Limit: 24.0 in region us-central1.`, ""},
	} {
		if got := kindOfDiagnostic(Diagnostic{Summary: tc.summary, Detail: tc.detail}); got != tc.want {
			t.Errorf("%s, want %s: %s %s", got, tc.want, tc.summary, tc.detail)
		}
	}
}

func TestKindOfEnding(t *testing.T) {
	t.Parallel()
	transient := Diagnostic{Severity: "error", Summary: "googleapi: Error 503: busy"}
	denied := Diagnostic{Severity: "error", Summary: "googleapi: Error 403: no"}
	stale := Diagnostic{Severity: "error", Summary: "Saved plan is stale"}
	for name, tc := range map[string]struct {
		errs []Diagnostic
		lock *Lock
		end  ending
		want Kind
	}{
		"one reason":                 {errs: []Diagnostic{transient}, end: ending{code: 1}, want: Transient},
		"one of them stays":          {errs: []Diagnostic{transient, denied}, end: ending{code: 1}, want: Denied},
		"lock":                       {errs: []Diagnostic{transient}, lock: &Lock{ID: "1"}, end: ending{code: 1}, want: Locked},
		"stale":                      {errs: []Diagnostic{stale}, end: ending{code: 1}, want: Stale},
		"interrupt":                  {errs: []Diagnostic{transient}, end: ending{code: 1, interrupted: true}, want: Interrupted},
		"stale before the interrupt": {errs: []Diagnostic{stale}, end: ending{code: 1, interrupted: true}, want: Stale},
		"killed":                     {end: ending{code: -1, signal: "killed"}, want: Killed},
		"killed after an error":      {errs: []Diagnostic{denied}, end: ending{code: -1, signal: "killed"}, want: Killed},
		"nobody knows":               {want: Killed},
		"no word":                    {end: ending{code: 1}, want: Failed},
	} {
		if got := kindOf(tc.errs, tc.lock, tc.end); got != tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
}

func TestFailureText(t *testing.T) {
	t.Parallel()
	lock := "Error message: writing \"gs://b/prod/x/default.tflock\" failed: googleapi: Error 412: conditionNotMet\nLock Info:\n  ID:        1763\n  Path:      gs://b/prod/x/default.tflock\n  Operation: OperationTypeApply\n  Who:       ana@ci-7\n  Version:   1.11.4\n  Created:   2026-03-01 10:00:00.5 +0000 UTC\n  Info:      \n\n\nTerraform acquires a state lock"
	var s stream
	s.line([]byte(`{"@level":"error","type":"diagnostic","diagnostic":{"severity":"error","summary":"Error acquiring the state lock","detail":` + fmt.Sprintf("%q", lock) + `}}`))
	f := &Failure{Command: "plan", Stack: "x", Output: "/runs/1/x.ndjson"}
	f.fill(&s, ending{code: 1})
	if f.Kind != Locked || f.Lock.ID != "1763" || f.Lock.Who != "ana@ci-7" || f.Lock.Path != "gs://b/prod/x/default.tflock" || f.Lock.Version != "1.11.4" {
		t.Errorf("%+v", f)
	}
	if want := "plan of stack x: the state is locked by ana@ci-7 since 2026-03-01T10:00:00Z (OperationTypeApply, lock 1763); all output is in /runs/1/x.ndjson"; f.Error() != want {
		t.Errorf("error %q, want %q", f, want)
	}

	long := Diagnostic{Severity: "error", Summary: "Error creating Topic", Detail: strings.Repeat("é long\n", 200), Address: "google_pubsub_topic.t"}
	f = &Failure{Command: "apply", Stack: "x", Kind: Failed, Diagnostics: []Diagnostic{long}}
	if text := f.Error(); len(text) > 450 || !strings.HasSuffix(text, "(google_pubsub_topic.t)") || strings.Contains(text, "\n") {
		t.Errorf("error %q, want it short, on one line, with the address", text)
	}

	f = &Failure{Command: "force-unlock", Stack: "x"}
	f.fill(&stream{plain: []string{"╷", "│ Error: Failed to unlock state: lock id \"a\" does not match existing lock", "│ ", "╵"}}, ending{code: 1, plain: []string{"│ Error: Failed to unlock state: no such lock", "│ more"}})
	if f.Kind != Failed || f.Diagnostics[0].Summary != "Failed to unlock state: no such lock" || f.Diagnostics[0].Detail != "more" {
		t.Errorf("%+v", f)
	}

	f = &Failure{Command: "apply", Stack: "x", Cause: proc.ErrInterrupted}
	f.fill(&stream{}, ending{interrupted: true})
	if f.Kind != Interrupted || !errors.Is(f, proc.ErrInterrupted) || KindOf(fmt.Errorf("run: %w", f)) != Interrupted || KindOf(context.Canceled) != Failed {
		t.Errorf("%+v", f)
	}
}
