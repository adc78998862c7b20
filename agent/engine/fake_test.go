package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/agent/monitor"
	"github.com/limber-edge/limber/agent/pipeline"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/store"
)

const (
	cuda = "cuda"
	ms   = time.Millisecond
)

// testFamily has three members of one resolution.
func testFamily() *family.Family {
	f := &family.Family{Schema: family.Schema, Name: "test", Supernet: family.DigestOf(nil), Classes: []string{"cat",
		"dog"}}
	for i, name := range []string{"small", "middle", "large"} {
		f.Members = append(f.Members, family.Member{Name: name, Top1: 0.7 + float64(i)/10, Arch: family.Arch{R: 4}})
	}
	return f
}

// fakeMachine has the room it is told.
type fakeMachine struct {
	mu         sync.Mutex
	left, busy float64 // %
	stalled    float64
	taken      func() float64 // % of what is left, by members; nil: nothing
}

func (m *fakeMachine) set(left, busy float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.left, m.busy = left, busy
}

func (m *fakeMachine) Memory() monitor.Memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	left := m.left
	if m.taken != nil {
		left -= m.taken()
	}
	return room(left, m.stalled)
}

func (m *fakeMachine) Others(monitor.Mark) (*float64, monitor.Mark) {
	m.mu.Lock()
	defer m.mu.Unlock()
	busy := m.busy
	return &busy, monitor.Mark{}
}

func (m *fakeMachine) Processors() int { return 4 }

// recorder forgets no event.
type recorder struct {
	mu  sync.Mutex
	all []told
}

type told struct {
	wire.Event
	severity wire.Severity
}

func (r *recorder) Event(s wire.Severity, e wire.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, told{e, s})
}

func (r *recorder) EventAtOnce(s wire.Severity, e wire.Event) { r.Event(s, e) }

// of are the details of a kind, in their order.
func (r *recorder) of(kind wire.EventKind) (details []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.all {
		if e.Kind == kind {
			details = append(details, e.Detail)
		}
	}
	return details
}

// fakeLoader makes sessions that take as long as they are told.
type fakeLoader struct {
	family  *family.Family
	variant family.Variant

	mu       sync.Mutex
	latency  []time.Duration // by member; 0: as long as nothing
	faults   []error         // of the next sessions, by member; nil: none
	slow     time.Duration   // that a session takes to make
	gone     error           // what every run fails with; nil: it works
	hang     map[int]int     // runs that hang until they are interrupted, by member
	deaf     time.Duration   // for which these go on after that
	made     []int           // members, in their order
	tried    []time.Time     // when the first of them was asked for
	open     int             // sessions that are not closed
	pinned   []int           // members
	profiled int
	says     func(pixel float32) int // the class of an image, by its first number; nil: the last one
	ran      []int                   // members, but for those that were interrupted
	ended    int                     // runs that were interrupted
}

func (l *fakeLoader) change(do func(*fakeLoader)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	do(l)
}

func (l *fakeLoader) Variant() family.Variant { return l.variant }

func (l *fakeLoader) Session(i int) (family.Session, error) {
	l.mu.Lock()
	slow, fault := l.slow, l.faults[i]
	l.made = append(l.made, i)
	if i == 0 {
		l.tried = append(l.tried, time.Now())
	}
	l.mu.Unlock()
	if slow > 0 {
		<-time.After(slow)
	}
	if fault == nil {
		fault = l.failure()
	}
	if fault != nil {
		return nil, fmt.Errorf("member %d: %w", i, fault)
	}
	l.change(func(l *fakeLoader) { l.open++ })
	return &fakeSession{loader: l, member: i, interrupted: make(chan struct{}, 1)}, nil
}

func (l *fakeLoader) failure() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.gone
}

