package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/agent/bench"
	"github.com/limber-edge/limber/family/ort"
)

func newBenchCore() *cobra.Command {
	var asJSON bool
	var supernet string
	c := &cobra.Command{
		Use:   "core",
		Short: "What the agent adds to an inference, a switch and a start",
		Long: `Measure, in turns in one run:

  loop    a job through queue, governor and session, without MQTT and decoding,
          against a bare loop over the same session
  switch  the first job after a switch against the same member's steady latency
  batch   an image among four that a session infers at once, against one alone
  start   process start to the first answer, with a warm state, against loading
          ONNX Runtime, the smallest session and one run

Every figure is a median of ` + fmt.Sprint(bench.Rounds) + ` rounds. Members are the stock family's, and with
--supernet six sub-networks of an OFA-MobileNetV3 for ImageNet.`,
		Example: `  limber bench core
  limber bench core --supernet ofa_mbv3_w1.0.pth --json`,
		Args: exactly(0, "no arguments"),
		RunE: func(c *cobra.Command, _ []string) error {
			return withBench(c, asJSON, func(ctx context.Context, b bench.Bench, rt *ort.Runtime) error {
				return bench.Core(ctx, b, rt, supernet)
			})
		},
	}
	jsonFlag(c, &asJSON, "figure")
	supernetFlag(c, &supernet, "six more members")
	return c
}

// newColdStart is the process that the benchmark starts. It prints how long its
// work took, in milliseconds, and ends.
func newColdStart() *cobra.Command {
	var state, model string
	c := &cobra.Command{
		Use:    "coldstart",
		Short:  "Answer one frame and end",
		Args:   exactly(0, "no arguments"),
		Hidden: true,
		RunE: func(c *cobra.Command, _ []string) error {
			if model != "" {
				return bench.BareStart(c.OutOrStdout(), model)
			}
			return bench.ColdStart(c.Context(), c.OutOrStdout(), state, version, newTrial())
		},
	}
	c.Flags().StringVar(&state, "state", "", "state folder of an agent")
	c.Flags().StringVar(&model, "model", "", "instead of an agent, only load this model of the stock family's "+
		"smallest member")
	return c
}
