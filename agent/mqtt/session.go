package mqtt

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"
)

const (
	// goodbye bounds the end of a connection in order: the wait for what must leave
	// before DISCONNECT, and then that for the broker to hang up.
	goodbye = 1200 * time.Millisecond
	// hangUp is the part of it that the second wait has at least.
	hangUp = 200 * time.Millisecond
)

// session is one connection, from its CONNACK to its end.
type session struct {
	link     *Link
	at       target
	client   paho.Client
	stream   *stream
	present  bool // the broker remembered this client
	out      *outgoing
	acks     *acks
	slow     slowness
	standing string      // topic of this client's state; empty: there is none to look for
	stranger atomic.Bool // the broker kept the state of another client there

	calling sync.Mutex // held during Receive
	mute    bool       // guarded by calling: Receive is not called any more
}

// open dials, sends CONNECT and waits for its answer.
func (l *Link) open(ctx context.Context, at target, seq uint64) (*session, error) {
	stream, err := l.dial(ctx, at)
	if err != nil {
		return nil, err
	}
	s := &session{link: l, at: at, stream: stream, out: newOutgoing(), acks: newAcks()}
	stream.acked = s.acks.left
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
	go stream.keepAlive(l.cfg.KeepAlive)
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
	user, password := cfg.credentials(s.at)
	o := paho.NewClientOptions().
		AddBroker("tcp://" + s.at.addr). // only its presence matters, the connection is ours
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
		if cfg.Own != nil {
			s.standing = w.Topic
		}
	}
	return o
}

