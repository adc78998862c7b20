package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/store"
)

// targetArgs are the flags of `fleet export`.
type targetArgs struct {
	operatorArgs
	where      whereArgs
	prometheus bool
	host, out  string
}

func newFleetExport() *cobra.Command {
	var a targetArgs
	c := &cobra.Command{
		Use:   "export",
		Short: "Write the devices of a fleet for other programs: where Prometheus reads them",
		Long: `Write where Prometheus reads the devices of a fleet, as its file_sd_configs and
http_sd_configs have it: a JSON list of targets, each with the labels fleet, device,
instance (the device as well), family, version and, of each label of the device,
label_KEY, in which _ stands for what is neither a letter nor a digit.

A device is in it that has metrics.listen in its configuration at an address which
others reach. One that listens at all of its addresses knows none that is its own:
--host says it, {device} being the name of the device. Devices that are not online are
in it, too: that they do not answer is what Prometheus is to see.

A device says its address itself, and Prometheus sends the token there with which it
reads: let it read what is in your network alone, or say with --where which you trust.

With --out the file is replaced as a whole, so Prometheus may watch it.

` + whereHelp,
		Example: `  limber fleet export --prometheus-sd
  limber fleet export --prometheus-sd --out targets.json --where label.site=berlin
  limber fleet export --prometheus-sd --host {device}.plant.example --out targets.json`,
		RunE: func(c *cobra.Command, _ []string) error { return a.run(c) },
	}
	a.operatorArgs.flags(c)
	a.where.flags(c)
	f := c.Flags()
	f.BoolVar(&a.prometheus, "prometheus-sd", false, "as Prometheus' service discovery reads it (required)")
	f.StringVar(&a.host, "host", "", "name or address of devices that listen at all of theirs, such as {device}.example")
	f.StringVar(&a.out, "out", "", "file to replace (default: standard output)")
	return c
}

func (a *targetArgs) run(c *cobra.Command) error {
	fits, err := a.where.parse()
	if err != nil {
		return err
	}
	if !a.prometheus {
		return usagef("%s: --prometheus-sd is missing; see `%[1]s --help`", c.CommandPath())
	}
	return a.client(c.Context(), c.ErrOrStderr(), fleet.ListFilters(a.fleet),
		func(ctx context.Context, fl *fleet.Client) error {
			all, err := fl.List(ctx)
			if err != nil {
				return err
			}
			warnUntracked(c, fl, a.fleet)
			return a.write(c, all, fits)
		})
}

// write writes the targets, and says of how many devices that fit it knows none.
func (a *targetArgs) write(c *cobra.Command, all []fleet.Device, fits fleet.Where) error {
	targets, without := []fleet.Target{}, 0
	for _, d := range all {
		if !fits.Fits(d) {
			continue
		}
		if t, ok := fleet.TargetOf(a.fleet, d, a.host); ok {
			targets = append(targets, t)
		} else {
			without++
		}
	}
	if without > 0 {
		fmt.Fprintf(c.ErrOrStderr(), "%s left out, which said no address that others read it at: see metrics.listen, "+
			"and --host for those that listen at all of theirs\n", fleet.Count(without, "device"))
	}
	write := func(w io.Writer) error {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(targets)
	}
	if a.out == "" {
		return write(c.OutOrStdout())
	}
	return store.FillFile(a.out, write)
}
