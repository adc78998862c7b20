package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/fleet/controller"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
)

// compared is a rollout of which two devices of a site, and one of another, told figures.
func compared() wire.Rollout {
	d := wire.Rollout{ID: "r", Kind: wire.VerbFamily, State: wire.RolloutFailed, Spec: &wire.RolloutSpec{
		Update: wire.Update{Family: &wire.Family{Name: "new"}, Shadow: &wire.Shadow{Only: true}}}}
	for i, of := range []wire.Agreement{{Frames: 100, Agreed: 99, P95MS: new(8.0), Missed: 1}, {Frames: 300, Agreed: 150,
		P95MS: new(12.0), Missed: 5}, {Frames: 200, Agreed: 190}} {
		d.Devices = append(d.Devices, wire.RolloutDevice{Device: fmt.Sprintf("cam-%d", i), State: wire.DeviceSucceeded,
			Shadow: &of})
	}
	d.Devices = append(d.Devices, wire.RolloutDevice{Device: "cam-3", State: wire.DeviceFailed})
	return d
}

// sites are the labels of its devices.
func sites(device string) map[string]string {
	return map[string]map[string]string{"cam-0": {"site": "berlin"}, "cam-1": {"site": "berlin", "line": "2"},
		"cam-2": {"site": "rome"}, "cam-3": {"site": "rome"}}[device]
}

// rows are the words of lines.
func rows(lines []string) (all []string) {
	for _, l := range lines {
		all = append(all, strings.Join(strings.Fields(l), " "))
	}
	return all
}

func TestWhatDevicesFoundIsATableByDeviceAndByTheValuesOfLabels(t *testing.T) {
	got := rows(shadowLines(compared(), sites))
	want := []string{"",
		"DEVICE FRAMES AGREEMENT P95 MISSED",
		"cam-1 300 0.5 12 ms 5",
		"cam-2 200 0.95 - 0",
		"cam-0 100 0.99 8 ms 1",
		"",
		"LABEL DEVICES FRAMES AGREEMENT P95 MISSED",
		"line=2 1 300 0.5 12 ms 5",
		"site=berlin 2 400 0.6225 11 ms 6",
		"site=rome 1 200 0.95 - 0"}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if got := shadowLines(compared(), func(string) map[string]string { return nil }); len(got) != 5 {
		t.Errorf("got %q without labels; want the devices alone", got)
	}
	almost := wire.Rollout{Devices: []wire.RolloutDevice{{Device: "d", Shadow: &wire.Agreement{Frames: 1e6, Agreed: 999_999}}}}
	if got := rows(shadowLines(almost, sites)); got[2] != "d 1000000 0.999999 - 0" {
		t.Errorf("got %q; want that not all agree", got[2])
	}
	if got := shadowLines(wire.Rollout{Devices: []wire.RolloutDevice{{Device: "d"}}}, sites); got != nil {
		t.Errorf("got %q where nothing was compared", got)
	}
}

func TestShowAndWatchHaveWhatDevicesFoundWithTheLabelsThatOperatorsGave(t *testing.T) {
	t.Parallel()
	url := "mqtt://" + mustBroker(t)
	at := wire.Address{Fleet: wire.DefaultFleet, Device: wire.Controller}
	cfg := mqtt.Default()
	cfg.Broker, cfg.ClientID = url, "test"
	box, err := fleet.OpenMailbox(cfg, newLogger(t.Output(), "error"))
	if err != nil {
		t.Fatal(err)
	}
	retained := map[string]any{at.Rollout("r"): compared()}
	for _, d := range compared().Devices {
		of := wire.Address{Fleet: wire.DefaultFleet, Device: d.Device}
		retained[of.Labels()] = wire.Labels{Labels: sites(d.Device)}
	}
	if err := box.While(t.Context(), func(ctx context.Context) (err error) {
		for topic, document := range retained {
			b, e := json.Marshal(document)
			if err == nil && e == nil {
				err = box.Publish(ctx, mqtt.Message{Topic: topic, Payload: b, QoS: 1, Retained: true})
			}
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"show", "r"}, {"watch", "r", "--wait"}} {
		got := limber(t, append(append([]string{"fleet", "rollout"}, args...), "--broker", url)...)
		if !slices.Contains(rows(strings.Split(got.stdout, "\n")), "site=berlin 2 400 0.6225 11 ms 6") {
			t.Errorf("%v: got %+v; want what the devices of berlin found", args, got)
		}
	}
	var is struct {
		Devices []wire.RolloutDevice  `json:"devices"`
		ByLabel []controller.Labelled `json:"by_label"`
	}
	got := limber(t, "fleet", "rollout", "show", "r", "--json", "--broker", url)
	if err := json.Unmarshal([]byte(got.stdout), &is); err != nil || len(is.ByLabel) != 3 ||
		is.Devices[1].Shadow.Agreed != 150 || is.ByLabel[1].Value != "berlin" ||
		*is.ByLabel[1].Agreement.Agreement != 0.6225 || *is.ByLabel[1].P95MS != 11 {
		t.Errorf("got %+v, %v; want the same figures", got, err)
	}
}
