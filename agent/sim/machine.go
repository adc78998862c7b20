package sim

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"
)

// machine is the proc of the one on which all devices are, and the load on it.
type machine struct {
	root     string
	profile  *Profile
	slowdown atomic.Uint64 // thousandths
	busy     float64       // seconds of processors so far, of other programs
	idle     float64
}

// newMachine makes it in a folder.
func newMachine(dir string, p *Profile) (*machine, error) {
	m := &machine{root: filepath.Join(dir, "machine"), profile: p}
	err := os.MkdirAll(filepath.Join(m.root, "proc"), 0o700)
	if err == nil {
		err = m.load(p.stage(0), 0)
	}
	if err != nil {
		return nil, fmt.Errorf("simulated machine: %w", err)
	}
	return m, nil
}

// run has the load come and go until ctx ends.
func (m *machine) run(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	began := time.Now()
	for last := began; ; {
		select {
		case now := <-tick.C:
			if err := m.load(m.profile.stage(now.Sub(began)), now.Sub(last)); err != nil {
				return err
			}
			last = now
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// load puts a stage in force, which held for a while.
func (m *machine) load(s Stage, d time.Duration) error {
	m.slowdown.Store(uint64(1000 * s.Slowdown))
	m.busy += d.Seconds() * s.CPUPercent / 100
	m.idle += d.Seconds() * (1 - s.CPUPercent/100)
	left := s.MemoryPercent
	if left == 0 {
		left = 50
	}
	const total = 4096000 // kB
	return errors.Join(
		m.write("proc/stat", "cpu  %d 0 0 %d 0 0 0 0 0 0\ncpu0 %[1]d 0 0 %[2]d 0 0 0 0 0 0\n", int(100*m.busy),
			int(100*m.idle)),
		m.write("proc/meminfo", "MemTotal: %d kB\nMemFree: 1 kB\nMemAvailable: %d kB\nBuffers: 0 kB\nCached: 0 kB\n", total,
			int(total*left/100)))
}

// write replaces a file at once, as those who read it expect of a kernel.
func (m *machine) write(name, format string, args ...any) error {
	path := filepath.Join(m.root, name)
	if err := os.WriteFile(path+".new", fmt.Appendf(nil, format, args...), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// slow is what a time becomes under the load of now.
func (m *machine) slow(d time.Duration) time.Duration {
	return time.Duration(float64(d) * float64(m.slowdown.Load()) / 1000)
}
