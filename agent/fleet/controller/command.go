package controller

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/fleet/rollout"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
)

// command is one that was given to the controller.
type command struct {
	id       string
	payload  []byte
	retained bool
	at       time.Time // when it came
}

// remembered is a command that was answered.
type remembered struct {
	ID      string            `json:"id"`
	Request [sha256.Size]byte `json:"request"` // SHA-256 of its bytes
	Ack     wire.Ack          `json:"ack"`     // the answer
	At      wire.Time         `json:"at"`
}

// ledgerMost is how many commands are remembered, the newest.
const ledgerMost = 256

// ledger has the commands that were answered, and those that wait for a family.
type ledger struct {
	answered []remembered                 // the oldest first
	open     map[string][sha256.Size]byte // by id
}

func loadLedger(s Store) (*ledger, error) {
	l := &ledger{open: map[string][sha256.Size]byte{}}
	err := s.Each(keyCommand, func(_ string, value []byte) {
		var r remembered
		if json.Unmarshal(value, &r) == nil { // one that is damaged is not remembered
			l.answered = append(l.answered, r)
		}
	})
	slices.SortStableFunc(l.answered, func(a, b remembered) int { return a.At.Compare(b.At.Time) })
	return l, err
}

// begin notes a command that waits for a family.
func (l *ledger) begin(cmd command) { l.open[cmd.id] = sha256.Sum256(cmd.payload) }

// find is what is known of a command.
func (l *ledger) find(id string) *remembered {
	if i := slices.IndexFunc(l.answered, func(r remembered) bool { return r.ID == id }); i >= 0 {
		return &l.answered[i]
	}
	return nil
}

// thin forgets the oldest, and returns their ids.
func (l *ledger) thin() (gone []string) {
	for len(l.answered) > ledgerMost {
		gone = append(gone, l.answered[0].ID)
		l.answered = l.answered[1:]
	}
	return gone
}

// take takes a command. One that is known is answered again, if it is the same.
func (c *Controller) take(cmd command, now time.Time) {
	sum := sha256.Sum256(cmd.payload)
	request, open := c.ledger.open[cmd.id]
	known := c.ledger.find(cmd.id)
	switch {
	case known != nil && known.Request == sum:
		c.answer(known.Ack)
	case known != nil, open && request != sum:
		c.answer(c.ack(cmd, "", wire.Refuse(wire.Conflict, "the id was used for another command: choose another")))
	case open:
		c.answer(wire.Ack{ID: cmd.id, Verb: wire.VerbRollout, State: wire.CommandExecuting, TS: wire.At(now)})
	default:
		c.obey(cmd, now)
	}
}

// obey does what a command asks for, and answers it, unless its family has to come first.
func (c *Controller) obey(cmd command, now time.Time) {
	asked, err := readCommand(cmd, now)
	if err == nil && asked.Action == wire.RolloutStart {
		var wait bool
		if wait, err = c.await(cmd, asked); wait {
			return
		}
	}
	detail := ""
	if err == nil {
		detail, err = c.act(asked, now)
	}
	c.finish(cmd, detail, err)
}

// finish remembers how a command ended, and answers it.
func (c *Controller) finish(cmd command, detail string, err error) {
	ack := c.ack(cmd, detail, err)
	r := remembered{ID: cmd.id, Request: sha256.Sum256(cmd.payload), Ack: ack, At: ack.TS}
	value, _ := json.Marshal(r) // cannot fail
	c.ledger.answered = append(c.ledger.answered, r)
	c.book.change(keyCommand+cmd.id, value)
	c.answer(ack)
}

// readCommand is what a command asks for, if anybody could obey.
func readCommand(cmd command, now time.Time) (asked wire.RolloutCommand, err error) {
	refuse := func(reason wire.Reason, err error) (wire.RolloutCommand, error) {
		return asked, &wire.Refusal{Reason: reason, Err: err}
	}
	if cmd.retained {
		return refuse(wire.Invalid, errors.New("the command is retained: it would come again and again"))
	}
	if err := wire.Decode(cmd.payload, &asked); err != nil {
		return refuse(wire.Invalid, err)
	}
	if err := errors.Join(asked.Check(), saysWhere(cmd.payload)); err != nil {
		return refuse(wire.Invalid, err)
	}
	expiry, err := asked.Expiry(cmd.at)
	if err != nil {
		return refuse(wire.Invalid, err)
	}
	if now.After(expiry) {
		return refuse(wire.Expired, fmt.Errorf("the command expired at %s", expiry.UTC().Format(time.RFC3339)))
	}
	return asked, nil
}

