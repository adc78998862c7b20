package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/wire"
)

// commandArgs are the flags of `fleet mode`, `fleet goal` and `fleet power`.
type commandArgs struct {
	operatorArgs
	ttl    time.Duration
	asJSON bool
}

func (a *commandArgs) flags(c *cobra.Command, ttl time.Duration) {
	a.operatorArgs.flags(c)
	c.Flags().DurationVar(&a.ttl, "ttl", ttl,
		"how long to wait, and how long the command is good for by this computer's clock: where that of a device is "+
			"ahead, set the clocks or give more")
	c.Flags().BoolVar(&a.asJSON, "json", false, "print one JSON object a line")
}

// run leaves what is asked for to the device to judge: it may know more than this
// program does, and says which modes it knows.
func (a *commandArgs) run(c *cobra.Command, target, what string, command wire.Command) error {
	if err := errors.Join(checkTarget(c, target), checkPositive("--ttl", a.ttl)); err != nil {
		return err
	}
	return a.client(c.Context(), c.ErrOrStderr(), fleet.CommandFilters(a.fleet),
		func(ctx context.Context, fl *fleet.Client) error {
			outcomes, err := fl.Command(ctx, a.fleet, target, command, a.ttl)
			if err != nil {
				return err
			}
			return printOutcomes(c.OutOrStdout(), outcomes, what, a.asJSON)
		})
}

func printOutcomes(w io.Writer, outcomes []fleet.Outcome, what string, asJSON bool) error {
	failed := 0
	for _, o := range outcomes {
		if o.State != wire.CommandSucceeded {
			failed++
		}
		if !asJSON {
			fmt.Fprintln(w, sentence(o.Device, string(o.State), o.Reason, o.Detail))
		}
	}
	if asJSON {
		if err := printLines(w, outcomes); err != nil {
			return err
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d devices did not set the %s", failed, len(outcomes), what)
	}
	return nil
}

// sentence is how it went on a device, on one line.
func sentence(device, state string, reason wire.Reason, detail string) string {
	line := device + ": " + state
	if reason != "" {
		line += fmt.Sprintf(" (%s)", reason)
	}
	if detail != "" {
		line += ": " + detail
	}
	return line
}
