package auth

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// keySet is the keys of an issuer as of one fetch.
type keySet struct {
	keys  map[string]signer
	fresh time.Time // until then nothing is fetched
	until time.Time // until then they are used
}

// signer is a public key and the algorithm that it signs with.
type signer struct {
	alg string
	key any
}

// jwks is an issuer's keys, fetched when they are first needed and again in the background when
// their age says so. There is one fetch at a time, whoever waits for it.
type jwks struct {
	opts JWKSOptions
	// discover returns the address of the keys.
	discover func(context.Context, *fetcher) (string, error)
	fetcher  *fetcher
	log      *slog.Logger
	now      func() time.Time

	mu      sync.Mutex
	set     *keySet
	flight  chan struct{} // closed when the running fetch ends; nil when none runs
	lastTry time.Time
	failed  bool // the last try
}

// current returns the keys in force without waiting, nil when there are none.
func (j *jwks) current() *keySet {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.usable(j.now())
}

// usable needs the lock. It starts a fetch in the background when the keys are past their age.
func (j *jwks) usable(now time.Time) *keySet {
	if j.set == nil || !now.Before(j.set.until) {
		return nil
	}
	if !now.Before(j.set.fresh) && j.mayTry(now, j.set) {
		j.start(now)
	}
	return j.set
}

// find returns the key with an id. It waits for a fetch when there are no keys, or when the id is
// not among them and the last fetch was long enough ago. Without an answer from the issuer an
// unknown id may be a new one, so it is reasonKeysMissing and not reasonUnknownKey.
func (j *jwks) find(ctx context.Context, kid string) (signer, *keySet, error) {
	for waited := false; ; waited = true {
		j.mu.Lock()
		now := j.now()
		set := j.usable(now)
		if set != nil {
			if s, ok := set.keys[kid]; ok {
				j.mu.Unlock()
				return s, set, nil
			}
		}
		if waited || j.flight == nil && !j.mayTry(now, set) {
			unknown := set != nil && !j.failed
			j.mu.Unlock()
			if unknown {
				return signer{}, nil, reasonUnknownKey
			}
			return signer{}, nil, reasonKeysMissing
		}
		flight := j.start(now)
		j.mu.Unlock()
		select {
		case <-flight:
		case <-ctx.Done():
			return signer{}, nil, reasonKeysMissing
		}
	}
}

func (j *jwks) mayTry(now time.Time, set *keySet) bool {
	pause := j.opts.Refetch
	if set == nil && j.failed {
		pause = j.opts.Retry
	}
	return j.lastTry.IsZero() || now.Sub(j.lastTry) >= pause
}

// start needs the lock. The fetch belongs to no request: the one that began it may go away while
// others wait.
func (j *jwks) start(now time.Time) chan struct{} {
	if j.flight != nil {
		return j.flight
	}
	flight := make(chan struct{})
	j.flight, j.lastTry = flight, now
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), j.opts.Timeout)
		defer cancel()
		set, err := j.fetch(ctx)
		if err != nil {
			j.log.Warn("the keys of a token issuer cannot be fetched", "error", err)
		}
		j.mu.Lock()
		defer j.mu.Unlock()
		j.flight, j.failed = nil, err != nil
		if err == nil {
			j.set = set
		}
		close(flight)
	}()
	return flight
}

func (j *jwks) fetch(ctx context.Context) (set *keySet, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = errors.New("read the keys of a token issuer: the parser panicked")
		}
	}()
	address, err := j.discover(ctx, j.fetcher)
	if err != nil {
		return nil, err
	}
	body, header, err := j.fetcher.get(ctx, address)
	if err != nil {
		return nil, err
	}
	keys, err := parseKeySet(body)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", address, err)
	}
	now := j.now()
	fresh := now.Add(min(max(maxAge(header), j.opts.MinAge), j.opts.MaxAge))
	return &keySet{keys: keys, fresh: fresh, until: fresh.Add(j.opts.Grace)}, nil
}

// defaultMaxAge is how long keys are fresh whose issuer does not say.
const defaultMaxAge = time.Hour

// maxAge reads Cache-Control and Age.
func maxAge(h http.Header) time.Duration {
	age := defaultMaxAge
	for directive := range strings.SplitSeq(h.Get("Cache-Control"), ",") {
		name, value, _ := strings.Cut(strings.ToLower(strings.TrimSpace(directive)), "=")
		switch name {
		case "no-store", "no-cache":
			return 0
		case "max-age":
			if n, err := strconv.Atoi(strings.Trim(value, `"`)); err == nil && n >= 0 {
				age = time.Duration(min(n, 1<<30)) * time.Second
			}
		}
	}
	if n, err := strconv.Atoi(h.Get("Age")); err == nil && n > 0 {
		age -= time.Duration(min(n, 1<<30)) * time.Second
	}
	return age
}

