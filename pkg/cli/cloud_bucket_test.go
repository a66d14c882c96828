package cli_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/latamctl/latamctl/pkg/testkit/gcstest"
)

// stateBucket is where the states of these tests are.
const stateBucket = "my-project-latam-tfstate"

// inBucket puts the states of an environment into a bucket that does not exist yet.
func (c *cloud) inBucket() *gcstest.Server {
	c.t.Helper()
	storage := gcstest.New()
	c.t.Cleanup(storage.Close)
	storage.RequireToken("a-token-of-the-test")
	c.env = append(c.env, "LATAM_STATE=gs://"+stateBucket, "LATAM_STORAGE_ENDPOINT="+storage.URL, "GOOGLE_OAUTH_ACCESS_TOKEN=a-token-of-the-test",
		"GOOGLE_APPLICATION_CREDENTIALS=", "GOOGLE_CREDENTIALS=", "GOOGLE_IMPERSONATE_SERVICE_ACCOUNT=")
	return storage
}

// inserts counts how often somebody tried to make a bucket.
func inserts(storage *gcstest.Server) int {
	n := 0
	for _, r := range storage.Requests() {
		if r == "POST /storage/v1/b" {
			n++
		}
	}
	return n
}

// bucketHolds compares what exists with the state of a stack in the bucket.
func (c *cloud) bucketHolds(storage *gcstest.Server, stack string) {
	c.t.Helper()
	data, _, _ := storage.Object(stateBucket, "prod/"+stack+"/default.tfstate")
	stored := objectsOf(c.t, data)
	slices.Sort(stored)
	if diff := cmp.Diff(c.existing(), stored, emptyIsNil); diff != "" {
		c.t.Errorf("what exists (-) is not what the state holds (+):\n%s", diff)
	}
}

// TestCloudStatesInABucket has the states in Cloud Storage, from a bucket that does not exist on.
func TestCloudStatesInABucket(t *testing.T) {
	t.Parallel()
	heavy(t)
	c := newPlain(t)
	storage := c.inBucket()

	c.want(3, c.run("plan", "-s", "chain"), "plan without a bucket")
	r := c.want(8, c.run("up", "-s", "chain", "--no-input"), "up that nobody approves")
	says(t, "up that nobody approves", r.stderr, "--yes")
	if _, _, ok := storage.Bucket(stateBucket); ok || inserts(storage) > 0 {
		t.Error("the bucket was made before anybody approved")
	}

	c.slowPlain()
	g := c.begin(nil, "up", "-s", "chain", "--yes")
	if !g.await(`"event":"apply_start"`, 2) {
		t.Fatalf("it was over before: %s", g.end().stderr)
	}
	shown := c.want(9, c.run("unlock", "chain"), "unlock while it is applied")
	says(t, "unlock", shown.stdout, "stack chain is locked", "OperationTypeApply")
	c.drainLockRefused(shown)
	up := c.want(0, g.end(), "up")
	says(t, "up", up.stderr, "creating gs://"+stateBucket)
	if config, project, ok := storage.Bucket(stateBucket); !ok || project != "my-project" || inserts(storage) != 1 {
		t.Errorf("%d buckets were made, in %q: %v", inserts(storage), project, config)
	}
	c.bucketHolds(storage, "chain")
	c.want(0, c.run("unlock", "chain"), "unlock after it")
	c.want(0, c.run("plan", "-s", "chain"), "the plan after it")
	c.want(0, c.run("up", "-s", "chain", "--yes"), "up again")
	if inserts(storage) != 1 {
		t.Errorf("the bucket was made %d times", inserts(storage))
	}
}

// drainLockRefused tries to remove the lock of a program that still runs.
func (c *cloud) drainLockRefused(shown result) {
	c.t.Helper()
	_, line, _ := strings.Cut(shown.stderr, "latamctl unlock --env prod ")
	r := c.want(9, c.run(append([]string{"unlock"}, strings.Fields(line)[:3]...)...), "unlock of a program that runs")
	c.t.Logf("unlock of a program that runs: %s", r.stderr)
	says(c.t, "unlock of a program that runs", r.stderr, "still runs", "--resume")
}

