package governor

import (
	"math/rand/v2"
	"testing"
	"time"
)

// line is a device whose jobs wait in a queue, all decoded.
type line struct {
	*device
	part    float64 // of the time its images take one at a time that a batch takes
	waiting []time.Duration
}

// answered is what became of jobs.
type answered struct {
	met     int
	points  float64 // top-1 of those in time, added up
	batches int
}

// serve runs jobs that arrive at those times.
func (l *line) serve(t *testing.T, arrivals []time.Duration) (a answered) {
	t.Helper()
	for len(arrivals) > 0 || len(l.waiting) > 0 {
		if len(l.waiting) == 0 {
			l.now = max(l.now, arrivals[0])
		}
		for len(arrivals) > 0 && arrivals[0] <= l.now {
			l.g.Arrive(arrivals[0])
			l.waiting = append(l.waiting, arrivals[0]+l.deadline)
			arrivals = arrivals[1:]
		}
		d := l.g.Decide(l.now, Queue{Deadline: l.waiting[0], Waiting: l.waiting[1:], Ready: min(len(l.waiting)-1, 7)})
		if d.Batch != 1 && (d.Batch != Batch || d.Batch > len(l.waiting) || d.Shed) {
			t.Fatalf("got %+v with %d jobs", d, len(l.waiting))
		}
		done := l.waiting[:d.Batch]
		l.waiting = l.waiting[d.Batch:]
		if d.Shed {
			continue
		}
		took := l.latency(d.Member)
		if d.Batch > 1 {
			a.batches++
			took = time.Duration(l.part * Batch * float64(took))
		}
		l.now += took
		l.g.Observe(l.now, d.Member, d.Batch, took)
		for _, due := range done {
			if l.now <= due {
				a.met++
				a.points += l.g.members[d.Member].Top1
			}
		}
	}
	return a
}

// bursts are arrivals for some seconds: every half second the rate is four times as high.
func bursts(perSecond float64, seconds int) (at []time.Duration) {
	r := rand.New(rand.NewPCG(1, 5))
	for now := time.Duration(0); now < time.Duration(seconds)*time.Second; {
		rate := perSecond
		if now/(500*time.Millisecond)%4 == 1 {
			rate *= 4
		}
		now += ms(1e3 * r.ExpFloat64() / rate)
		at = append(at, now)
	}
	return at
}

func TestBatchesAnswerMoreOfABurst(t *testing.T) {
	for _, rate := range []float64{80, 120, 160} {
		jobs := bursts(rate, 20)
		var got [2]answered
		for i, part := range []float64{0, 0.6} {
			l := line{device: newDevice(mustGovernor(t, six(), Mode{}), 0, ms(60)), part: part}
			for j, m := range l.g.members {
				if err := l.g.SetBatch(j, ms(part*Batch*milliseconds(m.Latency))); err != nil {
					t.Fatal(err)
				}
			}
			got[i] = l.serve(t, jobs)
		}
		single, batch := got[0], got[1]
		t.Logf("%v/s: %d jobs; one at a time %+v, in batches %+v", rate, len(jobs), single, batch)
		if single.batches != 0 || batch.batches == 0 || batch.points < 1.01*single.points || batch.met < single.met {
			t.Errorf("%v/s: one at a time %+v, in batches %+v: got less than one percent more effective accuracy", rate, single,
				batch)
		}
	}
}

func TestNoBatchWhereItGainsNothing(t *testing.T) {
	g := mustGovernor(t, six(), Mode{})
	far := make([]time.Duration, 16)
	for i := range far {
		far[i] = ms(70)
	}
	crowd := func() Decision { return g.Decide(ms(10), Queue{Deadline: ms(70), Waiting: far, Ready: 7}) }
	if d := crowd(); d.Batch != 1 {
		t.Errorf("no member is known to take batches: got %+v", d)
	}
	for j, m := range g.members {
		if err := g.SetBatch(j, time.Duration(float64(m.Latency)*Batch*0.97)); err != nil {
			t.Fatal(err)
		}
	}
	if d := crowd(); d.Batch != 1 {
		t.Errorf("a batch takes as long as its images: got %+v", d)
	}
	for j, m := range g.members {
		if err := g.SetBatch(j, 2*m.Latency); err != nil {
			t.Fatal(err)
		}
	}
	if d := crowd(); d.Batch != Batch || d.Reason != Together || d.Predicted < 2*g.members[d.Member].Latency*9/10 {
		t.Errorf("a batch takes half the time: got %+v", d)
	}
	calm := Queue{Deadline: ms(700), Waiting: []time.Duration{ms(700), ms(700), ms(700)}, Ready: 3}
	if d := g.Decide(ms(10), calm); d.Batch != 1 {
		t.Errorf("there is time for all of a short queue: got %+v", d)
	}
	calm.Waiting = make([]time.Duration, 16)
	for i := range calm.Waiting {
		calm.Waiting[i] = time.Minute
	}
	calm.Deadline = time.Minute
	if d := g.Decide(ms(10), calm); d.Batch != Batch {
		t.Errorf("there is time for all of a long queue: got %+v", d)
	}
	few := Queue{Deadline: ms(70), Waiting: far, Ready: Batch - 2}
	if d := g.Decide(ms(10), few); d.Batch != 1 {
		t.Errorf("%d are ready: got %+v", few.Ready, d)
	}
	tight := Queue{Deadline: ms(10) + g.members[0].Latency*3/2, Waiting: far, Ready: 7}
	if d := g.Decide(ms(10), tight); d.Batch != 1 {
		t.Errorf("the head has no time for a batch: got %+v", d)
	}
}

