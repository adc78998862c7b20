package replay

import (
	"fmt"
	"time"

	"github.com/limber-edge/limber/agent/governor"
)

// Policy chooses members as a governor.Governor does, whose methods these are.
// Times are on one clock that begins with the trace.
type Policy interface {
	// Arrive tells of a job that joined the queue.
	Arrive(now time.Duration)
	// Decide chooses the member that runs the job at the head of q, or none.
	Decide(now time.Duration, q governor.Queue) (member int, shed bool)
	// Observe tells what an inference took that ended now.
	Observe(now time.Duration, member int, latency time.Duration)
}

// hinted is a policy that is told the load before it decides.
type hinted interface{ Hint(load int) }

// Entry is a policy with its name in tables; New starts it anew.
type Entry struct {
	Name string
	New  func() Policy
}

// Field is every policy that does not know the future, for members that
// governor.New would take: each member for itself, the rules of others, ours.
func Field(members []governor.Member) []Entry {
	var field []Entry
	for i := range members {
		field = append(field, Entry{fmt.Sprintf("static:%d", i), func() Policy { return static(i) }})
	}
	return append(field,
		Entry{"dynamic-ofa", func() Policy { return newDynamicOFA(members) }},
		Entry{"one-step", func() Policy { return newOneStep(members) }},
		Entry{"alert", func() Policy { return newAlert(members) }},
		Entry{"slackfit", func() Policy { return newSlackFit(members) }},
		Entry{"limber", func() Policy { return newLimber(members) }},
		Entry{"limber+hint", func() Policy { return hintedLimber{newLimber(members)} }},
	)
}

// limber is the runtime manager as a device runs it. Its governor is no embedded
// field: it would be told the load.
type limber struct{ governor *governor.Governor }

func newLimber(members []governor.Member) limber {
	g, err := governor.New(members, governor.Mode{}, nil)
	if err != nil {
		panic("replay: " + err.Error()) // Trace.Members let them through
	}
	return limber{g}
}

func (l limber) Arrive(now time.Duration) { l.governor.Arrive(now) }

func (l limber) Decide(now time.Duration, q governor.Queue) (member int, shed bool) {
	d := l.governor.Decide(now, q)
	return d.Member, d.Shed
}

func (l limber) Observe(now time.Duration, member int, latency time.Duration) {
	l.governor.Observe(now, member, 1, latency)
}

// hintedLimber is the same with a monitor that reads the load.
type hintedLimber struct{ limber }

func (l hintedLimber) Hint(load int) { l.governor.Hint(load) }

// nothing is the part of a policy that learns nothing.
type nothing struct{}

func (nothing) Arrive(time.Duration)                      {}
func (nothing) Observe(time.Duration, int, time.Duration) {}
