package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/agent/fleet"
)

func newFleetSync() *cobra.Command {
	var a operatorArgs
	var asJSON bool
	c := &cobra.Command{
		Use:   "sync",
		Short: "Tell devices that connect what time it is, until it is stopped",
		Long: `Answer each device that connects, and asks for it, with the time of this computer,
until it is stopped. A device whose clock is more than 5 seconds off says so as a
fault; telemetry has the difference, clock_offset_ms, and for a day the device judges
expires_at of commands by this clock, not by its own. Run one for a fleet, on a
computer whose clock is right. A device that was connected before asks again when
it connects the next time.

Print a line for each answer: how far the device's clock is behind, with the time
that its question took to come here.`,
		Example: `  limber fleet sync
  limber fleet sync --broker mqtts://broker:8883 --fleet plant-3 --json`,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := a.link()
			if err != nil {
				return err
			}
			box, err := fleet.OpenMailbox(cfg, newLogger(c.ErrOrStderr(), "error"), fleet.SyncFilters(a.fleet)...)
			if err != nil {
				return err
			}
			return withRemedy(box.While(c.Context(), func(ctx context.Context) error {
				newLogger(c.ErrOrStderr(), "info").Info("devices that connect are told the time", "fleet", a.fleet)
				return box.AnswerSync(ctx, func(s fleet.Synced, err error) {
					printSynced(c.OutOrStdout(), c.ErrOrStderr(), s, err, asJSON)
				})
			}))
		},
	}
	a.flags(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line")
	return c
}

// printSynced prints what a device was told, or why it was not.
func printSynced(stdout, stderr io.Writer, s fleet.Synced, err error, asJSON bool) {
	switch {
	case err != nil && s.Device == "":
		fmt.Fprintln(stderr, err)
	case err != nil:
		fmt.Fprintf(stderr, "%s was not told the time: %v\n", s.Device, err)
	case asJSON:
		json.NewEncoder(stdout).Encode(s)
	default:
		behind, side := time.Duration(s.BehindMS*float64(time.Millisecond)), "behind"
		if behind < 0 {
			behind, side = -behind, "ahead"
		}
		fmt.Fprintf(stdout, "%s: connection %d, its clock is %v %s\n", s.Device, s.ConnSeq,
			behind.Round(time.Millisecond), side)
	}
}
