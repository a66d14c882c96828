package cli

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/latamctl/latamctl/monitors"
	"github.com/latamctl/latamctl/pkg/config"
	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/monitor/declare"
	"github.com/latamctl/latamctl/pkg/stack/contract"
)

// errInvalidMonitors stands for what a plan shows by itself.
var errInvalidMonitors = errors.New("what is declared is not valid")

// filesHint is how to go on with files that are at fault.
const filesHint = "docs/monitors-format.md describes the files; latamctl monitors plan --offline checks them again"

const defaultRunbooks = "https://github.com/latamctl/latamctl/blob/main/docs/runbooks"

// monitorOptions are the flags of all commands that read what is declared for Datadog.
type monitorOptions struct {
	settings contract.Settings
	notify   config.Pairs
	runbooks string
	dir      string
}

func monitorsCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "monitors", GroupID: groupWatch,
		Short: "Keep monitors, SLOs and dashboards at Datadog as they are declared",
		Long: `monitors compares what is declared with what Datadog has, and makes Datadog match. The built-in
monitors watch the whole of latamctl; --dir adds your own. Nothing is kept on this machine: what
belongs to an environment is marked at Datadog, and nothing else is ever touched.

Keys: DD_API_KEY and DD_APP_KEY, or DD_BEARER_TOKEN; DD_SITE for another site than datadoghq.com.
plan --offline, test, export and schema need none.`,
		Example: `  latamctl monitors plan --offline        # what there would be; no keys needed
  latamctl monitors test                  # prove that the alerts fire
  latamctl monitors sync --env prod       # make it so`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		monitorsPlanCmd(a), monitorsSyncCmd(a), monitorsDiffCmd(a), monitorsStatusCmd(a),
		monitorsImportCmd(a), monitorsDeleteCmd(a),
		monitorsTestCmd(a), monitorsExportCmd(a), monitorsSchemaCmd(a),
	)
	return cmd
}

// addMonitorFlags adds what says which objects there are.
func addMonitorFlags(cmd *cobra.Command, o *monitorOptions) {
	f := cmd.Flags()
	f.StringVar(&o.dir, "dir", "", "folder with objects of your own, added to the built-in ones; one of the same kind and name replaces it")
	config.MarkInvocation(f, "dir")
	addMonitorSettings(cmd, o)
}

// addMonitorSettings adds the settings that say what the objects are like.
func addMonitorSettings(cmd *cobra.Command, o *monitorOptions) {
	f := cmd.Flags()
	f.Var(&o.notify, "notify", "who is told, by role: page=@pagerduty-x,chat=@slack-y (several of one role: repeat it)")
	f.StringVar(&o.runbooks, "runbooks-url", defaultRunbooks, "address below which the runbooks are")
	addCloudSettings(cmd, &o.settings)
}

// stackName is the namespace of ownership at Datadog.
func (a *app) stackName() string { return strings.ToLower(a.decl.Name + "-" + a.global.env) }

// monitorInput is where what is declared comes from, and what it is expanded with.
func (a *app) monitorInput(o *monitorOptions) (declare.Options, error) {
	in := declare.Options{
		BuiltIn: monitors.FS(), OwnDir: o.dir,
		Declaration: a.decl, Environment: a.global.env, Values: a.monitorValues(o), Notify: o.notify,
	}
	if o.dir == "" {
		return in, nil
	}
	own, err := a.proc.FS(o.dir)
	if err != nil {
		return in, fail(exitUsage, "point --dir at the folder that holds your YAML files", fmt.Errorf("read your monitors: %w", err))
	}
	in.Own = own
	return in, nil
}

// loadMonitors reads what is declared for the environment.
func (a *app) loadMonitors(o *monitorOptions) (*declare.Set, error) {
	in, err := a.monitorInput(o)
	if err != nil {
		return nil, err
	}
	set, err := declare.Load(in)
	if err != nil {
		return nil, fail(exitInvalid, filesHint, err)
	}
	return set, nil
}

// warnOf says what is declared and probably not meant. It comes with a result, never before an error.
func (a *app) warnOf(set *declare.Set) {
	if a.global.quiet {
		return
	}
	for _, w := range set.Warnings {
		fmt.Fprintf(a.proc.Err, "%s %s\n", a.paint(a.proc.ErrTerminal, yellow, "warning:"), w)
	}
}

// monitorValues are the names that queries use. They follow from the declaration and the settings, so
// that nothing has to exist.
func (a *app) monitorValues(o *monitorOptions) declare.Environment {
	e := contract.Environment{Name: a.global.env, Declaration: a.decl, Settings: o.settings.Defaults()}
	e.Settings.Project = cmp.Or(e.Settings.Project, localProject)
	names := e.Names()
	return declare.Environment{
		Project: e.Settings.Project, Region: e.Settings.Region,
		Cluster: names.Cluster, Namespace: names.Namespace, Instance: names.BigtableInstance, Gateway: names.ManagedService,
		NodeMin:  e.Settings.NodeMin * nodeZones,
		Runbooks: strings.TrimSuffix(o.runbooks, "/"),
	}
}

// nodeZones is how many zones of the region a cluster has nodes in.
const nodeZones = 3

// monitorNames completes arguments with the names of what is declared.
func monitorNames(a *app, o *monitorOptions, kinds ...declare.Kind) func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if err := a.load(cmd.Flags()); err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		set, err := a.loadMonitors(o)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return slices.DeleteFunc(objectNames(set, kinds...), func(name string) bool { return slices.Contains(args, name) }), cobra.ShellCompDirectiveNoFileComp
	}
}

// objectNames are the names of the objects of some kinds, or of all; an object whose name another kind
// has too is named with its kind.
func objectNames(set *declare.Set, kinds ...declare.Kind) []string {
	var names []string
	for _, o := range set.Objects {
		if len(kinds) == 0 && o.Key.Kind != declare.Metric || slices.Contains(kinds, o.Key.Kind) {
			names = append(names, shortName(set, o.Key))
		}
	}
	return names
}

// shortName is the name of an object, with its kind where the name alone means two.
func shortName(set *declare.Set, key declare.Key) string {
	for _, kind := range declare.Kinds() {
		if kind != key.Kind && set.Lookup(declare.Key{Kind: kind, Name: key.Name}) != nil {
			return key.String()
		}
	}
	return key.Name
}

// nearName is the hint for a name that nothing has.
func nearName(name string, names []string) string {
	if near := dataset.Nearest(name, names); near != "" {
		return "did you mean " + near + "?"
	}
	return "names: " + someNames(names)
}

// objectKeys finds the objects that a command names: by name, or by kind.name. The kinds are those that an error suggests.
func objectKeys(set *declare.Set, args []string, kinds ...declare.Kind) ([]declare.Key, error) {
	var keys []declare.Key
	for _, arg := range args {
		found := false
		for _, o := range set.Objects {
			if arg == o.Key.String() || arg == shortName(set, o.Key) {
				keys, found = append(keys, o.Key), true
			}
		}
		if !found {
			return nil, failf(exitUsage, nearName(arg, objectNames(set, kinds...)), "nothing that is declared has the name %q", arg)
		}
	}
	return keys, nil
}
