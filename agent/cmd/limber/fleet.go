package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/wire"
)

func newFleet() *cobra.Command {
	c := group("fleet", "See and steer the devices of a fleet", `  limber fleet ls
  limber fleet mode desk max-accuracy
  limber fleet mode @all balanced
  limber fleet goal @gate --deadline 50ms --min-top1 0.87
  limber fleet power desk clock-75
  limber fleet set @all --mode power-save
  limber fleet sync
  limber fleet explain desk`)
	c.AddCommand(newFleetLs(), newFleetMode(), newFleetGoal(), newFleetPower(), newFleetSet(), newFleetSync(),
		newFleetExplain())
	return c
}

func newFleetLs() *cobra.Command {
	var a operatorArgs
	var asJSON bool
	c := &cobra.Command{
		Use:   "ls",
		Short: "List the devices: who is there and what they run",
		Long: `List the devices that were ever at this broker. FOR is how long a device has been
in its STATE; MEMBER is the sub-network in force, named after its cost (23.1M:
million multiply-accumulates); TOP-1 and P50, the unloaded latency, go from the
smallest member to the largest. MEMBER and MODE are those of the device's last
report; nobody knows since when a device is lost. --json has every figure.`,
		Example: `  limber fleet ls
  limber fleet ls --broker mqtts://broker:8883 --fleet plant-3 --json`,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.client(c.Context(), c.ErrOrStderr(), fleet.ListFilters(a.fleet),
				func(ctx context.Context, fl *fleet.Client) error {
					devices, err := fl.List(ctx)
					if err != nil {
						return err
					}
					if fl.Registry().Counts().Untracked > 0 {
						fmt.Fprintf(c.ErrOrStderr(), "fleet %s has more than %d devices: these are not all\n", a.fleet, fleet.MaxDevices)
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
		_, err := fmt.Fprintf(w, "no device of fleet %s has ever been at this broker; `limber agent` starts one\n", name)
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "DEVICE\tSTATE\tFOR\tMODE\tMEMBER\tFAMILY\tTOP-1 %\tP50 MS\tAGENT")
	for _, d := range devices {
		fmt.Fprintln(t, strings.Join(deviceRow(d, time.Now()), "\t"))
	}
	return t.Flush()
}

// deviceRow is a device's cells; what it never said is a dash.
func deviceRow(d fleet.Device, now time.Time) []string {
	state, since, mode, member, fam, top1, p50, version := "-", "-", "-", "-", "-", "-", "-", "-"
	if s := d.State; s != nil {
		state = string(s.State)
		if s.State != wire.Lost { // its time is that of the connection, with which the will was left
			since = age(now.Sub(s.TS.Time))
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
			top1 = fmt.Sprintf("%.1f-%.1f", 100*first.Top1, 100*last.Top1)
			if first.P50MS != nil && last.P50MS != nil {
				p50 = fmt.Sprintf("%.2f-%.2f", *first.P50MS, *last.P50MS)
			}
		}
	}
	row := []string{d.Name, state, since, mode, member, fam, top1, p50, version}
	if d.State != nil && d.State.Detail != "" {
		row[len(row)-1] += "  " + d.State.Detail // a sentence, which would widen every other column
	}
	return row
}

// age is a duration in its greatest unit, as lists of machines show it.
func age(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d >= 2*day:
		return fmt.Sprintf("%dd", d/day)
	case d >= 2*time.Hour:
		return fmt.Sprintf("%dh", d/time.Hour)
	case d >= 2*time.Minute:
		return fmt.Sprintf("%dm", d/time.Minute)
	default:
		return fmt.Sprintf("%ds", max(d, 0)/time.Second) // the device's clock may run ahead
	}
}
