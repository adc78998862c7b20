package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/store"
)

// order is a command or a desired state that waits for the control goroutine.
type order struct {
	topic    wire.Topic
	msg      mqtt.Message
	ack      func()
	received time.Time
}

const verbMode = "mode"

func verbs() []string { return []string{verbMode} }

func modes() []string { return []string{"max-accuracy", "balanced", "low-latency", "fixed:{member}"} }

// Receive sorts what arrives; it is called by the link's reader and hands
// everything on at once.
func (a *Agent) Receive(m mqtt.Message, ack func()) {
	t, err := wire.ParseTopic(m.Topic)
	switch {
	case errors.Is(err, wire.ErrBadID):
		a.news.tell(wire.SeverityWarning, wire.Event{Kind: wire.EventBadID, Detail: err.Error()})
		ack()
	case err != nil:
		a.log.Debug("message ignored", "topic", m.Topic, "err", err)
		ack()
	case t.Kind == wire.KindJob:
		a.receiveJob(t.ID, m, ack)
	case t.Kind == wire.KindCmd || t.Kind == wire.KindDesired:
		a.receiveOrder(order{t, m, ack, time.Now()})
	default:
		ack()
	}
}

// receiveOrder hands an order to the control goroutine. One that finds no room
// is refused: the reader must not wait.
func (a *Agent) receiveOrder(o order) {
	select {
	case a.orders <- o:
	default:
		if o.topic.Kind == wire.KindCmd {
			a.acknowledge(o, wire.CommandRejected, wire.Busy, "too many commands wait")
			return
		}
		o.ack()
	}
}

// control obeys orders, one after the other, until ctx ends.
func (a *Agent) control(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case o := <-a.orders:
			if o.topic.Kind == wire.KindCmd {
				a.command(ctx, o)
				continue
			}
			a.desire(ctx, o)
			o.ack()
		}
	}
}

// command takes a command through its states. The ledger has each state before
// it is acted on, so a command that comes twice is answered, not run again. One
// that the end of an earlier run cut off is begun anew: all that commands do
// can be repeated. The broker gets its acknowledgement with the last state.
func (a *Agent) command(ctx context.Context, o order) {
	request := digestOf(o.msg)
	known, err := a.parts.Store.Command(o.topic.ID)
	switch {
	case err == nil && known.Request != request:
		a.acknowledge(o, wire.CommandRejected, wire.Conflict, "this id was used before, with other bytes")
		return
	case err == nil && wire.Step(known.State).Final():
		a.publishLast(o, known.Answer)
		return
	case err == nil && !known.Expires.After(time.Now()):
		a.advance(o, request, known.Expires, wire.CommandTimedOut, wire.Expired, "it expired while the device was off")
		return
	}
	a.acknowledge(o, wire.CommandReceived, "", "")
	c, expires, reason, err := a.judge(o)
	if err != nil {
		a.advance(o, request, expires, wire.CommandRejected, reason, err.Error())
		return
	}
	for _, step := range []wire.Step{wire.CommandAccepted, wire.CommandExecuting} {
		if err := a.advance(o, request, expires, step, "", ""); err != nil {
			a.acknowledge(o, wire.CommandFailed, wire.Internal, err.Error())
			return
		}
	}
	err = a.setMode(ctx, c.Mode)
	switch {
	case ctx.Err() != nil: // the agent stops; the broker will deliver the command to the next start
		return
	case err != nil:
		a.advance(o, request, expires, wire.CommandFailed, wire.Internal, err.Error())
		return
	}
	a.advance(o, request, expires, wire.CommandSucceeded, "", "")
	a.reportMode(ctx, 0)
}

