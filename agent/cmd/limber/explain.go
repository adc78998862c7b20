package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/agent/control"
	"github.com/limber-edge/limber/agent/governor/logbook"
	"github.com/limber-edge/limber/agent/wire"
)

// explainArgs are the flags of `limber explain`.
type explainArgs struct {
	last int
	json bool
}

func newExplain() *cobra.Command {
	var a explainArgs
	c := &cobra.Command{
		Use:   "explain FILE",
		Short: "Replay a device's decision log and explain the last decisions",
		Long: `Replay a decision log call by call and check that every decision comes out as
the device took it. A device keeps one if its configuration says so:

  [governor]
  log_mib = 64   # decisions.log and the older decisions.log.1, in the state folder

and a pair of the same size for each other way to run: decisions-3.log for members
with three threads, decisions-cuda.log and decisions-tensorrt.log.

For the last decisions it prints what was known, what each member was expected to
be worth, what was chosen and why, and whether the job was answered in time. WORTH
is a member's top-1 times its chance to be in time, SCORE the same less what it
takes from those who wait; both in percent. A member is not in use before it is
loaded, and while it is out to make room.

The exit code is 1 if the log is damaged, holds no decision, or one comes out in
another way; the line is named. Half a line at the end, as a power cut leaves it,
is left out with a remark. Another version of the program may decide otherwise.
Between architectures a chance may differ in its last digits, which is counted.`,
		Example: `  limber explain decisions.log
  limber explain decisions.log --last 100 --json`,
		Args: exactly(1, "one file"),
		RunE: func(c *cobra.Command, args []string) error {
			if a.last < 1 {
				return usagef("--last %d is not at least 1", a.last)
			}
			return a.run(c.OutOrStdout(), c.ErrOrStderr(), args[0])
		},
	}
	c.Flags().IntVar(&a.last, "last", 10, "decisions to explain")
	c.Flags().BoolVar(&a.json, "json", false, "print one JSON object a decision")
	return c
}

func (a *explainArgs) run(w, stderr io.Writer, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	var last []*logbook.Entry
	sum, wrong := logbook.Replay(f, func(e *logbook.Entry) {
		if last = append(last, e); len(last) >= 2*a.last {
			last = append(last[:0], last[len(last)-a.last:]...)
		}
	})
	last = last[max(0, len(last)-a.last):]
	if err := a.print(w, last, sum, wrong == nil); err != nil {
		return err
	}
	if sum.Torn {
		fmt.Fprintf(stderr, "%s: the last line is incomplete and was left out\n", path)
	}
	switch {
	case wrong == nil && sum.Decisions == 0:
		return fmt.Errorf("%s: there is no decision in it", path)
	case wrong == nil:
		return nil
	case sum.Version != "" && sum.Version != version:
		return fmt.Errorf("%s: %w (written by version %s, this is %s)", path, wrong, sum.Version, version)
	}
	return fmt.Errorf("%s: %w", path, wrong)
}

func (a *explainArgs) print(w io.Writer, last []*logbook.Entry, sum logbook.Summary, same bool) error {
	if a.json {
		lines := make([]explained, len(last))
		for i, e := range last {
			lines[i] = explain(e)
		}
		return printLines(w, lines)
	}
	for _, e := range last {
		x := explain(e)
		fmt.Fprintf(w, "%s  line %d\n  %s\n", x.TS.Format(clockFormat), x.Line, x.Why)
		if err := x.decision().print(w, x.inputs(), x.outcome()); err != nil {
			return err
		}
	}
	if !same || sum.Decisions == 0 {
		return nil
	}
	_, err := fmt.Fprintf(w, "%s in %s, replayed with the same outcome", counted(sum.Decisions, "decision"),
		counted(sum.Segments, "segment"))
	if sum.Rounded > 0 {
		fmt.Fprintf(w, ", %d of them but for the last digits of a chance: the log is of another architecture", sum.Rounded)
	}
	if sum.Lost > 0 {
		fmt.Fprintf(w, "; %s could not be written", counted(sum.Lost, "call"))
	}
	fmt.Fprintln(w)
	return err
}

// counted is a number of things in words.
func counted[N int | uint64](n N, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return fmt.Sprintf("%d %s", n, thing)
}

// clockFormat is a time of day as lists of decisions show it, with the date.
const clockFormat = "2006-01-02 15:04:05.000"

func percent(share float64) string { return fmt.Sprintf("%.1f", 100*share) }

