package control

import (
	"time"

	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/agent/wire"
)

// ModeOf is the governor's mode that pursues an aim.
func ModeOf(w wire.Aim) (governor.Mode, error) {
	if w.Goal == nil {
		return governor.ParseMode(w.Mode)
	}
	g := governor.Goal{Deadline: w.Goal.Deadline()}
	if f := w.Goal.MinTop1; f != nil {
		g.Floor = *f
	}
	if f := w.Goal.MaxWatts; f != nil {
		g.Watts = *f
	}
	switch w.Goal.Prefer {
	case wire.PreferLatency:
		g.Prefer = governor.Latency
	case wire.PreferEnergy:
		g.Prefer = governor.Energy
	}
	if g == (governor.Goal{}) {
		return governor.Mode{}, nil // accuracy and nothing else is what balanced is for
	}
	return governor.ModeOf(g)
}

// WireGoal is a goal as it travels; nil if it asks for nothing. The deadline is
// rounded up, for the nearest feasible one must be feasible.
func WireGoal(g governor.Goal) *wire.Goal {
	if g == (governor.Goal{}) {
		return nil
	}
	return &wire.Goal{
		DeadlineMS: asked(wire.Millis((g.Deadline + time.Microsecond - 1).Truncate(time.Microsecond))),
		MinTop1:    asked(g.Floor), MaxWatts: asked(g.Watts),
		Prefer: [...]string{
			governor.Accuracy: "", governor.Latency: wire.PreferLatency, governor.Energy: wire.PreferEnergy,
		}[g.Prefer],
	}
}

// asked is a figure of a goal as it travels; nil for 0, which is not asked for.
func asked(v float64) *float64 {
	if v == 0 {
		return nil
	}
	return &v
}