func (l *fakeLoader) Profile(ctx context.Context, sessions []family.Session, pause func()) (*family.Profile,
	error) {
	pause()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.profiled++
	p := &family.Profile{Schema: family.Schema, Family: l.family.Digest(), Runtime: "1", Options: l.variant.String(),
		Taken: time.Now().UTC().Truncate(time.Second), Batch: family.Batch}
	for i, m := range l.family.Members {
		of := family.MemberProfile{Name: m.Name}
		if sessions[i] != nil {
			of.P50ms = wire.Millis(l.latency[i])
			of.P95ms = of.P50ms
		}
		p.Members = append(p.Members, of)
	}
	return p, ctx.Err()
}

func (l *fakeLoader) Pin(i int) (func() error, error) {
	l.change(func(l *fakeLoader) { l.pinned = append(l.pinned, i) })
	return func() error {
		l.change(func(l *fakeLoader) {
			at := slices.Index(l.pinned, i) // another backend may have pinned it, too
			l.pinned = slices.Delete(l.pinned, at, at+1)
		})
		return nil
	}, nil
}

type fakeSession struct {
	loader      *fakeLoader
	member      int
	interrupted chan struct{}
}

func (s *fakeSession) Run(out []float32, in ...[]float32) error {
	l := s.loader
	l.mu.Lock()
	took, gone, hangs, deaf := l.latency[s.member], l.gone, l.hang[s.member] > 0, l.deaf
	if hangs {
		l.hang[s.member]--
	}
	l.mu.Unlock()
	switch {
	case gone != nil:
		return gone
	case hangs:
		<-s.interrupted
		<-time.After(deaf)
		return errors.New("terminated")
	case took > 0:
		select {
		case <-time.After(took):
		case <-s.interrupted:
			l.change(func(l *fakeLoader) { l.ended++ })
			return errors.New("terminated")
		}
	}
	for i := range out {
		out[i] = float32(s.member * (i % 2))
	}
	l.change(func(l *fakeLoader) { l.ran = append(l.ran, s.member) })
	if l.says != nil {
		clear(out)
		out[l.says(in[0][0])] = 1
	}
	return nil
}

// Interrupt ends a run that is under way; a token that is left ends the next one.
func (s *fakeSession) Interrupt() {
	select {
	case s.interrupted <- struct{}{}:
	default:
	}
}

func (s *fakeSession) Close() error {
	s.loader.change(func(l *fakeLoader) { l.open-- })
	return nil
}

// rig is an engine with everything around it.
type rig struct {
	testing.TB
	machine *fakeMachine
	events  *recorder
	log     *strings.Builder
	loaders map[family.Variant]*fakeLoader
	others  []*fakeLoader // of other families
	cpu     *fakeLoader
	cfg     Config
	deps    Deps
	*Engine
	ended chan error
	stop  context.CancelFunc
}

var single = family.Variant{Provider: family.CPU, Threads: 1}

// mustRig is one that does not run yet. Members take 2, 4 and 8 ms.
func mustRig(tb testing.TB, st *store.Store) *rig {
	r := &rig{TB: tb, machine: &fakeMachine{left: 50, busy: 100}, events: new(recorder), log: new(strings.Builder),
		loaders: make(map[family.Variant]*fakeLoader)}
	r.cpu = r.add(single, 2*ms, 4*ms, 8*ms)
	r.cfg = Config{Threads: 1, Providers: []string{family.CPU}, Cores: 2, QueueJobs: 64, QueueBytes: 1 << 20, Version: "test"}
	r.deps = Deps{Runtime: "1", Machine: r.machine, State: st, Events: r.events, Trim: func() {},
		Source: Source{Family: testFamily(), Preprocess: plain, Open: opener(r.loaders)}}
	return r
}

var plain = family.Preprocess{Std: [3]float32{1, 1, 1}, Resize: "bilinear", Crop: "none"}

// opener finds the loader of a variant.
func opener(loaders map[family.Variant]*fakeLoader) func(family.Variant) (Loader, error) {
	return func(v family.Variant) (Loader, error) {
		if l := loaders[v]; l != nil {
			return l, nil
		}
		return nil, fmt.Errorf("%s: the library lacks it; set ONNXRUNTIME_LIB", v.Provider)
	}
}

