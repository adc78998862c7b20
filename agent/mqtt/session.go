package mqtt

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/url"
	"sync"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"
)

const (
	// queued is how many messages may wait for the socket.
	queued = 64
	// goodbye bounds the wait for what must leave before DISCONNECT, and after
	// that the writing of it and the wait for the broker's end.
	goodbye = time.Second
)

// delivery is a message on its way and the place for its outcome.
type delivery struct {
	Message
	done chan error // takes exactly one value
}

// session is one connection, from its CONNACK to its end.
type session struct {
	link    *Link
	client  paho.Client
	stream  *stream
	present bool // the broker remembered this client
	out     chan delivery
	acks    *acks

	gate    sync.RWMutex   // read-held while enqueuing
	over    bool           // guarded by gate: nothing is accepted any more
	open    sync.WaitGroup // deliveries accepted whose outcome is not known; grows only under gate
	calling sync.Mutex     // held during Receive
	mute    bool           // guarded by calling: Receive is not called any more
}

// open dials, sends CONNECT and waits for its answer.
func (l *Link) open(ctx context.Context, seq uint64) (*session, error) {
	stream, err := l.dial(ctx)
	if err != nil {
		return nil, err
	}
	s := &session{link: l, stream: stream, out: make(chan delivery, queued), acks: newAcks()}
	go s.acks.run(stream.down)
	s.client = paho.NewClient(s.options(seq))
	token := s.client.Connect().(*paho.ConnectToken)
	select {
	case <-token.Done():
	case <-ctx.Done():
		s.disconnect()
		return nil, ctx.Err()
	}
	if token.Error() != nil {
		err := connectError(token, stream)
		s.abandon(err)
		return nil, err
	}
	l.connections.Add(1)
	s.present = token.SessionPresent()
	return s, nil
}

// connectError says why CONNECT was not accepted.
func connectError(token *paho.ConnectToken, s *stream) error {
	switch code := token.ReturnCode(); code {
	case packets.ErrNetworkError:
		<-s.down // the library closes what it could not use
		return s.cause
	case packets.ErrRefusedBadUsernameOrPassword, packets.ErrRefusedNotAuthorised:
		return fmt.Errorf("%w: code %d, %w; check user, password and certificate", ErrRefused, code, token.Error())
	default:
		return fmt.Errorf("%w: code %d, %w", ErrRefused, code, token.Error())
	}
}

// options make the library a codec for one connection: it neither reconnects,
// nor acknowledges, nor keeps time.
func (s *session) options(seq uint64) *paho.ClientOptions {
	cfg := s.link.cfg
	user, password := cfg.credentials(s.link.target)
	o := paho.NewClientOptions().
		AddBroker("tcp://" + s.link.target.addr). // only its presence matters, the connection is ours
		SetClientID(cfg.ClientID).SetUsername(user).SetPassword(password).
		SetProtocolVersion(4).SetCleanSession(cfg.CleanSession).
		SetAutoReconnect(false).SetConnectRetry(false).
		SetOrderMatters(true).SetAutoAckDisabled(true).
		SetKeepAlive(cfg.KeepAlive).SetPingTimeout(math.MaxInt64).
		SetDefaultPublishHandler(s.receive). // known before CONNECT, for a session may deliver at once
		SetCustomOpenConnectionFn(func(*url.URL, paho.ClientOptions) (net.Conn, error) { return s.stream, nil })
	if cfg.Will != nil {
		w := cfg.Will(seq)
		o.SetBinaryWill(w.Topic, w.Payload, w.QoS, w.Retained)
	}
	return o
}

// subscribe asks for filters in one packet and returns those the broker
// refused.
func (s *session) subscribe(ctx context.Context, wanted []Subscription) (denied []Subscription, err error) {
	if len(wanted) == 0 {
		return nil, nil
	}
	filters := make(map[string]byte, len(wanted))
	for _, w := range wanted {
		filters[w.Filter] = w.QoS
	}
	granted, err := s.ask(ctx, filters)
	if err != nil {
		return nil, err
	}
	for _, w := range wanted {
		if code, ok := granted[w.Filter]; !ok || code > 2 {
			denied = append(denied, w)
		}
	}
	s.link.denied.Add(uint64(len(denied)))
	return denied, nil
}

// ask sends SUBSCRIBE and returns the SUBACK's code for each filter. The
// library may hold a call for half a minute after its connection ended, so the
// call is left to a goroutine that ends by itself.
func (s *session) ask(ctx context.Context, filters map[string]byte) (map[string]byte, error) {
	s.stream.limiter.asked.Store(int32(len(filters)))
	tokens := make(chan *paho.SubscribeToken, 1)
	go func() {
		if former := s.link.cfg.Former; s.present && len(former) > 0 {
			s.client.Unsubscribe(former...) // done before what follows is answered
		}
		tokens <- s.client.SubscribeMultiple(filters, nil).(*paho.SubscribeToken)
	}()
	late := time.NewTimer(s.link.cfg.ConnectTimeout)
	defer late.Stop()
	var answered <-chan struct{}
	var token *paho.SubscribeToken
	for {
		select {
		case token = <-tokens:
			answered = token.Done()
		case <-answered:
			if token.Error() != nil {
				return nil, fmt.Errorf("subscribe: %w", token.Error())
			}
			return token.Result(), nil
		case <-s.stream.down:
			return nil, s.stream.cause
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-late.C:
			return nil, fmt.Errorf("subscribe: no answer within %v", s.link.cfg.ConnectTimeout)
		}
	}
}

