package agent_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/ort"
	"github.com/limber-edge/limber/family/resident"
	"github.com/limber-edge/limber/family/stock"
	"github.com/limber-edge/limber/store"
)

// gpuShelf stands in for a GPU: its sessions run on the CPU under another name.
type gpuShelf struct {
	*resident.Shelf
	kind     string
	provider string
	members  int
}

// gpu makes a provider of a kind: "cuda" works, "broken" has no member that can
// be used, "slow" takes 20 ms and more for an inference, and the path of a file
// is one that fails while the file is there. Whatever else is asked for the library lacks.
func gpu(cfg agent.Config, parts *agent.Parts, kind string) func(string) (agent.Shelf, error) {
	return func(provider string) (agent.Shelf, error) {
		if provider != ort.CUDA {
			return nil, parts.Runtime.Provides(provider)
		}
		cache := filepath.Join(cfg.State, "cache-gpu")
		carried, err := stock.Family()
		if err = errors.Join(err, os.MkdirAll(cache, 0o700)); err != nil {
			return nil, err
		}
		return gpuShelf{resident.New(parts.Runtime, parts.Family, carried, cache, ort.DefaultOptions(), nil), kind, provider, len(parts.Family.Members)}, nil
	}
}

func (s gpuShelf) Session(i int) (family.Session, error) {
	if s.kind == "broken" {
		return nil, errors.New("canary: a logit is far from the stored one")
	}
	if err := s.gone(); err != nil {
		return nil, err
	}
	session, err := s.Shelf.Session(i)
	return gpuSession{session, s, i}, err
}

// gone is the error of a GPU that has disappeared.
func (s gpuShelf) gone() error {
	if _, err := os.Stat(s.kind); err == nil {
		return errors.New("CUDA failure 999: unknown error")
	}
	return nil
}

// gpuSession fails when its GPU does.
type gpuSession struct {
	family.Session
	shelf  gpuShelf
	member int
}

// slowness is what an inference takes on a slow GPU.
func slowness(member int) time.Duration { return time.Duration(member+1) * 20 * time.Millisecond }

func (s gpuSession) Run(out []float32, in ...[]float32) error {
	if err := s.shelf.gone(); err != nil {
		return err
	}
	if s.shelf.kind == "slow" {
		<-time.After(slowness(s.member))
	}
	return s.Session.Run(out, in...)
}

func (s gpuShelf) Variant() family.Variant {
	o := s.Shelf.Variant()
	o.Provider = s.provider
	return o
}

// Profile has only the two ends of the family on its front; that of a slow GPU
// has all.
func (s gpuShelf) Profile(ctx context.Context, sessions []family.Session) (*family.Profile, error) {
	inner := slices.Clone(sessions)
	for i := range inner {
		if on, ok := inner[i].(gpuSession); ok {
			inner[i] = on.Session
		}
	}
	p, err := s.Shelf.Profile(ctx, inner)
	if err != nil {
		return nil, err
	}
	p.Options = s.Variant().String()
	for i := range p.Members {
		switch {
		case s.kind == "slow":
			p.Members[i].P50ms = wire.Millis(slowness(i))
		case i == 0:
			p.Members[i].P50ms = 1
		default:
			p.Members[i].P50ms = 2
		}
	}
	return p, nil
}

