package pipeline

import (
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/agent/wire"
)

func TestAPartCountsInTheWholeAndAllocatesNothing(t *testing.T) {
	var whole Counters
	whole.submitted()
	first := whole.Part()
	first.submitted()
	first.answered(&Answer{Reason: wire.Busy})
	second := whole.Part()
	second.switched(governor.Best)
	answer := &Answer{Infer: time.Millisecond, Total: time.Second}
	const runs = 10
	if n := testing.AllocsPerRun(runs, func() {
		second.submitted()
		second.answered(answer)
	}); n > 0 {
		t.Errorf("%v allocations for each job", n)
	}
	for _, tt := range []struct {
		name string
		got  Snapshot
		want Counts
	}{
		{"first", first.Snapshot(), Counts{Jobs: 1, Refused: 1}},
		{"second", second.Snapshot(), Counts{Jobs: runs + 1, Missed: runs + 1}},
		{"whole", whole.Snapshot(), Counts{Jobs: runs + 3, Refused: 1, Missed: runs + 1}},
	} {
		if tt.got.Counts != tt.want || tt.got.Infer.Count() != tt.want.Missed ||
			tt.got.Switches[governor.Best] > 0 != (tt.name != "first") {
			t.Errorf("%s: got %+v, want %+v", tt.name, tt.got.Counts, tt.want)
		}
	}
}
