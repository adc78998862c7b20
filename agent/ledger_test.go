package agent_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
)

// pictures is how many different ones the client has.
const pictures = 8

// client publishes jobs and commands to one device, and keeps a ledger: what the
// broker took of it, and each answer that differs from those before.
type client struct {
	tb   testing.TB
	self wire.Address
	link *mqtt.Link
	up   chan struct{}

	lasting bool // the broker keeps what comes while its connection is broken

	mu        sync.Mutex
	entries   map[string]*entry // guarded by mu, as all that follows: by the topic of the answer
	published map[string]*entry // the same, by the topic it was published to
	topics    []string          // of the entries, in the order of publishing
	shown     [pictures]string  // the classes that a picture was given first
	numbers   map[uint64]string // the topic of each number's answer
	refused   map[string]int
	gaps      map[string]uint64 // records that were told to be lost, by the event
	silent    uint64            // commands that got no answer, as events tell
	phantom   []string          // answers that nothing was asked for
	copies    int               // answers that came again, byte for byte
	newest    map[bool]uint64   // number of the last result that came, made without the link or with it
	behind    []string          // results that came after one with a higher number
	open      int               // entries that were accepted and have no answer
	last      wire.Telemetry
	state     wire.State
	more      chan struct{} // closed when there is more of any of it
}

// entry is one id.
type entry struct {
	topic    string // it was published to
	payload  []byte
	qos      byte
	picture  int       // in the job; -1 in a command
	accepted bool      // the broker took it
	at       time.Time // when it did so last
	seen     bool      // a lasting client was told of it, as the device is to be
	came     int       // answers, copies too
	answers  []given
}

// given is an answer that differs from those before.
type given struct {
	payload string
	at      time.Time // when it came
}

func openLedger(tb testing.TB, broker string, self wire.Address) *client {
	tb.Helper()
	return openLedgerAs(tb, passing(broker), self)
}

// passing is a connection that the broker forgets when it breaks, which it must not.
func passing(broker string) mqtt.Config {
	cfg := mqtt.Default()
	cfg.Broker, cfg.CleanSession = broker, true
	return cfg
}

// openLedgerAs connects a client; if the broker is to keep what comes while it is away,
// the connection may break.
func openLedgerAs(tb testing.TB, cfg mqtt.Config, self wire.Address) *client {
	tb.Helper()
	c := &client{tb: tb, self: self, lasting: !cfg.CleanSession, up: make(chan struct{}, 1),
		entries: map[string]*entry{}, published: map[string]*entry{}, numbers: map[uint64]string{},
		newest: map[bool]uint64{}, refused: map[string]int{}, gaps: map[string]uint64{}, more: make(chan struct{})}
	cfg.ClientID = "ledger-" + fleet.NewID()
	for _, filter := range []string{self.Result("+"), self.Ack("+", "+"), self.Event("+"), self.Telemetry(),
		self.State()} {
		cfg.Subscriptions = append(cfg.Subscriptions, mqtt.Subscription{Filter: filter, QoS: 1})
	}
	if c.lasting {
		cfg.Subscriptions = append(cfg.Subscriptions, mqtt.Subscription{Filter: self.Job("+"), QoS: 1},
			mqtt.Subscription{Filter: self.Cmd("+", "+"), QoS: 1})
	}
	var err error
	if c.link, err = mqtt.New(cfg, c, discard()); err != nil {
		tb.Fatal(err)
	}
	run(tb, c.link.Run)
	<-c.up
	return c
}

func (c *client) Connected(uint64, bool) {
	select {
	case c.up <- struct{}{}:
	default: // nobody waits for the one before
	}
}

func (c *client) Denied(filters []string) { c.tb.Errorf("may not read %q", filters) }
func (c *client) Lost(err error) {
	if c.tb.Context().Err() == nil && !c.lasting {
		c.tb.Errorf("the client's own connection broke: %v", err)
	}
}

// Receive implements mqtt.Handler.
func (c *client) Receive(m mqtt.Message, ack func()) {
	ack()
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.published[m.Topic] != nil:
		c.published[m.Topic].seen = true
	case strings.HasPrefix(m.Topic, c.self.Result("")):
		c.result(m)
	case strings.HasPrefix(m.Topic, c.self.Event("")):
		var e wire.Event
		switch c.read(m, &e); e.Kind {
		case wire.EventGap:
			c.gaps[string(m.Payload)] = e.Count // told once more: the same event
		case wire.EventBusy:
			c.silent += max(1, e.Count)
		}
	case m.Topic == c.self.Telemetry():
		c.last = wire.Telemetry{}
		c.read(m, &c.last)
	case m.Topic == c.self.State():
		c.state = wire.State{}
		c.read(m, &c.state)
	default:
		var a wire.Ack
		if c.read(m, &a); a.State.Final() {
			c.answer(m)
		}
	}
	close(c.more)
	c.more = make(chan struct{})
}

// read decodes a document of package wire.
func (c *client) read(m mqtt.Message, document any) {
	if err := wire.Decode(m.Payload, document); err != nil {
		c.tb.Errorf("%s: %v in %s", m.Topic, err, m.Payload)
	}
}

