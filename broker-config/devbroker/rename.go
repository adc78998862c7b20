package devbroker

import (
	"math"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// rename gives a SUBSCRIBE or an UNSUBSCRIBE a free packet id where a message waits
// for this client's PUBACK under its own: the library would refuse every filter, or
// leave every one in place, although both sides count their ids for themselves. A
// device that was killed over a job would be told so at each start.
func (d *door) rename(cl *mochi.Client, pk packets.Packet) packets.Packet {
	taken := func(id uint16) bool { _, ok := cl.State.Inflight.Get(id); return ok }
	if pk.PacketID == 0 || !taken(pk.PacketID) {
		return pk
	}
	for id := uint16(math.MaxUint16); id > 0; id-- { // the library counts from 1
		if !taken(id) {
			d.asked.Store(cl, pk.PacketID)
			pk.PacketID = id
			return pk
		}
	}
	return pk
}

// rightful is the answer under the id that the client knows. A client's requests are
// answered by the one goroutine that reads them.
func (d *door) rightful(cl *mochi.Client, answer packets.Packet) packets.Packet {
	if id, ok := d.asked.LoadAndDelete(cl); ok {
		answer.PacketID = id.(uint16)
	}
	return answer
}
