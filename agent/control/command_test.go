package control

import (
	"bytes"
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

const lowLatency = `{"mode":"low-latency","ttl_ms":60000}`

var allSteps = []wire.Step{wire.CommandReceived, wire.CommandAccepted, wire.CommandExecuting, wire.CommandSucceeded}

func TestACommandPassesItsStatesInTwoCommits(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		r := mustRig(t, dir)
		before := commits(t, dir)
		p := r.command("mode", lowLatency)
		p.succeeds(t)
		if got := p.steps(); !slices.Equal(got, allSteps) {
			t.Errorf("got states %v, want %v", got, allSteps)
		}
		for i, a := range p.acks {
			if a.ID != "c1" || a.Verb != "mode" || !a.TS.Equal(time.Now()) || i > 0 && a.Detail != "" {
				t.Errorf("state %d: got %+v", i, a)
			}
		}
		if n := commits(t, dir) - before; n != 2 {
			t.Errorf("got %d commits, want 2", n)
		}
		r.pursues("low-latency")
		if got, want := r.stored("mode"), `{"mode":"low-latency","set":"2000-01-01T00:00:00.000Z"}`; got != want {
			t.Errorf("stored %s, want %s", got, want)
		}
	})
}

func TestCommandsAreJudged(t *testing.T) {
	const soon, past = "2000-01-01T01:00:00Z", "1999-12-31T23:00:00Z"
	for _, tt := range []struct {
		name, verb, payload string
		state               wire.Step
		reason              wire.Reason
		detail              string // part of it
	}{
		{"expires_at", "mode", `{"mode":"balanced","expires_at":"` + soon + `"}`, wire.CommandSucceeded, "", ""},
		{"unknown field", "mode", `{"mode":"balanced","ttl_ms":1000,"why":"night"}`, wire.CommandSucceeded, "", ""},
		{"a member", "mode", `{"mode":"fixed:small","ttl_ms":1000}`, wire.CommandSucceeded, "", ""},
		{"no expiry", "mode", `{"mode":"balanced"}`, wire.CommandRejected, wire.Invalid, "ttl_ms"},
		{"two expiries", "mode", `{"mode":"balanced","ttl_ms":1000,"expires_at":"` + soon + `"}`,
			wire.CommandRejected, wire.Invalid, "either"},
		{"C4 expired", "mode", `{"mode":"balanced","expires_at":"` + past + `"}`, wire.CommandRejected, wire.Expired,
			"it expired at 1999-12-31T23:00:00.000Z; the clock here says 2000-01-01T00:00:00.000Z"},
		{"C4 ttl 0", "mode", `{"mode":"balanced","ttl_ms":0}`, wire.CommandRejected, wire.Invalid, "ttl_ms"},
		{"C6 unknown verb", "dance", `{"ttl_ms":1000}`, wire.CommandRejected, wire.Unsupported,
			"verb dance: this device knows mode, goal"},
		{"C6 a release without limber-boot", "release", `{"ttl_ms":1000}`, wire.CommandRejected, wire.Unsupported,
			"verb release: this device knows mode, goal; releases want an agent that limber-boot started"},
		{"C6 unknown mode", "mode", `{"mode":"warp","ttl_ms":1000}`, wire.CommandRejected, wire.Invalid, "balanced"},
		{"C6 unknown member", "mode", `{"mode":"fixed:9000M","ttl_ms":1000}`, wire.CommandRejected, wire.Invalid,
			"there are small, large"},
		{"C6 no mode", "mode", `{"ttl_ms":1000}`, wire.CommandRejected, wire.Invalid, "no mode"},
		{"C6 mode is a number", "mode", `{"mode":5,"ttl_ms":1000}`, wire.CommandRejected, wire.Invalid, "mode"},
		{"P11 duplicate key", "mode", `{"mode":"balanced","mode":"low-latency","ttl_ms":1000}`, wire.CommandRejected,
			wire.Invalid, "duplicate"},
		{"P11 empty", "mode", ``, wire.CommandRejected, wire.Invalid, ""},
		{"P15 unknown schema", "mode", `{"schema":2,"mode":"balanced","ttl_ms":1000}`, wire.CommandRejected,
			wire.Invalid, "schema"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, dir string) {
				r := mustRig(t, dir)
				p := r.command(tt.verb, tt.payload)
				p.fails(t, tt.state, tt.reason, tt.detail)
				if first := p.steps()[0]; first != wire.CommandReceived {
					t.Errorf("first state: got %s, want received", first)
				}
				if got, want := len(r.target.pursued()), 0; tt.state != wire.CommandSucceeded && got != want {
					t.Errorf("pursued %d modes, want none", got)
				}
			})
		})
	}
}

