package slot

import "time"

// Launcher is what limber-boot does with the slots while no program runs.
type Launcher struct{ *Slots }

// Launcher returns the slots for limber-boot.
func (s *Slots) Launcher() *Launcher { return &Launcher{&Slots{s.dir, true}} }

// Count records a start of the release on trial, before it, in the run of the machine that
// boot names. It takes the place of one that was cut.
func (l *Launcher) Count(boot string) error {
	return l.count(func(p *Phase) {
		if p.Cut(boot) {
			p.Cuts++
		} else {
			p.Starts++
		}
		p.Boot = boot
	})
}

// Uncount takes a start back: it was stopped, and did not fail. One that was stopped too often
// stays counted: it may be why.
func (l *Launcher) Uncount() error {
	return l.count(func(p *Phase) {
		if p.Starts > 0 && p.Stops < maxStops {
			p.Starts, p.Stops = p.Starts-1, p.Stops+1
		}
	})
}

func (l *Launcher) count(edit func(*Phase)) error {
	return l.change(func(p *Phase) error {
		if !p.InTrial() {
			return errNoTrial
		}
		edit(p)
		return nil
	})
}

// Back ends a trial with the return to the program before, and returns the phase from then on.
func (l *Launcher) Back(r Reason, tail string) (back Phase, err error) {
	edit := func(p *Phase) error {
		if !p.InTrial() {
			return errNoTrial
		}
		p.back(r, tail, time.Now())
		back = *p
		return nil
	}
	if err = l.change(edit); err != nil && tail != "" {
		tail = "" // which is most of it, where a disk is full
		err = l.change(edit)
	}
	return back, err
}

func (p *Phase) back(r Reason, tail string, now time.Time) {
	p.judged(RolledBack, r, tail, now)
	p.Slot, p.Previous = p.Previous, Package
	p.Provisional = r == NoLink
	if !p.Provisional {
		p.refuse(p.Digest)
	}
}

// Point has the link current follow a phase.
func (l *Launcher) Point(p Phase) error {
	if p.Slot == Package {
		return point(l.path("current"), "")
	}
	return point(l.path("current"), string(p.Slot))
}
