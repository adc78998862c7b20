// Package natstest runs a NATS cluster for tests, from the files in broker-config/nats
// with other ports and folders: three nodes, each a process of its own, which is the
// test's program started again, so that one can be killed as a power cut does.
//
// The certificates and the permissions are those that `limber broker certs` and
// `limber broker acl` write.
package natstest

import (
	"bufio"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
	brokerconfig "github.com/limber-edge/limber/broker-config"
	"github.com/limber-edge/limber/broker-config/brokertest"
	"github.com/limber-edge/limber/broker-config/certs"
)

// envNode makes the test's program a node of a configuration file.
const envNode = "LIMBER_TEST_NATS"

// Nodes is how many a cluster has.
const Nodes = 3

// ready is what a node says when it serves.
const ready = "ready"

// Main is the first call of a TestMain: in a node's process it runs the node and does
// not return.
func Main() {
	path := os.Getenv(envNode)
	if path == "" {
		return
	}
	fmt.Fprintln(os.Stderr, runNode(path))
	os.Exit(1)
}

// runNode runs until the process is killed, or its standard input ends.
func runNode(path string) error {
	opts, err := server.ProcessConfigFile(path)
	if err != nil {
		return err
	}
	s, err := server.NewServer(opts)
	if err != nil {
		return err
	}
	s.ConfigureLogger()
	go s.Start()
	if !s.ReadyForConnections(time.Minute) {
		return errors.New("no node within a minute")
	}
	for range time.Tick(20 * time.Millisecond) {
		if s.JetStreamIsCurrent() || s.JetStreamIsLeader() {
			break
		}
	}
	fmt.Println(ready)
	bufio.NewReader(os.Stdin).ReadByte() // returns when the test's process is gone
	return errors.New("the test ended")
}

// Cluster is what runs. Its methods are for the test's goroutine.
type Cluster struct {
	Addrs  []string // host:port of MQTT, by node
	Routes []string // host:port by which the nodes reach each other, likewise
	looks  []string // host:port where a node says what it has, likewise
	certs  string   // folder
	nodes  []*node
}

// node is a process of the cluster.
type node struct {
	tb     testing.TB
	config string // file
	name   string
	cmd    *exec.Cmd
	ended  chan struct{} // closed when cmd has
}

// Start runs the cluster of the files that are shipped until the test ends. It knows
// the operator, the viewer, Home Assistant and the devices given. Settings replace texts of the
// configuration, old and new in turns.
func Start(tb testing.TB, devices []string, settings ...string) *Cluster {
	tb.Helper()
	c := &Cluster{certs: filepath.Join(tb.TempDir(), "certs")}
	request := certs.Request{Dir: c.certs, Server: []string{"localhost", "127.0.0.1"}, Days: 1, Cluster: true,
		Names: map[brokerconfig.Role][]string{brokerconfig.Device: devices,
			brokerconfig.Operator: {wire.Operator}, brokerconfig.Viewer: {wire.Viewer},
			brokerconfig.HomeAssistant: {wire.HomeAssistant}}}
	if _, err := certs.Make(request, time.Now()); err != nil {
		tb.Fatal(err)
	}
	_, here, _, _ := runtime.Caller(0)
	text, err := os.ReadFile(filepath.Join(filepath.Dir(here), "..", "nats", "nats.conf"))
	if err != nil {
		tb.Fatal(err)
	}
	for range Nodes {
		c.Addrs, c.Routes = append(c.Addrs, brokertest.Reserve(tb)), append(c.Routes, brokertest.Reserve(tb))
		c.looks = append(c.looks, brokertest.Reserve(tb))
	}
	for i := range Nodes {
		n := &node{tb: tb, name: fmt.Sprintf("nats-%d", i+1)}
		n.config = c.write(tb, string(text), i, devices, settings)
		c.nodes = append(c.nodes, n)
		tb.Cleanup(n.kill)
	}
	c.awaitReady(tb, c.startAll(tb))
	return c
}

// write puts a node's files into a folder of its own.
func (c *Cluster) write(tb testing.TB, text string, i int, devices, settings []string) string {
	tb.Helper()
	dir := tb.TempDir()
	replace := []string{`listen: "0.0.0.0:4222"`, fmt.Sprintf("listen: %q\nhttp: %q", "127.0.0.1:-1", c.looks[i]),
		"0.0.0.0:8883", c.Addrs[i], "0.0.0.0:6222", c.Routes[i],
		"/etc/nats/certs", c.certs, "/var/lib/nats", filepath.Join(dir, "store")}
	for j, r := range c.Routes { // a node is known by its name
		replace = append(replace, fmt.Sprintf("nats-%d:6222", j+1), strings.Replace(r, "127.0.0.1", "localhost", 1))
	}
	replace = append(replace, settings...)
	for i := 0; i < len(replace); i += 2 {
		if !strings.Contains(text, replace[i]) {
			tb.Fatalf("the configuration does not say %q", replace[i])
		}
	}
	users, err := os.Create(filepath.Join(dir, "users.conf"))
	if err != nil {
		tb.Fatal(err)
	}
	defer users.Close()
	acl, err := brokerconfig.DefaultACL()
	if err == nil {
		err = acl.WriteNATS(users, devices, nil)
	}
	path := filepath.Join(dir, "nats.conf")
	err = errors.Join(err, os.WriteFile(path, []byte(strings.NewReplacer(replace...).Replace(text)), 0o600))
	if err != nil {
		tb.Fatal(err)
	}
	return path
}

