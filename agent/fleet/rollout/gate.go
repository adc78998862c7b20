package rollout

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/limber-edge/limber/agent/wire"
)

// lookEvery is how often the figures of gates are written down that change no verdict.
const lookEvery = 10 * time.Second

// judge judges the phase under way, and what came late to those before, and tells
// whether anything changed.
func (r *Record) judge(now time.Time, v View) (changed bool) {
	for p := range r.Phase + 1 {
		if r.failedLate(p) {
			r.fail(p, fmt.Sprintf("phase %d: success: devices that came late failed", p+1))
			return true
		}
	}
	switch r.Phases[r.Phase].State {
	case wire.PhaseRunning:
		return r.judgePhase(r.Phase, now, v)
	case wire.PhasePassed: // the last
		r.finish()
	}
	return false
}

// judgePhase judges a phase that is running. It passes when nothing of it is under way
// and all gates pass, and it was observed as long as it should.
func (r *Record) judgePhase(at int, now time.Time, v View) (changed bool) {
	p := &r.Phases[at]
	t := r.turnout(at)
	gates := make([]wire.RolloutGate, len(r.Spec.Gates))
	for i, g := range r.Spec.Gates {
		gates[i] = r.gate(g, at, t, now, v)
	}
	changed = r.write(p, gates, now)
	if i := slices.IndexFunc(gates, verdict(wire.GateFail)); i >= 0 {
		r.fail(at, broken(at, gates[i]))
		return true
	}
	settled := t.open == 0 && t.succeeded > 0
	switch {
	case settled && p.Settled.IsZero():
		p.Settled, changed = wire.At(now), true
	case t.succeeded == 0 && !p.Settled.IsZero(): // other machines are there now
		p.Settled, changed = wire.Time{}, true
	}
	switch {
	case t.open == 0 && t.ended == 0 && (t.off == 0 || t.online > 0): // there is nothing to be judged
	case t.open == 0 && t.ended > 0 && t.succeeded == 0 && t.off == 0:
		r.fail(at, fmt.Sprintf("phase %d: none of its devices succeeded", at+1))
		return true
	case !settled || t.online == 0, slices.ContainsFunc(gates, verdict(wire.GateWait)), now.Before(p.Settled.Add(r.soak())):
		return changed
	}
	r.pass(at, now)
	return true
}

// verdict tells of a gate whether that is its verdict.
func verdict(is string) func(wire.RolloutGate) bool {
	return func(g wire.RolloutGate) bool { return g.Verdict == is }
}

// pass goes on to the next phase, if there is one.
func (r *Record) pass(at int, now time.Time) {
	p := &r.Phases[at]
	p.State, p.Passed = wire.PhasePassed, wire.At(now)
	if at+1 < len(r.Phases) {
		r.Phase = at + 1
		return
	}
	r.finish()
}

// finish ends the rollout once all phases passed and nobody is to come any more.
func (r *Record) finish() {
	superseded, commanded := 0, 0
	for i := range r.Devices {
		d := &r.Devices[i]
		switch {
		case d.open():
			return
		case d.State == wire.DeviceSuperseded:
			superseded++
		case d.State != wire.DeviceAlready:
			commanded++
		}
	}
	r.End = &ending{State: wire.RolloutDone}
	if superseded > 0 && commanded == 0 {
		r.End = &ending{State: wire.RolloutAborted, Why: "another rollout took its place"}
	}
}

// fail ends the rollout, as a phase did not keep a gate.
func (r *Record) fail(at int, why string) {
	r.Phases[at].State = wire.PhaseFailed
	r.End = &ending{State: wire.RolloutFailed, Why: why, Back: r.Spec.Rollback}
}

// broken is how a gate was broken, in words: with as many digits as tell the figure from the
// limit.
func broken(at int, g wire.RolloutGate) string {
	return fmt.Sprintf("phase %d: %s is %.6g, the limit %.6g", at+1, g.Name, *g.Value, g.Limit)
}

// write writes down how the gates of a phase stand, and tells whether it did: their
// figures change with every telemetry, and need not be stored as often.
func (r *Record) write(p *phase, gates []wire.RolloutGate, now time.Time) bool {
	same := slices.EqualFunc(p.Gates, gates, func(a, b wire.RolloutGate) bool { return a.Verdict == b.Verdict })
	if same && (now.Sub(r.Looked.Time) < lookEvery || slices.EqualFunc(p.Gates, gates, sameGate)) {
		return false
	}
	p.Gates, r.Looked = gates, wire.At(now)
	return true
}

