package control

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/uplink"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/store"
)

var self = wire.Address{Fleet: "demo", Device: "desk"}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// target pursues modes with two members: small, with a top-1 of 0.75 after 2 ms, and
// large, with 0.87 after 10 ms.
type target struct {
	preparing chan struct{} // closed when they are ready; nil: they are

	mu      sync.Mutex
	setting func(ctx context.Context) error // first of all, where a mode is set
	members []governor.Member
	modes   []governor.Mode // that were pursued, in order
	refusal *wire.Refusal   // of everything; nil for none

	tables governor.Tables    // of the governors that judge goals
	last   *governor.Governor // of these, which keeps its tables
}

func newTarget() *target {
	return &target{members: []governor.Member{
		{Name: "small", Top1: 0.75, Latency: 2 * time.Millisecond},
		{Name: "large", Top1: 0.87, Latency: 10 * time.Millisecond},
	}}
}

func (f *target) SetMode(ctx context.Context, m governor.Mode) error {
	f.mu.Lock()
	setting := f.setting
	f.mu.Unlock()
	if setting != nil {
		if err := setting(ctx); err != nil {
			return err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.modes = append(f.modes, m)
	return nil
}

func (f *target) Feasible(ctx context.Context, m governor.Mode) (governor.Goal, error) {
	if (m.Goal() != governor.Goal{} || m.Member() != "") && f.preparing != nil {
		select {
		case <-f.preparing:
		case <-ctx.Done():
			return governor.Goal{}, ctx.Err()
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.refusal != nil {
		return governor.Goal{}, f.refusal
	}
	g, err := governor.New(f.members, governor.Mode{}, &f.tables)
	if err != nil {
		return governor.Goal{}, err
	}
	f.last = g
	nearest, err := g.Feasible(m, 0)
	switch {
	case err == nil:
		return nearest, nil
	case m.Member() != "":
		return nearest, &wire.Refusal{Reason: wire.Invalid, Err: err}
	}
	return nearest, &wire.Refusal{Reason: wire.Infeasible, Err: err}
}

// onSet has f called first of all where a mode is set; nil: nothing.
func (f *target) onSet(call func(ctx context.Context) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.setting = call
}

// lose takes the most accurate member away, and find brings it back.
func (f *target) lose() { f.keep(1) }
func (f *target) find() { f.keep(2) }

func (f *target) keep(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.members = f.members[:n]
}

// pursued are the modes that were set, in order.
func (f *target) pursued() (names []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, m := range f.modes {
		names = append(names, m.String())
	}
	return names
}

// reply is what a request came to. There is a token in over when it ended.
type reply struct {
	mu    sync.Mutex
	acks  []wire.Ack // that were told, in order
	bytes string     // of the last one
	ends  []string   // answered, dropped or released, each time it was
	over  chan struct{}
}

func newReply() *reply { return &reply{over: make(chan struct{}, 1)} }

func (p *reply) Say(topic string, payload []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var a wire.Ack
	if err := wire.Decode(payload, &a); err != nil || topic != self.Ack(a.Verb, a.ID) {
		panic(fmt.Sprintf("%s: %v in %s", topic, err, payload))
	}
	p.acks, p.bytes = append(p.acks, a), string(payload)
}

func (p *reply) Tell(topic string, payload []byte) { p.Say(topic, payload) }

func (p *reply) Answer(topic string, encode func(uint64) ([]byte, error)) {
	b, err := encode(1)
	if err != nil {
		panic(err)
	}
	p.Say(topic, b)
	p.end("answered")
}

func (p *reply) Drop()    { p.end("dropped") }
func (p *reply) Release() { p.end("released") }

func (p *reply) end(how string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ends = append(p.ends, how)
	select {
	case p.over <- struct{}{}:
	default:
	}
}

// ended is how the request ended; empty while it has not.
func (p *reply) ended() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.ends, " and ")
}

// last is the last state that was told.
func (p *reply) last() wire.Ack {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.acks) == 0 {
		return wire.Ack{}
	}
	return p.acks[len(p.acks)-1]
}

// steps are the states that were told.
func (p *reply) steps() (steps []wire.Step) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range p.acks {
		steps = append(steps, a.State)
	}
	return steps
}

// events keeps what was told, by severity and kind.
type events struct {
	mu  sync.Mutex
	all []wire.Event
}

func (e *events) Event(s wire.Severity, v wire.Event) { e.EventAtOnce(s, v) }

func (e *events) EventAtOnce(_ wire.Severity, v wire.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, v)
}

// of are the details of the events of a kind.
func (e *events) of(kind wire.EventKind) (details []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, v := range e.all {
		if v.Kind == kind {
			details = append(details, v.Detail)
		}
	}
	return details
}

// rig is a Control that runs, on a target and with a store of its own.
type rig struct {
	behind atomic.Int64 // the clock here of that of operators, in nanoseconds; 0: not known
	*Control
	t      *testing.T
	dir    string
	state  *store.Store
	target *target
	events *events
	begun  governor.Mode // what it began with
	ids    int
	said   atomic.Int64 // how often the report may read differently
	power  *Power       // nil: there is none
	stop   func()
}

