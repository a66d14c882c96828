package bucket_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/latamctl/latamctl/pkg/bucket"
	"github.com/latamctl/latamctl/pkg/proc"
	"github.com/latamctl/latamctl/pkg/testkit/gcstest"
)

// environment is a process without the variables of whoever runs the test.
func environment(t *testing.T, env map[string]string) *proc.Process {
	t.Helper()
	return &proc.Process{Dir: t.TempDir(), Now: time.Now, Getenv: func(key string) (string, bool) {
		value, ok := env[key]
		return value, ok
	}}
}

func open(t *testing.T, location string, o bucket.Options) bucket.Managed {
	t.Helper()
	if o.Proc == nil {
		o.Proc = environment(t, nil)
	}
	o.RetryDelay = time.Millisecond
	b, err := bucket.Open(t.Context(), location, o)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func google(t *testing.T) (*gcstest.Server, bucket.Managed) {
	t.Helper()
	s := gcstest.New()
	t.Cleanup(s.Close)
	s.AddBucket("states", "my-project", nil)
	return s, open(t, "gs://states", bucket.Options{Endpoint: s.URL})
}

// each runs a test against both kinds of bucket.
func each(t *testing.T, test func(t *testing.T, b bucket.Managed)) {
	t.Run("gcs", func(t *testing.T) {
		t.Parallel()
		_, b := google(t)
		test(t, b)
	})
	t.Run("folder", func(t *testing.T) {
		t.Parallel()
		b := open(t, "states", bucket.Options{})
		if created, err := b.Ensure(t.Context(), bucket.Settings{}); err != nil || !created {
			t.Fatal(created, err)
		}
		test(t, b)
	})
}

func TestObjects(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b bucket.Managed) {
		ctx := t.Context()
		if _, _, err := b.Read(ctx, "prod/a b%2F?.json"); !errors.Is(err, bucket.ErrNotExist) {
			t.Errorf("read nothing: %v", err)
		}
		first, err := b.Write(ctx, "prod/a b%2F?.json", []byte("one"), "")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Write(ctx, "prod/a b%2F?.json", []byte("two"), ""); !errors.Is(err, bucket.ErrConflict) {
			t.Errorf("create what exists: %v", err)
		}
		data, version, err := b.Read(ctx, "prod/a b%2F?.json")
		if err != nil || string(data) != "one" || version != first {
			t.Errorf("read %q %q, %v, want one %q", data, version, err, first)
		}
		second, err := b.Write(ctx, "prod/a b%2F?.json", []byte("two"), first)
		if err != nil || second == first {
			t.Fatalf("version %q after %q, %v", second, first, err)
		}
		for what, err := range map[string]error{
			"write an old version":  second2(b.Write(ctx, "prod/a b%2F?.json", nil, first)),
			"delete an old version": b.Delete(ctx, "prod/a b%2F?.json", first),
		} {
			if !errors.Is(err, bucket.ErrConflict) {
				t.Errorf("%s: %v", what, err)
			}
		}
		if _, err := b.Write(ctx, "prod/b", nil, bucket.Any); err != nil {
			t.Error(err)
		}
		if _, err := b.Write(ctx, "other", nil, bucket.Any); err != nil {
			t.Error(err)
		}
		keys, err := b.List(ctx, "prod/")
		if want := []string{"prod/a b%2F?.json", "prod/b"}; err != nil || !slices.Equal(keys, want) {
			t.Errorf("keys %q, %v, want %q", keys, err, want)
		}
		for range 2 { // What is gone may be deleted again.
			if err := b.Delete(ctx, "prod/a b%2F?.json", second); err != nil {
				t.Error(err)
			}
		}
		if err := b.Delete(ctx, "prod/b", bucket.Any); err != nil {
			t.Error(err)
		}
		if err := b.Delete(ctx, "other", ""); err == nil {
			t.Error("a deletion without a version was done")
		}
		if keys, err = b.List(ctx, ""); err != nil || !slices.Equal(keys, []string{"other"}) {
			t.Errorf("keys %q, %v, want other", keys, err)
		}
	})
}

func second2[T any](_ T, err error) error { return err }

