package agent_test

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/config"
	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/sim"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/stock"
	"github.com/limber-edge/limber/store"
)

// formerJump is a chance that the load changes which no governor begins with.
const formerJump = 0.0425

// formerHorizon is a number that the outbox's did not reach, and later than those that
// an outbox without one begins with.
const formerHorizon = 9_000_000_000_000_000

// formerGap was not told of.
const formerGap = `{"Records":3,"Bytes":100,"First":7,"Last":9}`

// writeFormerState makes a state folder as the version before wrote it, by hand, with
// an outbox that was damaged since. The cell of the mode had two forms.
func writeFormerState(tb testing.TB, cfg config.Config, mode string) {
	tb.Helper()
	carried, err := stock.Family()
	if err != nil {
		tb.Fatal(err)
	}
	profile := formerProfile(&carried.Family)
	mustEdit(tb, cfg, func(st *store.Store) error {
		manifest, err := carried.Marshal()
		if err != nil {
			return err
		}
		for name, value := range map[string]string{
			"mode": mode, "desired": `{"@all":5,"desk":3}`, "horizon": fmt.Sprint(formerHorizon),
			"gap":            formerGap,
			"filters":        fmt.Sprintf(`[%q,"cam/former/jpg"]`, self(cfg).Filter(wire.KindJob)),
			"experience-cpu": string(encoded(tb, formerExperience(tb, &carried.Family, profile))),
		} {
			if err := st.SetCell(name, []byte(value)); err != nil {
				return err
			}
		}
		for _, c := range formerLedger(tb) {
			if err := st.SetCommand(c); err != nil {
				return err
			}
		}
		key := store.ProfileKey{Family: string(carried.Digest()), Provider: "cpu", Threads: 1}
		if err := st.SetProfile(key, encoded(tb, profile)); err != nil {
			return err
		}
		return st.SetFamily(manifest)
	})
	if err := os.WriteFile(filepath.Join(cfg.State, "outbox.db"), []byte("no database"), 0o600); err != nil {
		tb.Fatal(err)
	}
}

// formerProfile was taken in 2020.
func formerProfile(f *family.Family) family.Profile {
	p := family.Profile{Schema: family.Schema, Family: f.Digest(), Runtime: sim.Runtime, Options: "cpu/1",
		Taken: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), Rounds: 50, Batch: family.Batch}
	for i, m := range f.Members {
		ms := math.Pow(1.5, float64(i))
		p.Members = append(p.Members, family.MemberProfile{Name: m.Name, P50ms: ms, P95ms: 2 * ms, CV: 0.1})
	}
	return p
}

type formerLearned struct {
	Family   string              `json:"family"`
	Provider string              `json:"provider"`
	Learned  governor.Experience `json:"learned"`
}

func formerExperience(tb testing.TB, f *family.Family, p family.Profile) formerLearned {
	tb.Helper()
	var members []governor.Member
	for i, m := range f.Members {
		members = append(members, governor.Member{Name: m.Name, Top1: m.Top1,
			Latency: time.Duration(p.Members[i].P50ms * float64(time.Millisecond))})
	}
	g, err := governor.New(members, governor.Mode{}, nil)
	if err != nil {
		tb.Fatal(err)
	}
	e := g.Experience()
	e.Jump = formerJump
	return formerLearned{Family: string(f.Digest()), Provider: "cpu", Learned: e}
}

const formerOrder = `{"mode":"power-save","ttl_ms":60000}`

// formerLedger has a command that was done, one that was cut off, and one whose time
// was over meanwhile.
func formerLedger(tb testing.TB) []store.Command {
	tb.Helper()
	command := func(id, state string, left time.Duration, answer wire.Ack) store.Command {
		return store.Command{ID: "mode/" + id, Request: store.DigestOf([]byte(formerOrder)), State: state,
			Answer: encoded(tb, answer), Expires: time.Now().Add(left)}
	}
	at := wire.At(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	return []store.Command{
		command("done", "succeeded", time.Hour,
			wire.Ack{ID: "done", Verb: "mode", State: wire.CommandSucceeded, TS: at}),
		command("cut", "executing", time.Hour, wire.Ack{ID: "cut", Verb: "mode", State: wire.CommandExecuting, TS: at}),
		command("spent", "executing", -time.Hour,
			wire.Ack{ID: "spent", Verb: "mode", State: wire.CommandExecuting, TS: at}),
	}
}

func TestTheStateOfTheVersionBeforeIsTakenOver(t *testing.T) {
	for _, tt := range []struct{ name, cell, mode string }{
		{"a mode", `{"mode":"fixed:9.7M","set":"2026-01-01T00:00:00.000Z"}`, "fixed:9.7M"},
		{"a goal", `{"goal":{"min_top1":0.75},"set":"2026-01-01T00:00:00.000Z"}`, "goal"},
		{"a mode of the versions before goals", `low-latency`, "low-latency"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			addr := serve(t)
			cfg := newConfig(t, addr)
			writeFormerState(t, cfg, tt.cell)
			o := operate(t, addr)
			o.publishAs(mqtt.Message{Topic: wire.Address{Fleet: cfg.Fleet, Device: "@all"}.Desired(),
				Payload: []byte(`{"version":5,"mode":"max-accuracy"}`), QoS: 1, Retained: true}) // that was applied
			d := start(t, cfg, rig{stored: true})
			o.presence(cfg, wire.Online, 0)
			takenOver(t, o, d, tt.mode)
			d.stop()
			keptOn(t, cfg)
		})
	}
}

