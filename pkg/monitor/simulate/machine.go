package simulate

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/latamctl/latamctl/pkg/monitor/declare"
)

// Transition is a change of a group's state, or a repeated notification of a state.
type Transition struct {
	Monitor string
	// At is the time since the first point.
	At time.Duration
	// Group is empty for a monitor without groups.
	Group    string
	From, To State
	// Value is what was compared. It is NaN where there is none.
	Value float64
	// Event is what someone is told about, empty when nobody is.
	Event declare.Event
	// Told are the handles of the rendered message; Roles are those that the event has.
	Told, Roles []string
	Message     string
}

// sample is what a monitor finds for a group.
type sample struct {
	key   string
	tags  []tag
	value float64 // NaN for no data
	// state is set by monitors that find states and not values, such as service checks.
	state State
}

// source evaluates a monitor at a time, which is a number of points since the first.
type source interface {
	at(t int) ([]sample, error)
}

// group is what is known about a group of a monitor.
type group struct {
	key  string
	tags []tag
	// state is empty until the first evaluation with a result.
	state             State
	since             int
	value             float64
	firstData         int // -1 before
	lastData          int
	lastTold, repeats int
	toldBad           bool // the state that the group is in was told to someone
	// values are what was found from the evaluation began on.
	values []float64
	began  int
}

// machine follows the states of a monitor.
type machine struct {
	object   *declare.Object
	settings settings
	interval time.Duration
	window   time.Duration
	// zeroWhenMissing: no data is evaluated as 0, which on_missing_data: default does for counts.
	zeroWhenMissing bool
	source          source
	groups          map[string]*group
	done            int // evaluated up to here
	timeline        []Transition
}

func (m *machine) elapsed(from, to int) time.Duration { return time.Duration(to-from) * m.interval }

// advance evaluates up to t.
func (m *machine) advance(t int) error {
	for ; m.done <= t; m.done++ {
		samples, err := m.source.at(m.done)
		if err != nil {
			return err
		}
		if err := m.step(m.done, samples); err != nil {
			return err
		}
	}
	return nil
}

// step takes in what was found at t.
func (m *machine) step(t int, samples []sample) error {
	found := make(map[string]bool, len(samples))
	for _, s := range samples {
		found[s.key] = true
		g := m.groups[s.key]
		if g == nil {
			g = &group{key: s.key, tags: s.tags, firstData: -1, value: math.NaN(), began: t}
			m.groups[s.key] = g
		}
		if err := m.stepGroup(t, g, s); err != nil {
			return err
		}
	}
	for _, key := range m.keys() {
		if found[key] {
			continue
		}
		if err := m.stepGroup(t, m.groups[key], sample{value: math.NaN()}); err != nil {
			return err
		}
	}
	return nil
}

// valueAt is what was found at an evaluation, NaN for nothing.
func (g *group) valueAt(t int) float64 {
	if i := t - g.began; i >= 0 && i < len(g.values) {
		return g.values[i]
	}
	return math.NaN()
}

func (m *machine) keys() []string {
	keys := make([]string, 0, len(m.groups))
	for key := range m.groups {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

func (m *machine) stepGroup(t int, g *group, s sample) error {
	missing := math.IsNaN(s.value) && s.state == ""
	g.values = append(g.values, s.value)
	if !missing {
		if g.firstData < 0 {
			g.firstData = t
		}
		g.lastData, g.value = t, s.value
	}
	if !missing && m.tooNew(t, g) {
		return nil
	}
	var to State
	notify := true
	switch {
	case s.state != "":
		to = s.state
		notify = to != NoData || m.notifiesNoData()
	case !missing:
		to = m.settings.rule.next(g.state, s.value)
	default:
		to, notify = m.whenMissing(t, g)
	}
	if to == g.state {
		return m.repeat(t, g)
	}
	return m.change(t, g, to, notify)
}

// tooNew reports whether a group is not evaluated yet. Groups that are there from the first
// evaluation on were there before the test.
func (m *machine) tooNew(t int, g *group) bool {
	if g.firstData == 0 {
		return false
	}
	age := m.elapsed(g.firstData, t)
	return g.key != "" && age < m.settings.newGroupDelay || m.settings.fullWindow && age+m.interval < m.window
}

func (m *machine) notifiesNoData() bool {
	return m.settings.onMissing == "show_and_notify_no_data" || m.settings.onMissing == "" && m.settings.notifyNoData
}

// whenMissing is the state of a group without data, and whether its change is told.
func (m *machine) whenMissing(t int, g *group) (State, bool) {
	quiet := m.elapsed(g.lastData, t)
	switch m.settings.onMissing {
	case "show_no_data", "show_and_notify_no_data":
		return NoData, m.notifiesNoData()
	case "resolve":
		return OK, true
	case "default":
		if m.zeroWhenMissing {
			g.value = 0
			return m.settings.rule.next(g.state, 0), true
		}
	case "":
		after := m.settings.noDataAfter
		if after == 0 {
			after = 2 * m.window
		}
		if m.settings.notifyNoData && quiet >= after {
			return NoData, true
		}
	}
	if m.settings.timeout > 0 && g.state != "" && g.state != OK && quiet >= m.settings.timeout {
		return OK, true
	}
	return g.state, false
}

// change records a new state and tells whom it concerns.
func (m *machine) change(t int, g *group, to State, notify bool) error {
	from := g.state
	event := eventOf(from, to)
	if to == OK && !g.toldBad || !notify {
		event = ""
	}
	g.state, g.since, g.lastTold, g.repeats = to, t, t, 0
	g.toldBad = to != OK && event != ""
	return m.record(t, g, from, event)
}

// eventOf is what a change of state is called.
func eventOf(from, to State) declare.Event {
	switch to {
	case Alert:
		return declare.OnAlert
	case Warning:
		return declare.OnWarning
	case NoData:
		return declare.OnNoData
	case OK:
		if from != "" {
			return declare.OnRecovery
		}
	}
	return ""
}

// repeat tells again about a state that lasts.
func (m *machine) repeat(t int, g *group) error {
	s := m.settings
	due := s.renotify > 0 && g.toldBad && m.elapsed(g.lastTold, t) >= s.renotify
	if !due || !slices.Contains(s.renotifyStates, g.state) || s.renotifyAtMost > 0 && g.repeats >= s.renotifyAtMost {
		return nil
	}
	g.lastTold = t
	g.repeats++
	return m.record(t, g, g.state, declare.OnRenotify)
}

func (m *machine) record(t int, g *group, from State, event declare.Event) error {
	tr := Transition{
		Monitor: m.object.Key.Name, At: m.elapsed(0, t), Group: g.key, From: from, To: g.state, Value: g.value, Event: event,
	}
	if event != "" {
		text, err := m.render(g, tr)
		if err != nil {
			return err
		}
		tr.Message, tr.Told, tr.Roles = text, handles(text), m.object.Roles[event]
		for _, h := range m.object.Notify[event] {
			if !slices.Contains(tr.Told, h) {
				return fmt.Errorf("%s: the event %s is for %s, but the message does not tell it", m.object.Key, event, h)
			}
		}
	}
	m.timeline = append(m.timeline, tr)
	return nil
}

// handles finds whom a message tells: words that begin with @.
func handles(text string) []string {
	var out []string
	for word := range strings.FieldsSeq(text) {
		word = strings.TrimRight(word, ".,;:!?")
		if len(word) > 1 && word[0] == '@' && !slices.Contains(out, word) {
			out = append(out, word)
		}
	}
	return out
}
