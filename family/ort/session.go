//go:build cgo

package ort

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	onnxruntime "github.com/yalue/onnxruntime_go"
)

// Session is one model ready to run, with buffers of its own for what enters
// and leaves it. It belongs to one goroutine at a time.
type Session struct {
	session *onnxruntime.DynamicAdvancedSession
	shape   Shape
	in, out []float32 // of as many images as a run had at most
	ports   []ports   // by the number of images less one
	options *onnxruntime.RunOptions

	mu          sync.Mutex
	running     bool
	interrupted bool // options ask a run to end
}

// ports are the beginning of a session's buffers as the library sees them; nil
// until a run needs them.
type ports struct{ in, out []onnxruntime.Value }

// NewSession loads the model file at path. Asking the library for the model's
// shapes would load it a second time; the caller's canary is the check that the
// model is what shape says, since Run fails where it is not.
func (r *Runtime) NewSession(path string, shape Shape, o Options) (*Session, error) {
	opts, err := options(o)
	if err != nil {
		return nil, err
	}
	defer opts.Destroy()
	s := &Session{shape: shape}
	if s.options, err = onnxruntime.NewRunOptions(); err != nil {
		return nil, fmt.Errorf("session %s: %w", path, err)
	}
	s.session, err = onnxruntime.NewDynamicAdvancedSession(path, []string{shape.Input}, []string{shape.Output}, opts)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("session %s: %w", path, err), s.Close())
	}
	return s, nil
}

// Run copies the images (3×R×R each) to the session, infers them at once, and
// copies their logits to out, one image after the other. The copy lets the next
// frames be prepared while these run.
func (s *Session) Run(out []float32, in ...[]float32) error {
	if err := s.take(out, in); err != nil {
		return fmt.Errorf("infer: %w", err)
	}
	p, err := s.open(len(in))
	if err != nil {
		return fmt.Errorf("infer: %w", err)
	}
	pixels := 3 * s.shape.R * s.shape.R
	for i, image := range in {
		copy(s.in[i*pixels:], image)
	}
	if err := s.begin(); err != nil {
		return fmt.Errorf("infer: %w", err)
	}
	err = s.session.RunWithOptions(p.in, p.out, s.options)
	s.mu.Lock()
	s.running = false
	s.mu.Unlock()
	if err != nil {
		return fmt.Errorf("infer: %w", err)
	}
	copy(out, s.out)
	return nil
}

// take tells whether images and logits are those of this model.
func (s *Session) take(out []float32, in [][]float32) error {
	pixels := 3 * s.shape.R * s.shape.R
	if len(in) == 0 {
		return errors.New("no image was given")
	}
	for _, image := range in {
		if len(image) != pixels {
			return fmt.Errorf("got an image of %d numbers; this model takes %d", len(image), pixels)
		}
	}
	if len(out) != len(in)*s.shape.Classes {
		return fmt.Errorf("got room for %d logits of %d images; this model gives %d each", len(out), len(in), s.shape.Classes)
	}
	return nil
}

// open returns the ports for n images. Where the buffers are too small for them
// it makes others.
func (s *Session) open(n int) (p *ports, err error) {
	if n > len(s.ports) {
		if err := s.shut(); err != nil {
			return nil, err
		}
		s.in, s.out = make([]float32, n*3*s.shape.R*s.shape.R), make([]float32, n*s.shape.Classes)
		s.ports = make([]ports, n)
	}
	p = &s.ports[n-1]
	if p.in != nil {
		return p, nil
	}
	side := int64(s.shape.R)
	in, err := onnxruntime.NewTensor(onnxruntime.NewShape(int64(n), 3, side, side), s.in[:n*3*s.shape.R*s.shape.R])
	if err != nil {
		return nil, fmt.Errorf("input buffer of %d images: %w", n, err)
	}
	out, err := onnxruntime.NewTensor(onnxruntime.NewShape(int64(n), int64(s.shape.Classes)), s.out[:n*s.shape.Classes])
	if err != nil {
		return nil, errors.Join(fmt.Errorf("output buffer of %d images: %w", n, err), in.Destroy())
	}
	p.in, p.out = []onnxruntime.Value{in}, []onnxruntime.Value{out}
	return p, nil
}

// shut frees the ports.
func (s *Session) shut() error {
	var errs []error
	for _, p := range s.ports {
		for _, v := range slices.Concat(p.in, p.out) {
			errs = append(errs, v.Destroy())
		}
	}
	s.ports = nil
	return errors.Join(errs...)
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
	errs = append(errs, s.shut())
	if s.options != nil {
		errs = append(errs, s.options.Destroy())
	}
	return errors.Join(errs...)
}
