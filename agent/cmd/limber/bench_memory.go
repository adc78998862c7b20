package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/agent/bench"
	"github.com/limber-edge/limber/family/ort"
)

func newBenchMemory() *cobra.Command {
	var asJSON bool
	var supernet string
	c := &cobra.Command{
		Use:   "memory",
		Short: "What resident members take",
		Long: `Measure, in turns, in processes of their own, all members of a family resident
and run many times each:

  resident  anonymous memory that the sessions added, against plain sessions of
            the same models: optimised when loaded, weights copied and packed
  create    making the sessions, against the same
  run       the sum of the members' median latencies, against the same: what is
            saved must not be paid for here

Every figure is a median of ` + fmt.Sprint(bench.Rounds) + ` rounds. Members are the stock family's, and with
--supernet six sub-networks of an OFA-MobileNetV3 for ImageNet.`,
		Example: `  limber bench memory
  limber bench memory --supernet ofa_mbv3_w1.0.pth --json`,
		Args: exactly(0, "no arguments"),
		RunE: func(c *cobra.Command, _ []string) error {
			return withBench(c, asJSON, func(ctx context.Context, b bench.Bench, rt *ort.Runtime) error {
				return bench.Memory(ctx, b, rt, supernet)
			})
		},
	}
	jsonFlag(c, &asJSON, "figure")
	supernetFlag(c, &supernet, "six more members")
	return c
}

// newLodge is the process that the benchmark starts.
func newLodge() *cobra.Command {
	return newServant("lodge", "Keep the models named on standard input resident, and say what that took", bench.ProbeModels)
}
