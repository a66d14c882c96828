package bucket

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/api/googleapi"
	"google.golang.org/api/option"
	storage "google.golang.org/api/storage/v1"
	apitransport "google.golang.org/api/transport/http"
)

// gcs is a bucket of Google Cloud Storage. Its generated client has no retries of its own here, so
// that every operation follows the same rules.
type gcs struct {
	name    string
	opts    Options
	service *storage.Service
}

func openGCS(ctx context.Context, name string, opts Options) (*gcs, error) {
	endpoint, err := endpointURL(opts.Endpoint)
	if err != nil {
		return nil, err
	}
	client := opts.Client
	if len(client) == 0 {
		var id Identity
		if client, id, err = Credentials(ctx, opts.Proc); err != nil {
			return nil, fmt.Errorf("open bucket gs://%s: %w", name, err)
		}
		if endpoint != nil && endpoint.Scheme == "http" && id.Source == metadataServer {
			client = []option.ClientOption{option.WithoutAuthentication()}
		}
	}
	base := &http.Transport{
		Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 16, IdleConnTimeout: 90 * time.Second,
		TLSHandshakeTimeout: opts.Timeout, ResponseHeaderTimeout: opts.Timeout, MaxResponseHeaderBytes: 64 << 10,
	}
	scoped := append([]option.ClientOption{option.WithScopes(storage.DevstorageFullControlScope)}, client...)
	transport, err := apitransport.NewTransport(ctx, storedTransport{base}, scoped...)
	if err != nil {
		return nil, fmt.Errorf("open bucket gs://%s: %w: %w; gcloud auth application-default login signs in", name, ErrDenied, err)
	}
	serviceOpts := []option.ClientOption{option.WithUserAgent("latamctl"), option.WithHTTPClient(&http.Client{Transport: transport, CheckRedirect: noRedirect})}
	if endpoint != nil {
		serviceOpts = append(serviceOpts, option.WithEndpoint(endpoint.String()+"/storage/v1/"))
	}
	service, err := storage.NewService(ctx, serviceOpts...)
	if err != nil {
		return nil, fmt.Errorf("open bucket gs://%s: %w", name, err)
	}
	return &gcs{name: name, opts: opts, service: service}, nil
}

// noRedirect keeps the credentials from following an answer to another place.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

func (g *gcs) URL() string { return "gs://" + g.name }

// Backend is Terraform's gcs backend.
func (g *gcs) Backend(prefix string) (kind string, config map[string]any) {
	config = map[string]any{"bucket": g.name, "prefix": prefix}
	if endpoint, err := endpointURL(g.opts.Endpoint); err == nil && endpoint != nil {
		config["storage_custom_endpoint"] = endpoint.String() + "/storage/v1/"
	}
	return "gcs", config
}

func (g *gcs) StateKey(prefix string) string { return path.Join(prefix, "default.tfstate") }

func (g *gcs) LockKey(prefix string) string { return path.Join(prefix, "default.tflock") }

// doing names an operation for errors.
func (g *gcs) doing(verb, key string) string { return verb + " gs://" + g.name + "/" + key }

func (g *gcs) Read(ctx context.Context, key string) (data []byte, version Generation, err error) {
	if err := checkKey(key); err != nil {
		return nil, "", err
	}
	err = g.retry(ctx, g.doing("read", key), func(ctx context.Context, _ bool) error {
		answer, err := g.service.Objects.Get(g.name, key).Context(ctx).Download()
		if err != nil {
			return err
		}
		defer func() { _ = answer.Body.Close() }() // It was only read.
		if data, err = io.ReadAll(io.LimitReader(answer.Body, g.opts.MaxObjectBytes+1)); err != nil {
			return err
		}
		if int64(len(data)) > g.opts.MaxObjectBytes {
			return &unusable{fmt.Sprintf("it has more than the %d bytes that are allowed", g.opts.MaxObjectBytes)}
		}
		version = Generation(answer.Header.Get("X-Goog-Generation"))
		if _, err := strconv.ParseInt(string(version), 10, 64); err != nil {
			return &unusable{fmt.Sprintf("the answer names no generation but %q", version)}
		}
		return nil
	})
	if err != nil {
		return nil, "", err
	}
	return data, version, nil
}

