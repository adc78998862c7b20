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
	"github.com/limber-edge/limber/family/chart"
	"github.com/limber-edge/limber/store"
)

// showArgs are the flags of `fleet show`.
type showArgs struct {
	operatorArgs
	wait   time.Duration
	asJSON bool
	plot   string
}

func newFleetShow() *cobra.Command {
	var a showArgs
	c := &cobra.Command{
		Use:   "show DEVICE",
		Short: "Show all that is known of a device",
		Long: `Show all that is known of a device: what the broker retains of it and, if it is online,
its next telemetry and the events that come until then. Telemetry comes every
telemetry.every of the device's configuration, 5 s unless said otherwise.

Latencies of members are those of one inference without load on this device. --plot draws
them: the Pareto front as this device measured it, with a ring around the member in force
and, where telemetry came, its latency now.`,
		Example: `  limber fleet show desk
  limber fleet show cam-17 --plot front.svg
  limber fleet show cam-17 --wait 1m --json`,
		Args: exactly(1, "a device"),
		RunE: func(c *cobra.Command, args []string) error { return a.run(c, args[0]) },
	}
	a.flags(c)
	c.Flags().DurationVar(&a.wait, "wait", 6*time.Second, "how long to wait for telemetry; 0s waits for none")
	c.Flags().BoolVar(&a.asJSON, "json", false, "print one JSON object")
	c.Flags().StringVar(&a.plot, "plot", "", "also write the device's front as a picture, .svg")
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
			if a.plot != "" {
				if err := plotDevice(a.plot, whole); err != nil {
					return err
				}
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

// plotDevice draws the front of a device: what its members cost there.
func plotDevice(name string, whole fleet.Whole) error {
	fronts := deviceFronts(whole)
	if fronts == nil {
		return fmt.Errorf("plot: %s has not measured its members yet; its first start with a family does", whole.Name)
	}
	title := fmt.Sprintf("Family %s on %s", fleet.Printable(whole.Caps.Family.Name), whole.Name)
	if r := whole.Reported; r != nil && r.Member != "" {
		title += ", which works with " + fleet.Printable(r.Member)
	}
	axes := chart.Axes{Title: title, X: "latency of one inference, ms", Y: "top-1, %"}
	if err := store.FillFile(name, func(w io.Writer) error { return chart.Draw(w, name, axes, fronts...) }); err != nil {
		return fmt.Errorf("plot: %w", err)
	}
	return nil
}

// deviceFronts are the members' medians and 95th percentiles without load and, where it is
// known, the latter of the member in force now; nil if none is measured.
func deviceFronts(whole fleet.Whole) []chart.Series {
	if whole.Caps == nil || whole.Caps.Family == nil {
		return nil
	}
	operating := ""
	if r := whole.Reported; r != nil {
		operating = r.Member
	}
	p50, p95, now := chart.Series{Name: "p50"}, chart.Series{Name: "p95"}, chart.Series{Name: "p95 now"}
	for _, m := range whole.Caps.Members {
		if m.P50MS == nil || m.P95MS == nil {
			continue
		}
		is := m.Name == operating
		p50.Points = append(p50.Points, chart.Point{X: *m.P50MS, Y: 100 * m.Top1, Ring: is})
		p95.Points = append(p95.Points, chart.Point{X: *m.P95MS, Y: 100 * m.Top1, Label: fleet.Printable(m.Name), Ring: is})
		if t := whole.Telemetry; is && t != nil && t.Member == operating && t.P95MS != nil {
			now.Points = append(now.Points, chart.Point{X: *t.P95MS, Y: 100 * m.Top1, Ring: true})
		}
	}
	switch {
	case len(p50.Points) == 0:
		return nil
	case len(now.Points) == 0:
		return []chart.Series{p50, p95}
	}
	return []chart.Series{p50, p95, now}
}
