package monitor

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/latamctl/latamctl/pkg/monitor/datadog"
	"github.com/latamctl/latamctl/pkg/monitor/declare"
)

// StateReader reads how monitors are doing. *datadog.Client is one.
type StateReader interface {
	States(ctx context.Context, stack string) ([]datadog.MonitorState, error)
}

// Status is how one monitor of the stack is doing.
type Status struct {
	Key declare.Key
	datadog.MonitorState
	// Pages tells whether somebody is woken up by it.
	Pages bool
	// Declared is false for one that is not declared any more.
	Declared bool
}

// errNoStates cannot happen with the client of this program.
var errNoStates = errors.New("the states of monitors cannot be read here")

// Status returns how the monitors of the stack are doing, those that need attention first.
func (s *Syncer) Status(ctx context.Context) ([]Status, error) {
	reader, ok := s.o.Remote.(StateReader)
	if !ok {
		return nil, errNoStates
	}
	states, err := reader.States(ctx, s.stack)
	if err != nil {
		return nil, err
	}
	list := make([]Status, 0, len(states))
	for _, state := range states {
		tags := make([]any, len(state.Tags))
		for i, tag := range state.Tags {
			tags[i] = tag
		}
		m, ours, err := readMark(Live{Kind: declare.Monitor, ID: state.ID, Payload: map[string]any{"tags": tags}}, s.stack)
		if err != nil {
			return nil, err
		}
		if !ours {
			continue
		}
		status := Status{Key: m.key, MonitorState: state}
		if object := s.o.Set.Lookup(m.key); object != nil {
			status.Declared, status.Pages = true, object.Pages
		}
		list = append(list, status)
	}
	slices.SortFunc(list, func(x, y Status) int {
		return cmp.Or(urgency(x.State)-urgency(y.State), strings.Compare(x.Key.Name, y.Key.Name))
	})
	return list, nil
}

// urgency sorts states: what alerts comes first.
func urgency(state string) int {
	order := []string{"Alert", "Warn", "No Data", "Unknown", "Skipped", "Ignored", "OK"}
	if i := slices.Index(order, state); i >= 0 {
		return i
	}
	return slices.Index(order, "Unknown")
}
