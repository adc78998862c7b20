package pipeline

import (
	"sync"
	"time"

	"github.com/limber-edge/limber/agent/governor"
)

// pace is what inferences take at this moment: the executor tells, those who take
// jobs out of the queue read.
type pace struct {
	mu    sync.Mutex
	free  time.Duration             // when the inference that runs is likely to be over
	told  time.Duration             // when the rest was
	least [governor.MaxMembers]span // of a job that accepts no member smaller than the index
}

// span is what an inference takes.
type span struct {
	needs time.Duration // slack without which the job would be refused
	each  time.Duration // on average, with what goes with it, in a batch if it takes less there
}

// runs notes when the inference that begins is likely to be over, or that it is.
func (p *pace) runs(until time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free = until
}

// retold is how old what is told may become while nobody waits for it.
const retold = 5 * time.Millisecond

// tell notes what the governor expects after a decision on a job with so many
// behind it.
func (p *pace) tell(f *executor, waiting int) {
	now := f.now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if waiting > 0 || now-p.told >= retold {
		p.told = now
		p.spans(f)
	}
}

func (p *pace) spans(f *executor) {
	var next span
	for i := len(f.cfg.Members) - 1; i >= 0; i-- {
		if f.eligible[i] {
			next = f.span(i)
		}
		p.least[i] = next
	}
	if least := f.gov.Least(f.now()); !f.eligible[0] || least > 0 { // the mode's, for jobs without a floor
		p.least[0] = f.span(least)
	}
}

// span is what an inference by a member takes.
func (f *executor) span(member int) span {
	needs := f.gov.Needs(member)
	return span{needs, time.Duration(float64(needs)*f.tail*f.gov.Together(member)) + f.between}
}
