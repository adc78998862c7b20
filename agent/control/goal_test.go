package control

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/agent/wire"
)

// A median latency has nanoseconds, a message microseconds.
func TestTheNearestGoalIsFeasibleOnceItHasTravelled(t *testing.T) {
	for _, latency := range []time.Duration{5 * time.Millisecond, 13_333_333, 7_000_001, 9_999_999} {
		g, err := governor.New([]governor.Member{{Name: "s0", Top1: 0.7, Latency: time.Millisecond},
			{Name: "s1", Top1: 0.7903, Latency: latency}}, governor.Mode{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		asked, err := ModeOf(wire.Aim{Goal: &wire.Goal{MinTop1: new(0.9), DeadlineMS: new(2.0),
			Prefer: wire.PreferEnergy}})
		if err != nil {
			t.Fatal(err)
		}
		nearest, err := g.Feasible(asked, 0)
		if err == nil {
			t.Fatal("a top-1 of 0.9 is feasible")
		}
		b, err := json.Marshal(WireGoal(nearest))
		var read wire.Goal
		if err == nil {
			err = wire.Decode(b, &read)
		}
		if err != nil {
			t.Fatal(err)
		}
		again, err := ModeOf(wire.Aim{Goal: &read})
		if err == nil {
			_, err = g.Feasible(again, 0)
		}
		if err != nil || read.Prefer != wire.PreferEnergy {
			t.Errorf("%v: the nearest goal %s is not feasible: %v", latency, b, err)
		}
	}
}

func FuzzReadOrder(f *testing.F) {
	for _, s := range []string{"balanced", "fixed:5.8M", `{"mode":"power-save","set":"2026-11-23T12:00:00.000Z"}`,
		`{"goal":{"deadline_ms":50,"min_top1":0.8,"max_watts":5,"prefer":"energy"},"set":"2026-11-23T12:00:00Z"}`,
		`{"goal":{}}`, `{"mode":"x"}`, "{", ""} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := readOrder(b)
		if err != nil || !utf8.Valid(b) { // commands are UTF-8, and with them what was stored
			return
		}
		if _, err := ModeOf(o.Aim); err != nil {
			t.Fatalf("%q was read as %v, which no governor can pursue: %v", b, o.Aim, err)
		}
		again, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := readOrder(again); err != nil || !reflect.DeepEqual(back, order{o.Aim, wire.At(o.Set.Time)}) {
			t.Errorf("%q: wrote %s, read %+v, %v", b, again, back, err)
		}
	})
}

func TestGoalsAreJudged(t *testing.T) {
	const best = 0.87
	for _, tt := range []struct {
		name, verb, payload string
		reason              wire.Reason // empty for success
		nearest             *wire.Goal
		detail              string   // part of it
		modes               []string // that are pursued then
	}{
		{"figures", "goal", `{"goal":{"min_top1":0.75,"prefer":"energy"},"ttl_ms":1000}`, "", nil, "",
			[]string{"goal"}},
		{"accuracy alone", "goal", `{"goal":{"prefer":"accuracy"},"ttl_ms":1000}`, "", nil, "", []string{"balanced"}},
		{"no floor", "goal", `{"goal":{"min_top1":0},"ttl_ms":1000}`, "", nil, "", []string{"balanced"}},
		{"no goal", "goal", `{"ttl_ms":1000}`, wire.Invalid, nil, "no goal", nil},
		{"empty", "goal", `{"goal":{},"ttl_ms":1000}`, wire.Invalid, nil, "empty", nil},
		{"mode for a goal", "goal", `{"mode":"balanced","ttl_ms":1000}`, wire.Invalid, nil, "verb mode", nil},
		{"goal for a mode", "mode", `{"goal":{"min_top1":0.5},"ttl_ms":1000}`, wire.Invalid, nil, "verb goal", nil},
		{"both", "goal", `{"mode":"balanced","goal":{"min_top1":0.5},"ttl_ms":1000}`, wire.Invalid, nil, "verb mode",
			nil},
		{"C6 out of range", "goal", `{"goal":{"min_top1":80},"ttl_ms":1000}`, wire.Invalid, nil, "fraction", nil},
		{"C6 unknown preference", "goal", `{"goal":{"prefer":"speed"},"ttl_ms":1000}`, wire.Invalid, nil, "energy",
			nil},
		{"C6 no object", "goal", `{"goal":"fast","ttl_ms":1000}`, wire.Invalid, nil, "object", nil},
		{"no such accuracy", "goal", `{"goal":{"min_top1":0.99,"prefer":"latency"},"ttl_ms":1000}`, wire.Infeasible,
			&wire.Goal{MinTop1: new(best), Prefer: wire.PreferLatency},
			"; the nearest that can be had is a top-1 of 0.87", nil},
		{"R10 a deadline that every member misses", "goal", `{"goal":{"deadline_ms":1},"ttl_ms":1000}`, wire.Infeasible,
			&wire.Goal{DeadlineMS: new(2.0)}, "; the nearest that can be had is a deadline of 2 ms", nil},
		{"power unknown", "goal", `{"goal":{"max_watts":5,"min_top1":0.5},"ttl_ms":1000}`, wire.Infeasible,
			&wire.Goal{MinTop1: new(0.5)}, "cannot measure its power", nil},
		{"power unknown and nothing else", "goal", `{"goal":{"max_watts":5},"ttl_ms":1000}`, wire.Infeasible, nil,
			"cannot measure its power: max_watts has to be left out", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, dir string) {
				r := mustRig(t, dir)
				ack := r.command(tt.verb, tt.payload).last()
				if (ack.State == wire.CommandSucceeded) != (tt.reason == "") || ack.Reason != tt.reason ||
					!strings.Contains(ack.Detail, tt.detail) {
					t.Errorf("got %s %s %q, want reason %q with %q", ack.State, ack.Reason, ack.Detail, tt.reason,
						tt.detail)
				}
				if !reflect.DeepEqual(ack.Nearest, tt.nearest) {
					t.Errorf("nearest: got %v, want %v", ack.Nearest, tt.nearest)
				}
				told := r.events.of(wire.EventInfeasible)
				if tt.reason == wire.Infeasible && (len(told) != 1 || told[0] != ack.Detail) ||
					tt.reason != wire.Infeasible && len(told) > 0 {
					t.Errorf("told of %q as infeasible, want what the answer says, once", told)
				}
				if got := r.target.pursued(); !slices.Equal(got, tt.modes) {
					t.Errorf("pursued %q, want %q", got, tt.modes)
				}
			})
		})
	}
}

