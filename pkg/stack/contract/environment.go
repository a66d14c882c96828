package contract

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/warehouse"
)

// Environment is one environment of a declaration in the cloud. It derives the values of variables.
type Environment struct {
	// Name is the environment's, such as prod.
	Name        string
	Declaration *dataset.Declaration
	// Settings have their defaults.
	Settings Settings
	// GatewayDocument is the OpenAPI document of the gateway, YAML.
	GatewayDocument string
	// StateBucket is the name of the bucket of the states; empty when they are kept in a folder.
	StateBucket string
	// AdoptStateBucket is true once the bucket exists, so that its stack imports it.
	AdoptStateBucket bool
	// Stacks, when set, lets Off leave out what needs a stack that is left out.
	Stacks *Set
}

var environmentName = regexp.MustCompile(`^[a-z]([a-z0-9-]*[a-z0-9])?$`)

// Validate checks the settings and every name that follows from them and the declaration. The error
// joins a *SettingError for each fault.
func (e *Environment) Validate() error {
	var fault error
	if !environmentName.MatchString(e.Name) || len(e.Name) > maxLabel {
		fault = &SettingError{Key: "env", Message: fmt.Sprintf("the name of an environment may have at most %d lower-case letters, digits and -, a letter first, got %q", maxLabel, e.Name)}
	}
	return errors.Join(fault, e.Settings.Validate(), e.checkNames())
}

// Values returns the value of each derived variable of a stack, ready for JSON. Numbers are int,
// int64 or float64, lists are never nil. An environment that Validate refuses has no values.
func (e *Environment) Values(s *Stack) (map[string]any, error) {
	if err := e.Validate(); err != nil {
		return nil, fmt.Errorf("derive the variables of stack %s: %w", s.Name, err)
	}
	byName := map[string]Variable{}
	for _, v := range Catalogue() {
		byName[v.Name] = v
	}
	values := map[string]any{}
	for _, in := range s.Inputs {
		if in.From != "" {
			continue
		}
		v, ok := byName[in.Name]
		if !ok {
			return nil, fmt.Errorf("derive the variables of stack %s: the catalogue has no variable %s", s.Name, in.Name)
		}
		values[in.Name] = v.value(e)
	}
	return values, nil
}

// Off says why a stack is left out of this environment, or returns "".
func (e *Environment) Off(s *Stack) string {
	var missing []string
	for _, key := range s.Requires {
		if e.Settings.empty(key) {
			missing = append(missing, key)
		}
	}
	if len(missing) > 0 {
		return fmt.Sprintf("set %s in environments.%s of %s", strings.Join(missing, " and "), e.Name, e.file())
	}
	if e.Stacks == nil {
		return ""
	}
	for _, need := range s.Needs {
		if other := e.Stacks.Get(need); other != nil && e.Off(other) != "" {
			return fmt.Sprintf("it needs %s, which is off: %s", need, e.Off(other))
		}
	}
	return ""
}

func (e *Environment) labels() map[string]string {
	return map[string]string{"app": e.Declaration.Name, "environment": e.Name, "managed-by": "latamctl"}
}

// datasetValue is one entry of the variable datasets.
type datasetValue struct {
	Topic                          string        `json:"topic"`
	Subscription                   string        `json:"subscription"`
	DeadLetterTopic                string        `json:"dead_letter_topic"`
	DeadLetterSubscription         string        `json:"dead_letter_subscription"`
	BigquerySubscription           string        `json:"bigquery_subscription"`
	BigqueryDeadLetterTopic        string        `json:"bigquery_dead_letter_topic"`
	BigqueryDeadLetterSubscription string        `json:"bigquery_dead_letter_subscription"`
	Table                          string        `json:"table"`
	IndexTables                    []string      `json:"index_tables"`
	RetentionSeconds               int64         `json:"retention_seconds"`
	SplitKeys                      []string      `json:"split_keys"`
	Columns                        []columnValue `json:"columns"`
	Key                            []string      `json:"key"`
	Time                           string        `json:"time"`
	BigqueryTable                  string        `json:"bigquery_table"`
	BigqueryView                   string        `json:"bigquery_view"`
	BigqueryExternal               string        `json:"bigquery_external"`
}

type columnValue struct {
	Name        string `json:"name"`
	Type        string `json:"type"`
	Mode        string `json:"mode"`
	Description string `json:"description"`
}

func (e *Environment) datasets() map[string]datasetValue {
	out := map[string]datasetValue{}
	for _, ds := range e.Declaration.Datasets {
		v := datasetValue{
			Topic: ds.Topic, Subscription: ds.Subscription(),
			DeadLetterTopic: ds.DeadLetterTopic(), DeadLetterSubscription: ds.DeadLetterSubscription(),
			BigquerySubscription: bigquerySubscription(ds), BigqueryDeadLetterTopic: bigqueryDead(ds),
			BigqueryDeadLetterSubscription: bigqueryDeadInspect(ds),
			Table:                          ds.Table(), IndexTables: []string{},
			RetentionSeconds: int64(ds.Retention.Seconds()),
			SplitKeys:        splitKeys(ds),
			BigqueryTable:    bigqueryTable(ds), BigqueryView: bigqueryView(ds), BigqueryExternal: bigqueryTable(ds) + "_live",
		}
		for i := range ds.Indexes {
			v.IndexTables = append(v.IndexTables, ds.IndexTable(&ds.Indexes[i]))
		}
		for _, c := range warehouse.Schema(ds) {
			v.Columns = append(v.Columns, columnValue(c))
		}
		for _, f := range ds.Key {
			v.Key = append(v.Key, f.Name)
		}
		if ds.Time != nil {
			v.Time = ds.Time.Name
		}
		out[ds.Name] = v
	}
	return out
}
