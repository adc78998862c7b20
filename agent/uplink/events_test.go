package uplink

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/limber-edge/limber/agent/wire"
)

// paced runs f with a pacer and returns what was told, and when, in a bubble.
func paced(t *testing.T, f func(p *pacer)) (told []string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		began := time.Now()
		p := newPacer(func(s wire.Severity, e wire.Event) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, fmt.Sprintf("%v %s %s %s-%s %d", time.Since(began), s, e.Kind, e.From, e.Member, e.Count))
		})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- p.run(ctx) }()
		f(p)
		cancel()
		<-ended
	})
	return told
}

func TestEventsOfAKindAreToldOnceASecondWithTheirCount(t *testing.T) {
	got := paced(t, func(p *pacer) {
		for i := range 4 {
			p.tell(wire.SeverityInfo, wire.Event{Kind: wire.EventSwitch, From: fmt.Sprint(i), Member: fmt.Sprint(i + 1)})
			time.Sleep(100 * time.Millisecond) // of the bubble
		}
		p.tell(wire.SeverityError, wire.Event{Kind: wire.EventFault})
		time.Sleep(5 * time.Second)
		p.tell(wire.SeverityInfo, wire.Event{Kind: wire.EventSwitch, From: "4", Member: "5"})
	})
	want := []string{"0s info switch 0-1 0", "400ms error fault - 0", "1s info switch 1-4 3", "5.4s info switch 4-5 0"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestWhatIsHeldBackIsToldWhenTheDeviceStops(t *testing.T) {
	got := paced(t, func(p *pacer) {
		for range 3 {
			p.tell(wire.SeverityInfo, wire.Event{Kind: wire.EventSwitch, From: "a", Member: "b"})
		}
		p.flush(0)
		p.flush(0)
	})
	if want := []string{"0s info switch a-b 0", "0s info switch a-b 2"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAnEventAtOnceIsNotHeldBack(t *testing.T) {
	d := mustDevice(t, nil)
	for range 3 {
		d.EventAtOnce(wire.SeverityInfo, wire.Event{Kind: wire.EventSwitch})
		d.Event(wire.SeverityInfo, wire.Event{Kind: wire.EventProgress})
	}
	if n := len(d.waiting()); n != 4 {
		t.Errorf("%d events, want the 3 and the first of those that are paced", n)
	}
}

func TestAnEventIsKeptOnceItIsOnTheDiskOrWithTheBroker(t *testing.T) {
	d := mustDevice(t, nil)
	delivered := d.Keep(wire.SeverityInfo, wire.Event{Kind: wire.EventUpdate})
	written := d.Keep(wire.SeverityError, wire.Event{Kind: wire.EventUpdate})
	if delivered() || written() {
		t.Error("what is in memory alone is kept")
	}
	d.outbox.Delivered(d.records()[0].Seq)
	if !delivered() || written() {
		t.Errorf("kept: %t, %t; want the one that the broker has", delivered(), written())
	}
	d.commit()
	if !written() {
		t.Error("what is on the disk is not kept")
	}
	if late := d.Keep(wire.SeverityInfo, wire.Event{Kind: wire.EventUpdate}); late() {
		t.Error("what the outbox did not take is kept")
	}
}
