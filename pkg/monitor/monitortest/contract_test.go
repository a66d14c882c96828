package monitortest_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/latamctl/latamctl/pkg/monitor/declare"
	"github.com/latamctl/latamctl/pkg/monitor/monitortest"
)

// TestContractSeesViolations breaks the contract on purpose: by parameters and contents that the
// server lets through, and by an object that no create makes.
func TestContractSeesViolations(t *testing.T) {
	t.Parallel()
	if err := monitortest.Described(); err != nil {
		t.Skip(err)
	}
	var reports []string
	s := monitortest.New(t, func(o *monitortest.Options) { o.Report = func(v string) { reports = append(reports, v) } })
	id := s.Seed(declare.Monitor, aMonitor())
	for name, test := range map[string]struct {
		do   func()
		want string
	}{
		"fine":              {func() { call(t, s, "GET", "/api/v1/monitor/"+id, nil) }, ""},
		"unknown parameter": {func() { call(t, s, "GET", "/api/v1/monitor?pagesize=3", nil) }, "pagesize is not a parameter"},
		"wrong parameter":   {func() { call(t, s, "GET", "/api/v1/monitor?with_downtimes=maybe", nil) }, "with_downtimes"},
		"read-only field":   {func() { call(t, s, "PUT", "/api/v1/monitor/"+id, object{"id": 5}) }, "readOnly"},
		"widget": {func() {
			call(t, s, "POST", "/api/v1/dashboard", with(aDashboard(""), "widgets", []any{object{"definition": object{"type": "note", "text": "x"}}}))
		}, "body of the request"},
		"answer": {func() {
			s.Edit(declare.Monitor, id, func(o map[string]any) { o["overall_state"] = "Fine" })
			call(t, s, "GET", "/api/v1/monitor/"+id, nil)
			s.Edit(declare.Monitor, id, func(o map[string]any) { o["overall_state"] = "OK" })
		}, "answer 200"},
		"answer's field": {func() {
			s.Edit(declare.Monitor, id, func(o map[string]any) { o["owner"] = "me" })
			call(t, s, "GET", "/api/v1/monitor/"+id, nil)
			s.Edit(declare.Monitor, id, func(o map[string]any) { delete(o, "owner") })
		}, "owner"},
		"hook": {func() {
			call(t, s, http.MethodGet, "/api/v1/validate", nil)
		}, ""},
	} {
		reports = nil
		test.do()
		if got := strings.Join(reports, "\n"); (got == "") != (test.want == "") || !strings.Contains(got, test.want) {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}
