package simulate

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/latamctl/latamctl/pkg/monitor/query"
)

// checkSource counts the newest statuses of a service check that are the same.
type checkSource struct {
	data     *data
	query    *query.Check
	settings settings
}

// The statuses of a service check.
const (
	statusOK = iota
	statusWarning
	statusCritical
	statusUnknown
)

func (s *checkSource) at(t int) ([]sample, error) {
	var order []sample
	members := map[string][]*series{}
	for i := range s.data.series {
		one := &s.data.series[i]
		if one.metric != s.query.Name || !s.covers(one) || !one.seen(t) {
			continue
		}
		if one.distribution() {
			return nil, notEvaluable(s.query, "a distribution as the statuses of a check")
		}
		tags := one.group(s.query.By)
		key := groupKey(tags)
		if len(members[key]) == 0 {
			order = append(order, sample{key: key, tags: tags, value: math.NaN()})
		}
		members[key] = append(members[key], one)
	}
	slices.SortFunc(order, func(a, b sample) int { return strings.Compare(a.key, b.key) })
	for i := range order {
		state, err := s.state(members[order[i].key], t)
		if err != nil {
			return nil, err
		}
		order[i].state = state
	}
	return order, nil
}

// covers reports whether the check's tags are in its scope.
func (s *checkSource) covers(one *series) bool {
	has := func(text string) bool {
		key, value, ok := strings.Cut(strings.ToLower(text), ":")
		if !ok {
			key, value = "", key
		}
		return text == "*" || slices.ContainsFunc(one.tags, func(t tag) bool { return t.key == key && glob(value, t.value) })
	}
	return !slices.ContainsFunc(s.query.Over, func(x string) bool { return !has(x) }) && !slices.ContainsFunc(s.query.Exclude, has)
}

// state is the worst of the states of a group's series; empty when nothing is decided, as there
// are not enough equal statuses in a row, or no status at all.
func (s *checkSource) state(of []*series, t int) (State, error) {
	worst := State("")
	for _, one := range of {
		if !one.has(t) {
			continue
		}
		state, err := s.decide(one.at(t), s.run(one, t))
		if err != nil {
			return "", err
		}
		if state != "" && (worst == "" || state.severity() > worst.severity()) {
			worst = state
		}
	}
	return worst, nil
}

// run counts the newest statuses that are equal, as far as the query looks back.
func (s *checkSource) run(one *series, t int) int {
	status, n := one.at(t), 0
	for i := t; n < s.query.Last && i >= -s.query.Last && (!one.has(i) || one.at(i) == status); i-- {
		if one.has(i) {
			n++
		}
	}
	return n
}

// decide returns the state that so many equal statuses make, empty for none.
func (s *checkSource) decide(status float64, run int) (State, error) {
	rule := s.settings.rule
	switch status {
	case statusOK:
		if run >= s.settings.ok {
			return OK, nil
		}
	case statusWarning:
		if rule.warning != nil && run >= int(*rule.warning) {
			return Warning, nil
		}
	case statusCritical:
		if run >= int(rule.critical) {
			return Alert, nil
		}
	case statusUnknown:
	default:
		return "", fmt.Errorf("the status %v of the check %s is none: 0 is ok, 1 warning, 2 critical, 3 unknown", status, s.query.Name)
	}
	return "", nil
}
