package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/limber-edge/limber/agent/bench/figure"
	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/agent/governor/replay"
	"github.com/limber-edge/limber/family/chart"
)

// Replay is policies on one recorded trace.
type Replay struct {
	name    string // of the trace
	trace   replay.Trace
	members []governor.Member
}

// OpenReplay reads a trace; top1 is that of each of its members.
func OpenReplay(name string, top1 []float64) (*Replay, error) {
	r := &Replay{name: name}
	if err := r.read(top1); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return r, nil
}

func (r *Replay) read(top1 []float64) error {
	f, err := os.Open(r.name)
	if err != nil {
		return err
	}
	defer f.Close()
	if r.trace, err = replay.Read(f, len(top1)); err != nil {
		return err
	}
	r.members, err = r.trace.Members(top1)
	return err
}

// String says what is replayed.
func (r *Replay) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d steps in %v; unloaded, the members take", r.name, len(r.trace),
		r.length().Round(time.Second))
	for _, m := range r.members {
		fmt.Fprintf(&b, " %.2f", float64(m.Latency)/1e6)
	}
	return b.String() + " ms"
}

// length is when the last step was.
func (r *Replay) length() time.Duration { return r.trace[len(r.trace)-1].At }

// Deadline is one in ms; 0 stands for all of them.
type Deadline float64

// MarshalJSON is the number, or "all".
func (d Deadline) MarshalJSON() ([]byte, error) {
	if d == 0 {
		return []byte(`"all"`), nil
	}
	return json.Marshal(float64(d))
}

func (d Deadline) String() string {
	if d == 0 {
		return "all"
	}
	return fmt.Sprint(float64(d))
}

// GovernorLine is what a policy reached with one deadline, or with all of them.
type GovernorLine struct {
	Policy   string   `json:"policy"`
	Deadline Deadline `json:"deadline_ms"`
	Queue    string   `json:"queue"` // the pattern of arrivals; empty without a queue
	Missed   float64  `json:"miss_percent"`
	Accuracy float64  `json:"effective_accuracy"` // in [0, 1]
	Regret   float64  `json:"regret_percent"`
	Switches float64  `json:"switches_per_100"`
	Steady   float64  `json:"steady_switches_per_100"`
	Down     int      `json:"settle_down_inferences"`
	Up       int      `json:"settle_up_inferences"`
}

func newGovernorLine(policy string, deadline float64, s replay.Score) GovernorLine {
	return GovernorLine{Policy: policy, Deadline: Deadline(deadline), Missed: figure.Round(100 * s.Missed),
		Accuracy: s.Accuracy, Regret: figure.Round(100 * s.Regret), Switches: figure.Round(100 * s.Switches),
		Steady: figure.Round(100 * s.Steady),
		Down:   replay.Median(s.Down), Up: replay.Median(s.Up)}
}

// Lines score every policy with each deadline (ms), and with all.
func (r *Replay) Lines(deadlines []float64) (lines []GovernorLine) {
	for _, choose := range replay.Choosers(r.members) {
		var scores []replay.Score
		for _, d := range deadlines {
			s := replay.Judge(r.trace, millis(d), r.members, choose.Choose(r.trace, millis(d)))
			scores = append(scores, s)
			lines = append(lines, newGovernorLine(choose.Name, d, s))
		}
		lines = append(lines, newGovernorLine(choose.Name, 0, replay.Pool(scores)))
	}
	return lines
}

// QueueLine is what a policy made of one pattern of arrivals.
type QueueLine struct {
	Policy       string   `json:"policy"`
	Deadline     Deadline `json:"deadline_ms"`
	Queue        string   `json:"queue"`
	Arrivals     int      `json:"arrivals"`
	Seed         uint64   `json:"seed"`
	Attainment   float64  `json:"attainment_percent"`
	MeanAccuracy float64  `json:"mean_accuracy"`      // of the jobs in time, in [0, 1]
	Accuracy     float64  `json:"effective_accuracy"` // of all jobs, those not in time counted as 0
	Shed         float64  `json:"shed_percent"`
	Switches     float64  `json:"switches_per_100"`
}

