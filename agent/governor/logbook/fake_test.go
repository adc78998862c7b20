package logbook

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/governor"
)

const ms = time.Millisecond

func about() About {
	return About{Version: "test", Epoch: time.Unix(1_767_225_600, 0), Members: []string{"s0", "s1", "s2"}}
}

func mustGovernor(tb testing.TB) *governor.Governor {
	tb.Helper()
	g, err := governor.New([]governor.Member{
		{Name: "s0", Top1: 0.70, Latency: 4 * ms}, {Name: "s1", Top1: 0.75, Latency: 9 * ms},
		{Name: "s2", Top1: 0.78, Latency: 15 * ms},
	}, governor.Mode{}, nil)
	if err != nil {
		tb.Fatal(err)
	}
	return g
}

// memory is an output that keeps what is written, unless it is full.
type memory struct {
	bytes.Buffer
	full  bool
	enter func() // called at the beginning of write
}

var errFull = errors.New("no space left on device")

func (m *memory) write(lines []byte, _ bool) error {
	if m.enter != nil {
		m.enter()
	}
	if m.full {
		return errFull
	}
	m.Write(lines)
	return nil
}

func (m *memory) close() error { return nil }

// desk is a book whose log runs.
type desk struct {
	*Book
	tb    testing.TB
	log   *Log
	ended chan struct{}
	now   time.Duration
}

func newDesk(tb testing.TB, log *Log) *desk {
	tb.Helper()
	d := &desk{Book: New(mustGovernor(tb), log), tb: tb, log: log, ended: make(chan struct{})}
	go d.run()
	return d
}

func (d *desk) run() {
	defer close(d.ended)
	d.log.Run()
}

// shut closes the book and waits until everything is written.
func (d *desk) shut() {
	d.tb.Helper()
	d.Close()
	<-d.ended
}

// job is one job, with everything else that may happen now and then.
func (d *desk) job(r *rand.Rand) {
	d.tb.Helper()
	d.now += time.Duration(r.IntN(30)) * ms
	if r.IntN(8) == 0 {
		d.upset(r)
	}
	d.Arrive(d.now)
	q := governor.Queue{Deadline: d.now + time.Duration(r.IntN(100)-5)*ms, Overhead: time.Duration(r.IntN(1000)),
		Decode: time.Duration(r.IntN(3)) * 4 * ms}
	for range r.IntN(6) {
		q.Waiting = append(q.Waiting, q.Deadline+time.Duration(r.IntN(50))*ms)
	}
	if r.IntN(10) == 0 {
		q.Floor = 0.7 + 0.1*r.Float64()
	}
	q.Ready = r.IntN(1 + len(q.Waiting))
	got := d.Decide(d.now, q)
	if !got.Shed {
		took := time.Duration((3 + 20*r.Float64()) * float64(ms))
		d.now += took
		d.Observe(d.now, got.Member, got.Batch, took)
	}
	d.Ended(!got.Shed && d.now <= q.Deadline)
}

// upset changes what a governor works with.
func (d *desk) upset(r *rand.Rand) {
	d.tb.Helper()
	var err error
	switch 1 + r.IntN(7) {
	case 1:
		err = d.SetMode(mustMode(d.tb, []string{"balanced", "max-accuracy", "low-latency", "power-save",
			"fixed:s1"}[r.IntN(5)]))
	case 2:
		var m governor.Mode
		if m, err = governor.ModeOf(governor.Goal{Deadline: 50 * ms, Floor: r.Float64(), Watts: 7 * r.Float64(),
			Prefer: governor.Energy}); err == nil {
			err = d.SetMode(m)
		}
	case 3:
		err = d.SetEligible([]bool{true, r.IntN(2) == 0, r.IntN(2) == 0})
	case 4:
		d.SetPower(governor.Power{Idle: r.Float64(), Active: 5 * r.Float64()})
	case 5:
		err = d.Remember(d.Experience())
	case 6:
		d.now += time.Second
	case 7:
		err = d.SetBatch(r.IntN(3), time.Duration(r.IntN(100))*ms)
	}
	if err != nil {
		d.tb.Fatal(err)
	}
}

func mustMode(tb testing.TB, name string) governor.Mode {
	tb.Helper()
	m, err := governor.ParseMode(name)
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

// written is the log of so many jobs.
func written(tb testing.TB, seed uint64, jobs int) []byte {
	tb.Helper()
	out := new(memory)
	d := newDesk(tb, newLog(out, 64<<10, about()))
	r := rand.New(rand.NewPCG(seed, 2))
	for range jobs {
		d.job(r)
		for len(d.log.free) == 0 { // wait for the writer: nothing may be lost here
			d.log.free <- <-d.log.free
		}
	}
	d.shut()
	if lost, err := d.log.Lost(); lost != 0 || err != nil {
		tb.Fatalf("lost %d calls, %v", lost, err)
	}
	return out.Bytes()
}
