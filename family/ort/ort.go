// Package ort runs ONNX models on ONNX Runtime.
//
//	Find ──▶ Open ──▶ Runtime ┬──▶ Session   one member, one image or some at once, buffers of its own
//	                         ├──▶ Batch     any batch, any number of outputs
//	                         └──▶ Probe     any shape, to be timed
//
// The library is loaded when the program runs, so the program builds and
// starts without it; whoever needs an answer gets one sentence that says what
// is missing and what to do. There is one runtime in a process (the library
// keeps its state in the process), and it must outlive its sessions. A session
// belongs to one goroutine at a time.
package ort

import (
	"errors"
	"fmt"
)

// MinVersion is the oldest ONNX Runtime accepted: older ones follow
// external_data paths out of a model's folder.
const MinVersion = "1.30.0"

// WeightsSuffix is what Optimize adds to the name of a model's file for that of
// its weights.
const WeightsSuffix = ".data"

// ErrMissing is returned when no ONNX Runtime library was found or the one
// found cannot be used; its message names the remedy.
var ErrMissing = errors.New("ONNX Runtime is not usable")

// The execution providers: what runs a model's operators.
const (
	CPU      = "cpu"
	CUDA     = "cuda"
	TensorRT = "tensorrt"
)

// Providers lists them.
func Providers() []string { return []string{CPU, CUDA, TensorRT} }

// ErrNoProvider is returned when the library cannot run models on an execution
// provider; its message says why, and the remedy.
var ErrNoProvider = errors.New("execution provider is not usable")

// Options of a session. The zero value is not useful: see DefaultOptions.
type Options struct {
	Provider  string // of Providers
	Threads   int    // inside one operator that runs on the CPU
	Optimized bool   // the model was written by Optimize: take the graph as it is; CPU only
	Engines   string // folder where TensorRT keeps the engines it builds, so that it builds them once
}

// DefaultOptions is one thread on the CPU. Spinning threads are always off:
// on an edge device they burn the cores that frames are decoded on.
func DefaultOptions() Options { return Options{Provider: CPU, Threads: 1} }

// String is that of the family.Variant of a session, "cpu/1".
func (o Options) String() string { return fmt.Sprintf("%s/%d", o.Provider, o.Threads) }

// Shape of the one input and the one output of a Session.
type Shape struct {
	Input   string // name of the input, float32 N×3×R×R
	R       int    // pixels a side
	Output  string // name of the output, float32 N×Classes
	Classes int
}

// Port is a named input or output of float32 with fixed dimensions.
type Port struct {
	Name string
	Dims []int
}
