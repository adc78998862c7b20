package governor

import "time"

const (
	dwell        = 500 * time.Millisecond  // after a move, before a move up
	longestDwell = 1500 * time.Millisecond // what it grows to when moves up do not last
	lasting      = 4                       // dwells that a move up must stand to have been right
	upMargin     = 0.25                    // of the top-1 to be won, if that is less than margin
)

// standing is the operating member and what limits its moves up. Moves down
// and moves that the user asked for are free. A move up that is taken back
// before it has lasted doubles the dwell after the move down, so that a load
// that comes and goes finds the member waiting, not flapping; one that lasts
// brings the short dwell back.
type standing struct {
	member int           // -1 when the next decision chooses afresh
	told   int           // the member that the last decision named, -1 before the first
	rest   time.Duration // no move up before
	dwell  time.Duration // after the next move down
	proven time.Duration // when the last move up will have lasted; 0 when it has, or was taken back
}

func newStanding() standing { return standing{member: -1, told: -1, dwell: dwell} }

// vacate lets the next decision choose without regard to the present member.
func (s *standing) vacate() { s.member = -1 }

// move makes member the operating one, unless that is a move up which comes
// too soon.
func (s *standing) move(now time.Duration, member int) {
	if s.proven > 0 && now >= s.proven {
		s.dwell, s.proven = dwell, 0
	}
	switch {
	case member == s.member:
	case s.member < 0:
		s.member = member
	case member < s.member:
		s.fall(now)
		s.member = member
	case now >= s.rest:
		s.member, s.rest, s.proven = member, now+dwell, now+lasting*s.dwell
	}
}

// fall notes a move down.
func (s *standing) fall(now time.Duration) {
	if s.proven > 0 {
		s.dwell, s.proven = min(2*s.dwell, longestDwell), 0
	}
	s.rest = now + s.dwell
}

// report names the operating member to the outside and tells how that differs
// from the last report. The first one is not a change.
func (s *standing) report(operating int) (previous int, switched bool) {
	previous = s.told
	if previous < 0 {
		previous = operating
	}
	s.told = operating
	return previous, previous != operating
}

// stand revises the operating member.
func (g *Governor) stand(m *moment) {
	s := &g.standing
	if s.member >= 0 && !g.eligible.has(s.member) {
		s.vacate()
	}
	switch g.mode.goal {
	case fixed:
		s.member = g.nearest(g.fixed)
	case lowLatency:
		s.member = g.fastEnough()
	default:
		if g.usual.known() {
			s.move(m.now, g.improve(m))
		}
	}
}

// improve is the member that should operate. Up it takes a margin that fits
// the family: members may lie closer together than the margin of Pick.
func (g *Governor) improve(m *moment) int {
	current := g.standing.member
	if m.usual.hopeless(g.eligible) {
		return g.eligible.first()
	}
	b, lead := m.usual.challenger(g.eligible, current)
	need := margin
	if current >= 0 && b > current {
		need = min(margin, upMargin*(g.grid.points[b]-g.grid.points[current]))
	}
	if lead > need {
		return b
	}
	return current
}

// nearest is the eligible member closest to j from below, else from above.
func (g *Governor) nearest(j int) int {
	if below := g.eligible.upTo(j); below != 0 {
		return below.last()
	}
	return g.eligible.first()
}

// fastEnough is the fastest eligible member within two points of the best.
func (g *Governor) fastEnough() int {
	const points = 0.02 + 1e-9 // two points exactly are within
	return g.atLeast(g.members[g.eligible.last()].Top1 - points).first()
}
