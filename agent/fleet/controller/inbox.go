package controller

import (
	"crypto/sha256"
	"strings"
	"sync"
	"time"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
)

// ear hears what comes from the broker, behind the client. It is called by the link's
// reader, and waits for nobody.
type ear struct {
	*fleet.Client
	c *Controller
}

// Connected begins a connection. What the broker retains may have begun to come.
func (e ear) Connected(seq uint64, present bool) {
	e.c.inbox.put(func(p *post) { p.seq = seq })
	if e.c.hass != nil {
		e.c.hass.Connected(seq)
	}
	e.Client.Connected(seq, present)
}

// Lost ends it.
func (e ear) Lost(err error) {
	e.c.inbox.lost()
	if e.c.hass != nil {
		e.c.hass.Lost()
	}
	e.Client.Lost(err)
}

// Receive sorts what comes.
func (e ear) Receive(m mqtt.Message, ack func()) {
	e.Client.Receive(m, ack)
	if e.c.hass != nil && e.c.hass.Receive(m) {
		return
	}
	t, err := wire.ParseTopic(m.Topic)
	if err != nil || m.Oversize > 0 {
		return
	}
	if t.Device == wire.Controller {
		e.c.hearOwn(t, m)
		return
	}
	switch t.Kind {
	case wire.KindAck:
		var a wire.Ack
		if wire.Decode(m.Payload, &a) == nil && !m.Retained && a.ID == t.ID && a.Verb == t.Verb {
			e.c.inbox.ack(t.Device, a, len(m.Payload))
		}
	case wire.KindSync:
		if m.Retained {
			return // nobody knows when it was sent
		}
		e.c.inbox.back(t.Device)
		select {
		case e.c.syncs <- m:
		default: // it asks again on its next connection
		}
	case wire.KindFetch:
		e.c.server.Receive(t, m.Payload)
	}
}

// hearOwn sorts what comes on the controller's own topics.
func (c *Controller) hearOwn(t wire.Topic, m mqtt.Message) {
	switch t.Kind {
	case wire.KindState:
		var s wire.State
		if wire.Decode(m.Payload, &s) != nil {
			s = wire.State{} // somebody cleared it, or wrote what is none
		}
		c.inbox.presence(s, m.Retained)
	case wire.KindCmd:
		if t.Verb == wire.VerbRollout {
			c.inbox.command(command{id: t.ID, payload: m.Payload, retained: m.Retained, at: time.Now()})
		}
	case wire.KindBlob:
		c.shelf.fetcher.Receive(t, m.Payload)
	case wire.KindRollout:
		c.inbox.found(m)
	}
}

// The bounds of an inbox. What finds no room is dropped, and comes again: commands are
// repeated by who gave them, and acknowledgements by devices that are told a command
// again.
const (
	commandsMost = 256
	acksMost     = 2 * fleet.MaxDevices
	foundMost    = 4096
	bytesMost    = 32 << 20 // of commands and acknowledgements
)

// inbox is what waits for the loop: of each kind what is newest, bounded.
type inbox struct {
	wake chan struct{} // holds one token when there is something

	mu   sync.Mutex
	post // guarded by mu
}

// post is what an inbox holds.
type post struct {
	seq      uint64 // of the connection that stands; 0: none does
	listed   uint64 // of the one on which all that is retained is known
	states   []presence
	commands []command
	acks     map[ackOf]wire.Ack
	devices  map[string]bool // that connected
	// what the broker retains on topics of rollouts: SHA-256 of what came last
	documents map[string][sha256.Size]byte
	bytes     int // of commands and acknowledgements
	dropped   int // of these, that found no room
}

// presence is a state of a controller.
type presence struct {
	wire.State
	retained bool
}

// ackOf names a command on a device.
type ackOf struct{ device, verb, id string }

func newInbox() *inbox {
	b := &inbox{wake: make(chan struct{}, 1)}
	b.clear()
	return b
}

// clear empties it but for where the connection stands.
func (p *post) clear() {
	*p = post{seq: p.seq, listed: p.listed, acks: map[ackOf]wire.Ack{}, devices: map[string]bool{},
		documents: map[string][sha256.Size]byte{}}
}

// put changes the inbox and wakes the loop.
func (b *inbox) put(change func(*post)) {
	b.mu.Lock()
	change(&b.post)
	b.mu.Unlock()
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// lost forgets what the broker has told that retains it: the next connection is told anew.
func (b *inbox) lost() {
	b.put(func(p *post) { p.seq, p.states, p.documents = 0, nil, map[string][sha256.Size]byte{} })
}

func (b *inbox) settled(seq uint64) { b.put(func(p *post) { p.listed = seq }) }

// presence keeps the last state of a controller, and the one that was retained.
func (b *inbox) presence(s wire.State, retained bool) {
	b.put(func(p *post) {
		if len(p.states) > 8 {
			p.states = p.states[1:]
		}
		p.states = append(p.states, presence{s, retained})
	})
}

func (b *inbox) command(c command) {
	b.put(func(p *post) {
		if len(p.commands) < commandsMost && p.room(len(c.payload)) {
			p.commands = append(p.commands, c)
		} else {
			p.dropped++
		}
	})
}

// ack keeps the last acknowledgement of a command that may be one of a rollout's: the
// id of these ends in a number.
func (b *inbox) ack(device string, a wire.Ack, bytes int) {
	if i := strings.LastIndexByte(a.ID, '.'); i < 0 || strings.Trim(a.ID[i:], ".0123456789") != "" {
		return
	}
	b.put(func(p *post) {
		key := ackOf{device, a.Verb, a.ID}
		switch was, known := p.acks[key]; {
		case known && was.State.Final():
		case (known || len(p.acks) < acksMost) && p.room(bytes):
			p.acks[key] = a
		default:
			p.dropped++
		}
	})
}

// room takes room for so many bytes, if there is.
func (p *post) room(bytes int) bool {
	if p.bytes+bytes > bytesMost {
		return false
	}
	p.bytes += bytes
	return true
}

func (b *inbox) back(device string) {
	b.put(func(p *post) {
		if len(p.devices) < fleet.MaxDevices {
			p.devices[device] = true
		}
	})
}

func (b *inbox) found(m mqtt.Message) {
	sum := sha256.Sum256(m.Payload)
	b.put(func(p *post) {
		if _, known := p.documents[m.Topic]; known || len(p.documents) < foundMost {
			p.documents[m.Topic] = sum
		}
	})
}

// take empties the inbox, once all is known that is retained; before that only the states
// of controllers come.
func (b *inbox) take() post {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.post
	if p.ready() {
		b.clear()
	} else {
		p = post{seq: p.seq, listed: p.listed}
	}
	return p
}

// ready tells whether the connection stands and all that is retained is known.
func (p post) ready() bool { return p.seq > 0 && p.listed == p.seq }
