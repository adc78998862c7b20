package agent_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/ort"
	"github.com/limber-edge/limber/family/stock"
	"github.com/limber-edge/limber/store"
)

// mustEdit opens the store of a device that does not run.
func mustEdit(tb testing.TB, cfg agent.Config, edit func(*store.Store) error) {
	tb.Helper()
	st, err := store.Open(cfg.State, store.Options{}, discard())
	if err != nil {
		tb.Fatal(err)
	}
	err = edit(st)
	if e := st.Close(); err == nil {
		err = e
	}
	if err != nil {
		tb.Fatal(err)
	}
}

// spoil gives a device a family whose members fail their canaries from a
// position on. It has the stock family's profile, or none.
func spoil(tb testing.TB, cfg agent.Config, from int, profiled bool) *family.Family {
	tb.Helper()
	carried, err := stock.Family()
	if err != nil {
		tb.Fatal(err)
	}
	f := carried.Family
	f.Name = "spoilt"
	f.Members = append([]family.Member(nil), f.Members...)
	mustEdit(tb, cfg, func(st *store.Store) error {
		for i := from; i < len(f.Members); i++ {
			canary, err := carried.Blob(f.Members[i].Canary)
			if err != nil {
				return err
			}
			canary = bytes.Clone(canary)
			canary[len(canary)-1] ^= 0x40 // the exponent of the last logit
			if _, err := st.PutBlob(canary); err != nil {
				return err
			}
			f.Members[i].Canary = family.DigestOf(canary)
		}
		manifest, err := f.Marshal()
		if err != nil {
			return err
		}
		if profiled {
			if err := adopt(st, carried.Digest(), f.Digest()); err != nil {
				return err
			}
		}
		return st.SetFamily(manifest)
	})
	return &f
}

// adopt gives a family the profile of another.
func adopt(st *store.Store, from, to family.Digest) error {
	return editProfile(st, ort.CPU, from, func(p *family.Profile) { p.Family = to })
}

// editProfile changes a family's profile on one thread, and keeps it as that of
// the family which it then names.
func editProfile(st *store.Store, provider string, of family.Digest, edit func(*family.Profile)) error {
	key := func(d family.Digest) store.ProfileKey {
		return store.ProfileKey{Family: string(d), Provider: provider, Threads: 1}
	}
	b, err := st.Profile(key(of))
	if err != nil {
		return err
	}
	var p family.Profile
	if err := json.Unmarshal(b, &p); err != nil {
		return err
	}
	edit(&p)
	if b, err = json.Marshal(p); err != nil {
		return err
	}
	return st.SetProfile(key(p.Family), b)
}

// fault notes in a profile, of long ago, that its members from a position on
// cannot be used.
func fault(p *family.Profile, from int) {
	p.Taken = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := from; i < len(p.Members); i++ {
		p.Members[i] = family.MemberProfile{Name: p.Members[i].Name, Fault: "memory is short"}
	}
}

func TestAMemberAtFaultIsTriedAgainAtTheNextStart(t *testing.T) {
	for _, tt := range []struct {
		name   string
		passed bool
	}{{"the fault has passed", true}, {"the fault stays", false}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			addr := serve(t)
			cfg := newConfig(t, addr)
			carried, err := stock.Family()
			if err != nil {
				t.Fatal(err)
			}
			f, last := &carried.Family, len(carried.Members)-1
			if !tt.passed {
				f = spoil(t, cfg, 1, true)
			}
			mustEdit(t, cfg, func(st *store.Store) error {
				return editProfile(st, ort.CPU, f.Digest(), func(p *family.Profile) { fault(p, 1) })
			})
			o := operate(t, addr)
			d := start(t, cfg)
			o.presence(cfg, wire.Online, 0)
			o.publish(self(cfg).Job("frame"), job(t, patient, pngFrame(t, 0)))
			if r := o.result(cfg, "frame", 1); r.Status != wire.OK {
				t.Errorf("got %+v, want an answer", r)
			}
			got := decoded[wire.Caps](t, o.await(self(cfg).Caps(), 1)).Members
			if best := got[len(got)-1].Name; (best == f.Members[last].Name) != tt.passed {
				t.Errorf("got %s as the most accurate of %d, want %s: %v", best, len(got), f.Members[last].Name, tt.passed)
			}
			d.stop()
			mustEdit(t, cfg, func(st *store.Store) error {
				return editProfile(st, ort.CPU, f.Digest(), func(p *family.Profile) {
					if anew, at := p.Taken.Year() > 2020, p.Members[last].Fault != ""; anew != tt.passed || at == tt.passed {
						t.Errorf("stored is a profile of %v with %+v; want it taken anew: %v", p.Taken, p.Members[last], tt.passed)
					}
				})
			})
		})
	}
}

func TestM14_ADeviceWithoutAnyMemberRefusesJobsAndStaysUp(t *testing.T) {
	t.Parallel()
	addr := serve(t)
	cfg := newConfig(t, addr)
	spoil(t, cfg, 0, true)
	o := operate(t, addr)
	start(t, cfg)
	o.presence(cfg, wire.Online, 0)
	o.until(func() bool {
		for _, m := range o.matching(self(cfg).Event(wire.SeverityError)) {
			if strings.Contains(decoded[wire.Event](t, m).Detail, "no member of family") {
				return true
			}
		}
		return false
	}, "the fault that no member can be used")
	o.publish(self(cfg).Job("frame"), job(t, patient, pngFrame(t, 0)))
	if r := o.result(cfg, "frame", 1); r.Status != wire.Refused || r.Reason != wire.Unsupported {
		t.Errorf("got %+v, want refused: unsupported", r)
	}
}

