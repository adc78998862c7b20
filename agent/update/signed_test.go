package update

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/firmware/repo"
)

// signer knows one family that is signed, once it can be asked.
type signer struct {
	signed family.Digest
	open   chan struct{}
	asked  int
}

func (s *signer) May(ctx context.Context, d family.Digest) error {
	s.asked++
	select {
	case <-s.open:
	case <-ctx.Done():
		return errors.Join(ctx.Err(), errors.New("repository out of reach"))
	}
	if d != s.signed {
		return fmt.Errorf("family %s is not signed: %w", d.Short(), repo.ErrRefused)
	}
	return nil
}

func TestC1_AFamilyThatIsNotSignedIsRefusedBeforeAnythingOfItComes(t *testing.T) {
	bubble(t, func(t *testing.T, d *device) {
		d.stop()
		next, other := d.offer("next"), d.offer("other")
		s := &signer{signed: next.Digest(), open: make(chan struct{})}
		close(s.open)
		d.signer = s
		d.start()
		d.send(wire.VerbFamily, "u1", asked(other, noProbation))
		d.ends("u1", wire.CommandFailed, wire.Unauthorized, "is not signed", false)
		if len(d.carrier.fetched)+d.carrier.sized > 0 {
			t.Errorf("fetched %q of a family that is not signed", d.carrier.fetched)
		}
		d.wants(stockName, "", "")
		d.send(wire.VerbFamily, "u2", asked(next, noProbation))
		pass(time.Second)
		d.ends("u2", wire.CommandSucceeded, "", "", false)
		d.wants("next", "", "")
	})
}

func TestWhileNobodyCanSayWhetherAFamilyIsSignedItIsWaitedForUntilItExpires(t *testing.T) {
	bubble(t, func(t *testing.T, d *device) {
		d.stop()
		next := d.offer("next")
		s := &signer{signed: next.Digest(), open: make(chan struct{})}
		d.signer = s
		d.start()
		d.send(wire.VerbFamily, "u1", asked(next, noProbation))
		pass(2 * time.Hour)
		d.ends("u1", wire.CommandTimedOut, wire.Expired, "in the phase fetching", false)
		d.send(wire.VerbFamily, "u2", asked(next, noProbation))
		pass(time.Minute)
		d.restart() // asks again
		close(s.open)
		pass(time.Minute)
		d.ends("u2", wire.CommandSucceeded, "", "", false)
		if s.asked != 3 {
			t.Errorf("it was asked %d times, want once for each start of each command", s.asked)
		}
	})
}
