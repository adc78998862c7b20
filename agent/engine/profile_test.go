package engine

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/store"
)

func TestAProfileIsOutdatedWhenAFaultHasPassed(t *testing.T) {
	profile := func(faults ...string) *family.Profile {
		p := new(family.Profile)
		for _, fault := range faults {
			p.Members = append(p.Members, family.MemberProfile{Fault: fault})
		}
		return p
	}
	cut := family.Family{Supernet: "of all"}
	for _, tt := range []struct {
		name    string
		family  family.Family
		profile *family.Profile
		faulty  []int
		want    bool
		tried   int
	}{
		{"none", cut, nil, nil, true, 0},
		{"no faults", cut, profile("", "", ""), nil, false, 0},
		{"a fault that stays", cut, profile("", "canary", ""), []int{1}, false, 1},
		{"a fault that has passed", cut, profile("", "canary", ""), nil, true, 1},
		{"one of two has passed", cut, profile("canary", "", "canary"), []int{0}, true, 2},
		{"both have passed", cut, profile("canary", "", "canary"), nil, true, 1},
		{"a foreign model's", family.Family{}, profile("", "trial", ""), nil, false, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			on := &fakeLoader{faults: make([]error, 3)}
			for _, i := range tt.faulty {
				on.faults[i] = errors.New("canary: a logit is far from the stored one")
			}
			l := newLoader(new(Engine), Source{Family: &tt.family})
			if got := l.outdated(t.Context(), tt.profile, on); got != tt.want || len(on.made) != tt.tried || on.open != 0 {
				t.Errorf("got %v after %d sessions, %d open; want %v after %d, none open", got, len(on.made), on.open, tt.want,
					tt.tried)
			}
		})
	}
}

func TestTheFirstStartPreparesTheFamilyAndTheNextFindsItsProfile(t *testing.T) {
	st := mustStore(t)
	again(t, st, func(r *rig) { r.cpu.slow = time.Minute }, func(t *testing.T, r *rig) {
		for i, want := range []string{"preparing 1 of 3 members", "preparing 2 of 3 members", "preparing 3 of 3 members"} {
			if r.wants(Preparing, want); i < 2 {
				pass(time.Minute)
			}
		}
		if got := r.ask(job(0, time.Minute)); got.Reason != wire.Busy || got.Abandoned ||
			!strings.Contains(got.Detail, "preparing 3 of 3") {
			t.Errorf("meanwhile: got %+v, want busy, and why", got)
		}
		if s := r.Snapshot(); s.Jobs != 1 || s.Refused != 1 {
			t.Errorf("got %+v, want the job counted", s.Counts)
		}
		pass(time.Minute)
		r.wants(Ready, "")
		if s := r.Status(); s.Profile == nil || s.Family != r.deps.Family || s.Operating == nil || len(s.Members) != 3 ||
			s.Loading {
			t.Errorf("got %+v", s)
		}
	})
	again(t, st, nil, func(t *testing.T, r *rig) {
		if r.wants(Ready, ""); r.cpu.profiled != 0 || len(r.cpu.made) != 3 {
			t.Errorf("%d profiles and %d sessions, want the stored profile used", r.cpu.profiled, len(r.cpu.made))
		}
		p, err := StoredProfile(&r.deps, r.cpu)
		if err != nil || p == nil || *p.OthersPercent != 100 {
			t.Errorf("stored: got %+v, %v; want what others used", p, err)
		}
	})
}

func TestAMemberAtFaultIsTriedAgainAtTheNextStart(t *testing.T) {
	for _, tt := range []struct {
		name   string
		passed bool
	}{{"the fault has passed", true}, {"the fault stays", false}} {
		t.Run(tt.name, func(t *testing.T) {
			st, fault := mustStore(t), errors.New("memory is short")
			again(t, st, func(r *rig) { r.cpu.faults[2] = fault }, func(t *testing.T, r *rig) {
				r.wants(Degraded, "a member cannot be used: member 2: memory is short; `limber agent --profile` tries it again")
				r.tells(wire.EventFault,
					"a member cannot be used: member 2: memory is short; `limber agent --profile` tries it again")
			})
			again(t, st, func(r *rig) {
				if !tt.passed {
					r.cpu.faults[2] = fault
				}
			}, func(t *testing.T, r *rig) {
				if s := r.Status(); (s.State == Ready) != tt.passed || (len(s.Members) == 3) != tt.passed ||
					(r.cpu.profiled == 1) != tt.passed {
					t.Errorf("got %s, %d members after %d profiles", s.State, len(s.Members), r.cpu.profiled)
				}
			})
		})
	}
}

