package update

import (
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/control"
	"github.com/limber-edge/limber/agent/engine"
	"github.com/limber-edge/limber/agent/lock"
	"github.com/limber-edge/limber/agent/pipeline"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/library"
	"github.com/limber-edge/limber/family/stock"
	"github.com/limber-edge/limber/store"
)

func steps(acks []wire.Ack) (steps []wire.Step) {
	for _, a := range acks {
		steps = append(steps, a.State)
	}
	return steps
}

func TestAFamilyThatProvesItselfTakesThePlaceOfTheOneBefore(t *testing.T) {
	bubble(t, func(t *testing.T, d *device) {
		next := d.offer("next")
		d.send(wire.VerbFamily, "u1", asked(next, `,"probation":{"frames":10,"max_missed":2}`))
		d.stands(wire.UpdateProbation, "")
		d.wants("next", "", stockName)
		d.engine.answer(9, 2)
		pass(time.Minute)
		d.wants("next", "", stockName) // one is missing
		d.engine.answer(1, 0)
		pass(time.Second)
		d.ends("u1", wire.CommandSucceeded, "", "", false)
		d.wants("next", "", "")
		want := []wire.Step{wire.CommandReceived, wire.CommandAccepted, wire.CommandExecuting, wire.CommandSucceeded}
		if got := steps(d.Acks(wire.VerbFamily, "u1")); !slices.Equal(got, want) {
			t.Errorf("states: got %q, want %q", got, want)
		}
		d.cut()
		d.wants("next", "", "")
		if s := d.Updater.Status(); s.Last == nil || s.Last.ID != "u1" || s.Step != nil {
			t.Errorf("after a start: got %+v, want the last one", s)
		}
	})
}

func TestOnlyWhatIsMissingOfASecondFamilyIsFetched(t *testing.T) {
	bubble(t, func(t *testing.T, d *device) {
		first, second := d.offer("first"), d.offer("second")
		d.send(wire.VerbFamily, "u1", asked(first, noProbation))
		pass(time.Second)
		d.ends("u1", wire.CommandSucceeded, "", "", false)
		d.carrier.fetched = nil
		d.send(wire.VerbFamily, "u2", asked(second, noProbation))
		pass(time.Second)
		d.ends("u2", wire.CommandSucceeded, "", "", false)
		want := []family.Digest{second.Digest(), second.Members[1].Model}
		if got := d.carrier.fetched; !slices.Equal(got, want) {
			t.Errorf("fetched %q, want the manifest and the one model that is new, %q", got, want)
		}
	})
}

// noProbation asks for none.
const noProbation = `,"probation":{"frames":0,"max_missed":0}`

func TestAFamilyInUseIsNoUpdate(t *testing.T) {
	bubble(t, func(t *testing.T, d *device) {
		d.send(wire.VerbFamily, "u1", asked(d.lib.Current(), ""))
		d.ends("u1", wire.CommandSucceeded, "", "family cifar10 is in use already", false)
		if len(d.engine.ran)+len(d.carrier.fetched) > 0 {
			t.Errorf("got %q fetched, and %q took over; want nothing", d.carrier.fetched, d.engine.ran)
		}
	})
}

func TestAnotherUpdateUnderWayIsLockedOut(t *testing.T) {
	bubble(t, func(t *testing.T, d *device) {
		d.send(wire.VerbFamily, "u1", asked(d.offer("next"), ""))
		d.send(wire.VerbFamily, "u2", asked(d.offer("other"), ""))
		d.Acked(wire.VerbFamily, "u2", wire.CommandRejected, wire.Locked, "another command of this verb is under way")
		d.engine.answer(200, 0)
		pass(time.Second)
		d.ends("u1", wire.CommandSucceeded, "", "", false)
		d.send(wire.VerbFamily, "u3", asked(d.offer("other"), noProbation))
		pass(time.Second)
		d.ends("u3", wire.CommandSucceeded, "", "", false)
	})
}

