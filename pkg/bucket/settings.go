package bucket

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	storage "google.golang.org/api/storage/v1"
)

// Settings are how a bucket for states is made. A folder needs none of them.
type Settings struct {
	// Project has the bucket.
	Project string
	// Location is a region or multi-region, such as us-central1.
	Location string
	Labels   map[string]string
}

// KeptVersions is how many newer versions an old version of an object may have before it is deleted.
const KeptVersions = 20

// SoftDelete is how long a deleted object can be brought back.
const SoftDelete = 7 * 24 * time.Hour

// Difference is a setting of a bucket that is not as it should be.
type Difference struct {
	Setting, Want, Seen string
}

// Ensure makes the bucket: versioned, with uniform access and none for the public. Two processes may do it at once.
func (g *gcs) Ensure(ctx context.Context, s Settings) (created bool, err error) {
	if s.Project == "" || s.Location == "" {
		return false, fmt.Errorf("make bucket gs://%s: it needs a project and a region", g.name)
	}
	_, err = g.get(ctx)
	if errors.Is(err, ErrNoBucket) {
		created, err = g.insert(ctx, s)
	}
	if err != nil {
		if errors.Is(err, ErrDenied) {
			err = fmt.Errorf("%w; the caller lacks the role storage.admin, or somebody else owns a bucket of this name: name another with --state gs://NAME", err)
		}
		return false, err
	}
	if created {
		return true, nil
	}
	return false, g.checkOwner(ctx, s.Project)
}

func (g *gcs) get(ctx context.Context) (config *storage.Bucket, err error) {
	err = g.retry(ctx, "read the settings of gs://"+g.name, func(ctx context.Context, _ bool) (err error) {
		config, err = g.service.Buckets.Get(g.name).Context(ctx).Do()
		return err
	})
	if errors.Is(err, ErrNotExist) {
		err = fmt.Errorf("read the settings of gs://%s: %w", g.name, ErrNoBucket)
	}
	return config, err
}

// insert makes the bucket, or finds that somebody has just made it.
func (g *gcs) insert(ctx context.Context, s Settings) (created bool, err error) {
	notLive, oneDay := false, int64(1)
	config := &storage.Bucket{
		Name: g.name, Location: s.Location, StorageClass: "STANDARD", Labels: s.Labels,
		Versioning: &storage.BucketVersioning{Enabled: true},
		IamConfiguration: &storage.BucketIamConfiguration{
			PublicAccessPrevention:   "enforced",
			UniformBucketLevelAccess: &storage.BucketIamConfigurationUniformBucketLevelAccess{Enabled: true},
		},
		// The same rules as stack bootstrap has, which takes the bucket over and would change others.
		Lifecycle: &storage.BucketLifecycle{Rule: []*storage.BucketLifecycleRule{{
			Action:    &storage.BucketLifecycleRuleAction{Type: "Delete"},
			Condition: &storage.BucketLifecycleRuleCondition{NumNewerVersions: KeptVersions, IsLive: &notLive},
		}, {
			Action:    &storage.BucketLifecycleRuleAction{Type: "AbortIncompleteMultipartUpload"},
			Condition: &storage.BucketLifecycleRuleCondition{Age: &oneDay},
		}}},
		SoftDeletePolicy: &storage.BucketSoftDeletePolicy{RetentionDurationSeconds: int64(SoftDelete / time.Second)},
	}
	err = g.retry(ctx, fmt.Sprintf("make bucket gs://%s in project %s", g.name, s.Project), func(ctx context.Context, _ bool) error {
		_, err := g.service.Buckets.Insert(s.Project, config).Context(ctx).Do()
		if statusOf(err) != http.StatusConflict {
			created = err == nil
			return err
		}
		// The name is taken: by an attempt whose answer was lost, by another process, or by a stranger.
		_, err = g.get(ctx)
		return err
	})
	return created, err
}

