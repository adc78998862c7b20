package hass

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/wire"
)

// namePrefix is that of devices' names in Home Assistant.
const namePrefix = "limber-"

// What of a device's words is told, as it may say what it likes.
const (
	membersMost = 64 // members
	wordMost    = 64 // characters of a version or the like
)

// discovery is a configuration by device, in Home Assistant's abbreviations.
type discovery struct {
	Device       device               `json:"dev"`
	Origin       origin               `json:"o"`
	Availability string               `json:"avty_t"`
	Available    string               `json:"avty_tpl"`
	Components   map[string]component `json:"cmps"`
}

type device struct {
	Identifiers  []string `json:"ids"`
	Name         string   `json:"name"`
	Manufacturer string   `json:"mf"`
	Model        string   `json:"mdl"`
	Software     string   `json:"sw,omitempty"`
	Serial       string   `json:"sn,omitempty"`
}

// origin is the program that publishes it. Its version is not told: with a new one all
// configurations would be new.
type origin struct {
	Name string `json:"name"`
	URL  string `json:"url"`
}

// component is an entity.
type component struct {
	Platform    string   `json:"p"`
	Name        string   `json:"name"`
	UniqueID    string   `json:"uniq_id"`
	State       string   `json:"stat_t"`
	Value       string   `json:"val_tpl"`
	Command     string   `json:"cmd_t,omitempty"`
	QoS         int      `json:"qos,omitempty"` // of the command as well
	Options     []string `json:"ops,omitempty"`
	DeviceClass string   `json:"dev_cla,omitempty"`
	StateClass  string   `json:"stat_cla,omitempty"`
	Unit        string   `json:"unit_of_meas,omitempty"`
	Precision   *int     `json:"sug_dsp_prc,omitempty"` // decimals
	Icon        string   `json:"ic,omitempty"`
}

// The templates. None is what Home Assistant takes for unknown. What is retained may also
// be cleared, by fleet forget: value_json is undefined then. The last will says lost.
const (
	availableTemplate = "{{ 'online' if value_json is defined and value_json.state == 'online' else 'offline' }}"
	modeTemplate      = "{% if value_json is defined %}{% set mode = value_json.mode | default('goal') %}" +
		"{{ 'None' if mode == 'goal' else mode }}{% endif %}"
	latencyTemplate     = "{{ value_json.p95_ms | default('None') }}"
	temperatureTemplate = "{{ value_json.temps_c.values() | max if value_json.temps_c else 'None' }}"
	memberTemplate      = "{{ value_json.member | default('None') }}"
	updateTemplate      = "{% if value_json is defined %}" +
		"{% set running = (value_json.release | default({})).version | default(value_json.versions.agent) %}" +
		"{% set coming = ((value_json.update | default({})).release | default({})).version | default(none) %}" +
		"{{ {'installed_version': running, 'latest_version': coming or running, " +
		"'in_progress': coming is not none} | tojson }}{% endif %}"
)

// sumDigits are those that tell apart what would have one name.
const sumDigits = 8

// objectID names a device to Home Assistant, which takes no dots. Where they go, or where
// the fleet's name might end elsewhere, digits tell devices apart; and so they do where a
// name ends like one that has them.
func objectID(at wire.Address) string {
	plain := namePrefix + at.Fleet + "-" + at.Device
	id := strings.ReplaceAll(plain, ".", "_")
	if id != plain || strings.Contains(at.Fleet, "-") || endsInSum(plain) {
		sum := sha256.Sum256([]byte(at.Fleet + "/" + at.Device))
		id += "-" + hex.EncodeToString(sum[:sumDigits/2])
	}
	return id
}

func endsInSum(id string) bool {
	last := id[strings.LastIndexByte(id, '-')+1:]
	return len(last) == sumDigits && strings.Trim(last, "0123456789abcdef") == ""
}

func configTopic(at wire.Address) string { return configPrefix + objectID(at) + configSuffix }

