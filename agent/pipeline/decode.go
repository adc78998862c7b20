package pipeline

import (
	"context"
	"errors"
	"time"

	"github.com/limber-edge/limber/agent/frame"
	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/agent/wire"
)

// slot carries one frame from decoding to inference, with buffers that are
// used again.
type slot struct {
	entry  *entry
	pic    frame.Picture
	pixels int       // that pic holds; 0: it is no picture
	buffer []float32 // room for the largest member's input
	tensor []float32 // part of buffer, or the job's own
	r      int       // resolution that tensor was made for
}

// keptPixels is the largest picture whose memory a free slot keeps.
const keptPixels = 1 << 20

// widest is the largest resolution of some members, pixels a side.
func widest(members []Member) (r int) {
	for _, m := range members {
		r = max(r, m.R)
	}
	return r
}

// workers is how many goroutines decode beside the executor: as many as there are
// processors for it, and no more than frames may be lined up.
func (p *Pipeline) workers() int { return min(p.cfg.Processors, aheadFrames) }

// decode takes the job to be served next, decodes it, makes its tensor for the
// operating member and lines it up, until ctx ends.
func (p *Pipeline) decode(ctx context.Context) error {
	scaler, err := frame.NewScaler(p.cfg.Preprocess)
	if err != nil {
		return err
	}
	for {
		next, waits := p.queue.next()
		var s *slot
		if waits {
			s = p.lineup.slot(next)
		}
		if s == nil {
			select {
			case <-p.queue.wake:
			case <-p.lineup.taken:
			case <-ctx.Done():
				return ctx.Err()
			}
			continue
		}
		if !p.fill(ctx, scaler, s) {
			p.lineup.giveBack(s)
		} else if !p.lineup.put(s) {
			p.leave(s.entry)
			return nil
		}
	}
}

// fill decodes the next job that can be decoded into a slot; false means that
// there is none. Jobs that cannot are answered here.
func (p *Pipeline) fill(ctx context.Context, scaler *frame.Scaler, s *slot) bool {
	for {
		e := p.next(false)
		if e == nil {
			return false
		}
		if p.prepare(ctx, scaler, s, e) {
			return true
		}
	}
}

// next takes a job out of the queue, and answers those that it gives up.
func (p *Pipeline) next(idle bool) *entry {
	v := p.view()
	e, out := p.queue.pop(&v, idle)
	p.turnAway(out, v.now)
	return e
}

// view is what the queue is told at this moment.
func (p *Pipeline) view() view {
	v := view{now: p.now(), workers: p.workers(), forecast: p.fits}
	v.blind = v.now-time.Duration(p.lastRun.Load()) >= governor.Blind
	p.pace.mu.Lock()
	v.free, v.least = p.pace.free, p.pace.least
	p.pace.mu.Unlock()
	return v
}

// scale is by how much a job's frame may be shrunk while it is decoded.
func (p *Pipeline) scale(e *entry) int {
	r := int(p.wideR.Load())
	if e.Floor > 0 { // it may take a member that the mode would not
		r = widest(p.cfg.Members)
	}
	return p.scaler.Scale(e.header, r)
}

// prepare decodes a job into the slot; false means that it cannot be decoded, and
// was refused, or that ctx has ended, and it was left.
func (p *Pipeline) prepare(ctx context.Context, scaler *frame.Scaler, s *slot, e *entry) bool {
	s.entry, s.pixels, s.r = e, 0, 0
	if e.Tensor != nil {
		s.tensor = e.Tensor
		return true
	}
	scale, all := p.scale(e), min(int64(e.header.Pixels()), frame.DefaultPixels)
	if err := p.pixels.Acquire(ctx, all); err != nil {
		p.queue.done(e)
		p.leave(e)
		return false
	}
	start := time.Now()
	err := p.cfg.Decoder.Decode(&s.pic, e.Body, e.header, scale)
	p.pixels.Release(all)
	if err != nil {
		e.decode = time.Since(start)
		p.queue.done(e)
		p.refuseFrame(e, err)
		return false
	}
	s.pixels = max(1, e.header.Pixels()/(scale*scale))
	s.make(scaler, int(p.hotR.Load()))
	e.decode = time.Since(start)
	p.fits.learn(p.fits.of(e.header, scale), e.header, e.decode)
	e.Body = nil // decoded; the frame's bytes need not wait for the answer
	return true
}

func (p *Pipeline) refuseFrame(e *entry, err error) {
	reason := wire.Invalid
	if errors.Is(err, frame.ErrUnsupported) {
		reason = wire.Unsupported
	}
	p.refuse(e, reason, err.Error())
}

func (s *slot) make(scaler *frame.Scaler, r int) {
	s.tensor, s.r = s.buffer[:3*r*r], r
	scaler.Tensor(s.tensor, &s.pic, r)
}
