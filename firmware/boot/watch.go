package boot

import (
	"time"

	"github.com/limber-edge/limber/firmware/slot"
)

// cause is why a program ended that did not do so itself, for a sentence.
type cause string

const (
	stopped cause = ", as asked"
	deaf    cause = ", as it did not stop when asked"
	hung    cause = ", as it sent no heartbeat"
	late    cause = ", as its trial was over without a verdict"
	stuck   cause = ", as it did not end after its last word"
)

// watch waits for the end of a program, and brings it about when it hangs, when its trial
// takes too long, and when it does not stop though it was asked to, or said that it would. To
// ask one to stop that is being killed, or has failed, changes nothing about why.
func (l *launcher) watch(p process, c choice) (ending, cause) {
	var why cause
	asked := false
	beats := time.NewTicker(l.cfg.Beat)
	defer beats.Stop()
	over := time.NewTimer(c.limit)
	defer over.Stop()
	if !c.trial {
		over.Stop()
	}
	var pulse pulse
	if c.slot != slot.Package {
		pulse.allowed = int(l.cfg.First / l.cfg.Beat)
	}
	for {
		select {
		case e := <-p.Ended():
			e.asked = asked
			return e, why
		case s := <-l.signals:
			p.Signal(s)
			asked = true
			if why == "" {
				why = stopped
				over.Reset(l.cfg.Stop)
			}
		case <-beats.C:
			switch lost := pulse.lost(p.Beats()); {
			case why != "":
			case lost:
				why = hung
				p.Kill()
			case l.over(c):
				why = stuck
				over.Reset(l.cfg.Stop)
			}
		case <-over.C:
			switch {
			case why == stopped:
				why = deaf
			case why == "" && !l.open(c):
				continue
			case why == "":
				why = late
			}
			p.Kill()
		}
	}
}

// open tells whether the trial of a program has no verdict yet.
func (l *launcher) open(c choice) bool {
	p, err := l.slots.Phase()
	return err == nil && p.InTrial() && p.Slot == c.slot
}

// over tells whether a program has said its last word: that it has failed, or that another
// is to run.
func (l *launcher) over(c choice) bool {
	p, err := l.slots.Phase()
	return err == nil && p.InTrial() && (p.Slot == c.slot && p.Verdict != "" || p.Slot != c.slot && !c.instead)
}

// pulse counts heartbeats that are missed.
type pulse struct {
	allowed int // in a row; 0 for any number
	missed  int
}

// lost tells whether it hangs, one more interval on, in which it had heartbeats or not.
func (p *pulse) lost(beats bool) bool {
	if beats {
		p.allowed, p.missed = missed, 0
		return false
	}
	p.missed++
	return p.allowed > 0 && p.missed >= p.allowed
}
