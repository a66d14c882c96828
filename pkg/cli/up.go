package cli

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/latamctl/latamctl/examples"
	"github.com/latamctl/latamctl/pkg/bus"
	"github.com/latamctl/latamctl/pkg/config"
	"github.com/latamctl/latamctl/pkg/engine"
)

// upOptions are the flags of up.
type upOptions struct {
	serviceOptions
	pubsub, bigtable string
	dataDir          string
	noSample, reset  bool
}

const defaultDataDir = ".latam"

func upCmd(a *app) *cobra.Command {
	var o upOptions
	var cloud applyOptions
	cmd := &cobra.Command{
		Use: "up", GroupID: groupRun,
		Short: "Run the whole system on this machine, or bring an environment to what is declared",
		Long: `up starts Pub/Sub, Bigtable, ingest and the HTTP API in this process. Google's clients
reach the first two through PUBSUB_EMULATOR_HOST and BIGTABLE_EMULATOR_HOST. Without a
latam.yaml it runs the built-in example with its sample of real flights. Ctrl-C drains
and ends it.

For an environment on Google Cloud (engine: gcp) it plans all stacks, asks once and applies
those plans in order. A stack that fails blocks only what needs it. Ctrl-C lets applies finish;
up --resume goes on.`,
		Example: `  latamctl up
  latamctl up --http 127.0.0.1:0 -o json    # a free port, one JSON line when ready
  latamctl up --engine memory --no-sample   # nothing kept, nothing loaded
  latamctl up --env prod                    # plan, one question, apply
  latamctl up --env prod --plan plan.d      # exactly the plan that was read
  latamctl up --env prod --resume`,
		Args: cobra.NoArgs,
	}
	cmd.RunE = a.run(longRunning, func(ctx context.Context, _ []string) error {
		return a.upEither(ctx, cmd.Flags(), o, cloud)
	})
	f := cmd.Flags()
	f.StringVar(&o.http, "http", "127.0.0.1:8080", "address of the API; port 0 picks a free one, here and below")
	f.StringVar(&o.admin, "admin", "127.0.0.1:9090", "address of probes and metrics")
	f.StringVar(&o.pubsub, "pubsub", "127.0.0.1:8085", "address of the Pub/Sub API")
	f.StringVar(&o.bigtable, "bigtable", "127.0.0.1:8086", "address of the Bigtable API")
	f.StringVar(&o.dataDir, "data-dir", defaultDataDir, "folder of the data and of the note by which other commands find this stack")
	f.BoolVar(&o.noSample, "no-sample", false, "do not load the example's sample")
	f.BoolVar(&o.reset, "reset", false, "delete the data folder's content first, after asking")
	f.BoolVar(&o.access.noAuth, "no-auth", false, "answer everybody on this machine, whatever the datasets declare")
	addAccessFlags(cmd, &o.access)
	addIngestFlags(cmd, &o.ingest)
	config.MarkInvocation(f, "reset", "no-auth")
	f.VisitAll(func(flag *pflag.Flag) { annotate(flag, localOnly) })
	addApplyFlags(cmd, &cloud)
	return cmd
}

// upEither is up on this machine or in the cloud, as the environment says.
func (a *app) upEither(ctx context.Context, flags *pflag.FlagSet, o upOptions, cloud applyOptions) error {
	inCloud, err := a.inCloud()
	switch {
	case err != nil:
		return err
	case inCloud:
		if err := a.onlySide(flags, localOnly, "environment "+a.global.env+" runs on Google Cloud"); err != nil {
			return err
		}
		return a.runApply(ctx, cloud)
	}
	if err := a.onlySide(flags, cloudOnly, "environment "+a.global.env+" runs on this machine"); err != nil {
		return err
	}
	return a.runUp(ctx, o)
}

