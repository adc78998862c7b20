package release

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/limber-edge/limber/agent/control"
	"github.com/limber-edge/limber/agent/lock"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/firmware/slot"
	"github.com/limber-edge/limber/store"
)

// task is a command that is carried out.
type task struct {
	*Updater
	order  control.Order
	asked  wire.Release
	course *control.Course
	done   int64 // bytes that came
}

// run carries the command out, or on from what is recorded.
func (t *task) run(ctx context.Context, course *control.Course) (control.Outcome, error) {
	t.course = course
	p, err := t.deps.Slots.Phase()
	if err != nil {
		t.log.Warn("phase of the firmware not known", "err", err)
	}
	ours := p.Command != nil && p.Command.ID == t.order.ID
	switch {
	case ours && p.InTrial() && p.Slot == t.deps.Slots.Running():
		return t.prove(ctx, &p)
	case ours && p.InTrial():
		return t.tryAgain(ctx)
	case ours && (p.Provisional || p.Phase == slot.Undecided):
		return t.decide(ctx, &p)
	case ours && p.Phase == slot.RolledBack: // what the start could not record
		return t.lose()
	}
	if r := t.Status().Running; r.Digest == t.asked.Digest {
		return t.succeed(fmt.Sprintf("release %s runs already", r.Version))
	}
	return t.replace(ctx, &p)
}

// replace brings the release and has it take over.
func (t *task) replace(ctx context.Context, p *slot.Phase) (control.Outcome, error) {
	err := t.bring(ctx, p)
	if err == nil {
		err = t.activate(ctx)
	}
	if err == nil {
		return control.Outcome{}, control.ErrLeft
	}
	if stopped(ctx) {
		return control.Outcome{}, err
	}
	err = t.because(ctx, err)
	t.log.Warn("release not taken into use", "version", t.asked.Version, "err", err)
	if p, e := t.deps.Slots.Phase(); e == nil && (p.Phase == slot.Fetch || p.Phase == slot.Stage) {
		err = errors.Join(err, t.deps.Slots.Drop())
	}
	return t.fail(err, false)
}

// signedFor is how long it counts that a release was found to be signed.
const signedFor = time.Minute

// await takes the lock when the release may be activated. To fetch it and to wait may have
// taken days, in which it may have been withdrawn: that is asked at last, and not with the
// lock held, as the answer may take long, too.
func (t *task) await(ctx context.Context) (free func(), err error) {
	var asked time.Time
	for {
		free, err = lock.Await(ctx, t.cfg.Folder, t.cfg.Window, t.deps.Clock, func(why string) error {
			t.enter(wire.UpdateLocked, why)
			return nil
		})
		if err != nil || time.Since(asked) < signedFor {
			return free, err
		}
		free()
		if err := t.signed(ctx); err != nil {
			return nil, err
		}
		asked = time.Now()
	}
}

// activate waits until that may be, and records that the release is to run; then this
// process ends. The lock is held until it stops.
func (t *task) activate(ctx context.Context) error {
	free, err := t.await(ctx)
	if err != nil {
		return err
	}
	if !t.course.Begin() {
		free()
		return control.ErrCancelled
	}
	t.enter(wire.UpdateActivating, "")
	if err := t.switchOver(); err != nil {
		free()
		return noSpace(err)
	}
	t.log.Info("this program ends for another release, which is on trial", "version", t.asked.Version)
	t.deps.End(ErrSwitch)
	go func() {
		<-t.deps.Stopping
		free()
	}()
	return nil
}

// switchOver records the trial. One that can be read, and may not have reached the disk, is
// one: limber-boot goes by it, and where a power cut loses it this program goes on.
func (t *task) switchOver() error {
	if err := t.noteUnfit(); err != nil {
		return err
	}
	err := t.deps.Slots.Switch(t.cfg.Trial)
	if p, e := t.deps.Slots.Phase(); err != nil && e == nil && p.InTrial() && p.Digest == t.asked.Digest {
		t.log.Warn("a power cut may undo that a release is on trial", "err", err)
		return nil
	}
	return err
}

