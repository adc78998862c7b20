package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/wire"
)

// deviceArgs are the flags of what is done to one device at the broker alone.
type deviceArgs struct {
	operatorArgs
	wait   time.Duration
	asJSON bool
}

func (a *deviceArgs) flags(c *cobra.Command) {
	a.operatorArgs.flags(c)
	c.Flags().DurationVar(&a.wait, "wait", 5*time.Second, "how long to wait for the broker")
	c.Flags().BoolVar(&a.asJSON, "json", false, "print one JSON object")
}

func newFleetLabel() *cobra.Command {
	var a deviceArgs
	c := &cobra.Command{
		Use:   "label DEVICE [KEY=VALUE|KEY-]...",
		Short: "Say something of a device, for --where; or take it back",
		Long: `Set labels of a device, or take them away, and print those that it has then. Labels
are the operators': the broker retains them, the device does not know of them, and it
need not have been there yet. Keys and values are names, [A-Za-z0-9_.-]{1,64}; a
device has at most 32.

Two operators who label one device at the same time may lose what one of them set:
who comes last fails, and says so.`,
		Example: `  limber fleet label desk site=berlin line=A-2
  limber fleet label desk line-
  limber fleet label desk --json`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("%s wants a device; see `%s --help`", c.CommandPath(), c.CommandPath())
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error { return a.label(c, args[0], args[1:]) },
	}
	a.flags(c)
	return c
}

func (a *deviceArgs) label(c *cobra.Command, device string, args []string) error {
	if err := errors.Join(checkDevice(c, device), checkPositive("--wait", a.wait)); err != nil {
		return err
	}
	var changes []fleet.LabelChange
	for _, arg := range args {
		change, err := fleet.ParseLabel(arg)
		if err != nil {
			return usageError{err}
		}
		changes = append(changes, change)
	}
	return a.client(c.Context(), c.ErrOrStderr(), fleet.LabelFilters(a.fleet),
		func(ctx context.Context, fl *fleet.Client) error {
			labels, err := fl.SetLabels(ctx, a.fleet, device, changes, a.wait)
			if err != nil {
				return err
			}
			if d := fl.Registry().Device(device); d.State == nil && d.Caps == nil {
				fmt.Fprintf(c.ErrOrStderr(), "%s has not been at this broker so far\n", device)
			}
			if a.asJSON {
				return json.NewEncoder(c.OutOrStdout()).Encode(struct {
					Device string            `json:"device"`
					Labels map[string]string `json:"labels"`
				}{device, labels})
			}
			return printLabels(c.OutOrStdout(), labels)
		})
}

func printLabels(w io.Writer, labels map[string]string) error {
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		if _, err := fmt.Fprintf(w, "%s=%s\n", key, labels[key]); err != nil {
			return err
		}
	}
	return nil
}

func newFleetForget() *cobra.Command {
	var a deviceArgs
	var force bool
	c := &cobra.Command{
		Use:   "forget DEVICE",
		Short: "Clear all that the broker retains of a device that will not come back",
		Long: `Clear what the broker retains of a device: its state, what it can do, what it reported,
its own desired state and its labels; print which of these there were. A device that
is online is not forgotten without --force: it would only be seen again once it
connects anew. What the broker keeps for its session, such as commands that it has
not got, is the broker's to end.`,
		Example: `  limber fleet forget cam-17
  limber fleet forget cam-17 --force --json`,
		Args: exactly(1, "a device"),
		RunE: func(c *cobra.Command, args []string) error { return a.forget(c, args[0], force) },
	}
	a.flags(c)
	c.Flags().BoolVar(&force, "force", false, "also while it is online")
	return c
}

func (a *deviceArgs) forget(c *cobra.Command, device string, force bool) error {
	if err := errors.Join(checkDevice(c, device), checkPositive("--wait", a.wait)); err != nil {
		return err
	}
	return a.client(c.Context(), c.ErrOrStderr(), fleet.ForgetFilters(a.fleet),
		func(ctx context.Context, fl *fleet.Client) error {
			cleared, err := fl.Forget(ctx, a.fleet, device, force, a.wait)
			if err != nil {
				return err
			}
			if a.asJSON {
				return json.NewEncoder(c.OutOrStdout()).Encode(struct {
					Device  string      `json:"device"`
					Cleared []wire.Kind `json:"cleared"`
				}{device, append([]wire.Kind{}, cleared...)})
			}
			_, err = fmt.Fprintln(c.OutOrStdout(), clearedLine(device, cleared))
			return err
		})
}

// clearedLine says what was cleared of a device.
func clearedLine(device string, cleared []wire.Kind) string {
	if len(cleared) == 0 {
		return fmt.Sprintf("nothing was known of %s", device)
	}
	line := device + ": cleared"
	for i, kind := range cleared {
		if i > 0 {
			line += ","
		}
		line += " " + string(kind)
	}
	return line
}
