package state_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/latamctl/latamctl/pkg/stack/state"
)

func output(name string, value any, sensitive bool) state.Output {
	data, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	return state.Output{Name: name, Type: json.RawMessage(`"string"`), Value: data, Sensitive: sensitive}
}

func network() state.StackOutputs {
	return state.StackOutputs{Stack: "network", Outputs: []state.Output{
		output("key", "canary-secret", true), output("network-id", "it's $HOME", false), output("ranges", []int{1, 2}, false), output("text", "one\ntwo", false),
	}}
}

func TestFormatOutputs(t *testing.T) {
	t.Parallel()
	other := state.StackOutputs{Stack: "my-cluster", Outputs: []state.Output{output("ca", "x", false)}}
	for _, tt := range []struct {
		format state.OutputFormat
		stacks []state.StackOutputs
		reveal bool
		want   string
	}{
		{state.OutputTable, []state.StackOutputs{network()}, false, "STACK    OUTPUT      VALUE\nnetwork  key         (sensitive)\nnetwork  network-id  it's $HOME\nnetwork  ranges      [1,2]\nnetwork  text        \"one\\ntwo\"\n"},
		{state.OutputEnv, []state.StackOutputs{network()}, false, "export NETWORK_ID='it'\\''s $HOME'\nexport RANGES='[1,2]'\nexport TEXT='one\ntwo'\n"},
		{state.OutputEnv, []state.StackOutputs{network()}, true, "export KEY='canary-secret'\nexport NETWORK_ID='it'\\''s $HOME'\nexport RANGES='[1,2]'\nexport TEXT='one\ntwo'\n"},
		{state.OutputDotenv, []state.StackOutputs{network()}, false, "NETWORK_ID=\"it's \\$HOME\"\nRANGES='[1,2]'\nTEXT='one\ntwo'\n"},
		{state.OutputEnv, []state.StackOutputs{other, {Stack: "network"}}, false, "export MY_CLUSTER_CA='x'\n"},
		{state.OutputGithub, []state.StackOutputs{other, {Stack: "network"}}, false, "my_cluster_ca=x\n"},
		{state.OutputJSON, []state.StackOutputs{{Stack: "s", Outputs: []state.Output{output("a", "<x>", false), output("b", "canary-secret", true)}}}, false,
			`{"schema":"latamctl.output/v1","stacks":{"s":{"a":{"type":"string","value":"\u003cx\u003e","sensitive":false},"b":{"type":"string","value":null,"sensitive":true}}}}` + "\n"},
		{state.OutputRaw, []state.StackOutputs{{Stack: "s", Outputs: []state.Output{output("a", "two\nlines", false)}}}, false, "two\nlines"},
		{state.OutputRaw, []state.StackOutputs{{Stack: "s", Outputs: []state.Output{output("a", "canary-secret", true)}}}, true, "canary-secret"},
		{state.OutputRaw, []state.StackOutputs{{Stack: "s", Outputs: []state.Output{output("a", map[string]int{"x": 1}, false)}}}, false, `{"x":1}`},
	} {
		var got strings.Builder
		masked, err := state.FormatOutputs(&got, tt.format, tt.stacks, tt.reveal)
		if err != nil || got.String() != tt.want {
			t.Errorf("%s: %v\n%s\nwant\n%s", tt.format, err, got.String(), tt.want)
		}
		if secret := strings.Contains(got.String(), "canary-secret"); secret != (tt.reveal) {
			t.Errorf("%s: the secret is shown: %v, revealed: %v", tt.format, secret, tt.reveal)
		}
		if hidden := slices.Contains(masked, "network.key"); hidden != (tt.stacks[0].Stack == "network" && !tt.reveal) {
			t.Errorf("%s: masked %q", tt.format, masked)
		}
	}
}

