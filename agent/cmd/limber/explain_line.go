package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/limber-edge/limber/agent/control"
	"github.com/limber-edge/limber/agent/governor/logbook"
	"github.com/limber-edge/limber/agent/wire"
)

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
