package brokerconfig

import (
	"strings"
	"testing"

	"github.com/limber-edge/limber/agent/wire"
)

func mustParse(tb testing.TB, text string) *ACL {
	tb.Helper()
	acl, err := ParseACL(strings.NewReader(text))
	if err != nil {
		tb.Fatal(err)
	}
	return acl
}

func TestDefaultACLKeepsDevicesApart(t *testing.T) {
	acl, err := DefaultACL()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		user   string
		topic  string
		access Access
		want   bool
	}{
		{"own state", "cam-1", "limber/v1/demo/cam-1/state", Write, true},
		{"own state, to find a rival", "cam-1", "limber/v1/demo/cam-1/state", Subscribe, true},
		{"another's state", "cam-1", "limber/v1/demo/cam-2/state", Subscribe, false},
		{"own result", "cam-1", "limber/v1/demo/cam-1/result/7", Write, true},
		{"own ack", "cam-1", "limber/v1/demo/cam-1/ack/mode/7", Write, true},
		{"own event", "cam-1", "limber/v1/demo/cam-1/event/warn", Write, true},
		{"own jobs", "cam-1", "limber/v1/demo/cam-1/job/#", Subscribe, true},
		{"one own job", "cam-1", "limber/v1/demo/cam-1/job/7", Read, true},
		{"own time", "cam-1", "limber/v1/demo/cam-1/synced", Subscribe, true},
		{"time to itself", "cam-1", "limber/v1/demo/cam-1/synced", Write, false},
		{"another's time", "cam-1", "limber/v1/demo/cam-2/synced", Read, false},
		{"operator tells the time", wire.Operator, "limber/v1/demo/cam-1/synced", Write, true},
		{"own commands", "cam-1", "limber/v1/demo/cam-1/cmd/+/+", Subscribe, true},
		{"everybody's commands", "cam-1", "limber/v1/demo/@all/cmd/#", Subscribe, true},
		{"a pool of everybody", "cam-1", "$share/p/limber/v1/demo/@all/job/#", Subscribe, true},
		{"own frames", "cam-1", "limber/v1/demo/cam-1/frame/#", Subscribe, true},
		{"another's frames", "cam-1", "limber/v1/demo/cam-2/frame/#", Subscribe, false},
		{"everybody's frames", "cam-1", "limber/v1/demo/@all/frame/#", Subscribe, false},
		{"a frame to itself", "cam-1", "limber/v1/demo/cam-1/frame/front", Write, false},
		{"operator sends a frame", wire.Operator, "limber/v1/demo/cam-1/frame/front", Write, true},
		{"job to itself", "cam-1", "limber/v1/demo/cam-1/job/7", Write, false},
		{"another's state", "cam-1", "limber/v1/demo/cam-2/state", Write, false},
		{"another's jobs", "cam-1", "limber/v1/demo/cam-2/job/#", Subscribe, false},
		{"all jobs", "cam-1", "limber/v1/demo/+/job/#", Subscribe, false},
		{"everything", "cam-1", "#", Subscribe, false},
		{"an unknown group", "cam-1", "limber/v1/demo/@lab/cmd/#", Subscribe, false},
		{"another's jobs as a pool", "cam-1", "$share/p/limber/v1/demo/cam-2/job/#", Subscribe, false},
		{"a prefix is not a level", "cam-1", "limber/v1/demo/cam-10/state", Write, false},
		{"below a leaf", "cam-1", "limber/v1/demo/cam-1/state/x", Write, false},
		{"wildcard in a name", "cam-1", "limber/v1/+/cam-1/state", Write, false},
		{"a wildcard as user", "+", "limber/v1/demo/cam-2/state", Write, false},
		{"a path as user", "a/b", "limber/v1/demo/a/b/state", Write, false},
		{"system topics", "cam-1", "$SYS/broker/uptime", Read, false},
		{"nameless", "", "limber/v1/demo//state", Write, false},
		{"empty topic", "cam-1", "", Write, false},
		{"viewer reads all", wire.Viewer, "limber/#", Subscribe, true},
		{"viewer is sent all", wire.Viewer, "limber/v1/demo/cam-1/cmd/mode/7", Read, true},
		{"viewer sets no mode", wire.Viewer, "limber/v1/demo/cam-1/cmd/mode/7", Write, false},
		{"viewer is no device", wire.Viewer, "limber/v1/demo/viewer/state", Write, false},
		{"viewer does not read the system", wire.Viewer, "$SYS/#", Subscribe, false},
		{"device steers no rollout", "cam-1", "limber/v1/demo/@controller/cmd/rollout/7", Write, false},
		{"device answers for no controller", "cam-1", "limber/v1/demo/@controller/ack/rollout/7", Write, false},
		{"device is no controller", "cam-1", "limber/v1/demo/@controller/state", Write, false},
		{"device retains no rollout", "cam-1", "limber/v1/demo/@controller/rollout/night", Write, false},
		{"device gives the controller no blob", "cam-1", "limber/v1/demo/@controller/blob/0f/0", Write, false},
		{"device asks for blobs in its own name", "cam-1", "limber/v1/demo/cam-1/fetch/0f", Write, true},
		{"device asks for none in another's", "cam-1", "limber/v1/demo/@controller/fetch/0f", Write, false},
		{"device gives itself no blob", "cam-1", "limber/v1/demo/cam-1/blob/0f/0", Write, false},
		{"device labels nobody", "cam-1", "limber/v1/demo/cam-1/labels", Write, false},
		{"viewer steers no rollout", wire.Viewer, "limber/v1/demo/@controller/cmd/rollout/7", Write, false},
		{"viewer is no controller", wire.Viewer, "limber/v1/demo/@controller/state", Write, false},
		{"viewer labels nobody", wire.Viewer, "limber/v1/demo/cam-1/labels", Write, false},
		{"viewer sees rollouts", wire.Viewer, "limber/v1/demo/@controller/rollout/night", Read, true},
		{"operator steers a rollout", wire.Operator, "limber/v1/demo/@controller/cmd/rollout/7", Write, true},
		{"operator tells Home Assistant", wire.Operator, "homeassistant/device/limber-demo-cam-1/config", Write, true},
		{"operator is told by it", wire.Operator, "limber-ha/demo/+/mode/set", Subscribe, true},
		{"device tells Home Assistant nothing", "cam-1", "homeassistant/device/limber-demo-cam-1/config", Write, false},
		{"device asks for no mode", "cam-1", "limber-ha/demo/cam-1/mode/set", Write, false},
		{"viewer asks for no mode", wire.Viewer, "limber-ha/demo/cam-1/mode/set", Write, false},
		{"the nameless ask for no mode", "", "limber-ha/demo/cam-1/mode/set", Write, false},
		{"Home Assistant asks for a mode", wire.HomeAssistant, "limber-ha/demo/cam-1/mode/set", Write, true},
		{"Home Assistant asks for nothing else", wire.HomeAssistant, "limber-ha/demo/cam-1/goal/set", Write, false},
		{"Home Assistant commands no device", wire.HomeAssistant, "limber/v1/demo/cam-1/cmd/mode/7", Write, false},
		{"Home Assistant steers no rollout", wire.HomeAssistant, "limber/v1/demo/@controller/cmd/rollout/7", Write, false},
		{"Home Assistant finds devices", wire.HomeAssistant, "homeassistant/#", Subscribe, true},
		{"Home Assistant makes no devices", wire.HomeAssistant, "homeassistant/device/x/config", Write, false},
		{"Home Assistant says that it has come", wire.HomeAssistant, "homeassistant/status", Write, true},
		{"Home Assistant reads telemetry", wire.HomeAssistant, "limber/v1/demo/cam-1/telemetry", Subscribe, true},
		{"Home Assistant reads no results", wire.HomeAssistant, "limber/v1/demo/cam-1/result/7", Read, false},
		{"Home Assistant sees no rollouts", wire.HomeAssistant, "limber/v1/demo/@controller/rollout/night", Read, false},
		{"Home Assistant is no device", wire.HomeAssistant, "limber/v1/demo/homeassistant/state", Write, false},
		{"operator reads all", wire.Operator, "limber/v1/+/+/state", Subscribe, true},
		{"operator commands", wire.Operator, "limber/v1/demo/cam-1/cmd/mode/7", Write, true},
		{"operator reads the system", wire.Operator, "$SYS/#", Subscribe, true},
		{"operator does not write the system", wire.Operator, "$SYS/x", Write, false},
		{"operator stays in the root", wire.Operator, "other", Write, false},
		{"operator may not read the whole broker", wire.Operator, "#", Subscribe, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := acl.Allow(tt.user, "client", tt.topic, tt.access); got != tt.want {
				t.Errorf("%q to %q: got %v, want %v", tt.user, tt.topic, got, tt.want)
			}
		})
	}
}

