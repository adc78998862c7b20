package agent_test

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/limber-edge/limber/agent"
	"github.com/limber-edge/limber/agent/config"
	"github.com/limber-edge/limber/agent/sim"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/stock"
	"github.com/limber-edge/limber/store"
)

func TestM14_ADeviceWithoutAnyMemberRefusesJobsAndStaysUp(t *testing.T) {
	t.Parallel()
	o, cfg, d := fresh(t, serve(t), failsFrom(0))
	if e := o.tells(cfg, wire.EventFault, "no member of family"); !strings.Contains(e.Detail, "canary") {
		t.Errorf("got %+v, want the reason", e)
	}
	o.until(func() bool {
		s, ok := latest[wire.State](o, self(cfg).State())
		return ok && s.State == wire.Online && strings.Contains(s.Detail, "no member of family")
	}, "the state says why")
	if r := o.ask(cfg, "frame", `{}`); r.Status != wire.Refused || r.Reason != wire.Unsupported {
		t.Errorf("got %+v, want refused: unsupported", r)
	}
	ack := o.command(cfg, cfg.Device, "mode", "m1", `{"mode":"balanced","ttl_ms":60000}`)
	if ack.Reason != wire.Unsupported {
		t.Errorf("a mode: got %+v, want rejected: unsupported", ack)
	}
	d.stop()
	o.presence(cfg, wire.Offline, 0)
}

func TestM20_ServesWithTheOneMemberThatLoads(t *testing.T) {
	t.Parallel()
	o, cfg, d := fresh(t, serve(t), failsFrom(1))
	check := func(name string) {
		o.tells(cfg, wire.EventFault, "cannot be used")
		o.until(func() bool {
			caps, ok := latest[wire.Caps](o, self(cfg).Caps())
			return ok && len(caps.Members) == 1
		}, "capabilities of one member")
		if r := o.ask(cfg, name, `{"deadline_ms":600000}`); r.Status != wire.OK || r.Member != "5.8M" {
			t.Errorf("%s: got %+v, want an answer of 5.8M", name, r)
		}
	}
	check("new")
	d.stop()
	start(t, cfg, failsFrom(1))
	check("profiled")
}

func TestM19_LostBlobsAreMendedFromTheProgram(t *testing.T) {
	t.Parallel()
	addr := serve(t)
	cfg := newRealConfig(t, addr)
	carried, err := stock.Family()
	if err != nil {
		t.Fatal(err)
	}
	canary, err := store.ParseDigest(string(carried.Members[0].Canary))
	if err != nil {
		t.Fatal(err)
	}
	mustEdit(t, cfg, func(st *store.Store) error {
		_, err := st.Prune(func(store.Digest) bool { return false })
		return err
	})
	o := operate(t, addr)
	d := start(t, cfg, real(cfg))
	o.presence(cfg, wire.Online, 0)
	if r := o.ask(cfg, "frame", `{"deadline_ms":600000}`); r.Status != wire.OK {
		t.Errorf("got %+v, want an answer", r)
	}
	if n := len(o.matching(self(cfg).Event(wire.SeverityError))); n > 0 {
		t.Errorf("%d faults, want none", n)
	}
	d.stop()
	mustEdit(t, cfg, func(st *store.Store) error {
		_, err := st.Blob(canary)
		return err
	})
}

func TestS5_StateDeletedWhileInUseIsTold(t *testing.T) {
	t.Parallel()
	o, cfg, d := online(t, serve(t), rig{})
	d.broken = true
	if err := os.RemoveAll(cfg.State); err != nil {
		t.Fatal(err)
	}
	o.tells(cfg, wire.EventFault, "limber.db was removed")
	ack := o.command(cfg, cfg.Device, "mode", "m1", `{"mode":"low-latency","ttl_ms":60000}`)
	if ack.State != wire.CommandFailed || ack.Reason != wire.Internal {
		t.Errorf("command: got %+v, want it failed: it would be forgotten", ack)
	}
	if r := o.ask(cfg, "frame", `{"deadline_ms":600000}`); r.Status != wire.OK {
		t.Errorf("job: got %+v, want an answer", r)
	}
}

func TestInfeasibleGoalIsToldWithTheNearestFeasible(t *testing.T) {
	t.Parallel()
	o, cfg, _ := online(t, serve(t), rig{})
	if r := o.ask(cfg, "frame", `{"min_top1":0.999}`); r.Reason != wire.Infeasible {
		t.Errorf("got %+v, want refused: infeasible", r)
	}
	members := o.front(cfg)
	best := members[len(members)-1].Name
	if e := o.tells(cfg, wire.EventInfeasible, best); e.Member != best {
		t.Errorf("got %+v, want the most accurate member named", e)
	}
}

func TestR4_AMemberThatHangsGetsANewSession(t *testing.T) {
	t.Parallel()
	addr := serve(t)
	cfg := newConfig(t, addr)
	cfg.Mode = "fixed:23.1M"
	o := operate(t, addr)
	var hung atomic.Bool
	start(t, cfg, rig{inference: simulated(func(l *sim.Loader) {
		last := len(l.Family.Members) - 1
		l.Run = func(i int, interrupted <-chan struct{}) error {
			if i != last || !hung.CompareAndSwap(false, true) {
				return nil
			}
			<-interrupted
			return errors.New("terminated")
		}
	})})
	o.presence(cfg, wire.Online, 0)
	r := o.askUntil(cfg, "hangs", `{"deadline_ms":600000}`,
		func(r wire.Result) bool { return r.Reason == wire.Internal }, "a job that hangs")
	if !strings.Contains(r.Detail, "23.1M: it was interrupted after 5") {
		t.Errorf("the job that hung: got %+v", r)
	}
	o.tells(cfg, wire.EventFault, "23.1M hung and was interrupted; it gets a new session")
	o.answeredBy(cfg, "23.1M")
}

