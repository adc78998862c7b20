package rollout

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/wire"
)

// Step does what is to be done now: it takes in how the fleet looks, judges the phase
// under way, and starts what may start. It tells whether there is something new to be
// stored; what it started is then among the Commands.
func (r *Record) Step(now time.Time, v View) (changed bool) {
	if r.Final() {
		return false
	}
	changed = r.look(now, v)
	if r.End == nil && r.Spec.Follow && v.Where != nil {
		changed = r.follow(now, v) || changed
	}
	for again := true; again && r.End == nil; changed = changed || again {
		again = r.judge(now, v)
		again = r.End == nil && r.startAll(now, v) || again
	}
	if r.End != nil {
		changed = r.wind(now, v) || changed
	}
	changed = r.forget() || changed
	return r.tell() || changed
}

// look takes in what is known of the devices, and what time it is.
func (r *Record) look(now time.Time, v View) (changed bool) {
	for p := range r.Phases {
		begun := r.begun(p)
		devices := r.of(p)
		for i := range devices {
			d := &devices[i]
			was := *d
			is := v.Picture.Device(d.Name)
			if m := machine(is); m != "" && m != d.Machine {
				r.replace(d, m, now, v)
			}
			r.see(d, is, begun, now)
			d.Stray = d.State == wire.DevicePending && v.Where != nil && !v.Where.Fits(is)
			changed = changed || *d != was
		}
	}
	return changed
}

// begun tells whether the turn of a phase has come.
func (r *Record) begun(p int) bool { return r.Phases[p].State != wire.PhasePending }

// maxMachines is how often another machine takes the rollout under one name. No name moves as
// often by hand: a device says another machine each time, or several have one name.
const maxMachines = 5

// replace has another machine take the rollout under the name of the one before, unless
// another rollout was started for the name since, or it was replaced too often.
func (r *Record) replace(d *device, machine string, now time.Time, v View) {
	if d.Changes > maxMachines {
		return
	}
	known := d.Machine != ""
	d.Machine = machine
	if !known || d.State == wire.DeviceSuperseded || d.State == wire.DeviceCancelled {
		return
	}
	v.Evidence.Forget(d.Name) // it was the other's
	*d = device{identity: identity{machine, d.Changes + 1}, Name: d.Name, State: wire.DevicePending, Attempt: d.Attempt,
		Since: now.UnixMilli()}
	if by := r.follower(d.Name, v.Others); by != "" {
		d.end(wire.DeviceSuperseded, "", "by "+by, now)
	} else if d.Changes > maxMachines {
		d.end(wire.DeviceFailed, wire.Conflict, fmt.Sprintf("it said %d times that it is another machine: several devices "+
			"may have its name", d.Changes), now)
	}
}

// follower is the rollout that was started after this one and changes the same of a
// device; "" if there is none.
func (r *Record) follower(name string, others []*Record) string {
	for _, o := range others {
		if _, has := o.place(name); has && r.before(o) {
			return o.ID
		}
	}
	return ""
}

// before tells whether another rollout was started after this one that changes the same
// of a device.
func (r *Record) before(o *Record) bool {
	return r.alike(o) && !o.only() && o.Start.After(r.Start.Time)
}

// see takes in how a device is, and lets it time out. One that has what it was commanded
// has done it, though its answer was lost, or comes when its time is over.
func (r *Record) see(d *device, is fleet.Device, begun bool, now time.Time) {
	d.Off = !is.Online()
	there := d.Sent > 0 && r.arrived(d, is)
	if u := r.ended(d, is); there && u != nil {
		r.compare(d, u.Shadow, true)
	}
	d.Heard = d.Heard || there || d.State == wire.DeviceRunning && updates(is) == r.Sent[d.Sent].ID
	if d.State == wire.DevicePending {
		switch {
		case !d.Off || !begun:
			d.Due = 0
		case d.Due == 0:
			d.Due = r.due(now)
		}
	}
	switch over := d.Due > 0 && d.open() && now.UnixMilli() >= d.Due; {
	case over && there && updates(is) == "":
		d.end(d.done(), "", "", now)
	case over:
		d.timeOut(now)
	case there && d.State == wire.DeviceTimedOut && !d.Off && updates(is) == "":
		d.end(d.done(), "", answerLost, now)
	}
}

// answerLost is of a device that has what it was commanded, and whose time was over.
const answerLost = "it was seen after its time that it is there"

// timeOut ends the device. Its command is not answered, and may still be.
func (d *device) timeOut(now time.Time) {
	command, back := d.Sent, d.Back
	d.end(wire.DeviceTimedOut, wire.Expired, d.late(), now)
	d.Sent, d.Back = command, back
}

// arrived tells whether the device has what it was commanded, as it says itself.
func (r *Record) arrived(d *device, is fleet.Device) bool {
	switch u := r.ended(d, is); {
	case !d.Back && r.only():
		return u != nil && u.State == wire.CommandSucceeded
	case !d.Back:
		return r.has(is)
	}
	return r.Before[d.Before-1].same(present(is, r.Spec.Kind()))
}

