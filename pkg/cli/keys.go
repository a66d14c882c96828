package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/latamctl/latamctl/pkg/config"
	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/web/auth"
)

// keysOptions are the flags of the keys commands.
type keysOptions struct {
	file, dataDir string
	datasets      []string
	expires       string
}

func keysCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "keys", GroupID: groupData,
		Short: "Create, list and revoke API keys",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(keysCreateCmd(a), keysListCmd(a), keysRevokeCmd(a))
	return cmd
}

func addKeysFlags(cmd *cobra.Command, o *keysOptions) {
	addKeysFileFlag(cmd, &o.file)
	cmd.Flags().StringVar(&o.dataDir, "data-dir", defaultDataDir, "folder of the data")
}

func keysCreateCmd(a *app) *cobra.Command {
	var o keysOptions
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Make an API key and print it, once",
		Long: `create prints the key on stdout. Only its hash is kept, so it cannot be shown again. A running
up or serve with the same file accepts it within a second.`,
		Example: `  latamctl keys create dashboard
  latamctl keys create etl --dataset flights --expires 90d -o json`,
		Args: cobra.ExactArgs(1),
		RunE: a.run(settings, func(ctx context.Context, args []string) error { return a.runKeysCreate(ctx, args[0], o) }),
	}
	f := cmd.Flags()
	f.StringArrayVar(&o.datasets, "dataset", nil, "dataset that the key opens, repeatable (default all)")
	f.StringVar(&o.expires, "expires", "", "how long the key is good, such as 90d or 12h (default until it is revoked)")
	_ = cmd.RegisterFlagCompletionFunc("dataset", datasetArg(a)) // It fails only for an unknown flag.
	config.MarkInvocation(f, "dataset", "expires")
	addKeysFlags(cmd, &o)
	return cmd
}

func keysListCmd(a *app) *cobra.Command {
	var o keysOptions
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the API keys and what they are good for",
		Example: "  latamctl keys list\n  latamctl keys list -o json",
		Args:    cobra.NoArgs,
		RunE:    a.run(settings, func(context.Context, []string) error { return a.runKeysList(o) }),
	}
	addKeysFlags(cmd, &o)
	return cmd
}

func keysRevokeCmd(a *app) *cobra.Command {
	var o keysOptions
	cmd := &cobra.Command{
		Use:     "revoke ID|NAME",
		Short:   "End an API key",
		Long:    "revoke ends a key for good; a running up or serve with the same file refuses it within a second.",
		Example: "  latamctl keys revoke etl",
		Args:    cobra.ExactArgs(1),
		RunE:    a.run(settings, func(ctx context.Context, args []string) error { return a.runKeysRevoke(ctx, args[0], o) }),
	}
	addKeysFlags(cmd, &o)
	return cmd
}

// keyInfo is a key as the commands show it.
type keyInfo struct {
	ID       string        `json:"id"`
	Name     string        `json:"name"`
	Datasets []string      `json:"datasets"` // none is all
	Created  time.Time     `json:"created"`
	Expires  *time.Time    `json:"expires"`
	Revoked  *time.Time    `json:"revoked"`
	State    auth.KeyState `json:"state"`
}

func (a *app) keyInfo(k *auth.Key) keyInfo {
	return keyInfo{
		ID: k.ID, Name: k.Name, Datasets: append([]string{}, k.Datasets...), Created: k.Created,
		Expires: k.Expires, Revoked: k.Revoked, State: k.State(a.proc.Now()),
	}
}

func (a *app) runKeysCreate(ctx context.Context, name string, o keysOptions) error {
	if _, err := a.chosen(o.datasets); err != nil {
		return err
	}
	now := a.proc.Now()
	var expires time.Time
	if o.expires != "" {
		d, err := dataset.ParseDuration(o.expires)
		if err != nil || d < time.Second {
			return failf(exitUsage, "write it like 90d or 12h", "--expires %q is not a duration of a second or more", o.expires)
		}
		expires = now.Add(d)
	}
	var text string
	var info keyInfo
	err := a.changeKeys(ctx, o, func(ring *auth.Keyring) error {
		secret, k, err := ring.Create(name, o.datasets, now, expires)
		if err != nil {
			return failf(exitUsage, "choose another name; latamctl keys list shows those that are taken", "create key: %w", err)
		}
		text, info = secret.Reveal(), a.keyInfo(k)
		return nil
	})
	if err != nil {
		return err
	}
	if a.global.output == outputJSON {
		return json.NewEncoder(a.proc.Out).Encode(struct {
			Schema string `json:"schema"`
			Key    string `json:"key"`
			keyInfo
		}{"latamctl.keys.create/v1", text, info})
	}
	fmt.Fprintln(a.proc.Out, text)
	if !a.global.quiet {
		fmt.Fprintf(a.proc.Err, "key %s (%s) for %s; it is not shown again\n", info.ID, info.Name, scope(info))
	}
	return nil
}