func TestOnADeskTheOperatorMayAlsoUseTheTopicsOfCameras(t *testing.T) {
	acl, err := DeskACL()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		user, topic string
		access      Access
		want        bool
	}{
		{wire.Operator, "cam/front/jpg", Write, true},
		{wire.Operator, "cam/+/jpg", Subscribe, true},
		{wire.Operator, "limber/v1/demo/desk/job/1", Write, true},
		{wire.Operator, "$SYS/broker", Write, false},
		{"cam-1", "cam/front/jpg", Write, false},
		{"cam-1", "limber/v1/demo/cam-2/state", Write, false},
		{"", "cam/front/jpg", Write, false},
	} {
		if got := acl.Allow(tt.user, "client", tt.topic, tt.access); got != tt.want {
			t.Errorf("%q to %q: got %v, want %v", tt.user, tt.topic, got, tt.want)
		}
	}
}

func TestMatchingFollowsMQTT(t *testing.T) {
	for _, tt := range []struct {
		name   string
		acl    string
		topic  string
		access Access
		want   bool
	}{
		{"hash includes its parent", "topic read a/#", "a", Read, true},
		{"hash may be subscribed to", "topic read a/#", "a/#", Subscribe, true},
		{"narrower hash", "topic read a/#", "a/b/#", Subscribe, true},
		{"wider hash", "topic read a/b/#", "a/#", Subscribe, false},
		{"plus is one level", "topic read a/+", "a/b/c", Read, false},
		{"plus matches an empty level", "topic read a/+", "a/", Read, true},
		{"plus needs its level", "topic read a/+", "a", Read, false},
		{"plus covers plus", "topic read +/b", "+/b", Subscribe, true},
		{"name does not cover plus", "topic read a/b", "+/b", Subscribe, false},
		{"plus does not cover hash", "topic read a/+", "a/#", Subscribe, false},
		{"hash alone spares the system", "topic read #", "$SYS/x", Read, false},
		{"plus alone spares the system", "topic read +/x", "$SYS/x", Read, false},
		{"no right given means both", "topic a", "a", Write, true},
		{"read is not write", "topic read a", "a", Write, false},
		{"deny beats an earlier line", "topic a/#\ntopic deny a/b", "a/b", Write, false},
		{"deny beats a subscription to nothing else", "topic a/#\ntopic deny a/+", "a/b", Subscribe, false},
		{"deny leaves a wider subscription", "topic a/#\ntopic deny a/b", "a/+", Subscribe, true},
		{"deny leaves the rest", "topic a/#\ntopic deny a/b", "a/c", Write, true},
		{"a section speaks of its user", "user x\ntopic a", "a", Write, false},
		{"client id in a pattern", "pattern c/%c", "c/id", Write, true},
		{"user in a pattern spares the nameless", "pattern c/%u", "c/", Write, false},
		{"a name with a space", "topic read a b/c", "a b/c", Read, true},
		{"comment and blank", "# x\n\n  topic a\r\n", "a", Write, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := mustParse(t, tt.acl).Allow("", "id", tt.topic, tt.access); got != tt.want {
				t.Errorf("%q: got %v, want %v", tt.topic, got, tt.want)
			}
		})
	}
}

