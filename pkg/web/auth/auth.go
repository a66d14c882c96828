// Package auth decides who may use a dataset: by its declared mode it asks for nothing, an API
// key, a token of an OpenID Connect issuer, or the token of the API Gateway in front; and it counts
// callers' requests against the dataset's quota. What it answers never says why a caller was
// refused; the log at debug and the metric do.
package auth

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"runtime/debug"
	"time"

	"github.com/go-jose/go-jose/v4"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/telemetry"
	"github.com/latamctl/latamctl/pkg/web"
)

// The modes that a dataset may declare.
const (
	ModeNone    = "none"
	ModeAPIKey  = "api_key"
	ModeOIDC    = "oidc"
	ModeGateway = "gateway"
)

// ModeOf is the mode of a dataset; one that declares none has ModeNone.
func ModeOf(ds *dataset.Dataset) string {
	if ds.API.Auth == "" {
		return ModeNone
	}
	return ds.API.Auth
}

// Kind says by what a caller is known.
type Kind string

// The kinds of callers.
const (
	KindAddress Kind = "address" // nothing but where the request came from
	KindOwner   Kind = "owner"   // the one who started the stack of this machine
	KindKey     Kind = "key"     // an API key
	KindSubject Kind = "subject" // the sub of a token, of the caller's own or of the one that the gateway verified
	KindGateway Kind = "gateway" // the gateway itself, when it names no consumer
)

// Caller is who makes a request.
type Caller struct {
	Kind Kind
	// ID tells callers of a kind apart: the key's id, the token's sub, the address.
	ID string
	// Name is the key's name.
	Name string
	// Addr is the remote address of a caller that is known by nothing else; of IPv6 the /64.
	Addr netip.Addr
}

// Deps are what the checks work with. Files is needed when a dataset asks for API keys.
type Deps struct {
	Files Files
	Log   *slog.Logger
	Meter metric.Meter
	Now   func() time.Time
	// Transport fetches the issuers' keys. Default a clone of http.DefaultTransport.
	Transport http.RoundTripper
}

// Access checks the callers of the datasets of one declaration.
type Access struct {
	opts    Options
	deps    Deps
	keys    *keyFile
	oidc    *verifier
	gateway *verifier
	quotas  map[string]*quotas // by dataset; none for one without a quota
	refused metric.Int64Counter
}

// New makes the checks that the datasets need. It reads the file of the API keys, and fetches
// nothing yet. Errors are MissingError for settings that a dataset needs.
func New(opts Options, deps Deps, datasets []*dataset.Dataset) (*Access, error) {
	opts = opts.Defaults()
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	if err := opts.Check(datasets); err != nil {
		return nil, err
	}
	deps = deps.defaults()
	a := &Access{opts: opts, deps: deps, quotas: map[string]*quotas{}}
	var err error
	if a.refused, err = telemetry.CallersRefused.Counter(deps.Meter); err != nil {
		return nil, fmt.Errorf("create access metrics: %w", err)
	}
	for _, ds := range datasets {
		if n := ds.API.QuotaPerMinute; n > 0 {
			a.quotas[ds.Name] = newQuotas(n, opts.MaxCallers)
		}
		if err := a.prepare(opts.mode(ds)); err != nil {
			return nil, err
		}
	}
	return a, nil
}

func (d Deps) defaults() Deps {
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	if d.Meter == nil {
		d.Meter = metricnoop.NewMeterProvider().Meter("")
	}
	if d.Now == nil {
		d.Now = time.Now
	}
	if d.Transport == nil {
		d.Transport = http.DefaultTransport.(*http.Transport).Clone()
	}
	return d
}

