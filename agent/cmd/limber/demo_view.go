package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/term"
)

// summary is the one object that `limber demo --json` prints.
type summary struct {
	Frames       int            `json:"frames"`
	Answered     int            `json:"answered"`
	Refused      int            `json:"refused"`
	Top1         float64        `json:"top1"`          // of the answered frames
	ExpectedTop1 float64        `json:"expected_top1"` // of the same images and members
	P50ms        float64        `json:"p50_ms"`        // receipt to answer
	P95ms        float64        `json:"p95_ms"`
	DeadlineMS   float64        `json:"deadline_ms"`
	Met          float64        `json:"met"` // fraction of all frames answered in time
	Switches     int            `json:"switches"`
	ReturnMS     float64        `json:"return_ms"` // from the end of the load to the largest member
	Cameras      int            `json:"cameras"`
	Members      map[string]int `json:"members"`
	Phases       []phaseSummary `json:"phases"`
}

type phaseSummary struct {
	Phase   string         `json:"phase"`
	Hogs    int            `json:"hogs"`
	Seconds float64        `json:"seconds"`
	Frames  int            `json:"frames"`
	P95ms   float64        `json:"p95_ms"`
	Met     float64        `json:"met"`
	Members map[string]int `json:"members"`
}

func (r *record) summary() summary {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.total
	s := summary{
		Frames: t.frames, Answered: t.answered, Refused: t.refused, Top1: ratio(t.right, t.answered),
		P50ms: percentile(t.ms, 50), P95ms: percentile(t.ms, 95), DeadlineMS: float64(r.deadline) / 1e6,
		Met: ratio(t.met, t.frames), Switches: r.switches, ReturnMS: float64(r.back.Milliseconds()), Members: t.members,
	}
	for _, p := range r.phases {
		s.Phases = append(s.Phases, phaseSummary{Phase: p.name, Hogs: p.hogs, Seconds: round4(p.took.Seconds()), Frames: p.frames,
			P95ms: percentile(p.ms, 95), Met: ratio(p.met, p.frames), Members: p.members})
	}
	return s
}

func ratio(n, of int) float64 {
	if of == 0 {
		return 0
	}
	return round4(float64(n) / float64(of))
}

// printSummary is the summary for people.
func printSummary(w io.Writer, s summary, p *plan) error {
	fmt.Fprintf(w, "\n%d cameras sent %d frames; %d were answered, %d refused, %.1f %% within %.0f ms.\n",
		p.cameras, s.Frames, s.Answered, s.Refused, 100*s.Met, s.DeadlineMS)
	fmt.Fprintf(w, "Top-1 %.1f %%, expected of these images and members %.1f %%. Latency p50 %.2f ms, p95 %.2f ms.\n",
		100*s.Top1, 100*s.ExpectedTop1, s.P50ms, s.P95ms)
	fmt.Fprintf(w, "The operating member changed %d times; after the load the largest was back in %.1f s.\n\n", s.Switches, s.ReturnMS/1000)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(t, "phase\tother programs\tseconds\tframes\tp95 ms\tin time %")
	for _, m := range p.caps.Members {
		fmt.Fprintf(t, "\t%s %%", m.Name)
	}
	fmt.Fprintln(t)
	for _, ph := range s.Phases {
		fmt.Fprintf(t, "%s\t%d\t%.1f\t%d\t%.2f\t%.1f", ph.Phase, ph.Hogs, ph.Seconds, ph.Frames, ph.P95ms, 100*ph.Met)
		for _, m := range p.caps.Members {
			fmt.Fprintf(t, "\t%.0f", 100*ratio(ph.Members[m.Name], ph.Frames))
		}
		fmt.Fprintln(t)
	}
	return t.Flush()
}

// view draws what happens, several times a second, where there is a terminal.
type view struct {
	w     io.Writer // nil: nobody looks
	plan  *plan
	rec   *record
	trail []int // index of the operating member, one entry a frame of the view
	lines int   // drawn last time
}

const viewPace = 200 * time.Millisecond

func newView(w io.Writer, p *plan, rec *record, silent bool) *view {
	v := &view{plan: p, rec: rec}
	if f, ok := w.(*os.File); ok && !silent && term.IsTerminal(int(f.Fd())) {
		v.w = w
	}
	return v
}

// run draws until ctx ends.
func (v *view) run(ctx context.Context) error {
	if v.w == nil {
		return nil
	}
	tick := time.NewTicker(viewPace)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			v.draw()
		case <-ctx.Done():
			v.draw()
			return nil
		}
	}
}

// draw overwrites what was drawn before.
func (v *view) draw() {
	text := v.text()
	if v.lines > 0 {
		fmt.Fprintf(v.w, "\033[%dA", v.lines)
	}
	v.lines = strings.Count(text, "\n")
	fmt.Fprint(v.w, strings.ReplaceAll(text, "\n", "\033[K\n"))
}

const trailWidth = 72

func (v *view) text() string {
	r := v.rec
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.phases) == 0 {
		return ""
	}
	p := r.phases[len(r.phases)-1]
	at := 0
	for i, m := range v.plan.caps.Members {
		if m.Name == r.operates {
			at = i
		}
	}
	if v.trail = append(v.trail, at); len(v.trail) > trailWidth {
		v.trail = v.trail[1:]
	}
	var b strings.Builder
	last := p.ms[max(0, len(p.ms)-v.plan.cameras*cameraRate):]
	fmt.Fprintf(&b, "%d cameras × %d frames/s    phase %s, %d other programs on the CPU    %.0f s\n\n",
		v.plan.cameras, cameraRate, p.name, p.hogs, time.Since(p.began).Seconds())
	fmt.Fprintf(&b, "latency  p50 %6.2f ms   p95 %6.2f ms   deadline %.0f ms   in time %5.1f %%\n",
		percentile(last, 50), percentile(last, 95), float64(r.deadline)/1e6, 100*ratio(p.met, p.answered+p.refused))
	fmt.Fprintf(&b, "top-1    %.1f %% so far   refused %d   switches %d\n", 100*ratio(r.total.right, r.total.answered), r.total.refused, r.switches)
	if t := r.state; t != nil && t.CPUPercent != nil && t.OthersPercent != nil {
		fmt.Fprintf(&b, "machine  CPU %3.0f %%, others %3.0f %%   queue %d\n", *t.CPUPercent, *t.OthersPercent, t.Queue)
	} else {
		b.WriteString("machine\n")
	}
	b.WriteString("\n")
	v.members(&b, p)
	return b.String()
}

// members draws one row a member: its share of this phase's answers, and when it
// was the operating one.
func (v *view) members(b *strings.Builder, p *phase) {
	for i := len(v.plan.caps.Members) - 1; i >= 0; i-- {
		m := v.plan.caps.Members[i]
		row := strings.Builder{}
		for _, at := range v.trail {
			if at == i {
				row.WriteString("█")
			} else {
				row.WriteString("·")
			}
		}
		fmt.Fprintf(b, "%-8s %5.1f %%  %5.2f ms  %3.0f %%  %s\n", m.Name, 100*m.Top1, *m.P50MS, 100*ratio(p.members[m.Name], p.answered), row.String())
	}
}
