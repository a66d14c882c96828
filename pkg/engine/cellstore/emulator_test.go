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
const runEmulator = `"$0" "$@" & cat >/dev/null; kill $!; wait $!`

// startEmulator runs the Bigtable emulator of the Cloud SDK until the test ends,
// on a free port of its own choice. It skips the test where the emulator is not
// installed.
func startEmulator(t *testing.T) *grpc.ClientConn {
	t.Helper()
	program := emulatorProgram(t)
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

func TestAgainstCloudSDKEmulator(t *testing.T) {
	t.Parallel()
	emulator, ours := startEmulator(t), serve(t, Options{}).conn
	for _, seed := range differentialSeeds() {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			table := fmt.Sprint("diff-", seed)
			differ(t, seed, newSubject(t, "cellstore", table, ours), newSubject(t, "emulator", table, emulator))
		})
	}
}
