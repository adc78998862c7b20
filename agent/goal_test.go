package agent_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/config"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/sim"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/store"
)

// restart starts a device anew and waits until it reports a mode.
func (o *operator) restart(cfg config.Config, mode string) (*device, wire.Reported) {
	o.tb.Helper()
	o.fence() // what it reported last may still be on its way
	n := len(o.matching(self(cfg).Reported()))
	d := start(o.tb, cfg, rig{})
	var last wire.Reported
	o.until(func() bool {
		all := o.matching(self(cfg).Reported())[n:]
		return slices.ContainsFunc(all, func(m mqtt.Message) bool {
			last = decoded[wire.Reported](o.tb, m)
			return last.Mode != ""
		})
	}, "%s reports a mode", cfg.Device)
	if last.Mode != mode {
		o.tb.Errorf("after the restart: got %+v, want %s", last, mode)
	}
	return d, last
}

func TestCommandSetsAGoalWhichAModeReplaces(t *testing.T) {
	brokers(t, func(t *testing.T, addr string) {
		o, cfg, d := online(t, addr, rig{})
		members := o.front(cfg)
		caps := o.caps(cfg, func(wire.Caps) bool { return true }, "any")
		if !slices.Contains(caps.Verbs, "goal") || !slices.Contains(caps.Modes, "power-save") {
			t.Errorf("caps: got verbs %v and modes %v, want goal and power-save", caps.Verbs, caps.Modes)
		}
		goal := &wire.Goal{DeadlineMS: new(20_000.0), MinTop1: new(0.87), Prefer: wire.PreferLatency}
		o.obeyed(cfg, "goal", "g1", `{"goal":{"deadline_ms":20000,"min_top1":0.87,"prefer":"latency"},"ttl_ms":60000}`)
		o.report(cfg, wire.Reported{Status: wire.Applied, Mode: "goal", Goal: goal})
		o.telemetry(cfg, func(m wire.Telemetry) bool { return m.Mode == "goal" && reflect.DeepEqual(m.Goal, goal) },
			"the goal is told")
		if r := o.ask(cfg, "plain", `{}`); r.DeadlineMS != 20_000 || r.ExpectedTop1 == nil || *r.ExpectedTop1 < 0.87 {
			t.Errorf("a job without wishes: got %+v, want the goal's deadline and floor", r)
		}
		best := members[len(members)-1].Top1
		r := o.ask(cfg, "own", fmt.Sprintf(`{"deadline_ms":30000,"min_top1":%v}`, best))
		if r.DeadlineMS != 30_000 || r.ExpectedTop1 == nil || *r.ExpectedTop1 != best {
			t.Errorf("a job with wishes: got %+v, want them met", r)
		}

		d.stop()
		if _, r := o.restart(cfg, "goal"); !reflect.DeepEqual(r.Goal, goal) {
			t.Errorf("after the restart: got %+v, want the goal", r)
		}
		o.obeyed(cfg, "mode", "m1", `{"mode":"power-save","ttl_ms":60000}`)
		o.report(cfg, wire.Reported{Status: wire.Applied, Mode: "power-save"})
		if r := o.ask(cfg, "after", `{}`); r.DeadlineMS != 100 {
			t.Errorf("a job after the goal: got a deadline of %v ms, want the usual 100", r.DeadlineMS)
		}
	})
}

