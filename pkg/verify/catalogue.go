package verify

import (
	"context"
	"errors"
	"slices"

	"github.com/latamctl/latamctl/pkg/dataset"
)

// The hops, in the order in which a record and a question pass them.
const (
	HopDeclaration    = "declaration"
	HopResources      = "resources"
	HopCanary         = "canary"
	HopAPI            = "api"
	HopAccess         = "access"
	HopLatency        = "latency"
	HopInfrastructure = "infrastructure"
	HopMonitors       = "monitors"
)

// Hops lists the hops.
func Hops() []string {
	return []string{HopDeclaration, HopResources, HopCanary, HopAPI, HopAccess, HopLatency, HopInfrastructure, HopMonitors}
}

// CheckFresh is the check of HopCanary that measures publish → readable.
const CheckFresh = "fresh"

// The checks that others run, by a Probe.
const (
	ProbeDrift      = "drift"
	ProbeSynced     = "synced"
	ProbeQuiet      = "quiet"
	ProbeDashboards = "dashboards"
)

// spec is a check as it is known before it runs.
type spec struct {
	hop, name string
	system    bool // it is about the system as a whole, not about one dataset
	// expected stands in the report when the check does not say it more exactly itself.
	expected string
	needs    []need
	run      func(r *runner, ctx context.Context, ds *dataset.Dataset, res *Result)
}

// need is a check that another builds on: when it failed, the other would only repeat it.
type need struct {
	hop, check string
	pass       bool // it has to pass; without it a skipped one is no obstacle
}

func needsAPI() need    { return need{hop: HopAPI, check: "health"} }
func needsRows() need   { return need{hop: HopAPI, check: "rows", pass: true} }
func needsDoc() need    { return need{hop: HopAPI, check: "contract", pass: true} }
func needsTables() need { return need{hop: HopResources, check: "tables"} }
func needsFresh() need  { return need{hop: HopCanary, check: CheckFresh, pass: true} }

// catalogue lists the checks in the order in which they run: what others build on comes first. The
// checks of a group are run for one dataset after the other.
func catalogue() [][]spec {
	return [][]spec{
		{
			{hop: HopAPI, name: "health", system: true, expected: "GET /healthz answers 200", run: (*runner).health},
			{hop: HopAPI, name: "contract", system: true, expected: "GET /openapi.json is an OpenAPI document", needs: []need{needsAPI()}, run: (*runner).contract},
		},
		{
			{hop: HopDeclaration, name: "served", expected: "the API describes the dataset as it is declared here", needs: []need{needsAPI()}, run: (*runner).served},
		},
		{
			{hop: HopResources, name: "topics", expected: "its topics exist", run: (*runner).topics},
			{hop: HopResources, name: "subscriptions", expected: "its subscriptions exist, each on its topic", run: (*runner).subscriptions},
			{hop: HopResources, name: "tables", expected: "its tables exist, with the family of its columns", run: (*runner).tables},
		},
		{
			{hop: HopAPI, name: "rows", expected: "a page of rows is answered", needs: []need{needsAPI(), needsTables()}, run: (*runner).rows},
		},
		canaryChecks(),
		{
			{hop: HopAPI, name: "operations", system: true, expected: "the operations of the service answer as their contract says", needs: []need{needsAPI(), needsDoc()}, run: (*runner).serviceOperations},
		},
		apiChecks(),
		{
			{hop: HopAccess, name: "auth", expected: "rows are answered to those only who show good credentials", needs: []need{needsAPI()}, run: (*runner).auth},
			{hop: HopAccess, name: "quota", expected: "requests are counted against the declared quota", needs: []need{needsAPI()}, run: (*runner).quota},
		},
		{
			{hop: HopLatency, name: "response", expected: "rows are answered in time", needs: []need{needsRows()}, run: (*runner).responseLatency},
			{hop: HopLatency, name: "ingest", expected: "records are readable in time", needs: []need{needsRows(), needsFresh()}, run: (*runner).ingestLatency},
		},
		{
			probe(HopInfrastructure, ProbeDrift, "what runs is what was applied, and what is declared"),
			probe(HopMonitors, ProbeSynced, "monitors, SLOs and dashboards at Datadog are as they are declared"),
			probe(HopMonitors, ProbeQuiet, "no monitor alerts"),
			probe(HopMonitors, ProbeDashboards, "every declared dashboard is at Datadog"),
		},
	}
}

