package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/latamctl/latamctl/pkg/config"
	"github.com/latamctl/latamctl/pkg/plan"
	"github.com/latamctl/latamctl/pkg/stack"
)

// downOptions are the flags of down.
type downOptions struct {
	driveOptions
	confirm     string
	includeKept []string
	allowDelete []string
	cascade     bool
}

func downCmd(a *app) *cobra.Command {
	var o downOptions
	cmd := &cobra.Command{
		Use: "down", GroupID: groupCloud,
		Short: "Delete what up made in an environment on Google Cloud",
		Long: `down plans the deletion of every stack, asks for the name of the environment and deletes in
reverse order. Stacks that are kept (bootstrap with the states) stay unless --include-kept names
them; protected objects, such as tables, need --allow-delete. It refuses to delete a stack while
another one that is not selected needs it. Where nobody can be asked it takes both --yes and
--confirm with the name.`,
		Example: `  latamctl plan --env staging --destroy
  latamctl down --env staging --allow-delete 'storage/*'
  latamctl down --env staging -s gateway
  latamctl down --env pr-17 --yes --confirm pr-17 --allow-delete 'storage/*' --allow-delete 'messaging/*'`,
		Args: cobra.NoArgs,
	}
	cmd.RunE = a.run(longRunning, func(ctx context.Context, _ []string) error { return a.runDown(ctx, o) })
	f := cmd.Flags()
	f.StringVar(&o.confirm, "confirm", "", "the name of the environment, where nobody can be asked")
	f.StringSliceVar(&o.includeKept, "include-kept", nil, "delete this stack too, which is kept otherwise (can be repeated)")
	f.StringArrayVar(&o.allowDelete, "allow-delete", nil, "let this protected object be deleted: STACK/ADDRESS, or STACK/* (can be repeated)")
	f.BoolVar(&o.cascade, "cascade", false, "delete what needs the selected stacks too, instead of refusing")
	config.MarkInvocation(f, "confirm", "include-kept", "allow-delete", "cascade")
	addDriveFlags(cmd, &o.driveOptions)
	return cmd
}

func (a *app) runDown(ctx context.Context, o downOptions) error {
	if err := a.needCloud("down"); err != nil {
		return err
	}
	a.log = a.newLogger(settings) // A run that ends logs as one, not as a service.
	if o.confirm != "" && o.confirm != a.global.env {
		return failf(exitRefused, "say --confirm "+a.global.env+" if that is meant", "--confirm %s is not the environment, which is %s", o.confirm, a.global.env)
	}
	o.deleting, a.again = true, "down"
	s, err := a.openSession(ctx, o.driveOptions)
	if err != nil {
		return err
	}
	defer s.close()
	report, err := s.driver.Down(ctx, stack.DownOptions{
		Selection: o.selection(), AllowDelete: o.allowDelete, IncludeKept: o.includeKept, Cascade: o.cascade,
		Approve: func(ctx context.Context, p *plan.Plan) error { return s.approveDown(ctx, p, o) },
	})
	s.close()
	return s.finish(ctx, outcome{command: "down", schema: "latamctl.down/v1", title: "Deleted from", resume: "down"}, report, err)
}

// approveDown wants the name of the environment typed, after the guard had its say.
func (s *session) approveDown(ctx context.Context, p *plan.Plan, o downOptions) error {
	release := s.progress.hold()
	defer release()
	s.asked++
	if err := s.preview(p, o.allowDelete); err != nil {
		return err
	}
	env := s.a.global.env
	switch {
	case s.a.global.yes && o.confirm == env:
		return nil
	case !s.a.interactive():
		return failf(exitRefused, "say both --yes and --confirm "+env, "nobody can be asked here whether to delete environment %s", env)
	}
	answer, err := s.a.ask(ctx, fmt.Sprintf("Type the name of the environment to delete these objects (%s): ", env))
	if err != nil {
		return err
	}
	if answer != env {
		return fail(exitRefused, "", errors.New("nothing was deleted: the answer was not the name of the environment"))
	}
	return nil
}
