package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/agent/bench"
	"github.com/limber-edge/limber/agent/bench/load"
	"github.com/limber-edge/limber/family/ort"
	"github.com/limber-edge/limber/store"
)

// governorArgs are the flags of `bench governor`.
type governorArgs struct {
	trace     string
	deadlines []float64 // ms
	top1      []float64
	queue     bool
	seed      uint64
	asJSON    bool
	picture   string // file to draw, or empty
}

func newBenchGovernor() *cobra.Command {
	var a governorArgs
	c := &cobra.Command{
		Use:   "governor",
		Short: "Replay the runtime manager and the field's other policies on a recorded trace",
		Long: `Ask every policy what it would have run at each step of a trace, and hold it
against one that knows the future:

  static:N, best-static  one member for everything, 0 the smallest; the best one in hindsight
  dynamic-ofa            mean of 20 latencies against the deadline, one step at a time
  one-step               down after a miss, up after ten in time
  alert                  Kalman filter on one slowdown factor, the paper's constants
  slackfit               the largest member whose profile fits the slack
  loadgrid               what limber began with; not with --queue
  limber                 what a device runs; reads the latency of its own choices only
  limber+hint            the same, told the load column before each step
  phase-oracle, oracle   the best member of each phase; of each step

A line of a trace has seconds, phase and load, then the milliseconds that each
member took. Phase 0 is unloaded and gives the profile. Regret is what of the
oracle's effective accuracy is missing; steady is from the fifth step of a phase;
settled is who is within a point of the phase's best member, in inferences
(median, 0 where no phase needed a move).

With --queue jobs come in bursts at four times the calm rate instead, in patterns
with deadlines of their own: 10/40 D60 is 10 jobs a second, 40 in bursts, 60 ms.
Attainment is the share of jobs in time; effective accuracy counts the others as 0,
mean accuracy leaves them out.`,
		Example: `  limber bench governor --trace cpu.txt --deadlines 16,24,32,48 --top1 0.742,0.75,0.761,0.775,0.783,0.79
  limber bench governor --trace cpu.txt --top1 0.742,0.79 --queue --json
  limber bench governor --trace cpu.txt --top1 0.742,0.79 --deadlines 24 --plot out.svg`,
		RunE: func(c *cobra.Command, _ []string) error {
			if a.queue && c.Flags().Changed("deadlines") {
				return usagef("limber bench governor: the patterns of --queue have deadlines of " +
					"their own: leave out --deadlines")
			}
			return a.run(c.OutOrStdout())
		},
	}
	c.Flags().StringVar(&a.trace, "trace", "", "recorded trace (limber bench record) (required)")
	c.Flags().Float64SliceVar(&a.deadlines, "deadlines", []float64{16, 24, 32, 48}, "deadlines, ms")
	c.Flags().Float64SliceVar(&a.top1, "top1", nil,
		"top-1 of each member of the trace, fractions by rising latency (required)")
	c.Flags().BoolVar(&a.queue, "queue", false, "jobs come in bursts and queue")
	c.Flags().Uint64Var(&a.seed, "seed", 1, "of the arrivals, with --queue")
	c.Flags().StringVar(&a.picture, "plot", "", "draw accuracy, misses and members over time, with the first "+
		"deadline, as SVG")
	jsonFlag(c, &a.asJSON, "policy and deadline")
	return c
}

func (a *governorArgs) run(w io.Writer) error {
	if err := a.check(); err != nil {
		return err
	}
	r, err := bench.OpenReplay(a.trace, a.top1)
	if err != nil {
		return err
	}
	if a.picture != "" {
		if err := store.FillFile(a.picture, func(w io.Writer) error {
			return r.Draw(w, a.picture, a.deadlines[0])
		}); err != nil {
			return err
		}
	}
	if a.queue {
		return a.printQueues(w, r)
	}
	lines := r.Lines(a.deadlines)
	if !a.asJSON {
		fmt.Fprintln(w, r)
	}
	return printGovernorLines(w, lines, a.asJSON)
}

func (a *governorArgs) check() error {
	if err := needed("limber bench governor", "trace", a.trace); err != nil {
		return err
	}
	if len(a.top1) == 0 || len(a.deadlines) == 0 {
		return usagef("limber bench governor: --top1 wants a value for each member, --deadlines at least one")
	}
	if a.queue && a.picture != "" {
		return usagef("limber bench governor: --plot draws what happens without a queue: leave out --queue")
	}
	for _, d := range a.deadlines {
		if !(d > 0 && d <= 600_000) {
			return usagef("limber bench governor: --deadlines: %v ms is not over 0 and at most 600000", d)
		}
	}
	return nil
}

func (a *governorArgs) printQueues(w io.Writer, r *bench.Replay) error {
	lines, err := r.QueueLines(a.seed)
	if err != nil {
		return err
	}
	if !a.asJSON {
		fmt.Fprintln(w, r)
	}
	const head = "jobs/s calm/burst\tpolicy\tattained %\teffective accuracy\tmean accuracy\tshed %\tswitches/100\t"
	return printList(w, a.asJSON, lines, tabwriter.AlignRight, head, func(l bench.QueueLine) string {
		return fmt.Sprintf("%s\t%s\t%.2f\t%.4f\t%.4f\t%.2f\t%.1f\t", l.Queue, l.Policy, l.Attainment, l.Accuracy,
			l.MeanAccuracy, l.Shed, l.Switches)
	})
}

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
	const head = "policy\tdeadline ms\tregret %\tmissed %\taccuracy\tswitches/100\tsteady\tsettle down\tup\t"
	return printList(w, asJSON, lines, tabwriter.AlignRight, head, func(l bench.GovernorLine) string {
		return fmt.Sprintf("%s\t%s\t%.2f\t%.2f\t%.4f\t%.1f\t%.1f\t%d\t%d\t", l.Policy, l.Deadline, l.Regret, l.Missed,
			l.Accuracy, l.Switches, l.Steady, l.Down, l.Up)
	})
}

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
		RunE: func(c *cobra.Command, _ []string) (err error) {
			if o.Stages, err = load.Parse(script); err != nil {
				return usagef("limber bench record: --schedule: %w", err)
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

// newHog is the process that burdens the machine beside a benchmark.
func newHog() *cobra.Command {
	return &cobra.Command{
		Use:    "hog cpu|memory|low",
		Short:  "Keep one CPU busy until standard input ends",
		Args:   exactly(1, "a kind"),
		Hidden: true,
		RunE: func(c *cobra.Command, args []string) error {
			kind := load.Kind(args[0])
			if !slices.Contains(load.Kinds(), kind) {
				return usagef("hog: %q is none of %v", kind, load.Kinds())
			}
			return load.Burden(kind, c.InOrStdin())
		},
	}
}
