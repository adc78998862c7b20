package agent_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/limber-edge/limber/agent"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/resident"
)

// wideShelf stands in for processors that this machine has not: two threads are
// far faster, three far slower, and four make the second member faster than the
// first.
type wideShelf struct {
	*resident.Shelf
	threads int
}

func wide(parts *agent.Parts, real func(int) agent.Shelf) func(int) agent.Shelf {
	return func(n int) agent.Shelf { return wideShelf{real(n).(*resident.Shelf), n} }
}

func (s wideShelf) Profile(ctx context.Context, sessions []family.Session) (*family.Profile, error) {
	p, err := s.Shelf.Profile(ctx, sessions)
	if err != nil {
		return nil, err
	}
	factor := map[int]float64{2: 0.01, 3: 100, 4: 0.01}[s.threads]
	for i := range p.Members {
		p.Members[i].P50ms *= factor
	}
	if s.threads == 4 {
		p.Members[0].P50ms = 2 * p.Members[1].P50ms
	}
	return p, nil
}

// threadsOf are those of the device's profile in its newest capabilities.
func threadsOf(t *testing.T, o *operator, cfg agent.Config) int {
	t.Helper()
	all := o.matching(self(cfg).Caps())
	if len(all) == 0 {
		return 0
	}
	if p := decoded[wire.Caps](t, all[len(all)-1]).Profile; p != nil {
		return p.Threads
	}
	return 0
}

func TestACrewWithMoreThreadsServesWhileOthersLeaveProcessorsFree(t *testing.T) {
	t.Parallel()
	addr, m := serve(t), mustMachine(t)
	o, cfg, d := online(t, addr, m.env(), envCores+"=3")
	frame, seconds, others := rawJob(`{"deadline_ms":600000,"min_top1":0.88}`, pngFrame(t, 0)), 0, 0
	d.awaitLog("ready", 1)
	sent := []string{}
	until := func(threads, percent int) { // a frame after the other meanwhile, and machine seconds pass
		o.until(func() bool {
			seconds++
			others += percent
			m.work(d.cmd.Process.Pid, seconds, others)
			if n := len(sent); n == 0 || len(o.matching(self(cfg).Result(sent[n-1]))) > 0 {
				sent = append(sent, ids("frame", n+1)[n])
				o.publish(self(cfg).Job(sent[n]), frame)
			}
			return threadsOf(t, o, cfg) == threads
		}, "%d threads while others use %d %% of the processors", threads, percent)
	}
	until(2, 0)
	first := len(sent) // before, members may have been loading
	until(1, 60)
	for i, id := range sent {
		if r := o.result(cfg, id, 1); i >= first && r.Status != wire.OK || o.identical(cfg, id) != 1 {
			t.Errorf("%s: got %+v, want one answer", id, r)
		}
	}
	o.until(func() bool {
		return providerSays(t, o, cfg, "cpu/2 took over from cpu/1 with ") && providerSays(t, o, cfg, "cpu/1 took over from cpu/2 with ")
	}, "events of both changes")
}

// providerSays tells whether there was an event of kind provider that begins so.
func providerSays(t *testing.T, o *operator, cfg agent.Config, text string) bool {
	t.Helper()
	return slices.ContainsFunc(o.matching(self(cfg).Event(wire.SeverityInfo)), func(m mqtt.Message) bool {
		e := decoded[wire.Event](t, m)
		return e.Kind == wire.EventProvider && strings.HasPrefix(e.Detail, text)
	})
}

func TestAFixedMemberThatMoreThreadsMakeNotWorthwhileStaysFixed(t *testing.T) {
	t.Parallel()
	addr, m := serve(t), mustMachine(t)
	cfg := newConfig(t, addr)
	cfg.Mode = "fixed:5.8M"
	o := operate(t, addr)
	d := start(t, cfg, m.env(), envCores+"=5")
	o.presence(cfg, wire.Online, 0)
	seconds := 0
	o.until(func() bool {
		seconds++
		m.work(d.cmd.Process.Pid, seconds, 0)
		return d.logged("mode keeps the number of threads")
	}, "the mode keeps the number of threads")
	o.telemetry(cfg, func(s wire.Telemetry) bool { return s.Mode == cfg.Mode && s.Member == "5.8M" }, "the mode stays")
	if n := threadsOf(t, o, cfg); n != 1 {
		t.Errorf("got %d threads, want 1", n)
	}
}

func TestMoreThreadsThatAreOfNoUseAreGivenUp(t *testing.T) {
	t.Parallel()
	addr, m := serve(t), mustMachine(t)
	o, cfg, d := online(t, addr, m.env(), envCores+"=4")
	seconds := 0
	o.until(func() bool {
		seconds++
		m.work(d.cmd.Process.Pid, seconds, 0)
		return providerSays(t, o, cfg, "3 threads are of no use here: an inference by ")
	}, "three threads are given up")
	if n := threadsOf(t, o, cfg); n != 1 {
		t.Errorf("got %d threads, want 1", n)
	}
}