func TestAGPUTakesOverWhileTheCPUServes(t *testing.T) {
	t.Parallel()
	addr := serve(t)
	cfg := newConfig(t, addr)
	cfg.Runtime.Providers = []string{ort.TensorRT, ort.CUDA, ort.CPU}
	o := operate(t, addr)
	d := start(t, cfg, envGPU+"=cuda")
	o.presence(cfg, wire.Online, 0)

	frame := job(t, patient, pngFrame(t, 0))
	var names []string
	of := func(kind wire.EventKind) (events []wire.Event) {
		for _, m := range o.matching(self(cfg).Event(wire.SeverityInfo)) {
			if e := decoded[wire.Event](t, m); e.Kind == kind {
				events = append(events, e)
			}
		}
		return events
	}
	for i := 0; i < 20 || len(of(wire.EventProvider)) == 0; i++ {
		names = append(names, fmt.Sprintf("during-%d", i))
		o.publish(self(cfg).Job(names[i]), frame)
		o.result(cfg, names[i], 1)
	}
	o.publish(self(cfg).Job("after"), frame)
	for _, name := range append(names, "after") {
		if r := o.result(cfg, name, 1); r.Status != wire.OK || o.identical(cfg, name) != 1 {
			t.Errorf("%s: got %+v %d times, want one answer", name, r, o.identical(cfg, name))
		}
	}

	given := decoded[wire.Event](t, o.await(self(cfg).Event(wire.SeverityWarning), 1))
	if given.Kind != wire.EventProvider || !strings.Contains(given.Detail, "tensorrt is given up") || !strings.Contains(given.Detail, "ONNXRUNTIME_LIB") {
		t.Errorf("got %+v, want tensorrt given up, and the remedy", given)
	}
	if e := of(wire.EventProgress); len(e) == 0 || !strings.Contains(e[0].Detail, "cuda: preparing member 1 of 6; cpu serves") {
		t.Errorf("got %+v, want progress", e)
	}
	if e := of(wire.EventProvider); !strings.Contains(e[0].Detail, "cuda took over from cpu with 2 members") {
		t.Errorf("got %+v", e)
	}
	o.until(func() bool {
		all := o.matching(self(cfg).Caps())
		caps := decoded[wire.Caps](t, all[len(all)-1])
		return caps.Profile.Provider == ort.CUDA && len(caps.Members) == 2
	}, "capabilities with the front of cuda, two members")
	if ack := o.command(cfg, cfg.Device, "mode", "m1", `{"mode":"fixed:5.8M","ttl_ms":60000}`); ack.State != wire.CommandSucceeded {
		t.Errorf("a mode of a member on the front: got %+v", ack)
	}
	if ack := o.command(cfg, cfg.Device, "mode", "m2", `{"mode":"fixed:9.7M","ttl_ms":60000}`); ack.State != wire.CommandRejected {
		t.Errorf("a mode of a member that only the CPU had on its front: got %+v", ack)
	}
	answered := uint64(len(names) + 1)
	o.telemetry(cfg, func(s wire.Telemetry) bool {
		return s.Jobs == answered && s.Mode == "fixed:5.8M"
	}, "the jobs of the crew that was relieved are counted, too")
	d.stop()
	o.presence(cfg, wire.Offline, 0)
}

func TestAMemberAtFaultIsMeasuredWhenTheGPUCanUseIt(t *testing.T) {
	t.Parallel()
	addr := serve(t)
	cfg := newConfig(t, addr)
	cfg.Runtime.Providers = []string{ort.CUDA, ort.CPU}
	carried, err := stock.Family()
	if err != nil {
		t.Fatal(err)
	}
	o, best := operate(t, addr), carried.Members[len(carried.Members)-1].Name
	serves := func() bool { // with the two ends of the family, which cuda has on its front
		all := o.matching(self(cfg).Caps())
		if len(all) == 0 {
			return false
		}
		caps := decoded[wire.Caps](t, all[len(all)-1])
		return caps.Profile != nil && caps.Profile.Provider == ort.CUDA && len(caps.Members) == 2 && caps.Members[1].Name == best
	}
	d := start(t, cfg, envGPU+"=cuda")
	o.until(serves, "cuda serves")
	d.stop()
	mustEdit(t, cfg, func(st *store.Store) error {
		return editProfile(st, ort.CUDA, carried.Digest(), func(p *family.Profile) { fault(p, 1) })
	})
	before := len(o.matching(self(cfg).Caps()))
	d = start(t, cfg, envGPU+"=cuda")
	o.until(func() bool { return len(o.matching(self(cfg).Caps())) > before+1 && serves() }, "cuda serves with the best member again")
	d.stop()
}