func (g *gcs) Write(ctx context.Context, key string, data []byte, version Generation) (written Generation, err error) {
	if err := checkKey(key); err != nil {
		return "", err
	}
	if int64(len(data)) > g.opts.MaxObjectBytes {
		return "", fmt.Errorf("%s: it has %d bytes, and %d are allowed", g.doing("write", key), len(data), g.opts.MaxObjectBytes)
	}
	generation, err := parseGeneration(version)
	if err != nil {
		return "", fmt.Errorf("%s: %w", g.doing("write", key), err)
	}
	sum := crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli))
	object := &storage.Object{Name: key, ContentType: "application/json", CacheControl: "no-store",
		Crc32c: base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, sum))}
	err = g.retry(ctx, g.doing("write", key), func(ctx context.Context, again bool) error {
		call := g.service.Objects.Insert(g.name, object).Context(ctx).
			Media(bytes.NewReader(data), googleapi.ContentType(object.ContentType), googleapi.ChunkSize(0))
		if version != Any {
			call.IfGenerationMatch(generation)
		}
		stored, err := call.Do()
		if again && statusOf(err) == http.StatusPreconditionFailed {
			// An attempt before this one may have been done although its answer was lost.
			written, err = g.isOurs(ctx, key, data, err)
			return err
		}
		if err == nil {
			written = Generation(strconv.FormatInt(stored.Generation, 10))
		}
		return err
	})
	return written, err
}

// isOurs turns a conflict into success when what is stored is what we wanted to store.
func (g *gcs) isOurs(ctx context.Context, key string, data []byte, conflict error) (Generation, error) {
	stored, version, err := g.Read(ctx, key)
	if err != nil || !bytes.Equal(stored, data) {
		return "", conflict
	}
	return version, nil
}

func (g *gcs) Delete(ctx context.Context, key string, version Generation) error {
	if err := checkKey(key); err != nil {
		return err
	}
	generation, err := parseGeneration(version)
	if err == nil && generation == 0 && version != Any {
		err = errors.New("it needs the version to delete")
	}
	if err != nil {
		return fmt.Errorf("%s: %w", g.doing("delete", key), err)
	}
	err = g.retry(ctx, g.doing("delete", key), func(ctx context.Context, again bool) error {
		call := g.service.Objects.Delete(g.name, key).Context(ctx)
		if version != Any {
			call.IfGenerationMatch(generation)
		}
		err := call.Do()
		if again && statusOf(err) == http.StatusPreconditionFailed {
			return nil // This version is gone, by us or by whoever wrote the next one.
		}
		return err
	})
	if errors.Is(err, ErrNotExist) {
		return nil
	}
	return err
}

func (g *gcs) List(ctx context.Context, prefix string) ([]string, error) {
	var keys []string
	for page := ""; ; {
		var answer *storage.Objects
		err := g.retry(ctx, g.doing("list", prefix), func(ctx context.Context, _ bool) (err error) {
			answer, err = g.service.Objects.List(g.name).Context(ctx).Prefix(prefix).PageToken(page).Fields("items(name)", "nextPageToken").Do()
			return err
		})
		if err != nil {
			return nil, err
		}
		for _, object := range answer.Items {
			keys = append(keys, object.Name)
		}
		if len(keys) > g.opts.MaxObjects {
			return nil, fmt.Errorf("%s: there are more than %d objects", g.doing("list", prefix), g.opts.MaxObjects)
		}
		if answer.NextPageToken == "" {
			slices.Sort(keys)
			return keys, nil
		}
		if answer.NextPageToken == page {
			return nil, fmt.Errorf("%s: the answer names the same page again", g.doing("list", prefix))
		}
		page = answer.NextPageToken
	}
}

func parseGeneration(version Generation) (int64, error) {
	if version == "" || version == Any {
		return 0, nil
	}
	n, err := strconv.ParseInt(string(version), 10, 64)
	if err != nil || n <= 0 {
		return 0, fmt.Errorf("%q is no generation of an object", strings.ToValidUTF8(string(version), "?"))
	}
	return n, nil
}