func TestC5_ExpiresAtIsJudgedByTheClockOfOperatorsWhereThatIsKnown(t *testing.T) {
	const clock = "the clock here says "
	for _, tt := range []struct {
		name    string
		behind  time.Duration
		expires string // it is midnight here
		late    string // part of the detail; empty: it succeeds
	}{
		{"ahead, not known", 0, "1999-12-31T23:00:05Z", clock + "2000-01-01T00:00:00.000Z"},
		{"ahead by an hour", -time.Hour, "1999-12-31T23:00:05Z", ""},
		{"ahead by an hour, and late", -time.Hour, "1999-12-31T22:59:55Z", clock + "1999-12-31T23:00:00.000Z"},
		{"behind by an hour", time.Hour, "2000-01-01T01:00:05Z", ""},
		{"behind by an hour, and late", time.Hour, "2000-01-01T00:59:55Z", clock + "2000-01-01T01:00:00.000Z"},
		{"behind, not known", 0, "2000-01-01T00:59:55Z", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, dir string) {
				r := mustRig(t, dir, func(r *rig, _ *Config, _ *[]Verb) { r.behind.Store(int64(tt.behind)) })
				p := r.command("mode", `{"mode":"low-latency","expires_at":"`+tt.expires+`"}`)
				if tt.late == "" {
					p.succeeds(t)
					return
				}
				p.fails(t, wire.CommandRejected, wire.Expired, tt.late)
				r.pursues()
			})
		})
	}
}

// An action under way has the rest of the operator's time, not of the device's.
func TestC5_ACommandTimesOutByTheClockOfOperators(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		r := mustRig(t, dir, withTarget(func(f *target) { f.preparing = make(chan struct{}) }),
			func(r *rig, _ *Config, _ *[]Verb) { r.behind.Store(-int64(time.Hour)) })
		p := r.command("goal", `{"goal":{"min_top1":0.8},"expires_at":"1999-12-31T23:00:05Z"}`)
		<-time.After(4 * time.Second)
		synctest.Wait()
		if p.ended() != "" {
			t.Errorf("ended %s after 4 s of 5", p.ended())
		}
		<-time.After(time.Second)
		synctest.Wait()
		p.fails(t, wire.CommandTimedOut, wire.Expired, "it expired before")
	})
}

func TestC10_CommandsThatConflictAreDoneOneAfterTheOtherAndTheLastStays(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		setting, most := 0, 0
		r := mustRig(t, dir, withTarget(func(f *target) {
			f.onSet(func(context.Context) error { // one goroutine's, unless two commands are done at once
				setting++
				most = max(most, setting)
				<-time.After(time.Millisecond)
				setting--
				return nil
			})
		}))
		modes := []string{"low-latency", "max-accuracy", "power-save", "balanced"}
		var replies []*reply
		var want []string
		for i := range 40 {
			mode := modes[i%3]
			want = append(want, mode)
			replies = append(replies, r.send("mode", fmt.Sprint(i), `{"mode":"`+mode+`","ttl_ms":60000}`))
		}
		<-time.After(time.Second)
		synctest.Wait()
		for _, p := range replies {
			p.succeeds(t)
		}
		r.pursues(want...)
		if stored := r.stored("mode"); most != 1 || !strings.Contains(stored, want[39]) {
			t.Errorf("%d were set at once, stored %s; want one, %s", most, stored, want[39])
		}
	})
}

func TestC6_AnOversizeCommandIsRejectedByItsSize(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		r := mustRig(t, dir)
		q, p := ofCommand("mode", "big", "")
		q.Message.Oversize = 70_000
		r.take(q)
		synctest.Wait()
		p.fails(t, wire.CommandRejected, wire.Invalid, "70000 bytes")
	})
}

func TestN11_ARetainedCommandIsRefused(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		r := mustRig(t, dir)
		q, p := ofCommand("mode", "kept", lowLatency)
		q.Message.Retained = true
		r.take(q)
		synctest.Wait()
		p.fails(t, wire.CommandRejected, wire.Invalid, "retain")
		r.pursues()
	})
}

