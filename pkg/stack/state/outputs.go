package state

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode"
)

// OutputFormat is how outputs are written.
type OutputFormat string

// The formats.
const (
	OutputTable  OutputFormat = "table"  // for people
	OutputJSON   OutputFormat = "json"   // one document with types
	OutputEnv    OutputFormat = "env"    // export NAME='value', for eval in a shell
	OutputDotenv OutputFormat = "dotenv" // NAME='value', for files that a shell or a dotenv library reads
	OutputGithub OutputFormat = "github" // name=value, to append to $GITHUB_OUTPUT or $GITHUB_ENV
	OutputRaw    OutputFormat = "raw"    // the value of one output alone
)

// OutputFormats are all formats.
func OutputFormats() []OutputFormat {
	return []OutputFormat{OutputTable, OutputJSON, OutputEnv, OutputDotenv, OutputGithub, OutputRaw}
}

// StackOutputs are the outputs of one stack.
type StackOutputs struct {
	Stack   string
	Outputs []Output
}

// ErrMasked says that a value is sensitive and was not to be revealed.
var ErrMasked = errors.New("the value is sensitive")

// Mask stands for a sensitive value.
const Mask = "(sensitive)"

// FormatOutputs writes outputs. Sensitive values are masked unless reveal is set; the formats that
// programs read leave them out instead, and the names that were left out are returned. Names of variables are
// made from the output's name, with the stack's before it when there are several stacks.
func FormatOutputs(w io.Writer, format OutputFormat, stacks []StackOutputs, reveal bool) (masked []string, err error) {
	var text bytes.Buffer // A value that cannot be written leaves nothing half-written behind.
	switch format {
	case OutputTable:
		masked, err = tableOutputs(&text, stacks, reveal)
	case OutputJSON:
		masked, err = jsonOutputs(&text, stacks, reveal)
	case OutputEnv, OutputDotenv, OutputGithub:
		masked, err = variableOutputs(&text, format, stacks, reveal)
	case OutputRaw:
		err = rawOutput(&text, stacks, reveal)
	default:
		return nil, fmt.Errorf("format %q is none of %v", format, OutputFormats())
	}
	if err != nil {
		return nil, err
	}
	if _, err := text.WriteTo(w); err != nil {
		return nil, fmt.Errorf("write outputs: %w", err)
	}
	return masked, nil
}

// valueText is a value as programs take it: the text of a string, and the JSON of everything else.
func valueText(o Output) (string, error) {
	var text string
	if len(o.Value) > 0 && o.Value[0] == '"' {
		if err := json.Unmarshal(o.Value, &text); err != nil {
			return "", fmt.Errorf("read output %s: %w", o.Name, err)
		}
		return text, nil
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, o.Value); err != nil {
		return "", fmt.Errorf("read output %s: its value is not JSON", o.Name)
	}
	return compact.String(), nil
}

func tableOutputs(w io.Writer, stacks []StackOutputs, reveal bool) (masked []string, err error) {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "STACK\tOUTPUT\tVALUE")
	for _, s := range stacks {
		for _, o := range s.Outputs {
			value := Mask
			if o.Sensitive && !reveal {
				masked = append(masked, s.Stack+"."+o.Name)
			} else if value, err = valueText(o); err != nil {
				return nil, err
			}
			fmt.Fprintf(table, "%s\t%s\t%s\n", s.Stack, oneLine(o.Name), oneLine(value))
		}
	}
	return masked, table.Flush()
}

// oneLine quotes a text that a terminal would not show as it is.
func oneLine(text string) string {
	if strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(text)
	}
	return text
}

func jsonOutputs(w io.Writer, stacks []StackOutputs, reveal bool) (masked []string, err error) {
	type value struct {
		Type      json.RawMessage `json:"type,omitempty"`
		Value     json.RawMessage `json:"value"`
		Sensitive bool            `json:"sensitive"`
	}
	document := map[string]map[string]value{}
	for _, s := range stacks {
		document[s.Stack] = map[string]value{}
		for _, o := range s.Outputs {
			v := value{o.Type, o.Value, o.Sensitive}
			if o.Sensitive && !reveal {
				masked = append(masked, s.Stack+"."+o.Name)
				v.Value = json.RawMessage("null")
			}
			document[s.Stack][o.Name] = v
		}
	}
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(map[string]any{"schema": "latamctl.output/v1", "stacks": document}); err != nil {
		return nil, fmt.Errorf("write outputs: %w", err)
	}
	return masked, nil
}

func rawOutput(w io.Writer, stacks []StackOutputs, reveal bool) error {
	if len(stacks) != 1 || len(stacks[0].Outputs) != 1 {
		return errors.New("write an output raw: it is the format of one output; name the stack and the output")
	}
	o := stacks[0].Outputs[0]
	if o.Sensitive && !reveal {
		return fmt.Errorf("write output %s of stack %s: %w: --reveal shows it", o.Name, stacks[0].Stack, ErrMasked)
	}
	value, err := valueText(o)
	if err == nil {
		_, err = io.WriteString(w, value)
	}
	return err
}

// notInNames are the characters that no variable's name may have.
var notInNames = regexp.MustCompile(`[^A-Za-z0-9_]`)

// variableName makes the name of a variable from an output's. GitHub's outputs keep their case, because
// workflows refer to them as steps.x.outputs.name.
func variableName(format OutputFormat, prefix, name string) string {
	name = notInNames.ReplaceAllString(prefix+name, "_")
	if name == "" || name[0] >= '0' && name[0] <= '9' {
		name = "_" + name
	}
	if format == OutputGithub {
		return name
	}
	return strings.ToUpper(name)
}

func variableOutputs(w io.Writer, format OutputFormat, stacks []StackOutputs, reveal bool) (masked []string, err error) {
	from := map[string]string{}
	for _, s := range stacks {
		prefix := ""
		if len(stacks) > 1 {
			prefix = s.Stack + "_"
		}
		for _, o := range s.Outputs {
			full := s.Stack + "." + o.Name
			name := variableName(format, prefix, o.Name)
			if other, taken := from[name]; taken {
				return nil, fmt.Errorf("write outputs: %s and %s would both be the variable %s; ask for one of them", other, full, name)
			}
			from[name] = full
			if o.Sensitive && !reveal {
				masked = append(masked, full)
				continue
			}
			value, err := valueText(o)
			if err != nil {
				return nil, err
			}
			if strings.ContainsRune(value, 0) {
				return nil, fmt.Errorf("write output %s: its value has a zero byte, which no variable can have; use -o json", full)
			}
			fmt.Fprintln(w, assignment(format, name, value))
		}
	}
	return masked, nil
}

// assignment is one line, or for a value with line ends several, that sets a variable.
func assignment(format OutputFormat, name, value string) string {
	switch {
	case format == OutputEnv:
		return "export " + name + "='" + strings.ReplaceAll(value, "'", `'\''`) + "'"
	case format == OutputDotenv && !strings.Contains(value, "'"):
		return name + "='" + value + "'"
	case format == OutputDotenv: // Libraries know no quote within single quotes; these escapes are a shell's as well.
		return name + `="` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "$", `\$`, "`", "\\`").Replace(value) + `"`
	case !strings.ContainsAny(value, "\r\n"):
		return name + "=" + value
	default: // The delimiter cannot be guessed by who made the value, so that it cannot set other variables.
		end := "latamctl_" + rand.Text()
		return name + "<<" + end + "\n" + value + "\n" + end
	}
}
