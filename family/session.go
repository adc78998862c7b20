package family

import (
	"errors"
	"fmt"
)

// ErrCanary says that a session does not give the logits that are stored with its member.
var ErrCanary = errors.New("canary")

// ErrNoRoom says that a session could not be made because the disk is full. It may
// be asked for again once there is room.
var ErrNoRoom = errors.New("the disk is full")

// Batch is how many images are inferred at once where many wait, and a member
// takes more than one.
const Batch = 4

// Session is one member ready to run.
type Session interface {
	// Run infers preprocessed images (3×R×R each, red green blue) at once and
	// writes their logits (or the member's Outputs), one per class, to out: those
	// of the first image, then those of the next. A member that has no profile of a batch takes one image
	// only. One goroutine at a time may call it.
	Run(out []float32, in ...[]float32) error
	// Interrupt makes the Run that is under way, if any, fail soon. Any
	// goroutine may call it. It has no effect on later runs.
	Interrupt()
	// Close frees the member; it must not run any more.
	Close() error
}

// CPU is the execution provider that every device has.
const CPU = "cpu"

// Variant is one way to run a family on a device. A device has a profile of its
// own for each.
type Variant struct {
	Provider string // execution provider of ONNX Runtime, "cpu"
	Threads  int    // inside one inference on the CPU, from 1
}

// String names the variant in profiles and caches: "cpu/1".
func (v Variant) String() string { return fmt.Sprintf("%s/%d", v.Provider, v.Threads) }
