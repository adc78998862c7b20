package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"

	"github.com/limber-edge/limber/agent/bench/demo"
	"github.com/limber-edge/limber/agent/bench/figure"
)

// printSummary is the summary for people, 80 columns wide.
func printSummary(w io.Writer, s *demo.Summary) error {
	fmt.Fprintf(w, "%d cameras sent %d frames: %d answered, %d refused.\n", s.Cameras, s.Frames, s.Answered, s.Refused)
	fmt.Fprintf(w, "Latency p50 %.2f ms, p95 %.2f ms; %.1f %% within %.0f ms.\n", s.P50ms, s.P95ms, 100*s.Met,
		s.DeadlineMS)
	fmt.Fprintf(w, "Top-1 %.1f %%; the same images and members, inferred anew: %.1f %%.\n", 100*s.Top1,
		100*s.ExpectedTop1)
	back := "had not answered again when the demo ended"
	if s.ReturnMS != nil {
		back = fmt.Sprintf("answered again after %.1f s", *s.ReturnMS/1000)
	}
	fmt.Fprintf(w, "The operating member changed %d times. The load gone, the largest\n%s.\n\n", s.Switches, back)
	return printPhases(w, s)
}

// printPhases has a column a phase, so that many members do not make it wide.
func printPhases(w io.Writer, s *demo.Summary) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	row := func(name string, cell func(demo.PhaseSummary) string) {
		fmt.Fprintf(t, "%-14s\t", name) // the widest of the names, so that they begin on the left
		for _, ph := range s.Phases {
			fmt.Fprint(t, cell(ph), "\t")
		}
		fmt.Fprintln(t)
	}
	row("phase", func(ph demo.PhaseSummary) string { return ph.Phase })
	row("length, s", func(ph demo.PhaseSummary) string { return fmt.Sprintf("%.1f", ph.Seconds) })
	row("other programs", func(ph demo.PhaseSummary) string { return fmt.Sprint(ph.Hogs) })
	row("frames", func(ph demo.PhaseSummary) string { return fmt.Sprint(ph.Frames) })
	row("p95, ms", func(ph demo.PhaseSummary) string { return fmt.Sprintf("%.2f", ph.P95ms) })
	row("in time, %", func(ph demo.PhaseSummary) string { return fmt.Sprintf("%.1f", 100*ph.Met) })
	for _, m := range slices.Backward(s.Cast.Members) {
		row("by "+m.Name+", %", func(ph demo.PhaseSummary) string {
			return fmt.Sprintf("%.0f", 100*figure.Part(ph.Members[m.Name], ph.Frames))
		})
	}
	return t.Flush()
}
