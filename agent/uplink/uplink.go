// Package uplink delivers: what the broker has for a device to those who handle
// it, and what the device says to the broker.
//
//	broker ─▶ reader ─ known? ─▶ Handler ─▶ Request.Answer ─▶ outbox ─▶ lines ─▶ sender ─▶ broker
//	             │                                              │         ▲
//	             └ answered before ─▶ replay ───────────────────┼─────────┘
//	                                  on the disk: acknowledgement
//
//	Event ─▶ pacer ─▶ outbox        Changed ─▶ publisher ─▶ state, caps, reported
//	Fetch ─▶ lines, the last one    Telemetry ─▶ the link, if it has room
//
// A job or a command is let in once. While it is open, a copy of it waits for the
// same answer; once it is answered, a copy gets that answer again, byte for byte,
// for an hour; other bytes under the same name are a conflict. The answer goes into
// the outbox before it goes anywhere else; the broker gets the acknowledgement for the
// request when the answer is on the disk or, where nothing is written now, when the
// broker has it. The rule that makes it correct: between receipt and acknowledgement a
// request is open or its answer in the outbox, never in neither, and after that the
// answer is found whatever is killed, so none is carried out twice and none is
// forgotten.
//
// What waits has lines: orders, events, live results and late ones, which were made
// without the link. Each is in the order of its numbers, and each has a share of the
// link while others wait. Late results are paced, so that an hour of them does not hold
// up what is about now, here or at the broker. A copy whose answer still waits adds no
// record, and neither does one that is answered again.
//
// A frame that a camera publishes without an id is given one when it is received,
// of its source, this run and a number, and is a job like any other from then on.
// What the broker delivers again keeps its id where it is known by source and bytes.
//
// After a run that did not end in order, what the broker delivers again may be what
// ended it: it is served alone, and refused for good if it ends a second run. What is
// new is served in between. See suspects.
//
// The reader of the link waits for nobody: it takes no lock that is held across a
// wait, and what has to be read from the disk is left to the replay.
//
// Retained documents are functions of the state of the moment. Others only say that
// one changed; the publisher works it out and publishes it, alone, so that the
// newest stays. It ends before the farewell is published, so nothing of it follows.
package uplink

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/store"
)

// Config describes an Uplink.
type Config struct {
	Self            wire.Address
	Boot            string      // names this run of the device; at least 8 hexadecimal digits
	Machine         string      // names this start of the machine; empty: not known
	Link            mqtt.Config // complete but for Will
	Sources         []Source    // of frames, on topics of their own
	KeepNewest      bool        // a newer frame may take the place of one that waits, where it came at QoS 0
	ReplayPerSecond int         // results made without the link; 0: as the link takes them
	ReplayBytes     int64       // of these a second; 0: likewise
	Retained        bool        // frames that the broker kept, which are old, are taken as well
	// how long after a connection the documents are published once more; 0: never. A
	// cluster of brokers that lost a node, for which the device came to another one, may
	// have acknowledged them and kept those of before (NATS 2.15)
	Again time.Duration
	// Resumed are messages that an earlier run was not done with: they are taken as if the
	// broker had delivered them again.
	Resumed []mqtt.Message
	// Acquit says that something else may be why the earlier run ended: what it was serving
	// is not blamed for that.
	Acquit bool
}

// Source is a camera that publishes where it likes.
type Source struct {
	Name        string
	Filter      string // matches its topics
	ResultTopic string // empty: result/{id}
}

// Handler takes what came in. It is called by the reader of the link and by the
// replay, two goroutines, and must not block. Each request is to be ended once:
// by Answer, Drop or Release. A job is decoded by way of Serve.
type Handler interface {
	Job(*Request)     // also a frame, whose Kind is wire.KindFrame
	Command(*Request) // one that was not answered within the last hour
	Desired(*Request) // each that comes: whether its version counts is not known here
	// Blob takes a part of a blob, which is no request: whoever asked for it asks again where
	// it does not come.
	Blob(t wire.Topic, payload []byte)
}