func TestForceIsTheOwnersToAllow(t *testing.T) {
	bubble(t, func(t *testing.T, d *device) {
		next := d.offer("next")
		d.send(wire.VerbFamily, "u1", asked(next, `,"force":true`))
		d.Acked(wire.VerbFamily, "u1", wire.CommandRejected, wire.Unauthorized, "updates.allow_force = true")
		d.stop()
		d.cfg.AllowForce, d.cfg.Window = true, mustWindow(t, "02:00-05:00")
		d.start()
		release, err := lock.Share(t.Context(), d.dir, func() {})
		if err != nil {
			t.Fatal(err)
		}
		defer release()
		d.send(wire.VerbFamily, "u2", asked(next, `,"force":true`+noProbation))
		pass(time.Second)
		d.ends("u2", wire.CommandSucceeded, "", "", false)
	})
}

func mustWindow(t *testing.T, text string) (w control.Window) {
	t.Helper()
	if err := w.UnmarshalText([]byte(text)); err != nil {
		t.Fatal(err)
	}
	return w
}

func TestWithoutRoomNotAByteIsFetched(t *testing.T) {
	bubble(t, func(t *testing.T, d *device) {
		next := d.offer("next")
		d.free = spare - 1
		d.send(wire.VerbFamily, "u1", asked(next, ""))
		d.ends("u1", wire.CommandFailed, wire.NoSpace, "make room", false)
		if len(d.carrier.fetched) > 0 {
			t.Errorf("fetched %q", d.carrier.fetched)
		}
		d.free = spare // not what is missing as well
		d.send(wire.VerbFamily, "u2", asked(next, ""))
		d.ends("u2", wire.CommandFailed, wire.NoSpace, "make room", false)
		if got := d.carrier.fetched; !slices.Equal(got, []family.Digest{next.Digest()}) {
			t.Errorf("fetched %q, want the manifest alone", got)
		}
		d.wants(stockName, "", "")
		d.free = 1 << 40 // it is not the family's fault
		d.send(wire.VerbFamily, "u3", asked(next, noProbation))
		pass(time.Second)
		d.ends("u3", wire.CommandSucceeded, "", "", false)
	})
}

func TestAManifestThatIsNotWhatTheCommandNamesIsInvalid(t *testing.T) {
	bubble(t, func(t *testing.T, d *device) {
		other := d.offer("other")
		renamed := fmt.Sprintf(`{"family":{"name":"next","digest":"sha256:%s"},"ttl_ms":3600000}`, other.Digest())
		d.send(wire.VerbFamily, "u1", renamed)
		d.ends("u1", wire.CommandFailed, wire.Invalid, "is that of other, the command names next", false)
		for id, bytes := range map[string][]byte{"u2": []byte("{}"), "u3": append(other.Compact(), ' ')} {
			digest := d.carrier.blobs.Add(bytes)
			d.send(wire.VerbFamily, id, fmt.Sprintf(`{"family":{"name":"other","digest":"sha256:%s"},"ttl_ms":3600000}`, digest))
			d.ends(id, wire.CommandFailed, wire.Invalid, "family manifest", false)
		}
		stock, blobs := variant(stockName)
		for _, b := range blobs {
			d.carrier.blobs.Add(b)
		}
		d.carrier.blobs.Add(stock.Compact())
		d.send(wire.VerbFamily, "u4", asked(stock, ""))
		d.ends("u4", wire.CommandFailed, wire.Invalid, "the name is that of the stock family", false)
		d.wants(stockName, "", "")
	})
}

func TestWhatTheCarrierRefusesIsTheReason(t *testing.T) {
	bubble(t, func(t *testing.T, d *device) {
		next := d.offer("next")
		for id, reason := range map[string]wire.Reason{"u1": wire.Invalid, "u2": wire.NoSpace, "u3": wire.Unauthorized} {
			d.carrier.fault = wire.Refuse(reason, "three wrong ones")
			d.send(wire.VerbFamily, id, asked(next, ""))
			d.ends(id, wire.CommandFailed, reason, "three wrong ones", false)
		}
		d.carrier.fault = fmt.Errorf("write: %w", syscall.ENOSPC)
		d.send(wire.VerbFamily, "u4", asked(next, ""))
		d.ends("u4", wire.CommandFailed, wire.NoSpace, "no space left", false)
	})
}

