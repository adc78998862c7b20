package agent

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/pipeline"
	"github.com/limber-edge/limber/agent/wire"
)

// report publishes telemetry and the events that were held back, until ctx ends.
func (a *Agent) report(ctx context.Context) error {
	v := newVitals(a.parts.Machine, a.parts.Board)
	telemetry := time.NewTicker(a.cfg.Telemetry.Every.Duration)
	defer telemetry.Stop()
	events := time.NewTicker(eventPace)
	defer events.Stop()
	var told standings
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-events.C:
			v.feel(a.account.Snapshot().Busy)
			a.feedPower(ctx, v)
			a.reportGap()
			a.news.flush(eventPace)
			told = a.reportStanding(ctx, told)
		case <-telemetry.C:
			if !a.linkUp.Load() {
				continue // telemetry is about now; nobody wants it later
			}
			msg := a.message(a.self.Telemetry(), false, a.telemetry(v))
			msg.QoS = 0
			if err := a.link.Publish(ctx, msg); err != nil && ctx.Err() == nil && !errors.Is(err, mqtt.ErrDown) {
				a.log.Warn("telemetry not published", "err", err)
			}
		}
	}
}

// feedPower tells the governor what an inference takes of the board's power, as
// soon as that is known.
func (a *Agent) feedPower(ctx context.Context, v *vitals) {
	idle, active, ok := v.draw.Split()
	c := a.crew.Load()
	if !ok || c == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, eventPace) // an inference may hang
	defer cancel()
	if err := c.pipe.SetPower(ctx, governor.Power{Idle: idle, Active: active}); err != nil && ctx.Err() == nil {
		a.log.Debug("power not told", "err", err)
	}
}

// standings is what is told when it changes.
type standings struct {
	member string
	outbox bool // cannot write
	store  bool // likewise
	log    bool // of decisions, likewise
}

// reportStanding publishes the reported state anew when another member operates,
// and a fault when what waits, or what is to be remembered, is not safe on the
// disk any more.
func (a *Agent) reportStanding(ctx context.Context, told standings) standings {
	outbox, store := a.parts.Outbox.Fault(), a.parts.Store.Fault()
	now := standings{outbox: outbox != nil, store: store != nil}
	if c := a.crew.Load(); c != nil {
		at, _ := c.pipe.Governed()
		now.member = c.member(at).Name
		_, err := c.pipe.LogLost()
		if now.log = err != nil; now.log && !told.log {
			a.log.Warn("decisions are not logged", "err", err)
		}
	}
	if now.member != told.member && a.linkUp.Load() {
		a.sayReported(ctx, nil)
	}
	if now.outbox && !told.outbox {
		a.fault("results and events that wait are in memory only: " + outbox.Error())
	}
	if now.store && !told.store {
		a.log.Error("state lost", "err", store)
		a.fault("nothing can be remembered: " + store.Error())
	}
	return now
}

// telemetry is the state of the machine and of the pipeline. It begins a new
// interval for the quantiles, and for what an inference costs.
func (a *Agent) telemetry(v *vitals) wire.Telemetry {
	depth, _ := a.parts.Outbox.Depth()
	t := wire.Telemetry{TS: wire.At(time.Now()), Outbox: depth}
	t.Jobs = a.turnedAway.Load()
	t.Refused = t.Jobs
	t.Jobs += a.origins.unseen.Load()
	t.Superseded, t.Retained = a.origins.superseded.Load(), a.origins.retained.Load()
	crew := a.crew.Load()
	if crew == nil {
		v.tell(&t, 0, 0)
		return t
	}
	p, jobs := crew.pipe.State(), a.account.Snapshot()
	lately := jobs.Since(&v.counted)
	v.counted = jobs
	v.tell(&t, lately.Ended, jobs.Busy)
	t.Mode, t.Goal, t.Member = p.Mode.String(), WireGoal(p.Mode.Goal()), crew.member(p.Operating).Name
	slowdown := math.Round(1000*p.Slowdown) / 1000
	t.Queue, t.Missed, t.Slowdown = p.Waiting, jobs.Missed, &slowdown
	t.Jobs, t.Refused = t.Jobs+jobs.Jobs, t.Refused+jobs.Refused
	t.Decisions = wireDecisions(crew, p.Decisions)
	if t.Stages = stages(lately); t.Stages != nil {
		t.P50MS, t.P95MS = &t.Stages.Infer.P50MS, &t.Stages.Infer.P95MS
	}
	return t
}

// stages turns the pipeline's quantiles into the wire's; nil when nothing ended.
func stages(s pipeline.Interval) *wire.Stages {
	if s.Ended == 0 {
		return nil
	}
	q := func(v pipeline.Quantiles) wire.Quantiles {
		return wire.Quantiles{P50MS: wire.Millis(v.P50), P95MS: wire.Millis(v.P95)}
	}
	return &wire.Stages{Queue: q(s.Queue), Decode: q(s.Decode), Infer: q(s.Infer), Total: q(s.Total)}
}

// caps is what the device can do.
func (a *Agent) caps() wire.Caps {
	c := wire.Caps{
		TS: wire.At(time.Now()), Versions: wire.Versions{Agent: a.parts.Version},
		Verbs: verbs(), Modes: governor.Modes(), Groups: append([]string{wire.Everybody}, a.cfg.Groups...), Members: []wire.Member{},
	}
	if a.parts.Runtime != nil {
		c.Versions.Runtime = a.parts.Runtime.Version()
	}
	if m := a.parts.Board.Modes(); len(m.Names) > 0 {
		c.Power = &wire.Power{Modes: m.Names, Mode: m.Current}
	}
	crew := a.crew.Load()
	if crew == nil {
		return c
	}
	p, o := crew.profile, crew.shelf.Variant()
	c.Family = &wire.Family{Name: a.parts.Family.Name, Digest: "sha256:" + string(a.parts.Family.Digest())}
	c.Profile = &wire.Profile{TS: wire.At(p.Taken), Provider: o.Provider, Threads: o.Threads, OthersPercent: p.OthersPercent}
	for at, i := range crew.front {
		m := crew.member(at)
		c.Members = append(c.Members, wire.Member{Name: m.Name, Top1: m.Top1, MMACs: m.MMACs, Resolution: m.Arch.R,
			P50MS: &p.Members[i].P50ms, P95MS: &p.Members[i].P95ms})
	}
	return c
}
