package control

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/store"
)

func retained(m *mqtt.Message) { m.Retained = true }

func duplicate(m *mqtt.Message) { m.Duplicate = true }

// state is a desired state that comes from the broker.
type state struct {
	place   string
	version uint64
	mode    string
	how     func(m *mqtt.Message)
}

func live(*mqtt.Message) {}

// reports fails unless the last order came to this, whatever the detail.
func (r *rig) reports(want wire.Reported) {
	r.t.Helper()
	if r.said.Load() == 0 {
		r.t.Error("nobody was told that there is a report")
	}
	got := r.Status().Reported
	if (got.Detail != "") != (want.Status == wire.Rejected) {
		r.t.Errorf("got detail %q, want one for a rejection alone", got.Detail)
	}
	if got.Detail = ""; got.Nearest != nil || got != want {
		r.t.Errorf("reported: got %+v, want %+v", got, want)
	}
}

// A broker hands on what it retains in any order, and does so with every
// connection.
func TestTheNewestDesiredStateIsInForceWhateverTheOrder(t *testing.T) {
	for _, tt := range []struct {
		name     string
		come     []state
		mode     string
		reported wire.Reported // but for its detail
	}{
		{"the newest first", []state{{"@all", 7, "power-save", retained}, {"desk", 5, "low-latency", retained}},
			"power-save", wire.Reported{Version: 7, Status: wire.Applied}},
		{"the newest last", []state{{"desk", 5, "low-latency", retained}, {"@all", 7, "power-save", retained}},
			"power-save", wire.Reported{Version: 7, Status: wire.Applied}},
		{"as every connection brings it", []state{{"desk", 5, "low-latency", live}, {"@all", 7, "power-save", live},
			{"desk", 5, "low-latency", retained}, {"@all", 7, "power-save", retained}},
			"power-save", wire.Reported{Version: 7, Status: wire.Applied}},
		{"delivered twice, for want of an acknowledgement",
			[]state{{"desk", 5, "low-latency", live}, {"@all", 7, "power-save", live},
				{"desk", 5, "low-latency", live}},
			"power-save", wire.Reported{Version: 7, Status: wire.Applied}},
		{"several delivered twice", []state{{"desk", 4, "low-latency", live}, {"desk", 5, "power-save", live},
			{"desk", 4, "low-latency", duplicate}, {"desk", 5, "power-save", duplicate}},
			"power-save", wire.Reported{Version: 5, Status: wire.Applied}},
		{"set by a tool that counts by places", []state{{"@all", 7, "power-save", retained},
			{"desk", 5, "low-latency", live}},
			"power-save", wire.Reported{Version: 5, Status: wire.Rejected, Reason: wire.Conflict, AppliedVersion: 7}},
		{"set with the version of another place",
			[]state{{"@all", 7, "power-save", retained}, {"desk", 7, "low-latency", live}},
			"power-save", wire.Reported{Version: 7, Status: wire.Rejected, Reason: wire.Conflict}},
		{"set with less than before", []state{{"desk", 7, "power-save", live}, {"desk", 5, "low-latency", live}},
			"power-save", wire.Reported{Version: 5, Status: wire.Rejected, Reason: wire.Conflict, AppliedVersion: 7}},
		{"set again with more", []state{{"@all", 7, "power-save", retained}, {"desk", 5, "low-latency", live},
			{"desk", 8, "low-latency", live}},
			"low-latency", wire.Reported{Version: 8, Status: wire.Applied}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, dir string) {
				r := mustRig(t, dir)
				for _, s := range tt.come {
					p := r.desire(s.place, fmt.Sprintf(`{"version":%d,"mode":%q}`, s.version, s.mode), s.how)
					if p.ended() != "dropped" {
						t.Errorf("version %d: %q, want it acknowledged", s.version, p.ended())
					}
				}
				all := r.target.pursued()
				if got := all[len(all)-1]; got != tt.mode {
					t.Errorf("in force: got %s, want %s", got, tt.mode)
				}
				r.reports(tt.reported)
			})
		})
	}
}

