package control

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/store"
)

// aloneVerb is a verb whose commands are alone, tell what comes, and end with the verb's
// channel or when they are cancelled.
type aloneVerb struct {
	Verb
	tell  chan int64     // bytes that are done
	begin chan chan bool // has it say that it has begun, and whether it may
	goOn  chan struct{}
}

func newAlone() *aloneVerb {
	v := &aloneVerb{tell: make(chan int64), begin: make(chan chan bool), goOn: make(chan struct{})}
	v.Verb = Verb{Name: wire.VerbFamily, Class: Serial,
		Prepare: func(context.Context, Order) (Action, error) { return v.act, nil }}
	return v
}

func (v *aloneVerb) act(ctx context.Context, c *Course) (Outcome, error) {
	for {
		select {
		case n := <-v.tell:
			c.Tell(wire.Progress{Step: wire.UpdateFetching, Done: n}, &wire.Agreement{Frames: int(n)})
		case may := <-v.begin:
			may <- c.Begin()
		case <-v.goOn:
			return Outcome{Detail: "done", Shadow: &wire.Agreement{Frames: 99}}, nil
		case <-ctx.Done():
			return Outcome{RolledBack: true, Shadow: &wire.Agreement{Frames: 98}}, context.Cause(ctx)
		}
	}
}

const aFamily = `{"family":{"name":"a",
	"digest":"sha256:0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a"},"ttl_ms":600000}`

func TestACommandIsLockedOutWhereAnotherIsAloneUnderWay(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		v := newAlone()
		r := mustRig(t, dir, withVerbs(v.Verb))
		p := r.command(wire.VerbFamily, aFamily)
		r.command(wire.VerbFamily, aFamily).fails(t, wire.CommandRejected, wire.Locked,
			"another command of this verb is under way")
		r.command("mode", lowLatency).succeeds(t)
		v.goOn <- struct{}{}
		synctest.Wait()
		p.fails(t, wire.CommandSucceeded, "", "done")
		next := r.command(wire.VerbFamily, aFamily)
		<-time.After(time.Second)
		v.goOn <- struct{}{}
		synctest.Wait()
		next.succeeds(t)
	})
}

func TestProgressIsToldOnceASecondAndTheLatestWins(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		v := newAlone()
		r := mustRig(t, dir, withVerbs(v.Verb))
		p := r.command(wire.VerbFamily, aFamily)
		for n := range int64(30) {
			v.tell <- n
			<-time.After(90 * time.Millisecond)
		}
		<-time.After(time.Minute) // with nothing new
		v.tell <- 30
		synctest.Wait()
		v.tell <- 31 // too late: the end says more
		v.goOn <- struct{}{}
		synctest.Wait()
		var told []int64
		for _, a := range p.acks {
			if a.Progress != nil {
				told = append(told, a.Progress.Done)
			}
			if a.Progress != nil && int64(a.Shadow.Frames) != a.Progress.Done || a.State.Final() && a.Shadow.Frames != 99 {
				t.Errorf("got %+v of the comparison in %+v", a.Shadow, a)
			}
		}
		if want := []int64{0, 11, 22, 29, 30}; !slices.Equal(told, want) {
			t.Errorf("told %d, want %d", told, want)
		}
		p.succeeds(t)
	})
}

func cancelOf(id string) string { return fmt.Sprintf(`{"cancel":%q,"ttl_ms":60000}`, id) }

func TestACancelBehindItsCommandFindsIt(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		v := newAlone()
		r := mustRig(t, dir, withVerbs(v.Verb))
		p, c := r.send(wire.VerbFamily, "u1", aFamily), r.send(wire.VerbCancel, "c1", cancelOf("u1"))
		synctest.Wait()
		c.succeeds(t)
		p.fails(t, wire.CommandCancelled, "", "")
		if !slices.Equal(r.Verbs(), []string{"mode", "goal", wire.VerbFamily, wire.VerbCancel}) {
			t.Errorf("verbs: got %q", r.Verbs())
		}
	})
}