func (r *rig) add(v family.Variant, latency ...time.Duration) *fakeLoader {
	l := &fakeLoader{family: testFamily(), variant: v, latency: latency, faults: make([]error, len(latency)), hang: map[int]int{}}
	r.loaders[v] = l
	return l
}

// start runs the engine until the test ends, or stop.
func (r *rig) start() {
	ctx, cancel := context.WithCancel(context.Background())
	r.Engine = New(r.cfg, r.deps, slog.New(slog.NewTextHandler(&lockedWriter{w: r.log}, nil)))
	r.ended, r.stop = make(chan error, 1), cancel
	go func() { r.ended <- r.Run(ctx) }()
}

// end stops the engine and looks for what it left behind.
func (r *rig) end() {
	r.Helper()
	r.stop()
	if err := <-r.ended; err != nil {
		r.Errorf("the engine ended: %v", err)
	}
	for _, l := range slices.AppendSeq(r.others, maps.Values(r.loaders)) {
		if l.open != 0 || len(l.pinned) != 0 {
			r.Errorf("%s, %s: %d sessions are left open, %v pinned", l.family.Name, l.variant, l.open, l.pinned)
		}
	}
}

type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (w *lockedWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.w.Write(b)
}

// pass lets time go by.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// job is one that has its tensor, so that no decoder is needed.
func job(floor float64, deadline time.Duration) pipeline.Job {
	return pipeline.Job{Tensor: make([]float32, 3*4*4), Received: time.Now(), Deadline: deadline, Floor: floor}
}

// outcome is a copy of an answer.
type outcome struct {
	pipeline.Answer
	member string
}

// ask submits a job and waits for its answer.
func (r *rig) ask(j pipeline.Job) outcome {
	r.Helper()
	got := make(chan outcome, 2)
	r.Submit(j, func(a *Answer) {
		o := outcome{Answer: *a.Answer}
		if a.Member != nil {
			o.member = a.Member.Name
		}
		got <- o
	})
	return <-got
}

// answeredBy asks until a member answers.
func (r *rig) answeredBy(member string) {
	r.Helper()
	for range 100 {
		if r.ask(job(0, time.Minute)).member == member {
			return
		}
	}
	r.Errorf("no answer by %s", member)
}

func mustStore(tb testing.TB) *store.Store {
	tb.Helper()
	st, err := store.Open(tb.TempDir(), store.Options{NoSync: true}, slog.New(slog.DiscardHandler))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := st.Close(); err != nil {
			tb.Error(err)
		}
	})
	return st
}

// simulate runs a test of an engine in a bubble, whose clock it has for itself.
func simulate(t *testing.T, set func(*rig), test func(*testing.T, *rig)) {
	t.Helper()
	st := mustStore(t)
	again(t, st, set, test)
}

// again is simulate on the state that an engine before left behind.
func again(t *testing.T, st *store.Store, set func(*rig), test func(*testing.T, *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := mustRig(t, st)
		if set != nil {
			set(r)
		}
		r.start()
		synctest.Wait()
		test(t, r)
		r.end()
	})
}

// wants compares the state of the engine.
func (r *rig) wants(state State, detail string) {
	r.Helper()
	if s := r.Status(); s.State != state || (s.Detail == "") != (detail == "") || !strings.Contains(s.Detail, detail) {
		r.Errorf("status: got %s %q, want %s %q", s.State, s.Detail, state, detail)
	}
}

// tells wants an event of a kind that has a text.
func (r *rig) tells(kind wire.EventKind, text string) {
	r.Helper()
	all := r.events.of(kind)
	if !slices.ContainsFunc(all, func(d string) bool { return strings.Contains(d, text) }) {
		r.Errorf("events of kind %s: got %q, want one with %q", kind, all, text)
	}
}

func mode(tb testing.TB, name string) governor.Mode {
	tb.Helper()
	m, err := governor.ParseMode(name)
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

// mustMode is the mode that pursues a goal.
func mustMode(tb testing.TB, g governor.Goal) governor.Mode {
	tb.Helper()
	m, err := governor.ModeOf(g)
	if err != nil {
		tb.Fatal(err)
	}
	return m
}
