package monitor

import (
	"log/slog"
	"time"

	"github.com/latamctl/latamctl/pkg/monitor/declare"
	"github.com/latamctl/latamctl/pkg/plan"
	"github.com/latamctl/latamctl/pkg/proc"
)

// Options say what a Syncer works on.
type Options struct {
	Remote Remote
	// Set is what is declared.
	Set *declare.Set
	// Site is where Remote is, such as datadoghq.com. A saved plan holds for one site.
	Site string
	// Process writes the backups of what is deleted, below Dir.
	Process *proc.Process
	// Dir is the folder of backups. Default .latamctl/monitors.
	Dir string
	// Log may be nil.
	Log *slog.Logger
	// Parallel is how many objects are written at the same time. Default 8.
	Parallel int
	// Rounds is how often a create is tried whose answer got lost. Default 8.
	Rounds int
	// Backoff is the first wait before Datadog is asked again; each following one is twice as long. Default 1 s.
	Backoff time.Duration
	// Grace is how long writes under way may take after the context ended. Default 10 s.
	Grace time.Duration
	Now   func() time.Time
	// Observe is told about each step, one at a time. It may be nil.
	Observe func(Step)
}

// The defaults of Options.
const (
	DefaultDir      = ".latamctl/monitors"
	DefaultParallel = 8
	DefaultRounds   = 8
	DefaultBackoff  = time.Second
	DefaultGrace    = 10 * time.Second
)

// Step is what happens to one object during a sync or a deletion.
type Step struct {
	Key    declare.Key
	Action plan.Action
	// Done is false when the step begins.
	Done bool
	// Err is why it did not work.
	Err  error
	Took time.Duration
	// Finished of Total steps are done, this one included.
	Finished, Total int
}

// Syncer makes Datadog match a declared set.
type Syncer struct {
	o     Options
	stack string
}

// New returns a Syncer. It does not speak with Datadog yet.
func New(o Options) *Syncer {
	if o.Dir == "" {
		o.Dir = DefaultDir
	}
	if o.Parallel <= 0 {
		o.Parallel = DefaultParallel
	}
	if o.Rounds <= 0 {
		o.Rounds = DefaultRounds
	}
	if o.Backoff <= 0 {
		o.Backoff = DefaultBackoff
	}
	if o.Grace <= 0 {
		o.Grace = DefaultGrace
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Syncer{o: o, stack: o.Set.Stack}
}
