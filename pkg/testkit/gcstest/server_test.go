package gcstest_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"testing"
	"time"

	"google.golang.org/api/googleapi"
	"google.golang.org/api/option"
	storage "google.golang.org/api/storage/v1"

	"github.com/latamctl/latamctl/pkg/testkit/gcstest"
)

func client(t *testing.T) (*gcstest.Server, *storage.Service) {
	t.Helper()
	s := gcstest.New()
	t.Cleanup(s.Close)
	s.AddBucket("b", "p", nil)
	c, err := storage.NewService(t.Context(), option.WithEndpoint(s.Endpoint()), option.WithoutAuthentication())
	if err != nil {
		t.Fatal(err)
	}
	return s, c
}

func code(err error) int {
	var api *googleapi.Error
	if errors.As(err, &api) {
		return api.Code
	}
	return 0
}

// TestUploads sends content in the ways of Google's clients, and reads it in both.
func TestUploads(t *testing.T) {
	t.Parallel()
	s, c := client(t)
	big := bytes.Repeat([]byte("0123456789abcdef"), 50_000) // More than three pieces.
	for name, chunk := range map[string]int{"multipart": 0, "resumable/with a slash": googleapi.MinUploadChunkSize} {
		o, err := c.Objects.Insert("b", &storage.Object{Name: name, Metadata: map[string]string{"k": "v"}}).
			Media(bytes.NewReader(big), googleapi.ChunkSize(chunk), googleapi.ContentType("text/plain")).IfGenerationMatch(0).Do()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got, err := c.Objects.Get("b", name).Do()
		if err != nil || got.Generation != o.Generation || got.Size != uint64(len(big)) || got.Metadata["k"] != "v" || got.Md5Hash == "" {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/b/"+name, nil)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(answer.Body)
		if err != nil || !bytes.Equal(data, big) || answer.Header.Get("X-Goog-Generation") == "" {
			t.Errorf("%s: %d bytes, %v, %v", name, len(data), answer.Header, err)
		}
	}
}

func TestPreconditions(t *testing.T) {
	t.Parallel()
	s, c := client(t)
	put := func(match int64, data string) (*storage.Object, error) {
		return c.Objects.Insert("b", &storage.Object{Name: "o"}).Media(bytes.NewReader([]byte(data))).IfGenerationMatch(match).Do()
	}
	first, err := put(0, "1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := put(0, "2"); code(err) != http.StatusPreconditionFailed {
		t.Errorf("create again: %v", err)
	}
	second, err := put(first.Generation, "2")
	if err != nil || second.Generation <= first.Generation {
		t.Errorf("replace: %+v, %v", second, err)
	}
	if err := c.Objects.Delete("b", "o").IfGenerationMatch(first.Generation).Do(); code(err) != http.StatusPreconditionFailed {
		t.Errorf("delete the old version: %v", err)
	}
	if _, err := c.Objects.Get("b", "o").IfMetagenerationMatch(2).Do(); code(err) != http.StatusPreconditionFailed {
		t.Errorf("read another metageneration: %v", err)
	}
	if err := c.Objects.Delete("b", "o").IfGenerationMatch(second.Generation).Do(); err != nil {
		t.Error(err)
	}
	if err := c.Objects.Delete("b", "o").Do(); code(err) != http.StatusNotFound {
		t.Errorf("delete what is gone: %v", err)
	}
	if _, err := put(0, "3"); err != nil || s.Versions("b", "o") != 3 {
		t.Errorf("create after a deletion: %v, %d versions", err, s.Versions("b", "o"))
	}
	if _, err := c.Objects.Insert("b", &storage.Object{Name: "x", Crc32c: "AAAAAA=="}).Media(bytes.NewReader([]byte("y"))).Do(); code(err) != http.StatusBadRequest {
		t.Errorf("content with a wrong checksum: %v", err)
	}
}

func TestFolders(t *testing.T) {
	t.Parallel()
	s, c := client(t)
	for _, key := range []string{"prod/a/x", "prod/a/y", "prod/b/x", "prod/z", "staging/a"} {
		s.Put("b", key, nil)
	}
	answer, err := c.Objects.List("b").Prefix("prod/").Delimiter("/").Do()
	if err != nil || len(answer.Items) != 1 || answer.Items[0].Name != "prod/z" || len(answer.Prefixes) != 2 || answer.Prefixes[1] != "prod/b/" {
		t.Errorf("%+v, %v", answer, err)
	}
	count := 0
	if err := c.Objects.List("b").MaxResults(2).Pages(t.Context(), func(o *storage.Objects) error { count += len(o.Items); return nil }); err != nil || count != 5 {
		t.Errorf("%d objects in pages of 2, %v", count, err)
	}
}

func TestFaultsHappenAsOftenAsAsked(t *testing.T) {
	t.Parallel()
	s, c := client(t)
	s.Inject(gcstest.Fault{Method: http.MethodPost, Path: "/b/b/o", CommitThenDrop: true, Times: 1})
	insert := func() error {
		_, err := c.Objects.Insert("b", &storage.Object{Name: "o"}).Media(bytes.NewReader([]byte("1"))).
			WithRetry(nil, func(error) bool { return false }).Do()
		return err
	}
	if err := insert(); err == nil {
		t.Error("an answer that was dropped came")
	}
	if data, _, ok := s.Object("b", "o"); !ok || string(data) != "1" {
		t.Errorf("what was asked was not done: %q", data)
	}
	if err := insert(); err != nil || s.Versions("b", "o") != 2 {
		t.Errorf("the fault happened twice: %v", err)
	}
	s.Inject(gcstest.Fault{Path: "/o/o", Delay: 20 * time.Millisecond, CutBody: true, Times: 1})
	begin := time.Now()
	answer, err := c.Objects.Get("b", "o").Download()
	if err == nil {
		_, err = io.ReadAll(answer.Body)
	}
	if err == nil || time.Since(begin) < 20*time.Millisecond {
		t.Errorf("a cut body after %s: %v", time.Since(begin), err)
	}
}
