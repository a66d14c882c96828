package cli

import (
	"context"
	"net/http"
	"net/url"
	"slices"

	"github.com/spf13/cobra"

	"github.com/latamctl/latamctl/pkg/config"
	"github.com/latamctl/latamctl/pkg/telemetry"
)

// apiOptions are the flags of the commands that ask the HTTP API.
type apiOptions struct {
	url, dataDir        string
	apiKey, bearerToken telemetry.Secret
}

func addAPIFlags(cmd *cobra.Command, o *apiOptions) {
	f := cmd.Flags()
	f.StringVar(&o.url, "url", "", "base URL of the API (default the running latamctl up's)")
	f.StringVar(&o.dataDir, "data-dir", defaultDataDir, "folder of the running latamctl up")
	f.Var(secretFlag{&o.apiKey}, "api-key", "API key to ask with; set it as LATAM_API_KEY\n(default the running latamctl up's own token)")
	f.Var(secretFlag{&o.bearerToken}, "bearer-token", "access token to ask with; set it as LATAM_BEARER_TOKEN")
}

// secretFlag is a flag whose value no help, error or list of settings shows.
type secretFlag struct{ secret *telemetry.Secret }

func (s secretFlag) String() string {
	if s.secret == nil || !s.secret.IsSet() {
		return ""
	}
	return telemetry.Redacted
}

func (s secretFlag) Set(text string) error {
	*s.secret = telemetry.NewSecret(text)
	return nil
}

func (secretFlag) Type() string { return "secret" }

// apiTarget is an API and what it is asked with.
type apiTarget struct {
	// base is scheme, host and path without a slash at the end.
	base string
	// http sends the credentials to base's host only.
	http *http.Client
	// owner tells that they are the token of the running stack.
	owner bool
}

// api finds the API and the credentials for it: those of the flags, or the token that the running
// stack of this machine left for its owner. A key from LATAM_API_KEY or latam.yaml is for a remote
// API, so it does not replace that token.
func (a *app) api(ctx context.Context, o apiOptions) (apiTarget, error) {
	base, err := a.apiURL(ctx, o.url, o.dataDir)
	if err != nil {
		return apiTarget{}, err
	}
	u, err := url.Parse(base)
	if err != nil {
		return apiTarget{}, fail(exitUsage, "write it like https://api.example.com", err)
	}
	t := &credentials{base: http.DefaultTransport, scheme: u.Scheme, host: u.Host}
	target := apiTarget{base: base, http: &http.Client{Transport: t}}
	if a.sendable(o, "api_key", o.apiKey) {
		t.name, t.value = "X-Api-Key", o.apiKey
		a.warnWithoutTLS(u)
		return target, nil
	}
	if a.sendable(o, "bearer_token", o.bearerToken) {
		t.name, t.value = "Authorization", telemetry.NewSecret("Bearer "+o.bearerToken.Reveal())
		a.warnWithoutTLS(u)
		return target, nil
	}
	if s, err := a.findStack(o.dataDir); err == nil && s.API == u.Scheme+"://"+u.Host && s.Token.IsSet() {
		t.name, t.value = "Authorization", telemetry.NewSecret("Bearer "+s.Token.Reveal())
		target.owner = true
	}
	return target, nil
}

// sendable tells whether a secret is meant for the API of these flags.
func (a *app) sendable(o apiOptions, key string, secret telemetry.Secret) bool {
	return secret.IsSet() && (o.url != "" || slices.ContainsFunc(a.settings, func(s config.Setting) bool {
		return s.Key == key && s.Origin == config.OriginFlag
	}))
}

// warnWithoutTLS says when others can read the credentials on their way.
func (a *app) warnWithoutTLS(u *url.URL) {
	if u.Scheme != "https" && !loopbackHost(u.Hostname()) {
		a.log.Warn("the credentials travel without TLS", "url", u.Redacted())
	}
}

// credentials adds a header to the requests for one host; a redirect elsewhere goes without.
type credentials struct {
	base         http.RoundTripper
	scheme, host string
	name         string // of the header; empty sends none
	value        telemetry.Secret
}

func (c *credentials) RoundTrip(r *http.Request) (*http.Response, error) {
	if c.name != "" && r.URL.Scheme == c.scheme && r.URL.Host == c.host {
		r = r.Clone(r.Context())
		r.Header.Set(c.name, c.value.Reveal())
	}
	return c.base.RoundTrip(r)
}
