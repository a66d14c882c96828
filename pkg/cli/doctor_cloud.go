package cli

import (
	"context"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"

	"github.com/latamctl/latamctl/pkg/stack/contract"
	"github.com/latamctl/latamctl/pkg/stack/state"
	"github.com/latamctl/latamctl/pkg/stack/terraform"
)

// checkCloud checks what an environment on Google Cloud needs. It changes nothing.
func (a *app) checkCloud(ctx context.Context, o *driveOptions) []finding {
	findings := []finding{a.checkTerraform(ctx, o.terraformBin)}
	e, err := a.describeEnvironment(o)
	if err != nil {
		return append(findings, finding{Check: "environment", Status: statusFail, Seen: err.Error(), Fix: "latamctl config show --origin --env " + a.global.env + " shows where each setting comes from"})
	}
	found := state.CheckCloud(ctx, state.CloudOptions{
		Proc: a.proc, Environment: a.global.env, Project: e.contract.Settings.Project, APIs: neededAPIs(e.stacks),
		Stacks: e.stacks.Names(), State: e.location(), Settings: e.bucketSettings(),
	})
	for _, f := range found {
		findings = append(findings, finding(f))
	}
	return findings
}

// checkTerraform finds the program that the stacks are driven with.
func (a *app) checkTerraform(ctx context.Context, bin string) finding {
	f := finding{Check: "terraform", Status: statusPass}
	program, err := a.findTerraform(ctx, bin)
	if err != nil {
		f.Status, f.Seen, f.Fix = statusFail, err.Error(), installHint
		return f
	}
	name := "terraform"
	if program.OpenTofu {
		name = "tofu"
	}
	f.Seen = fmt.Sprintf("%s %s at %s", name, program.Version, program.Path)
	return f
}

// installTerraform installs the pinned version into the user's cache, where up finds it.
func (a *app) installTerraform(ctx context.Context) error {
	program, err := terraform.Install(ctx, a.proc, a.proc.UserCacheDir(), terraform.InstallOptions{})
	if err != nil {
		return fail(exitUnavailable, "install terraform yourself and point --terraform-bin at it, or put it on PATH", err)
	}
	fmt.Fprintf(a.proc.Out, "terraform %s is installed at %s; latamctl finds it there when none is on PATH\n", program.Version, program.Path)
	return nil
}

var apiName = regexp.MustCompile(`(?m)^\s*"([a-z]+\.googleapis\.com)",?\s*$`)

// bootstrapStack is the stack that turns APIs on.
const bootstrapStack = "bootstrap"

// neededAPIs are the APIs that the first stack turns on, as its sources list them.
func neededAPIs(set *contract.Set) []string {
	s := set.Get(bootstrapStack)
	if s == nil {
		return nil
	}
	var names []string
	files, _ := fs.Glob(s.Files, "*.tf") // The pattern is well-formed.
	for _, file := range files {
		text, err := fs.ReadFile(s.Files, file)
		if err != nil {
			continue
		}
		for _, m := range apiName.FindAllStringSubmatch(string(text), -1) {
			names = append(names, strings.TrimSpace(m[1]))
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