func TestKeysStayInside(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b bucket.Managed) {
		for _, key := range []string{"", "/abs", "../up", "a/../b", "a//b", "./a", "a\nb", `a\b`, "a/", strings.Repeat("x", 1025)} {
			_, _, readErr := b.Read(t.Context(), key)
			for what, err := range map[string]error{
				"read": readErr, "write": second2(b.Write(t.Context(), key, nil, bucket.Any)), "delete": b.Delete(t.Context(), key, bucket.Any),
			} {
				if err == nil || !strings.Contains(err.Error(), "not a relative path") {
					t.Errorf("%s %.20q: %v", what, key, err)
				}
			}
		}
	})
}

// TestModel runs the same random operations on both kinds of bucket and on a map.
func TestModel(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b bucket.Managed) {
		random := rand.New(rand.NewPCG(7, 11))
		type object struct {
			data    string
			version bucket.Generation
		}
		model := map[string]object{}
		stale := []bucket.Generation{""}
		for step := range 400 {
			key := fmt.Sprintf("k/%d", random.IntN(4))
			have, exists := model[key]
			version := []bucket.Generation{have.version, have.version, bucket.Any, stale[random.IntN(len(stale))]}[random.IntN(4)]
			fits := version == bucket.Any || version == have.version
			if random.IntN(3) == 0 {
				err := b.Delete(t.Context(), key, version)
				switch {
				case version == "" && err == nil:
					t.Fatalf("step %d: deleted without a version", step)
				case version != "" && exists && fits == errors.Is(err, bucket.ErrConflict), version != "" && !exists && err != nil:
					t.Fatalf("step %d: delete version %q of %+v: %v", step, version, have, err)
				case err == nil:
					delete(model, key)
				}
				continue
			}
			data := fmt.Sprintf("%d", step)
			written, err := b.Write(t.Context(), key, []byte(data), version)
			if fits != (err == nil) || !fits && !errors.Is(err, bucket.ErrConflict) {
				t.Fatalf("step %d: write over version %q of %+v: %v", step, version, have, err)
			}
			if err == nil {
				model[key] = object{data, written}
				stale = append(stale, written)
			}
		}
		keys, err := b.List(t.Context(), "")
		if err != nil || !slices.Equal(keys, slices.Sorted(maps.Keys(model))) {
			t.Fatalf("keys %q, %v; the model has %v", keys, err, model)
		}
		for key, want := range model {
			if data, version, err := b.Read(t.Context(), key); err != nil || string(data) != want.data || version != want.version {
				t.Errorf("%s is %q %q, %v, want %+v", key, data, version, err, want)
			}
		}
	})
}

// TestOneWriterWins counts with read and conditional write from many goroutines; a lost update would show.
func TestOneWriterWins(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b bucket.Managed) {
		const writers, rounds = 4, 8
		var group sync.WaitGroup
		for range writers {
			group.Go(func() {
				for done := 0; done < rounds; {
					data, version, err := b.Read(t.Context(), "count")
					if err != nil && !errors.Is(err, bucket.ErrNotExist) {
						t.Error(err)
						return
					}
					_, err = b.Write(t.Context(), "count", append(bytes.Clone(data), '+'), version)
					if err == nil {
						done++
					} else if !errors.Is(err, bucket.ErrConflict) {
						t.Error(err)
						return
					}
				}
			})
		}
		group.Wait()
		if data, _, err := b.Read(t.Context(), "count"); err != nil || len(data) != writers*rounds {
			t.Errorf("%d of %d updates are there, %v", len(data), writers*rounds, err)
		}
	})
}

