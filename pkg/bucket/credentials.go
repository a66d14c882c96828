package bucket

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"golang.org/x/oauth2"
	"google.golang.org/api/impersonate"
	"google.golang.org/api/option"

	"github.com/latamctl/latamctl/pkg/proc"
)

// The variables that Terraform's gcs backend and its google provider take credentials from.
const (
	tokenVar       = "GOOGLE_OAUTH_ACCESS_TOKEN" //nolint:gosec // The name of a variable.
	applicationVar = "GOOGLE_APPLICATION_CREDENTIALS"
)

// metadataServer is the source when nothing else is set.
const metadataServer = "metadata server"

// Attached tells whether nothing names credentials, so that they are those of the machine, if it has any.
func (i Identity) Attached() bool {
	return i.Source == metadataServer || strings.HasSuffix(i.Source, " with "+metadataServer)
}

// Identity says which credentials Google is asked with, as far as their source tells. It never has a secret.
type Identity struct {
	// Source is where they come from: a variable, a file, or the metadata server.
	Source string
	// Kind is the kind of a file, such as service_account or authorized_user.
	Kind string
	// Account is who it is, such as an e-mail address, empty when unknown.
	Account string
}

// credentialFile is what a file of credentials says about itself.
type credentialFile struct {
	Type          string `json:"type"`
	ClientEmail   string `json:"client_email"`
	Account       string `json:"account"`
	Impersonation string `json:"service_account_impersonation_url"`
}

// maxCredentialBytes bounds a file of credentials.
const maxCredentialBytes = 1 << 20

// Credentials finds the credentials that Terraform would use, in its order: an access token, a file or
// JSON in GOOGLE_BACKEND_CREDENTIALS or GOOGLE_CREDENTIALS, then Google's default ones, for which there
// are no options; and the service account that GOOGLE_BACKEND_IMPERSONATE_SERVICE_ACCOUNT or
// GOOGLE_IMPERSONATE_SERVICE_ACCOUNT names, in whose place they are used. An error is ErrDenied: what a
// variable names cannot be used.
func Credentials(ctx context.Context, p *proc.Process) ([]option.ClientOption, Identity, error) {
	client, id, err := ownCredentials(p)
	if err != nil {
		return nil, id, err
	}
	for _, key := range []string{"GOOGLE_BACKEND_IMPERSONATE_SERVICE_ACCOUNT", "GOOGLE_IMPERSONATE_SERVICE_ACCOUNT"} {
		account := p.Env(key)
		if account == "" {
			continue
		}
		id = Identity{Source: key + " with " + id.Source, Kind: "impersonated service account", Account: account}
		source, err := impersonate.CredentialsTokenSource(ctx, impersonate.CredentialsConfig{
			TargetPrincipal: account, Scopes: []string{"https://www.googleapis.com/auth/cloud-platform"},
		}, client...)
		if err != nil {
			return nil, id, fmt.Errorf("act as %s, which %s names: %w: %w", account, key, ErrDenied, err)
		}
		return []option.ClientOption{option.WithTokenSource(source)}, id, nil
	}
	return client, id, nil
}

// ownCredentials are those before any impersonation.
func ownCredentials(p *proc.Process) ([]option.ClientOption, Identity, error) {
	if token := p.Env(tokenVar); token != "" {
		source := oauth2.StaticTokenSource(&oauth2.Token{AccessToken: token})
		return []option.ClientOption{option.WithTokenSource(source)}, Identity{Source: tokenVar, Kind: "access token"}, nil
	}
	for _, key := range []string{"GOOGLE_BACKEND_CREDENTIALS", "GOOGLE_CREDENTIALS"} {
		value := p.Env(key)
		if value == "" {
			continue
		}
		data, id, err := readCredentials(p, key, value)
		if err != nil {
			return nil, id, err
		}
		return []option.ClientOption{option.WithAuthCredentialsJSON(option.CredentialsType(id.Kind), data)}, id, nil
	}
	if file := p.Env(applicationVar); file != "" {
		_, id, err := readCredentials(p, applicationVar, file)
		return nil, id, err
	}
	for _, dir := range []string{p.Env("CLOUDSDK_CONFIG"), p.Env("HOME") + "/.config/gcloud"} {
		file := dir + "/application_default_credentials.json"
		if strings.HasPrefix(dir, "/") && p.Exists(file) {
			_, id, err := readCredentials(p, "gcloud", file)
			return nil, id, err
		}
	}
	return nil, Identity{Source: metadataServer, Kind: "attached service account"}, nil
}

// readCredentials reads what a variable names or holds. Errors name the variable and never its value,
// which may be the secret itself.
func readCredentials(p *proc.Process, key, value string) ([]byte, Identity, error) {
	id := Identity{Source: key}
	data := []byte(value)
	if !strings.HasPrefix(strings.TrimSpace(value), "{") {
		var err error
		if data, err = p.ReadFileLimit(value, maxCredentialBytes); err != nil {
			return nil, id, fmt.Errorf("read the credentials that %s names: %w: %w", key, ErrDenied, err)
		}
		id.Source = key + " " + value
	}
	var file credentialFile
	if err := json.Unmarshal(data, &file); err != nil || file.Type == "" {
		return nil, id, fmt.Errorf("read the credentials of %s: %w: it is not JSON with a type; gcloud auth application-default login makes good ones", key, ErrDenied)
	}
	id.Kind = file.Type
	switch {
	case file.Impersonation != "":
		_, account, _ := strings.Cut(file.Impersonation, "/serviceAccounts/")
		id.Account, _, _ = strings.Cut(account, ":")
	case file.ClientEmail != "":
		id.Account = file.ClientEmail
	default:
		id.Account = file.Account
	}
	return data, id, nil
}
