package main

import (
	"bytes"
	"image/jpeg"
	"runtime"

	"github.com/limber-edge/limber/agent/frame"
	"github.com/limber-edge/limber/family"
)

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
