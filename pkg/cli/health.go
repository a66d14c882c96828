package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/latamctl/latamctl/pkg/config"
	"github.com/latamctl/latamctl/pkg/web"
)

// What a probe takes: an answer that is slower or longer is none.
const (
	healthTimeout  = 5 * time.Second
	maxHealthBytes = 1 << 20
)

func healthCmd(a *app) *cobra.Command {
	var admin string
	var live bool
	cmd := &cobra.Command{
		Use: "health", GroupID: groupCheck,
		Short: "Ask a service on this machine whether it is ready",
		Long: `health asks the admin address of up, ingest or serve for its readiness, or with --live whether it
runs at all. It is the check of the container image, which has neither a shell nor curl. It reads
no declaration: only --admin and LATAM_ADMIN say where to ask. Exit 7 when the answer is no.`,
		Example: "  latamctl health\n  latamctl health --admin :9090 --live",
		Args:    cobra.NoArgs,
	}
	cmd.RunE = a.run(nothing, func(ctx context.Context, _ []string) error {
		if _, err := config.Resolve(cmd.Flags(), a.proc.Getenv, config.File{}); err != nil {
			return err
		}
		return a.runHealth(ctx, admin, live)
	})
	cmd.Flags().StringVar(&admin, "admin", "127.0.0.1:9090", "address of probes and metrics")
	cmd.Flags().BoolVar(&live, "live", false, "ask whether it runs, not whether it is ready")
	config.MarkInvocation(cmd.Flags(), "live")
	return cmd
}

// healthAnswer is what the admin address said.
type healthAnswer struct {
	Schema string            `json:"schema"`
	Status string            `json:"status"`
	Checks []web.CheckResult `json:"checks,omitempty"`
}

func (a *app) runHealth(ctx context.Context, admin string, live bool) error {
	host, port, err := net.SplitHostPort(admin)
	if err != nil {
		return failf(exitUsage, "write it like 127.0.0.1:9090", "--admin %q is no address: %w", admin, err)
	}
	if ip := net.ParseIP(host); host == "" || ip.IsUnspecified() {
		host = "127.0.0.1" // A service that listens everywhere is asked from here.
	}
	path := "/readyz"
	if live {
		path = "/livez"
	}
	answer, status, err := askHealth(ctx, "http://"+net.JoinHostPort(host, port)+path)
	if err != nil {
		return fail(exitUnavailable, "check that up, ingest or serve runs, and its --admin", fmt.Errorf("ask for health: %w", err))
	}
	if status != http.StatusOK {
		return failf(exitUnavailable, "", "the service answered %d: %s%s", status, answer.Status, failedChecks(answer.Checks))
	}
	if a.global.output == outputJSON {
		answer.Schema = "latamctl.health/v1"
		return json.NewEncoder(a.proc.Out).Encode(answer)
	}
	_, err = fmt.Fprintln(a.proc.Out, answer.Status)
	return err
}

// askHealth returns what the probe answered, whatever its status.
func askHealth(ctx context.Context, address string) (answer healthAnswer, status int, err error) {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return answer, 0, err
	}
	resp, err := (&http.Client{}).Do(req)
	if err != nil {
		return answer, 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxHealthBytes)).Decode(&answer); err != nil {
		return answer, 0, fmt.Errorf("%s does not answer as latamctl does (%s): %w", address, resp.Status, err)
	}
	return answer, resp.StatusCode, nil
}

// failedChecks names what a service waits for.
func failedChecks(checks []web.CheckResult) string {
	text := ""
	for _, c := range checks {
		if !c.OK {
			text += fmt.Sprintf("; %s: %s", c.Name, c.Error)
		}
	}
	return text
}
