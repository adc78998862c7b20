package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"syscall"

	"github.com/spf13/cobra"
)

// hogKind is what a process that burdens the machine does.
type hogKind string

const (
	cpuHog    hogKind = "cpu"    // computes in registers
	memoryHog hogKind = "memory" // copies memory beyond every cache
	lowHog    hogKind = "low"    // computes at a low priority, nice 10
)

func hogKinds() []hogKind { return []hogKind{cpuHog, memoryHog, lowHog} }

// hogs are processes that keep the machine busy, as another program on the
// device would.
type hogs struct {
	running []hog
}

type hog struct {
	kind hogKind
	cmd  *exec.Cmd
	end  io.Closer // a hog lives as long as its standard input
}

// set starts or stops hogs of one kind until n run.
func (h *hogs) set(kind hogKind, n int) error {
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

func (h *hogs) count(kind hogKind) (n int) {
	for _, g := range h.running {
		if g.kind == kind {
			n++
		}
	}
	return n
}

// clear ends all of them.
func (h *hogs) clear() error {
	var errs []error
	for _, kind := range hogKinds() {
		errs = append(errs, h.set(kind, 0))
	}
	return errors.Join(errs...)
}

func (h *hogs) start(kind hogKind) error {
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

// newHog is the command such a process runs. It ends with its standard input,
// so no hog outlives whoever started it, however that ended.
func newHog() *cobra.Command {
	return &cobra.Command{
		Use:    "hog cpu|memory|low",
		Short:  "Keep one CPU busy until standard input ends",
		Args:   exactly(1, "a kind"),
		Hidden: true,
		RunE: func(c *cobra.Command, args []string) error {
			work, err := burden(hogKind(args[0]))
			if err != nil {
				return err
			}
			done := make(chan error, 1)
			go func() {
				_, err := io.Copy(io.Discard, c.InOrStdin())
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
		},
	}
}

// burden is what a hog does for about a millisecond.
func burden(kind hogKind) (func(), error) {
	switch kind {
	case lowHog:
		runtime.LockOSThread() // a priority is a thread's
		if err := syscall.Setpriority(syscall.PRIO_PROCESS, 0, 10); err != nil {
			return nil, fmt.Errorf("lower the priority: %w", err)
		}
	case memoryHog:
		return stream(), nil
	case cpuHog:
	default:
		return nil, usageError{fmt.Errorf("hog: %q is none of %v", kind, hogKinds())}
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
