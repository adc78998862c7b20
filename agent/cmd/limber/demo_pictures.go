package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/limber-edge/limber/agent"
	"github.com/limber-edge/limber/agent/frame"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/stock"
)

// demoImages is how many of the test images the cameras see, in turns: as many as
// two processors enlarge and encode within about two seconds.
const demoImages = 250

// gallery is what the demo's cameras send, again and again: test images as VGA
// cameras see them.
type gallery struct {
	jpegs  [][]byte
	labels []int
}

// newGallery makes the first n test images into JPEGs, with all processors. It
// tells how many are done, one call at a time.
func newGallery(ctx context.Context, n int, tell func(done int)) (*gallery, error) {
	sheet, err := stock.Sheet(frame.OpenSheet)
	if err != nil {
		return nil, err
	}
	pngs, err := testPNGs(n)
	if err != nil {
		return nil, err
	}
	a := &gallery{jpegs: make([][]byte, n), labels: make([]int, n)}
	var mu sync.Mutex
	done := 0
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.NumCPU())
	for i := range pngs {
		g.Go(func() error {
			if gctx.Err() != nil {
				return gctx.Err()
			}
			frames, err := cameraFrames(pngs[i:i+1], vgaCamera())
			if err != nil {
				return fmt.Errorf("picture %d of the demo: %w", i, err)
			}
			a.jpegs[i], a.labels[i] = frames[0], sheet.Label(i)
			mu.Lock()
			defer mu.Unlock()
			done++
			tell(done)
			return nil
		})
	}
	return a, g.Wait()
}

// jobs are the pictures in envelopes that tell when an answer is due.
func (a *gallery) jobs(deadline time.Duration) (jobs [][]byte, err error) {
	ms := wire.Millis(deadline)
	for _, b := range a.jpegs {
		job, err := wire.JoinJob(wire.Header{Codec: wire.JPEG, DeadlineMS: &ms}, b)
		if err != nil {
			return nil, err
		}
		jobs = append(jobs, job)
	}
	return jobs, nil
}

// decoded are the pictures as the agent decodes them, for tensors of up to r
// pixels a side.
func (a *gallery) decoded(s *frame.Scaler, r int) ([]*frame.Picture, error) {
	d := frame.Decoder{MaxPixels: frame.DefaultPixels, Upright: true}
	pics := make([]*frame.Picture, len(a.jpegs))
	for i, b := range a.jpegs {
		h, err := d.Inspect(b, frame.Claim{})
		if err != nil {
			return nil, fmt.Errorf("picture %d of the demo: %w", i, err)
		}
		pics[i] = new(frame.Picture)
		if err := d.Decode(pics[i], b, h, s.Scale(h, r)); err != nil {
			return nil, fmt.Errorf("picture %d of the demo: %w", i, err)
		}
	}
	return pics, nil
}

// witness infers the frames of a demo anew, without queue, load or network.
type witness struct {
	parts  *agent.Parts
	scaler *frame.Scaler
	pics   []*frame.Picture // as the agent decodes them
	labels []int
}

func newWitness(parts *agent.Parts, p *plan) (*witness, error) {
	scaler, err := frame.NewScaler(parts.Preprocess)
	if err != nil {
		return nil, err
	}
	r := 0 // the agent decodes for the largest that may be chosen
	for _, m := range p.caps.Members {
		r = max(r, m.Resolution)
	}
	pics, err := p.pictures.decoded(scaler, r)
	if err != nil {
		return nil, err
	}
	return &witness{parts, scaler, pics, p.pictures.labels}, nil
}

// top1 is that of the very frames and members that were used, which is what the
// answers must come to; uses is how often each member answered each picture. It is
// 0 when there was none.
func (w *witness) top1(ctx context.Context, uses map[string]map[int]int) (float64, error) {
	right, all := 0, 0
	for name, shots := range uses {
		i := w.parts.Family.Index(name)
		if i < 0 {
			return 0, fmt.Errorf("demo: member %q answered, and the family has none of that name", name)
		}
		s, err := w.parts.Shelf.Session(i)
		if err != nil {
			return 0, err
		}
		correct, err := w.correct(ctx, s, w.parts.Family.Members[i].Arch.R, shots)
		if err = errors.Join(err, s.Close()); err != nil {
			return 0, err
		}
		right += correct
		for _, n := range shots {
			all += n
		}
	}
	return float64(right) / float64(max(all, 1)), nil
}

// correct counts the frames a session gets right; shots is how often each picture
// was taken.
func (w *witness) correct(ctx context.Context, s family.Session, r int, shots map[int]int) (int, error) {
	in, out := make([]float32, 3*r*r), make([]float32, len(w.parts.Family.Classes))
	right := 0
	for i, n := range shots {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		w.scaler.Tensor(in, w.pics[i], r)
		if err := s.Run(out, in); err != nil {
			return 0, err
		}
		if argmax(out) == w.labels[i] {
			right += n
		}
	}
	return right, nil
}
