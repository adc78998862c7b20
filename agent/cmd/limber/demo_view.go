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
	ReturnMS     *float64       `json:"return_ms,omitempty"` // from the end of the load to the largest member; absent: it did not return
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
		Met: ratio(t.met, t.frames), Switches: r.switches, Members: t.members,
	}
	if r.returned {
		ms := float64(r.back.Milliseconds())
		s.ReturnMS = &ms
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
	back := "the largest did not return yet"
	if s.ReturnMS != nil {
		back = fmt.Sprintf("the largest was back in %.1f s", *s.ReturnMS/1000)
	}
	fmt.Fprintf(w, "The operating member changed %d times; after the load %s.\n\n", s.Switches, back)
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
	trail []moment // one entry a frame of the view
	width int      // entries that fit beside a member's row
	lines int      // drawn last time
}

// moment is what the view's history remembers.
type moment struct {
	member int // index of the operating one
	busy   bool
}

const viewPace = 200 * time.Millisecond

func newView(w io.Writer, p *plan, rec *record, silent bool) *view {
	v := &view{plan: p, rec: rec}
	if f, ok := w.(*os.File); ok && !silent && term.IsTerminal(int(f.Fd())) {
		v.w = w
		v.width = historyWidth
		if columns, _, err := term.GetSize(int(f.Fd())); err == nil {
			v.width = max(columns-rowWidth-1, historyWidth/2)
		}
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

const (
	historyWidth = 72
	rowWidth     = 35 // of a member's figures
)

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
	if v.trail = append(v.trail, moment{at, p.hogs > 0}); len(v.trail) > v.width {
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
// was the operating one; below them, when other programs had the CPU.
func (v *view) members(b *strings.Builder, p *phase) {
	for i := len(v.plan.caps.Members) - 1; i >= 0; i-- {
		m := v.plan.caps.Members[i]
		row := v.history(func(m moment) bool { return m.member == i }, "█")
		fmt.Fprintf(b, "%-8s %5.1f %%  %5.2f ms  %3.0f %%  %s\n", m.Name, 100*m.Top1, *m.P50MS, 100*ratio(p.members[m.Name], p.answered), row)
	}
	busy := v.history(func(m moment) bool { return m.busy }, "▒")
	fmt.Fprintf(b, "%-*s %s\n", rowWidth-1, "member   top-1    p50       share", busy)
}

// history draws a mark for every moment that holds.
func (v *view) history(holds func(moment) bool, mark string) string {
	var row strings.Builder
	for _, m := range v.trail {
		if holds(m) {
			row.WriteString(mark)
		} else {
			row.WriteString("·")
		}
	}
	return row.String()
}
