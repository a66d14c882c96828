package cellstore

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// runEmulator ends the emulator with its standard input, which the operating
// system closes even when the tests die.
const runEmulator = `"$0" "$@" & cat >/dev/null; kill $! 2>/dev/null; wait $!`

// startEmulator runs the Bigtable emulator of the Cloud SDK until the test ends,
// on a free port of its own choice.
func startEmulator(t *testing.T, program string) *grpc.ClientConn {
	t.Helper()
	out, err := os.Create(filepath.Join(t.TempDir(), "emulator.log"))
	if err != nil {
		t.Fatal(err)
	}
	said := func() string {
		b, _ := os.ReadFile(out.Name())
		return string(b)
	}
	cmd := exec.Command("sh", "-c", runEmulator, program, "-host", "127.0.0.1", "-port", "0")
	cmd.Stdout, cmd.Stderr = out, out
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Wait()
		_ = out.Close()
		if t.Failed() {
			t.Logf("the emulator said:\n%s", said())
		}
	})
	var address []string
	waitFor(t, "the emulator's address", func() bool {
		address = regexp.MustCompile(`running on (127\.0\.0\.1:\d+)\n`).FindStringSubmatch(said())
		return address != nil
	})
	conn, err := grpc.NewClient(address[1], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// emulatorProgram skips the test where the emulator is not installed.
func emulatorProgram(t *testing.T) string {
	t.Helper()
	root, err := exec.CommandContext(t.Context(), "gcloud", "info", "--format=value(installation.sdk_root)").Output()
	if err != nil {
		t.Skipf("the Cloud SDK is not installed: gcloud info: %v", err)
	}
	program := filepath.Join(strings.TrimSpace(string(root)), "platform", "bigtable-emulator", "cbtemulator")
	if _, err := os.Stat(program); err != nil {
		t.Skipf("the Cloud SDK has no Bigtable emulator: %v; install it with: gcloud components install bigtable", err)
	}
	return program
}

// The differential suite runs on the Bigtable emulator of the Cloud SDK too.
// Beyond it are the emulator's known faults, which emulatorFaults lists. These
// differ without a fault on either side:
//
//   - The emulator applies garbage-collection rules from time to time, this
//     store on every read. The tables have none.
//   - Both sample row keys as they like. They are not compared.
//   - The texts of errors. They are not compared.
func TestAgainstCloudSDKEmulator(t *testing.T) {
	t.Parallel()
	program := emulatorProgram(t)
	t.Run("generated", func(t *testing.T) {
		t.Parallel()
		emulator, ours := startEmulator(t, program), serve(t, Options{}).conn
		for _, seed := range differentialSeeds() {
			t.Run(fmt.Sprint(seed), func(t *testing.T) {
				t.Parallel()
				table := fmt.Sprint("diff-", seed)
				differ(t, seed, newSubject(t, "cellstore", table, ours), newSubject(t, "emulator", table, emulator))
			})
		}
	})
	t.Run("faults", func(t *testing.T) {
		t.Parallel()
		ours, emulator := probing(t, serve(t, Options{}).conn), probing(t, startEmulator(t, program))
		for i, f := range emulatorFaults() {
			if got := f.ask(ours.newTable(i)); got != f.want {
				t.Errorf("%s\ncellstore says %q, want %q", f.fault, got, f.want)
			}
			if f.ask(emulator.newTable(i)) == f.want {
				t.Logf("this emulator does not have the fault: %s", f.fault)
			}
		}
	})
}
