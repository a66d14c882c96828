package stack

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/latamctl/latamctl/pkg/plan"
	"github.com/latamctl/latamctl/pkg/stack/contract"
)

// inputs are the values of a stack's variables.
type inputs struct {
	derived  map[string]any
	consumed map[string]json.RawMessage // outputs of other stacks, by variable
	grade    plan.Grade
	missing  []string // the outputs that placeholders stand for, as stack.output
}

func (in inputs) all() map[string]any {
	all := maps.Clone(in.derived)
	if all == nil {
		all = map[string]any{}
	}
	for name, value := range in.consumed {
		all[name] = value
	}
	return all
}

// resolve finds the values of a stack's variables. Values of other stacks are taken from their states,
// unless the given plans say that they will change; nil plans look at states alone.
func (d *Driver) resolve(ctx context.Context, s *contract.Stack, plans *planning) (inputs, error) {
	in := inputs{consumed: map[string]json.RawMessage{}, grade: plan.Exact}
	var err error
	if in.derived, err = d.opts.Inputs.Values(s); err != nil {
		return in, err
	}
	for _, variable := range s.Inputs {
		from, output := variable.Source()
		if from == "" {
			continue
		}
		value, grade, err := d.consume(ctx, plans.get(from), from, output)
		if err != nil {
			return in, fmt.Errorf("find variable %s of stack %s: %w", variable.Name, s.Name, err)
		}
		if grade == plan.Provisional {
			in.missing = append(in.missing, variable.From)
			if value, err = json.Marshal(placeholder(variable.Type)); err != nil {
				return in, fmt.Errorf("find variable %s of stack %s: %w", variable.Name, s.Name, err)
			}
		}
		in.consumed[variable.Name] = value
		in.grade = worse(in.grade, grade)
	}
	return in, nil
}

// consume finds the value of one output.
func (d *Driver) consume(ctx context.Context, upstream *planned, from, output string) (json.RawMessage, plan.Grade, error) {
	if upstream != nil && upstream.node.off != "" {
		upstream = nil // It stays as it is.
	}
	if upstream != nil && upstream.summary != nil {
		if change, ok := upstream.summary.Outputs[output]; ok && !unchangedAction(change.Action) {
			if change.Sensitive || len(change.Value) == 0 || change.Action == string(plan.Delete) {
				return nil, plan.Provisional, nil
			}
			return change.Value, plan.Predicted, nil
		}
	}
	if upstream != nil && upstream.throwaway {
		return nil, plan.Provisional, nil // There is no state to look into.
	}
	st, err := d.states.Read(ctx, from)
	if err != nil {
		return nil, "", err
	}
	if value, ok := st.Output(output); ok && string(value.Value) != "null" {
		grade := plan.Exact
		if upstream != nil && upstream.summary == nil && !upstream.unchanged {
			grade = plan.Predicted // It was planned without Terraform saying what becomes of its outputs.
		}
		return value.Value, grade, nil
	}
	return nil, plan.Provisional, nil
}

func unchangedAction(action string) bool {
	return action == "" || action == "no-op" || action == "noop"
}

func worse(a, b plan.Grade) plan.Grade {
	order := []plan.Grade{plan.Exact, plan.Predicted, plan.Provisional}
	return order[max(slices.Index(order, a), slices.Index(order, b))]
}

// sourcesOf are the stacks whose outputs a stack takes.
func sourcesOf(s *contract.Stack) []string {
	var from []string
	for _, in := range s.Inputs {
		if stack, _ := in.Source(); stack != "" {
			from = union(from, []string{stack})
		}
	}
	return from
}

// incomplete says which outputs are missing and who makes them.
func (d *Driver) incomplete(stack string, missing []string) error {
	makers := []string{}
	for _, output := range missing {
		maker, _, _ := strings.Cut(output, ".")
		makers = union(makers, []string{maker})
	}
	return fmt.Errorf("apply stack %s: it takes %s, which does not exist yet; apply what makes it first: latamctl up --env %s -s %s",
		stack, strings.Join(missing, ", "), d.opts.Environment, strings.Join(makers, " -s "))
}
