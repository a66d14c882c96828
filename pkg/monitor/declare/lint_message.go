package declare

import (
	"regexp"
	"slices"
	"strings"

	"github.com/latamctl/latamctl/pkg/monitor/query"
)

var (
	// braceText is a variable or a condition of Datadog's messages.
	braceText = regexp.MustCompile(`\{\{\s*([#^/]?)\s*([^{}]*?)\s*\}\}`)
	// textHandle is a handle inside a text.
	textHandle = regexp.MustCompile(`(?:^|\s)(@[a-z]+-[A-Za-z0-9_.-]+)`)
)

// messageConditions are the conditions that Datadog knows.
func messageConditions() []string {
	return []string{"is_alert", "is_warning", "is_no_data", "is_recovery", "is_alert_recovery", "is_warning_recovery", "is_no_data_recovery",
		"is_alert_to_warning", "is_no_data_to_alert", "is_no_data_to_warning", "is_alert_to_no_data", "is_warning_to_alert",
		"is_renotify", "is_unknown", "is_priority", "is_match", "is_exact_match"}
}

// messageVariables are the variables without a dot, and the functions, that Datadog knows.
func messageVariables() []string {
	return []string{"else", "value", "threshold", "warn_threshold", "ok_threshold", "comparator", "alert_recovery_threshold", "warn_recovery_threshold",
		"first_triggered_at", "first_triggered_at_epoch", "last_triggered_at", "last_triggered_at_epoch", "triggered_duration_sec",
		"eval", "local_time", "override_priority", "urlencode", "check_message", "alert_cycle_key", "comment"}
}

// messages checks the texts of a monitor.
func (c *monitorLint) messages() {
	if c.instance.verbatim() {
		return // Datadog has taken it already.
	}
	tags, known := c.messageTags()
	texts := []*value{c.tree.get("title")}
	for _, event := range events() {
		texts = append(texts, c.tree.get("message").get(string(event)))
	}
	for _, v := range texts {
		if v != nil {
			c.message(v, tags, known)
		}
	}
}

// messageTags are the tags that a message can name; known is false when the query does not tell.
func (c *monitorLint) messageTags() (tags []string, known bool) {
	switch q := c.object.Query.(type) {
	case *query.Metric, *query.Check:
		return slices.Concat(query.Groups(q), query.FilterKeys(q)), true
	}
	return nil, false
}

func (c *monitorLint) message(v *value, tags []string, known bool) {
	text := v.text()
	if !strings.ContainsAny(text, "@{") {
		return
	}
	if handle := textHandle.FindStringSubmatch(text); handle != nil {
		v.fault("put it into notify, so that tests and plans know who is told", "the text%s has the handle %s", c.where, handle[1])
	}
	var open []string
	for _, parts := range braceText.FindAllStringSubmatch(text, -1) {
		word, _, _ := strings.Cut(parts[2], " ")
		switch parts[1] {
		case "#", "^":
			if !slices.Contains(messageConditions(), word) {
				v.fault(didYouMean(word, messageConditions(), "the conditions are "+strings.Join(messageConditions(), ", ")), "the text%s has the condition %s, which Datadog does not know", c.where, quote(word))
			}
			open = append(open, word)
		case "/":
			if len(open) == 0 || open[len(open)-1] != word {
				v.fault("", "the text%s closes %s, which is not open", c.where, quote(word))
				return
			}
			open = open[:len(open)-1]
		default:
			c.variable(v, word, tags, known)
		}
	}
	if len(open) > 0 {
		v.fault("close it with {{/"+open[len(open)-1]+"}}", "the text%s leaves the condition %s open", c.where, quote(open[len(open)-1]))
	}
}

func (c *monitorLint) variable(v *value, word string, tags []string, known bool) {
	if tag, ok := strings.CutSuffix(word, ".name"); ok {
		tag = strings.TrimSuffix(strings.TrimPrefix(tag, "["), "]")
		bracketed := "[" + tag + "]"
		switch {
		case strings.Contains(tag, ".") && !strings.HasPrefix(word, "["):
			v.fault("write {{"+bracketed+".name}}", "the text%s names %s without brackets, which a key with dots needs", c.where, quote(word))
		case known && !slices.Contains(tags, tag):
			v.fault(didYouMean(tag, tags, "add it to by {…}, or filter on it"), "the text%s names {{%s}}, and the query neither groups by %s nor filters on it", c.where, word, tag)
		}
		return
	}
	word = strings.TrimSuffix(strings.TrimPrefix(word, "["), "].name")
	if word == "" || strings.ContainsAny(word, ".[]!") {
		return // a field of a host, of an event or of a log
	}
	if !slices.Contains(messageVariables(), word) {
		v.fault(didYouMean(word, messageVariables(), "write {{"+word+".name}} for a tag"), "the text%s has the variable %s, which Datadog does not know", c.where, quote(word))
	}
}
