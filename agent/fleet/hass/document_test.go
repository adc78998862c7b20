package hass

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/wire"
)

// pier is the fleet of these tests.
const pier = "pier"

func at(device string) wire.Address { return wire.Address{Fleet: pier, Device: device} }

// caps are those of a device with two members.
func caps() wire.Caps {
	return wire.Caps{TS: wire.At(time.Now()), Versions: wire.Versions{Agent: "1.4.0"}, Verbs: []string{"mode"},
		Modes: []string{"balanced", "max-accuracy", "low-latency", "power-save", "fixed:{member}"}, Groups: []string{"@all"},
		Members: []wire.Member{{Name: "6.8M", Top1: 0.8411}, {Name: "23.1M", Top1: 0.8921}}, Machine: "8aa3a67914c853eb"}
}

func TestNamesOfDevicesAreKeptApartAndAreSuchAsHomeAssistantTakes(t *testing.T) {
	seen := map[string]wire.Address{}
	for _, at := range []wire.Address{{Fleet: "a", Device: "b-c"}, {Fleet: "a-b", Device: "c"},
		{Fleet: "a", Device: "b.c"}, {Fleet: "a", Device: "b_c"}, {Fleet: "a", Device: "b"},
		{Fleet: "a.b", Device: "c"}, {Fleet: "a", Device: ".."},
		{Fleet: "a", Device: strings.TrimPrefix(objectID(wire.Address{Fleet: "a", Device: "b.c"}), "limber-a-")},
		{Fleet: "a", Device: strings.TrimPrefix(objectID(wire.Address{Fleet: "a-b", Device: "c"}), "limber-a-")}} {
		id := objectID(at)
		if other, ok := seen[id]; ok || !regexp.MustCompile(`^[a-zA-Z0-9_-]+$`).MatchString(id) {
			t.Errorf("%v is %s, as is %v", at, id, other)
		}
		seen[id] = at
	}
	if got, want := configTopic(at("cam-1")), "homeassistant/device/limber-pier-cam-1/config"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestOnlyADeviceThatIsKnownWholeIsToldAndOneThatIsGoneIsCleared(t *testing.T) {
	state, c := wire.State{State: wire.Online}, caps()
	for _, tt := range []struct {
		name          string
		device        fleet.Device
		known, exists bool
	}{
		{"whole", fleet.Device{State: &state, Caps: &c}, true, true},
		{"gone", fleet.Device{}, true, false},
		{"labelled alone", fleet.Device{Labels: map[string]string{"a": "b"}}, true, false},
		{"no caps yet", fleet.Device{State: &state}, false, false},
		{"no state yet", fleet.Device{Caps: &c}, false, false},
	} {
		payload, known := document(at("cam-1"), tt.device)
		if known != tt.known || (payload != nil) != tt.exists {
			t.Errorf("%s: got %.40s, %v", tt.name, payload, known)
		}
	}
	if _, known := document(at(wire.Everybody), fleet.Device{}); known {
		t.Error("a group is told of")
	}
}

func TestWhatADeviceSaysIsNoPartOfATemplateAndHasItsBounds(t *testing.T) {
	evil := caps()
	evil.Versions.Agent = strings.Repeat("{{ states }}", 1000)
	evil.Machine = "a\x00b"
	evil.Modes = append([]string{"{{ 1 }}", "", "balanced", strings.Repeat("m", 1<<16)}, evil.Modes...)
	evil.Members = append(evil.Members, wire.Member{Name: "'}}{{ x"}, wire.Member{Name: "6.8M"})
	for range 10_000 {
		evil.Members = append(evil.Members, wire.Member{Name: fleet.NewID()})
	}
	doc := describe(at("cam-1"), &evil)
	b, err := json.Marshal(doc)
	if err != nil || len(b) > 16<<10 {
		t.Errorf("%v, %d bytes", err, len(b))
	}
	for name, c := range doc.Components {
		if strings.Contains(c.Value, "x'") || strings.Contains(c.Value, "states") {
			t.Errorf("%s: %s", name, c.Value)
		}
	}
	modes := doc.Components["mode"].Options
	want := []string{"balanced", "max-accuracy", "low-latency", "power-save", "fixed:6.8M", "fixed:23.1M"}
	if !slices.Equal(modes[:6], want) || len(modes) != 4+membersMost {
		t.Errorf("got %d modes, %v", len(modes), modes[:6])
	}
	if doc.Device.Serial != "a b" || len(doc.Device.Software) != wordMost {
		t.Errorf("got %+v", doc.Device)
	}
	empty := wire.Caps{}
	if _, ok := describe(at("cam-1"), &empty).Components["mode"]; ok {
		t.Error("there is a choice of nothing")
	}
}

// FuzzSetTopic has no topic of another kind ask a device for a mode.
func FuzzSetTopic(f *testing.F) {
	f.Add("limber-ha/pier/cam-1/mode/set")
	f.Add("limber-ha/pier/@all/mode/set")
	f.Add("limber-ha/pier/a/b/mode/set")
	f.Fuzz(func(t *testing.T, topic string) {
		device, ok := setDevice(pier, topic)
		if ok && (topic != "limber-ha/pier/"+device+"/mode/set" || !wire.ValidDevice(device)) {
			t.Errorf("%q asks for a mode of %q", topic, device)
		}
	})
}

// FuzzOwner has nothing be cleared but what this fleet publishes.
func FuzzOwner(f *testing.F) {
	c := caps()
	payload, _ := json.Marshal(describe(at("cam-1"), &c))
	f.Add(configTopic(at("cam-1")), payload)
	f.Add(configTopic(at("cam-2")), payload)
	f.Add("homeassistant/device/limber-pier-cam-1/config", []byte(`{"avty_t":"limber/v1/other/cam-1/state"}`))
	f.Fuzz(func(t *testing.T, topic string, payload []byte) {
		device, ok := ownerOf(pier, topic, payload)
		if ok && configTopic(at(device)) != topic {
			t.Errorf("%s of %s is taken for that of %q", payload, topic, device)
		}
	})
}

// Home Assistant takes no choice with a word twice, nor with what stands for unknown.
func TestADeviceOffersNoChoiceThatHomeAssistantRefuses(t *testing.T) {
	c := caps()
	c.Members = []wire.Member{{Name: "b"}, {Name: "b"}}
	for _, tt := range []struct{ modes, want []string }{
		{[]string{"ab", "a{member}"}, []string{"ab"}},
		{[]string{"ab", "ab", "fixed:{member}", "fixed:{member}"}, []string{"ab", "fixed:b"}},
		{[]string{"None", "none", "ab"}, []string{"ab"}},
	} {
		c.Modes = tt.modes
		if got := modesOf(&c); !slices.Equal(got, tt.want) {
			t.Errorf("modes %q: got %q, want %q", tt.modes, got, tt.want)
		}
	}
}
