package pipeline

import (
	"bytes"
	"context"
	"errors"
	"image"
	"image/jpeg"
	"image/png"
	"io"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/limber-edge/limber/agent/frame"
	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/agent/wire"
)

func TestAnswerSaysWhatTheJobGot(t *testing.T) {
	inBubble(t, testConfig(), func(b *bench) {
		b.mode("fixed:middle")
		got := b.answer(Job{Body: picture(t, 8), Deadline: 100 * ms})
		if got.Reason != "" || got.Member != 1 || got.Choice != governor.Fixed || !got.Met {
			t.Errorf("got %+v, want an answer by member 1, fixed by the mode", got)
		}
		if got.Infer != 4*ms || got.Total != got.Queue+got.Decode+got.Infer || got.Predicted <= 0 {
			t.Errorf("got times %+v, want 4 ms of inference, and parts that make the total", got)
		}
		checkTop(t, got.Top, []int{1, 3, 2, 0}, b.sessions[1].logits)
	})
}

func TestMetMeansTotalWithinTheDeadline(t *testing.T) {
	for _, tt := range []struct {
		name   string
		took   time.Duration
		met    bool
		missed uint64
	}{
		{"exactly in time", 20 * ms, true, 0},
		{"a nanosecond late", 20*ms + 1, false, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, testConfig(), func(b *bench) {
				b.mode("fixed:small")
				b.sessions[0].took = tt.took
				got := b.answer(Job{Body: picture(t, 8), Deadline: 20 * ms})
				if got.Reason != "" || got.Met != tt.met || b.cfg.Counters.Snapshot().Missed != tt.missed {
					t.Errorf("got %+v, %d missed; want met %v, %d missed", got, b.cfg.Counters.Snapshot().Missed, tt.met, tt.missed)
				}
			})
		})
	}
}

func TestRefusalNamesTheReason(t *testing.T) {
	nan := float32(math.NaN())
	for _, tt := range []struct {
		name   string
		job    Job
		change func(s *fakeSession)
		reason wire.Reason
		detail string
	}{
		{"empty frame", Job{}, nil, wire.Invalid, "empty"},
		{"no picture", Job{Body: []byte("hello")}, nil, wire.Invalid, "neither JPEG, PNG nor WebP"},
		{"cut off", Job{Body: picture(t, 8)[:40]}, nil, wire.Invalid, "ends too early"},
		{"another codec than declared", Job{Body: picture(t, 8), Claim: frame.Claim{Codec: "jpeg"}}, nil, wire.Invalid,
			"declared"},
		{"12 bits a sample", Job{Body: twelveBit(t)}, nil, wire.Unsupported, "12 bits a sample"},
		{"no member so accurate", Job{Body: picture(t, 8), Floor: 0.95}, nil, wire.Infeasible, "min_top1"},
		{"floor that is no number", Job{Body: picture(t, 8), Floor: math.NaN()}, nil, wire.Infeasible, "min_top1"},
		{"session fails", Job{Body: picture(t, 8)}, func(s *fakeSession) { s.err = errors.New("out of memory") },
			wire.Internal, "member small: out of memory"},
		{"tensor of another resolution", Job{Tensor: make([]float32, 3*8*8)}, nil, wire.Internal,
			"member small: an image of 192 numbers"},
		{"logits are NaN", Job{Body: picture(t, 8)}, func(s *fakeSession) { s.logits = []float32{1, nan, 2, 3} },
			wire.Internal, "member small: a logit is not a finite number"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, testConfig(), func(b *bench) {
				b.mode("fixed:small")
				if tt.change != nil {
					tt.change(b.sessions[0])
				}
				tt.job.Deadline = 100 * ms
				got := b.answer(tt.job)
				if got.Reason != tt.reason || !strings.Contains(got.Detail, tt.detail) || got.Met || len(got.Top) != 0 {
					t.Errorf("got %+v, want %s: %s", got, tt.reason, tt.detail)
				}
				b.sessions[0].err, b.sessions[0].logits = nil, []float32{4, 3, 2, 1}
				if next := b.answer(Job{Body: picture(t, 8), Deadline: 100 * ms}); next.Reason != "" {
					t.Errorf("the next job: got %+v, want an answer", next)
				}
				if s := b.cfg.Counters.Snapshot(); s.Jobs != 2 || s.Refused != 1 {
					t.Errorf("got %+v, want 2 jobs, 1 refused", s.Counts)
				}
			})
		})
	}
}

