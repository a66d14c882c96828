package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/latamctl/latamctl/pkg/config"
	"github.com/latamctl/latamctl/pkg/monitor"
	"github.com/latamctl/latamctl/pkg/monitor/declare"
	"github.com/latamctl/latamctl/pkg/plan"
)

// monitorsImportOptions are the flags of monitors import.
type monitorsImportOptions struct {
	monitorOptions
	out   string
	adopt bool
}

func monitorsImportCmd(a *app) *cobra.Command {
	var o monitorsImportOptions
	cmd := &cobra.Command{
		Use:   "import ID | URL | tag:KEY:VALUE ...",
		Short: "Write objects that exist at Datadog as declarations",
		Long: `import reads objects of Datadog, whoever made them, and writes them as YAML: numbers of the query
become thresholds, ids become references, handles become the roles of this environment. The file is
loaded with everything else and compared with what it was made of; what it would change is said.
Nothing changes at Datadog, unless --adopt is given: it marks the objects as this environment's,
when the file says exactly what they are. From then on sync keeps them as declared.
Exit 3 when the file says something else than Datadog has.`,
		Example: `  latamctl monitors import --env prod 12345678 https://app.datadoghq.com/monitors/23456789
  latamctl monitors import --env prod tag:team:data --dir monitors --out monitors/imported.yaml
  latamctl monitors import --env prod tag:team:data --dir monitors --out monitors/imported.yaml --adopt`,
		Args: cobra.MinimumNArgs(1),
	}
	cmd.RunE = a.run(settings, func(ctx context.Context, args []string) error { return a.runMonitorsImport(ctx, args, o) })
	f := cmd.Flags()
	f.StringVar(&o.out, "out", "", "write the declarations to this new file instead of standard output")
	f.BoolVar(&o.adopt, "adopt", false, "mark the objects as this environment's, when the file says what they are")
	config.MarkInvocation(f, "out", "adopt")
	addMonitorFlags(cmd, &o.monitorOptions)
	return cmd
}

func (a *app) runMonitorsImport(ctx context.Context, specs []string, o monitorsImportOptions) error {
	switch {
	case o.adopt && o.out == "":
		return failf(exitUsage, "say --out FILE, in the folder of --dir", "--adopt needs the file: what is marked and declared nowhere would be deleted by the next --prune")
	case o.out != "" && a.proc.Exists(o.out):
		return failf(exitRefused, "choose another file, or move it away", "%s is there already, and nothing is overwritten", o.out)
	}
	in, err := a.monitorInput(&o.monitorOptions)
	if err != nil {
		return err
	}
	s, err := a.openMonitors(&o.monitorOptions)
	if err != nil {
		return err
	}
	defer s.close()
	imported, err := s.syncer.Import(ctx, specs, monitor.ImportOptions{Roles: o.notify, Adopt: o.adopt, Load: func(file []byte) (*declare.Set, error) {
		if o.out != "" { // Before anything is marked, so that what is marked is declared somewhere.
			if err := a.proc.WriteFile(o.out, file); err != nil {
				return nil, fail(exitUsage, "choose a file that can be written with --out", fmt.Errorf("write %s: %w", o.out, err))
			}
		}
		return declare.Load(withFile(in, o.out, file))
	}})
	if imported == nil {
		return s.fault(ctx, "import", err)
	}
	if shown := a.showImport(imported, o); shown != nil {
		return shown
	}
	return importFault(imported, s.fault(ctx, "import", err))
}

// importFault is how an import ends that did not fail as a whole.
func importFault(imported *monitor.Import, err error) error {
	differs := slices.ContainsFunc(imported.Objects, func(i monitor.Imported) bool { return len(i.Changes) > 0 })
	switch {
	case err != nil:
		return err
	case imported.Faults != nil:
		return fail(exitInvalid, "mend the file; "+filesHint, fmt.Errorf("the file does not load as it is: %w", imported.Faults))
	case len(imported.Skipped) > 0:
		ids := slices.Sorted(maps.Keys(imported.Skipped))
		return failf(exitFailed, "these stay as they are", "not imported: %s", someNames(ids))
	case differs:
		return endsWith(exitPending)
	}
	return nil
}

