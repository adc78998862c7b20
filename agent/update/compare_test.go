package update

import (
	"slices"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/engine"
	"github.com/limber-edge/limber/agent/lock"
	"github.com/limber-edge/limber/agent/wire"
)

// inShadow asks for ten frames, of which all but one must agree.
const inShadow = `,"shadow":{"percent":5,"frames":10,"agreement":0.9}`

// shadowOf is what the last state of a command has of the comparison.
func (d *device) shadowOf(id string) wire.Agreement {
	d.tb.Helper()
	acks := d.Acks(wire.VerbFamily, id)
	if len(acks) == 0 || acks[len(acks)-1].Shadow == nil {
		d.tb.Fatalf("command %s: got %+v, want what came of the comparison", id, acks)
	}
	return *acks[len(acks)-1].Shadow
}

func TestAFamilyThatAgreesIsComparedThenTakenIntoUse(t *testing.T) {
	bubble(t, func(t *testing.T, d *device) {
		next := d.offer("next")
		release, err := lock.Share(t.Context(), d.dir, func() {})
		if err != nil {
			t.Fatal(err)
		}
		d.send(wire.VerbFamily, "u1", asked(next, inShadow)) // that changes nothing, and so asks for no lock
		d.stands(wire.UpdateShadow, "")
		if want := (engine.Comparison{Percent: 5, Frames: 10}); !slices.Equal(d.engine.how, []engine.Comparison{want}) {
			t.Errorf("got %+v, want %+v", d.engine.how, want)
		}
		d.engine.compare(9, 8)
		pass(time.Minute)
		d.stands(wire.UpdateShadow, "")
		d.wants(stockName, "next", "")
		d.engine.compare(1, 1)
		pass(lock.Pace)
		d.stands(wire.UpdateLocked, lock.ErrHeld.Error())
		d.restart()
		d.stands(wire.UpdateLocked, lock.ErrHeld.Error())
		release()
		pass(2 * lock.Pace)
		d.stands(wire.UpdateProbation, "")
		d.engine.answer(200, 0)
		pass(time.Second)
		d.ends("u1", wire.CommandSucceeded, "", "", false)
		d.wants("next", "", "")
		got, last := d.shadowOf("u1"), d.Updater.Status().Last.Shadow
		if got.Frames != 10 || got.Agreed != 9 || *got.Agreement != 0.9 || *got.P95MS != 8 || last == nil ||
			last.Frames != 10 {
			t.Errorf("got %+v at last, %+v in the status", got, last)
		}
		if len(d.engine.how) != 1 {
			t.Errorf("compared %d times, want once", len(d.engine.how))
		}
	})
}

func TestAFamilyThatAgreesTooLittleNeverAnswersAndIsRefusedFromThenOn(t *testing.T) {
	bubble(t, func(t *testing.T, d *device) {
		next := d.offer("next")
		d.send(wire.VerbFamily, "u1", asked(next, inShadow))
		d.engine.compare(10, 8)
		pass(time.Second)
		d.ends("u1", wire.CommandFailed, wire.Disagreement, "8 of 10 frames agree, 0.8; 0.9 was asked for", false)
		d.wants(stockName, "", "")
		if got := d.shadowOf("u1"); got.Frames != 10 || got.Agreed != 8 || len(d.engine.ran) > 0 {
			t.Errorf("got %+v, %q took over", got, d.engine.ran)
		}
		d.send(wire.VerbFamily, "u2", asked(next, ""))
		d.Acked(wire.VerbFamily, "u2", wire.CommandRejected, wire.Precondition, "8 of 10 frames agree")
		d.send(wire.VerbFamily, "u3", asked(next, `,"retry":true`+inShadow))
		d.stands(wire.UpdateShadow, "")
	})
}

func TestAnAgreementThatNoneIsAskedForIsOnlyTold(t *testing.T) {
	bubble(t, func(t *testing.T, d *device) {
		d.send(wire.VerbFamily, "u1", asked(d.offer("next"), `,"shadow":{}`+noProbation))
		if want := (engine.Comparison{Percent: 10, Frames: 200}); !slices.Equal(d.engine.how, []engine.Comparison{want}) {
			t.Errorf("got %+v, want %+v", d.engine.how, want)
		}
		d.engine.compare(200, 0)
		pass(time.Second)
		d.ends("u1", wire.CommandSucceeded, "", "", false)
		d.wants("next", "", "")
	})
}

