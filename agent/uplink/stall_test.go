package uplink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/store"
)

// budget is what a message may wait for the reader.
const budget = 50 * time.Millisecond

// narrow dials a connection that takes little while nobody listens.
func narrow(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err == nil {
		err = conn.(*net.TCPConn).SetWriteBuffer(4 << 10)
	}
	return conn, err
}

// hang has every write of the store wait until the test ends: a transaction of
// another is under way, and its disk does not answer.
func (d *device) hang() {
	d.tb.Helper()
	if _, err := d.state.PutBlob([]byte("x")); err != nil {
		d.tb.Fatal(err)
	}
	held, release, ended := make(chan bool), make(chan bool), make(chan bool)
	go func() {
		defer close(ended)
		d.state.Prune(func(store.Digest) bool {
			close(held)
			<-release
			return true
		})
	}()
	<-held
	d.tb.Cleanup(func() {
		close(release)
		<-ended
	})
}

// slowest gives the device messages, and returns how long it took at most to take
// one.
func (d *device) slowest(messages []mqtt.Message) (most time.Duration) {
	for _, m := range messages {
		began := time.Now()
		d.Receive(m, func() {})
		most = max(most, time.Since(began))
	}
	return most
}

// Everything that can hang does: the broker takes nothing more in the middle of a
// publish, with a full window behind it; neither of the stores is written; an answer
// that is to be read from the disk does not come; no request is ended.
func TestTheReaderWaitsForNobodyAndTheFarewellKeepsItsBudget(t *testing.T) {
	var stuck atomic.Bool // the disk that answers are read from
	never := make(chan struct{})
	b := newBroker(t)
	d := mustDevice(t, func(d *device) {
		d.cfg.Link.Broker, d.cfg.Link.WriteTimeout, d.cfg.Link.Dial = b.addr(), time.Hour, narrow
		d.options.Alias = func(r store.Record) string {
			if stuck.Load() && r.Seq == 1 {
				<-never
			}
			return Alias(r)
		}
	})
	t.Cleanup(d.connect()) // without the writer of the outbox
	t.Cleanup(func() { close(never) })
	b.send(frameOf("front", "x", 1))
	b.await(self.Result("front-01234567-1"), 1)
	stuck.Store(true)
	d.hang()
	d.handler.busy = always
	b.stall()
	large := bytes.Repeat([]byte("x"), 64<<10)
	for range 2 * inFlight {
		d.post(store.Live, mqtt.Message{Topic: self.Result("large"), Payload: large}, nil)
	}
	d.Changed(State)
	d.Changed(Caps)
	b.send(duplicate(frameOf("front", "x", 1))) // its answer is never read
	for round := range 5 {
		var all []mqtt.Message
		for i := range 50 {
			id := fmt.Sprint(round, "-", i)
			all = append(all, jobOf(id, "x"), jobOf(id, "x"), jobOf(id, "y"), jobOf(id+"/", "x"),
				command("mode", id, "x"), command("mode", id, "y"), mqtt.Message{Topic: self.Desired(), QoS: 1},
				frameOf("front", id, 1), duplicate(frameOf("front", "x", 1)))
		}
		most := d.slowest(all)
		if most <= budget {
			break
		}
		t.Logf("a message waited %v", most) // for a processor, once in a while
		if round == 4 {
			t.Errorf("the reader was held up in each of %d rounds, want at most %v", round+1, budget)
		}
	}
	b.send(jobOf("over-the-socket", "x"))
	d.handler.awaitID(t, "over-the-socket")

	const farewell = 200 * time.Millisecond
	ctx, cancel := context.WithTimeout(t.Context(), farewell)
	defer cancel()
	began := time.Now()
	if err := d.Farewell(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the end of the budget", err)
	}
	if took := time.Since(began); took > farewell+time.Second {
		t.Errorf("the farewell took %v, want %v", took, farewell)
	}
	b.cut()
}

// awaitID waits until a request with this id was handed on.
func (h *fakeHandler) awaitID(tb testing.TB, id string) {
	tb.Helper()
	for n := 1; ; n++ {
		if got := h.await(tb, n); got[n-1].ID == id {
			return
		}
	}
}

func TestN21_AFarewellThatWaitsForTheLinkLeavesWhenItMoves(t *testing.T) {
	b := newBroker(t)
	d, _ := start(t, b, nil)
	b.await(self.Reported(), 1)
	b.stall()
	d.Changed(State) // the publisher waits for its acknowledgement
	ended := make(chan error, 1)
	go func() { ended <- d.Farewell(soon(t)) }()
	<-d.changed.left
	b.resume()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if got := b.presences(); got[len(got)-1] != wire.Offline {
		t.Errorf("states %v, want offline last", got)
	}
}

