package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/agent/bench"
	"github.com/limber-edge/limber/agent/bench/camera"
	"github.com/limber-edge/limber/agent/bench/figure"
	"github.com/limber-edge/limber/family/ort"
	"github.com/limber-edge/limber/family/workshop"
)

func newBench() *cobra.Command {
	c := group("bench", "Measure ratios against named baselines", `  limber bench core
  limber bench e2e
  limber bench memory --json`)
	c.AddCommand(newBenchCore(), newBenchMemory(), newBenchE2E(), newBenchOverload(), newBenchShadow(), newBenchGovernor(),
		newBenchRecord(), newBenchLive(), newBenchOutbox(), newBenchFleet())
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

// ofFamilies completes a benchmark of the stock family and, with --supernet, of a
// second one.
func ofFamilies(c *cobra.Command,
	measure func(context.Context, bench.Bench, *ort.Runtime, string) error) *cobra.Command {
	var asJSON bool
	var supernet string
	c.RunE = func(c *cobra.Command, _ []string) error {
		return withBench(c, asJSON, func(ctx context.Context, b bench.Bench, rt *ort.Runtime) error {
			return measure(ctx, b, rt, supernet)
		})
	}
	jsonFlag(c, &asJSON, "figure")
	supernetFlag(c, &supernet, "six more members")
	return c
}

func supernetFlag(c *cobra.Command, supernet *string, members string) {
	c.Flags().StringVar(supernet, "supernet", "", "checkpoint of an OFA-MobileNetV3 to cut "+members+" from")
}

func newBenchCore() *cobra.Command {
	return ofFamilies(&cobra.Command{
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
	}, bench.Core)
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
	return ofFamilies(&cobra.Command{
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
	}, bench.Memory)
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

func newBenchE2E() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "e2e",
		Short: "What a camera's frame takes on its whole way, broker and decoding included",
		Long: `Measure, in turns in one run, with broker and agent in processes of their own and
the largest member that is worth using on this machine:

  request       from publishing a frame to its result, against decoding, resizing
                and inferring it in this process plus the echo of the same bytes
                through the same broker
  jpeg          a 1920x1080 JPEG to the member's tensor, against image/jpeg
                decoding it alone
  decode_allocs allocations a frame of the same, against image/jpeg's
  throughput    answers a second with ` + fmt.Sprint(bench.Window) + ` frames under way, against 1/max(decoding,
                inference): what the slower of the two could do alone

tiny is a 32x32 PNG of the test images, vga the same enlarged to 480x480 and padded
to 640x480, hd to 1080x1080 and 1920x1080, both JPEGs of quality ` + fmt.Sprint(camera.Quality) + `. Messages are of
QoS 1. The broker is a mosquitto where one is installed, else the embedded one.
Every figure is a median of ` + fmt.Sprint(bench.Rounds) + ` rounds.`,
		Example: `  limber bench e2e
  limber bench e2e --json`,
		RunE: func(c *cobra.Command, _ []string) error {
			return withBench(c, asJSON, bench.E2E)
		},
	}
	jsonFlag(c, &asJSON, "figure")
	return c
}

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
		RunE: func(c *cobra.Command, _ []string) error {
			if slot < bench.ShortestSlot {
				return usagef("--slot: %v is under %v, too short to see anything; see `limber "+
					"bench overload --help`", slot, bench.ShortestSlot)
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

func newBenchShadow() *cobra.Command {
	var asJSON bool
	var slot time.Duration
	c := &cobra.Command{
		Use:   "shadow",
		Short: "What frames take while another family is compared with the one in use",
		Long: `Measure, in turns in one run, with broker and agent in processes of their own, the
95th percentile from when a 640x480 JPEG is due to leave until its answer is back:
with a shadow of ` + fmt.Sprint(bench.ShadowPercent) + ` % of the frames, against without. Both families have the same members,
and the largest one answers.

One figure is of a camera of 30 frames a second, the other of half of what the agent
can do. Each round offers the load for a slot with the shadow and for a slot without;
figures are medians of ` + fmt.Sprint(bench.ShadowRounds) + ` rounds. The text form says how many frames were compared.`,
		Example: `  limber bench shadow
  limber bench shadow --slot 10s --json`,
		RunE: func(c *cobra.Command, _ []string) error {
			if slot < bench.ShortestSlot {
				return usagef("--slot: %v is under %v, too short to see anything; see `limber "+
					"bench shadow --help`", slot, bench.ShortestSlot)
			}
			return withBench(c, asJSON, func(ctx context.Context, b bench.Bench, _ *ort.Runtime) error {
				return bench.Shadow(ctx, b, slot)
			})
		},
	}
	jsonFlag(c, &asJSON, "figure")
	c.Flags().DurationVar(&slot, "slot", 6*time.Second, "how long each load is offered in each round, with and without")
	return c
}
