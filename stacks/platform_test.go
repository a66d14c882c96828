package stacks_test

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestBootstrapAdoptsTheBucket has the bucket made first, as the first run does, and then taken over
// by a stack that has no state yet.
func TestBootstrapAdoptsTheBucket(t *testing.T) {
	t.Parallel()
	needMirror(t)
	needPatience(t)
	const address = `google_storage_bucket.state["latam-prod-latam-tfstate"]`
	noGithub := map[string]any{"github_repository": "", "github_repository_id": "", "github_owner_id": ""}
	dir, scratch := sharedCopy(t, "bootstrap"), t.TempDir()
	world := []string{"STUB_WORLD=" + filepath.Join(scratch, "world")}

	must(t, dir, world, "apply", "-auto-approve", "-input=false", "-no-color", "-lock=false", "-target="+address,
		"-state="+filepath.Join(scratch, "first.tfstate"), "-var-file="+writeValues(t, "bootstrap", scratch, noGithub))
	alias(t, filepath.Join(scratch, "world", "google_storage_bucket"), "latam-prod/latam-prod-latam-tfstate")

	adopted := change(t, planOf(t, "bootstrap", dir, world, withValue(noGithub, "adopt_state_bucket", true)), address)
	if adopted.Change.Importing == nil || !strings.HasSuffix(adopted.Change.Importing.ID, "latam-prod-latam-tfstate") {
		t.Errorf("the bucket is not imported, the plan would %v it", adopted.Change.Actions)
	}
	if !slices.Equal(adopted.Change.Actions, []string{"no-op"}) {
		t.Errorf("taking the bucket over would %v it; want no-op", adopted.Change.Actions)
	}
}

func change(t *testing.T, p plan, address string) planned {
	t.Helper()
	i := slices.IndexFunc(p.Changes, func(r planned) bool { return r.Address == address })
	if i < 0 {
		t.Fatalf("the plan has no %s", address)
	}
	return p.Changes[i]
}

func withValue(values map[string]any, name string, value any) map[string]any {
	out := map[string]any{name: value}
	for k, v := range values {
		out[k] = v
	}
	return out
}

// alias makes the only resource of a folder of the world known under the id by which it is imported
// as well: the stand-in of the provider finds resources by their made-up ids only.
func alias(t *testing.T, folder, id string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*.json"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%s holds %d resources (%v), want 1", folder, len(files), err)
	}
	sum := sha256.Sum256([]byte(id))
	name := filepath.Join(folder, hex.EncodeToString(sum[:8])+".json")
	if err := os.WriteFile(name, []byte(read(t, files[0])), 0o600); err != nil {
		t.Fatal(err)
	}
}
