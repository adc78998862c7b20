package pipeline

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/limber-edge/limber/agent/frame"
	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family"
)

// A storm is everything at once, from a seed: jobs of every kind, orders,
// sessions that fail, an end by Drain or in the middle.
func TestEveryJobIsAnsweredOnce(t *testing.T) {
	for seed := range uint64(storms) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { storm(t, rand.New(rand.NewPCG(seed, 0))) })
		})
	}
}

const (
	stormJobs    = 300
	stormSenders = 3
)

func storm(t *testing.T, rng *rand.Rand) {
	cfg := testConfig()
	cfg.QueueJobs, cfg.QueueBytes = 1+rng.IntN(30), 200+rng.IntN(3000)
	for i := range cfg.Members {
		cfg.Members[i].Batch = time.Duration(rng.IntN(4)) * cfg.Members[i].Latency // 0 to 3 images' time
	}
	cfg.Processors = rng.IntN(4)
	cfg.Decoder = slowDecoder{frame.Decoder{MaxPixels: frame.DefaultPixels},
		func(h frame.Header) { <-time.After(time.Duration(h.Bytes%7) * ms) }}
	b := mustBench(t, cfg)
	for i := range b.sessions {
		s, chance := b.sessions[i], rand.New(rand.NewPCG(rng.Uint64(), 0))
		s.enter = func() {
			s.err = nil
			if chance.IntN(10) == 0 {
				s.err = errors.New("bad luck")
			}
		}
	}
	b.start()
	answers := make([]atomic.Int32, stormJobs*stormSenders)
	var senders, operator sync.WaitGroup
	for i := range stormSenders {
		own := rand.New(rand.NewPCG(rng.Uint64(), 0))
		senders.Go(func() { sendStorm(t, b, own, answers[i*stormJobs:][:stormJobs]) })
	}
	ctx, cancel := context.WithCancel(t.Context())
	orders := rand.New(rand.NewPCG(rng.Uint64(), 0))
	operator.Go(func() { orderStorm(ctx, b, orders) })
	switch rng.IntN(3) {
	case 0: // in the middle of everything
		<-time.After(time.Duration(rng.IntN(1000)) * ms)
	case 1: // in the middle of draining
		<-time.After(time.Duration(rng.IntN(1000)) * ms)
		short, done := context.WithTimeout(ctx, time.Duration(rng.IntN(50))*ms)
		b.Drain(short)
		done()
	case 2:
		senders.Wait()
		b.Drain(ctx)
	}
	b.stop()
	cancel()
	senders.Wait()
	operator.Wait()
	for i := range answers {
		if n := answers[i].Load(); n != 1 {
			t.Errorf("job %d was answered or not taken %d times", i, n)
		}
	}
	if n := b.open.Load() &^ shut; n != 0 {
		t.Errorf("%d jobs count as open at the end", n)
	}
}

// refusals are the reasons a pipeline may give.
var refusals = []wire.Reason{wire.Invalid, wire.Busy, wire.Infeasible, wire.Unsupported, wire.Internal}

// sendStorm submits jobs of every kind at random times.
func sendStorm(t *testing.T, b *bench, rng *rand.Rand, answers []atomic.Int32) {
	good := picture(t, 8)
	for i := range answers {
		j := Job{Body: good, Received: time.Now(), Deadline: time.Duration(1+rng.IntN(100)) * ms,
			Priority: Priority(rng.IntN(3) - 1)}
		j.Source, j.Latest = []string{"", "a", "b"}[rng.IntN(3)], rng.IntN(4) == 0
		switch rng.IntN(8) {
		case 0:
			j.Body = good[:rng.IntN(len(good))]
		case 1:
			j.Body, j.Tensor = nil, make([]float32, 3*8*8)
		case 2:
			j.Received = j.Received.Add(-time.Second) // expired
		case 3:
			j.Floor = rng.Float64()
		case 4:
			j.Deadline = time.Minute
		}
		j.Answer = func(a *Answer) {
			answers[i].Add(1)
			if (a.Reason == "") != (len(a.Top) > 0) || a.Reason != "" && !slices.Contains(refusals, a.Reason) || a.Met &&
				a.Total > j.Deadline || a.Superseded && !j.Latest {
				t.Errorf("job %d: got %+v", i, a)
			}
		}
		if !b.Submit(j) {
			answers[i].Add(1)
		}
		if rng.IntN(3) > 0 {
			<-time.After(time.Duration(rng.IntN(6)) * ms)
		}
	}
}

