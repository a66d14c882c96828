package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/latamctl/latamctl/pkg/config"
	"github.com/latamctl/latamctl/pkg/stack/terraform"
)

// doctorOptions are the addresses and the folder that up would use.
type doctorOptions struct {
	addresses map[string]*string
	dataDir   string
	drive     driveOptions
	install   bool
}

func doctorCmd(a *app) *cobra.Command {
	o := doctorOptions{addresses: map[string]*string{}}
	cmd := &cobra.Command{
		Use: "doctor", GroupID: groupCheck,
		Short: "Check this machine, or what an environment on Google Cloud needs",
		Long: `doctor checks what latamctl needs and says how to mend what is wrong: on this machine the
declaration, ports, data folder and emulators; for an environment on Google Cloud terraform,
credentials, the project with its APIs, the bucket of the states and the locks; Datadog's keys
where there are some. It changes nothing, except that --install-terraform installs a pinned
version. Exit 1 when a check fails.`,
		Example: "  latamctl doctor\n  latamctl doctor --env prod\n  latamctl doctor --install-terraform",
		Args:    cobra.NoArgs,
	}
	cmd.RunE = a.run(nothing, func(ctx context.Context, _ []string) error { return a.runDoctor(ctx, cmd.Flags(), &o) })
	for _, flag := range []struct{ name, addr string }{
		{"http", "127.0.0.1:8080"}, {"admin", "127.0.0.1:9090"}, {"pubsub", "127.0.0.1:8085"}, {"bigtable", "127.0.0.1:8086"},
	} {
		o.addresses[flag.name] = cmd.Flags().String(flag.name, flag.addr, "address that up would listen on")
	}
	cmd.Flags().StringVar(&o.dataDir, "data-dir", defaultDataDir, "folder that up would use")
	cmd.Flags().BoolVar(&o.install, "install-terraform", false, "install terraform "+terraform.InstallVersion+" for this user, by its checksum")
	config.MarkInvocation(cmd.Flags(), "install-terraform")
	addTerraformFlags(cmd, &o.drive)
	addCloudSettings(cmd, &o.drive.settings)
	return cmd
}

// finding is the outcome of one check of doctor.
type finding struct {
	Check  string `json:"check"`
	Status string `json:"status"` // pass, warn or fail
	Seen   string `json:"seen"`
	Fix    string `json:"fix,omitempty"`
}

const (
	statusPass = "pass"
	statusWarn = "warn"
	statusFail = "fail"
)

func (a *app) runDoctor(ctx context.Context, flags *pflag.FlagSet, o *doctorOptions) error {
	if o.install {
		return a.installTerraform(ctx)
	}
	resolved := a.load(flags) == nil // What is wrong with it is found below.
	findings := []finding{a.checkDeclaration(), a.checkSettings()}
	if inCloud, err := a.inCloud(); resolved && err == nil && inCloud {
		findings = append(findings, a.checkCloud(ctx, &o.drive)...)
		site := o.drive.settings.DatadogSite
		return a.concludeDoctor(append(findings, a.checkDatadog(ctx, site, site != "")...))
	}
	findings = append(findings, a.checkDataDir(o.dataDir))
	_, running := a.liveStack(ctx, o.dataDir)
	for _, name := range []string{"http", "admin", "pubsub", "bigtable"} {
		findings = append(findings, checkPort(ctx, name, *o.addresses[name], running == nil))
	}
	for _, name := range []string{pubsubHostVar, bigtableHostVar} {
		if addr := a.proc.Env(name); addr != "" {
			findings = append(findings, checkReachable(ctx, name, addr))
		}
	}
	if resolved {
		findings = append(findings, a.checkDatadog(ctx, o.drive.settings.DatadogSite, false)...)
	}
	return a.concludeDoctor(findings)
}

