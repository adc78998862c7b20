package agent

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/resident"
)

func TestAMemberIsAddedToAProfileOnTheSameScale(t *testing.T) {
	full := fmt.Sprintf("member c: %v: needs 1 KiB more", resident.ErrNoRoom)
	before := family.Profile{Members: []family.MemberProfile{{Name: "a", P50ms: 1, P95ms: 2}, {Name: "b", P50ms: 4, P95ms: 5, Batch: 6},
		{Name: "c", Fault: full}, {Name: "d", Fault: full}, {Name: "e", Fault: "canary"}}}
	// The device served meanwhile: everything took twice as long, and a even more.
	taken := family.Profile{Members: []family.MemberProfile{{Name: "a", P50ms: 9, P95ms: 9}, {Name: "b", P50ms: 8, P95ms: 12, Batch: 11},
		{Name: "c", P50ms: 16, P95ms: 20, Batch: 30}, {Name: "d", Fault: full}, {Name: "e", Fault: "canary"}}}
	merge(&taken, &before)
	want := []family.MemberProfile{before.Members[0], before.Members[1], {Name: "c", P50ms: 8, P95ms: 10, Batch: 15}, before.Members[3], before.Members[4]}
	if !slices.Equal(taken.Members, want) {
		t.Errorf("got %+v, want %+v", taken.Members, want)
	}
	if !fullFault(want[3]) || fullFault(want[4]) || fullFault(want[0]) {
		t.Error("a full disk is not told from other faults")
	}
}

func TestAFullDiskIsTheReasonThatIsGivenWhereItIsOne(t *testing.T) {
	errs := []error{errors.New("canary"), fmt.Errorf("member b: %w", resident.ErrNoRoom)}
	f := &family.Family{Members: make([]family.Member, 2)}
	_, _, err := makeReady(t.Context(), f, failing{errs: errs}, func(int) {})
	if !isFull(err) {
		t.Errorf("got %v, want %v", err, resident.ErrNoRoom)
	}
}

// failing is a shelf without a session.
type failing struct {
	Shelf
	errs []error
}

func (f failing) Session(i int) (family.Session, error) { return nil, f.errs[i] }
