package release

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/lock"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/firmware/slot"
)

func TestAReleaseThatCannotBeRecordedIsNotBegun(t *testing.T) {
	bubble(t, func(d *device) {
		d.block(true)
		m := d.offer("1.5.0")
		d.send(wire.VerbRelease, "u1", asked(m, ""))
		d.ends("u1", wire.CommandFailed, wire.Internal, "record the phase", false)
		d.block(false)
		d.wants(slot.Idle, slot.Package, 0)
		d.send(wire.VerbRelease, "u2", asked(m, ""))
		d.wants(slot.Trial, slot.A, 0)
	})
}

func TestASwitchThatCannotBeRecordedLeavesThisReleaseAndIsClearedAwayLater(t *testing.T) {
	bubble(t, func(d *device) {
		free, err := lock.Share(t.Context(), d.dir, func() {})
		if err != nil {
			t.Fatal(err)
		}
		m := d.offer("1.5.0")
		d.send(wire.VerbRelease, "u1", asked(m, ""))
		d.stands(wire.UpdateLocked, "")
		d.block(true)
		free()
		pass(2 * time.Second)
		d.ends("u1", wire.CommandFailed, wire.Internal, "record the phase", false)
		select {
		case err := <-d.ended:
			t.Errorf("it ended: %v", err)
		default:
		}
		d.block(false)
		d.wants(slot.Stage, slot.Package, 0)
		d.restart()
		d.wants(slot.Idle, slot.Package, 0)
	})
}

func TestAReleaseThatLiesThereOfAnotherCommandIsTriedForTheOneThatAsksNow(t *testing.T) {
	bubble(t, func(d *device) {
		free, err := lock.Share(t.Context(), d.dir, func() {})
		if err != nil {
			t.Fatal(err)
		}
		m := d.offer("1.5.0")
		d.send(wire.VerbRelease, "u1", asked(m, ""))
		d.block(true)
		free()
		pass(2 * time.Second)
		d.ends("u1", wire.CommandFailed, wire.Internal, "record the phase", false)
		d.block(false)
		d.send(wire.VerbRelease, "u2", asked(m, ""))
		d.switched(sound())
		pass(10 * time.Second)
		d.wants(slot.Confirmed, slot.A, 0)
		d.ends("u2", wire.CommandSucceeded, "", "", false)
	})
}

func TestAProofThatCannotBeRecordedIsUntilItCan(t *testing.T) {
	bubble(t, func(d *device) {
		d.send(wire.VerbRelease, "u1", asked(d.offer("1.5.0"), ""))
		d.switched(sound())
		d.block(true)
		pass(time.Minute)
		d.stands(wire.UpdateTrial, "")
		d.wants(slot.Trial, slot.A, 0)
		d.block(false)
		pass(2 * time.Second)
		d.ends("u1", wire.CommandSucceeded, "", "", false)
		d.wants(slot.Confirmed, slot.A, 0)
	})
}

func TestAReleaseEndsAlsoWhereItsReasonCannotBeRecorded(t *testing.T) {
	bubble(t, func(d *device) {
		d.send(wire.VerbRelease, "u1", asked(d.offer("1.5.0"), ""))
		bad := sound()
		bad.canaries.note("desk/5M on cpu", errors.New("canary: a logit"))
		d.shown = bad
		d.block(true)
		d.stop()
		if err := d.start(slot.A); err != nil {
			t.Fatal(err)
		}
		pass(time.Second)
		if err := <-d.ended; !errors.Is(err, ErrUnproved) {
			t.Errorf("it ended with %v", err)
		}
		d.block(false)
		d.wants(slot.Trial, slot.A, 0) // to limber-boot it is one of three ends
	})
}

func TestTheSlotsRememberACommandUntilTheLedgerHasItsEnd(t *testing.T) {
	bubble(t, func(d *device) {
		d.send(wire.VerbRelease, "u1", asked(d.offer("1.5.0"), ""))
		trial, after := dark(), sound()
		d.switched(trial)
		d.ledger(false)
		trial.change(func() { trial.online, trial.delivered = true, 1 })
		pass(10 * time.Second)
		d.wants(slot.Confirmed, slot.A, 0)
		d.Acked(wire.VerbRelease, "u1", wire.CommandSucceeded, "", "")
		if p := d.phase(); p.Command == nil || p.Last.Told || len(trial.events) != 1 {
			t.Errorf("got the phase %+v, told %+v; want no word but that it was on trial", p, trial.events)
		}
		d.stop()
		d.ledger(true)
		d.shown = after
		d.starts(slot.A)
		d.ends("u1", wire.CommandSucceeded, "", "", false)
		if state, _ := d.over(); state != wire.CommandSucceeded || len(after.events) != 1 || d.phase().Command != nil {
			t.Errorf("got %s in the ledger, told %+v, in the phase %+v; want its end, once", state, after.events, d.phase())
		}
	})
}

func TestAReleaseThatWentBackIsNotTriedAgainWhereTheLedgerIsFull(t *testing.T) {
	bubble(t, func(d *device) {
		d.send(wire.VerbRelease, "u1", asked(d.offer("1.5.0"), `,"retry":true`))
		d.switched(sound())
		after := sound()
		d.full = true
		d.back(slot.Crash, "", after)
		pass(time.Minute)
		d.ends("u1", wire.CommandFailed, wire.Internal, "crash", true)
		d.wants(slot.RolledBack, slot.Package, 1)
		d.full = false
		d.ledger(true)
		pass(time.Minute)
		if state, _ := d.over(); state != wire.CommandFailed {
			t.Errorf("got %s in the ledger, want its end", state)
		}
		d.restart()
		if got := told(after); !slices.Equal(got, []string{"crash"}) || d.phase().Command != nil {
			t.Errorf("told of %q, in the phase %+v; want the crash once", got, d.phase())
		}
	})
}

func TestWhatIsDecidedOfALinkIsRecordedWhenItCanBe(t *testing.T) {
	for name, tt := range map[string]struct {
		online bool
		phase  string
		more   int // digests refused
	}{"it stands": {true, slot.RolledBack, 1}, "it is withdrawn": {false, slot.Undecided, 0}} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(d *device) {
				d.send(wire.VerbRelease, "u1", asked(d.offer("1.5.0"), ""))
				d.switched(dark())
				old := dark()
				d.back(slot.NoLink, "", old)
				d.block(true)
				old.change(func() { old.online, old.delivered = tt.online, 1 })
				pass(6 * time.Minute)
				d.wants(slot.RolledBack, slot.Package, 0)
				d.block(false)
				pass(2 * time.Second)
				d.wants(tt.phase, slot.Package, tt.more)
			})
		})
	}
}

func TestNothingIsLeftOfAReleaseWhoseFilesCannotBeWritten(t *testing.T) {
	bubble(t, func(d *device) {
		if err := os.MkdirAll(filepath.Join(d.dir, "slots"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("/dev/full/none", filepath.Join(d.carrier.dir, "part")); err != nil {
			t.Fatal(err)
		}
		d.carrier.dir = filepath.Join(d.carrier.dir, "part")
		d.send(wire.VerbRelease, "u1", asked(d.offer("1.5.0"), ""))
		d.ends("u1", wire.CommandFailed, wire.Internal, "", false)
		d.wants(slot.Idle, slot.Package, 0)
	})
}