func TestAGoalOutlivesARestartAndAModeReplacesIt(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		r := mustRig(t, dir)
		const goal = `{"goal":{"deadline_ms":20000,"min_top1":0.87,"prefer":"latency"},"ttl_ms":60000}`
		r.command("goal", goal).succeeds(t)
		want := governor.Goal{Deadline: 20 * time.Second, Floor: 0.87, Prefer: governor.Latency}
		if got := r.target.modes[0].Goal(); got != want {
			t.Errorf("pursued %+v, want %+v", got, want)
		}
		r.stop()
		r = mustRig(t, dir)
		if got := r.begun.Goal(); got != want {
			t.Errorf("after the restart: began with %+v, want %+v", got, want)
		}
		p := r.send("mode", "m", `{"mode":"power-save","ttl_ms":60000}`)
		synctest.Wait()
		p.succeeds(t)
		r.stop()
		if r = mustRig(t, dir); r.begun.String() != "power-save" {
			t.Errorf("after the mode: began with %s", r.begun)
		}
	})
}

// A device that was updated has the mode that its former program stored.
func TestAModeOfTheVersionBeforeIsRead(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		for stored, want := range map[string]string{"low-latency": "low-latency", "warp": "balanced"} {
			r := mustRig(t, dir)
			if err := r.state.SetCell("mode", []byte(stored)); err != nil {
				t.Fatal(err)
			}
			r.stop()
			if r = mustRig(t, dir); r.begun.String() != want {
				t.Errorf("%s: began with %s, want %s", stored, r.begun, want)
			}
			r.stop()
		}
	})
}

// What the store has was feasible when it was set; since then members are lost, or
// are while the device runs.
func TestAGoalThatMembersTookAlongIsToldOfOnce(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		r := mustRig(t, dir)
		r.command("goal", `{"goal":{"min_top1":0.87},"ttl_ms":60000}`).succeeds(t)
		check := func(when string, times int) {
			t.Helper()
			<-time.After(4500 * time.Millisecond)
			want := "the nearest that can be had is a top-1 of 0.75"
			if got := r.events.of(wire.EventInfeasible); len(got) != times || times > 0 &&
				!strings.Contains(got[times-1], want) {
				t.Errorf("%s: told %q, want %d with %q", when, got, times, want)
			}
		}
		check("with all members", 0)
		r.target.lose()
		check("with less", 1)
		r.pursues("goal") // still
		r.stop()
		r = mustRig(t, dir, withTarget((*target).lose))
		check("after a restart", 1)
		r.command("mode", lowLatency).succeeds(t)
		check("another mode", 1)
		r.target.find()
		r.command("goal", `{"goal":{"min_top1":0.87},"ttl_ms":1000}`).succeeds(t)
		r.target.lose()
		check("the goal once more", 2)
		r.command("goal", `{"goal":{"min_top1":0.7},"ttl_ms":1000}`).succeeds(t)
		check("a goal that can be had", 2)
	})
}

func TestTheGoalInForceIsReviewedWhenMembersAreReady(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		r := mustRig(t, dir)
		r.command("goal", `{"goal":{"min_top1":0.87},"ttl_ms":60000}`).succeeds(t)
		r.stop()
		r = mustRig(t, dir, withTarget(func(f *target) {
			f.preparing = make(chan struct{})
			f.lose()
		}))
		<-time.After(time.Minute)
		if got := r.events.of(wire.EventInfeasible); len(got) > 0 {
			t.Errorf("told %q while members are prepared", got)
		}
		close(r.target.preparing)
		<-time.After(10 * time.Second)
		if got := r.events.of(wire.EventInfeasible); len(got) != 1 {
			t.Errorf("told %q, want it once", got)
		}
	})
}
