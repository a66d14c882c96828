package auth

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/latamctl/latamctl/pkg/telemetry"
)

// GoogleJWKSURL is where Google publishes the keys that sign its ID tokens.
const GoogleJWKSURL = "https://www.googleapis.com/oauth2/v3/certs"

// Options say who is let in and bound what asking costs. The zero value of a field means its default.
type Options struct {
	// Open lets everybody in, whatever the datasets declare.
	Open bool
	// BehindGateway asks for the gateway's token on every dataset, whatever it declares: callers were
	// checked by the gateway, and nobody gets past it.
	BehindGateway bool
	// OwnerToken is accepted on every dataset and knows no quota; empty is none.
	OwnerToken telemetry.Secret
	// KeysFile holds the API keys.
	KeysFile string
	// OIDC and Gateway are needed when a dataset has that mode, Gateway with BehindGateway too.
	OIDC    OIDC
	Gateway Gateway

	// KeysInterval is how often the file of the keys is looked at, at most. Default 1s.
	KeysInterval time.Duration
	// MaxTokenBytes is the longest token that is looked at. Default 4 KiB.
	MaxTokenBytes int
	// Skew is how far iat and nbf may lie in the future. Default 60s.
	Skew time.Duration
	// MaxCallers is how many callers of one dataset a quota keeps count of. Default 10,000.
	MaxCallers int
	// MaxVerified is how many verified tokens of an issuer are remembered. Default 4,096.
	MaxVerified int
	// JWKS bounds how an issuer's keys are fetched.
	JWKS JWKSOptions
}

// OIDC is an issuer of tokens by OpenID Connect.
type OIDC struct {
	// Issuer is the iss of its tokens; its keys are found through
	// <Issuer>/.well-known/openid-configuration. https, or http on this machine.
	Issuer string
	// Audience has to be among the aud of a token.
	Audience string
	// DatasetsClaim names the claim that lists the datasets of a token, as an array or as words; "*"
	// is all of them. Empty: a token is good for every dataset.
	DatasetsClaim string
}

// Gateway is an API Gateway in front, which proves itself with a Google ID token.
type Gateway struct {
	// Audience is the aud of its token.
	Audience string
	// Emails are the service accounts that it may run as.
	Emails []string
	// JWKSURL is where the signing keys are. Default GoogleJWKSURL.
	JWKSURL string
}

// JWKSOptions bound how the keys of an issuer are fetched and kept.
type JWKSOptions struct {
	// Timeout bounds one fetch. Default 5s.
	Timeout time.Duration
	// MaxBytes bounds an answer. Default 1 MiB.
	MaxBytes int64
	// MinAge and MaxAge bound the max-age that the issuer gives. Default 1m and 24h.
	MinAge, MaxAge time.Duration
	// Grace is how long keys are still used after their max-age when no new ones can be had. Default 1h.
	Grace time.Duration
	// Refetch is the pause between two fetches that unknown key ids cause. Default 30s.
	Refetch time.Duration
	// Retry is the pause after a failed fetch while there are no keys at all. Default 5s.
	Retry time.Duration
}

// Defaults fills in what is not set.
func (o Options) Defaults() Options {
	for d, value := range map[*time.Duration]time.Duration{
		&o.KeysInterval: time.Second, &o.Skew: time.Minute,
		&o.JWKS.Timeout: 5 * time.Second, &o.JWKS.MinAge: time.Minute, &o.JWKS.MaxAge: 24 * time.Hour,
		&o.JWKS.Grace: time.Hour, &o.JWKS.Refetch: 30 * time.Second, &o.JWKS.Retry: 5 * time.Second,
	} {
		if *d == 0 {
			*d = value
		}
	}
	for n, value := range map[*int]int{&o.MaxTokenBytes: 4 << 10, &o.MaxCallers: 10_000, &o.MaxVerified: 4096} {
		if *n == 0 {
			*n = value
		}
	}
	if o.JWKS.MaxBytes == 0 {
		o.JWKS.MaxBytes = 1 << 20
	}
	if o.Gateway.JWKSURL == "" {
		o.Gateway.JWKSURL = GoogleJWKSURL
	}
	o.OIDC.Issuer = strings.TrimSpace(o.OIDC.Issuer)
	return o
}

// Validate says what is out of range.
func (o Options) Validate() error {
	var errs []error
	for _, d := range []struct {
		name            string
		value, min, max time.Duration
	}{
		{"interval of the key file", o.KeysInterval, time.Millisecond, time.Minute},
		{"clock skew", o.Skew, time.Second, 10 * time.Minute},
		{"JWKS timeout", o.JWKS.Timeout, time.Millisecond, time.Minute},
		{"JWKS minimum age", o.JWKS.MinAge, time.Second, 24 * time.Hour},
		{"JWKS maximum age", o.JWKS.MaxAge, o.JWKS.MinAge, 7 * 24 * time.Hour},
		{"JWKS grace", o.JWKS.Grace, time.Second, 24 * time.Hour},
		{"JWKS refetch pause", o.JWKS.Refetch, time.Second, time.Hour},
		{"JWKS retry pause", o.JWKS.Retry, time.Second, time.Hour},
	} {
		if d.value < d.min || d.value > d.max {
			errs = append(errs, fmt.Errorf("%s %s is not in %s..%s", d.name, d.value, d.min, d.max))
		}
	}
	for _, n := range []struct {
		name            string
		value, min, max int64
	}{
		{"max token bytes", int64(o.MaxTokenBytes), 256, 64 << 10},
		{"max callers", int64(o.MaxCallers), 1, 10_000_000},
		{"max verified tokens", int64(o.MaxVerified), 1, 1_000_000},
		{"max JWKS bytes", o.JWKS.MaxBytes, 256, 64 << 20},
	} {
		if n.value < n.min || n.value > n.max {
			errs = append(errs, fmt.Errorf("%s %d is not in %d..%d", n.name, n.value, n.min, n.max))
		}
	}
	if o.OIDC.Issuer != "" {
		errs = append(errs, checkURL("OIDC issuer", o.OIDC.Issuer))
	}
	errs = append(errs, checkURL("URL of Google's keys", o.Gateway.JWKSURL))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("auth: %w", err)
	}
	return nil
}

// checkURL accepts https, and http on this machine only: who can change the keys on their way can
// make tokens.
func checkURL(what, text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "":
		return fmt.Errorf("%s %q is not a URL like https://issuer.example.com", what, text)
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return fmt.Errorf("%s %q has a user, a query or a fragment, expected scheme, host and path only", what, u.Redacted())
	case u.Scheme == "https", u.Scheme == "http" && loopback(u.Hostname()):
		return nil
	}
	return fmt.Errorf("%s %q is not https", what, text)
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