func TestM14_ADeviceWithoutAnyMemberRefusesJobsAndStaysUp(t *testing.T) {
	st := mustStore(t)
	again(t, st, nil, func(*testing.T, *rig) {}) // profiled
	for name, st := range map[string]*store.Store{"on a profiled device": st, "when the profile is taken": mustStore(t)} {
		again(t, st, func(r *rig) {
			for i := range r.cpu.faults {
				r.cpu.faults[i] = errors.New("canary")
			}
		}, func(t *testing.T, r *rig) {
			r.wants(Unavailable, "no member of family test can be used")
			r.tells(wire.EventFault, "no member of family test can be used")
			if got := r.ask(job(0, time.Minute)); got.Reason != wire.Unsupported ||
				!strings.Contains(got.Detail, "no member of family") {
				t.Errorf("%s: got %+v, want refused: unsupported", name, got)
			}
			pass(time.Hour)
			r.wants(Unavailable, "no member of family test can be used")
		})
	}
}

func TestM14_AJobThatCameBeforeItWasKnownThatThereIsNoMemberIsUnsupported(t *testing.T) {
	st := mustStore(t)
	again(t, st, nil, func(*testing.T, *rig) {})
	again(t, st, func(r *rig) {
		r.cpu.slow = time.Second
		for i := range r.cpu.faults {
			r.cpu.faults[i] = errors.New("canary")
		}
	}, func(t *testing.T, r *rig) {
		r.wants(Preparing, "preparing: loading the first of 3 members")
		if got := r.ask(job(0, time.Minute)); got.Reason != wire.Unsupported || got.Abandoned {
			t.Errorf("got %+v, want unsupported", got)
		}
	})
}

func TestM20_ServesWithTheOneMemberThatLoads(t *testing.T) {
	st := mustStore(t)
	again(t, st, nil, func(*testing.T, *rig) {})
	for name, st := range map[string]*store.Store{"on a profiled device": st, "when the profile is taken": mustStore(t)} {
		again(t, st, func(r *rig) { r.cpu.faults[1], r.cpu.faults[2] = errors.New("canary"), errors.New("canary") },
			func(t *testing.T, r *rig) {
				r.tells(wire.EventFault, "cannot be used: member 1: canary")
				if got := r.ask(job(0, time.Minute)); got.member != "small" {
					t.Errorf("%s: got %+v, want an answer by the one", name, got)
				}
				r.wants(Degraded, "canary")
			})
	}
}

func TestADeviceWithoutARuntimeSaysWhy(t *testing.T) {
	for _, open := range []bool{false, true} {
		simulate(t, func(r *rig) {
			fault := errors.New("no ONNX Runtime: run `make runtime`")
			if r.deps.Open, r.deps.Fault = nil, fault; open {
				r.deps.Open = func(family.Variant) (Loader, error) { return nil, fault }
			}
		}, func(t *testing.T, r *rig) {
			r.wants(Unavailable, "make runtime")
			r.tells(wire.EventFault, "make runtime")
			if got := r.ask(job(0, time.Minute)); got.Reason != wire.Unsupported {
				t.Errorf("got %+v, want unsupported", got)
			}
			if err := r.SetMode(t.Context(), mode(t, "low-latency")); err != nil || r.Status().Target != mode(t, "low-latency") {
				t.Errorf("a mode: got %v, %v", r.Status().Target, err)
			}
		})
	}
}

func TestAProfileThatIsDamagedIsTakenAgain(t *testing.T) {
	st := mustStore(t)
	synctest.Test(t, func(t *testing.T) {
		r := mustRig(t, st)
		key := profileKey(r.deps.Family, r.cpu)
		for _, damaged := range []string{"{", "{}"} {
			if err := st.SetProfile(key, []byte(damaged)); err != nil {
				t.Fatal(err)
			}
			if p, err := StoredProfile(&r.deps, r.cpu); p != nil || err != nil {
				t.Errorf("%s: got %+v, %v; want none", damaged, p, err)
			}
		}
		var told []int
		p, err := TakeProfile(t.Context(), &r.deps, r.cpu, func(i int) { told = append(told, i) })
		if err != nil || len(told) != 3 || r.cpu.open != 0 {
			t.Errorf("got %v, told of %v, %d sessions open", err, told, r.cpu.open)
		}
		stored, err := StoredProfile(&r.deps, r.cpu)
		a, _ := json.Marshal(p)
		if b, _ := json.Marshal(stored); err != nil || string(a) != string(b) {
			t.Errorf("stored %s, %v; want %s", b, err, a)
		}
	})
}