// scope is what a key opens, in words.
func scope(k keyInfo) string {
	if len(k.Datasets) == 0 {
		return "all datasets"
	}
	return strings.Join(k.Datasets, ", ")
}

func (a *app) runKeysList(o keysOptions) error {
	path := keysPath(o.file, o.dataDir)
	ring, err := a.readKeys(path)
	if err != nil {
		return err
	}
	list := make([]keyInfo, len(ring.Keys))
	for i, k := range ring.Keys {
		list[i] = a.keyInfo(k)
	}
	if a.global.output == outputJSON {
		return json.NewEncoder(a.proc.Out).Encode(map[string]any{"schema": "latamctl.keys.list/v1", "file": path, "keys": list})
	}
	if len(list) == 0 {
		fmt.Fprintf(a.proc.Err, "no keys in %s; make one with: latamctl keys create NAME\n", path)
		return nil
	}
	w := tabwriter.NewWriter(a.proc.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tNAME\tDATASETS\tCREATED\tEXPIRES\tSTATE")
	for _, k := range list {
		expires := "-"
		if k.Expires != nil {
			expires = k.Expires.Format(time.RFC3339)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", k.ID, k.Name, scope(k), k.Created.Format(time.RFC3339), expires, k.State)
	}
	return w.Flush()
}

func (a *app) runKeysRevoke(ctx context.Context, idOrName string, o keysOptions) error {
	var info keyInfo
	err := a.changeKeys(ctx, o, func(ring *auth.Keyring) error {
		k, err := ring.Revoke(idOrName, a.proc.Now())
		if err != nil {
			return fail(exitUsage, keyHint(ring, idOrName, err), err)
		}
		info = a.keyInfo(k)
		return nil
	})
	if err != nil {
		return err
	}
	if a.global.output == outputJSON {
		return json.NewEncoder(a.proc.Out).Encode(struct {
			Schema string `json:"schema"`
			keyInfo
		}{"latamctl.keys.revoke/v1", info})
	}
	fmt.Fprintf(a.proc.Out, "revoked key %s (%s)\n", info.ID, info.Name)
	return nil
}

func keyHint(ring *auth.Keyring, idOrName string, err error) string {
	if errors.Is(err, auth.ErrAmbiguous) {
		return "name it by its id; latamctl keys list shows them"
	}
	var known []string
	for _, k := range ring.Keys {
		known = append(known, k.Name, k.ID)
	}
	if near := dataset.Nearest(idOrName, known); near != "" {
		return fmt.Sprintf("did you mean %s?", near)
	}
	return "latamctl keys list shows the keys there are"
}

// readKeys reads the file of the keys; one that is not there holds none.
func (a *app) readKeys(path string) (*auth.Keyring, error) {
	b, err := a.proc.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return auth.NewKeyring(), nil
	}
	if err != nil {
		return nil, fail(exitInvalid, "name the file with --keys-file", fmt.Errorf("read API keys: %w", err))
	}
	ring, err := auth.ParseKeyring(b)
	if err != nil {
		return nil, fail(exitInvalid, "put it right, or move it away to start without keys", fmt.Errorf("%s: %w", path, err))
	}
	return ring, nil
}

// changeKeys reads, changes and replaces the file of the keys while no other command does.
func (a *app) changeKeys(ctx context.Context, o keysOptions, change func(*auth.Keyring) error) error {
	path := keysPath(o.file, o.dataDir)
	const hint = "choose a file that can be written with --keys-file"
	unlock, err := a.proc.LockFile(ctx, path)
	if err != nil {
		if ctx.Err() != nil {
			return err
		}
		return fail(exitFailed, hint, fmt.Errorf("lock API keys: %w", err))
	}
	defer unlock()
	ring, err := a.readKeys(path)
	if err != nil {
		return err
	}
	if err := change(ring); err != nil {
		return err
	}
	b, err := ring.Marshal()
	if err != nil {
		return err
	}
	if err := a.proc.WriteSecretFile(path, b); err != nil {
		return fail(exitFailed, hint, fmt.Errorf("write API keys: %w", err))
	}
	return nil
}
