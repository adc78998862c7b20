package agent

import (
	"context"
	"time"

	"github.com/limber-edge/limber/agent/control"
	"github.com/limber-edge/limber/agent/engine"
	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/agent/host"
	"github.com/limber-edge/limber/agent/pipeline"
	"github.com/limber-edge/limber/agent/uplink"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family"
)

// observer tells what the device is like: telemetry, and what changed. It belongs
// to one goroutine.
type observer struct {
	*Agent
	host *host.Stats
	last pipeline.Snapshot // at the last telemetry
	told conditions
}

// conditions are what is told when it changes.
type conditions struct {
	ready  bool   // members are not being prepared
	detail string // of the state
	member string // that operates
	outbox bool   // cannot write
	store  bool   // likewise
	log    bool   // of decisions, likewise

	// What decides which members are worth using:
	profile *family.Profile
	on      family.Variant
}

// observe publishes telemetry and changes until ctx ends.
func (a *Agent) observe(ctx context.Context) error {
	o := &observer{Agent: a, host: host.New(a.deps.Machine, a.deps.Board)}
	telemetry := time.NewTicker(a.cfg.Telemetry.Every.Duration)
	defer telemetry.Stop()
	second := time.NewTicker(time.Second)
	defer second.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-a.engine.Changed():
			o.served()
		case <-second.C:
			s := a.engine.Snapshot()
			o.host.Sample(s.Busy)
			if idle, active, ok := o.host.Split(); ok {
				a.engine.SetPower(governor.Power{Idle: idle, Active: active})
			}
			o.review(s.LogFault)
		case <-telemetry.C:
			a.uplink.Telemetry(o.telemetry())
		}
	}
}

// served follows the engine: what it can do now is published anew, and jobs that
// waited for a member are handed on.
func (o *observer) served() {
	s := o.engine.Status()
	if s.State != engine.Preparing {
		o.jobs.resume()
	}
	now := o.told
	now.serves(s)
	for _, d := range now.news(o.told) {
		o.uplink.Changed(d)
	}
	o.told = now
}

// serves notes what an engine can do.
func (c *conditions) serves(s engine.Status) {
	c.ready, c.detail = s.State != engine.Preparing, detailOf(s, wire.Online)
	c.profile, c.on = s.Profile, s.Variant
}

// news are the documents that say something else than before. The first look at a
// device that is ready has some: the greeting may have said that it is not.
func (c conditions) news(before conditions) (stale []uplink.Document) {
	if c.ready != before.ready || c.detail != before.detail {
		stale = append(stale, uplink.State)
	}
	if c.profile != before.profile || c.on != before.on {
		stale = append(stale, uplink.Caps, uplink.Reported)
	}
	return stale
}

// review has the reported state published anew when another member operates, and
// tells of a fault when what waits, or what is to be remembered, is not safe on the
// disk any more. Lost is why decisions are not logged, if they are not.
func (o *observer) review(lost error) {
	now, was := o.told, o.told
	outbox, state := o.deps.Outbox.Fault(), o.deps.Store.Fault()
	now.outbox, now.store = outbox != nil, state != nil
	if s := o.engine.Status(); s.Operating != nil {
		now.member = s.Operating.Name
	}
	now.log = lost != nil
	o.told = now
	if now.member != was.member {
		o.uplink.Changed(uplink.Reported)
	}
	if now.log && !was.log {
		o.Agent.log.Warn("decisions are not logged", "err", lost)
	}
	if now.outbox && !was.outbox {
		o.fault("results and events that wait are not on the disk: %v", outbox)
	}
	if now.store && !was.store {
		o.Agent.log.Error("state not safe", "err", state)
		o.fault("what is remembered would be lost at a restart: %v", state)
	}
}

// telemetry is the state of the machine and of the engine. It begins a new interval
// for the quantiles, and for what an inference costs.
func (o *observer) telemetry() wire.Telemetry {
	all := o.Snapshot()
	s := all.Engine
	lately := s.Since(&o.last)
	o.last = s.Snapshot
	t := wire.Telemetry{
		TS: wire.At(time.Now()), Outbox: all.Uplink.Records, Queue: s.Waiting,
		Jobs: s.Jobs + all.TurnedAway + all.Unseen, Refused: s.Refused + all.TurnedAway, Missed: s.Missed,
		Superseded: all.Superseded, Retained: all.Uplink.Retained,
	}
	if behind, ok := o.uplink.Offset(); ok {
		t.ClockOffset = new(wire.Millis(behind))
	}
	o.host.Fill(&t, lately.Total.Count(), s.Busy)
	if s.Members == nil {
		return t
	}
	t.Mode, t.Goal, t.Member = s.Mode.String(), control.WireGoal(s.Mode.Goal()), s.Members[s.Operating].Name
	t.Slowdown, t.Decisions = new(digits(s.Slowdown, 3)), wireDecisions(s.Decisions, s.Members)
	if t.Stages = stages(lately); t.Stages != nil {
		t.P50MS, t.P95MS = &t.Stages.Infer.P50MS, &t.Stages.Infer.P95MS
	}
	return t
}

// stages turns the quantiles of an interval into the wire's; nil when nothing ended.
func stages(i pipeline.Snapshot) *wire.Stages {
	if i.Total.Count() == 0 {
		return nil
	}
	q := func(h *pipeline.Histogram) wire.Quantiles {
		return wire.Quantiles{P50MS: wire.Millis(h.Quantile(0.5)), P95MS: wire.Millis(h.Quantile(0.95))}
	}
	return &wire.Stages{Queue: q(&i.Queue), Decode: q(&i.Decode), Infer: q(&i.Infer), Total: q(&i.Total)}
}
