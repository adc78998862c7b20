package governor

import (
	"math"
	"testing"
	"time"
)

func TestR1R3LoadRisesAndFalls(t *testing.T) {
	for _, tt := range []struct {
		factor float64
		loaded int // best member under the load within 48 ms
	}{{1.9, 4}, {3, 4}, {5, 3}, {9, 1}} {
		d := newDevice(mustGovernor(t, six(), Mode{}), ms(10), ms(48))
		d.jobs(500)
		if got := d.g.Operating(); got != 5 {
			t.Fatalf("unloaded: operating member %d, want 5", got)
		}
		d.load(tt.factor)
		d.jobs(5)
		if got := d.g.Operating(); got > tt.loaded {
			t.Errorf("%.1fx slower: operating member %d after five inferences, want at most %d", tt.factor, got, tt.loaded)
		}
		d.jobs(500)
		d.load(1)
		quiet := d.now
		for d.now < quiet+30*time.Second && d.g.Operating() != 5 {
			d.job()
		}
		if took := d.now - quiet; took > 3*time.Second {
			t.Errorf("quiet after %.1fx: the largest member was back after %v, want at most 3s", tt.factor, took)
		}
	}
}

func TestR8OutlierDoesNotFreeze(t *testing.T) {
	for _, before := range []int{100, 20000} { // the second: histograms long settled
		for _, stall := range []float64{20, 500} {
			d := newDevice(mustGovernor(t, six(), Mode{}), ms(10), ms(48))
			d.jobs(before)
			d.load(stall)
			d.job()
			d.load(1)
			end := d.now
			var refused int
			for d.now < end+time.Second {
				if d.job().Shed {
					refused++
				}
			}
			if got := d.g.Operating(); got < 4 || refused > 0 {
				t.Errorf("%d jobs, then one %vx outlier: after 1 s operating member %d and %d refused, want at least 4 and none",
					before, stall, got, refused)
			}
		}
	}
}

func TestR9IdleForgetsOverload(t *testing.T) {
	d := newDevice(mustGovernor(t, six(), Mode{}), ms(1), ms(20))
	d.load(15)
	d.jobs(2000)
	d.now += time.Hour
	d.load(1)
	if got := d.job(); got.Shed {
		t.Errorf("first job after an idle hour: %+v, want it served", got)
	}
	if got := d.jobs(100)[99]; got.Shed || got.Member < 3 {
		t.Errorf("100 jobs later: %+v, want at least member 3", got)
	}
}

func TestR10NothingFits(t *testing.T) {
	for _, gap := range []float64{5, 150} {
		d := newDevice(mustGovernor(t, six(), Mode{}), ms(gap), ms(2))
		d.jobs(20)
		start, served := d.now, 0
		for _, got := range d.jobs(2000) {
			if got.Member != 0 || got.Operating != 0 || got.Switched {
				t.Fatalf("got %+v, want the smallest member or a refusal, without a switch", got)
			}
			if !got.Shed {
				served++
			}
		}
		least := int((d.now - start) / (2 * Blind))
		if served < least {
			t.Errorf("every %v ms: served %d of 2000, want at least %d: the load is looked at all the time", gap, served, least)
		}
	}
}

func TestM15ProfileIsWrong(t *testing.T) {
	for _, tt := range []struct {
		factor   float64
		deadline float64
		want     int // the largest member that is in time
	}{
		{20, 100, 1},
		{40, 200, 1},
		{100, 900, 3},
		{0.05, 2, 5},
	} {
		d := newDevice(mustGovernor(t, six(), Mode{}), ms(300), ms(tt.deadline))
		d.load(tt.factor)
		d.jobs(2 * tooFast)
		late := 0
		for range 50 {
			got := d.job()
			if time.Duration(float64(d.g.members[got.Member].Latency)*tt.factor) > d.deadline {
				late++
			}
		}
		if got := d.g.Operating(); got > tt.want || late > 2 {
			t.Errorf("profile off %vx, %v ms: operating member %d, %d of 50 late; want at most member %d and 2 late", tt.factor,
				tt.deadline, got, late, tt.want)
		}
	}
}

