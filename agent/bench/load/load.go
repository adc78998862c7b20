// Package load burdens this machine on purpose, as other programs on a device
// would, and takes the burden away again.
//
//	script ──Parse──▶ stages ──Set──▶ hogs: processes of this program that compute, or copy
//	                              └─▶ a control group that limits this process's share of the CPU
//
// The one rule: nothing outlives who asked for it. A hog ends with its standard
// input, which the kernel closes however its parent ended; the group is left before
// it is removed.
//
// Hogs are processes of the very program that starts them: it must answer to the
// arguments `hog KIND` by calling Burden.
package load

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Load is what burdens the machine now.
type Load struct {
	hogs  Hogs
	group cgroup
}

// Prepare finds out whether the stages can be had here, before anything is
// measured. What it made, Clear takes away.
func (l *Load) Prepare(stages []Stage) error {
	quota := 0
	for _, s := range stages {
		quota = max(quota, s.Quota)
	}
	if quota == 0 {
		return nil
	}
	return l.group.create(quota)
}

// Set changes to what a stage asks for. The group is left before a hog starts,
// which would be limited together with the members else.
func (l *Load) Set(s Stage) error {
	errs := []error{l.group.leave()}
	for _, kind := range Kinds() {
		errs = append(errs, l.hogs.Set(kind, s.Hogs[kind]))
	}
	if s.Quota > 0 {
		errs = append(errs, l.group.enter(s.Quota))
	}
	return errors.Join(errs...)
}

// Clear ends all of it.
func (l *Load) Clear() error { return errors.Join(l.group.leave(), l.hogs.Clear(), l.group.remove()) }

// Stage is a stretch of constant load in a script.
type Stage struct {
	Length time.Duration
	Hogs   map[Kind]int
	Quota  int // percent of one CPU that the measured process may use; 0 is no limit
}

// Count is how many things burden the machine in a stage.
func (s Stage) Count() (n int) {
	for _, h := range s.Hogs {
		n += h
	}
	if s.Quota > 0 {
		n++
	}
	return n
}

// DefaultScript has one, two and four CPU hogs, with pauses.
const DefaultScript = "12s idle, 8s cpu:1, 12s idle, 8s cpu:2, 12s idle, 8s cpu:4, 12s idle"

// Parse reads a script such as "10s idle, 8s cpu:2, 8s memory:1+low:2,
// 8s quota:30".
func Parse(script string) (stages []Stage, err error) {
	for n, part := range strings.Split(script, ",") {
		s, err := parseStage(strings.Fields(part))
		if err != nil {
			return nil, fmt.Errorf("stage %d, %q: %w", n+1, strings.TrimSpace(part), err)
		}
		stages = append(stages, s)
	}
	if stages[0].Count() > 0 {
		return nil, errors.New("the first stage must be idle: it gives the members' profile")
	}
	return stages, nil
}

func parseStage(words []string) (s Stage, err error) {
	if len(words) != 2 {
		return s, errors.New("wants a duration and a load, such as 8s cpu:2")
	}
	if s.Length, err = time.ParseDuration(words[0]); err != nil || s.Length <= 0 || s.Length > time.Hour {
		return s, fmt.Errorf("%q is not a duration of at most an hour", words[0])
	}
	if words[1] == "idle" {
		return s, nil
	}
	s.Hogs = map[Kind]int{}
	for _, item := range strings.Split(words[1], "+") {
		name, count, _ := strings.Cut(item, ":")
		n, err := strconv.Atoi(count)
		kind := Kind(name)
		switch {
		case err != nil || n < 1 || n > 100:
			return s, fmt.Errorf("%q wants a number from 1 to 100 after a colon", item)
		case name == "quota":
			s.Quota = n
		case slices.Contains(Kinds(), kind):
			s.Hogs[kind] = n
		default:
			return s, fmt.Errorf("%q is none of idle, %v, quota", name, Kinds())
		}
	}
	return s, nil
}

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
