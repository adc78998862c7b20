package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/agent/bench"
	"github.com/limber-edge/limber/family/ort"
)

func newBenchLive() *cobra.Command {
	var o bench.LiveOptions
	var asJSON bool
	c := &cobra.Command{
		Use:   "live",
		Short: "Let policies serve frames on this machine under the same load, in turns",
		Long: `Run the pipeline of the agent (queue, decoding, sessions) on JPEG frames, one each
deadline, while 0, 1, 0, 2, 0 and 4 CPU-bound processes run beside it. In each of these
phases every policy serves in its turn: limber with its own governor, the others by
naming the member for each frame. With each deadline a policy learns from its own turns
and from nothing else. Limber may refuse a frame that nothing is likely to answer in
time, which counts as missed; the others answer each frame, however late. Between the
turns all members are measured, which tells the best member of the phase; regret is
against it.

Deadlines default to 0.7, 1, 1.4 and 2.1 times what the largest member takes here.
Members are the stock family's, and with --supernet six sub-networks of an
OFA-MobileNetV3 for ImageNet, labelled with the published levels of top-1.`,
		Example: `  limber bench live
  limber bench live --supernet ofa_mbv3_w1.0.pth --deadlines 16,24,32,48 --json`,
		Args: exactly(0, "no arguments"),
		RunE: func(c *cobra.Command, _ []string) error {
			var lines []bench.GovernorLine
			err := withBench(c, asJSON, func(ctx context.Context, b bench.Bench, rt *ort.Runtime) (err error) {
				lines, err = bench.Live(ctx, b, rt, o)
				return err
			})
			if err != nil {
				return err
			}
			return printGovernorLines(c.OutOrStdout(), lines, asJSON)
		},
	}
	supernetFlag(c, &o.Supernet, "six members")
	c.Flags().Float64SliceVar(&o.Deadlines, "deadlines", nil, "deadlines, ms (default: by the largest member)")
	c.Flags().DurationVar(&o.Slot, "slot", 2*time.Second, "how long a policy serves in each phase with each deadline")
	jsonFlag(c, &asJSON, "policy and deadline")
	return c
}

func printGovernorLines(w io.Writer, lines []bench.GovernorLine, asJSON bool) error {
	if asJSON {
		return printLines(w, lines)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "policy\tdeadline ms\tregret %\tmissed %\taccuracy\tswitches/100\tsteady\tsettle down\tup\t")
	for _, l := range lines {
		fmt.Fprintf(t, "%s\t%s\t%.2f\t%.2f\t%.4f\t%.1f\t%.1f\t%d\t%d\t\n", l.Policy, l.Deadline, l.Regret, l.Missed,
			l.Accuracy, l.Switches, l.Steady, l.Down, l.Up)
	}
	return t.Flush()
}
