package wire

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Root is the first two levels of every topic.
const Root = "limber/v1"

// Everybody is the group that every device is in.
const Everybody = "@all"

// Controller is the address of what steers the rollouts of a fleet. No group has its
// name.
const Controller = "@controller"

// DefaultFleet and DefaultDevice are the names of a device that was given none, and
// of whom an operator means by none.
const (
	DefaultFleet  = "demo"
	DefaultDevice = "desk"
)

// The users that steer a fleet, that may only look at it, and that is Home Assistant, as
// the access list names them. No device has such a name.
const (
	Operator      = "operator"
	Viewer        = "viewer"
	HomeAssistant = "homeassistant"
)

// maxName is the length limit of a fleet, device, group, verb or id, in bytes.
const maxName = 64

// ErrBadID marks the topic of a job, result, command or ack whose id, or of a
// frame whose source, is not a valid name. The rest of the Topic that comes with
// it is sound.
var ErrBadID = errors.New("bad id")

// Kind is the level of a topic that says what it carries.
type Kind string

// The kinds of topics.
const (
	KindState     Kind = "state"
	KindCaps      Kind = "caps"
	KindDesired   Kind = "desired"
	KindReported  Kind = "reported"
	KindJob       Kind = "job"
	KindFrame     Kind = "frame" // a job without an id, of a source
	KindResult    Kind = "result"
	KindCmd       Kind = "cmd"
	KindAck       Kind = "ack"
	KindTelemetry Kind = "telemetry"
	KindEvent     Kind = "event"
	KindSync      Kind = "sync"
	KindSynced    Kind = "synced"
	KindLabels    Kind = "labels" // the operator's, of a device
	KindFetch     Kind = "fetch"  // a part of a blob is wanted
	KindBlob      Kind = "blob"   // a part of a blob
	KindRollout   Kind = "rollout"
)

// Kinds returns every kind.
func Kinds() []Kind {
	return []Kind{KindState, KindCaps, KindDesired, KindReported, KindJob, KindFrame, KindResult, KindCmd, KindAck,
		KindTelemetry, KindEvent, KindSync, KindSynced, KindLabels, KindFetch, KindBlob, KindRollout}
}

// levels is how many levels follow the kind; ok tells whether the kind exists.
func (k Kind) levels() (n int, ok bool) {
	switch k {
	case KindState, KindCaps, KindDesired, KindReported, KindTelemetry, KindSync, KindSynced, KindLabels:
		return 0, true
	case KindJob, KindFrame, KindResult, KindEvent, KindFetch, KindRollout:
		return 1, true
	case KindCmd, KindAck, KindBlob:
		return 2, true
	}
	return 0, false
}

// ValidName tells whether s matches [A-Za-z0-9_.-]{1,64}: the form of fleets,
// devices, verbs and ids. A valid name may still be "..": it is a level of a
// topic and a key of a store, never a file name.
func ValidName(s string) bool {
	if s == "" || len(s) > maxName {
		return false
	}
	for _, c := range []byte(s) {
		if !nameByte(c) {
			return false
		}
	}
	return true
}

// ValidDevice tells whether s may be the name of a device: a valid name that is not
// one of the users Operator, Viewer and HomeAssistant.
func ValidDevice(s string) bool {
	return ValidName(s) && s != Operator && s != Viewer && s != HomeAssistant
}

// MaxSource is the length of a source's name, in bytes: with the boot and a number
// behind it, it must be an id.
const MaxSource = 40

// ValidSource tells whether s is a valid name of at most MaxSource bytes.
func ValidSource(s string) bool { return len(s) <= MaxSource && ValidName(s) }

func nameByte(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	return c == '_' || c == '.' || c == '-'
}

// ValidGroup tells whether s is "@" and a valid name, and not the Controller.
func ValidGroup(s string) bool {
	name, ok := strings.CutPrefix(s, "@")
	return ok && ValidName(name) && s != Controller
}

// validDigest tells whether s is 64 hexadecimal digits in lower case, as a blob's
// digest is written in topics.
func validDigest(s string) bool {
	if len(s) != 64 {
		return false
	}
	for _, c := range []byte(s) {
		if !('0' <= c && c <= '9' || 'a' <= c && c <= 'f') {
			return false
		}
	}
	return true
}

// Address is a device, or a group of devices, within a fleet. Its methods build
// topics; they expect valid names and check nothing.
type Address struct {
	Fleet  string
	Device string // or a group, "@" and a name; or Controller
}

// IsGroup tells whether the address is a group's.
func (a Address) IsGroup() bool { return strings.HasPrefix(a.Device, "@") && a.Device != Controller }

func (a Address) State() string     { return a.topic(KindState) }
func (a Address) Caps() string      { return a.topic(KindCaps) }
func (a Address) Desired() string   { return a.topic(KindDesired) }
func (a Address) Reported() string  { return a.topic(KindReported) }
func (a Address) Telemetry() string { return a.topic(KindTelemetry) }
func (a Address) Sync() string      { return a.topic(KindSync) }
func (a Address) Synced() string    { return a.topic(KindSynced) }

func (a Address) Job(id string) string       { return a.topic(KindJob) + "/" + id }
func (a Address) Frame(source string) string { return a.topic(KindFrame) + "/" + source }
func (a Address) Result(id string) string    { return a.topic(KindResult) + "/" + id }
func (a Address) Cmd(verb, id string) string { return a.topic(KindCmd) + "/" + verb + "/" + id }
func (a Address) Ack(verb, id string) string { return a.topic(KindAck) + "/" + verb + "/" + id }
func (a Address) Event(s Severity) string    { return a.topic(KindEvent) + "/" + string(s) }
func (a Address) Labels() string             { return a.topic(KindLabels) }
func (a Address) Rollout(id string) string   { return a.topic(KindRollout) + "/" + id }

