package query

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/latamctl/latamctl/pkg/strictyaml"
)

// maxMetric is the length of the longest name of a metric.
const maxMetric = 200

// series reads AGGREGATE:METRIC{FILTER} by {TAGS}.MODIFIER().
func (s *scanner) series() (*Series, error) {
	from := s.at
	series := &Series{Aggregate: s.word()}
	if series.Aggregate == "" {
		return nil, s.expected("a series", "a series is AGGREGATE:METRIC{FILTER}")
	}
	if !isAggregate(series.Aggregate) {
		hint := "a series is AGGREGATE:METRIC{FILTER}"
		if s.peek() == '{' || s.peek() == 0 {
			hint = "write for example avg:" + series.Aggregate + "{*}"
		}
		s.at = from
		return nil, s.expected("how hosts and tags are aggregated (avg, sum, min, max, count or a percentile such as p95)", hint)
	}
	if series.Aggregate == "count" && s.peek() == '(' {
		var err error
		if series.Count, err = s.count(); err != nil {
			return nil, err
		}
	}
	if err := s.need(":", "a series is AGGREGATE:METRIC{FILTER}"); err != nil {
		return nil, err
	}
	if err := s.metricName(series); err != nil {
		return nil, err
	}
	var err error
	if series.Filter, err = s.filter(); err != nil {
		return nil, err
	}
	if s.peekWord() == "by" {
		s.word()
		if series.By, err = s.by(); err != nil {
			return nil, err
		}
	}
	series.Modifiers, err = s.modifiers()
	return series, err
}

func isAggregate(name string) bool {
	return slices.Contains([]string{"avg", "sum", "min", "max", "count"}, name) || isPercentile(name)
}

// count reads (v: v<=0.05); the name of the value is free.
func (s *scanner) count() (*Count, error) {
	const hint = "the number of values by a bound is count(v: v<=0.05):METRIC{FILTER}"
	if err := s.need("(", hint); err != nil {
		return nil, err
	}
	name := s.word()
	if err := s.need(":", hint); err != nil {
		return nil, err
	}
	if name == "" || s.peekWord() != name {
		return nil, s.expected("the name of the value again", hint)
	}
	s.word()
	op, err := s.comparison("<=", ">=", "<", ">")
	if err != nil {
		return nil, err
	}
	bound, err := s.signed()
	if err != nil {
		return nil, err
	}
	return &Count{Op: op, Bound: bound}, s.need(")", hint)
}

func (s *scanner) metricName(series *Series) error {
	from := s.at
	series.Metric = s.word()
	switch {
	case series.Metric == "" || !isLetter(series.Metric[0]):
		s.at = from
		return s.expected("the name of a metric", "names begin with a letter")
	case len(series.Metric) > maxMetric:
		s.at = from
		return s.fault(fmt.Sprintf("the name of the metric has %d characters, and %d are the limit", len(series.Metric), maxMetric), "")
	}
	return nil
}

// by reads {a,b}.
func (s *scanner) by() ([]string, error) {
	if err := s.need("{", "the tags to group by follow, such as by {host}"); err != nil {
		return nil, err
	}
	var tags []string
	for {
		from := s.at
		tag := s.tag()
		if tag == "" || strings.ContainsAny(tag, ":*!") {
			s.at = from
			return nil, s.expected("a tag to group by", "only its name: by {host}")
		}
		if slices.Contains(tags, tag) {
			s.at = from
			return nil, s.fault(fmt.Sprintf("it is grouped by %q twice", tag), "")
		}
		tags = append(tags, tag)
		if s.take("}") {
			return tags, nil
		}
		if err := s.need(",", "or a } that ends the tags to group by"); err != nil {
			return nil, err
		}
	}
}

func modifierNames() []string { return []string{"as_count", "as_rate", "rollup", "fill", "weighted"} }

// modifiers reads .as_count().rollup(sum, 60).
func (s *scanner) modifiers() ([]Modifier, error) {
	var modifiers []Modifier
	for s.take(".") {
		from := s.at
		m := Modifier{Name: s.word()}
		if !slices.Contains(modifierNames(), m.Name) {
			s.at = from
			hint := ""
			if near := strictyaml.Nearest(m.Name, modifierNames()); near != "" {
				hint = fmt.Sprintf("did you mean %q?", near)
			}
			return nil, s.expected("as_count, as_rate, rollup, fill or weighted", hint)
		}
		if err := s.need("(", ""); err != nil {
			return nil, err
		}
		for !s.take(")") {
			if len(m.Args) > 0 {
				if err := s.need(",", "or a ) that ends the arguments of "+m.Name); err != nil {
					return nil, err
				}
			}
			arg := s.literal()
			if arg == "" {
				return nil, s.expected("an argument of "+m.Name, "")
			}
			m.Args = append(m.Args, arg)
		}
		if err := s.checkModifier(m, modifiers, from); err != nil {
			return nil, err
		}
		modifiers = append(modifiers, m)
	}
	return modifiers, nil
}

// checkModifier refuses what Datadog would: arguments that a modifier does not take, and modifiers
// that contradict those before it.
func (s *scanner) checkModifier(m Modifier, before []Modifier, from int) error {
	message := ""
	switch m.Name {
	case "as_count", "as_rate", "weighted":
		if len(m.Args) > 0 {
			message = m.Name + "() takes no arguments"
		}
	case "rollup":
		if !isRollup(m.Args) {
			message = "rollup takes how points become one (avg, sum, min, max or count), and for how many seconds: rollup(sum, 60)"
		}
	case "fill":
		if len(m.Args) == 0 || len(m.Args) > 2 || !slices.Contains([]string{"zero", "null", "last", "linear"}, m.Args[0]) {
			message = "fill takes what stands in for missing points (zero, null, last or linear), and for how many seconds at most: fill(last, 300)"
		}
	}
	for _, other := range before {
		if other.Name == m.Name || strings.HasPrefix(other.Name, "as_") && strings.HasPrefix(m.Name, "as_") {
			message = fmt.Sprintf("%s() stands after %s()", m.Name, other.Name)
		}
	}
	if message == "" {
		return nil
	}
	s.at = from
	return s.fault(message, "")
}

// isRollup knows (sum), (sum, 60), (60), and (avg, monthly, 'America/Santiago').
func isRollup(args []string) bool {
	if len(args) > 0 && slices.Contains([]string{"avg", "sum", "min", "max", "count"}, args[0]) {
		if args = args[1:]; len(args) == 0 {
			return true
		}
	}
	if len(args) == 0 {
		return false
	}
	if isLetter(args[0][0]) {
		return len(args) <= 2 && slices.Contains([]string{"daily", "weekly", "monthly"}, args[0])
	}
	seconds, err := strconv.Atoi(args[0])
	return err == nil && seconds > 0 && len(args) == 1
}
