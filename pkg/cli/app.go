// Package cli is the command tree and all wiring: each command parses its flags into an options
// struct and calls one function of a package below.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/latamctl/latamctl/examples"
	"github.com/latamctl/latamctl/pkg/config"
	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/engine"
	"github.com/latamctl/latamctl/pkg/proc"
	"github.com/latamctl/latamctl/pkg/stack/terraform"
	"github.com/latamctl/latamctl/pkg/telemetry"
)

// The output formats.
const (
	outputTable = "table"
	outputJSON  = "json"
)

// localEnv is the environment that needs no declaration of its own.
const localEnv = "local"

// app is one run of the program, handed to every command.
type app struct {
	proc   *proc.Process
	root   *cobra.Command
	global globalOptions
	// interrupts are the requests to stop; nil in tests that send none.
	interrupts *proc.Interrupts
	// newDriver opens what drives the stacks of an environment.
	newDriver driverMaker
	// again is the command that goes on after a failure, "" for up --resume.
	again string

	// What load fills in.
	decl     *dataset.Declaration
	source   []byte // the text of the declaration
	settings []config.Setting
	log      *slog.Logger
}

// globalOptions are the flags that every command has.
type globalOptions struct {
	config, env, engine, output, logFormat string
	quiet, verbose, noColor, yes, noInput  bool
	timeout                                time.Duration
}

// Main runs the program and returns its exit code. It is the only place that prints an error.
func Main(p *proc.Process) int {
	terraform.Become(p) // It returns when this process was not started to become terraform.
	return mainWith(p, nil)
}

// mainWith is Main with another driver of stacks, for tests.
func mainWith(p *proc.Process, maker driverMaker) (code int) {
	a := &app{proc: p, global: globalOptions{output: outputTable}, newDriver: maker}
	if maker == nil {
		a.newDriver = a.openDriver
	}
	defer func() {
		if r := recover(); r != nil {
			fmt.Fprintf(p.Err, "error: internal error: %v\nhint: run again with -v and report what it prints\n", r)
			if a.global.verbose {
				fmt.Fprintf(p.Err, "%s", debug.Stack())
			}
			code = exitFailed
		}
	}()
	ctx, interrupts, stop := p.NotifyInterrupts(context.Background(), exitInterrupted)
	defer stop()
	a.interrupts = interrupts
	if err := faultyClock(p); err != nil {
		return a.report(ctx, err)
	}
	a.root = newRoot(a)
	a.root.SetArgs(p.Args)
	a.root.SetIn(p.In)
	a.root.SetOut(p.Out)
	a.root.SetErr(p.Err)
	return a.report(ctx, a.root.ExecuteContext(ctx))
}

// needs says what a command wants loaded before it runs.
type needs int

const (
	nothing     needs = iota // flags only
	settings                 // a valid declaration and resolved settings
	longRunning              // the same, without the time limit that other commands may have
)

// run adapts a command's function to cobra: load what it needs, bound its time, then call it.
func (a *app) run(n needs, f func(ctx context.Context, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		ctx := cmd.Context()
		if err := a.setup(cmd.Flags(), n); err != nil {
			return err
		}
		if a.global.timeout > 0 && n != longRunning {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, a.global.timeout)
			defer cancel()
		}
		err := f(ctx, args)
		if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return failf(exitTimeout, "raise --timeout", "not done within %s: %w", a.global.timeout, err)
		}
		return err
	}
}

func (a *app) setup(flags *pflag.FlagSet, n needs) error {
	if err := a.checkOutput(); err != nil {
		return err
	}
	if n == nothing {
		a.log = a.newLogger(n)
		return nil
	}
	if err := a.load(flags); err != nil {
		return err
	}
	a.log = a.newLogger(n)
	return a.checkOutput()
}

func (a *app) checkOutput() error {
	if !slices.Contains([]string{outputTable, outputJSON}, a.global.output) {
		bad := a.global.output
		a.global.output = outputTable
		return failf(exitUsage, "", "output %q is not table or json", bad)
	}
	if !slices.Contains([]string{"", "text", "json"}, a.global.logFormat) {
		return failf(exitUsage, "", "log format %q is not text or json", a.global.logFormat)
	}
	return nil
}

// newLogger logs warnings for commands that end and progress for services.
func (a *app) newLogger(n needs) *slog.Logger {
	level := slog.LevelWarn
	switch {
	case a.global.verbose:
		level = slog.LevelDebug
	case a.global.quiet:
		level = slog.LevelError
	case n == longRunning:
		level = slog.LevelInfo
	}
	return telemetry.NewLogger(a.proc.Err, telemetry.LogOptions{Format: a.global.logFormat, Terminal: a.proc.ErrTerminal, Level: level})
}

// load reads the declaration and resolves the settings of the flags.
func (a *app) load(flags *pflag.FlagSet) error {
	// Which file and which environment must be known before the rest can be resolved.
	for _, name := range []string{"config", "env"} {
		f := flags.Lookup(name)
		if value := a.proc.Env(config.EnvName(name)); value != "" && !f.Changed {
			_ = f.Value.Set(value) // A string flag takes any text.
		}
	}
	decl, err := a.readDeclaration()
	if err != nil {
		return err
	}
	a.decl = decl
	file, err := a.environmentSettings()
	if err != nil {
		return err
	}
	a.settings, err = config.Resolve(flags, a.proc.Getenv, file)
	return err
}

