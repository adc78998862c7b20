package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/agent/bench"
	"github.com/limber-edge/limber/agent/bench/figure"
	"github.com/limber-edge/limber/family/ort"
	"github.com/limber-edge/limber/family/workshop"
)

func newBench() *cobra.Command {
	c := group("bench", "Measure ratios against named baselines", `  limber bench core
  limber bench e2e
  limber bench memory --json`)
	c.AddCommand(newBenchCore(), newBenchMemory(), newBenchE2E(), newBenchOverload(), newBenchGovernor(),
		newBenchRecord(), newBenchLive(), newBenchOutbox())
	return c
}

// withBench measures with a runtime and a temporary folder.
func withBench(c *cobra.Command, asJSON bool, measure func(context.Context, bench.Bench, *ort.Runtime) error) error {
	rt, err := workshop.OpenRuntime()
	if err != nil {
		return err
	}
	err = withFolder(c, asJSON, "", func(ctx context.Context, b bench.Bench) error { return measure(ctx, b, rt) })
	return errors.Join(err, rt.Close())
}

// withFolder measures with a temporary folder in dir, or where the system has them.
func withFolder(c *cobra.Command, asJSON bool, dir string, measure func(context.Context, bench.Bench) error) error {
	dir, err := os.MkdirTemp(dir, "limber-bench-")
	if err != nil {
		return err
	}
	b := bench.Bench{Printer: figure.Printer{W: c.OutOrStdout(), JSON: asJSON}, Progress: newProgress(c),
		Stderr: c.ErrOrStderr(), Dir: dir}
	err = measure(c.Context(), b)
	b.Progress.End()
	return errors.Join(err, os.RemoveAll(dir))
}

// Flags that several benchmarks have.
func jsonFlag(c *cobra.Command, asJSON *bool, each string) {
	c.Flags().BoolVar(asJSON, "json", false, "print one JSON object a "+each)
}

func supernetFlag(c *cobra.Command, supernet *string, members string) {
	c.Flags().StringVar(supernet, "supernet", "", "checkpoint of an OFA-MobileNetV3 to cut "+members+" from")
}

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

// newProbe is the process that the benchmark starts.
func newProbe() *cobra.Command {
	return &cobra.Command{
		Use:    "probe",
		Short:  "Keep the models named on standard input resident, and say what that took",
		Hidden: true,
		RunE: func(c *cobra.Command, _ []string) error {
			rt, err := workshop.OpenRuntime()
			if err != nil {
				return err
			}
			return errors.Join(bench.ProbeModels(rt, c.InOrStdin(), c.OutOrStdout()), rt.Close())
		},
	}
}
