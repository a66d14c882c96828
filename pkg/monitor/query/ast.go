// Package query reads the query language of Datadog's monitors: metric queries with arithmetic and
// functions, service checks, composites and SLO alerts. What it does not know it says, with its place.
package query

import (
	"time"
)

// Query is one of *Metric, *Check, *Composite, *SLOAlert or *Opaque.
type Query interface {
	// String writes the query in its canonical form: one space around operators, one after the commas
	// between arguments, none elsewhere, and no parentheses that are not needed. What was parsed is
	// parsed from its canonical form again, into the same.
	String() string
	isQuery()
}

// Metric is a threshold on an expression over a window: avg(last_5m):EXPR > 3.
type Metric struct {
	// Change is set for change(...) and pct_change(...), which compare with the window Shift ago.
	Change *Change
	// Aggregate is how the points of the window become one: avg, sum, min, max, percentile, or one such as p95.
	Aggregate string
	Window    time.Duration // from last_5m, last_1h, last_2d; a minute to a week
	Expr      Expr
	Op        string // > >= < <= == !=
	Threshold float64
}

// Change is the outer function of a change alert.
type Change struct {
	Percent bool // pct_change
	Shift   time.Duration
}

// Check is a service check: "name".over("tag:value").by("tag").last(4).count_by_status().
type Check struct {
	Name    string
	Over    []string
	Exclude []string
	By      []string
	Last    int
}

// Composite combines monitors, by their ids or by references ${ref:monitor.NAME}.
type Composite struct{ Expr Logic }

// Logic is one of *Operand, *Not, *And or *Or.
type Logic interface {
	String() string
	isLogic()
}

// The parts of a Composite.
type (
	// Operand names a monitor: digits, or ${ref:monitor.NAME} as it is written.
	Operand struct{ ID string }

	// Not is true when Of is not.
	Not struct{ Of Logic }

	// And is true when both sides are.
	And struct{ Left, Right Logic }

	// Or is true when one of the sides is.
	Or struct{ Left, Right Logic }
)

// SLOAlert watches how fast an SLO burns its budget (LongWindow is set), or how much of it is gone.
type SLOAlert struct {
	ID                      string // of the SLO, or ${ref:slo.NAME}
	Over                    string // 7d, 30d or 90d
	LongWindow, ShortWindow time.Duration
	Op                      string
	Threshold               float64
}

// Opaque is a query of a type that is not understood here, such as of logs. Nothing is known about it.
type Opaque struct{ Text string }

// Expr is one of *Number, *Series, *Call, *Binary or *Negate.
type Expr interface {
	String() string
	isExpr()
}

// The parts of an Expr.
type (
	// Number is a constant.
	Number struct{ Value float64 }

	// Series is a metric: sum:kubernetes.cpu.usage{env:prod} by {host}.as_count().rollup(sum, 60).
	Series struct {
		// Aggregate is how hosts and tags become one: avg, sum, min, max, count, or a percentile such as p95.
		Aggregate string
		// Count is set for count(v: v<=0.05), the number of values of a distribution by a bound.
		Count  *Count
		Metric string
		// Filter is the text between the braces in its parts; nil is {*}.
		Filter []Matcher
		By     []string
		// Modifiers are as_count(), as_rate(), rollup(...), fill(...) and others in their order.
		Modifiers []Modifier
	}

	// Call is a function around expressions, such as default_zero(X) or anomalies(X, 'agile', 3, interval=60).
	Call struct {
		Name string
		Args []Expr
		// Words are the arguments that are no expressions, in their order: 'agile', 3 after it, interval=60.
		// Texts keep their quotes.
		Words []string
	}

	// Binary is arithmetic with two sides.
	Binary struct {
		Op          byte // + - * /
		Left, Right Expr
	}

	// Negate is the minus sign before something that is no number.
	Negate struct{ Of Expr }
)

// Count bounds the values of a distribution.
type Count struct {
	Op    string // <= < >= >
	Bound float64
}

// Matcher is one condition of a filter. Conditions are joined by "and"; what Any holds is joined by "or".
type Matcher struct {
	Key, Value string // Value may hold * ; Key is "" for a bare tag
	Not        bool
	Any        [][]Matcher // OR of ANDs; then Key is empty
}

// Modifier is what follows a series: as_count, or rollup with its arguments as text; words and numbers
// are as they are, texts keep their quotes.
type Modifier struct {
	Name string
	Args []string
}

func (*Metric) isQuery()    {}
func (*Check) isQuery()     {}
func (*Composite) isQuery() {}
func (*SLOAlert) isQuery()  {}
func (*Opaque) isQuery()    {}

func (*Operand) isLogic() {}
func (*Not) isLogic()     {}
func (*And) isLogic()     {}
func (*Or) isLogic()      {}

func (*Number) isExpr() {}
func (*Series) isExpr() {}
func (*Call) isExpr()   {}
func (*Binary) isExpr() {}
func (*Negate) isExpr() {}
