package release

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/lock"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/firmware/repo"
	"github.com/limber-edge/limber/firmware/slot"
	"github.com/limber-edge/limber/store"
)

func TestAReleaseThatProvesItselfIsConfirmedAndTheNextFetchesOnlyWhatIsNew(t *testing.T) {
	bubble(t, func(d *device) {
		d.send(wire.VerbRelease, "u1", asked(d.offer("1.5.0"), ""))
		d.wants(slot.Trial, slot.A, 0)
		d.switched(sound())
		if s := New(d.cfg, d.Updater.deps, discard()).Status().Step; s == nil || s.ID != "u1" || s.Step != wire.UpdateTrial {
			t.Errorf("got %+v before the command goes on; want that it is on trial", s)
		}
		d.stands(wire.UpdateTrial, "")
		pass(10 * time.Second)
		d.ends("u1", wire.CommandSucceeded, "", "", false)
		d.wants(slot.Confirmed, slot.A, 0)
		if r := d.Updater.Status().Running; r.Version != "1.5.0" || r.Slot != "a" || r.Digest == "" {
			t.Errorf("runs %+v, want 1.5.0 in a", r)
		}
		d.restart()
		if got := told(d.shown); !slices.Equal(got, []string{"", ""}) { // on trial, confirmed
			t.Errorf("told of %q, want that it was on trial, and confirmed", got)
		}
		d.carrier.fetched, d.cfg.Version = nil, "1.5.0"
		d.restart()
		next := d.offer("1.6.0")
		d.send(wire.VerbRelease, "u2", asked(next, ""))
		if got, want := d.carrier.fetched, []family.Digest{next.Digest(), next.Files[1].Digest}; !slices.Equal(got, want) {
			t.Errorf("fetched %q, want the manifest and the program, %q", got, want)
		}
		if b, err := os.ReadFile(filepath.Join(d.dir, "slots", "b", "libonnxruntime.so")); string(b) != library {
			t.Errorf("the library has %q, %v", b, err)
		}
	})
}

func TestAFileOfTheReleaseThatIsDamagedIsFetchedAgain(t *testing.T) {
	bubble(t, func(d *device) {
		d.send(wire.VerbRelease, "u1", asked(d.offer("1.5.0"), ""))
		d.switched(sound())
		pass(10 * time.Second)
		if err := os.WriteFile(filepath.Join(d.dir, "slots", "a", "libonnxruntime.so"), []byte(strings.ToUpper(library)), 0o600); err != nil {
			t.Fatal(err)
		}
		d.send(wire.VerbRelease, "u2", asked(d.offer("1.6.0"), ""))
		d.wants(slot.Trial, slot.B, 0)
		if b, err := os.ReadFile(filepath.Join(d.dir, "slots", "b", "libonnxruntime.so")); string(b) != library {
			t.Errorf("the library has %q, %v", b, err)
		}
	})
}