// begin asks for what the broker is to send, on suspicion after a look for another
// client with this id, and returns the filters that the broker refused.
func (s *session) begin(ctx context.Context, suspicious bool) (denied []Subscription, err error) {
	if suspicious {
		if err := s.look(ctx); err != nil {
			return nil, err
		}
	}
	asked := time.Now()
	denied, err = s.subscribe(ctx, s.link.cfg.Subscriptions)
	s.link.roundTrip.Store(int64(time.Since(asked)))
	return denied, err
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

// ask sends SUBSCRIBE and returns the SUBACK's code for each filter.
func (s *session) ask(ctx context.Context, filters map[string]byte) (map[string]byte, error) {
	s.stream.limiter.asked.Store(int32(len(filters)))
	token, err := s.answer(ctx, func() paho.Token {
		if former := s.link.cfg.Former; s.present && len(former) > 0 {
			s.client.Unsubscribe(former...) // done before what follows is answered
		}
		return s.client.SubscribeMultiple(filters, nil)
	})
	if err != nil {
		return nil, fmt.Errorf("subscribe: %w", err)
	}
	return token.(*paho.SubscribeToken).Result(), nil
}

// look asks the broker for the state that it keeps of this client; receive judges
// it. The answer to the UNSUBSCRIBE follows what was kept, and leaves nothing of
// this with the session.
func (s *session) look(ctx context.Context) error {
	if s.standing == "" {
		return nil
	}
	if _, err := s.ask(ctx, map[string]byte{s.standing: 0}); err != nil { // refused: nothing is found
		return err
	}
	if _, err := s.answer(ctx, func() paho.Token { return s.client.Unsubscribe(s.standing) }); err != nil {
		return fmt.Errorf("unsubscribe: %w", err)
	}
	return nil
}

// answer waits for the broker's answer to a request, as long as anything but
// PINGRESP arrives: it may stand behind a long packet on a slow link. The library
// may hold a call for half a minute after its connection ended, so the call is left
// to a goroutine that ends by itself.
func (s *session) answer(ctx context.Context, request func() paho.Token) (paho.Token, error) {
	tokens := make(chan paho.Token, 1)
	go func() { tokens <- request() }()
	return s.await(ctx, tokens)
}

// await is answer, to a request that is made elsewhere.
func (s *session) await(ctx context.Context, tokens <-chan paho.Token) (paho.Token, error) {
	patience := s.link.cfg.ConnectTimeout
	late := time.NewTimer(patience)
	defer late.Stop()
	var answered <-chan struct{}
	var token paho.Token
	for {
		select {
		case token = <-tokens:
			answered = token.Done()
		case <-answered:
			return token, token.Error()
		case <-s.stream.down:
			return nil, s.stream.cause
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-late.C:
			left := patience - s.stream.still()
			if left <= 0 {
				return nil, fmt.Errorf("no answer within %v", patience)
			}
			late.Reset(left)
		}
	}
}

// nowhere is a topic that nobody subscribes to. What is taken back and was never asked
// for the broker answers all the same, and no access list is about it.
const nowhere = "limber/nowhere"

// probe waits for the broker's answer to a request that changes nothing, made behind
// the acknowledgements of all that was received.
func (s *session) probe(ctx context.Context) error {
	tokens := make(chan paho.Token, 1)
	s.acks.add(func() {
		tokens <- s.client.Unsubscribe(nowhere)
		s.acks.left()
	})
	_, err := s.await(ctx, tokens)
	select {
	case <-s.stream.down:
		return ErrDown
	default:
		return err
	}
}

// receive hands an inbound message to the owner.
func (s *session) receive(_ paho.Client, m paho.Message) {
	msg := Message{Topic: m.Topic(), Payload: m.Payload(), QoS: m.Qos(), Retained: m.Retained(), Duplicate: m.Duplicate()}
	if n := s.stream.limiter.oversize(msg.Payload); n > 0 {
		msg.Payload, msg.Oversize = nil, n
		s.link.oversize.Add(1)
	}
	if s.standing != "" && msg.Topic == s.standing {
		if !s.link.cfg.Own(msg.Payload) {
			s.stranger.Store(true)
		}
		if msg.QoS > 0 {
			s.acks.add(m.Ack)
		}
		return
	}
	s.calling.Lock()
	defer s.calling.Unlock()
	if !s.mute {
		ack := func() { s.acks.add(m.Ack) }
		if msg.QoS == 0 {
			ack = func() {}
		}
		s.link.handler.Receive(msg, ack)
	}
}

// start lets messages out. The sender ends with the stream, or up to half a
// minute later if the library holds it in a publish that can no longer leave;
// the next connection has its own.
func (s *session) start() {
	go func() {
		for {
			select {
			case <-s.out.wake:
				for d, ok := s.out.next(); ok; d, ok = s.out.next() {
					s.send(d)
				}
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
	few := d.QoS > 0 && s.out.count() <= fewInFlight
	watched := few && s.slow.suspects(s.networkRoundTrip)
	began, own := time.Now(), lag{}
	if watched {
		own = watchLag()
	}
	go func() {
		err := s.outcome(tokens)
		p := probe{took: time.Since(began), watched: watched}
		if watched {
			p.lag = own.stop()
		}
		if err == nil && d.QoS > 0 {
			s.acknowledged(p, few)
		}
		s.out.report(d, err)
	}()
	tokens <- s.client.Publish(d.Topic, d.QoS, d.Retained, d.Payload)
}

// acknowledged takes note of how long a PUBACK took; few is whether the message was
// among few.
func (s *session) acknowledged(p probe, few bool) {
	s.link.latency.add(p.took)
	if tell := s.link.cfg.Slow; tell != nil && few {
		if usual, trip, slow := s.slow.judge(p, s.networkRoundTrip); slow {
			tell(usual, trip)
		}
	}
}

func (s *session) networkRoundTrip() time.Duration { return networkRoundTrip(s.stream.raw) }

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
	late := time.Now().Add(goodbye)
	s.silence()
	s.acks.flush(time.Until(late)-hangUp, s.stream.down)
	s.settle(time.Until(late) - hangUp)
	s.stream.leave(time.Until(late))
	s.abandon(context.Canceled)
}

// settle lets nothing more in and waits until the outcome of all that was let
// in is known, within a limit.
func (s *session) settle(limit time.Duration) {
	s.out.end()
	select {
	case <-s.out.settled:
	case <-s.stream.down:
	case <-time.After(limit):
	}
}

// abandon ends the connection, tells every waiting delivery, and returns when
// the owner will hear no more of it.
func (s *session) abandon(cause error) {
	s.stream.fail(cause)
	s.silence()
	s.out.end()
	for d, ok := s.out.next(); ok; d, ok = s.out.next() {
		s.out.report(d, ErrDown)
	}
}

// silence returns when Receive is not running and will not be called again.
func (s *session) silence() {
	s.calling.Lock()
	s.mute = true
	s.calling.Unlock()
}
