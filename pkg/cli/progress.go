package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/latamctl/latamctl/pkg/plan"
	"github.com/latamctl/latamctl/pkg/stack"
)

// observer gets the steps of a run. It must not block.
type observer = func(stack.Step)

const (
	// redrawEvery keeps a terminal readable and cheap.
	redrawEvery = 100 * time.Millisecond
	// stillEvery is how often plain lines say that something long goes on.
	stillEvery = 30 * time.Second
	// tickEvery is how often the times on a terminal move on.
	tickEvery = time.Second
	// maxQueued bounds what waits for a reader that does not read; what is over is counted.
	maxQueued = 10_000
	// closePatience is how long the end waits for such a reader.
	closePatience = 2 * time.Second
)

// progressOptions say where the steps of a run go.
type progressOptions struct {
	out    io.Writer // lines for a person
	events io.Writer // NDJSON; nil writes none
	// size is the terminal's, nil for what is none.
	size  func() (columns, rows int, ok bool)
	quiet bool
	paint func(plan.Colour, string) string
	now   func() time.Time
}

// progress shows the steps of a run: live lines on a terminal, one line a step elsewhere. Only its
// own goroutine writes, so that a reader that does not read never holds up the run.
type progress struct {
	o    progressOptions
	wake chan struct{}
	stop chan struct{}
	end  chan struct{}

	mu      sync.Mutex
	queue   []stack.Step
	dropped int
	notes   []note
	order   []string
	lines   map[string]*stackLine

	screen screen
}

// lockWait is the event of terraform when the lock of a state is not there at once.
const (
	lockWait     = "state_lock_acquire"
	lockWaitText = "waiting for the lock of its state"
)

// stackLine is where one stack is.
type stackLine struct {
	phase       stack.Phase
	message     string
	began       time.Time // of the phase
	done, total int
	inFlight    map[string]time.Time // addresses that are being changed, with their start
	stillAt     time.Time
}

func newProgress(o progressOptions) *progress {
	p := &progress{
		o: o, wake: make(chan struct{}, 1), stop: make(chan struct{}), end: make(chan struct{}), lines: map[string]*stackLine{},
		screen: screen{out: o.out, size: o.size},
	}
	go p.loop()
	return p
}

// observe takes a step.
func (p *progress) observe(s stack.Step) {
	if s.Time.IsZero() {
		s.Time = p.o.now()
	}
	p.mu.Lock()
	p.track(s)
	if len(p.queue) < maxQueued {
		p.queue = append(p.queue, s)
	} else {
		p.dropped++
	}
	p.mu.Unlock()
	p.poke()
}

// note shows a line of its own, also when quiet: it answers an interrupt.
func (p *progress) note(text string) {
	p.mu.Lock()
	p.notes = append(p.notes, note{text, len(p.queue)})
	p.mu.Unlock()
	p.poke()
}

// note is a line that stands between two steps.
type note struct {
	text  string
	after int // how many of the queued steps come before it
}

func (p *progress) poke() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// track keeps what is known of a stack. The caller holds the lock.
func (p *progress) track(s stack.Step) {
	if s.Stack == "" {
		return
	}
	l := p.lines[s.Stack]
	if l == nil {
		l = &stackLine{inFlight: map[string]time.Time{}, stillAt: s.Time}
		p.lines[s.Stack] = l
		p.order = append(p.order, s.Stack)
	}
	if l.phase != s.Phase {
		l.phase, l.began, l.message, l.stillAt = s.Phase, s.Time, "", s.Time
	}
	if s.Total > 0 {
		l.done, l.total = s.Done, s.Total
	}
	if s.Message != "" {
		l.message = s.Message
	}
	if s.Phase != stack.Applying {
		clear(l.inFlight)
	}
	if e := s.Event; e != nil && e.Type == lockWait {
		l.message = lockWaitText
	}
	if e := s.Event; e != nil && e.Address != "" {
		switch e.Type {
		case "apply_start":
			l.inFlight[e.Address] = s.Time
		case "apply_progress":
			l.inFlight[e.Address] = s.Time.Add(-e.Elapsed)
		case "apply_complete", "apply_errored":
			delete(l.inFlight, e.Address)
		}
	}
}

