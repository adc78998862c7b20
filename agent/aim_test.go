package agent

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/agent/wire"
)

// A median latency has nanoseconds, a message microseconds.
func TestTheNearestGoalIsFeasibleOnceItHasTravelled(t *testing.T) {
	for _, latency := range []time.Duration{5 * time.Millisecond, 13_333_333, 7_000_001, 9_999_999} {
		g, err := governor.New([]governor.Member{{Name: "s0", Top1: 0.7, Latency: time.Millisecond}, {Name: "s1", Top1: 0.7903, Latency: latency}}, governor.Mode{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		asked, err := modeOf(wire.Aim{Goal: &wire.Goal{MinTop1: new(0.9), DeadlineMS: new(2.0), Prefer: wire.PreferEnergy}})
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
		again, err := modeOf(wire.Aim{Goal: &read})
		if err == nil {
			_, err = g.Feasible(again, 0)
		}
		if err != nil || read.Prefer != wire.PreferEnergy {
			t.Errorf("%v: the nearest goal %s is not feasible: %v", latency, b, err)
		}
	}
}

func FuzzReadOrdered(f *testing.F) {
	for _, s := range []string{"balanced", "fixed:5.8M", `{"mode":"power-save","set":"2026-11-23T12:00:00.000Z"}`,
		`{"goal":{"deadline_ms":50,"min_top1":0.8,"max_watts":5,"prefer":"energy"},"set":"2026-11-23T12:00:00Z"}`, `{"goal":{}}`, `{"mode":"x"}`, "{", ""} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := readOrdered(b)
		if err != nil || !utf8.Valid(b) { // commands are UTF-8, and with them what was stored
			return
		}
		if _, err := modeOf(o.Aim); err != nil {
			t.Fatalf("%q was read as %v, which no governor can pursue: %v", b, o.Aim, err)
		}
		again, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := readOrdered(again); err != nil || !reflect.DeepEqual(back, ordered{o.Aim, wire.At(o.Set.Time)}) {
			t.Errorf("%q: wrote %s, read %+v, %v", b, again, back, err)
		}
	})
}
