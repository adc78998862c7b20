package governor

import (
	"math"
	"slices"
	"testing"
	"time"
)

// server is a policy in front of one worker.
type server struct {
	arrive  func(now time.Duration)
	decide  func(now time.Duration, q Queue) (member int, shed bool)
	observe func(now time.Duration, member int, latency time.Duration)
}

// attained is what a server made of a stream of arrivals.
type attained struct {
	met      float64 // fraction answered within the deadline
	accuracy float64 // effective: a late or shed job counts nothing, points
	shed     float64
}

// simulate runs jobs with one deadline through a queue and one worker that is
// as fast as the trace says for the moment a job starts.
func simulate(trace []step, jobs []time.Duration, deadline time.Duration, s server) (a attained) {
	n := float64(len(jobs))
	var now time.Duration
	var queue []time.Duration // deadlines
	for len(jobs) > 0 || len(queue) > 0 {
		if len(queue) == 0 {
			now = max(now, jobs[0])
		}
		for len(jobs) > 0 && jobs[0] <= now {
			s.arrive(jobs[0])
			queue = append(queue, jobs[0]+deadline)
			jobs = jobs[1:]
		}
		head := queue[0]
		queue = queue[1:]
		member, shed := s.decide(now, Queue{Deadline: head, Waiting: queue})
		if shed {
			a.shed += 1 / n
			continue
		}
		i, _ := slices.BinarySearchFunc(trace, now, func(s step, t time.Duration) int { return int(s.at - t) })
		latency := trace[min(i, len(trace)-1)].latency[member]
		now += latency
		s.observe(now, member, latency)
		if now <= head {
			a.met += 1 / n
			a.accuracy += 100 * replayTop1[member] / n
		}
	}
	return a
}

// reference is the queued policy without an operating member, put together
// from the parts that Governor uses. It differs in two details: the head's own
// slack limits its share of time, and a score leaves out the levels that are
// all but ruled out.
func reference(members []Member) server {
	g := NewGrid(members)
	everyone := all(len(members))
	r := rate{memory: rateMemory}
	var last time.Duration
	return server{
		arrive: r.arrive,
		decide: func(now time.Duration, q Queue) (int, bool) {
			slack := q.Deadline - now
			share := max(1e-3, min(q.share(now, r), fairShare*milliseconds(slack)))
			b := mix(g.filtered, g.prior, kept(now-last))
			o := g.outlook(b, slack, share)
			if now-last <= blind && o.worth[0] < tooUnlikely*g.points[0] {
				return 0, true
			}
			for k := range b {
				if b[k] <= 3e-3 {
					b[k] = 0
				}
			}
			o = g.outlook(b, slack, share)
			return best(everyone, &o.score), false
		},
		observe: func(now time.Duration, member int, latency time.Duration) {
			g.Observe(member, latency)
			last = now
		},
	}
}

func smallestAlways() server {
	return server{
		arrive:  func(time.Duration) {},
		decide:  func(time.Duration, Queue) (int, bool) { return 0, false },
		observe: func(time.Duration, int, time.Duration) {},
	}
}

func governed(t *testing.T, members []Member) server {
	t.Helper()
	g := mustGovernor(t, members, Mode{})
	return server{
		arrive: g.Arrive,
		decide: func(now time.Duration, q Queue) (int, bool) {
			d := g.Decide(now, q)
			return d.Member, d.Shed
		},
		observe: g.Observe,
	}
}

type pattern struct {
	low, high float64
	deadline  time.Duration
}

var patterns = [4]pattern{{10, 40, ms(60)}, {20, 80, ms(60)}, {30, 120, ms(60)}, {20, 80, ms(100)}}

// overSmallest is how a server compares with always running the smallest
// member, over three seeds: percent of jobs met, points of accuracy.
func overSmallest(trace []step, p pattern, start func() server) (met, accuracy float64) {
	for _, seed := range []uint32{3, 4, 5} {
		jobs := arrivals(trace[len(trace)-1].at, p.low, p.high, seed)
		got := simulate(trace, jobs, p.deadline, start())
		base := simulate(trace, jobs, p.deadline, smallestAlways())
		met += 100 * (got.met - base.met) / 3
		accuracy += (got.accuracy - base.accuracy) / 3
	}
	return met, accuracy
}

func TestQueueReproducesTheReferencePolicy(t *testing.T) {
	for _, tt := range []struct {
		trace         string
		met, accuracy [4]float64 // over always running the smallest
	}{
		{"cpu-hogs-1.txt", [4]float64{-0.36, -0.22, 0.27, -0.04}, [4]float64{3.07, 2.57, 2.40, 3.03}},
		{"cpu-bursts.txt", [4]float64{-0.25, -0.11, 0.56, -0.02}, [4]float64{3.66, 3.31, 3.12, 3.67}},
	} {
		trace := mustTrace(t, tt.trace)
		members := profiled(trace)
		for i, p := range patterns {
			met, accuracy := overSmallest(trace, p, func() server { return reference(members) })
			if math.Abs(met-tt.met[i]) > 0.005+1e-9 || math.Abs(accuracy-tt.accuracy[i]) > 0.005+1e-9 {
				t.Errorf("%s, %v/%v jobs/s in %v: got %+.3f %% met, %+.3f points; want %+.2f, %+.2f",
					tt.trace, p.low, p.high, p.deadline, met, accuracy, tt.met[i], tt.accuracy[i])
			}
		}
	}
}

// TestGovernorOnRecordedLoad holds the live governor, with its dwell
// and probes, to what the bare policy reaches.
func TestGovernorOnRecordedLoad(t *testing.T) {
	for _, name := range []string{"cpu-hogs-1.txt", "cpu-bursts.txt"} {
		t.Run("queue "+name, func(t *testing.T) {
			trace := mustTrace(t, name)
			members := profiled(trace)
			sum := 0.0
			for _, p := range patterns {
				met, accuracy := overSmallest(trace, p, func() server { return governed(t, members) })
				sum += accuracy / 4
				if met < -0.5 {
					t.Errorf("%v/%v jobs/s in %v: got %+.2f %% met over the smallest member, want at least -0.5", p.low, p.high, p.deadline, met)
				}
			}
			if sum < 2.5 {
				t.Errorf("got %+.2f points over the smallest member, want at least +2.5", sum)
			}
		})
		t.Run("R1 settles, no queue, "+name, func(t *testing.T) {
			trace := mustTrace(t, name)
			members := profiled(trace)
			got := summarise(trace, func() (func(step, time.Duration) int, func(step, int, time.Duration)) {
				s := governed(t, members)
				now := time.Duration(0)
				pick := func(x step, d time.Duration) int {
					now = max(now, x.at)
					s.arrive(now)
					member, _ := s.decide(now, Queue{Deadline: now + d})
					return member
				}
				return pick, func(_ step, member int, l time.Duration) {
					now += l
					s.observe(now, member, l)
				}
			})
			if got.mean > 2 {
				t.Errorf("got a regret of %.2f %% %v, want at most 2", got.mean, got.regret)
			}
			if m := median(got.down); m > 5 {
				t.Errorf("load up: settled after %d inferences (median of %v), want at most 5", m, got.down)
			}
		})
	}
}