func TestFormatOutputsRefuses(t *testing.T) {
	t.Parallel()
	for says, tt := range map[string]struct {
		format state.OutputFormat
		stack  state.StackOutputs
	}{
		"the value is sensitive: --reveal":        {state.OutputRaw, state.StackOutputs{Stack: "s", Outputs: []state.Output{output("a", "x", true)}}},
		"name the stack and the output":           {state.OutputRaw, network()},
		"would both be the variable A_B":          {state.OutputEnv, state.StackOutputs{Stack: "s", Outputs: []state.Output{output("a-b", 1, false), output("a_b", 1, false)}}},
		"zero byte":                               {state.OutputDotenv, state.StackOutputs{Stack: "s", Outputs: []state.Output{output("good", "x", false), output("a", "x\x00y", false)}}},
		`format "xml" is none of [table json env`: {"xml", network()},
	} {
		var got strings.Builder
		if _, err := state.FormatOutputs(&got, tt.format, []state.StackOutputs{tt.stack}, false); err == nil || !strings.Contains(err.Error(), says) || got.Len() != 0 {
			t.Errorf("%s: %v, wrote %q", says, err, got.String())
		}
	}
	if _, err := state.FormatOutputs(&strings.Builder{}, state.OutputRaw, []state.StackOutputs{{Stack: "s", Outputs: []state.Output{output("a", "x", true)}}}, false); !errors.Is(err, state.ErrMasked) {
		t.Errorf("a masked value: %v", err)
	}
}

// hostile are values that have broken quoting somewhere.
func hostile() []string {
	return []string{"", "'", `"`, "`id`", "$(id)", "$HOME", `\`, `\'`, "a\nb", "\n", "a\r\nb", "x'\n$(id)\n'", "'; exit 7; '", "é€😀", "\t ", "#", "=", "!!", "%s", "latamctl_\nPATH=/evil", "\x1b[31m", "'`$\\\"\n"}
}

// checkShell evaluates both formats in a real shell, which must see the value and nothing else.
func checkShell(t *testing.T, value string) {
	t.Helper()
	stacks := []state.StackOutputs{{Stack: "s", Outputs: []state.Output{output("v", value, false)}}}
	for _, format := range []state.OutputFormat{state.OutputEnv, state.OutputDotenv} {
		var text strings.Builder
		if _, err := state.FormatOutputs(&text, format, stacks, false); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), "sh", "-c", `eval "$1"; printf %s "$V"`, "sh", text.String())
		cmd.Env = []string{"PATH=/nonexistent"}
		out, err := cmd.CombinedOutput()
		if err != nil || string(out) != value {
			t.Errorf("%s of %q became %q, %v:\n%s", format, value, out, err, text.String())
		}
	}
}

// checkGithub reads the format as GitHub's runner does.
func checkGithub(t *testing.T, value string) {
	t.Helper()
	var text strings.Builder
	stacks := []state.StackOutputs{{Stack: "s", Outputs: []state.Output{output("v", value, false)}}}
	if _, err := state.FormatOutputs(&text, state.OutputGithub, stacks, false); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	lines := bufio.NewScanner(strings.NewReader(text.String()))
	lines.Split(splitLF)
	for lines.Scan() {
		line := lines.Text()
		heredoc, equal := strings.Index(line, "<<"), strings.Index(line, "=")
		if heredoc < 0 || equal >= 0 && equal < heredoc {
			got[line[:equal]] = line[equal+1:]
			continue
		}
		var content []string
		for lines.Scan() && lines.Text() != line[heredoc+2:] {
			content = append(content, lines.Text())
		}
		got[line[:heredoc]] = strings.Join(content, "\n")
	}
	if len(got) != 1 || got["v"] != value {
		t.Errorf("%q became %q:\n%s", value, got, text.String())
	}
}

func splitLF(data []byte, end bool) (int, []byte, error) {
	if i := strings.IndexByte(string(data), '\n'); i >= 0 {
		return i + 1, data[:i], nil
	}
	if end && len(data) > 0 {
		return len(data), data, nil
	}
	return 0, nil, nil
}

func TestQuoting(t *testing.T) {
	t.Parallel()
	for _, value := range hostile() {
		checkShell(t, value)
		checkGithub(t, value)
	}
}

func FuzzQuoting(f *testing.F) {
	for _, value := range hostile() {
		f.Add(value)
	}
	f.Fuzz(func(t *testing.T, value string) {
		value = strings.ToValidUTF8(strings.ReplaceAll(value, "\x00", ""), "?")
		if len(value) > 4096 {
			return
		}
		checkShell(t, value)
		checkGithub(t, value)
	})
}
