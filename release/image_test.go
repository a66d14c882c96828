package release

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// instruction is one of a Dockerfile, with its continued lines.
type instruction struct{ name, args string }

func parseDockerfile(src string) (all []instruction) {
	src = regexp.MustCompile(`(?m)^\s*#.*\n`).ReplaceAllString(src, "")
	src = regexp.MustCompile(`\\\n\s*`).ReplaceAllString(src, "")
	for line := range strings.Lines(src) {
		if name, args, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			all = append(all, instruction{strings.ToUpper(name), strings.TrimSpace(args)})
		}
	}
	return all
}

// only returns the arguments of the one instruction of a name, empty when there are none or several.
func only(all []instruction, name string) string {
	found := ""
	for _, i := range all {
		if i.name == name && found != "" {
			return ""
		}
		if i.name == name {
			found = i.args
		}
	}
	return found
}

var (
	base    = regexp.MustCompile(`^gcr\.io/distroless/static-debian\d+:nonroot@sha256:[0-9a-f]{64}$`)
	copied  = regexp.MustCompile(`^--chown=0:0 --chmod=0(555|444) (.*) (/\S+)$`)
	runUser = regexp.MustCompile(`runAsUser: (\d+)\n\s*runAsGroup: (\d+)`)
	label   = regexp.MustCompile(`org\.opencontainers\.image\.([a-z.]+)="([^"]+)"`)
)

// checkImage says what is wrong with the definition of the image. user is whom the cluster runs it as.
func checkImage(src, user string) (problems []string) {
	bad := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	all := parseDockerfile(src)
	if strings.Contains(src, "# syntax=") {
		bad("a syntax line fetches a builder that nothing pins")
	}
	if from := only(all, "FROM"); !base.MatchString(from) {
		bad("it is not made of one distroless base for a user without rights, by digest: %q", from)
	}
	for _, i := range all {
		switch i.name {
		case "FROM", "ARG", "LABEL", "USER", "WORKDIR", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT":
		case "COPY":
			if !copied.MatchString(i.args) {
				bad("COPY %s: what it copies is not owned by root and read-only", i.args)
			}
		default:
			bad("%s has no place here: the base has no shell, and nothing is fetched", i.name)
		}
		if i.name == "ARG" && regexp.MustCompile(`(?i)secret|token|password|key`).MatchString(i.args) {
			bad("ARG %s stays in the history of the image", i.args)
		}
	}
	if got := only(all, "USER"); got != user {
		bad("USER is %q, the manifests say %s", got, user)
	}
	for _, name := range []string{"ENTRYPOINT", "HEALTHCHECK"} {
		_, command, _ := strings.Cut("CMD "+only(all, name), "CMD ")
		if name == "HEALTHCHECK" {
			_, command, _ = strings.Cut(only(all, name), "CMD ")
		}
		var argv []string
		if err := json.Unmarshal([]byte(command), &argv); err != nil || len(argv) == 0 || argv[0] != "/usr/bin/latamctl" {
			bad("%s %q is not a list that begins with the program: there is no shell", name, command)
		}
	}
	labels := map[string]string{}
	for _, m := range label.FindAllStringSubmatch(only(all, "LABEL"), -1) {
		labels[m[1]] = m[2]
	}
	for _, name := range []string{"title", "description", "licenses", "source", "documentation", "version", "revision", "created", "base.name"} {
		if labels[name] == "" {
			bad("the label %s is missing", name)
		}
	}
	if from, _, _ := strings.Cut(only(all, "FROM"), "@"); labels["base.name"] != from {
		bad("the label base.name is %q, the base is %q", labels["base.name"], from)
	}
	return problems
}

// podUser is whom the manifests run the image as.
func podUser(t *testing.T) string {
	t.Helper()
	m := runUser.FindStringSubmatch(read(t, filepath.Join("..", "stacks", "apps", "kubernetes", "base", "serve", "serve.yaml")))
	if m == nil {
		t.Fatal("serve.yaml does not say whom it runs as")
	}
	return m[1] + ":" + m[2]
}

