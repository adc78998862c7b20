package pipeline

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/frame"
	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/agent/wire"
)

// camera is who sends frames in a test, at random times.
type camera struct {
	name  string
	every time.Duration // mean time between two frames
	job   Job
}

// tally is what became of a camera's frames.
type tally struct {
	sent, met, late, superseded int
	top1                        float64 // sum over those in time
	reasons                     map[wire.Reason]int
}

func (t tally) share() float64 { return float64(t.met) / float64(t.sent) }

// film lets cameras send for a while and waits for all answers.
func film(b *bench, d time.Duration, cameras ...camera) map[string]*tally {
	type answered struct {
		name string
		Answer
	}
	all, answers, sent := map[string]*tally{}, make(chan answered, 1<<16), 0
	body := picture(b.t, 8)
	begin := time.Now()
	next := make([]time.Duration, len(cameras))
	rng := rand.New(rand.NewPCG(5, 5))
	for time.Since(begin) < d {
		i := 0
		for j := range next {
			if next[j] < next[i] {
				i = j
			}
		}
		<-time.After(next[i] - time.Since(begin))
		c := cameras[i]
		next[i] += time.Duration(rng.ExpFloat64() * float64(c.every))
		j := c.job
		j.Body, j.Source, j.Received = body, c.name, time.Now()
		j.Answer = func(a *Answer) { answers <- answered{c.name, a.copy()} }
		if all[c.name] == nil {
			all[c.name] = &tally{reasons: map[wire.Reason]int{}}
		}
		all[c.name].sent++
		sent++
		b.Submit(j)
	}
	for range sent {
		a := <-answers
		t := all[a.name]
		switch {
		case a.Superseded:
			t.superseded++
		case a.Met:
			t.met++
			t.top1 += b.cfg.Members[a.Member].Top1
		case a.Reason == "":
			t.late++
		}
		t.reasons[a.Reason]++
	}
	return all
}

// filming is testConfig with a decoder that takes 3 ms a frame, beside inference,
// and members as close together as those of a family are.
func filming() Config {
	cfg := testConfig()
	for i, top1 := range []float64{0.86, 0.875, 0.89} {
		cfg.Members[i].Top1 = top1
	}
	rng, mu := rand.New(rand.NewPCG(6, 6)), new(sync.Mutex)
	cfg.Decoder, cfg.Processors = slowDecoder{frame.Decoder{MaxPixels: frame.DefaultPixels}, func(frame.Header) {
		mu.Lock()
		took := 2*ms + time.Duration(rng.Float64()*float64(ms))
		if rng.IntN(20) == 0 {
			took += 10 * ms // it had to wait for a processor
		}
		mu.Unlock()
		<-time.After(took)
	}}, 1
	return cfg
}

// capacity is how many frames a second the decoder of filming can take.
const capacity = 333.0

// filmed is for how long cameras send.
const filmed = 4 * time.Second

// rate is the mean time between two frames at a part of capacity.
func rate(share float64) time.Duration { return time.Duration(float64(time.Second) / capacity / share) }

func TestN22_OverloadKeepsGoodputAtCapacity(t *testing.T) {
	for _, load := range []float64{0.8, 1.2, 1.5, 2, 4} {
		inBubble(t, filming(), func(b *bench) {
			got := film(b, filmed, camera{"front", rate(load), Job{Deadline: 100 * ms}})["front"]
			t.Logf("load %.1f: sent %d, %d in time, %d late, top-1 %.4f, %v", load, got.sent, got.met, got.late,
				got.top1/float64(got.met), got.reasons)
			if want := min(0.99*float64(got.sent), 0.98*filmed.Seconds()*capacity); float64(got.met) < want {
				t.Errorf("load %.1f: got %d in time, want %.0f", load, got.met, want)
			}
			if n := got.reasons[""] + got.reasons[wire.Busy]; n != got.sent {
				t.Errorf("load %.1f: %d answered or busy of %d: %v", load, n, got.sent, got.reasons)
			}
		})
	}
}

