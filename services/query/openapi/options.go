// Package openapi derives the contract of the HTTP API from the declaration: an OpenAPI 3.1
// document for people and their tools, a 3.0 document for Google's API Gateway, and the JSON Schema
// of a dataset's records. It is pure: it reads no clock, file or network.
package openapi

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/latamctl/latamctl/pkg/dataset"
)

// Target is for whom a document is.
type Target string

const (
	// Public is OpenAPI 3.1 with all operations.
	Public Target = "public"
	// Gateway is OpenAPI 3.0 for API Gateway, which takes no stream and no reference to a file.
	Gateway Target = "gateway"
)

// Targets lists the targets, the default first.
func Targets() []string { return []string{string(Public), string(Gateway)} }

// Limits are the bounds of the service that the documents state. The zero value of a field means
// its default, which is that of the service.
type Limits struct {
	DefaultLimit, MaxLimit int // rows of a page: 100 and 1,000
	MaxIDs, MaxIn          int // ids of a batch-get, values of an in: 100 and 100
	MaxFilters, MaxFields  int // filters of a query, fields of a projection: 16 and 64
	MaxScannedRows         int // rows read for a page: 50,000
	MaxRecords             int // records of a request to publish: 1,000
	MaxMetrics, MaxGroupBy int // of an aggregate: 16 and 4
}

// Defaults fills in what is not set.
func (l Limits) Defaults() Limits {
	for n, value := range map[*int]int{
		&l.DefaultLimit: 100, &l.MaxLimit: 1000, &l.MaxIDs: 100, &l.MaxIn: 100, &l.MaxFilters: 16, &l.MaxFields: 64,
		&l.MaxScannedRows: 50_000, &l.MaxRecords: 1000, &l.MaxMetrics: 16, &l.MaxGroupBy: 4,
	} {
		if *n == 0 {
			*n = value
		}
	}
	return l
}

// validate says which limit cannot be one.
func (l Limits) validate() error {
	for name, n := range map[string]int{
		"default limit": l.DefaultLimit, "max limit": l.MaxLimit, "max ids": l.MaxIDs, "max values of in": l.MaxIn, "max filters": l.MaxFilters,
		"max fields": l.MaxFields, "max scanned rows": l.MaxScannedRows, "max records": l.MaxRecords, "max metrics": l.MaxMetrics, "max group fields": l.MaxGroupBy,
	} {
		if n < 1 {
			return fmt.Errorf("openapi: %s %d is not at least 1", name, n)
		}
	}
	return nil
}

// Options say what to describe, and for whom.
type Options struct {
	Declaration *dataset.Declaration
	Target      Target
	Limits      Limits
	// Version is the version of the document. Default "1".
	Version string
	// ServerURL is where the API is served: for Public the base of all paths, default "/"; for Gateway
	// the https address of the service behind it.
	ServerURL string
	// GatewayHost is the host name of the gateway. Default a placeholder that API Gateway replaces.
	GatewayHost string
	// GatewayAudience is the audience of the token that the gateway sends to the service. Default ServerURL.
	GatewayAudience string
	// OIDCIssuer, OIDCAudience and OIDCJWKS describe the tokens of datasets with auth: oidc.
	OIDCIssuer, OIDCAudience, OIDCJWKS string
}

// OptionError is an option that is missing or wrong; Option is its name as a flag.
type OptionError struct{ Option, Detail, Hint string }

func (e *OptionError) Error() string { return e.Option + ": " + e.Detail }

// Defaults fills in what is not set.
func (o Options) Defaults() Options {
	o.Limits = o.Limits.Defaults()
	if o.Target == "" {
		o.Target = Public
	}
	if o.Version == "" {
		o.Version = "1"
	}
	if o.Target == Public && o.ServerURL == "" {
		o.ServerURL = "/"
	}
	if o.Target == Gateway {
		o.ServerURL = strings.TrimSuffix(o.ServerURL, "/")
		if o.GatewayAudience == "" {
			o.GatewayAudience = o.ServerURL
		}
		if o.GatewayHost == "" {
			o.GatewayHost = "gateway.invalid"
		}
	}
	return o
}

// Validate says what is wrong with the options, after Defaults. What a user can have given wrongly is
// an OptionError.
func (o Options) Validate() error {
	if o.Declaration == nil {
		return errors.New("openapi: a declaration is needed")
	}
	if err := o.Limits.validate(); err != nil {
		return err
	}
	switch o.Target {
	case Public:
		return o.validatePublic()
	case Gateway:
		return o.validateGateway()
	}
	return &OptionError{"target", fmt.Sprintf("%q is not one of %s", o.Target, strings.Join(Targets(), ", ")), ""}
}

func (o Options) validatePublic() error {
	if u, err := url.Parse(o.ServerURL); err != nil || u.RawQuery != "" || u.Fragment != "" || u.IsAbs() && u.Host == "" {
		return &OptionError{"server-url", fmt.Sprintf("expected an address such as https://api.example.com, got %q", o.ServerURL), ""}
	}
	return nil
}

func (o Options) validateGateway() error {
	const example = "API Gateway reaches the service at an https address without a port of its own, such as https://api.example.com"
	switch u, err := url.Parse(o.ServerURL); {
	case o.ServerURL == "":
		return &OptionError{"server-url", "the gateway needs the address of the service behind it", example}
	case err != nil || u.Scheme != "https" || u.Hostname() == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil:
		return &OptionError{"server-url", fmt.Sprintf("expected an https address, got %q", o.ServerURL), example}
	case u.Port() != "" && u.Port() != "443":
		return &OptionError{"server-url", fmt.Sprintf("the port %s is not possible", u.Port()), example}
	}
	if u, err := url.Parse("https://" + o.GatewayHost); err != nil || u.Host != o.GatewayHost || u.Port() != "" || o.GatewayHost == "" {
		return &OptionError{"gateway-host", fmt.Sprintf("expected a host name without a port, got %q", o.GatewayHost), "it is the gateway's defaultHostname, such as latam-1a2b3c4d.uc.gateway.dev"}
	}
	for _, ds := range o.Declaration.Datasets {
		if ds.API.Auth == authOIDC {
			return o.validateOIDC(ds.Name)
		}
	}
	return nil
}

func (o Options) validateOIDC(dataset string) error {
	for _, s := range []struct{ option, value, what string }{
		{"oidc-issuer", o.OIDCIssuer, "the issuer of its tokens, such as https://accounts.example.com"},
		{"oidc-audience", o.OIDCAudience, "the audience of its tokens"},
		{"oidc-jwks-url", o.OIDCJWKS, "the https address of the issuer's keys, which is jwks_uri in its /.well-known/openid-configuration"},
	} {
		if s.value == "" {
			return &OptionError{s.option, fmt.Sprintf("dataset %s has auth: oidc, so the gateway needs %s", dataset, s.what), ""}
		}
		if u, err := url.Parse(s.value); s.option != "oidc-audience" && (err != nil || u.Scheme != "https" || u.Host == "") {
			return &OptionError{s.option, fmt.Sprintf("expected an https address, got %q", s.value), "it is " + s.what}
		}
	}
	return nil
}

// The modes of api.auth. None is also the mode of a dataset without one.
const (
	authNone    = "none"
	authAPIKey  = "api_key"
	authOIDC    = "oidc"
	authGateway = "gateway"
)

func authOf(ds *dataset.Dataset) string {
	if ds.API.Auth == "" {
		return authNone
	}
	return ds.API.Auth
}
