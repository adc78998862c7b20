package engine

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family"
)

func TestAMemberIsAddedToAProfileOnTheSameScale(t *testing.T) {
	full := fmt.Sprintf("member c: %v: needs 1 KiB more", family.ErrNoRoom)
	before := family.Profile{Members: []family.MemberProfile{{Name: "a", P50ms: 1, P95ms: 2}, {Name: "b", P50ms: 4,
		P95ms: 5, Batch: 6},
		{Name: "c", Fault: full}, {Name: "d", Fault: full}, {Name: "e", Fault: "canary"}}}
	// The device served meanwhile: everything took twice as long, and a even more.
	taken := family.Profile{Members: []family.MemberProfile{{Name: "a", P50ms: 9, P95ms: 9}, {Name: "b", P50ms: 8,
		P95ms: 12, Batch: 11},
		{Name: "c", P50ms: 16, P95ms: 20, Batch: 30}, {Name: "d", Fault: full}, {Name: "e", Fault: "canary"}}}
	merge(&taken, &before)
	want := []family.MemberProfile{before.Members[0], before.Members[1], {Name: "c", P50ms: 8, P95ms: 10, Batch: 15},
		before.Members[3], before.Members[4]}
	if !slices.Equal(taken.Members, want) {
		t.Errorf("got %+v, want %+v", taken.Members, want)
	}
	if !fullFault(want[3]) || fullFault(want[4]) || fullFault(want[0]) {
		t.Error("a full disk is not told from other faults")
	}
}

func TestAFullDiskIsTheReasonThatIsGivenWhereItIsOne(t *testing.T) {
	errs := []error{errors.New("canary"), fmt.Errorf("member b: %w", family.ErrNoRoom)}
	f := &family.Family{Members: make([]family.Member, 2)}
	_, err := makeReady(t.Context(), f, failing{errs: errs}, func(int) {})
	if !isFull(err) {
		t.Errorf("got %v, want %v", err, family.ErrNoRoom)
	}
}

// failing is a loader without a session.
type failing struct {
	Loader
	errs []error
}

func (f failing) Session(i int) (family.Session, error) { return nil, f.errs[i] }

// withFullDisk has no room for these members.
func withFullDisk(members ...int) func(*rig) {
	return func(r *rig) {
		for _, i := range members {
			r.cpu.faults[i] = family.ErrNoRoom
		}
	}
}

func (r *rig) makeRoom() {
	r.cpu.change(func(l *fakeLoader) { l.faults = make([]error, len(l.faults)) })
}

func TestS3_MembersThatAFullDiskKeptFromBeingBuiltComeWithoutARestart(t *testing.T) {
	for _, tt := range []struct {
		name    string
		full    []int
		members int // meanwhile
	}{{"S3 no member has room", []int{0, 1, 2}, 0}, {"S3 some have", []int{2}, 2}, {"S3 all but the best", []int{0, 1},
		1}} {
		t.Run(tt.name, func(t *testing.T) {
			simulate(t, withFullDisk(tt.full...), func(t *testing.T, r *rig) {
				s := r.Status()
				if len(s.Members) != tt.members {
					t.Errorf("got %d members, want %d", len(s.Members), tt.members)
				}
				if got := r.ask(job(0, time.Minute)); tt.members == 0 && (got.Reason != wire.Unsupported ||
					!strings.Contains(got.Detail, "the disk is full")) || tt.members > 0 && got.Reason != "" {
					t.Errorf("meanwhile: got %+v", got)
				}
				if tt.members == 0 {
					r.wants(Unavailable, "the disk is full")
				} else {
					r.wants(Degraded, "the disk is full; make room, it is tried again")
					r.tells(wire.EventFault, "the disk is full; make room, it is tried again")
				}
				pass(10 * time.Minute)
				r.makeRoom()
				pass(2 * time.Minute)
				r.wants(Ready, "")
				if s := r.Status(); len(s.Members) != 3 || !slices.Equal(r.cpu.pinned, []int{0}) {
					t.Errorf("got %d members, %v pinned; want all, and the smallest", len(s.Members), r.cpu.pinned)
				}
				r.answeredBy("large")
			})
		})
	}
}

func TestS3_MembersWhoseCacheIsLostOnAFullDiskComeBackWithoutARestart(t *testing.T) {
	st := mustStore(t)
	again(t, st, nil, func(*testing.T, *rig) {})
	again(t, st, withFullDisk(0, 1, 2), func(t *testing.T, r *rig) {
		r.wants(Unavailable, "no member of family test can be used: the disk is full; make room, it is tried again")
		r.tells(wire.EventFault, "no member of family test can be used: the disk is full; make room, it is tried again")
		select {
		case <-r.Ready():
			t.Error("ready without a member")
		default:
		}
		r.makeRoom()
		pass(2 * time.Minute)
		<-r.Ready()
		r.wants(Ready, "")
		if got := r.ask(job(0, time.Minute)); got.Reason != "" || !slices.Equal(r.cpu.pinned, []int{0}) {
			t.Errorf("got %+v, %v pinned; want an answer, and the first one pinned", got, r.cpu.pinned)
		}
	})
}

func TestAMemberThatCannotBeBuiltAfterAllIsGivenUp(t *testing.T) {
	for _, full := range [][]int{{0, 1, 2}, {2}} {
		simulate(t, withFullDisk(full...), func(t *testing.T, r *rig) {
			r.cpu.change(func(l *fakeLoader) { l.faults[full[0]] = errors.New("canary") })
			pass(2 * time.Minute)
			r.tells(wire.EventFault, "members stay out of use until the next start: member")
			r.makeRoom()
			pass(time.Hour)
			if s := r.Status(); s.State == Ready {
				t.Errorf("without the members %v: got %s, want them left out", full, s.State)
			}
		})
	}
}

func TestADeviceThatWaitsForRoomStopsInOrder(t *testing.T) {
	simulate(t, withFullDisk(0, 1, 2), func(t *testing.T, r *rig) { pass(time.Second) })
}

func TestRoomForMoreMembersIsNotTakenWhileMemoryIsShort(t *testing.T) {
	simulate(t, withFullDisk(2), func(t *testing.T, r *rig) {
		tight(r)
		r.makeRoom()
		pass(10 * time.Minute)
		if n := len(r.Status().Members); n != 2 {
			t.Errorf("got %d members, want two", n)
		}
		r.machine.set(90, 100)
		pass(10 * time.Minute)
		r.wants(Ready, "")
	})
}
