package pipeline

import (
	"errors"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/agent/wire"
)

// batching is testConfig with members that take four images in the time of two.
func batching() Config {
	cfg := testConfig()
	for i := range cfg.Members {
		cfg.Members[i].Batch = 2 * cfg.Members[i].Latency
	}
	return cfg
}

// flood submits jobs at random times, so many a second, and counts what became of them.
func flood(b *bench, perSecond float64, jobs int) (met int, top1 float64, batched int) {
	frame, rng := picture(b.t, 8), rand.New(rand.NewPCG(7, 7))
	var answers []<-chan Answer
	for range jobs {
		answers = append(answers, b.submit(Job{Body: frame, Deadline: 50 * ms}))
		<-time.After(time.Duration(rng.ExpFloat64() / perSecond * float64(time.Second)))
	}
	for _, c := range answers {
		a := <-c
		if a.Batch > 1 {
			batched++
		}
		if a.Met {
			met++
			top1 += b.cfg.Members[a.Member].Top1
		}
	}
	return met, top1, batched
}

func TestAFloodIsAnsweredInBatches(t *testing.T) {
	const jobs = 1500
	var top1 [2]float64
	for i, cfg := range []Config{testConfig(), batching()} {
		inBubble(t, cfg, func(b *bench) {
			met, points, batched := flood(b, 400, jobs)
			top1[i] = points / jobs
			t.Logf("%d of %d in time, effective accuracy %.4f, %d in batches", met, jobs, top1[i], batched)
			if (batched > 0) != (i == 1) || met < jobs*9/10 {
				t.Errorf("got %d in time and %d in batches", met, batched)
			}
			if share := b.cfg.Counters.Snapshot().Busy; share > 5*time.Second {
				t.Errorf("inferences took %v of less than five seconds: the time of a batch is counted for each of its jobs", share)
			}
		})
	}
	if top1[1] < top1[0]+0.02 {
		t.Errorf("got an effective accuracy of %.4f in batches, %.4f one at a time", top1[1], top1[0])
	}
}

// held submits jobs while a first one is being inferred, so that all of them wait.
func held(b *bench, jobs ...Job) []<-chan Answer {
	answers := []<-chan Answer{b.submit(Job{Body: picture(b.t, 8), Deadline: time.Second})}
	synctest.Wait()
	for _, j := range jobs {
		if j.Body == nil {
			j.Body = picture(b.t, 8)
		}
		answers = append(answers, b.submit(j))
	}
	return answers[1:]
}

func TestABatchHasOnlyJobsThatAcceptItsMember(t *testing.T) {
	inBubble(t, batching(), func(b *bench) {
		b.mode("fixed:middle")
		far := Job{Deadline: 40 * ms}
		picky := Job{Deadline: 40 * ms, Floor: 0.85} // large only
		var sizes, members []int
		for _, c := range held(b, far, picky, far, far, far, far) {
			a := <-c
			sizes, members = append(sizes, a.Batch), append(members, a.Member)
		}
		for i, n := range sizes {
			if i == 1 && (n != 1 || members[i] != 2) || n > 1 && members[i] != 1 {
				t.Errorf("job %d: ran with %d by member %d; all: %v by %v", i, n, members[i], sizes, members)
			}
		}
	})
}

func TestWhoJoinsABatch(t *testing.T) {
	for _, tt := range []struct {
		name string
		with party
		job  *entry
		want bool
	}{
		{"as picky", party{&entry{due: 50}, 0.7, 0}, &entry{due: 50}, true},
		{"has less time, being of lower priority", party{&entry{due: 50}, 0.7, 0}, &entry{due: 49}, false},
		{"asks for what any member has", party{&entry{due: 50}, 0.7, 0}, &entry{Job: Job{Floor: 0.7}, due: 60}, true},
		{"asks for more than the smallest has", party{&entry{due: 50}, 0.7, 0}, &entry{Job: Job{Floor: 0.71}, due: 60},
			false},
		{"leaves the goal, which is met", party{&entry{Job: Job{Floor: 0.8}, due: 50}, 0.85, 0.8}, &entry{due: 60}, true},
		{"leaves the goal, which the head lifts", party{&entry{Job: Job{Floor: 0.7}, due: 50}, 0.7, 0.8}, &entry{due: 60},
			false},
		{"asks for less than the goal, which cannot be had", party{&entry{due: 50}, 0.7, 0.88},
			&entry{Job: Job{Floor: 0.85}, due: 60}, false},
	} {
		if got := tt.with.admits(tt.job); got != tt.want {
			t.Errorf("%s: got %t", tt.name, got)
		}
	}
}

