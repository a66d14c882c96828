package bucket

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	storage "google.golang.org/api/storage/v1"
)

// Object is one version of an object in Google Cloud Storage, to be read as a stream.
type Object struct {
	// URL is where it is: gs://bucket/key.
	URL string
	// Bytes is its size as it is stored.
	Bytes int64
	// Generation is the version that is read, whatever is written meanwhile.
	Generation Generation

	g      *gcs
	key    string
	crc32c string
}

// FindObjects returns the object at gs://bucket/key. A key with * ? or [ stands for all keys of that
// pattern, in their order, where * does not stand for a slash; there has to be one at least.
func FindObjects(ctx context.Context, location string, opts Options) ([]*Object, error) {
	opts = opts.Defaults()
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	rest, google := strings.CutPrefix(location, "gs://")
	name, key, _ := strings.Cut(rest, "/")
	if !google || !bucketName.MatchString(name) || key == "" {
		return nil, fmt.Errorf("read %q: expected gs://BUCKET/OBJECT", location)
	}
	if _, err := path.Match(key, ""); err != nil {
		return nil, fmt.Errorf("read %s: %w", location, err)
	}
	g, err := openGCS(ctx, name, opts)
	if err != nil {
		return nil, err
	}
	if !strings.ContainsAny(key, "*?[") {
		one, err := g.look(ctx, key)
		return []*Object{one}, err
	}
	return g.match(ctx, location, key)
}

// look finds the version of an object that is there now.
func (g *gcs) look(ctx context.Context, key string) (found *Object, err error) {
	err = g.retry(ctx, g.doing("look at", key), func(ctx context.Context, _ bool) error {
		o, err := g.service.Objects.Get(g.name, key).Context(ctx).Do()
		if err == nil {
			found = g.object(o)
		}
		return err
	})
	return found, err
}