func TestAFamilyWhoseMembersCannotBeUsedIsRefusedUntilRetry(t *testing.T) {
	bubble(t, func(t *testing.T, d *device) {
		next := d.offer("next")
		d.engine.faults["next"] = wire.Refuse(wire.Unsupported, "no member passed its canary")
		d.send(wire.VerbFamily, "u1", asked(next, noProbation))
		d.ends("u1", wire.CommandFailed, wire.Unsupported, "no member passed its canary", false)
		d.wants(stockName, "", "")
		delete(d.engine.faults, "next")
		d.send(wire.VerbFamily, "u2", asked(next, noProbation))
		d.Acked(wire.VerbFamily, "u2", wire.CommandRejected, wire.Precondition, "no member passed its canary; try it again")
		d.send(wire.VerbFamily, "u3", asked(next, `,"retry":true`+noProbation))
		pass(time.Second)
		d.ends("u3", wire.CommandSucceeded, "", "", false)
		if all := failures(d.st); len(all) > 0 {
			t.Errorf("got %+v refused, want none after its success", all)
		}
	})
}

func TestAFamilyThatMissesDeadlinesGoesBack(t *testing.T) {
	for name, misses := range map[string]func(e *fakeEngine){
		"answered late": func(e *fakeEngine) { e.answer(87, 21) },
		"turned away":   func(e *fakeEngine) { e.answer(66, 0); e.mu.Lock(); e.away += 21; e.mu.Unlock() },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, d *device) {
				next := d.offer("next")
				d.engine.away = 1000 // of the family before
				d.send(wire.VerbFamily, "u1", asked(next, ""))
				d.stands(wire.UpdateProbation, "")
				misses(d.engine)
				pass(time.Second)
				d.ends("u1", wire.CommandFailed, wire.Infeasible, "21 of 87 frames missed their deadline, 20 may", true)
				d.wants(stockName, "", "")
				if got, want := d.engine.ran, []string{"next", stockName}; !slices.Equal(got, want) {
					t.Errorf("took over: got %q, want %q", got, want)
				}
				d.send(wire.VerbFamily, "u2", asked(next, ""))
				d.Acked(wire.VerbFamily, "u2", wire.CommandRejected, wire.Precondition, "21 of 87")
			})
		})
	}
}

func TestAFamilyThatBecomesUnusableOnTrialGoesBack(t *testing.T) {
	bubble(t, func(t *testing.T, d *device) {
		d.send(wire.VerbFamily, "u1", asked(d.offer("next"), ""))
		d.engine.mu.Lock()
		d.engine.state = engine.Unavailable
		d.engine.mu.Unlock()
		pass(time.Second)
		d.ends("u1", wire.CommandFailed, wire.Unsupported, "family next cannot be used: no member passed", true)
		d.wants(stockName, "", "")
	})
}

func TestAnUpdateThatExpiresBeforeItIsActivatedTimesOut(t *testing.T) {
	bubble(t, func(t *testing.T, d *device) {
		next := d.offer("next")
		d.carrier.hold = make(chan struct{})
		d.send(wire.VerbFamily, "u1", asked(next, ""))
		pass(time.Hour)
		d.ends("u1", wire.CommandTimedOut, wire.Expired, "it expired in the phase fetching", false)
		close(d.carrier.hold)
		d.engine.hold = make(chan struct{})
		d.send(wire.VerbFamily, "u2", asked(next, ""))
		pass(time.Hour)
		d.ends("u2", wire.CommandTimedOut, wire.Expired, "it expired in the phase activating", false)
		d.wants(stockName, "", "")
		close(d.engine.hold)
		d.send(wire.VerbFamily, "u3", asked(next, noProbation)) // nothing was proved against it
		pass(time.Second)
		d.ends("u3", wire.CommandSucceeded, "", "", false)
	})
}

func TestAFamilyThatWasNotProvedAtTheExpiryGoesBack(t *testing.T) {
	bubble(t, func(t *testing.T, d *device) {
		next := d.offer("next")
		d.send(wire.VerbFamily, "u1", asked(next, ""))
		d.engine.answer(199, 0)
		pass(time.Hour)
		d.ends("u1", wire.CommandTimedOut, wire.Expired, "it expired in the phase probation", true)
		d.wants(stockName, "", "")
		d.send(wire.VerbFamily, "u2", asked(next, noProbation))
		pass(time.Second)
		d.ends("u2", wire.CommandSucceeded, "", "", false)
	})
}