func TestAFloorHoldsInABatchWhereTheGoalCannotBeHad(t *testing.T) {
	batched := 0
	for _, tt := range []struct {
		name  string
		goal  governor.Goal
		floor float64
		spoil func(b *bench) error
	}{
		{"a member is out of use", governor.Goal{Floor: 0.88}, 0.85, func(b *bench) error {
			return b.Use(b.t.Context(), 2,
				nil)
		}},
		{"watts do not suffice", governor.Goal{Floor: 0.85, Watts: 5}, 0.8, func(b *bench) error {
			return b.SetPower(b.t.Context(), governor.Power{Idle: 4.9, Active: 100})
		}},
	} {
		inBubble(t, batching(), func(b *bench) {
			m, err := governor.ModeOf(tt.goal)
			if err = errors.Join(err, b.SetMode(b.t.Context(), m), tt.spoil(b)); err != nil {
				t.Fatal(err)
			}
			far, picky := Job{Deadline: 60 * ms}, Job{Deadline: 60 * ms, Floor: tt.floor}
			for i, c := range held(b, far, far, picky, far, far, far, far, far, far, far, far, far) {
				a := <-c
				if i == 2 && a.Reason == "" && b.cfg.Members[a.Member].Top1 < tt.floor {
					t.Errorf("%s: min_top1 %v was answered by a member of %v", tt.name, tt.floor, b.cfg.Members[a.Member].Top1)
				}
				if a.Batch > 1 {
					batched++
				}
			}
		})
	}
	if batched == 0 {
		t.Error("nothing ran in a batch")
	}
}

func TestAJobOfHighPriorityDoesNotWaitForASecondBatch(t *testing.T) {
	inBubble(t, batching(), func(b *bench) {
		b.mode("fixed:large") // 8 ms, a batch 16
		var jobs []Job
		for range 24 {
			jobs = append(jobs, Job{Deadline: time.Second, Priority: Low})
		}
		low := held(b, jobs...)
		<-low[0] // a batch has ended, and the next begun
		synctest.Wait()
		if a := b.answer(Job{Body: picture(t, 8), Deadline: 30 * ms, Priority: High}); !a.Met {
			t.Errorf("got %+v, want it answered after the batch that runs", a)
		}
		for _, c := range low[1:] {
			<-c
		}
	})
}

func TestOverloadIsNoWorseInBatches(t *testing.T) {
	var met [2]int
	for i, batch := range []time.Duration{0, 23 * ms} {
		cfg := testConfig()
		cfg.Members = cfg.Members[:1]
		cfg.Members[0].Latency, cfg.Members[0].Batch = 8*ms, batch
		cfg.Decoder = slowly(time.Millisecond) // what a job takes beside its inference
		inBubble(t, cfg, func(b *bench) {
			frame, answers := picture(t, 8), make([]<-chan Answer, 1000)
			for n := range answers {
				answers[n] = b.submit(Job{Body: frame, Deadline: 25 * ms})
				<-time.After(2 * ms)
			}
			for _, c := range answers {
				if a := <-c; a.Met {
					met[i]++
				}
			}
		})
	}
	if met[1] < met[0]*95/100 {
		t.Errorf("got %d in time one at a time, %d in batches that do not fit", met[0], met[1])
	}
}

func TestOneBadImageDoesNotSpoilItsBatch(t *testing.T) {
	inBubble(t, batching(), func(b *bench) {
		b.mode("fixed:small")
		b.sessions[0].spoil = 2
		refused, batched := 0, 0
		far := Job{Deadline: 20 * ms}
		for _, c := range held(b, far, far, far, far, far, far, far, far) {
			switch a := <-c; {
			case a.Reason == wire.Internal:
				refused++
			case a.Reason != "" || len(a.Top) != 4:
				t.Errorf("got %+v", a)
			case a.Batch > 1:
				batched++
			}
		}
		if batched == 0 || refused == 0 || batched != 3*refused {
			t.Errorf("got %d answered in batches and %d refused, want three of four", batched, refused)
		}
	})
}