// with changes a rig before it runs.
type with func(r *rig, c *Config, verbs *[]Verb)

func withSchedule(toml string) with {
	return func(r *rig, c *Config, _ *[]Verb) { c.Schedule = mustSchedule(r.t, toml) }
}

func withVerbs(v ...Verb) with { return func(_ *rig, _ *Config, verbs *[]Verb) { *verbs = v } }

func withTarget(change func(f *target)) with {
	return func(r *rig, _ *Config, _ *[]Verb) { change(r.target) }
}

// mustRig runs a Control on the state folder dir, in a bubble.
func mustRig(t *testing.T, dir string, how ...with) *rig {
	t.Helper()
	st, err := store.Open(dir, store.Options{NoSync: true}, discard())
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, dir: dir, state: st, target: newTarget(), events: &events{}}
	cfg, verbs := Config{Self: self, Mode: "balanced"}, []Verb(nil)
	for _, h := range how {
		h(r, &cfg, &verbs)
	}
	r.Control = New(cfg, Deps{State: st, Events: r.events, Changed: func() { r.said.Add(1) },
		Offset: func() (time.Duration, bool) {
			ns := r.behind.Load()
			return time.Duration(ns), ns != 0
		}}, verbs, discard())
	r.begun = r.Start()
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan error, 1)
	go func() { over <- r.Run(ctx, r.target) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-over; err != nil {
			t.Error(err)
		}
		st.Close()
	})
	t.Cleanup(r.stop)
	return r
}

// bubble runs a test in one, with a state folder.
func bubble(t *testing.T, f func(t *testing.T, dir string)) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) { f(t, dir) })
}

// ofCommand is a request as the link hands it on, and what it comes to.
func ofCommand(verb, id, payload string) (request, *reply) {
	u := &uplink.Request{Kind: wire.KindCmd, Address: self, Verb: verb, ID: id, Received: time.Now(),
		Message: mqtt.Message{Payload: []byte(payload), QoS: 1}}
	p := newReply()
	return request{u, p, func() store.Digest { return store.DigestOf(u.Message.Payload) }, nil}, p
}

// send hands a command on and does not wait.
func (r *rig) send(verb, id, payload string) *reply {
	q, p := ofCommand(verb, id, payload)
	r.take(q)
	return p
}

// command carries a command out, as far as that goes without time passing.
func (r *rig) command(verb, payload string) *reply {
	r.ids++
	p := r.send(verb, fmt.Sprintf("c%d", r.ids), payload)
	synctest.Wait()
	return p
}

// desire hands on a desired state.
func (r *rig) desire(place, payload string, change ...func(m *mqtt.Message)) *reply {
	u := &uplink.Request{Kind: wire.KindDesired, Address: wire.Address{Fleet: self.Fleet, Device: place},
		Received: time.Now(),
		Message:  mqtt.Message{Payload: []byte(payload), QoS: 1}}
	for _, c := range change {
		c(&u.Message)
	}
	p := newReply()
	r.aims.put(request{u, p, nil, nil})
	synctest.Wait()
	return p
}

// pursues fails unless these modes were set, in this order.
func (r *rig) pursues(want ...string) {
	r.t.Helper()
	if got := r.target.pursued(); !slices.Equal(got, want) {
		r.t.Errorf("pursued %q, want %q", got, want)
	}
}

// stored is a cell, empty where there is none.
func (r *rig) stored(cell string) string {
	b, _ := r.state.Cell(cell) // not found: empty
	return string(b)
}

// fails fails unless a last state has a reason and a part of a detail.
func (p *reply) fails(t *testing.T, step wire.Step, reason wire.Reason, detail string) {
	t.Helper()
	if got := p.last(); p.ended() != "answered" || got.State != step || got.Reason != reason ||
		!strings.Contains(got.Detail, detail) {
		t.Errorf("got %s %s %q (%s), want %s %s with %q", got.State, got.Reason, got.Detail, p.ended(), step, reason,
			detail)
	}
}

// succeeds fails unless the command did.
func (p *reply) succeeds(t *testing.T) {
	t.Helper()
	p.fails(t, wire.CommandSucceeded, "", "")
}

// commits is the number of the last commit of limber.db: bbolt keeps it in the
// greater of its two roots, 64 bytes into either page.
func commits(t *testing.T, dir string) uint64 {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "limber.db"))
	if err != nil {
		t.Fatal(err)
	}
	return max(binary.LittleEndian.Uint64(b[64:]), binary.LittleEndian.Uint64(b[os.Getpagesize()+64:]))
}

// disk moves limber.db away, so that nothing can be committed, or back.
func (r *rig) disk(works bool) {
	r.t.Helper()
	from, to := filepath.Join(r.dir, "limber.db"), filepath.Join(r.dir, "away")
	if works {
		from, to = to, from
	}
	if err := os.Rename(from, to); err != nil {
		r.t.Fatal(err)
	}
}

// cut copies the state into a folder of its own, as a power cut now would leave it.
func (r *rig) cut(dir string) {
	r.t.Helper()
	b, err := os.ReadFile(filepath.Join(r.dir, "limber.db"))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "limber.db"), b, 0o600)
	}
	if err != nil {
		r.t.Fatal(err)
	}
}