func TestTelemetryIsDroppedOnAStalledLinkAndHoldsBackNothing(t *testing.T) {
	b := newBroker(t)
	d := mustDevice(t, func(d *device) {
		d.cfg.Link.Broker, d.cfg.Link.WriteTimeout, d.cfg.Link.Dial = b.addr(), time.Hour, narrow
	})
	d.Telemetry(wire.Telemetry{}) // without a link nobody wants it
	d.run()
	b.await(self.Reported(), 1)
	d.Telemetry(wire.Telemetry{Queue: 1})
	if m := b.await(self.Telemetry(), 1); m.QoS != 0 || m.Retained || decoded[wire.Telemetry](t, m).Queue != 1 {
		t.Errorf("got %+v", m)
	}
	b.stall()
	heavy := wire.Telemetry{Mode: strings.Repeat("m", 8<<10)}
	for range 100 { // more than the socket holds
		d.Telemetry(heavy)
	}
	before := d.Status()
	if before.Dropped == 0 {
		t.Fatal("nothing was dropped")
	}
	d.Event(wire.SeverityError, wire.Event{Kind: wire.EventFault})
	if now := d.Status(); now.Records != before.Records+1 {
		t.Errorf("%d records wait, and before the event %d; want it in the outbox at once", now.Records, before.Records)
	}
	b.resume()
	b.await(self.Event(wire.SeverityError), 1)
}

// bubbled runs the writer of the outbox and the telling of gaps within a bubble,
// until stop is called.
func (d *device) bubbled() (stop func()) {
	endStoring, endTelling := d.store(), d.background(func(ctx context.Context) error {
		if err := d.tellGaps(ctx); !errors.Is(err, context.Canceled) {
			return err
		}
		return nil
	})
	return func() {
		endTelling()
		endStoring()
	}
}

func TestS8_AGapIsToldOfOnceOverARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := mustDevice(t, func(d *device) { d.options.Quota = 64 << 10 })
		stop := d.bubbled()
		const records = 100
		for range records {
			d.post(store.Late, mqtt.Message{Topic: self.Result("a"), Payload: make([]byte, 10<<10)}, nil)
		}
		lost := records - d.Status().Records
		time.Sleep(10 * time.Second) // of the bubble, as below: there is no link
		stop()
		d.restart()
		stop = d.bubbled()
		d.Connected(1, true)
		time.Sleep(2 * gapEvery)
		all := d.records()
		last := all[len(all)-1]
		got := decoded[wire.Event](t, mqtt.Message{Topic: last.Topic, Payload: last.Payload})
		want := wire.Event{Schema: got.Schema, TS: got.TS, Detail: got.Detail, Kind: wire.EventGap, Class: "result",
			Reason: "quota", Count: uint64(lost), Bytes: int64(lost * (10<<10 + len(self.Result("a")))), First: 1,
			Last: uint64(lost)}
		if last.Topic != self.Event(wire.SeverityWarning) || got != want {
			t.Errorf("told %s: %+v, want %+v", last.Topic, got, want)
		}
		time.Sleep(10 * time.Second) // it is on the disk
		stop()
		d.restart()
		stop = d.bubbled()
		d.Connected(1, true)
		time.Sleep(2 * gapEvery)
		if again := d.records(); len(again) != len(all) {
			t.Errorf("told of twice: %s", again[len(again)-1].Payload)
		}
		stop()
	})
}

func TestAGapIsToldOfWhenThereIsALink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := mustDevice(t, func(d *device) { d.options.Quota = 64 << 10 })
		defer d.bubbled()()
		for range 8 {
			d.post(store.Event, mqtt.Message{Topic: self.Event(wire.SeverityInfo), Payload: make([]byte, 10<<10)}, nil)
		}
		time.Sleep(10 * gapEvery)
		if !d.outbox.Gaps() {
			t.Error("told of without a link")
		}
		d.Connected(1, true)
		time.Sleep(2 * gapEvery)
		if told, _ := d.outbox.Collect(store.Control, 0, 10); len(told) != 1 || d.outbox.Gaps() {
			t.Errorf("told %d times, want once", len(told))
		}
	})
}

// The event that tells of a gap waits in the outbox like any other record, and the next
// outage may fill that.
func TestS8_AnnouncedEqualsLostHoweverOftenTheLinkBreaks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := mustDevice(t, func(d *device) { d.options.Quota = 64 << 10 })
		stop := d.bubbled()
		posted, delivered, told := 0, 0, 0
		for round := range 6 {
			for range 100 {
				d.post(store.Late, mqtt.Message{Topic: self.Result("a"), Payload: make([]byte, 5<<10)}, nil)
				posted++
			}
			d.Connected(uint64(round+1), true)
			time.Sleep(2 * gapEvery) // of the bubble, as below
			if round%3 == 2 {        // else nothing got out
				for _, r := range d.records() {
					d.outbox.Delivered(r.Seq)
					if r.Stream == store.Control {
						told += int(decoded[wire.Event](t, mqtt.Message{Topic: r.Topic, Payload: r.Payload}).Count)
					} else {
						delivered++
					}
				}
			}
			d.Lost(errors.New("cut"))
			time.Sleep(2 * gapEvery)
			if round%2 == 1 {
				stop()
				d.restart()
				stop = d.bubbled()
			}
		}
		stop()
		if lost := posted - delivered; told != lost || delivered == 0 {
			t.Errorf("%d records were posted and %d delivered, and %d are told as lost", posted, delivered, told)
		}
	})
}
