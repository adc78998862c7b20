package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A model does anything to an outbox in any order, and knows what the promises come to.
type model struct {
	t         *testing.T
	random    *rand.Rand
	o         *Outbox
	stop      func()
	last      uint64
	said      chan uint64       // called durable
	durable   map[uint64]bool   // was said to be
	class     map[uint64]Class  // of each number
	delivered map[uint64]bool   // as far as the outbox knows
	answers   map[string]string // that went out
	announced map[uint64]Gap    // by the record that tells of it
	told      []Gap             // delivered
	harmed    int               // frames
}

func (m *model) start(dir string) {
	o, err := OpenOutbox(dir, OutboxOptions{Memory: 256 << 10, Quota: 900, Count: 40, EventsAge: 200 * time.Second,
		DurableFirst: true}, quiet())
	if err != nil {
		m.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(m.t.Context())
	ran := make(chan error)
	go func() { ran <- o.Run(ctx) }()
	m.o, m.stop = o, func() {
		cancel()
		<-ran // whose error is a kill's, or of a folder that was removed
		o.Close()
	}
}

func (m *model) append() {
	streams := []Stream{Late, Late, Late, Live, Live, Event, Event, Control}
	s, job, number := streams[m.random.IntN(len(streams))], "", uint64(0)
	if s.Class() == Results {
		job = fmt.Sprint("job", m.last)
	}
	seq, err := m.o.Append(func(seq uint64) (Record, error) {
		number = seq
		return Record{Topic: "t", Payload: fmt.Appendf(nil, "%d %d", seq, m.random.Uint32()), Job: job, Stream: s}, nil
	}, func() { m.said <- number })
	if err != nil || seq <= m.last {
		m.t.Fatalf("number %d after %d, %v", seq, m.last, err)
	}
	m.last, m.class[seq] = seq, s.Class()
}

func (m *model) announce() {
	_, err := m.o.Announce(func(seq uint64, g Gap) (Record, error) {
		m.last, m.class[seq], m.announced[seq] = seq, Controls, g
		return Record{Topic: "t", Payload: payload(seq, 60)}, nil
	})
	if err != nil {
		m.t.Fatal(err)
	}
}

// deliver collects records and has most of them acknowledged.
func (m *model) deliver() {
	records, _ := m.o.Collect(Stream(m.random.IntN(Streams)), 0, 1+m.random.IntN(4))
	for _, r := range records {
		if sent, again := m.answers[r.Job]; again && sent != string(r.Payload) {
			m.t.Fatalf("%s is answered %q, and was %q", r.Job, r.Payload, sent)
		}
		if r.Job != "" && !m.o.Unwritten() {
			m.answers[r.Job] = string(r.Payload)
		}
		if m.random.IntN(3) == 0 {
			continue
		}
		m.o.Delivered(r.Seq)
		m.delivered[r.Seq] = true
		if g, ok := m.announced[r.Seq]; ok {
			m.told = append(m.told, g)
		}
	}
}

// kill goes on with what is on the disk now, or with what harm leaves of it.
func (m *model) kill(harm func(dir string)) {
	dir := filepath.Join(m.t.TempDir(), fmt.Sprint(m.last))
	mustMake(m.t, dir)
	m.listen()
	mustCopyFiles(m.t, m.o, dir)
	harm(dir)
	m.stop()
	for len(m.said) > 0 {
		<-m.said // after the kill
	}
	m.start(dir)
}

// forget is for after a kill: a delete may not have been on the disk.
func (m *model) forget() {
	for seq := range m.waiting() {
		delete(m.delivered, seq)
	}
}

// damage has a frame of the journal damaged, once all is written that is to be.
func (m *model) damage() {
	pass(2 * lastRetry)
	written, last := m.o.Fault() == nil, false
	m.kill(func(dir string) { last = m.spoil(dir) })
	for job, sent := range m.answers {
		if r, err := m.o.Answer(job); err != nil || string(r.Payload) != sent {
			delete(m.answers, job) // it was in that frame
		}
	}
	waiting := m.waiting()
	if last {
		if told := strings.Join(m.o.Damage(), ""); !strings.Contains(told, "last group") {
			m.t.Fatalf("the last frame was damaged, and what was told is %q", told)
		}
		clear(m.durable) // not counted
		m.forget()
	} else if written {
		for seq := range m.delivered {
			if waiting[seq] {
				m.t.Fatalf("%d was delivered before a frame was damaged that is not the last, and waits", seq)
			}
		}
	}
}

// spoil damages all sectors but one of a frame that is not taken over, and tells whether it
// was the last.
func (m *model) spoil(dir string) (last bool) {
	path := filepath.Join(dir, "outbox.log")
	if !exists(path) {
		return false
	}
	b := mustReadJournal(m.t, path)
	var all []frame
	for at := int64(0); at < int64(len(b))-journalBlock; at += journalBlock {
		if f, ok := findFrame(b, at, m.o.journal.generation); ok && f.at == at {
			all = append(all, f)
		}
	}
	if len(all) == 0 {
		return false
	}
	i := m.random.IntN(len(all))
	f := all[i]
	sound := m.random.Int64N((f.end - f.at) / journalSector)
	for at := f.at; at < f.end; at += journalSector {
		if at != f.at+sound*journalSector {
			b[at+m.random.Int64N(journalSector)] ^= 1 << m.random.IntN(8)
		}
	}
	m.harmed++
	mustPut(m.t, path, string(b))
	return i == len(all)-1
}

// remove takes a file away, and waits until what was in it is elsewhere.
func (m *model) remove(path string) {
	os.Remove(path)
	if path == m.o.path {
		clear(m.answers) // which were there alone
	}
	m.append()
	pass(lastRetry + time.Second)
}

func (m *model) fault() {
	m.o.mu.Lock()
	defer m.o.mu.Unlock()
	m.o.pace.suspect = true
	m.o.fail(errors.New("a fault"))
	m.o.wakeWriter()
}

func (m *model) compact() {
	if m.o.Fault() != nil || m.o.memory.count() > 0 || m.o.changed() {
		return
	}
	var c compaction
	c.begin(m.o.current())
	m.o.exchange(&c, <-c.done)
}

// step does one thing, often or seldom.
func (m *model) step() {
	synctest.Wait()
	switch n := m.random.IntN(100); {
	case n < 60:
		m.append()
	case n < 70:
		m.deliver()
	case n < 80:
		pass(time.Duration(m.random.IntN(60)) * time.Millisecond)
	case n < 84:
		pass(time.Duration(m.random.IntN(90)) * time.Second)
	case n < 90:
		m.announce()
	case n < 92:
		m.kill(func(string) {})
		m.forget()
	case n < 93:
		m.damage()
	case n < 95:
		m.stop()
		m.start(filepath.Dir(m.o.path))
	case n < 97:
		m.fault()
	case n < 98:
		m.remove(m.o.journal.path)
	case n < 99:
		m.remove(m.o.path)
	default:
		m.compact()
	}
}

// listen takes in what was called durable.
func (m *model) listen() {
	for len(m.said) > 0 {
		m.durable[<-m.said] = true
	}
}

func (m *model) waiting() map[uint64]bool {
	all := map[uint64]bool{}
	m.o.mu.Lock()
	defer m.o.mu.Unlock()
	for s := range m.o.queue.lines {
		for _, w := range m.o.queue.lines[s].elems {
			all[w.seq] = !w.gone
		}
	}
	return all
}

// check holds the outbox against what it promised.
func (m *model) check(after int) {
	m.listen()
	waiting := m.waiting()
	m.o.mu.Lock()
	accounts := append([]account(nil), m.o.gaps.accounts...)
	m.o.mu.Unlock()
	for _, a := range accounts {
		if g, told := m.announced[a.told]; told && g != a.Gap {
			m.t.Fatalf("after %d steps record %d tells of %+v, and stands for %+v", after, a.told, g, a.Gap)
		}
	}
	lost := func(seq uint64) (in bool) {
		for _, a := range accounts {
			here := a.Class == m.class[seq] && a.First <= seq && seq <= a.Last
			in = in || here
			if here && !a.Mixed && (waiting[seq] || m.delivered[seq]) {
				m.t.Fatalf("after %d steps %d is said to be lost in %+v, and waits: %v", after, seq, a, waiting[seq])
			}
		}
		for _, g := range m.told {
			here := g.Class == m.class[seq] && g.First <= seq && seq <= g.Last
			in = in || here
			if here && !g.Mixed && waiting[seq] {
				m.t.Fatalf("after %d steps %d was told as lost in %+v, and waits", after, seq, g)
			}
		}
		return in
	}
	for seq := range waiting {
		lost(seq)
	}
	for seq := range m.durable {
		if !lost(seq) && !waiting[seq] && !m.delivered[seq] {
			m.t.Fatalf("after %d steps %d was called durable, and neither waits nor is lost: %+v", after, seq, accounts)
		}
	}
	for job, sent := range m.answers {
		if r, err := m.o.Answer(job); err != nil || string(r.Payload) != sent {
			m.t.Fatalf("after %d steps %s is answered %q, %v; was %q", after, job, r.Payload, err, sent)
		}
	}
}

func mustMake(tb testing.TB, dir string) {
	tb.Helper()
	if err := makeFolder(dir); err != nil {
		tb.Fatal(err)
	}
}

func TestS1_S8_InAnyOrderNothingDurableIsLostUntoldAndNoAnswerChanges(t *testing.T) {
	for seed := range uint64(modelSeeds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := &model{t: t, random: rand.New(rand.NewPCG(seed, 1)), said: make(chan uint64, 1000),
					durable: map[uint64]bool{}, class: map[uint64]Class{}, delivered: map[uint64]bool{},
					answers: map[string]string{}, announced: map[uint64]Gap{}}
				m.start(t.TempDir())
				defer func() { m.stop() }()
				for i := range 400 {
					m.step()
					m.check(i)
				}
			})
		})
	}
}
