package sim_test

import (
	"encoding/json"
	"log/slog"
	"testing"
	"testing/synctest"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/sim"
	"github.com/limber-edge/limber/agent/wire"
)

func TestARealDeviceAtTheSameBrokerIsNoBirthOfASimulation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, err := fleet.Open(mqtt.Default(), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"desk", sim.Name(0)} {
			b, err := json.Marshal(wire.State{State: wire.Online, BootID: "b"})
			if err != nil {
				t.Fatal(err)
			}
			at := wire.Address{Fleet: wire.DefaultFleet, Device: name}
			c.Receive(mqtt.Message{Topic: at.State(), Payload: b, Retained: true}, func() {})
		}
		var seen sim.Seen
		go sim.Watch(t.Context(), c.Registry(), func(s sim.Seen) bool {
			seen = s
			return true
		})
		synctest.Wait()
		if seen != (sim.Seen{Births: 1, Online: 1}) {
			t.Errorf("got %+v, want the simulated device alone", seen)
		}
	})
}
