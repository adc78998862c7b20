package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/agent/check"
	"github.com/limber-edge/limber/agent/config"
)

func newCheck() *cobra.Command {
	var a agentArgs
	var asJSON bool
	c := &cobra.Command{
		Use:   "check",
		Short: "Find out whether this device is fit to run",
		Long: `Find out whether this device is fit to run, in less than a minute: each check that
does not hold comes with a remedy. Run it as the user of the agent, who may read and
write other files than you.

Nothing is changed and nobody disturbed: the agent may be running. The broker is
visited under another client id, and what the device's state is there is published
once more, to see whether it comes back. A broker that knows clients by their names
alone takes the visit for the device, whose link is back a moment later.`,
		Example: `  limber check
  sudo -u limber limber check --config /etc/limber/limber.toml
  limber check --config /etc/limber/limber.toml --json`,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := a.read(c)
			if err != nil {
				return err
			}
			return tellFitness(c, cfg, asJSON)
		},
	}
	a.register(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line")
	return c
}

// tellFitness prints what the checks found; its error counts those that are errors.
func tellFitness(c *cobra.Command, cfg config.Config, asJSON bool) error {
	checks, err := check.All(cfg)
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	found, err := runChecks(c.Context(), checks, newProgress(c))
	if err != nil {
		return err
	}
	if asJSON {
		err = printLines(c.OutOrStdout(), found)
	} else {
		err = printFindings(c.OutOrStdout(), found)
	}
	if err != nil {
		return err
	}
	errors := 0
	for _, f := range found {
		if !f.OK && f.Level == check.Error {
			errors++
		}
	}
	if errors > 0 {
		return fmt.Errorf("%d of %d checks found an error: this device is not fit to run", errors, len(found))
	}
	return nil
}

func runChecks(ctx context.Context, checks []check.Check, p *progress) (found []check.Finding, err error) {
	defer p.End()
	for i, one := range checks {
		p.Tell("checking", i, len(checks))
		found = append(found, one.Run(ctx))
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	return found, nil
}

// printFindings has remedies on lines of their own, as they are long.
func printFindings(w io.Writer, found []check.Finding) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "CHECK\tHOLDS\tFOUND")
	for _, f := range found {
		how := "yes"
		if !f.OK {
			how = string(f.Level)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", f.Check, how, f.Detail)
		if f.Remedy != "" {
			fmt.Fprintf(t, "\t\t→ %s\n", f.Remedy)
		}
	}
	return t.Flush()
}
