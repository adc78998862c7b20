package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/store"
)

// ordersMost is how many commands for modes and goals may wait.
const ordersMost = 256

// deed is what a command does. Every deed is safe to repeat.
type deed func(ctx context.Context) error

func verbs() []string { return []string{wire.VerbMode, wire.VerbGoal, wire.VerbPower} }

// refused is the error of an order that is not obeyed.
type refused struct {
	reason  wire.Reason
	nearest *wire.Goal // to an infeasible one
	error
}

// Unwrap returns what the refusal says in words.
func (r refused) Unwrap() error { return r.error }

// told is what an answer says of an error. One that is no refusal is a fault of
// the agent.
func told(err error) (reason wire.Reason, nearest *wire.Goal, detail string) {
	if err == nil {
		return "", nil, ""
	}
	if r, ok := errors.AsType[refused](err); ok {
		return r.reason, r.nearest, r.Error()
	}
	return wire.Internal, nil, err.Error()
}

func refuse(reason wire.Reason, why string) error {
	return refused{reason: reason, error: errors.New(why)}
}

// Receive sorts what arrives; it is called by the link's reader and hands
// everything on at once.
func (a *Agent) Receive(m mqtt.Message, ack func()) {
	if from := a.origins.of(m.Topic); from != nil {
		a.receiveFrame(from, m, ack)
		return
	}
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
	case t.Kind == wire.KindFrame:
		a.receiveFrame(&origin{name: t.Source}, m, ack)
	case t.Kind == wire.KindCmd || t.Kind == wire.KindDesired:
		a.receiveOrder(order{topic: t, msg: m, received: time.Now(), acks: []func(){ack}})
	default:
		ack()
	}
}

// receiveOrder hands an order to the goroutine of its class. One that finds no
// room is refused: the reader must not wait.
func (a *Agent) receiveOrder(o order) {
	queue := a.orders
	if o.topic.Verb == wire.VerbPower {
		queue = a.power
	}
	if queue.put(o) {
		return
	}
	if known, err := a.parts.Store.Command(o.key()); err == nil && known.Request == o.request() && wire.Step(known.State).Final() {
		a.publishLast(o, known.Answer) // it was obeyed before, and the broker not told
	} else {
		a.acknowledge(o, wire.CommandRejected, refuse(wire.Busy, "too many commands wait"))
	}
}

// control obeys orders and the clock, one after the other, until ctx ends.
func (a *Agent) control(ctx context.Context) error {
	second := time.NewTicker(time.Second)
	defer second.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-second.C:
			a.review(ctx)
		case <-a.orders.some:
			if o, ok := a.orders.take(); ok {
				a.obey(ctx, o)
			}
		}
	}
}

func (a *Agent) obey(ctx context.Context, o order) {
	if o.topic.Kind == wire.KindCmd {
		a.command(ctx, o)
		return
	}
	a.desire(ctx, o)
	o.ack()
}

// command takes a command through its states. The ledger has each state before
// it is acted on, so a command that comes twice is answered, not run again. One
// that the end of an earlier run cut off is begun anew. The broker gets its
// acknowledgement with the last state.
func (a *Agent) command(ctx context.Context, o order) {
	request := o.request()
	known, err := a.parts.Store.Command(o.key())
	switch {
	case err == nil && known.Request != request:
		a.acknowledge(o, wire.CommandRejected, refuse(wire.Conflict, "this id was used before, with other bytes"))
		return
	case err == nil && wire.Step(known.State).Final():
		a.publishLast(o, known.Answer)
		return
	case err != nil && !errors.Is(err, store.ErrNotFound):
		a.acknowledge(o, wire.CommandFailed, fmt.Errorf("whether this command was obeyed before is not known: %w", err))
		return
	case err == nil && !known.Expires.After(time.Now()):
		a.advance(o, request, known.Expires, wire.CommandTimedOut, refuse(wire.Expired, "it expired while the device was off"))
		return
	}
	a.acknowledge(o, wire.CommandReceived, nil)
	do, expires, err := a.judge(ctx, o)
	switch {
	case ctx.Err() != nil: // the agent stops; the broker will deliver the command to the next start
	case err != nil:
		a.advance(o, request, expires, wire.CommandRejected, err)
		a.tellUnmet(err)
	default:
		a.execute(ctx, o, request, expires, do)
	}
}

