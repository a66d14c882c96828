package state

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"google.golang.org/api/cloudresourcemanager/v1"
	"google.golang.org/api/googleapi"
	"google.golang.org/api/option"
	"google.golang.org/api/serviceusage/v1"

	"github.com/latamctl/latamctl/pkg/bucket"
	"github.com/latamctl/latamctl/pkg/proc"
)

// Finding is the outcome of one check.
type Finding struct {
	Check  string `json:"check"`
	Status string `json:"status"` // pass, warn or fail
	Seen   string `json:"seen"`
	Fix    string `json:"fix,omitempty"`
}

// The statuses of a finding.
const (
	Pass = "pass"
	Warn = "warn"
	Fail = "fail"
)

// CloudOptions say what CheckCloud looks at.
type CloudOptions struct {
	Proc        *proc.Process
	Environment string
	Project     string
	// APIs are the services that must be on, such as pubsub.googleapis.com.
	APIs []string
	// Stacks are those whose locks are looked at.
	Stacks []string
	// State is gs://NAME or a folder, Settings how that bucket should be, and Bucket how to reach it.
	State    string
	Settings bucket.Settings
	Bucket   bucket.Options
	// Endpoint is the URL of the Service Usage and Resource Manager APIs without a path, empty for Google's.
	// One at http:// is asked without credentials, which suits a stand-in on this machine.
	Endpoint string
	// Timeout bounds each check. Default 10s.
	Timeout time.Duration
}

// Defaults fills in what is not set.
func (o CloudOptions) Defaults() CloudOptions {
	if o.Timeout == 0 {
		o.Timeout = 10 * time.Second
	}
	o.Bucket.Proc = o.Proc
	o.Bucket.Timeout = o.Timeout
	return o
}

// login is what to do without credentials.
const login = "run gcloud auth application-default login, or set GOOGLE_APPLICATION_CREDENTIALS to a file of credentials"

// CheckCloud checks what an environment in the cloud needs before anything is planned: credentials,
// the project, its APIs, the bucket of states, the locks. It changes nothing, and every check is bounded in time.
func CheckCloud(ctx context.Context, o CloudOptions) []Finding {
	o = o.Defaults()
	client, credentials := checkCredentials(ctx, o)
	findings := []Finding{credentials}
	if credentials.Status != Fail {
		findings = append(findings, o.checkProject(ctx, client), o.checkAPIs(ctx, client))
	}
	return append(findings, o.checkStates(ctx)...)
}

func checkCredentials(ctx context.Context, o CloudOptions) ([]option.ClientOption, Finding) {
	f := Finding{Check: "credentials", Status: Pass}
	client, id, err := bucket.Credentials(ctx, o.Proc)
	switch {
	case err != nil:
		f.Status, f.Seen, f.Fix = Fail, err.Error(), login
	case id.Attached() && strings.HasPrefix(o.Endpoint, "http://"):
		f.Seen = "none are needed: a stand-in is asked instead of Google"
	case id.Attached():
		account, err := attachedAccount(ctx, o.Proc)
		if err != nil {
			f.Status, f.Seen, f.Fix = Fail, fmt.Sprintf("none: no variable names any, gcloud has none, and this is no machine of Google's (%v)", err), login
			return client, f
		}
		f.Seen = fmt.Sprintf("attached service account %s, from the metadata server", account)
	case id.Account != "":
		f.Seen = fmt.Sprintf("%s of %s, from %s", id.Kind, id.Account, id.Source)
	default:
		f.Seen = fmt.Sprintf("%s, from %s", id.Kind, id.Source)
	}
	return client, f
}

// client returns the options of a service of Google's, on the stand-in when there is one.
func (o CloudOptions) client(credentials []option.ClientOption) []option.ClientOption {
	options := append([]option.ClientOption{option.WithUserAgent("latamctl")}, credentials...)
	if o.Endpoint == "" {
		return options
	}
	if u, err := url.Parse(o.Endpoint); err == nil && u.Scheme == "http" {
		options = []option.ClientOption{option.WithoutAuthentication()}
	}
	return append(options, option.WithEndpoint(strings.TrimSuffix(o.Endpoint, "/")+"/"))
}

