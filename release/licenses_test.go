package release

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write docs/licenses.md instead of comparing it")

// licence is one that the program's parts may have.
type licence struct {
	name string
	// says are phrases that this licence has and that tell it from the others.
	says []string
	// why it may be part of a program that is Apache-2.0.
	why string
}

// licences are those that are allowed. A text that none of them matches is refused until somebody has
// read it and added it here.
var licences = []licence{
	{"Apache-2.0", []string{"apache license version 2.0, january 2004", "terms and conditions for use, reproduction, and distribution"}, "the program's own"},
	{"Apache-2.0", []string{"licensed under the apache license, version 2.0", "http://www.apache.org/licenses/license-2.0"}, "the program's own"},
	{"MIT", []string{"permission is hereby granted, free of charge, to any person obtaining a copy of this software", "the software is provided as is, without warranty of any kind"}, "asks for its notice only"},
	{"BSD-3-Clause", []string{"redistribution and use in source and binary forms, with or without modification, are permitted", "may be used to endorse or promote products derived"}, "asks for its notice only"},
	{"BSD-2-Clause", []string{"redistribution and use in source and binary forms, with or without modification, are permitted", "this software is provided"}, "asks for its notice only"},
	{"ISC", []string{"permission to use, copy, modify, and/or distribute this software for any purpose with or without fee is hereby granted"}, "asks for its notice only"},
	{"ISC", []string{"permission to use, copy, modify, and distribute this software for any purpose with or without fee is hereby granted"}, "asks for its notice only"},
	{"MPL-2.0", []string{"mozilla public license", "version 2.0", "covered software"}, "asks for the source of its own files, which are unchanged and public"},
}

// refused are words of licences that cannot be part of the program, whatever else a text says.
var refused = []string{"gnu general public license", "affero", "server side public license", "commons clause", "business source license", "elastic license", "polyform", "non-commercial", "noncommercial"}

var (
	quotes   = regexp.MustCompile("[\"“”'‘’`]+")
	notWords = regexp.MustCompile(`[\s*#>_\\/;-]+`)
)

// squeeze makes texts comparable that differ in line breaks, quotes and decoration.
func squeeze(text string) string {
	return strings.TrimSpace(notWords.ReplaceAllString(quotes.ReplaceAllString(strings.ToLower(text), ""), " "))
}

// classify names the licences that a text gives, none when it is unknown or refused.
func classify(text string) (names []string) {
	text = squeeze(text)
	for _, l := range licences {
		if !slices.ContainsFunc(l.says, func(phrase string) bool { return !strings.Contains(text, squeeze(phrase)) }) && !slices.Contains(names, l.name) {
			names = append(names, l.name)
		}
	}
	if slices.Contains(names, "BSD-3-Clause") { // It has every word of the shorter one.
		names = slices.DeleteFunc(names, func(n string) bool { return n == "BSD-2-Clause" })
	}
	if slices.Contains(names, "MPL-2.0") { // It names the GNU licences as others that fit.
		return names
	}
	if slices.ContainsFunc(refused, func(word string) bool { return strings.Contains(text, squeeze(word)) }) {
		return nil
	}
	return names
}

// module is a module whose packages are in the program.
type module struct{ path, dir string }

// modules are those of the program on any platform of a release.
func modules(t *testing.T) []module {
	t.Helper()
	var mu sync.Mutex
	var wg sync.WaitGroup
	found := map[string]string{}
	for _, platform := range []string{"linux/amd64", "linux/arm64", "darwin/amd64", "darwin/arm64"} {
		wg.Go(func() {
			system, arch, _ := strings.Cut(platform, "/")
			cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}} {{.Dir}}{{end}}{{end}}", "./cmd/latamctl")
			cmd.Dir, cmd.Env = "..", append(os.Environ(), "CGO_ENABLED=0", "GOOS="+system, "GOARCH="+arch)
			out, err := cmd.Output()
			if err != nil {
				t.Errorf("list what the program for %s is made of: %v", platform, err)
			}
			mu.Lock()
			defer mu.Unlock()
			for line := range strings.Lines(string(out)) {
				if path, dir, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
					found[path] = dir
				}
			}
		})
	}
	wg.Wait()
	var all []module
	for path, dir := range found {
		all = append(all, module{path, dir})
	}
	slices.SortFunc(all, func(a, b module) int { return strings.Compare(a.path, b.path) })
	return all
}

