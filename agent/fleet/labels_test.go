package fleet_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/wire"
)

func TestALabelIsAKeyAndAValueOrAKeyThatGoes(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]fleet.LabelChange{
		"site=berlin": {Key: "site", Value: "berlin"},
		"site-":       {Key: "site"},
		"a--":         {Key: "a-"},
		"a-=b":        {Key: "a-", Value: "b"},
	} {
		if got, err := fleet.ParseLabel(s); err != nil || got != want {
			t.Errorf("%s: got %+v, %v; want %+v", s, got, err, want)
		}
	}
	for _, s := range []string{"", "site", "-", "=", "=berlin", "site=", "a b=c", "a=b c", "a=b=c", "ä-"} {
		if got, err := fleet.ParseLabel(s); err == nil || !strings.Contains(err.Error(), "is no label") {
			t.Errorf("%q: got %+v, %v", s, got, err)
		}
	}
}

func FuzzParseLabel(f *testing.F) {
	for _, s := range []string{"site=berlin", "site-", "a=b=c", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := fleet.ParseLabel(s)
		if err != nil {
			return
		}
		back := c.Key + "=" + c.Value
		if c.Value == "" {
			back = c.Key + "-"
		}
		if back != s || !wire.ValidName(c.Key) {
			t.Errorf("%q became %+v", s, c)
		}
	})
}

func changes(tb testing.TB, args ...string) (all []fleet.LabelChange) {
	tb.Helper()
	for _, arg := range args {
		c, err := fleet.ParseLabel(arg)
		if err != nil {
			tb.Fatal(err)
		}
		all = append(all, c)
	}
	return all
}

func TestLabelsAreChangedOneByOneAndTheRestStays(t *testing.T) {
	t.Parallel()
	addr := serve(t)
	c := connect(t, addr, fleet.LabelFilters("yard")...)
	for _, tt := range []struct {
		args []string
		want map[string]string
	}{
		{[]string{"site=berlin", "line=2"}, map[string]string{"site": "berlin", "line": "2"}},
		{[]string{"line=3"}, map[string]string{"site": "berlin", "line": "3"}},
		{nil, map[string]string{"site": "berlin", "line": "3"}},
		{[]string{"line-", "absent-"}, map[string]string{"site": "berlin"}},
		{[]string{"site=rome", "site-"}, map[string]string{}},
	} {
		got, err := c.SetLabels(t.Context(), "yard", "cam-1", changes(t, tt.args...), patience)
		if err != nil || !maps.Equal(got, tt.want) || !maps.Equal(c.Registry().Device("cam-1").Labels, tt.want) {
			t.Errorf("%v: got %v, %v; want %v, also in the picture", tt.args, got, err, tt.want)
		}
	}
	box := open(t, addr, device("cam-1").Labels())
	publish(t, box, device("cam-1").Labels(), false, []byte("the last"))
	if m, err := box.Next(t.Context()); err != nil || m.Retained {
		t.Errorf("got %+v, %v; want nothing retained once no label is left", m, err)
	}
}

func TestTooManyLabelsAreRefusedBeforeTheyAreSent(t *testing.T) {
	t.Parallel()
	var many []fleet.LabelChange
	for i := range wire.MaxLabels + 1 {
		many = append(many, fleet.LabelChange{Key: fmt.Sprintf("k%d", i), Value: "v"})
	}
	c := connect(t, serve(t), fleet.LabelFilters("yard")...)
	if _, err := c.SetLabels(t.Context(), "yard", "cam-1", many[:wire.MaxLabels], patience); err != nil {
		t.Errorf("as many as may be: %v", err)
	}
	if _, err := c.SetLabels(t.Context(), "yard", "cam-1", many, patience); err == nil || !strings.Contains(err.Error(), "33 are more than 32") {
		t.Errorf("got %v, want it refused", err)
	}
}

func TestForgettingADeviceClearsAllThatIsRetainedOfIt(t *testing.T) {
	t.Parallel()
	addr := serve(t)
	s := open(t, addr)
	settle(t, s, "cam-1", wire.Lost, "@gate")
	settle(t, s, "cam-2", wire.Online)
	publish(t, s, device("cam-1").Desired(), true, wire.Desired{Version: 7, Mode: "balanced"})
	publish(t, s, device("cam-1").Labels(), true, wire.Labels{Labels: map[string]string{"site": "berlin"}})
	publish(t, s, device("cam-3").Caps(), true, []byte("not JSON"))
	c := connect(t, addr, fleet.ForgetFilters("yard")...)

	if got, err := c.Forget(t.Context(), "yard", "cam-2", false, patience); err == nil || len(got) > 0 ||
		!strings.Contains(err.Error(), "cam-2 is online") {
		t.Errorf("one that is online: got %v, %v; want it refused", got, err)
	}
	for _, tt := range []struct {
		device string
		force  bool
		want   []wire.Kind
	}{
		{"cam-1", false, []wire.Kind{wire.KindState, wire.KindCaps, wire.KindReported, wire.KindDesired, wire.KindLabels}},
		{"cam-2", true, []wire.Kind{wire.KindState, wire.KindCaps, wire.KindReported}},
		{"cam-3", false, nil},
		{"cam-4", false, nil},
	} {
		if got, err := c.Forget(t.Context(), "yard", tt.device, tt.force, patience); err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %v, %v; want %v cleared", tt.device, got, err, tt.want)
		}
	}
	if got := c.Registry().Devices(); len(got) != 0 {
		t.Errorf("the picture still has %+v", got)
	}
	box := open(t, addr, "limber/v1/yard/+/+")
	publish(t, box, device("cam-1").Telemetry(), false, []byte("the last"))
	if m, err := box.Next(t.Context()); err != nil || m.Retained {
		t.Errorf("got %+v, %v; want nothing retained, of what cannot be read either", m, err)
	}
}

func TestC15_WhoMayNotSteerIsToldThatTheBrokerKeptTheLabels(t *testing.T) {
	t.Parallel()
	cfg := link(serve(t))
	cfg.User = wire.Viewer
	c, err := fleet.Open(cfg, discard(), fleet.LabelFilters("yard")...)
	if err != nil {
		t.Fatal(err)
	}
	mustReady(t, c)
	_, err = c.SetLabels(context.Background(), "yard", "cam-1", changes(t, "site=berlin"), patience)
	if err == nil || !strings.Contains(err.Error(), "this name may not steer") {
		t.Errorf("got %v, want that the broker dropped it", err)
	}
}
