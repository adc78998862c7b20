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
	pic    *frame.Picture
	buffer []float32 // room for the largest member's input
	tensor []float32 // part of buffer, or the job's own
	r      int       // resolution that tensor was made for
}

// job is the frame's.
func (s *slot) job() *entry { return s.entry }

// pixels is the size of the picture.
func (s *slot) pixels() int {
	if s.pic == nil {
		return 0
	}
	return s.pic.Width * s.pic.Height
}

// newSlot has room for the input of any member.
func newSlot(members []Member) *slot {
	widest := 0
	for _, m := range members {
		widest = max(widest, m.R)
	}
	return &slot{buffer: make([]float32, 3*widest*widest)}
}

// decode takes the most urgent job, decodes it, makes its tensor for the
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
		if !p.fill(scaler, s) {
			p.lineup.release(s)
		} else if !p.lineup.put(s) {
			p.leave(s.entry)
			return nil
		}
	}
}

// fill decodes the first job that waits and can be decoded into a slot; false
// means that there is none. Jobs that cannot are answered here.
func (p *Pipeline) fill(scaler *frame.Scaler, s *slot) bool {
	for e := p.queue.pop(); e != nil; e = p.queue.pop() {
		if p.prepare(scaler, s, e) {
			return true
		}
	}
	return false
}

// prepare decodes a job into the slot; false means that it was refused, because
// its deadline has passed or because it cannot be decoded.
func (p *Pipeline) prepare(scaler *frame.Scaler, s *slot, e *entry) bool {
	if now := p.now(); e.due < now && now-time.Duration(p.lastRun.Load()) < governor.Blind {
		p.queue.done(e)
		p.refuse(e, wire.Busy, shortOfTime(e.due-now, e.Deadline))
		return false
	}
	s.entry, s.pic, s.r = e, nil, 0
	if e.Tensor != nil {
		s.tensor = e.Tensor
		return true
	}
	start := time.Now()
	decoder, pic := frame.Decoder{MaxPixels: frame.DefaultPixels}, new(frame.Picture)
	h, err := decoder.Inspect(e.Body, e.Claim)
	if err == nil {
		err = decoder.Decode(pic, e.Body, h, 1)
	}
	if err != nil {
		e.decode = time.Since(start)
		p.queue.done(e)
		reason := wire.Invalid
		if errors.Is(err, frame.ErrUnsupported) {
			reason = wire.Unsupported
		}
		p.refuse(e, reason, err.Error())
		return false
	}
	s.pic = pic
	s.make(scaler, int(p.hotR.Load()))
	e.decode = time.Since(start)
	e.Body = nil // decoded; the frame's bytes need not wait for the answer
	return true
}

// make fills the tensor for a resolution.
func (s *slot) make(scaler *frame.Scaler, r int) {
	s.tensor, s.r = s.buffer[:3*r*r], r
	scaler.Tensor(s.tensor, s.pic, r)
}
