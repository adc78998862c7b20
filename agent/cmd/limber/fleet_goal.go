package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/agent/wire"
)

func newFleetGoal() *cobra.Command {
	var a commandArgs
	var g goalArgs
	c := &cobra.Command{
		Use:   "goal DEVICE|@GROUP",
		Short: "Set the goal of a device or of a group, and wait for the answers",
		Long: `Set in figures what a device is to achieve; what no flag asks for is left to it.
Deadline and accuracy are for frames that bring none of their own. A goal takes
the place of the mode, and a mode that of the goal. A goal that a device cannot
have is rejected with the nearest that it can.

Everybody is in the group @all. The exit code is 0 when every device that is
online set the goal.`,
		Example: `  limber fleet goal desk --deadline 50ms --min-top1 0.87
  limber fleet goal @all --max-watts 5 --prefer energy
  limber fleet goal cam-17 --prefer latency --json`,
		Args: exactly(1, "a device or a group"),
		RunE: func(c *cobra.Command, args []string) error {
			goal, err := g.goal(c)
			if err != nil {
				return err
			}
			return a.run(c, args[0], "goal", wire.Command{Goal: goal})
		},
	}
	a.flags(c, 5*time.Second)
	g.flags(c)
	return c
}

// goalArgs are the flags that make a goal.
type goalArgs struct {
	deadline         time.Duration
	minTop1, maxWatt float64
	prefer           string
}

func (g *goalArgs) flags(c *cobra.Command) {
	f := c.Flags()
	f.DurationVar(&g.deadline, "deadline", 0, "of frames that bring none, from receipt")
	f.Float64Var(&g.minTop1, "min-top1", 0, "least accuracy for frames that bring none, a fraction")
	f.Float64Var(&g.maxWatt, "max-watts", 0, "most that the device may take on average, W")
	f.StringVar(&g.prefer, "prefer", "", "what to have more of within the rest: accuracy, latency or energy")
}

func (g *goalArgs) asked(c *cobra.Command) bool {
	return slices.ContainsFunc([]string{"deadline", "min-top1", "max-watts", "prefer"}, c.Flags().Changed)
}

func (g *goalArgs) goal(c *cobra.Command) (*wire.Goal, error) {
	if !g.asked(c) {
		return nil, usagef("the goal is empty: set --deadline, --min-top1, --max-watts or --prefer; see "+
			"`%s --help`", c.CommandPath())
	}
	goal := wire.Goal{Prefer: g.prefer}
	if c.Flags().Changed("deadline") {
		if err := checkDeadline(g.deadline); err != nil {
			return nil, err
		}
		goal.DeadlineMS = new(wire.Millis(g.deadline))
	}
	if c.Flags().Changed("min-top1") {
		goal.MinTop1 = &g.minTop1
	}
	if c.Flags().Changed("max-watts") {
		goal.MaxWatts = &g.maxWatt
	}
	if err := goal.Check(); err != nil {
		return nil, usageError{err}
	}
	return &goal, nil
}

// setArgs are the flags of `fleet set`.
type setArgs struct {
	operatorArgs
	goalArgs
	mode   string
	force  bool
	wait   time.Duration
	asJSON bool
}

func newFleetSet() *cobra.Command {
	var a setArgs
	c := &cobra.Command{
		Use:   "set DEVICE|@GROUP",
		Short: "Set the desired state of a device or of a group, which also those get that are off",
		Long: `Set what a device is to pursue, a mode or a goal, as a desired state: the broker
retains it, and a device that is off gets it when it is back. Its version is one
more than the greatest in the fleet: of its own and its groups' desired states a
device takes that with the greatest version. Then wait for the devices that are
online, and print what they report. It fails when another operator sets the same
target at the same time.

A goal that a device cannot have is rejected with the nearest that it can; what
was in force stays. Rejected or not, a desired state stays at the broker until the
next one is set, and a device reports on it again when it connects. A version that
is more than 2^32 ahead of the last one is rejected. A device that has applied one
which nobody can follow, as by a program that counts otherwise, is mended with
--force-version, and so is what is retained with one: devices go back to the version
that follows the greatest within reach. The exit code is 0 when every device that is
online applied the desired state.`,
		Example: `  limber fleet set @all --mode power-save
  limber fleet set desk --deadline 50ms --min-top1 0.87
  limber fleet set cam-17 --prefer energy --json
  limber fleet set cam-17 --mode balanced --force-version`,
		Args: exactly(1, "a device or a group"),
		RunE: func(c *cobra.Command, args []string) error { return a.run(c, args[0]) },
	}
	a.operatorArgs.flags(c)
	f := c.Flags()
	f.StringVar(&a.mode, "mode", "", "name of a mode, see limber fleet mode --help; or a goal:")
	a.goalArgs.flags(c)
	f.BoolVar(&a.force, "force-version", false, "have devices go back from a version that nobody can follow")
	f.DurationVar(&a.wait, "wait", 5*time.Second, "how long to wait for the reports")
	f.BoolVar(&a.asJSON, "json", false, "print one JSON object a line")
	return c
}

func (a *setArgs) run(c *cobra.Command, target string) error {
	if err := errors.Join(checkTarget(c, target), checkPositive("--wait", a.wait)); err != nil {
		return err
	}
	aim, err := a.aim(c)
	if err != nil {
		return err
	}
	return a.client(c.Context(), c.ErrOrStderr(), fleet.DesireFilters(a.fleet),
		func(ctx context.Context, fl *fleet.Client) error {
			desire := fl.Desire
			if a.force {
				desire = fl.ForceDesire
			}
			reports, err := desire(ctx, a.fleet, target, aim, a.wait)
			if err != nil {
				return err
			}
			return printEach(c.OutOrStdout(), reports, a.asJSON, reportLine, fleet.Report.Failed,
				"apply the desired state")
		})
}

func (a *setArgs) aim(c *cobra.Command) (wire.Aim, error) {
	switch asked := a.asked(c); {
	case a.mode != "" && asked:
		return wire.Aim{}, usagef("both --mode and a goal: give one of them; see `%s --help`", c.CommandPath())
	case a.mode != "":
		if _, err := governor.ParseMode(a.mode); err != nil { // it would be retained
			return wire.Aim{}, usagef("--mode: %w", err)
		}
		return wire.Aim{Mode: a.mode}, nil
	case !asked:
		return wire.Aim{}, usagef("neither --mode nor a goal: give one of them; see `%s --help`", c.CommandPath())
	}
	goal, err := a.goal(c)
	return wire.Aim{Goal: goal}, err
}

func reportLine(r fleet.Report) string {
	state := string(r.Status)
	if r.Pending {
		state = "pending"
	}
	state += fmt.Sprintf(", version %d", r.Version)
	detail := r.Detail
	if r.Status == wire.Applied {
		detail = wire.Aim{Mode: r.Mode, Goal: r.Goal}.String()
	}
	return sentence(r.Device, state, r.Reason, detail)
}