func TestADeviceThatCannotInferRefusesModes(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		r := mustRig(t, dir, withTarget(func(f *target) {
			f.refusal = wire.Refuse(wire.Unsupported, "no runtime: install one")
		}))
		r.command("mode", lowLatency).fails(t, wire.CommandRejected, wire.Unsupported, "no runtime: install one")
		r.command("goal", `{"goal":{"min_top1":0.5},"ttl_ms":1000}`).fails(t, wire.CommandRejected, wire.Unsupported,
			"install one")
	})
}

// What an earlier run did, and may not have told the broker, is answered from the
// ledger, byte for byte, and not done again.
func TestACommandThatWasDoneIsAnsweredAgainAfterARestart(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		r := mustRig(t, dir)
		first := r.command("mode", lowLatency)
		first.succeeds(t)
		rejected := r.command("mode", `{"mode":"warp","ttl_ms":60000}`)
		r.stop()

		r = mustRig(t, dir)
		if r.begun.String() != "low-latency" {
			t.Errorf("began with %s, want the operator's mode", r.begun)
		}
		<-time.After(time.Second)
		if again := r.command("mode", lowLatency); again.bytes != first.bytes || len(again.acks) != 1 {
			t.Errorf("got %v and last %s, want only %s", again.steps(), again.bytes, first.bytes)
		}
		if again := r.command("mode", `{"mode":"warp","ttl_ms":60000}`); again.bytes != rejected.bytes {
			t.Errorf("got %s, want %s", again.bytes, rejected.bytes)
		}
		r.pursues()
	})
}

func TestAnIdWithOtherBytesIsAConflict(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		r := mustRig(t, dir)
		r.command("mode", lowLatency).succeeds(t)

		known, p := ofCommand("mode", "x", lowLatency)
		known.Conflict = true // says the link
		r.take(known)
		p.fails(t, wire.CommandRejected, wire.Conflict, "other bytes")

		late, p := ofCommand("mode", "c1", `{"mode":"balanced","ttl_ms":1000}`) // says the ledger
		r.take(late)
		synctest.Wait()
		p.fails(t, wire.CommandRejected, wire.Conflict, "other bytes")
		if !late.Conflict {
			t.Error("the link would remember this answer as that of the id")
		}
		r.pursues("low-latency")
	})
}

func TestTwoVerbsMayUseOneId(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		r := mustRig(t, dir)
		p, q := r.send("mode", "x", lowLatency), r.send("goal", "x", `{"goal":{"min_top1":0.8},"ttl_ms":1000}`)
		synctest.Wait()
		p.succeeds(t)
		q.succeeds(t)
		r.pursues("low-latency", "goal")
	})
}

// The ledger is the one that a killed agent leaves.
func TestCutOffCommandIsBegunAnew(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		r := mustRig(t, dir, withTarget(func(f *target) { f.preparing = make(chan struct{}) }))
		const goal = `{"goal":{"min_top1":0.8},"ttl_ms":60000}`
		for id, left := range map[string]time.Duration{"cut": 10 * time.Second, "spent": -time.Second} {
			c := store.Command{ID: "goal/" + id, Request: store.DigestOf([]byte(goal)),
				State: string(wire.CommandExecuting), Answer: []byte(`{}`), Expires: time.Now().Add(left)}
			if err := r.state.SetCommand(c); err != nil {
				t.Fatal(err)
			}
		}
		spent := r.send("goal", "spent", goal)
		synctest.Wait()
		spent.fails(t, wire.CommandTimedOut, wire.Expired, "while the device was off")
		cut := r.send("goal", "cut", goal)
		<-time.After(10 * time.Second)
		synctest.Wait()
		cut.fails(t, wire.CommandTimedOut, wire.Expired, "") // not a minute from now
		close(r.target.preparing)
		r.command("goal", goal).succeeds(t)
	})
}

func TestADiskThatFailsBeforeACommandKeepsItFromBeingDone(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		r := mustRig(t, dir)
		r.disk(false)
		p := r.command("mode", lowLatency)
		p.fails(t, wire.CommandFailed, wire.Internal, "removed while in use")
		if got, want := p.steps(), []wire.Step{wire.CommandReceived, wire.CommandFailed}; !slices.Equal(got, want) {
			t.Errorf("got states %v, want %v", got, want)
		}
		r.pursues()
		r.disk(true)
		r.command("mode", lowLatency).succeeds(t)
	})
}

