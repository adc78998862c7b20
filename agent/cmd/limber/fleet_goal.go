package main

import (
	"time"

	"github.com/spf13/cobra"

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

// asked tells whether a flag of the goal was given.
func (g *goalArgs) asked(c *cobra.Command) bool {
	for _, name := range []string{"deadline", "min-top1", "max-watts", "prefer"} {
		if c.Flags().Changed(name) {
			return true
		}
	}
	return false
}

// goal is what the flags ask for.
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
