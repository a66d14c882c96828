package contract

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2/hclwrite"

	"github.com/latamctl/latamctl/pkg/strictyaml"
)

// NewFile is a file to write, its path below the folder of the stacks.
type NewFile struct {
	Path string
	Data []byte
}

// NewOptions are the variants of New.
type NewOptions struct {
	// After are the stacks that it needs.
	After []string
	// Description is one sentence; empty writes one that is to be replaced.
	Description string
	// Keep leaves the stack alone in `down` unless it is named.
	Keep bool
}

// ErrExists says that there is a stack of the name already.
var ErrExists = errors.New("it exists already")

// New returns the files of a new stack, which validate as they are and make one topic. It writes
// nothing. The error is an *UnknownError for a stack in After that does not exist, and wraps ErrExists
// when the name is taken.
func (s *Set) New(name string, o NewOptions) ([]NewFile, error) {
	if !stackName.MatchString(name) || name == reservedStack {
		return nil, fmt.Errorf("make a new stack: expected a name of at most 30 lower-case letters, digits and - that is not %s, got %s", reservedStack, strictyaml.Quote(name))
	}
	if s.Get(name) != nil {
		return nil, fmt.Errorf("make stack %s: %w; choose another name", name, ErrExists)
	}
	if strings.ContainsAny(o.Description, "\r\n") {
		return nil, fmt.Errorf("make stack %s: expected a description of one line", name)
	}
	var after []string
	for _, need := range o.After {
		if _, err := s.Lookup(need); err != nil {
			return nil, fmt.Errorf("make stack %s: %w", name, err)
		}
		if !slices.Contains(after, need) {
			after = append(after, need)
		}
	}
	slices.Sort(after)
	if o.Description == "" {
		o.Description = "What " + name + " makes"
	}
	return newFiles(name, after, o)
}

func newFiles(name string, after []string, o NewOptions) ([]NewFile, error) {
	contract := newContract(after, o)
	r := read(name, []byte(contract))
	if err := r.Err(contractPath(name)); err != nil {
		return nil, fmt.Errorf("make stack %s: %w", name, err)
	}
	replace := strings.NewReplacer("NAME", name, "DESCRIPTION", o.Description)
	readme, err := Readme(r.stack, []byte(replace.Replace(newReadme)))
	if err != nil {
		return nil, err
	}
	files := []NewFile{
		{File, []byte(contract)},
		{"versions.tf", []byte(newVersions)},
		{"main.tf", []byte(replace.Replace(newMain))},
		{"outputs.tf", []byte(newOutputs)},
		{VariablesFile, VariablesTF(r.stack)},
		{readmeFile, readme},
		{"tests/" + name + ".tftest.hcl", hclwrite.Format([]byte(replace.Replace(newTest)))},
	}
	for i := range files {
		files[i].Path = path.Join(name, files[i].Path)
	}
	return files, nil
}

func newContract(after []string, o NewOptions) string {
	var b strings.Builder
	fmt.Fprintf(&b, "description: %q\n", o.Description)
	fmt.Fprintf(&b, "needs: [%s] # stacks that are applied before this one\n", strings.Join(after, ", "))
	b.WriteString(`inputs: # variables that latamctl derives from latam.yaml
  - project
  - region
  - name
  - labels
# from: # variables that take an output of another stack
#   cluster_endpoint: cluster.endpoint
outputs:
  topic: {type: string, description: Id of the topic}
protected: [] # resource types that go only with --allow-delete
`)
	if o.Keep {
		b.WriteString("keep: true # latamctl down leaves it unless it is named\n")
	}
	return b.String()
}

const newVersions = `terraform {
  required_version = ">= 1.9"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "~> 7.45"
    }
  }
}

provider "google" {
  project        = var.project
  region         = var.region
  default_labels = var.labels
}
`

const newMain = `# Replace this topic by what the stack is for. Names begin with var.name, so that environments and
# declarations do not clash.
resource "google_pubsub_topic" "main" {
  name = "${var.name}-NAME"
}
`

const newOutputs = `output "topic" {
  description = "Id of the topic"
  value       = google_pubsub_topic.main.id
}
`

const newReadme = `# NAME

DESCRIPTION.

**Cost**: say roughly what it costs a month. **Protected**: say what in it must not be lost.
`

const newTest = `mock_provider "google" {}

variables {
  project = "my-project"
  region = "us-central1"
  name = "latam"
  labels = { app = "latam" }
}

run "the_name_begins_with_the_declaration" {
  command = plan

  assert {
    condition = google_pubsub_topic.main.name == "latam-NAME"
    error_message = "The topic must be named after the declaration and the stack."
  }
}
`