// Fetch and Blob take a blob's digest without "sha256:", as 64 hexadecimal digits, and
// an offset in bytes.
func (a Address) Fetch(digest string) string { return a.topic(KindFetch) + "/" + digest }
func (a Address) Blob(digest string, offset int64) string {
	return a.topic(KindBlob) + "/" + digest + "/" + strconv.FormatInt(offset, 10)
}

func (a Address) topic(k Kind) string { return Root + "/" + a.Fleet + "/" + a.Device + "/" + string(k) }

// Filter matches every topic of one kind at this address, also those whose id
// is not a valid name: the receiver must see them to count them.
func (a Address) Filter(k Kind) string {
	if n, _ := k.levels(); n > 0 {
		return a.topic(k) + "/#"
	}
	return a.topic(k)
}

// FleetFilter matches every topic of one kind of all devices and groups of a
// fleet: what an operator subscribes to.
func FleetFilter(fleet string, k Kind) string { return Address{Fleet: fleet, Device: "+"}.Filter(k) }

// Topic is a topic taken apart. Fields its kind does not have are empty.
type Topic struct {
	Address
	Kind     Kind
	Verb     string   // of cmd and ack
	ID       string   // of job, result, cmd, ack and rollout
	Source   string   // of frame
	Severity Severity // of event
	Digest   string   // of fetch and blob: 64 hexadecimal digits
	Offset   int64    // of blob, in bytes
}

// ParseTopic takes a topic apart. If the id alone is wrong, the error is
// ErrBadID and the Topic has everything but the id; likewise for a frame's source.
func ParseTopic(topic string) (Topic, error) {
	rest, ok := strings.CutPrefix(topic, Root+"/")
	if !ok {
		return Topic{}, fmt.Errorf("topic %.100q: want one under %s/", topic, Root)
	}
	part := strings.SplitN(rest, "/", 4)
	if len(part) < 3 {
		return Topic{}, fmt.Errorf("topic %.100q: want %s/{fleet}/{device}/...", topic, Root)
	}
	t := Topic{Address: Address{Fleet: part[0], Device: part[1]}, Kind: Kind(part[2])}
	n, known := t.Kind.levels()
	switch {
	case !ValidName(t.Fleet):
		return Topic{}, fmt.Errorf("topic %.100q: the fleet is not [A-Za-z0-9_.-]{1,64}", topic)
	case !ValidName(t.Device) && !ValidGroup(t.Device) && t.Device != Controller:
		return Topic{}, fmt.Errorf("topic %.100q: the device is neither [A-Za-z0-9_.-]{1,64} nor a group", topic)
	case !known:
		return Topic{}, fmt.Errorf("topic %.100q: unknown kind", topic)
	case t.Kind == KindRollout && t.Device != Controller:
		return Topic{}, fmt.Errorf("topic %.100q: rollouts are the controller's", topic)
	case t.Kind == KindFrame && t.IsGroup():
		return Topic{}, fmt.Errorf("topic %.100q: a frame is for one device, a group has none", topic)
	case n == 0 && len(part) > 3:
		return Topic{}, fmt.Errorf("topic %.100q: nothing may follow %s", topic, t.Kind)
	case n == 0:
		return t, nil
	}
	tail := ""
	if len(part) > 3 {
		tail = part[3]
	}
	return t.withTail(topic, tail)
}

// withTail reads what follows the kind.
func (t Topic) withTail(topic, tail string) (Topic, error) {
	switch t.Kind {
	case KindEvent:
		if !ValidName(tail) {
			return Topic{}, fmt.Errorf("topic %.100q: the severity is not [A-Za-z0-9_.-]{1,64}", topic)
		}
		t.Severity = Severity(tail)
		return t, nil
	case KindFrame:
		if !ValidSource(tail) {
			return t, fmt.Errorf("topic %.100q: %w, want a source of [A-Za-z0-9_.-]{1,%d}", topic, ErrBadID, MaxSource)
		}
		t.Source = tail
		return t, nil
	case KindFetch, KindBlob:
		return t.withBlob(topic, tail)
	case KindCmd, KindAck:
		t.Verb, tail, _ = strings.Cut(tail, "/")
		if !ValidName(t.Verb) {
			return Topic{}, fmt.Errorf("topic %.100q: the verb is not [A-Za-z0-9_.-]{1,64}", topic)
		}
	}
	if !ValidName(tail) {
		return t, fmt.Errorf("topic %.100q: %w, want [A-Za-z0-9_.-]{1,64}", topic, ErrBadID)
	}
	t.ID = tail
	return t, nil
}

// withBlob reads which blob is meant, and which part of it.
func (t Topic) withBlob(topic, tail string) (Topic, error) {
	var offset string
	if t.Kind == KindBlob {
		tail, offset, _ = strings.Cut(tail, "/")
	}
	if !validDigest(tail) {
		return Topic{}, fmt.Errorf("topic %.100q: want the digest of a blob, 64 hexadecimal digits", topic)
	}
	t.Digest = tail
	if t.Kind == KindFetch {
		return t, nil
	}
	n, err := strconv.ParseInt(offset, 10, 64)
	if err != nil || n < 0 || strconv.FormatInt(n, 10) != offset {
		return Topic{}, fmt.Errorf("topic %.100q: want an offset in bytes at its end", topic)
	}
	t.Offset = n
	return t, nil
}
