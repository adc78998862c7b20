package agent_test

import (
	"context"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/broker-config/brokertest"
)

// soak is a device that stays, and its client.
type soak struct {
	tb     testing.TB
	device *process
	cable  *cable
	client *client
	jobs   int
}

func newSoak(tb testing.TB) *soak {
	tb.Helper()
	m := brokertest.StartMosquitto(tb, append([]string{"log_type none", "log_type information"}, wideWindow...)...)
	c, through := lay(tb, m.Addr)
	cfg := newConfig(tb, through)
	cfg.LogLevel = "warn"
	s := &soak{tb: tb, cable: c, client: openLedger(tb, m.Addr, self(cfg))}
	s.device = launch(tb, cfg, envSimulated+"=50us")
	s.online(1)
	return s
}

// online returns when the connection with a number, or a later one, is told of.
func (s *soak) online(number uint64) {
	s.tb.Helper()
	up := func() bool { return s.client.state.State == wire.Online && s.client.state.ConnSeq >= number }
	if !s.client.until(patience, up) {
		s.tb.Fatalf("connection %d does not come; got %+v", number, s.client.state)
	}
}

// run has so many more jobs answered, evenly over so many new connections.
func (s *soak) run(jobs, connections int) {
	s.tb.Helper()
	ctx, end := context.WithCancel(s.tb.Context())
	defer end()
	for n := range jobs {
		if n%max(1, jobs/10) == 0 {
			s.tb.Logf("%d of %d jobs, connection %d, %v", n, jobs, s.client.connection(), s.device.holds())
		}
		if connections > 0 && n%(jobs/connections) == 0 {
			number := s.client.connection()
			s.cable.reset()
			s.online(number + 1)
		}
		s.client.job(ctx, fmt.Sprintf("soak-%d", s.jobs), s.jobs%pictures)
		s.jobs++
		s.answered(200)
	}
	s.answered(0)
}

// answered returns when no more jobs than that wait for an answer.
func (s *soak) answered(most int) {
	s.tb.Helper()
	if !s.client.until(patience, func() bool { return s.client.open <= most }) {
		s.tb.Fatalf("%d jobs have no answer; the device's log:\n%s", s.client.open, tail(s.device.log.String()))
	}
}

// connection is the number of the last one.
func (c *client) connection() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state.ConnSeq
}

// holding is what a device holds of the machine, at the least of some looks, as what is
// under way comes and goes: for so long, and then until it fits, or not for a while. The
// MQTT library may hold the sender of a connection that broke for half a minute, and the
// outbox what it wrote last for a minute.
func (s *soak) holding(long time.Duration, fits func(held) bool) (least held) {
	s.tb.Helper()
	least = s.device.holds()
	for began := time.Now(); ; <-time.After(200 * time.Millisecond) {
		h, since := s.device.holds(), time.Since(began)
		least = least.least(h)
		if since > long && (fits(least) || since > long+2*patience) {
			return least
		}
	}
}

// bytesAnID is what is kept in memory of an answered id, beside its answer on the disk.
const bytesAnID = 250

// allowed is what a device may hold that held this before: memory within 2 %, and what
// ids take that are newly remembered. What is resident is judged after a long beginning
// and without the race detector, which keeps books of its own of all memory.
func (h held) allowed(ids int) held {
	more := func(bytes int) int { return bytes*102/100 + bytesAnID*ids }
	most := held{more(h.Heap), more(h.Own), more(h.Mapped), h.Goroutines + soakHeld, h.Files}
	if !soakResident || raced {
		most.Own, most.Mapped = math.MaxInt/2, math.MaxInt/2
	}
	return most
}

// fits tells whether each is at most what is allowed.
func (h held) fits(most held) bool {
	return h == h.least(most)
}

// The answers of an hour are remembered, 100,000 at most: before there are as many, an
// id takes some bytes.
func TestR6_JobsAndReconnectsLeaveNothingBehind(t *testing.T) {
	t.Parallel()
	s := newSoak(t)
	s.run(soakBefore, 5)
	before := s.holding(soakRest, func(held) bool { return true })
	s.run(soakJobs, soakConnections)
	most := before.allowed(max(0, min(100_000, s.jobs)-soakBefore))
	after := s.holding(0, func(h held) bool { return h.fits(most) })
	t.Logf("before %d jobs and %d connections: %v; after: %v", soakJobs, soakConnections, before, after)
	if !after.fits(most) {
		t.Errorf("got %+v, want at most %+v", after, most)
	}
	s.device.stop()
}