// takenOver wants a device to go on where the version before ended.
func takenOver(t *testing.T, o *operator, d *device, mode string) {
	t.Helper()
	cfg := d.cfg
	o.until(func() bool {
		r, ok := latest[wire.Reported](o, self(cfg).Reported())
		return ok && r.Version == 5 && r.Status == wire.Applied && r.Mode == mode
	}, "%s is reported, and version 5", mode)
	if sync := decoded[wire.Sync](t, o.await(self(cfg).Sync(), 1)); sync.Version != 5 {
		t.Errorf("sync: got version %d, want 5", sync.Version)
	}
	caps := o.caps(cfg, func(c wire.Caps) bool { return c.Profile != nil }, "a profile")
	if caps.Profile.TS.Year() != 2020 || *caps.Members[1].P50MS != 1.5 {
		t.Errorf("got %+v and %+v, want the stored profile", caps.Profile, caps.Members)
	}
	o.tells(cfg, wire.EventGap, "3 records (100 bytes) numbered 7 to 9 were given up")
	o.until(func() bool {
		b, err := d.deps.Store.Cell("gap")
		return err == nil && string(b) != formerGap
	}, "the gap is forgotten")
	if !slices.Equal(d.deps.Former, []string{"cam/former/jpg"}) {
		t.Errorf("got filters %q of before, want the one that is not of the configuration", d.deps.Former)
	}
	if r := o.ask(cfg, "frame", `{"deadline_ms":600000}`); r.Status != wire.OK || r.Seq < formerHorizon {
		t.Errorf("got %+v, want an answer numbered over the horizon", r)
	}
	done := o.command(cfg, cfg.Device, "mode", "done", formerOrder)
	if done.State != wire.CommandSucceeded || done.TS.Year() != 2026 || done.TS.YearDay() != 1 {
		t.Errorf("a command that was done: got %+v, want the answer that was given", done)
	}
	if steps := o.steps(cfg, "mode", "done"); len(steps) != 1 {
		t.Errorf("a command that was done: got states %v, want the last alone", steps)
	}
	spent := o.command(cfg, cfg.Device, "mode", "spent", formerOrder)
	if spent.State != wire.CommandTimedOut || spent.Reason != wire.Expired {
		t.Errorf("a command whose time is over: got %+v, want timed out", spent)
	}
	o.obeyed(cfg, "mode", "cut", formerOrder)
	o.telemetry(cfg, func(s wire.Telemetry) bool { return s.Mode == "power-save" },
		"the command that was cut off is in force")
	for _, m := range o.matching(self(cfg).Reported()) {
		if r := decoded[wire.Reported](t, m); r.Mode == "max-accuracy" {
			t.Errorf("got %+v, want the retained state not applied once more", r)
		}
	}
}

// keptOn wants a device that stopped to have kept what it took over.
func keptOn(t *testing.T, cfg config.Config) {
	t.Helper()
	mustEdit(t, cfg, func(st *store.Store) error {
		var gap store.Gap
		var learned formerLearned
		var versions map[string]uint64
		for name, v := range map[string]any{"gap": &gap, "experience-cpu": &learned, "desired": &versions} {
			b, err := st.Cell(name)
			if err == nil {
				err = json.Unmarshal(b, v)
			}
			if err != nil {
				return fmt.Errorf("cell %s: %w", name, err)
			}
		}
		if gap.Records != 0 || versions["@all"] != 5 || versions["desk"] != 3 {
			t.Errorf("got gap %+v and versions %v, want none and those of before", gap, versions)
		}
		if math.Abs(learned.Learned.Jump-formerJump) > 0.005 { // a device that knows nothing begins with 0.03
			t.Errorf("got a chance of change of %v, want it learned on from %v", learned.Learned.Jump, formerJump)
		}
		return nil
	})
}
