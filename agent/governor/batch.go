package governor

import (
	"fmt"
	"time"
)

// Batch is how many images a member takes at once, where it takes more than one.
// On the CPU this was measured on, the images of the stock members take 0.75 to
// 0.92 of the time then, those of small members the least, and by eight at once
// hardly less: more would only make the first of them wait.
const Batch = 4

const (
	worthwhile = 0.95 // of what its images take one at a time: a batch that takes more is none
	inTurn     = 2.0  // batches that must fit into a deadline, as who just missed one waits for it

	tie       = 0.1 // points: less is no difference
	longQueue = 8   // jobs that wait: from here on the time saved is reason enough
)

// SetBatch tells what member takes for Batch images at once, unloaded; 0 if it
// cannot take them. Without it, or where that gains nothing, its images run one
// at a time. The error names a member that does not exist, or a latency that is
// negative.
func (g *Governor) SetBatch(member int, latency time.Duration) error {
	if member < 0 || member >= len(g.members) || latency < 0 {
		return fmt.Errorf("a batch of %v by member %d of %d: wants one that exists, and a latency", latency, member,
			len(g.members))
	}
	g.grid.setBatch(member, milliseconds(latency)*g.scale)
	return nil
}

// setBatch takes the profile of a member's batches, in milliseconds.
func (g *Grid) setBatch(member int, profile float64) {
	g.batch[member] = timing{}
	if profile > 0 && profile <= worthwhile*Batch*g.single[member].profile {
		g.batch[member] = timing{profile: profile, table: g.tables.of(profile)}
		g.adjust(member)
	}
}

// each is how long an image takes member if there are always enough for a
// batch, but not so long that it would miss a deadline for waiting: the timing,
// and the number of images it is of.
func (g *Grid) each(member int, deadline float64) (t *timing, images float64) {
	if t := &g.batch[member]; t.table != nil && inTurn*t.alone <= deadline {
		return t, Batch
	}
	return &g.single[member], 1
}

// pool scores members that take batches by what an image takes in one, where the
// time that each may take is room.
func (o *outlook) pool(g *Grid, room float64) {
	for j := range g.batch {
		if t, images := g.each(j, o.ms); images > 1 {
			o.score[j] = o.worth[j] - penalty(t.alone*o.belief.dot(&t.table.mean)/images, room)
		}
	}
}

// gather makes a batch of the job that was decided on and those that are ready
// to go with it, where that is better for all of them: each counts as if it had
// the first one's deadline, which is the tightest, but takes its part of the
// time only. In mode balanced a larger member may be worth it then. Where it makes
// no difference, a batch saves time, but lets the first one wait: a long queue
// decides for it, a short one against it.
func (g *Governor) gather(m *moment, d *Decision) {
	among := set(1 << d.Member)
	switch {
	case d.Reason == Probe || d.Reason == Infeasible: // only one job is served whatever its chance
		return
	case g.mode.kind == balanced:
		among |= m.among.upTo(g.Operating()).above(d.Member) & m.fits
	case d.Reason == Floor: // the mode has another member for the others
		return
	}
	best := m.head.worth[d.Member] - penalty(m.head.mean[d.Member], m.share) + tie
	if m.waiting >= longQueue {
		best -= 2 * tie
	}
	for ; among != 0; among = among.above(among.first()) {
		j := among.first()
		t := &g.grid.batch[j]
		if t.table == nil {
			continue
		}
		chance, mean := m.head.run(g.grid, t)
		if chance < tooUnlikely {
			continue
		}
		if score := g.grid.points[j]*chance - penalty(mean/Batch, m.share); score > best {
			best = score
			d.Member, d.Batch, d.Reason = j, Batch, Together
			d.Chance, d.Predicted = min(1, chance), time.Duration(mean*float64(time.Millisecond))
		}
	}
}