func TestAFamilyThatIsOnlyToBeComparedIsNotTakenIntoUse(t *testing.T) {
	bubble(t, func(t *testing.T, d *device) {
		next := d.offer("next")
		const only = `,"shadow":{"frames":10,"agreement":0.9,"only":true}`
		d.send(wire.VerbFamily, "u1", asked(next, only))
		d.engine.compare(10, 9)
		pass(time.Second)
		d.ends("u1", wire.CommandSucceeded, "", "compared only: family cifar10 stays", false)
		d.wants(stockName, "", "")
		if got := d.shadowOf("u1"); got.Agreed != 9 || len(d.engine.ran) > 0 {
			t.Errorf("got %+v, %q took over", got, d.engine.ran)
		}
		d.send(wire.VerbFamily, "u2", asked(next, only)) // one that disagrees fails all the same
		d.engine.compare(10, 0)
		pass(time.Second)
		d.ends("u2", wire.CommandFailed, wire.Disagreement, "0 of 10 frames agree", false)
		d.send(wire.VerbFamily, "u3", asked(next, only+`,"retry":true`))
		d.engine.compare(10, 10)
		pass(time.Second)
		d.ends("u3", wire.CommandSucceeded, "", "compared only", false)
		d.send(wire.VerbFamily, "u4", asked(next, only)) // that proved nothing
		d.Acked(wire.VerbFamily, "u4", wire.CommandRejected, wire.Precondition, "0 of 10 frames agree")
	})
}

func TestAComparisonThatIsCancelledAtItsEndIsCancelled(t *testing.T) {
	for _, more := range []string{"", `,"only":true`} {
		t.Run(more, func(t *testing.T) {
			bubble(t, func(t *testing.T, d *device) {
				d.engine.hold = make(chan struct{})
				d.send(wire.VerbFamily, "u1", asked(d.offer("next"), `,"shadow":{"frames":10`+more+`}`))
				d.engine.compare(10, 10)
				pass(time.Second)
				d.send(wire.VerbCancel, "c1", cancelOf("u1"))
				d.Acked(wire.VerbCancel, "c1", wire.CommandSucceeded, "", "")
				close(d.engine.hold)
				d.ends("u1", wire.CommandCancelled, "", "", false)
				d.wants(stockName, "", "")
			})
		})
	}
}

func TestWhatAComparisonWaitsForIsTold(t *testing.T) {
	bubble(t, func(t *testing.T, d *device) {
		d.send(wire.VerbFamily, "u1", asked(d.offer("next"), inShadow))
		d.engine.waits("memory has too little to spare")
		pass(time.Second)
		d.stands(wire.UpdateShadow, "memory has too little to spare")
		d.engine.waits("")
		pass(time.Second)
		d.stands(wire.UpdateShadow, "")
	})
}

func TestAComparisonThatExpiresTellsHowFarItWas(t *testing.T) {
	bubble(t, func(t *testing.T, d *device) {
		d.send(wire.VerbFamily, "u1", asked(d.offer("next"), inShadow))
		d.engine.compare(7, 7)
		pass(2 * time.Hour)
		d.ends("u1", wire.CommandTimedOut, wire.Expired, "it expired in the phase shadow", false)
		d.wants(stockName, "", "")
		if got := d.shadowOf("u1"); got.Frames != 7 {
			t.Errorf("got %+v", got)
		}
	})
}

func TestAComparisonThatCannotBeEndsTheUpdate(t *testing.T) {
	for _, tt := range []struct {
		reason wire.Reason
		blamed bool
	}{{wire.Unsupported, true}, {wire.Precondition, false}, {wire.NoSpace, false}} {
		t.Run(string(tt.reason), func(t *testing.T) {
			bubble(t, func(t *testing.T, d *device) {
				next := d.offer("next")
				d.engine.refuse("next", wire.Refuse(tt.reason, "it cannot be"))
				d.send(wire.VerbFamily, "u1", asked(next, inShadow))
				d.ends("u1", wire.CommandFailed, tt.reason, "it cannot be", false)
				d.wants(stockName, "", "")
				if _, failed := failedBefore(d.st, next.Digest()); failed != tt.blamed {
					t.Errorf("blamed: %t, want %t", failed, tt.blamed)
				}
			})
		})
	}
}

func TestASecondCutInShadowEndsTheUpdateAndOneMoreOnTrialDoesNot(t *testing.T) {
	for _, second := range []string{"in shadow", "on trial"} {
		t.Run(second, func(t *testing.T) {
			bubble(t, func(t *testing.T, d *device) {
				d.send(wire.VerbFamily, "u1", asked(d.offer("next"), inShadow))
				for range 3 { // ends in order prove nothing against it
					d.restart()
					d.stands(wire.UpdateShadow, "")
				}
				d.cut()
				d.stands(wire.UpdateShadow, "")
				if second == "on trial" {
					d.engine.compare(10, 10)
					pass(time.Second)
					d.stands(wire.UpdateProbation, "")
				}
				d.cut()
				if second == "on trial" {
					d.stands(wire.UpdateProbation, "")
					return
				}
				d.ends("u1", wire.CommandFailed, wire.Internal, "the agent was cut off 2 times in the phase shadow", false)
				d.wants(stockName, "", "")
			})
		})
	}
}