func TestM20_ServesWithTheOneMemberThatLoads(t *testing.T) {
	for _, tt := range []struct {
		name     string
		profiled bool
	}{{"on a profiled device", true}, {"when the profile is taken", false}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			addr := serve(t)
			cfg := newConfig(t, addr)
			f := spoil(t, cfg, 1, tt.profiled)
			o := operate(t, addr)
			start(t, cfg)
			o.presence(cfg, wire.Online, 0)
			if e := decoded[wire.Event](t, o.await(self(cfg).Event(wire.SeverityError), 1)); e.Kind != wire.EventFault || !strings.Contains(e.Detail, "cannot be used") {
				t.Errorf("event: got %+v, want a fault that names a member", e)
			}
			o.publish(self(cfg).Job("frame"), job(t, patient, pngFrame(t, 0)))
			if r := o.result(cfg, "frame", 1); r.Status != wire.OK || r.Member != f.Members[0].Name {
				t.Errorf("got %+v, want an answer of %s", r, f.Members[0].Name)
			}
		})
	}
}

// TestM19_LostBlobsAreMendedFromTheProgram removes every blob of the stock
// family and what was built from them.
func TestM19_LostBlobsAreMendedFromTheProgram(t *testing.T) {
	t.Parallel()
	addr := serve(t)
	cfg := newConfig(t, addr)
	mustEdit(t, cfg, func(st *store.Store) error {
		_, err := st.Prune(func(store.Digest) bool { return false })
		return err
	})
	o := operate(t, addr)
	d := start(t, cfg)
	o.presence(cfg, wire.Online, 0)
	o.publish(self(cfg).Job("frame"), job(t, patient, pngFrame(t, 0)))
	if r := o.result(cfg, "frame", 1); r.Status != wire.OK {
		t.Errorf("got %+v, want an answer", r)
	}
	if n := len(o.matching(self(cfg).Event(wire.SeverityError))); n > 0 {
		t.Errorf("%d faults, want none", n)
	}
	d.stop()
	carried, err := stock.Family()
	if err != nil {
		t.Fatal(err)
	}
	mustEdit(t, cfg, func(st *store.Store) error {
		digest, err := store.ParseDigest(string(carried.Members[0].Canary))
		if err == nil {
			_, err = st.Blob(digest)
		}
		return err
	})
}

func TestS5_StateDeletedWhileInUseIsTold(t *testing.T) {
	t.Parallel()
	o, cfg, _ := online(t, serve(t))
	o.awaitCrew(cfg)
	if err := os.RemoveAll(cfg.State); err != nil {
		t.Fatal(err)
	}
	o.until(func() bool {
		for _, m := range o.matching(self(cfg).Event(wire.SeverityError)) {
			if strings.Contains(decoded[wire.Event](t, m).Detail, "limber.db was removed") {
				return true
			}
		}
		return false
	}, "the fault that the state is gone")
	if ack := o.command(cfg, cfg.Device, "mode", "m1", `{"mode":"low-latency","ttl_ms":60000}`); ack.State != wire.CommandFailed || ack.Reason != wire.Internal {
		t.Errorf("command: got %+v, want it failed: it would be forgotten", ack)
	}
	o.publish(self(cfg).Job("frame"), job(t, patient, pngFrame(t, 0)))
	if r := o.result(cfg, "frame", 1); r.Status != wire.OK {
		t.Errorf("job: got %+v, want an answer", r)
	}
}

// awaitCrew returns when the device has loaded its last member.
func (o *operator) awaitCrew(cfg agent.Config) {
	o.tb.Helper()
	members := decoded[wire.Caps](o.tb, o.await(self(cfg).Caps(), 1)).Members
	header := fmt.Sprintf(`{"deadline_ms":%v,"min_top1":%v}`, patient, members[len(members)-1].Top1)
	for n, ready := 0, false; !ready; n++ {
		id := fmt.Sprintf("early-%d", n)
		o.publish(self(cfg).Job(id), rawJob(header, pngFrame(o.tb, 0)))
		ready = o.result(cfg, id, 1).Status == wire.OK
	}
}

func TestInfeasibleGoalIsToldWithTheNearestFeasible(t *testing.T) {
	t.Parallel()
	o, cfg, _ := online(t, serve(t))
	for n := range 3 {
		o.publish(self(cfg).Job(fmt.Sprint(n)), rawJob(`{"min_top1":0.999}`, pngFrame(t, 0)))
	}
	e := decoded[wire.Event](t, o.await(self(cfg).Event(wire.SeverityWarning), 1))
	if e.Kind != wire.EventInfeasible || e.Member == "" || !strings.Contains(e.Detail, e.Member) {
		t.Errorf("got %+v, want the most accurate member named", e)
	}
	if r := o.result(cfg, "2", 1); r.Reason != wire.Infeasible {
		t.Errorf("got %+v, want refused: infeasible", r)
	}
}
