package cli_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/latamctl/latamctl/pkg/cli"
	"github.com/latamctl/latamctl/pkg/proc"
	"github.com/latamctl/latamctl/pkg/stack/terraform"
)

// asProgram makes the test binary be latamctl itself, so that tests can start, signal and kill the
// real program.
const asProgram = "LATAMCTL_TEST_AS_PROGRAM"

// asFake makes it latamctl with a scripted driver of stacks.
const asFake = "LATAMCTL_TEST_FAKE_DRIVER"

func TestMain(m *testing.M) {
	terraform.Become(proc.OS()) // The driver starts this program as terraform, without the variables below.
	if os.Getenv(asProgram) != "" {
		os.Exit(cli.Main(proc.OS()))
	}
	if os.Getenv(asFake) != "" {
		os.Exit(cli.MainWithFakeDriver(proc.OS()))
	}
	testscript.Main(tests{m}, map[string]func(){
		"latamctl": func() { os.Exit(cli.Main(proc.OS())) },
	})
}

// tests are those of the package.
type tests struct{ *testing.M }

// Run runs more tests at once than there are processors, unless -parallel says how many: most of the time
// they wait for programs that they have started.
func (m tests) Run() int {
	flag.Parse()
	asked := false
	flag.Visit(func(f *flag.Flag) { asked = asked || f.Name == "test.parallel" })
	if !asked {
		_ = flag.Set("test.parallel", strconv.Itoa(2*runtime.GOMAXPROCS(0)))
	}
	leaveAtOnce()
	return m.M.Run()
}

// leaveAtOnce is for the programs that are started under the race detector, which by default sleeps for a
// second before it lets a program end. The tests end a thousand of them.
func leaveAtOnce() {
	if os.Getenv(raceOptions) == "" {
		_ = os.Setenv(raceOptions, "atexit_sleep_ms=10")
	}
}

const raceOptions = "GORACE"

// TestScripts runs each testdata/*.txtar: a user's session as plain text.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			// No session may find an emulator of the machine that runs the tests.
			env.Setenv("PUBSUB_EMULATOR_HOST", "")
			env.Setenv("BIGTABLE_EMULATOR_HOST", "")
			env.Setenv(raceOptions, os.Getenv(raceOptions))
			env.Values[standInKey{}] = &standIn{}
			return nil
		},
		Condition: func(name string) (bool, error) {
			if name != "race" {
				return false, fmt.Errorf("unknown condition %q: there is race, of the race detector", name)
			}
			return raceDetector, nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"await":        await,
			"await-output": awaitOutput,
			"datadog":      datadogCommand(t),
		},
		RequireExplicitExec: true,
	})
}

// awaitOutput repeats a command until its output matches: await-output REGEXP COMMAND [ARG]...
func awaitOutput(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: await-output REGEXP COMMAND [ARG]...")
	}
	pattern := regexp.MustCompile("(?m)" + args[0])
	for deadline := time.Now().Add(waitLimit); ; {
		asked := time.Now()
		_ = ts.Exec(args[1], args[2:]...) // Until it is ready it may fail.
		out := ts.ReadFile("stdout")
		if pattern.MatchString(out) {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("no output like %s within %s, the last was:\n%s", args[0], waitLimit, out)
		}
		askAgain(time.Since(asked))
	}
}

// await waits until a file exists: await FILE.
func await(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: await FILE")
	}
	path := ts.MkAbs(args[0])
	for deadline := time.Now().Add(waitLimit); ; {
		if _, err := os.Stat(path); err == nil {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%s did not appear within %s", filepath.Base(path), waitLimit)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
