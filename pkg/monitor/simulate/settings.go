package simulate

import (
	"fmt"
	"slices"
	"time"

	"github.com/latamctl/latamctl/pkg/monitor/declare"
)

// State is the state of a monitor's group.
type State string

// The states, from the best to the worst.
const (
	OK      State = "ok"
	NoData  State = "no_data"
	Warning State = "warning"
	Alert   State = "alert"
)

// States returns all states from the best to the worst.
func States() []State { return []State{OK, NoData, Warning, Alert} }

func (s State) severity() int { return slices.Index(States(), s) }

// settings are the options of a monitor that decide about states and notifications.
type settings struct {
	rule           rule
	ok             int // of service checks
	delay          time.Duration
	newGroupDelay  time.Duration
	fullWindow     bool
	onMissing      string
	notifyNoData   bool
	noDataAfter    time.Duration
	timeout        time.Duration
	renotify       time.Duration
	renotifyStates []State
	renotifyAtMost int // 0 for no limit
	priority       string
}

// rule compares a value with the thresholds.
type rule struct {
	op                                string
	critical                          float64
	warning                           *float64
	criticalRecovery, warningRecovery *float64
}

// next returns the state that follows from a value. A recovery threshold keeps a state until it is crossed.
func (r rule) next(now State, v float64) State {
	breaks, _ := comparison(r.op)
	keeps := func(threshold *float64) bool { return threshold != nil && breaks(v, *threshold) }
	switch {
	case breaks(v, r.critical), now == Alert && keeps(r.criticalRecovery):
		return Alert
	case keeps(r.warning), now.severity() >= Warning.severity() && r.warning != nil && keeps(r.warningRecovery):
		return Warning
	}
	return OK
}

// unsupportedOptions are options that change what a monitor does in a way that is not followed here.
func unsupportedOptions() []string {
	return []string{"scheduling_options", "notify_by", "variables", "escalation_message", "group_retention_duration", "notification_preset_name"}
}

// readSettings reads the options of a monitor's payload.
func readSettings(o *declare.Object) (settings, error) {
	options, _ := o.Payload["options"].(map[string]any)
	for _, key := range unsupportedOptions() {
		if v, ok := options[key]; ok && v != nil && v != "" && v != "show_all" {
			return settings{}, fmt.Errorf("%w: the option %s of %s", errNotEvaluable, key, o.Key)
		}
	}
	seconds := func(key string) time.Duration { return time.Duration(number(options[key]) * float64(time.Second)) }
	s := settings{
		delay:         seconds("evaluation_delay"),
		newGroupDelay: max(seconds("new_group_delay"), seconds("new_host_delay")),
		fullWindow:    options["require_full_window"] == true,
		notifyNoData:  options["notify_no_data"] == true,
		noDataAfter:   time.Duration(number(options["no_data_timeframe"]) * float64(time.Minute)),
		timeout:       time.Duration(number(options["timeout_h"]) * float64(time.Hour)),
		renotify:      time.Duration(number(options["renotify_interval"]) * float64(time.Minute)),
	}
	s.onMissing, _ = options["on_missing_data"].(string)
	s.renotifyAtMost = int(number(options["renotify_occurrences"]))
	s.renotifyStates = []State{Alert, NoData}
	if list, ok := options["renotify_statuses"].([]any); ok && len(list) > 0 {
		s.renotifyStates = nil
		for _, one := range list {
			s.renotifyStates = append(s.renotifyStates, map[any]State{"alert": Alert, "warn": Warning, "no data": NoData}[one])
		}
	}
	if p := number(o.Payload["priority"]); p > 0 {
		s.priority = fmt.Sprintf("P%d", int(p))
	}
	thresholds, _ := options["thresholds"].(map[string]any)
	s.ok = int(number(thresholds["ok"]))
	s.rule = rule{
		critical: number(thresholds["critical"]), warning: optional(thresholds["warning"]),
		criticalRecovery: optional(thresholds["critical_recovery"]), warningRecovery: optional(thresholds["warning_recovery"]),
	}
	return s, nil
}

// number reads a number of a payload, 0 when there is none.
func number(v any) float64 {
	switch v := v.(type) {
	case float64:
		return v
	case int:
		return float64(v)
	case int64:
		return float64(v)
	}
	return 0
}

func optional(v any) *float64 {
	switch v.(type) {
	case float64, int, int64:
		n := number(v)
		return &n
	}
	return nil
}