// loop writes what was queued and keeps the terminal's lines current.
func (p *progress) loop() {
	defer close(p.end)
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	for {
		select {
		case <-p.wake:
		case <-tick.C:
		case <-p.stop:
			p.flush()
			p.draw()
			return
		}
		p.flush()
		p.draw()
		select {
		case <-time.After(redrawEvery):
		case <-p.stop:
		}
	}
}

// flush writes events and plain lines.
func (p *progress) flush() {
	p.mu.Lock()
	steps, notes, dropped := p.queue, p.notes, p.dropped
	p.queue, p.notes, p.dropped = nil, nil, 0
	var lines []string
	for i := range len(steps) + 1 {
		for len(notes) > 0 && notes[0].after <= i {
			lines, notes = append(lines, notes[0].text), notes[1:]
		}
		if i == len(steps) {
			break
		}
		if line := p.plainLine(steps[i]); line != "" && p.o.size == nil && !p.o.quiet {
			lines = append(lines, line)
		}
	}
	p.mu.Unlock()
	if p.o.events != nil {
		for _, s := range steps {
			writeEvent(p.o.events, s)
		}
	}
	if dropped > 0 && !p.o.quiet {
		lines = append(lines, fmt.Sprintf("… %d steps are not shown: nobody read them in time", dropped))
	}
	p.screen.print(lines)
}

// plainLine is what a step is worth where lines cannot be redrawn. The caller holds the lock.
func (p *progress) plainLine(s stack.Step) string {
	text := stepText(s)
	if s.Event != nil {
		text = p.eventText(s)
	}
	if text == "" {
		return ""
	}
	if s.Stack != "" {
		text = s.Stack + ": " + text
	}
	return plan.Clean(text)
}

// stepText is what a step of the driver itself is worth.
func stepText(s stack.Step) string {
	switch {
	case s.Phase == stack.Stopped:
		return "interrupted; what it did is in its state"
	case s.Err != nil:
		return string(s.Phase) + ": " + firstLine(s.Err.Error())
	case s.Message != "":
		return string(s.Phase) + ": " + s.Message
	case s.Phase == stack.Preparing:
		return "" // It is planned next, which is said then.
	case s.Phase == stack.Applying && s.Total > 0:
		return "applying " + changesOf(s.Total)
	}
	return string(s.Phase)
}

func changesOf(n int) string {
	if n == 1 {
		return "1 change"
	}
	return fmt.Sprintf("%d changes", n)
}

// eventText is what an event of terraform is worth. Reading changes nothing.
func (p *progress) eventText(s stack.Step) string {
	e := s.Event
	switch {
	case strings.HasPrefix(e.Address, "data."):
	case e.Type == "apply_complete" || e.Type == "apply_errored":
		return withoutID(e.Message)
	case e.Type == lockWait:
		return lockWaitText
	case e.Type == "apply_progress":
		if l := p.lines[s.Stack]; l != nil && s.Time.Sub(l.stillAt) >= stillEvery {
			l.stillAt = s.Time
			return e.Message
		}
	}
	return ""
}

// withoutID leaves out the id at the end of terraform's message, which is long and says little more
// than the address.
func withoutID(message string) string {
	before, _, _ := strings.Cut(message, " [id=")
	return before
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return line
}

// stepEvent is a step for programs.
type stepEvent struct {
	Schema  string  `json:"schema"`
	Time    string  `json:"time"`
	Stack   string  `json:"stack,omitempty"`
	Phase   string  `json:"phase"`
	Message string  `json:"message,omitempty"`
	Event   string  `json:"event,omitempty"`
	Address string  `json:"address,omitempty"`
	Action  string  `json:"action,omitempty"`
	Elapsed float64 `json:"elapsed_seconds,omitempty"`
	Done    int     `json:"done,omitempty"`
	Total   int     `json:"total,omitempty"`
	Error   string  `json:"error,omitempty"`
}

func writeEvent(w io.Writer, s stack.Step) {
	e := stepEvent{
		Schema: "latamctl.event/v1", Time: s.Time.UTC().Format(time.RFC3339Nano), Stack: s.Stack, Phase: string(s.Phase),
		Message: s.Message, Done: s.Done, Total: s.Total,
	}
	if s.Event != nil {
		e.Event, e.Address, e.Action, e.Elapsed = s.Event.Type, s.Event.Address, s.Event.Action, s.Event.Elapsed.Seconds()
		if e.Message == "" {
			e.Message = s.Event.Message
		}
	}
	if s.Err != nil {
		e.Error = s.Err.Error()
	}
	b, _ := json.Marshal(e) // Strings and numbers always encode.
	fmt.Fprintln(w, string(b))
}

