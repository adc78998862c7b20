//go:build cgo

package ort

import (
	"errors"
	"fmt"

	onnxruntime "github.com/yalue/onnxruntime_go"
)

// Probe is a model whose run is timed: its input, of zeros, and its output stay
// where they are, so that nothing but the model is measured.
type Probe struct {
	session *onnxruntime.AdvancedSession
	in, out *onnxruntime.Tensor[float32]
}

// NewProbe loads a model from memory. Ports are its one input and one output.
func (r *Runtime) NewProbe(model []byte, in, out Port, o Options) (*Probe, error) {
	opts, err := options(o)
	if err != nil {
		return nil, err
	}
	defer opts.Destroy()
	p := new(Probe)
	if p.in, err = onnxruntime.NewEmptyTensor[float32](dims(in)); err != nil {
		return nil, fmt.Errorf("probe: input buffer: %w", err)
	}
	if p.out, err = onnxruntime.NewEmptyTensor[float32](dims(out)); err != nil {
		return nil, errors.Join(fmt.Errorf("probe: output buffer: %w", err), p.Close())
	}
	p.session, err = onnxruntime.NewAdvancedSessionWithONNXData(model, []string{in.Name}, []string{out.Name},
		[]onnxruntime.Value{p.in}, []onnxruntime.Value{p.out}, opts)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("probe: %w", err), p.Close())
	}
	return p, nil
}

func dims(p Port) onnxruntime.Shape {
	shape := make(onnxruntime.Shape, len(p.Dims))
	for i, d := range p.Dims {
		shape[i] = int64(d)
	}
	return shape
}

// Run runs the model once.
func (p *Probe) Run() error {
	if err := p.session.Run(); err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	return nil
}

// Close frees the model. It must not run any more.
func (p *Probe) Close() error {
	var errs []error
	if p.session != nil {
		errs = append(errs, p.session.Destroy())
	}
	for _, t := range []*onnxruntime.Tensor[float32]{p.in, p.out} {
		if t != nil {
			errs = append(errs, t.Destroy())
		}
	}
	return errors.Join(errs...)
}
