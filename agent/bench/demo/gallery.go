package demo

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/limber-edge/limber/agent/bench/camera"
	"github.com/limber-edge/limber/agent/frame"
	"github.com/limber-edge/limber/agent/wire"
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
