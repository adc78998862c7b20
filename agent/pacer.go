package agent

import (
	"context"
	"sync/atomic"
	"time"
)

// pacer lets the frames of a source through one by one, with a pause between
// them. Of those that come meanwhile the newest waits.
type pacer struct {
	every   time.Duration       // from one to the next, at least
	waiting atomic.Pointer[job] // nil: none
	some    chan struct{}       // holds a token while one waits
}

func newPacer(every time.Duration) *pacer {
	return &pacer{every: every, some: make(chan struct{}, 1)}
}

// put lets a frame wait, and returns the one whose place it takes, if there is
// one.
func (p *pacer) put(frame *job) (superseded *job) {
	superseded = p.waiting.Swap(frame)
	select {
	case p.some <- struct{}{}:
	default:
	}
	return superseded
}

// run passes frames on until ctx ends. One may be left waiting.
func (p *pacer) run(ctx context.Context, pass func(*job)) error {
	for {
		select {
		case <-p.some:
			if frame := p.waiting.Swap(nil); frame != nil {
				pass(frame)
			}
		case <-ctx.Done():
			return ctx.Err()
		}
		select {
		case <-time.After(p.every):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
