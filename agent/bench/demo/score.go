package demo

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/limber-edge/limber/agent/bench/figure"
	"github.com/limber-edge/limber/agent/wire"
)

// Summary is the one object that `limber demo --json` prints.
type Summary struct {
	Frames       int     `json:"frames"`
	Answered     int     `json:"answered"`
	Refused      int     `json:"refused"`
	Top1         float64 `json:"top1"`          // of the answered frames
	ExpectedTop1 float64 `json:"expected_top1"` // of the same images and members
	P50ms        float64 `json:"p50_ms"`        // receipt to answer
	P95ms        float64 `json:"p95_ms"`
	DeadlineMS   float64 `json:"deadline_ms"`
	Met          float64 `json:"met"` // fraction of all frames answered in time
	Switches     int     `json:"switches"`
	// from the end of the load to the largest member; absent: it did not return
	ReturnMS *float64       `json:"return_ms,omitempty"`
	Cameras  int            `json:"cameras"`
	Members  map[string]int `json:"members"`
	Phases   []PhaseSummary `json:"phases"`
	Cast     Cast           `json:"-"`
}

// PhaseSummary is that of one stretch.
type PhaseSummary struct {
	Phase   string         `json:"phase"`
	Hogs    int            `json:"hogs"`
	Seconds float64        `json:"seconds"`
	Frames  int            `json:"frames"`
	P95ms   float64        `json:"p95_ms"`
	Met     float64        `json:"met"`
	Members map[string]int `json:"members"`
	Settled Settled        `json:"settled"` // those frames only that were sent from its third second on
}

// Settled is what became of the frames of a phase that the device had time to
// settle for.
type Settled struct {
	Frames  int            `json:"frames"`
	Met     float64        `json:"met"`
	Members map[string]int `json:"members"`
}

func (r *record) summary() Summary {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.total
	s := Summary{
		Frames: t.frames, Answered: t.answered, Refused: t.refused, Top1: figure.Part(t.right, t.answered),
		P50ms: t.ms.Percentile(50), P95ms: t.ms.Percentile(95), DeadlineMS: float64(r.deadline) / 1e6,
		Met: figure.Part(t.met, t.frames), Switches: r.switches, Members: t.members,
	}
	if r.returned {
		ms := float64(r.back.Milliseconds())
		s.ReturnMS = &ms
	}
	for _, p := range r.phases {
		s.Phases = append(s.Phases, PhaseSummary{Phase: p.name, Hogs: p.hogs, Seconds: figure.Round(p.took.Seconds()),
			Frames: p.frames,
			P95ms:  p.ms.Percentile(95), Met: figure.Part(p.met, p.frames), Members: p.members,
			Settled: Settled{p.settled.frames, figure.Part(p.settled.met, p.settled.frames), p.settled.members}})
	}
	return s
}

// Check says what does not add up. How many frames were in time is no part of
// it: that is the machine's doing as well.
func (s Summary) Check() error {
	var errs []error
	if s.Answered == 0 {
		errs = append(errs, errors.New("not a single frame was answered"))
	}
	if missing := s.Frames - s.Answered - s.Refused; missing != 0 {
		errs = append(errs, fmt.Errorf("%d of %d frames were never answered", missing, s.Frames))
	}
	if len(s.Phases) != Phases {
		errs = append(errs, fmt.Errorf("%d of %d phases took place", len(s.Phases), Phases))
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

// Cast is who takes part in a demo.
type Cast struct {
	Members  []wire.Member // the largest last
	Cameras  int
	Deadline time.Duration
	Length   time.Duration // of all phases
}

// Scene is the demo at one moment.
type Scene struct {
	At       time.Duration // since the first phase began
	Operates string        // the operating member
	Phase    int           // 1 to Phases
	Name     string        // of the phase
	Hogs     int           // that run in it
	Took     time.Duration // so far, or altogether
	Over     bool          // the phase has ended, and no other begun
	Met      float64       // part of this phase's answers and refusals that was in time
	Answers  map[string]int
	Answered int
	Last     figure.Sample   // ms of the answers of about the last second
	Top1     float64         // of all answers so far
	Refused  int             // so far
	Switches int             // so far
	State    *wire.Telemetry // the latest; nil if there is none yet
}

// scene is the record at this moment. There is none before the first phase.
func (r *record) scene() (s Scene, begun bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.phases) == 0 {
		return Scene{}, false
	}
	p := r.phases[len(r.phases)-1]
	return Scene{
		At: time.Since(r.phases[0].began), Operates: r.operates, Phase: len(r.phases), Name: p.name, Hogs: p.hogs,
		Took: p.length(), Over: p.took > 0, Met: figure.Part(p.met, p.answered+p.refused),
		Answers: maps.Clone(p.members), Answered: p.answered,
		Last:    slices.Clone(p.ms[max(0, len(p.ms)-len(r.plan.cameras)*CameraRate):]),
		Top1:    figure.Part(r.total.right, r.total.answered),
		Refused: r.total.refused, Switches: r.switches, State: r.state,
	}, true
}
