package agent_test

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family/ort"
	"github.com/limber-edge/limber/store"
)

// warnings of a kind that a device told of, in order.
func (o *operator) warnings(cfg agent.Config, kind wire.EventKind) (events []wire.Event) {
	for _, m := range o.matching(self(cfg).Event(wire.SeverityWarning)) {
		if e := decoded[wire.Event](o.tb, m); e.Kind == kind {
			events = append(events, e)
		}
	}
	return events
}

// ask sends a job that says nothing but what the header does, until the device
// is not too busy, and returns the answer.
func (o *operator) ask(cfg agent.Config, name, header string) wire.Result {
	o.tb.Helper()
	for n := range 100 {
		id := fmt.Sprintf("%s-%d", name, n)
		o.publish(self(cfg).Job(id), rawJob(header, pngFrame(o.tb, 0)))
		if r := o.result(cfg, id, 1); r.Reason != wire.Busy {
			return r
		}
	}
	o.tb.Fatalf("%s was always refused", name)
	return wire.Result{}
}

// bestTop1 is that of the most accurate member in use.
func (o *operator) bestTop1(cfg agent.Config) float64 {
	o.tb.Helper()
	members := decoded[wire.Caps](o.tb, o.await(self(cfg).Caps(), 1)).Members
	return members[len(members)-1].Top1
}

func TestCommandSetsAGoalWhichAModeReplaces(t *testing.T) {
	brokers(t, func(t *testing.T, addr string) {
		o, cfg, d := online(t, addr)
		caps := decoded[wire.Caps](t, o.await(self(cfg).Caps(), 1))
		if !slices.Contains(caps.Verbs, "goal") || !slices.Contains(caps.Modes, "power-save") {
			t.Errorf("caps: got verbs %v and modes %v, want goal and power-save", caps.Verbs, caps.Modes)
		}
		goal := &wire.Goal{DeadlineMS: new(20_000.0), MinTop1: new(0.87), Prefer: wire.PreferLatency}
		if ack := o.command(cfg, cfg.Device, "goal", "g1", `{"goal":{"deadline_ms":20000,"min_top1":0.87,"prefer":"latency"},"ttl_ms":60000}`); ack.State != wire.CommandSucceeded {
			t.Fatalf("got %+v", ack)
		}
		o.report(cfg, wire.Reported{Status: wire.Applied, Mode: "goal", Goal: goal})
		o.telemetry(cfg, func(m wire.Telemetry) bool { return m.Mode == "goal" && reflect.DeepEqual(m.Goal, goal) }, "the goal is told")
		if r := o.ask(cfg, "plain", `{}`); r.DeadlineMS != 20_000 || r.ExpectedTop1 == nil || *r.ExpectedTop1 < 0.87 {
			t.Errorf("a job without wishes: got %+v, want the goal's deadline and floor", r)
		}
		best := o.bestTop1(cfg)
		if r := o.ask(cfg, "own", fmt.Sprintf(`{"deadline_ms":30000,"min_top1":%v}`, best)); r.DeadlineMS != 30_000 || r.ExpectedTop1 == nil || *r.ExpectedTop1 != best {
			t.Errorf("a job with wishes: got %+v, want them met", r)
		}

		d.stop()
		o.fence()
		n := len(o.matching(self(cfg).Reported()))
		start(t, cfg)
		if r := decoded[wire.Reported](t, o.await(self(cfg).Reported(), n+1)); r.Mode != "goal" || !reflect.DeepEqual(r.Goal, goal) {
			t.Errorf("after the restart: got %+v, want the goal", r)
		}
		if ack := o.command(cfg, cfg.Device, "mode", "m1", `{"mode":"power-save","ttl_ms":60000}`); ack.State != wire.CommandSucceeded {
			t.Fatalf("got %+v", ack)
		}
		o.report(cfg, wire.Reported{Status: wire.Applied, Mode: "power-save"})
		if r := o.ask(cfg, "after", `{}`); r.DeadlineMS != 100 {
			t.Errorf("a job after the goal: got a deadline of %v ms, want the usual 100", r.DeadlineMS)
		}
	})
}

