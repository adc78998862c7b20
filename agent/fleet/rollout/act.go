package rollout

import (
	"time"

	"github.com/limber-edge/limber/agent/wire"
)

// Act does what is asked of the rollout. What is so already is no error. Its error is a
// *wire.Refusal and says why it cannot be done now; then nothing changed.
func (r *Record) Act(c wire.RolloutCommand, v View, now time.Time) error {
	defer r.tell()
	switch {
	case c.Action == wire.RolloutRetry:
		return r.retry(v, now)
	case r.State == wire.RolloutAborted:
		return wire.Refuse(wire.Precondition, "rollout %s is aborted: start another", r.ID)
	case r.Final():
		return wire.Refuse(wire.Precondition, "rollout %s is %s: nothing can be asked of it but retry", r.ID, r.State)
	case c.Action == wire.RolloutAbort:
		r.abort(c.Rollback)
		return nil
	case r.End != nil:
		return wire.Refuse(wire.Precondition, "rollout %s is about to end: %s", r.ID, r.End.Why)
	case c.Action == wire.RolloutPause, c.Action == wire.RolloutResume:
		r.Paused = c.Action == wire.RolloutPause
		return nil
	case c.Action == wire.RolloutApprove:
		return r.approve()
	}
	return wire.Refuse(wire.Invalid, "action: %.80q is not one for a rollout that was started", c.Action)
}

// abort ends the rollout. One that is about to end otherwise keeps that, but may be told
// to have those done go back, if there is anything to go back from.
func (r *Record) abort(back bool) {
	if r.End == nil {
		r.End = &ending{State: wire.RolloutAborted, Why: "an operator ended it"}
	}
	r.End.Back = r.End.Back || back && !r.only()
}

// approve lets the next phase begin. The first needs none: who starts a rollout means it.
func (r *Record) approve() error {
	p := &r.Phases[r.Phase]
	if !r.Spec.Approve || r.Phase == 0 || p.State != wire.PhasePending {
		return wire.Refuse(wire.Precondition, "rollout %s has no phase that waits for approval", r.ID)
	}
	p.Approved = true
	return nil
}

// retry has the devices on which the rollout failed take it once more. One that failed
// goes on at the first phase that it is not through with: those that went back or were
// left out take part again.
func (r *Record) retry(v View, now time.Time) error {
	if r.State == wire.RolloutAborted || !r.Final() && r.End != nil {
		return wire.Refuse(wire.Precondition, "rollout %s was ended: start another", r.ID)
	}
	var again []int
	for i := range r.Devices {
		switch r.Devices[i].State {
		case wire.DeviceFailed, wire.DeviceTimedOut, wire.DeviceRolledBack, wire.DeviceCancelled:
			again = append(again, i)
		}
	}
	if len(again) == 0 {
		return wire.Refuse(wire.Precondition, "rollout %s failed on no device", r.ID)
	}
	for _, o := range v.Others {
		for _, i := range again {
			if name := r.Devices[i].Name; r.heldBy(name)(o) {
				return wire.Refuse(wire.Conflict, "rollout %s is under way on %s: wait for it, or abort it", o.ID, name)
			}
		}
	}
	if r.State == wire.RolloutFailed {
		r.reopen(now)
	}
	r.State, r.End = wire.RolloutRunning, nil
	if p := &r.Phases[r.Phase]; p.State == wire.PhaseRunning {
		p.Settled = wire.Time{}
	}
	for _, i := range again {
		d := &r.Devices[i]
		*d = device{identity: identity{Machine: d.Machine}, Name: d.Name, State: wire.DevicePending, Off: d.Off,
			Attempt: d.Attempt, Before: d.Before, figures: figures{Base: d.Base}, Since: now.UnixMilli()}
	}
	return nil
}

// reopen goes back to the first phase that did not pass, or of which devices went back. It
// is judged anew, by what comes now.
func (r *Record) reopen(now time.Time) {
	first := len(r.Phases)
	for p := range r.Phases {
		if c := r.counts(p); r.Phases[p].State != wire.PhasePassed || c.RolledBack+c.Cancelled > 0 {
			first = min(first, p)
		}
		if p >= first {
			r.Phases[p] = phase{Size: r.Phases[p].Size, State: wire.PhasePending, Approved: p == first, Retried: wire.At(now)}
		}
	}
	r.Phase = min(first, len(r.Phases)-1)
}
