package family

// Session is one member ready to run.
type Session interface {
	// Run infers one preprocessed image (3×R×R, red green blue) and writes
	// the logits, one per class, to out. It allocates nothing. One goroutine
	// at a time may call it.
	Run(in, out []float32) error
	// Interrupt makes the Run that is under way, if any, fail soon. Any
	// goroutine may call it. It has no effect on later runs.
	Interrupt()
	// Close frees the member; it must not run any more.
	Close() error
}
