package engine

import (
	"time"

	"github.com/limber-edge/limber/agent/pipeline"
	"github.com/limber-edge/limber/family"
)

// Tally is what became of the jobs since the family in use took over, or since the
// start. Its counts only grow, until another family takes over.
type Tally struct {
	Family   *family.Family
	Answered uint64        // with classes
	Missed   uint64        // of these, after the deadline
	Refused  uint64        // with a reason
	P95      time.Duration // of infer, of those answered; 0 if there are none
}

// Tally tells it of all jobs up to now. Those that the family before still has to
// answer do not count.
func (e *Engine) Tally() Tally {
	t := e.view.Load().tally
	s := t.counters.Snapshot()
	return Tally{Family: t.family, Answered: s.Infer.Count(), Missed: s.Missed, Refused: s.Refused,
		P95: s.Infer.Quantile(0.95)}
}

// tally counts the jobs of a family, from when it takes over. All of its backends have
// it in common.
type tally struct {
	family   *family.Family
	counters *pipeline.Counters // which are a part of the engine's
}

func (e *Engine) newTally(f *family.Family) *tally {
	return &tally{family: f, counters: e.counters.Part()}
}

// answered is how many jobs were, with classes.
func (t *tally) answered() uint64 {
	s := t.counters.Snapshot()
	return s.Infer.Count()
}
