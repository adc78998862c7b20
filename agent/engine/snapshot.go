package engine

import (
	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/agent/pipeline"
	"github.com/limber-edge/limber/family"
)

// Snapshot is what telemetry and metrics tell of an engine. Its embedded figures are
// of all jobs since the start, those included that reached no pipeline.
type Snapshot struct {
	pipeline.Snapshot

	// Of the backend that serves; zero before there is one.
	Waiting   int // jobs in the queue now
	Operating *family.Member
	Mode      governor.Mode // in force
	Slowdown  float64
	Decisions []Decision // the last ones, newest first, at most 8
	LogLost   uint64     // of the governor's calls, how many are missing in the log of decisions
	LogFault  error      // why that cannot be written now
}

// Decision is one of the governor's with what led to it.
type Decision struct {
	pipeline.Explained
	Member  *family.Member
	Options []Option // by rising latency
}

// Option is a member that could have been chosen.
type Option struct {
	governor.Option
	Member *family.Member
}

// Snapshot tells what the engine did and does.
func (e *Engine) Snapshot() Snapshot {
	s := Snapshot{Snapshot: e.counters.Snapshot()}
	away := e.away.Load()
	s.Jobs, s.Refused = s.Jobs+away, s.Refused+away
	b := e.view.Load().backend
	if b == nil {
		return s
	}
	now := b.pipe.State()
	s.Waiting, s.Operating, s.Mode, s.Slowdown = now.Waiting, b.member(now.Operating), now.Mode, now.Slowdown
	for _, x := range now.Decisions {
		s.Decisions = append(s.Decisions, b.decision(x))
	}
	s.LogLost, s.LogFault = b.pipe.LogLost()
	return s
}

// decision names the members of one.
func (b *backend) decision(x pipeline.Explained) Decision {
	d := Decision{Explained: x, Member: b.member(x.Member)}
	for _, o := range x.Options {
		d.Options = append(d.Options, Option{o, b.member(o.Member)})
	}
	return d
}
