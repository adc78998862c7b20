package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/agent/fleet"
)

// whereHelp is what --where takes.
const whereHelp = `--where chooses devices: conditions with commas between them, all of which must
hold; != instead of = turns one around, and * stands for any text.

  device=cam-*          the name
  group=@gate           a group that it is in
  label.site=berlin     a label, see limber fleet label; label.site=* has any
  state=online          or offline, lost
  mode=power-save       in force; goal for one of figures
  member=23.1M          the sub-network in force
  family=cifar10        its name, or the beginning of its digest
  agent=v0.2.*          the version of the agent
  release=1.5.0         that runs under limber-boot, or the beginning of its digest
  arch=arm64            that its program is for
  runtime=1.30.*        the version of ONNX Runtime
  machine=8aa3a679*     what it runs on
  power=MODE_15W        the power mode of its board
  update=failed         how the last update ended; while one is under way its step, such
                        as fetching, probation, trial
  can=20ms@0.76         a member has a p95 of at most 20 ms and a top-1 of at least 0.76`

// whereArgs are the flag --where.
type whereArgs struct{ expression string }

func (a *whereArgs) flags(c *cobra.Command) {
	c.Flags().StringVar(&a.expression, "where", "",
		"`EXPRESSION` that devices fit, such as state=online,label.site=berlin (default: all)")
}

// parse reads the expression; what is wrong is shown beneath it.
func (a *whereArgs) parse() (fleet.Where, error) {
	w, err := fleet.ParseWhere(a.expression)
	if bad, ok := errors.AsType[*fleet.WhereError](err); ok && len(a.expression) <= fleet.MaxWhere {
		before := strings.Repeat(" ", len([]rune(a.expression[:bad.Pos])))
		line := strings.Map(func(r rune) rune { return max(r, ' ') }, a.expression) // each a column wide
		return w, usagef("--where: %w\n  %s\n  %s^", err, line, before)
	} else if err != nil {
		return w, usagef("--where: %w", err)
	}
	return w, nil
}

func newFleetLs() *cobra.Command {
	var a operatorArgs
	var where whereArgs
	var asJSON bool
	c := &cobra.Command{
		Use:   "ls",
		Short: "List the devices: who is there and what they run",
		Long: `List the devices that were ever at this broker. FOR is how long a device has been
in its STATE; MEMBER is the sub-network in force, named after its cost (23.1M:
million multiply-accumulates); TOP-1 and P50, the unloaded latency, go from the
smallest member to the largest. MEMBER and MODE are those of the device's last
report; nobody knows since when a device is lost. --json has every figure.

` + whereHelp,
		Example: `  limber fleet ls
  limber fleet ls --where 'state!=online,group=@gate'
  limber fleet ls --where can=20ms@0.76 --json
  limber fleet ls --where 'arch=arm64,release!=1.5.0'
  limber fleet ls --broker mqtts://broker:8883 --fleet plant-3 --json`,
		RunE: func(c *cobra.Command, _ []string) error {
			fits, err := where.parse()
			if err != nil {
				return err
			}
			return a.client(c.Context(), c.ErrOrStderr(), fleet.ListFilters(a.fleet),
				func(ctx context.Context, fl *fleet.Client) error {
					all, err := fl.List(ctx)
					if err != nil {
						return err
					}
					warnUntracked(c, fl, a.fleet)
					return printDevices(c, a.fleet, all, fits, asJSON)
				})
		},
	}
	a.flags(c)
	where.flags(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line")
	return c
}

// warnUntracked says that there are more devices than a picture has room for.
func warnUntracked(c *cobra.Command, fl *fleet.Client, name string) {
	if fl.Registry().Counts().Untracked > 0 {
		fmt.Fprintf(c.ErrOrStderr(),
			"fleet %s has more than %d devices, or such that say far too much: these are not all\n",
			name, fleet.MaxDevices)
	}
}

func printDevices(c *cobra.Command, name string, all []fleet.Device, fits fleet.Where, asJSON bool) error {
	var devices []fleet.Device
	for _, d := range all {
		if fits.Fits(d) {
			devices = append(devices, d)
		}
	}
	if len(devices) == 0 && !asJSON {
		text := fmt.Sprintf("no device of fleet %s has ever been at this broker; `limber agent` starts one", name)
		if len(all) > 0 {
			text = fmt.Sprintf("fleet %s has %s: none fits", name, fleet.Count(len(all), "device"))
		}
		_, err := fmt.Fprintln(c.OutOrStdout(), text)
		return err
	}
	head := strings.Join(fleet.ListHead(), "\t")
	return printList(c.OutOrStdout(), asJSON, devices, 0, head, func(d fleet.Device) string {
		row := strings.Join(d.Cells(time.Now()), "\t")
		if note := d.Note(); note != "" {
			row += "  " + note // a sentence, which would widen every other column
		}
		return row
	})
}
