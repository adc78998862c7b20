package brokerconfig

import (
	"bytes"
	"fmt"

	"github.com/limber-edge/limber/agent/wire"
)

// Role is what a user may do.
type Role int

const (
	Device   Role = iota // speak for itself, and what else its own lines allow
	Viewer               // read everything, write nothing
	Operator             // steer
)

func (r Role) String() string { return [...]string{"device", "viewer", "operator"}[r] }

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
		return fmt.Sprintf("\nuser %s\ntopic readwrite limber/#\ntopic read $SYS/#\n", user)
	case Viewer: // the patterns make a device of every user, which the deny line takes back
		return fmt.Sprintf("\nuser %s\ntopic deny limber/v1/+/%[1]s/#\ntopic read limber/#\n", user)
	}
	return ""
}
