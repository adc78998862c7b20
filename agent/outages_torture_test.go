//go:build torture

package agent_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/broker-config/brokertest"
	"github.com/limber-edge/limber/broker-config/natstest"
)

// lasting is a connection that may break, and is soon made again: NATS says nothing to
// who comes while its nodes choose who leads.
func lasting(cfg mqtt.Config) mqtt.Config {
	cfg.CleanSession = false
	cfg.BackoffMin, cfg.BackoffMax = 10*time.Millisecond, 50*time.Millisecond
	cfg.ConnectTimeout = 2 * time.Second
	return cfg
}

// restarts are of a mosquitto that is stopped in order, as systemd does, and writes what
// it keeps then. Killed, it would lose what it acknowledged since it wrote last, half an
// hour as it comes: that is not the device's to answer for.
type restarts struct {
	*brokertest.Mosquitto
	down bool
}

func (b *restarts) turn(*rand.Rand) {
	if b.down {
		b.Start()
	} else {
		b.Stop()
	}
	b.down = !b.down
}

func (b *restarts) heal() {
	if b.down {
		b.turn(nil)
	}
}

// restarted is a mosquitto that keeps what it has on the disk.
func restarted(tb testing.TB) site {
	tb.Helper()
	m := brokertest.StartMosquitto(tb, "allow_anonymous true", "max_inflight_messages 100", "max_queued_messages 0",
		"persistence true", "persistence_location "+tb.TempDir()+"/")
	return site{cfg: newConfig(tb, m.Addr), addrs: []string{m.Addr}, ledger: lasting(passing(m.Addr)),
		broker: &restarts{m, false}}
}

// nodes are of a cluster, of which one may be away at a time.
type nodes struct {
	tb      testing.TB
	cluster *natstest.Cluster
	down    int // the one that is; -1: none
}

func (b *nodes) turn(r *rand.Rand) {
	b.tb.Helper()
	defer func() { b.tb.Logf("%v: node %d is down; -1: none", time.Now().UTC().Format(time.StampMilli), b.down) }()
	if b.down >= 0 {
		b.cluster.Restart(b.tb, b.down)
		b.down = -1
	} else {
		b.down = r.IntN(natstest.Nodes)
		b.cluster.Kill(b.down)
	}
}

func (b *nodes) heal() {
	b.tb.Helper()
	if b.down >= 0 {
		b.turn(nil)
	}
}

// clustered is a NATS cluster, of which the nodes are killed as a power cut would. NATS up
// to 2.15 loses messages it has taken: where a connection ends while the node restores its
// session, it deletes the consumer of a filter for good, and goes on granting the filter.
func clustered(tb testing.TB) site {
	tb.Helper()
	c := natstest.Start(tb, []string{"cam-1"}, soon...)
	client, err := c.Broker(wire.Operator, 0).Config("")
	if err != nil {
		tb.Fatal(err)
	}
	cfg, r := clusterConfig(tb, c, "cam-1", 0), &record{tb: tb, passed: map[string][]passage{}}
	var addrs []string
	for i, addr := range c.Addrs {
		addrs = append(addrs, r.read(tb, cfg.Broker.Broker, i, addr))
	}
	return site{cfg: cfg, scheme: "mqtts://", addrs: addrs, ledger: lasting(client),
		broker: &nodes{tb, c, -1}, unordered: true,
		lost: func(topic string) (lost bool, how string) {
			waits, how := c.Waits(tb, cfg.Device, topic)
			acknowledged, passed := r.of(topic)
			return !waits && !acknowledged, fmt.Sprintf("passed to the device: %v\n%s", passed, how)
		}}
}
