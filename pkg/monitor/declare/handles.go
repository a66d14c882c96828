package declare

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/latamctl/latamctl/pkg/strictyaml"
)

var (
	mailHandle    = regexp.MustCompile(`^@[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+$`)
	serviceHandle = regexp.MustCompile(`^@([a-z]+)-([A-Za-z0-9_.#-]+)$`)
)

// handleServices are what handles can begin with, besides mail addresses.
func handleServices() []string {
	return []string{"pagerduty", "slack", "webhook", "teams", "opsgenie", "oncall", "team", "jira", "servicenow", "workflow",
		"hangouts", "victorops", "case", "sns", "eventbridge"}
}

// handleFault says what is wrong with a handle, "" when nothing is.
func handleFault(handle string) string {
	if mailHandle.MatchString(handle) {
		return ""
	}
	parts := serviceHandle.FindStringSubmatch(handle)
	switch {
	case parts != nil && slices.Contains(handleServices(), parts[1]):
		return ""
	case parts != nil:
		return didYouMean(parts[1], handleServices(), "handles begin with @"+strings.Join(handleServices(), "-, @")+"-, or are @ and a mail address")
	}
	return "write it like @pagerduty-latam, @slack-latam-alerts or @somebody@example.com, without spaces and brackets"
}

// notify finds out who is told of the events of a monitor.
func (l *loader) notify(in *instance) {
	o := in.object
	o.Notify, o.Roles = map[Event][]string{}, map[Event][]string{}
	declared := in.tree.get("notify")
	for _, event := range events() {
		for _, who := range declared.get(string(event)).texts() {
			l.tell(o, in, event, who, who.text())
		}
	}
	interval, _ := in.options["renotify_interval"].number()
	if declared.get(string(OnRenotify)) == nil && interval > 0 {
		// Told again means: the same ones are.
		for _, who := range declared.get(string(OnAlert)).texts() {
			l.tell(o, in, OnRenotify, who, who.text())
		}
	}
}

// tell adds a role or a handle to those who are told of an event.
func (l *loader) tell(o *Object, in *instance, event Event, at *value, who string) {
	if strings.HasPrefix(who, "@") {
		if fault := handleFault(who); fault != "" {
			at.fault(fault, "%s%s is no handle of Datadog", quote(who), in.where())
		}
		o.Notify[event] = appendNew(o.Notify[event], who)
		return
	}
	role := l.roles[who]
	if role == nil {
		at.fault(l.hint(who, "roles", func() []string { return sortedKeys(l.roles) }), "there is no role %s, which%s tells", quote(who), in.where()[len(" in"):])
		return
	}
	o.Roles[event] = appendNew(o.Roles[event], who)
	if role.tree.get("pages").truth() {
		o.Pages = true
	}
	if len(l.Notify[who]) == 0 {
		if l.silent[who] == nil {
			l.silent[who] = map[string]bool{}
		}
		l.silent[who][o.Key.Name] = true
	}
	for _, handle := range l.Notify[who] {
		o.Notify[event] = appendNew(o.Notify[event], handle)
	}
}

// handleWarning says in one line which roles have no handle in the environment; it is empty when all have one.
func (l *loader) handleWarning() string {
	roles := sortedKeys(l.silent)
	if len(roles) == 0 {
		return ""
	}
	silent := make([]string, len(roles))
	for i, role := range roles {
		paging := ""
		if l.roles[role].tree.get("pages").truth() {
			paging = ": nobody is woken up"
		}
		silent[i] = fmt.Sprintf("%s (%s%s)", role, counted(len(l.silent[role]), "monitor"), paging)
	}
	return fmt.Sprintf("no handle in environment %s for %s; set environments.%s.notify in latam.yaml, or --notify",
		l.Environment, strings.Join(silent, ", "), l.Environment)
}

// message puts the texts and handles of the events into the conditions of Datadog's messages.
func (l *loader) message(in *instance) string {
	texts := map[Event]string{}
	declared := in.tree.get("message")
	if whole := declared.text(); whole != "" {
		if !in.verbatim() {
			declared.fault("write message: {alert: …}, or verbatim: true to send it as it is", "message%s is one text", in.where())
		}
		return strings.TrimSpace(whole)
	}
	for _, event := range events() {
		texts[event] = strings.TrimSpace(declared.get(string(event)).text())
	}
	o := in.object
	if texts[OnRenotify] == "" && len(o.Roles[OnRenotify])+len(o.Notify[OnRenotify]) > 0 {
		texts[OnRenotify] = texts[OnAlert]
	}
	return compileMessage(texts, o.Notify, l.runbook(in, declared.get("runbook")))
}

// runbook is the address of the runbook, "" for none.
func (l *loader) runbook(in *instance, v *value) string {
	if v.truth() {
		return l.Values.runbooks() + "/" + in.base + ".md"
	}
	return v.text()
}

// conditions are what Datadog writes around the text of an event.
func conditions(event Event) (before, after string) {
	switch event {
	case OnAlert:
		return "{{#is_alert}}{{^is_renotify}}", "{{/is_renotify}}{{/is_alert}}"
	default:
		return "{{#is_" + string(event) + "}}", "{{/is_" + string(event) + "}}"
	}
}

// compileMessage writes a message: a block for each event that has something to say or somebody to tell.
func compileMessage(texts map[Event]string, handles map[Event][]string, runbook string) string {
	var lines []string
	for _, event := range events() {
		body := texts[event]
		if told := handles[event]; len(told) > 0 {
			if body != "" {
				body += " "
			}
			// A handle ends at a space; without one it would swallow what follows.
			body += strings.Join(told, " ") + " "
		}
		if body == "" {
			continue
		}
		before, after := conditions(event)
		lines = append(lines, before+body+after)
	}
	if runbook != "" {
		lines = append(lines, "Runbook: "+runbook)
	}
	return strings.Join(lines, "\n")
}

func appendNew(list []string, one string) []string {
	if slices.Contains(list, one) {
		return list
	}
	return append(list, one)
}

func counted(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func quote(s string) string { return strictyaml.Quote(s) }
