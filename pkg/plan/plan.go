// Package plan says what would change before anything does: the changes, the guard that refuses
// some of them, and their renderings. Stacks, manifests and monitors share it.
package plan

import (
	"cmp"
	"time"
)

// Action is what happens to one object.
type Action string

// The actions, in the order in which a plan shows them: what can lose data comes first.
const (
	Delete  Action = "delete"
	Replace Action = "replace"
	Update  Action = "update"
	Create  Action = "create"
	Import  Action = "import" // taken into the state, not changed
	Forget  Action = "forget" // left alone from now on, not deleted
)

// Change is what happens to one object.
type Change struct {
	// Address names the object within its section, such as google_pubsub_topic.topic["flights"].
	Address string `json:"address"`
	Type    string `json:"type"`
	Action  Action `json:"action"`
	// Forces are the attributes that force a replacement, such as "name".
	Forces []string `json:"forces,omitempty"`
	// Attributes that differ, as far as they are known. Sensitive values are never in it.
	Attributes []Attribute `json:"attributes,omitempty"`
	// Protected objects are deleted or replaced only when their address was named.
	Protected bool `json:"protected,omitempty"`
	// Reason says why, where it is known: "removed from the declaration", "changed outside".
	Reason string `json:"reason,omitempty"`
}

// Attribute is one difference within an object.
type Attribute struct {
	Path      string `json:"path"` // such as retry_policy[0].minimum_backoff
	Before    string `json:"before,omitempty"`
	After     string `json:"after,omitempty"`
	Sensitive bool   `json:"sensitive,omitempty"` // then Before and After are empty
	Unknown   bool   `json:"unknown,omitempty"`   // the new value is known after the apply only
}

// Grade tells how far a section's changes can be relied on.
type Grade string

// The grades.
const (
	// Exact: every value that the section reads is known; it can be applied as it is.
	Exact Grade = "exact"
	// Predicted: values come from the plan of a section before it. It is planned again before it is applied.
	Predicted Grade = "predicted"
	// Provisional: values that do not exist yet were replaced by placeholders. It is planned again before it is applied.
	Provisional Grade = "provisional"
)

// Section is the changes of one stack, one set of manifests, one kind of monitor.
type Section struct {
	Name    string   `json:"name"`
	Grade   Grade    `json:"grade"`
	Changes []Change `json:"changes"`
	// Outputs are the names of outputs whose values change.
	Outputs []string `json:"outputs,omitempty"`
	// Drift are the objects that were changed outside; each Change says how they differ from what was applied.
	Drift []Change `json:"drift,omitempty"`
	// Note is a remark for the reader, such as "off: set billing_account" or "unchanged since the last apply".
	Note string `json:"note,omitempty"`
	// Error says why the section could not be planned; Blocked names the section that it waits for.
	Error   string        `json:"error,omitempty"`
	Blocked string        `json:"blocked_by,omitempty"`
	Took    time.Duration `json:"-"`
}

// Plan is all sections, in the order in which they would be applied.
type Plan struct {
	Environment string    `json:"environment"`
	Sections    []Section `json:"sections"`
	// Noun is what a section is, for people. Default stack.
	Noun string `json:"-"`
}

func (p *Plan) noun() string { return cmp.Or(p.Noun, "stack") }
