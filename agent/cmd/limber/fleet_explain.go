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

// fleetExplainArgs are the flags of `fleet explain`.
type fleetExplainArgs struct {
	operatorArgs
	wait   time.Duration
	asJSON bool
}

func newFleetExplain() *cobra.Command {
	var a fleetExplainArgs
	c := &cobra.Command{
		Use:   "explain DEVICE",
		Short: "Show what a device's last decisions knew, and what else it could have done",
		Long: `Wait for the next telemetry of a device and show its last decisions: the slack of
the job, who waited, what was believed of the load, and for each member in use the
latency that was expected, the chance to be in time and what that is worth (top-1
times chance, percent). The member that was chosen is marked.

Telemetry comes every telemetry.every of the device's configuration, 5 s unless
said otherwise.`,
		Example: `  limber fleet explain desk
  limber fleet explain cam-17 --wait 1m --json`,
		Args: exactly(1, "a device"),
		RunE: func(c *cobra.Command, args []string) error { return a.run(c, args[0]) },
	}
	a.flags(c)
	c.Flags().DurationVar(&a.wait, "wait", 15*time.Second, "how long to wait for telemetry")
	c.Flags().BoolVar(&a.asJSON, "json", false, "print one JSON object a decision")
	return c
}

func (a *fleetExplainArgs) run(c *cobra.Command, device string) error {
	if err := errors.Join(checkDevice(c, device), checkPositive("--wait", a.wait)); err != nil {
		return err
	}
	return a.client(c.Context(), c.ErrOrStderr(), fleet.TelemetryFilters(a.fleet, device),
		func(ctx context.Context, fl *fleet.Client) error {
			wait, cancel := context.WithTimeout(ctx, a.wait)
			defer cancel()
			t, err := fl.AwaitTelemetry(wait, device, nil)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				return fmt.Errorf("no telemetry of %s within %v; "+
					"`limber fleet ls` tells whether it is online, --wait waits longer", device, a.wait)
			}
			if a.asJSON {
				return printLines(c.OutOrStdout(), t.Decisions)
			}
			return printDecisions(c.OutOrStdout(), device, t)
		})
}

func printDecisions(w io.Writer, device string, t *wire.Telemetry) error {
	if len(t.Decisions) == 0 {
		_, err := fmt.Fprintf(w, "%s has decided on no job since it started\n", device)
		return err
	}
	fmt.Fprintf(w, "in force now: %s\n\n", pursued(t.Mode, t.Goal)) // the decisions may have been taken in another
	for _, d := range t.Decisions {
		fmt.Fprintf(w, "%s  %s: %s\n", d.TS.Format(clockFormat), d.Member, d.Reason)
		c := choice{member: d.Member}
		for _, o := range d.Options {
			c.options = append(c.options, []string{o.Member, fmt.Sprintf("%.2f", o.PredictedMS), percent(o.Chance),
				fmt.Sprintf("%.2f", o.Worth)})
		}
		inputs := fmt.Sprintf("%.1f ms left, %d waiting; %s", d.SlackMS, d.Waiting, d.Belief)
		if err := c.print(w, inputs, took(&d)); err != nil {
			return err
		}
	}
	return nil
}

// took says what became of a decision that telemetry tells of.
func took(d *wire.Decision) string {
	switch {
	case d.InferMS == nil:
		return "no inference: refused, failed, or not yet ended"
	case *d.InferMS > d.SlackMS:
		return fmt.Sprintf("%.1f ms of inference, more than was left", *d.InferMS)
	}
	return fmt.Sprintf("%.1f ms of inference, within what was left", *d.InferMS)
}