func TestM15ConvergesInFiveInferences(t *testing.T) {
	d := newDevice(mustGovernor(t, six(), Mode{}), ms(100), ms(100))
	d.load(20) // claimed 3 ms, really 60 ms
	d.jobs(5)
	for _, got := range d.jobs(20) {
		if got.Member > 1 {
			t.Fatalf("got %+v, want a member that takes less than 100 ms", got)
		}
	}
}

func TestFaultyClocksAreHarmless(t *testing.T) {
	g := mustGovernor(t, six(), Mode{})
	d := newDevice(g, ms(10), ms(48))
	d.jobs(10)
	want := g.Decide(d.now, Queue{Deadline: d.now + ms(48)})
	g.Observe(d.now, 3, 1, 0)
	g.Observe(d.now, 3, 1, -time.Second)
	g.Observe(d.now, -1, 1, ms(3))
	g.Observe(d.now, 6, 1, ms(3))
	if got := g.Decide(d.now, Queue{Deadline: d.now + ms(48)}); got.Member != want.Member || got.Chance != want.Chance {
		t.Errorf("got %+v, want %+v", got, want)
	}
	g.Arrive(0)
	g.Observe(0, 5, 1, time.Duration(math.MaxInt64))
	got := g.Decide(0, Queue{Deadline: time.Duration(math.MaxInt64)})
	if math.IsNaN(got.Chance) || math.IsNaN(g.Slowdown()) || got.Shed {
		t.Errorf("time going back, endless latency: got %+v, slowdown %v", got, g.Slowdown())
	}
}

// TestMovesUpHaveABudget has a load that comes and goes ten times a second:
// the member cannot follow, and waits.
func TestMovesUpHaveABudget(t *testing.T) {
	d := newDevice(mustGovernor(t, six(), Mode{}), ms(10), ms(48))
	d.jobs(100)
	ups, jobs, start, loaded := 0, 0, d.now, false
	for ; d.now < start+time.Minute; jobs++ {
		if odd := d.now/(100*time.Millisecond)%2 == 1; odd != loaded {
			loaded = odd
			d.load(map[bool]float64{true: 6, false: 1}[odd])
		}
		if got := d.job(); got.Switched && got.Operating > got.Previous {
			ups++
		}
	}
	if most := upBudget + min(upRefill*float64(jobs), float64(time.Minute/upPace)); float64(ups) > most || ups < 5 {
		t.Errorf("moved up %d times in %d jobs of a restless minute, want 5 to %.0f", ups, jobs, most)
	}
}

func TestMovesUpWaitForTheDwellAndTheBudget(t *testing.T) {
	s := newStanding()
	s.move(0, 5)
	for now := time.Second; s.Budget >= 1; now += time.Second {
		s.move(now, 3)
		if s.move(now+dwell-1, 5); s.Member != 3 {
			t.Fatal("moved up before the dwell was over")
		}
		if s.move(now+dwell, 5); s.Member != 5 {
			t.Fatal("did not move up after the dwell")
		}
	}
	s.move(time.Hour, 0)
	if s.move(2*time.Hour, 5); s.Member != 0 {
		t.Error("moved up without a budget")
	}
	for now := time.Hour; s.Budget < 1; now += time.Second {
		s.earn(now)
	}
	if s.move(2*time.Hour, 5); s.Member != 5 {
		t.Error("did not move up when inferences had refilled the budget")
	}
}

func TestHurriedJobsDoNotMoveTheOperatingMember(t *testing.T) {
	d := newDevice(mustGovernor(t, six(), Mode{}), ms(20), ms(48))
	d.jobs(100)
	for n := range 500 {
		d.deadline = []time.Duration{ms(48), ms(10)}[n%2]
		got := d.job()
		if got.Switched {
			t.Fatalf("job %d: got %+v, want no switch", n, got)
		}
		if n%2 == 1 && got.Member > 3 {
			t.Fatalf("job %d: got %+v, want a member that fits 10 ms", n, got)
		}
	}
}
