package demo

import (
	"maps"
	"slices"
	"time"

	"github.com/limber-edge/limber/agent/bench/figure"
	"github.com/limber-edge/limber/agent/wire"
)

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
