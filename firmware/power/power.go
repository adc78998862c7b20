// Package power reads what a board says of its electricity and its clocks, and
// sets a power mode where that was allowed.
//
//	INA3221 rails ──┐
//	RAPL packages ──┴─▶ watts, joules ─┐
//	GPU load ──────────────────────────┼─▶ Reading
//	cpufreq ──────────▶ clock, cap ────┘
//	nvpmodel, cpufreq ▶ modes ──┬─▶ Setter: the rights of this process, with a Permission only
//	                            └─▶ Remote ── socket ──▶ Helper ──▶ Setter, as root
//
// The Helper is the only part that needs root. It obeys a list of names that its owner
// gave it, and users that the kernel names (SO_PEERCRED); what they send is one line of
// JSON, {"set":NAME,"at_reboot":bool}, answered by {"ok","mode","reason","detail"}. A
// program gets a number that was looked up here, and nothing of anybody's environment.
//
// nvpmodel asks before it sets a mode that takes a reboot, and forgets the mode where the
// answer is no. Its status file is what it goes by when the board starts: a change can be
// left to that, and the mode in force is then another one than the file says.
//
// A part that this board does not have is absent from a Reading, and so is one
// that this process may not read: a board without rails is as usual as one with
// them. No part that is missing takes another with it.
//
// The one rule that makes it correct: no watt is counted twice, and a sum that
// lacks one of its terms is no number. Where a rail feeds the whole module it is
// the total; where there is none, the total is the sum of the rails that do not
// feed each other (see total); RAPL counts packages, never their parts.
//
// Facts: the kernel's Documentation/hwmon/ina3221.rst and
// Documentation/power/powercap; NVIDIA's Jetson Linux Developer Guide for names
// of rails and files. Only Linux has these files; elsewhere everything is absent.
package power

import (
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Board reads one board for all who ask. It is safe for concurrent use: energy
// only ever grows, and who wants that of an interval takes the difference.
type Board struct {
	root string

	mu     sync.Mutex
	meter  meter
	joules float64 // since the first Read
	last   Reading

	found   atomic.Pointer[found] // which mode is in force; nil: the status file says
	changes changes               // of the mode, by this process
}

// pace is how long a reading is told again before the files are read anew: less
// than the shortest interval of telemetry, whose energy would else be none.
const pace = 50 * time.Millisecond

// Reading is what a board says at one moment. What is unknown is nil.
type Reading struct {
	At           time.Time          // when it was read
	Rails        map[string]float64 // W now, by the name of the rail
	Watts        *float64           // W of the whole: of rails now, of RAPL on average since the reading before
	Joules       *float64           // J of the whole since the first Read, but for times of unknown power; nil in one
	GPUPercent   *float64           // % of the GPU's time, as its driver averages it
	ClockPercent *float64           // % of the processors' full clock, their mean, in [0, 100]
	Capped       *bool              // a processor may not reach its full clock: by heat, a power mode or an operator
}

// New makes a Board whose proc, sys and etc lie in root: "/", but for a test.
func New(root string) *Board { return &Board{root: root} }

// Read is what the board says, read anew if the last reading is 50 ms old.
// Energy is that between two readings: call it at least once a minute, and each
// second where rails are to be followed. Callers share what the pointers and the
// map lead to: none may write there.
func (b *Board) Read(now time.Time) Reading {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.last.At.IsZero() || now.Sub(b.last.At) >= pace {
		b.last = b.read(now)
	}
	return b.last
}

func (b *Board) read(now time.Time) Reading {
	r := Reading{At: now}
	if rails := b.rails(); len(rails) > 0 {
		r.Rails = readable(rails)
		r.Watts = total(rails)
		b.joules += b.meter.follow(now, r.Watts)
	} else {
		var used float64
		r.Watts, used = b.meter.count(now, b.packages())
		b.joules += used
	}
	if b.meter.known {
		joules := b.joules
		r.Joules = &joules
	}
	r.GPUPercent = b.gpu()
	r.ClockPercent, r.Capped = b.clock()
	return r
}

// maxText bounds a file, in bytes: nvpmodel's configuration has some 20 KiB,
// the others a line.
const maxText = 1 << 20

// text is a file without the white space around it; false if it cannot be read.
func text(path string) (string, bool) {
	f, err := os.Open(path)
	if err != nil {
		return "", false
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxText))
	return strings.TrimSpace(string(b)), err == nil
}

// number is the whole number that a file holds.
func number(path string) (float64, bool) {
	s, ok := text(path)
	if !ok {
		return 0, false
	}
	return parseNumber(s)
}

// parseNumber reads a whole number as sysfs writes it.
func parseNumber(s string) (float64, bool) {
	n, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64)
	return float64(n), err == nil
}

// glob is the files below root that match one of the patterns, those of the
// first pattern first.
func (b *Board) glob(patterns ...string) (found []string) {
	for _, p := range patterns {
		paths, _ := filepath.Glob(filepath.Join(b.root, p)) // the patterns are ours, and well formed
		found = append(found, paths...)
	}
	return found
}

// path is a file below root.
func (b *Board) path(parts ...string) string {
	return filepath.Join(append([]string{b.root}, parts...)...)
}