const defaultConfig = "latam.yaml"

// readDeclaration reads the file named by --config, latam.yaml, or the built-in example.
func (a *app) readDeclaration() (*dataset.Declaration, error) {
	path := a.global.config
	if path == "" {
		path = defaultConfig
	}
	src, err := a.proc.ReadFile(path)
	switch {
	case err == nil:
		a.source = src
		return dataset.Load(path, src)
	case errors.Is(err, fs.ErrNotExist) && a.global.config == "":
		a.source = examples.Declaration
		return dataset.Load("", examples.Declaration)
	case errors.Is(err, fs.ErrNotExist):
		return nil, failf(exitInvalid, "check --config, or leave it out to run the built-in example", "read declaration: %s does not exist", path)
	}
	return nil, fail(exitInvalid, "", fmt.Errorf("read declaration: %w", err))
}

// environmentSettings returns the settings of the chosen environment after checking their names.
func (a *app) environmentSettings() (config.File, error) {
	env := a.decl.Environment(a.global.env)
	if env == nil {
		if a.global.env == localEnv {
			return config.File{}, nil
		}
		names := []string{localEnv}
		for _, e := range a.decl.Environments {
			if e.Name != localEnv {
				names = append(names, e.Name)
			}
		}
		return config.File{}, failf(exitInvalid, didYouMean(a.global.env, names, "environments: "),
			"environment %q is not declared in %s", a.global.env, a.declarationName())
	}
	file := config.File{Origin: a.declarationName() + " environments." + env.Name}
	known := a.settingKeys()
	for _, s := range env.Settings {
		place := fmt.Sprintf("%s:%d:%d", a.declarationName(), s.Line, s.Column)
		if !slices.Contains(known, s.Key) {
			return config.File{}, failf(exitInvalid, didYouMean(s.Key, known, "settings: "),
				"%s: unknown setting %q in environment %s", place, s.Key, env.Name)
		}
		file.Entries = append(file.Entries, config.Entry{Key: s.Key, Value: s.Value, Place: place})
	}
	return file, nil
}

// declarationName is what messages call the declaration.
func (a *app) declarationName() string {
	if a.decl == nil || a.decl.File == "" {
		return "the built-in example"
	}
	return a.decl.File
}

// settingKeys are the keys an environment may hold: every command's settings, so that one
// environment serves them all.
func (a *app) settingKeys() []string {
	var keys []string
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if key := config.Key(f.Name); config.IsSetting(f) && !slices.Contains(keys, key) {
				keys = append(keys, key)
			}
		})
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	a.root.PersistentFlags().VisitAll(func(f *pflag.Flag) {
		if config.IsSetting(f) {
			keys = append(keys, config.Key(f.Name))
		}
	})
	walk(a.root)
	slices.Sort(keys)
	return slices.Compact(keys)
}

// dataset finds a declared dataset, or says which there are.
func (a *app) dataset(name string) (*dataset.Dataset, error) {
	if ds := a.decl.Dataset(name); ds != nil {
		return ds, nil
	}
	return nil, failf(exitUsage, didYouMean(name, a.decl.Names(), "datasets: "),
		"dataset %q is not declared in %s", name, a.declarationName())
}

// didYouMean is a hint with the nearest name, or else all of them.
func didYouMean(name string, names []string, label string) string {
	if near := dataset.Nearest(name, names); near != "" {
		return fmt.Sprintf("did you mean %s?", near)
	}
	return label + strings.Join(names, ", ")
}

// engineKind is the engine to use. Google's emulator variables count as environment variables do:
// they win over the file, not over --engine.
func (a *app) engineKind() (engine.Kind, error) {
	kind := engine.Kind(a.global.engine)
	explicit := slices.ContainsFunc(a.settings, func(s config.Setting) bool {
		return s.Key == "engine" && (s.Origin == config.OriginFlag || strings.HasPrefix(s.Origin, "env "))
	})
	if !explicit && (a.proc.Env(pubsubHostVar) != "" || a.proc.Env(bigtableHostVar) != "") {
		return engine.Emulator, nil
	}
	return a.declaredEngine(kind)
}

// declaredEngine is the engine that was asked for, whatever the emulator variables say.
func (a *app) declaredEngine(kind engine.Kind) (engine.Kind, error) {
	if kind == "" {
		return engine.Embedded, nil
	}
	if !slices.Contains(engine.Kinds(), kind) {
		return "", failf(exitInvalid, "", "engine %q is not one of %v", kind, engine.Kinds())
	}
	return kind, nil
}

// The variables that Google's clients and emulators agree on.
const (
	pubsubHostVar   = "PUBSUB_EMULATOR_HOST"
	bigtableHostVar = "BIGTABLE_EMULATOR_HOST"
)
