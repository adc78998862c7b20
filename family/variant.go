package family

import "fmt"

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
