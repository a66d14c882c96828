package simulate

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/monitor/declare"
	"github.com/latamctl/latamctl/pkg/monitor/query"
)

var (
	mustache = regexp.MustCompile(`\{\{([#^/]?)\s*([^{}]*?)\s*\}\}`)
	quoted   = regexp.MustCompile(`["']([^"']*)["']`)
)

// maxBlocks is how deeply the blocks of a message nest.
const maxBlocks = 20

// token is a piece of a message: text, or what stands between {{ and }}.
type token struct {
	text string
	// sign is # or ^ for the beginning of a block, / for its end, and v for a variable. Of text it is 0.
	sign byte
}

func tokenize(text string) []token {
	var out []token
	for text != "" {
		at := mustache.FindStringSubmatchIndex(text)
		if at == nil {
			return append(out, token{text: text})
		}
		if at[0] > 0 {
			out = append(out, token{text: text[:at[0]]})
		}
		sign := byte('v')
		if at[3] > at[2] {
			sign = text[at[2]]
		}
		out = append(out, token{text: text[at[4]:at[5]], sign: sign})
		text = text[at[1]:]
	}
	return out
}

// template is a message with what its variables and conditions stand for.
type template struct {
	tokens []token
	flags  map[string]bool
	values map[string]string
	tags   map[string]string
}

// render writes the message out.
func (t *template) render() (string, error) {
	var out strings.Builder
	if err := t.block(&out, "", true, true, 0); err != nil {
		return "", err
	}
	return strings.TrimSpace(out.String()), nil
}

// block writes what stands before the end of the block, or of the message when block is empty: what
// is before an else if it holds, else what is after it. outside tells whether anything in it shows.
func (t *template) block(out *strings.Builder, block string, outside, holds bool, depth int) error {
	if depth > maxBlocks {
		return errors.New("the blocks of the message are nested too deeply")
	}
	visible := outside && holds
	for len(t.tokens) > 0 {
		tk := t.tokens[0]
		t.tokens = t.tokens[1:]
		word, argument, _ := strings.Cut(tk.text, " ")
		text := ""
		var err error
		switch {
		case tk.sign == 0:
			text = tk.text
		case tk.sign == '/' && word == block:
			return nil
		case tk.sign == '/':
			return fmt.Errorf("the message closes the block %q, which is not the one that is open", word)
		case tk.sign == 'v' && word == "else" && block != "":
			visible = outside && !holds
		case tk.sign == 'v':
			text, err = t.variable(word, argument)
		default:
			var holds bool
			if holds, err = t.condition(word, argument); err == nil {
				err = t.block(out, word, visible, holds == (tk.sign == '#'), depth+1)
			}
		}
		if err != nil {
			return err
		}
		if visible {
			out.WriteString(text)
		}
	}
	if block != "" {
		return fmt.Errorf("the message does not close the block %q", block)
	}
	return nil
}

// condition evaluates a block such as is_alert or is_match "host.name" "db".
func (t *template) condition(word, argument string) (bool, error) {
	if holds, ok := t.flags[word]; ok {
		return holds, nil
	}
	var args []string
	for _, m := range quoted.FindAllStringSubmatch(argument, -1) {
		args = append(args, m[1])
	}
	switch {
	case word == "is_priority" && len(args) == 1:
		return t.values["priority"] == args[0], nil
	case (word == "is_match" || word == "is_exact_match") && len(args) >= 2:
		value := t.tags[strings.TrimSuffix(args[0], ".name")]
		for _, want := range args[1:] {
			if value == want || word == "is_match" && strings.Contains(value, want) {
				return true, nil
			}
		}
		return false, nil
	}
	return false, fmt.Errorf("%w: the block {{#%s}} of the message", errNotEvaluable, word)
}

