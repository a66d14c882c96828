package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"

	"github.com/latamctl/latamctl/pkg/config"
	"github.com/latamctl/latamctl/pkg/monitor"
	"github.com/latamctl/latamctl/pkg/monitor/datadog"
	"github.com/latamctl/latamctl/pkg/proc"
	"github.com/latamctl/latamctl/pkg/telemetry"
)

// The variables that Datadog's own tools agree on.
const (
	apiKeyVar = "DD_API_KEY" //nolint:gosec // It is the name of the variable.
	appKeyVar = "DD_APP_KEY"
	bearerVar = "DD_BEARER_TOKEN" //nolint:gosec // As above.
	siteVar   = "DD_SITE"
	urlVar    = "DD_URL"
)

// keysHint is where keys come from.
const keysHint = "Organization settings at Datadog makes them; monitors plan --offline, test and export need none"

// datadogScopes are the rights that the application key, or the token, needs for everything.
const datadogScopes = "monitors_read, monitors_write, slos_read, slos_write, dashboards_read, dashboards_write, metrics_read, metric_tags_write"

// datadogSite is the site to ask: a flag wins over DD_SITE, and that over the environment in latam.yaml.
func (a *app) datadogSite(setting string) string {
	flagged := slices.ContainsFunc(a.settings, func(s config.Setting) bool { return s.Key == "datadog_site" && s.Origin == config.OriginFlag })
	if site := strings.TrimSpace(a.proc.Env(siteVar)); site != "" && !flagged {
		return site
	}
	return cmp.Or(setting, datadog.DefaultSite)
}

// openDatadog is the client of the keys in the environment. It calls nobody yet.
func (a *app) openDatadog(setting string) (*datadog.Client, error) {
	secret := func(name string) telemetry.Secret { return telemetry.NewSecret(strings.TrimSpace(a.proc.Env(name))) }
	client, err := datadog.New(datadog.Options{
		Site: a.datadogSite(setting), URL: strings.TrimSpace(a.proc.Env(urlVar)), UserAgent: "latamctl/" + version().Version, Log: a.log,
		APIKey: secret(apiKeyVar), AppKey: secret(appKeyVar), BearerToken: secret(bearerVar),
	})
	switch {
	case errors.Is(err, datadog.ErrDenied):
		return nil, fail(exitDenied, keysHint, err)
	case err != nil:
		return nil, fail(exitInvalid, siteVar+" and "+urlVar+" say where Datadog is, or datadog_site in environments."+a.global.env+" of latam.yaml", err)
	}
	return client, nil
}

// monitorFault gives the errors of monitors their exit codes and hints.
func (a *app) monitorFault(ctx context.Context, err error) error {
	var f *fault
	var refusal *monitor.Refusal
	var rejected *monitor.Rejected
	var unverified *monitor.Unverified
	var unknown *monitor.UnknownName
	var spec *monitor.BadSpec
	switch {
	case err == nil, errors.As(err, &f):
		return err
	case errors.As(err, &refusal):
		return fail(exitRefused, refusal.Hint, err)
	case errors.As(err, &rejected):
		return fail(exitInvalid, "correct it there; latamctl monitors plan asks Datadog again", err)
	case errors.As(err, &spec):
		return fail(exitUsage, "latamctl monitors import --help has examples", err)
	case errors.As(err, &unknown):
		return fail(exitUsage, "latamctl monitors plan --offline --detail lists what is declared", err)
	case errors.Is(err, datadog.ErrNotFound):
		return fail(exitFailed, "check the id, and that the keys are of its organization", err)
	case errors.As(err, &unverified):
		return fail(exitFailed, "latamctl monitors plan --detail --env "+a.global.env+" shows how; somebody else may be writing too", err)
	case errors.Is(context.Cause(ctx), proc.ErrInterrupted):
		return fail(exitInterrupted, "", err)
	case errors.Is(err, context.DeadlineExceeded) && ctx.Err() != nil:
		return err
	case errors.Is(err, datadog.ErrPartial):
		return fail(exitRefused, "try again: nothing was changed, because what could not be read would have been made a second time", err)
	case errors.Is(err, datadog.ErrDenied):
		return fail(exitDenied, a.deniedHint(), err)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fail(exitUnavailable, "correct or unset "+urlVar+" and HTTPS_PROXY, then run it again: nothing is made twice", err)
	case errors.Is(err, datadog.ErrUnavailable), errors.Is(err, datadog.ErrAmbiguous):
		return fail(exitUnavailable, "run it again: nothing is made twice; https://status.datadoghq.com says how Datadog is", err)
	case errors.Is(err, datadog.ErrInvalid):
		return fail(exitInvalid, "Datadog refuses the content; correct the file", err)
	case errors.Is(err, datadog.ErrReferenced):
		return fail(exitRefused, "change or delete first what refers to it; --force deletes it all the same", err)
	}
	return err
}

// deniedHint says what to look at when Datadog refuses the keys, without saying what they are.
func (a *app) deniedHint() string {
	vars := apiKeyVar + " and " + appKeyVar
	if a.proc.Env(apiKeyVar) == "" || a.proc.Env(appKeyVar) == "" {
		return fmt.Sprintf("%s needs the scopes %s; latamctl doctor --env %s checks it", bearerVar, datadogScopes, a.global.env)
	}
	return fmt.Sprintf("%s need the scopes %s; latamctl doctor --env %s checks them", vars, datadogScopes, a.global.env)
}
