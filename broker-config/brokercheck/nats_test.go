package brokercheck

import (
	"testing"

	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
	brokerconfig "github.com/limber-edge/limber/broker-config"
	"github.com/limber-edge/limber/broker-config/natstest"
)

func TestMain(m *testing.M) {
	natstest.Main()
	m.Run()
}

// natsFolder has the configuration that is shipped.
const natsFolder = "../nats"

func natsCluster(tb testing.TB) Config {
	c := natstest.Start(tb, natsFolder, []string{"cam.1"})
	cfg := Config{Operator: c.Broker(wire.Operator, 0), Device: c.Broker("cam.1", 1)}
	var err error
	if cfg.Name, err = DeviceName(cfg.Device); err != nil {
		tb.Fatal(err)
	}
	return cfg
}

func TestOnTheShippedNATS(t *testing.T) {
	t.Parallel()
	cluster := natstest.Start(t, natsFolder, []string{"cam.1", "cam.2"})
	t.Run("each user may do what the access list says", func(t *testing.T) { eachMayDoWhatTheListSays(t, cluster) })
	t.Run("a certificate cannot take another user's name", func(t *testing.T) { noneTakesAName(t, cluster) })
}

// eachMayDoWhatTheListSays asks the server and the list.
func eachMayDoWhatTheListSays(t *testing.T, cluster *natstest.Cluster) {
	acl, err := brokerconfig.DefaultACL()
	if err != nil {
		t.Fatal(err)
	}
	topics := []string{"@all/desired", "@all/cmd/mode/1", "@lab/desired"}
	for _, device := range []string{"cam.1", "cam.2", wire.Viewer} {
		for _, rest := range []string{"state", "caps", "result/1", "ack/mode/1", "event/fault", "telemetry", "sync", "job/1",
			"frame/front", "cmd/mode/1", "desired", "synced", "state/x"} {
			topics = append(topics, device+"/"+rest)
		}
	}
	watcher, err := probe{Config{Operator: cluster.Broker(wire.Operator, 2)}}.open(t.Context(), "watcher", subscribed(everything))
	if err != nil {
		t.Fatal(err)
	}
	defer watcher.close()
	for _, user := range []string{"cam.1", wire.Operator, wire.Viewer} {
		p := probe{Config{Operator: cluster.Broker(user, 0)}}
		var allowed []string
		for _, rest := range topics {
			name := wire.Root + "/" + Fleet + "/" + rest
			if p.mustAsk(t, name) != acl.Allow(user, user, name, brokerconfig.Subscribe) {
				t.Errorf("%s subscribes to %s: NATS and the access list do not agree", user, name)
			}
			if acl.Allow(user, user, name, brokerconfig.Write) {
				allowed = append(allowed, name)
			}
		}
		watcher.sees(t, p, user, topics, allowed)
	}
}

// mustAsk tells whether the broker grants a subscription.
func (p probe) mustAsk(tb testing.TB, filter string) bool {
	tb.Helper()
	c, err := p.open(tb.Context(), "asker", subscribed(filter))
	if err != nil {
		tb.Fatal(err)
	}
	defer c.close()
	return c.Counts().Denied == 0
}

// sees has the user publish to all topics and complains unless those that are allowed
// come, and no other.
func (c *client) sees(tb testing.TB, p probe, user string, topics, allowed []string) {
	tb.Helper()
	u, err := p.open(tb.Context(), "publisher")
	if err != nil {
		tb.Fatal(err)
	}
	defer u.close()
	for _, rest := range topics {
		m := mqtt.Message{Topic: wire.Root + "/" + Fleet + "/" + rest, QoS: 1, Payload: []byte(user)}
		if err := u.Publish(tb.Context(), m); err != nil {
			tb.Fatalf("%s publishes to %s: %v", user, m.Topic, err)
		}
	}
	messages, err := c.pending(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	got, want := map[string]bool{}, map[string]bool{}
	for _, m := range messages {
		got[m.Topic] = true
	}
	for _, t := range allowed {
		want[t] = true
	}
	for _, rest := range topics {
		if t := wire.Root + "/" + Fleet + "/" + rest; got[t] != want[t] {
			tb.Errorf("%s publishes to %s: passes %v, the access list says %v", user, t, got[t], want[t])
		}
	}
}

func noneTakesAName(t *testing.T, cluster *natstest.Cluster) {
	b := cluster.Broker("cam.1", 0)
	b.User = "CN=" + wire.Operator
	if (probe{Config{Operator: b}}).mustAsk(t, everything) {
		t.Error("the device cam.1 may read everything by the operator's name")
	}
	b = cluster.Broker(wire.Operator, 0)
	b.CertFile, b.KeyFile, b.User = "", "", "CN="+wire.Operator
	if c, err := (probe{Config{Operator: b}}).open(t.Context(), "nobody"); err == nil {
		c.close()
		t.Error("without a certificate one is the operator by his name")
	}
}
