package fleet_test

import (
	"maps"
	"testing"

	"github.com/limber-edge/limber/agent/fleet"
)

func TestATargetIsWhereADeviceSaidThatOthersReadIt(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ said, host, want string }{
		{"10.0.0.17:9464", "", "10.0.0.17:9464"},
		{"10.0.0.17:9464", "{device}.example", "10.0.0.17:9464"},
		{"[fd00::17]:9464", "", "[fd00::17]:9464"},
		{":9464", "{device}.example", "cam-17.example:9464"},
		{":9464", "", ""},
		{"", "{device}.example", ""},
		{"10.0.0.17", "", ""},
		{"10.0.0.17:0", "", ""},
		{"10.0.0.17:99999", "", ""},
		{"a.example/x?y:80", "", ""},
		{"me@a.example:80", "", ""},
		{"a.example\n:80", "", ""},
		{"127.0.0.1:9090", "", ""}, // which is Prometheus' own machine; no agent says it
		{"[::ffff:127.0.0.1]:9090", "", ""},
		{"LocalHost.:9090", "", ""},
		{"a.localhost:9090", "", ""},
		{"0.0.0.0:9090", "", ""},
		{"[::]:9090", "{device}.example", ""},
		{":9090", "127.0.0.1", "127.0.0.1:9090"},
	} {
		d := known()
		d.Caps.Metrics = tt.said
		got, ok := fleet.TargetOf("demo", d, tt.host)
		if ok != (tt.want != "") || ok && (len(got.Targets) != 1 || got.Targets[0] != tt.want) {
			t.Errorf("%q, --host %q: got %q, %t; want %q", tt.said, tt.host, got.Targets, ok, tt.want)
		}
	}
}

func TestATargetHasTheLabelsOfItsDevice(t *testing.T) {
	t.Parallel()
	d := known()
	d.Caps.Metrics = "10.0.0.17:9464"
	d.Labels = map[string]string{"site": "berlin", "a.b": "x", "a-b": "first by name"}
	got, ok := fleet.TargetOf("demo", d, "")
	want := map[string]string{"fleet": "demo", "device": "cam-17", "instance": "cam-17", "family": "yard",
		"version": "v0.2.0", "label_site": "berlin", "label_a_b": "first by name"}
	if !ok || !maps.Equal(got.Labels, want) {
		t.Errorf("got %v, %t; want %v", got.Labels, ok, want)
	}
}
