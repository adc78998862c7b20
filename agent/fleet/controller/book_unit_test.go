package controller

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/fleet/rollout"
	"github.com/limber-edge/limber/agent/wire"
)

// lone is a fleet of one device.
type lone struct{ is fleet.Device }

func (l lone) Devices() []fleet.Device    { return []fleet.Device{l.is} }
func (l lone) Device(string) fleet.Device { return l.is }
func (l lone) Fits(fleet.Device) bool     { return true }
func (l lone) view() rollout.View {
	return rollout.View{Picture: l, Where: l, Evidence: rollout.NewEvidence()}
}
func being(state wire.Presence) lone {
	return lone{fleet.Device{Name: "d", State: &wire.State{State: state}}}
}

// TestACommandWhoseAnswerWasLostIsSentAgain: a broker drops also what is QoS 1 where much
// is on its way, and the device would not say again by itself what it has answered.
func TestACommandWhoseAnswerWasLostIsSentAgain(t *testing.T) {
	now := time.Now()
	here := being(wire.Online)
	spec := wire.RolloutSpec{Mode: "balanced", Gates: []wire.Gate{{Name: wire.GateSuccess, Limit: "0.95"}}}
	r, err := rollout.New("r", spec, here.view(), now)
	if err != nil {
		t.Fatal(err)
	}
	r.Step(now, here.view())
	b := book{entries: []*entry{{Record: r}}}
	var sent []string
	begin := now
	for ; now.Sub(begin) < 3*time.Hour; now = now.Add(time.Second) {
		for range b.unsent(here, now) {
			sent = append(sent, now.Sub(begin).String())
		}
	}
	want := "0s 1m0s 3m0s 7m0s 15m0s 31m0s 1h3m0s 1h35m0s 2h7m0s 2h39m0s"
	if got := strings.Join(sent, " "); got != want {
		t.Errorf("sent after %s, want %s", got, want)
	}
	if got := b.unsent(being(wire.Lost), now); len(got) > 0 {
		t.Errorf("got %v for a device that is not there, want nothing", got)
	}
	if got := b.unsent(here, now); len(got) != 1 || got[0].ID != "r.1" {
		t.Errorf("got %v when it is back, want its command at once", got)
	}
}

// TestTopicsThatWereClearedTakeNoRoom: in the end what somebody wrote would stay.
func TestTopicsThatWereClearedTakeNoRoom(t *testing.T) {
	var b book
	b.forgetTold()
	controller := wire.Address{Fleet: "yard", Device: wire.Controller}
	cleared := map[string][sha256.Size]byte{}
	for i := range foundMost {
		cleared[controller.Rollout(fmt.Sprint("gone-", i))] = sha256.Sum256(nil)
	}
	now := time.Now()
	b.correct(cleared, now)
	strange := controller.Rollout("strange")
	b.correct(map[string][sha256.Size]byte{strange: sha256.Sum256([]byte("{}"))}, now.Add(disputed))
	if !b.clear[strange] || len(b.clear) != 1 {
		t.Errorf("%d topics are to be cleared, want the one that somebody wrote", len(b.clear))
	}
}
