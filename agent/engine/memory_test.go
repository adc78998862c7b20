package engine

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/monitor"
	"github.com/limber-edge/limber/agent/wire"
)

// room is a look at the memory; what is under zero is unknown.
func room(left, stalled float64) (m monitor.Memory) {
	if left >= 0 {
		m.Headroom = &left
	}
	if stalled >= 0 {
		m.Stalled = &stalled
	}
	return m
}

func TestR2_AMemberGoesWhenMemoryIsShort(t *testing.T) {
	start := time.Now()
	for _, tt := range []struct {
		name string
		went time.Duration // ago, the last one; 0 for none
		m    monitor.Memory
		why  string
	}{
		{"half is left", 0, room(50, 0), ""},
		{"just enough", 0, room(10, 10), ""},
		{"too little is left", 0, room(9.9, 0), "9.9 % of the memory are left"},
		{"too little is left, and one went a second ago", time.Second, room(9.9, 0), "9.9 %"},
		{"tasks wait", 0, room(50, 10.1), "waited for memory in 10.1 %"},
		{"tasks wait, room is not known", 0, room(-1, 30), "waited"},
		{"tasks waited before the last one went", 9 * time.Second, room(50, 30), ""},
		{"tasks wait although one went", 10 * time.Second, room(50, 30), "waited"},
		{"nothing is known", 0, room(-1, -1), ""},
	} {
		r := newMemoryPolicy()
		if tt.went > 0 {
			r.gone(start.Add(-tt.went))
		}
		if why := r.mustGo(start, tt.m); (why == "") != (tt.why == "") || !strings.Contains(why, tt.why) {
			t.Errorf("%s: got %q, want %q", tt.name, why, tt.why)
		}
	}
}

// returnsAfter is how many seconds of the same room it takes until a member
// that went comes back; -1 is never, within an hour.
func returnsAfter(r *memoryPolicy, now time.Time, s *evicted, m monitor.Memory) int {
	for second := range 3600 {
		if r.mayReturn(now.Add(time.Duration(second)*time.Second), m, s) {
			return second
		}
	}
	return -1
}

func TestR2_AMemberReturnsToRoomForItAndNotTooOften(t *testing.T) {
	for _, tt := range []struct {
		name       string
		left, gain float64 // when it went, and what that gave
		m          monitor.Memory
		seconds    int
	}{
		{"plenty", 9, 5, room(50, 0), 10},
		{"the margin is not reached", 9, 0, room(14.9, 0), -1},
		{"tasks still wait", 9, 0, room(50, 1.1), -1},
		{"room for the margin and for it", 9, 20, room(35, 0), 10},
		{"no room for it, until who gave it is forgotten", 9, 20, room(25, 0), 300},
		{"what others gave is not asked for", 9, 90, room(46, 0), 10},
		{"room is not known", math.NaN(), 0, room(-1, 0), 10},
	} {
		r := newMemoryPolicy()
		now := time.Now()
		r.gone(now)
		s := &evicted{left: tt.left, gain: math.NaN()}
		s.look(room(tt.left+tt.gain, 0))
		if got := returnsAfter(&r, now, s, tt.m); got != tt.seconds {
			t.Errorf("%s: back after %d s, want %d", tt.name, got, tt.seconds)
		}
	}
}

func TestR2_WhoMustGoAgainWaitsTwiceAsLong(t *testing.T) {
	r := newMemoryPolicy()
	now := time.Now()
	for i, want := range []int{10, 20, 40, 80, 160, 320, 600, 600} {
		r.gone(now)
		got := returnsAfter(&r, now, &evicted{}, room(90, 0))
		if got != want {
			t.Errorf("return %d: after %d s, want %d", i+1, got, want)
		}
		now = now.Add(time.Duration(got) * time.Second)
		r.back(now)
		now = now.Add(time.Second)
	}
	r.gone(now.Add(waitMost))
	if got := returnsAfter(&r, now.Add(waitMost), &evicted{}, room(90, 0)); got != 10 {
		t.Errorf("after a long time in use: back after %d s, want 10", got)
	}
}

