package pipeline

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/limber-edge/limber/agent/frame"
	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/family"
)

const ms = time.Millisecond

// testConfig has three members of two resolutions and four classes.
func testConfig() Config {
	member := func(name string, top1 float64, latency time.Duration, r int) Member {
		return Member{Member: governor.Member{Name: name, Top1: top1, Latency: latency}, R: r}
	}
	return Config{
		Members: []Member{member("small", 0.7, 2*ms, 4), member("middle", 0.8, 4*ms, 8), member("large", 0.9, 8*ms, 8)},
		Classes: 4,
		Preprocess: family.Preprocess{
			Mean: [3]float32{0.5, 0.5, 0.5}, Std: [3]float32{0.25, 0.25, 0.25}, Resize: "bilinear", Crop: "none"},
		QueueJobs: 64, QueueBytes: 1 << 20,
	}
}

// fakeSession takes as long as it is told and gives the logits it is told. It
// refuses an input of another member's resolution, as a real one does.
type fakeSession struct {
	r      int
	took   time.Duration
	batch  time.Duration // that several images take; 0: as long as one
	logits []float32
	err    error
	spoil  int           // image of a batch whose logits are no numbers; 0: none
	enter  func()        // called at the beginning of Run
	stuck  chan struct{} // Run waits until it is interrupted, if not nil

	several bool // only one of several images is stuck
}

func (s *fakeSession) Interrupt() {
	if s.stuck != nil {
		close(s.stuck)
	}
}

func (s *fakeSession) Run(out []float32, in ...[]float32) error {
	if s.enter != nil {
		s.enter()
	}
	if s.stuck != nil && !(s.several && len(in) == 1) {
		<-s.stuck
		return errors.New("terminated")
	}
	took := s.took
	if len(in) > 1 && s.batch > 0 {
		took = s.batch
	}
	if took > 0 {
		<-time.After(took)
	}
	if len(out) != len(in)*len(s.logits) {
		return fmt.Errorf("room for %d logits of %d images does not fit", len(out), len(in))
	}
	for i, image := range in {
		if len(image) != 3*s.r*s.r {
			return fmt.Errorf("an image of %d numbers does not fit", len(image))
		}
		copy(out[i*len(s.logits):], s.logits)
		if i > 0 && i == s.spoil {
			out[i*len(s.logits)] = float32(math.NaN())
		}
	}
	return s.err
}

func (s *fakeSession) Close() error { return nil }

// fakeSessions has one for each member of a configuration, which takes as long
// as its profile says.
func fakeSessions(cfg Config) []*fakeSession {
	var all []*fakeSession
	for _, m := range cfg.Members {
		all = append(all, &fakeSession{r: m.R, took: m.Latency, batch: m.Batch, logits: []float32{0, 3, 1, 2}})
	}
	return all
}

// slowDecoder takes as long as it is told for each frame.
type slowDecoder struct {
	frame.Decoder
	wait func(h frame.Header)
}

func (d slowDecoder) Decode(dst *frame.Picture, body []byte, h frame.Header, scale int) error {
	d.wait(h)
	return d.Decoder.Decode(dst, body, h, scale)
}

// slowly decodes each frame in the same time.
func slowly(took time.Duration) slowDecoder {
	return slowDecoder{frame.Decoder{MaxPixels: frame.DefaultPixels}, func(frame.Header) { <-time.After(took) }}
}

// switches is an Observer that forgets nothing.
type switches struct {
	seen []string
	hung []int
}

func (s *switches) Hung(member int) { s.hung = append(s.hung, member) }

func (s *switches) Switched(from, to int, why string) {
	s.seen = append(s.seen, fmt.Sprintf("%d to %d: %s", from, to, why))
}

// bench is a pipeline at work in a synctest bubble.
type bench struct {
	*Pipeline
	t        testing.TB // the bubble's, where there is one
	sessions []*fakeSession
	watch    *switches
	stop     func()   // ends Run and waits for it
	counted  Snapshot // when interval was called last
}

