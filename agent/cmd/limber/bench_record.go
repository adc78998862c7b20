package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/agent/bench"
	"github.com/limber-edge/limber/agent/bench/load"
	"github.com/limber-edge/limber/family/ort"
)

func newBenchRecord() *cobra.Command {
	var o bench.Recording
	var script string
	c := &cobra.Command{
		Use:   "record",
		Short: "Record what every member takes under a scripted load, for bench governor",
		Long: `Run every member at each step, in random order, while a scripted load comes and
goes, and write a trace that "bench governor" replays. Until it is whole it is called
FILE.part, where it stays if the recording ends early. A script is a list of stages,
each a duration and a load:

  idle       nothing; the first stage must be idle
  cpu:N      N processes that compute
  memory:N   N processes that copy memory
  low:N      N processes that compute at a low priority
  quota:N    N percent of one CPU for the members, by a control group (needs root);
             the load beside them is not limited
  A+B        both

Members are the stock family's, and with --supernet six sub-networks of an
OFA-MobileNetV3 for ImageNet instead.`,
		Example: `  limber bench record --out cpu.txt
  limber bench record --supernet ofa_mbv3_w1.0.pth --out mixed.txt \
      --schedule '12s idle, 8s memory:1, 6s idle, 8s cpu:1+low:2, 6s quota:40, 8s idle'`,
		Args: exactly(0, "no arguments"),
		RunE: func(c *cobra.Command, _ []string) (err error) {
			if o.Stages, err = load.Parse(script); err != nil {
				return usageError{fmt.Errorf("limber bench record: --schedule: %w", err)}
			}
			return withBench(c, false, func(ctx context.Context, b bench.Bench, rt *ort.Runtime) error {
				return bench.Record(ctx, b, rt, o)
			})
		},
	}
	supernetFlag(c, &o.Supernet, "six members")
	c.Flags().StringVar(&o.Out, "out", "", "file for the trace (default: standard output)")
	c.Flags().StringVar(&script, "schedule", load.DefaultScript, "the script of the load")
	c.Flags().Uint64Var(&o.Seed, "seed", 1, "of the order of members within a step")
	return c
}
