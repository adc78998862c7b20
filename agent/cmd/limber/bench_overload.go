package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/agent/bench"
	"github.com/limber-edge/limber/family/ort"
)

func newBenchOverload() *cobra.Command {
	var asJSON bool
	var slot time.Duration
	c := &cobra.Command{
		Use:   "overload",
		Short: "What is left of the answers when cameras send more than the device can do",
		Long: `Measure, in one run, with broker and agent in processes of their own and the agent
in its mode balanced, on 640x480 JPEGs with a deadline of ` + fmt.Sprint(bench.OverloadDeadline) + `:

  goodput   answers in time a second at 0.8, 1.2, 1.5, 2 and 4 times the capacity,
            over the capacity: the answers in time a second with ` + fmt.Sprint(bench.Window) + ` frames under way
  recovery  seconds after an overload of 4 times until the 95th percentile is normal
            again, over one second
  fairness  seven sources offer 0.1 of the capacity each and an eighth 1.0: the share
            of deadlines met of the worst of the seven

Frames leave at their moments, whatever became of those before. An answer is in
time when it is back within the deadline of the moment its frame was due to leave,
which is later than by the agent's own clock. Every frame must be answered or
refused with a reason, else the exit code is 1; the text form says what became of
them. Capacity is measured anew in each of the ` + fmt.Sprint(bench.OverloadRounds) + ` rounds; figures are medians of
them. expected_top1 is the mean over the answers in time.`,
		Example: `  limber bench overload
  limber bench overload --slot 10s --json`,
		Args: exactly(0, "no arguments"),
		RunE: func(c *cobra.Command, _ []string) error {
			if slot < bench.ShortestSlot {
				return usageError{fmt.Errorf("--slot: %v is under %v, too short to see anything; see `limber "+
					"bench overload --help`", slot, bench.ShortestSlot)}
			}
			return withBench(c, asJSON, func(ctx context.Context, b bench.Bench, _ *ort.Runtime) error {
				return bench.Overload(ctx, b, slot)
			})
		},
	}
	jsonFlag(c, &asJSON, "figure")
	c.Flags().DurationVar(&slot, "slot", 3*time.Second, "how long each load is offered in each round")
	return c
}
