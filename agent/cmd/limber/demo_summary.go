package main

import (
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
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
	Settled settled        `json:"settled"` // those frames only that were sent from its third second on
}

// settled is what became of the frames of a phase that the device had time to
// settle for.
type settled struct {
	Frames  int            `json:"frames"`
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
			P95ms: percentile(p.ms, 95), Met: ratio(p.met, p.frames), Members: p.members,
			Settled: settled{p.settled.frames, ratio(p.settled.met, p.settled.frames), p.settled.members}})
	}
	return s
}

func ratio(n, of int) float64 {
	if of == 0 {
		return 0
	}
	return round4(float64(n) / float64(of))
}

// check says what does not add up. How many frames were in time is no part of
// it: that is the machine's doing as well.
func (s summary) check() error {
	var errs []error
	if s.Answered == 0 {
		errs = append(errs, errors.New("not a single frame was answered"))
	}
	if missing := s.Frames - s.Answered - s.Refused; missing != 0 {
		errs = append(errs, fmt.Errorf("%d of %d frames were never answered", missing, s.Frames))
	}
	if len(s.Phases) != demoPhases {
		errs = append(errs, fmt.Errorf("%d of %d phases took place", len(s.Phases), demoPhases))
	}
	frames := 0
	for i, p := range s.Phases {
		if p.Frames == 0 {
			errs = append(errs, fmt.Errorf("no frame was sent in phase %d, %s", i+1, p.Phase))
		}
		frames += p.Frames
	}
	if frames != s.Frames {
		errs = append(errs, fmt.Errorf("the phases have %d frames, all in all %d were sent", frames, s.Frames))
	}
	if len(errs) > 0 {
		return fmt.Errorf("demo: the account does not add up: %w", errors.Join(errs...))
	}
	return nil
}

// print is the summary for people, 80 columns wide.
func (s summary) print(w io.Writer, p *plan) error {
	fmt.Fprintf(w, "%d cameras sent %d frames: %d answered, %d refused.\n", len(p.cameras), s.Frames, s.Answered, s.Refused)
	fmt.Fprintf(w, "Latency p50 %.2f ms, p95 %.2f ms; %.1f %% within %.0f ms.\n", s.P50ms, s.P95ms, 100*s.Met, s.DeadlineMS)
	fmt.Fprintf(w, "Top-1 %.1f %%; the same images and members, inferred anew: %.1f %%.\n", 100*s.Top1, 100*s.ExpectedTop1)
	back := "had not answered again when the demo ended"
	if s.ReturnMS != nil {
		back = fmt.Sprintf("answered again after %.1f s", *s.ReturnMS/1000)
	}
	fmt.Fprintf(w, "The operating member changed %d times. The load gone, the largest\n%s.\n\n", s.Switches, back)
	return s.table(w, p)
}

// table has a column a phase, so that many members do not make it wide.
func (s summary) table(w io.Writer, p *plan) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	row := func(name string, cell func(phaseSummary) string) {
		fmt.Fprintf(t, "%-14s\t", name) // the widest of the names, so that they begin on the left
		for _, ph := range s.Phases {
			fmt.Fprint(t, cell(ph), "\t")
		}
		fmt.Fprintln(t)
	}
	row("phase", func(ph phaseSummary) string { return ph.Phase })
	row("length, s", func(ph phaseSummary) string { return fmt.Sprintf("%.1f", ph.Seconds) })
	row("other programs", func(ph phaseSummary) string { return fmt.Sprint(ph.Hogs) })
	row("frames", func(ph phaseSummary) string { return fmt.Sprint(ph.Frames) })
	row("p95, ms", func(ph phaseSummary) string { return fmt.Sprintf("%.2f", ph.P95ms) })
	row("in time, %", func(ph phaseSummary) string { return fmt.Sprintf("%.1f", 100*ph.Met) })
	for i := len(p.caps.Members) - 1; i >= 0; i-- {
		name := p.caps.Members[i].Name
		row("by "+name+", %", func(ph phaseSummary) string { return fmt.Sprintf("%.0f", 100*ratio(ph.Members[name], ph.Frames)) })
	}
	return t.Flush()
}
