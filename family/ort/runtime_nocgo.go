//go:build !cgo

package ort

import "fmt"

// Without cgo there is no ONNX Runtime: the program builds, every command that
// needs no inference works, and the rest says so.

// errNoCgo is what every call here returns.
var errNoCgo = fmt.Errorf("%w: this program was built without cgo; build it with CGO_ENABLED=1 and a C compiler",
	ErrMissing)

// Runtime stands in for the library.
type Runtime struct{}

// Open returns an error that wraps ErrMissing.
func Open(path string) (*Runtime, error) { return nil, errNoCgo }

// Version is empty.
func (*Runtime) Version() string { return "" }

// Path is empty.
func (*Runtime) Path() string { return "" }

// Close does nothing.
func (*Runtime) Close() error { return nil }

// Provides returns an error that wraps ErrMissing.
func (*Runtime) Provides(provider string) error { return errNoCgo }

// NewSession returns an error that wraps ErrMissing.
func (*Runtime) NewSession(path string, shape Shape, o Options) (*Session, error) {
	return nil, errNoCgo
}

// NewBatch returns an error that wraps ErrMissing.
func (*Runtime) NewBatch(model []byte, input string, outputs []string, o Options) (*Batch, error) {
	return nil, errNoCgo
}

// NewProbe returns an error that wraps ErrMissing.
func (*Runtime) NewProbe(model []byte, in, out Port, o Options) (*Probe, error) { return nil, errNoCgo }

// Optimize returns an error that wraps ErrMissing.
func (*Runtime) Optimize(model []byte, path string, shape Shape, o Options) error { return errNoCgo }

// Session stands in for a model ready to run.
type Session struct{}

// Run returns an error that wraps ErrMissing.
func (*Session) Run(out []float32, in ...[]float32) error { return errNoCgo }

// Interrupt does nothing.
func (*Session) Interrupt() {}

// Close does nothing.
func (*Session) Close() error { return nil }

// Batch stands in for a model that takes many images.
type Batch struct{}

// Run returns an error that wraps ErrMissing.
func (*Batch) Run(in []float32, n, r int) ([][]float32, error) { return nil, errNoCgo }

// Close does nothing.
func (*Batch) Close() error { return nil }

// Probe stands in for a model that is timed.
type Probe struct{}

// Run returns an error that wraps ErrMissing.
func (*Probe) Run() error { return errNoCgo }

// Close does nothing.
func (*Probe) Close() error { return nil }
