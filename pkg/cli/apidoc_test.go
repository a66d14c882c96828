package cli_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// apiExample is a shell block of a page with the block of its output.
var apiExample = regexp.MustCompile("(?s)```sh\n(.*?)```\n\n```(json|http|text|csv)\n(.*?)```")

// volatile are the parts of an answer that differ from run to run, and what stands for them.
var volatile = []struct {
	pattern *regexp.Regexp
	shown   string
}{
	{regexp.MustCompile(`v1\.[A-Za-z0-9_-]{40,}`), "v1.Zk3…"},
	{regexp.MustCompile(`"trace_id":"[^"]*"`), `"trace_id":"4bf9…"`},
	{regexp.MustCompile(`"as_of":"[^"]*"`), `"as_of":"2026-11-25T12:00:00.000Z"`},
	{regexp.MustCompile(`"request_id":"[^"]*"`), `"request_id":"3KVN…"`},
	{regexp.MustCompile(`"(last_store)":"[^"]*"`), `"$1":"2026-11-25T12:00:00.000Z"`},
	{regexp.MustCompile(`"(lag_seconds|per_second)":[0-9.e+]+`), `"$1":0.5`},
	{regexp.MustCompile(`(?m)^(X-Request-Id): .*$`), "$1: 3KVN…"},
	{regexp.MustCompile(`(?m)^(Date): .*$`), "$1: Wed, 25 Nov 2026 12:00:00 GMT"},
	{regexp.MustCompile(`dur=[0-9.]+`), "dur=0.5"},
	{regexp.MustCompile(`"message_ids":\["[0-9]+"\]`), `"message_ids":["2001"]`},
	{regexp.MustCompile(`lk_[a-z0-9]{8}_[A-Za-z0-9]+`), "lk_3kvn2qxa_…"},
}

// TestPagesOfTheAPI runs the commands of the pages about the API, one after the other on a fresh
// stack with the example's sample, and compares their output with the page; -update writes it anew.
func TestPagesOfTheAPI(t *testing.T) {
	t.Parallel()
	for name, examples := range map[string]int{"api.md": 11, "aggregate.md": 2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			checkExamples(t, filepath.Join("..", "..", "docs", name), examples)
		})
	}
}

func checkExamples(t *testing.T, path string, atLeast int) {
	t.Helper()
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	_, r := startUp(t, dir)
	settled(t, r.Admin, "ok", 2000)
	ran := 0
	got := apiExample.ReplaceAllStringFunc(string(page), func(example string) string {
		m := apiExample.FindStringSubmatch(example)
		ran++
		out := runExample(t, dir, r, m[1])
		return "```sh\n" + m[1] + "```\n\n```" + m[2] + "\n" + shownAs(m[2], out, r) + "```"
	})
	if ran < atLeast {
		t.Errorf("only %d examples were found in %s", ran, path)
	}
	if flag.Lookup("update").Value.String() == "true" {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if d := cmp.Diff(string(page), got); d != "" {
		t.Errorf("%s is out of date, run make docs:\n%s", path, d)
	}
}

func runExample(t *testing.T, dir string, r ready, script string) string {
	t.Helper()
	bin := programFolder(t, dir)
	script = strings.ReplaceAll(script, "http://127.0.0.1:8080", r.API)
	script = strings.ReplaceAll(script, "curl ", "curl --silent --show-error --max-time 20 ")
	cmd := exec.CommandContext(t.Context(), "sh", "-c", script)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), asProgram+"=1", "PATH="+bin+":"+os.Getenv("PATH"), "PUBSUB_EMULATOR_HOST=", "BIGTABLE_EMULATOR_HOST=", "TZ=UTC")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%s\n%v\n%s", script, err, out)
	}
	return string(out)
}

// shownAs makes an output fit for the page: the usual address, nothing that differs from run to
// run, and JSON with one row a line.
func shownAs(kind, out string, r ready) string {
	out = strings.ReplaceAll(strings.ReplaceAll(out, "\r\n", "\n"), r.API, "http://127.0.0.1:8080")
	for _, v := range volatile {
		out = v.pattern.ReplaceAllString(out, v.shown)
	}
	if kind == "json" {
		out = laidOut(out)
	}
	return strings.TrimRight(out, "\n") + "\n"
}

// laidOut writes the members of a JSON object a line each, and so the elements of its lists of objects.
func laidOut(text string) string {
	dec := json.NewDecoder(strings.NewReader(text))
	if tok, err := dec.Token(); err != nil || tok != json.Delim('{') {
		return text
	}
	var b bytes.Buffer
	b.WriteString("{")
	for first := true; dec.More(); first = false {
		name, err := dec.Token()
		var value json.RawMessage
		if err == nil {
			err = dec.Decode(&value)
		}
		if err != nil {
			return text
		}
		if !first {
			b.WriteString(",")
		}
		key, _ := json.Marshal(name)
		b.WriteString("\n  " + string(key) + ": " + elementsOf(value))
	}
	b.WriteString("\n}\n")
	return b.String()
}

func elementsOf(value json.RawMessage) string {
	var elements []json.RawMessage
	if json.Unmarshal(value, &elements) != nil || len(elements) == 0 || elements[0][0] != '{' {
		return string(value)
	}
	lines := make([]string, len(elements))
	for i, e := range elements {
		lines[i] = "    " + string(e)
	}
	return "[\n" + strings.Join(lines, ",\n") + "\n  ]"
}
