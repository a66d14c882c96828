package terraform

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"time"
)

// message is one line of terraform's machine-readable output. Only what is needed is decoded, and
// nothing that holds a value of an attribute.
type message struct {
	Level     string    `json:"@level"`
	Message   string    `json:"@message"`
	Timestamp time.Time `json:"@timestamp"`
	Type      string    `json:"type"`
	Change    *struct {
		Resource         resource  `json:"resource"`
		PreviousResource *resource `json:"previous_resource"`
		Action           string    `json:"action"`
		Reason           string    `json:"reason"`
	} `json:"change"`
	Changes *struct {
		Add       int    `json:"add"`
		Change    int    `json:"change"`
		Import    int    `json:"import"`
		Remove    int    `json:"remove"`
		Operation string `json:"operation"`
	} `json:"changes"`
	Hook *struct {
		Resource resource `json:"resource"`
		Action   string   `json:"action"`
		Elapsed  float64  `json:"elapsed_seconds"`
	} `json:"hook"`
	Outputs map[string]struct {
		Action    string          `json:"action"`
		Sensitive bool            `json:"sensitive"`
		Value     json.RawMessage `json:"value"`
	} `json:"outputs"`
	Diagnostic *struct {
		Severity string `json:"severity"`
		Summary  string `json:"summary"`
		Detail   string `json:"detail"`
		Address  string `json:"address"`
		Range    *struct {
			Filename string `json:"filename"`
			Start    struct {
				Line int `json:"line"`
			} `json:"start"`
		} `json:"range"`
	} `json:"diagnostic"`
}

type resource struct {
	Addr string `json:"addr"`
	Type string `json:"resource_type"`
}

// plainLines is how many of the last lines that are no JSON are kept for an error.
const plainLines = 40

// stream gathers what the lines of one command say.
type stream struct {
	Summary
	// plain are the last lines that are no events: notices, and what a crash prints.
	plain []string
	// interrupted and finished: terraform said that it was asked to stop, and that it did all it should.
	interrupted, finished bool
	// working are the resources that terraform began to change and has not completed, in the order of their beginning.
	working []string
}

// line takes one line of output, and tells whether it is an event.
func (s *stream) line(line []byte) (Event, bool) {
	line = bytes.TrimSpace(line)
	if len(line) == 0 {
		return Event{}, false
	}
	var m message
	if line[0] != '{' || json.Unmarshal(line, &m) != nil || m.Type == "" {
		s.keepPlain(string(line[:min(len(line), 4<<10)]))
		return Event{}, false
	}
	e := Event{Time: m.Timestamp, Type: m.Type, Message: m.Message}
	switch {
	case m.Change != nil:
		s.change(&m)
		e.Address, e.Action = m.Change.Resource.Addr, action(m.Change.Action)
	case m.Hook != nil:
		e.Address, e.Action = m.Hook.Resource.Addr, action(m.Hook.Action)
		e.Elapsed = time.Duration(m.Hook.Elapsed * float64(time.Second))
		s.work(e)
	case m.Diagnostic != nil:
		e.Address = m.Diagnostic.Address
		s.diagnostic(&m)
	case m.Changes != nil:
		s.Add, s.Change, s.Import, s.Remove = m.Changes.Add, m.Changes.Change, m.Changes.Import, m.Changes.Remove
		s.finished = true
	case m.Type == "outputs":
		s.outputs(&m)
	case m.Type == "log" && strings.Contains(m.Message, "Interrupt received"):
		s.interrupted = true
	}
	return e, true
}

// work follows which resources are being changed.
func (s *stream) work(e Event) {
	switch e.Type {
	case "apply_start":
		s.working = append(s.working, e.Address)
	case "apply_complete", "apply_errored":
		s.working = slices.DeleteFunc(s.working, func(address string) bool { return address == e.Address })
	}
}

func (s *stream) keepPlain(line string) {
	s.plain = append(s.plain, line)
	if over := len(s.plain) - plainLines; over > 0 {
		s.plain = append(s.plain[:0], s.plain[over:]...)
	}
}

func (s *stream) change(m *message) {
	c := StreamChange{
		Address: m.Change.Resource.Addr, Type: m.Change.Resource.Type,
		Action: action(m.Change.Action), Reason: m.Change.Reason,
	}
	if m.Change.PreviousResource != nil {
		c.PreviousAddress = m.Change.PreviousResource.Addr
	}
	switch {
	case m.Type == "resource_drift":
		s.Drift = append(s.Drift, c)
	case m.Type == "planned_change" && c.Action != "no-op" && c.Action != "read":
		s.Changes = append(s.Changes, c)
	}
}

// action gives terraform's names of actions the names that its plan files have.
func action(name string) string {
	switch name {
	case "noop":
		return "no-op"
	case "remove":
		return "forget"
	}
	return name
}

func (s *stream) outputs(m *message) {
	s.Outputs = make(map[string]OutputChange, len(m.Outputs))
	for name, o := range m.Outputs {
		change := OutputChange{Action: action(o.Action), Sensitive: o.Sensitive}
		if !o.Sensitive {
			change.Value = o.Value
		}
		s.Outputs[name] = change
	}
}

func (s *stream) diagnostic(m *message) {
	d := Diagnostic{
		Severity: m.Diagnostic.Severity, Summary: m.Diagnostic.Summary,
		Detail: m.Diagnostic.Detail, Address: m.Diagnostic.Address,
	}
	if m.Diagnostic.Range != nil {
		d.File, d.Line = m.Diagnostic.Range.Filename, m.Diagnostic.Range.Start.Line
	}
	for _, seen := range s.Diagnostics {
		if seen == d { // "execution halted" comes once for each branch of the graph.
			return
		}
	}
	s.Diagnostics = append(s.Diagnostics, d)
}

// errors returns the diagnostics that are errors.
func (s *stream) errors() []Diagnostic {
	var errs []Diagnostic
	for _, d := range s.Diagnostics {
		if d.Severity == "error" {
			errs = append(errs, d)
		}
	}
	return errs
}
