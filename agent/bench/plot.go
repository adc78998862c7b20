package bench

import (
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/limber-edge/limber/agent/governor/replay"
	"github.com/limber-edge/limber/family/chart"
)

// plotted are the policies that a picture compares.
func plotted() []string { return []string{"limber", "alert", "dynamic-ofa", "phase-oracle"} }

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
		for _, name := range plotted() {
			if c.Name != name {
				continue
			}
			choices := c.Choose(trace, deadline)
			worth := trace.Gained(deadline, members, choices)
			accuracy.Series = append(accuracy.Series, chart.Series{Name: name, Points: moving(trace, worth)})
			missed.Series = append(missed.Series, chart.Series{Name: name, Points: misses(trace, worth)})
			if name == "limber" || name == "phase-oracle" {
				member.Series = append(member.Series, chart.Series{Name: name, Points: steps(trace, choices)})
			}
		}
	}
	load := chart.Panel{Y: "load", Step: true, Series: []chart.Series{{Name: "load"}}}
	for _, s := range trace {
		load.Series[0].Points = append(load.Series[0].Points, chart.Point{X: s.At.Seconds(), Y: float64(s.Load)})
	}
	title := fmt.Sprintf("%s, deadline %v", filepath.Base(r.name), deadline.Round(time.Microsecond))
	return chart.DrawPanels(w, name, chart.Axes{Title: title, X: "seconds"}, accuracy, missed, member, load)
}

// moving is the mean of the last steps, in percent.
func moving(trace replay.Trace, worth []float64) (points []chart.Point) {
	sum := 0.0
	for i, v := range worth {
		if sum += v; i >= plotWindow {
			sum -= worth[i-plotWindow]
		}
		points = append(points, chart.Point{X: trace[i].At.Seconds(), Y: 100 * sum / float64(min(i+1, plotWindow))})
	}
	return points
}

func misses(trace replay.Trace, worth []float64) (points []chart.Point) {
	n := 0
	for i, v := range worth {
		if v == 0 {
			n++
		}
		points = append(points, chart.Point{X: trace[i].At.Seconds(), Y: float64(n)})
	}
	return points
}

func steps(trace replay.Trace, choices []int) (points []chart.Point) {
	for i, c := range choices {
		points = append(points, chart.Point{X: trace[i].At.Seconds(), Y: float64(c)})
	}
	return points
}
