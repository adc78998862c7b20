package governor

import (
	"strings"
	"testing"
	"time"
)

func TestParseModeRoundTrips(t *testing.T) {
	for _, name := range []string{"balanced", "max-accuracy", "low-latency", "power-save", "fixed:s3", "fixed:a:b"} {
		m, err := ParseMode(name)
		if err != nil || m.String() != name {
			t.Errorf("%s: got %s, %v", name, m, err)
		}
	}
	if (Mode{}) != mustMode(t, "balanced") {
		t.Error("the zero Mode is not balanced")
	}
}

func TestParseModeListsWhatIsSupported(t *testing.T) {
	for _, name := range []string{"", "Balanced", "fixed", "fixed:", "turbo", " balanced"} {
		_, err := ParseMode(name)
		if err == nil {
			t.Errorf("%q: got no error", name)
			continue
		}
		for _, supported := range []string{"balanced", "max-accuracy", "low-latency", "power-save", "fixed:"} {
			if !strings.Contains(err.Error(), supported) {
				t.Errorf("%q: got %q, want it to name %s", name, err, supported)
			}
		}
	}
}

func TestAGoalOfFiguresIsAMode(t *testing.T) {
	for _, tt := range []struct {
		goal   Goal
		factor float64
		gap    float64
		member int
		reason Reason
	}{
		{Goal{Floor: 0.77}, 1, 20, 5, Best},
		{Goal{Floor: 0.77}, 4, 20, 3, Best}, // less is not asked for, whatever the load
		{Goal{Floor: 0.95}, 1, 20, 5, Best}, // the nearest that there is
		{Goal{Floor: 0.76, Prefer: Latency}, 1, 20, 2, Fastest},
		{Goal{Prefer: Latency}, 1, 20, 3, Fastest},
		{Goal{Floor: 0.78, Prefer: Energy}, 1, 20, 4, Cheapest},
		{Goal{Watts: 4}, 1, 100, 4, Best},   // 20 % of the time may be busy: 20 ms of 100
		{Goal{Watts: 4}, 1, 22, 1, Best},    // 4.4 ms of 22
		{Goal{Watts: 2.1}, 1, 100, 0, Best}, // even the smallest takes more
	} {
		m, err := ModeOf(tt.goal)
		if err != nil || m.String() != "goal" || m.Goal() != tt.goal {
			t.Fatalf("%+v: got mode %s of %+v, %v", tt.goal, m, m.Goal(), err)
		}
		d := newDevice(mustGovernor(t, six(), m), ms(tt.gap), ms(48))
		d.g.SetPower(Power{Idle: 2, Active: 10})
		d.load(tt.factor)
		d.jobs(2000)
		if got := d.job(); got.Member != tt.member || got.Reason != tt.reason {
			t.Errorf("%+v at load %v: got %+v, want member %d for reason %s", tt.goal, tt.factor, got, tt.member, tt.reason)
		}
	}
	for _, bad := range []Goal{{}, {Floor: 2}, {Floor: -1}, {Watts: -1}, {Deadline: -1}, {Prefer: 7}} {
		if _, err := ModeOf(bad); err == nil {
			t.Errorf("%+v: got no error", bad)
		}
	}
}

func TestAJobMayAskForLessThanTheGoal(t *testing.T) {
	m, err := ModeOf(Goal{Floor: 0.78})
	if err != nil {
		t.Fatal(err)
	}
	d := newDevice(mustGovernor(t, six(), m), ms(20), ms(48))
	d.jobs(500)
	d.deadline, d.floor = ms(9), 0.5
	if got := d.job(); got.Member > 2 || got.Shed || got.Chance < 0.9 {
		t.Errorf("in a hurry: got %+v, want a member that fits 9 ms", got)
	}
	d.jobs(500) // now that is usual
	if got := d.job(); got.Member > 2 || got.Shed || got.Chance < 0.9 {
		t.Errorf("always in a hurry: got %+v, want a member that fits 9 ms", got)
	}
}

func TestR10_FeasibleNamesTheNearestGoal(t *testing.T) {
	g := mustGovernor(t, six(), Mode{})
	for _, tt := range []struct {
		goal, nearest Goal
		says          string
	}{
		{Goal{Floor: 0.78, Deadline: 20 * time.Millisecond}, Goal{Floor: 0.78, Deadline: 20 * time.Millisecond}, ""},
		{Goal{Floor: 0.9}, Goal{Floor: 0.7903}, "no member reaches a top-1 of 0.9: the most accurate, s5, has 0.7903"},
		{Goal{Floor: 0.78, Deadline: 10 * time.Millisecond}, Goal{Floor: 0.78, Deadline: ms(13.5)},
			"s4, the fastest member with a top-1 of 0.78, takes 13.5ms"},
		{Goal{Deadline: ms(1), Watts: 5}, Goal{Deadline: ms(3)}, "s0, the fastest member, takes 3ms unloaded, the " +
			"deadline is 1ms; this device cannot"},
		{Goal{Floor: 0.9, Deadline: ms(1), Watts: 5}, Goal{Floor: 0.7903, Deadline: ms(23)},
			"has 0.7903; s5, the fastest member with a top-1 of 0.7903, takes"},
		{Goal{Watts: 5}, Goal{}, "this device cannot measure its power: max_watts has to be left out"},
	} {
		m, err := ModeOf(tt.goal)
		if err != nil {
			t.Fatal(err)
		}
		nearest, err := g.Feasible(m, 0)
		if nearest != tt.nearest || (err == nil) != (tt.says == "") || err != nil && !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%+v: got %+v, %v; want %+v, %q", tt.goal, nearest, err, tt.nearest, tt.says)
		}
	}
	if _, err := g.Feasible(mustMode(t, "fixed:none"), 0); err == nil {
		t.Error("an unknown member is feasible")
	}
	soon, _ := ModeOf(Goal{Deadline: ms(4)})
	if nearest, err := g.Feasible(soon, ms(2.5)); err == nil || nearest.Deadline != ms(5.5) ||
		!strings.Contains(err.Error(), "decoding a frame 2.5ms") {
		t.Errorf("with decoding: got %+v, %v; want a deadline of 5.5 ms", nearest, err)
	}
	g.SetPower(Power{Idle: 3, Active: 4})
	low, _ := ModeOf(Goal{Watts: 2})
	if nearest, err := g.Feasible(low, 0); err == nil || nearest.Watts != 7 {
		t.Errorf("less than nothing takes: got %+v, %v", nearest, err)
	}
}

func FuzzParseMode(f *testing.F) {
	f.Add("balanced")
	f.Add("fixed:s0")
	f.Add("fixed:")
	f.Fuzz(func(t *testing.T, name string) {
		if m, err := ParseMode(name); err == nil && m.String() != name {
			t.Errorf("read %q, wrote %q", name, m)
		}
	})
}