func TestABatchKeepsToTheMemberThatTheModeFixes(t *testing.T) {
	g := mustBatching(t, six())
	if err := g.SetMode(mustMode(t, "fixed:s2")); err != nil {
		t.Fatal(err)
	}
	waiting := make([]time.Duration, 16)
	for i := range waiting {
		waiting[i] = ms(70)
	}
	if d := g.Decide(ms(10), Queue{Deadline: ms(70), Waiting: waiting, Ready: 5}); d.Member != 2 || d.Batch != Batch {
		t.Errorf("got %+v, want a batch by member 2", d)
	}
	if d := g.Decide(ms(10), Queue{Deadline: ms(70)}); d.Member != 2 || d.Batch != 1 || d.Reason != Fixed {
		t.Errorf("alone: got %+v", d)
	}
}

func TestABatchTellsOfTheLoad(t *testing.T) {
	g := mustGovernor(t, six(), Mode{})
	if err := g.SetBatch(0, ms(8)); err != nil {
		t.Fatal(err)
	}
	now := time.Duration(0)
	for range 20 {
		now += ms(40)
		g.Observe(now, 0, Batch, ms(32)) // four times as long as unloaded
	}
	if s := g.Slowdown(); s < 2 {
		t.Errorf("after batches that took four times as long: got a slowdown of %.2f", s)
	}
	before := g.Slowdown()
	g.Observe(now+ms(9), 1, Batch, ms(9)) // member 1 has none
	if s := g.Slowdown(); s != before {
		t.Errorf("a batch that cannot be moved the belief from %.2f to %.2f", before, s)
	}
}

func TestSetBatchSaysWhatIsWrong(t *testing.T) {
	g := mustGovernor(t, six(), Mode{})
	for _, tt := range []struct {
		member  int
		latency time.Duration
	}{{-1, ms(1)}, {6, ms(1)}, {0, -1}} {
		if g.SetBatch(tt.member, tt.latency) == nil {
			t.Errorf("member %d, %v: got no error", tt.member, tt.latency)
		}
	}
}

func TestNoBatchWithoutAChance(t *testing.T) {
	g := mustGovernor(t, []Member{{Name: "m", Top1: 0.75, Latency: ms(8)}}, Mode{})
	if err := g.SetBatch(0, ms(26)); err != nil {
		t.Fatal(err)
	}
	crowd := []time.Duration{ms(31), ms(32), ms(33), ms(34), ms(35), ms(36)}
	q := Queue{Deadline: ms(30), Waiting: crowd, Ready: 3, Overhead: ms(2)} // each job's share of time is nothing
	if d := g.Decide(ms(10), q); d.Batch != 1 {
		t.Errorf("20 ms left, a batch takes 26: got %+v", d)
	}
}

func TestABatchHidesNoReason(t *testing.T) {
	g := mustGovernor(t, []Member{{Name: "m", Top1: 0.75, Latency: ms(100)}}, Mode{})
	if err := g.SetBatch(0, ms(200)); err != nil {
		t.Fatal(err)
	}
	crowd := []time.Duration{ms(61), ms(62), ms(63)}
	if d := g.Decide(ms(10), Queue{Deadline: ms(60), Waiting: crowd, Ready: 3}); d.Reason != Infeasible || d.Batch != 1 {
		t.Errorf("got %+v, want it told as infeasible", d)
	}
}

func TestABatchProfileThatIsOffIsCorrected(t *testing.T) {
	g := mustGovernor(t, six(), Mode{})
	if err := g.SetBatch(2, ms(20)); err != nil {
		t.Fatal(err)
	}
	now := time.Duration(0)
	for range 200 {
		now += ms(50)
		g.Observe(now, 2, Batch, ms(16)) // a fifth less
		now += ms(50)
		g.Observe(now, 2, 1, ms(6.6))
	}
	if got := g.grid.batch[2].alone; got > 17 {
		t.Errorf("got %.1f ms for a batch, want about 16", got)
	}
	if got := g.grid.single[2].alone; got < 6.2 || got > 7 {
		t.Errorf("got %.1f ms for one image, want about 6.5", got)
	}
}