// runUp starts everything in the order of its dependencies and runs it until the context ends.
func (a *app) runUp(ctx context.Context, o upOptions) error {
	o.warehouse.onRows = true
	eng, err := a.upEngine(o)
	if err != nil {
		return err
	}
	if err := a.checkAddresses(o); err != nil {
		return err
	}
	o.access.ownerRequired = true
	access, err := a.authOptions(o.access, o.dataDir)
	if err != nil {
		return err
	}
	if o.reset {
		if err := a.resetData(o.dataDir); err != nil {
			return err
		}
	}
	p, err := a.openPlatform(ctx, "up", eng, o.cloud)
	if err != nil {
		return err
	}
	defer a.close(p)
	if err := p.ensure(ctx, a.decl.Datasets); err != nil {
		return err
	}
	if err := p.forgetFollowers(ctx, a.decl.Datasets); err != nil {
		return err
	}
	if err := a.disownIndexes(ctx, p, a.decl.Datasets); err != nil {
		return err
	}
	worker, err := a.newIngest(p, o.ingest, a.decl.Datasets)
	if err != nil {
		return err
	}
	admin, err := a.listenAdmin(ctx, p, o.serviceOptions, a.decl.Datasets, worker)
	if err != nil {
		return err
	}
	api, err := a.listenAPI(ctx, p, o.serviceOptions, apiParts{callers: access, worker: worker, cursorSecret: a.cursorSecret(eng, o.dataDir), onDrain: admin.drain})
	if err != nil {
		return err
	}
	stack := runningStack{
		PID: a.proc.PID, API: "http://" + api.Addr(), Admin: "http://" + admin.Addr(),
		Pubsub: p.engine.PubsubAddr, Bigtable: p.engine.BigtableAddr, Project: p.project, Instance: p.instance,
		Token: access.OwnerToken,
	}
	if err := a.writeRunFile(o.dataDir, stack); err != nil {
		return err
	}
	defer a.removeRunFile(o.dataDir)

	return runWithAdmin(ctx, admin, worker.Run, api.Run, func(ctx context.Context) error {
		if err := a.loadSample(ctx, p.bus, o); err != nil && ctx.Err() == nil {
			return err
		}
		a.announce(stack, o)
		return nil
	})
}

// cursorFile keeps the secret of cursors and event ids, so that a restart does not end them.
const cursorFile = "cursor.key"

// cursorSecret is the secret of a data folder that outlives the process, made at the first start.
// Without the file cursors still work, until the process ends.
func (a *app) cursorSecret(eng engine.Options, dir string) string {
	if eng.Kind != engine.Embedded {
		return ""
	}
	path := filepath.Join(dir, cursorFile)
	if b, err := a.proc.ReadFile(path); err == nil && len(bytes.TrimSpace(b)) >= minSecretBytes {
		return string(bytes.TrimSpace(b))
	}
	secret := rand.Text() + rand.Text()
	if err := a.proc.WriteSecretFile(path, []byte(secret+"\n")); err != nil {
		a.log.Warn("keep the secret of cursors", "file", path, "error", err)
	}
	return secret
}

// upEngine is the engine of this machine that up runs on.
func (a *app) upEngine(o upOptions) (engine.Options, error) {
	kind, err := a.declaredEngine(engine.Kind(a.global.engine))
	if err != nil {
		return engine.Options{}, err
	}
	switch kind {
	case engine.Emulator:
		return a.serviceEngine(true)
	case engine.GCP:
		return engine.Options{}, failf(exitUsage, "latamctl up --env NAME drives it", "engine gcp is not of this machine")
	}
	return engine.Options{Kind: kind, Dir: a.proc.Path(o.dataDir), PubsubAddr: o.pubsub, BigtableAddr: o.bigtable}, nil
}