func TestGoalsAreJudged(t *testing.T) {
	t.Parallel()
	o, cfg, _ := online(t, serve(t))
	best := o.bestTop1(cfg)
	for i, tt := range []struct {
		name, verb, payload string
		reason              wire.Reason // empty for success
		nearest             *wire.Goal
		detail              string // part of it
	}{
		{"figures", "goal", `{"goal":{"min_top1":0.75,"prefer":"energy"},"ttl_ms":1000}`, "", nil, ""},
		{"accuracy alone", "goal", `{"goal":{"prefer":"accuracy"},"ttl_ms":1000}`, "", nil, ""},
		{"no floor", "goal", `{"goal":{"min_top1":0},"ttl_ms":1000}`, "", nil, ""},
		{"no goal", "goal", `{"ttl_ms":1000}`, wire.Invalid, nil, "no goal"},
		{"empty", "goal", `{"goal":{},"ttl_ms":1000}`, wire.Invalid, nil, "empty"},
		{"mode for a goal", "goal", `{"mode":"balanced","ttl_ms":1000}`, wire.Invalid, nil, "verb mode"},
		{"goal for a mode", "mode", `{"goal":{"min_top1":0.5},"ttl_ms":1000}`, wire.Invalid, nil, "verb goal"},
		{"both", "goal", `{"mode":"balanced","goal":{"min_top1":0.5},"ttl_ms":1000}`, wire.Invalid, nil, "verb mode"},
		{"C6 out of range", "goal", `{"goal":{"min_top1":80},"ttl_ms":1000}`, wire.Invalid, nil, "fraction"},
		{"C6 unknown preference", "goal", `{"goal":{"prefer":"speed"},"ttl_ms":1000}`, wire.Invalid, nil, "energy"},
		{"C6 no object", "goal", `{"goal":"fast","ttl_ms":1000}`, wire.Invalid, nil, "object"},
		{"no such accuracy", "goal", `{"goal":{"min_top1":0.99,"prefer":"latency"},"ttl_ms":1000}`, wire.Infeasible,
			&wire.Goal{MinTop1: &best, Prefer: wire.PreferLatency}, fmt.Sprintf("the nearest that can be had is a top-1 of %v", best)},
		{"power unknown", "goal", `{"goal":{"max_watts":5,"min_top1":0.5},"ttl_ms":1000}`, wire.Infeasible,
			&wire.Goal{MinTop1: new(0.5)}, "cannot measure its power"},
		{"power unknown and nothing else", "goal", `{"goal":{"max_watts":5},"ttl_ms":1000}`, wire.Infeasible, nil, "cannot measure its power: max_watts has to be left out"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := len(o.warnings(cfg, wire.EventInfeasible))
			ack := o.command(cfg, cfg.Device, tt.verb, fmt.Sprintf("c-%d", i), tt.payload)
			if (ack.State == wire.CommandSucceeded) != (tt.reason == "") || ack.Reason != tt.reason || !strings.Contains(ack.Detail, tt.detail) {
				t.Errorf("got %s %s %q, want reason %q with %q", ack.State, ack.Reason, ack.Detail, tt.reason, tt.detail)
			}
			if !reflect.DeepEqual(ack.Nearest, tt.nearest) {
				t.Errorf("nearest: got %v, want %v", ack.Nearest, tt.nearest)
			}
			if tt.reason == wire.Infeasible {
				o.until(func() bool { return len(o.warnings(cfg, wire.EventInfeasible)) == before+1 }, "one event infeasible")
			}
		})
	}
	o.report(cfg, wire.Reported{Status: wire.Applied, Mode: "balanced"}) // which a goal of accuracy alone is
}

func TestDesiredGoalIsAppliedOrRejectedWithTheNearest(t *testing.T) {
	brokers(t, func(t *testing.T, addr string) {
		cfg := newConfig(t, addr)
		o := operate(t, addr)
		desire := func(payload string) {
			o.publishAs(mqtt.Message{Topic: self(cfg).Desired(), Payload: []byte(payload), QoS: 1, Retained: true})
		}
		desire(`{"version":1,"goal":{"min_top1":0.87}}`) // it meets a device that is still loading its members
		d := start(t, cfg)
		goal := &wire.Goal{MinTop1: new(0.87)}
		o.report(cfg, wire.Reported{Version: 1, Status: wire.Applied, Mode: "goal", Goal: goal})

		desire(`{"version":2,"goal":{"min_top1":0.99,"deadline_ms":500}}`)
		rejected := wire.Reported{Version: 2, Status: wire.Rejected, Reason: wire.Infeasible, Mode: "goal", Goal: goal,
			Nearest: &wire.Goal{MinTop1: new(o.bestTop1(cfg)), DeadlineMS: new(500.0)}}
		o.report(cfg, rejected)
		desire(`{"version":2,"goal":{"min_top1":0.99,"deadline_ms":500}}`) // as every new connection brings it
		desire(`{"version":3,"mode":"low-latency"}`)
		o.report(cfg, wire.Reported{Version: 3, Status: wire.Applied, Mode: "low-latency"})
		o.fence()
		if events := o.warnings(cfg, wire.EventInfeasible); len(events) != 1 || !strings.Contains(events[0].Detail, "nearest") {
			t.Errorf("got %+v, want one event that names the nearest", events)
		}
		d.stop()
	})
}