// judge reads a command and says why it cannot be accepted.
func (a *Agent) judge(o order) (c wire.Command, expires time.Time, reason wire.Reason, err error) {
	expires = o.received.Add(time.Hour)
	if o.msg.Retained {
		return c, expires, wire.Invalid, errors.New("commands are never retained: publish it without the retain flag")
	}
	if o.msg.Oversize > 0 {
		return c, expires, wire.Invalid, fmt.Errorf("the command has %d bytes", o.msg.Oversize)
	}
	if err := wire.Decode(o.msg.Payload, &c); err != nil {
		return c, expires, wire.Invalid, err
	}
	until, err := c.Expiry(o.received)
	if err != nil {
		return c, expires, wire.Invalid, err
	}
	expires = until
	if !expires.After(time.Now()) {
		return c, expires, wire.Expired, fmt.Errorf("it expired at %s", expires.UTC().Format(time.RFC3339))
	}
	if o.topic.Verb != verbMode {
		return c, expires, wire.Unsupported, fmt.Errorf("verb %s: this device knows %s", o.topic.Verb, strings.Join(verbs(), ", "))
	}
	if reason, err := a.judgeMode(c.Mode); err != nil {
		return c, expires, reason, err
	}
	return c, expires, "", nil
}

// judgeMode says why a mode cannot be set on this device.
func (a *Agent) judgeMode(name string) (wire.Reason, error) {
	mode, err := governor.ParseMode(name)
	if err != nil {
		return wire.Invalid, err
	}
	if err := a.unfit(); err != nil {
		return wire.Unsupported, err
	}
	member, fixed := strings.CutPrefix(mode.String(), "fixed:")
	if !fixed {
		return "", nil
	}
	var names []string
	c := a.crew.Load()
	for at := range c.front {
		if c.member(at).Name == member {
			return "", nil
		}
		names = append(names, c.member(at).Name)
	}
	return wire.Invalid, fmt.Errorf("mode %s: no such member in use; there are %s", name, joined(names))
}

// advance records a state, then publishes it. What cannot be recorded must not
// be acted on, so a state that is not the last one is not published then.
func (a *Agent) advance(o order, request store.Digest, expires time.Time, step wire.Step, reason wire.Reason, detail string) error {
	ack := a.ack(o, step, reason, detail)
	b := a.message("", false, ack).Payload
	err := a.parts.Store.SetCommand(store.Command{ID: o.topic.ID, Request: request, State: string(step), Answer: b, Expires: expires})
	if err != nil {
		a.log.Error("ledger not written", "cmd", o.topic.ID, "err", err)
	}
	if err == nil || step.Final() {
		a.publishAck(o, ack)
	}
	return err
}

// acknowledge publishes a state that the ledger need not know.
func (a *Agent) acknowledge(o order, step wire.Step, reason wire.Reason, detail string) {
	a.publishAck(o, a.ack(o, step, reason, detail))
}

func (a *Agent) publishAck(o order, ack wire.Ack) {
	m := a.message(a.self.Ack(o.topic.Verb, o.topic.ID), false, ack)
	if ack.State.Final() {
		a.publishLast(o, m.Payload)
		return
	}
	a.post(m.Topic, ack)
}

// publishLast publishes the last state of a command. The broker's message is
// acknowledged when it is safe, as that of a job is.
func (a *Agent) publishLast(o order, payload []byte) {
	t := &ticket{id: o.topic.ID, acks: []func(){o.ack}}
	a.appendFor(t, func(uint64) (store.Record, error) {
		return store.Record{Topic: a.self.Ack(o.topic.Verb, o.topic.ID), Payload: payload}, nil
	})
}

func (a *Agent) ack(o order, step wire.Step, reason wire.Reason, detail string) wire.Ack {
	return wire.Ack{ID: o.topic.ID, Verb: o.topic.Verb, State: step, Reason: reason, Detail: detail, TS: wire.At(time.Now())}
}

// desire applies a desired state whose version is greater than the last one
// from the same place (the device itself, or one of its groups).
func (a *Agent) desire(ctx context.Context, o order) {
	if len(o.msg.Payload) == 0 && o.msg.Oversize == 0 {
		return // the operator took the retained message away
	}
	seen := a.savedDesired()
	d, err := readDesired(o.msg)
	if err != nil {
		version := d.Version
		if version == 0 { // unreadable: what was applied last stays in force
			version = seen.newest()
		}
		a.reportDesired(ctx, version, wire.Invalid, err)
		return
	}
	if d.Version <= seen[o.topic.Device] {
		return
	}
	if d.Goal != nil {
		a.reportDesired(ctx, d.Version, wire.Unsupported, errors.New("this version of the agent knows modes, not goals"))
		return
	}
	if reason, err := a.judgeMode(d.Mode); err != nil {
		a.reportDesired(ctx, d.Version, reason, err)
		return
	}
	seen[o.topic.Device] = d.Version
	if err := a.saveDesired(seen); err != nil {
		a.reportDesired(ctx, d.Version, wire.Internal, err)
		return
	}
	if err := a.setMode(ctx, d.Mode); err != nil {
		a.reportDesired(ctx, d.Version, wire.Internal, err)
		return
	}
	a.reportMode(ctx, d.Version)
}