func TestWhatHasBegunOrIsNotUnderWayIsNotCancelled(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		v := newAlone()
		r := mustRig(t, dir, withVerbs(v.Verb))
		p := r.send(wire.VerbFamily, "u1", aFamily)
		synctest.Wait()
		r.command(wire.VerbCancel, cancelOf("u2")).fails(t, wire.CommandFailed, wire.Precondition,
			"no command u2 is under way")
		may := make(chan bool)
		v.begin <- may
		if !<-may {
			t.Error("it may not begin")
		}
		r.command(wire.VerbCancel, cancelOf("u1")).fails(t, wire.CommandFailed, wire.Precondition, "it ends by itself")
		v.goOn <- struct{}{}
		synctest.Wait()
		p.succeeds(t)
		r.command(wire.VerbCancel, cancelOf("u1")).fails(t, wire.CommandFailed, wire.Precondition,
			"no command u1 is under way")
	})
}

// What began has more to undo than anybody but its verb knows.
func TestACommandThatIsAloneIsEndedByItsVerbAlsoWhereItExpiredSinceItWasCutOff(t *testing.T) {
	for name, tt := range map[string]struct {
		left time.Duration // by the ledger
		age  time.Duration // of expires_at, as after a clock was set, or that of operators is not known any more
	}{"by the ledger": {-time.Second, -time.Minute}, "by the command": {time.Minute, time.Second}} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, dir string) {
				v := newAlone()
				r := mustRig(t, dir, withVerbs(v.Verb))
				payload := strings.Replace(aFamily, `"ttl_ms":600000`, fmt.Sprintf(`"expires_at":%q`,
					time.Now().Add(-tt.age).UTC().Format(time.RFC3339)), 1)
				c := store.Command{ID: "family/cut", Request: store.DigestOf([]byte(payload)),
					State: string(wire.CommandExecuting), Answer: []byte(`{}`), Expires: time.Now().Add(tt.left)}
				if err := r.state.SetCommand(c); err != nil {
					t.Fatal(err)
				}
				p := r.send(wire.VerbFamily, "cut", payload)
				synctest.Wait()
				p.fails(t, wire.CommandTimedOut, wire.Expired, "")
				if last := p.acks[len(p.acks)-1]; !last.RolledBack || last.Shadow.Frames != 98 {
					t.Errorf("got %+v, want what its verb says", last)
				}
			})
		})
	}
}

// As on a device that has no time of its own, and is told it after the command.
func TestACommandThatTookTheClockOfAnotherTimeEndsByThatOfOperators(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		v := newAlone()
		r := mustRig(t, dir, withVerbs(v.Verb))
		p := r.command(wire.VerbFamily, strings.Replace(aFamily, `"ttl_ms":600000`, fmt.Sprintf(`"expires_at":%q`,
			time.Now().AddDate(26, 0, 0).UTC().Format(time.RFC3339)), 1))
		r.behind.Store(int64(26 * 366 * 24 * time.Hour))
		<-time.After(lookPace)
		synctest.Wait()
		p.fails(t, wire.CommandTimedOut, wire.Expired, "")
	})
}

func TestAFullDiskDoesNotEndWhatWasCutOffAndGoesOn(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		v := newAlone()
		r := mustRig(t, dir, withVerbs(v.Verb))
		c := store.Command{ID: "family/cut", Request: store.DigestOf([]byte(aFamily)),
			State: string(wire.CommandExecuting), Answer: []byte(`{}`), Expires: time.Now().Add(time.Minute)}
		if err := r.state.SetCommand(c); err != nil {
			t.Fatal(err)
		}
		r.disk(false)
		p := r.send(wire.VerbFamily, "cut", aFamily)
		synctest.Wait()
		r.disk(true)
		v.goOn <- struct{}{}
		synctest.Wait()
		p.succeeds(t)
	})
}

func TestWhatCannotBePutBackSucceededAlsoWhereThatIsNotRecorded(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		v := newAlone()
		r := mustRig(t, dir, withVerbs(v.Verb))
		p := r.send(wire.VerbFamily, "u1", aFamily)
		synctest.Wait()
		r.disk(false)
		v.goOn <- struct{}{}
		synctest.Wait()
		p.fails(t, wire.CommandSucceeded, "", "done")
		r.disk(true)
	})
}

