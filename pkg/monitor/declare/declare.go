// Package declare reads the monitors, SLOs and dashboards that a team declares, expands them for an
// environment and its datasets, and checks them without asking Datadog. docs/monitors-format.md has the
// format of the files.
package declare

import (
	"github.com/latamctl/latamctl/pkg/monitor/query"
	"github.com/latamctl/latamctl/pkg/strictyaml"
)

// Kind is what an object is at Datadog.
type Kind string

// The kinds, in the order in which they are made.
const (
	// Metric is how Datadog keeps a distribution of ours: with percentiles, and by which tags.
	Metric    Kind = "metric"
	Monitor   Kind = "monitor"
	SLO       Kind = "slo"
	Dashboard Kind = "dashboard"
)

// Kinds returns all kinds in their order.
func Kinds() []Kind { return []Kind{Metric, Monitor, SLO, Dashboard} }

// Key names an object within its stack.
type Key struct {
	Kind Kind
	Name string // lower case letters, digits, dots, dashes and underscores
}

// String is kind.name, as it stands in the tag latamctl_id and in ${ref:kind.name}.
func (k Key) String() string { return string(k.Kind) + "." + k.Name }

// Event is a change of a monitor's state that someone is told about.
type Event string

// The events.
const (
	OnAlert    Event = "alert"
	OnWarning  Event = "warning"
	OnNoData   Event = "no_data"
	OnRecovery Event = "recovery"
	OnRenotify Event = "renotify"
)

// Object is one object of Datadog as it is declared, expanded for an environment.
type Object struct {
	Key Key
	// Payload is the body of the API's request in JSON's types: string, float64, bool, nil, []any and
	// map[string]any. It has no tags of ownership, and ids of other objects are ${ref:kind.name}.
	Payload map[string]any
	// Refs are the objects that the payload names, each once, sorted.
	Refs []Key
	// Base is the name in the file, before for_each added to it. The runbook of a monitor is docs/runbooks/<Base>.md.
	Base string
	// Dataset is the dataset that the object belongs to, or empty.
	Dataset string
	// Pages tells whether someone is woken up: the role of one of its events is a paging one.
	Pages bool
	// Notify has the handles of each event that tells someone, such as @pagerduty-latam.
	Notify map[Event][]string
	// Roles has the roles of each event as declared, those without a handle in this environment as well.
	Roles map[Event][]string
	// Query is the query of a monitor.
	Query query.Query
	// SLI is the indicator of an SLO.
	SLI *SLI
	// Place is where it stands.
	File string
	At   strictyaml.Place
}

// SLI is what an SLO counts.
type SLI struct {
	// Good and Bad are counts of events. Of a time slice they are nil.
	Good, Bad query.Expr
	// Slice is the expression that is compared for each slice, such as the errors of a minute.
	Slice         query.Expr
	SliceOp       string
	SliceBound    float64
	SliceSeconds  int
	Targets       map[string]float64 // "30d": 95
	YearlyPercent float64            // what slo report wants over a year; 0 for none
	// NoData is the monitor that tells when the indicator has no data.
	NoData string
}

// Set is everything that is declared for an environment.
type Set struct {
	// Stack is the namespace of ownership, NAME-ENV such as latam-prod.
	Stack       string
	Environment string
	// Objects are in the order of kinds, then names.
	Objects []*Object
	// Warnings are what is allowed and probably not meant, such as a role without a handle.
	Warnings []string
}

// Lookup finds an object.
func (s *Set) Lookup(k Key) *Object {
	for _, o := range s.Objects {
		if o.Key == k {
			return o
		}
	}
	return nil
}
