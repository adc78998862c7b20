package uplink

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/store"
)

// fill puts records into a stream.
func (d *device) fill(s store.Stream, n int) {
	for range n {
		d.post(s, mqtt.Message{Topic: self.Result("a"), Payload: []byte("x")}, nil)
	}
}

// unpaced are the lines of a device, with no bound on late results.
func (d *device) unpaced() *lines {
	return &lines{outbox: d.outbox, again: d.sent.again, fetches: d.fetches, pace: newPace(0, 0, calm, 0)}
}

// letters are what goes next, n times, one letter each; a dot where nothing may go.
func (l *lines) letters(n int) string {
	var b strings.Builder
	for range n {
		l.collect()
		m, ok := l.choose()
		switch {
		case !ok:
			b.WriteByte('.')
		case m.repeat:
			b.WriteByte('R')
		case m.fetch:
			b.WriteByte('F')
		default:
			b.WriteByte("lLEC"[m.Stream])
		}
	}
	return b.String()
}

func TestC8_EachLineHasItsShareAndNoneTheWholeLink(t *testing.T) {
	for _, tt := range []struct {
		name  string
		waits map[store.Stream]int
		want  string // C for control, L for live, E for events, l for late
	}{
		{"live before late", map[store.Stream]int{store.Live: 9, store.Late: 9}, "LLLLlLLLLlLlllllll."},
		{"orders have a share", map[store.Stream]int{store.Control: 50, store.Live: 9}, "CCCCLLLLCCCCLLLLCCCCLCCCCCCCC"},
		{"all", map[store.Stream]int{store.Control: 9, store.Live: 9, store.Event: 9, store.Late: 9},
			"CCCCLLLLElCCCCLLLLElCLElElElElElElEl."},
		{"one alone", map[store.Stream]int{store.Late: 5}, "lllll."},
	} {
		d := mustDevice(t, nil)
		for s, n := range tt.waits {
			d.fill(s, n)
		}
		if got := d.unpaced().letters(len(tt.want)); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

func TestWhatComesToALineThatHadNothingHasItsTurn(t *testing.T) {
	d := mustDevice(t, nil)
	l := d.unpaced()
	d.fill(store.Late, 3)
	got := l.letters(1)
	d.fill(store.Live, 1)
	got += l.letters(2)
	d.fill(store.Control, 1)
	if got += l.letters(3); got != "lLlCl." {
		t.Errorf("got %s, want lLlCl.", got)
	}
}

func TestEachStreamGoesOutInTheOrderOfItsNumbers(t *testing.T) {
	d := mustDevice(t, nil)
	for i := range 500 {
		d.fill(store.Stream(i*7%store.Streams), 1)
	}
	l, last := d.unpaced(), [store.Streams]uint64{}
	for range 500 {
		l.collect()
		m, ok := l.choose()
		if !ok || m.Seq <= last[m.Stream] {
			t.Fatalf("number %d after %d: %v", m.Seq, last[m.Stream], ok)
		}
		last[m.Stream] = m.Seq
	}
}

func TestWhatWasGivenUpIsPassedOver(t *testing.T) {
	d := mustDevice(t, nil)
	d.fill(store.Live, 5)
	l := d.unpaced()
	first := l.letters(1)
	d.outbox.Delivered(2, 3, 4) // or lost
	l.collect()
	if m, ok := l.choose(); first != "L" || !ok || m.Seq != 5 || l.letters(1) != "." {
		t.Errorf("got %+v, %v; want number 5 and no more", m, ok)
	}
}

// replayed runs f with lines in a bubble, the first late one after the jitter.
func replayed(t *testing.T, p pace, jitter time.Duration, f func(t *testing.T, d *device, l *lines)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		d := mustDevice(t, nil)
		p.due = time.Now().Add(jitter) // by the clock of the bubble
		f(t, d, &lines{outbox: d.outbox, again: d.sent.again, pace: p})
	})
}

func calm() bool { return false }

