package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/engine"
	"github.com/latamctl/latamctl/services/ingest"
)

func dataCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "data", GroupID: groupData,
		Short: "Look into the data folder of latamctl up",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var dir string
	info := &cobra.Command{
		Use:   "info",
		Short: "Show topics, backlogs and tables with their sizes",
		Long: `info asks the running latamctl up, or opens the folder itself when none runs. A topic's
messages include acknowledged ones until their segment is deleted. Of a running one it also shows
how far ingest is behind: LAG is the age of the oldest message in work, and PAUSED why none is taken.`,
		Example: "  latamctl data info\n  latamctl data info --data-dir /var/lib/latam -o json",
		Args:    cobra.NoArgs,
		RunE:    a.run(settings, func(ctx context.Context, _ []string) error { return a.runDataInfo(ctx, dir) }),
	}
	info.Flags().StringVar(&dir, "data-dir", defaultDataDir, "folder of the data")
	cmd.AddCommand(info)
	return cmd
}

// dataInfo is what data info prints with -o json.
type dataInfo struct {
	Schema  string `json:"schema"`
	Folder  string `json:"folder"`
	Running bool   `json:"running"`
	dataState
}

// dataState is what the admin address tells of the engine, and of ingest where it runs in the process.
type dataState struct {
	engine.Stats
	Ingest []ingestState `json:"ingest,omitempty"`
}

// ingestState is how ingest of one dataset is doing.
type ingestState struct {
	Dataset string `json:"dataset"`
	// Lag is the age of the oldest message in work by its publish time, 0 while ingest is paused.
	Lag    float64 `json:"lag_seconds"`
	InWork int64   `json:"in_work"`
	// Paused is receive, store, schema or rejects, and Why says it in words; empty when it is not.
	Paused string `json:"paused,omitempty"`
	Why    string `json:"why,omitempty"`
}

// dataHandler serves the state at the admin address; worker is nil where ingest runs elsewhere.
func dataHandler(e *engine.Engine, worker *ingest.Service, datasets []*dataset.Dataset) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		var state dataState
		state.Stats, _ = e.Stats()
		if worker != nil {
			for _, ds := range datasets {
				if did, ok := worker.Activity(ds.Name); ok {
					state.Ingest = append(state.Ingest, ingestState{ds.Name, did.Behind.Seconds(), did.InFlight, did.Paused, did.Why})
				}
			}
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(state) // The client is gone when it fails.
	})
}

func (a *app) runDataInfo(ctx context.Context, dir string) error {
	info := dataInfo{Schema: "latamctl.data/v1", Folder: dir}
	stack, err := a.findStack(dir)
	if err == nil {
		info.Running = true
		err = a.fetch(ctx, stack.Admin+"/data", &info.dataState)
	}
	if err != nil {
		// A stack that was killed leaves its note behind; the folder itself knows better.
		info.Running, info.Ingest = false, nil
		if info.Stats, err = a.readDataDir(ctx, dir); err != nil {
			return err
		}
	}
	if a.global.output == outputJSON {
		return json.NewEncoder(a.proc.Out).Encode(info)
	}
	return a.printDataInfo(info)
}

// readDataDir opens a folder that no process works on.
func (a *app) readDataDir(ctx context.Context, dir string) (engine.Stats, error) {
	if !a.proc.Exists(filepath.Join(dir, "FORMAT")) {
		return engine.Stats{}, failf(exitFailed, "latamctl up creates it, or name another with --data-dir", "%s is not a data folder", dir)
	}
	e, err := engine.Start(ctx, engine.Options{Kind: engine.Embedded, Dir: a.proc.Path(dir), Log: a.log})
	if err != nil {
		return engine.Stats{}, engineFault(err)
	}
	stats, _ := e.Stats()
	return stats, e.Close()
}

func (a *app) printDataInfo(info dataInfo) error {
	running := "not running"
	if info.Running {
		running = "running"
	}
	fmt.Fprintf(a.proc.Out, "%s (%s), tables on disk %s\n\n", info.Folder, running, byteSize(info.DiskBytes))
	w := tabwriter.NewWriter(a.proc.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "TOPIC\tMESSAGES\tBYTES\tSEGMENTS")
	for _, t := range info.Topics {
		fmt.Fprintf(w, "%s\t%d\t%s\t%d\n", t.Topic, t.Messages, byteSize(t.Bytes), t.Segments)
	}
	fmt.Fprintln(w, "\nSUBSCRIPTION\tBACKLOG\tBYTES\tOUTSTANDING\tOLDEST")
	for _, s := range info.Subscriptions {
		oldest := "-"
		if !s.Oldest.IsZero() {
			oldest = a.proc.Now().Sub(s.Oldest).Round(time.Second).String()
		}
		fmt.Fprintf(w, "%s\t%d\t%s\t%d\t%s\n", s.Subscription, s.Backlog, byteSize(s.BacklogBytes), s.Outstanding, oldest)
	}
	fmt.Fprintln(w, "\nTABLE\tROWS\tBYTES")
	for _, t := range info.Tables {
		fmt.Fprintf(w, "%s\t%d\t%s\n", t.Table, t.Rows, byteSize(t.Bytes))
	}
	printIngest(w, info.Ingest)
	return w.Flush()
}

// printIngest shows how ingest is doing, and the whole reason below where it is paused.
func printIngest(w io.Writer, datasets []ingestState) {
	if len(datasets) == 0 {
		return
	}
	fmt.Fprintln(w, "\nINGEST\tLAG\tIN WORK\tPAUSED")
	for _, d := range datasets {
		lag, paused := time.Duration(d.Lag*float64(time.Second)).Round(time.Millisecond).String(), "-"
		if d.Paused != "" {
			lag, paused = "-", d.Paused
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\n", d.Dataset, lag, d.InWork, paused)
	}
	for _, d := range datasets {
		if d.Paused != "" {
			fmt.Fprintf(w, "\n%s: %s\n", d.Dataset, strings.ReplaceAll(d.Why, "\n", "; "))
		}
	}
}

// byteSize is a size for people.
func byteSize(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	size, unit := float64(n), 0
	for size >= 1024 && unit < len(units)-1 {
		size, unit = size/1024, unit+1
	}
	if unit == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", size, units[unit])
}

// resetData deletes the content of a data folder after asking.
func (a *app) resetData(dir string) error {
	if !a.proc.Exists(filepath.Join(dir, "FORMAT")) {
		return nil // There is nothing to delete.
	}
	if err := a.confirm("Delete all data in " + dir + "?"); err != nil {
		return err
	}
	if err := engine.Reset(a.proc.Path(dir)); err != nil {
		return engineFault(err)
	}
	return nil
}

// confirm asks a yes-or-no question. Without a person to ask, only --yes means yes.
func (a *app) confirm(question string) error {
	if a.global.yes {
		return nil
	}
	if a.global.noInput || !a.proc.InTerminal || !a.proc.ErrTerminal || a.proc.Env("CI") != "" {
		return failf(exitUsage, "say --yes to go ahead", "%s cannot be asked here", strings.TrimSuffix(question, "?"))
	}
	fmt.Fprintf(a.proc.Err, "%s [y/N] ", question)
	answer, err := bufio.NewReader(a.proc.In).ReadString('\n')
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if answer = strings.ToLower(strings.TrimSpace(answer)); answer != "y" && answer != "yes" {
		return fail(exitFailed, "", errors.New("not done: the answer was no"))
	}
	return nil
}