func TestAMemberThatCannotBeLoadedKeepsNoOtherOut(t *testing.T) {
	now := time.Now()
	c := &backend{evicted: []*evicted{nil, newEvicted(monitor.Memory{}), newEvicted(monitor.Memory{})}}
	if at := c.nextBack(now); at != 1 {
		t.Errorf("got member %d first, want the smallest", at)
	}
	c.evicted[1].failed(now)
	if at := c.nextBack(now); at != 2 {
		t.Errorf("got member %d after that failed, want the next one", at)
	}
	now = now.Add(waitLeast)
	if at := c.nextBack(now); at != 1 {
		t.Errorf("got member %d after %v, want the smallest again", at, waitLeast)
	}
	c.evicted[1].failed(now)
	if at := c.nextBack(now.Add(waitLeast)); at != 2 {
		t.Errorf("got member %d, want the pause to double", at)
	}
}

func TestAMemberThatTheDiskHadNoRoomForIsTriedSoonerThanOneForMemory(t *testing.T) {
	start := time.Now()
	for _, tt := range []struct {
		name string
		s    evicted
		want []time.Duration // pauses, the first and the last of many
	}{
		{"memory", *newEvicted(monitor.Memory{}), []time.Duration{waitLeast, waitMost}},
		{"disk", evicted{cause: noDisk, pause: pause{least: roomLeast, most: roomMost}}, []time.Duration{roomLeast,
			roomMost}},
	} {
		var got []time.Duration
		for range 20 {
			tt.s.failed(start)
			got = append(got, tt.s.again.Sub(start))
		}
		if first, last := got[0], got[len(got)-1]; first != tt.want[0] || last != tt.want[1] || got[1] != 2*first {
			t.Errorf("%s: got pauses of %v, want them to double from %v to %v", tt.name, got, tt.want[0], tt.want[1])
		}
	}
}

// tight has so much memory left that one member must go after the other.
func tight(r *rig) { r.machine.set(5, 100) }

func TestR2_UnderMemoryPressureTheLargestMembersMakeRoomAndComeBack(t *testing.T) {
	simulate(t, func(r *rig) { r.cfg.Mode = mode(t, "max-accuracy") }, func(t *testing.T, r *rig) {
		r.answeredBy("large")
		if !slices.Equal(r.cpu.pinned, []int{0}) {
			t.Errorf("pinned: %v, want the smallest", r.cpu.pinned)
		}
		tight(r)
		pass(5 * time.Second)
		r.wants(Degraded, "middle is out of use: memory is short")
		if got := r.events.of(wire.EventMemory); len(got) != 2 || !strings.HasPrefix(got[0],
			"large is taken out of use: 5.0 % of the memory are left") ||
			!strings.HasPrefix(got[1], "middle is taken out of use") {
			t.Errorf("got %q, want the largest, then the next", got)
		}
		if got := r.ask(job(0, time.Minute)); got.member != "small" || r.cpu.open != 1 {
			t.Errorf("got an answer by %s with %d sessions open, want the smallest alone", got.member, r.cpu.open)
		}
		r.machine.set(12, 100) // neither short nor enough
		pass(time.Minute)
		r.machine.set(90, 100)
		pass(11 * time.Second)
		if got := r.events.of(wire.EventMemory); len(got) != 3 ||
			got[2] != "middle is back in use: 90.0 % of the memory were left without it" {
			t.Errorf("got %q, want the middle one back, alone", got)
		}
		r.answeredBy("middle")
		pass(time.Minute)
		r.answeredBy("large")
		r.wants(Ready, "")
	})
}

func TestR2_ADeviceThatStartsWithoutRoomLoadsOneMember(t *testing.T) {
	simulate(t, func(r *rig) { r.machine.stalled = 40 }, func(t *testing.T, r *rig) {
		r.wants(Degraded, "large is out of use")
		if got := r.events.of(wire.EventMemory); len(got) != 2 ||
			got[0] != "middle is taken out of use: tasks waited for memory in 40.0 % of the last 10 s" {
			t.Errorf("got %q, want two left out for the stalls", got)
		}
		if got := r.ask(job(0, time.Minute)); got.member != "small" {
			t.Errorf("got an answer by %s, want one by the smallest", got.member)
		}
	})
}

func TestAMemberThatComesBackInVainStaysEvictedAndIsTriedAgain(t *testing.T) {
	simulate(t, nil, func(t *testing.T, r *rig) {
		tight(r)
		pass(5 * time.Second)
		r.cpu.change(func(l *fakeLoader) { l.faults[1] = errors.New("no room for it") })
		r.machine.set(90, 100)
		pass(time.Minute)
		if !strings.Contains(r.log.String(), "member not restored") {
			t.Error("no attempt in vain is logged")
		}
		r.answeredBy("large") // which it does not keep out
		r.cpu.change(func(l *fakeLoader) { l.faults[1] = nil })
		pass(time.Hour)
		r.wants(Ready, "")
	})
}
