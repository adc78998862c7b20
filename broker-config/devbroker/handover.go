package devbroker

import (
	"sync"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// takeOver bounds each wait for the end of a handover, which never comes where the
// library panicked over it.
const takeOver = time.Second

// handovers are the sessions that pass from one connection to the next just now.
//
// The library copies the table of what waits for a client and empties the one of the
// connection before; what comes into that one after the copy would be lost. So it is
// looked at each message that was put into a table, afterwards: where the table is no
// longer the session's, or will not be, the message is put into the one that is.
type handovers struct {
	knows lookup
	mu    sync.Mutex
	now   map[string]*handover // by client id; guarded by mu
}

// handover is that of one session. Others to the same client id wait for its end, for of
// two at a time the second would copy the table that the first has emptied.
type handover struct {
	to      *mochi.Client
	done    chan struct{}    // closed when the new connection has its CONNACK
	settled bool             // its table is the session's; guarded by mu
	late    []packets.Packet // until it is settled: of other tables; guarded by mu
}

func newHandovers(knows lookup) *handovers {
	return &handovers{knows: knows, now: make(map[string]*handover)}
}

// begin comes before the library's copy.
func (h *handovers) begin(cl *mochi.Client) {
	next := &handover{to: cl, done: make(chan struct{})}
	patience := time.NewTimer(takeOver)
	defer patience.Stop()
	for {
		before := h.enter(next, false)
		if before == nil {
			return
		}
		select {
		case <-before.done:
		case <-patience.C:
			h.enter(next, true)
			return
		}
	}
}

// enter makes next the handover of its session, or returns the one that is not done
// yet, unless that is to be given up.
func (h *handovers) enter(next *handover, giveUp bool) *handover {
	h.mu.Lock()
	defer h.mu.Unlock()
	before, busy := h.now[next.to.ID]
	if busy && !giveUp {
		return before
	}
	if busy {
		next.late = before.late
	}
	h.now[next.to.ID] = next
	return nil
}

// of returns the handover to a connection, or nil.
func (h *handovers) of(cl *mochi.Client) *handover {
	h.mu.Lock()
	defer h.mu.Unlock()
	if m := h.now[cl.ID]; m != nil && m.to == cl {
		return m
	}
	return nil
}

// settle comes when the library gives the new connection what is published from now
// on, and before it sends what was kept.
func (h *handovers) settle(cl *mochi.Client) {
	m := h.of(cl)
	if m == nil {
		return
	}
	h.mu.Lock()
	late := m.late
	m.settled, m.late = true, nil
	h.mu.Unlock()
	for _, pk := range late {
		keep(cl, pk)
	}
}

// end comes when the new connection has its CONNACK.
func (h *handovers) end(cl *mochi.Client) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if m := h.now[cl.ID]; m != nil && m.to == cl {
		delete(h.now, cl.ID)
		close(m.done)
	}
}

// greeted waits until a connection has its CONNACK, which has to be the first packet.
func (h *handovers) greeted(cl *mochi.Client) {
	if m := h.of(cl); m != nil {
		select {
		case <-m.done:
		case <-time.After(takeOver):
		}
	}
}

// pass is told of each message after it was put into the table of a connection.
func (h *handovers) pass(from *mochi.Client, pk packets.Packet) {
	if h.delay(from, pk) {
		return
	}
	to, ok := h.knows(from.ID)
	if !ok || to == from || !inherits(to, from) {
		return
	}
	if pk, fresh := keep(to, pk); fresh {
		to.WritePacket(pk) // it stays in the table until it is acknowledged
		h.pass(to, pk)     // this table may have been taken over meanwhile
	}
}

// delay keeps a message for the end of a handover; it is false where there is none.
func (h *handovers) delay(from *mochi.Client, pk packets.Packet) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	m := h.now[from.ID]
	if m == nil || m.settled {
		return false
	}
	if m.to != from && inherits(m.to, from) {
		m.late = append(m.late, pk)
	}
	return true
}

// inherits tells whether a connection goes on with the session of one before it.
func inherits(to, from *mochi.Client) bool {
	return !to.Properties.Clean && (!from.Properties.Clean || from.Properties.ProtocolVersion >= 5)
}

// keep puts a message of another table into a connection's, under an id of its own,
// unless it was copied or no id is free.
func keep(cl *mochi.Client, pk packets.Packet) (packets.Packet, bool) {
	if copied, ok := cl.State.Inflight.Get(pk.PacketID); ok && copied.Created == pk.Created {
		return pk, false
	}
	id, err := cl.NextPacketID()
	if err != nil {
		return pk, false
	}
	pk.PacketID = uint16(id)
	cl.State.Inflight.Set(pk)
	return pk, true
}
