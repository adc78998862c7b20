package monitor

import (
	"bytes"
	"cmp"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

// Pulse tells how many threads of others want a processor at this very moment.
// It keeps its files open, allocates nothing and takes a few microseconds, so
// that it can be felt before every inference. It belongs to one goroutine.
//
// What it says is the number of runnable threads in /proc/loadavg, which counts
// them in an instant, without the one that asks. PSI says over the time since
// the last call whether anybody had to wait, and bounds that number: if somebody
// waited for most of it, all processors were wanted, even if this instant does
// not look like it; if nobody did, no more were wanted than there are.
type Pulse struct {
	load, psi *os.File // nil: the kernel has no such file
	cpus      int
	buf       [256]byte
	at        time.Time
	waited    int64 // microseconds in which a task waited for a processor, at that time
}

// The bounds that PSI sets, and how old the last call may be for its wait to be
// about now.
const (
	crowded    = 0.5  // share of the time somebody waited: all processors were wanted
	roomy      = 0.02 // share below which nobody did
	pulseStale = 250 * time.Millisecond
)

// NewPulse opens the files of the machine whose proc lies in root.
func NewPulse(root string) *Pulse {
	p := &Pulse{cpus: cmp.Or(Processors(root), runtime.NumCPU())}
	p.load, _ = os.Open(filepath.Join(root, "proc", "loadavg")) // nil on an error: Hint says that it does not know
	p.psi, _ = os.Open(filepath.Join(root, "proc", "pressure", "cpu"))
	return p
}

// Close closes the files.
func (p *Pulse) Close() error {
	var errs []error
	for _, f := range []*os.File{p.load, p.psi} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}

// Hint is how many threads besides the calling one want a processor; threads of
// this process that run just now are among them. False where the kernel does not
// tell.
func (p *Pulse) Hint(now time.Time) (others int, ok bool) {
	running, ok := runnable(p.read(p.load))
	if !ok {
		return 0, false
	}
	others = max(0, int(min(running, 1<<20))-1)
	switch share, known := p.share(now); {
	case known && share >= crowded:
		others = max(others, p.cpus-1)
	case known && share <= roomy:
		others = min(others, p.cpus)
	}
	return others, true
}

// share is the part of the time since the last call in which a task waited.
func (p *Pulse) share(now time.Time) (share float64, ok bool) {
	waited, ok := waitedTotal(p.read(p.psi))
	since, more := now.Sub(p.at), waited-p.waited
	p.at, p.waited = now, waited
	if !ok || since <= 0 || since > pulseStale || more < 0 {
		return 0, false
	}
	return float64(more) / float64(since.Microseconds()+1), true
}

// read is the beginning of a file as it is now. One read from its start makes
// the kernel write it anew.
func (p *Pulse) read(f *os.File) []byte {
	if f == nil {
		return nil
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil
	}
	n, err := f.Read(p.buf[:])
	if err != nil {
		return nil
	}
	return p.buf[:n]
}

// runnable is the number before the slash in "0.20 0.18 0.12 1/80 11206".
func runnable(load []byte) (n int64, ok bool) {
	for range 3 {
		_, rest, found := bytes.Cut(load, []byte(" "))
		if !found {
			return 0, false
		}
		load = rest
	}
	digits, _, found := bytes.Cut(load, []byte("/"))
	if !found {
		return 0, false
	}
	return decimal(digits)
}

// waitedTotal is the total of the line "some avg10=1.32 ... total=30405953".
func waitedTotal(psi []byte) (microseconds int64, ok bool) {
	line, _, _ := bytes.Cut(psi, []byte("\n"))
	_, digits, found := bytes.Cut(line, []byte("total="))
	if !found || !bytes.HasPrefix(line, []byte("some ")) {
		return 0, false
	}
	return decimal(digits)
}

// decimal reads a number of at most 18 digits; strconv would allocate a string.
func decimal(digits []byte) (n int64, ok bool) {
	if len(digits) == 0 || len(digits) > 18 {
		return 0, false
	}
	for _, d := range digits {
		if d < '0' || d > '9' {
			return 0, false
		}
		n = 10*n + int64(d-'0')
	}
	return n, true
}
