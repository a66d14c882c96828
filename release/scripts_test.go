package release

import (
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// script runs one of tools with a folder of stand-ins first on PATH.
func script(t *testing.T, name string, standIns map[string]string, env []string, args ...string) (out string, code int) {
	t.Helper()
	bin := t.TempDir()
	for program, text := range standIns {
		if err := os.WriteFile(filepath.Join(bin, program), []byte("#!/bin/sh\n"+text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	path, err := filepath.Abs(filepath.Join("..", "tools", name))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Env = append(os.Environ(), append(env, "PATH="+bin+":"+os.Getenv("PATH"))...)
	all, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return string(all), cmd.ProcessState.ExitCode()
}

func needs(t *testing.T, programs ...string) {
	t.Helper()
	for _, program := range programs {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is not on PATH", program)
		}
	}
}

// TestScanImage lets an image pass only when the registry has looked at it and found nothing bad.
func TestScanImage(t *testing.T) {
	t.Parallel()
	needs(t, "bash", "jq")
	const image = "us-docker.pkg.dev/p/r/latamctl@sha256:0000000000000000000000000000000000000000000000000000000000000000"
	answer := func(status, found string) string {
		return fmt.Sprintf(`{"discovery_summary": {"discovery": [{"kind": "DISCOVERY", "discovery": {"analysisStatus": %q}}]}%s}`, status, found)
	}
	high := `, "package_vulnerability_summary": {"vulnerabilities": {"HIGH": [{"noteName": "projects/goog-vulnz/notes/CVE-2026-1"}], "LOW": [{"noteName": "x"}, {"noteName": "y"}]}}`
	low := `, "package_vulnerability_summary": {"vulnerabilities": {"LOW": [{"noteName": "x"}]}}`
	for _, c := range []struct {
		name, image, answer string
		env                 []string
		code                int
		want                string
	}{
		{"nothing found", image, answer("FINISHED_SUCCESS", ""), nil, 0, "none of CRITICAL HIGH"},
		{"little found", image, answer("FINISHED_SUCCESS", low), nil, 0, "LOW 1"},
		{"something bad", image, answer("FINISHED_SUCCESS", high), nil, 1, "HIGH projects/goog-vulnz/notes/CVE-2026-1"},
		{"counted", image, answer("FINISHED_SUCCESS", high), nil, 1, "1 vulnerabilities of CRITICAL HIGH"},
		{"bad enough for others", image, answer("FINISHED_SUCCESS", high), []string{"FAIL_ON=CRITICAL"}, 0, "none of CRITICAL"},
		{"not looked at", image, answer("PENDING", ""), []string{"SCAN_TIMEOUT=0"}, 1, "still PENDING"},
		{"no scanning at all", image, `{}`, []string{"SCAN_TIMEOUT=0"}, 1, "containerscanning.googleapis.com"},
		{"scan failed", image, answer("FINISHED_FAILED", ""), nil, 1, "FINISHED_FAILED"},
		{"tag", "us-docker.pkg.dev/p/r/latamctl:v1", answer("FINISHED_SUCCESS", ""), nil, 2, "has no digest"},
		{"registry refuses", image, "' >/dev/null; echo refused >&2; exit 4; echo '", nil, 4, "refused"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			out, code := script(t, "scan-image", map[string]string{"gcloud": "echo '" + c.answer + "'\n"}, append(c.env, "SCAN_PAUSE=0"), c.image)
			if code != c.code || !strings.Contains(out, c.want) {
				t.Errorf("exit %d, want %d with %q:\n%s", code, c.code, c.want, out)
			}
		})
	}
	// The scan takes a while: the third look finds it done.
	looks := filepath.Join(t.TempDir(), "looks")
	later := fmt.Sprintf("echo x >> %s\nif [ $(wc -l < %s) -lt 3 ]; then echo '%s'; else echo '%s'; fi\n", looks, looks, answer("SCANNING", ""), answer("FINISHED_SUCCESS", ""))
	if out, code := script(t, "scan-image", map[string]string{"gcloud": later}, []string{"SCAN_PAUSE=0"}, image); code != 0 {
		t.Errorf("exit %d:\n%s", code, out)
	}
}

// TestSBOM writes the parts of a program, and compares them with what the program itself says. It is the
// tool that makes the list: the build of ours takes too long for a test, and make release checks it.
func TestSBOM(t *testing.T) {
	t.Parallel()
	needs(t, "bash")
	find := exec.CommandContext(t.Context(), "go", "tool", "-modfile=tools/ci.mod", "-n", "cyclonedx-gomod")
	find.Dir = ".."
	found, err := find.Output()
	if err != nil {
		t.Fatal(err)
	}
	exe := strings.TrimSpace(string(found))
	file := filepath.Join(t.TempDir(), "parts.json")
	if out, code := script(t, "sbom", nil, nil, exe, file); code != 0 {
		t.Fatalf("exit %d:\n%s", code, out)
	}
	first := read(t, file)
	var bom struct {
		BOMFormat, SpecVersion string
		Components             []struct{ Name, Version, Purl string }
	}
	if err := json.Unmarshal([]byte(first), &bom); err != nil || bom.BOMFormat != "CycloneDX" {
		t.Fatalf("%v in %.300s", err, first)
	}
	listed := map[string]bool{}
	for _, c := range bom.Components {
		listed[c.Name+"@"+c.Version] = strings.HasPrefix(c.Purl, "pkg:golang/"+c.Name+"@")
	}
	info, err := buildinfo.ReadFile(exe)
	if err != nil || len(info.Deps) == 0 {
		t.Fatalf("%s does not say what it is made of: %v", exe, err)
	}
	for _, dep := range info.Deps {
		if !listed[dep.Path+"@"+dep.Version] {
			t.Errorf("%s@%s is in the binary and not in the list", dep.Path, dep.Version)
		}
	}
	if len(bom.Components) != len(info.Deps)+1 { // The standard library is one.
		t.Errorf("%d parts are listed, the binary has %d modules and the standard library", len(bom.Components), len(info.Deps))
	}
	if out, code := script(t, "sbom", nil, nil, exe, file); code != 0 || read(t, file) != first {
		t.Errorf("the second list of the same binary differs, exit %d:\n%s", code, out)
	}

	// A part that the list lacks is an error.
	real, err := exec.LookPath("go")
	if err != nil {
		t.Fatal(err)
	}
	liar := fmt.Sprintf("%s \"$@\" || exit\nif [ \"$1\" = version ]; then printf '\\tdep\\texample.com/more\\tv1.0.0\\th1:x\\n'; fi\n", real)
	if out, code := script(t, "sbom", map[string]string{"liar": liar}, []string{"GO=liar"}, exe, file); code != 1 || !strings.Contains(out, "lacks example.com/more@v1.0.0") {
		t.Errorf("exit %d, want 1 that names what is missing:\n%s", code, out)
	}
}

// TestReproducible compares what two folders give: here a release whose only file tells where it was made,
// and one that does not.
func TestReproducible(t *testing.T) {
	t.Parallel()
	needs(t, "bash", "git", "make")
	tool := read(t, filepath.Join("..", "tools", "reproducible"))
	for content, want := range map[string]int{"always the same": 0, "$(CURDIR)": 1} {
		repo := t.TempDir()
		program := "dist/latamctl_$(subst /,_,$(PLATFORMS))"
		makefile := "release:\n\t@mkdir -p dist\n\t@printf '\\043!/bin/sh\\necho %s\\n' \"" + content + "\" > " + program +
			"\n\t@chmod +x " + program + "\n\t@cd dist && sha256sum latamctl_* > checksums.txt\n"
		for name, text := range map[string]string{"Makefile": makefile, "tools/reproducible": tool} {
			path := filepath.Join(repo, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		for _, args := range [][]string{{"init", "-q"}, {"add", "."}, {"-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "-qm", "one"}} {
			if out, err := exec.CommandContext(t.Context(), "git", append([]string{"-C", repo}, args...)...).CombinedOutput(); err != nil {
				t.Fatalf("git %v: %v\n%s", args, err, out)
			}
		}
		out, err := exec.CommandContext(t.Context(), filepath.Join(repo, "tools", "reproducible")).CombinedOutput()
		code := 0
		if exit := new(exec.ExitError); errors.As(err, &exit) {
			code = exit.ExitCode()
		}
		if code != want {
			t.Errorf("%s: exit %d, want %d:\n%s", content, code, want, out)
		}
	}
}

// TestSmokeImage believes an image only when its own check says that it works, as a user without rights.
func TestSmokeImage(t *testing.T) {
	t.Parallel()
	needs(t, "bash")
	docker := func(user, health string) map[string]string {
		return map[string]string{"docker": fmt.Sprintf(`case "$*" in
"image inspect"*) echo %s ;;
"inspect"*) echo %s ;;
"run --detach --read-only --cap-drop ALL --security-opt no-new-privileges --network none "*) echo id1 ;;
"run --rm --read-only --cap-drop ALL --security-opt no-new-privileges --network none "*) echo latamctl v1 ;;
"logs id1") echo "it said why" ;;
"rm --force id1") echo removed >&2 ;;
*) echo "unexpected: $*" >&2; exit 99 ;;
esac
`, user, health)}
	}
	for _, c := range []struct {
		user, health string
		code         int
		want         []string
	}{
		{"65532:65532", "healthy", 0, []string{"healthy", "removed"}},
		{"65532:65532", "starting", 1, []string{"is starting after 0 s", "it said why", "removed"}},
		{"root", "healthy", 1, []string{"runs as root"}},
	} {
		out, code := script(t, "smoke-image", docker(c.user, c.health), []string{"SMOKE_TIMEOUT=0"}, "latamctl:dev")
		for _, want := range c.want {
			if code != c.code || !strings.Contains(out, want) {
				t.Errorf("%s, %s: exit %d, want %d with %q:\n%s", c.user, c.health, code, c.code, want, out)
			}
		}
	}
}

// TestPush gives docker the programs that were built, the commit's time and labels, and keeps the digest.
func TestPush(t *testing.T) {
	t.Parallel()
	needs(t, "make", "git")
	digest := "sha256:" + strings.Repeat("ab", 32)
	repo, bin := t.TempDir(), t.TempDir()
	docker := `echo "$SOURCE_DATE_EPOCH $*"
while [ $# -gt 0 ]; do [ "$1" = --metadata-file ] && file=$2; shift; done
printf '{\n  "containerimage.descriptor": {"digest": "sha256:other"},\n  "containerimage.digest": "%s"\n}\n' "$DIGEST" > "$file"
`
	for path, text := range map[string]string{
		filepath.Join(repo, "Makefile"): read(t, filepath.Join("..", "Makefile")), filepath.Join(repo, "dist", "version"): "v1.2.3\n", filepath.Join(bin, "docker"): "#!/bin/sh\n" + docker,
	} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	commit := []string{"GIT_AUTHOR_DATE=1700000000 +0300", "GIT_COMMITTER_DATE=1700000000 +0300"}
	for _, args := range [][]string{{"init", "-q"}, {"add", "Makefile"}, {"-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "-qm", "one"}} {
		cmd := exec.CommandContext(t.Context(), "git", append([]string{"-C", repo}, args...)...)
		cmd.Env = append(os.Environ(), commit...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	push := func(digest string) (string, error) {
		cmd := exec.CommandContext(t.Context(), "make", "-C", repo, "push", "IMAGE=registry.example.com/latamctl:one", "IMAGE_PLATFORMS=linux/amd64,linux/arm64")
		cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "DIGEST="+digest)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	out, err := push(digest)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{
		"1700000000 buildx build --platform linux/amd64,linux/arm64", "--build-arg VERSION=v1.2.3 ", "--build-arg CREATED=2023-11-14T22:13:20Z",
		"name=registry.example.com/latamctl:one,push=true,rewrite-timestamp=true",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("docker was not given %q:\n%s", want, out)
		}
	}
	if got := strings.TrimSpace(read(t, filepath.Join(repo, "dist", "image.digest"))); got != digest {
		t.Errorf("the digest is %q, want %s", got, digest)
	}
	if out, err := push(""); err == nil {
		t.Errorf("a push without a digest went on:\n%s", out)
	}
}
