package governor

import "time"

// Power is what the device takes, as far as it can be measured or is known.
type Power struct {
	Idle   float64 // W, with no inference running
	Active float64 // W more while one runs
}

// demandMean is the time constant of the rate of all jobs, ms.
const demandMean = 10_000.0

// SetPower tells what inferences cost from now on. Without it a goal's watts
// cannot be pursued; see Feasible.
func (g *Governor) SetPower(p Power) { g.power = p }

// within holds the eligible members that the goal leaves: those that reach its
// floor, or come closest, and of them those that its watts pay for.
func (g *Governor) within(now time.Duration) set {
	if s := g.affordable(now) & g.atLeast(min(g.mode.goal.Floor, g.members[g.eligible.last()].Top1)); s != 0 {
		return s
	}
	return g.affordable(now)
}

// affordable holds the eligible members that jobs at the present rate can use
// within the watts of the goal; the smallest if none can.
func (g *Governor) affordable(now time.Duration) set {
	watts := g.mode.goal.Watts
	if watts == 0 || g.power.Active <= 0 {
		return g.eligible
	}
	busy := (watts - g.power.Idle) / g.power.Active // share of the time that may be spent on inferences
	gap := g.jobs.at(now).gap()
	s := g.eligible.upTo(g.eligible.first())
	for j := range g.members {
		if g.eligible.has(j) && g.grid.single[j].alone <= busy*gap {
			s |= 1 << j
		}
	}
	return s
}
