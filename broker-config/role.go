package brokerconfig

import (
	"bytes"
	"fmt"

	"github.com/limber-edge/limber/agent/wire"
)

// Role is what a user may do.
type Role int

const (
	Device        Role = iota // speak for itself, and what else its own lines allow
	Viewer                    // read everything, write nothing
	Operator                  // steer
	HomeAssistant             // read what its entities show, and ask for modes
)

func (r Role) String() string {
	return [...]string{"device", "viewer", "operator", "Home Assistant"}[r]
}

// Shipped is the text of the list in mosquitto/acl.
func Shipped() []byte { return bytes.Clone(defaultACL) }

// Role tells what the list makes of a user.
func (a *ACL) Role(user string) Role {
	other := wire.Address{Fleet: wire.DefaultFleet, Device: user + "-"}
	switch {
	case a.Allow(user, user, other.Cmd("mode", "1"), Write):
		return Operator
	case a.Allow(user, user, "limber/#", Subscribe):
		return Viewer
	case a.Allow(user, user, "limber-ha/"+other.Fleet+"/"+other.Device+"/mode/set", Write):
		return HomeAssistant
	}
	return Device
}

// Names tells whether the list has lines for this user alone.
func (a *ACL) Names(user string) bool { return len(a.users[user]) > 0 }

// Lines are what makes a user of this role of one that the list does not name; none
// for a device, which the patterns speak of.
func (r Role) Lines(user string) string {
	switch r {
	case Operator:
		return fmt.Sprintf("\nuser %s\ntopic readwrite limber/#\ntopic readwrite homeassistant/#\n"+
			"topic readwrite limber-ha/#\ntopic read $SYS/#\n", user)
	case Viewer: // the patterns make a device of every user, which the deny line takes back
		return fmt.Sprintf("\nuser %s\ntopic deny limber/v1/+/%[1]s/#\ntopic read limber/#\n", user)
	case HomeAssistant: // likewise
		return fmt.Sprintf("\nuser %s\ntopic deny limber/v1/+/%[1]s/#\ntopic deny limber/v1/+/@all/#\n"+
			"topic read homeassistant/#\ntopic write homeassistant/status\ntopic read limber/v1/+/+/state\n"+
			"topic read limber/v1/+/+/caps\ntopic read limber/v1/+/+/reported\ntopic read limber/v1/+/+/telemetry\n"+
			"topic write limber-ha/+/+/mode/set\n", user)
	}
	return ""
}
