package cli_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestCloudRemovesADataset goes the way of docs/cloud.md: the protection off with the dataset still
// declared, then the dataset. The first plan of removing it says that way.
func TestCloudRemovesADataset(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	only := func(args ...string) []string {
		return append(args, "--stack", "bootstrap", "--stack", "messaging", "--stack", "storage", "--stack", "analytics")
	}
	c.declare(weatherDataset)
	c.want(0, c.run(only("up", "--yes")...), "up of the data")

	c.declare("")
	warned := c.want(3, c.run(only("plan", "-o", "json")...), "plan with a dataset less")
	if note := "deletion protection is on"; strings.Count(warned.stdout, note) != 2 || !strings.Contains(warned.stdout, "--deletion-protection=false") {
		t.Errorf("storage and analytics do not say that %s and how to go on:\n%s", note, tail(warned.stdout))
	}

	c.declare(weatherDataset)
	opened := c.want(3, c.run("plan", "-o", "json", "--deletion-protection=false", "--stack", "storage", "--stack", "analytics"), "plan without protection")
	if all := changes(t, opened.stdout); len(all) == 0 || slices.ContainsFunc(all, func(s string) bool { return !strings.HasPrefix(s, "update ") }) {
		t.Errorf("taking the protection off would %v, want updates only", all)
	}
	c.want(0, c.run("up", "--yes", "--deletion-protection=false", "--stack", "storage", "--stack", "analytics"), "up without protection")

	c.declare("")
	removing := c.want(3, c.run(only("plan", "-o", "json")...), "plan with a dataset less, unprotected")
	if strings.Contains(removing.stdout, "deletion protection is on") {
		t.Errorf("the protection is still on:\n%s", tail(removing.stdout))
	}
	args := only("up", "--yes")
	for _, change := range changes(t, removing.stdout) {
		if action, address, _ := strings.Cut(change, " "); action == "delete" {
			args = append(args, "--allow-delete", address)
		}
	}
	c.want(0, c.run(args...), "up with a dataset less")
	for _, left := range c.managed() {
		if strings.Contains(left, "weather") {
			t.Errorf("%s is left", left)
		}
	}
	state, err := os.ReadFile(filepath.Join(c.dir, "state", "prod", "storage", "default.tfstate"))
	if err != nil || strings.Contains(string(state), `"UNPROTECTED"`) || strings.Count(string(state), `"PROTECTED"`) != 2 {
		t.Errorf("the tables that stay are not protected again (%v)", err)
	}
	c.want(0, c.run(only("plan")...), "plan after it")
}
