package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/limber-edge/limber/agent/uplink"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/store"
)

// request is a command or a desired state, until it is answered, dropped or
// released.
type request struct {
	*uplink.Request // what it says
	reply           replier
	digest          func() store.Digest // of its bytes
	lane            *lane               // that carries it out; nil: none does
}

// replier ends a request: *uplink.Request, or a test's.
type replier interface {
	Answer(topic string, encode func(seq uint64) ([]byte, error))
	Say(topic string, payload []byte)
	Tell(topic string, payload []byte)
	Drop()
	Release()
}

func requestOf(r *uplink.Request) request { return request{r, r, r.Digest, nil} }

// key is the command's name in the ledger. Ids belong to their verb: commands of two
// verbs have acknowledgements of their own, and may run at once.
func (r request) key() string { return r.Verb + "/" + r.ID }

// take hands a command to its lane. It is called by the link's reader, which must not
// wait: what would have to read the ledger is left to others.
func (c *Control) take(r request) {
	switch l := c.laneOf(r.Verb); {
	case !r.Conflict && l.take(r):
	case !c.refusals.count():
		r.reply.Drop()
	case r.Conflict:
		c.answer(r, wire.CommandRejected, errConflict())
	case put(c.overflow, r):
	default:
		c.answer(r, wire.CommandRejected, l.full())
	}
}

func (c *Control) laneOf(verb string) *lane {
	if l := c.verbs[verb]; l != nil {
		return l
	}
	return c.strange
}

// take is false where a command finds no room.
func (l *lane) take(r request) bool {
	if l.alone && !l.course.CompareAndSwap(nil, newCourse(r.ID)) {
		return false
	}
	return put(l.waiting, r)
}

// put is false where there is no room.
func put(room chan<- request, r request) bool {
	select {
	case room <- r:
		return true
	default:
		return false
	}
}

func errConflict() error {
	return wire.Refuse(wire.Conflict, "this id was used before, with other bytes")
}

// full is why a command finds no room.
func (l *lane) full() error {
	if l.alone {
		return wire.Refuse(wire.Locked, "another command of this verb is under way")
	}
	return wire.Refuse(wire.Busy, "too many commands wait")
}

// turnAway refuses commands that found no room, until ctx ends; but those that an
// earlier run carried out, and could not tell the broker, are answered.
func (c *Control) turnAway(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case r := <-c.overflow:
			if _, done := c.left(r); !done {
				c.answer(r, wire.CommandRejected, c.laneOf(r.Verb).full())
			}
		}
	}
}

// work carries out the commands of a lane, one after the other, until ctx ends.
func (c *Control) work(ctx context.Context, l *lane) {
	for {
		var again <-chan time.Time
		if len(l.owed) > 0 {
			again = time.After(owedPace)
		}
		select {
		case <-ctx.Done():
			return
		case <-again:
			l.pay(c.state) // in vain, it is tried again
		case r := <-l.waiting:
			if !l.turn(ctx) {
				r.reply.Release()
				return
			}
			r.lane = l
			c.command(ctx, l, r)
			l.course.Store(nil)
		}
	}
}