func TestALastStateThatADiskRefusesIsAnsweredAndRecordedWhenThereIsRoom(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		v := newAlone()
		r := mustRig(t, dir, withVerbs(v.Verb))
		knows := func(id string, want wire.Step) {
			t.Helper()
			if known, err := r.state.Command(wire.VerbFamily + "/" + id); wire.Step(known.State) != want {
				t.Errorf("command %s: got %s, %v in the ledger, want %s", id, known.State, err, want)
			}
		}
		done := r.command(wire.VerbFamily, aFamily)
		r.disk(false)
		v.goOn <- struct{}{}
		synctest.Wait()
		done.succeeds(t)
		knows("c1", wire.CommandExecuting)
		refused := r.command(wire.VerbFamily, aFamily)
		<-time.After(time.Minute)
		refused.fails(t, wire.CommandFailed, wire.Internal, "removed while in use")
		knows("c2", "")
		r.disk(true)
		<-time.After(2 * time.Second)
		knows("c1", wire.CommandSucceeded)
		knows("c2", wire.CommandFailed)
	})
}

func TestACommandWhoseLastStateADiskRefusedIsNotDoneAgain(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		v := newAlone()
		r := mustRig(t, dir, withVerbs(v.Verb))
		done := r.command(wire.VerbFamily, aFamily)
		r.disk(false)
		v.goOn <- struct{}{}
		synctest.Wait()
		done.succeeds(t)
		again := func() {
			t.Helper()
			p := r.send(wire.VerbFamily, "c1", aFamily)
			<-time.After(2 * time.Second)
			p.succeeds(t)
		}
		again()
		r.disk(true)
		again()
		other := r.send(wire.VerbFamily, "c1", `{"family":{}}`)
		<-time.After(2 * time.Second)
		other.fails(t, wire.CommandRejected, wire.Conflict, "")
	})
}

func TestADiskThatFailsAfterACommandPutsTheModeBeforeBack(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		r := mustRig(t, dir)
		r.command("mode", `{"mode":"power-save","ttl_ms":1000}`).succeeds(t)
		r.desire("desk", `{"version":0}`)
		said := r.Status()
		r.target.onSet(func(context.Context) error {
			r.target.onSet(nil)
			r.disk(false)
			return nil
		})
		p := r.command("mode", lowLatency)
		p.fails(t, wire.CommandFailed, wire.Internal, "removed while in use")
		r.pursues("power-save", "low-latency", "power-save")
		if got := r.Status(); got != said {
			t.Errorf("got %+v, want what was reported before, %+v", got, said)
		}
		r.disk(true)
		if got := r.stored("mode"); !strings.Contains(got, "power-save") {
			t.Errorf("stored %s, want the mode before", got)
		}
		<-time.After(2 * time.Second)
		r.pursues("power-save", "low-latency", "power-save")
	})
}

func TestAPowerCutAfterEitherCommitLosesNoCommandAndDoesNoneTwice(t *testing.T) {
	begun, done := t.TempDir(), t.TempDir()
	bubble(t, func(t *testing.T, dir string) {
		r := mustRig(t, dir)
		r.target.onSet(func(context.Context) error {
			r.cut(begun)
			return nil
		})
		r.send("mode", "x", lowLatency)
		synctest.Wait()
		r.cut(done)
		r.stop()
		for _, tt := range []struct {
			name, dir, mode string
			pursued         []string
		}{
			{"after the first", begun, "balanced", []string{"low-latency"}},
			{"after the second", done, "low-latency", nil},
		} {
			r := mustRig(t, tt.dir)
			if got := r.begun.String(); got != tt.mode {
				t.Errorf("%s: began with %s, want %s", tt.name, got, tt.mode)
			}
			p := r.send("mode", "x", lowLatency)
			synctest.Wait()
			p.succeeds(t)
			r.pursues(tt.pursued...)
			r.stop()
		}
	})
}

func TestWhetherACommandWasDoneMustBeKnown(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		r := mustRig(t, dir)
		r.state.Close()
		q, p := ofCommand("mode", "x", lowLatency)
		r.take(q)
		synctest.Wait()
		p.fails(t, wire.CommandFailed, wire.Internal, "whether this command was obeyed before is not known")
		if q.Fault == nil {
			t.Error("the link would remember this answer as the command's")
		}
		r.pursues()
	})
}

