package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/agent/wire"
)

func newFleet() *cobra.Command {
	c := group("fleet", "See and steer the devices of a fleet")
	c.AddCommand(newFleetLs(), newFleetMode())
	return c
}

func newFleetLs() *cobra.Command {
	var a operatorArgs
	var asJSON bool
	c := &cobra.Command{
		Use:   "ls",
		Short: "List the devices: who is there and what they run",
		Example: `  limber fleet ls
  limber fleet ls --broker mqtts://broker:8883 --fleet plant-3 --json`,
		Args: exactly(0, "no arguments"),
		RunE: func(c *cobra.Command, _ []string) error {
			return a.station(c.Context(), c.ErrOrStderr(), fleet.ListFilters(a.fleet), func(ctx context.Context, s *fleet.Station) error {
				devices, err := s.List(ctx)
				if err != nil {
					return err
				}
				if asJSON {
					return printLines(c.OutOrStdout(), devices)
				}
				return printDevices(c.OutOrStdout(), a.fleet, devices)
			})
		},
	}
	a.flags(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line")
	return c
}

// printLines prints one JSON object a line.
func printLines[T any](w io.Writer, list []T) error {
	enc := json.NewEncoder(w)
	for _, v := range list {
		if err := enc.Encode(v); err != nil {
			return err
		}
	}
	return nil
}

func printDevices(w io.Writer, name string, devices []fleet.Device) error {
	if len(devices) == 0 {
		_, err := fmt.Fprintf(w, "no device of fleet %s has ever connected to this broker\n", name)
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "DEVICE\tSTATE\tSINCE\tMODE\tMEMBER\tFAMILY\tMEMBERS\tTOP-1 %\tP50 MS\tAGENT")
	for _, d := range devices {
		fmt.Fprintln(t, deviceRow(d))
	}
	return t.Flush()
}

func deviceRow(d fleet.Device) string {
	state, since, mode, member, fam, members, top1, p50, version := "-", "-", "-", "-", "-", "-", "-", "-", "-"
	if s := d.State; s != nil {
		state, since = string(s.State), s.TS.Local().Format(time.DateTime)
		if s.Detail != "" {
			state += " (" + s.Detail + ")"
		}
	}
	if r := d.Reported; r != nil && r.Mode != "" {
		mode, member = r.Mode, r.Member
	}
	if c := d.Caps; c != nil {
		version = c.Versions.Agent
		if c.Family != nil {
			fam = c.Family.Name
		}
		if n := len(c.Members); n > 0 {
			first, last := c.Members[0], c.Members[n-1]
			members = fmt.Sprint(n)
			top1 = fmt.Sprintf("%.1f-%.1f", 100*first.Top1, 100*last.Top1)
			if first.P50MS != nil && last.P50MS != nil {
				p50 = fmt.Sprintf("%.2f-%.2f", *first.P50MS, *last.P50MS)
			}
		}
	}
	return fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s", d.Name, state, since, mode, member, fam, members, top1, p50, version)
}

func newFleetMode() *cobra.Command {
	var a operatorArgs
	var asJSON bool
	var ttl time.Duration
	c := &cobra.Command{
		Use:   "mode DEVICE|@GROUP MODE",
		Short: "Set the mode of a device or of a group, and wait for the answers",
		Long: `Set how a device chooses its sub-network:

  balanced      highest expected accuracy that leaves the queue its share
  max-accuracy  the most accurate member that meets each job's own deadline
  low-latency   the fastest member within two points of the best
  fixed:MEMBER  always that member

Everybody is in the group @all. The exit code is 0 when every device that is
online set the mode.`,
		Example: `  limber fleet mode desk max-accuracy
  limber fleet mode @all balanced
  limber fleet mode cam-17 fixed:12.3M --json`,
		Args: exactly(2, "a device or a group, and a mode"),
		RunE: func(c *cobra.Command, args []string) error {
			target, mode := args[0], args[1]
			if !wire.ValidName(target) && !wire.ValidGroup(target) {
				return usageError{fmt.Errorf("%q is neither a device nor a @group", target)}
			}
			if _, err := governor.ParseMode(mode); err != nil {
				return usageError{err}
			}
			set := func(ctx context.Context, s *fleet.Station) error {
				outcomes, err := s.SetMode(ctx, a.fleet, target, mode, ttl)
				if err != nil {
					return err
				}
				return printOutcomes(c.OutOrStdout(), outcomes, asJSON)
			}
			return a.station(c.Context(), c.ErrOrStderr(), fleet.CommandFilters(a.fleet), set)
		},
	}
	a.flags(c)
	c.Flags().DurationVar(&ttl, "ttl", 5*time.Second, "how long the command is good for, and how long to wait")
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line")
	return c
}

func printOutcomes(w io.Writer, outcomes []fleet.Outcome, asJSON bool) error {
	failed := 0
	for _, o := range outcomes {
		if o.State != wire.CommandSucceeded {
			failed++
		}
		if !asJSON {
			line := fmt.Sprintf("%s: %s", o.Device, o.State)
			if o.Reason != "" {
				line += fmt.Sprintf(" (%s)", o.Reason)
			}
			if o.Detail != "" {
				line += ": " + o.Detail
			}
			fmt.Fprintln(w, line)
		}
	}
	if asJSON {
		if err := printLines(w, outcomes); err != nil {
			return err
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d devices did not set the mode", failed, len(outcomes))
	}
	return nil
}