// checkOwner makes sure that the bucket is in the project: names are global, so a bucket that can be
// read may still be another project's. A bucket itself names its project by number only.
func (g *gcs) checkOwner(ctx context.Context, project string) error {
	var answer *storage.Buckets
	err := g.retry(ctx, "list the buckets of project "+project, func(ctx context.Context, _ bool) (err error) {
		answer, err = g.service.Buckets.List(project).Context(ctx).Prefix(g.name).Fields("items(name)").Do()
		return err
	})
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(answer.Items, func(b *storage.Bucket) bool { return b.Name == g.name }) {
		return fmt.Errorf("use bucket gs://%s: %w: it belongs to another project than %s; name another with --state gs://NAME, or set project", g.name, ErrDenied, project)
	}
	return nil
}

// Inspect compares the bucket's settings with those that Ensure makes, and its labels as far as they are given.
func (g *gcs) Inspect(ctx context.Context, s Settings) ([]Difference, error) {
	b, err := g.get(ctx)
	if err != nil {
		return nil, err
	}
	var found []Difference
	compare := func(setting, want, seen string) {
		if !strings.EqualFold(want, seen) {
			found = append(found, Difference{Setting: setting, Want: want, Seen: seen})
		}
	}
	if s.Location != "" {
		compare("location", s.Location, b.Location)
	}
	compare("versioning", "on", onOff(b.Versioning != nil && b.Versioning.Enabled))
	access, public := false, "inherited"
	if iam := b.IamConfiguration; iam != nil {
		access = iam.UniformBucketLevelAccess != nil && iam.UniformBucketLevelAccess.Enabled
		public = iam.PublicAccessPrevention
	}
	compare("uniform access", "on", onOff(access))
	compare("public access prevention", "enforced", public)
	compare("old versions", fmt.Sprintf("deleted after %d newer ones", KeptVersions), keptVersions(b.Lifecycle))
	seconds := int64(0)
	if b.SoftDeletePolicy != nil {
		seconds = b.SoftDeletePolicy.RetentionDurationSeconds
	}
	compare("soft delete", SoftDelete.String(), (time.Duration(seconds) * time.Second).String())
	for _, key := range slices.Sorted(maps.Keys(s.Labels)) {
		compare("label "+key, s.Labels[key], b.Labels[key])
	}
	return found, nil
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

// keptVersions says what becomes of old versions. A rule that may delete the live version, and with
// it a state, is told as such.
func keptVersions(l *storage.BucketLifecycle) string {
	if l == nil {
		return "kept for ever"
	}
	seen := "kept for ever"
	for _, rule := range l.Rule {
		if rule.Action == nil || rule.Action.Type != "Delete" || rule.Condition == nil {
			continue
		}
		c := rule.Condition
		old := c.IsLive != nil && !*c.IsLive || c.NumNewerVersions > 0 || c.DaysSinceNoncurrentTime > 0 || c.NoncurrentTimeBefore != ""
		switch {
		case !old && len(c.MatchesPrefix) == 0 && len(c.MatchesSuffix) == 0:
			return "a rule deletes live objects"
		case c.NumNewerVersions > 0:
			seen = "deleted after " + strconv.FormatInt(c.NumNewerVersions, 10) + " newer ones"
		}
	}
	return seen
}

// Ensure makes the folder, for its owner only: states hold secrets.
func (f *folder) Ensure(_ context.Context, _ Settings) (created bool, err error) {
	if created, err = f.proc.MakePrivateDir(f.dir); err != nil {
		return false, f.wrap("make the folder", "", err)
	}
	return created, nil
}

// Inspect tells whether others may enter the folder.
func (f *folder) Inspect(_ context.Context, _ Settings) ([]Difference, error) {
	if !f.proc.Exists(f.dir) {
		return nil, fmt.Errorf("look at %s: %w", f.dir, ErrNoBucket)
	}
	mode, err := f.proc.Mode(f.dir)
	if err != nil {
		return nil, f.wrap("look at", "", err)
	}
	if mode&0o077 != 0 {
		return []Difference{{Setting: "permissions", Want: "0700", Seen: fmt.Sprintf("%04o", mode)}}, nil
	}
	return nil, nil
}