// A device that was updated has the mode that its former program stored.
func TestAModeOfTheVersionBeforeIsReadAndAGoalOutlivesAKill(t *testing.T) {
	t.Parallel()
	addr := serve(t)
	cfg := newConfig(t, addr)
	mustEdit(t, cfg, func(st *store.Store) error { return st.SetCell("mode", []byte("low-latency")) })
	o := operate(t, addr)
	d := start(t, cfg)
	o.report(cfg, wire.Reported{Status: wire.Applied, Mode: "low-latency"})
	if ack := o.command(cfg, cfg.Device, "goal", "g1", `{"goal":{"min_top1":0.87},"ttl_ms":60000}`); ack.State != wire.CommandSucceeded {
		t.Fatalf("got %+v", ack)
	}
	d.kill()
	o.fence()
	n := len(o.matching(self(cfg).Reported()))
	start(t, cfg)
	if r := decoded[wire.Reported](t, o.await(self(cfg).Reported(), n+1)); r.Mode != "goal" || r.Goal == nil || r.Goal.MinTop1 == nil || *r.Goal.MinTop1 != 0.87 {
		t.Errorf("after the kill: got %+v, want the goal", r)
	}
}

// What the store has was feasible when it was set; since then members are lost.
func TestAGoalThatMembersTookAlongIsToldOfOnce(t *testing.T) {
	t.Parallel()
	addr := serve(t)
	cfg := newConfig(t, addr)
	f := spoil(t, cfg, 2, true)
	mustEdit(t, cfg, func(st *store.Store) error {
		return st.SetCell("mode", []byte(`{"goal":{"min_top1":0.87},"set":"2026-11-23T12:00:00.000Z"}`))
	})
	o := operate(t, addr)
	start(t, cfg)
	o.until(func() bool { return len(o.warnings(cfg, wire.EventInfeasible)) > 0 }, "event infeasible")
	if r := o.ask(cfg, "frame", `{"deadline_ms":30000}`); r.Status != wire.OK || r.Member != f.Members[1].Name {
		t.Errorf("got %+v, want an answer of %s, the nearest there is", r, f.Members[1].Name)
	}
	o.await(self(cfg).Telemetry(), len(o.matching(self(cfg).Telemetry()))+30) // three more seconds of looks at the goal
	events := o.warnings(cfg, wire.EventInfeasible)
	if want := fmt.Sprintf("the nearest that can be had is a top-1 of %v", f.Members[1].Top1); len(events) != 1 || !strings.Contains(events[0].Detail, want) {
		t.Errorf("got %+v, want one event with %q", events, want)
	}
	if r := decoded[wire.Reported](t, o.await(self(cfg).Reported(), 1)); r.Mode != "goal" {
		t.Errorf("got %+v, want the goal still pursued", r)
	}
}

