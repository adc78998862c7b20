package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/agent/governor/logbook"
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
