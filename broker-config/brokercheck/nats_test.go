package brokercheck

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
	brokerconfig "github.com/limber-edge/limber/broker-config"
	"github.com/limber-edge/limber/broker-config/natstest"
)

func natsCluster(tb testing.TB) Config {
	c := natstest.Start(tb, []string{"cam.1"})
	cfg := Config{Operator: c.Broker(wire.Operator, 0), Device: c.Broker("cam.1", 1)}
	var err error
	if cfg.Name, err = DeviceName(cfg.Device); err != nil {
		tb.Fatal(err)
	}
	return cfg
}

func TestOnTheShippedNATS(t *testing.T) {
	t.Parallel()
	cluster := natstest.Start(t, []string{"cam.1", "cam.2"})
	t.Run("each user may do what the access list says", func(t *testing.T) { eachMayDoWhatTheListSays(t, cluster) })
	t.Run("a certificate cannot take another user's name", func(t *testing.T) { noneTakesAName(t, cluster) })
	t.Run("the certificate of a device or of the operator makes no node", func(t *testing.T) {
		for _, name := range []string{"cam.1", wire.Operator} {
			if said := join(t, cluster, name); !strings.Contains(said, "-ERR") {
				t.Errorf("%s: the node said %q, want an error", name, said)
			}
		}
		if said := join(t, cluster, "server"); strings.Contains(said, "-ERR") {
			t.Errorf("a node: another one said %q", said)
		}
	})
	t.Run("the certificate of a node is no user's", func(t *testing.T) {
		if c, err := (probe{Config{Operator: cluster.Broker("server", 0)}}).open(t.Context(), "node"); err == nil {
			c.close()
			t.Error("the broker's own certificate was let in")
		}
	})
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
	operator := probe{Config{Operator: cluster.Broker(wire.Operator, 0)}}
	watcher, err := operator.open(t.Context(), "watcher", subscribed(everything, "homeassistant/#", "limber-ha/#"))
	if err != nil {
		t.Fatal(err)
	}
	defer watcher.close()
	for i, rest := range topics {
		topics[i] = wire.Root + "/" + Fleet + "/" + rest
	}
	topics = append(topics, "homeassistant/status", "homeassistant/device/limber-yard-cam/config",
		"limber-ha/"+Fleet+"/cam.1/mode/set", "limber-ha/"+Fleet+"/cam.1/goal/set")
	for _, user := range []string{"cam.1", wire.Operator, wire.Viewer, wire.HomeAssistant} {
		reads, writes := map[string]bool{}, map[string]bool{}
		for _, t := range topics {
			reads[t] = acl.Allow(user, user, t, brokerconfig.Subscribe)
			writes[t] = acl.Allow(user, user, t, brokerconfig.Write)
		}
		p := probe{Config{Operator: cluster.Broker(user, 0)}}
		u, err := p.open(t.Context(), "user", subscribed(topics...), atMostOnce)
		if err != nil {
			t.Fatal(err)
		}
		u.gets(t, watcher, topics, reads)
		watcher.gets(t, u, topics, writes)
		u.close()
	}
}

// gets has another client publish to the topics, and complains unless those that are
// allowed come from it, and no other.
func (c *client) gets(tb testing.TB, from *client, topics []string, allowed map[string]bool) {
	tb.Helper()
	for len(c.arrived) > 0 {
		<-c.arrived
	}
	for _, t := range topics {
		if err := from.Publish(tb.Context(), mqtt.Message{Topic: t, QoS: 1, Payload: []byte(t)}); err != nil {
			tb.Fatalf("publish to %s: %v", t, err)
		}
	}
	got := map[string]bool{}
	for rest := time.After(time.Second); ; {
		select {
		case m := <-c.arrived:
			got[m.Topic] = true
			continue
		case <-rest:
		}
		break
	}
	for _, t := range topics {
		if got[t] != allowed[t] {
			tb.Errorf("%s passes: %v, the access list says %v", t, got[t], allowed[t])
		}
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

// join comes to a node as another one would, with the certificate of a name, and
// returns what it says.
func join(tb testing.TB, cluster *natstest.Cluster, name string) (said string) {
	tb.Helper()
	b := cluster.Broker(name, 0)
	pair, err := tls.LoadX509KeyPair(b.CertFile, b.KeyFile)
	if err != nil {
		tb.Fatal(err)
	}
	raw, err := net.Dial("tcp", cluster.Routes[0])
	if err != nil {
		tb.Fatal(err)
	}
	defer raw.Close()
	raw.SetDeadline(time.Now().Add(10 * time.Second))
	conn := tls.Client(raw, &tls.Config{Certificates: []tls.Certificate{pair}, InsecureSkipVerify: true})
	fmt.Fprint(conn, "CONNECT {\"name\":\"stranger\",\"cluster\":\"limber\",\"headers\":true}\r\nPING\r\n")
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		if said += lines.Text(); strings.Contains(said, "PONG") {
			break
		}
	}
	return said
}