// concludeDoctor prints the findings and counts those that failed.
func (a *app) concludeDoctor(findings []finding) error {
	failed := 0
	for _, f := range findings {
		if f.Status == statusFail {
			failed++
		}
	}
	if err := a.printFindings(findings, failed == 0); err != nil {
		return err
	}
	if failed > 0 {
		return failf(exitFailed, "each failed check says how to mend it", "%d of %d checks failed", failed, len(findings))
	}
	return nil
}

func (a *app) checkDeclaration() finding {
	f := finding{Check: "declaration"}
	decl, err := a.readDeclaration()
	if err != nil {
		f.Status, f.Seen, f.Fix = statusFail, err.Error(), "correct it; latamctl validate checks it again"
		return f
	}
	a.decl = decl
	f.Status, f.Seen = statusPass, fmt.Sprintf("%s with %d dataset(s)", a.declarationName(), len(decl.Datasets))
	return f
}

func (a *app) checkSettings() finding {
	f := finding{Check: "settings", Status: statusPass}
	if a.decl == nil {
		f.Status, f.Seen = statusWarn, "not checked without a declaration"
		return f
	}
	all, err := a.allSettings()
	var bad *config.ValueError
	switch {
	case errors.As(err, &bad):
		f.Status, f.Seen, f.Fix = statusFail, err.Error(), "correct "+bad.Place
	case err != nil:
		f.Status, f.Seen, f.Fix = statusFail, err.Error(), "latamctl config show --origin lists all settings"
	default:
		f.Seen = fmt.Sprintf("%d settings of environment %s", len(all), a.global.env)
	}
	return f
}

// checkDataDir writes and removes a file.
func (a *app) checkDataDir(dir string) finding {
	f := finding{Check: "data folder", Status: statusPass, Seen: dir + " can be written"}
	probe := filepath.Join(dir, ".doctor")
	existed := a.proc.Exists(dir)
	err := a.proc.WriteFile(probe, []byte("probe\n"))
	if err == nil {
		err = a.proc.Remove(probe)
	}
	if err == nil && !existed {
		err = a.proc.Remove(dir)
	}
	if err != nil {
		f.Status, f.Seen, f.Fix = statusFail, err.Error(), "choose another folder with --data-dir"
	}
	return f
}

// checkPort tells whether an address can be listened on.
func checkPort(ctx context.Context, name, addr string, running bool) finding {
	f := finding{Check: "address --" + name, Status: statusPass, Seen: addr + " is free"}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	switch {
	case err == nil:
		_ = l.Close()
	case running:
		f.Status, f.Seen = statusPass, addr+" is taken, and a stack of this data folder runs"
	default:
		f.Status, f.Seen = statusFail, err.Error()
		f.Fix = "stop what listens there, or start latamctl up --" + name + " 127.0.0.1:0"
	}
	return f
}

// checkReachable tells whether something answers at an emulator's address.
func checkReachable(ctx context.Context, name, addr string) finding {
	f := finding{Check: "emulator " + name, Status: statusPass, Seen: addr + " answers"}
	if err := listening(ctx, addr); err != nil {
		f.Status, f.Seen, f.Fix = statusFail, err.Error(), "start the emulator, or unset "+name
	}
	return f
}

func (a *app) printFindings(findings []finding, ok bool) error {
	if a.global.output == outputJSON {
		return json.NewEncoder(a.proc.Out).Encode(map[string]any{"schema": "latamctl.doctor/v1", "ok": ok, "checks": findings})
	}
	colours := map[string]string{statusPass: green, statusWarn: gray, statusFail: red}
	labels := map[string]string{statusPass: "PASS", statusWarn: "WARN", statusFail: "FAIL"}
	for _, f := range findings {
		fmt.Fprintf(a.proc.Out, "%s  %s: %s\n", a.paint(a.proc.OutTerminal, colours[f.Status], labels[f.Status]), f.Check, f.Seen)
		if f.Fix != "" {
			fmt.Fprintf(a.proc.Out, "      fix: %s\n", f.Fix)
		}
	}
	return nil
}
