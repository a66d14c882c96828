package simulate

import (
	"errors"
	"math"
	"slices"
	"strings"

	"github.com/latamctl/latamctl/pkg/monitor/query"
)

// tag is a tag of a series, in lower case as Datadog keeps them. Of a bare tag the key is empty.
type tag struct{ key, value string }

func (t tag) String() string {
	if t.key == "" {
		return t.value
	}
	return t.key + ":" + t.value
}

// series is one metric, or service check, with its tags.
type series struct {
	metric string
	tags   []tag
	points
}

// parseSeries reads metric{key:value,key:value}.
func parseSeries(text string) (series, error) {
	metric, rest, tagged := strings.Cut(strings.TrimSpace(text), "{")
	s := series{metric: strings.TrimSpace(metric)}
	switch {
	case s.metric == "" || strings.ContainsAny(s.metric, " \t:,}"):
		return s, errors.New("expected a metric with its tags such as latam.errors{env:prod}")
	case !tagged:
		return s, nil
	case !strings.HasSuffix(rest, "}"):
		return s, errors.New("the tags end with }")
	}
	for part := range strings.SplitSeq(strings.TrimSuffix(rest, "}"), ",") {
		part = strings.ToLower(strings.TrimSpace(part))
		if part == "" {
			continue
		}
		t := tag{value: part}
		if key, value, ok := strings.Cut(part, ":"); ok {
			t = tag{key, value}
		}
		s.tags = append(s.tags, t)
	}
	return s, nil
}

// index is the point that stands for i: before the first one it is the first one. ok is false after the end.
func (s *series) index(i int) (int, bool) {
	return max(i, 0), i < s.length()
}

// at returns the number at i, NaN when it is missing.
func (s *series) at(i int) float64 {
	if i, ok := s.index(i); ok {
		return s.numbers[i]
	}
	return math.NaN()
}

// valuesAt returns the values of a distribution at i, nil when they are missing.
func (s *series) valuesAt(i int) []bin {
	if i, ok := s.index(i); ok {
		return s.bins[i]
	}
	return nil
}

// has reports whether there is a point at i.
func (s *series) has(i int) bool {
	if s.distribution() {
		return s.valuesAt(i) != nil
	}
	return !math.IsNaN(s.at(i))
}

// seen reports whether there was a point at i or before.
func (s *series) seen(i int) bool {
	for j := 0; j <= max(i, 0) && j < s.length(); j++ {
		if s.has(j) {
			return true
		}
	}
	return false
}

// matches reports whether the series is in the scope of a filter.
func (s *series) matches(filter []query.Matcher) bool {
	for _, m := range filter {
		if !s.matchesOne(m) {
			return false
		}
	}
	return true
}

func (s *series) matchesOne(m query.Matcher) bool {
	if m.Any != nil {
		return m.Not != slices.ContainsFunc(m.Any, s.matches)
	}
	found := m.Key == "" && m.Value == "*" || slices.ContainsFunc(s.tags, func(t tag) bool {
		return t.key == strings.ToLower(m.Key) && glob(strings.ToLower(m.Value), t.value)
	})
	return found != m.Not
}

// glob compares with a pattern in which * stands for any text.
func glob(pattern, text string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == text
	}
	if !strings.HasPrefix(text, parts[0]) {
		return false
	}
	text = text[len(parts[0]):]
	for _, part := range parts[1 : len(parts)-1] {
		i := strings.Index(text, part)
		if i < 0 {
			return false
		}
		text = text[i+len(part):]
	}
	return strings.HasSuffix(text, parts[len(parts)-1])
}

// notThere is the value of a group for series without the tag.
const notThere = "n/a"

// group returns the tags that the series has of a grouping.
func (s *series) group(by []string) []tag {
	out := make([]tag, 0, len(by))
	for _, key := range by {
		value := notThere
		for _, t := range s.tags {
			if t.key == strings.ToLower(key) {
				value = t.value
				break
			}
		}
		out = append(out, tag{strings.ToLower(key), value})
	}
	return out
}

// groupKey names a group as Datadog does, its tags sorted: host:a,kube_deployment:ingest. It is empty for all.
func groupKey(tags []tag) string {
	texts := make([]string, len(tags))
	for i, t := range tags {
		texts[i] = t.String()
	}
	slices.Sort(texts)
	return strings.Join(texts, ",")
}

// firstChange is the first point that differs from the one before, -1 when there is none.
func (s *series) firstChange() int {
	for i := 1; i < s.length(); i++ {
		var same bool
		if s.distribution() {
			same = slices.Equal(s.bins[i], s.bins[i-1]) && (s.bins[i] == nil) == (s.bins[i-1] == nil)
		} else {
			same = s.numbers[i] == s.numbers[i-1] || !s.has(i) && !s.has(i-1)
		}
		if !same {
			return i
		}
	}
	return -1
}