func TestFaults(t *testing.T) {
	t.Parallel()
	const object = "/states/o"
	tests := []struct {
		name   string
		faults []gcstest.Fault
		do     func(ctx context.Context, s *gcstest.Server, b bucket.Bucket) error
		want   error
		says   string
	}{
		{"read after two 503", []gcstest.Fault{{Status: 503, Times: 2}}, readKey, nil, ""},
		{"read after a 429", []gcstest.Fault{{Status: 429, Times: 1}}, readKey, nil, ""},
		{"read after a cut body", []gcstest.Fault{{CutBody: true, Times: 1}}, readKey, nil, ""},
		{"read, always 503", []gcstest.Fault{{Status: 503, Times: 99}}, readKey, bucket.ErrUnavailable, "read gs://states/key: the storage cannot be reached: 5 attempts, the last: 503 injected fault"},
		{"read, 403", []gcstest.Fault{{Status: 403, Times: 1}}, readKey, bucket.ErrDenied, "403 injected fault"},
		{"read, 401", []gcstest.Fault{{Status: 401, Times: 1}}, readKey, bucket.ErrDenied, ""},
		{"create whose answer is lost", []gcstest.Fault{{Method: "POST", CommitThenDrop: true, Times: 1}}, func(ctx context.Context, s *gcstest.Server, b bucket.Bucket) error {
			version, err := b.Write(ctx, "lock", []byte("mine"), "")
			if _, have, _ := s.Object("states", "lock"); err == nil && string(version) != fmt.Sprint(have) {
				return fmt.Errorf("version %s, the object has %d", version, have)
			}
			return err
		}, nil, ""},
		{"create that came too late", []gcstest.Fault{{Method: "POST", Status: 503, Times: 1}}, func(ctx context.Context, s *gcstest.Server, b bucket.Bucket) error {
			s.Put("states", "lock", []byte("theirs"))
			_, err := b.Write(ctx, "lock", []byte("mine"), "")
			return err
		}, bucket.ErrConflict, ""},
		{"delete whose answer is lost", []gcstest.Fault{{Method: "DELETE", CommitThenDrop: true, Times: 1}}, func(ctx context.Context, s *gcstest.Server, b bucket.Bucket) error {
			_, version, err := b.Read(ctx, "key")
			if err != nil {
				return err
			}
			return b.Delete(ctx, "key", version)
		}, nil, ""},
		{"delete whose answer is lost, then somebody's new object", nil, func(ctx context.Context, s *gcstest.Server, b bucket.Bucket) error {
			_, version, err := b.Read(ctx, "key")
			if err != nil {
				return err
			}
			s.Inject(gcstest.Fault{Method: "DELETE", CommitThenDrop: true, Times: 1, Then: func() { s.Put("states", "key", []byte("theirs")) }})
			if err := b.Delete(ctx, "key", version); err != nil {
				return err
			}
			if data, _, ok := s.Object("states", "key"); !ok || string(data) != "theirs" {
				return fmt.Errorf("the new object is now %q", data)
			}
			return nil
		}, nil, ""},
		{"list after a 500", []gcstest.Fault{{Path: object, Status: 500, Times: 1}}, func(ctx context.Context, _ *gcstest.Server, b bucket.Bucket) error {
			_, err := b.List(ctx, "")
			return err
		}, nil, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, b := google(t)
			s.Put("states", "key", []byte("value"))
			for _, f := range tt.faults {
				s.Inject(f)
			}
			err := tt.do(t.Context(), s, b)
			if !errors.Is(err, tt.want) || tt.want != nil && !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v, want %v with %q", err, tt.want, tt.says)
			}
		})
	}
}

func readKey(ctx context.Context, _ *gcstest.Server, b bucket.Bucket) error {
	data, _, err := b.Read(ctx, "key")
	if err == nil && string(data) != "value" {
		return fmt.Errorf("read %q", data)
	}
	return err
}