// takes is how long n messages take.
func (l *lines) takes(t *testing.T, n int) time.Duration {
	t.Helper()
	began := time.Now()
	for range n {
		if _, err := l.next(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return time.Since(began)
}

func TestLateResultsArePacedAndNothingElseIs(t *testing.T) {
	const size = 28 + 1 // of topic and payload
	for _, tt := range []struct {
		name      string
		perSecond int
		bytes     int64
		want      time.Duration // for 200
	}{
		{"not", 0, 0, 0},
		{"by number", 200, 0, time.Second},
		{"by bytes", 0, 200 * size / 2, 2 * time.Second},
		{"by both, the slower counts", 400, 200 * size, time.Second},
	} {
		if n := len(self.Result("a")) + 1; n != size {
			t.Fatalf("a record has %d bytes", n)
		}
		replayed(t, newPace(tt.perSecond, tt.bytes, calm, 0), 0, func(t *testing.T, d *device, l *lines) {
			d.fill(store.Late, 200)
			d.fill(store.Live, 1000)
			if took := l.takes(t, 1200); took > tt.want || took < tt.want-2*paceAhead {
				t.Errorf("%s: took %v, want %v", tt.name, took, tt.want)
			}
		})
	}
}

func TestTheJitterHoldsLateResultsAndNoOthers(t *testing.T) {
	replayed(t, newPace(0, 0, calm, 0), drainJitter/2, func(t *testing.T, d *device, l *lines) {
		for s := range store.Stream(store.Streams) {
			d.fill(s, 1)
		}
		if took := l.takes(t, 3); took > 0 {
			t.Errorf("what is not late waits %v", took)
		}
		if took := l.takes(t, 1); took != drainJitter/2 {
			t.Errorf("the late one waits %v, want %v", took, drainJitter/2)
		}
	})
	d := mustDevice(t, nil)
	for range 100 {
		if w := d.newSender(connection{}).lines.pace.wait(); w > drainJitter {
			t.Errorf("a jitter of %v", w)
		}
	}
}

func TestLateResultsGoAtHalfTheirPaceWhileTheLinkIsStrained(t *testing.T) {
	high := false
	bounds := newPace(200, 0, func() bool { return high }, 0)
	replayed(t, bounds, 0, func(t *testing.T, d *device, l *lines) {
		d.fill(store.Late, 600)
		l.takes(t, 100) // it was behind its time
		for _, high = range []bool{true, false} {
			want := time.Second
			if high {
				want *= 2
			}
			if took := l.takes(t, 200); (took - want).Abs() > 2*paceAhead {
				t.Errorf("strained %v: 200 took %v, want %v", high, took, want)
			}
		}
	})
}

func TestALinkIsStrainedAgainstItsOwnLastMinute(t *testing.T) {
	const ms = time.Millisecond
	for _, tt := range []struct {
		recent, minute time.Duration
		want           bool
	}{
		{0, 0, false}, {50 * ms, 0, false}, {29 * ms, 10 * ms, false}, {30 * ms, 10 * ms, true},
		{4 * ms, ms / 10, false}, {5 * ms, ms / 10, true},
	} {
		if got := strained(tt.recent, tt.minute); got != tt.want {
			t.Errorf("%v after %v: strained %v, want %v", tt.recent, tt.minute, got, tt.want)
		}
	}
}

// A broker that delivers all anew on each of its connections, and hears of none.
func TestOfManyDeadConnectionsEachJobLeavesOneRecord(t *testing.T) {
	const jobs, connections = 1000, 8
	d, acks := mustDevice(t, nil), 0
	for i := range connections {
		d.Connected(uint64(i+1), true)
		for j := range jobs {
			m := jobOf(fmt.Sprint(j), "x")
			m.Duplicate = i > 0
			d.receive(m, &acks)
		}
		d.Lost(errors.New("cut"))
		if i == connections/2 {
			d.store()() // what waits is written
		}
	}
	if n, _ := d.outbox.Depth(); n != jobs || len(d.handler.all()) != jobs {
		t.Errorf("%d records wait, %d handed on; want %d of both", n, len(d.handler.all()), jobs)
	}
}

func TestAnAnsweredJobIsAcknowledgedAtOnceWhereItsAnswerIsOnTheDiskAndWaits(t *testing.T) {
	d, acks := mustDevice(t, nil), 0
	d.receive(jobOf("a", "x"), &acks)
	stop := d.store()
	d.flushed(t)
	stop()
	d.receive(duplicate(jobOf("a", "x")), &acks)
	if n, _ := d.outbox.Depth(); acks != 2 || n != 1 {
		t.Errorf("%d acknowledged, %d records wait; want both, one", acks, n)
	}
}

// flushed returns when no answer waits for the disk.
func (d *device) flushed(t *testing.T) {
	t.Helper()
	for late := time.Now().Add(patience); ; {
		d.inbox.mu.Lock()
		n := len(d.inbox.answered)
		d.inbox.mu.Unlock()
		if n == 0 {
			return
		}
		if time.Now().After(late) {
			t.Fatalf("%d answers are not on the disk", n)
		}
	}
}

func TestAJobWhoseAnswerTheBrokerHasIsAnsweredAgainWithoutARecord(t *testing.T) {
	b := newBroker(t)
	d, _ := start(t, b, nil)
	b.send(jobOf("a", "x"))
	first := b.await(self.Result("a"), 1)
	b.settled()
	d.Flush(soon(t))
	for i := range 3 {
		b.send(duplicate(jobOf("a", "x")))
		if again := b.await(self.Result("a"), i+2); string(again.Payload) != string(first.Payload) {
			t.Errorf("answered %s, then %s", first.Payload, again.Payload)
		}
		b.settled()
	}
	if n := d.Status(); n.Seq != 1 || len(d.handler.all()) != 1 {
		t.Errorf("last number %d, handed on %d times; want 1, once", n.Seq, len(d.handler.all()))
	}
}

// A copy may join one of the connection before that is still looked up: the broker that
// is there now waits for its acknowledgement.
func TestACopyOfTheNextConnectionIsAcknowledgedThoughTheOneItJoinedLeadsNowhere(t *testing.T) {
	d, dead, acks := mustDevice(t, nil), 0, 0
	d.Connected(1, false)
	d.receive(jobOf("a", "x"), &dead)
	d.outbox.Delivered(d.records()[0].Seq)
	d.store()()
	d.Receive(duplicate(jobOf("a", "x")), func() { dead++ })
	d.Lost(errors.New("cut"))
	d.Receive(duplicate(jobOf("a", "x")), func() { acks++ })
	for _, p := range d.repeated(d.lookAllUp) {
		give(p.acks)
	}
	if acks != 1 {
		t.Errorf("acknowledged %d times, want once", acks)
	}
}

// The publisher of a connection that ended may still take what came by the next one.
func TestAnAnswerTakenByAPublisherWhoseConnectionEndedGoesOutOverTheNext(t *testing.T) {
	d := mustDevice(t, nil)
	lost := make(chan struct{})
	close(lost)
	ended := d.newSender(connection{lost: lost})
	ended.lines.aside = []publication{
		{repeat: true, Record: store.Record{Seq: 1}}, {repeat: true, Record: store.Record{Seq: 2}},
	}
	if err := ended.send(t.Context()); !errors.Is(err, errLost) {
		t.Errorf("got %v, want that the connection ended", err)
	}
	l := d.newSender(connection{}).lines
	for range 2 {
		if m, err := l.next(soon(t)); err != nil || !m.repeat {
			t.Errorf("got %+v, %v; want what was left", m, err)
		}
	}
}

// Late and live results over a real exchange: each in order, none twice.
func TestN2_LateAndLiveResultsAreTwoStreamsEachInOrder(t *testing.T) {
	b := newBroker(t)
	d, stop := start(t, b, nil)
	b.await(self.Reported(), 1)
	b.cut()
	for d.Status().Online {
		<-d.conn.moved
	}
	const jobs = 300
	none := 0
	for i := range jobs {
		d.Receive(jobOf(fmt.Sprint("late-", i), "x"), func() { none++ })
	}
	b.mend()
	b.await(self.Reported(), 2)
	for i := range jobs {
		b.send(jobOf(fmt.Sprint("live-", i), "x"))
	}
	b.until(func() bool { return b.answered() == 2*jobs }, "every job is answered")
	stop()
	last := map[string]uint64{}
	for _, answer := range b.results() {
		var id string
		var seq uint64
		if _, err := fmt.Sscanf(answer, "done %s %d", &id, &seq); err != nil {
			t.Fatal(err)
		}
		kind, _, _ := strings.Cut(id, "-")
		if seq <= last[kind] {
			t.Errorf("%s: number %d after %d", kind, seq, last[kind])
		}
		last[kind] = seq
	}
	if n := len(b.all(self.Result("#"))); n != 2*jobs {
		t.Errorf("%d answers, want %d", n, 2*jobs)
	}
}

func TestTheStreamOfAnAnswerIsWhatItWasSaidToBe(t *testing.T) {
	d := mustDevice(t, nil)
	for kind, want := range map[wire.Kind]bool{wire.KindJob: true, wire.KindFrame: true, wire.KindCmd: false} {
		r := d.newRequest(kind, jobOf("a", "x"), func() {})
		if r.Late() != want {
			t.Errorf("%s without a link: late %v, want %v", kind, !want, want)
		}
		d.Connected(1, true)
		if again := d.newRequest(kind, jobOf("a", "x"), func() {}); r.Late() != want || again.Late() {
			t.Errorf("%s: late %v, want %v; with a link %v", kind, r.Late(), want, again.Late())
		}
		d.Lost(context.Canceled)
	}
}