// match finds the objects of a pattern.
func (g *gcs) match(ctx context.Context, location, pattern string) ([]*Object, error) {
	prefix := pattern[:strings.IndexAny(pattern, `*?[\`)]
	var found []*Object
	for page := ""; ; {
		var answer *storage.Objects
		err := g.retry(ctx, g.doing("list", prefix), func(ctx context.Context, _ bool) (err error) {
			answer, err = g.service.Objects.List(g.name).Context(ctx).Prefix(prefix).PageToken(page).
				Fields("items(name,size,generation,crc32c)", "nextPageToken").Do()
			return err
		})
		if err != nil {
			return nil, err
		}
		for _, o := range answer.Items {
			if ok, _ := path.Match(pattern, o.Name); ok { // The pattern was checked.
				found = append(found, g.object(o))
			}
		}
		switch {
		case len(found) > g.opts.MaxObjects:
			return nil, fmt.Errorf("read %s: it stands for more than %d objects", location, g.opts.MaxObjects)
		case answer.NextPageToken == "" && len(found) == 0:
			return nil, fmt.Errorf("read %s: %w", location, ErrNotExist)
		case answer.NextPageToken == "":
			slices.SortFunc(found, func(a, b *Object) int { return strings.Compare(a.key, b.key) })
			return found, nil
		case answer.NextPageToken == page:
			return nil, fmt.Errorf("%s: the answer names the same page again", g.doing("list", prefix))
		}
		page = answer.NextPageToken
	}
}

func (g *gcs) object(o *storage.Object) *Object {
	return &Object{
		URL: "gs://" + g.name + "/" + o.Name, Bytes: int64(o.Size), Generation: Generation(strconv.FormatInt(o.Generation, 10)),
		g: g, key: o.Name, crc32c: o.Crc32c,
	}
}

// Open reads the object from its start, as it is stored: what is compressed stays so. A connection
// that breaks is followed by another one that goes on where it ended; a read fails once that did not
// help several times in a row, or when this version is gone. At the end the checksum is compared.
func (o *Object) Open(ctx context.Context) io.ReadCloser {
	return &objectReader{ctx: ctx, object: o, sum: crc32.New(crc32.MakeTable(crc32.Castagnoli))}
}

// asStored marks the context of a request whose answer is wanted as it is stored. Otherwise what was
// stored with gzip as its encoding would come decompressed, of which no part can be asked for.
type asStored struct{}

// storedTransport sends these requests in the way that has Cloud Storage, and Go, leave the answer alone.
type storedTransport struct{ base http.RoundTripper }

func (t storedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Context().Value(asStored{}) != nil {
		r = r.Clone(r.Context())
		r.Header.Set("Accept-Encoding", "gzip")
	}
	return t.base.RoundTrip(r)
}

// objectReader is one reading of an object.
type objectReader struct {
	ctx    context.Context //nolint:containedctx // A reader has no other way to be given up.
	object *Object
	at     int64
	sum    interface {
		io.Writer
		Sum32() uint32
	}
	fails int // in a row

	body io.ReadCloser
	// stalled ends a connection that is silent for too long.
	stalled *time.Timer
	cancel  context.CancelFunc
}

func (r *objectReader) Read(p []byte) (int, error) {
	for {
		if err := context.Cause(r.ctx); err != nil {
			return 0, fmt.Errorf("read %s: %w", r.object.URL, err)
		}
		if r.at >= r.object.Bytes {
			return 0, r.check()
		}
		n, err := r.read(p)
		if n > 0 {
			r.at += int64(n)
			r.fails = 0
			_, _ = r.sum.Write(p[:n]) // A hash takes everything.
			return n, nil
		}
		if err = r.broken(err); err != nil {
			return 0, err
		}
	}
}

// read reads from the connection, after opening one when there is none.
func (r *objectReader) read(p []byte) (int, error) {
	if r.body == nil {
		if err := r.connect(); err != nil {
			return 0, err
		}
	}
	r.stalled.Reset(r.object.g.opts.Timeout)
	n, err := r.body.Read(p)
	if n == 0 && errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func (r *objectReader) connect() error {
	o := r.object
	generation, err := parseGeneration(o.Generation)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.WithValue(r.ctx, asStored{}, true))
	call := o.g.service.Objects.Get(o.g.name, o.key).Context(ctx).Generation(generation)
	if r.at > 0 {
		call.Header().Set("Range", fmt.Sprintf("bytes=%d-", r.at))
	}
	answer, err := call.Download()
	if err != nil {
		cancel()
		return err
	}
	if r.at > 0 && answer.StatusCode != http.StatusPartialContent {
		cancel()
		return errors.Join(&unusable{"the rest of it was asked for, and the answer is " + answer.Status}, answer.Body.Close())
	}
	r.body, r.cancel = answer.Body, cancel
	r.stalled = time.AfterFunc(o.g.opts.Timeout, cancel)
	return nil
}

// broken gives up the connection, and returns the error when another one would not help.
func (r *objectReader) broken(err error) error {
	_ = r.Close() // It was only read.
	g := r.object.g
	doing := fmt.Sprintf("read %s at byte %d", r.object.URL, r.at)
	if r.ctx.Err() != nil {
		return fmt.Errorf("%s: %w", doing, context.Cause(r.ctx))
	}
	if !transient(err) {
		return classify(doing, err)
	}
	if r.fails++; r.fails >= g.opts.Attempts {
		return fmt.Errorf("%s: %w: %d attempts, the last: %w", doing, ErrUnavailable, r.fails, brief(err))
	}
	delay := min(g.opts.RetryDelay<<(r.fails-1), 5*time.Second)
	timer := time.NewTimer(delay/2 + rand.N(delay/2+1))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.ctx.Done():
	}
	return nil
}

// check compares the checksum of everything that was read.
func (r *objectReader) check() error {
	sum := base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, r.sum.Sum32()))
	if want := r.object.crc32c; want != "" && want != sum {
		return fmt.Errorf("read %s: its content has the checksum %s, expected %s: try again", r.object.URL, sum, want)
	}
	return io.EOF
}

// Close gives up the connection.
func (r *objectReader) Close() error {
	if r.body == nil {
		return nil
	}
	r.stalled.Stop()
	err := r.body.Close()
	r.cancel()
	r.body = nil
	return err
}
