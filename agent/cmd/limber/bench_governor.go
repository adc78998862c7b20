package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/agent/governor/replay"
)

// governorBench replays policies on one trace.
type governorBench struct {
	trace     string
	deadlines []float64 // ms
	top1      []float64
	queue     bool
	seed      uint64
	json      bool
	picture   string // file to draw, or empty
}

func newBenchGovernor() *cobra.Command {
	var b governorBench
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
		Args: exactly(0, "no arguments"),
		RunE: func(c *cobra.Command, _ []string) error {
			if b.queue && c.Flags().Changed("deadlines") {
				return usageError{errors.New("limber bench governor: the patterns of --queue have deadlines of their own: leave out --deadlines")}
			}
			return b.run(c.OutOrStdout())
		},
	}
	c.Flags().StringVar(&b.trace, "trace", "", "recorded trace (limber bench record) (required)")
	c.Flags().Float64SliceVar(&b.deadlines, "deadlines", []float64{16, 24, 32, 48}, "deadlines, ms")
	c.Flags().Float64SliceVar(&b.top1, "top1", nil, "top-1 of each member of the trace, fractions by rising latency (required)")
	c.Flags().BoolVar(&b.queue, "queue", false, "jobs come in bursts and queue")
	c.Flags().Uint64Var(&b.seed, "seed", 1, "of the arrivals, with --queue")
	c.Flags().StringVar(&b.picture, "plot", "", "draw accuracy, misses and members over time, with the first deadline: .svg or .png")
	c.Flags().BoolVar(&b.json, "json", false, "print one JSON object a policy and deadline")
	return c
}

func (b *governorBench) run(w io.Writer) error {
	if err := b.check(); err != nil {
		return err
	}
	trace, members, err := b.read()
	if err != nil {
		return fmt.Errorf("%s: %w", b.trace, err)
	}
	if b.picture != "" {
		if err := b.plot(trace, members); err != nil {
			return err
		}
	}
	if b.queue {
		return b.queues(w, trace, members)
	}
	return b.deadlinesOf(w, trace, members)
}

func (b *governorBench) check() error {
	if err := needed("limber bench governor", "trace", b.trace); err != nil {
		return err
	}
	if len(b.top1) == 0 || len(b.deadlines) == 0 {
		return usageError{errors.New("limber bench governor: --top1 wants a value for each member, --deadlines at least one")}
	}
	if b.queue && b.picture != "" {
		return usageError{errors.New("limber bench governor: --plot draws what happens without a queue: leave out --queue")}
	}
	for _, d := range b.deadlines {
		if !(d > 0 && d <= 600_000) {
			return usageError{fmt.Errorf("limber bench governor: --deadlines: %v ms is not over 0 and at most 600000", d)}
		}
	}
	return nil
}

func (b *governorBench) read() (replay.Trace, []governor.Member, error) {
	f, err := os.Open(b.trace)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	trace, err := replay.Read(f, len(b.top1))
	if err != nil {
		return nil, nil, err
	}
	members, err := trace.Members(b.top1)
	return trace, members, err
}

// deadlineColumn is a deadline in ms; 0 stands for all of them.
type deadlineColumn float64

func (d deadlineColumn) MarshalJSON() ([]byte, error) {
	if d == 0 {
		return []byte(`"all"`), nil
	}
	return json.Marshal(float64(d))
}

func (d deadlineColumn) String() string {
	if d == 0 {
		return "all"
	}
	return fmt.Sprint(float64(d))
}

// governorLine is what a policy reached with one deadline, or with all of them.
type governorLine struct {
	Policy   string         `json:"policy"`
	Deadline deadlineColumn `json:"deadline_ms"`
	Queue    string         `json:"queue"` // the pattern of arrivals; empty without a queue
	Missed   float64        `json:"miss_percent"`
	Accuracy float64        `json:"effective_accuracy"` // in [0, 1]
	Regret   float64        `json:"regret_percent"`
	Switches float64        `json:"switches_per_100"`
	Steady   float64        `json:"steady_switches_per_100"`
	Down     int            `json:"settle_down_inferences"`
	Up       int            `json:"settle_up_inferences"`
}

