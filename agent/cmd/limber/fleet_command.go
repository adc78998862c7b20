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
			failed := func(o fleet.Outcome) bool { return o.State != wire.CommandSucceeded }
			line := func(o fleet.Outcome) string { return sentence(o.Device, string(o.State), o.Reason, o.Detail) }
			return printEach(c.OutOrStdout(), outcomes, a.asJSON, line, failed, "set the "+what)
		})
}

// printEach prints a line for each device. It is an error that some failed to do what
// they were told.
func printEach[T any](w io.Writer, all []T, asJSON bool, line func(T) string, failed func(T) bool, told string) error {
	n := 0
	for _, one := range all {
		if failed(one) {
			n++
		}
		if !asJSON {
			fmt.Fprintln(w, line(one))
		}
	}
	if asJSON {
		if err := printLines(w, all); err != nil {
			return err
		}
	}
	if n > 0 {
		return fmt.Errorf("%d of %d devices did not %s", n, len(all), told)
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

func newFleetMode() *cobra.Command {
	var a commandArgs
	c := &cobra.Command{
		Use:   "mode DEVICE|@GROUP MODE",
		Short: "Set the mode of a device or of a group, and wait for the answers",
		Long: `Set how a device chooses its sub-network:

  balanced      highest expected accuracy that leaves the queue its share
  max-accuracy  the most accurate member that meets each job's own deadline
  low-latency   the fastest member within two points of the best
  power-save    the cheapest member within three points of the best
  fixed:MEMBER  always that member

Everybody is in the group @all. The exit code is 0 when every device that is
online set the mode.`,
		Example: `  limber fleet mode desk max-accuracy
  limber fleet mode @all balanced
  limber fleet mode cam-17 fixed:9.7M --json`,
		Args: exactly(2, "a device or a group, and a mode"),
		RunE: func(c *cobra.Command, args []string) error {
			return a.run(c, args[0], "mode", wire.Command{Mode: args[1]})
		},
	}
	a.flags(c, 5*time.Second)
	return c
}

func newFleetPower() *cobra.Command {
	var a commandArgs
	c := &cobra.Command{
		Use:   "power DEVICE|@GROUP MODE",
		Short: "Set the power mode of a device or of a group, and wait for the answers",
		Long: `Set the power mode of a board: on a Jetson one of nvpmodel's, such as MAXN or
MODE_15W; elsewhere clock-100, clock-75 or clock-50, which limit the clocks of the
processors to that many percent. ` + "`limber fleet ls --json`" + ` has those of each board.

It is for all programs on the board, so its owner must allow it in the agent's
configuration, power.set_mode = true, and the agent must run as root. No board is
rebooted: a mode that takes a reboot fails. nvpmodel keeps its mode over a reboot
by itself; a limit of the clocks ends with it, and is not set again.

Everybody is in the group @all. The exit code is 0 when every device that is
online set the power mode.`,
		Example: `  limber fleet power desk clock-75
  limber fleet power @all MODE_15W
  limber fleet power cam-17 MAXN --ttl 10s --json`,
		Args: exactly(2, "a device or a group, and a power mode"),
		RunE: func(c *cobra.Command, args []string) error {
			if !wire.ValidName(args[1]) {
				return usagef("%q is not a power mode; see `%s --help`", args[1], c.CommandPath())
			}
			return a.run(c, args[0], "power mode", wire.Command{PowerMode: args[1]})
		},
	}
	a.flags(c, 30*time.Second)
	return c
}