func TestOutsideOfTheWindowOnlyTheActivationWaits(t *testing.T) {
	bubble(t, func(t *testing.T, d *device) {
		d.stop()
		d.cfg.Window = mustWindow(t, "00:30-05:00")
		d.start()
		d.ahead.Store(int64(untilMidnight(time.Now())))
		d.send(wire.VerbFamily, "u1", asked(d.offer("next"), noProbation))
		d.stands(wire.UpdateLocked, "until 00:30")
		d.wants(stockName, "next", "")
		pass(29 * time.Minute)
		d.stands(wire.UpdateLocked, "until 00:30")
		pass(time.Minute + 2*time.Second)
		d.ends("u1", wire.CommandSucceeded, "", "", false)
	})
}

// untilMidnight is by how much a clock must be set for the day to begin.
func untilMidnight(now time.Time) time.Duration {
	return time.Date(now.Year(), now.Month(), now.Day()+1, 0, 0, 0, 0, now.Location()).Sub(now)
}

func TestAClockThatIsSetOpensTheWindow(t *testing.T) {
	bubble(t, func(t *testing.T, d *device) {
		d.stop()
		d.cfg.Window = mustWindow(t, "22:00-04:00")
		d.start()
		d.ahead.Store(int64(untilMidnight(time.Now()) + 12*time.Hour))
		d.send(wire.VerbFamily, "u1", asked(d.offer("next"), ""))
		d.stands(wire.UpdateLocked, "until 22:00")
		d.ahead.Add(int64(11 * time.Hour))
		pass(lock.Pace)
		d.stands(wire.UpdateProbation, "")
		d.ahead.Add(-int64(11 * time.Hour)) // what has begun goes on
		d.engine.answer(200, 0)
		pass(time.Second)
		d.ends("u1", wire.CommandSucceeded, "", "", false)
	})
}

func TestAClockThatIsSetDoesNotChangeWhenACommandExpires(t *testing.T) {
	bubble(t, func(t *testing.T, d *device) {
		d.carrier.hold = make(chan struct{})
		d.send(wire.VerbFamily, "u1", asked(d.offer("next"), ""))
		d.ahead.Store(int64(48 * time.Hour))
		pass(59 * time.Minute)
		d.stands(wire.UpdateFetching, "")
		pass(time.Minute)
		d.ends("u1", wire.CommandTimedOut, wire.Expired, "", false)
	})
}

func TestWhileTheLockIsHeldTheActivationWaits(t *testing.T) {
	bubble(t, func(t *testing.T, d *device) {
		one, err := lock.Share(t.Context(), d.dir, func() {})
		if err != nil {
			t.Fatal(err)
		}
		two, err := lock.Share(t.Context(), d.dir, func() { t.Error("it waits for another of its kind") })
		if err != nil {
			t.Fatal(err)
		}
		d.send(wire.VerbFamily, "u1", asked(d.offer("next"), noProbation))
		d.stands(wire.UpdateLocked, "update.lock is held by another process")
		one()
		pass(time.Minute)
		d.stands(wire.UpdateLocked, "update.lock is held by another process")
		two()
		pass(2 * lock.Pace)
		d.ends("u1", wire.CommandSucceeded, "", "", false)
	})
}

func TestWhoWantsTheLockWaitsForAnActivation(t *testing.T) {
	bubble(t, func(t *testing.T, d *device) {
		d.engine.hold = make(chan struct{})
		d.send(wire.VerbFamily, "u1", asked(d.offer("next"), ""))
		waiting, held := 0, make(chan func(), 1)
		go func() {
			release, err := lock.Share(t.Context(), d.dir, func() { waiting++ })
			if err != nil {
				t.Error(err)
			}
			held <- release
		}()
		pass(time.Minute)
		if len(held) > 0 || waiting != 1 {
			t.Errorf("got it: %t, told %d times that it waits; want no, and once", len(held) > 0, waiting)
		}
		close(d.engine.hold)
		pass(time.Second)
		(<-held)() // on trial already, which does not need it
		d.stands(wire.UpdateProbation, "")
	})
}

func cancelOf(id string) string { return fmt.Sprintf(`{"cancel":%q,"ttl_ms":60000}`, id) }

