package main

import (
	"context"
	"errors"
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
		newBenchRecord(), newBenchLive())
	return c
}

// withBench measures with a runtime and a temporary folder.
func withBench(c *cobra.Command, asJSON bool, measure func(context.Context, bench.Bench, *ort.Runtime) error) error {
	rt, err := workshop.OpenRuntime()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "limber-bench-")
	if err != nil {
		return errors.Join(err, rt.Close())
	}
	b := bench.Bench{Printer: figure.Printer{W: c.OutOrStdout(), JSON: asJSON}, Progress: newProgress(c.ErrOrStderr()),
		Stderr: c.ErrOrStderr(), Dir: dir}
	err = measure(c.Context(), b, rt)
	b.Progress.End()
	return errors.Join(err, rt.Close(), os.RemoveAll(dir))
}

// Flags that several benchmarks have.
func jsonFlag(c *cobra.Command, asJSON *bool, each string) {
	c.Flags().BoolVar(asJSON, "json", false, "print one JSON object a "+each)
}

func supernetFlag(c *cobra.Command, supernet *string, members string) {
	c.Flags().StringVar(supernet, "supernet", "", "checkpoint of an OFA-MobileNetV3 to cut "+members+" from")
}
