package rollout_test

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/fleet/rollout"
	"github.com/limber-edge/limber/agent/wire"
)

// rig is a fleet that a test plays, and a rollout on it. The rollout crashes after each
// of its steps: what goes on is what was stored.
type rig struct {
	tb       testing.TB
	now      time.Time
	devices  picture
	evidence *rollout.Evidence
	jobs     map[string]wire.Telemetry // counters
	others   []*rollout.Record
	where    fits
	r        *rollout.Record
}

// picture stands in for a fleet.Registry.
type picture map[string]fleet.Device

var _ rollout.Picture = (*fleet.Registry)(nil)

func (p picture) Devices() []fleet.Device {
	return slices.SortedFunc(maps.Values(p), func(a, b fleet.Device) int { return cmp.Compare(a.Name, b.Name) })
}

func (p picture) Device(name string) fleet.Device {
	if d, ok := p[name]; ok {
		return d
	}
	return fleet.Device{Name: name}
}

// fits is a where expression: all devices, or those of a site.
type fits string

func (f fits) Fits(d fleet.Device) bool { return f == "" || d.Labels["site"] == string(f) }

// family is one by its name; the digest is of that.
func family(name string) wire.Family {
	return wire.Family{Name: name, Digest: fmt.Sprintf("sha256:%064x", name)}
}

// newRig has devices d-0000 and so on, which are online, run the family old and are of
// the site berlin, and have answered some frames in the last minutes.
func newRig(tb testing.TB, n int) *rig {
	g := &rig{tb: tb, now: time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC), devices: picture{},
		evidence: rollout.NewEvidence(), jobs: map[string]wire.Telemetry{}}
	for i := range n {
		g.join(fmt.Sprintf("d-%04d", i))
	}
	g.traffic(nil, 600, 6, 10)
	g.traffic(nil, 600, 6, 10)
	return g
}

// join has a device come.
func (g *rig) join(name string) {
	old := family("old")
	g.devices[name] = fleet.Device{Name: name, State: &wire.State{State: wire.Online, BootID: "b1"},
		Caps:     &wire.Caps{Machine: "m-" + name, Family: &old, Arch: "arm64", Release: release("1.4.0"), Shadow: true},
		Reported: &wire.Reported{Mode: "balanced"}, Labels: map[string]string{"site": "berlin"}}
}

// set changes what is known of a device.
func (g *rig) set(name string, change func(*fleet.Device)) {
	d := g.devices[name]
	if d.Caps != nil {
		d.Caps = new(*d.Caps)
	}
	change(&d)
	g.devices[name] = d
}

func (g *rig) off(names ...string) {
	for _, name := range names {
		g.set(name, func(d *fleet.Device) { d.State = &wire.State{State: wire.Lost, BootID: d.State.BootID} })
	}
}

func (g *rig) on(names ...string) {
	for _, name := range names {
		g.set(name, func(d *fleet.Device) { d.State = &wire.State{State: wire.Online, BootID: d.State.BootID} })
	}
}

// traffic lets a minute pass in which the devices (nil: all that are online) answered
// frames, of which some were missed, at a p95.
func (g *rig) traffic(names []string, frames, missed uint64, p95 float64) {
	if names == nil {
		names = slices.Sorted(maps.Keys(g.devices))
	}
	g.now = g.now.Add(time.Minute)
	for _, name := range names {
		d := g.devices[name]
		if !d.Online() {
			continue
		}
		t := g.jobs[name]
		t.Jobs += frames
		t.Missed += missed
		t.P95MS = &p95
		g.jobs[name] = t
		g.evidence.Take(name, d.State.BootID, &t, g.now)
	}
}

func (g *rig) view() rollout.View {
	return rollout.View{Picture: g.devices, Where: g.where, Evidence: g.evidence, Others: g.others}
}

// begin starts a rollout, of the family new unless the spec says another.
func (g *rig) begin(spec wire.RolloutSpec) {
	g.tb.Helper()
	r, err := g.new("r", spec)
	if err != nil {
		g.tb.Fatal(err)
	}
	g.r = r
	g.step()
}

func (g *rig) new(id string, spec wire.RolloutSpec) (*rollout.Record, error) {
	if spec.Mode == "" && spec.Goal == nil && spec.Family == nil && spec.Release == nil {
		spec.Family = new(family("new"))
	}
	return rollout.New(id, spec, g.view(), g.now)
}

// step takes a step, then crashes.
func (g *rig) step() {
	g.tb.Helper()
	g.r.Step(g.now, g.view())
	g.r = mustStore(g.tb, g.r)
}

// mustStore is the record after it was stored and read again.
func mustStore(tb testing.TB, r *rollout.Record) *rollout.Record {
	tb.Helper()
	b, err := json.Marshal(r)
	if err != nil {
		tb.Fatal(err)
	}
	again := new(rollout.Record)
	if err := json.Unmarshal(b, again); err != nil {
		tb.Fatalf("%v, of %s", err, b)
	}
	return again
}

// after lets time pass, then steps.
func (g *rig) after(d time.Duration) {
	g.tb.Helper()
	g.now = g.now.Add(d)
	g.step()
}

// commanded are the devices that have a command open, by name.
func (g *rig) commanded() (names []string) {
	for _, c := range g.r.Commands() {
		names = append(names, c.Device)
	}
	slices.Sort(names)
	return names
}