// saysWhere tells whether a start says which devices it is for: unknown keys are no error,
// and one that is misspelt must not mean the whole fleet.
func saysWhere(payload []byte) error {
	var asked struct {
		Spec *struct {
			Where *string `json:"where"`
		} `json:"spec"`
	}
	if err := wire.Decode(payload, &asked); err != nil || asked.Spec == nil || asked.Spec.Where != nil {
		return err
	}
	return errors.New(`spec: where is missing, which says what devices it is for: "" is all of them`)
}

// act does what is asked of a rollout.
func (c *Controller) act(asked wire.RolloutCommand, now time.Time) (detail string, err error) {
	if asked.Action == wire.RolloutStart {
		return c.start(asked, now)
	}
	e := c.book.find(asked.Rollout)
	if e == nil {
		return "", wire.Refuse(wire.Precondition, "there is no rollout %s; see `limber fleet rollout ls`", asked.Rollout)
	}
	if err := e.Act(asked, c.view(e), now); err != nil {
		return "", err
	}
	e.touch()
	switch {
	case e.End == nil:
		return fmt.Sprintf("rollout %s is %s", e.ID, e.State), nil
	case e.End.Back:
		return fmt.Sprintf("rollout %s is about to end, and devices go back: %s", e.ID, e.End.Why), nil
	}
	return fmt.Sprintf("rollout %s is about to end: %s", e.ID, e.End.Why), nil
}

// start begins a rollout.
func (c *Controller) start(asked wire.RolloutCommand, now time.Time) (detail string, err error) {
	spec := *asked.Spec
	where, err := fleet.ParseWhere(spec.Where)
	if err != nil {
		return "", &wire.Refusal{Reason: wire.Invalid, Err: fmt.Errorf("where: %w", err)}
	}
	live := 0
	for _, e := range c.book.entries {
		if !e.Final() {
			live++
		}
	}
	if live >= Kept {
		return "", wire.Refuse(wire.Precondition, "%d rollouts are under way: wait for one, or abort one", live)
	}
	if source := c.Source(); source != "" && spec.Family != nil && c.shelf.has(spec.Family.Digest) &&
		len(spec.Sources) < wire.MaxSourceURLs && !slices.Contains(spec.Sources, source) {
		spec.Sources = append(slices.Clone(spec.Sources), source)
	}
	if err := c.book.unused(asked.Rollout, now); err != nil {
		return "", err
	}
	e := &entry{where: where, dirty: true, news: true}
	if e.Record, err = rollout.New(asked.Rollout, spec, c.view(e), now); err != nil {
		return "", err
	}
	c.book.entries, c.book.tidy = append(c.book.entries, e), true
	if spec.Supersede {
		for _, other := range c.book.entries {
			other.touch()
		}
	}
	return fmt.Sprintf("rollout %s: %s in %s", e.ID, fleet.Count(len(e.Devices), "device"),
		fleet.Count(len(e.Phases), "phase")), nil
}

// ack is the answer to a command that ended so.
func (c *Controller) ack(cmd command, detail string, err error) wire.Ack {
	a := wire.Ack{ID: cmd.id, Verb: wire.VerbRollout, State: wire.CommandSucceeded, Detail: detail,
		TS: wire.At(time.Now())}
	if err == nil {
		return a
	}
	a.State, a.Reason, a.Detail = wire.CommandRejected, wire.Internal, err.Error()
	if refusal, ok := errors.AsType[*wire.Refusal](err); ok {
		a.Reason = refusal.Reason
	}
	return a
}

// answer has a command answered once what it did is stored.
func (c *Controller) answer(a wire.Ack) { c.book.answers = append(c.book.answers, c.answerOf(a)) }

func (c *Controller) answerOf(a wire.Ack) mqtt.Message {
	b, _ := json.Marshal(a) // cannot fail
	return mqtt.Message{Topic: c.at.Ack(a.Verb, a.ID), Payload: b, QoS: 1}
}
