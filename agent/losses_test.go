package agent_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/config"
	"github.com/limber-edge/limber/agent/wire"
)

// unwritten is how long nothing came to the outbox.
func (s *storm) unwritten() time.Duration {
	s.tb.Helper()
	files, err := filepath.Glob(filepath.Join(s.cfg.State, "outbox.*"))
	if err != nil || len(files) == 0 {
		s.tb.Fatalf("outbox: got %v, %v", files, err)
	}
	least := time.Hour
	for _, name := range files {
		if info, err := os.Stat(name); err == nil {
			least = min(least, time.Since(info.ModTime()))
		}
	}
	return least
}

// Jobs of QoS 0 come once, so that none is run again whose result was lost. Long names
// make large results: some hundreds fill the outbox.
func TestS8_LossesAreToldInFullThroughKillsAndBrokenLinks(t *testing.T) {
	t.Parallel()
	s := newStorm(t, func(cfg *config.Config) {
		cfg.Fleet, cfg.Device = strings.Repeat("f", 64), strings.Repeat("d", 64)
		cfg.Mode, cfg.Outbox.MiB, cfg.Jobs.Queue = "fixed:5.8M", 1, 5000
	})
	c, r := s.client, s.source(5)
	s.each = "2ms"
	p := s.first()
	const jobs = 2500
	for _, id := range ids(strings.Repeat("j", 59), jobs) {
		c.publish(t.Context(), c.self.Result(id), &entry{topic: c.self.Job(id), payload: grey(0)})
	}
	var last wire.Telemetry
	if !c.until(patience, func() bool { last = c.last; return last.Jobs == jobs }) || last.Queue < 1500 {
		t.Fatalf("got %+v, want %d jobs, most of them waiting", last, jobs)
	}
	s.network.cut()
	for s.unwritten() < 3*time.Second { // until all are answered
		idle(t.Context(), 100*time.Millisecond)
	}
	for range 5 {
		s.end(p, true)
		p = s.spawn()
		s.network.mend()
		idle(t.Context(), time.Duration(r.Int64N(int64(300*time.Millisecond))))
		s.network.cut()
	}
	s.network.mend()
	s.rest(p)
	if got := s.count(); got.Gaps == 0 || got.Answered != got.Accepted-int(got.Gaps) {
		t.Errorf("seed %d: got %+v, want as many told to be lost as have no answer: %v", s.seed, got, c.gaps)
	}
}