// checkAddresses keeps everything on this machine unless told otherwise: only the HTTP API can ask
// for credentials.
func (a *app) checkAddresses(o upOptions) error {
	if err := a.checkHTTPAddress(o.http, o.access); err != nil {
		return err
	}
	for _, l := range []struct{ flag, addr string }{{"--admin", o.admin}, {"--pubsub", o.pubsub}, {"--bigtable", o.bigtable}} {
		local, err := loopbackAddress(l.flag, l.addr)
		if err != nil && !o.access.insecureBind {
			return err
		}
		if !local && !o.access.insecureBind {
			return failf(exitUsage, "listen on 127.0.0.1, or say --insecure-bind if every machine that reaches it may read and write the data",
				"%s %s can be reached from other machines, and nobody is asked for credentials there", l.flag, l.addr)
		}
	}
	return nil
}

// upReady is the line that up prints with -o json.
type upReady struct {
	Schema string `json:"schema"`
	Ready  bool   `json:"ready"`
	runningStack
}

// announce tells where everything is.
func (a *app) announce(s runningStack, o upOptions) {
	if a.global.output == outputJSON {
		b, _ := json.Marshal(upReady{Schema: "latamctl.up/v1", Ready: true, runningStack: s}) // Strings always encode.
		fmt.Fprintln(a.proc.Out, string(b))
		return
	}
	first := a.decl.Datasets[0].Name
	keys, header := "", ""
	if asking := a.askingForKeys(o.access); len(asking) > 0 {
		keys = fmt.Sprintf("Others need an API key for %s:\n  latamctl keys create NAME%s\n\n", strings.Join(asking, ", "), o.keysFlags())
		if slices.Contains(asking, first) {
			header = ` -H "X-Api-Key: $LATAM_API_KEY"`
		}
	}
	fmt.Fprintf(a.proc.Out, `latamctl is up with %s.

  API       %s   (%s/docs shows it)
  Admin     %s
  Pub/Sub   %s   (PUBSUB_EMULATOR_HOST, project %s)
  Bigtable  %s   (BIGTABLE_EMULATOR_HOST, instance %s)

Next:
  latamctl get %s --limit 5
  curl%s '%s/v1/datasets/%s/rows?limit=2'
  latamctl verify

%sCtrl-C stops it.
`, a.declarationName(), s.API, s.API, s.Admin, s.Pubsub, s.Project, s.Bigtable, s.Instance, first, header, s.API, first, keys)
}

// keysFlags are the flags by which a keys command finds the file of this stack.
func (o upOptions) keysFlags() string {
	switch {
	case o.access.keysFile != "":
		return " --keys-file " + o.access.keysFile
	case o.dataDir != defaultDataDir:
		return " --data-dir " + o.dataDir
	}
	return ""
}

// sampleDataset is the dataset of the built-in example.
const sampleDataset = "flights"

// loadSample publishes the example's records on the first start with the built-in example.
func (a *app) loadSample(ctx context.Context, client *bus.Client, o upOptions) error {
	marker := filepath.Join(o.dataDir, "sample-loaded")
	if o.noSample || a.decl.File != "" || a.proc.Exists(marker) {
		return nil
	}
	topic := a.decl.Dataset(sampleDataset).Topic
	var batch []bus.Message
	lines := bufio.NewScanner(bytes.NewReader(examples.Flights))
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		_, err := client.PublishBatch(ctx, topic, batch)
		batch = batch[:0]
		return err
	}
	for lines.Scan() {
		batch = append(batch, bus.Message{Data: bytes.Clone(lines.Bytes())})
		if len(batch) == bus.MaxBatchMessages {
			if err := flush(); err != nil {
				return fmt.Errorf("load the sample: %w", err)
			}
		}
	}
	if err := errors.Join(lines.Err(), flush()); err != nil {
		return fmt.Errorf("load the sample: %w", err)
	}
	if keeps := a.global.engine == "" || a.global.engine == string(engine.Embedded); !keeps {
		return nil // Nothing outlives the process, so the next start loads it again.
	}
	return a.proc.WriteFile(marker, []byte(a.proc.Now().UTC().Format(time.RFC3339)+"\n"))
}