// execute takes a command that may be accepted to its end.
func (a *Agent) execute(ctx context.Context, o order, request store.Digest, expires time.Time, do deed) {
	for _, step := range []wire.Step{wire.CommandAccepted, wire.CommandExecuting} {
		if err := a.advance(o, request, expires, step, nil); err != nil {
			a.acknowledge(o, wire.CommandFailed, err)
			return
		}
	}
	err := do(ctx)
	switch {
	case ctx.Err() != nil: // as above
	case errors.Is(err, context.DeadlineExceeded):
		a.advance(o, request, expires, wire.CommandTimedOut, err)
	case err != nil:
		a.advance(o, request, expires, wire.CommandFailed, err)
	default:
		a.advance(o, request, expires, wire.CommandSucceeded, nil)
	}
}

// judge reads a command, and says what it does or why it cannot be accepted.
func (a *Agent) judge(ctx context.Context, o order) (do deed, expires time.Time, err error) {
	expires = o.received.Add(time.Hour)
	if o.msg.Retained {
		return nil, expires, refuse(wire.Invalid, "commands are never retained: publish it without the retain flag")
	}
	if o.msg.Oversize > 0 {
		return nil, expires, refuse(wire.Invalid, fmt.Sprintf("the command has %d bytes", o.msg.Oversize))
	}
	var c wire.Command
	if err := wire.Decode(o.msg.Payload, &c); err != nil {
		return nil, expires, refused{reason: wire.Invalid, error: err}
	}
	until, err := c.Expiry(o.received)
	if err != nil {
		return nil, expires, refused{reason: wire.Invalid, error: err}
	}
	expires = until
	if now := time.Now(); !expires.After(now) {
		// Both times: a clock that is wrong looks like a command that is late.
		return nil, expires, refuse(wire.Expired, fmt.Sprintf("it expired at %s; the clock here says %s", clock(expires), clock(now)))
	}
	if verb := o.topic.Verb; !slices.Contains(verbs(), verb) {
		return nil, expires, refuse(wire.Unsupported, fmt.Sprintf("verb %s: this device knows %s", verb, joined(verbs())))
	}
	if err := c.Check(o.topic.Verb); err != nil {
		return nil, expires, refused{reason: wire.Invalid, error: err}
	}
	if o.topic.Verb == wire.VerbPower {
		do, err = a.judgePower(c.PowerMode, expires)
		return do, expires, err
	}
	return func(ctx context.Context) error { return a.obeyAim(ctx, c.Aim()) }, expires, a.judgeAim(ctx, c.Aim())
}

// clock is a time for people to compare.
func clock(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z07:00") }

// obeyAim carries out a command's aim, and reports what is in force then.
func (a *Agent) obeyAim(ctx context.Context, w wire.Aim) error {
	err := a.setAim(ctx, w)
	if err == nil {
		a.reportAim(ctx, 0)
	}
	return err
}

// advance records a state, then publishes it. What cannot be recorded must not
// be acted on, so a state that is not the last one is not published then.
func (a *Agent) advance(o order, request store.Digest, expires time.Time, step wire.Step, cause error) error {
	ack := a.ack(o, step, cause)
	b := a.message("", false, ack).Payload
	err := a.parts.Store.SetCommand(store.Command{ID: o.key(), Request: request, State: string(step), Answer: b, Expires: expires})
	if err != nil {
		a.log.Error("ledger not written", "cmd", o.topic.ID, "err", err)
	}
	if err == nil || step.Final() {
		a.publishAck(o, ack)
	}
	return err
}

// acknowledge publishes a state that the ledger need not know.
func (a *Agent) acknowledge(o order, step wire.Step, cause error) {
	a.publishAck(o, a.ack(o, step, cause))
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
	t := &ticket{id: o.topic.ID, acks: o.acks}
	a.appendFor(t, func(uint64) (store.Record, error) {
		return store.Record{Topic: a.self.Ack(o.topic.Verb, o.topic.ID), Payload: payload}, nil
	})
}

func (a *Agent) ack(o order, step wire.Step, cause error) wire.Ack {
	ack := wire.Ack{ID: o.topic.ID, Verb: o.topic.Verb, State: step, TS: wire.At(time.Now())}
	ack.Reason, ack.Nearest, ack.Detail = told(cause)
	return ack
}
