//go:build fault

// Package fault breaks ingest on purpose: it wraps what the service works with so that a process
// dies, stalls or fails at a chosen point, or makes one of five classic mistakes. It exists under
// the build tag fault only, for the tests that prove what the service promises.
package fault

import (
	"fmt"
	"time"

	"github.com/latamctl/latamctl/services/ingest"
)

// The environment variables that a program built with the tag reads.
const (
	// FailpointsVar lists failpoints by comma, each POINT=ACTION[@HIT[+]]. ACTION is kill, error or
	// sleep(DURATION); HIT counts from 1, the default, and + means that hit and all later ones.
	FailpointsVar = "LATAM_FAILPOINTS"
	// SabotageVar names one of the mistakes.
	SabotageVar = "LATAM_SABOTAGE"
	// ClockVar shifts the clock of the process by a duration, such as -24h.
	ClockVar = "LATAM_CLOCK_OFFSET"
)

// Options say what goes wrong. The zero value breaks nothing.
type Options struct {
	points   []*failpoint
	sabotage string
}

// Parse reads the variables through getenv.
func Parse(getenv func(string) string) (Options, error) {
	var o Options
	var err error
	if o.points, err = parseFailpoints(getenv(FailpointsVar)); err != nil {
		return o, fmt.Errorf("%s: %w", FailpointsVar, err)
	}
	if o.sabotage = getenv(SabotageVar); o.sabotage != "" && mistakes[o.sabotage] == nil {
		return o, fmt.Errorf("%s: %q is not one of %v", SabotageVar, o.sabotage, Mistakes())
	}
	return o, nil
}

// Wrap returns deps with the faults of the options in between. The failpoints are nearest to the
// service and the mistake is outside of them, so that a failpoint also meets a process that makes one.
func (o Options) Wrap(deps ingest.Deps) ingest.Deps {
	if make := mistakes[o.sabotage]; make != nil {
		make(&deps)
	}
	if len(o.points) > 0 {
		deps.Source = &failingSource{source: source{deps.Source}, points: o.points}
		deps.Sink = &failingSink{next: deps.Sink, points: o.points}
	}
	return deps
}

// Clock returns now shifted as the variable says.
func Clock(now func() time.Time, getenv func(string) string) (func() time.Time, error) {
	text := getenv(ClockVar)
	if text == "" {
		return now, nil
	}
	offset, err := time.ParseDuration(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ClockVar, err)
	}
	return func() time.Time { return now().Add(offset) }, nil
}
