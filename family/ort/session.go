//go:build cgo

package ort

import (
	"errors"
	"fmt"
	"sync"

	onnxruntime "github.com/yalue/onnxruntime_go"
)

// Session is one model ready to run, with an input and an output buffer of its
// own, so that a run allocates nothing. It belongs to one goroutine at a time.
type Session struct {
	session *onnxruntime.AdvancedSession
	in, out *onnxruntime.Tensor[float32]
	options *onnxruntime.RunOptions

	mu          sync.Mutex
	running     bool
	interrupted bool // options ask a run to end
}

// NewSession loads the model file at path. Asking the library for the model's
// shapes would load it a second time; the caller's canary is the check that the
// model is what shape says, since Run fails where it is not.
func (r *Runtime) NewSession(path string, shape Shape, o Options) (*Session, error) {
	opts, err := options(o)
	if err != nil {
		return nil, err
	}
	defer opts.Destroy()
	s := new(Session)
	if s.options, err = onnxruntime.NewRunOptions(); err != nil {
		return nil, fmt.Errorf("session %s: %w", path, err)
	}
	if s.in, err = onnxruntime.NewEmptyTensor[float32](onnxruntime.NewShape(1, 3, int64(shape.R), int64(shape.R))); err != nil {
		return nil, errors.Join(fmt.Errorf("session %s: input buffer: %w", path, err), s.Close())
	}
	if s.out, err = onnxruntime.NewEmptyTensor[float32](onnxruntime.NewShape(1, int64(shape.Classes))); err != nil {
		return nil, errors.Join(fmt.Errorf("session %s: output buffer: %w", path, err), s.Close())
	}
	s.session, err = onnxruntime.NewAdvancedSession(path, []string{shape.Input}, []string{shape.Output},
		[]onnxruntime.Value{s.in}, []onnxruntime.Value{s.out}, opts)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("session %s: %w", path, err), s.Close())
	}
	return s, nil
}

// Run copies in (3×R×R) to the session, infers, and copies the logits to out.
// The copy of the input lets the next frame be prepared while this one runs.
func (s *Session) Run(in, out []float32) error {
	if len(in) != len(s.in.GetData()) || len(out) != len(s.out.GetData()) {
		return fmt.Errorf("infer: got %d inputs and room for %d outputs; this model takes %d and gives %d",
			len(in), len(out), len(s.in.GetData()), len(s.out.GetData()))
	}
	copy(s.in.GetData(), in)
	if err := s.begin(); err != nil {
		return fmt.Errorf("infer: %w", err)
	}
	err := s.session.RunWithOptions(s.options)
	s.mu.Lock()
	s.running = false
	s.mu.Unlock()
	if err != nil {
		return fmt.Errorf("infer: %w", err)
	}
	copy(out, s.out.GetData())
	return nil
}

// begin takes back an interruption of the run before.
func (s *Session) begin() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.interrupted {
		if err := s.options.UnsetTerminate(); err != nil {
			return err
		}
	}
	s.running, s.interrupted = true, false
	return nil
}

// Interrupt makes the Run that is under way, if any, fail between two
// operators, or two rounds of a loop.
func (s *Session) Interrupt() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running && !s.interrupted {
		s.interrupted = s.options.Terminate() == nil
	}
}

// Close frees the model. It must not run any more.
func (s *Session) Close() error {
	var errs []error
	if s.session != nil {
		errs = append(errs, s.session.Destroy())
	}
	for _, t := range []*onnxruntime.Tensor[float32]{s.in, s.out} {
		if t != nil {
			errs = append(errs, t.Destroy())
		}
	}
	if s.options != nil {
		errs = append(errs, s.options.Destroy())
	}
	return errors.Join(errs...)
}
