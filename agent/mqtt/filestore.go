package mqtt

import (
	"strconv"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"
)

// FileStore keeps messages until they are acknowledged the way the client library
// offers it: a file each, which is not synced. No Link uses it; the outbox of the
// device is held against it.
type FileStore struct{ store *paho.FileStore }

// OpenFileStore keeps its messages in dir.
func OpenFileStore(dir string) FileStore {
	s := FileStore{paho.NewFileStore(dir)}
	s.store.Open()
	return s
}

// Put keeps a message under the number of its packet.
func (s FileStore) Put(id uint16, m Message) {
	p := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
	p.Qos, p.TopicName, p.Payload, p.MessageID = m.QoS, m.Topic, m.Payload, id
	s.store.Put(fileKey(id), p)
}

// Delete forgets a message.
func (s FileStore) Delete(id uint16) { s.store.Del(fileKey(id)) }

func fileKey(id uint16) string { return "o." + strconv.Itoa(int(id)) }

// Close lets go of the folder.
func (s FileStore) Close() { s.store.Close() }
