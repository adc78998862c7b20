package governor

import (
	"math"
	"time"
)

const (
	downMargin = 0.25                  // points by which a smaller member must be better
	upMargin   = 0.5                   // points by which a larger one must
	upShare    = 0.6                   // of the top-1 to be won, if that is less than upMargin
	dwell      = 50 * time.Millisecond // after a move, before a move up

	upBudget = 8.0         // moves up that may be made in a row
	upRefill = 1.0 / 20.   // moves up earned by an inference
	upPace   = time.Second // in which no more than one is earned
)

// standing is the operating member and what limits its moves up: a short dwell
// after each move, and a budget that inferences refill, so that a load that
// comes and goes faster than it can be followed finds the member waiting, not
// flapping. Moves down and moves that the user asked for are free. It is in
// snapshots.
type standing struct {
	Member int           // -1 when the next decision chooses afresh
	Told   int           // the member that the last decision named, -1 before the first
	Rest   time.Duration // no move up before
	Earned time.Duration // when the budget was refilled last
	Budget float64       // moves up
}

func newStanding() standing { return standing{Member: -1, Told: -1, Budget: upBudget} }

// vacate lets the next decision choose without regard to the present member.
func (s *standing) vacate() { s.Member = -1 }

// earn counts an inference towards the next move up.
func (s *standing) earn(now time.Duration) {
	most := float64(max(0, now-s.Earned)) / float64(upPace)
	s.Budget, s.Earned = min(s.Budget+min(upRefill, most), upBudget), now
}

// move makes member the operating one, unless that is a move up which comes
// too soon or too often.
func (s *standing) move(now time.Duration, member int) {
	switch {
	case member == s.Member:
	case s.Member < 0:
		s.Member = member
	case member < s.Member:
		s.Member, s.Rest = member, now+dwell
	case now >= s.Rest && s.Budget >= 1:
		s.Member, s.Rest = member, now+dwell
		s.Budget--
	}
}

// report names the operating member to the outside and tells how that differs
// from the last report. The first one is not a change.
func (s *standing) report(operating int) (previous int, switched bool) {
	previous = s.Told
	if previous < 0 {
		previous = operating
	}
	s.Told = operating
	return previous, previous != operating
}

func (g *Governor) stand(m *moment) {
	s := &g.standing
	if s.Member >= 0 && !g.eligible.has(s.Member) {
		s.vacate()
	}
	switch {
	case g.mode.kind == fixed:
		s.Member = g.nearest(g.fixed)
	case g.mode.modest():
		s.Member = g.smallestGood(m.allowed)
	default:
		if g.usual.known() {
			s.move(m.now, g.improve(m))
		}
	}
}

// improve is the member that should operate. Up it takes a margin that fits
// the family, whose members may lie closer together.
func (g *Governor) improve(m *moment) int {
	current := g.standing.Member
	if m.usual.hopeless(m.allowed) {
		return m.allowed.first()
	}
	if current >= 0 && !m.allowed.has(current) {
		return best(m.allowed, &m.usual.score)
	}
	b, lead := m.usual.challenger(m.allowed, current)
	need := downMargin
	if current >= 0 && b > current {
		need = min(upMargin, upShare*(g.grid.points[b]-g.grid.points[current]))
	}
	if lead > need {
		return b
	}
	return current
}

// nearest is the eligible member closest to j from below, else from above.
func (g *View) nearest(j int) int {
	if below := g.eligible.upTo(j); below != 0 {
		return below.last()
	}
	return g.eligible.first()
}

// smallestGood is the fastest affordable member with the top-1 that the mode asks
// for, which is also the one that takes the least energy; the most accurate one
// if none has it.
func (g *View) smallestGood(within set) int {
	if good := g.atLeast(g.mode.floor(g.members[g.eligible.last()].Top1)) & within; good != 0 {
		return good.first()
	}
	return within.last()
}

// usualMemory is the time constant with which the usual slack shrinks.
const usualMemory = 5 * time.Second

// usual is the slack of a job that finds the device free: the deadline less
// what decoding takes. It grows at once and shrinks slowly, so that neither a
// queue nor a few hurried jobs move the operating member.
type usual struct {
	slack time.Duration // 0 before the first job that had any
	at    time.Duration
}

func (u *usual) known() bool { return u.slack > 0 }

func (u *usual) meet(now, slack time.Duration) {
	if slack <= 0 {
		return
	}
	gone := 1 - math.Exp(-float64(max(0, now-u.at))/float64(usualMemory))
	u.at = now
	u.slack = max(slack, u.slack-time.Duration(gone*float64(u.slack-slack)))
}

// like reports that slack is the usual one, give or take a tenth.
func (u *usual) like(slack time.Duration) bool { return slack >= u.slack/10*9 }
