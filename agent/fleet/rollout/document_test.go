package rollout_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/fleet/rollout"
	"github.com/limber-edge/limber/agent/wire"
)

// large is a rollout to as many devices as there can be, all of which say as much as
// they can.
func large(tb testing.TB) *rig {
	g := &rig{tb: tb, now: time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC), devices: picture{},
		evidence: rollout.NewEvidence(), jobs: map[string]wire.Telemetry{}}
	for i := range fleet.MaxDevices {
		name := fmt.Sprintf("%064d", i)
		g.join(name)
		g.set(name, func(d *fleet.Device) { d.Caps.Machine = fmt.Sprintf("%016x", i) })
	}
	for range 2 {
		g.traffic(nil, 1_800_000, 54_321, 123.456789)
	}
	g.begin(wire.RolloutSpec{Phases: []string{"100%"}, Gates: gates("agreement=0", "p95=2x"), SoakMS: new(0.0)})
	return g
}

// failAll has all devices that are commanded fail, and say why at length.
func (g *rig) failAll() {
	g.tb.Helper()
	for _, c := range g.r.Commands() {
		g.r.Ack(c.Device, wire.Ack{ID: c.ID, Verb: c.Verb, State: wire.CommandFailed, Reason: wire.Unauthorized,
			Detail: detail, Shadow: &most}, g.now)
	}
	g.step()
}

// most is as much as devices can have found.
var most = wire.Agreement{Frames: 1_000_000, Agreed: 876_543, P95MS: new(123_456.789), Missed: 1_000_000}

// detail says as much as it can, in as many bytes of JSON.
var detail = strings.Repeat(`"<é>`, 100)

func TestALargeDocumentIsInPartsThatKeepTheirDevices(t *testing.T) {
	g := large(t)
	g.failAll()
	before := mustDocuments(t, g.r)
	if len(before) != 1+fleet.MaxDevices/150+1 {
		t.Errorf("got %d messages", len(before))
	}
	g.set(fmt.Sprintf("%064d", 77), func(d *fleet.Device) { d.Caps.Machine = "another" })
	g.r.State, g.r.End = wire.RolloutRunning, nil
	g.step()
	after := mustDocuments(t, g.r)
	changed := 0
	for i := range after[1:] {
		if after[1+i] != before[1+i] {
			changed++
		}
	}
	if len(after) != len(before) || changed != 1 {
		t.Errorf("%d of %d parts changed with one device, of %d before; want 1", changed, len(after)-1, len(before)-1)
	}
}

// mustDocuments are the messages of a rollout, each of which a receiver must take.
func mustDocuments(tb testing.TB, r *rollout.Record) (all []string) {
	tb.Helper()
	docs := r.Document()
	for i, doc := range docs {
		b, err := json.Marshal(doc)
		if err != nil {
			tb.Fatal(err)
		}
		var read wire.Rollout
		if err := wire.Decode(b, &read); err != nil || read.ID != r.ID {
			tb.Fatalf("message %d of %d: %v, of %d bytes", i, len(docs), err, len(b))
		}
		if i == 0 && len(docs) > 1 && (read.Parts != len(docs)-1 || read.Devices != nil) || i > 0 && read.Phases != nil {
			tb.Fatalf("message %d of %d has %d parts, %d devices", i, len(docs), read.Parts, len(read.Devices))
		}
		all = append(all, string(b))
	}
	return all
}

func TestASmallDocumentIsOneMessage(t *testing.T) {
	g := newRig(t, 300)
	g.begin(wire.RolloutSpec{})
	docs := g.r.Document()
	if len(docs) != 1 || len(docs[0].Devices) != 300 || docs[0].Parts != 0 {
		t.Errorf("got %d messages, the first with %d devices", len(docs), len(docs[0].Devices))
	}
	mustDocuments(t, g.r)
	if doc := docs[0]; doc.Kind != wire.VerbFamily || doc.Phase != 1 || doc.Spec.Observe != 200 || !doc.TS.Equal(g.now) {
		t.Errorf("got %+v; want what the spec left out, its phase and its start", doc)
	}
}

func TestADetailIsCutToWhatAMessageHasRoomFor(t *testing.T) {
	for _, said := range []string{detail, strings.Repeat("a", 97), "a\xffb" + detail, strings.Repeat("😀", 40)} {
		g := newRig(t, 1)
		g.begin(wire.RolloutSpec{})
		g.answer("d-0000", wire.Ack{State: wire.CommandFailed, Detail: said})
		got := g.device("d-0000").Detail
		if b, err := json.Marshal(got); err != nil || len(b) > 98 || !strings.HasSuffix(got, "...") || got[0] != said[0] {
			t.Errorf("got %q, %d bytes, %v", got, len(b), err)
		}
	}
}

