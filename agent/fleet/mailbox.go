package fleet

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	"github.com/limber-edge/limber/agent/mqtt"
)

// Mailbox is a connection whose messages are read one by one, in the order of
// arrival: what cameras, benchmarks and devices that tests play need. An operator
// wants a Client. Its methods may be called from any goroutine, but only one may
// call Next at a time.
type Mailbox struct {
	conn
	mail chan struct{} // holds one token when there is something for Next

	inbox sync.Mutex // guards what follows
	queue []mqtt.Message
	bytes int    // of the queue
	lost  uint64 // messages that found no room since Next told of it
}

// MailboxBytes bounds what waits for Next, in bytes of topics and payloads. A
// message that finds no room is dropped, and Next tells of it.
const MailboxBytes = 64 << 20

// OpenMailbox assembles a mailbox that subscribes to filters, QoS 1.
func OpenMailbox(cfg mqtt.Config, log *slog.Logger, filters ...string) (*Mailbox, error) {
	b := &Mailbox{conn: newConn(), mail: make(chan struct{}, 1)}
	if err := b.assemble(cfg, b, log, filters); err != nil {
		return nil, err
	}
	return b, nil
}

// Next returns the next message that arrived. Its error is ctx's, or says how many
// messages were dropped since the call before, of which those that follow go on.
func (b *Mailbox) Next(ctx context.Context) (mqtt.Message, error) {
	for {
		m, ok, lost := b.take()
		switch {
		case lost > 0:
			return mqtt.Message{}, fmt.Errorf("%d messages were dropped: more than %d MiB waited to be read", lost,
				MailboxBytes>>20)
		case ok:
			return m, nil
		}
		select {
		case <-b.mail:
		case <-ctx.Done():
			return mqtt.Message{}, ctx.Err()
		}
	}
}

// take takes the oldest message. Those that were dropped came after all that wait,
// so they are told of once nothing waits.
func (b *Mailbox) take() (m mqtt.Message, ok bool, lost uint64) {
	b.inbox.Lock()
	defer b.inbox.Unlock()
	if len(b.queue) == 0 {
		lost, b.lost = b.lost, 0
		return mqtt.Message{}, false, lost
	}
	m = b.queue[0]
	b.queue[0] = mqtt.Message{} // its payload would stay reachable
	b.queue = b.queue[1:]
	b.bytes -= weight(m)
	return m, true, 0
}

// weight is what a message counts for against MailboxBytes.
func weight(m mqtt.Message) int { return len(m.Topic) + len(m.Payload) }

// Receive keeps a message for Next.
func (b *Mailbox) Receive(m mqtt.Message, ack func()) {
	ack()
	b.inbox.Lock()
	if b.bytes+weight(m) > MailboxBytes {
		b.lost++
	} else {
		b.queue, b.bytes = append(b.queue, m), b.bytes+weight(m)
	}
	b.inbox.Unlock()
	select {
	case b.mail <- struct{}{}:
	default:
	}
}
