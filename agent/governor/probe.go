package governor

import "time"

const (
	probeJobs = 50                     // jobs that found the device free between probes: at worst 2 % of them are late for it
	probeSoon = 2                      // the same after several probes that found it quiet
	probeWait = 250 * time.Millisecond // between probes, doubled by each that was late
	probeRest = 2 * time.Second        // at most
	quiet     = 1.25                   // times its profile: a probe that took less met no load
	fitting   = 1.25                   // times its profile: what must fit for a probe to make sense
)

// probe tries the member above the operating one on a single job that found
// the device free. A longer run tells loaded from unloaded where a short one,
// which escapes preemption, cannot. Probes that were late become rare, probes
// that found the device quiet become frequent until the belief has turned.
type probe struct {
	member int           // being tried, -1 for none
	slack  time.Duration // of the job it is tried on
	quiet  time.Duration // a latency up to this met no load
	every  int           // jobs from one probe to the next
	jobs   int           // since the last probe
	wait   time.Duration // from a probe that was late to the next
	next   time.Duration // none before
}

func newProbe() probe { return probe{member: -1, every: probeJobs, wait: probeWait} }

// forget drops a probe whose inference was never observed.
func (p *probe) forget() { p.member = -1 }

// judge learns from the inference of a probe.
func (p *probe) judge(member int, latency time.Duration) {
	if p.member != member {
		return
	}
	p.member = -1
	if latency <= min(p.quiet, p.slack) {
		p.every = max(probeSoon, p.every/2)
		p.wait, p.next = probeWait, 0
		return
	}
	p.every = probeJobs
	if latency > p.slack {
		p.wait = min(2*p.wait, probeRest)
	}
}

// tryAbove starts a probe of the member above another one if it is due: the
// head found the device free, the operating member has rested, and an unloaded
// device would be in time.
func (g *Governor) tryAbove(m *moment, below int) (int, bool) {
	p := &g.probe
	larger := m.fits & g.eligible.above(below)
	if larger == 0 || !m.alone {
		return 0, false
	}
	p.jobs++
	if p.jobs < p.every || m.now < max(p.next, g.standing.rest) {
		return 0, false
	}
	member := larger.first()
	if fitting*g.grid.profile[member] > min(milliseconds(m.slack), m.room) {
		return 0, false
	}
	p.member, p.slack = member, m.slack
	p.quiet = time.Duration(quiet * g.grid.profile[member] * float64(time.Millisecond))
	p.jobs, p.next = 0, m.now+p.wait
	return member, true
}