func TestDesiredGoalIsAppliedOrRejectedWithTheNearest(t *testing.T) {
	brokers(t, func(t *testing.T, addr string) {
		cfg := newConfig(t, addr)
		o, loaded := operate(t, addr), make(chan struct{})
		desire := func(payload string) {
			o.publishAs(mqtt.Message{Topic: self(cfg).Desired(), Payload: []byte(payload), QoS: 1, Retained: true})
		}
		desire(`{"version":1,"goal":{"min_top1":0.87}}`) // it meets a device that is still loading its members
		start(t, cfg, rig{inference: simulated(func(l *sim.Loader) {
			l.Load = func(int) error { <-loaded; return nil }
		})})
		goOn := opener(t, loaded)
		o.presence(cfg, wire.Online, 0)
		o.obeyed(cfg, "mode", "meanwhile", `{"mode":"power-save","ttl_ms":60000}`)
		goOn()
		// An order that came later than the desired state stays.
		o.report(cfg, wire.Reported{Version: 1, Status: wire.Applied, Mode: "power-save"})
		goal := &wire.Goal{MinTop1: new(0.87)}
		desire(`{"version":2,"goal":{"min_top1":0.87}}`)
		o.report(cfg, wire.Reported{Version: 2, Status: wire.Applied, Mode: "goal", Goal: goal})

		members := o.front(cfg)
		desire(`{"version":3,"goal":{"min_top1":0.99,"deadline_ms":500}}`)
		nearest := &wire.Goal{MinTop1: &members[len(members)-1].Top1, DeadlineMS: new(500.0)}
		o.report(cfg, wire.Reported{Version: 3, Status: wire.Rejected, Reason: wire.Infeasible, Nearest: nearest,
			Mode: "goal", Goal: goal})
		desire(`{"version":3,"goal":{"min_top1":0.99,"deadline_ms":500}}`) // as every new connection brings it
		desire(`{"version":4,"mode":"low-latency"}`)
		o.report(cfg, wire.Reported{Version: 4, Status: wire.Applied, Mode: "low-latency"})
		o.fence()
		events := o.events(cfg, wire.EventInfeasible)
		if len(events) != 1 || !strings.Contains(events[0].Detail, "nearest") {
			t.Errorf("got %+v, want one event that names the nearest", events)
		}
	})
}

// The goal comes while members are loaded, which takes longer than it is good for.
func TestAGoalIsNotCarriedOutAfterItsExpiry(t *testing.T) {
	t.Parallel()
	loaded := make(chan struct{})
	o, cfg, _ := fresh(t, serve(t), rig{inference: simulated(func(l *sim.Loader) {
		l.Load = func(i int) error {
			if i == 5 {
				<-loaded
			}
			return nil
		}
	})})
	goOn := opener(t, loaded)
	ack := o.command(cfg, cfg.Device, "goal", "g1", `{"goal":{"deadline_ms":50},"ttl_ms":500}`)
	if ack.State != wire.CommandTimedOut || ack.Reason != wire.Expired {
		t.Errorf("got %+v, want it timed out", ack)
	}
	goOn()
	best := o.front(cfg)[5]
	o.askUntil(cfg, "loaded", fmt.Sprintf(`{"deadline_ms":%d,"min_top1":%v}`, patient, best.Top1),
		func(r wire.Result) bool { return r.Status == wire.OK }, "the last member is loaded")
	o.obeyed(cfg, "mode", "after", `{"mode":"max-accuracy","ttl_ms":60000}`)
	for _, m := range o.matching(self(cfg).Reported()) {
		if r := decoded[wire.Reported](t, m); r.Mode == "goal" {
			t.Errorf("got %+v, want the goal never in force", r)
		}
	}
	want := []wire.Step{wire.CommandReceived, wire.CommandTimedOut}
	if steps := o.steps(cfg, "goal", "g1"); !slices.Equal(steps, want) {
		t.Errorf("got states %v, want %v", steps, want)
	}
}

func TestAGoalOutlivesAKill(t *testing.T) {
	t.Parallel()
	addr := serve(t)
	cfg := newRealConfig(t, addr)
	o := operate(t, addr)
	p := launch(t, cfg)
	o.presence(cfg, wire.Online, 0)
	o.obeyed(cfg, "goal", "g1", `{"goal":{"min_top1":0.87},"ttl_ms":60000}`)
	p.kill()
	if _, r := o.restart(cfg, "goal"); r.Goal == nil || r.Goal.MinTop1 == nil || *r.Goal.MinTop1 != 0.87 {
		t.Errorf("after the kill: got %+v, want the goal", r)
	}
}

// What the store has was feasible when it was set; since then members are lost.
func TestAGoalThatMembersTookAlongIsToldAndServedByTheNearest(t *testing.T) {
	t.Parallel()
	addr := serve(t)
	cfg := newConfig(t, addr)
	mustEdit(t, cfg, func(st *store.Store) error {
		return st.SetCell("mode", []byte(`{"goal":{"min_top1":0.87},"set":"2026-11-23T12:00:00.000Z"}`))
	})
	o := operate(t, addr)
	start(t, cfg, failsFrom(2))
	nearest := o.front(cfg)[1]
	e := o.tells(cfg, wire.EventInfeasible, fmt.Sprintf("the nearest that can be had is a top-1 of %v", nearest.Top1))
	if r := o.ask(cfg, "frame", `{"deadline_ms":30000}`); r.Status != wire.OK || r.Member != nearest.Name {
		t.Errorf("got %+v, want an answer of %s, the nearest there is", r, nearest.Name)
	}
	o.report(cfg, wire.Reported{Status: wire.Applied, Mode: "goal", Goal: &wire.Goal{MinTop1: new(0.87)}})
	if events := o.events(cfg, wire.EventInfeasible); len(events) != 1 {
		t.Errorf("got %+v after %+v, want one event", events, e)
	}
}