func sameGate(a, b wire.RolloutGate) bool {
	known := a.Value != nil && b.Value != nil
	if known && *a.Value != *b.Value || !known && a.Value != b.Value {
		return false
	}
	a.Value, b.Value = nil, nil
	return a == b
}

// turnout is what became of the devices of a phase.
type turnout struct {
	succeeded int
	ended     int // that tell something of the rollout: succeeded, failed, timed out
	open      int // that are there, and are to be started or under way
	waiting   int // of these, that are to be started
	off       int // that are not there, likewise
	online    int // that are there, of all that the rollout has not given up
}

func (r *Record) turnout(p int) (t turnout) {
	devices := r.of(p)
	for i := range devices {
		d := &devices[i]
		if !d.Off && d.State != wire.DeviceSuperseded && d.State != wire.DeviceCancelled {
			t.online++
		}
		switch d.State {
		case wire.DeviceSucceeded:
			t.succeeded++
			t.ended++
		case wire.DeviceFailed, wire.DeviceTimedOut:
			t.ended++
		case wire.DevicePending, wire.DeviceRunning:
			if d.Off {
				t.off++
			} else {
				t.open++
			}
			if d.State == wire.DevicePending && !d.Off {
				t.waiting++
			}
		}
	}
	return t
}

// failedLate tells whether a phase that passed does not keep its gate of success any
// more, by devices that were started later. Those that never came change nothing.
func (r *Record) failedLate(p int) bool {
	g := slices.IndexFunc(r.Spec.Gates, func(g wire.Gate) bool { return g.Name == wire.GateSuccess })
	ph := r.Phases[p]
	if g < 0 || ph.State != wire.PhasePassed {
		return false
	}
	failed := false
	t := r.turnout(p)
	devices := r.of(p)
	for i := range devices {
		d := &devices[i]
		late := d.Since >= ph.Passed.UnixMilli()
		switch {
		case d.State == wire.DeviceTimedOut && late && !d.Heard:
			t.ended--
		case d.State == wire.DeviceTimedOut && late, d.State == wire.DeviceFailed && late:
			failed = true
		}
	}
	return failed && r.success(r.Spec.Gates[g], t).Verdict == wire.GateFail
}

// gate judges a gate of a phase.
func (r *Record) gate(g wire.Gate, p int, t turnout, now time.Time, v View) wire.RolloutGate {
	switch g.Name {
	case wire.GateAgreement:
		return r.agreement(g, p, t)
	case wire.GateSuccess:
		return r.success(g, t)
	}
	return r.figure(g, p, now, v)
}

// success judges by the devices that ended. It fails as soon as it could not pass any
// more if all that are under way succeeded.
func (r *Record) success(g wire.Gate, t turnout) wire.RolloutGate {
	l, _ := parseLimit(g) // the spec is complete
	is := wire.RolloutGate{Name: g.Name, Limit: l.figure, LimitBy: g.Limit, Verdict: wire.GateWait}
	if t.ended == 0 {
		return is
	}
	share := float64(t.succeeded) / float64(t.ended)
	is.Value = &share
	switch {
	case float64(t.succeeded+t.open)/float64(t.ended+t.open) < l.figure:
		is.Verdict = wire.GateFail
	case t.open == 0:
		is.Verdict = wire.GatePass
	}
	return is
}

// figure judges by what the devices of a phase that succeeded answered since, in the
// last hour. A limit in figures holds for the mean of that, by frames. One with "x" holds
// for the devices whose own hour before is known, and is that many times the baseline:
// the mean of their hours before, by their frames since. It is held against the mean less
// what changed meanwhile on the devices that the rollout has not touched and whose
// hour before the phase is known: of misses the difference is taken off, a p95 is divided
// by the ratio, both means by their frames since. Where these answered fewer frames than a
// gate needs, nothing is taken off.
func (r *Record) figure(g wire.Gate, p int, now time.Time, v View) wire.RolloutGate {
	l, _ := parseLimit(g) // the spec is complete
	is := wire.RolloutGate{Name: g.Name, Limit: l.figure, LimitBy: g.Limit, Verdict: wire.GateWait}
	var m means
	devices := r.of(p)
	for i := range devices {
		if d := &devices[i]; d.State == wire.DeviceSucceeded {
			since := time.UnixMilli(max(d.Since, r.Phases[p].Retried.UnixMilli()))
			m.add(g.Name, l.relative, d.Base, v.Evidence.of(d.Name, since, now))
		}
	}
	is.Frames = m.frames
	if l.relative {
		is.Limit = 0
	}
	if m.frames == 0 {
		return is
	}
	value, before := m.after/float64(m.frames), m.before/float64(m.frames)
	if l.relative {
		value = r.lessDrift(value, g.Name, r.Phases[p].Base.Time, now, v)
		is.Limit = l.figure * before
		if g.Name == wire.GateMisses {
			is.Limit = max(is.Limit, missFloor)
		}
	}
	is.Value, is.Limit = new(digits(value)), digits(is.Limit)
	switch {
	case m.frames < uint64(r.Spec.Observe) || l.relative && m.framesBefore < uint64(r.Spec.Observe):
	case *is.Value <= is.Limit:
		is.Verdict = wire.GatePass
	default:
		is.Verdict = wire.GateFail
	}
	return is
}

