package datadog

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/DataDog/datadog-api-client-go/v2/api/datadog"
	"github.com/DataDog/datadog-api-client-go/v2/api/datadogV1"

	"github.com/latamctl/latamctl/pkg/telemetry"
)

// DefaultSite is where Datadog keeps an organisation unless it says otherwise.
const DefaultSite = "datadoghq.com"

// Options say which Datadog, who asks, and what a call may take.
type Options struct {
	// Site is one of Sites; "" is DefaultSite.
	Site string
	// URL replaces https://api.SITE, for a proxy. Plain http goes to this machine only.
	URL string
	// APIKey and AppKey, or BearerToken alone.
	APIKey, AppKey, BearerToken telemetry.Secret
	UserAgent                   string       // default latamctl
	Log                         *slog.Logger // default none
	// Transport sends single requests; default one that honours HTTPS_PROXY.
	Transport http.RoundTripper
	// CallBudget is what a call may take with all its waits and repetitions, default 2 minutes.
	CallBudget time.Duration
	// AttemptTime is what one request may take, default 30 seconds.
	AttemptTime time.Duration
	// MaxBodyBytes is the largest answer that is read, default 64 MiB.
	MaxBodyBytes int64
	// Parallel is how many requests a list may have under way, default 8.
	Parallel int
}

// Client speaks with Datadog. It may be used by several goroutines at once.
type Client struct {
	site, base string
	keys       []telemetry.Secret
	bearer     bool
	parallel   int
	budget     time.Duration
	log        *slog.Logger
	http       *http.Client
	monitors   *datadogV1.MonitorsApi
	slos       *datadogV1.ServiceLevelObjectivesApi
	dashboards *datadogV1.DashboardsApi
	auth       *datadogV1.AuthenticationApi
}

// Sites are those that Datadog runs.
func Sites() []string {
	return []string{
		"datadoghq.com", "us3.datadoghq.com", "us5.datadoghq.com", "datadoghq.eu", "ap1.datadoghq.com",
		"ap2.datadoghq.com", "uk1.datadoghq.com", "ddog-gov.com", "us2.ddog-gov.com",
	}
}