func TestAReleaseThatMayNotBeTakenIsRefusedBeforeAFileIsFetched(t *testing.T) {
	older := func(m *repo.Manifest) { m.Version = "1.3.0" }
	for _, tt := range []struct {
		name   string
		device func(*device)
		change func(*repo.Manifest)
		more   string // of the command
		state  wire.Step
		reason wire.Reason
		detail string
	}{
		{"nobody may sign", func(d *device) { d.signer = nil }, nil, "", wire.CommandRejected, wire.Unauthorized, "updates.root_file"},
		{"not signed", func(d *device) { clear(d.carrier.signed) }, nil, "", wire.CommandFailed, wire.Unauthorized, "not signed"},
		{"another architecture", nil, func(m *repo.Manifest) { m.Arch = "amd64" }, "", wire.CommandFailed, wire.Unsupported, "amd64"},
		{"another board", nil, func(m *repo.Manifest) { m.Boards = []string{"*Orin*"} }, "", wire.CommandFailed, wire.Unsupported, "Board X"},
		{"not from this version", nil, func(m *repo.Manifest) { m.From = &[2]string{"1.0.0", "1.3.0"} }, "", wire.CommandFailed,
			wire.Precondition, "1.4.0"},
		{"older", nil, older, "", wire.CommandFailed, wire.Precondition, "with downgrade"},
		{"older, and its manifest does not know this one", nil, func(m *repo.Manifest) {
			older(m)
			m.From = &[2]string{"1.0.0", "1.2.0"}
		}, `,"downgrade":true`, wire.CommandFailed, wire.Precondition, "1.4.0"},
		{"one way", nil, func(m *repo.Manifest) { m.State = repo.OneWay }, "", wire.CommandFailed, wire.Precondition, "with one_way"},
		{"no ONNX Runtime", nil, func(m *repo.Manifest) { m.Files = m.Files[1:] }, "", wire.CommandFailed, wire.Precondition,
			"beside limber"},
		{"no room", func(d *device) { d.free = spare + 10 }, nil, "", wire.CommandFailed, wire.NoSpace, "make room"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(d *device) {
				m := d.offer("1.5.0", func(m *repo.Manifest) {
					if tt.change != nil {
						tt.change(m)
					}
				})
				if tt.device != nil {
					tt.device(d)
					d.restart()
				}
				d.send(wire.VerbRelease, "u1", asked(m, tt.more))
				d.Acked(wire.VerbRelease, "u1", tt.state, tt.reason, tt.detail)
				d.wants(slot.Idle, slot.Package, 0)
				if len(d.carrier.fetched) > 1 {
					t.Errorf("fetched %q", d.carrier.fetched)
				}
			})
		})
	}
}

func TestADowngradeIsTakenWhereCommandAndManifestAllowIt(t *testing.T) {
	bubble(t, func(d *device) {
		m := d.offer("1.3.0", func(m *repo.Manifest) { m.From = &[2]string{"1.0.0", "1.4.0"} })
		d.send(wire.VerbRelease, "u1", asked(m, `,"downgrade":true`))
		d.wants(slot.Trial, slot.A, 0)
	})
}

func TestWhatIsOlderGoesByTheVersionThatWasSignedAndNotByThatOfTheProgram(t *testing.T) {
	bubble(t, func(d *device) {
		d.cfg.Version = "unknown"
		d.restart()
		d.send(wire.VerbRelease, "u1", asked(d.offer("1.6.0"), ""))
		d.switched(sound())
		pass(10 * time.Second)
		d.send(wire.VerbRelease, "u2", asked(d.offer("1.5.0"), ""))
		d.ends("u2", wire.CommandFailed, wire.Precondition, "release 1.5.0 is older than this one, 1.6.0; "+
			"take it with downgrade", false)
	})
}

func TestAReleaseThatWentBackIsToldOfOnceAndRefusedUntilRetry(t *testing.T) {
	bubble(t, func(d *device) {
		m := d.offer("1.5.0")
		d.send(wire.VerbRelease, "u1", asked(m, ""))
		d.switched(sound())
		after := sound()
		d.back(slot.Crash, "loading\npanic: no such board\n", after)
		d.ends("u1", wire.CommandFailed, wire.Internal, "did not prove itself: crash; this one runs again. It said last: panic: "+
			"no such board", true)
		if got := after.events; len(got) != 1 || got[0].Reason != "crash" || !strings.HasSuffix(got[0].Tail, "no such board\n") {
			t.Errorf("told %+v, want the crash and its tail", got)
		}
		d.restart()
		if n := len(after.events); n != 1 {
			t.Errorf("told %d times", n)
		}
		d.wants(slot.RolledBack, slot.Package, 1)
		d.send(wire.VerbRelease, "u2", asked(m, ""))
		d.Acked(wire.VerbRelease, "u2", wire.CommandRejected, wire.Precondition, "failed here before: crash; try it again with retry")
		d.send(wire.VerbRelease, "u3", asked(m, `,"retry":true`))
		d.wants(slot.Trial, slot.A, 0)
	})
}

