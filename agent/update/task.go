package update

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/limber-edge/limber/agent/control"
	"github.com/limber-edge/limber/agent/engine"
	"github.com/limber-edge/limber/agent/lock"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/store"
)

// task is a command that is carried out.
type task struct {
	*Updater
	record
	update wire.Update
	digest family.Digest
	course *control.Course
	before *family.Family // that it goes back to
	took   bool           // the new one has taken over, in this run or in an earlier one
	done   int64          // bytes that came
}

// run carries the command out, or on, and returns what is to be remembered of its end.
func (t *task) run(ctx context.Context, course *control.Course) (control.Outcome, error) {
	t.course = course
	n, err := t.deps.Library.Names()
	if err != nil {
		return control.Outcome{}, err
	}
	inUse := n.Current.Digest() == t.digest
	if inUse && n.Before == nil {
		return t.succeed("family " + n.Current.Name + " is in use already"), nil
	}
	if t.before = n.Current; inUse {
		t.before, t.took = n.Before, true
		t.course.Begin()
	}
	detail, err := t.carryOut(ctx)
	switch {
	case err == nil:
		return t.succeed(detail), nil
	case stopped(ctx):
		return control.Outcome{}, err
	}
	return t.fail(ctx, t.because(ctx, err))
}

// carryOut takes the family all the way that the command asks for.
func (t *task) carryOut(ctx context.Context) (detail string, err error) {
	if t.only() {
		return "compared only: family " + t.before.Name + " stays", t.compareOnly(ctx)
	}
	if !t.took {
		err = t.takeOver(ctx)
	}
	if err == nil {
		err = t.prove(ctx)
	}
	if err == nil {
		err = t.commit()
	}
	return "", err
}

// takeOver brings the family and has it take over, when it may.
func (t *task) takeOver(ctx context.Context) error {
	f, err := t.fetch(ctx)
	if err != nil {
		return err
	}
	if err := t.compare(ctx, f); err != nil {
		return err
	}
	release, err := t.await(ctx)
	if err != nil {
		return err
	}
	defer release()
	if !t.course.Begin() {
		return control.ErrCancelled
	}
	return t.activate(ctx, f)
}

// await waits for the window, and for the lock, which it returns with. A command with
// force waits for neither.
func (t *task) await(ctx context.Context) (release func(), err error) {
	if t.update.Force {
		return func() {}, nil
	}
	return lock.Await(ctx, t.cfg.Folder, t.cfg.Window, t.deps.Clock, t.wait)
}

// wait tells what the family waits for.
func (t *task) wait(why string) error {
	if t.Phase != wire.UpdateLocked {
		if err := t.enter(wire.UpdateLocked); err != nil {
			return err
		}
	}
	t.showStep(why)
	return nil
}

// activate has the family take over in the engine, and then in the library.
func (t *task) activate(ctx context.Context, f *family.Family) error {
	if err := t.enter(wire.UpdateActivating); err != nil {
		return err
	}
	source, err := t.deps.Source(f)
	if err != nil {
		return &wire.Refusal{Reason: wire.Unsupported, Err: err}
	}
	if err := t.deps.Engine.Replace(ctx, source); err != nil {
		return err
	}
	t.took = true
	return noSpace(t.deps.Library.Activate())
}

// provePace is how often what the family answered is looked at.
const provePace = 200 * time.Millisecond

// prove waits for what the family must show.
func (t *task) prove(ctx context.Context) error {
	if err := t.enter(wire.UpdateProbation); err != nil {
		return err
	}
	turnedAway := t.deps.Engine.Tally().TurnedAway
	tick := time.NewTicker(provePace)
	defer tick.Stop()
	for {
		s := t.deps.Engine.Status()
		if s.State == engine.Preparing { // after a start; jobs that came too early prove nothing
			turnedAway = t.deps.Engine.Tally().TurnedAway
		}
		now := t.deps.Engine.Tally()
		proved, err := t.weigh(s, now.Tally, now.TurnedAway-turnedAway)
		if proved || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// weigh tells whether the family has proved itself, or why it has not. Frames that were
// refused since no member would have been in time count as missed.
func (t *task) weigh(s engine.Status, now engine.Tally, turnedAway uint64) (proved bool, err error) {
	want := t.update.Proof()
	frames, missed := int(now.Answered+turnedAway), int(now.Missed+turnedAway)
	p := wire.Progress{Step: wire.UpdateProbation, Done: t.done, Of: t.done, Frames: frames, Missed: missed}
	if now.Answered > 0 {
		p.P95MS = new(wire.Millis(now.P95))
	}
	t.tell(p)
	switch {
	case s.State == engine.Unavailable:
		return false, wire.Refuse(wire.Unsupported, "family %s cannot be used: %s", t.Family.Name, s.Detail)
	case missed > want.MaxMissed:
		return false, wire.Refuse(wire.Infeasible, "%d of %d frames missed their deadline, %d may", missed, frames,
			want.MaxMissed)
	}
	return s.State != engine.Preparing && now.Answered >= uint64(want.Frames), nil
}

// commit gives up the family before. Where only what it needed alone was not removed,
// the next update does that.
func (t *task) commit() error {
	err := t.deps.Library.Commit()
	if err == nil {
		return nil
	}
	if n, e := t.deps.Library.Names(); e == nil && n.Before == nil {
		t.log.Warn("blobs of the family before not removed", "err", err)
		return nil
	}
	return noSpace(err)
}

// because is the error of an update that ctx may have ended.
func (t *task) because(ctx context.Context, err error) error {
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, control.ErrCancelled):
		return cause
	case cause != nil && errors.Is(err, ctx.Err()):
		return control.Expired("it expired in the phase "+string(t.Phase), err)
	}
	return err
}