// answer has a device end what it was commanded, which it does as it says: its family,
// mode or goal are those of the command where it succeeds, and a family has agreed with the
// one before on all frames unless it says otherwise.
func (g *rig) answer(name string, a wire.Ack) {
	g.tb.Helper()
	for _, c := range g.r.Commands() {
		if c.Device != name {
			continue
		}
		a.ID, a.Verb = cmp.Or(a.ID, c.ID), cmp.Or(a.Verb, c.Verb)
		if a.State == wire.CommandSucceeded {
			g.obey(name, c)
		}
		if s := g.content(c).Shadow; s != nil && a.Shadow == nil {
			a.Shadow = shadow(s.Wants(), s.Wants())
		}
		g.r.Ack(name, a, g.now)
		return
	}
	g.tb.Fatalf("%s has no command open", name)
}

// content is what a command asks for.
func (g *rig) content(c rollout.Command) (asked wire.Command) {
	g.tb.Helper()
	if err := wire.Decode(c.Payload, &asked); err != nil {
		g.tb.Fatal(err)
	}
	return asked
}

// shadow is that so many of the frames agreed.
func shadow(frames, agreed int) *wire.Agreement {
	return &wire.Agreement{Frames: frames, Agreed: agreed, P95MS: new(8.25), Missed: min(2, frames)}
}

// obey has a device be what a command asks for, and tell of a comparison that came of it.
func (g *rig) obey(name string, c rollout.Command) {
	asked := g.content(c)
	g.set(name, func(d *fleet.Device) {
		if s := asked.Shadow; s != nil {
			d.Caps.LastUpdate = &wire.LastUpdate{ID: c.ID, State: wire.CommandSucceeded, Shadow: shadow(s.Wants(), s.Wants())}
		}
		switch {
		case asked.Shadow != nil && asked.Shadow.Only: // nothing changes
		case asked.Family != nil:
			d.Caps.Family = asked.Family
		case asked.Version != "":
			d.Caps.Release = &wire.Release{Version: asked.Version, Digest: asked.Digest, Slot: "a"}
		case asked.Cancel == "":
			d.Reported = &wire.Reported{Mode: asked.Mode, Goal: asked.Goal}
		}
	})
}

// succeed has all devices that have a command open, or those named, do it.
func (g *rig) succeed(names ...string) {
	g.tb.Helper()
	if len(names) == 0 {
		names = g.commanded()
	}
	for _, name := range names {
		g.answer(name, wire.Ack{State: wire.CommandSucceeded})
	}
	g.step()
}

func (g *rig) fail(name string, reason wire.Reason) {
	g.tb.Helper()
	g.answer(name, wire.Ack{State: wire.CommandFailed, Reason: reason})
	g.step()
}

// pass has what is under way succeed, answer well, and be observed long enough.
func (g *rig) pass() {
	g.tb.Helper()
	g.succeed()
	g.traffic(nil, 600, 6, 10)
	g.traffic(nil, 600, 6, 10)
	g.step()
	g.after(10 * time.Minute)
}

func (g *rig) act(action string) {
	g.tb.Helper()
	if err := g.do(wire.RolloutCommand{Action: action}); err != nil {
		g.tb.Fatal(err)
	}
}

func (g *rig) do(c wire.RolloutCommand) error {
	err := g.r.Act(c, g.view(), g.now)
	g.step()
	return err
}

// device is what the document says of a device.
func (g *rig) device(name string) wire.RolloutDevice {
	g.tb.Helper()
	for _, part := range g.r.Document() {
		for _, d := range part.Devices {
			if d.Device == name {
				return d
			}
		}
	}
	g.tb.Fatalf("the document has no device %s", name)
	return wire.RolloutDevice{}
}

// order are the devices as the document has them.
func (g *rig) order() (names []string) {
	for _, part := range g.r.Document() {
		for _, d := range part.Devices {
			names = append(names, d.Device)
		}
	}
	return names
}

// want says what is wrong with the state of the rollout.
func (g *rig) want(state wire.RolloutState, why string) {
	g.tb.Helper()
	if g.r.State != state || !strings.Contains(g.r.Why, why) {
		g.tb.Fatalf("got %s, %q; want %s, ...%s...", g.r.State, g.r.Why, state, why)
	}
}

// wantDevice says what is wrong with the state of a device.
func (g *rig) wantDevice(name, state string) {
	g.tb.Helper()
	if d := g.device(name); d.State != state {
		g.tb.Fatalf("%s: got %s, %s %q; want %s", name, d.State, d.Reason, d.Detail, state)
	}
}

// wantCommanded says which devices should have a command open.
func (g *rig) wantCommanded(names ...string) {
	g.tb.Helper()
	names = slices.Sorted(slices.Values(names))
	if got := g.commanded(); !slices.Equal(got, names) {
		g.tb.Fatalf("got commands for %v; want %v (%s %s)", got, names, g.r.State, g.r.Why)
	}
}

// wantRefused says what is wrong with the refusal of an error.
func wantRefused(tb testing.TB, err error, reason wire.Reason, text string) {
	tb.Helper()
	if refusal, ok := errors.AsType[*wire.Refusal](err); !ok || refusal.Reason != reason ||
		!strings.Contains(err.Error(), text) {
		tb.Fatalf("got %v; want a refusal %s: ...%s...", err, reason, text)
	}
}

// release is one by its version; the digest is of that.
func release(version string) *wire.Release {
	return &wire.Release{Version: version, Digest: fmt.Sprintf("sha256:%064x", version), Slot: "b"}
}

// releaseOf is what a rollout of a release asks for, for devices of arm64.
func releaseOf(version string) *wire.RolloutRelease {
	return &wire.RolloutRelease{Version: version, Manifests: []wire.ReleaseFor{{Arch: "arm64", Digest: release(version).Digest}}}
}

// updateTo is what a rollout of a family asks for.
func updateTo(name string) wire.Update { return wire.Update{Family: new(family(name))} }
