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

// cmdArgs are the flags of `fleet cmd`.
type cmdArgs struct {
	commandArgs
	payload string
	async   bool
}

func newFleetCmd() *cobra.Command {
	var a cmdArgs
	c := &cobra.Command{
		Use:   "cmd VERB DEVICE|@GROUP",
		Short: "Send any command, and print every state that it passes on each device",
		Long: `Send a command to a device or to a group, and print every state that it passes on each
device, as it comes: received, accepted, executing (of a family with how far it is),
and how it ended. The verbs are in what ` + "`limber fleet show`" + ` prints of a device, such as
mode, goal, power, family and cancel; --payload is what the command says, in JSON. It
expires after --ttl, unless the payload has expires_at or ttl_ms.

With --async it prints the id of the command and waits for no device; those that are
off get it when they are back, and refuse it if it has expired.

The exit code is 0 when the command succeeded on every device that is online.`,
		Example: `  limber fleet cmd mode desk --payload '{"mode":"balanced"}'
  limber fleet cmd goal @all --payload '{"goal":{"min_top1":0.87}}' --json
  limber fleet cmd mode cam-17 --payload '{"mode":"power-save"}' --ttl 24h --async`,
		Args: exactly(2, "a verb, and a device or a group"),
		RunE: func(c *cobra.Command, args []string) error { return a.run(c, args[0], args[1]) },
	}
	a.flags(c, 30*time.Second)
	c.Flags().StringVar(&a.payload, "payload", "", "JSON of the command, without what says when it expires")
	c.Flags().BoolVar(&a.async, "async", false, "print the id of the command and wait for no device")
	return c
}

func (a *cmdArgs) run(c *cobra.Command, verb, target string) error {
	err := errors.Join(checkTarget(c, target), checkPositive("--ttl", a.ttl))
	if !wire.ValidName(verb) {
		err = errors.Join(err, usagef("%q is no verb; see `%s --help`", verb, c.CommandPath()))
	}
	payload, bad := fleet.Payload(a.payload, time.Now().Add(a.ttl))
	if bad != nil {
		err = errors.Join(err, usagef("--payload: %w", bad))
	}
	if err != nil {
		return err
	}
	order := fleet.Order{ID: fleet.NewID(), To: wire.Address{Fleet: a.fleet, Device: target}, Verb: verb,
		Payload: payload, Patience: a.ttl}
	return a.client(c.Context(), c.ErrOrStderr(), fleet.CommandFilters(a.fleet),
		func(ctx context.Context, fl *fleet.Client) error {
			if a.async {
				return a.dispatch(ctx, c.OutOrStdout(), fl, order)
			}
			fmt.Fprintf(c.ErrOrStderr(), "command %s\n", order.ID) // by which a family is cancelled
			return a.order(ctx, c.OutOrStdout(), fl, order)
		})
}

func (a *cmdArgs) dispatch(ctx context.Context, w io.Writer, fl *fleet.Client, o fleet.Order) error {
	if err := fl.Dispatch(ctx, o); err != nil {
		return err
	}
	if a.asJSON {
		return json.NewEncoder(w).Encode(struct {
			ID     string `json:"id"`
			Verb   string `json:"verb"`
			Target string `json:"target"`
		}{o.ID, o.Verb, o.To.Device})
	}
	_, err := fmt.Fprintln(w, o.ID)
	return err
}

// order waits for the devices, and prints at the end those that have not ended it.
func (a *cmdArgs) order(ctx context.Context, w io.Writer, fl *fleet.Client, o fleet.Order) error {
	ended := map[string]bool{}
	o.Told = func(t fleet.Told) {
		printTold(w, t, a.asJSON)
		ended[t.Device] = t.State.Final()
	}
	outcomes, err := fl.Order(ctx, o)
	if err != nil {
		return err
	}
	failed := 0
	for _, out := range outcomes {
		if out.State != wire.CommandSucceeded {
			failed++
		}
		if !ended[out.Device] {
			late := fleet.Told{Device: out.Device, Ack: wire.Ack{ID: o.ID, Verb: o.Verb, State: wire.CommandTimedOut,
				Detail: "no end within " + a.ttl.String(), TS: wire.At(time.Now())}}
			printTold(w, late, a.asJSON)
		}
	}
	if failed > 0 {
		return fmt.Errorf("the command did not succeed on %d of %d devices", failed, len(outcomes))
	}
	return nil
}

// printTold prints a state that a command passed on a device.
func printTold(w io.Writer, t fleet.Told, asJSON bool) {
	if asJSON {
		json.NewEncoder(w).Encode(t)
		return
	}
	fmt.Fprintln(w, sentence(t.Device, string(t.State), t.Reason, t.Words()))
}
