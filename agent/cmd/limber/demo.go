package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/agent/bench/demo"
	"github.com/limber-edge/limber/agent/bench/figure"
	"github.com/limber-edge/limber/agent/config"
	"github.com/limber-edge/limber/agent/dash"
	"github.com/limber-edge/limber/agent/mqtt"
)

// demoArgs are the flags of `limber demo`.
type demoArgs struct {
	demo.Options
	asJSON, page bool
}

func newDemo() *cobra.Command {
	var a demoArgs
	c := &cobra.Command{
		Use:   "demo",
		Short: "See all of it on this desk: broker, agent, cameras, a load that comes and goes",
		Long: `Start a broker, an agent with the stock family and as many virtual cameras at
30 frames a second as take 70 % of what the device can do with its largest member
on this machine. They send test images as 640x480 JPEGs to frame/{source}. Then
let other programs take the CPU for a while, and see the agent go down to a
smaller sub-network and come back. A member's name is its cost:
23.1M takes 23.1 million multiply-accumulates a frame. Before the first phase the
cameras run for a second that counts nowhere, for the agent to settle.

Ports are free ones, the state is temporary, and nothing is left behind. With --page
there is a page to look at it meanwhile, that of "limber dash", whose address is printed.

The exit code is 1 when the account does not add up: a frame without an answer,
no answer at all, or a phase without frames. Missed deadlines are printed only:
a machine with other work misses some.

In the summary of --json, top1 is the accuracy over the answered frames and
expected_top1 that of the same frames and members inferred anew without load;
met is the fraction of all frames that were answered within the deadline; members
counts answers. settled is the same for those frames of a phase that were sent from
its third second on. return_ms is the time from the end of the load, the beginning of
the last phase, to the first answer by the largest member to a frame of that
phase; probes do not count, and it is absent when there was none.`,
		Example: `  limber demo
  limber demo --page --busy 1m
  limber demo --json --busy 20s`,
		RunE: func(c *cobra.Command, _ []string) error { return a.run(c) },
	}
	f := c.Flags()
	f.BoolVar(&a.asJSON, "json", false, "print one summary object and nothing else")
	f.BoolVar(&a.page, "page", false, "serve the page meanwhile, for looking only")
	f.DurationVar(&a.Deadline, "deadline", 50*time.Millisecond, "of every frame")
	f.DurationVar(&a.Quiet, "quiet", 6*time.Second, "length of each quiet phase, at least 5s")
	f.DurationVar(&a.Busy, "busy", 8*time.Second, "length of the busy phase, at least 5s")
	return c
}

func (a *demoArgs) run(c *cobra.Command) error {
	if a.Quiet < demo.Shortest || a.Busy < demo.Shortest {
		return usagef("limber demo: a phase under %v is too short to see anything", demo.Shortest)
	}
	progress := newProgress(c)
	a.Version, a.Trial, a.Progress = version, newTrial(), progress
	a.Stderr, a.Log = c.ErrOrStderr(), newLogger(c.ErrOrStderr(), "error")
	a.Watch = newView(c.OutOrStdout(), a.asJSON).run
	if a.page {
		a.Beside = func(broker string) (func(context.Context) error, error) { return demoPage(broker, progress) }
	}
	sum, err := demo.Run(c.Context(), a.Options)
	progress.End()
	if c.Context().Err() != nil && errors.Is(err, context.Canceled) {
		return errors.New("demo: stopped before its end")
	}
	if err != nil {
		return err
	}
	if a.asJSON {
		err = json.NewEncoder(c.OutOrStdout()).Encode(sum)
	} else {
		err = printSummary(c.OutOrStdout(), sum)
	}
	return errors.Join(err, sum.Check())
}

// demoPage serves the page of the demo's device. Nobody may steer from it: what the demo adds
// up is of a device that nobody else commands.
func demoPage(broker string, p *progress) (serve func(context.Context) error, err error) {
	self := config.Default()
	a := operatorArgs{fleet: self.Fleet}
	a.broker.URL = mqtt.URLs{broker}
	link, err := a.link()
	if err != nil {
		return nil, err
	}
	s, err := dash.New(dash.Config{Broker: link, Fleet: a.fleet, Listen: "127.0.0.1:0"}, newLogger(p.warnings, "error"))
	if err != nil {
		return nil, err
	}
	p.Warn("look at it at " + s.URL() + "#/device/" + self.Device)
	return s.Run, nil
}

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