func readDesired(m mqtt.Message) (d wire.Desired, err error) {
	if m.Oversize > 0 {
		return d, fmt.Errorf("the desired state has %d bytes", m.Oversize)
	}
	if err := wire.Decode(m.Payload, &d); err != nil {
		return d, err
	}
	return d, d.Check()
}

// setMode saves a mode for the next start, then applies it.
func (a *Agent) setMode(ctx context.Context, name string) error {
	mode, err := governor.ParseMode(name)
	if err != nil {
		return err
	}
	if err := a.parts.Store.SetCell(cellMode, []byte(name)); err != nil {
		return err
	}
	a.log.Info("mode set", "mode", name)
	a.relief.RLock()
	defer a.relief.RUnlock()
	return a.crew.Load().pipe.SetMode(ctx, mode)
}

// reportMode publishes what is in force; version 0 stands for the last one
// applied.
func (a *Agent) reportMode(ctx context.Context, version uint64) {
	if version == 0 {
		version = a.savedDesired().newest()
	}
	a.publishReported(ctx, wire.Reported{Version: version, Status: wire.Applied})
}

func (a *Agent) reportDesired(ctx context.Context, version uint64, reason wire.Reason, err error) {
	a.publishReported(ctx, wire.Reported{Version: version, Status: wire.Rejected, Reason: reason, Detail: err.Error()})
}

// publishReported tells what became of an order. It is a state: without a link
// it is told on the next connection, and only the newest.
func (a *Agent) publishReported(ctx context.Context, r wire.Reported) { a.sayReported(ctx, &r) }

// sayReported publishes a report, nil standing for the last one; at first that
// is what the last run applied.
func (a *Agent) sayReported(ctx context.Context, r *wire.Reported) <-chan error {
	a.standing.Lock()
	defer a.standing.Unlock()
	if r != nil {
		a.reported = r
	}
	if a.reported == nil {
		a.reported = &wire.Reported{Version: a.savedDesired().newest(), Status: wire.Applied}
	}
	return a.link.Send(ctx, a.message(a.self.Reported(), true, a.inForce(*a.reported)))
}

// inForce adds mode and operating member to a report.
func (a *Agent) inForce(r wire.Reported) wire.Reported {
	if c := a.crew.Load(); c != nil {
		op, mode := c.pipe.Governed()
		r.Mode, r.Member = mode.String(), c.member(op).Name
	}
	return r
}

// The cells of the store that control uses.
const (
	cellMode    = "mode"
	cellDesired = "desired"
)

// savedMode is the mode an operator set last.
func (a *Agent) savedMode() (mode governor.Mode, ok bool) {
	b, err := a.parts.Store.Cell(cellMode)
	if err == nil {
		mode, err = governor.ParseMode(string(b))
	}
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		a.log.Error("saved mode not readable, that of the configuration is used", "err", err)
	}
	return mode, err == nil
}

// versions is the last desired version applied, by where it came from: the
// device's own name, or a group.
type versions map[string]uint64

func (v versions) newest() uint64 {
	var n uint64
	for _, version := range v {
		n = max(n, version)
	}
	return n
}

func (a *Agent) savedDesired() versions {
	v := versions{}
	b, err := a.parts.Store.Cell(cellDesired)
	if err == nil {
		err = json.Unmarshal(b, &v)
	}
	if err == nil {
		return v
	}
	if !errors.Is(err, store.ErrNotFound) {
		a.log.Error("desired versions not readable, the broker's retained ones are applied anew", "err", err)
	}
	return versions{}
}

func (a *Agent) saveDesired(v versions) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return a.parts.Store.SetCell(cellDesired, b)
}
