package agent

import (
	"slices"
	"testing"
	"time"
)

func TestInferencesAreWideWhileOthersLeaveProcessorsFree(t *testing.T) {
	const unknown = -1.0
	for _, tt := range []struct {
		name   string
		others func(second int) float64 // % of four processors
		wide   []int                    // seconds at which that changes
	}{
		{"idle", func(int) float64 { return 0 }, []int{10}},
		{"a little goes on in any system", func(int) float64 { return 5 }, []int{10}},
		{"half of a processor is in use", func(int) float64 { return 12 }, nil},
		{"nothing is known", func(int) float64 { return unknown }, nil},
		{"a task now and then", func(s int) float64 { return 25 * float64(s%8/7) }, nil},
		{"a task that comes to stay", func(s int) float64 { return 25 * float64(s/30) }, []int{10, 30}},
		{"half of a processor does not disturb", func(s int) float64 { return 12 * float64(min(1, s/20)) }, []int{10}},
		{"a task that comes back soon waits longer", func(s int) float64 { return 25 * float64(s/20%2) }, []int{10, 20}},
		{"and then for free processors of twice the time", func(s int) float64 {
			if s >= 20 && s < 22 || s >= 50 && s < 52 {
				return 25
			}
			return 0
		}, []int{10, 20, 42, 50, 92}},
	} {
		b, start := breadth{processors: 4}, time.Now()
		var changes []int
		for second := range 120 {
			was, others := b.wide, tt.others(second)
			known := &others
			if others == unknown {
				known = nil
			}
			if b.look(start.Add(time.Duration(second)*time.Second), known) != was {
				changes = append(changes, second)
			}
		}
		if !slices.Equal(changes, tt.wide) {
			t.Errorf("%s: changed at %v, want %v", tt.name, changes, tt.wide)
		}
	}
}

func TestWhatCouldNotChangeRests(t *testing.T) {
	b, start, none, all := breadth{processors: 4}, time.Now(), 0.0, 100.0
	for second := range 11 {
		b.look(start.Add(time.Duration(second)*time.Second), &none)
	}
	if !b.wide {
		t.Fatal("not wide after ten idle seconds")
	}
	now := start.Add(11 * time.Second)
	if b.look(now, &all) {
		t.Fatal("wide while others use all")
	}
	b.stay(now, true)
	for second := range 10 {
		if !b.look(now.Add(time.Duration(second)*time.Second), &all) {
			t.Errorf("tried again after %d s", second)
		}
	}
	if b.look(now.Add(breadthWait), &all) {
		t.Errorf("not tried again after %v", breadthWait)
	}
}