// The header's codecs and the decoder's are spelt in packages that do not know of
// each other.
func TestACodecThatAHeaderMayDeclareIsDecoded(t *testing.T) {
	for codec, encode := range map[string]func(io.Writer, image.Image) error{
		wire.PNG:  png.Encode,
		wire.JPEG: func(w io.Writer, m image.Image) error { return jpeg.Encode(w, m, nil) },
	} {
		var b bytes.Buffer
		if err := encode(&b, image.NewGray(image.Rect(0, 0, 8, 8))); err != nil {
			t.Fatal(err)
		}
		if _, err := (frame.Decoder{MaxPixels: 64}).Inspect(b.Bytes(), frame.Claim{Codec: codec}); err != nil {
			t.Errorf("declared as %s: %v", codec, err)
		}
	}
	for codec, bytes := range map[string]int{wire.RGB: 3 * 64, wire.BGR: 3 * 64, wire.Gray: 64, wire.NV12: 96} {
		if _, err := (frame.Decoder{MaxPixels: 64}).Inspect(make([]byte, bytes), frame.Claim{Codec: codec, Width: 8,
			Height: 8}); err != nil {
			t.Errorf("declared as %s: %v", codec, err)
		}
	}
	if wire.WebP != frame.WebP {
		t.Errorf("a header says %s, the decoder %s", wire.WebP, frame.WebP)
	}
}

func TestJobsAreAnsweredByDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := mustBench(t, testConfig())
		var order []int
		deadlines := []time.Duration{5, 3, 9, 3, 1, 7}
		for i, d := range deadlines {
			b.Submit(Job{Body: picture(t, 8), Received: time.Now(), Deadline: d * time.Second,
				Answer: func(*Answer) { order = append(order, i) }})
		}
		b.start()
		b.useAll()
		b.Drain(t.Context())
		b.stop()
		for i, want := range []int{4, 1, 3, 0, 5, 2} {
			if len(order) != len(deadlines) || order[i] != want {
				t.Fatalf("got order %v, want 4 1 3 0 5 2", order)
			}
		}
	})
}

func TestExpiredJobIsRefusedWithItsNumbers(t *testing.T) {
	inBubble(t, testConfig(), func(b *bench) {
		b.mode("fixed:large")
		// One is inferred, one ready, one decoded; the fourth waits in the queue.
		var answers []<-chan Answer
		for range 3 {
			answers = append(answers, b.submit(Job{Body: picture(t, 8), Deadline: 100 * ms}))
			synctest.Wait()
		}
		late := b.submit(Job{Body: picture(t, 8), Deadline: 1 * ms})
		for _, a := range answers {
			if got := <-a; got.Reason != "" {
				t.Errorf("got %+v, want an answer", got)
			}
		}
		if got := <-late; got.Reason != wire.Busy || !strings.Contains(got.Detail, "of 1.0 ms") {
			t.Errorf("got %+v, want busy and what was left of 1 ms", got)
		}
	})
}

func TestJobWithTooLittleTimeIsShedUntilNothingWasSeenForLong(t *testing.T) {
	inBubble(t, testConfig(), func(b *bench) {
		for range 5 {
			b.answer(Job{Body: picture(t, 8), Deadline: 100 * ms})
		}
		short := Job{Body: picture(t, 8), Deadline: ms / 2}
		if got := b.answer(short); got.Reason != wire.Busy || !strings.Contains(got.Detail, "0.5 ms were left of 0.5 ms") {
			t.Errorf("got %+v, want busy", got)
		}
		<-time.After(2 * governor.Blind)
		if got := b.answer(short); got.Reason != "" || got.Met {
			t.Errorf("after %v without an inference: got %+v, want an answer, late", 2*governor.Blind, got)
		}
	})
}