// Documents are what a device says of itself, as functions of the state of the
// moment. They are called by the publisher and, Detail, by the link.
type Documents interface {
	// Detail is what keeps the device from working, with the remedy, as state says it.
	// That of Lost is asked for when a connection begins, and told when it breaks.
	Detail(wire.Presence) string
	Caps() wire.Caps
	Reported() wire.Reported
	Version() uint64 // of the desired state last applied; 0 if none
}

// Status is where an Uplink stands.
type Status struct {
	Online   bool
	ConnSeq  uint64 // of the last connection
	Attempts uint64 // to connect, without success
	Records  int    // that wait in the outbox
	Bytes    int64  // of them
	Seq      uint64 // of the last result of this run
	Taken    uint64 // records that the broker acknowledged
	Dropped  uint64 // telemetry that the link had no room for
	Retained uint64 // old frames that were left alone
	Unsynced uint64 // answers to sync that did not count
}

// Uplink is the device's side of its connection to a broker. Its methods may be
// called from any goroutine.
type Uplink struct {
	cfg    Config
	log    *slog.Logger
	outbox *store.Outbox
	link   *mqtt.Link

	handler   Handler   // Serve's, as is documents
	documents Documents // of the device

	inbox    *inbox
	frames   *frames
	replays  *backlog // requests that seem to have been answered, until the answer was read
	sent     *sent
	fetches  chan publication // what goes when nothing else waits
	suspects *suspects
	clock    *clock
	events   *pacer
	conn     *connState
	changed  *changes

	closed atomic.Bool // nothing new is taken in
}

// New assembles an Uplink and checks the configuration of its link. It starts
// nothing, and does not close the outbox.
func New(cfg Config, state *store.Store, outbox *store.Outbox, log *slog.Logger) (*Uplink, error) {
	if len(cfg.Boot) < bootDigits {
		return nil, fmt.Errorf("boot %q: want at least %d digits", cfg.Boot, bootDigits)
	}
	u := &Uplink{
		cfg: cfg, log: log, outbox: outbox,
		inbox:    &inbox{open: make(map[string]*Request), answered: make(map[uint64]*answer)},
		frames:   newFrames(cfg.Sources),
		replays:  newBacklog(),
		sent:     &sent{again: make(chan publication), seqs: make(map[uint64]struct{})},
		fetches:  make(chan publication, fetchesMost),
		suspects: newSuspects(cfg, state, log),
		clock:    &clock{boot: cfg.Boot, built: BuiltAt()},
		conn:     newConnState(),
		changed:  newChanges(),
	}
	u.events = newPacer(u.EventAtOnce)
	cfg.Link.Will, cfg.Link.Own, cfg.Link.Slow = u.will, u.own, u.slow
	var err error
	if u.link, err = mqtt.New(cfg.Link, fromLink{u}, log); err != nil {
		return nil, fmt.Errorf("broker: %w", err)
	}
	return u, nil
}

// Serve names who takes what is received and who renders the documents. It is called
// once, before Run and before the first Receive.
func (u *Uplink) Serve(h Handler, d Documents) {
	u.handler, u.documents = h, d
	u.suspects.begin()
}

// Run connects and delivers until ctx ends. Being asked to stop is no error.
func (u *Uplink) Run(ctx context.Context) error {
	for _, m := range u.cfg.Resumed {
		u.Receive(m, func() {})
	}
	g, gctx := errgroup.WithContext(ctx)
	parts := []func(context.Context) error{u.link.Run, u.publish, u.deliver, u.replay, u.guard, u.events.run, u.tellGaps}
	for _, part := range parts {
		g.Go(func() error { return part(gctx) })
	}
	if err := g.Wait(); ctx.Err() == nil {
		return err
	}
	return nil
}

