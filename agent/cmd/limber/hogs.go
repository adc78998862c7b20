package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"

	"github.com/spf13/cobra"
)

// hogs are processes that keep the CPU busy, as another program on the device
// would.
type hogs struct {
	running []*exec.Cmd
	ends    []io.Closer // a hog lives as long as its standard input
}

// set starts or stops hogs until n run.
func (h *hogs) set(n int) error {
	for len(h.running) < n {
		if err := h.start(); err != nil {
			return fmt.Errorf("start a CPU-bound process: %w", err)
		}
	}
	var errs []error
	for len(h.running) > n {
		last := len(h.running) - 1
		errs = append(errs, h.ends[last].Close(), h.running[last].Wait())
		h.running, h.ends = h.running[:last], h.ends[:last]
	}
	return errors.Join(errs...)
}

func (h *hogs) start() error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	c := exec.Command(exe, "hog")
	in, err := c.StdinPipe()
	if err != nil {
		return err
	}
	if err := c.Start(); err != nil {
		return err
	}
	h.running, h.ends = append(h.running, c), append(h.ends, in)
	return nil
}

// newHog is the command such a process runs. It ends with its standard input,
// so no hog outlives whoever started it, however that ended.
func newHog() *cobra.Command {
	return &cobra.Command{
		Use:    "hog",
		Short:  "Keep one CPU busy until standard input ends",
		Args:   exactly(0, "no arguments"),
		Hidden: true,
		RunE: func(c *cobra.Command, _ []string) error {
			done := make(chan error, 1)
			go func() {
				_, err := io.Copy(io.Discard, c.InOrStdin())
				done <- err
			}()
			x := 1.0
			for {
				select {
				case err := <-done:
					return err
				default:
				}
				for range 1 << 16 {
					x = x*1.0000001 + 1e-9
				}
				if x > 1e300 {
					x = 1
				}
			}
		},
	}
}