func TestFloorTakesALargerMemberAndItsTensor(t *testing.T) {
	inBubble(t, testConfig(), func(b *bench) {
		b.mode("fixed:small") // tensors are made for 4 pixels, the large member wants 8
		got := b.answer(Job{Body: picture(t, 16), Deadline: 100 * ms, Floor: 0.85})
		if got.Reason != "" || got.Member != 2 || got.Choice != governor.Floor {
			t.Errorf("got %+v, want an answer by member 2 for the floor", got)
		}
	})
}

func TestFullQueueRefusesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig()
		cfg.QueueJobs = 2
		b := mustBench(t, cfg) // does not run: what is submitted waits
		first, second := b.submit(Job{Body: picture(t, 8), Deadline: 10 * ms}), b.submit(Job{Body: picture(t, 8),
			Deadline: 100 * ms})
		if got := <-b.submit(Job{Body: picture(t, 8), Deadline: ms}); got.Reason != wire.Busy ||
			!strings.Contains(got.Detail, "full (2 jobs") {
			t.Errorf("third job: got %+v, want busy", got)
		}
		<-time.After(11 * ms)
		third := b.submit(Job{Body: picture(t, 8), Deadline: 100 * ms})
		if got := <-first; got.Reason != wire.Busy || !strings.Contains(got.Detail, "deadline had passed") {
			t.Errorf("expired job: got %+v, want busy", got)
		}
		if len(second) != 0 || len(third) != 0 || b.State().Waiting != 2 {
			t.Errorf("got %d waiting, want the two that are not expired", b.State().Waiting)
		}
		b.start()
		b.stop()
		for name, a := range map[string]<-chan Answer{"second": second, "third": third} {
			if got := <-a; got.Reason == "" {
				t.Errorf("%s job: got %+v of a pipeline without sessions, want a refusal", name, got)
			}
		}
	})
}

func TestInferenceDoesNotWaitForASlowDecode(t *testing.T) {
	var held chan bool
	cfg := testConfig()
	cfg.Decoder = slowDecoder{frame.Decoder{MaxPixels: frame.DefaultPixels}, func(h frame.Header) {
		if h.Width == 16 {
			<-held
		}
	}}
	inBubble(t, cfg, func(b *bench) {
		held = make(chan bool)
		inferring, finish := make(chan bool), make(chan bool)
		first := true
		enter := func() {
			if first {
				first = false
				inferring <- true
				<-finish
			}
		}
		for _, s := range b.sessions {
			s.enter = enter
		}
		one := b.submit(Job{Body: picture(t, 8), Deadline: 100 * ms})
		<-inferring
		two := b.submit(Job{Body: picture(t, 8), Deadline: 100 * ms})
		synctest.Wait() // the second is ready
		three := b.submit(Job{Body: picture(t, 16), Deadline: time.Second})
		synctest.Wait() // and decoding is held up
		finish <- true
		if a, c := <-one, <-two; a.Reason != "" || c.Reason != "" {
			t.Errorf("got %+v and %+v, want two answers", a, c)
		}
		close(held)
		<-three
	})
}

func TestDecodingDoesNotWaitForASlowInference(t *testing.T) {
	inBubble(t, testConfig(), func(b *bench) {
		finish := make(chan bool)
		for _, s := range b.sessions {
			s.enter = func() { <-finish }
		}
		slow := b.submit(Job{Body: picture(t, 8), Deadline: 100 * ms})
		if got := b.answer(Job{Body: []byte("no picture"), Deadline: 100 * ms}); got.Reason != wire.Invalid {
			t.Errorf("got %+v, want invalid", got)
		}
		if len(slow) != 0 {
			t.Error("the slow inference ended before it was let go")
		}
		close(finish)
		if got := <-slow; got.Reason != "" {
			t.Errorf("got %+v, want an answer", got)
		}
	})
}

func TestBeforeThereIsASessionJobsWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := mustBench(t, testConfig())
		b.start()
		a := b.submit(Job{Body: picture(t, 8), Deadline: time.Second})
		synctest.Wait()
		if len(a) != 0 {
			t.Fatalf("got %+v without a session", <-a)
		}
		if err := b.Use(b.t.Context(), 1, nil); err != nil {
			t.Errorf("to take out of use what never came into it: %v", err)
		}
		b.use(0, b.sessions[0])
		if got := <-a; got.Reason != "" || got.Member != 0 {
			t.Errorf("got %+v, want an answer by the one member there is", got)
		}
		b.stop()
	})
}

func TestOrdersThatCannotBeObeyedChangeNothing(t *testing.T) {
	inBubble(t, testConfig(), func(b *bench) {
		unknown, err := governor.ParseMode("fixed:huge")
		if err != nil {
			t.Fatal(err)
		}
		b.mode("fixed:large")
		if err := b.SetMode(b.t.Context(), unknown); err == nil || !strings.Contains(err.Error(), "huge") {
			t.Errorf("unknown member: got %v, want an error that names it", err)
		}
		if _, mode := b.Governed(); mode.String() != "fixed:large" {
			t.Errorf("got mode %v, want the one before", mode)
		}
		b.use(0, nil)
		b.use(1, nil)
		if err := b.Use(b.t.Context(), 2, nil); err == nil {
			t.Error("the last member was taken out of use")
		}
		if got := b.answer(Job{Body: picture(t, 8), Deadline: 100 * ms}); got.Reason != "" || got.Member != 2 {
			t.Errorf("got %+v, want an answer by the member that is left", got)
		}
	})
}

func TestFeasibleIsWhatTheMembersInUseCanDo(t *testing.T) {
	inBubble(t, testConfig(), func(b *bench) {
		mode, err := governor.ModeOf(governor.Goal{Floor: 0.85})
		if err != nil {
			b.t.Fatal(err)
		}
		if _, err := b.Feasible(b.t.Context(), mode); err != nil {
			b.t.Errorf("with all members: got %v", err)
		}
		b.use(2, nil)
		if nearest, err := b.Feasible(b.t.Context(), mode); err == nil || nearest != (governor.Goal{Floor: 0.8}) {
			b.t.Errorf("without the largest: got %+v, %v; want a floor of 0.8", nearest, err)
		}
		if _, in := b.Governed(); in != (governor.Mode{}) {
			b.t.Errorf("asking set the mode %s", in)
		}
	})
}

func TestOrderEndsWithItsContext(t *testing.T) {
	b := mustBench(t, testConfig()) // does not run: nobody takes orders
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.SetMode(ctx, governor.Mode{}); !errors.Is(err, context.Canceled) {
		t.Errorf("SetMode: got %v, want %v", err, context.Canceled)
	}
	if err := b.Use(ctx, 0, b.sessions[0]); !errors.Is(err, context.Canceled) {
		t.Errorf("Use: got %v, want %v", err, context.Canceled)
	}
}

func TestLoadMovesTheOperatingMemberAndIsReported(t *testing.T) {
	inBubble(t, testConfig(), func(b *bench) {
		for range 50 {
			b.answer(Job{Body: picture(t, 8), Deadline: 20 * ms})
		}
		if op, mode := b.Governed(); op != 2 || mode.String() != "balanced" {
			t.Errorf("unloaded: got member %d, mode %v; want 2, balanced", op, mode)
		}
		for _, s := range b.sessions {
			s.took *= 4
		}
		for range 50 {
			b.answer(Job{Body: picture(t, 8), Deadline: 20 * ms})
		}
		if s := b.State(); s.Operating == 2 || s.Slowdown < 2 {
			t.Errorf("loaded: got member %d, slowdown %.1f; want a smaller member, about 4", s.Operating, s.Slowdown)
		}
		if seen := b.watch.seen; len(seen) == 0 || !strings.Contains(seen[len(seen)-1], "slack") {
			t.Errorf("got switches %q, want at least one with its reason", seen)
		}
	})
}

