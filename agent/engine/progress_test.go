package engine

import (
	"testing"
	"time"
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
