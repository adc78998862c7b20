package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/agent/bench/demo"
)

func newDemo() *cobra.Command {
	var o demo.Options
	var asJSON bool
	c := &cobra.Command{
		Use:   "demo",
		Short: "See all of it on this desk: broker, agent, cameras, a load that comes and goes",
		Long: `Start a broker, an agent with the stock family and as many virtual cameras at
30 frames a second as take 70 % of what the device can do with its largest member
on this machine. They send test images as 640x480 JPEGs to frame/{source}. Then let other programs take the CPU for a while, and see the
agent go down to a smaller sub-network and come back. A member's name is its cost:
23.1M takes 23.1 million multiply-accumulates a frame. Before the first phase the
cameras run for a second that counts nowhere, for the agent to settle.

Ports are free ones, the state is temporary, and nothing is left behind.

The exit code is 1 when the account does not add up: a frame without an answer,
no answer at all, or a phase without frames. Missed deadlines are printed only:
a machine with other work misses some.

In the summary of --json, top1 is the accuracy over the answered frames and
expected_top1 that of the same frames and members inferred anew without load;
met is the fraction of all frames that were answered within the deadline; members
counts answers. settled is the same for those frames of a phase that were sent from
its third second on. return_ms is the time from the end of the load, the beginning of
the last phase, to the first answer by the largest member to a frame of that
phase; probes do not count, and it is absent when there was none.`,
		Example: `  limber demo
  limber demo --json --busy 20s`,
		Args: exactly(0, "no arguments"),
		RunE: func(c *cobra.Command, _ []string) error { return runDemo(c, o, asJSON) },
	}
	f := c.Flags()
	f.BoolVar(&asJSON, "json", false, "print one summary object and nothing else")
	f.DurationVar(&o.Deadline, "deadline", 50*time.Millisecond, "of every frame")
	f.DurationVar(&o.Quiet, "quiet", 6*time.Second, "length of each quiet phase, at least 5s")
	f.DurationVar(&o.Busy, "busy", 8*time.Second, "length of the busy phase, at least 5s")
	return c
}

func runDemo(c *cobra.Command, o demo.Options, asJSON bool) error {
	if o.Quiet < demo.Shortest || o.Busy < demo.Shortest {
		return usageError{fmt.Errorf("limber demo: a phase under %v is too short to see anything", demo.Shortest)}
	}
	o.Version, o.Trial = version, newTrial()
	o.Stderr, o.Log, o.Progress = c.ErrOrStderr(), newLogger(c.ErrOrStderr(), "error"), newProgress(c.ErrOrStderr())
	o.Watch = newView(c.OutOrStdout(), asJSON).run
	sum, err := demo.Run(c.Context(), o)
	o.Progress.End()
	if c.Context().Err() != nil && errors.Is(err, context.Canceled) {
		return errors.New("demo: stopped before its end")
	}
	if err != nil {
		return err
	}
	if asJSON {
		err = json.NewEncoder(c.OutOrStdout()).Encode(sum)
	} else {
		err = printSummary(c.OutOrStdout(), sum)
	}
	return errors.Join(err, sum.Check())
}
