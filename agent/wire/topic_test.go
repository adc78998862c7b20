package wire_test

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/limber-edge/limber/agent/wire"
)

func TestAddressBuildsTheTopicsThatParseTopicReads(t *testing.T) {
	desk := wire.Address{Fleet: "demo", Device: "desk"}
	digest := strings.Repeat("0a", 32)
	for _, tt := range []struct {
		topic string
		want  wire.Topic
	}{
		{desk.State(), wire.Topic{Kind: wire.KindState}},
		{desk.Caps(), wire.Topic{Kind: wire.KindCaps}},
		{desk.Desired(), wire.Topic{Kind: wire.KindDesired}},
		{desk.Reported(), wire.Topic{Kind: wire.KindReported}},
		{desk.Telemetry(), wire.Topic{Kind: wire.KindTelemetry}},
		{desk.Sync(), wire.Topic{Kind: wire.KindSync}},
		{desk.Synced(), wire.Topic{Kind: wire.KindSynced}},
		{desk.Job("f-1"), wire.Topic{Kind: wire.KindJob, ID: "f-1"}},
		{desk.Frame("front"), wire.Topic{Kind: wire.KindFrame, Source: "front"}},
		{desk.Result("f-1"), wire.Topic{Kind: wire.KindResult, ID: "f-1"}},
		{desk.Cmd("mode", "c1"), wire.Topic{Kind: wire.KindCmd, Verb: "mode", ID: "c1"}},
		{desk.Ack("mode", "c1"), wire.Topic{Kind: wire.KindAck, Verb: "mode", ID: "c1"}},
		{desk.Event(wire.SeverityWarning), wire.Topic{Kind: wire.KindEvent, Severity: wire.SeverityWarning}},
		{desk.Labels(), wire.Topic{Kind: wire.KindLabels}},
		{desk.Fetch(digest), wire.Topic{Kind: wire.KindFetch, Digest: digest}},
		{desk.Blob(digest, 65536), wire.Topic{Kind: wire.KindBlob, Digest: digest, Offset: 65536}},
	} {
		t.Run(tt.topic, func(t *testing.T) {
			tt.want.Address = desk
			got, err := wire.ParseTopic(tt.topic)
			if err != nil || got != tt.want {
				t.Errorf("got %+v, %v; want %+v", got, err, tt.want)
			}
		})
	}
}

func TestTopicsAreThoseOfTheDesign(t *testing.T) {
	all := wire.Address{Fleet: "demo", Device: wire.Everybody}
	for _, tt := range []struct{ got, want string }{
		{all.Desired(), "limber/v1/demo/@all/desired"},
		{all.Cmd("mode", "c1"), "limber/v1/demo/@all/cmd/mode/c1"},
		{all.Filter(wire.KindDesired), "limber/v1/demo/@all/desired"},
		{all.Filter(wire.KindCmd), "limber/v1/demo/@all/cmd/#"},
		{wire.Address{Fleet: "demo", Device: "desk"}.Frame("front"), "limber/v1/demo/desk/frame/front"},
		{wire.Address{Fleet: "demo", Device: "desk"}.Filter(wire.KindFrame), "limber/v1/demo/desk/frame/#"},
		{wire.FleetFilter("demo", wire.KindState), "limber/v1/demo/+/state"},
		{wire.Address{Fleet: "demo", Device: wire.Controller}.Rollout("r-1"), "limber/v1/demo/@controller/rollout/r-1"},
		{wire.FleetFilter("demo", wire.KindResult), "limber/v1/demo/+/result/#"},
	} {
		if tt.got != tt.want {
			t.Errorf("got %s, want %s", tt.got, tt.want)
		}
	}
	if !all.IsGroup() || (wire.Address{Fleet: "demo", Device: "all"}).IsGroup() {
		t.Error("a group is an address that starts with @, and only that")
	}
}

func TestP13_AnIDThatIsNoNameIsReportedAndLeftOut(t *testing.T) {
	const root = "limber/v1/demo/desk/"
	for _, tail := range []string{
		"job", "job/", "job/a/b", "job/../../etc/passwd", "job/a b", "job/ä", "job/a\x00b", "job/+", "job/#", "job/\x1b[2J",
		"job/" + strings.Repeat("a", 65), "job/" + strings.Repeat("a", 1<<20), "cmd/mode", "cmd/mode/", "cmd/mode/a/b",
		"ack/mode/é",
		"frame", "frame/", "frame/a/b", "frame/../x", "frame/ü", "frame/" + strings.Repeat("a", wire.MaxSource+1),
	} {
		got, err := wire.ParseTopic(root + tail)
		if !errors.Is(err, wire.ErrBadID) {
			t.Errorf("%.40q: got %v, want %v", tail, err, wire.ErrBadID)
			continue
		}
		kind, _, _ := strings.Cut(tail, "/")
		if got.Kind != wire.Kind(kind) || got.Device != "desk" || got.ID != "" || got.Source != "" {
			t.Errorf("%.40q: got %+v, want its kind and device and no id", tail, got)
		}
		if len(err.Error()) > 600 {
			t.Errorf("%.40q: the error repeats %d bytes of the topic", tail, len(err.Error()))
		}
	}
}

