package devbroker

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	brokerconfig "github.com/limber-edge/limber/broker-config"
)

// door decides who comes in and what they may touch. The library's own ledger
// is of no use here: it matches by prefix and allows what it does not know.
type door struct {
	mochi.HookBase
	acl   *brokerconfig.ACL
	users map[string]string // empty: trust what clients say, they are on this machine
	knows lookup
	log   *slog.Logger
	told  sync.Map     // client id → struct{}: a dropped publish of it was logged
	order atomic.Int64 // of publishes
	held  sync.Map     // client id → aside: see OnPacketRead
}

// lookup finds the client whose session the server keeps under an id, whether
// it is connected or away.
type lookup func(id string) (*mochi.Client, bool)

// aside is a message that is not in the library's table for the moment.
type aside struct {
	packets.Packet
	back chan struct{} // closed when it is there again
}

// takeOver bounds the wait of a new connection for the one before.
const takeOver = time.Second

func newDoor(cfg Config, knows lookup, log *slog.Logger) *door {
	return &door{acl: cfg.ACL, users: cfg.Users, knows: knows, log: log}
}

func (d *door) ID() string { return "door" }

func (d *door) Provides(event byte) bool {
	switch event {
	case mochi.OnConnectAuthenticate, mochi.OnACLCheck, mochi.OnPublish, mochi.OnQosPublish,
		mochi.OnDisconnect, mochi.OnPacketRead, mochi.OnPacketProcessed, mochi.OnPacketSent, mochi.OnSessionEstablish:
		return true
	}
	return false
}

// OnConnectAuthenticate also looks at the session, which the library would hand
// to whoever names its id, and at the will, which it would publish unasked.
func (d *door) OnConnectAuthenticate(cl *mochi.Client, pk packets.Packet) bool {
	if len(d.users) > 0 && !d.known(string(cl.Properties.Username), pk.Connect.Password) {
		d.log.Warn("client refused", "client", cl.ID, "remote", cl.Net.Remote, "err", "unknown user or wrong password")
		return false
	}
	if owner, foreign := d.foreign(cl); foreign {
		d.log.Warn("client refused", "client", cl.ID, "remote", cl.Net.Remote,
			"err", fmt.Sprintf("user %q asks for a client id whose session is of user %q", cl.Properties.Username, owner))
		return false
	}
	if pk.Connect.WillFlag && !d.allows(cl, pk.Connect.WillTopic, brokerconfig.Write) {
		d.log.Warn("client refused", "client", cl.ID, "topic", pk.Connect.WillTopic, "err",
			"last will not allowed by the access list")
		return false
	}
	return true
}

// foreign names the owner of a session that another user asks for: the messages
// which wait in it would be delivered without a look at the access list. An id that
// is a user's name is that user's, for whoever came first would keep it out. Of two
// first connects under another id both may pass: nothing waits yet. Without users
// a name proves nothing, and whoever comes may have the session.
func (d *door) foreign(cl *mochi.Client) (owner string, foreign bool) {
	user := string(cl.Properties.Username)
	if _, named := d.users[cl.ID]; named {
		return cl.ID, cl.ID != user
	}
	before, ok := d.knows(cl.ID)
	if !ok || len(d.users) == 0 {
		return "", false
	}
	owner = string(before.Properties.Username)
	return owner, owner != user
}

// known takes the same time for every wrong password.
func (d *door) known(user string, password []byte) bool {
	want, ok := d.users[user]
	a, b := sha256.Sum256([]byte(want)), sha256.Sum256(password)
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1 && ok
}

// OnACLCheck is asked about a filter to subscribe to, about each delivery, and
// about each publish. For a publish under MQTT 3.1.1, which has no way to
// refuse one, "no" would end the connection; OnPublish drops it instead.
func (d *door) OnACLCheck(cl *mochi.Client, topic string, write bool) bool {
	if !write {
		return d.allows(cl, topic, brokerconfig.Subscribe)
	}
	return cl.Properties.ProtocolVersion < 5 || d.allows(cl, topic, brokerconfig.Write)
}

// OnPublish lets a publish that is not allowed be acknowledged and forgotten.
// The others are numbered: the library delivers what it kept for a client in
// the order of Created, whose whole seconds would shuffle what came together,
// and uses it for nothing else. It needs help with long numbers: see rank.
func (d *door) OnPublish(cl *mochi.Client, pk packets.Packet) (packets.Packet, error) {
	pk.Created = d.order.Add(1)
	if d.allows(cl, pk.TopicName, brokerconfig.Write) {
		return pk, nil
	}
	if _, told := d.told.LoadOrStore(cl.ID, struct{}{}); !told {
		d.log.Warn("publish dropped by the access list", "client", cl.ID, "topic", pk.TopicName)
	}
	return pk, packets.CodeSuccessIgnore
}

// OnPacketRead sets aside a message that waits for this client's PUBACK under
// the packet id of a publish which the client sends now. Both sides count their
// ids for themselves, but the library keeps them in one table, and would forget
// the waiting message: it would not be delivered again after a reconnect.
func (d *door) OnPacketRead(cl *mochi.Client, pk packets.Packet) (packets.Packet, error) {
	if pk.FixedHeader.Type == packets.Publish && pk.FixedHeader.Qos == 1 {
		if waiting, ok := cl.State.Inflight.Get(pk.PacketID); ok && waiting.FixedHeader.Type == packets.Publish {
			d.held.Store(cl.ID, aside{waiting, make(chan struct{})})
		}
	}
	return pk, nil
}

// OnPacketProcessed puts back what OnPacketRead set aside. Both are called by
// the one goroutine that reads the client's packets.
func (d *door) OnPacketProcessed(cl *mochi.Client, _ packets.Packet, _ error) {
	if h, ok := d.held.Load(cl.ID); ok {
		cl.State.Inflight.Set(h.(aside).Packet)
		d.held.Delete(cl.ID)
		close(h.(aside).back)
	}
}

// OnSessionEstablish comes before a new connection takes over what waits for
// its client. The one before may still be at a packet whose PUBACK the client
// has, with a message set aside that would not be taken along.
func (d *door) OnSessionEstablish(cl *mochi.Client, _ packets.Packet) {
	if h, ok := d.held.Load(cl.ID); ok {
		select {
		case <-h.(aside).back:
		case <-time.After(takeOver): // the library panicked over the packet
		}
	}
}

func (d *door) OnDisconnect(cl *mochi.Client, _ error, _ bool) { d.told.Delete(cl.ID) }

func (d *door) allows(cl *mochi.Client, topic string, access brokerconfig.Access) bool {
	user := string(cl.Properties.Username)
	if user == "" && len(d.users) == 0 {
		user = brokerconfig.Operator
	}
	return d.acl.Allow(user, cl.ID, topic, access)
}