// The goal waits for members 600 ms, and has 200.
func TestAGoalIsNotCarriedOutAfterItsExpiry(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		r := mustRig(t, dir, withTarget(func(f *target) { f.preparing = make(chan struct{}) }))
		p := r.command("goal", `{"goal":{"min_top1":0.8},"ttl_ms":200}`)
		<-time.After(200 * time.Millisecond)
		synctest.Wait()
		p.fails(t, wire.CommandTimedOut, wire.Expired, "it expired before the members, which are being prepared")
		<-time.After(400 * time.Millisecond)
		close(r.target.preparing)
		<-time.After(time.Minute)
		synctest.Wait()
		r.pursues()
		if got := r.stored("mode"); got != "" {
			t.Errorf("stored %s, want nothing", got)
		}
	})
}

func TestAModeThatIsNotInForceBeforeItsExpiryTimesOut(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		r := mustRig(t, dir, withTarget(func(f *target) {
			f.onSet(func(ctx context.Context) error {
				<-ctx.Done()
				return ctx.Err()
			})
		}))
		p := r.command("mode", lowLatency)
		next := r.command("mode", `{"mode":"balanced","ttl_ms":90000}`)
		<-time.After(time.Minute - 1)
		r.target.onSet(nil) // for the next
		<-time.After(1)
		synctest.Wait()
		p.fails(t, wire.CommandTimedOut, wire.Expired, "it expired before the mode was in force")
		next.succeeds(t)
		r.pursues("balanced")
	})
}

func TestACommandThatExpiredWhileItWasRecordedIsNotBegun(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		begun := false
		late := Verb{Name: "late", Class: Serial, Most: 8,
			Prepare: func(context.Context, Order) (Action, error) {
				<-time.After(2 * time.Second) // as a disk may take
				return func(context.Context, *Course) (Outcome, error) {
					begun = true
					return Outcome{}, nil
				}, nil
			}}
		r := mustRig(t, dir, withVerbs(late))
		p := r.command("late", `{"ttl_ms":1000}`)
		<-time.After(2 * time.Second)
		synctest.Wait()
		p.fails(t, wire.CommandTimedOut, wire.Expired, "it expired before it was begun")
		if begun {
			t.Error("it was carried out")
		}
	})
}

// fake is a verb whose actions wait for a token or their context.
func fake(name string, class Class, most int) (Verb, chan struct{}) {
	goOn := make(chan struct{})
	return Verb{Name: name, Class: class, Most: most,
		Prepare: func(context.Context, Order) (Action, error) {
			return func(ctx context.Context, _ *Course) (Outcome, error) {
				select {
				case <-goOn:
					return Outcome{Remember: []store.Cell{{Name: name, Value: []byte("done")}}}, nil
				case <-ctx.Done():
					return Outcome{}, fmt.Errorf("%s did not end in time: %w", name, ctx.Err())
				}
			}, nil
		}}, goOn
}

func TestAnActionThatOutlivesItsExpiryTimesOutAndTheNextHasItsTurn(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		slow, goOn := fake("slow", Serial, 8)
		r := mustRig(t, dir, withVerbs(slow))
		p, next := r.command("slow", `{"ttl_ms":2000}`), r.command("slow", `{"ttl_ms":60000}`)
		<-time.After(2 * time.Second)
		synctest.Wait()
		p.fails(t, wire.CommandTimedOut, wire.Expired, "slow did not end in time")
		if got := r.stored("slow"); got != "" {
			t.Errorf("stored %q, want nothing", got)
		}
		goOn <- struct{}{}
		synctest.Wait()
		next.succeeds(t)
		if got := r.stored("slow"); got != "done" {
			t.Errorf("stored %q, want what the action left to remember", got)
		}
		if got, want := r.Verbs(), []string{"mode", "goal", "slow"}; !slices.Equal(got, want) {
			t.Errorf("verbs: got %q, want %q", got, want)
		}
	})
}