// TestImage asserts what the image is without an engine that could build it; make smoke runs it.
func TestImage(t *testing.T) {
	t.Parallel()
	src, user := read(t, filepath.Join("..", "Dockerfile")), podUser(t)
	for _, problem := range checkImage(src, user) {
		t.Error(problem)
	}
	for _, c := range []struct{ old, new, want string }{
		{"FROM gcr.io/distroless/static-debian13:nonroot@sha256:1c", "FROM gcr.io/distroless/static-debian13:nonroot #", "by digest"},
		{"static-debian13:nonroot@", "static-debian13:debug@", "by digest"},
		{"FROM ", "FROM golang:1.26 AS build\nFROM ", "by digest"},
		{"USER 65532:65532", "USER root", "USER is"},
		{"USER 65532:65532", "USER nonroot", "USER is"},
		{"USER 65532:65532\n", "", "USER is"},
		{"USER 65532:65532", "USER 65532:65532\nUSER 0:0", "USER is"},
		{"WORKDIR", "RUN id\nWORKDIR", "RUN has no place"},
		{"WORKDIR", "ADD https://example.com/x /x\nWORKDIR", "ADD has no place"},
		{"WORKDIR", "ENV A=b\nWORKDIR", "ENV has no place"},
		{"--chown=0:0 --chmod=0555 ", "", "read-only"},
		{"--chmod=0555", "--chmod=0755", "read-only"},
		{"ARG REVISION", "ARG DD_API_KEY\nARG REVISION", "history"},
		{`ENTRYPOINT ["/usr/bin/latamctl"]`, "ENTRYPOINT /usr/bin/latamctl", "no shell"},
		{`CMD ["/usr/bin/latamctl", "health"]`, "CMD curl -f localhost", "no shell"},
		{"HEALTHCHECK --interval=10s --timeout=6s --start-period=30s --retries=3 CMD", "EXPOSE", "HEALTHCHECK"},
		{"org.opencontainers.image.revision", "revision", "label revision"},
		{`base.name="gcr.io/distroless/static-debian13:nonroot"`, `base.name="alpine"`, "base.name is"},
		{"# The image", "# syntax=docker/dockerfile:1\n# The image", "syntax line"},
	} {
		if !strings.Contains(src, c.old) {
			t.Errorf("the Dockerfile has no %q", c.old)
			continue
		}
		problems := checkImage(strings.Replace(src, c.old, c.new, 1), user)
		if !slices.ContainsFunc(problems, func(p string) bool { return strings.Contains(p, c.want) }) {
			t.Errorf("%q for %q: %q, nothing with %q", c.new, c.old, problems, c.want)
		}
	}
}

// TestBuildContext lets exactly what the image copies out of the folder: no source, no state, no key.
func TestBuildContext(t *testing.T) {
	t.Parallel()
	var allowed []string
	ignored := strings.Fields(regexp.MustCompile(`(?m)^#.*$`).ReplaceAllString(read(t, filepath.Join("..", ".dockerignore")), ""))
	if len(ignored) == 0 || ignored[0] != "*" {
		t.Fatalf(".dockerignore does not begin with *: %q", ignored)
	}
	for _, line := range ignored[1:] {
		path, ok := strings.CutPrefix(line, "!")
		if !ok {
			t.Errorf(".dockerignore: %s is ignored already", line)
		}
		allowed = append(allowed, path)
	}
	var needed []string
	for _, i := range parseDockerfile(read(t, filepath.Join("..", "Dockerfile"))) {
		if m := copied.FindStringSubmatch(i.args); i.name == "COPY" && m != nil {
			for _, source := range strings.Fields(m[2]) {
				if !strings.Contains(source, "${TARGETARCH}") {
					needed = append(needed, source)
					continue
				}
				for _, arch := range []string{"amd64", "arm64"} {
					needed = append(needed, strings.NewReplacer("${TARGETOS}", "linux", "${TARGETARCH}", arch).Replace(source))
				}
			}
		}
	}
	slices.Sort(allowed)
	slices.Sort(needed)
	if !slices.Equal(allowed, needed) {
		t.Errorf("the builder gets %q, the image needs %q", allowed, needed)
	}
}
