//go:build torture

package agent_test

import (
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/broker-config/brokertest"
)

// times is how much longer the bursts of these tests are here.
const times = 4

// A soak begins with so many jobs, and then holds what is left behind by others. The
// store's list of the 100,000 answers that it remembers has room for three times as many
// before it is tidied, and grows until then.
const (
	soakBefore, soakJobs, soakConnections = 310_000, 100_000, 1000
	soakRest                              = 65 * time.Second
	soakHeld                              = 0    // goroutines
	soakResident                          = true // whether resident memory is judged
)

// sites are where devices are killed.
func sites() map[string]func(testing.TB) site {
	return map[string]func(testing.TB) site{"mosquitto": steady, "mosquitto restarted": restarted,
		"NATS with nodes killed": clustered}
}

func TestN2_AnswersOfRealMembersSurviveManyKills(t *testing.T) {
	t.Parallel()
	m := brokertest.StartMosquitto(t, wideWindow...)
	cfg := newRealConfig(t, m.Addr)
	cfg.Mode = "max-accuracy"
	o := operate(t, m.Addr)
	p := launch(t, cfg)
	o.presence(cfg, wire.Online, 0)
	names := ids("job", 800)
	o.burst(cfg, names, job(t, patient, pngFrame(t, 0)))
	var told int
	for range 8 {
		more := min(len(names), o.jobsAnswered(cfg)+20)
		o.until(func() bool { return o.jobsAnswered(cfg) >= more }, "%d jobs are answered", more)
		p.kill()
		told = len(o.matching(self(cfg).State()))
		p = launch(t, cfg)
	}
	o.presence(cfg, wire.Online, told)
	o.until(func() bool { return o.jobsAnswered(cfg) == len(names) }, "every job is answered")
	p.stop()
	o.presence(cfg, wire.Offline, 0)
}

// comparedFrames is how many frames both families answer.
const comparedFrames = 1000