// TestTerraformKilled kills terraform itself: the lock stays in the bucket, and there is a way out.
func TestTerraformKilled(t *testing.T) {
	t.Parallel()
	c := newPlain(t)
	storage := c.inBucket()
	c.slowPlain()
	g := c.begin(nil, "up", "-s", "chain", "--yes")
	if !g.await(`"event":"apply_start"`, 3) {
		t.Fatalf("it was over before: %s", g.end().stderr)
	}
	for _, pid := range c.terraforms() {
		if err := syscall.Kill(-pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	r := c.want(1, g.end(), "up whose terraform is killed")
	t.Logf("killed:\n%s", r.stderr)
	says(t, "up whose terraform is killed", r.stderr, "terraform was killed while it changed terraform_data.t2", "latamctl unlock --env prod chain", "latamctl up --resume --env prod")

	begun := time.Now()
	r = c.want(9, c.run("up", "--resume", "--yes", "--lock-timeout", "0s"), "up with the lock left")
	says(t, "up with the lock left", r.stderr, "stack chain is locked by", "latamctl unlock --env prod chain")
	if took := time.Since(begun); took > time.Minute {
		t.Errorf("it waited %v for a lock, and was told not to", took)
	}
	r = c.want(9, c.run("up", "--resume", "--yes", "--lock-timeout", "1s"), "up with the lock left")
	t.Logf("locked:\n%s", r.stderr)
	says(t, "up with the lock left", r.stderr, "chain: waiting for the lock of its state")
	if n := c.made(); n != 3 {
		t.Errorf("terraform began %d objects, want the 3 of before", n)
	}
	wrong := c.want(8, c.run("unlock", "chain", "--id", "1"), "unlock of another lock")
	says(t, "unlock of another lock", wrong.stderr, "latamctl unlock --env prod chain --id ")
	c.drainLock(c.want(9, c.run("unlock", "chain"), "unlock"))
	c.want(0, c.run("unlock", "chain"), "unlock once more")
	c.want(0, c.run("up", "--resume", "--yes"), "up --resume")
	c.want(0, c.run("plan", "-s", "chain"), "the plan after it")
	if _, _, held := storage.Object(stateBucket, "prod/chain/default.tflock"); held {
		t.Error("the lock is held")
	}
}

// TestStateIsNotSaved has a bucket that takes no state: what was created is kept on this machine, and
// the next run saves it first.
func TestStateIsNotSaved(t *testing.T) {
	t.Parallel()
	c := newPlain(t)
	storage := c.inBucket()
	c.ownStack("first", nil, "resource \"terraform_data\" \"a\" {}\n")
	c.want(0, c.run("up", "-s", "first", "--yes"), "up of another stack") // The bucket exists.

	c.slowPlain()
	g := c.begin(nil, "up", "-s", "chain", "--yes")
	if !g.await(`"event":"apply_start"`, 1) {
		t.Fatalf("it was over before: %s", g.end().stderr)
	}
	storage.Inject(gcstest.Fault{Method: http.MethodPost, Path: "/upload/storage/v1/b/" + stateBucket, Times: 1 << 30, Status: http.StatusInternalServerError})
	r := c.want(1, g.end(), "up into a bucket that does not save")
	t.Logf("not saved: exit %d\n%s", r.code, r.stderr)
	says(t, "up into a bucket that does not save", r.stderr, "errored.tfstate", "latamctl up --env prod")
	if n := len(c.existing()); n != chainLinks {
		t.Errorf("%d objects exist", n)
	}
	storage.Heal()
	c.drainLock(c.run("unlock", "chain"))
	r = c.want(0, c.run("up", "-s", "chain", "--yes"), "up with the bucket back")
	t.Logf("saved: %s", r.stderr)
	c.bucketHolds(storage, "chain")
	if n := len(c.existing()); n != chainLinks {
		t.Errorf("%d objects exist: they were made again", n)
	}
	c.want(0, c.run("plan", "-s", "chain"), "the plan after it")
}

// TestCloudTwoMakeTheBucket starts two runs at once where there is no bucket.
func TestCloudTwoMakeTheBucket(t *testing.T) {
	t.Parallel()
	heavy(t)
	c := newPlain(t)
	storage := c.inBucket()
	one, two := c.begin(nil, "up", "-s", "chain", "--yes"), c.begin(nil, "up", "-s", "chain", "--yes")
	a, b := one.end(), two.end()
	c.want(0, a, "one")
	c.want(0, b, "the other")
	if _, _, ok := storage.Bucket(stateBucket); !ok {
		t.Error("there is no bucket")
	}
	c.bucketHolds(storage, "chain")
	if n := c.made(); n != chainLinks {
		t.Errorf("%d objects were made, want %d: both have applied", n, chainLinks)
	}
	c.want(0, c.run("plan", "-s", "chain"), "the plan after it")
}

// TestCloudBootstrapAdoptsTheBucket takes the bucket that up made into the stack that describes it.
func TestCloudBootstrapAdoptsTheBucket(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	storage := c.inBucket()
	// What is made through the storage API exists in the world of the provider as well.
	storage.Inject(gcstest.Fault{Method: http.MethodPost, Path: "/storage/v1/b", Times: 1, Then: func() {
		id := "my-project/" + stateBucket
		sum := sha256.Sum256([]byte(id))
		entry := map[string]any{"type": "google_storage_bucket", "id": id, "state": map[string]any{
			"id": id, "name": stateBucket, "project": "my-project", "location": "US-CENTRAL1", "storage_class": "STANDARD",
			"uniform_bucket_level_access": true, "public_access_prevention": "enforced", "force_destroy": false,
		}}
		b, err := json.Marshal(entry)
		dir := filepath.Join(c.world, "google_storage_bucket")
		if err == nil {
			err = os.MkdirAll(dir, 0o755)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, hex.EncodeToString(sum[:8])+".json"), b, 0o600)
		}
		if err != nil {
			t.Error(err)
		}
	}})
	planned := c.want(3, c.run("plan", "-s", "bootstrap"), "plan without a bucket")
	t.Logf("plan:\n%s", planned.stdout)
	up := c.want(0, c.run("up", "-s", "bootstrap", "--yes"), "up")
	t.Logf("up:\n%s%s", up.stdout, up.stderr)
	data, _, _ := storage.Object(stateBucket, "prod/bootstrap/default.tfstate")
	if !slices.Contains(objectsOf(t, data), "google_storage_bucket my-project/"+stateBucket) {
		t.Errorf("the bucket is not in the state: %v", objectsOf(t, data))
	}
	if n := len(c.existing()); n != len(objectsOf(t, data)) {
		t.Errorf("%d objects exist, the state holds %d: a second bucket was made", n, len(objectsOf(t, data)))
	}
	if n := inserts(storage); n != 1 {
		t.Errorf("the bucket was made %d times", n)
	}
	c.want(0, c.run("plan", "-s", "bootstrap"), "the plan after it")
	out := c.want(0, c.run("output", "bootstrap"), "output")
	says(t, "output", out.stdout, stateBucket)
}
