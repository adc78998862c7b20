package demo

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/limber-edge/limber/agent/bench/camera"
	"github.com/limber-edge/limber/agent/bench/desk"
	"github.com/limber-edge/limber/agent/frame"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family"
)

// images is how many of the test images the cameras see, in turns: as many as
// two processors enlarge and encode within about two seconds.
const images = 250

// gallery is what the demo's cameras send, again and again: test images as cameras see
// them.
type gallery struct {
	jpegs  [][]byte
	labels []int
}

// newGallery makes the first n test images into JPEGs, with all processors. It
// tells how many are done, one call at a time.
func newGallery(ctx context.Context, n int, size camera.Size, tell func(done int)) (*gallery, error) {
	pngs, labels, err := camera.Images(n)
	if err != nil {
		return nil, err
	}
	a := &gallery{jpegs: make([][]byte, n), labels: labels}
	var mu sync.Mutex
	done := 0
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.NumCPU())
	for i := range pngs {
		g.Go(func() error {
			if gctx.Err() != nil {
				return gctx.Err()
			}
			frames, err := camera.Frames(pngs[i:i+1], size)
			if err != nil {
				return fmt.Errorf("picture %d of the demo: %w", i, err)
			}
			a.jpegs[i] = frames[0]
			mu.Lock()
			defer mu.Unlock()
			done++
			tell(done)
			return nil
		})
	}
	return a, g.Wait()
}

// jpegDue is the header of a JPEG that is to be answered within a deadline.
func jpegDue(deadline time.Duration) wire.Header {
	return wire.Header{Codec: wire.JPEG, DeadlineMS: new(wire.Millis(deadline))}
}

// decoded are the pictures as the agent decodes them, for tensors of up to r
// pixels a side.
func (a *gallery) decoded(scaler *frame.Scaler, r int) ([]*frame.Picture, error) {
	d := frame.Decoder{MaxPixels: frame.DefaultPixels, Upright: true}
	pics := make([]*frame.Picture, len(a.jpegs))
	for i, b := range a.jpegs {
		h, err := d.Inspect(b, frame.Claim{})
		if err != nil {
			return nil, fmt.Errorf("picture %d of the demo: %w", i, err)
		}
		pics[i] = new(frame.Picture)
		if err := d.Decode(pics[i], b, h, scaler.Scale(h, r)); err != nil {
			return nil, fmt.Errorf("picture %d of the demo: %w", i, err)
		}
	}
	return pics, nil
}

// witness infers the frames of a demo anew, without queue, load or network.
type witness struct {
	device *desk.Device
	scaler *frame.Scaler
	pics   []*frame.Picture // as the agent decodes them
	labels []int
}

func newWitness(device *desk.Device, p *plan) (*witness, error) {
	pre, err := device.Family().Preprocessing()
	if err != nil {
		return nil, err
	}
	scaler, err := frame.NewScaler(pre)
	if err != nil {
		return nil, err
	}
	r := 0 // the agent decodes for the largest that may be chosen
	for _, m := range p.members {
		r = max(r, m.Resolution)
	}
	pics, err := p.pictures.decoded(scaler, r)
	if err != nil {
		return nil, err
	}
	return &witness{device, scaler, pics, p.pictures.labels}, nil
}

// top1 is that of the very frames and members that were used, which is what the
// answers must come to; uses is how often each member answered each picture. It is
// 0 when there was none.
func (w *witness) top1(ctx context.Context, uses map[string]map[int]int) (float64, error) {
	right, all := 0, 0
	for name, shots := range uses {
		i := w.device.Family().Index(name)
		if i < 0 {
			return 0, fmt.Errorf("demo: member %q answered, and the family has none of that name", name)
		}
		s, err := w.device.Session(i)
		if err != nil {
			return 0, err
		}
		correct, err := w.correct(ctx, s, w.device.Family().Members[i].Arch.R, shots)
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
	in, out := make([]float32, 3*r*r), make([]float32, len(w.device.Family().Classes))
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

func argmax(v []float32) int {
	best := 0
	for i, x := range v {
		if x > v[best] {
			best = i
		}
	}
	return best
}