func TestN22_TheSecondAfterAnOverloadIsAsBefore(t *testing.T) {
	inBubble(t, filming(), func(b *bench) {
		quiet := camera{"front", rate(0.3), Job{Deadline: 100 * ms}}
		film(b, 5*time.Second, quiet)
		before := p95(b.interval().Total)
		film(b, filmed, camera{"front", rate(10), Job{Deadline: 100 * ms}})
		film(b, time.Second, quiet)
		b.interval()
		got := film(b, 5*time.Second, quiet)["front"]
		if after := p95(b.interval().Total); after > before*5/4 || got.share() < 0.99 {
			t.Errorf("got a p95 of %v after it, %v before, and %.3f in time", after, before, got.share())
		}
	})
}

func TestOneSourceDoesNotCostTheOthersTheirDeadlines(t *testing.T) {
	for _, deadline := range []time.Duration{60 * ms, 100 * ms, 500 * ms} { // of the greedy one
		inBubble(t, filming(), func(b *bench) {
			cameras := []camera{{"greedy", rate(1), Job{Deadline: deadline}}}
			for _, name := range []string{"a", "b", "c", "d", "e", "f", "g"} {
				cameras = append(cameras, camera{name, rate(0.1), Job{Deadline: 100 * ms}})
			}
			all := film(b, filmed, cameras...)
			met := 0
			for name, got := range all {
				met += got.met
				if name != "greedy" && got.share() < 0.95 {
					t.Errorf("%v: camera %s: %.3f in time", deadline, name, got.share())
				}
			}
			if float64(met) < 0.97*filmed.Seconds()*capacity {
				t.Errorf("%v: %d in time in all: the share of others is not used", deadline, met)
			}
		})
	}
}

func TestSourcesThatAllSendTooMuchHaveEqualShares(t *testing.T) {
	inBubble(t, filming(), func(b *bench) {
		all := film(b, filmed, camera{"a", rate(2), Job{Deadline: 100 * ms}},
			camera{"b", rate(0.6), Job{Deadline: 100 * ms}}, camera{"c", rate(0.6), Job{Deadline: 30 * ms}})
		for name, got := range all {
			if share := float64(got.met) / filmed.Seconds() / capacity; share < 0.29 || share > 0.38 {
				t.Errorf("%s got %.3f of the device, want a third", name, share)
			}
		}
	})
}

func TestNoClassStarves(t *testing.T) {
	inBubble(t, filming(), func(b *bench) {
		all := film(b, filmed, camera{"high", rate(2), Job{Deadline: 100 * ms, Priority: High}},
			camera{"normal", rate(0.5), Job{Deadline: 100 * ms}}, camera{"low", rate(0.5), Job{Deadline: 100 * ms,
				Priority: Low}})
		high, rest := all["high"].met, all["normal"].met+all["low"].met
		if share := float64(rest) / float64(rest+high); share < 0.04 || share > 0.09 || all["low"].met < 15 ||
			all["normal"].met < 15 {
			t.Errorf("got %d high, %d normal and %d low, want one of sixteen that is not high", high, all["normal"].met,
				all["low"].met)
		}
	})
}

func TestTheNewestFrameOfASourceTakesThePlaceOfOlderOnes(t *testing.T) {
	for _, latest := range []bool{false, true} {
		inBubble(t, filming(), func(b *bench) {
			film(b, time.Second, camera{"a", rate(0.5), Job{Deadline: 100 * ms, Latest: latest}})
			b.interval()
			quiet := b.cfg.Counters.Snapshot()
			got := film(b, filmed, camera{"a", rate(3), Job{Deadline: 100 * ms, Latest: latest}})["a"]
			pressed := b.interval()
			switch {
			case quiet.Refused > 0:
				t.Errorf("latest %v: %d refused while all can be in time", latest, quiet.Refused)
			case latest && (got.superseded < got.sent/2 || pressed.Queue.Quantile(0.5) > 25*ms):
				t.Errorf("%d superseded of %d, a median wait of %v", got.superseded, got.sent,
					pressed.Queue.Quantile(0.5))
			case !latest && got.superseded > 0:
				t.Errorf("%d superseded", got.superseded)
			}
			if float64(got.met) < 0.95*filmed.Seconds()*capacity {
				t.Errorf("latest %v: %d in time", latest, got.met)
			}
		})
	}
}