func canaryChecks() []spec {
	needs := append(resources(), needsRows())
	return []spec{
		{hop: HopCanary, name: CheckFresh, expected: "a record that is published is answered by the API as it was published", needs: needs, run: (*runner).fresh},
		{hop: HopCanary, name: "duplicate", expected: "a record that comes twice is one row", needs: append(slices.Clone(needs), needsFresh()), run: (*runner).duplicate},
		{hop: HopCanary, name: "order", expected: "a record that comes late replaces nothing newer", needs: append(slices.Clone(needs), needsFresh()), run: (*runner).outOfOrder},
		{hop: HopCanary, name: "poison", expected: "a record that breaks the declaration becomes a dead letter", needs: append(slices.Clone(needs), needsFresh()), run: (*runner).poison},
	}
}

func apiChecks() []spec {
	needs := []need{needsRows(), needsDoc()}
	return []spec{
		{hop: HopAPI, name: "operations", expected: "every operation of the dataset answers as its contract says", needs: needs, run: (*runner).operations},
		{hop: HopAPI, name: "paging", expected: "pages bring every row once, in the order of the key", needs: []need{needsRows()}, run: (*runner).paging},
		{hop: HopAPI, name: "caching", expected: "an answer that has not changed is 304 to who has it", needs: []need{needsRows()}, run: (*runner).caching},
		{hop: HopAPI, name: "errors", expected: "bad requests are refused with a problem that has its code", needs: needs, run: (*runner).errors},
		{hop: HopAPI, name: "publish", expected: "a record that is posted is readable, and comes in the tail", needs: []need{needsRows(), needsDoc(), needsFresh()}, run: (*runner).posted},
	}
}

func resources() []need {
	return []need{{hop: HopResources, check: "topics"}, {hop: HopResources, check: "subscriptions"}, needsTables()}
}

// removedSpec is the check of what this package leaves behind. It is not in the catalogue, because it
// is run whenever something was published.
func removedSpec() spec {
	return spec{hop: HopCanary, name: "removed", system: true, expected: "no row, message or dead letter of verify stays", run: (*runner).removed}
}

func probe(hop, name, expected string) spec {
	return spec{hop: hop, name: name, system: true, expected: expected, run: func(r *runner, ctx context.Context, _ *dataset.Dataset, res *Result) {
		p, ok := r.deps.Probes[name]
		switch {
		case !ok:
			res.skip("nobody looks at it here")
			return
		case p.Skip != "":
			res.skip(p.Skip)
			return
		}
		seen, next, err := p.Run(ctx)
		var unseen Unseen
		switch {
		case errors.As(err, &unseen):
			res.skip(string(unseen))
		case err != nil:
			res.Next = next
			res.fail(err.Error())
		default:
			res.pass(seen)
		}
	}}
}

// find returns a check of the catalogue by its names.
func find(hop, name string) spec {
	for _, group := range catalogue() {
		for _, s := range group {
			if s.hop == hop && s.name == name {
				return s
			}
		}
	}
	return spec{}
}

// Names lists what Only and Skip take: the hops, and the checks alone and with their hop.
func Names() []string {
	names := Hops()
	for _, group := range catalogue() {
		for _, s := range group {
			names = append(names, s.hop+"/"+s.name)
			if !slices.Contains(names, s.name) {
				names = append(names, s.name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (s spec) is(name string) bool {
	return name == s.hop || name == s.name || name == s.hop+"/"+s.name
}

func (o Options) selects(s spec) bool {
	return (len(o.Only) == 0 || slices.ContainsFunc(o.Only, s.is)) && !slices.ContainsFunc(o.Skip, s.is)
}