func TestR4_ABatchThatHangsIsRefusedAsAWhole(t *testing.T) {
	inBubble(t, batching(), func(b *bench) {
		b.mode("fixed:small")
		far := Job{Deadline: 20 * ms}
		b.sessions[0].stuck, b.sessions[0].several = make(chan struct{}), true
		answers := held(b, far, far, far, far, far, far)
		hung := 0
		for _, c := range answers {
			if a := <-c; a.Reason == wire.Internal {
				hung++
			}
		}
		if hung != governor.Batch || len(b.watch.hung) != 1 {
			t.Errorf("got %d jobs refused, members %v told of; want %d of member 0", hung, b.watch.hung, governor.Batch)
		}
	})
}

func TestR4_NoJobOfABatchThatCannotBeInterruptedIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, d, done, cancel := deafened(t, batching())
		b.mode("fixed:small")
		var answers []<-chan Answer
		for range 6 {
			answers = append(answers, b.submit(Job{Body: picture(t, 8), Deadline: time.Minute}))
		}
		if err := <-done; !errors.Is(err, ErrHung) {
			t.Errorf("Run ended with %v, want ErrHung", err)
		}
		cancel()
		close(d.end)
		synctest.Wait()
		for i, c := range answers {
			if len(c) != 1 {
				t.Errorf("job %d was answered %d times", i, len(c))
			}
		}
	})
}

func TestHigherPriorityGoesFirst(t *testing.T) {
	inBubble(t, testConfig(), func(b *bench) {
		priorities := []Priority{Low, Normal, High, Low, High, Normal}
		var jobs []Job
		for i, p := range priorities {
			jobs = append(jobs, Job{Priority: p, Deadline: time.Duration(100-i) * ms}) // each more urgent than the one before
		}
		var took []time.Duration
		for _, c := range held(b, jobs...) {
			took = append(took, (<-c).Total)
		}
		for i, p := range priorities {
			for j, other := range priorities {
				if p > other && took[i] >= took[j] {
					t.Errorf("job %d of priority %d took %v, job %d of priority %d %v", i, p, took[i], j, other, took[j])
				}
			}
		}
	})
}

func TestAFullQueueGivesWayToAHigherPriority(t *testing.T) {
	q := newQueue(3, 100)
	low, lower := waiting(10, 40), waiting(20, 40)
	low.Priority, lower.Priority = Low, Low
	for _, e := range []*entry{lower, low, waiting(30, 20)} {
		if _, err := q.push(e, 0); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := q.push(waiting(5, 90), 0); err == nil || len(out) != 0 {
		t.Errorf("it would not fit whoever goes: got %v, %v", out, err)
	}
	if out, err := q.push(waiting(5, 40), 0); err != nil || len(out) != 1 || out[0] != lower {
		t.Errorf("got %v, %v; want the last of low priority out", out, err)
	}
	high := waiting(50, 60)
	high.Priority = High
	if out, err := q.push(high, 0); err != nil || len(out) != 2 || q.first() != high || q.bytes != 40 {
		t.Errorf("got %v, %v and %d bytes; want two out, and the high one first", out, err, q.bytes)
	}
	if out, err := q.push(waiting(1, 70), 0); err == nil || len(out) != 0 {
		t.Errorf("an equal does not give way: got %v, %v", out, err)
	}
}

func TestFewFramesAreDecodedAhead(t *testing.T) {
	for _, tt := range []struct {
		name   string
		pixels int
		want   int
	}{
		{"small ones", 640 * 480, governor.Batch},
		{"large ones", 1920 * 1080, 3},
		{"one larger than the bound", 3 * aheadPixels, 1},
	} {
		l := newLineup(testConfig().Members)
		n := 0
		for s := l.slot(Normal); s != nil; s = l.slot(Normal) {
			s.entry, s.pixels = &entry{}, tt.pixels
			l.put(s)
			n++
		}
		if n != tt.want {
			t.Errorf("%s: got %d decoded ahead, want %d", tt.name, n, tt.want)
		}
		for _, p := range []Priority{High, Normal, High} { // one finds room
			if s := l.slot(p); s != nil {
				s.entry, s.pixels = &entry{Job: Job{Priority: p}}, tt.pixels
				l.put(s)
				n++
			}
		}
		if n != tt.want+1 {
			t.Errorf("%s: got %d decoded ahead after one of high priority, want %d", tt.name, n, tt.want+1)
		}
		for s := l.take(); s != nil; s = l.take() {
			l.release(s)
		}
		if len(l.free) != n || l.pixels != 0 {
			t.Errorf("%s: got %d free slots and %d pixels at the end", tt.name, len(l.free), l.pixels)
		}
	}
}
