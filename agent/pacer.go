package agent

import (
	"context"
	"sync"
	"time"

	"github.com/limber-edge/limber/agent/mqtt"
)

// pacer lets the frames of a source through one by one, with a pause between
// them. Of those that come meanwhile the newest waits.
type pacer struct {
	every time.Duration // from one to the next, at least

	mu      sync.Mutex
	waiting *shot         // guarded by mu
	some    chan struct{} // holds a token while one waits
}

// shot is a frame that was received.
type shot struct {
	*ticket
	msg mqtt.Message
}

func newPacer(every time.Duration) *pacer {
	return &pacer{every: every, some: make(chan struct{}, 1)}
}

// put lets a frame wait, and returns the one whose place it takes, if there is
// one.
func (p *pacer) put(s shot) (superseded *shot) {
	p.mu.Lock()
	defer p.mu.Unlock()
	superseded, p.waiting = p.waiting, &s
	select {
	case p.some <- struct{}{}:
	default:
	}
	return superseded
}

func (p *pacer) take() shot {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.waiting
	p.waiting = nil
	return *s
}

// run passes frames on until ctx ends. One may be left waiting.
func (p *pacer) run(ctx context.Context, pass func(shot)) error {
	for {
		select {
		case <-p.some:
			pass(p.take())
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
