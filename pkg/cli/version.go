package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// build says what this binary is.
type build struct {
	Schema  string `json:"schema"`
	Version string `json:"version"`
	Commit  string `json:"commit,omitempty"`
	Date    string `json:"date,omitempty"`
	Go      string `json:"go"`
	OS      string `json:"os"`
	Arch    string `json:"arch"`
}

// version reads what the Go toolchain wrote into the binary.
func version() build {
	b := build{Schema: "latamctl.version/v1", Version: "devel", Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		b.Version = v
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value
		case "vcs.time":
			b.Date = s.Value
		}
	}
	return b
}

func versionCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Show what this binary is", Args: cobra.NoArgs,
		RunE: a.run(nothing, func(context.Context, []string) error {
			b := version()
			if a.global.output == outputJSON {
				return json.NewEncoder(a.proc.Out).Encode(b)
			}
			commit := ""
			if b.Commit != "" {
				commit = fmt.Sprintf(" (%s, %s)", b.Commit, b.Date)
			}
			_, err := fmt.Fprintf(a.proc.Out, "latamctl %s%s %s %s/%s\n", b.Version, commit, b.Go, b.OS, b.Arch)
			return err
		}),
	}
}
