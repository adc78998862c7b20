package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/agent/bench"
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
