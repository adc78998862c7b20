package devbroker

import (
	"cmp"
	"slices"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// OnQosPublish follows a message into a client's table. A last will is numbered: it has
// not come by OnPublish and bears the time in seconds, far above any number given. What is
// sent again has been there before.
func (d *door) OnQosPublish(cl *mochi.Client, pk packets.Packet, _ int64, _ int) {
	if pk.FixedHeader.Type != packets.Publish || pk.FixedHeader.Dup {
		return
	}
	if pk.Created > d.order.Load() {
		pk.Created = d.order.Add(1)
		cl.State.Inflight.Set(pk)
	}
	d.moves.pass(cl, pk)
}

// OnPacketSent puts in order what waits for a client, in the moment between
// its CONNACK and the library's delivery: the session is the new connection's
// by then, and nothing has been read from it that could take a message away.
func (d *door) OnPacketSent(cl *mochi.Client, pk packets.Packet, _ []byte) {
	if pk.FixedHeader.Type == packets.Connack {
		rank(cl.State.Inflight)
		d.moves.end(cl)
	}
}

// rank renumbers the messages from 1 where the library would shuffle them: it
// looks at the low 16 bits of Created alone, which start anew every 65,536
// publishes. Fewer messages wait than were numbered so far, so that every later
// number is above every rank.
//
// It does not help a client of MQTT 5 that limits what it is sent at once: what
// that holds back while it is connected, the library picks by the low bits.
func rank(waiting *mochi.Inflight) {
	all := waiting.GetAll(false)
	slices.SortStableFunc(all, func(a, b packets.Packet) int { return cmp.Compare(a.Created, b.Created) })
	if len(all) == 0 || all[0].Created>>16 == all[len(all)-1].Created>>16 {
		return
	}
	for i, pk := range all {
		pk.Created = int64(i + 1)
		waiting.Set(pk)
	}
}