func TestWhatIsNotOnTheDiskYetIsToldAgain(t *testing.T) {
	bubble(t, func(d *device) {
		d.send(wire.VerbRelease, "u1", asked(d.offer("1.5.0"), ""))
		d.switched(sound())
		deaf, after := sound(), sound()
		deaf.lost = true
		d.back(slot.Hang, "", deaf)
		d.shown = after
		d.restart()
		if got := told(after); !slices.Equal(got, []string{"hang"}) {
			t.Errorf("told of %q, want the hang again", got)
		}
	})
}

func TestATrialAndNoJobIsBlamedForItsEndUntilItIsToldOf(t *testing.T) {
	bubble(t, func(d *device) {
		d.send(wire.VerbRelease, "u1", asked(d.offer("1.5.0"), ""))
		if d.left.Tried {
			t.Error("before there was one")
		}
		d.switched(dark())
		if !d.left.Tried {
			t.Error("not on trial")
		}
		d.back(slot.Crash, "boom", dark())
		if !d.left.Tried {
			t.Error("not by the release before")
		}
		d.restart()
		if d.left.Tried {
			t.Error("of a trial that was told of")
		}
	})
}

func TestAReleaseEndsItselfWithTheReasonOfItsTrial(t *testing.T) {
	bubble(t, func(d *device) {
		d.send(wire.VerbRelease, "u1", asked(d.offer("1.5.0"), ""))
		d.switched(dark())
		pass(5*time.Minute - time.Second)
		d.stands(wire.UpdateTrial, "")
		pass(2 * time.Second)
		err := <-d.ended
		if !errors.Is(err, ErrUnproved) || !strings.Contains(err.Error(), "release 1.5.0 did not prove itself: no_link: no broker") {
			t.Errorf("it ended with %v", err)
		}
		if p := d.phase(); p.Verdict != slot.NoLink {
			t.Errorf("got %+v, want its verdict", p)
		}
	})
}

func TestAReleaseIsNotBlamedForACanaryThatFailedUnderTheOneBefore(t *testing.T) {
	logit := errors.New("canary: a logit")
	bubble(t, func(d *device) {
		d.shown.canaries.note("desk/5M on cpu", logit)
		d.send(wire.VerbRelease, "u1", asked(d.offer("1.5.0"), ""))
		same := sound()
		same.canaries.note("desk/5M on cpu", logit)
		d.switched(same)
		pass(10 * time.Second)
		d.ends("u1", wire.CommandSucceeded, "", "", false)
	})
	bubble(t, func(d *device) {
		d.shown.canaries.note("desk/5M on cpu", logit)
		d.send(wire.VerbRelease, "u1", asked(d.offer("1.5.0"), ""))
		more := sound()
		more.canaries.note("desk/5M on cpu", logit)
		more.canaries.note("desk/5M on cuda", logit)
		d.switched(more)
		pass(10 * time.Second)
		if err := <-d.ended; !errors.Is(err, ErrUnproved) || !strings.Contains(err.Error(), "5M on cuda: canary: a logit") {
			t.Errorf("it ended with %v", err)
		}
	})
}

