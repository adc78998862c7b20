package controller_test

import (
	"testing"

	"github.com/limber-edge/limber/agent/fleet/controller"
	"github.com/limber-edge/limber/agent/wire"
)

func TestTheAgreementOfALabelHasAsManyPlacesAsThatOfADevice(t *testing.T) {
	devices := []wire.RolloutDevice{{Device: "d", Shadow: &wire.Agreement{Frames: 3, Agreed: 2}}}
	all := controller.ByLabel(devices, func(string) map[string]string { return map[string]string{"site": "berlin"} })
	if len(all) != 1 || *all[0].Agreement.Agreement != 0.666667 {
		t.Errorf("got %+v, want one of 0.666667", all)
	}
}