// variable is what {{name}} stands for.
func (t *template) variable(word, argument string) (string, error) {
	if v, ok := t.values[word]; ok {
		return v, nil
	}
	// A key with dots stands in brackets: {{[http.route].name}}.
	name := strings.TrimSuffix(strings.NewReplacer("[", "", "]", "").Replace(word), ".name")
	if v, ok := t.tags[name]; ok {
		return v, nil
	}
	switch word {
	case "override_priority":
		return "", nil
	case "local_time":
		if m := quoted.FindStringSubmatch(argument); m != nil {
			return t.values[m[1]], nil
		}
	}
	return "", fmt.Errorf("%w: {{%s}} of the message, which is no known variable and no tag that the query groups by or is filtered by", errNotEvaluable, word)
}

// render writes the message of a monitor for a transition.
func (m *machine) render(g *group, tr Transition) (string, error) {
	text, _ := m.object.Payload["message"].(string)
	since := dataset.FormatDuration(m.elapsed(0, g.since))
	t := &template{tokens: tokenize(text), flags: flags(tr), tags: m.tags(g), values: map[string]string{
		"value":                  formatValue(tr.Value),
		"threshold":              formatValue(m.settings.rule.critical),
		"comparator":             m.settings.rule.op,
		"last_triggered_at":      since,
		"first_triggered_at":     since,
		"triggered_duration_sec": strconv.Itoa(int((tr.At - m.elapsed(0, g.since)).Seconds())),
		"priority":               m.settings.priority,
		"warn_threshold":         "",
		"ok_threshold":           strconv.Itoa(m.settings.ok),
		"timeframe":              "",
		"short_window_burn_rate": formatValue(tr.Value),
		"long_window_burn_rate":  formatValue(tr.Value),
	}}
	if w := m.settings.rule.warning; w != nil {
		t.values["warn_threshold"] = formatValue(*w)
	}
	if q, ok := m.object.Query.(*query.SLOAlert); ok {
		t.values["timeframe"] = q.Over
	}
	out, err := t.render()
	if err != nil {
		return "", fmt.Errorf("message of %s: %w", m.object.Key, err)
	}
	return out, nil
}

func formatValue(v float64) string {
	if math.IsNaN(v) {
		return ""
	}
	return strconv.FormatFloat(v, 'g', 6, 64)
}

// flags are the conditions of a transition.
func flags(tr Transition) map[string]bool {
	recovery := tr.Event == declare.OnRecovery
	return map[string]bool{
		"is_alert":            tr.To == Alert,
		"is_warning":          tr.To == Warning,
		"is_no_data":          tr.To == NoData,
		"is_renotify":         tr.Event == declare.OnRenotify,
		"is_recovery":         recovery,
		"is_alert_recovery":   recovery && tr.From == Alert,
		"is_warning_recovery": recovery && tr.From == Warning,
		"is_no_data_recovery": recovery && tr.From == NoData,
		"is_alert_to_warning": tr.From == Alert && tr.To == Warning,
		"is_warning_to_alert": tr.From == Warning && tr.To == Alert,
		"is_no_data_to_alert": tr.From == NoData && tr.To == Alert,
		"is_unknown":          false,
	}
}

// tags are the tags that the message can name: those of the group, and those that every series is filtered by.
func (m *machine) tags(g *group) map[string]string {
	out := map[string]string{}
	switch q := m.object.Query.(type) {
	case *query.Metric:
		for i, s := range allSeries(q.Expr) {
			fixed := map[string]string{}
			for _, f := range s.Filter {
				if f.Key != "" && !f.Not && f.Any == nil && !strings.Contains(f.Value, "*") {
					fixed[f.Key] = f.Value
				}
			}
			if i == 0 {
				out = fixed
				continue
			}
			for k, v := range out {
				if fixed[k] != v {
					delete(out, k)
				}
			}
		}
	case *query.Check:
		for _, over := range q.Over {
			if k, v, ok := strings.Cut(over, ":"); ok {
				out[k] = v
			}
		}
	}
	for _, t := range g.tags {
		out[t.key] = t.value
	}
	return out
}