func TestDesiredIsAppliedByVersionInOneCommit(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		r := mustRig(t, dir)
		before := commits(t, dir)
		r.desire("desk", `{"version":3,"mode":"low-latency"}`)
		if n := commits(t, dir) - before; n != 1 {
			t.Errorf("got %d commits, want 1", n)
		}
		r.reports(wire.Reported{Version: 3, Status: wire.Applied})
		r.desire("desk", `{"version":3,"mode":"max-accuracy"}`) // the one applied: no answer
		r.reports(wire.Reported{Version: 3, Status: wire.Applied})
		r.desire("desk", `{"version":4,"mode":"fixed:9000M"}`)
		r.reports(wire.Reported{Version: 4, Status: wire.Rejected, Reason: wire.Invalid})
		r.desire("desk", `{"version":5,"goal":{}}`)
		r.reports(wire.Reported{Version: 5, Status: wire.Rejected, Reason: wire.Invalid})
		r.desire("desk", `{"version":5,"mode":"warp"}`)
		r.reports(wire.Reported{Version: 5, Status: wire.Rejected, Reason: wire.Invalid})
		r.desire("desk", `{"version":4,"mode":"fixed:small"}`) // the rejected ones do not count
		r.reports(wire.Reported{Version: 4, Status: wire.Applied})
		r.desire("@all", `{"version":1,"mode":"balanced"}`) // groups do not count by themselves
		r.reports(wire.Reported{Version: 1, Status: wire.Rejected, Reason: wire.Conflict, AppliedVersion: 4})
		r.desire("@all", `{"version":5,"mode":"balanced"}`)
		r.reports(wire.Reported{Version: 5, Status: wire.Applied})
		for _, unreadable := range []string{`{"version":0,"mode":"balanced"}`, `{`,
			`{"version":5,"version":6,"mode":"balanced"}`} {
			r.desire("desk", unreadable)
			r.reports(wire.Reported{Version: 5, Status: wire.Rejected, Reason: wire.Invalid})
		}
		r.desire("@gate", `{"version":6,"mode":"low-latency"}`)
		r.reports(wire.Reported{Version: 6, Status: wire.Applied})
		if got, want := r.stored("desired"), `{"@all":5,"@gate":6,"desk":4}`; got != want {
			t.Errorf("stored %s, want %s", got, want)
		}
		if p := r.desire("desk", ""); p.ended() != "dropped" { // that is how it is taken away
			t.Errorf("an empty one: %q", p.ended())
		}
		r.command("mode", `{"mode":"fixed:9000M","ttl_ms":1000}`).fails(t, wire.CommandRejected, wire.Invalid, "")
		r.reports(wire.Reported{Version: 6, Status: wire.Applied})
		r.pursues("low-latency", "fixed:small", "balanced", "low-latency")
		r.stop()

		r = mustRig(t, dir) // it gets all that is retained, and has applied it
		if r.begun.String() != "low-latency" || r.Status().Newest != 6 {
			t.Errorf("after the restart: began with %s and version %d", r.begun, r.Status().Newest)
		}
		r.desire("desk", `{"version":4,"mode":"fixed:small"}`, retained)
		r.desire("@gate", `{"version":6,"mode":"low-latency"}`, retained)
		if n := r.said.Load(); n > 0 || r.Status().Reported != (wire.Reported{Version: 6, Status: wire.Applied}) {
			t.Errorf("said %d times something new, last %+v", n, r.Status().Reported)
		}
		r.pursues()
		p := r.send("mode", "after", lowLatency)
		synctest.Wait()
		p.succeeds(t)
		r.reports(wire.Reported{Version: 6, Status: wire.Applied})
	})
}