// explained is a decision of a log, as --json prints it.
type explained struct {
	Line        int            `json:"line"`
	TS          wire.Time      `json:"ts"`
	Version     string         `json:"version"`
	Mode        string         `json:"mode"`
	Goal        *wire.Goal     `json:"goal,omitempty"` // of mode goal
	SlackMS     float64        `json:"slack_ms"`
	Waiting     []float64      `json:"waiting_ms"`         // slack of the jobs behind, ms
	MinTop1     *float64       `json:"min_top1,omitempty"` // of the job
	OverheadMS  float64        `json:"overhead_ms"`
	DecodeMS    float64        `json:"decode_ms"` // between two frames that decoding hands over
	Belief      string         `json:"belief"`
	Options     []scoredOption `json:"options"`
	Member      string         `json:"member"`
	Refused     bool           `json:"refused"`
	Reason      string         `json:"reason"`
	Why         string         `json:"why"`
	PredictedMS float64        `json:"predicted_ms"`
	Chance      float64        `json:"chance"`
	Operating   string         `json:"operating"`
	InferMS     *float64       `json:"infer_ms,omitempty"`
	Met         *bool          `json:"met,omitempty"` // absent if the log ends before
}

// scoredOption is an option with the figure that the governor compares.
type scoredOption struct {
	wire.Option
	Score float64 `json:"score"`
	InUse bool    `json:"in_use"` // it could be chosen
}

func explain(e *logbook.Entry) explained {
	d := e.Decision
	x := explained{
		Line: e.Line, TS: wire.At(e.At), Version: e.Version, Mode: e.Mode.String(), Goal: control.WireGoal(e.Mode.Goal()),
		SlackMS: wire.Millis(e.Queue.Deadline), Waiting: []float64{},
		OverheadMS: wire.Millis(e.Queue.Overhead), DecodeMS: wire.Millis(e.Queue.Decode), Belief: e.Belief.String(),
		Member: e.Members[d.Member], Refused: d.Shed, Reason: d.Reason.String(),
		Why: e.Why, PredictedMS: wire.Millis(d.Predicted), Chance: d.Chance, Operating: e.Members[d.Operating],
	}
	for _, due := range e.Queue.Waiting {
		x.Waiting = append(x.Waiting, wire.Millis(due))
	}
	if e.Queue.Floor > 0 {
		x.MinTop1 = &e.Queue.Floor
	}
	for _, o := range e.Options {
		predicted := wire.Millis(time.Duration(o.Predicted * float64(time.Millisecond)))
		x.Options = append(x.Options, scoredOption{wire.Option{Member: e.Members[o.Member], PredictedMS: predicted,
			Chance: o.Chance, Worth: o.Worth}, o.Score, o.Eligible})
	}
	if e.Infer > 0 {
		infer := wire.Millis(e.Infer)
		x.InferMS = &infer
	}
	if e.Ended {
		x.Met = &e.Met
	}
	return x
}

// inputs says what was asked.
func (x *explained) inputs() string {
	s := fmt.Sprintf("%s, %.1f ms left, %d waiting", pursued(x.Mode, x.Goal), x.SlackMS, len(x.Waiting))
	if x.MinTop1 != nil {
		s += fmt.Sprintf(", min_top1 %v", *x.MinTop1)
	}
	return s + "; " + x.Belief
}

// pursued is a mode or a goal in words.
func pursued(mode string, goal *wire.Goal) string {
	if goal != nil {
		return "goal " + goal.String()
	}
	return "mode " + mode
}

// outcome says what became of the job.
func (x *explained) outcome() string {
	switch {
	case x.Refused:
		return "refused: " + x.Reason
	case x.Met == nil:
		return "not known: the log ends here"
	case *x.Met && x.InferMS != nil:
		return fmt.Sprintf("in time, %.1f ms of inference", *x.InferMS)
	case x.InferMS != nil:
		return fmt.Sprintf("not in time, %.1f ms of inference", *x.InferMS)
	}
	return "the inference failed"
}

func (x *explained) decision() choice {
	c := choice{member: x.Member, refused: x.Refused}
	for _, o := range x.Options {
		row := []string{o.Member, "not in use", "-", "-", "-"}
		if o.InUse {
			row = []string{o.Member, fmt.Sprintf("%.2f", o.PredictedMS), percent(o.Chance), fmt.Sprintf("%.2f", o.Worth),
				fmt.Sprintf("%.2f", o.Score)}
		}
		c.options = append(c.options, row)
	}
	return c
}

// choice is a member among its alternatives, as a table.
type choice struct {
	member  string
	refused bool
	options [][]string // member, expected ms, in time, worth, and maybe the score
}

// print prints the table between what was asked and what became of it.
func (c choice) print(w io.Writer, inputs, outcome string) error {
	fmt.Fprintf(w, "  %s\n", inputs)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	for i, row := range c.options {
		if i == 0 {
			fmt.Fprintln(t, "\t"+strings.Join([]string{"MEMBER", "EXPECTED MS", "IN TIME %", "WORTH", "SCORE"}[:len(row)],
				"\t")+"\t")
		}
		mark := ""
		if row[0] == c.member && !c.refused {
			mark = ">"
		}
		fmt.Fprintln(t, mark+"\t"+strings.Join(row, "\t")+"\t")
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "  %s\n\n", outcome)
	return err
}