func TestWhatHasNotBegunToActivateIsTakenBack(t *testing.T) {
	for _, phase := range []wire.UpdatePhase{wire.UpdateFetching, wire.UpdateShadow, wire.UpdateLocked} {
		t.Run(string(phase), func(t *testing.T) {
			bubble(t, func(t *testing.T, d *device) {
				next := d.offer("next")
				d.carrier.hold = make(chan struct{})
				if phase == wire.UpdateLocked {
					close(d.carrier.hold)
					release, err := lock.Share(t.Context(), d.dir, func() {})
					if err != nil {
						t.Fatal(err)
					}
					defer release()
				}
				more := ""
				if phase == wire.UpdateShadow {
					close(d.carrier.hold)
					more = inShadow
				}
				d.send(wire.VerbFamily, "u1", asked(next, more))
				d.stands(phase, d.Updater.Status().Step.Detail)
				d.send(wire.VerbCancel, "c1", cancelOf("u1"))
				d.Acked(wire.VerbCancel, "c1", wire.CommandSucceeded, "", "")
				d.ends("u1", wire.CommandCancelled, "", "", false)
				d.wants(stockName, "", "")
				d.send(wire.VerbCancel, "c2", cancelOf("u1"))
				d.Acked(wire.VerbCancel, "c2", wire.CommandFailed, wire.Precondition, "no command u1 is under way")
			})
		})
	}
}

func TestWhatHasBegunToActivateIsNotTakenBack(t *testing.T) {
	bubble(t, func(t *testing.T, d *device) {
		d.engine.hold = make(chan struct{})
		d.send(wire.VerbFamily, "u1", asked(d.offer("next"), ""))
		d.stands(wire.UpdateActivating, "")
		d.send(wire.VerbCancel, "c1", cancelOf("u1"))
		d.Acked(wire.VerbCancel, "c1", wire.CommandFailed, wire.Precondition, "it ends by itself")
		close(d.engine.hold)
		pass(time.Second)
		d.stands(wire.UpdateProbation, "")
		d.send(wire.VerbCancel, "c2", cancelOf("u1"))
		d.Acked(wire.VerbCancel, "c2", wire.CommandFailed, wire.Precondition, "it ends by itself")
		d.engine.answer(200, 0)
		pass(time.Second)
		d.ends("u1", wire.CommandSucceeded, "", "", false)
	})
}

func TestAnUpdateGoesOnAfterAKillInEachPhase(t *testing.T) {
	for _, phase := range []wire.UpdatePhase{
		wire.UpdateFetching, wire.UpdateShadow, wire.UpdateLocked, wire.UpdateActivating, wire.UpdateProbation,
	} {
		t.Run(string(phase), func(t *testing.T) {
			bubble(t, func(t *testing.T, d *device) {
				next := d.offer("next")
				release := func() {}
				switch phase {
				case wire.UpdateFetching:
					d.carrier.hold = make(chan struct{})
				case wire.UpdateLocked:
					var err error
					if release, err = lock.Share(t.Context(), d.dir, func() {}); err != nil {
						t.Fatal(err)
					}
				case wire.UpdateActivating:
					d.engine.hold = make(chan struct{})
				}
				more := `,"probation":{"frames":5,"max_missed":0}`
				if phase == wire.UpdateShadow {
					more += inShadow
				}
				d.send(wire.VerbFamily, "u1", asked(next, more))
				d.stands(phase, d.Updater.Status().Step.Detail)
				d.engine.answer(1, 0)
				d.engine.compare(9, 9)
				d.carrier.hold, d.engine.hold = nil, nil
				d.cut()
				if phase == wire.UpdateShadow { // counted anew
					d.stands(phase, "")
					d.engine.compare(10, 10)
				}
				release()
				pass(2 * lock.Pace)
				d.stands(wire.UpdateProbation, "")
				d.engine.answer(5, 0) // counted anew
				pass(time.Second)
				d.ends("u1", wire.CommandSucceeded, "", "", false)
				d.wants("next", "", "")
			})
		})
	}
}

func TestASecondCutOnTrialGoesBack(t *testing.T) {
	bubble(t, func(t *testing.T, d *device) {
		next := d.offer("next")
		d.send(wire.VerbFamily, "u1", asked(next, ""))
		d.cut()
		d.wants("next", "", stockName)
		for range 3 { // ends in order prove nothing against it
			d.restart()
			d.wants("next", "", stockName)
		}
		d.cut()
		d.wants(stockName, "", "")
		d.ends("u1", wire.CommandFailed, wire.Internal, "the agent was cut off 2 times in the phase probation", true)
		d.send(wire.VerbFamily, "u2", asked(next, ""))
		d.Acked(wire.VerbFamily, "u2", wire.CommandRejected, wire.Precondition, "cut off 2 times")
	})
}