// The moment is half a day away, on both sides.
func TestTheScheduleYieldsToALaterOrderEvenAfterARestart(t *testing.T) {
	t.Parallel()
	addr := serve(t)
	cfg := newConfig(t, addr)
	moment := time.Now().Add(12 * time.Hour).Format("15:04")
	read, err := agent.ReadConfig(configFile(t, fmt.Sprintf("[[schedule]]\nat = %q\n[schedule.goal]\nmin_top1 = 0.75\ndeadline = \"20s\"", moment)))
	if err != nil {
		t.Fatal(err)
	}
	cfg.Schedule = read.Schedule
	o := operate(t, addr)
	d := start(t, cfg)
	o.report(cfg, wire.Reported{Status: wire.Applied, Mode: "goal", Goal: &wire.Goal{MinTop1: new(0.75), DeadlineMS: new(20_000.0)}})
	if ack := o.command(cfg, cfg.Device, "mode", "m1", `{"mode":"low-latency","ttl_ms":60000}`); ack.State != wire.CommandSucceeded {
		t.Fatalf("got %+v", ack)
	}
	d.stop()
	mustEdit(t, cfg, func(st *store.Store) error {
		b, err := st.Cell("mode")
		if !strings.Contains(string(b), `"set":"`+time.Now().UTC().Format("2006-")) {
			t.Errorf("stored %s, want the time of the order", b)
		}
		return err
	})
	o.fence()
	n := len(o.matching(self(cfg).Reported()))
	d = start(t, cfg)
	if r := decoded[wire.Reported](t, o.await(self(cfg).Reported(), n+1)); r.Mode != "low-latency" {
		t.Errorf("after the restart: got %+v, want the operator's mode", r)
	}
	d.stop()
	mustEdit(t, cfg, func(st *store.Store) error {
		return st.SetCell("mode", []byte(`{"mode":"low-latency","set":"2026-01-01T12:00:00.000Z"}`))
	})
	o.fence()
	n = len(o.matching(self(cfg).Reported()))
	start(t, cfg)
	if r := decoded[wire.Reported](t, o.await(self(cfg).Reported(), n+1)); r.Mode != "goal" {
		t.Errorf("with an older order: got %+v, want the schedule's goal", r)
	}
}

func TestR10_ADeadlineThatEveryMemberMissesIsToldAndDoesNotOscillate(t *testing.T) {
	brokers(t, func(t *testing.T, addr string) {
		cfg := newConfig(t, addr)
		cfg.Runtime.Providers = []string{ort.CUDA, ort.CPU}
		o := operate(t, addr)
		start(t, cfg, envGPU+"=slow") // 20 ms for the smallest member
		o.presence(cfg, wire.Online, 0)
		caps := decoded[wire.Caps](t, o.await(self(cfg).Caps(), 1))
		o.until(func() bool {
			all := o.matching(self(cfg).Caps())
			caps = decoded[wire.Caps](t, all[len(all)-1])
			return caps.Profile.Provider == ort.CUDA
		}, "capabilities of the slow provider")

		ack := o.command(cfg, cfg.Device, "goal", "g1", `{"goal":{"deadline_ms":5},"ttl_ms":60000}`)
		if want := (&wire.Goal{DeadlineMS: caps.Members[0].P50MS}); ack.Reason != wire.Infeasible || !reflect.DeepEqual(ack.Nearest, want) {
			t.Errorf("a goal of 5 ms: got %+v, nearest %v; want it infeasible, and %v", ack, ack.Nearest, want)
		}
		o.until(func() bool { return len(o.warnings(cfg, wire.EventInfeasible)) == 1 }, "event infeasible, of the goal")
		switched := len(o.matching(self(cfg).Event(wire.SeverityInfo)))
		served := 0
		for _, id := range ids("late", 60) {
			o.publish(self(cfg).Job(id), rawJob(`{"deadline_ms":5}`, pngFrame(t, 0)))
			switch r := o.result(cfg, id, 1); {
			case r.Status == wire.OK && r.Member == caps.Members[0].Name && !r.Met:
				served++
			case r.Reason != wire.Busy:
				t.Errorf("got %+v, want it shed, or served late by the smallest", r)
			}
		}
		if served == 0 {
			t.Error("every job was shed: nobody would notice that the load has gone")
		}
		o.until(func() bool { return len(o.warnings(cfg, wire.EventInfeasible)) > 1 }, "event infeasible, of jobs")
		if e := o.warnings(cfg, wire.EventInfeasible)[1]; !strings.Contains(e.Detail, "no member is in time") {
			t.Errorf("got %+v", e)
		}
		switches := 0
		for _, m := range o.matching(self(cfg).Event(wire.SeverityInfo))[switched:] {
			if e := decoded[wire.Event](t, m); e.Kind == wire.EventSwitch {
				switches += int(max(1, e.Count))
			}
		}
		if switches > 1 {
			t.Errorf("%d switches, want at most the one to the smallest", switches)
		}
	})
}
