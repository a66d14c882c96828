package cli

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/latamctl/latamctl/pkg/config"
	"github.com/latamctl/latamctl/services/query/openapi"
)

// openapiOptions are the flags of openapi.
type openapiOptions struct {
	target, serverURL, gatewayHost, gatewayAudience string
	oidcIssuer, oidcAudience, oidcJWKS              string
}

func openapiCmd(a *app) *cobra.Command {
	var o openapiOptions
	cmd := &cobra.Command{
		Use: "openapi", GroupID: groupCheck,
		Short: "Print the contract of the HTTP API as OpenAPI",
		Long: `openapi derives the contract of the HTTP API from the declaration and prints it as YAML, or as
JSON with -o json. The target public is OpenAPI 3.1 with everything that the API does, the same that
a running service has at /openapi.json. The target gateway is OpenAPI 3.0 for Google's API Gateway:
it has the address of the service, keys, tokens and quotas, and no stream, which the gateway does not
pass on. It needs no network.`,
		Example: `  latamctl openapi > openapi.yaml
  latamctl openapi --target gateway --server-url https://api.example.com > gateway.yaml`,
		Args: cobra.NoArgs,
		RunE: a.run(settings, func(context.Context, []string) error { return a.runOpenAPI(o) }),
	}
	f := cmd.Flags()
	f.StringVar(&o.target, "target", string(openapi.Public), "for whom: public or gateway")
	f.StringVar(&o.serverURL, "server-url", "", "where the API is served (default /); for the gateway the https address of the service behind it")
	f.StringVar(&o.gatewayHost, "gateway-host", "", "host name of the gateway, once it is known")
	f.StringVar(&o.gatewayAudience, "gateway-audience", "", "audience of the token that the gateway sends to the service (default the server URL)")
	f.StringVar(&o.oidcIssuer, "oidc-issuer", "", "issuer of the tokens of datasets with auth: oidc")
	f.StringVar(&o.oidcAudience, "oidc-audience", "", "audience of these tokens")
	f.StringVar(&o.oidcJWKS, "oidc-jwks-url", "", "address of the issuer's keys, which the gateway needs")
	config.MarkInvocation(f, "target")
	_ = cmd.RegisterFlagCompletionFunc("target", cobra.FixedCompletions(openapi.Targets(), cobra.ShellCompDirectiveNoFileComp)) // It fails only for an unknown flag.
	return cmd
}

func (a *app) runOpenAPI(o openapiOptions) error {
	doc, err := openapi.Build(openapi.Options{
		Declaration: a.decl, Target: openapi.Target(o.target), ServerURL: o.serverURL, GatewayHost: o.gatewayHost,
		GatewayAudience: o.gatewayAudience, OIDCIssuer: o.oidcIssuer, OIDCAudience: o.oidcAudience, OIDCJWKS: o.oidcJWKS,
	})
	var wrong *openapi.OptionError
	if errors.As(err, &wrong) {
		code := exitInvalid
		if wrong.Option == "target" {
			code = exitUsage
		}
		return failf(code, wrong.Hint, "--%s: %s", wrong.Option, wrong.Detail)
	}
	if err != nil {
		return err
	}
	write := doc.YAML
	if a.global.output == outputJSON {
		write = doc.JSON
	}
	text, err := write()
	if err != nil {
		return err
	}
	_, err = a.proc.Out.Write(text)
	return err
}