func TestWhatAReleaseSaysOfItselfIsToldAsASentenceOfItsOwn(t *testing.T) {
	for _, tt := range []struct{ name, tail, want string }{
		{"nothing", "", "did not prove itself: state; this one runs again"},
		{"its verdict", "starts\nlimber: release 1.5.0 did not prove itself: state: open limber.db: page 0\npage 1\n",
			"did not prove itself: state: open limber.db: page 0; page 1; this one runs again"},
		{"a long one", "limber: release 1.5.0 did not prove itself: state: " + strings.Repeat("a", 2*lineMost),
			"state: " + strings.Repeat("a", lineMost) + "; this one runs again"},
		{"that of another", "limber: release 1.4.9 did not prove itself: state: none\n",
			"state; this one runs again. It said last: limber: release 1.4.9 did not prove itself: state: none"},
	} {
		got := wordsOf(slot.Last{Version: "1.5.0", Outcome: slot.RolledBack, Reason: slot.State, Tail: tt.tail})
		if !strings.HasPrefix(got, "release 1.5.0 did not prove itself: state") || !strings.HasSuffix(got, tt.want) {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestTheReleaseBeforeHasALinkSoTheNewOneIsRefused(t *testing.T) {
	bubble(t, func(d *device) {
		d.send(wire.VerbRelease, "u1", asked(d.offer("1.5.0"), ""))
		d.switched(dark())
		old := dark()
		d.back(slot.NoLink, "no broker could be reached\n", old)
		pass(time.Minute)
		d.stands(wire.UpdateTrial, "had no link")
		if len(old.events) > 0 {
			t.Errorf("told %+v before it was decided", old.events)
		}
		old.change(func() { old.online, old.delivered = true, 1 })
		pass(time.Second)
		d.ends("u1", wire.CommandFailed, wire.Internal, "no broker could be reached", true)
		d.wants(slot.RolledBack, slot.Package, 1)
		if got := told(old); !slices.Equal(got, []string{"no_link"}) {
			t.Errorf("told of %q", got)
		}
	})
}

func TestWithoutALinkOnEitherSideAReleaseIsTriedTwiceMoreAtMost(t *testing.T) {
	bubble(t, func(d *device) {
		d.send(wire.VerbRelease, "u1", asked(d.offer("1.5.0"), `,"sources":[]`))
		for range 2 {
			d.switched(dark())
			old := dark()
			d.back(slot.NoLink, "no broker\n", old)
			pass(5*time.Minute + time.Second)
			d.wants(slot.Undecided, slot.Package, 0)
			d.stands(wire.UpdateLocked, "tried again")
			d.restart()
			pass(time.Minute)
			d.wants(slot.Undecided, slot.Package, 0)
			old.change(func() { old.online, old.delivered = true, 1 })
			pass(2 * time.Second)
			d.wants(slot.Trial, slot.A, 0)
			if len(old.events) > 0 {
				t.Errorf("told %+v before it was decided", old.events)
			}
		}
		d.switched(dark())
		old := dark()
		d.back(slot.NoLink, "no broker\n", old)
		pass(5*time.Minute + time.Second)
		d.wants(slot.Undecided, slot.Package, 1)
		d.ends("u1", wire.CommandFailed, wire.Internal, "", true)
		if got := told(old); !slices.Equal(got, []string{"no_link"}) {
			t.Errorf("told of %q", got)
		}
	})
}

func TestABrokerThatTakesNothingFromEitherSideLeavesAReleaseUndecided(t *testing.T) {
	bubble(t, func(d *device) {
		d.send(wire.VerbRelease, "u1", asked(d.offer("1.5.0"), ""))
		full, old := dark(), dark()
		full.online, old.online = true, true
		d.switched(full)
		d.back(slot.NoLink, "the broker took no message\n", old)
		pass(5*time.Minute + time.Second)
		d.wants(slot.Undecided, slot.Package, 0)
		d.stands(wire.UpdateLocked, "tried again")
		old.change(func() { old.delivered = 1 })
		pass(2 * time.Second)
		d.wants(slot.Trial, slot.A, 0)
	})
}

func TestAnUndecidedReleaseIsGivenUpAtTheExpiryOfItsCommand(t *testing.T) {
	bubble(t, func(d *device) {
		d.send(wire.VerbRelease, "u1", asked(d.offer("1.5.0"), ""))
		d.switched(dark())
		old := dark()
		d.back(slot.NoLink, "", old)
		pass(2 * time.Hour)
		d.ends("u1", wire.CommandTimedOut, wire.Expired, "", true)
		d.wants(slot.Undecided, slot.Package, 0)
		d.send(wire.VerbRelease, "u2", asked(d.offer("1.5.1"), ""))
		d.wants(slot.Trial, slot.A, 0)
	})
}

func TestATrialGoesOnWhenItsCommandExpires(t *testing.T) {
	bubble(t, func(d *device) {
		shown := sound()
		shown.loading = true
		d.send(wire.VerbRelease, "u1", strings.Replace(asked(d.offer("1.5.0"), ""), "3600000", "10000", 1))
		d.switched(shown)
		pass(time.Minute)
		d.stands(wire.UpdateTrial, "")
		d.restart()
		d.stands(wire.UpdateTrial, "")
		shown.change(func() { shown.loading = false })
		pass(10 * time.Second)
		d.ends("u1", wire.CommandSucceeded, "", "", false)
	})
}

func TestACommandCanBeCancelledAndExpiresWhileItWaitsForTheLock(t *testing.T) {
	for _, how := range []string{"cancelled", "expired"} {
		t.Run(how, func(t *testing.T) {
			bubble(t, func(d *device) {
				free, err := lock.Share(t.Context(), d.dir, func() {})
				if err != nil {
					t.Fatal(err)
				}
				defer free()
				d.send(wire.VerbRelease, "u1", asked(d.offer("1.5.0"), ""))
				d.stands(wire.UpdateLocked, "update.lock is held")
				if how == "cancelled" {
					d.send(wire.VerbCancel, "c1", `{"cancel":"u1","ttl_ms":60000}`)
					d.ends("u1", wire.CommandCancelled, "", "", false)
				} else {
					pass(time.Hour)
					d.ends("u1", wire.CommandTimedOut, wire.Expired, "before release 1.5.0 was on trial", false)
				}
				d.wants(slot.Idle, slot.Package, 0)
			})
		})
	}
}

func TestAReleaseThatIsWithdrawnWhileItWaitsIsNotTried(t *testing.T) {
	bubble(t, func(d *device) {
		free, err := lock.Share(t.Context(), d.dir, func() {})
		if err != nil {
			t.Fatal(err)
		}
		m := d.offer("1.5.0")
		d.send(wire.VerbRelease, "u1", asked(m, ""))
		d.stands(wire.UpdateLocked, "update.lock is held")
		d.carrier.withdraw(m.Digest())
		free()
		pass(2 * lock.Pace)
		d.ends("u1", wire.CommandFailed, wire.Unauthorized, "not signed", false)
		d.wants(slot.Idle, slot.Package, 0)
		if free, err := lock.Try(d.dir); err != nil {
			t.Errorf("the lock is kept: %v", err)
		} else {
			free()
		}
	})
}

// slowSigner has everything signed, after a time.
type slowSigner struct{ takes time.Duration }

func (s slowSigner) Signed(ctx context.Context, _ string, _ family.Digest) error {
	return pause(ctx, s.takes)
}

func TestACommandCanBeCancelledWhileItIsFoundOutWhetherItsReleaseIsSignedStill(t *testing.T) {
	bubble(t, func(d *device) {
		d.signer = slowSigner{time.Minute}
		d.restart()
		d.send(wire.VerbRelease, "u1", asked(d.offer("1.5.0"), ""))
		pass(90 * time.Second)
		d.wants(slot.Stage, slot.Package, 0)
		d.send(wire.VerbCancel, "c1", `{"cancel":"u1","ttl_ms":60000}`)
		d.ends("u1", wire.CommandCancelled, "", "", false)
		d.wants(slot.Idle, slot.Package, 0)
	})
}

func TestAWindowThatClosesWhileTheRepositoryIsAskedIsWaitedForAgain(t *testing.T) {
	bubble(t, func(d *device) {
		now := time.Now()
		window := now.Add(-time.Hour).Format("15:04") + "-" + now.Add(2*time.Minute).Format("15:04")
		d.must(d.cfg.Window.UnmarshalText([]byte(window)))
		d.signer = slowSigner{time.Minute}
		d.restart()
		d.send(wire.VerbRelease, "u1", asked(d.offer("1.5.0"), ""))
		pass(3 * time.Minute)
		d.stands(wire.UpdateLocked, "until")
		d.wants(slot.Stage, slot.Package, 0)
	})
}

func TestACommandEndsAtTheRestartOfADeviceThatNobodyMaySignForAnyMore(t *testing.T) {
	bubble(t, func(d *device) {
		d.carrier.hold = make(chan struct{})
		d.send(wire.VerbRelease, "u1", asked(d.offer("1.5.0"), ""))
		d.signer = nil
		d.restart()
		d.ends("u1", wire.CommandFailed, wire.Unauthorized, "updates.root_file", false)
		d.wants(slot.Idle, slot.Package, 0)
	})
}

func TestAnUndecidedReleaseThatWasWithdrawnIsNotTriedAgain(t *testing.T) {
	bubble(t, func(d *device) {
		m := d.offer("1.5.0")
		d.send(wire.VerbRelease, "u1", asked(m, ""))
		d.switched(dark())
		old := dark()
		d.back(slot.NoLink, "", old)
		pass(5*time.Minute + time.Second)
		d.wants(slot.Undecided, slot.Package, 0)
		d.carrier.withdraw(m.Digest())
		old.change(func() { old.online, old.delivered = true, 1 })
		pass(2 * time.Second)
		d.ends("u1", wire.CommandFailed, wire.Unauthorized, "not signed", true)
		d.wants(slot.Undecided, slot.Package, 0)
	})
}

func TestAnOperatorSeesThatTheRepositoryIsOutOfReach(t *testing.T) {
	bubble(t, func(d *device) {
		d.carrier.away = make(chan struct{})
		d.send(wire.VerbRelease, "u1", asked(d.offer("1.5.0"), ""))
		d.stands(wire.UpdateFetching, "the repository is asked who signed it")
		close(d.carrier.away)
		pass(2 * time.Second)
		d.wants(slot.Trial, slot.A, 0)
	})
}

func TestARestartGoesOnWhereItWas(t *testing.T) {
	bubble(t, func(d *device) {
		free, err := lock.Share(t.Context(), d.dir, func() {})
		if err != nil {
			t.Fatal(err)
		}
		hold := make(chan struct{})
		d.carrier.hold = hold
		d.send(wire.VerbRelease, "u1", asked(d.offer("1.5.0"), ""))
		d.stands(wire.UpdateFetching, "")
		d.restart()
		d.stands(wire.UpdateFetching, "")
		close(hold)
		pass(time.Second)
		d.stands(wire.UpdateLocked, "")
		n := len(d.carrier.fetched)
		d.restart()
		pass(time.Second)
		d.stands(wire.UpdateLocked, "")
		if len(d.carrier.fetched) != n {
			t.Errorf("what is staged was fetched again: %q", d.carrier.fetched[n:])
		}
		free()
		pass(2 * time.Second)
		d.switched(sound())
		d.restart() // in the trial
		pass(10 * time.Second)
		d.ends("u1", wire.CommandSucceeded, "", "", false)
	})
}

func TestAReleaseThatCannotReadTheStateEndsAtOnce(t *testing.T) {
	bubble(t, func(d *device) {
		m := d.offer("1.5.0")
		d.send(wire.VerbRelease, "u1", asked(m, ""))
		d.stop()
		if err := os.Remove(filepath.Join(d.dir, "limber.db")); err != nil {
			t.Fatal(err)
		}
		if err := d.start(slot.A); !errors.Is(err, ErrUnproved) || !strings.Contains(err.Error(), "state: the command") {
			t.Errorf("got %v, want that it has not proved itself", err)
		}
		if p := d.phase(); p.Verdict != slot.State {
			t.Errorf("got %+v, want its verdict", p)
		}
		after := sound()
		d.back(slot.State, "", after)
		d.Acked(wire.VerbRelease, "u1", wire.CommandFailed, wire.Internal, "state")
		if got := told(after); !slices.Equal(got, []string{"state"}) {
			t.Errorf("told of %q", got)
		}
	})
}

func TestACommandThatTheLedgerHasEndedIsDropped(t *testing.T) {
	bubble(t, func(d *device) {
		d.carrier.hold = make(chan struct{})
		payload := asked(d.offer("1.5.0"), "")
		d.send(wire.VerbRelease, "u1", payload)
		d.wants(slot.Fetch, slot.Package, 0)
		err := d.st.SetCommand(store.Command{ID: "release/u1", Request: store.DigestOf([]byte(payload)),
			State: string(wire.CommandTimedOut), Answer: []byte("{}"), Expires: time.Now().Add(time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		d.restart()
		d.wants(slot.Idle, slot.Package, 0)
	})
}

func TestAReleaseThatRunsIsNoUpdate(t *testing.T) {
	bubble(t, func(d *device) {
		m := d.offer("1.5.0")
		d.send(wire.VerbRelease, "u1", asked(m, ""))
		d.switched(sound())
		pass(10 * time.Second)
		d.send(wire.VerbRelease, "u2", asked(m, ""))
		d.ends("u2", wire.CommandSucceeded, "", "release 1.5.0 runs already", false)
		d.wants(slot.Confirmed, slot.A, 0)
	})
}

func TestATrialWhoseStartCannotBeCountedIsTriedAgainAfterAMinute(t *testing.T) {
	bubble(t, func(d *device) {
		d.send(wire.VerbRelease, "u1", asked(d.offer("1.5.0"), ""))
		d.stop()
		d.starts(slot.Package) // as limber-boot has it run meanwhile
		d.stands(wire.UpdateTrial, "could not be recorded")
		d.used.Store(d.free) // it would not be recorded now either
		pass(10 * recount)
		d.stands(wire.UpdateTrial, "could not be recorded")
		if len(d.ended) > 0 {
			t.Error("it ends though there is no room")
		}
		d.used.Store(0)
		pass(recount + time.Second)
		d.switched(sound())
		pass(10 * time.Second)
		d.ends("u1", wire.CommandSucceeded, "", "", false)
	})
}

func TestWhatIsDamagedOfThePhaseIsTold(t *testing.T) {
	bubble(t, func(d *device) {
		for content, want := range map[string]string{
			"{": "damaged",
			`{"schema":1,"phase":"idle","slot":"package","previous":"package","command":{"id":"u1","payload":{}}}`: "the command",
		} {
			if err := os.MkdirAll(filepath.Join(d.dir, "slots"), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(d.dir, "slots", "phase.json"), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			if left, err := Settle(d.st, d.slots); err == nil || !strings.Contains(err.Error(), want) || left.ID != "" {
				t.Errorf("%s: got %+v, %v; want an error with %q", content, left, err, want)
			}
		}
	})
}

func TestAnUndecidedReleaseWhoseCommandHasEndedIsToldOf(t *testing.T) {
	bubble(t, func(d *device) {
		d.send(wire.VerbRelease, "u1", asked(d.offer("1.5.0"), ""))
		d.switched(dark())
		deaf, after := dark(), dark()
		deaf.lost = true
		d.back(slot.NoLink, "", deaf)
		pass(2 * time.Hour)
		d.ends("u1", wire.CommandTimedOut, wire.Expired, "", true)
		d.shown = after
		d.restart()
		if got := told(after); !slices.Equal(got, []string{"no_link"}) {
			t.Errorf("told of %q", got)
		}
	})
}