func TestDrainAnswersWhatWasSubmittedAndTakesNoMore(t *testing.T) {
	inBubble(t, testConfig(), func(b *bench) {
		var answers []<-chan Answer
		for range 10 {
			answers = append(answers, b.submit(Job{Body: picture(t, 8), Deadline: time.Second}))
		}
		b.Drain(b.t.Context())
		for i, a := range answers {
			if len(a) != 1 {
				t.Fatalf("job %d: got %d answers when Drain returned, want one", i, len(a))
			} else if got := <-a; got.Reason != "" {
				t.Errorf("job %d: got %+v, want an answer", i, got)
			}
		}
		mustNotTake(b)
	})
}

func TestDrainEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := mustBench(t, testConfig()) // no session: the job stays
		b.start()
		a := b.submit(Job{Body: picture(t, 8), Deadline: time.Second})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		b.Drain(ctx)
		b.stop()
		if got := <-a; got.Reason != wire.Busy {
			t.Errorf("got %+v, want busy", got)
		}
	})
}

func TestEveryReaderOfCountersHasIntervalsOfItsOwn(t *testing.T) {
	inBubble(t, testConfig(), func(b *bench) {
		b.mode("fixed:small")
		frame := picture(t, 8)
		other := b.cfg.Counters.Snapshot()
		const jobs = 1100
		for i := range jobs {
			b.sessions[0].took = 2*ms + time.Duration(i%100)*ms/100
			b.answer(Job{Body: frame, Deadline: time.Minute})
		}
		near := func(got, want time.Duration) bool { return got > want*95/100 && got < want*105/100 }
		s := b.interval()
		p50, p95 := s.Infer.Quantile(0.5), s.Infer.Quantile(0.95)
		n, queued := s.Total.Count(), s.Queue.Quantile(0.95)
		if n != jobs || !near(p50, 250*ms/100) || !near(p95, 295*ms/100) || queued != 0 {
			t.Errorf("got %v and %v of %d, queued for %v; want a median near 2.5 ms and a 95th percentile near 2.95 ms "+
				"of %d, and no queue", p50, p95, n, queued, jobs)
		}
		if again := b.interval(); again != (Snapshot{}) {
			t.Errorf("got %+v, want a new interval", again)
		}
		now := b.cfg.Counters.Snapshot()
		if got := now.Since(&other); got != s || now.Jobs != jobs {
			t.Errorf("another reader got %+v of %d jobs, want %+v of %d", got, now.Jobs, s, jobs)
		}
	})
}

func TestPipelinesThatShareCountersCountTogether(t *testing.T) {
	cfg := testConfig()
	cfg.Counters = new(Counters)
	inBubble(t, cfg, func(old *bench) {
		old.answer(Job{Body: picture(t, 8), Deadline: time.Minute})
		next := mustBench(old.t, cfg)
		next.start()
		next.useAll()
		next.answer(Job{Body: picture(t, 8), Deadline: time.Minute})
		next.stop()
		s := cfg.Counters.Snapshot()
		if n := s.Total.Count(); s.Jobs != 2 || n != 2 || s.Busy != s.Infer.Sum() {
			t.Errorf("got %d jobs, %d ended, %v busy, want the job of either and %v", s.Jobs, n, s.Busy, s.Infer.Sum())
		}
	})
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	fixed, err := governor.ParseMode("fixed:huge")
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(c *Config){
		"no members":       func(c *Config) { c.Members = nil },
		"not sorted":       func(c *Config) { c.Members[0], c.Members[1] = c.Members[1], c.Members[0] },
		"unknown member":   func(c *Config) { c.Mode = fixed },
		"member without R": func(c *Config) { c.Members[1].R = 0 },
		"no classes":       func(c *Config) { c.Classes = 0 },
		"no queue":         func(c *Config) { c.QueueJobs = 0 },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig()
			change(&cfg)
			if _, err := New(cfg, new(switches)); err == nil {
				t.Error("got a pipeline, want an error")
			}
		})
	}
}
