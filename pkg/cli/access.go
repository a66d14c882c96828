package cli

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/latamctl/latamctl/pkg/config"
	"github.com/latamctl/latamctl/pkg/web"
	"github.com/latamctl/latamctl/pkg/web/auth"
)

// accessOptions are the flags that say who may use the API.
type accessOptions struct {
	keysFile      string
	oidc          auth.OIDC
	gateway       auth.Gateway
	behindGateway bool // serve only
	insecureBind  bool
	allowedHosts  []string
	noAuth        bool // up only
	ownerRequired bool // up only: its own commands have to get in
}

const keysFileName = "keys.json"

func addAccessFlags(cmd *cobra.Command, o *accessOptions) {
	f := cmd.Flags()
	addKeysFileFlag(cmd, &o.keysFile)
	f.StringVar(&o.oidc.Issuer, "oidc-issuer", "", "issuer of the tokens for datasets with auth: oidc, such as https://issuer.example.com")
	f.StringVar(&o.oidc.Audience, "oidc-audience", "", "audience that such a token must be for")
	f.StringVar(&o.oidc.DatasetsClaim, "oidc-datasets-claim", "", "claim that lists the datasets of such a token (default a token is good for all)")
	f.StringVar(&o.gateway.Audience, "gateway-audience", "", "audience of the API Gateway's token, for datasets with auth: gateway")
	f.StringSliceVar(&o.gateway.Emails, "gateway-email", nil, "service account that the API Gateway runs as, repeatable")
	f.StringVar(&o.gateway.JWKSURL, "google-jwks-url", auth.GoogleJWKSURL, "address of the keys of Google's ID tokens, for tests")
	f.BoolVar(&o.insecureBind, "insecure-bind", false, "allow addresses that other machines reach although datasets ask nobody for credentials")
	f.StringSliceVar(&o.allowedHosts, "allow-host", nil, "name, besides localhost, under which an API that asks nobody for credentials is reached on this machine,\nthrough a proxy or a forwarded port; repeatable")
	_ = f.MarkHidden("google-jwks-url") // It fails only for an unknown flag.
	config.MarkInvocation(f, "insecure-bind")
}

func addKeysFileFlag(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVar(file, "keys-file", "", "file of the API keys (default "+keysFileName+" in the data folder)")
}

// keysPath is the file of the API keys.
func keysPath(flag, dataDir string) string {
	if flag != "" {
		return flag
	}
	return filepath.Join(dataDir, keysFileName)
}

// authOptions checks the flags before anything is started.
func (a *app) authOptions(o accessOptions, dataDir string) (auth.Options, error) {
	opts := auth.Options{Open: o.noAuth, BehindGateway: o.behindGateway, KeysFile: keysPath(o.keysFile, dataDir), OIDC: o.oidc, Gateway: o.gateway}
	if o.ownerRequired {
		opts.OwnerToken = auth.NewOwnerToken()
	}
	opts = opts.Defaults()
	if err := opts.Validate(); err != nil {
		return opts, fail(exitInvalid, "latamctl config show --origin says where a setting comes from", err)
	}
	err := opts.Check(a.decl.Datasets)
	var missing *auth.MissingError
	if errors.As(err, &missing) {
		hint := fmt.Sprintf("set it with --%s, %s or environments.%s.%s", strings.ReplaceAll(missing.Setting, "_", "-"), config.EnvName(missing.Setting), a.global.env, missing.Setting)
		if o.ownerRequired {
			hint += "; or run up --no-auth, which answers everybody on this machine"
		}
		return opts, fail(exitInvalid, hint, err)
	}
	return opts, err
}

// newAccess makes the checks of callers.
func (a *app) newAccess(p *platform, opts auth.Options) (*auth.Access, error) {
	access, err := auth.New(opts, auth.Deps{Files: a.proc, Log: a.log, Meter: p.telemetry.Meter, Now: a.proc.Now}, a.decl.Datasets)
	if err != nil {
		return nil, fail(exitInvalid, "latamctl keys list shows what is wrong with the file; without the file there are no keys", err)
	}
	return access, nil
}

// checkHTTPAddress keeps datasets that ask nobody for credentials on this machine, unless told otherwise.
func (a *app) checkHTTPAddress(addr string, o accessOptions) error {
	if err := (web.Options{Addr: addr, AllowedHosts: o.allowedHosts}).Defaults().Validate(); err != nil {
		return fail(exitUsage, "write it like --allow-host api.example.com", err)
	}
	local, err := loopbackAddress("--http", addr)
	if err != nil || local {
		return err
	}
	if o.noAuth {
		return failf(exitUsage, "listen on 127.0.0.1, or leave --no-auth out", "--http %s can be reached from other machines, and --no-auth answers everybody", addr)
	}
	if open := auth.Unguarded(a.decl.Datasets); len(open) > 0 && !o.insecureBind && !o.behindGateway {
		return failf(exitUsage,
			"declare api: {auth: api_key} (or oidc, or gateway) for each, listen on 127.0.0.1, or say --insecure-bind if every machine that reaches it may read and write the data",
			"--http %s can be reached from other machines, and nobody is asked for credentials for: %s", addr, strings.Join(open, ", "))
	}
	return nil
}

// localHostsOnly tells whether an API is open because only this machine reaches it. A browser on this
// machine reaches it too, for whatever page it shows, so the names under which it is asked are checked.
func (a *app) localHostsOnly(addr string, o accessOptions) bool {
	local, err := loopbackAddress("--http", addr)
	open := o.noAuth || len(auth.Unguarded(a.decl.Datasets)) > 0 && !o.behindGateway
	return err == nil && local && open && !o.insecureBind
}

// loopbackAddress tells whether only this machine reaches an address.
func loopbackAddress(flag, addr string) (bool, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false, failf(exitUsage, "write it like 127.0.0.1:8080", "%s %q is not an address: %w", flag, addr, err)
	}
	return loopbackHost(host), nil
}

func loopbackHost(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// askingForKeys names the datasets that ask for an API key.
func (a *app) askingForKeys(o accessOptions) []string {
	var names []string
	for _, ds := range a.decl.Datasets {
		if !o.noAuth && auth.ModeOf(ds) == auth.ModeAPIKey {
			names = append(names, ds.Name)
		}
	}
	return names
}