// prove has this program, which is the release, prove itself. The command's expiry is not
// asked any more: it was to be on trial by then.
func (t *task) prove(ctx context.Context, p *slot.Phase) (control.Outcome, error) {
	t.course.Begin()
	ctx, cancel := t.unlimited(ctx)
	defer cancel()
	t.enter(wire.UpdateTrial, "")
	t.tell(wire.SeverityInfo, wire.Event{Kind: wire.EventUpdate, // a record for the broker, if there is no other
		Detail: fmt.Sprintf("release %s is on trial in slot %s", t.asked.Version, p.Slot)})
	look := trial{engine: t.deps.Engine, canaries: t.deps.Canaries, link: t.deps.Link,
		until: t.cfg.Started.Add(p.Limit()), unfit: t.notedUnfit()}
	err := look.run(ctx, func(frames uint64) {
		t.course.Tell(wire.Progress{Step: wire.UpdateTrial, Frames: int(frames)}, nil)
	})
	f, failed := errors.AsType[*failing](err)
	switch {
	case failed:
		if err := t.deps.Slots.Fail(f.reason); err != nil {
			t.log.Error("why this release goes back is not recorded", "err", err) // it ends, as a crash
		}
		t.deps.End(fmt.Errorf("release %s %w: %w", t.asked.Version, ErrUnproved, f))
		return control.Outcome{}, control.ErrLeft
	case err != nil || !t.confirm(ctx):
		return control.Outcome{}, control.ErrLeft
	}
	t.log.Info("release confirmed", "version", t.asked.Version)
	if err := dropKept(t.cfg.Folder); err != nil {
		t.log.Warn("it is tried again with the next release", "err", err)
	}
	out, err := t.succeed("")
	t.close(ctx)
	return out, err
}

// ErrUnproved is in what ends a release that has not proved itself.
var ErrUnproved = errors.New("did not prove itself")

// retryPace is how often something is tried again that a disk refuses, or a launcher.
const retryPace = time.Second

// confirm records that this program has proved itself, also where that takes until the
// disk has room; false where ctx ended before.
func (t *task) confirm(ctx context.Context) bool {
	for {
		err := t.deps.Slots.Confirm()
		if err == nil {
			return true
		}
		t.log.Error("that this release has proved itself is not recorded", "err", err)
		if pause(ctx, retryPace) != nil {
			return false
		}
	}
}

// recount is when this program, which runs since a start of the release on trial could not
// be counted, gives way to it again: where there is room, else it looks again.
const recount = time.Minute

func (t *task) tryAgain(ctx context.Context) (control.Outcome, error) {
	t.course.Begin()
	ctx, cancel := t.unlimited(ctx)
	defer cancel()
	t.enter(wire.UpdateTrial, "its start could not be recorded")
	for pause(ctx, recount) == nil {
		if t.room(0) == nil {
			t.deps.End(ErrSwitch)
			break
		}
	}
	return control.Outcome{}, control.ErrLeft
}

// unlimited returns a context that ends with the device alone, as the command has none of
// its time left to lose.
func (t *task) unlimited(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	go func() {
		select {
		case <-t.deps.Stopping:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// pause returns ctx's error if that ends first.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// because is the error of a command that ctx may have ended.
func (t *task) because(ctx context.Context, err error) error {
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, control.ErrCancelled):
		return cause
	case cause != nil && errors.Is(err, ctx.Err()):
		return control.Expired("it expired before release "+t.asked.Version+" was on trial", err)
	}
	return err
}

// succeed ends the command with its release in use.
func (t *task) succeed(detail string) (control.Outcome, error) {
	last := t.end(wire.LastUpdate{State: wire.CommandSucceeded, Detail: detail})
	return control.Outcome{Remember: cells(last), Detail: detail}, nil
}

// fail ends the command with the release before in use.
func (t *task) fail(why error, rolledBack bool) (control.Outcome, error) {
	last := wire.LastUpdate{State: wire.CommandFailed, Reason: wire.Internal, Detail: why.Error(), RolledBack: rolledBack}
	r, refused := errors.AsType[*wire.Refusal](why)
	switch {
	case errors.Is(why, control.ErrCancelled):
		last = wire.LastUpdate{State: wire.CommandCancelled}
	case errors.Is(why, context.DeadlineExceeded):
		last.State, last.Reason = wire.CommandTimedOut, wire.Expired
	case refused:
		last.Reason = r.Reason
	}
	last = t.end(last)
	return control.Outcome{Remember: cells(last), RolledBack: rolledBack}, why
}

// end has the status tell of an end, and nothing be left of what came.
func (t *task) end(last wire.LastUpdate) wire.LastUpdate {
	if err := t.deps.Carrier.Forget(func(family.Digest) bool { return false }); err != nil {
		t.log.Warn("partial blobs not removed", "err", err)
	}
	last.ID, last.Release, last.TS = t.order.ID, &t.asked, wire.At(t.deps.Clock())
	t.show(nil, &last)
	return last
}

func cells(last wire.LastUpdate) []store.Cell {
	return []store.Cell{{Name: cellLast, Value: encode(last)}}
}

func encode[T wire.LastUpdate | wire.Ack | string | []string](v T) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("release: a document cannot be encoded: " + err.Error())
	}
	return b
}

// enter tells how far the command is, and what it waits for.
func (t *task) enter(p wire.UpdatePhase, detail string) {
	t.show(&wire.UpdateStep{ID: t.order.ID, Release: &t.asked, Step: p, Detail: detail}, t.Status().Last)
	t.course.Tell(wire.Progress{Step: p, Done: t.done, Of: t.done}, nil)
}