var (
	licenceFile = regexp.MustCompile(`(?i)^(un)?licen[cs]e|^copying`)
	notText     = regexp.MustCompile(`(?i)\.(go|csv|json|tmpl)$`)
)

// licencesOf names the licences in the folder of a module, and the files that none of the allowed matches.
func licencesOf(t *testing.T, dir string) (names, unknown []string) {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if f.IsDir() || !licenceFile.MatchString(f.Name()) || notText.MatchString(f.Name()) {
			continue
		}
		got := classify(read(t, filepath.Join(dir, f.Name())))
		if len(got) == 0 {
			unknown = append(unknown, f.Name())
		}
		for _, name := range got {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return names, unknown
}

// TestLicenses reads the licence of every module in the program: each is one of those that are allowed,
// and docs/licenses.md lists them as they are.
func TestLicenses(t *testing.T) {
	t.Parallel()
	all := modules(t)
	if len(all) < 100 {
		t.Fatalf("only %d modules were found", len(all))
	}
	var page strings.Builder
	page.WriteString("# Licences\n\nGenerated from what the program is made of; `make docs` writes it anew, and `make licenses` fails when a module has another one.\n" +
		"Their texts are in `latamctl_licenses.txt` of each release and in the image.\n\n| allowed | because it |\n|---|---|\n")
	listed := ""
	for _, l := range licences {
		if l.name != listed {
			page.WriteString("| " + l.name + " | " + strings.Replace(l.why, "the program's own", "is the program's own", 1) + " |\n")
		}
		listed = l.name
	}
	page.WriteString("\n| module | licence |\n|---|---|\n")
	for _, m := range all {
		names, unknown := licencesOf(t, m.dir)
		switch {
		case len(unknown) > 0:
			t.Errorf("%s: %s is none of the allowed licences: read it, then add it to licences in release/licenses_test.go or do without the module",
				m.path, strings.Join(unknown, ", "))
		case len(names) == 0:
			t.Errorf("%s has no licence file: nobody may use it", m.path)
		}
		page.WriteString("| " + m.path + " | " + strings.Join(names, ", ") + " |\n")
	}
	path := filepath.Join("..", "docs", "licenses.md")
	if *update {
		if err := os.WriteFile(path, []byte(page.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(read(t, path), page.String()); diff != "" {
		t.Errorf("docs/licenses.md is out of date, run make docs:\n%s", diff)
	}
}

// TestLicensesGoRed knows the texts that must not pass.
func TestLicensesGoRed(t *testing.T) {
	t.Parallel()
	mit := "Permission is hereby granted, free of charge, to any person obtaining a copy\nof this software … THE SOFTWARE IS PROVIDED \"AS IS\", WITHOUT\n  WARRANTY OF ANY KIND"
	own := read(t, filepath.Join("..", "LICENSE"))
	for _, c := range []struct{ name, text, want string }{
		{"MIT", mit, "MIT"},
		{"Apache", own, "Apache-2.0"},
		{"both", own + mit, "Apache-2.0 MIT"},
		{"nothing", "All rights reserved.", ""},
		{"GPL", "GNU GENERAL PUBLIC LICENSE\nVersion 3, 29 June 2007", ""},
		{"GPL after MIT", mit + "\nparts are under the GNU General\nPublic License", ""},
		{"AGPL", "GNU AFFERO GENERAL PUBLIC LICENSE", ""},
		{"Commons Clause", mit + "\n\"Commons Clause\" License Condition v1.0", ""},
		{"BUSL", "Business Source License 1.1", ""},
		{"not for business", mit + "\nfor non-commercial purposes", ""},
	} {
		if got := strings.Join(classify(c.text), " "); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
