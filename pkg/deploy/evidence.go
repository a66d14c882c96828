package deploy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// How much evidence is kept.
const (
	maxEvidencePods   = 3
	maxEvidenceEvents = 15
	maxLogLines       = 15
	maxLogBytes       = 16 << 10
)

// Evidence is what the cluster says about a release that failed.
type Evidence struct {
	// Deployment is the one whose pods did not do.
	Deployment string   `json:"deployment,omitempty"`
	Conditions []string `json:"conditions,omitempty"`
	// Pods are the first that are not ready, or the one that was verified.
	Pods []PodEvidence `json:"pods,omitempty"`
	// Events are the last ones, the newest at the end.
	Events []string `json:"events,omitempty"`
}

// PodEvidence is what the cluster says about one pod.
type PodEvidence struct {
	Name  string `json:"name"`
	State string `json:"state"` // such as Running, waiting: CrashLoopBackOff, 4 restarts
	// Log are the last lines; LogError says why there are none.
	Log      []string `json:"log,omitempty"`
	LogError string   `json:"log_error,omitempty"`
}

// evidence collects what there is. Whatever cannot be read is left out: the failure is known anyway.
func (r *release) evidence(ctx context.Context, cause error) Evidence {
	name := ""
	s, err := r.look(ctx)
	if err != nil {
		return Evidence{}
	}
	switch r.step {
	case StepIngest:
		name = s.ingest.name
	case StepPods, StepCheck:
		name = s.idle.name
	default:
		name = s.live.name
	}
	e := Evidence{Deployment: name}
	if o, err := r.c.get(ctx, deploymentKind(), r.namespace(), name); err == nil && o != nil {
		for _, c := range conditions(o) {
			e.Conditions = append(e.Conditions, fmt.Sprintf("%s=%s: %s", c.kind, c.status, c.message))
		}
	}
	var refused *VerifyError
	errors.As(cause, &refused)
	pods, _ := r.pods(ctx, name) // None is what there is to show then.
	for i := range pods {
		if pods[i].GetDeletionTimestamp() != nil { // Of the version before.
			continue
		}
		suspect := refused == nil && !podReady(&pods[i]) || refused != nil && refused.Pod == pods[i].GetName()
		if suspect && len(e.Pods) < maxEvidencePods {
			e.Pods = append(e.Pods, r.podEvidence(ctx, &pods[i]))
		}
	}
	events, _ := r.events(ctx, name) // None is what there is to show then.
	for _, event := range events[max(0, len(events)-maxEvidenceEvents):] {
		e.Events = append(e.Events, event.text)
	}
	return e
}

func (r *release) podEvidence(ctx context.Context, pod *unstructured.Unstructured) PodEvidence {
	p := PodEvidence{Name: pod.GetName()}
	p.State, _, _ = unstructured.NestedString(pod.Object, "status", "phase")
	list, _, _ := unstructured.NestedSlice(pod.Object, "status", "containerStatuses")
	container, previous := "", false
	for _, item := range list {
		c, _ := item.(map[string]any)
		container = nameOf(item)
		restarts, _, _ := unstructured.NestedInt64(c, "restartCount")
		waiting, _, _ := unstructured.NestedString(c, "state", "waiting", "reason")
		message, _, _ := unstructured.NestedString(c, "state", "waiting", "message")
		previous = waiting != "" && restarts > 0
		if waiting != "" {
			p.State += ", waiting: " + strings.TrimSuffix(waiting+" "+message, " ")
		}
		if restarts > 0 {
			p.State += fmt.Sprintf(", %d restarts", restarts)
		}
		if ended, _, _ := unstructured.NestedString(c, "lastState", "terminated", "reason"); ended != "" {
			code, _, _ := unstructured.NestedInt64(c, "lastState", "terminated", "exitCode")
			p.State += fmt.Sprintf(", ended before with %s, exit status %d", ended, code)
		}
	}
	var err error
	if p.Log, err = r.c.podLog(ctx, r.namespace(), pod.GetName(), container, previous); err != nil {
		p.LogError = err.Error()
	}
	return p
}

// podLog reads the last lines that a container wrote.
func (c *client) podLog(ctx context.Context, namespace, pod, container string, previous bool) ([]string, error) {
	q := url.Values{"tailLines": {fmt.Sprint(maxLogLines)}, "limitBytes": {fmt.Sprint(maxLogBytes)}}
	if container != "" {
		q.Set("container", container)
	}
	if previous {
		q.Set("previous", "true")
	}
	u := c.root.JoinPath("api/v1/namespaces", namespace, "pods", pod, "log")
	u.RawQuery = q.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("read the log of pod %s: %w", pod, err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxLogBytes))
	if err != nil {
		return nil, fmt.Errorf("read the log of pod %s: %w", pod, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, apierrors.NewGenericServerResponse(resp.StatusCode, "get", schema.GroupResource{Resource: "pods/log"}, pod, short(string(body)), 0, true)
	}
	lines := strings.Split(strings.TrimSpace(string(body)), "\n")
	return slices.DeleteFunc(lines, func(line string) bool { return line == "" }), nil
}

// event is one of the cluster's.
type event struct {
	id, object, text string
	at               string // sorts by time
}

// events lists those of a Deployment, its ReplicaSets and its pods, the newest at the end.
func (r *release) events(ctx context.Context, name string) ([]event, error) {
	items, err := r.c.list(ctx, schema.GroupVersionKind{Version: "v1", Kind: "Event"}, r.namespace(), "")
	if err != nil {
		return nil, err
	}
	var all []event
	for i := range items {
		get := func(path ...string) string {
			s, _, _ := unstructured.NestedString(items[i].Object, path...)
			return s
		}
		object := get("involvedObject", "name")
		if name != "" && object != name && !strings.HasPrefix(object, name+"-") {
			continue
		}
		count, _, _ := unstructured.NestedInt64(items[i].Object, "count")
		at := get("lastTimestamp")
		for _, path := range [][]string{{"series", "lastObservedTime"}, {"eventTime"}} {
			if t := get(path...); t > at {
				at = t
			}
		}
		e := event{id: fmt.Sprintf("%s %d", items[i].GetUID(), count), object: object, at: at}
		e.text = fmt.Sprintf("%s %s: %s", get("reason"), object, short(strings.TrimSpace(get("message"))))
		if get("type") == "Warning" {
			e.text = "Warning " + e.text
		}
		all = append(all, e)
	}
	slices.SortStableFunc(all, func(a, b event) int { return compareText(a.at, b.at) })
	return all, nil
}

// rememberEvents marks what happened before the release.
func (r *release) rememberEvents(ctx context.Context) error {
	events, err := r.events(ctx, "")
	for _, e := range events {
		r.seen[e.id] = true
	}
	return err
}

// showEvents tells what is new about a Deployment.
func (r *release) showEvents(ctx context.Context, name string) error {
	events, err := r.events(ctx, name)
	for _, e := range events {
		if !r.seen[e.id] {
			r.seen[e.id] = true
			r.o.On(Event{Step: r.step, Message: e.text, Cluster: true})
		}
	}
	return err
}