func TestTheCPUServesWhereNoGPUCanBeUsed(t *testing.T) {
	for _, tt := range []struct {
		name, env string
		providers []string
		says      []string
	}{
		{"the library is for the CPU", "", []string{ort.TensorRT, ort.CUDA, ort.CPU}, []string{"tensorrt is given up", "cuda is given up"}},
		{"no member passes its canary", envGPU + "=broken", []string{ort.CUDA, ort.CPU}, []string{"canary", "cpu serves"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			addr := serve(t)
			cfg := newConfig(t, addr)
			cfg.Runtime.Providers = tt.providers
			o := operate(t, addr)
			start(t, cfg, tt.env)
			o.presence(cfg, wire.Online, 0)
			o.until(func() bool {
				var all string
				for _, m := range o.matching(self(cfg).Event(wire.SeverityWarning)) {
					all += decoded[wire.Event](t, m).Detail
				}
				return !slices.ContainsFunc(tt.says, func(s string) bool { return !strings.Contains(all, s) })
			}, "warnings that say %q", tt.says)
			o.publish(self(cfg).Job("frame"), job(t, patient, pngFrame(t, 0)))
			if r := o.result(cfg, "frame", 1); r.Status != wire.OK {
				t.Errorf("got %+v, want an answer", r)
			}
		})
	}
}

func TestR11_AGPUThatDisappearsIsReplacedByTheCPUAndTriedAgain(t *testing.T) {
	t.Parallel()
	addr, broken := serve(t), filepath.Join(t.TempDir(), "broken")
	cfg := newConfig(t, addr)
	cfg.Runtime.Providers = []string{ort.CUDA, ort.CPU}
	o := operate(t, addr)
	d := start(t, cfg, envGPU+"="+broken)
	o.presence(cfg, wire.Online, 0)
	provider := func() string {
		all := o.matching(self(cfg).Caps())
		if len(all) == 0 {
			return ""
		}
		if p := decoded[wire.Caps](t, all[len(all)-1]).Profile; p != nil {
			return p.Provider
		}
		return ""
	}
	o.until(func() bool { return provider() == ort.CUDA }, "cuda serves")

	if err := os.WriteFile(broken, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	frame, sent := job(t, patient, pngFrame(t, 0)), 0
	answers := func(until func() bool, what string) { // one frame after the other
		o.until(func() bool {
			if sent > 0 && len(o.matching(self(cfg).Result(ids("frame", sent)[sent-1]))) == 0 {
				return false
			}
			if until() {
				return true
			}
			sent++
			o.publish(self(cfg).Job(ids("frame", sent)[sent-1]), frame)
			return false
		}, what)
	}
	alarms := func() []wire.Event {
		var events []wire.Event
		for _, m := range o.matching(self(cfg).Event(wire.SeverityError)) {
			events = append(events, decoded[wire.Event](t, m))
		}
		return events
	}
	answers(func() bool { return provider() == ort.CPU && len(alarms()) > 0 }, "the CPU takes over, with an alarm")
	d.awaitLog("execution provider still not usable", 1)
	if err := os.Remove(broken); err != nil {
		t.Fatal(err)
	}
	answers(func() bool { return provider() == ort.CUDA }, "cuda serves again")

	for _, id := range ids("frame", sent) {
		if r := o.result(cfg, id, 1); r.Status != wire.OK || r.Classes[0].Label == "" || o.identical(cfg, id) != 1 {
			t.Errorf("%s: got %+v, want one answer", id, r)
		}
	}
	if e := alarms(); len(e) != 1 || e[0].Kind != wire.EventProvider || e[0].Count > 1 ||
		!strings.Contains(e[0].Detail, "cuda failed: CUDA failure 999") || !strings.Contains(e[0].Detail, "cpu serves, the next attempt is in 5s") {
		t.Errorf("got alarms %+v, want one", e)
	}
	d.stop()
}