// document is what is to be retained of a device; nil for one that is not there any more.
// It is not known of one of which only a part has come.
func document(at wire.Address, d fleet.Device) (payload []byte, known bool) {
	switch {
	case !wire.ValidDevice(at.Device) || (d.State == nil) != (d.Caps == nil):
		return nil, false
	case d.State == nil:
		return nil, true
	}
	payload, err := json.Marshal(describe(at, d.Caps))
	return payload, err == nil
}

// describe is the configuration of a device.
func describe(at wire.Address, c *wire.Caps) discovery {
	id := objectID(at)
	version := c.Versions.Agent
	if c.Release != nil {
		version = c.Release.Version
	}
	doc := discovery{Availability: at.State(), Available: availableTemplate,
		Origin: origin{"limber", "https://github.com/limber-edge/limber"},
		Device: device{Identifiers: []string{id}, Name: at.Device, Manufacturer: "Limber", Model: "edge agent",
			Software: word(version), Serial: word(c.Machine)},
		Components: map[string]component{
			"latency": {Platform: "sensor", Name: "Latency, p95", State: at.Telemetry(), Value: latencyTemplate,
				DeviceClass: "duration", StateClass: "measurement", Unit: "ms", Precision: new(1)},
			"top1": {Platform: "sensor", Name: "Top-1", State: at.Telemetry(), Value: top1Template(c),
				StateClass: "measurement", Unit: "%", Precision: new(1), Icon: "mdi:bullseye"},
			"temperature": {Platform: "sensor", Name: "Temperature", State: at.Telemetry(), Value: temperatureTemplate,
				DeviceClass: "temperature", StateClass: "measurement", Unit: "°C", Precision: new(0)},
			"member": {Platform: "sensor", Name: "Member", State: at.Telemetry(), Value: memberTemplate,
				Icon: "mdi:layers-triple"},
			"update": {Platform: "update", Name: "Release", State: at.Caps(), Value: updateTemplate, DeviceClass: "firmware"},
		}}
	if modes := modesOf(c); len(modes) > 0 { // Home Assistant takes no choice of nothing
		doc.Components["mode"] = component{Platform: "select", Name: "Mode", State: at.Reported(), Value: modeTemplate,
			Command: setPrefix + at.Fleet + "/" + at.Device + "/mode/set", QoS: 1, Options: modes, Icon: "mdi:speedometer"}
	}
	for name, is := range doc.Components {
		is.UniqueID = id + "-" + name
		doc.Components[name] = is
	}
	return doc
}

// word is a device's word, clipped.
func word(s string) string { return fleet.Clipped(fleet.Printable(s), wordMost) }

// membersOf are the members that can be named in a template.
func membersOf(c *wire.Caps) (members []wire.Member) {
	for _, m := range c.Members {
		same := func(o wire.Member) bool { return o.Name == m.Name }
		if wire.ValidName(m.Name) && len(members) < membersMost && !slices.ContainsFunc(members, same) {
			members = append(members, m)
		}
	}
	return members
}

// modesOf are the modes that a device can be set to; what stands for one of each member
// is one of each. None is there twice, as names have no colon, and none stands for unknown.
func modesOf(c *wire.Caps) (modes []string) {
	for _, mode := range c.Modes[:min(len(c.Modes), membersMost)] {
		prefix, each := strings.CutSuffix(mode, "{member}")
		switch {
		case !each && wire.ValidName(mode) && !strings.EqualFold(mode, "none") && !slices.Contains(modes, mode):
			modes = append(modes, mode)
		case each && strings.HasSuffix(prefix, ":") && wire.ValidName(strings.TrimSuffix(prefix, ":")):
			for _, m := range membersOf(c) {
				modes = append(modes, prefix+m.Name)
			}
			return modes // there is one such kind
		}
	}
	return modes
}

// top1Template finds the top-1 of the operating member, percent: telemetry names the
// member alone.
func top1Template(c *wire.Caps) string {
	var pairs []string
	for _, m := range membersOf(c) {
		pairs = append(pairs, fmt.Sprintf("'%s': %.1f", m.Name, 100*m.Top1))
	}
	return "{{ {" + strings.Join(pairs, ", ") + "}.get(value_json.member, 'None') }}"
}
