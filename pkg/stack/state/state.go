// Package state reads what Terraform keeps of an environment's stacks: their states, the locks on
// them, and the notes that latamctl puts beside them. It writes no state; only Terraform does.
package state

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/latamctl/latamctl/pkg/bucket"
)

// States are the states of one environment's stacks in a bucket.
type States struct {
	bucket      bucket.Bucket
	environment string
}

// New returns the states of an environment. It asks nothing of the bucket, which may not exist yet.
func New(b bucket.Bucket, environment string) *States {
	return &States{bucket: b, environment: environment}
}

// Prefix is where the state of a stack is kept in the bucket.
func (s *States) Prefix(stack string) string { return path.Join(s.environment, stack) }

// State is what a stack's state says. The zero value is a stack that was never applied.
type State struct {
	Serial  uint64
	Lineage string
	// Terraform is the version that wrote it.
	Terraform string
	// Resources are what it manages, in the order of their addresses; data sources are left out.
	Resources []Resource
	Outputs   []Output // by name
	// Version is that of the object in the bucket, empty when there is none.
	Version bucket.Generation
}

// Resource is one managed object.
type Resource struct {
	Address string // such as module.m["a"].google_pubsub_topic.topic["flights"]
	Type    string
	// Deposed is set for an object that a replacement could not delete yet.
	Deposed string
}

// Output is one output value of a stack.
type Output struct {
	Name string `json:"name"`
	// Type is Terraform's, in JSON: "string", or ["list","string"].
	Type      json.RawMessage `json:"type"`
	Value     json.RawMessage `json:"value"`
	Sensitive bool            `json:"sensitive"`
}

// Applied tells whether the stack has a state.
func (s *State) Applied() bool { return s.Lineage != "" || len(s.Resources) > 0 || len(s.Outputs) > 0 }

// Output returns one output value.
func (s *State) Output(name string) (Output, bool) {
	i := slices.IndexFunc(s.Outputs, func(o Output) bool { return o.Name == name })
	if i < 0 {
		return Output{}, false
	}
	return s.Outputs[i], true
}

// Read returns the state of a stack. One that was never applied, or whose bucket does not exist, is the zero State.
func (s *States) Read(ctx context.Context, stack string) (*State, error) {
	data, version, err := s.bucket.Read(ctx, s.bucket.StateKey(s.Prefix(stack)))
	if absent(err) {
		return &State{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the state of stack %s: %w", stack, err)
	}
	parsed, err := Parse(data)
	if err != nil {
		return nil, fmt.Errorf("read the state of stack %s at %s: %w", stack, s.place(s.bucket.StateKey(s.Prefix(stack))), err)
	}
	parsed.Version = version
	return parsed, nil
}

// Outputs returns the output values of a stack, by name.
func (s *States) Outputs(ctx context.Context, stack string) ([]Output, error) {
	state, err := s.Read(ctx, stack)
	if err != nil {
		return nil, err
	}
	return state.Outputs, nil
}

// absent tells whether an object cannot be there.
func absent(err error) bool {
	return errors.Is(err, bucket.ErrNotExist) || errors.Is(err, bucket.ErrNoBucket)
}

// place names an object for people.
func (s *States) place(key string) string {
	return strings.TrimSuffix(s.bucket.URL(), "/") + "/" + key
}

// The parts of a state that are read. Everything else may change between versions of Terraform.
type file struct {
	Version   *int                  `json:"version"`
	Terraform string                `json:"terraform_version"`
	Serial    uint64                `json:"serial"`
	Lineage   string                `json:"lineage"`
	Outputs   map[string]fileOutput `json:"outputs"`
	Resources []fileResource        `json:"resources"`
	Encrypted json.RawMessage       `json:"encrypted_data"`
}

type fileOutput struct {
	Value     json.RawMessage `json:"value"`
	Type      json.RawMessage `json:"type"`
	Sensitive bool            `json:"sensitive"`
}

type fileResource struct {
	Module    string         `json:"module"`
	Mode      string         `json:"mode"`
	Type      string         `json:"type"`
	Name      string         `json:"name"`
	Instances []fileInstance `json:"instances"`
}

type fileInstance struct {
	Key     json.RawMessage `json:"index_key"`
	Deposed string          `json:"deposed"`
}

// format is the version of the format that Terraform has written since 0.12.
const format = 4

// Parse reads a state. Nothing at all, as Terraform leaves it when it ends before its first save, is the zero State.
func Parse(data []byte) (*State, error) {
	if len(strings.TrimSpace(string(data))) == 0 {
		return &State{}, nil
	}
	var f file
	if err := json.Unmarshal(data, &f); err != nil {
		return nil, fmt.Errorf("it is not the JSON of a state: %w", err)
	}
	switch {
	case len(f.Encrypted) > 0:
		return nil, errors.New("it is encrypted by OpenTofu, which latamctl cannot read; take the state's encryption off")
	case f.Version == nil:
		return nil, errors.New("it has no version, so it is no state of Terraform")
	case *f.Version != format:
		return nil, fmt.Errorf("its format is %d and this latamctl reads format %d; use the latamctl that goes with this Terraform", *f.Version, format)
	}
	state := &State{Serial: f.Serial, Lineage: f.Lineage, Terraform: f.Terraform}
	for name, o := range f.Outputs {
		if len(o.Value) == 0 {
			o.Value = json.RawMessage("null")
		}
		state.Outputs = append(state.Outputs, Output{Name: name, Type: o.Type, Value: o.Value, Sensitive: o.Sensitive})
	}
	slices.SortFunc(state.Outputs, func(a, b Output) int { return strings.Compare(a.Name, b.Name) })
	for _, r := range f.Resources {
		if r.Mode != "managed" {
			continue
		}
		for _, instance := range r.Instances {
			key, err := indexOf(instance.Key)
			if err != nil {
				return nil, fmt.Errorf("the key of %s.%s: %w", r.Type, r.Name, err)
			}
			address := r.Type + "." + r.Name + key
			if r.Module != "" {
				address = r.Module + "." + address
			}
			state.Resources = append(state.Resources, Resource{Address: address, Type: r.Type, Deposed: instance.Deposed})
		}
	}
	slices.SortStableFunc(state.Resources, func(a, b Resource) int { return strings.Compare(a.Address, b.Address) })
	return state, nil
}

// indexOf writes the key of an instance as addresses have it: [0] for count, ["a"] for for_each.
func indexOf(key json.RawMessage) (string, error) {
	if len(key) == 0 || string(key) == "null" {
		return "", nil
	}
	var number json.Number
	if key[0] != '"' {
		if err := json.Unmarshal(key, &number); err != nil {
			return "", fmt.Errorf("%.40s is neither a number nor a text", key)
		}
		n, err := strconv.Atoi(number.String())
		if err != nil {
			return "", fmt.Errorf("%.40s is no whole number", key)
		}
		return "[" + strconv.Itoa(n) + "]", nil
	}
	var text string
	if err := json.Unmarshal(key, &text); err != nil {
		return "", err
	}
	return `["` + escapes().Replace(text) + `"]`, nil
}

// escapes are those of a quoted text in Terraform's language.
func escapes() *strings.Replacer {
	return strings.NewReplacer("\n", `\n`, "\r", `\r`, "\t", `\t`, `"`, `\"`, `\`, `\\`, "${", "$${", "%{", "%%{")
}
