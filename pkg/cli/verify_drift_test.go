package cli

import (
	"errors"
	"strings"
	"testing"

	"github.com/latamctl/latamctl/pkg/plan"
)

// TestVerifyDrift: what differs fails and is named; what cannot be seen is skipped.
func TestVerifyDrift(t *testing.T) {
	t.Parallel()
	changed := []plan.Change{{Address: "x.y", Action: plan.Update}}
	section := func(s plan.Section) *plan.Plan {
		return &plan.Plan{Sections: []plan.Section{{Name: "network"}, s}}
	}
	for name, tt := range map[string]struct {
		driver *fakeDriver
		code   int
		want   string
	}{
		"nothing differs":      {&fakeDriver{plan: section(plan.Section{Name: "storage"})}, exitOK, ": 2 stacks are as they are declared"},
		"drift":                {&fakeDriver{plan: section(plan.Section{Name: "storage", Drift: changed})}, exitVerify, "what runs differs in storage"},
		"pending":              {&fakeDriver{plan: section(plan.Section{Name: "storage", Changes: changed})}, exitVerify, "next:     latamctl drift --env prod"},
		"could not be planned": {&fakeDriver{plan: section(plan.Section{Name: "storage", Error: "boom"})}, exitVerify, "could not be compared: storage"},
		"an error":             {&fakeDriver{err: errors.New("boom")}, exitVerify, " ms): boom"},
		"no terraform":         {nil, exitUnavailable, " ms): the stacks cannot be compared from here: "},
	} {
		r := call(t, tt.driver, person{args: args("verify --env prod --url http://127.0.0.1:1 --only drift")})
		if r.code != tt.code || !strings.Contains(r.out, tt.want) || !strings.Contains(r.out, "infrastructure/drift") {
			t.Errorf("%s: exit %d\n%s%s", name, r.code, r.out, r.err)
		}
	}
}