func (o CloudOptions) checkProject(ctx context.Context, credentials []option.ClientOption) Finding {
	f := Finding{Check: "project", Status: Pass}
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	service, err := cloudresourcemanager.NewService(ctx, o.client(credentials)...)
	var project *cloudresourcemanager.Project
	if err == nil {
		project, err = service.Projects.Get(o.Project).Context(ctx).Do()
	}
	switch {
	case err == nil && project.LifecycleState != "ACTIVE":
		f.Status, f.Seen = Fail, fmt.Sprintf("%s is %s", o.Project, project.LifecycleState)
		f.Fix = "gcloud projects undelete " + o.Project + ", or set project to another one"
	case err == nil:
		f.Seen = fmt.Sprintf("%s exists, number %d", o.Project, project.ProjectNumber)
	case disabled(err):
		f.Status, f.Seen = Warn, "not checked: the Resource Manager API is off"
		f.Fix = "gcloud services enable cloudresourcemanager.googleapis.com --project " + o.Project
	case status(err) == http.StatusForbidden || status(err) == http.StatusNotFound:
		f.Status, f.Seen = Fail, fmt.Sprintf("%s does not exist, or these credentials may not see it", o.Project)
		f.Fix = "correct project, or have the role resourcemanager.projectViewer granted"
	default:
		f.Status = Fail
		f.Seen, f.Fix = o.unreachable(err)
	}
	return f
}

// batch is how many services Service Usage answers about at once.
const batch = 30

func (o CloudOptions) checkAPIs(ctx context.Context, credentials []option.ClientOption) Finding {
	f := Finding{Check: "APIs", Status: Pass, Seen: fmt.Sprintf("all %d are on", len(o.APIs))}
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	service, err := serviceusage.NewService(ctx, o.client(credentials)...)
	on := map[string]bool{}
	for start := 0; err == nil && start < len(o.APIs); start += batch {
		var names []string
		for _, api := range o.APIs[start:min(start+batch, len(o.APIs))] {
			names = append(names, "projects/"+o.Project+"/services/"+api)
		}
		var answer *serviceusage.BatchGetServicesResponse
		if answer, err = service.Services.BatchGet("projects/" + o.Project).Names(names...).Context(ctx).Do(); err != nil {
			break
		}
		for _, s := range answer.Services {
			on[s.Name[strings.LastIndexByte(s.Name, '/')+1:]] = s.State == "ENABLED"
		}
	}
	if err != nil {
		if status(err) == http.StatusForbidden {
			f.Status, f.Seen = Warn, "not checked: these credentials may not list the services of "+o.Project
			f.Fix = "have the role serviceusage.serviceUsageViewer granted"
			return f
		}
		f.Status = Fail
		f.Seen, f.Fix = o.unreachable(err)
		return f
	}
	var off []string
	for _, api := range o.APIs {
		if !on[api] {
			off = append(off, api)
		}
	}
	if len(off) > 0 { // A first `up` switches them on.
		f.Status, f.Seen = Warn, "off: "+strings.Join(off, ", ")
		f.Fix = "latamctl up switches them on with stack bootstrap, or gcloud services enable " + strings.Join(off, " ") + " --project " + o.Project
	}
	return f
}

// unreachable says what was seen and what to do when Google does not answer as it should.
func (o CloudOptions) unreachable(err error) (seen, fix string) {
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Sprintf("no answer from Google within %s", o.Timeout), "look at the network and the proxy"
	}
	if code := status(err); code != 0 && code != http.StatusUnauthorized {
		return fmt.Sprintf("Google answers %d %s", code, http.StatusText(code)), "try again later"
	}
	return fmt.Sprintf("Google cannot be asked: %.300s", err), login
}

