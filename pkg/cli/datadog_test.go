package cli_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/latamctl/latamctl/pkg/monitor/declare"
	"github.com/latamctl/latamctl/pkg/monitor/monitortest"
)

// standIn is the Datadog of one session.
type standIn struct {
	*monitortest.Datadog
	sum string
	// refused is the path whose creates are answered with 400.
	refused atomic.Value
}

type standInKey struct{}

// datadogCommand is what a session does to Datadog behind latamctl's back:
//
//	datadog start            a Datadog without objects, and the keys for it
//	datadog foreign N        N objects of others that look like ours
//	datadog add TITLE        a monitor of others with the tag team:orders
//	datadog untouched        fails when one of these changed
//	datadog edit KIND.NAME FIELD VALUE   somebody changes an object of the stack
//	datadog untag KIND.NAME TAG          somebody removes a tag that begins so
//	datadog remove KIND.NAME
//	datadog has KIND N       fails unless there are that many with our tags or mark
//	datadog history KIND.NAME GOOD BAD   what an SLO counts in an hour
//	datadog refuse PATH      creates there are answered with 400
//	datadog half | empty | down | well   how lists and answers go wrong from now on
//	datadog calls N          fails when there were more calls since the last time
func datadogCommand(t *testing.T) func(ts *testscript.TestScript, neg bool, args []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if len(args) == 0 {
			ts.Fatalf("usage: datadog COMMAND [ARG]...")
		}
		d, _ := ts.Value(standInKey{}).(*standIn)
		if args[0] == "start" {
			d.start(ts)
			return
		}
		if err := d.act(args[0], args[1:]); (err != "") != neg {
			ts.Fatalf("datadog %s: %s", strings.Join(args, " "), err)
		}
	}
}

func (d *standIn) start(ts *testscript.TestScript) {
	d.Datadog = monitortest.NewServer(monitortest.Options{})
	d.Before(func(r *http.Request) *monitortest.Response {
		if r.Method != http.MethodPost || r.URL.Path != d.refused.Load() {
			return nil
		}
		return &monitortest.Response{Status: http.StatusBadRequest, Body: map[string]any{"errors": []string{"not today"}}}
	})
	listener := httptest.NewServer(d.Datadog)
	ts.Defer(listener.Close)
	ts.Setenv("DD_URL", listener.URL)
	ts.Setenv("DD_API_KEY", monitortest.APIKey)
	ts.Setenv("DD_APP_KEY", monitortest.AppKey)
}

// act returns what is wrong.
func (d *standIn) act(command string, args []string) string {
	arg := func(i int) string { return append(args, "", "", "")[i] }
	switch command {
	case "foreign":
		n, _ := strconv.Atoi(arg(0))
		if err := d.AddForeign(n, "latam-prod"); err != nil {
			return err.Error()
		}
		d.sum = d.Checksum()
	case "untouched":
		if d.sum != d.Checksum() {
			return "somebody else's object was changed"
		}
	case "add":
		_, err := d.Add(declare.Monitor, map[string]any{
			"name": arg(0), "type": "query alert", "message": "Orders are slow. @slack-latam", "tags": []any{"team:orders"},
			"query":   "avg(last_5m):avg:kubernetes.cpu.usage.total{kube_namespace:latam} > 3",
			"options": map[string]any{"thresholds": map[string]any{"critical": 3.0}},
		})
		return said(err)
	case "has":
		if n := len(d.ours(declare.Kind(arg(0)))); strconv.Itoa(n) != arg(1) {
			return "there are " + strconv.Itoa(n)
		}
	case "half":
		d.Faults(monitortest.Script{HalfList: true})
	case "empty":
		d.Faults(monitortest.Script{EmptyList: true, Lists: []declare.Kind{declare.Monitor}})
	case "down":
		d.Faults(monitortest.Script{Rate5xx: 1, On: func(r *http.Request) bool { return r.Method != http.MethodGet }})
	case "refuse":
		d.refused.Store(arg(0))
	case "well":
		d.refused.Store("")
		d.Faults(monitortest.Script{})
	case "calls":
		n, _ := strconv.Atoi(arg(0))
		if calls := d.Calls(); len(calls) > n {
			return fmt.Sprintf("%d calls: %v", len(calls), calls)
		}
		d.ResetCalls()
	default:
		return d.change(command, arg(0), arg(1), arg(2))
	}
	return ""
}

// change does something to one object.
func (d *standIn) change(command, key, field, value string) string {
	kind, name, _ := strings.Cut(key, ".")
	id := d.find(declare.Kind(kind), name)
	if id == "" {
		return "there is no " + key
	}
	switch command {
	case "remove":
		d.Remove(declare.Kind(kind), id)
	case "edit":
		return said(d.Edit(declare.Kind(kind), id, func(o map[string]any) { o[field] = value }))
	case "untag":
		return said(d.Edit(declare.Kind(kind), id, func(o map[string]any) {
			tags, _ := o["tags"].([]any)
			o["tags"] = slices.DeleteFunc(tags, func(tag any) bool { return strings.HasPrefix(tag.(string), field) })
		}))
	case "history":
		good, _ := strconv.ParseFloat(field, 64)
		bad, _ := strconv.ParseFloat(value, 64)
		d.History(id, func(from, to time.Time) (float64, float64) {
			hours := to.Sub(from).Hours()
			return good * hours, bad * hours
		})
	default:
		return "there is no such command"
	}
	return ""
}

func said(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// find returns the id of an object of the stack.
func (d *standIn) find(kind declare.Kind, name string) string {
	for _, o := range d.ours(kind) {
		tags, _ := o["tags"].([]any)
		description, _ := o["description"].(string)
		if slices.Contains(tags, any("latamctl_id:"+string(kind)+"."+name)) || strings.Contains(description, "id="+string(kind)+"."+name+" ") {
			switch id := o["id"].(type) {
			case string:
				return id
			case int64:
				return strconv.FormatInt(id, 10)
			case float64:
				return strconv.FormatInt(int64(id), 10)
			}
		}
	}
	return ""
}

// ours are the objects of a kind that have all marks of the stack.
func (d *standIn) ours(kind declare.Kind) []map[string]any {
	return slices.DeleteFunc(d.Objects(kind), func(o map[string]any) bool {
		tags, _ := o["tags"].([]any)
		description, _ := o["description"].(string)
		marked := slices.Contains(tags, any("managed_by:latamctl")) && slices.Contains(tags, any("latamctl_stack:latam-prod")) &&
			slices.ContainsFunc(tags, func(tag any) bool { return strings.HasPrefix(tag.(string), "latamctl_hash:1-") })
		last := description[strings.LastIndexByte(description, '\n')+1:]
		return !marked && !strings.HasPrefix(last, "latamctl stack=latam-prod id=dashboard.")
	})
}