func TestBounds(t *testing.T) {
	t.Parallel()
	s, _ := google(t)
	small := open(t, "gs://states", bucket.Options{Endpoint: s.URL, MaxObjectBytes: 1 << 10, MaxObjects: 2})
	s.Put("states", "big", make([]byte, 1025))
	if _, _, err := small.Read(t.Context(), "big"); err == nil || !strings.Contains(err.Error(), "more than the 1024 bytes") {
		t.Errorf("read 1025 of 1024 bytes: %v", err)
	}
	if _, err := small.Write(t.Context(), "k", make([]byte, 1025), ""); err == nil || !strings.Contains(err.Error(), "1025 bytes") {
		t.Errorf("write 1025 of 1024 bytes: %v", err)
	}
	s.Put("states", "b", nil)
	s.Put("states", "c", nil)
	if _, err := small.List(t.Context(), ""); err == nil || !strings.Contains(err.Error(), "more than 2 objects") {
		t.Errorf("list 3 of 2 objects: %v", err)
	}
	hanging := open(t, "gs://states", bucket.Options{Endpoint: s.URL, Timeout: 30 * time.Millisecond})
	s.Inject(gcstest.Fault{Delay: time.Minute, Times: 9})
	if _, _, err := hanging.Read(t.Context(), "b"); !errors.Is(err, bucket.ErrUnavailable) {
		t.Errorf("a server that does not answer: %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(proc.ErrInterrupted)
	if _, _, err := hanging.Read(ctx, "b"); !errors.Is(err, proc.ErrInterrupted) {
		t.Errorf("an interrupted read: %v", err)
	}
}

func TestListPages(t *testing.T) {
	t.Parallel()
	s, b := google(t)
	for i := range 2500 {
		s.Put("states", fmt.Sprintf("k/%04d", i), nil)
	}
	if keys, err := b.List(t.Context(), "k/"); err != nil || len(keys) != 2500 || keys[2499] != "k/2499" {
		t.Errorf("%d keys, %v", len(keys), err)
	}
}

func TestEnsure(t *testing.T) {
	t.Parallel()
	s := gcstest.New()
	t.Cleanup(s.Close)
	want := bucket.Settings{Project: "my-project", Location: "us-central1", Labels: map[string]string{"app": "latam"}}
	b := open(t, "gs://fresh", bucket.Options{Endpoint: s.URL})
	if _, _, err := b.Read(t.Context(), "k"); !errors.Is(err, bucket.ErrNoBucket) {
		t.Errorf("read without a bucket: %v", err)
	}
	if _, err := b.Inspect(t.Context(), want); !errors.Is(err, bucket.ErrNoBucket) {
		t.Errorf("inspect without a bucket: %v", err)
	}
	var created atomic.Int32
	var group sync.WaitGroup
	for range 6 { // As many processes as may race.
		group.Go(func() {
			mine, err := b.Ensure(t.Context(), want)
			if err != nil {
				t.Error(err)
			}
			if mine {
				created.Add(1)
			}
		})
	}
	group.Wait()
	if created.Load() != 1 {
		t.Errorf("%d of 6 made the bucket", created.Load())
	}
	if _, project, _ := s.Bucket("fresh"); project != "my-project" {
		t.Errorf("it is in project %q", project)
	}
	config, _, _ := s.Bucket("fresh")
	got, err := json.Marshal([]any{config["lifecycle"], config["iamConfiguration"], config["versioning"], config["softDeletePolicy"], config["labels"]})
	const made = `[{"rule":[{"action":{"type":"Delete"},"condition":{"isLive":false,"numNewerVersions":20}},{"action":{"type":"AbortIncompleteMultipartUpload"},"condition":{"age":1}}]},` +
		`{"publicAccessPrevention":"enforced","uniformBucketLevelAccess":{"enabled":true}},{"enabled":true},{"retentionDurationSeconds":"604800"},{"app":"latam"}]`
	if err != nil || string(got) != made {
		t.Errorf("the bucket is made as\n%s, %v, want\n%s", got, err, made)
	}
	if found, err := b.Inspect(t.Context(), want); err != nil || len(found) != 0 {
		t.Errorf("a new bucket differs: %v, %v", found, err)
	}
	s.Inject(gcstest.Fault{Method: "POST", CommitThenDrop: true, Times: 1})
	lost := open(t, "gs://lost-answer", bucket.Options{Endpoint: s.URL})
	if _, err := lost.Ensure(t.Context(), want); err != nil {
		t.Errorf("the answer to the making was lost: %v", err)
	}
}

func TestEnsureRefusesOthersBuckets(t *testing.T) {
	t.Parallel()
	s := gcstest.New()
	t.Cleanup(s.Close)
	s.AddBucket("hidden", "strangers", nil)
	s.DenyBucket("hidden")
	s.AddBucket("visible", "other-project", nil)
	for name, says := range map[string]string{"hidden": "somebody else owns", "visible": "belongs to another project than my-project"} {
		b := open(t, "gs://"+name, bucket.Options{Endpoint: s.URL})
		_, err := b.Ensure(t.Context(), bucket.Settings{Project: "my-project", Location: "us-central1"})
		if !errors.Is(err, bucket.ErrDenied) || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), "--state gs://NAME") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := len(slices.DeleteFunc(s.Requests(), func(r string) bool { return r != "POST /storage/v1/b" })); n != 0 {
		t.Errorf("%d requests to make a bucket that exists", n)
	}
}

func TestInspect(t *testing.T) {
	t.Parallel()
	s := gcstest.New()
	t.Cleanup(s.Close)
	s.AddBucket("plain", "my-project", map[string]any{"location": "EU", "lifecycle": map[string]any{"rule": []any{
		map[string]any{"action": map[string]any{"type": "Delete"}, "condition": map[string]any{"age": 30}},
	}}})
	b := open(t, "gs://plain", bucket.Options{Endpoint: s.URL})
	found, err := b.Inspect(t.Context(), bucket.Settings{Location: "us-central1", Labels: map[string]string{"app": "latam"}})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range found {
		got = append(got, d.Setting+": "+d.Seen)
	}
	want := []string{"location: EU", "versioning: off", "uniform access: off", "public access prevention: inherited",
		"old versions: a rule deletes live objects", "soft delete: 0s", "label app: "}
	if !slices.Equal(got, want) {
		t.Errorf("differences %q, want %q", got, want)
	}
}

func TestFolderIsPrivate(t *testing.T) {
	t.Parallel()
	p := environment(t, nil)
	b := open(t, "states", bucket.Options{Proc: p})
	if err := b.Delete(t.Context(), "k", bucket.Any); err != nil || p.Exists("states") {
		t.Errorf("delete without the folder: %v", err)
	}
	if _, err := b.List(t.Context(), ""); !errors.Is(err, bucket.ErrNoBucket) {
		t.Errorf("list without the folder: %v", err)
	}
	if _, err := b.Write(t.Context(), "k", nil, ""); err != nil {
		t.Fatal(err)
	}
	if created, err := b.Ensure(t.Context(), bucket.Settings{}); err != nil || created {
		t.Errorf("make the folder that the write made: %v, %v", created, err)
	}
	if found, err := b.Inspect(t.Context(), bucket.Settings{}); err != nil || len(found) != 0 {
		t.Errorf("a new folder differs: %v, %v", found, err)
	}
	if mode, err := p.Mode("states/k"); err != nil || mode != 0o600 {
		t.Errorf("the mode of an object is %o, %v", mode, err)
	}
	// What a killed write leaves is no object.
	if err := os.WriteFile(filepath.Join(p.Dir, "states", ".k.123"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if keys, err := b.List(t.Context(), ""); err != nil || !slices.Equal(keys, []string{"k"}) {
		t.Errorf("keys %q, %v", keys, err)
	}
	if err := os.Chmod(filepath.Join(p.Dir, "states"), 0o755); err != nil {
		t.Fatal(err)
	}
	if found, err := b.Inspect(t.Context(), bucket.Settings{}); err != nil || len(found) != 1 || found[0].Seen != "0755" {
		t.Errorf("an open folder: %v, %v", found, err)
	}
}

func TestOpen(t *testing.T) {
	t.Parallel()
	for location, says := range map[string]string{
		"":              "set state to gs://NAME or to a folder",
		"gs://":         "expected gs://NAME",
		"gs://Big":      "expected gs://NAME",
		"gs://a/folder": "no folder in it",
		"s3://states":   "expected gs://NAME or a folder",
	} {
		_, err := bucket.Open(t.Context(), location, bucket.Options{Proc: environment(t, nil)})
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("open %q: %v, want %q", location, err, says)
		}
	}
	for _, o := range []bucket.Options{{}, {Proc: environment(t, nil), Endpoint: "http://example.com"}, {Proc: environment(t, nil), Attempts: 21}} {
		if _, err := bucket.Open(t.Context(), "states", o); err == nil {
			t.Errorf("options %+v were taken", o)
		}
	}
}

func TestCredentials(t *testing.T) {
	t.Parallel()
	const key = `{"type":"service_account","client_email":"ci@p.iam.gserviceaccount.com","private_key":"canary-secret"}`
	p := environment(t, nil)
	file := filepath.Join(p.Dir, "key.json")
	if err := p.WriteSecretFile(file, []byte(key)); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		env  map[string]string
		want bucket.Identity
		err  string
	}{
		{"token first", map[string]string{"GOOGLE_OAUTH_ACCESS_TOKEN": "canary-secret", "GOOGLE_CREDENTIALS": key}, bucket.Identity{Source: "GOOGLE_OAUTH_ACCESS_TOKEN", Kind: "access token"}, ""},
		{"json", map[string]string{"GOOGLE_CREDENTIALS": key}, bucket.Identity{Source: "GOOGLE_CREDENTIALS", Kind: "service_account", Account: "ci@p.iam.gserviceaccount.com"}, ""},
		{"file", map[string]string{"GOOGLE_APPLICATION_CREDENTIALS": file}, bucket.Identity{Source: "GOOGLE_APPLICATION_CREDENTIALS " + file, Kind: "service_account", Account: "ci@p.iam.gserviceaccount.com"}, ""},
		{"impersonation", map[string]string{"GOOGLE_CREDENTIALS": `{"type":"external_account","service_account_impersonation_url":"https://iam/v1/projects/-/serviceAccounts/x@y:generateAccessToken"}`}, bucket.Identity{Source: "GOOGLE_CREDENTIALS", Kind: "external_account", Account: "x@y"}, ""},
		{"no file", map[string]string{"GOOGLE_APPLICATION_CREDENTIALS": "/none"}, bucket.Identity{}, "GOOGLE_APPLICATION_CREDENTIALS"},
		{"not JSON", map[string]string{"GOOGLE_CREDENTIALS": `{canary-secret`}, bucket.Identity{}, "it is not JSON with a type"},
		{"in another's place", map[string]string{"GOOGLE_OAUTH_ACCESS_TOKEN": "canary-secret", "GOOGLE_IMPERSONATE_SERVICE_ACCOUNT": "plan@p.iam.gserviceaccount.com"}, bucket.Identity{Source: "GOOGLE_IMPERSONATE_SERVICE_ACCOUNT with GOOGLE_OAUTH_ACCESS_TOKEN", Kind: "impersonated service account", Account: "plan@p.iam.gserviceaccount.com"}, ""},
		{"none", nil, bucket.Identity{Source: "metadata server", Kind: "attached service account"}, ""},
	} {
		_, id, err := bucket.Credentials(t.Context(), environment(t, tt.env))
		if tt.err == "" && (err != nil || id != tt.want) || tt.err != "" && (!errors.Is(err, bucket.ErrDenied) || !strings.Contains(err.Error(), tt.err)) {
			t.Errorf("%s: %+v, %v", tt.name, id, err)
		}
		if strings.Contains(fmt.Sprint(id, err), "canary-secret") {
			t.Errorf("%s: the secret is in %+v %v", tt.name, id, err)
		}
	}
}

func TestTokenIsSent(t *testing.T) {
	t.Parallel()
	s, plain := google(t)
	s.RequireToken("good")
	if _, err := plain.List(t.Context(), ""); !errors.Is(err, bucket.ErrDenied) {
		t.Errorf("without a token: %v", err)
	}
	p := environment(t, map[string]string{"GOOGLE_OAUTH_ACCESS_TOKEN": "good"})
	if _, err := open(t, "gs://states", bucket.Options{Proc: p, Endpoint: s.URL}).List(t.Context(), ""); err != nil {
		t.Errorf("with the token: %v", err)
	}
	kind, config := plain.Backend("prod/network")
	if want := map[string]any{"bucket": "states", "prefix": "prod/network", "storage_custom_endpoint": s.Endpoint()}; kind != "gcs" || !maps.Equal(config, want) {
		t.Errorf("backend %s %v, want %v", kind, config, want)
	}
	if plain.URL() != "gs://states" {
		t.Errorf("URL %s", plain.URL())
	}
}