func TestOrderlyEndsBeforeATrialDoNotMakeUpForCutsOnIt(t *testing.T) {
	bubble(t, func(t *testing.T, d *device) {
		release, err := lock.Share(t.Context(), d.dir, func() {})
		if err != nil {
			t.Fatal(err)
		}
		d.send(wire.VerbFamily, "u1", asked(d.offer("next"), ""))
		for range 4 {
			d.restart()
			d.stands(wire.UpdateLocked, lock.ErrHeld.Error())
		}
		release()
		pass(2 * lock.Pace)
		d.stands(wire.UpdateProbation, "")
		d.cut()
		d.cut()
		d.ends("u1", wire.CommandFailed, wire.Internal, "the agent was cut off 2 times in the phase probation", true)
	})
}

func TestARunThatAFaultEndsOnTrialWasCutOff(t *testing.T) {
	bubble(t, func(t *testing.T, d *device) {
		d.send(wire.VerbFamily, "u1", asked(d.offer("next"), ""))
		for range 2 {
			d.halt()
			d.start()
		}
		d.ends("u1", wire.CommandFailed, wire.Internal, "the agent was cut off 2 times in the phase probation", true)
		d.wants(stockName, "", "")
	})
}

func TestWhatARunServedThatWasCutOffOnTrialIsNotToBlame(t *testing.T) {
	bubble(t, func(t *testing.T, d *device) {
		d.carrier.hold = make(chan struct{})
		d.send(wire.VerbFamily, "u1", asked(d.offer("next"), ""))
		d.carrier.hold = nil
		d.cut()
		if d.left.OnTrial {
			t.Error("while blobs come: nothing is on trial")
		}
		pass(time.Second)
		for i := range 3 {
			d.cut()
			if want := i < 2; d.left.OnTrial != want {
				t.Errorf("cut %d: on trial %t, want %t", i, d.left.OnTrial, want)
			}
		}
	})
}

func TestJobsRefusedBeforeAMemberIsReadyDoNotCountAgainstAFamily(t *testing.T) {
	bubble(t, func(t *testing.T, d *device) {
		d.send(wire.VerbFamily, "u1", asked(d.offer("next"), ""))
		d.stands(wire.UpdateProbation, "")
		d.engine.set(engine.Preparing, 0)
		d.restart()
		d.engine.set(engine.Preparing, 100)
		pass(time.Second)
		d.engine.set(engine.Ready, 0)
		d.engine.answer(200, 0)
		pass(time.Second)
		d.ends("u1", wire.CommandSucceeded, "", "", false)
	})
}

func TestAFamilyThatFailedIsKeptWholeUntilTheOneBeforeHasRoomAgain(t *testing.T) {
	bubble(t, func(t *testing.T, d *device) {
		next := d.offer("next")
		d.send(wire.VerbFamily, "u1", asked(next, ""))
		d.engine.refuse(stockName, wire.Refuse(wire.NoSpace, "memory is short"))
		d.engine.answer(100, 21)
		pass(time.Minute)
		d.stands(wire.UpdateProbation, "going back to family cifar10")
		d.wants("next", "", stockName)
		d.engine.refuse(stockName, nil)
		pass(2 * lock.Pace)
		d.ends("u1", wire.CommandFailed, wire.Infeasible, "21 of 100 frames", true)
		d.wants(stockName, "", "")
		if d.engine.running.Name != stockName {
			t.Errorf("%s answers", d.engine.running.Name)
		}
	})
}

func TestADeviceThatStopsWhileItGoesBackIsBackWithTheNextStart(t *testing.T) {
	bubble(t, func(t *testing.T, d *device) {
		d.send(wire.VerbFamily, "u1", asked(d.offer("next"), ""))
		d.engine.refuse(stockName, wire.Refuse(wire.NoSpace, "memory is short"))
		d.engine.answer(100, 21)
		pass(time.Minute)
		d.engine.refuse(stockName, pipeline.ErrClosed) // as of an engine that has ended
		d.restart()
		d.ends("u1", wire.CommandFailed, wire.Infeasible, "21 of 100 frames", true)
		d.wants(stockName, "", "")
	})
}