// importDocument is an import for programs.
type importDocument struct {
	Schema  string             `json:"schema"`
	File    string             `json:"file"`
	Objects []importedDocument `json:"objects"`
	Skipped map[string]string  `json:"skipped"`
}

type importedDocument struct {
	Name    string           `json:"name"`
	ID      string           `json:"id"`
	Changes []plan.Attribute `json:"changes"`
	Adopted bool             `json:"adopted"`
}

func (a *app) showImport(imported *monitor.Import, o monitorsImportOptions) error {
	if a.global.output == outputJSON {
		doc := importDocument{Schema: "latamctl.monitors-import/v1", File: string(imported.File), Objects: []importedDocument{}, Skipped: imported.Skipped}
		for _, i := range imported.Objects {
			doc.Objects = append(doc.Objects, importedDocument{Name: i.Key.String(), ID: i.ID, Changes: append([]plan.Attribute{}, i.Changes...), Adopted: i.Adopted})
		}
		return json.NewEncoder(a.proc.Out).Encode(doc)
	}
	if o.out == "" {
		if _, err := a.proc.Out.Write(imported.File); err != nil {
			return err
		}
	}
	for _, id := range slices.Sorted(maps.Keys(imported.Skipped)) {
		fmt.Fprintf(a.proc.Err, "%s: not imported: %s\n", id, plan.Clean(imported.Skipped[id]))
	}
	if a.global.quiet {
		return nil
	}
	for _, i := range imported.Objects {
		verdict := "the file says what Datadog has"
		switch {
		case imported.Faults != nil:
			verdict = "not compared"
		case i.Adopted:
			verdict += ", and it is this environment's now"
		case len(i.Changes) > 0:
			verdict = "the file says something else"
		}
		fmt.Fprintf(a.proc.Err, "%s %s: %s\n", i.ID, i.Key, verdict)
		for _, c := range i.Changes {
			fmt.Fprintf(a.proc.Err, "  %s: %s -> %s\n", plan.Clean(c.Path), plan.Clean(c.Before), plan.Clean(c.After))
		}
	}
	if o.out != "" {
		fmt.Fprintf(a.proc.Err, "written to %s\n", o.out)
	}
	return nil
}

// withFile adds a file to a team's own, whether it is written or not. It takes the place of one with its name.
func withFile(in declare.Options, path string, content []byte) declare.Options {
	name := "imported.yaml"
	if path != "" {
		name = filepath.Base(path)
	}
	in.Own = &oneMore{FS: in.Own, name: name, content: content}
	return in
}

// oneMore is a folder with one more file.
type oneMore struct {
	fs.FS   // nil is an empty folder
	name    string
	content []byte
}

// Open opens a file; the added one is read by ReadFile.
func (o *oneMore) Open(name string) (fs.File, error) {
	if o.FS == nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return o.FS.Open(name)
}

// ReadFile reads a file.
func (o *oneMore) ReadFile(name string) ([]byte, error) {
	if name == o.name {
		return bytes.Clone(o.content), nil
	}
	if o.FS == nil {
		return nil, &fs.PathError{Op: "read", Path: name, Err: fs.ErrNotExist}
	}
	return fs.ReadFile(o.FS, name)
}

// ReadDir lists the files of a folder.
func (o *oneMore) ReadDir(name string) ([]fs.DirEntry, error) {
	var entries []fs.DirEntry
	if o.FS != nil {
		var err error
		if entries, err = fs.ReadDir(o.FS, name); err != nil {
			return nil, err
		}
	}
	if name == "." {
		entries = slices.DeleteFunc(entries, func(e fs.DirEntry) bool { return e.Name() == o.name })
		entries = append(entries, fs.FileInfoToDirEntry(fileInfo{o.name, int64(len(o.content))}))
	}
	return entries, nil
}

// fileInfo describes the added file.
type fileInfo struct {
	name string
	size int64
}

func (i fileInfo) Name() string     { return i.name }
func (i fileInfo) Size() int64      { return i.size }
func (fileInfo) Mode() fs.FileMode  { return 0o444 }
func (fileInfo) ModTime() time.Time { return time.Time{} }
func (fileInfo) IsDir() bool        { return false }
func (fileInfo) Sys() any           { return nil }
