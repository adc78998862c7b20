package agent_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/limber-edge/limber/agent"
	"github.com/limber-edge/limber/agent/wire"
)

// events are those of a kind, in their order, of every severity.
func (o *operator) events(cfg agent.Config, kind wire.EventKind) (events []wire.Event) {
	for _, m := range o.matching(self(cfg).Event("#")) {
		if e := decoded[wire.Event](o.tb, m); e.Kind == kind {
			events = append(events, e)
		}
	}
	return events
}

// front are the members a device can use, smallest first.
func (o *operator) front(cfg agent.Config) []wire.Member {
	o.tb.Helper()
	return decoded[wire.Caps](o.tb, o.await(self(cfg).Caps(), 1)).Members
}

// answeredBy sends frames until a member answers one.
func (o *operator) answeredBy(cfg agent.Config, member string, frame []byte) {
	o.tb.Helper()
	id, sent := "", 0
	o.until(func() bool {
		if id != "" {
			all := o.matching(self(cfg).Result(id))
			if len(all) == 0 {
				return false
			}
			if decoded[wire.Result](o.tb, all[0]).Member == member {
				return true
			}
		}
		sent++
		id = fmt.Sprintf("for-%s-%d", member, sent)
		o.publish(self(cfg).Job(id), frame)
		return false
	}, "an answer by %s", member)
}

// lockedKiB is how much of the device's memory the kernel may not take.
func (d *device) lockedKiB() (n int) {
	d.tb.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.cmd.Process.Pid))
	if err != nil {
		d.tb.Fatal(err)
	}
	_, locked, _ := strings.Cut(string(b), "VmLck:")
	if _, err := fmt.Sscan(locked, &n); err != nil {
		d.tb.Fatal(err)
	}
	return n
}

func TestR2_UnderMemoryPressureTheLargestMembersMakeRoomAndComeBack(t *testing.T) {
	t.Parallel()
	addr, m := serve(t), mustMachine(t)
	cfg := newConfig(t, addr)
	cfg.Mode = "max-accuracy"
	o := operate(t, addr)
	d := start(t, cfg, m.env())
	o.presence(cfg, wire.Online, 0)
	front := o.front(cfg)
	if len(front) < 3 {
		t.Skipf("%d members are worth using here, three are needed", len(front))
	}
	frame := job(t, patient, pngFrame(t, 0))
	largest, smallest := front[len(front)-1].Name, front[0].Name
	o.answeredBy(cfg, largest, frame)

	if d.lockedKiB() == 0 && !d.logged("smallest member may leave memory") { // where the kernel refuses
		t.Error("the smallest member may leave memory, want it locked there")
	}

	m.memory(5)
	o.until(func() bool { return len(o.events(cfg, wire.EventMemory)) >= len(front)-1 }, "%d members make room", len(front)-1)
	for i, e := range o.events(cfg, wire.EventMemory) {
		if want := front[len(front)-1-i].Name; e.Member != want || !strings.Contains(e.Detail, "5.0 % of the memory are left") || e.Count > 1 {
			t.Errorf("event %d: got %+v, want %s taken out of use", i, e, want)
		}
	}
	o.publish(self(cfg).Job("tight"), frame)
	if r := o.result(cfg, "tight", 1); r.Status != wire.OK || r.Member != smallest {
		t.Errorf("without room: got %+v, want an answer by %s", r, smallest)
	}

	m.memory(12) // neither short nor enough
	o.telemetry(cfg, func(s wire.Telemetry) bool { return s.MemHeadroom != nil && *s.MemHeadroom == 12 }, "12 % are left")
	m.memory(90)
	o.until(func() bool { return len(o.events(cfg, wire.EventMemory)) >= len(front) }, "a member comes back")
	if e := o.events(cfg, wire.EventMemory); len(e) != len(front) || e[len(e)-1].Member != front[1].Name || !strings.Contains(e[len(e)-1].Detail, "back in use") {
		t.Errorf("got %+v last of %d, want %s back, alone", e[len(e)-1], len(e), front[1].Name)
	}
	o.publish(self(cfg).Job("after"), frame)
	if r := o.result(cfg, "after", 1); r.Status != wire.OK || r.Member != front[1].Name {
		t.Errorf("with room again: got %+v, want an answer by %s", r, front[1].Name)
	}
}

func TestR2_ADeviceThatStartsWithoutRoomLoadsOneMember(t *testing.T) {
	t.Parallel()
	addr, m := serve(t), mustMachine(t)
	m.write("proc/pressure/memory", "some avg10=40.00 avg60=3.00 avg300=1.00 total=42")
	cfg := newConfig(t, addr)
	o := operate(t, addr)
	d := start(t, cfg, m.env())
	front := o.front(cfg)
	o.until(func() bool { return len(o.events(cfg, wire.EventMemory)) == len(front)-1 }, "%d members are left out", len(front)-1)
	if e := o.events(cfg, wire.EventMemory)[0]; e.Member != front[1].Name || !strings.Contains(e.Detail, "waited for memory in 40.0 %") {
		t.Errorf("got %+v, want %s left out for the stalls", e, front[1].Name)
	}
	o.publish(self(cfg).Job("frame"), job(t, patient, pngFrame(t, 0)))
	if r := o.result(cfg, "frame", 1); r.Status != wire.OK || r.Member != front[0].Name {
		t.Errorf("got %+v, want an answer by %s", r, front[0].Name)
	}
	d.stop()
}
