package release

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/firmware/slot"
	"github.com/limber-edge/limber/store"
)

// Left is what a start found of a release.
type Left struct {
	ID      string // of the command that is to be handed in again; empty: none
	Payload []byte
	Tried   bool // a release was in the earlier run, and may be why that ended
}

// Settle decides whether a command that an earlier run left goes on. The error wraps
// ErrUnproved where this program, which is on trial, cannot read the state that the one
// before left: it ends then, and that is recorded. Else it says what is not known any more.
func Settle(st *store.Store, slots *slot.Agent) (Left, error) {
	p, err := slots.Phase()
	if err != nil || p.Command == nil {
		return Left{}, err
	}
	payload, err := payloadOf(p.Command)
	if err != nil {
		return Left{}, err
	}
	back := p.Phase == slot.RolledBack && p.Last != nil && !p.Last.Told
	left := Left{ID: p.Command.ID, Payload: payload, Tried: p.InTrial() || back}
	if slots.OnTrial() {
		return left, Unreadable(slots, unread(st, left))
	}
	if !isOpen(st, left) && (p.Phase == slot.Fetch || p.Phase == slot.Stage) {
		return Left{}, slots.Drop()
	}
	return left, nil
}

// isOpen tells whether the ledger has a command, and no end of it.
func isOpen(st *store.Store, c Left) bool {
	known, err := st.Command(key(c.ID))
	return err == nil && known.Request == store.DigestOf(c.Payload) && !wire.Step(known.State).Final()
}

// Unreadable records that this program, if it is on trial, cannot read the state that the
// one before left, and words that; nil if why is.
func Unreadable(slots *slot.Agent, why error) error {
	p, _ := slots.Phase()
	if why == nil || !slots.OnTrial() {
		return why
	}
	why = fmt.Errorf("release %s %w: %s: %w", p.Version, ErrUnproved, slot.State, why)
	return errors.Join(why, slots.Fail(slot.State))
}

// unread is why the state that the release before left is not what it was.
func unread(st *store.Store, left Left) error {
	known, err := st.Command(key(left.ID))
	switch {
	case err != nil:
		return fmt.Errorf("the command that asked for this release: %w", err)
	case known.Request != store.DigestOf(left.Payload):
		return errors.New("the command that asked for this release is there with other bytes")
	}
	return nil
}

// key is a command's name in the ledger.
func key(id string) string { return wire.VerbRelease + "/" + id }

// payloadOf is a command as it came.
func payloadOf(c *slot.Command) ([]byte, error) {
	var s string
	if err := json.Unmarshal(c.Payload, &s); err != nil || !wire.ValidName(c.ID) {
		return nil, fmt.Errorf("the command of the release: %w", errors.Join(err, errors.New("it has no name")))
	}
	return []byte(s), nil
}

// Begin tells how an update ended that an earlier run could not tell of. It is for the
// start, when the outbox works and no command is carried out yet.
func (u *Updater) Begin(ctx context.Context) error {
	p, err := u.deps.Slots.Phase()
	if err != nil {
		return err
	}
	if last, c, ok := u.deps.Slots.Untold(); ok && last.Outcome == slot.Undecided && !p.IsRefused(p.Digest) && u.goesOn(c) {
		return nil
	}
	return u.tellEnd(ctx)
}

// goesOn tells whether a command has no end yet, by the ledger.
func (u *Updater) goesOn(c *slot.Command) bool {
	if c == nil {
		return false
	}
	payload, err := payloadOf(c)
	return err == nil && isOpen(u.deps.State, Left{ID: c.ID, Payload: payload})
}

// ledgerKeep is how long an end is remembered of a command that the ledger did not know.
const ledgerKeep = time.Hour

// settle gives the command of an update that ended its last state in the ledger, which
// answers it with that when it is handed in. The slots forget the command after that.
func (u *Updater) settle(c *slot.Command, l slot.Last) error {
	if c == nil {
		return nil
	}
	payload, err := payloadOf(c)
	if err != nil {
		return nil // Settle has said so
	}
	known, err := u.deps.State.Command(key(c.ID))
	if err == nil && wire.Step(known.State).Final() {
		return nil
	}
	if err != nil {
		known.Expires = u.deps.Clock().Add(ledgerKeep)
	}
	end, err := u.endOf(c.ID, l)
	if err != nil {
		return err
	}
	ack := wire.Ack{ID: c.ID, Verb: wire.VerbRelease, State: end.State, Reason: end.Reason, Detail: end.Detail,
		RolledBack: end.RolledBack, TS: end.TS}
	return u.deps.State.SetCommand(store.Command{ID: key(c.ID), Request: store.DigestOf(payload), State: string(ack.State),
		Answer: encode(ack), Expires: known.Expires}, cells(end)...)
}

// endOf is how a command ended: as this run told, or as an earlier one recorded.
func (u *Updater) endOf(id string, l slot.Last) (wire.LastUpdate, error) {
	if told := u.Status().Last; told != nil && told.ID == id {
		return *told, nil
	}
	p, err := u.deps.Slots.Phase()
	end := wire.LastUpdate{ID: id, Release: &wire.Release{Version: l.Version, Digest: p.Digest},
		State: wire.CommandSucceeded, TS: wire.At(u.deps.Clock())}
	if l.Outcome != slot.Confirmed {
		end.State, end.Reason, end.Detail, end.RolledBack = wire.CommandFailed, wire.Internal, wordsOf(l), true
	}
	if err == nil {
		u.show(nil, &end)
	}
	return end, err
}
