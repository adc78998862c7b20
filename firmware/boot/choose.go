package boot

import (
	"os/exec"
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
	for _, n := range p.Candidates() {
		path, err := l.program(n)
		if err == nil {
			return choice{slot: n, path: path, instead: instead}
		}
		l.say("%v: it cannot run", err)
	}
	return choice{slot: slot.Package, path: l.cfg.Argv[0], instead: instead} // whose start will say why not
}

// try counts a start of the release on trial. If there is none any more, or it cannot be
// counted, it returns the phase in which something else is to run.
func (l *launcher) try(p slot.Phase) (choice, slot.Phase) {
	path, err := l.program(p.Slot)
	switch {
	case p.Verdict != "":
		return choice{}, l.back(p, p.Verdict, "")
	case p.Spent() && !p.Cut(l.cfg.Boot):
		return choice{}, l.back(p, slot.Crash, "")
	case err != nil:
		return choice{}, l.back(p, slot.Crash, err.Error())
	}
	if err := l.slots.Count(l.cfg.Boot); err != nil {
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
