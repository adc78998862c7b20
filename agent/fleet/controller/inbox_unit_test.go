package controller

import (
	"fmt"
	"strings"
	"testing"

	"github.com/limber-edge/limber/agent/wire"
)

func TestWhatWaitsForTheLoopIsBoundedInBytesAndCounted(t *testing.T) {
	b := newInbox()
	b.put(func(p *post) { p.seq, p.listed = 1, 1 })
	for i := range 2000 {
		detail := strings.Repeat("x", wire.MaxControl)
		b.ack("liar", wire.Ack{ID: fmt.Sprintf("r.%d", i), Verb: wire.VerbMode, Detail: detail}, len(detail))
		b.command(command{id: fmt.Sprint(i), payload: []byte(detail)})
	}
	p := b.take()
	held := 0
	for _, a := range p.acks {
		held += len(a.Detail)
	}
	for _, c := range p.commands {
		held += len(c.payload)
	}
	if n := len(p.acks) + len(p.commands); held > bytesMost || held < bytesMost/2 || p.dropped != 4000-n {
		t.Errorf("%d bytes are held of %d, %d were dropped; want at most %d bytes, and the rest counted", held, n, p.dropped,
			bytesMost)
	}
	b.ack("cam", wire.Ack{ID: "r.1", State: wire.CommandSucceeded}, 100)
	if p := b.take(); len(p.acks) != 1 || p.dropped != 0 {
		t.Errorf("got %+v, want room once it was emptied", p)
	}
}