// turn waits until the pace of the lane lets the next command begin; false where ctx
// has ended.
func (l *lane) turn(ctx context.Context) bool {
	if wait := l.pace.wait(); wait > 0 {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
	l.pace.spend()
	return ctx.Err() == nil
}

// command takes a command from its receipt to its last state.
func (c *Control) command(ctx context.Context, l *lane, r request) {
	expires, done := c.left(r)
	if done {
		return
	}
	begun := l.alone && !expires.IsZero()
	c.say(r, wire.CommandReceived)
	order, until, err := c.read(l, r, begun)
	if expires.IsZero() || until.Before(expires) {
		expires = until
	}
	if err != nil {
		c.finish(r, expires, wire.CommandRejected, Outcome{}, err)
		return
	}
	limited, cancel := context.WithDeadline(ctx, expires)
	defer cancel()
	leave, err := c.enter(limited, l.class)
	if err != nil {
		c.giveUp(ctx, r, expires, wire.CommandRejected, Outcome{}, err)
		return
	}
	defer leave()
	o := Order{order, r.ID, r.Message.Payload, r.Received, expires}
	act, err := l.verbs[r.Verb].Prepare(limited, o)
	if err != nil {
		c.giveUp(ctx, r, expires, wire.CommandRejected, Outcome{}, err)
		return
	}
	if begun || c.begin(ctx, limited, r, expires) {
		c.execute(ctx, limited, l, r, o, act)
	}
}

// left answers what an earlier run left of a command, where it is done with. One
// that was cut off is begun anew, with the time that is left until it expires; that
// is zero for one that is new.
func (c *Control) left(r request) (expires time.Time, done bool) {
	known, err := c.state.Command(r.key())
	if owed, ok := r.lane.owes(r.key()); ok {
		known, err = owed, nil
	}
	switch {
	case errors.Is(err, store.ErrNotFound):
		return time.Time{}, false
	case err != nil:
		r.Fault = err // not the command's last word
		c.answer(r, wire.CommandFailed,
			fmt.Errorf("whether this command was obeyed before is not known: %w", err))
	case known.Request != r.digest():
		r.Conflict = true
		c.answer(r, wire.CommandRejected, errConflict())
	case wire.Step(known.State).Final():
		c.send(r, known.Answer)
	case !known.Expires.After(time.Now()) && !c.laneOf(r.Verb).alone:
		c.finish(r, known.Expires, wire.CommandTimedOut, Outcome{},
			wire.Refuse(wire.Expired, "it expired while the device was off"))
	default:
		return known.Expires, false
	}
	return known.Expires, true
}

// unknown refuses a verb that this device does not have.
func (c *Control) unknown(verb string) error {
	remedy := ""
	if verb == wire.VerbRelease {
		remedy = "; releases want an agent that limber-boot started, with the same state folder"
	}
	return wire.Refuse(wire.Unsupported, "verb %s: this device knows %s%s", verb, joined(c.names), remedy)
}

// read reads a command of a lane, and until when it may be carried out. Whether one is
// late that has begun before is not judged.
func (c *Control) read(l *lane, r request, begun bool) (order wire.Command, expires time.Time, err error) {
	expires = r.Received.Add(time.Hour)
	if r.Message.Retained {
		return order, expires, wire.Refuse(wire.Invalid,
			"commands are never retained: publish it without the retain flag")
	}
	if r.Message.Oversize > 0 {
		return order, expires, wire.Refuse(wire.Invalid, "the command has %d bytes", r.Message.Oversize)
	}
	if err := wire.Decode(r.Message.Payload, &order); err != nil {
		return order, expires, &wire.Refusal{Reason: wire.Invalid, Err: err}
	}
	until, err := order.Expiry(r.Received)
	if err != nil {
		return order, expires, &wire.Refusal{Reason: wire.Invalid, Err: err}
	}
	behind := time.Duration(0)
	if order.ExpiresAt != nil {
		behind, _ = c.offset()
	}
	expires = until.Add(-behind)
	if now := time.Now(); !begun && !expires.After(now) {
		// Both times: a clock that is wrong looks like a command that is late.
		return order, expires, wire.Refuse(wire.Expired, "it expired at %s; the clock here says %s",
			clock(until), clock(now.Add(behind)))
	}
	if _, ok := l.verbs[r.Verb]; !ok {
		return order, expires, c.unknown(r.Verb)
	}
	if err := order.Check(r.Verb); err != nil {
		return order, expires, &wire.Refusal{Reason: wire.Invalid, Err: err}
	}
	return order, expires, nil
}

// clock is a time for people to compare.
func clock(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z07:00") }

// begin records that a command is carried out from now on; false where it is not, and
// was answered.
func (c *Control) begin(ctx, limited context.Context, r request, expires time.Time) bool {
	err := r.lane.pay(c.state) // whose cells are older
	if err == nil {
		err = c.record(c.entry(r, expires, c.ack(r, wire.CommandExecuting, nil)))
	}
	if err != nil {
		c.finish(r, expires, wire.CommandFailed, Outcome{}, err)
		return false
	}
	if limited.Err() != nil { // the disk took that long
		c.giveUp(ctx, r, expires, wire.CommandFailed, Outcome{},
			fmt.Errorf("it expired before it was begun: %w", limited.Err()))
		return false
	}
	return true
}

// execute takes a command that has begun to its end, until limited ends.
func (c *Control) execute(ctx, limited context.Context, l *lane, r request, o Order, act Action) {
	c.say(r, wire.CommandAccepted)
	c.say(r, wire.CommandExecuting)
	out, err := c.follow(limited, l, r, o, act)
	if err != nil {
		c.giveUp(ctx, r, o.Expires, wire.CommandFailed, out, err)
		return
	}
	done := c.ack(r, wire.CommandSucceeded, nil)
	done.Detail, done.Shadow = out.Detail, out.Shadow
	if out.Undo == nil {
		c.end(r, o.Expires, done, out.Remember)
		return
	}
	if err := c.record(c.entry(r, o.Expires, done), out.Remember...); err != nil {
		out.Undo(ctx)
		c.finish(r, o.Expires, wire.CommandFailed, Outcome{}, err)
		return
	}
	c.send(r, encode(done))
}

// giveUp ends a command that met an error: with a state, as timed out where its time
// is over, as cancelled where it was taken back, or without any where the device stops
// or the next start is to go on: the broker will deliver it to that.
func (c *Control) giveUp(
	ctx context.Context, r request, expires time.Time, step wire.Step, out Outcome, err error,
) {
	switch {
	case ctx.Err() != nil, errors.Is(err, ErrLeft):
		r.reply.Release()
	case errors.Is(err, ErrCancelled):
		c.finish(r, expires, wire.CommandCancelled, out, nil)
	case errors.Is(err, context.DeadlineExceeded):
		c.finish(r, expires, wire.CommandTimedOut, out, &wire.Refusal{Reason: wire.Expired, Err: err})
	default:
		c.finish(r, expires, step, out, err)
	}
}

// finish ends a command with a last state other than succeeded.
func (c *Control) finish(r request, expires time.Time, step wire.Step, out Outcome, cause error) {
	ack := c.ack(r, step, cause)
	ack.RolledBack, ack.Shadow = out.RolledBack, out.Shadow
	c.end(r, expires, ack, out.Remember)
}

// end records a last state and answers with it, also where it cannot be recorded: then its
// lane owes it to the ledger.
func (c *Control) end(r request, expires time.Time, ack wire.Ack, cells []store.Cell) {
	known := c.entry(r, expires, ack)
	if err := c.record(known, cells...); err != nil && r.lane != nil {
		r.lane.owe(debt{known, cells})
	}
	c.send(r, encode(ack))
}

// entry is what the ledger is to know of a command.
func (c *Control) entry(r request, expires time.Time, ack wire.Ack) store.Command {
	return store.Command{ID: r.key(), Request: r.digest(), State: string(ack.State), Answer: encode(ack), Expires: expires}
}

func (c *Control) record(known store.Command, cells ...store.Cell) error {
	err := c.state.SetCommand(known, cells...)
	if err != nil {
		c.log.Error("ledger not written", "cmd", known.ID, "err", err)
	}
	return err
}

// answer answers with a last state that the ledger need not know.
func (c *Control) answer(r request, step wire.Step, cause error) {
	c.send(r, encode(c.ack(r, step, cause)))
}

// send answers with a last state.
func (c *Control) send(r request, payload []byte) {
	r.reply.Answer(c.topic(r), func(uint64) ([]byte, error) { return payload, nil })
}

// say tells of an earlier state.
func (c *Control) say(r request, step wire.Step) {
	r.reply.Say(c.topic(r), encode(c.ack(r, step, nil)))
}

func (c *Control) topic(r request) string { return c.cfg.Self.Ack(r.Verb, r.ID) }

func (c *Control) ack(r request, step wire.Step, cause error) wire.Ack {
	ack := wire.Ack{ID: r.ID, Verb: r.Verb, State: step, TS: wire.At(time.Now())}
	ack.Reason, ack.Nearest, ack.Detail = refusalOf(cause)
	return ack
}

func encode(a wire.Ack) []byte {
	b, err := json.Marshal(a)
	if err != nil {
		panic("control: an acknowledgement cannot be encoded: " + err.Error())
	}
	return b
}

// refusalOf is what an answer says of an error. One that is no refusal is a fault of the
// agent.
func refusalOf(err error) (reason wire.Reason, nearest *wire.Goal, detail string) {
	if err == nil {
		return "", nil, ""
	}
	if u, ok := errors.AsType[*unmet](err); ok {
		nearest = u.nearest
	}
	if r, ok := errors.AsType[*wire.Refusal](err); ok {
		return r.Reason, nearest, r.Error()
	}
	return wire.Internal, nil, err.Error()
}
