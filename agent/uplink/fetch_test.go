package uplink

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/store"
)

// digest names a blob.
var digest = strings.Repeat("ab", 32)

func TestAPartOfABlobIsHandedOnAndNothingElse(t *testing.T) {
	d, acks := mustDevice(t, nil), 0
	for _, m := range []mqtt.Message{
		{Topic: self.Blob(digest, 0), Payload: []byte("first")},
		{Topic: self.Blob(digest, 0), Payload: []byte("first")}, // again: who asked knows
		{Topic: self.Blob(digest, 65536)},
		{Topic: self.Blob(digest, 7), Oversize: 5 << 20}, // it is not empty
		{Topic: self.Blob("abc", 0), Payload: []byte("x")},
		{Topic: self.Blob(digest, 0) + "x", Payload: []byte("x")},
		{Topic: self.Blob(digest, -1), Payload: []byte("x")},
	} {
		d.receive(m, &acks)
	}
	if want := []string{"0 first", "0 first", "65536 "}; !slices.Equal(d.handler.parts, want) || acks != 7 {
		t.Errorf("handed on %q with %d acknowledged, want %q with 7", d.handler.parts, acks, want)
	}
	d.check()
	if n := len(d.handler.all()); n != 0 {
		t.Errorf("%d parts are requests", n)
	}
}

func TestAPartOfABlobIsNoSuspect(t *testing.T) {
	d, acks := mustDevice(t, nil), 0
	d.receive(mqtt.Message{Topic: self.Blob(digest, 0), Payload: []byte("part")}, &acks)
	d.restart() // which did not end in order
	if d.receive(jobOf("a", "x"), &acks); len(d.handler.all()) != 1 {
		t.Errorf("a job after a part waits")
	}
}

// ask has the device ask for n parts.
func (d *device) ask(n int) (err error) {
	for i := range n {
		err = errors.Join(err, d.Fetch(digest, wire.Fetch{Offset: int64(i) * wire.BlobPart, Bytes: wire.BlobPart}))
	}
	return err
}

func TestAsksForBlobsGoWhenNothingElseMay(t *testing.T) {
	d := mustDevice(t, nil)
	d.conn.online.Store(true)
	l := d.unpaced()
	d.fill(store.Late, 2)
	d.fill(store.Live, 9)
	d.fill(store.Event, 1)
	if err := d.ask(3); err != nil {
		t.Fatal(err)
	}
	got := l.letters(13)
	d.fill(store.Live, 1)
	if got += l.letters(4); got != "LLLLElLLLLlLFLFF." {
		t.Errorf("got %s, want LLLLElLLLLlLFLFF.", got)
	}
}

func TestAsksForBlobsAreBoundedAndNeedAConnection(t *testing.T) {
	d := mustDevice(t, nil)
	if err := d.ask(1); !errors.Is(err, mqtt.ErrDown) {
		t.Errorf("without a connection: %v, want %v", err, mqtt.ErrDown)
	}
	d.conn.online.Store(true)
	if err := d.ask(fetchesMost); err != nil {
		t.Errorf("%d asks: %v", fetchesMost, err)
	}
	if err := d.ask(1); err == nil {
		t.Error("one more waits")
	}
	d.Lost(mqtt.ErrDown)
	if got := d.unpaced().letters(1); got != "." {
		t.Errorf("what was asked over a connection that broke goes over the next one: %s", got)
	}
}

func TestAnAskForABlobIsPublishedOnceAtQoS0(t *testing.T) {
	b := newBroker(t)
	d, _ := start(t, b, nil)
	b.await(self.Reported(), 1)
	if err := d.ask(1); err != nil {
		t.Fatal(err)
	}
	m := b.await(self.Fetch(digest), 1)
	if want := `{"schema":1,"offset":0,"bytes":65536}`; m.QoS != 0 || m.Retained || string(m.Payload) != want {
		t.Errorf("got %+v with %s, want %s at QoS 0", m, m.Payload, want)
	}
	for i := range 3 * inFlight { // they hold no place among what is in flight
		if err := d.ask(1); err != nil {
			t.Fatal(err)
		}
		b.await(self.Fetch(digest), 2+i)
	}
}