// orderStorm changes modes and takes members in and out until ctx ends.
func orderStorm(ctx context.Context, b *bench, rng *rand.Rand) {
	modes := []string{"balanced", "max-accuracy", "low-latency", "fixed:small", "fixed:large"}
	for ctx.Err() == nil {
		<-time.After(time.Duration(rng.IntN(20)) * ms)
		if rng.IntN(2) == 0 {
			m, err := governor.ParseMode(modes[rng.IntN(len(modes))])
			if err == nil {
				err = b.SetMode(ctx, m)
			}
			if err != nil && ctx.Err() == nil && !errors.Is(err, ErrClosed) {
				b.t.Errorf("mode: %v", err)
			}
			continue
		}
		i := rng.IntN(len(b.sessions))
		var s family.Session
		if rng.IntN(3) > 0 {
			s = b.sessions[i]
		}
		_ = b.Use(ctx, i, s) // refused where it would leave no member
	}
}

func TestSubmitAfterTheEndTakesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := mustBench(t, testConfig())
		b.start()
		b.stop()
		mustNotTake(b)
	})
}

// Real goroutines, lest a bubble's order hide a race.
func TestAJobIsEitherNotTakenOrAnsweredOnceWhileThePipelineCloses(t *testing.T) {
	for _, end := range []struct {
		name  string
		close func(b *bench)
		every bool // what is taken is not only answered, but served
	}{
		{"by Drain", func(b *bench) { b.Drain(b.t.Context()) }, true},
		{"by the end of Run", func(b *bench) { b.stop() }, false},
	} {
		t.Run(end.name, func(t *testing.T) {
			for range 20 {
				closing(t, end.close, end.every)
			}
		})
	}
}

// closing submits jobs from several goroutines until the pipeline takes no more.
func closing(t *testing.T, end func(b *bench), served bool) {
	cfg := testConfig()
	b := mustBench(t, cfg)
	for _, s := range b.sessions {
		s.took = 0
	}
	b.start()
	b.useAll()
	var taken, answered atomic.Int64
	var senders sync.WaitGroup
	begun := make(chan bool, 4)
	for range cap(begun) {
		senders.Go(func() {
			open := make(chan bool, 16) // what Drain has to serve is bounded
			for n := 0; ; n++ {
				open <- true
				j := Job{Tensor: make([]float32, 3*8*8), Received: time.Now(), Deadline: time.Hour}
				j.Answer = func(a *Answer) {
					answered.Add(1)
					<-open
					if a.Abandoned && served {
						t.Errorf("got %+v, want it served before Drain returns", a)
					}
				}
				if !b.Submit(j) {
					return
				}
				taken.Add(1)
				if n == 0 {
					begun <- true
				}
			}
		})
	}
	for range cap(begun) {
		<-begun
	}
	end(b)
	senders.Wait()
	b.Drain(t.Context()) // of a pipeline that is over: what was being submitted
	if got, want := answered.Load(), taken.Load(); got != want {
		t.Errorf("%d jobs taken, %d answers", want, got)
	}
	if served {
		b.stop()
	}
}

func TestAJobAllocatesOnlyItsEntry(t *testing.T) {
	b := mustBench(t, testConfig())
	for _, s := range b.sessions {
		s.took = 0
	}
	b.start()
	defer b.stop()
	b.useAll()
	b.mode("fixed:small")
	send := oneByOne(b, Job{Tensor: make([]float32, 3*4*4), Deadline: time.Minute})
	for range 2048 { // buffers grow to their size
		send()
	}
	if n := testing.AllocsPerRun(1000, send); n > 1 {
		t.Errorf("got %v allocations a job, want the entry alone", n)
	}
}

// oneByOne returns a function that submits a job and waits for its answer.
func oneByOne(b *bench, j Job) func() {
	answered := make(chan bool)
	j.Answer = func(*Answer) { answered <- true }
	return func() {
		j.Received = time.Now()
		b.Submit(j)
		<-answered
	}
}

// BenchmarkJob is what the pipeline itself costs: a frame through queue,
// decoder and governor to a session that does nothing.
func BenchmarkJob(b *testing.B) {
	for name, job := range map[string]Job{
		"tensor": {Tensor: make([]float32, 3*4*4)},
		"frame":  {Body: picture(b, 8)},
	} {
		b.Run(name, func(b *testing.B) {
			work := mustBench(b, testConfig())
			for _, s := range work.sessions {
				s.took = 0
			}
			work.start()
			defer work.stop()
			work.useAll()
			work.mode("fixed:small")
			job.Deadline = time.Minute
			send := oneByOne(work, job)
			b.ReportAllocs()
			for b.Loop() {
				send()
			}
		})
	}
}