func TestParseACLNamesTheLine(t *testing.T) {
	for _, tt := range []struct{ name, acl, want string }{
		{"unknown word", "user a\nallow b", `line 2: "allow" is not user, topic or pattern`},
		{"unknown access", "topic rw a", `line 1: access "rw"`},
		{"no value", "\n\nuser ", `line 3: "user" needs a value`},
		{"bad filter", "topic a/#/b", `line 1: "a/#/b" is not a topic filter`},
		{"half a level", "pattern read a+/b", `line 1: "a+/b" is not a topic filter`},
		{"endless line", "topic " + strings.Repeat("a", 1<<17), "token too long"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ParseACL(strings.NewReader(tt.acl))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// FuzzACL holds the list against a plain restatement of MQTT's matching: a
// subscription that is allowed may only ever bring topics that may be read, but for
// those that are denied, which are not delivered.
func FuzzACL(f *testing.F) {
	f.Add("topic read a/#\ntopic deny a/b", "u", "c", "a/+", "a/c")
	f.Add("pattern read x/%u/+\npattern deny x/+/y", "u", "c", "x/u/#", "x/u/y")
	f.Add("topic readwrite +/+\nuser u\ntopic $SYS/#", "u", "c", "$share/g/+/b", "a/b")
	f.Fuzz(func(t *testing.T, text, user, client, filter, topic string) {
		acl, err := ParseACL(strings.NewReader(text))
		if err != nil {
			return
		}
		acl.Allow(user, client, topic, Write)
		if strings.ContainsAny(topic, "+#") || topic == "" || strings.Contains(text, "deny") ||
			!acl.Allow(user, client, filter, Subscribe) {
			return
		}
		if matches(unshared(strings.Split(filter, "/")), strings.Split(topic, "/")) && !acl.Allow(user, client, topic, Read) {
			t.Errorf("subscribing to %q is allowed, reading %q is not, by:\n%s", filter, topic, text)
		}
	})
}

// matches is MQTT-3.1.1, 4.7, word for word.
func matches(filter, topic []string) bool {
	if strings.HasPrefix(topic[0], "$") && (filter[0] == "+" || filter[0] == "#") {
		return false
	}
	for len(filter) > 0 && filter[0] != "#" {
		if len(topic) == 0 || filter[0] != "+" && filter[0] != topic[0] {
			return false
		}
		filter, topic = filter[1:], topic[1:]
	}
	return len(filter) > 0 || len(topic) == 0
}