// digits is a figure to six places, as it is written down.
func digits(v float64) float64 { return math.Round(v*1e6) / 1e6 }

// means are the sums that two means are of, both by the frames since.
type means struct {
	after, before float64
	frames        uint64 // since
	framesBefore  uint64
}

// add takes in a device; a baseline that is needed and not known leaves it out.
func (m *means) add(gate string, relative bool, base, since tally) {
	after, frames := since.value(gate)
	before, known := base.value(gate)
	if frames == 0 || relative && known == 0 {
		return
	}
	m.after += after * float64(frames)
	m.before += before * float64(frames)
	m.frames += frames
	m.framesBefore += known
}

// lessDrift is a value less what changed on the untouched devices since.
func (r *Record) lessDrift(value float64, gate string, since, now time.Time, v View) float64 {
	var m means
	for i := range r.Devices {
		if d := &r.Devices[i]; d.untouched() {
			m.add(gate, true, d.Base, v.Evidence.of(d.Name, since, now))
		}
	}
	if m.frames < uint64(r.Spec.Observe) || m.framesBefore < uint64(r.Spec.Observe) {
		return value
	}
	if gate == wire.GateMisses {
		return max(0, value-(m.after-m.before)/float64(m.frames))
	}
	if m.after <= 0 || m.before <= 0 {
		return value
	}
	return value * m.before / m.after
}

// untouched tells whether the rollout has changed nothing on the device.
func (d *device) untouched() bool {
	return d.Attempt == 0 && (d.State == wire.DevicePending || d.State == wire.DeviceAlready)
}

// lacksBase names a gate for which the baselines of a phase are of fewer frames than it
// needs: those that its devices had when they were taken, or now where they are fresh; ""
// if there is none. Devices that are not there do not count.
func (r *Record) lacksBase(at int, fresh bool, now time.Time, v View) (gate string) {
	var known tally
	devices := r.of(at)
	for i := range devices {
		switch d := &devices[i]; {
		case d.State == wire.DevicePending && d.Off:
		case d.State == wire.DevicePending && fresh:
			known.add(v.Evidence.of(d.Name, now.Add(-hour), now))
		case d.open() || d.State == wire.DeviceSucceeded:
			known.add(d.Base)
		}
	}
	for _, g := range r.Spec.Gates {
		l, _ := parseLimit(g) // the spec is complete
		if _, frames := known.value(g.Name); l.relative && frames < uint64(r.Spec.Observe) {
			return g.Name
		}
	}
	return ""
}

// takeBase takes the baselines of all that are still untouched, where a phase has devices
// to start and lacks theirs. It says what it waits for, and whether it took them.
func (r *Record) takeBase(at int, now time.Time, v View) (why string, took bool) {
	p := &r.Phases[at]
	switch {
	case r.turnout(at).waiting == 0, p.State == wire.PhasePassed, !p.Base.IsZero() && r.lacksBase(at, false, now, v) == "":
		return "", false
	}
	if gate := r.lacksBase(at, true, now, v); gate != "" {
		return fmt.Sprintf("phase %d has no baseline of %s: its devices answered fewer than %d frames in the hour before; "+
			"a limit without x needs none", at+1, gate, r.Spec.Observe), false
	}
	p.Base = wire.At(now)
	for i := range r.Devices {
		if d := &r.Devices[i]; d.untouched() || d.State == wire.DevicePending {
			d.Base = v.Evidence.of(d.Name, now.Add(-hour), now)
			v.Evidence.of(d.Name, now, now) // what comes next is not mixed with it
		}
	}
	return "", true
}