func (c *Cluster) startAll(tb testing.TB) []<-chan error {
	tb.Helper()
	var serving []<-chan error
	for _, n := range c.nodes {
		serving = append(serving, n.start())
	}
	return serving
}

// awaitReady returns when the nodes serve: they wait for each other.
func (c *Cluster) awaitReady(tb testing.TB, serving []<-chan error) {
	tb.Helper()
	for i, s := range serving {
		if err := <-s; err != nil {
			tb.Fatalf("node %d: %v", i+1, err)
		}
	}
}

// Kill ends a node as a power cut does.
func (c *Cluster) Kill(i int) { c.nodes[i].kill() }

// Restart runs a node again that was killed, and returns when it serves.
func (c *Cluster) Restart(tb testing.TB, i int) {
	tb.Helper()
	c.awaitReady(tb, []<-chan error{c.nodes[i].start()})
}

// streamOfMQTT is where NATS keeps what comes over MQTT with QoS 1. Each filter of a
// session is a consumer there.
const streamOfMQTT = "$MQTT_msgs"

// prefixOfMQTT begins the subjects of that stream.
const prefixOfMQTT = "$MQTT.msgs."

// Waits tells whether the nodes have anything for a client's filters of a topic that it
// did not acknowledge, and what they know of those. Without a consumer nothing is kept for
// the client, whatever its session was told; what has no leader yet is taken to wait.
func (c *Cluster) Waits(tb testing.TB, client, topic string) (waits bool, how string) {
	tb.Helper()
	led := map[string]bool{} // by the consumer
	for i, n := range c.nodes {
		if n.cmd == nil {
			continue
		}
		for _, known := range c.consumers(tb, i, client, topic) {
			leads := known.Cluster != nil && known.Cluster.Leader == n.name
			led[known.Name] = led[known.Name] || leads
			waits = waits || leads && known.NumPending+uint64(known.NumAckPending) > 0
			how += fmt.Sprintf("%s, leads %v: %s, %d not passed on, %d not acknowledged, delivered %+v, acknowledged to %+v\n",
				n.name, leads, known.Config.FilterSubject, known.NumPending, known.NumAckPending, known.Delivered, known.AckFloor)
		}
	}
	for _, has := range led {
		waits = waits || !has
	}
	return waits, how
}

// consumers are those of a client's session that match a topic, as a node has them.
func (c *Cluster) consumers(tb testing.TB, node int, client, topic string) (found []*server.ConsumerInfo) {
	tb.Helper()
	var has server.JSInfo
	answer, err := http.Get("http://" + c.looks[node] + "/jsz?consumers=true&config=true")
	if err == nil {
		err = errors.Join(json.NewDecoder(answer.Body).Decode(&has), answer.Body.Close())
	}
	if err != nil {
		tb.Fatalf("what node %d has: %v", node, err)
	}
	for _, account := range has.AccountDetails {
		for _, stream := range account.Streams {
			if stream.Name == streamOfMQTT {
				found = append(found, matching(stream.Consumer, sessionHash(client)+"_", topic)...)
			}
		}
	}
	return found
}

func matching(all []*server.ConsumerInfo, owner, topic string) (found []*server.ConsumerInfo) {
	for _, known := range all {
		filter := strings.TrimPrefix(known.Config.FilterSubject, prefixOfMQTT)
		filter = strings.NewReplacer(".", "/", "*", "+", ">", "#").Replace(filter)
		if strings.HasPrefix(known.Name, owner) && mqtt.Overlap(filter, topic) {
			found = append(found, known)
		}
	}
	return found
}

// sessionHash begins the names of the consumers of a client's session (getHash in
// nats-server).
func sessionHash(client string) string {
	const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	sum := sha256.Sum256([]byte(client))
	hash := sum[:8]
	for i, b := range hash {
		hash[i] = digits[int(b)%len(digits)]
	}
	return string(hash)
}

// Broker is how the holder of a certificate reaches the nodes, the one given first.
func (c *Cluster) Broker(name string, first int) mqtt.Broker {
	file := func(ending string) string { return filepath.Join(c.certs, name+ending) }
	b := mqtt.Broker{CAFile: filepath.Join(c.certs, "ca.crt"), CertFile: file(".crt"), KeyFile: file(".key")}
	for _, addr := range slices.Concat(c.Addrs[first:], c.Addrs[:first]) {
		b.URL = append(b.URL, "mqtts://"+addr)
	}
	return b
}

// start runs the process; what comes back says when it serves.
func (n *node) start() <-chan error {
	serving := make(chan error, 1)
	exe, err := os.Executable()
	if err != nil {
		n.tb.Fatal(err)
	}
	cmd, ended, said := exec.Command(exe), make(chan struct{}), new(strings.Builder)
	cmd.Env = append(os.Environ(), envNode+"="+n.config, "NODE="+n.name)
	cmd.Stderr = said
	_, err = cmd.StdinPipe() // ends with this process
	stdout, e := cmd.StdoutPipe()
	if err = errors.Join(err, e, cmd.Start()); err != nil {
		n.tb.Fatal(err)
	}
	n.cmd, n.ended = cmd, ended
	go func() {
		defer close(ended)
		if lines := bufio.NewScanner(stdout); lines.Scan() && lines.Text() == ready {
			serving <- nil
		}
		cmd.Wait() // its log is complete then
		select {
		case serving <- errors.New(said.String()):
		default: // it served
		}
	}()
	return serving
}

func (n *node) kill() {
	if n.cmd == nil {
		return
	}
	n.cmd.Process.Kill()
	<-n.ended
	n.cmd = nil
}