// ended is the update of the device's command as the device tells of it, once it has ended;
// nil if it does not.
func (r *Record) ended(d *device, is fleet.Device) *wire.LastUpdate {
	if is.Caps == nil || is.Caps.LastUpdate == nil || is.Caps.LastUpdate.ID != r.Sent[d.Sent].ID {
		return nil
	}
	return is.Caps.LastUpdate
}

// updates is the id of the update that the device is at; "" if it is at none.
func updates(is fleet.Device) string {
	if is.Caps == nil || is.Caps.Update == nil {
		return ""
	}
	return is.Caps.Update.ID
}

// done is the state of the device once it did what it was commanded.
func (d *device) done() string {
	if d.Back {
		return wire.DeviceRolledBack
	}
	return wire.DeviceSucceeded
}

// late is why a device timed out.
func (d *device) late() string {
	switch {
	case d.Back:
		return "it did not go back in time"
	case d.State == wire.DevicePending:
		return "it was offline"
	case d.Detail != "":
		return "it did not end in time, and was at " + d.Detail
	}
	return "it did not end in time"
}

// due is when what begins now must have ended. Rounded up to a 512th of that time, so
// that many devices have commands of the same bytes.
func (r *Record) due(now time.Time) int64 {
	whole := int64(*r.Spec.ForMS)
	grain := max(1, whole/512)
	return (now.UnixMilli() + whole + grain - 1) / grain * grain
}

// Known is until when a device may know a command of the rollout, which has none to give from
// now on. It knows one till that expires, and for an hour after its last word on it.
func (r *Record) Known(now time.Time) time.Time {
	return time.UnixMilli(r.due(now)).Add(2 * time.Hour) // one of these for clocks that differ
}

// end ends what the rollout does with the device.
func (d *device) end(state string, reason wire.Reason, detail string, now time.Time) {
	d.State, d.Reason, d.Detail, d.Since = state, reason, short(detail), now.UnixMilli()
	d.Due, d.Sent, d.Cancel, d.Back, d.Stray = 0, 0, 0, false, false
	if state != wire.DeviceSucceeded && state != wire.DeviceAlready {
		d.Base = tally{} // nothing is held against it any more
	}
}

// follow takes devices that fit by now into the last phase.
func (r *Record) follow(now time.Time, v View) (changed bool) {
	var late []device
	for _, d := range v.Picture.Devices() {
		if _, known := r.place(d.Name); known || !v.Where.Fits(d) {
			continue
		}
		if r.follower(d.Name, v.Others) != "" || slices.ContainsFunc(v.Others, r.heldBy(d.Name)) {
			continue
		}
		late = append(late, r.newDevice(d, now))
	}
	slices.SortFunc(late, func(a, b device) int { return cmp.Compare(rank(r.ID, a.Name), rank(r.ID, b.Name)) })
	late = late[:min(len(late), fleet.MaxDevices-len(r.Devices))]
	for _, d := range late {
		r.at[d.Name] = len(r.Devices)
		r.Devices = append(r.Devices, d)
	}
	r.Phases[len(r.Phases)-1].Size += len(late)
	return len(late) > 0
}

// heldBy tells of another rollout whether it has still to change the same of a device.
func (r *Record) heldBy(name string) func(*Record) bool {
	return func(o *Record) bool { return r.rivals(o) && o.holds(name) }
}

// startAll starts the devices that may start, and tells whether anything changed.
func (r *Record) startAll(now time.Time, v View) (changed bool) {
	if r.Paused {
		return r.hold("")
	}
	if p := &r.Phases[r.Phase]; p.State == wire.PhasePending && !r.unapproved() {
		p.State, changed = wire.PhaseRunning, true // those of its devices that are off begin to time out: see
	}
	held := ""
	s := r.starter(now, v)
	for p := range r.Phase + 1 {
		if !r.begun(p) {
			continue
		}
		why, took := r.takeBase(p, now, v)
		started := false
		if why == "" {
			why, started = s.startPhase(p)
		}
		held, changed = cmp.Or(why, held), changed || took || started
	}
	return r.hold(held) || changed
}

// unapproved tells whether the phase under way waits for Approve. The first does not, nor
// one of which nobody is to be started.
func (r *Record) unapproved() bool {
	p := r.Phases[r.Phase]
	return r.Spec.Approve && r.Phase > 0 && p.State == wire.PhasePending && !p.Approved &&
		slices.ContainsFunc(r.of(r.Phase), func(d device) bool { return d.open() })
}

// hold keeps why devices were not started, and tells whether that is new.
func (r *Record) hold(why string) (changed bool) {
	changed = r.Held != why
	r.Held = why
	return changed
}

// wind ends the rollout: it is final once no command is under way and, where they should,
// all have gone back.
func (r *Record) wind(now time.Time, v View) (changed bool) {
	s := r.starter(now, v)
	open := false
	for i := range r.Devices {
		d := &r.Devices[i]
		was := *d
		s.stop(d)
		open = open || d.open()
		changed = changed || *d != was
	}
	if !open {
		r.State, r.Why, r.Held = r.End.State, r.End.Why, ""
		return true
	}
	return changed
}

