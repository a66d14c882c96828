package bucket_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/latamctl/latamctl/pkg/bucket"
	"github.com/latamctl/latamctl/pkg/testkit/gcstest"
)

func find(t *testing.T, s *gcstest.Server, location string) ([]*bucket.Object, error) {
	t.Helper()
	return bucket.FindObjects(t.Context(), location, bucket.Options{Proc: environment(t, nil), Endpoint: s.URL, RetryDelay: time.Millisecond})
}

func storageWith(t *testing.T, objects map[string][]byte) *gcstest.Server {
	t.Helper()
	s := gcstest.New()
	t.Cleanup(s.Close)
	s.AddBucket("records", "my-project", nil)
	for key, data := range objects {
		s.Put("records", key, data)
	}
	return s
}

func TestFindObjects(t *testing.T) {
	t.Parallel()
	s := storageWith(t, map[string][]byte{"a/1.ndjson": []byte("one"), "a/2.ndjson": []byte("two"), "a/b/3.ndjson": nil, "a/1.csv": nil, "odd [x].csv": nil})
	for location, want := range map[string]string{
		"gs://records/a/1.ndjson":  "gs://records/a/1.ndjson",
		"gs://records/a/*.ndjson":  "gs://records/a/1.ndjson gs://records/a/2.ndjson",
		"gs://records/a/?.[cn]*":   "gs://records/a/1.csv gs://records/a/1.ndjson gs://records/a/2.ndjson",
		"gs://records/*/*.csv":     "gs://records/a/1.csv",
		"gs://records/odd \\[*":    "gs://records/odd [x].csv",
		"gs://records/none":        "no such object",
		"gs://records/none*":       "no such object",
		"gs://other/a/1.ndjson":    "no such bucket",
		"gs://records/[":           "syntax error in pattern",
		"gs://records/":            "expected gs://BUCKET/OBJECT",
		"gs://records":             "expected gs://BUCKET/OBJECT",
		"gs://R/a":                 "expected gs://BUCKET/OBJECT",
		"https://records/a/1.json": "expected gs://BUCKET/OBJECT",
	} {
		found, err := find(t, s, location)
		var got []string
		for _, o := range found {
			if o != nil {
				got = append(got, o.URL)
			}
		}
		if err != nil && !strings.Contains(err.Error(), want) || err == nil && strings.Join(got, " ") != want {
			t.Errorf("%s: got %q, %v; want %s", location, got, err, want)
		}
	}
}

// TestObjectIsReadOnce reads an object over connections that break anywhere.
func TestObjectIsReadOnce(t *testing.T) {
	t.Parallel()
	content := make([]byte, 300_000)
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range content {
		content[i] = byte(rng.Uint32())
	}
	s := storageWith(t, map[string][]byte{"big": content, "empty": {}})
	found, err := find(t, s, "gs://records/*")
	if err != nil || len(found) != 2 || found[0].Bytes != 300_000 {
		t.Fatalf("%v, %v", found, err)
	}
	read := func(o *bucket.Object) ([]byte, error) {
		r := o.Open(t.Context())
		data, err := io.ReadAll(r)
		return data, errors.Join(err, r.Close())
	}
	for _, faults := range [][]gcstest.Fault{
		nil,
		{{Path: "big", Times: 12, CutBody: true}},
		{{Path: "big", Times: 3, Status: 503}, {Path: "big", Times: 1, CutBody: true}, {Path: "big", Times: 3, Status: 429}},
	} {
		for _, f := range faults {
			s.Inject(f)
		}
		if data, err := read(found[0]); err != nil || !bytes.Equal(data, content) {
			t.Errorf("%v: %d bytes, %v", faults, len(data), err)
		}
	}
	if data, err := read(found[1]); err != nil || len(data) != 0 {
		t.Errorf("%q, %v", data, err)
	}
	if n := len(slices.DeleteFunc(s.Requests(), func(r string) bool { return !strings.HasSuffix(r, "big") })); n < 15 {
		t.Errorf("%d requests", n)
	}

	s.PutEncoded("records", "encoded", "gzip", content)
	encoded, err := find(t, s, "gs://records/encoded")
	if err != nil {
		t.Fatal(err)
	}
	s.Inject(gcstest.Fault{Path: "encoded", Times: 3, CutBody: true})
	if data, err := read(encoded[0]); err != nil || !bytes.Equal(data, content) {
		t.Errorf("stored with an encoding: %d bytes, %v", len(data), err)
	}

	s.Inject(gcstest.Fault{Path: "big", Times: 99, Status: http.StatusServiceUnavailable})
	if _, err := read(found[0]); !errors.Is(err, bucket.ErrUnavailable) {
		t.Errorf("storage that is away: %v", err)
	}
	s.Heal()
	s.Inject(gcstest.Fault{Path: "big", Times: 1, CutBody: true, Then: func() { s.Put("records", "big", []byte("another")) }})
	if data, err := read(found[0]); !errors.Is(err, bucket.ErrNotExist) || len(data) >= len(content) {
		t.Errorf("a version that is replaced meanwhile: %d bytes, %v", len(data), err)
	}
}