// New checks the options; it does not call Datadog.
func New(o Options) (*Client, error) {
	o = withDefaults(o)
	base, err := baseURL(o.Site, o.URL)
	if err != nil {
		return nil, err
	}
	if err := checkKeys(o); err != nil {
		return nil, err
	}
	c := &Client{
		site: o.Site, base: base, keys: []telemetry.Secret{o.APIKey, o.AppKey, o.BearerToken}, bearer: o.BearerToken.IsSet(),
		parallel: o.Parallel, budget: o.CallBudget, log: o.Log,
	}
	if o.URL != "" {
		c.site = base
	}
	c.http = &http.Client{
		Transport: &transport{
			base: o.Transport, authorize: authorizer(o), scrub: c.scrubError, limits: newLimiter(), log: o.Log,
			attemptTime: o.AttemptTime, maxBodyBytes: o.MaxBodyBytes,
		},
		// The keys go nowhere but to the address that was asked for.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	cfg := datadog.NewConfiguration()
	cfg.HTTPClient, cfg.UserAgent, cfg.Compress = c.http, o.UserAgent, false
	cfg.Servers = datadog.ServerConfigurations{{URL: base}}
	cfg.OperationServers = nil
	cfg.RetryConfiguration.EnableRetry = false
	api := datadog.NewAPIClient(cfg)
	c.monitors, c.slos = datadogV1.NewMonitorsApi(api), datadogV1.NewServiceLevelObjectivesApi(api)
	c.dashboards, c.auth = datadogV1.NewDashboardsApi(api), datadogV1.NewAuthenticationApi(api)
	return c, nil
}

func withDefaults(o Options) Options {
	if o.Site == "" {
		o.Site = DefaultSite
	}
	if o.UserAgent == "" {
		o.UserAgent = "latamctl"
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Transport == nil {
		o.Transport = &http.Transport{
			Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
			TLSHandshakeTimeout: 10 * time.Second, MaxIdleConnsPerHost: 16, IdleConnTimeout: 30 * time.Second, ForceAttemptHTTP2: true,
		}
	}
	if o.CallBudget <= 0 {
		o.CallBudget = 2 * time.Minute
	}
	if o.AttemptTime <= 0 {
		o.AttemptTime = 30 * time.Second
	}
	if o.MaxBodyBytes <= 0 {
		o.MaxBodyBytes = 64 << 20
	}
	if o.Parallel <= 0 {
		o.Parallel = 8
	}
	return o
}

// baseURL is where requests go: without a slash at the end.
func baseURL(site, address string) (string, error) {
	if address == "" {
		if !slices.Contains(Sites(), site) {
			return "", fmt.Errorf("the site %q is not one of Datadog's: %s; for another address set DD_URL", site, strings.Join(Sites(), ", "))
		}
		return "https://api." + site, nil
	}
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Host == "" || u.Opaque != "":
		return "", errors.New("DD_URL is not an address such as https://datadog-proxy.example.com")
	case u.User != nil:
		return "", errors.New("DD_URL has a user name or a password in it; they would end in logs, so leave them out")
	case u.RawQuery != "" || u.Fragment != "":
		return "", errors.New("DD_URL ends in a query or a fragment; give the address only")
	case u.Scheme == "http" && !loopback(u.Hostname()):
		return "", fmt.Errorf("DD_URL would send the keys to %s without encryption; use https", u.Host)
	case u.Scheme != "http" && u.Scheme != "https":
		return "", fmt.Errorf("DD_URL begins with %q; it must be https", u.Scheme)
	}
	return strings.TrimRight(u.String(), "/"), nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// checkKeys finds keys that are missing, and those that no header can carry, such as one with a line break.
func checkKeys(o Options) error {
	for _, key := range []struct {
		name   string
		secret telemetry.Secret
	}{{"DD_API_KEY", o.APIKey}, {"DD_APP_KEY", o.AppKey}, {"DD_BEARER_TOKEN", o.BearerToken}} {
		if strings.ContainsFunc(key.secret.Reveal(), func(r rune) bool { return r <= ' ' || r > '~' }) {
			return keyFault(key.name + " has a space, a line break or another character that no key has")
		}
	}
	switch {
	case o.BearerToken.IsSet(), o.APIKey.IsSet() && o.AppKey.IsSet():
		return nil
	case o.APIKey.IsSet():
		return keyFault("DD_APP_KEY is not set; monitors need an application key beside DD_API_KEY")
	case o.AppKey.IsSet():
		return keyFault("DD_API_KEY is not set beside DD_APP_KEY")
	}
	return keyFault("no keys: set DD_API_KEY and DD_APP_KEY, or DD_BEARER_TOKEN")
}

// authorizer returns what adds the keys and the program's name to a request.
func authorizer(o Options) func(http.Header) {
	return func(h http.Header) {
		h.Set("User-Agent", o.UserAgent)
		if o.BearerToken.IsSet() {
			h.Set("Authorization", "Bearer "+o.BearerToken.Reveal())
			return
		}
		h.Set("DD-API-KEY", o.APIKey.Reveal())
		h.Set("DD-APPLICATION-KEY", o.AppKey.Reveal())
	}
}

// Site is the site, or the address that replaces it.
func (c *Client) Site() string { return c.site }

// Check asks whether the API key is a valid one. Of an application key Datadog does not tell.
func (c *Client) Check(ctx context.Context) error {
	_, err := c.do(ctx, func(ctx context.Context) (*http.Response, error) {
		_, response, err := c.auth.Validate(ctx)
		return response, err
	})
	return err
}

// do makes one call and returns the answer's body as it came, which the official client's types would lose parts of.
// That they cannot hold an answer is therefore no error.
func (c *Client) do(ctx context.Context, send func(context.Context) (*http.Response, error)) ([]byte, error) {
	k := &call{deadline: time.Now().Add(c.budget)}
	inner, cancel := context.WithDeadline(context.WithValue(ctx, callKey{}, k), k.deadline)
	defer cancel()
	response, err := send(inner)
	if response == nil {
		return nil, c.noAnswer(ctx, k, err)
	}
	defer func() { _ = response.Body.Close() }() // It is in memory already.
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, c.noAnswer(ctx, k, err)
	}
	if response.StatusCode >= 300 {
		return body, c.refusal(ctx, k, response, body)
	}
	return body, nil
}

// read is do for an answer of a shape. An answer that is not of it, to a request that had an effect, leaves open what happened.
func (c *Client) read(ctx context.Context, into any, send func(context.Context) (*http.Response, error)) error {
	var k *call
	body, err := c.do(ctx, func(ctx context.Context) (*http.Response, error) {
		k, _ = ctx.Value(callKey{}).(*call)
		return send(ctx)
	})
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, into); err != nil {
		return c.unreadable(k, body, err)
	}
	return nil
}

// raw sends a request that the imported part of the official client does not have.
func (c *Client) raw(ctx context.Context, method, path string, payload any) (*http.Response, error) {
	var body io.Reader
	if payload != nil {
		data, err := json.Marshal(payload)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(data)
	}
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, err
	}
	if payload != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	request.Header.Set("Accept", "application/json")
	return c.http.Do(request)
}