// stop ends what the rollout does with a device, as far as it can be, and has it go back
// if it should.
func (s *starter) stop(d *device) {
	switch {
	case d.State == wire.DevicePending:
		d.end(wire.DeviceCancelled, "", "", s.now)
	case d.State == wire.DeviceRunning && !d.Back && d.Cancel == 0 && updating(s.Spec):
		s.cancel(d)
	case d.State != wire.DeviceSucceeded || !s.End.Back:
	case s.taker(d.Name) != "":
		d.Back, d.Due, d.Detail = false, 0, "rollout "+s.taker(d.Name)+" took it since"
	case d.Before == 0:
		d.Detail = s.nothing()
	case !d.Back:
		d.Back, d.Due = true, s.due(s.now)
		s.stop(d)
	case !d.Off:
		s.start(d)
	}
}

// nothing says why a device cannot go back.
func (r *Record) nothing() string {
	if r.Spec.Release != nil {
		return "it ran the program of its package before, which is no release to go back to"
	}
	return "it had nothing to go back to"
}

// taker is the rollout that was started after this one and has changed the same of a
// device, so that there is nothing to go back from; "" if there is none.
func (s *starter) taker(name string) string {
	for _, o := range s.view.Others {
		if i, has := o.place(name); has && s.before(o) && o.Devices[i].took() {
			return o.ID
		}
	}
	return ""
}

// took tells whether the device has, and keeps, what the rollout led it to.
func (d *device) took() bool {
	return d.State == wire.DeviceSucceeded && !d.Back || d.State == wire.DeviceAlready
}

// tell says where the rollout stands, and tells whether that is new.
func (r *Record) tell() (changed bool) {
	state, why := r.State, r.Why
	if !r.Final() {
		r.State, r.Why = r.stands()
	}
	return r.State != state || r.Why != why
}

// stands is where a rollout that lives stands, and what it waits for.
func (r *Record) stands() (wire.RolloutState, string) {
	p := r.Phases[r.Phase]
	all := r.counts(r.Phase)
	switch {
	case r.End != nil:
		return wire.RolloutRunning, r.End.Why + "; commands are under way"
	case r.Paused:
		return wire.RolloutPaused, ""
	case r.unapproved():
		return wire.RolloutApproval, fmt.Sprintf("`limber fleet rollout approve %s` lets phase %d of %d begin", r.ID,
			r.Phase+1, len(r.Phases))
	case all.Running > 0 || all.Pending > 0 && r.Held == "":
		return wire.RolloutRunning, ""
	case all.Pending > 0:
		return wire.RolloutWaiting, r.Held
	case p.State == wire.PhasePassed:
		return wire.RolloutWaiting, "devices are offline"
	case r.turnout(r.Phase).online == 0:
		return wire.RolloutWaiting, fmt.Sprintf("no device of phase %d is online", r.Phase+1)
	}
	for _, g := range p.Gates {
		if g.Verdict == wire.GateWait {
			return wire.RolloutWaiting, wanting(g, r.needs(g.Name))
		}
	}
	if !p.Settled.IsZero() {
		return wire.RolloutWaiting, "phase " + fmt.Sprint(r.Phase+1) + " is observed until " + p.Settled.Add(r.soak()).
			UTC().Format(time.RFC3339)
	}
	return wire.RolloutRunning, ""
}

// wanting is what a gate waits for, in words.
func wanting(g wire.RolloutGate, needs int) string {
	switch {
	case g.Name == wire.GateSuccess:
		return "success: no device has ended"
	case g.Frames >= uint64(needs):
		return g.Name + ": the baseline is not known"
	}
	return fmt.Sprintf("%s: %d of %d frames are known", g.Name, g.Frames, needs)
}

func (r *Record) soak() time.Duration {
	return time.Duration(*r.Spec.SoakMS * float64(time.Millisecond))
}

// shown is the state of a device as others see it.
func (d *device) shown(begun bool) string {
	if d.Off && (d.State == wire.DeviceRunning || d.State == wire.DevicePending && begun) {
		return wire.DeviceOffline
	}
	return d.State
}

// counts are the devices of a phase by their states.
func (r *Record) counts(p int) (c wire.RolloutCounts) {
	begun := r.begun(p)
	devices := r.of(p)
	for i := range devices {
		switch devices[i].shown(begun) {
		case wire.DevicePending:
			c.Pending++
		case wire.DeviceOffline:
			c.Offline++
		case wire.DeviceRunning:
			c.Running++
		case wire.DeviceSucceeded:
			c.Succeeded++
		case wire.DeviceFailed:
			c.Failed++
		case wire.DeviceTimedOut:
			c.TimedOut++
		case wire.DeviceAlready:
			c.Already++
		case wire.DeviceSuperseded:
			c.Superseded++
		case wire.DeviceCancelled:
			c.Cancelled++
		case wire.DeviceRolledBack:
			c.RolledBack++
		}
	}
	return c
}