func TestAVerbThatHangsHoldsUpNoOther(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		hangs, _ := fake("hangs", Serial, 8)
		other, goOn := fake("other", Serial, 8)
		r := mustRig(t, dir, withVerbs(hangs, other))
		hung := r.command("hangs", `{"ttl_ms":3600000}`)
		var waiting []*reply
		for range 8 {
			waiting = append(waiting, r.command("hangs", `{"ttl_ms":3600000}`))
		}
		r.command("hangs", `{"ttl_ms":3600000}`).fails(t, wire.CommandRejected, wire.Busy, "too many commands wait")
		r.command("mode", lowLatency).succeeds(t)
		p := r.command("other", `{"ttl_ms":1000}`)
		goOn <- struct{}{}
		synctest.Wait()
		p.succeeds(t)
		r.stop()
		if hung.ended() != "released" {
			t.Errorf("under way: %q, want it released for the next start", hung.ended())
		}
		for i, p := range waiting {
			if p.ended() == "answered" || len(p.acks) > 0 {
				t.Errorf("waiting %d: %q, told %v; want it left to the broker", i, p.ended(), p.steps())
			}
		}
	})
}

func TestOf257WaitingCommandsTheLastIsRefused(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		r := mustRig(t, dir, withTarget(func(f *target) { f.preparing = make(chan struct{}) }))
		r.command("goal", `{"goal":{"min_top1":0.8},"ttl_ms":60000}`)
		var waiting []*reply
		for range ordersMost {
			waiting = append(waiting, r.command("mode", lowLatency))
		}
		last := r.command("mode", lowLatency)
		last.fails(t, wire.CommandRejected, wire.Busy, "too many commands wait")
		if got := last.steps(); len(got) != 1 {
			t.Errorf("got states %v, want one", got)
		}
		close(r.target.preparing)
		synctest.Wait()
		for _, p := range waiting {
			p.succeeds(t)
		}
	})
}

// Its place among those that wait does not matter: it was done.
func TestACommandThatWasDoneIsAnsweredAlsoWhereTooManyWait(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		first := mustRig(t, dir)
		done := first.send("hangs", "done", `{"ttl_ms":3600000}`) // not known yet: rejected
		synctest.Wait()
		first.stop()
		hangs, _ := fake("hangs", Serial, 0)
		r := mustRig(t, dir, withVerbs(hangs))
		synctest.Wait()
		r.command("hangs", `{"ttl_ms":3600000}`)
		again := r.send("hangs", "done", `{"ttl_ms":3600000}`)
		synctest.Wait()
		if again.bytes != done.bytes {
			t.Errorf("got %s, want %s", again.bytes, done.bytes)
		}
	})
}

func TestExclusiveCommandsWaitForSerialOnesAndKeepOthersOut(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		one, oneGoes := fake("one", Serial, 8)
		two, _ := fake("two", Serial, 8)
		alone, aloneGoes := fake("alone", Exclusive, 8)
		r := mustRig(t, dir, withVerbs(one, two, alone))
		p := r.command("one", `{"ttl_ms":3600000}`)
		late := r.command("alone", `{"ttl_ms":1000}`)
		<-time.After(time.Second)
		synctest.Wait()
		late.fails(t, wire.CommandTimedOut, wire.Expired, "")
		q := r.command("alone", `{"ttl_ms":60000}`)
		oneGoes <- struct{}{}
		synctest.Wait()
		p.succeeds(t)
		if q.last().State != wire.CommandExecuting {
			t.Errorf("after the serial one: got %+v, want the exclusive one executing", q.last())
		}
		r.command("two", `{"ttl_ms":60000}`).fails(t, wire.CommandRejected, wire.Locked, "exclusive")
		r.command("mode", lowLatency).succeeds(t)
		aloneGoes <- struct{}{}
		synctest.Wait()
		q.succeeds(t)
		free := r.command("one", `{"ttl_ms":60000}`)
		oneGoes <- struct{}{}
		synctest.Wait()
		free.succeeds(t)
	})
}

func TestACommandUnderWayIsLeftToTheNextStart(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		r := mustRig(t, dir, withTarget(func(f *target) { f.preparing = make(chan struct{}) }))
		p := r.command("goal", `{"goal":{"min_top1":0.8},"ttl_ms":60000}`)
		d := r.desire("desk", `{"version":1,"goal":{"min_top1":0.8}}`)
		r.stop()
		if p.ended() != "released" || d.ended() != "" {
			t.Errorf("command %q, desired state %q; want both left to the broker", p.ended(), d.ended())
		}
		if b := []byte(p.bytes); !bytes.Contains(b, []byte("received")) {
			t.Errorf("told %s, want no last state", b)
		}
	})
}