func TestM7_AVersionOutOfReachIsRejectedAndOneThatWasAppliedCanBeForcedBack(t *testing.T) {
	const out = uint64(3 + wire.VersionReach + 1)
	desire := func(r *rig, place string, version uint64, more string) {
		r.t.Helper()
		r.desire(place, fmt.Sprintf(`{"version":%d,"mode":"low-latency"%s}`, version, more))
	}
	bubble(t, func(t *testing.T, dir string) {
		r := mustRig(t, dir)
		desire(r, "desk", 3, "")
		for _, version := range []uint64{out, math.MaxUint64} {
			desire(r, "@all", version, "")
			r.reports(wire.Reported{Version: version, Status: wire.Rejected, Reason: wire.Invalid, AppliedVersion: 3})
		}
		desire(r, "desk", 4, `,"force_version":true`) // as any other
		r.reports(wire.Reported{Version: 4, Status: wire.Applied})
		desire(r, "desk", 2, `,"force_version":true`) // one that was overtaken
		r.reports(wire.Reported{Version: 2, Status: wire.Rejected, Reason: wire.Conflict, AppliedVersion: 4})
		desire(r, "desk", 3+wire.VersionReach, "")
		r.reports(wire.Reported{Version: 3 + wire.VersionReach, Status: wire.Applied})
		r.stop()

		// As versions before did.
		mustSet(t, dir, "desired", fmt.Sprintf(`{"@all":%d,"desk":9,"@gate":4}`, uint64(math.MaxUint64)))
		r = mustRig(t, dir)
		desire(r, "desk", 8, "")
		r.reports(wire.Reported{Version: 8, Status: wire.Rejected, Reason: wire.Conflict, AppliedVersion: math.MaxUint64})
		for range 2 { // it comes again with every connection
			desire(r, "desk", 8, `,"force_version":true`)
			r.reports(wire.Reported{Version: 8, Status: wire.Applied})
		}
		desire(r, "desk", 9, "")
		desire(r, "desk", 8, `,"force_version":true`) // nor does it undo what came after
		r.reports(wire.Reported{Version: 8, Status: wire.Rejected, Reason: wire.Conflict, AppliedVersion: 9})
		if got, want := r.stored("desired"), `{"@gate":4,"desk":9}`; got != want {
			t.Errorf("stored %s, want %s", got, want)
		}
	})
}

// mustSet stores a cell while no rig has the state.
func mustSet(t *testing.T, dir, cell, value string) {
	t.Helper()
	st, err := store.Open(dir, store.Options{NoSync: true}, discard())
	if err == nil {
		err = errors.Join(st.SetCell(cell, []byte(value)), st.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestAnOversizeDesiredStateIsRejectedByItsSize(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		r := mustRig(t, dir)
		r.desire("desk", "", func(m *mqtt.Message) { m.Oversize = 70_000 })
		if got := r.Status().Reported; got.Status != wire.Rejected || got.Reason != wire.Invalid ||
			!strings.Contains(got.Detail, "70000 bytes") {
			t.Errorf("got %+v", got)
		}
	})
}

func TestADesiredGoalIsRejectedWithTheNearestAndToldOfOnce(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		r := mustRig(t, dir)
		for range 2 { // as every new connection brings it
			r.desire("desk", `{"version":2,"goal":{"min_top1":0.99,"deadline_ms":500}}`, retained)
			got := r.Status().Reported
			if got.Version != 2 || got.Status != wire.Rejected || got.Reason != wire.Infeasible ||
				got.Nearest == nil || *got.Nearest.MinTop1 != 0.87 || *got.Nearest.DeadlineMS != 500 {
				t.Errorf("got %+v, want it rejected with the nearest", got)
			}
		}
		if events := r.events.of(wire.EventInfeasible); len(events) != 1 ||
			!strings.Contains(events[0], "the nearest that can be had is") {
			t.Errorf("told %q, want one event that names the nearest", events)
		}
		r.desire("desk", `{"version":3,"goal":{"min_top1":0.99}}`)
		if events := r.events.of(wire.EventInfeasible); len(events) != 2 {
			t.Errorf("told %q, want the next version told of as well", events)
		}
	})
}