func TestR2_UnderMemoryPressureTheLargestMembersMakeRoom(t *testing.T) {
	t.Parallel()
	addr, m := serve(t), mustMachine(t)
	cfg := newConfig(t, addr)
	cfg.Mode = "max-accuracy"
	o := operate(t, addr)
	start(t, cfg, m.under())
	front := o.front(cfg)
	largest := front[len(front)-1].Name
	o.answeredBy(cfg, largest)
	m.memory(5)
	e := o.tells(cfg, wire.EventMemory, "5.0 % of the memory are left")
	m.memory(12) // neither short nor enough
	if e.Member != largest || e.Count > 1 {
		t.Errorf("got %+v, want %s taken out of use", e, largest)
	}
	r := o.ask(cfg, "tight", `{"deadline_ms":600000}`)
	smaller := slices.ContainsFunc(front[:len(front)-1], func(m wire.Member) bool { return m.Name == r.Member })
	if r.Status != wire.OK || !smaller {
		t.Errorf("without room: got %+v, want an answer by a smaller member", r)
	}
	o.telemetry(cfg, func(s wire.Telemetry) bool { return s.MemHeadroom != nil && *s.MemHeadroom == 12 },
		"12 % are left")
}

func TestR2_ADeviceThatStartsWithoutRoomLoadsOneMember(t *testing.T) {
	t.Parallel()
	m := mustMachine(t)
	m.write("proc/pressure/memory", "some avg10=40.00 avg60=3.00 avg300=1.00 total=42")
	o, cfg, _ := online(t, serve(t), m.under())
	front := o.front(cfg)
	o.until(func() bool { return len(o.events(cfg, wire.EventMemory)) == len(front)-1 },
		"%d members are left out", len(front)-1)
	if e := o.events(cfg, wire.EventMemory)[0]; e.Member != front[1].Name ||
		!strings.Contains(e.Detail, "waited for memory in 40.0 %") {
		t.Errorf("got %+v, want %s left out for the stalls", e, front[1].Name)
	}
	if r := o.ask(cfg, "frame", `{"deadline_ms":600000}`); r.Status != wire.OK || r.Member != front[0].Name {
		t.Errorf("got %+v, want an answer by %s", r, front[0].Name)
	}
}

// full is a device on whose disk members have room while there is some.
func full(room *atomic.Bool, position int) rig {
	return rig{inference: simulated(func(l *sim.Loader) {
		l.Load = func(i int) error {
			if i >= position && !room.Load() {
				return fmt.Errorf("member %s: %w: needs 1 MiB more", l.Family.Members[i].Name, family.ErrNoRoom)
			}
			return nil
		}
	})}
}

func TestS3_MembersThatAFullDiskKeptFromBeingBuiltComeWithoutARestart(t *testing.T) {
	for _, tt := range []struct {
		name     string
		position int // of the first member without room
	}{{"S3 no member has room", 0}, {"S3 some have", 2}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			room := new(atomic.Bool)
			o, cfg, _ := fresh(t, serve(t), full(room, tt.position))
			if tt.position == 0 {
				refusedForRoom(t, o, cfg)
			} else {
				o.caps(cfg, func(c wire.Caps) bool { return len(c.Members) == tt.position }, "some members")
			}
			room.Store(true)
			o.caps(cfg, func(c wire.Caps) bool { return len(c.Members) == 6 }, "all members")
			o.until(func() bool {
				s, ok := latest[wire.State](o, self(cfg).State())
				return ok && s.State == wire.Online && s.Detail == ""
			}, "a device without a complaint")
			if r := o.ask(cfg, "frame", `{"deadline_ms":600000}`); r.Status != wire.OK {
				t.Errorf("got %+v, want an answer", r)
			}
		})
	}
}

// refusedForRoom waits until the state says that the disk is full, and wants jobs
// refused alike.
func refusedForRoom(t *testing.T, o *operator, cfg config.Config) {
	t.Helper()
	o.until(func() bool {
		s, ok := latest[wire.State](o, self(cfg).State())
		return ok && s.State == wire.Online && strings.Contains(s.Detail, "the disk is full")
	}, "the state says that the disk is full")
	for i := range 3 {
		if r := o.ask(cfg, fmt.Sprintf("full-%d", i), `{}`); r.Reason != wire.Unsupported ||
			!strings.Contains(r.Detail, "the disk is full") {
			t.Errorf("while the disk is full: got %+v, want refused: unsupported, for want of room", r)
		}
	}
}

func TestADeviceThatWaitsForRoomStopsInOrder(t *testing.T) {
	t.Parallel()
	o, cfg, d := fresh(t, serve(t), full(new(atomic.Bool), 0))
	refusedForRoom(t, o, cfg)
	d.stop()
	o.presence(cfg, wire.Offline, 0)
}

func TestMoreThreadsThatAreOfNoUseAreGivenUp(t *testing.T) {
	t.Parallel()
	addr := serve(t)
	o, cfg, _ := online(t, addr, rig{alter: func(d *agent.Deps) { d.Cores = 4 }}) // as fast as one
	o.tells(cfg, wire.EventProvider, "3 threads are of no use here: an inference by ")
	if caps := o.servedBy(cfg, "cpu"); caps.Profile.Threads != 1 {
		t.Errorf("got %+v, want one thread", caps.Profile)
	}
}
