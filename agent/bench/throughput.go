package bench

import (
	"bytes"
	"context"
	"errors"
	"image/jpeg"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/limber-edge/limber/agent/bench/figure"
	"github.com/limber-edge/limber/agent/frame"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family"
)

// throughput measures answers a second against what the slower stage could do.
func (b *e2eBench) throughput(ctx context.Context, s *subject) error {
	var all, together stages
	tell := b.telling("throughput "+s.name, b.rounds)
	ours, base, err := inRounds(b.rounds, tell, func() (mine, other float64, err error) {
		answers, bad := 0, error(nil)
		err = b.client.KeepUnderWay(ctx, s.jobs, Window, b.slot, func(r *wire.Result, _ time.Duration) {
			answers++
			if bad == nil {
				bad = b.answered(r)
			}
		})
		if err = errors.Join(err, bad); err != nil {
			return 0, 0, err
		}
		var parts stages
		for end := time.Now().Add(b.spell); time.Now().Before(end) || len(parts.run) == 0; {
			if _, err := b.bare(s.frames[s.turnTo()], &parts); err != nil {
				return 0, 0, err
			}
		}
		all.decode, all.run = append(all.decode, parts.decode...), append(all.run, parts.run...)
		return float64(answers) / b.slot.Seconds(), 1000 / parts.slower(), b.beside(s, &together)
	})
	if err != nil {
		return err
	}
	err = b.Print(figure.New("e2e", "throughput "+s.name, "1/s", ours, base, 0.90, 0.98).Rising())
	b.Note("  of it %v; both at once, and nothing else: %v, so %.4g 1/s", &all, &together, 1000/together.slower())
	return err
}

// beside measures decoding and inference while both run, each on a thread of its
// own: processors that share a core or a cache take longer for either.
func (b *e2eBench) beside(s *subject, parts *stages) error {
	var g errgroup.Group
	end := time.Now().Add(b.spell)
	timed := func(times *figure.Sample, work func() error) {
		g.Go(func() error {
			for time.Now().Before(end) || len(*times) == 0 {
				start := time.Now()
				if err := work(); err != nil {
					return err
				}
				*times = append(*times, wire.Millis(time.Since(start)))
			}
			return nil
		})
	}
	input := slices.Clone(b.eye.tensor)
	timed(&parts.decode, func() error { return b.eye.look(s.frames[s.turnTo()]) })
	timed(&parts.run, func() error { return b.session.Run(b.logits, input) })
	return g.Wait()
}

// eye turns frames into the tensors of one member, as a worker of the agent does.
type eye struct {
	scaler *frame.Scaler
	pic    frame.Picture
	r      int // resolution of the member
	tensor []float32
}

func newEye(how family.Preprocess, r int) (*eye, error) {
	scaler, err := frame.NewScaler(how)
	if err != nil {
		return nil, err
	}
	return &eye{scaler: scaler, r: r, tensor: make([]float32, 3*r*r)}, nil
}

// look decodes a frame, no larger than the member needs it, and makes its tensor.
func (e *eye) look(body []byte) error {
	d := frame.Decoder{MaxPixels: frame.DefaultPixels, Upright: true}
	h, err := d.Inspect(body, frame.Claim{})
	if err != nil {
		return err
	}
	if err := d.Decode(&e.pic, body, h, e.scaler.Scale(h, e.r)); err != nil {
		return err
	}
	e.scaler.Tensor(e.tensor, &e.pic, e.r)
	return nil
}

// plainly decodes a JPEG as a program without Limber would.
func plainly(body []byte) error {
	_, err := jpeg.Decode(bytes.NewReader(body))
	return err
}

// allocations is how many a call makes once its buffers are there, the mean of n.
// Nothing else may be at work in this process.
func allocations(n int, call func() error) (float64, error) {
	if err := call(); err != nil {
		return 0, err
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range n {
		if err := call(); err != nil {
			return 0, err
		}
	}
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs-before.Mallocs) / float64(n), nil
}
