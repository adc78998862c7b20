package engine

import (
	"bytes"
	"image"
	"image/png"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/wire"
)

// TestAnInferenceThatHangsIsNoProgressWhateverIsAnsweredBesideIt looks before the hang is
// interrupted.
func TestAnInferenceThatHangsIsNoProgressWhateverIsAnsweredBesideIt(t *testing.T) {
	simulate(t, withHangs(1), func(t *testing.T, r *rig) {
		idle := r.Progress()
		if !r.Progress().Moved(idle) {
			t.Error("an idle engine stands still")
		}
		r.Submit(job(0, time.Minute), func(*Answer) {})
		pass(time.Second)
		before := r.Progress()
		r.ask(job(0.999, time.Minute)) // infeasible
		pass(time.Second)
		if r.Progress().Moved(before) {
			t.Error("a hanging inference with a refusal beside it is taken for progress")
		}
		pass(10 * time.Second) // it was interrupted, and no job is left
		if !r.Progress().Moved(before) {
			t.Error("an engine that has nothing to do stands still")
		}
		idle = r.Progress()
		r.ask(job(0, time.Minute))
		r.Submit(job(0, time.Minute), func(*Answer) {})
		if now := r.Progress(); now.open == 0 || !now.Moved(idle) {
			t.Error("an inference that ended while others wait is not progress")
		}
		pass(time.Second)
	})
}

// TestFramesThatNobodyCanDecodeAreProgressUnlessAnInferenceHangsBesideThem has one wait at each
// moment, as of a camera that sends faster than broken pictures are found to be broken.
func TestFramesThatNobodyCanDecodeAreProgressUnlessAnInferenceHangsBesideThem(t *testing.T) {
	simulate(t, withHangs(1), func(t *testing.T, r *rig) {
		var picture bytes.Buffer
		if err := png.Encode(&picture, image.NewGray(image.Rect(0, 0, 32, 32))); err != nil {
			t.Fatal(err)
		}
		broken := job(0, time.Minute)
		broken.Tensor, broken.Body = nil, picture.Bytes()[:picture.Len()/2]
		flood := func() (moved bool) {
			before := r.Progress()
			r.Submit(broken, func(*Answer) {
				r.Submit(broken, func(a *Answer) {
					if a.Reason != wire.Invalid {
						t.Errorf("got %+v of a broken frame", a.Answer)
					}
					moved = r.Progress().Moved(before)
				})
			})
			pass(time.Second)
			return moved
		}
		if !flood() {
			t.Error("who finds that frames are broken stands still")
		}
		r.Submit(job(0, time.Minute), func(*Answer) {})
		pass(time.Second)
		if flood() {
			t.Error("a hanging inference with broken frames beside it is taken for progress")
		}
		pass(time.Minute)
	})
}
