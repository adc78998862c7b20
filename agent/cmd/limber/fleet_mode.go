package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/agent/wire"
)

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
				return usageError{fmt.Errorf("%q is not a power mode; see `%s --help`", args[1], c.CommandPath())}
			}
			return a.run(c, args[0], "power mode", wire.Command{PowerMode: args[1]})
		},
	}
	a.flags(c, 30*time.Second)
	return c
}