func TestAJobThatCannotBeInTimeIsNotDecoded(t *testing.T) {
	decoded := 0
	cfg := testConfig()
	cfg.Decoder = slowDecoder{frame.Decoder{MaxPixels: frame.DefaultPixels}, func(h frame.Header) {
		decoded++
		<-time.After(20 * ms)
	}}
	inBubble(t, cfg, func(b *bench) {
		far := Job{Body: picture(t, 8), Deadline: 200 * ms}
		for range 20 {
			b.answer(far)
		}
		before := decoded
		got := b.answer(Job{Body: far.Body, Deadline: 15 * ms})
		if got.Reason != wire.Busy || decoded != before {
			t.Errorf("got %+v and %d decoded, want it refused before", got, decoded-before)
		}
		if got := b.answer(Job{Body: far.Body, Deadline: 40 * ms}); !got.Met {
			t.Errorf("one that can be in time: got %+v", got)
		}
	})
}

func TestAGoalCountsTheTimeOfDecoding(t *testing.T) {
	cfg := testConfig()
	cfg.Decoder = slowly(20 * ms)
	inBubble(t, cfg, func(b *bench) {
		soon, err := governor.ModeOf(governor.Goal{Deadline: 15 * ms})
		if err != nil {
			b.t.Fatal(err)
		}
		for i := range 2 {
			nearest, err := b.Feasible(b.t.Context(), soon)
			if (err != nil) != (i == 1) || err != nil && nearest.Deadline != 22*ms {
				t.Errorf("after %d frames: got %v, %v", i*trusted, nearest, err)
			}
			for range trusted {
				b.answer(Job{Body: picture(t, 8), Deadline: time.Second})
			}
		}
	})
}

// Pictures of different sources are decoded at once, but no more pixels than the
// limit of one.
func TestDecodersTogetherHoldOneLargePicture(t *testing.T) {
	var now, most atomic.Int64
	cfg := testConfig()
	cfg.Processors = 3
	cfg.Decoder = hugeDecoder{func() {
		most.Store(max(most.Load(), now.Add(1)))
		<-time.After(5 * ms)
		now.Add(-1)
	}}
	inBubble(t, cfg, func(b *bench) {
		var answers []<-chan Answer
		for range 30 {
			answers = append(answers, b.submit(Job{Body: picture(t, 8), Deadline: time.Second}))
		}
		for _, a := range answers {
			<-a
		}
		if most.Load() != 2 {
			t.Errorf("got %d at once of half the limit, want two", most.Load())
		}
	})
}

// hugeDecoder says of small pictures that they have half the pixels there may be.
type hugeDecoder struct{ wait func() }

func (d hugeDecoder) Inspect([]byte, frame.Claim) (frame.Header, error) {
	return frame.Header{Codec: frame.PNG, Width: 4096, Height: 2048, Bytes: 1}, nil
}

func (d hugeDecoder) Decode(dst *frame.Picture, body []byte, _ frame.Header, _ int) error {
	d.wait()
	p, err := frame.Decoder{MaxPixels: frame.DefaultPixels}.Read(body)
	if err == nil {
		*dst = *p
	}
	return err
}

func TestBeyondSomeSourcesTheRestAreOne(t *testing.T) {
	q := newQueue(10_000, 1<<20)
	for i := range 10 * maxSources {
		e := waiting(time.Second, 1)
		e.Source = fmt.Sprint("s", i)
		if _, err := q.push(e, 0); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(q.sources); n > maxSources+1 {
		t.Errorf("got %d sources", n)
	}
	for e := q.first(); e != nil; e = q.first() {
		q.done(e)
	}
	late := waiting(time.Hour, 1)
	late.Source = "new"
	if _, err := q.push(late, time.Minute); err != nil || q.sources["new"] == nil || len(q.sources) > 2 {
		t.Errorf("a minute later: got %d sources, %v", len(q.sources), err)
	}
}

func TestAFullQueueGivesWayToASourceThatHasFewerInIt(t *testing.T) {
	q := newQueue(4, 1<<20)
	for i := range 4 {
		e := waiting(time.Duration(i)*ms, 1)
		e.Source = "greedy"
		if _, err := q.push(e, -1); err != nil {
			t.Fatal(err)
		}
	}
	other := waiting(10*ms, 1)
	out, err := q.push(other, -1)
	if err != nil || len(out) != 1 || out[0].gone != outweighed || out[0].due != 3*ms {
		t.Errorf("got %v, %v; want the last of the greedy source out", out, err)
	}
	again := waiting(10*ms, 1)
	again.Source = "greedy"
	if out, err := q.push(again, -1); err == nil || len(out) != 0 {
		t.Errorf("the greedy one again: got %v, %v", out, err)
	}
}
