// Package boot is the work of limber-boot, which runs the program of a device for ever: the
// release in a slot (see firmware/slot), or the program of the package.
//
//	            ┌───────────── again, after 1 s, 2 s, ... 60 s ────────────┐
//	            ▼                                                          │
//	choose ─▶ count ─▶ start ─▶ watch: heartbeats, the trial's time ─▶ it ended
//	   ▲      (trial)                     │                                │
//	   │                                  └─ asked to stop: pass it on,    ├─ third start that failed,
//	   └── go back, with its last words ◀─── then end as it ends           │  hang, verdict
//	                         ▲                                             │
//	                         └─────────────────────────────────────────────┘
//
// The one rule that makes it correct: nothing that can be decided by what phase.json says is
// decided by what this process remembers. So it may be killed at any moment, and a start in a
// trial is counted before it. A start that cannot be counted is not made: the program before
// runs instead.
//
// A start that ended with the machine, by a power cut or a reset, says nothing of a release: the
// kernel has another boot id then, and the next start takes its place. Ten times in a trial, as a
// release may be what brings the machine down. That this process was killed with its program while
// the machine went on does count: memory that ran out or a watchdog did it, for what it ran.
//
// A program that ends without having been asked to has failed, whatever its exit code, as it
// was to run for ever. In a trial the third such end goes back; a hang, which took time to
// show, goes back at once, as the verdict of the release on itself does. One that was asked
// to stop and had to be killed has failed as well; and so has one that stopped as asked, from
// the eleventh time on: a manager that waits in vain for a program to be ready asks it each
// time. Everywhere else the program is started
// again and again, as nobody else will; one that cannot be started at all, since its bytes
// are no program any more, gives way to the one before and to that of the package, for as
// long.
//
// Heartbeats are demanded of every release in a slot, from half a minute after its start: all
// that can lie there know of them, so that silence is a hang. Of the program of the package
// they count from the first one on: it may be older than the launcher, or a script, and is
// all there is if nothing else runs. What a slot needs to be run is said in firmware/slot.
//
// This program is installed with the package and no release replaces it. It has the standard
// library alone, and as little of that as will do.
package boot

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"github.com/limber-edge/limber/firmware/slot"
)

// Config is what limber-boot is told.
type Config struct {
	State string   // the state folder, in which the slots are
	Argv  []string // the program of the package, and the arguments of whatever runs
	Boot  string   // names the machine's run since it was started; empty: not known
	Timing
}

// Timing are the times that a launcher keeps to, all by its own monotonic clock.
type Timing struct {
	Beat  time.Duration // a heartbeat is due, and three that are missed in a row are a hang
	First time.Duration // the first one of a release is due
	// Grace is beyond a trial's time, which begins when the program has opened its state and its
	// runtime. It is more than systemd gives a start or between two signs of life, see
	// limber.service, so that an opening that is slow is not taken for a hang here.
	Grace  time.Duration
	Stop   time.Duration // for a program that was asked to stop; less than systemd gives both
	Pause  time.Duration // before a program that failed is started again; doubles
	Most   time.Duration // of a pause
	Steady time.Duration // a program that ran so long has not failed at its start
}

// DefaultTiming is that of a device.
func DefaultTiming() Timing {
	return Timing{Beat: 5 * time.Second, First: 30 * time.Second, Grace: 5 * time.Minute, Stop: 25 * time.Second,
		Pause: time.Second, Most: time.Minute, Steady: time.Minute}
}

// BootID is the kernel's name for the machine's run since it was started; empty where there
// is none.
func BootID() string {
	b, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return string(bytes.TrimSpace(b))
}

// missed is how many heartbeats in a row make a hang.
const missed = 3

// Run runs programs until one of the signals asks it to stop, which it passes on, and
// returns the exit code. What the programs and it have to say goes to stderr.
func Run(cfg Config, signals <-chan os.Signal, stderr io.Writer) (code int, err error) {
	if path, err := exec.LookPath(cfg.Argv[0]); err == nil { // else it is said when it is needed
		cfg.Argv[0] = path
	}
	if cfg.State, err = filepath.Abs(cfg.State); err != nil {
		return 0, err
	}
	if err := alone(cfg.State); err != nil {
		return 0, err
	}
	// The kernel ends a program together with the thread that started it.
	runtime.LockOSThread()
	l := launcher{cfg: cfg, slots: slot.Open(cfg.State).Launcher(), signals: signals, stderr: stderr}
	l.start = l.startProcess
	return l.run(), nil
}

