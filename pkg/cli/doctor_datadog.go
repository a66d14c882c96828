package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/latamctl/latamctl/pkg/monitor"
	"github.com/latamctl/latamctl/pkg/monitor/datadog"
	"github.com/latamctl/latamctl/pkg/monitor/declare"
)

// checkDatadog checks the keys of Datadog by reading what sync reads. Without keys it says so where an
// environment is watched; elsewhere there is nothing to check.
func (a *app) checkDatadog(ctx context.Context, setting string, watched bool) []finding {
	keys := slices.ContainsFunc([]string{apiKeyVar, appKeyVar, bearerVar}, func(name string) bool { return a.proc.Env(name) != "" })
	switch {
	case !keys && !watched:
		return nil
	case !keys:
		return []finding{{
			Check: "datadog keys", Status: statusWarn, Seen: "neither " + apiKeyVar + " with " + appKeyVar + " nor " + bearerVar + " is set, so that monitors cannot be planned",
			Fix: keysHint,
		}}
	}
	client, err := a.openDatadog(setting)
	if err != nil {
		return []finding{keyFinding(err)}
	}
	if err := client.Check(ctx); err != nil {
		return []finding{keyFinding(err)}
	}
	findings := []finding{{Check: "datadog keys", Status: statusPass, Seen: "valid at " + client.Site()}}
	for _, read := range []struct {
		kind  declare.Kind
		scope string
	}{{declare.Monitor, "monitors_read"}, {declare.SLO, "slos_read"}, {declare.Dashboard, "dashboards_read"}} {
		f := finding{Check: "datadog " + read.scope, Status: statusPass}
		found, err := client.List(ctx, read.kind, a.stackName(), nil)
		switch {
		case errors.Is(err, datadog.ErrDenied):
			f.Status, f.Seen, f.Fix = statusFail, err.Error(), "give the application key the scope "+read.scope
		case err != nil:
			f.Status, f.Seen, f.Fix = statusFail, err.Error(), "https://status.datadoghq.com says how Datadog is"
		default:
			found = slices.DeleteFunc(found, func(live declare.Live) bool {
				_, ours := monitor.Owned(live, a.stackName())
				return !ours
			})
			f.Seen = fmt.Sprintf("%d of %s can be read", len(found), a.stackName())
		}
		findings = append(findings, f)
	}
	return append(findings, finding{Check: "datadog scopes", Status: statusPass, Seen: "for everything they are " + datadogScopes + "; of the writing ones only a write tells"})
}

func keyFinding(err error) finding {
	f := finding{Check: "datadog keys", Status: statusFail, Seen: err.Error(), Fix: "check " + siteVar + " and " + urlVar}
	var hinted *fault
	switch {
	case errors.As(err, &hinted):
		f.Fix = hinted.hint
	case errors.Is(err, datadog.ErrDenied):
		f.Fix = "the keys must be of that site: " + siteVar + " names another; " + keysHint
	}
	return f
}