// result is of a job; c.mu is held.
func (c *client) result(m mqtt.Message) {
	var r wire.Result
	c.read(m, &r)
	e, news := c.answer(m)
	if !news {
		return
	}
	if topic, ok := c.numbers[r.Seq]; ok && topic != m.Topic {
		c.phantom = append(c.phantom, fmt.Sprintf("%s has number %d of %s", m.Topic, r.Seq, topic))
	}
	c.numbers[r.Seq] = m.Topic
	if newest := c.newest[r.Late]; r.Seq >= newest {
		c.newest[r.Late] = r.Seq
	} else {
		c.behind = append(c.behind, fmt.Sprintf("%s with number %d after %d, late %v", m.Topic, r.Seq, newest, r.Late))
	}
	if r.Status != wire.OK {
		c.refused[string(r.Reason)+": "+r.Detail]++
		return
	}
	classes := ""
	for _, one := range r.Classes {
		classes += fmt.Sprint(one.Index, " ")
	}
	switch shown := &c.shown[e.picture]; {
	case *shown == "":
		*shown = classes
	case *shown != classes:
		c.phantom = append(c.phantom, fmt.Sprintf("%s has another picture's classes %s, want %s", m.Topic, classes, *shown))
	}
}

// answer enters one, and tells whether it differs from those before; c.mu is held.
func (c *client) answer(m mqtt.Message) (e *entry, news bool) {
	e = c.entries[m.Topic]
	if e == nil {
		c.phantom = append(c.phantom, m.Topic)
		return nil, false
	}
	e.came++
	if slices.ContainsFunc(e.answers, func(g given) bool { return g.payload == string(m.Payload) }) {
		c.copies++
		return e, false
	}
	if len(e.answers) == 0 && e.accepted {
		c.open--
	}
	e.answers = append(e.answers, given{string(m.Payload), time.Now()})
	return e, true
}

// job publishes one under a new id.
func (c *client) job(ctx context.Context, id string, picture int) *entry {
	e := &entry{topic: c.self.Job(id), payload: grey(picture), qos: 1, picture: picture}
	c.publish(ctx, c.self.Result(id), e)
	return e
}

// grey is a job with a picture of one pixel.
func grey(picture int) []byte {
	level := byte(picture * (255 / (pictures - 1)))
	return rawJob(`{"deadline_ms":600000,"codec":"rgb","width":1,"height":1}`, []byte{level, level, level})
}

// command publishes one under a new id.
func (c *client) command(ctx context.Context, id, mode string) {
	c.publish(ctx, c.self.Ack(wire.VerbMode, id), &entry{topic: c.self.Cmd(wire.VerbMode, id),
		payload: fmt.Appendf(nil, `{"mode":%q,"ttl_ms":3600000}`, mode), qos: 1, picture: -1})
}

// publish enters an entry and publishes it.
func (c *client) publish(ctx context.Context, answer string, e *entry) {
	c.enter(answer, e)
	c.again(ctx, e)
}

func (c *client) enter(answer string, e *entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.entries[answer], c.published[e.topic] = e, e
	c.topics = append(c.topics, answer)
}

// again publishes what an entry has, and enters that the broker took it. When the
// connection breaks nobody knows whether it did, and it is published again.
func (c *client) again(ctx context.Context, e *entry) {
	for {
		err := c.link.Publish(ctx, mqtt.Message{Topic: e.topic, Payload: e.payload, QoS: e.qos})
		switch {
		case err == nil:
			c.accept(e)
			return
		case ctx.Err() != nil:
			return
		case !c.lasting || !errors.Is(err, mqtt.ErrDown):
			c.tb.Errorf("publish to %s: %v", e.topic, err)
			return
		}
		idle(ctx, 20*time.Millisecond)
	}
}

// accept enters that an entry is to be answered from now on.
func (c *client) accept(e *entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !e.accepted && len(e.answers) == 0 {
		c.open++
	}
	e.accepted, e.at = true, time.Now()
}

// traffic publishes so many messages a second, in bursts, until ctx ends: jobs, some
// commands, and some of the last hundred ids once more.
func (c *client) traffic(ctx context.Context, r *rand.Rand, rate int) {
	for n := 0; ctx.Err() == nil; {
		burst := 1 + r.IntN(10)
		for range burst {
			switch dice := r.IntN(20); {
			case dice == 0 && n > 0:
				c.mu.Lock()
				e := c.entries[c.topics[len(c.topics)-1-r.IntN(min(100, len(c.topics)))]]
				c.mu.Unlock()
				c.again(ctx, e)
			case dice == 1:
				c.command(ctx, fmt.Sprintf("c-%06d", n), []string{"balanced", "low-latency", "max-accuracy"}[r.IntN(3)])
			default:
				c.job(ctx, fmt.Sprintf("j-%06d", n), r.IntN(pictures))
			}
			n++
		}
		idle(ctx, time.Duration(r.Int64N(int64(2*time.Second)*int64(burst)/int64(rate))))
	}
}

// idle waits, or until ctx ends.
func idle(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// until waits for done, which is asked with the ledger's lock held, again after each
// message; false if it took too long.
func (c *client) until(most time.Duration, done func() bool) bool {
	late := time.After(most)
	for {
		c.mu.Lock()
		ok, more := done(), c.more
		c.mu.Unlock()
		if ok {
			return true
		}
		select {
		case <-more:
		case <-late:
			return false
		}
	}
}

// reached tells whether the broker passed on what it took: a lasting client has
// subscribed to what the device has. c.mu is held.
func (c *client) reached(e *entry) bool { return !c.lasting || e.seen }

// unanswered is how many were accepted and have no answer.
func (c *client) unanswered() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open
}

// lost is how many records the device told to have lost; c.mu is held.
func (c *client) lost() (n uint64) {
	for _, count := range c.gaps {
		n += count
	}
	return n
}