// The RSA keys that are used: smaller ones are weak, and larger ones cost too much a token.
const (
	minRSABits = 2048
	maxRSABits = 4096
	maxSigners = 100
)

// parseKeySet reads a JWKS. Keys that cannot sign our tokens are skipped, because an issuer may
// publish others beside them.
func parseKeySet(body []byte) (map[string]signer, error) {
	var doc struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(body, &doc); err != nil {
		return nil, fmt.Errorf("it is not a JWKS: %w", err)
	}
	if len(doc.Keys) > maxSigners {
		return nil, fmt.Errorf("it has %d keys, at most %d are read", len(doc.Keys), maxSigners)
	}
	keys := map[string]signer{}
	for _, raw := range doc.Keys {
		var k jose.JSONWebKey
		if k.UnmarshalJSON(raw) != nil || k.KeyID == "" || k.Use != "" && k.Use != "sig" {
			continue
		}
		if _, twice := keys[k.KeyID]; twice {
			continue
		}
		if s, ok := signerOf(k); ok {
			keys[k.KeyID] = s
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("it has no key that signs with RS256 or ES256 and has a kid")
	}
	return keys, nil
}

func signerOf(k jose.JSONWebKey) (signer, bool) {
	s := signer{key: k.Key}
	switch key := k.Key.(type) {
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits < minRSABits || bits > maxRSABits {
			return s, false
		}
		s.alg = string(jose.RS256)
	case *ecdsa.PublicKey:
		if key.Curve != elliptic.P256() {
			return s, false
		}
		s.alg = string(jose.ES256)
	default:
		return s, false
	}
	return s, k.Algorithm == "" || k.Algorithm == s.alg
}

// fetcher gets small JSON documents.
type fetcher struct {
	client   *http.Client
	maxBytes int64
}

// newFetcher follows no redirects: an issuer's keys come from where the settings or its own
// discovery document say.
func newFetcher(transport http.RoundTripper, maxBytes int64) *fetcher {
	return &fetcher{maxBytes: maxBytes, client: &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

func (f *fetcher) get(ctx context.Context, address string) ([]byte, http.Header, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, nil, fmt.Errorf("fetch %s: %w", address, err)
	}
	req.Header.Set("Accept", "application/json")
	resp, err := f.client.Do(req)
	if err != nil {
		return nil, nil, fmt.Errorf("fetch keys: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, nil, fmt.Errorf("fetch %s: it answered %d, expected 200", address, resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, f.maxBytes+1))
	if err != nil {
		return nil, nil, fmt.Errorf("fetch %s: %w", address, err)
	}
	if int64(len(body)) > f.maxBytes {
		return nil, nil, fmt.Errorf("fetch %s: the answer is larger than %d bytes", address, f.maxBytes)
	}
	return body, resp.Header, nil
}

// fixedAddress is a discover for an issuer whose keys have a known address.
func fixedAddress(address string) func(context.Context, *fetcher) (string, error) {
	return func(context.Context, *fetcher) (string, error) { return address, nil }
}

// discovery is a discover by OpenID Connect Discovery.
func discovery(issuer string) func(context.Context, *fetcher) (string, error) {
	return func(ctx context.Context, f *fetcher) (string, error) {
		address := strings.TrimSuffix(issuer, "/") + "/.well-known/openid-configuration"
		body, _, err := f.get(ctx, address)
		if err != nil {
			return "", err
		}
		var doc struct {
			Issuer  string `json:"issuer"`
			JWKSURI string `json:"jwks_uri"`
		}
		if err := json.Unmarshal(body, &doc); err != nil {
			return "", fmt.Errorf("read %s: %w", address, err)
		}
		if doc.Issuer != issuer {
			return "", fmt.Errorf("read %s: issuer is %q, expected %q as it is set", address, doc.Issuer, issuer)
		}
		if err := checkURI(doc.JWKSURI, issuer); err != nil {
			return "", fmt.Errorf("read %s: %w", address, err)
		}
		return doc.JWKSURI, nil
	}
}

// checkURI lets an https issuer name https addresses only, whatever this machine could reach.
func checkURI(uri, issuer string) error {
	if strings.HasPrefix(issuer, "https://") && !strings.HasPrefix(uri, "https://") {
		return fmt.Errorf("jwks_uri %q is not https", uri)
	}
	return checkURL("jwks_uri", uri)
}