// draw shows the live lines.
func (p *progress) draw() {
	if p.o.size == nil || p.o.quiet {
		return
	}
	p.mu.Lock()
	now := p.o.now()
	width := 0
	for _, name := range p.order {
		width = max(width, len([]rune(name)))
	}
	var lines []liveLine
	for _, name := range p.order {
		l := p.lines[name]
		lines = append(lines, liveLine{text: l.text(fmt.Sprintf("%-*s", width, name), now), colour: l.colour(), final: ended(l.phase)})
	}
	p.mu.Unlock()
	p.screen.draw(lines, p.o.paint)
}

func ended(phase stack.Phase) bool {
	return slices.Contains([]stack.Phase{stack.Done, stack.Unchanged, stack.Broken, stack.Stopped, stack.Blocked, stack.Skipped}, phase)
}

func (l *stackLine) colour() plan.Colour {
	switch l.phase {
	case stack.Done:
		return plan.Good
	case stack.Broken, stack.Blocked:
		return plan.Losing
	case stack.Waiting, stack.Planned, stack.Unchanged, stack.Skipped:
		return plan.Faint
	case stack.Preparing, stack.Planning, stack.Applying, stack.Retrying, stack.Stopped:
		return plan.Caring
	}
	return plan.Caring
}

func (l *stackLine) text(name string, now time.Time) string {
	parts := []string{name, fmt.Sprintf("%-9s", l.phase)}
	if l.total > 0 && (l.phase == stack.Applying || l.phase == stack.Done) {
		parts = append(parts, fmt.Sprintf("%d/%d", l.done, l.total))
	}
	if oldest := l.oldest(now); len(oldest) > 0 {
		parts = append(parts, oldest[0])
		if n := len(oldest) - 1; n > 0 {
			parts = append(parts, fmt.Sprintf("and %d more", n))
		}
		return plan.Clean(strings.Join(parts, "  "))
	}
	if l.message != "" {
		parts = append(parts, l.message)
	}
	if took := now.Sub(l.began); !ended(l.phase) && l.phase != stack.Waiting && l.phase != stack.Planned && took >= time.Second {
		parts = append(parts, "("+took.Round(time.Second).String()+")")
	}
	return plan.Clean(strings.Join(parts, "  "))
}

// oldest are the resources that are being changed, the longest first, each with its time.
func (l *stackLine) oldest(now time.Time) []string {
	addresses := make([]string, 0, len(l.inFlight))
	for a := range l.inFlight {
		addresses = append(addresses, a)
	}
	slices.SortFunc(addresses, func(x, y string) int {
		if c := l.inFlight[x].Compare(l.inFlight[y]); c != 0 {
			return c
		}
		return strings.Compare(x, y)
	})
	for i, a := range addresses {
		addresses[i] = fmt.Sprintf("%s (%s)", a, max(0, now.Sub(l.inFlight[a])).Round(time.Second))
	}
	return addresses
}

// inFlight says what is being applied: per stack, in the order of their start.
func (p *progress) applying() []flight {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []flight
	for _, name := range p.order {
		if l := p.lines[name]; l.phase == stack.Applying {
			all = append(all, flight{stack: name, resources: l.oldest(p.o.now())})
		}
	}
	return all
}

// flight is a stack that is being applied.
type flight struct {
	stack     string
	resources []string // each with its time
}

// finished are the stacks that are done or had nothing to do.
func (p *progress) finished() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var names []string
	for _, name := range p.order {
		if phase := p.lines[name].phase; phase == stack.Done || phase == stack.Unchanged {
			names = append(names, name)
		}
	}
	return names
}

// hold takes the live lines away until the returned function is called, for a question.
func (p *progress) hold() (release func()) {
	p.flush()
	p.screen.hold(true)
	return func() {
		p.screen.hold(false)
		p.poke()
	}
}

// close shows the last state and ends. It does not wait for ever for a reader that does not read.
func (p *progress) close() {
	close(p.stop)
	select {
	case <-p.end:
	case <-time.After(closePatience):
	}
}
