package devbroker

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/limber-edge/limber/agent/wire"
	brokerconfig "github.com/limber-edge/limber/broker-config"
)

// door decides who comes in and what they may touch. The library's own ledger
// is of no use here: it matches by prefix and allows what it does not know.
type door struct {
	mochi.HookBase
	acl   *brokerconfig.ACL
	open  bool              // trust what clients say, they are on this machine
	users map[string]string // name to password; nil where certificates say who comes
	knows lookup
	log   *slog.Logger
	told  sync.Map     // client id → struct{}: a dropped publish of it was logged
	order atomic.Int64 // of publishes
	held  sync.Map     // *mochi.Client → packets.Packet: see OnPacketRead
	asked sync.Map     // *mochi.Client → uint16: see rename
	moves *handovers
}

// lookup finds the client whose session the server keeps under an id, whether
// it is connected or away.
type lookup func(id string) (*mochi.Client, bool)

func newDoor(cfg Config, knows lookup, log *slog.Logger) *door {
	return &door{acl: cfg.ACL, open: cfg.open(), users: cfg.Users, knows: knows, log: log,
		moves: newHandovers(knows)}
}

func (d *door) ID() string { return "door" }

func (d *door) Provides(event byte) bool {
	switch event {
	case mochi.OnConnectAuthenticate, mochi.OnACLCheck, mochi.OnPublish, mochi.OnQosPublish,
		mochi.OnDisconnect, mochi.OnPacketRead, mochi.OnPacketProcessed, mochi.OnPacketEncode, mochi.OnPacketSent,
		mochi.OnSessionEstablish:
		return true
	}
	return false
}

// OnConnectAuthenticate also looks at the session, which the library would hand
// to whoever names its id, and at the will, which it would publish unasked.
func (d *door) OnConnectAuthenticate(cl *mochi.Client, pk packets.Packet) bool {
	if err := d.identify(cl, pk.Connect.Password); err != nil {
		d.log.Warn("client refused", "client", cl.ID, "remote", cl.Net.Remote, "err", err)
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

// identify makes sure of a client's user. Where there are certificates it is the common
// name, whatever the client says.
func (d *door) identify(cl *mochi.Client, password []byte) error {
	switch {
	case d.open:
	case d.users == nil:
		name := commonName(cl.Net.Conn)
		if name == "" {
			return errors.New("its certificate has no common name")
		}
		cl.Properties.Username = []byte(name)
	case !d.known(string(cl.Properties.Username), password):
		return errors.New("unknown user or wrong password")
	}
	return nil
}

// commonName is that of the certificate that was verified; empty if there is none.
func commonName(conn net.Conn) string {
	for {
		if encrypted, ok := conn.(*tls.Conn); ok {
			chains := encrypted.ConnectionState().VerifiedChains
			if len(chains) == 0 {
				return ""
			}
			return chains[0][0].Subject.CommonName
		}
		carried, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			return ""
		}
		conn = carried.NetConn()
	}
}

// foreign names the owner of a session that another user asks for: the messages
// which wait in it would be delivered without a look at the access list. An id that
// is a user's name is that user's, for whoever came first would keep it out. Of two
// first connects under another id both may pass: nothing waits yet. On a desk
// a name proves nothing, and whoever comes may have the session.
func (d *door) foreign(cl *mochi.Client) (owner string, foreign bool) {
	user := string(cl.Properties.Username)
	if _, named := d.users[cl.ID]; named || cl.ID == user {
		return cl.ID, cl.ID != user
	}
	before, ok := d.knows(cl.ID)
	if !ok || d.open {
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
	if kind := pk.FixedHeader.Type; kind == packets.Subscribe || kind == packets.Unsubscribe {
		return d.rename(cl, pk), nil
	}
	if pk.FixedHeader.Type == packets.Publish && pk.FixedHeader.Qos == 1 {
		if waiting, ok := cl.State.Inflight.Get(pk.PacketID); ok && waiting.FixedHeader.Type == packets.Publish {
			d.held.Store(cl, waiting)
		}
	}
	return pk, nil
}

// OnPacketProcessed puts back what OnPacketRead set aside. Both are called by
// the one goroutine that reads the client's packets. And it acknowledges a publish to
// a topic of the system's own, which the library forgets without a word.
func (d *door) OnPacketProcessed(cl *mochi.Client, pk packets.Packet, _ error) {
	if pk.FixedHeader.Type == packets.Publish && pk.FixedHeader.Qos == 1 && strings.HasPrefix(pk.TopicName, "$") &&
		!mochi.IsValidFilter(pk.TopicName, true) {
		cl.WritePacket(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}, PacketID: pk.PacketID})
	}
	if waiting, ok := d.held.LoadAndDelete(cl); ok {
		cl.State.Inflight.Set(waiting.(packets.Packet))
		d.moves.pass(cl, waiting.(packets.Packet))
	}
}

// OnSessionEstablish comes before a new connection takes over what waits for its client.
func (d *door) OnSessionEstablish(cl *mochi.Client, _ packets.Packet) { d.moves.begin(cl) }

// OnPacketEncode comes before each packet that is written to a client.
func (d *door) OnPacketEncode(cl *mochi.Client, pk packets.Packet) packets.Packet {
	switch pk.FixedHeader.Type {
	case packets.Connack:
		d.moves.settle(cl)
	case packets.Publish:
		d.moves.greeted(cl)
	case packets.Suback, packets.Unsuback:
		return d.rightful(cl, pk)
	}
	return pk
}

// OnDisconnect forgets what concerns the connection.
func (d *door) OnDisconnect(cl *mochi.Client, _ error, _ bool) {
	d.told.Delete(cl.ID)
	d.asked.Delete(cl)
}

func (d *door) allows(cl *mochi.Client, topic string, access brokerconfig.Access) bool {
	user := string(cl.Properties.Username)
	if user == "" && d.open {
		user = wire.Operator
	}
	return d.acl.Allow(user, cl.ID, topic, access)
}