// inBubble runs f beside a pipeline that uses all members. When f has returned,
// Run must end without leaving a goroutine behind: the bubble would not end.
func inBubble(t *testing.T, cfg Config, f func(b *bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := mustBench(t, cfg)
		b.start()
		b.useAll()
		f(b)
		b.stop()
	})
}

func mustBench(tb testing.TB, cfg Config) *bench {
	tb.Helper()
	b := &bench{t: tb, sessions: fakeSessions(cfg), watch: new(switches)}
	var err error
	if b.Pipeline, err = New(cfg, b.watch); err != nil {
		tb.Fatal(err)
	}
	return b
}

func (b *bench) start() {
	ctx, cancel := context.WithCancel(b.t.Context())
	done := make(chan error)
	go func() { done <- b.Run(ctx) }()
	b.stop = func() {
		cancel()
		if err := <-done; err != nil {
			b.t.Errorf("Run: got %v, want nil", err)
		}
	}
}

func (b *bench) useAll() {
	b.t.Helper()
	for i, s := range b.sessions {
		b.use(i, s)
	}
}

func (b *bench) use(i int, s family.Session) {
	b.t.Helper()
	if err := b.Use(b.t.Context(), i, s); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) mode(name string) {
	b.t.Helper()
	m, err := governor.ParseMode(name)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := b.SetMode(b.t.Context(), m); err != nil {
		b.t.Fatal(err)
	}
}

// submit sends a job, received now, and returns where its answer will be: a
// copy, as an Answer is valid during the call only.
func (b *bench) submit(j Job) <-chan Answer {
	answers := make(chan Answer, 2) // a second one shows up in the length
	j.Received = time.Now()
	j.Answer = func(a *Answer) { answers <- a.copy() }
	b.Submit(j)
	return answers
}

// mustNotTake submits a job, and a frame that is none, to a pipeline that is closed.
func mustNotTake(b *bench) {
	b.t.Helper()
	before := b.cfg.Counters.Snapshot().Counts
	for _, body := range [][]byte{picture(b.t, 8), nil} {
		j := Job{Body: body, Received: time.Now(), Deadline: time.Second}
		j.Answer = func(a *Answer) { b.t.Errorf("got %+v, want no answer", a) }
		if b.Submit(j) {
			b.t.Error("a closed pipeline took a job")
		}
	}
	if got := b.cfg.Counters.Snapshot().Counts; got != before {
		b.t.Errorf("jobs not taken: got counts %+v, want %+v as before", got, before)
	}
}

func (a *Answer) copy() Answer {
	kept := *a
	kept.Top = append([]Class(nil), a.Top...)
	return kept
}

// answer sends a job and waits for its answer.
func (b *bench) answer(j Job) Answer { return <-b.submit(j) }

// interval is what came since the last call.
func (b *bench) interval() Snapshot {
	now := b.cfg.Counters.Snapshot()
	since := now.Since(&b.counted)
	b.counted = now
	return since
}

func p95(h Histogram) time.Duration { return h.Quantile(0.95) }

// picture is a PNG of one colour.
func picture(tb testing.TB, side int) []byte {
	tb.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, grey(side)); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func grey(side int) *image.NRGBA {
	m := image.NewNRGBA(image.Rect(0, 0, side, side))
	for i := range m.Pix {
		m.Pix[i] = 128
	}
	m.Set(0, 0, color.White)
	return m
}

// twelveBit is a JPEG that says it has 12 bits a sample.
func twelveBit(tb testing.TB) []byte {
	tb.Helper()
	var b bytes.Buffer
	if err := jpeg.Encode(&b, grey(16), nil); err != nil {
		tb.Fatal(err)
	}
	at := bytes.Index(b.Bytes(), []byte{0xff, 0xc0}) // start of frame: marker, length, precision
	b.Bytes()[at+4] = 12
	return b.Bytes()
}
