package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/agent/fleet"
)

// showArgs are the flags of `fleet show`.
type showArgs struct {
	operatorArgs
	wait   time.Duration
	asJSON bool
}

func newFleetShow() *cobra.Command {
	var a showArgs
	c := &cobra.Command{
		Use:   "show DEVICE",
		Short: "Show all that is known of a device",
		Long: `Show all that is known of a device: what the broker retains of it and, if it is online,
its next telemetry and the events that come until then. Telemetry comes every
telemetry.every of the device's configuration, 5 s unless said otherwise.

Latencies of members are those of one inference without load on this device.`,
		Example: `  limber fleet show desk
  limber fleet show cam-17 --wait 1m --json`,
		Args: exactly(1, "a device"),
		RunE: func(c *cobra.Command, args []string) error { return a.run(c, args[0]) },
	}
	a.flags(c)
	c.Flags().DurationVar(&a.wait, "wait", 6*time.Second, "how long to wait for telemetry; 0s waits for none")
	c.Flags().BoolVar(&a.asJSON, "json", false, "print one JSON object")
	return c
}

func (a *showArgs) run(c *cobra.Command, device string) error {
	err := checkDevice(c, device)
	if a.wait < 0 {
		err = errors.Join(err, usagef("--wait: must not be under 0"))
	}
	if err != nil {
		return err
	}
	return a.client(c.Context(), c.ErrOrStderr(), fleet.RegistryFilters(a.fleet),
		func(ctx context.Context, fl *fleet.Client) error {
			if _, err := fl.List(ctx); err != nil {
				return err
			}
			whole, err := fl.Whole(ctx, device, a.wait)
			if err != nil {
				return err
			}
			if a.asJSON {
				return json.NewEncoder(c.OutOrStdout()).Encode(whole)
			}
			return printWhole(c.OutOrStdout(), whole)
		})
}

func printWhole(w io.Writer, whole fleet.Whole) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "device\t%s\n", whole.Name)
	last := ""
	for _, f := range whole.Facts(time.Now()) {
		name := f.Name
		if name == last {
			name = "" // another of the kind
		}
		fmt.Fprintf(t, "%s\t%s\n", name, f.Value)
		last = f.Name
	}
	return t.Flush()
}