func TestADesiredStateWaitsForMembersAndHoldsNobodyUp(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		r := mustRig(t, dir, withTarget(func(f *target) { f.preparing = make(chan struct{}) }))
		p := r.desire("desk", `{"version":1,"goal":{"min_top1":0.8}}`)
		next := r.desire("@all", `{"version":2,"mode":"power-save"}`)
		r.command("mode", `{"mode":"dance","ttl_ms":1000}`).fails(t, wire.CommandRejected, wire.Invalid, "")
		<-time.After(time.Hour)
		if p.ended() != "" || next.ended() != "" {
			t.Errorf("got %q and %q, want both waiting", p.ended(), next.ended())
		}
		r.pursues()
		close(r.target.preparing)
		synctest.Wait()
		r.pursues("goal", "power-save")
		r.reports(wire.Reported{Version: 2, Status: wire.Applied})
	})
}

func TestADesiredStateThatHadToWaitDoesNotUndoALaterOrder(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		r := mustRig(t, dir, withTarget(func(f *target) { f.preparing = make(chan struct{}) }))
		r.desire("desk", `{"version":1,"goal":{"min_top1":0.8}}`)
		<-time.After(time.Second)
		r.command("mode", lowLatency).succeeds(t)
		<-time.After(time.Minute)
		close(r.target.preparing)
		synctest.Wait()
		r.pursues("low-latency")
		r.reports(wire.Reported{Version: 1, Status: wire.Applied})
		if got := r.stored("mode"); !strings.Contains(got, "low-latency") {
			t.Errorf("stored %s, want the later order", got)
		}
		if got, want := r.stored("desired"), `{"desk":1}`; got != want {
			t.Errorf("stored %s, want %s", got, want)
		}
	})
}

func TestADesiredStateThatCannotBeStoredIsRejectedAndUndone(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		r := mustRig(t, dir)
		r.target.onSet(func(context.Context) error {
			r.target.onSet(nil)
			r.disk(false)
			return nil
		})
		r.desire("desk", `{"version":1,"mode":"low-latency"}`)
		r.reports(wire.Reported{Version: 1, Status: wire.Rejected, Reason: wire.Internal})
		r.pursues("low-latency", "balanced")
		r.disk(true)
		r.desire("desk", `{"version":1,"mode":"low-latency"}`, retained) // the next connection brings it
		r.reports(wire.Reported{Version: 1, Status: wire.Applied})
		r.pursues("low-latency", "balanced", "low-latency")
	})
}

func TestOfTooManyDesiredStatesTheOldestGoes(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		r := mustRig(t, dir, withTarget(func(f *target) { f.preparing = make(chan struct{}) }))
		r.desire("desk", `{"version":1,"goal":{"min_top1":0.8}}`) // is asked about
		var waiting []*reply
		for i := range ordersMost + 1 {
			waiting = append(waiting, r.desire("desk", fmt.Sprintf(`{"version":%d,"mode":"low-latency"}`, i+2)))
		}
		if waiting[0].ended() != "dropped" || waiting[1].ended() != "" {
			t.Errorf("the oldest %q, the next %q; want only the oldest acknowledged", waiting[0].ended(),
				waiting[1].ended())
		}
		close(r.target.preparing)
		synctest.Wait()
		r.reports(wire.Reported{Version: ordersMost + 2, Status: wire.Applied})
	})
}

func TestDamagedVersionsLetTheRetainedStatesBeAppliedAnew(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		r := mustRig(t, dir)
		if err := r.state.SetCell("desired", []byte("{")); err != nil {
			t.Fatal(err)
		}
		r.stop()
		r = mustRig(t, dir)
		r.desire("desk", `{"version":1,"mode":"low-latency"}`, retained)
		r.reports(wire.Reported{Version: 1, Status: wire.Applied})
	})
}
