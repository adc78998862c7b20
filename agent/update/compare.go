package update

import (
	"context"
	"math"

	"github.com/limber-edge/limber/agent/control"
	"github.com/limber-edge/limber/agent/engine"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family"
)

// only tells whether the family is to be compared with the one in use, and not to be taken
// into use.
func (t *task) only() bool { return t.update.Shadow != nil && t.update.Shadow.Only }

// compareOnly compares the family, and clears it away: the one before is in use as it was.
func (t *task) compareOnly(ctx context.Context) error {
	if t.Compared == nil { // else an earlier run may have cleared it away
		f, err := t.fetch(ctx)
		if err != nil {
			return err
		}
		if err := t.compare(ctx, f); err != nil {
			return err
		}
	} else if err := t.agrees(); err != nil {
		return err
	}
	if !t.course.Begin() {
		return control.ErrCancelled
	}
	return t.deps.Library.Unstage()
}

// compare has the family answer frames that the one in use has answered, for nobody to see,
// where the command asks for that and no earlier run was through with it. The error says
// why the family is not to be used.
func (t *task) compare(ctx context.Context, f *family.Family) error {
	want := t.update.Shadow
	if want == nil || t.Compared != nil {
		return t.agrees()
	}
	if err := t.enter(wire.UpdateShadow); err != nil {
		return err
	}
	source, err := t.deps.Source(f)
	if err != nil {
		return &wire.Refusal{Reason: wire.Unsupported, Err: err}
	}
	how := engine.Comparison{Percent: want.Share(), Frames: want.Wants()}
	so, err := t.deps.Engine.Shadow(ctx, source, how, t.tellCompared)
	t.Compared = agreementOf(so)
	if err != nil {
		return err
	}
	t.Starts = 0 // its members have worked
	if err := t.save(t.deps.State); err != nil {
		return noSpace(err)
	}
	return t.agrees()
}

// agrees returns nil unless the family answers too many frames otherwise than the one in
// use.
func (t *task) agrees() error {
	want, got := t.update.Shadow, t.Compared
	if want == nil || want.Agreement == nil || float64(got.Agreed)/float64(got.Frames) >= *want.Agreement {
		return nil
	}
	return wire.Refuse(wire.Disagreement, "%d of %d frames agree, %v; %v was asked for", got.Agreed, got.Frames,
		*got.Agreement, *want.Agreement)
}

// tellCompared tells how far the comparison is.
func (t *task) tellCompared(so engine.Compared) {
	t.Compared = agreementOf(so)
	if t.Status().Step.Detail != so.Waits {
		t.showStep(so.Waits)
	}
	t.tell(wire.Progress{Step: wire.UpdateShadow, Done: t.done, Of: t.done})
}

func agreementOf(so engine.Compared) *wire.Agreement {
	a := &wire.Agreement{Frames: so.Frames, Agreed: so.Agreed, Missed: so.Missed}
	if so.Frames > 0 {
		a.Agreement = new(math.Round(1e6*float64(so.Agreed)/float64(so.Frames)) / 1e6)
		a.P95MS = new(wire.Millis(so.P95))
	}
	return a
}
