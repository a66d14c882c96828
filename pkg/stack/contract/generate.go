package contract

import (
	"errors"
	"fmt"
	"strings"

	"github.com/hashicorp/hcl/v2/hclwrite"
)

// VariablesFile is the file that VariablesTF writes.
const VariablesFile = "variables.tf"

const generatedHeader = "# Generated from contract.yaml by `latamctl stacks check --write`; change that file.\n"

// VariablesTF returns the variables.tf of a stack: one block for each input, in the format of
// `terraform fmt`. None has a default, since latamctl gives every value.
func VariablesTF(s *Stack) []byte {
	var b strings.Builder
	b.WriteString(generatedHeader)
	for _, in := range s.Inputs {
		fmt.Fprintf(&b, "\nvariable %q {\ndescription = %s\ntype = %s\n", in.Name, quoteHCL(in.Description), in.Type)
		if in.Sensitive {
			b.WriteString("sensitive = true\n")
		}
		b.WriteString("nullable = false\n}\n")
	}
	return hclwrite.Format([]byte(b.String()))
}

// quoteHCL writes a text as HCL does, in which no template is evaluated.
func quoteHCL(s string) string {
	quoted := string(hclwrite.TokensForValue(stringValue(s)).Bytes())
	return strings.TrimSpace(quoted)
}

// The marks in a README between which the tables of the contract stand.
const (
	readmeBegin = "<!-- contract -->"
	readmeEnd   = "<!-- /contract -->"
)

// ReadmeTables returns what a stack's README says of its contract: order, inputs and outputs, in markdown.
func ReadmeTables(s *Stack) string {
	var b strings.Builder
	needs := "nothing"
	if len(s.Needs) > 0 {
		needs = strings.Join(s.Needs, ", ")
	}
	fmt.Fprintf(&b, "Needs: %s.", needs)
	if len(s.Requires) > 0 {
		fmt.Fprintf(&b, " On when set: %s.", code(s.Requires))
	}
	if len(s.Protected) > 0 {
		fmt.Fprintf(&b, " Protected: %s.", code(s.Protected))
	}
	if s.Keep {
		b.WriteString(" `latamctl down` keeps it unless it is named.")
	}
	b.WriteString("\n")
	if len(s.Inputs) > 0 {
		b.WriteString("\n| input | type | from | what |\n|---|---|---|---|\n")
		for _, in := range s.Inputs {
			from := "latam.yaml"
			if in.From != "" {
				from = "`" + in.From + "`"
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", in.Name, shortType(in.Type), from, cell(in.Description, in.Sensitive))
		}
	}
	if len(s.Provides) > 0 {
		b.WriteString("\n| output | type | what |\n|---|---|---|\n")
		for _, out := range s.Provides {
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", out.Name, shortType(out.Type), cell(out.Description, out.Sensitive))
		}
	}
	return b.String()
}

func code(words []string) string { return "`" + strings.Join(words, "`, `") + "`" }

func cell(description string, sensitive bool) string {
	text := strings.ReplaceAll(description, "|", `\|`)
	if sensitive {
		text += " (sensitive)"
	}
	return text
}

// shortType leaves out what an object has, which variables.tf shows.
func shortType(t string) string {
	if i := strings.Index(t, "object({"); i >= 0 {
		end := strings.Repeat(")", strings.Count(t[:i], "("))
		return "`" + t[:i] + "object({…})" + end + "`"
	}
	return "`" + t + "`"
}

// Readme returns a README with the tables of the contract between its marks, <!-- contract --> and
// <!-- /contract -->. A README without marks gets them at its end.
func Readme(s *Stack, current []byte) ([]byte, error) {
	before, rest, found := strings.Cut(string(current), readmeBegin)
	after := ""
	if found {
		var closed bool
		if _, after, closed = strings.Cut(rest, readmeEnd); !closed {
			return nil, fmt.Errorf("write the tables of stack %s: %w", s.Name, errNoEnd)
		}
	} else {
		before = strings.TrimRight(before, "\n")
		if before != "" {
			before += "\n\n"
		}
		after = "\n"
	}
	return []byte(before + readmeBegin + "\n" + ReadmeTables(s) + readmeEnd + after), nil
}

var errNoEnd = errors.New("README.md has the mark " + readmeBegin + " and after it no " + readmeEnd + "; add it where the tables end")