// alone locks a state folder, until this process ends: who starts a second launcher by hand
// would have a release on trial fail, which finds its state in use.
func alone(state string) error {
	fd, err := syscall.Open(state, syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	if err == nil {
		err = syscall.Flock(fd, syscall.LOCK_EX|syscall.LOCK_NB)
	}
	if err == syscall.EWOULDBLOCK {
		return fmt.Errorf("another limber-boot runs with the state in %s: stop that one first", state)
	}
	return nil // without a folder, or a lock, there is still a program to run
}

// A launcher runs one program after another.
type launcher struct {
	cfg     Config
	slots   *slot.Launcher
	signals <-chan os.Signal
	stderr  io.Writer
	start   func(choice) (process, error)
	failed  int // starts in a row; of one program
}

// A process is a program that was started.
type process interface {
	// Signal asks the program itself, as far as it is there.
	Signal(os.Signal)
	// Kill ends it and what it started.
	Kill()
	// Beats tells whether there were heartbeats since it was last asked.
	Beats() bool
	// Ended has what there is to say of it, once it is gone with all that it started.
	Ended() <-chan ending
}

// ending is how a program ended.
type ending struct {
	code  int    // as a shell has it: 128 and the signal's number if one ended it
	how   string // "exit code 1"
	tail  string // the last of what it wrote to stderr
	asked bool   // to stop, whatever it ended of
}

func (l *launcher) say(format string, args ...any) {
	fmt.Fprintf(l.stderr, "limber-boot: "+format+"\n", args...)
}

func (l *launcher) run() int {
	for {
		c := l.choose()
		began := time.Now()
		e, why := l.once(&c)
		switch why {
		case stopped:
			l.uncount(c)
			return e.code
		case deaf: // the start stays counted: a manager that waits in vain for a program to be ready asks it, too
			return e.code
		}
		l.say("%s of slot %s ended: %s%s", filepath.Base(c.path), c.slot, e.how, why)
		if time.Since(began) >= l.cfg.Steady {
			l.failed = 0
		}
		another := l.judge(c, e, why)
		switch {
		case e.asked:
			return e.code
		case another:
			l.failed = 0
		case !l.pause():
			return 0
		}
	}
}

// uncount takes the start of a program back that was stopped, if it is on trial still.
func (l *launcher) uncount(c choice) {
	if !c.trial || !l.open(c) {
		return
	}
	if err := l.slots.Uncount(); err != nil {
		l.say("%v", err)
	}
}

// pause waits before the next start, and tells whether there is to be one.
func (l *launcher) pause() bool {
	d := l.cfg.Most
	if l.failed < 16 { // which is far beyond the most
		d = min(d, l.cfg.Pause<<l.failed)
	}
	l.failed++
	wait := time.NewTimer(d)
	defer wait.Stop()
	select {
	case <-wait.C:
		return true
	case <-l.signals:
		return false
	}
}

// once starts a program and waits for its end. In the place of one that cannot be started,
// and is not on trial, another one is.
func (l *launcher) once(c *choice) (ending, cause) {
	p, err := l.start(*c)
	for noProgram(err) && len(c.rest) > 0 {
		l.say("%v: it cannot run", err)
		*c = l.first(c.rest, c.instead)
		p, err = l.start(*c)
	}
	if err != nil {
		return ending{code: 1, how: err.Error(), tail: err.Error()}, ""
	}
	return l.watch(p, *c)
}

// judge ends a trial that is lost, and tells whether another program is to run now.
func (l *launcher) judge(c choice, e ending, why cause) (another bool) {
	p, err := l.slots.Phase()
	switch {
	case err != nil || !p.InTrial():
		return false
	case p.Slot != c.slot: // what ended has asked for the trial, unless it runs in its place
		return !c.instead
	case p.Verdict != "":
		l.back(p, p.Verdict, e.tail)
	case why != "":
		l.back(p, slot.Hang, e.tail)
	case p.Spent():
		l.back(p, slot.Crash, e.tail)
	default:
		return false
	}
	return true
}

// back goes back to the program before, and returns the phase to be acted on: that program
// runs also while it cannot be recorded.
func (l *launcher) back(p slot.Phase, r slot.Reason, tail string) slot.Phase {
	back, err := l.slots.Back(r, tail)
	if err != nil {
		return l.without(p, err)
	}
	l.say("release %s in trial failed (%s): back to slot %s", back.Version, r, back.Slot)
	return back
}

// without is a trial in which the program before runs, as something cannot be recorded.
func (l *launcher) without(p slot.Phase, err error) slot.Phase {
	l.say("%v: slot %s runs meanwhile", err, p.Previous)
	p.Slot, p.Previous = p.Previous, slot.Package
	return p
}