// receive hands an inbound message to the owner.
func (s *session) receive(_ paho.Client, m paho.Message) {
	msg := Message{Topic: m.Topic(), Payload: m.Payload(), QoS: m.Qos(), Retained: m.Retained(), Duplicate: m.Duplicate()}
	if n := s.stream.limiter.oversize(msg.Payload); n > 0 {
		msg.Payload, msg.Oversize = nil, n
		s.link.oversize.Add(1)
	}
	s.calling.Lock()
	defer s.calling.Unlock()
	if !s.mute {
		s.link.handler.Receive(msg, func() { s.acks.add(m.Ack) })
	}
}

// enqueue passes a delivery to the sender.
func (s *session) enqueue(ctx context.Context, d delivery) error {
	s.gate.RLock()
	defer s.gate.RUnlock()
	if s.over {
		return ErrDown
	}
	// Not left to the select's chance: when one message was given up, the next
	// must not take its place.
	if err := ctx.Err(); err != nil {
		return err
	}
	s.open.Add(1)
	select {
	case s.out <- d:
		return nil
	case <-s.stream.down:
		s.open.Done()
		return ErrDown
	case <-ctx.Done():
		s.open.Done()
		return ctx.Err()
	}
}

// offer passes a delivery to the sender if half of the room is free.
func (s *session) offer(d delivery) bool {
	if !s.gate.TryRLock() {
		return false // the connection is ending
	}
	defer s.gate.RUnlock()
	if s.over || len(s.out) >= queued/2 {
		return false
	}
	s.open.Add(1)
	select {
	case s.out <- d:
		return true
	default:
		s.open.Done()
		return false
	}
}

// report tells the outcome of a delivery that was accepted.
func (s *session) report(d delivery, outcome error) {
	d.done <- outcome
	s.open.Done()
}

// start lets messages out. The sender ends with the stream, or up to half a
// minute later if the library holds it in a publish that can no longer leave;
// the next connection has its own.
func (s *session) start() {
	go func() {
		for {
			select {
			case d := <-s.out:
				s.send(d)
			case <-s.stream.down:
				return
			}
		}
	}()
}

// send passes one message to the library and lets its outcome be reported
// beside the next.
func (s *session) send(d delivery) {
	tokens := make(chan paho.Token, 1)
	go func() { s.report(d, s.outcome(tokens)) }()
	tokens <- s.client.Publish(d.Topic, d.QoS, d.Retained, d.Payload)
}

// outcome waits for the acknowledgement or the end of the connection; the
// library completes no token of a broken one.
func (s *session) outcome(tokens <-chan paho.Token) error {
	var token paho.Token
	select {
	case token = <-tokens:
	case <-s.stream.down:
		return ErrDown
	}
	select {
	case <-token.Done():
	case <-s.stream.down:
		return ErrDown
	}
	if err := token.Error(); err != nil {
		return errors.Join(ErrDown, err)
	}
	return nil
}

// disconnect ends the connection in order: the broker drops the will. It may
// be called before the CONNACK came. What was accepted leaves first: a farewell
// left behind would let the last word be "online", with no will to correct it.
// The library would close the socket at once; a broker that was just
// acknowledging something then fails to, and takes that for the loss that the
// will is about.
func (s *session) disconnect() {
	s.silence()
	late := time.Now().Add(goodbye)
	s.acks.flush(goodbye)
	s.settle(time.Until(late))
	s.stream.leave(goodbye)
	s.abandon(context.Canceled)
}

// settle lets nothing more in and waits until the outcome of all that was let
// in is known, within a limit.
func (s *session) settle(limit time.Duration) {
	done := make(chan struct{})
	go func() {
		s.gate.Lock() // held up by whoever waits for room; abandon frees them
		s.over = true
		s.gate.Unlock()
		s.open.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-s.stream.down:
	case <-time.After(limit):
	}
}

// abandon ends the connection, tells every waiting delivery, and returns when
// the owner will hear no more of it.
func (s *session) abandon(cause error) {
	s.stream.fail(cause)
	s.silence()
	s.gate.Lock()
	s.over = true
	s.gate.Unlock()
	for {
		select {
		case d := <-s.out:
			s.report(d, ErrDown)
		default:
			return
		}
	}
}

// silence returns when Receive is not running and will not be called again.
func (s *session) silence() {
	s.calling.Lock()
	s.mute = true
	s.calling.Unlock()
}