func status(err error) int {
	var api *googleapi.Error
	if errors.As(err, &api) {
		return api.Code
	}
	return 0
}

// disabled tells whether an API refuses because it is off in the project that asks.
func disabled(err error) bool {
	return status(err) == http.StatusForbidden && (strings.Contains(err.Error(), "SERVICE_DISABLED") || strings.Contains(err.Error(), "has not been used in project"))
}

// checkStates looks at the bucket, its settings and the locks in it.
func (o CloudOptions) checkStates(ctx context.Context) []Finding {
	f := Finding{Check: "state bucket", Status: Pass, Seen: o.State + " can be read"}
	ctx, cancel := context.WithTimeout(ctx, 2*o.Timeout)
	defer cancel()
	b, err := bucket.Open(ctx, o.State, o.Bucket)
	var differences []bucket.Difference
	if err == nil {
		differences, err = b.Inspect(ctx, o.Settings)
	}
	switch {
	case errors.Is(err, bucket.ErrNoBucket):
		f.Status, f.Seen, f.Fix = Warn, o.State+" does not exist yet", "latamctl up --env "+o.Environment+" makes it"
		return []Finding{f}
	case errors.Is(err, bucket.ErrDenied):
		f.Status, f.Seen, f.Fix = Fail, err.Error(), "have the role storage.admin granted on it, or name another bucket with --state gs://NAME"
		return []Finding{f}
	case err != nil:
		f.Status, f.Seen, f.Fix = Fail, err.Error(), "look at the network, and at the setting state"
		return []Finding{f}
	}
	findings := []Finding{f}
	if len(differences) > 0 {
		findings = append(findings, settingsFinding(o, differences))
	}
	return append(findings, o.checkLocks(ctx, New(b, o.Environment))...)
}

func settingsFinding(o CloudOptions, differences []bucket.Difference) Finding {
	var texts []string
	for _, d := range differences {
		seen := d.Seen
		if seen == "" {
			seen = "none"
		}
		texts = append(texts, fmt.Sprintf("%s is %s, not %s", d.Setting, seen, d.Want))
	}
	fix := "latamctl up --env " + o.Environment + " --stack bootstrap sets them"
	if !strings.HasPrefix(o.State, "gs://") {
		fix = "chmod 700 " + o.State
	}
	return Finding{Check: "settings of the state bucket", Status: Warn, Seen: strings.Join(texts, "; "), Fix: fix}
}

func (o CloudOptions) checkLocks(ctx context.Context, states *States) []Finding {
	locks, err := states.Locks(ctx, o.Stacks)
	if err != nil {
		return []Finding{{Check: "locks", Status: Fail, Seen: err.Error(), Fix: "have the role storage.objectViewer granted on the bucket"}}
	}
	var findings []Finding
	if holder, err := states.RunHolder(ctx); err != nil {
		findings = append(findings, Finding{Check: "run", Status: Warn, Seen: err.Error(), Fix: "delete it when no run is going on"})
	} else if holder != nil {
		findings = append(findings, Finding{Check: "run", Status: Warn, Seen: "the environment is changed by " + holder.String(), Fix: "wait for it; a dead one is taken over 5 minutes after it was last seen"})
	}
	for _, lock := range locks {
		findings = append(findings, Finding{
			Check: "lock of stack " + lock.Stack, Status: Warn,
			Seen: fmt.Sprintf("held by %s for %s (%s)", lock.Who, lock.Age(o.Proc.Now()).Round(time.Second), lock.Operation),
			Fix:  fmt.Sprintf("wait for it; when its program is dead, latamctl unlock %s --env %s", lock.Stack, o.Environment),
		})
	}
	if len(findings) == 0 {
		findings = append(findings, Finding{Check: "locks", Status: Pass, Seen: fmt.Sprintf("none of %d stacks is locked", len(o.Stacks))})
	}
	return findings
}
