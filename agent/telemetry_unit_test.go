package agent

import (
	"slices"
	"testing"

	"github.com/limber-edge/limber/agent/engine"
	"github.com/limber-edge/limber/agent/uplink"
)

// Who looks for the first time may find all of it done, after the greeting.
func TestTheFirstLookAtAReadyDeviceTakesBackWhatItsGreetingSaid(t *testing.T) {
	var before conditions
	state := []uplink.Document{uplink.State}
	for _, tt := range []struct {
		status engine.Status
		news   []uplink.Document
	}{
		{engine.Status{State: engine.Ready}, state},
		{engine.Status{State: engine.Degraded, Detail: "a member is out of use"}, nil},
		{engine.Status{State: engine.Unavailable, Detail: "no disk"}, state},
		{engine.Status{State: engine.Preparing, Detail: "loading"}, state},
		{engine.Status{State: engine.Preparing, Detail: "loading"}, nil},
	} {
		now := before
		now.serves(tt.status)
		if got := now.news(before); !slices.Equal(got, tt.news) {
			t.Errorf("%+v: got %v, want %v", tt.status, got, tt.news)
		}
		before = now
	}
}
