package update

import (
	"errors"
	"fmt"
	"time"

	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family/library"
	"github.com/limber-edge/limber/store"
)

// startsMost is how often the agent is cut off before the family is to blame, which is
// being activated or on trial.
const startsMost = 2

// Left is what a start found of an update.
type Left struct {
	ID      string // of the command that is to be handed in again; empty: none
	Payload []byte
	OnTrial bool    // its family may be why the earlier run ended
	Told    []error // what somebody should know
}

// settling is a start that looks at what an update left.
type settling struct {
	state *store.Store
	lib   *library.Library
	now   time.Time // on the wall
	left  Left
}

// Settle decides, before the family in use is loaded, whether an update that an earlier
// run left goes on, and goes back where it does not. After an error the family in use is
// the one that the library has.
func Settle(st *store.Store, lib *library.Library, now time.Time) (Left, error) {
	s := &settling{state: st, lib: lib, now: now}
	r, err := load(st)
	switch {
	case errors.Is(err, errNone):
		err = s.giveUp(nil)
	case err != nil:
		err = s.giveUp(err)
	default:
		err = s.settle(r)
	}
	if err != nil {
		return s.left, fmt.Errorf("settle the update that an earlier run left: %w", err)
	}
	return s.left, nil
}

// settle decides about an update that is recorded.
func (s *settling) settle(r *record) error {
	n, err := s.lib.Names()
	if err != nil {
		return err
	}
	known, err := s.state.Command(wire.VerbFamily + "/" + r.ID)
	if err != nil || known.Request != store.DigestOf(r.Payload) || wire.Step(known.State).Final() {
		return s.giveUp(fmt.Errorf("the command %s is not in the ledger", r.ID))
	}
	s.left.ID, s.left.Payload, s.left.OnTrial = r.ID, r.Payload, r.onTrial()
	inUse := n.Current.Digest() == digestOf(r.Family)
	switch {
	case r.End != nil:
		return s.back(r)
	case inUse && n.Before == nil:
		return errors.Join(s.lib.Commit(), s.end(r, end{State: wire.CommandSucceeded, Proved: true}, false))
	case r.Phase == wire.UpdateProbation && !inUse:
		return s.end(r, end{State: wire.CommandFailed, Reason: wire.Precondition,
			Detail: fmt.Sprintf("family %s was installed meanwhile", n.Current.Name)}, false)
	case !r.Expires.After(s.now):
		r.End = &end{State: wire.CommandTimedOut, Reason: wire.Expired, Detail: "it expired while the device was off"}
		return s.back(r)
	case !r.onTrial():
		return nil
	}
	if r.Starts++; r.Starts >= startsMost {
		r.End = &end{State: wire.CommandFailed, Reason: wire.Internal, Blame: true,
			Detail: fmt.Sprintf("the agent was cut off %d times in the phase %s", r.Starts, r.Phase)}
		return s.back(r)
	}
	return r.save(s.state)
}

// back ends an update with the family before in use: recorded, done, and recorded as
// the command's end.
func (s *settling) back(r *record) error {
	if err := r.save(s.state); err != nil {
		return err
	}
	n, err := s.lib.Names()
	if err != nil {
		return err
	}
	// What ended while it was being activated was never in use, but what goes back was.
	rolledBack := n.Before != nil || r.Phase == wire.UpdateProbation
	if err := errors.Join(s.lib.Revert(), s.lib.Unstage()); err != nil {
		return err
	}
	return s.end(r, *r.End, rolledBack)
}

// end gives the command its last state in the ledger, which answers it with that when
// it comes again.
func (s *settling) end(r *record, e end, rolledBack bool) error {
	ack := wire.Ack{ID: r.ID, Verb: wire.VerbFamily, State: e.State, Reason: e.Reason, Detail: e.Detail,
		Shadow: r.Compared, RolledBack: rolledBack, TS: wire.At(s.now)}
	_, cells := r.cells(s.state, e, rolledBack, s.now)
	return s.state.SetCommand(store.Command{ID: wire.VerbFamily + "/" + r.ID, Request: store.DigestOf(r.Payload),
		State: string(e.State), Answer: encode(ack), Expires: r.Expires}, cells...)
}

// giveUp goes back from an update whose command is gone, if there is any.
func (s *settling) giveUp(why error) error {
	n, err := s.lib.Names()
	if err != nil {
		return err
	}
	if n.Before != nil {
		s.left.Told = append(s.left.Told, fmt.Errorf("family %s is given up, and %s is back: it was on trial, and "+
			"which command asked for it is not known any more", n.Current.Name, n.Before.Name))
		err = s.lib.Revert()
	}
	if n.Staged != nil {
		err = errors.Join(err, s.lib.Unstage())
	}
	if why != nil {
		s.left.Told = append(s.left.Told, fmt.Errorf("an update is given up: %w", why))
		err = errors.Join(err, s.state.SetCell(cellUpdate, nil))
	}
	return err
}
