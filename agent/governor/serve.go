package governor

import "time"

const (
	tooUnlikely = 0.4 // chance to be in time below which a job is shed
)

func (g *Governor) serve(m *moment) (member int, why Reason, shed bool) {
	if m.fits == 0 {
		return g.eligible.last(), Infeasible, true
	}
	if least := g.least(m.fits); !g.likely(m, least) {
		switch {
		case !g.blind(m.now):
			return least, Busy, true
		case m.usual.hopeless(m.fits):
			return least, Infeasible, false
		default:
			return least, Probe, false
		}
	}
	member, why = g.byMode(m)
	if !m.fits.has(member) {
		return m.fits.first(), Floor, false
	}
	return member, why, false
}

// least is the smallest member that the mode may run for a job that accepts
// those in fits.
func (g *Governor) least(fits set) int {
	if operating := g.Operating(); g.mode.kind == fixed && fits.has(operating) {
		return operating
	}
	return fits.first()
}

func (g *Governor) likely(m *moment, member int) bool {
	return m.head.worth[member] >= tooUnlikely*g.grid.points[member]
}

// Blind is how long nothing may be observed before the next job is served whatever
// its chance. Without it a governor that sheds would never learn that the load has
// gone.
const Blind = 100 * time.Millisecond

func (g *Governor) blind(now time.Duration) bool {
	return !g.observed || now-g.last > Blind
}

// byMode is the member that the mode wants for a job without a floor.
func (g *Governor) byMode(m *moment) (int, Reason) {
	switch operating := g.Operating(); {
	case g.mode.kind == fixed:
		if operating != g.fixed {
			return operating, Hold
		}
		return operating, Fixed
	case g.mode.modest():
		why := Fastest
		if g.mode.kind == powerSave {
			why = Cheapest
		}
		if g.likely(m, operating) {
			return operating, why
		}
		return m.among.first(), why
	case g.mode.kind == maxAccuracy:
		return g.accurate(m)
	default:
		return g.balance(m)
	}
}

// accurate is the best choice for the head if nobody else mattered.
func (g *Governor) accurate(m *moment) (int, Reason) {
	return best(m.among, &m.head.worth), Best
}

// balance is the choice up to the operating member that leaves the others in
// the queue their share of time.
func (g *Governor) balance(m *moment) (int, Reason) {
	operating := g.Operating()
	among := m.among.upTo(max(operating, m.among.first()))
	member := best(among, &m.head.score)
	if m.alone {
		member = operating
	}
	switch {
	case member >= best(m.among, &m.head.worth):
		return member, Best
	case best(m.among, &m.head.score) > member:
		return member, Hold
	default:
		return member, Queued
	}
}