func TestTenThousandDevicesAreStoredInLessThanFourMegabytes(t *testing.T) {
	g := large(t)
	if n := len(mustJSON(t, g.r)); n >= 4_000_000 {
		t.Errorf("got %d bytes while all are commanded", n)
	}
	for _, c := range g.r.Commands() {
		g.r.Ack(c.Device, wire.Ack{ID: c.ID, Verb: c.Verb, State: wire.CommandExecuting, Shadow: &most}, g.now)
	}
	if n := len(mustJSON(t, g.r)); n >= 4_000_000 {
		t.Errorf("got %d bytes while all are compared", n)
	}
	g.failAll()
	if n := len(mustJSON(t, g.r)); n >= 4_000_000 {
		t.Errorf("got %d bytes when all failed", n)
	}
}

func TestARecordWhosePartsDoNotFitTogetherIsNotRead(t *testing.T) {
	g := newRig(t, 4)
	g.begin(wire.RolloutSpec{Phases: []string{"1", "100%"}})
	g.answer(g.order()[0], wire.Ack{State: wire.CommandExecuting, Shadow: shadow(20, 18)})
	whole := mustJSON(t, g.r)
	for _, change := range [][2]string{
		{`"id":"r"`, `"id":"r.1"`},
		{`"size":3`, `"size":2`},
		{`"size":3`, `"size":-3`},
		{`"phase":0`, `"phase":2`},
		{`"phase":0`, `"phase":-1`},
		{`"n":1`, `"n":2`},
		{`"n":1`, `"n":0`},
		{`"b":1`, `"b":2`},
		{`"b":1`, `"b":-1`},
		{`"soak_ms":600000,`, ``},
		{`"gates":[{"name":"agreement"`, `"gates":[{"name":"harmony"`},
		{`"shadow":{"percent":10,"frames":200,"agreement":0.97},`, ``},
		{`"g":{"f":20`, `"g":{"f":2`},
		{`"g":{"f":20`, `"g":{"f":-20`},
		{`"d":"`, `"d":"/`},
		{`"s":"running"`, `"s":"gone"`},
		{`"state":"pending"`, `"state":"gone"`},
		{`"state":"running","phase"`, `"state":"gone","phase"`},
	} {
		damaged := strings.Replace(whole, change[0], change[1], 1)
		if err := json.Unmarshal([]byte(damaged), new(rollout.Record)); err == nil || damaged == whole {
			t.Errorf("with %s for %s it was read, %v", change[1], change[0], damaged == whole)
		}
	}
}

func FuzzRecord(f *testing.F) {
	g := newRig(f, 4)
	g.begin(wire.RolloutSpec{Phases: []string{"1", "100%"}, Rollback: true, Follow: true,
		MaxUnavailable: &wire.Unavailable{N: 1, Label: "site"}})
	f.Add(mustJSON(f, g.r))
	g.pass()
	f.Add(mustJSON(f, g.r))
	g.fail(g.order()[1], wire.Internal)
	f.Add(mustJSON(f, g.r))
	f.Fuzz(func(t *testing.T, stored string) {
		r := new(rollout.Record)
		if json.Unmarshal([]byte(stored), r) == nil {
			goOn(t, r)
		}
	})
}

func BenchmarkStep(b *testing.B) {
	g := newRig(b, 1000)
	for range 60 {
		g.traffic(nil, 600, 6, 10)
	}
	g.begin(wire.RolloutSpec{Phases: []string{"50%", "100%"}, Follow: true})
	for _, name := range g.commanded() {
		g.answer(name, wire.Ack{State: wire.CommandSucceeded})
	}
	for range 55 {
		g.traffic(nil, 3, 0, 10)
	}
	for b.Loop() {
		g.r.Step(g.now, g.view())
	}
}

func TestWhatADeviceSaysOutOfAllMeasureIsNoHarmToTheOthers(t *testing.T) {
	g := large(t)
	name := g.order()[0]
	for _, machine := range []string{strings.Repeat("m", 60_000), `"<é>`} {
		g.set(name, func(d *fleet.Device) { d.Caps.Machine = machine })
		g.step()
		mustDocuments(t, g.r)
	}
	g.answer(name, wire.Ack{State: wire.CommandFailed, Reason: wire.Reason(strings.Repeat("r", 60_000))})
	mustDocuments(t, g.r)
	if d := g.device(name); d.State != wire.DeviceFailed || d.Reason != "" {
		t.Errorf("got %s, reason %.100s", d.State, d.Reason)
	}
}