func TestACutBetweenTheTwoEndsDoesNotForgetTheCancel(t *testing.T) {
	next := t.TempDir()
	bubble(t, func(t *testing.T, dir string) {
		v := newAlone()
		v.Prepare = func(context.Context, Order) (Action, error) {
			return func(ctx context.Context, _ *Course) (Outcome, error) {
				<-ctx.Done()
				<-v.goOn // takes its time
				return Outcome{}, context.Cause(ctx)
			}, nil
		}
		r := mustRig(t, dir, withVerbs(v.Verb))
		r.send(wire.VerbFamily, "u1", aFamily)
		synctest.Wait()
		r.command(wire.VerbCancel, cancelOf("u1")).succeeds(t)
		r.cut(next)
		v.goOn <- struct{}{}
	})
	synctest.Test(t, func(t *testing.T) {
		v := newAlone()
		r := mustRig(t, next, withVerbs(v.Verb))
		p := r.send(wire.VerbFamily, "u1", aFamily)
		synctest.Wait()
		p.fails(t, wire.CommandCancelled, "", "")
	})
}

func TestAFailureSaysThatTheOneBeforeIsBack(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		v := newAlone()
		r := mustRig(t, dir, withVerbs(v.Verb))
		p := r.command(wire.VerbFamily, aFamily)
		<-time.After(10 * time.Minute)
		synctest.Wait()
		p.fails(t, wire.CommandTimedOut, wire.Expired, "")
		if !p.last().RolledBack {
			t.Errorf("got %+v, want rolled back", p.last())
		}
	})
}

const aRelease = `{"version":"1.5.0",
	"digest":"sha256:0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a","ttl_ms":600000}`

// newRelease is an exclusive verb whose commands are alone, beside a serial one.
func newRelease() (release, family *aloneVerb) {
	release, family = newAlone(), newAlone()
	release.Name, release.Class = wire.VerbRelease, Exclusive
	return release, family
}

func TestAnExclusiveCommandMayBeAloneAndCancelled(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		v, serial := newRelease()
		r := mustRig(t, dir, withVerbs(v.Verb, serial.Verb))
		f := r.command(wire.VerbFamily, aFamily)
		p := r.send(wire.VerbRelease, "u1", aRelease)
		serial.goOn <- struct{}{} // it has waited for that
		synctest.Wait()
		f.succeeds(t)
		r.command(wire.VerbRelease, aRelease).fails(t, wire.CommandRejected, wire.Locked,
			"another command of this verb is under way")
		second := r.command(wire.VerbFamily, aFamily)
		<-time.After(time.Second)
		second.fails(t, wire.CommandRejected, wire.Locked, "an exclusive command is running")
		r.command(wire.VerbCancel, cancelOf("u1")).succeeds(t)
		synctest.Wait()
		p.fails(t, wire.CommandCancelled, "", "")
	})
}

func TestAnExclusiveCommandThatIsLateAfterACutGoesBackToItsVerb(t *testing.T) {
	next := t.TempDir()
	bubble(t, func(t *testing.T, dir string) {
		v, serial := newRelease()
		r := mustRig(t, dir, withVerbs(v.Verb, serial.Verb))
		r.send(wire.VerbRelease, "cut", aRelease)
		synctest.Wait()
		r.cut(next)
		v.goOn <- struct{}{}
	})
	synctest.Test(t, func(t *testing.T) {
		<-time.After(time.Hour)
		v, serial := newRelease()
		r := mustRig(t, next, withVerbs(v.Verb, serial.Verb))
		p := r.send(wire.VerbRelease, "cut", aRelease)
		synctest.Wait()
		p.fails(t, wire.CommandTimedOut, wire.Expired, "")
		if !p.last().RolledBack { // only the verb says so
			t.Errorf("got %+v, want what the verb says", p.last())
		}
	})
}
