package load

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"syscall"
)

// Kind is what a process that burdens the machine does.
type Kind string

const (
	CPU    Kind = "cpu"    // computes in registers
	Memory Kind = "memory" // copies memory beyond every cache
	Low    Kind = "low"    // computes at a low priority, nice 10
)

// Kinds are all there are.
func Kinds() []Kind { return []Kind{CPU, Memory, Low} }

// Hogs are processes that keep the machine busy, as another program on the
// device would.
type Hogs struct {
	running []hog
}

type hog struct {
	kind Kind
	cmd  *exec.Cmd
	end  io.Closer // a hog lives as long as its standard input
}

// Set starts or stops hogs of one kind until n run.
func (h *Hogs) Set(kind Kind, n int) error {
	var errs []error
	for _, g := range slices.Backward(h.running) {
		if g.kind == kind && h.count(kind) > n {
			errs = append(errs, g.end.Close(), g.cmd.Wait())
			h.running = slices.DeleteFunc(h.running, func(o hog) bool { return o.cmd == g.cmd })
		}
	}
	for h.count(kind) < n {
		if err := h.start(kind); err != nil {
			return errors.Join(append(errs, fmt.Errorf("start a busy process: %w", err))...)
		}
	}
	return errors.Join(errs...)
}

func (h *Hogs) count(kind Kind) (n int) {
	for _, g := range h.running {
		if g.kind == kind {
			n++
		}
	}
	return n
}

// Clear ends all of them.
func (h *Hogs) Clear() error {
	var errs []error
	for _, kind := range Kinds() {
		errs = append(errs, h.Set(kind, 0))
	}
	return errors.Join(errs...)
}

func (h *Hogs) start(kind Kind) error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	c := exec.Command(exe, "hog", string(kind))
	in, err := c.StdinPipe()
	if err != nil {
		return err
	}
	if err := c.Start(); err != nil {
		return err
	}
	h.running = append(h.running, hog{kind, c, in})
	return nil
}

// Burden keeps one CPU busy until input ends, so that no hog outlives whoever
// started it, however that ended.
func Burden(kind Kind, input io.Reader) error {
	work, err := burden(kind)
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, input)
		done <- err
	}()
	for {
		select {
		case err := <-done:
			return err
		default:
			work()
		}
	}
}

// burden is what a hog does for about a millisecond.
func burden(kind Kind) (func(), error) {
	switch kind {
	case Low:
		runtime.LockOSThread() // a priority is a thread's
		if err := syscall.Setpriority(syscall.PRIO_PROCESS, 0, 10); err != nil {
			return nil, fmt.Errorf("lower the priority: %w", err)
		}
	case Memory:
		return stream(), nil
	case CPU:
	default:
		return nil, fmt.Errorf("hog: %q is none of %v", kind, Kinds())
	}
	x := 1.0
	return func() {
		for range 1 << 18 {
			x = x*1.0000001 + 1e-9
		}
		if x > 1e300 {
			x = 1
		}
	}, nil
}

// stream copies from one large buffer to another, piece by piece.
func stream() func() {
	const size, piece = 64 << 20, 4 << 20
	from, to, at := make([]byte, size), make([]byte, size), 0
	return func() {
		copy(to[at:at+piece], from[at:])
		at = (at + piece) % size
	}
}
