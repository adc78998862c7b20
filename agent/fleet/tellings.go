package fleet

import (
	"sync"

	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
)

// tellings are acknowledgements on their way from the link's reader, which must not wait,
// to one who tells of them and may be slow. Of a device there wait as many as a command
// has states, and of its progress the newest.
type tellings struct {
	mu      sync.Mutex
	waiting []Told
	of      map[string]*told // by device
	over    bool
	wake    chan struct{} // holds one token when something changed
}

// told is what waits of a device.
type told struct {
	last int // the place of the newest
	n    int
}

// toldMost is how many acknowledgements of a device may wait. A newer one takes the place
// of the last then.
const toldMost = 8

func newTellings() *tellings { return &tellings{of: map[string]*told{}, wake: make(chan struct{}, 1)} }

// take takes an acknowledgement; what is none, or cannot be read, is passed over.
func (n *tellings) take(t wire.Topic, m mqtt.Message) {
	if t.Kind != wire.KindAck {
		return
	}
	if ack, err := decoded[wire.Ack](m); err == nil {
		n.put(Told{t.Device, *ack})
	}
}

func (n *tellings) put(t Told) {
	n.mu.Lock()
	was, known := n.of[t.Device]
	switch {
	case !known && len(n.of) == MaxDevices: // no fleet that this program knows has as many
	case !known:
		n.of[t.Device] = &told{len(n.waiting), 1}
		n.waiting = append(n.waiting, t)
	case was.n == toldMost || t.Progress != nil && n.waiting[was.last].Progress != nil:
		n.waiting[was.last] = t
	default:
		was.last, was.n = len(n.waiting), was.n+1
		n.waiting = append(n.waiting, t)
	}
	n.mu.Unlock()
	n.signal()
}

// end has tell return once it has told of all.
func (n *tellings) end() {
	n.mu.Lock()
	n.over = true
	n.mu.Unlock()
	n.signal()
}

func (n *tellings) signal() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// tell tells of what comes until the end.
func (n *tellings) tell(one func(Told)) {
	for over := false; !over; {
		var now []Told
		n.mu.Lock()
		now, n.waiting, over = n.waiting, nil, n.over
		clear(n.of)
		n.mu.Unlock()
		for _, t := range now {
			one(t)
		}
		if !over {
			<-n.wake
		}
	}
}
