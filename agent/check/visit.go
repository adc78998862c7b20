package check

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/limber-edge/limber/agent/mqtt"
)

// visitRoom is how many messages of its topic a visit keeps; what finds no room is dropped.
const visitRoom = 64

// visit is one connection, which is not made again when it is lost.
type visit struct {
	*mqtt.Link
	clean   bool   // the broker forgets it afterwards
	topic   string // whose messages it keeps; all else that comes for the device is dropped
	known   bool   // the broker had a session for it; the link's own
	opening chan opened
	lost    chan error
	arrived chan mqtt.Message
	end     context.CancelFunc
	ended   chan struct{}
}

// opened is what is known once a visit stands and is subscribed.
type opened struct {
	known  bool     // the broker had a session for it
	denied []string // filters that it refuses
}

// open visits a broker as a device does, under another id and without a will, for the
// messages of a topic. What comes to a visit that is not clean is left to whose session it is.
func open(ctx context.Context, cfg mqtt.Config, clean bool, topic string, filters []mqtt.Subscription) (
	*visit, opened, error) {
	cfg.ClientID = "limber-check-" + cfg.ClientID
	cfg.CleanSession, cfg.Subscriptions, cfg.Will, cfg.Former = clean, filters, nil, nil
	v := &visit{clean: clean, topic: topic, opening: make(chan opened, 1), lost: make(chan error, 1),
		arrived: make(chan mqtt.Message, visitRoom), ended: make(chan struct{})}
	var err error
	if v.Link, err = mqtt.New(cfg, v, slog.New(slog.DiscardHandler)); err != nil {
		return nil, opened{}, err
	}
	running, end := context.WithCancel(ctx)
	v.end = end
	go func() {
		defer close(v.ended)
		v.Run(running) // has no error
	}()
	select {
	case o := <-v.opening:
		return v, o, nil
	case err = <-v.lost:
	case <-ctx.Done():
		err = errors.New("no answer")
	}
	v.close()
	return nil, opened{}, err
}

// knock visits a broker and leaves nothing there. It tells whether that has a session
// for a visitor who was never there before: then it is the device's, which a clean visit
// would end.
func knock(ctx context.Context, cfg mqtt.Config) (known bool, err error) {
	v, o, err := open(ctx, cfg, false, "", nil)
	if err != nil {
		return false, err
	}
	v.close()
	if o.known {
		return true, nil
	}
	if v, _, err = open(ctx, cfg, true, "", nil); err == nil {
		v.close()
	}
	return false, err
}

// close ends the visit in order.
func (v *visit) close() {
	v.end()
	<-v.ended
}

// await returns the next message that is wanted. Its error is why none will come.
func (v *visit) await(ctx context.Context, wanted func(mqtt.Message) bool) error {
	for {
		select {
		case m := <-v.arrived:
			if wanted(m) {
				return nil
			}
		case err := <-v.lost:
			return fmt.Errorf("the broker ended the connection: %w", err)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Connected, Denied, Lost and Receive serve the link. Connected leaves it to Denied,
// which follows, to open a visit that was refused something.
func (v *visit) Connected(_ uint64, known bool) {
	v.known = known
	if v.Counts().Denied == 0 {
		v.tell(nil)
	}
}

func (v *visit) Denied(filters []string) { v.tell(filters) }

func (v *visit) tell(denied []string) {
	select {
	case v.opening <- opened{v.known, denied}:
	default: // of a later connection nobody wants to hear
	}
}

func (v *visit) Lost(err error) {
	select {
	case v.lost <- err:
	default: // the first says why
	}
}

func (v *visit) Receive(m mqtt.Message, ack func()) {
	if !v.clean {
		return
	}
	ack()
	if m.Topic != v.topic {
		return
	}
	select {
	case v.arrived <- m:
	default: // far more than is looked at
	}
}
