package boot

import (
	"errors"
	"os/exec"
	"slices"
	"syscall"
	"time"

	"github.com/limber-edge/limber/firmware/slot"
)

// A choice is what to start.
type choice struct {
	slot    slot.Name
	path    string
	trial   bool          // it was counted
	limit   time.Duration // of the trial
	instead bool          // of a release on trial that may not or cannot be started
	rest    []slot.Name   // what to start if this cannot be
}

// choose decides by what is recorded, and by what can run.
func (l *launcher) choose() choice {
	p, err := l.slots.Phase()
	if err != nil {
		l.say("%v: slot %s runs, by the link current", err, p.Slot)
	}
	instead := p.InTrial()
	if instead {
		var c choice
		if c, p = l.try(p); c.trial {
			return c
		}
	}
	if err := l.slots.Point(p); err != nil {
		l.say("link current: %v", err)
	}
	return l.first(p.Candidates(), instead)
}

// first is the first program that is there and whole.
func (l *launcher) first(all []slot.Name, instead bool) choice {
	for i, n := range all {
		path, err := l.program(n)
		if err == nil {
			return choice{slot: n, path: path, instead: instead, rest: all[i+1:]}
		}
		l.say("%v: it cannot run", err)
	}
	return choice{slot: slot.Package, path: l.cfg.Argv[0], instead: instead} // whose start will say why not
}

// noProgram tells whether a start failed because of what was to be started, or of where it
// lies, and not for want of memory or the like.
func noProgram(err error) bool {
	all := []error{syscall.ENOEXEC, syscall.EACCES, syscall.ENOENT, syscall.ELIBBAD, syscall.EIO}
	return slices.ContainsFunc(all, func(one error) bool { return errors.Is(err, one) })
}

// try counts a start of the release on trial. If there is none any more, or it cannot be
// counted, it returns the phase in which something else is to run.
func (l *launcher) try(p slot.Phase) (choice, slot.Phase) {
	path, err := l.program(p.Slot)
	switch {
	case p.Verdict != "":
		return choice{}, l.back(p, p.Verdict, "")
	case p.Spent():
		return choice{}, l.back(p, slot.Crash, "")
	case err != nil:
		return choice{}, l.back(p, slot.Crash, err.Error())
	}
	if err := l.slots.Count(); err != nil {
		return choice{}, l.without(p, err)
	}
	if err := l.slots.Point(p); err != nil {
		l.say("link current: %v", err)
	}
	return choice{slot: p.Slot, path: path, trial: true, limit: p.Limit() + l.cfg.Grace}, p
}

// program is the path of what runs from a slot.
func (l *launcher) program(n slot.Name) (string, error) {
	if n != slot.Package {
		return l.slots.Program(n)
	}
	if _, err := exec.LookPath(l.cfg.Argv[0]); err != nil {
		return "", err
	}
	return l.cfg.Argv[0], nil
}