// QueueLines score every policy with each pattern of arrivals, which seed varies.
func (r *Replay) QueueLines(seed uint64) (lines []QueueLine, err error) {
	for _, p := range replay.Patterns() {
		jobs := p.Arrivals(r.length(), seed)
		if len(jobs) == 0 {
			return nil, fmt.Errorf("%s: too short, no job arrives in %v", r.name, r.length())
		}
		for _, entry := range replay.Field(r.members) {
			s := replay.Simulate(r.trace, jobs, p.Deadline, r.members, entry.New())
			lines = append(lines, QueueLine{Policy: entry.Name, Deadline: Deadline(p.Deadline.Milliseconds()),
				Queue:    p.String(),
				Arrivals: len(jobs), Seed: seed, Attainment: figure.Round(100 * s.Met),
				MeanAccuracy: s.MeanAccuracy(), Accuracy: s.Accuracy,
				Shed: figure.Round(100 * s.Shed), Switches: figure.Round(100 * s.Switches)})
		}
	}
	return lines, nil
}

// plotWindow is how many steps the accuracy of a picture is averaged over.
const plotWindow = 25

// Draw draws what the policies did over time with a deadline (ms), in the format
// that the suffix of name asks for.
func (r *Replay) Draw(w io.Writer, name string, deadlineMS float64) error {
	trace, members, deadline := r.trace, r.members, millis(deadlineMS)
	var accuracy, missed, member chart.Panel
	accuracy.Y, missed.Y, member.Y = fmt.Sprintf("top-1 %%, missed is 0, mean of %d", plotWindow), "missed so far",
		"member"
	missed.Step, member.Step, missed.Legend = true, true, true
	for _, c := range replay.Choosers(members) {
		if !slices.Contains([]string{"limber", "alert", "dynamic-ofa", "phase-oracle"}, c.Name) {
			continue
		}
		choices := c.Choose(trace, deadline)
		worth := trace.Gained(deadline, members, choices)
		accuracy.Series = append(accuracy.Series, chart.Series{Name: c.Name, Points: points(trace, moving(worth))})
		missed.Series = append(missed.Series, chart.Series{Name: c.Name, Points: points(trace, misses(worth))})
		if c.Name == "limber" || c.Name == "phase-oracle" {
			choice := func(i int) float64 { return float64(choices[i]) }
			member.Series = append(member.Series, chart.Series{Name: c.Name, Points: points(trace, choice)})
		}
	}
	count := func(i int) float64 { return float64(trace[i].Load) }
	load := chart.Panel{Y: "load", Step: true, Series: []chart.Series{{Name: "load", Points: points(trace, count)}}}
	title := fmt.Sprintf("%s, deadline %v", filepath.Base(r.name), deadline.Round(time.Microsecond))
	return chart.DrawPanels(w, name, chart.Axes{Title: title, X: "seconds"}, accuracy, missed, member, load)
}

// points are a value of each step, in the order of the steps.
func points(trace replay.Trace, value func(i int) float64) (all []chart.Point) {
	for i, s := range trace {
		all = append(all, chart.Point{X: s.At.Seconds(), Y: value(i)})
	}
	return all
}

// moving is the mean of the last steps, in percent.
func moving(worth []float64) func(int) float64 {
	sum := 0.0
	return func(i int) float64 {
		if sum += worth[i]; i >= plotWindow {
			sum -= worth[i-plotWindow]
		}
		return 100 * sum / float64(min(i+1, plotWindow))
	}
}

// misses counts the steps that were worth nothing.
func misses(worth []float64) func(int) float64 {
	n := 0.0
	return func(i int) float64 {
		if worth[i] == 0 {
			n++
		}
		return n
	}
}