// prepare makes what a mode needs, once.
func (a *Access) prepare(mode string) error {
	switch {
	case a.opts.Open:
	case mode == ModeAPIKey && a.keys == nil:
		if a.deps.Files == nil {
			return errors.New("auth: nothing reads the file of the API keys")
		}
		a.keys = &keyFile{files: a.deps.Files, path: a.opts.KeysFile, interval: a.opts.KeysInterval, log: a.deps.Log}
		return openKeyFile(a.keys, a.deps.Now())
	case mode == ModeOIDC && a.oidc == nil:
		o := a.opts.OIDC
		a.oidc = a.newVerifier(discovery(o.Issuer), []jose.SignatureAlgorithm{jose.RS256, jose.ES256},
			wanted{issuers: []string{o.Issuer}, audience: o.Audience, datasetsClaim: o.DatasetsClaim})
	case mode == ModeGateway && a.gateway == nil:
		a.gateway = a.newVerifier(fixedAddress(a.opts.Gateway.JWKSURL), []jose.SignatureAlgorithm{jose.RS256},
			wanted{issuers: []string{"https://accounts.google.com", "accounts.google.com"}, audience: a.opts.Gateway.Audience})
	}
	return nil
}

func (a *Access) newVerifier(discover func(context.Context, *fetcher) (string, error), algs []jose.SignatureAlgorithm, w wanted) *verifier {
	w.skew = a.opts.Skew
	return &verifier{
		algs: algs, maxBytes: a.opts.MaxTokenBytes, wanted: w, now: a.deps.Now, verified: newVerifiedTokens(a.opts.MaxVerified),
		keys: &jwks{opts: a.opts.JWKS, discover: discover, fetcher: newFetcher(a.deps.Transport, a.opts.JWKS.MaxBytes), log: a.deps.Log, now: a.deps.Now},
		onPanic: func(cause any) {
			// The cause may hold parts of the token, so only its type is logged.
			a.deps.Log.Error("checking a token panicked", "panic", fmt.Sprintf("%T", cause), "stack", string(debug.Stack()))
		},
	}
}

// Admit lets a request through to the rows of a dataset, or returns what to answer: 401, 403, 429,
// or 503 when the keys to check a token with cannot be had. It sets the headers that go with it.
func (a *Access) Admit(h http.Header, r *http.Request, ds *dataset.Dataset) (Caller, *web.Problem) {
	q := a.quotas[ds.Name]
	mode := a.opts.mode(ds)
	if q == nil && (a.opts.Open || mode == ModeNone) {
		return Caller{}, nil
	}
	caller, err := a.authenticate(r, ds, mode)
	if err == nil && (q == nil || !a.counted(caller)) {
		return caller, nil
	}
	if err != nil {
		if q != nil {
			h.Set("RateLimit-Policy", q.policy)
		}
		return Caller{}, a.refuse(h, r, ds, mode, err)
	}
	s := q.take(caller, a.deps.Now())
	s.tell(h, q.policy)
	if s.retry > 0 {
		p := a.refuse(h, r, ds, mode, reasonQuota)
		p.RetryAfter = max(s.retry, time.Second)
		return Caller{}, p
	}
	return caller, nil
}

// counted tells whether a caller uses a quota. Behind the gateway all callers that it does not name
// look like one; it has counted them.
func (a *Access) counted(c Caller) bool {
	return c.Kind != KindOwner && (c.Kind != KindGateway || !a.opts.BehindGateway)
}

// authenticate finds out who the caller is; the error is a reason.
func (a *Access) authenticate(r *http.Request, ds *dataset.Dataset, mode string) (Caller, error) {
	if a.isOwner(r.Header) {
		return Caller{Kind: KindOwner, ID: "owner"}, nil
	}
	if a.opts.Open {
		return remote(r), nil
	}
	switch mode {
	case ModeNone:
		return remote(r), nil
	case ModeAPIKey:
		return a.byKey(r.Header, ds)
	case ModeOIDC:
		return a.bySubject(r, ds)
	case ModeGateway:
		return a.byGateway(r)
	}
	return Caller{}, reasonForbidden // A mode that is not known opens nothing.
}

func (a *Access) isOwner(h http.Header) bool {
	if !a.opts.OwnerToken.IsSet() {
		return false
	}
	text, err := bearer(h)
	return err == nil && subtle.ConstantTimeCompare([]byte(text), []byte(a.opts.OwnerToken.Reveal())) == 1
}