// failsFrom is a device whose members cannot be used from a position on.
func failsFrom(position int) rig {
	return rig{inference: simulated(func(l *sim.Loader) {
		l.Load = func(i int) error {
			if i >= position {
				return errors.New("canary: a logit is far from the stored one")
			}
			return nil
		}
	})}
}

// The moment is half a day away, on both sides.
func TestTheScheduleYieldsToALaterOrderEvenAfterARestart(t *testing.T) {
	t.Parallel()
	addr := serve(t)
	cfg := newConfig(t, addr)
	moment := time.Now().Add(12 * time.Hour).Format("15:04")
	text := fmt.Appendf(nil, "[[schedule]]\nat = %q\n[schedule.goal]\nmin_top1 = 0.75\ndeadline = \"20s\"", moment)
	file := filepath.Join(t.TempDir(), "limber.toml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	read, err := config.Read(file)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Schedule = read.Schedule
	o := operate(t, addr)
	d := start(t, cfg, rig{})
	goal := &wire.Goal{MinTop1: new(0.75), DeadlineMS: new(20_000.0)}
	o.report(cfg, wire.Reported{Status: wire.Applied, Mode: "goal", Goal: goal})
	o.obeyed(cfg, "mode", "m1", `{"mode":"low-latency","ttl_ms":60000}`)
	d.stop()
	mustEdit(t, cfg, func(st *store.Store) error {
		b, err := st.Cell("mode")
		if !strings.Contains(string(b), `"set":"`+time.Now().UTC().Format("2006-")) {
			t.Errorf("stored %s, want the time of the order", b)
		}
		return err
	})
	d, _ = o.restart(cfg, "low-latency")
	d.stop()
	mustEdit(t, cfg, func(st *store.Store) error {
		return st.SetCell("mode", []byte(`{"mode":"low-latency","set":"2026-01-01T12:00:00.000Z"}`))
	})
	o.restart(cfg, "goal")
}

func TestR10_ADeadlineThatEveryMemberMissesIsToldAndDoesNotOscillate(t *testing.T) {
	brokers(t, func(t *testing.T, addr string) {
		o, cfg, _ := fresh(t, addr, rig{inference: simulated(func(l *sim.Loader) {
			l.Latency = func(i int) time.Duration { return time.Duration(i+1) * 20 * time.Millisecond }
		})})
		members := o.front(cfg)
		ack := o.command(cfg, cfg.Device, "goal", "g1", `{"goal":{"deadline_ms":5},"ttl_ms":60000}`)
		want := &wire.Goal{DeadlineMS: members[0].P50MS}
		if ack.Reason != wire.Infeasible || !reflect.DeepEqual(ack.Nearest, want) {
			t.Errorf("a goal of 5 ms: got %+v, nearest %v; want it infeasible, and %v", ack, ack.Nearest, want)
		}
		o.tells(cfg, wire.EventInfeasible, "nearest that can be had")
		before, served := len(o.events(cfg, wire.EventSwitch)), 0
		for _, id := range ids("late", 60) {
			o.publish(self(cfg).Job(id), rawJob(`{"deadline_ms":5}`, pngFrame(t, 0)))
			switch r := o.result(cfg, id, 1); {
			case r.Status == wire.OK && r.Member == members[0].Name && !r.Met:
				served++
			case r.Reason != wire.Busy:
				t.Errorf("got %+v, want it shed, or served late by the smallest", r)
			}
		}
		if served == 0 {
			t.Error("every job was shed: nobody would notice that the load has gone")
		}
		o.tells(cfg, wire.EventInfeasible, "no member is in time")
		var switches uint64
		for _, e := range o.events(cfg, wire.EventSwitch)[before:] {
			switches += max(1, e.Count)
		}
		if switches > 1 {
			t.Errorf("%d switches, want at most the one to the smallest", switches)
		}
	})
}
