package fleet_test

import (
	"slices"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/wire"
)

func order(tb testing.TB, target, payload string, told func(fleet.Told)) fleet.Order {
	tb.Helper()
	b, err := fleet.Payload(payload, time.Now().Add(patience))
	if err != nil {
		tb.Fatal(err)
	}
	return fleet.Order{ID: fleet.NewID(), To: device(target), Verb: "dance", Payload: b, Patience: patience, Told: told}
}

func TestAnOrderTellsEveryStateOfEveryDeviceBeforeItEnds(t *testing.T) {
	t.Parallel()
	addr := serve(t)
	s := open(t, addr)
	for _, name := range []string{"cam-1", "cam-2"} {
		settle(t, s, name, wire.Online, "@gate")
	}
	obey(t, addr, "cam-1", "", wire.CommandReceived, wire.CommandAccepted, wire.CommandExecuting, wire.CommandSucceeded)
	obey(t, addr, "cam-2", wire.Unsupported, wire.CommandReceived, wire.CommandRejected)
	told := map[string][]wire.Step{}
	o := order(t, "@gate", `{"tempo":"slow"}`, func(t fleet.Told) { told[t.Device] = append(told[t.Device], t.State) })
	got, err := connect(t, addr, fleet.CommandFilters("yard")...).Order(t.Context(), o)
	if err != nil || len(got) != 2 || got[0].State != wire.CommandSucceeded || got[1].Reason != wire.Unsupported {
		t.Errorf("got %+v, %v", got, err)
	}
	if want := []wire.Step{wire.CommandReceived, wire.CommandAccepted, wire.CommandExecuting, wire.CommandSucceeded}; !slices.Equal(told["cam-1"], want) {
		t.Errorf("cam-1: got %v, want %v", told["cam-1"], want)
	}
	if want := []wire.Step{wire.CommandReceived, wire.CommandRejected}; !slices.Equal(told["cam-2"], want) {
		t.Errorf("cam-2: got %v, want %v", told["cam-2"], want)
	}
}

func TestACommandThatIsDispatchedWaitsForNoDevice(t *testing.T) {
	t.Parallel()
	addr := serve(t)
	box := open(t, addr, wire.FleetFilter("yard", wire.KindCmd))
	o := order(t, "cam-1", "", nil)
	if err := connect(t, addr, fleet.CommandFilters("yard")...).Dispatch(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if m, err := box.Next(t.Context()); err != nil || m.Topic != device("cam-1").Cmd("dance", o.ID) {
		t.Errorf("got %+v, %v; want the command", m, err)
	}
}
