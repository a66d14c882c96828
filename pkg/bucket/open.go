package bucket

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"path"
	"regexp"
	"strings"
	"time"

	"google.golang.org/api/option"

	"github.com/latamctl/latamctl/pkg/proc"
)

// Managed is a bucket that can also be made and looked at as a whole. Open returns one.
type Managed interface {
	Bucket
	// Ensure makes the bucket when there is none, and tells whether it did. One that exists is left as it is.
	Ensure(ctx context.Context, s Settings) (created bool, err error)
	// Inspect says in what an existing bucket differs from how Ensure makes one. It changes nothing.
	Inspect(ctx context.Context, s Settings) ([]Difference, error)
}

// Options say how to reach a bucket, and bound what one operation may take.
type Options struct {
	// Proc gives the files of a folder and the environment's credentials.
	Proc *proc.Process
	// Endpoint is the URL of the storage API without a path, empty for Google's. One at http:// on this
	// machine is asked without credentials unless there is an access token, which suits a stand-in.
	Endpoint string
	// Client says how to authenticate; none uses what Credentials finds.
	Client []option.ClientOption
	// Timeout bounds one operation with its retries. Default 60s.
	Timeout time.Duration
	// Attempts is how often a request is sent before it fails as unavailable. Default 5.
	Attempts int
	// RetryDelay is the wait before the second attempt; it doubles each time, with jitter. Default 200ms.
	RetryDelay time.Duration
	// MaxObjectBytes bounds one object. Default 64 MiB.
	MaxObjectBytes int64
	// MaxObjects bounds one list. Default 10,000.
	MaxObjects int
}

// Defaults fills in what is not set.
func (o Options) Defaults() Options {
	if o.Timeout == 0 {
		o.Timeout = time.Minute
	}
	if o.Attempts == 0 {
		o.Attempts = 5
	}
	if o.RetryDelay == 0 {
		o.RetryDelay = 200 * time.Millisecond
	}
	if o.MaxObjectBytes == 0 {
		o.MaxObjectBytes = 64 << 20
	}
	if o.MaxObjects == 0 {
		o.MaxObjects = 10_000
	}
	return o
}

// Validate says what is missing or out of range.
func (o Options) Validate() error {
	var errs []error
	check := func(good bool, format string, args ...any) {
		if !good {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(o.Proc != nil, "the process is missing")
	check(o.Timeout >= 10*time.Millisecond && o.Timeout <= 10*time.Minute, "timeout %s is not in 10ms..10m", o.Timeout)
	check(o.Attempts >= 1 && o.Attempts <= 20, "attempts %d is not in 1..20", o.Attempts)
	check(o.RetryDelay >= time.Millisecond && o.RetryDelay <= time.Minute, "retry delay %s is not in 1ms..1m", o.RetryDelay)
	check(o.MaxObjectBytes >= 1<<10 && o.MaxObjectBytes <= 1<<30, "max object bytes %d is not in 1 KiB..1 GiB", o.MaxObjectBytes)
	check(o.MaxObjects >= 1 && o.MaxObjects <= 1_000_000, "max objects %d is not in 1..1000000", o.MaxObjects)
	if _, err := endpointURL(o.Endpoint); err != nil {
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("open the bucket of states: %w", err)
	}
	return nil
}

// endpointURL is where the API is, nil for Google's own.
func endpointURL(endpoint string) (*url.URL, error) {
	if endpoint == "" {
		return nil, nil //nolint:nilnil // The absence of an endpoint is no error.
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || u.RawQuery != "" || u.User != nil {
		return nil, fmt.Errorf("endpoint %q is not a URL such as https://storage.example.com", endpoint)
	}
	ip := net.ParseIP(u.Hostname())
	local := u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
	if u.Scheme != "https" && (u.Scheme != "http" || !local) {
		return nil, fmt.Errorf("endpoint %q is neither at https:// nor at http:// on this machine", endpoint)
	}
	u.Path = strings.TrimSuffix(strings.TrimSuffix(u.Path, "/"), "/storage/v1")
	return u, nil
}

// bucketName is what Google takes, without the dots that would need a verified domain.
var bucketName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{1,61}[a-z0-9]$`)

// Open returns the bucket at gs://name, or the folder at any other path without a scheme. It asks
// nothing of Google; only missing credentials are an error, ErrDenied.
func Open(ctx context.Context, location string, opts Options) (Managed, error) {
	opts = opts.Defaults()
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	name, google := strings.CutPrefix(location, "gs://")
	switch {
	case google && !bucketName.MatchString(strings.TrimSuffix(name, "/")):
		return nil, fmt.Errorf("open the bucket of states %q: expected gs://NAME with 3 to 63 lower-case letters, digits, - and _, and no folder in it; set state", location)
	case google:
		return openGCS(ctx, strings.TrimSuffix(name, "/"), opts)
	case location == "":
		return nil, errors.New("open the bucket of states: no place is named; set state to gs://NAME or to a folder")
	case strings.Contains(location, "://"):
		return nil, fmt.Errorf("open the bucket of states %q: expected gs://NAME or a folder; set state", location)
	default:
		return openFolder(location, opts)
	}
}

// checkKey refuses keys that would leave the bucket's folder, or that have more than one spelling.
func checkKey(key string) error {
	if key == "" || len(key) > 1024 || strings.ContainsAny(key, "\x00\r\n\\") || path.Clean("/"+key) != "/"+key {
		return fmt.Errorf("object key %q is not a relative path without . and .. in it", key)
	}
	return nil
}
