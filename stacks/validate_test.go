package stacks_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/latamctl/latamctl/pkg/testkit/tfmirror"
)

var (
	// slots bounds the terraform processes: each takes a core and 350 MB.
	slots = make(chan struct{}, 2)
	// scratch is the folder of the working copies and of the mirror.
	scratch = sync.OnceValues(func() (string, error) { return os.MkdirTemp("", "latam-stacks-") })
	// mirror returns a CLI configuration of Terraform, empty when there is no mirror.
	mirror = sync.OnceValues(buildMirror)
	// copies has one initialised working copy for each stack.
	copies sync.Map
)

type workingCopy struct {
	sync.Once
	dir, problem string
}

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, err := scratch(); err == nil {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

func buildMirror() (string, error) {
	config, err := tfmirror.Build()
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	return config, err
}

// stackNames lists the folders that hold a stack.
func stackNames(t *testing.T) []string {
	t.Helper()
	contracts, err := filepath.Glob("*/contract.yaml")
	if err != nil || len(contracts) == 0 {
		t.Fatalf("no folder here has a contract.yaml (%v)", err)
	}
	names := make([]string, len(contracts))
	for i, c := range contracts {
		names[i] = filepath.Dir(c)
	}
	return names
}

// needTerraform skips where the program is missing, and under the race detector: it is the same program
// there, and what this package does beside it is the same without.
func needTerraform(t *testing.T) {
	t.Helper()
	if raceDetector {
		t.Skip("the race detector sees nothing of terraform; go test ./stacks runs it")
	}
	if _, err := exec.LookPath("terraform"); err != nil {
		t.Skip("terraform is not on PATH")
	}
}

// needPatience skips what takes many programs to find what the plans seldom miss.
func needPatience(t *testing.T) {
	t.Helper()
	if os.Getenv("LATAM_CLOUD") == "" {
		t.Skip("half a minute of real terraform: make stacks runs it")
	}
}

func needMirror(t *testing.T) {
	t.Helper()
	needTerraform(t)
	config, err := mirror()
	if err != nil {
		t.Fatalf("building the mirror of providers: %v", err)
	}
	if config == "" {
		t.Skip("without the stand-ins of the providers, plans need a cloud")
	}
}

type result struct {
	stdout, stderr string
	code           int
}

// terraform runs one command in a folder.
func terraform(t *testing.T, dir string, env []string, args ...string) result {
	t.Helper()
	config, err := mirror()
	if err != nil {
		t.Fatalf("building the mirror of providers: %v", err)
	}
	slots <- struct{}{}
	defer func() { <-slots }()
	cmd := exec.CommandContext(context.Background(), "terraform", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CHECKPOINT_DISABLE=1", "TF_IN_AUTOMATION=1", "TF_CLI_CONFIG_FILE="+config)
	cmd.Env = append(cmd.Env, env...)
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return result{stdout: stdout.String(), stderr: stderr.String(), code: cmd.ProcessState.ExitCode()}
}

func must(t *testing.T, dir string, env []string, args ...string) string {
	t.Helper()
	r := terraform(t, dir, env, args...)
	if r.code != 0 {
		t.Fatalf("terraform %s: exit %d\n%s%s", strings.Join(args, " "), r.code, r.stdout, r.stderr)
	}
	return r.stdout
}

// sharedCopy returns the initialised working copy of a stack. States belong elsewhere.
func sharedCopy(t *testing.T, stack string) string {
	t.Helper()
	v, _ := copies.LoadOrStore(stack, &workingCopy{})
	c := v.(*workingCopy)
	c.Do(func() { c.dir, c.problem = initialise(t, stack) })
	if c.problem != "" {
		fail(t, c.problem)
	}
	return c.dir
}

func initialise(t *testing.T, stack string) (dir, problem string) {
	t.Helper()
	root, err := scratch()
	if err != nil {
		t.Fatal(err)
	}
	dir, err = os.MkdirTemp(root, stack+"-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(dir, os.DirFS(stack)); err != nil {
		t.Fatal(err)
	}
	if r := terraform(t, dir, nil, "init", "-backend=false", "-input=false", "-no-color"); r.code != 0 {
		return "", "terraform init of " + stack + ":\n" + r.stdout + r.stderr
	}
	return dir, ""
}

// fail skips when nothing but the registry could have given the providers.
func fail(t *testing.T, problem string) {
	t.Helper()
	if config, _ := mirror(); config == "" {
		t.Skip("neither the mirror of providers nor the registry gives them: " + problem)
	}
	t.Fatal(problem)
}

func TestStacksAreFormatted(t *testing.T) {
	t.Parallel()
	needTerraform(t)
	if r := terraform(t, ".", nil, "fmt", "-check", "-diff", "-recursive", "-no-color"); r.code != 0 {
		t.Errorf("run terraform fmt -recursive stacks:\n%s%s", r.stdout, r.stderr)
	}
}

// diagnostic is one complaint of terraform about a stack.
type diagnostic struct {
	Severity, Summary, Detail string
	Range                     struct {
		Filename string
		Start    struct{ Line int }
	}
}

func (d diagnostic) String() string {
	return fmt.Sprintf("%s:%d: %s: %s: %s", d.Range.Filename, d.Range.Start.Line, d.Severity, d.Summary, d.Detail)
}

// TestStacksAreValid has every stack checked against the schemas of its providers, without values.
// Warnings count. TestPolicies has the same checked with the values of the flights, by planning.
func TestStacksAreValid(t *testing.T) {
	t.Parallel()
	needTerraform(t)
	if config, _ := mirror(); config != "" {
		needPatience(t)
	}
	for _, stack := range stackNames(t) {
		t.Run(stack, func(t *testing.T) {
			t.Parallel()
			dir := sharedCopy(t, stack)
			var report struct{ Diagnostics []diagnostic }
			out := terraform(t, dir, nil, "validate", "-json").stdout
			if err := json.Unmarshal([]byte(out), &report); err != nil {
				t.Fatalf("%v in %s", err, out)
			}
			for _, d := range report.Diagnostics {
				t.Error(d)
			}
		})
	}
}

// TestStacksKeepTheirPromises runs the tests that stacks bring along.
func TestStacksKeepTheirPromises(t *testing.T) {
	t.Parallel()
	needTerraform(t)
	needPatience(t)
	passed := regexp.MustCompile(`(?m)^Success! [1-9][0-9]* passed, 0 failed`)
	for _, stack := range stackNames(t) {
		if files, _ := filepath.Glob(stack + "/tests/*.tftest.hcl"); len(files) == 0 {
			if files, _ = filepath.Glob(stack + "/*.tftest.hcl"); len(files) == 0 {
				continue
			}
		}
		t.Run(stack, func(t *testing.T) {
			t.Parallel()
			out := must(t, sharedCopy(t, stack), nil, "test", "-no-color")
			if !passed.MatchString(out) {
				t.Errorf("no run passed:\n%s", out)
			}
		})
	}
}

// TestStacksAreWhole checks what a stack's folder must have for people.
func TestStacksAreWhole(t *testing.T) {
	t.Parallel()
	block := regexp.MustCompile(`(?m)^(variable|output|terraform)\b.*\{$`)
	places := map[string]string{"variable": "variables.tf", "output": "outputs.tf", "terraform": "versions.tf"}
	for _, stack := range stackNames(t) {
		t.Run(stack, func(t *testing.T) {
			t.Parallel()
			for _, name := range []string{"versions.tf", "main.tf", "outputs.tf", "variables.tf"} {
				if _, err := os.Stat(filepath.Join(stack, name)); err != nil {
					t.Error(err)
				}
			}
			readme := read(t, filepath.Join(stack, "README.md"))
			byHand, generated, _ := strings.Cut(readme, "<!-- contract -->")
			if !strings.Contains(generated, "<!-- /contract -->") {
				t.Errorf("README.md lacks the marks <!-- contract --> and <!-- /contract --> around its tables")
			}
			if n := strings.Count(byHand, "\n"); n > 40 {
				t.Errorf("README.md has %d lines by hand; 40 are enough", n)
			}
			for _, word := range []string{"**Cost**", "**Protected**"} {
				if !strings.Contains(byHand, word) {
					t.Errorf("README.md does not say %s", word)
				}
			}
			files, _ := filepath.Glob(stack + "/*.tf")
			for _, file := range files {
				for _, m := range block.FindAllStringSubmatch(read(t, file), -1) {
					if place := places[m[1]]; place != "" && place != filepath.Base(file) {
						t.Errorf("%s: %s belongs into %s", file, m[0], place)
					}
				}
			}
		})
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