func (a *Access) byKey(h http.Header, ds *dataset.Dataset) (Caller, error) {
	text, err := keyOf(h)
	if err != nil {
		return Caller{}, err
	}
	now := a.deps.Now()
	k, err := a.keys.keys(now).find(text, now)
	if err != nil {
		return Caller{}, err
	}
	if !k.Opens(ds.Name) {
		return Caller{}, reasonForbidden
	}
	return Caller{Kind: KindKey, ID: k.ID, Name: k.Name}, nil
}

func (a *Access) bySubject(r *http.Request, ds *dataset.Dataset) (Caller, error) {
	text, err := bearer(r.Header)
	if err != nil {
		return Caller{}, err
	}
	c, err := a.oidc.verify(r.Context(), text)
	if err != nil {
		return Caller{}, err
	}
	if !c.opens(ds.Name) {
		return Caller{}, reasonForbidden
	}
	return Caller{Kind: KindSubject, ID: c.sub}, nil
}

// byGateway believes what the gateway says of its consumer only after the gateway has proved itself.
func (a *Access) byGateway(r *http.Request) (Caller, error) {
	text, err := bearer(r.Header)
	if err != nil {
		return Caller{}, err
	}
	c, err := a.gateway.verify(r.Context(), text)
	if err != nil {
		return Caller{}, err
	}
	if !c.emailVerified || c.email == "" {
		return Caller{}, reasonClaims
	}
	if !contains(a.opts.Gateway.Emails, c.email) {
		return Caller{}, reasonForbidden
	}
	if sub, ok := consumer(r.Header, a.opts.MaxTokenBytes); ok {
		return Caller{Kind: KindSubject, ID: sub}, nil
	}
	return Caller{Kind: KindGateway, ID: c.email}, nil
}

// contains compares with all of the list, whichever one fits.
func contains(list []string, s string) bool {
	found := 0
	for _, other := range list {
		found |= subtle.ConstantTimeCompare([]byte(other), []byte(s))
	}
	return found == 1
}

// remote is the caller that is known by its address only.
func remote(r *http.Request) Caller {
	addr, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return Caller{Kind: KindAddress}
	}
	ip := addr.Addr().Unmap().WithZone("")
	if ip.Is6() {
		if network, err := ip.Prefix(64); err == nil { // One machine has a /64 to choose from.
			ip = network.Addr()
		}
	}
	return Caller{Kind: KindAddress, Addr: ip}
}

// refuse makes the answer. One code has one body a mode, whatever the reason.
func (a *Access) refuse(h http.Header, r *http.Request, ds *dataset.Dataset, mode string, err error) *web.Problem {
	why := reasonMalformed
	_ = errors.As(err, &why) // It always is one.
	a.refused.Add(r.Context(), 1, metric.WithAttributes(attribute.String("dataset", ds.Name), attribute.String("reason", string(why))))
	if a.deps.Log.Enabled(r.Context(), slog.LevelDebug) {
		a.deps.Log.LogAttrs(r.Context(), slog.LevelDebug, "caller refused",
			slog.String("request_id", web.RequestID(r.Context())), slog.String("dataset", ds.Name), slog.String("mode", mode), slog.String("reason", string(why)))
	}
	switch why {
	case reasonForbidden:
		return web.NewProblem(web.Forbidden, "The credentials are good, but not for this dataset.", "Ask whoever gave them to you for access to it.")
	case reasonQuota:
		return web.NewProblem(web.RateLimited, fmt.Sprintf("The dataset answers %d requests a minute of each caller.", ds.API.QuotaPerMinute), "Retry after the time in Retry-After.")
	case reasonKeysMissing:
		p := web.NewProblem(web.Unavailable, "The keys to check the token with cannot be had at the moment.", "Retry later with the same token.")
		p.RetryAfter = a.opts.JWKS.Retry
		return p
	}
	h.Set("WWW-Authenticate", `Bearer realm="`+ds.Name+`"`)
	return web.NewProblem(web.Unauthenticated, "The dataset asks for credentials, and the request has none that are good.", hint(mode))
}

func hint(mode string) string {
	switch mode {
	case ModeAPIKey:
		return "Send an API key in the header X-Api-Key; latamctl keys create makes one."
	case ModeGateway:
		return "Ask through the API Gateway."
	}
	return "Send an access token as Authorization: Bearer TOKEN."
}
