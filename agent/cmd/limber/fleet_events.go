package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/wire"
)

// eventsArgs are the flags of `fleet events`.
type eventsArgs struct {
	operatorArgs
	where    whereArgs
	severity string
	follow   bool
	wait     time.Duration
	asJSON   bool
}

func newFleetEvents() *cobra.Command {
	var a eventsArgs
	c := &cobra.Command{
		Use:   "events",
		Short: "Print what devices tell of: switches, faults, gaps",
		Long: `Print the events of the devices as they come, for --wait, or with --follow until it is
stopped. No broker keeps events for who was not there: what was told before is gone,
but for what a device without a link still has in its outbox.

Severities are info (what happens in a healthy fleet), warning (what somebody should
look at) and error (what costs answers now).

` + whereHelp,
		Example: `  limber fleet events
  limber fleet events --follow --severity warning --where label.site=berlin
  limber fleet events --wait 1m --json`,
		RunE: func(c *cobra.Command, _ []string) error { return a.run(c) },
	}
	a.flags(c)
	a.where.flags(c)
	f := c.Flags()
	f.StringVar(&a.severity, "severity", string(wire.SeverityInfo), "the least: info, warning or error")
	f.BoolVar(&a.follow, "follow", false, "go on until it is stopped")
	f.DurationVar(&a.wait, "wait", 5*time.Second, "how long to wait for events")
	f.BoolVar(&a.asJSON, "json", false, "print one JSON object a line")
	return c
}

func (a *eventsArgs) run(c *cobra.Command) error {
	where, err := a.where.parse()
	least, bad := fleet.ParseSeverity(a.severity)
	if bad != nil {
		bad = usagef("--severity: %w", bad)
	}
	if err := errors.Join(err, bad, checkPositive("--wait", a.wait)); err != nil {
		return err
	}
	err = a.client(c.Context(), c.ErrOrStderr(), fleet.EventFilters(a.fleet),
		func(ctx context.Context, fl *fleet.Client) error {
			if !a.follow {
				var stop context.CancelFunc
				ctx, stop = context.WithTimeout(ctx, a.wait)
				defer stop()
			}
			if _, err := fl.List(ctx); err != nil {
				return err
			}
			events := fl.Registry().Events(where, least)
			defer events.Close()
			return printEvents(ctx, c.OutOrStdout(), c.ErrOrStderr(), events, a.asJSON)
		})
	if !a.follow && errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	return untilStopped(c.Context(), err)
}

// printEvents prints events until ctx ends.
func printEvents(ctx context.Context, stdout, stderr io.Writer, events *fleet.EventReader, asJSON bool) error {
	for {
		heard, err := events.Next(ctx)
		if err != nil {
			return err
		}
		if heard.Lost > 0 {
			fmt.Fprintf(stderr, "%s: %d events before these were not read in time\n", heard.Device, heard.Lost)
		}
		for _, e := range heard.Events {
			if asJSON {
				err = json.NewEncoder(stdout).Encode(struct {
					Device string `json:"device"`
					fleet.Event
				}{heard.Device, e})
			} else {
				_, err = fmt.Fprintf(stdout, "%s  %s  %s\n", e.TS.Format(time.RFC3339), heard.Device, e.Sentence())
			}
			if err != nil {
				return err
			}
		}
	}
}