func TestAFamilyOfTheStockFamilysNameIsRefusedBeforeItsBlobsCome(t *testing.T) {
	bubble(t, func(t *testing.T, d *device) {
		fake := d.offer(stockName)
		d.send(wire.VerbFamily, "u1", asked(fake, ""))
		d.ends("u1", wire.CommandFailed, wire.Invalid, "choose another", false)
		if got := d.carrier.fetched; !slices.Equal(got, []family.Digest{fake.Digest()}) {
			t.Errorf("fetched %q, want the manifest alone", got)
		}
	})
}

func TestASecondCutWhileItIsActivatedGivesItUp(t *testing.T) {
	bubble(t, func(t *testing.T, d *device) {
		next := d.offer("next")
		d.engine.hold = make(chan struct{})
		d.send(wire.VerbFamily, "u1", asked(next, ""))
		d.cut()
		d.stands(wire.UpdateActivating, "")
		d.cut()
		d.ends("u1", wire.CommandFailed, wire.Internal, "the agent was cut off 2 times in the phase activating", false)
		d.wants(stockName, "", "")
	})
}

func TestAnUpdateThatExpiredWhileTheDeviceWasOffGoesBack(t *testing.T) {
	for _, phase := range []wire.UpdatePhase{wire.UpdateFetching, wire.UpdateProbation} {
		t.Run(string(phase), func(t *testing.T) {
			bubble(t, func(t *testing.T, d *device) {
				if phase == wire.UpdateFetching {
					d.carrier.hold = make(chan struct{})
				}
				d.send(wire.VerbFamily, "u1", asked(d.offer("next"), ""))
				d.stands(phase, "")
				d.stop()
				pass(2 * time.Hour)
				d.start()
				d.ends("u1", wire.CommandTimedOut, wire.Expired, "it expired while the device was off",
					phase == wire.UpdateProbation)
				d.wants(stockName, "", "")
			})
		})
	}
}

func TestATrialWhoseCommandIsGoneGoesBackAndTellsIt(t *testing.T) {
	for name, lose := range map[string]func(d *device, st *store.Store) error{
		"cell lost":    func(_ *device, st *store.Store) error { return st.SetCell(cellUpdate, nil) },
		"cell damaged": func(_ *device, st *store.Store) error { return st.SetCell(cellUpdate, []byte(`{"id":`)) },
		"other command": func(_ *device, st *store.Store) error {
			r, err := load(st)
			if err == nil {
				r.ID = "none"
				err = r.save(st)
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, d *device) {
				d.send(wire.VerbFamily, "u1", asked(d.offer("next"), ""))
				d.wants("next", "", stockName)
				d.stop()
				st, err := store.Open(d.dir, store.Options{NoSync: true}, discard())
				if err == nil {
					err = lose(d, st)
				}
				if err != nil {
					t.Fatal(err)
				}
				st.Close()
				d.start()
				d.wants(stockName, "", "")
				if len(d.left.Told) == 0 || d.left.ID != "" {
					t.Errorf("got %+v, want that it is told", d.left)
				}
			})
		})
	}
}

func TestAFamilyThatWasInstalledByHandOnTrialEndsTheUpdate(t *testing.T) {
	bubble(t, func(t *testing.T, d *device) {
		d.send(wire.VerbFamily, "u1", asked(d.offer("next"), ""))
		d.stop()
		carried, err := stock.Family()
		if err == nil {
			err = library.Install(d.dir, carried, discard())
		}
		if err != nil {
			t.Fatal(err)
		}
		d.start()
		d.ends("u1", wire.CommandFailed, wire.Precondition, "family cifar10 was installed meanwhile", false)
		d.wants(stockName, "", "")
	})
}

func TestADeviceThatStopsLeavesTheUpdateToTheNextStart(t *testing.T) {
	bubble(t, func(t *testing.T, d *device) {
		d.send(wire.VerbFamily, "u1", asked(d.offer("next"), ""))
		for range 4 {
			d.restart()
			d.stands(wire.UpdateProbation, "")
		}
		d.engine.answer(200, 0)
		pass(time.Second)
		d.ends("u1", wire.CommandSucceeded, "", "", false)
	})
}

func FuzzRecord(f *testing.F) {
	f.Add([]byte(`{"id":"u1","payload":"e30=","family":{"name":"a","digest":"sha256:00"},"phase":"locked"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseRecord(b)
		if err != nil {
			return
		}
		if !wire.ValidName(r.ID) || !digestOf(r.Family).Valid() {
			t.Errorf("%q is read as %+v", b, r)
		}
	})
}