// succeed ends the update with its family in use, unless it was to be compared only.
func (t *task) succeed(detail string) control.Outcome {
	cells := t.finish(end{State: wire.CommandSucceeded, Detail: detail, Proved: !t.only()}, false)
	return control.Outcome{Remember: cells, Detail: detail, Shadow: t.Compared}
}

// fail ends the update with the family before in use.
func (t *task) fail(ctx context.Context, why error) (control.Outcome, error) {
	e := t.endOf(why)
	t.log.Warn("family not taken into use", "family", t.Family.Name, "state", e.State, "err", why)
	if t.took {
		t.End = &e
		if err := t.save(t.deps.State); err != nil {
			t.log.Error("that the family before is to be back is not recorded", "err", err)
		}
		if err := t.goBack(context.WithoutCancel(ctx)); err != nil {
			why = fmt.Errorf("%w; family %s is back with the next start only: %w", why, t.before.Name, err)
		}
	}
	if err := errors.Join(t.deps.Library.Revert(), t.deps.Library.Unstage()); err != nil {
		// The record stays: the next start clears away.
		return control.Outcome{}, fmt.Errorf("%w; and it is not cleared away: %w", why, err)
	}
	return control.Outcome{Remember: t.finish(e, t.took), RolledBack: t.took, Shadow: t.Compared}, why
}

// endOf is how an update ends that met an error. The family is to blame for what its
// members did, from when they were made.
func (t *task) endOf(err error) end {
	e := end{State: wire.CommandFailed, Reason: wire.Internal, Detail: err.Error()}
	if r, ok := errors.AsType[*wire.Refusal](err); ok {
		e.Reason = r.Reason
	}
	switch {
	case errors.Is(err, control.ErrCancelled):
		return end{State: wire.CommandCancelled}
	case errors.Is(err, context.DeadlineExceeded):
		e.State, e.Reason = wire.CommandTimedOut, wire.Expired
	case e.Reason == wire.Unsupported || e.Reason == wire.Infeasible || e.Reason == wire.Disagreement:
		e.Blame = t.onTrial()
	}
	return e
}

// goBack has the family before take over again, as soon as there is room for that: till
// then the library keeps both, of which one still answers. It ends early only with the
// engine.
func (t *task) goBack(ctx context.Context) error {
	t.showStep("going back to family " + t.before.Name)
	source, err := t.deps.Source(t.before)
	if err != nil {
		return err
	}
	for {
		err = t.deps.Engine.Replace(ctx, source)
		if r, ok := errors.AsType[*wire.Refusal](err); !ok || r.Reason != wire.NoSpace {
			return err
		}
		time.Sleep(lock.Pace)
	}
}

// finish is what is to be remembered of an update that ends, which the status tells of.
func (t *task) finish(e end, rolledBack bool) []store.Cell {
	if err := t.deps.Carrier.Forget(func(family.Digest) bool { return false }); err != nil {
		t.log.Warn("partial blobs not removed", "err", err)
	}
	last, cells := t.record.cells(t.deps.State, e, rolledBack, t.deps.Clock())
	t.show(Status{Last: &last})
	return cells
}

// enter records a phase before it is acted on.
func (t *task) enter(p wire.UpdatePhase) error {
	if t.Phase != p {
		t.Phase = p
		if err := t.save(t.deps.State); err != nil {
			return noSpace(err)
		}
	}
	t.showStep("")
	t.tell(wire.Progress{Step: p, Done: t.done, Of: t.done})
	return nil
}

// showStep has the status tell of the phase, and what it waits for.
func (t *task) showStep(detail string) {
	t.show(Status{Step: &wire.UpdateStep{ID: t.ID, Family: t.Family, Step: t.Phase, Detail: detail},
		Last: t.Status().Last})
}

func (t *task) tell(p wire.Progress) { t.course.Tell(p, t.Compared) }