// Status is where the uplink stands now.
func (u *Uplink) Status() Status {
	s := Status{
		Online: u.conn.online.Load(), ConnSeq: u.conn.seq.Load(), Attempts: u.conn.failed.Load(),
		Seq: u.inbox.last.Load(), Taken: u.conn.taken.Load(), Dropped: u.conn.dropped.Load(), Retained: u.frames.retained.Load(),
	}
	s.Records, s.Bytes = u.outbox.Depth()
	s.Unsynced = u.clock.count()
	return s
}

// Traffic is how a connection fares.
type Traffic struct {
	InFlight  int           // messages on their way, not acknowledged
	RoundTrip time.Duration // that the broker took to acknowledge lately; 0 if it is not known
}

// Traffic is how the connection fares now.
func (u *Uplink) Traffic() Traffic {
	recent, _ := u.link.Acknowledged()
	return Traffic{u.link.InFlight(), cmp.Or(recent, u.link.RoundTrip())}
}

// StopIntake leaves requests of QoS 1 that are not known to the broker, which
// brings them to the next start: they are neither handed on nor acknowledged.
func (u *Uplink) StopIntake() { u.closed.Store(true) }

// Flush tells of the events that were held back and returns when the outbox is empty
// and what was answered acknowledged, the link down, or ctx at its end.
func (u *Uplink) Flush(ctx context.Context) {
	u.events.flush(0)
	for {
		if n, _ := u.outbox.Depth(); n == 0 && u.inbox.settled() && u.sent.idle() || !u.conn.online.Load() {
			return
		}
		select {
		case <-u.conn.moved:
		case <-ctx.Done():
			return
		}
	}
}

// Telemetry publishes the condition of the device, if the link is up and has room:
// it is about now, nobody wants it later.
func (u *Uplink) Telemetry(t wire.Telemetry) {
	if !u.conn.online.Load() {
		return
	}
	m := message(u.cfg.Self.Telemetry(), t)
	m.QoS = 0
	if !u.link.Offer(m) {
		u.conn.dropped.Add(1)
	}
}

// fetchesMost is how many asks for blobs may wait.
const fetchesMost = 8

// Fetch asks for a part of a blob by its digest, of 64 digits, when nothing else is to be
// sent. It does not wait, and says why nothing was asked: mqtt.ErrDown, or that too much
// waits.
func (u *Uplink) Fetch(digest string, f wire.Fetch) error {
	if !u.conn.online.Load() {
		return fmt.Errorf("ask for a blob: %w", mqtt.ErrDown)
	}
	m := message(u.cfg.Self.Fetch(digest), f)
	select {
	case u.fetches <- publication{Record: store.Record{Topic: m.Topic, Payload: m.Payload}, fetch: true}:
		return nil
	default:
		return errors.New("ask for a blob: other messages do not leave the link room for it")
	}
}

// forgetFetches drops the asks that did not leave: whoever asked does so again.
func (u *Uplink) forgetFetches() {
	for {
		select {
		case <-u.fetches:
		default:
			return
		}
	}
}

// message encodes a document of package wire, for QoS 1.
func message(topic string, document any) mqtt.Message {
	b, err := json.Marshal(document)
	if err != nil {
		panic("uplink: a document of package wire cannot be encoded: " + err.Error())
	}
	return mqtt.Message{Topic: topic, Payload: b, QoS: 1}
}

// retained is a message that the broker keeps for those who come later.
func retained(topic string, document any) mqtt.Message {
	m := message(topic, document)
	m.Retained = true
	return m
}

// post appends a message to the outbox that nobody waits for. durable, unless nil, is
// called when it is on the disk. It returns the number of the message, if it has one.
func (u *Uplink) post(s store.Stream, m mqtt.Message, durable func()) (seq uint64, ok bool) {
	seq, err := u.outbox.Append(func(uint64) (store.Record, error) {
		return store.Record{Topic: m.Topic, Payload: m.Payload, Stream: s}, nil
	}, durable)
	if err != nil {
		u.log.Error("message lost", "topic", m.Topic, "err", err)
	}
	return seq, err == nil
}