func newGovernorLine(policy string, deadline float64, s replay.Score) governorLine {
	return governorLine{Policy: policy, Deadline: deadlineColumn(deadline), Missed: round4(100 * s.Missed),
		Accuracy: s.Accuracy, Regret: round4(100 * s.Regret), Switches: round4(100 * s.Switches), Steady: round4(100 * s.Steady),
		Down: replay.Median(s.Down), Up: replay.Median(s.Up)}
}

// deadlinesOf scores every policy with each deadline, and with all.
func (b *governorBench) deadlinesOf(w io.Writer, trace replay.Trace, members []governor.Member) error {
	var lines []governorLine
	for _, choose := range replay.Choosers(members) {
		var scores []replay.Score
		for _, d := range b.deadlines {
			deadline := time.Duration(d * float64(time.Millisecond))
			s := replay.Judge(trace, deadline, members, choose.Choose(trace, deadline))
			scores = append(scores, s)
			lines = append(lines, newGovernorLine(choose.Name, d, s))
		}
		lines = append(lines, newGovernorLine(choose.Name, 0, replay.Pool(scores)))
	}
	if b.json {
		return printLines(w, lines)
	}
	b.describe(w, trace, members)
	return printGovernorLines(w, lines)
}

// describe says what was replayed.
func (b *governorBench) describe(w io.Writer, trace replay.Trace, members []governor.Member) {
	fmt.Fprintf(w, "%s: %d steps in %v; unloaded, the members take", b.trace, len(trace), trace[len(trace)-1].At.Round(time.Second))
	for _, m := range members {
		fmt.Fprintf(w, " %.2f", float64(m.Latency)/1e6)
	}
	fmt.Fprintln(w, " ms")
}

// queueLine is what a policy made of one pattern of arrivals.
type queueLine struct {
	Policy       string         `json:"policy"`
	Deadline     deadlineColumn `json:"deadline_ms"`
	Queue        string         `json:"queue"`
	Arrivals     int            `json:"arrivals"`
	Seed         uint64         `json:"seed"`
	Attainment   float64        `json:"attainment_percent"`
	MeanAccuracy float64        `json:"mean_accuracy"`      // of the jobs in time, in [0, 1]
	Accuracy     float64        `json:"effective_accuracy"` // of all jobs, those not in time counted as 0
	Shed         float64        `json:"shed_percent"`
	Switches     float64        `json:"switches_per_100"`
}

func (b *governorBench) queues(w io.Writer, trace replay.Trace, members []governor.Member) error {
	var lines []queueLine
	for _, p := range replay.Patterns() {
		jobs := p.Arrivals(trace[len(trace)-1].At, b.seed)
		if len(jobs) == 0 {
			return fmt.Errorf("%s: too short, no job arrives in %v", b.trace, trace[len(trace)-1].At)
		}
		for _, entry := range replay.Field(members) {
			s := replay.Simulate(trace, jobs, p.Deadline, members, entry.New())
			lines = append(lines, queueLine{Policy: entry.Name, Deadline: deadlineColumn(p.Deadline.Milliseconds()), Queue: p.String(),
				Arrivals: len(jobs), Seed: b.seed, Attainment: round4(100 * s.Met), MeanAccuracy: s.MeanAccuracy(), Accuracy: s.Accuracy,
				Shed: round4(100 * s.Shed), Switches: round4(100 * s.Switches)})
		}
	}
	if b.json {
		return printLines(w, lines)
	}
	b.describe(w, trace, members)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "jobs/s calm/burst\tpolicy\tattained %\teffective accuracy\tmean accuracy\tshed %\tswitches/100\t")
	for _, l := range lines {
		fmt.Fprintf(t, "%s\t%s\t%.2f\t%.4f\t%.4f\t%.2f\t%.1f\t\n", l.Queue, l.Policy, l.Attainment, l.Accuracy, l.MeanAccuracy, l.Shed, l.Switches)
	}
	return t.Flush()
}