func TestATopicThatIsNotOursIsAnError(t *testing.T) {
	for _, topic := range []string{
		"", "/", "limber", "limber/v1", "limber/v1/", "limber/v1/demo", "limber/v1/demo/desk", "limber/v1/demo/desk/",
		"limber/v2/demo/desk/state", "Limber/v1/demo/desk/state", "limber/v1//desk/state", "limber/v1/demo//state",
		"limber/v1/@demo/desk/state", "limber/v1/demo/@/state", "limber/v1/demo/@@all/state", "limber/v1/demo/+/state",
		"limber/v1/demo/desk/states", "limber/v1/demo/desk/state/", "limber/v1/demo/desk/state/x",
		"limber/v1/demo/desk/STATE",
		"limber/v1/demo/desk/event", "limber/v1/demo/desk/event/a/b", "limber/v1/demo/desk/cmd",
		"limber/v1/demo/desk/cmd//id",
		"limber/v1/demo/@all/frame/front", "limber/v1/demo/@gate/frame/", "limber/v1/demo/desk/rollout/r-1",
		"limber/v1/demo/desk/fetch/0a", "limber/v1/demo/desk/fetch/../x", "limber/v1/demo/desk/blob/" + strings.Repeat("0a", 32),
		"limber/v1/demo/desk/blob/" + strings.Repeat("0a", 32) + "/-1", "limber/v1/demo/desk/blob/" + strings.Repeat("0a", 32) + "/01",
		"limber/v1/demo/desk/cmd/a b/id", "$SYS/broker/uptime", "$share/p/limber/v1/demo/@p/job/#",
	} {
		got, err := wire.ParseTopic(topic)
		if err == nil || errors.Is(err, wire.ErrBadID) || got != (wire.Topic{}) {
			t.Errorf("%q: got %+v, %v; want nothing and an error other than ErrBadID", topic, got, err)
		}
	}
}

func TestValidNamesAndGroups(t *testing.T) {
	for s, want := range map[string]bool{
		"a": true, "A-z_0.9": true, "..": true, strings.Repeat("x", 40): true, strings.Repeat("x", 41): true,
		strings.Repeat("x", 64): true,
		"":                      false, strings.Repeat("x", 65): false, "a/b": false, "a b": false, "@a": false, "a+": false, "#": false,
		"é": false, "a\n": false,
	} {
		if got := wire.ValidName(s); got != want {
			t.Errorf("ValidName(%q): got %v, want %v", s, got, want)
		}
		if got := wire.ValidGroup("@" + s); got != want {
			t.Errorf("ValidGroup(%q): got %v, want %v", "@"+s, got, want)
		}
		if got := wire.ValidSource(s); got != (want && len(s) <= 40) {
			t.Errorf("ValidSource(%q): got %v", s, got)
		}
		if wire.ValidGroup(s) && s != "@a" {
			t.Errorf("ValidGroup(%q): got true, want false without @", s)
		}
	}
}

func FuzzParseTopic(f *testing.F) {
	for _, s := range []string{"limber/v1/demo/desk/job/1", "limber/v1/demo/@all/cmd/mode/1",
		"limber/v1/demo/desk/event/info", "limber/v1///", "limber/v1/a/b/job/../c",
		"limber/v1/demo/desk/frame/front", "limber/v1/demo/@all/frame/front"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, topic string) {
		got, err := wire.ParseTopic(topic)
		switch {
		case err == nil && rebuilt(got) != topic:
			t.Errorf("%q: read as %+v, which is %q", topic, got, rebuilt(got))
		case err != nil && got.ID+got.Source != "":
			t.Errorf("%q: an error, and yet the id %q of source %q", topic, got.ID, got.Source)
		}
	})
}

// rebuilt is the topic that a sound Topic was read from.
func rebuilt(t wire.Topic) string {
	s := wire.Root + "/" + t.Fleet + "/" + t.Device + "/" + string(t.Kind)
	for _, part := range []string{t.Verb, t.ID, t.Source, string(t.Severity), t.Digest} {
		if part != "" {
			s += "/" + part
		}
	}
	if t.Kind == wire.KindBlob {
		s += "/" + strconv.FormatInt(t.Offset, 10)
	}
	return s
}

// A kind that was forgotten in the list would be in no table of rights.
func TestEveryKindIsListedAndHasATopic(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "topic.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	declared := 0
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok && strings.HasPrefix(spec.Names[0].Name, "Kind") {
			declared++
		}
		return true
	})
	if got := len(wire.Kinds()); got != declared {
		t.Errorf("%d kinds are listed, %d declared", got, declared)
	}
	seen := map[wire.Kind]bool{}
	for _, kind := range wire.Kinds() {
		at := wire.Address{Fleet: "demo", Device: "desk"}
		if kind == wire.KindRollout {
			at.Device = wire.Controller
		}
		filter := at.Filter(kind)
		topics := []string{filter}
		for _, tail := range []string{"a", "a/b", strings.Repeat("0a", 32), strings.Repeat("0a", 32) + "/0"} {
			topics = append(topics, strings.Replace(filter, "#", tail, 1))
		}
		if seen[kind] || !slices.ContainsFunc(topics, func(topic string) bool {
			_, err := wire.ParseTopic(topic)
			return err == nil
		}) {
			t.Errorf("%s: is listed twice, or no topic of it can be read", kind)
		}
		seen[kind] = true
	}
}

func TestNoDeviceHasTheNameOfAUser(t *testing.T) {
	for name, want := range map[string]bool{"cam-1": true, "operators": true, wire.Operator: false, wire.Viewer: false,
		wire.HomeAssistant: false, "a b": false} {
		if got := wire.ValidDevice(name); got != want {
			t.Errorf("%q: got %v, want %v", name, got, want)
		}
	}
}
