package agent_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/config"
	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
	brokerconfig "github.com/limber-edge/limber/broker-config"
	"github.com/limber-edge/limber/broker-config/brokertest"
	"github.com/limber-edge/limber/broker-config/devbroker"
)

// brokers runs f with each broker that a device meets.
func brokers(t *testing.T, f func(t *testing.T, addr string)) {
	t.Run("mosquitto", func(t *testing.T) {
		t.Parallel()
		f(t, brokertest.StartMosquitto(t).Addr)
	})
	t.Run("devbroker", func(t *testing.T) {
		t.Parallel()
		f(t, serve(t))
	})
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// serve runs the embedded broker until the test ends, in a process of its own:
// its library has a data race over retained messages, which is not ours.
func serve(tb testing.TB) (addr string) {
	tb.Helper()
	return serveWith(tb, "shipped")
}

// serveWith is serve with an access list from a file, or the shipped one.
func serveWith(tb testing.TB, list string) (addr string) {
	tb.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), envBroker+"="+list)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait() // reports the kill
	})
	if _, err := fmt.Fscanln(out, &addr); err != nil {
		tb.Fatalf("embedded broker: %v", err)
	}
	return addr
}

// beBroker prints its address and serves until it is killed.
func beBroker(list string) error {
	cfg := devbroker.Config{Listen: "127.0.0.1:0"}
	if list != "shipped" {
		file, err := os.Open(list)
		if err != nil {
			return err
		}
		defer file.Close()
		if cfg.ACL, err = brokerconfig.ParseACL(file); err != nil {
			return err
		}
	}
	b, err := devbroker.New(cfg, discard())
	if err != nil {
		return err
	}
	fmt.Println(b.Addr())
	return b.Run(context.Background())
}

// run calls f with a context that ends with the test, if end is not called before, and
// waits for it.
func run(tb testing.TB, f func(context.Context) error) (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f(ctx) }()
	end = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			tb.Error(err)
		}
	})
	tb.Cleanup(end)
	return end
}

// operator publishes to devices and keeps all that they publish.
type operator struct {
	tb        testing.TB
	broker    string
	link      *mqtt.Link
	connected chan struct{}
	leave     func()

	mu   sync.Mutex
	got  []mqtt.Message
	more chan struct{} // closed when there is another
}

// operate connects an operator that subscribes to everything, and to where the
// results of cameras may go.
func operate(tb testing.TB, broker string) *operator {
	tb.Helper()
	cfg := mqtt.Default()
	cfg.Broker, cfg.CleanSession = broker, true
	return operateAs(tb, cfg)
}

// operateAs is operate over a connection of one's own.
func operateAs(tb testing.TB, cfg mqtt.Config) *operator {
	tb.Helper()
	o := &operator{tb: tb, broker: cfg.Broker, connected: make(chan struct{}, 1), more: make(chan struct{})}
	cfg.ClientID = "operator-" + fleet.NewID()
	cfg.BackoffMin, cfg.BackoffMax = 10*time.Millisecond, 50*time.Millisecond
	cfg.Subscriptions = []mqtt.Subscription{{Filter: "limber/#", QoS: 1}, {Filter: "seen/#", QoS: 1}}
	var err error
	if o.link, err = mqtt.New(cfg, o, discard()); err != nil {
		tb.Fatal(err)
	}
	o.leave = run(tb, o.link.Run)
	o.awaitConnection()
	return o
}

func (o *operator) Connected(uint64, bool) {
	select {
	case o.connected <- struct{}{}:
	default: // nobody waited for the one before
	}
}

func (o *operator) Denied([]string) {}
func (o *operator) Lost(error)      {}

func (o *operator) Receive(m mqtt.Message, ack func()) {
	ack()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.got = append(o.got, m)
	close(o.more)
	o.more = make(chan struct{})
}

// awaitConnection returns at the first connection, or at the next one.
func (o *operator) awaitConnection() {
	o.tb.Helper()
	select {
	case <-o.connected:
	case <-time.After(patience):
		o.tb.Fatal("the operator is not connected")
	}
}

// publish sends a message, QoS 1, and waits for the broker.
func (o *operator) publish(topic string, payload []byte) {
	o.tb.Helper()
	o.publishAs(mqtt.Message{Topic: topic, Payload: payload, QoS: 1})
}

func (o *operator) publishAs(m mqtt.Message) {
	o.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := o.link.Publish(ctx, m); err != nil {
		o.tb.Fatalf("publish to %s: %v", m.Topic, err)
	}
}

// matching returns the messages that fit a filter without wildcards but for a
// last #.
func (o *operator) matching(filter string) []mqtt.Message {
	o.mu.Lock()
	defer o.mu.Unlock()
	var found []mqtt.Message
	for _, m := range o.got {
		if prefix, ok := strings.CutSuffix(filter, "#"); m.Topic == filter || ok && strings.HasPrefix(m.Topic, prefix) {
			found = append(found, m)
		}
	}
	return found
}

// until waits for done, which is asked again after each message.
func (o *operator) until(done func() bool, what string, args ...any) {
	o.tb.Helper()
	late := time.After(patience)
	for {
		o.mu.Lock()
		more := o.more
		o.mu.Unlock()
		if done() {
			return
		}
		select {
		case <-more:
		case <-late:
			o.tb.Fatalf("did not happen: "+what, args...)
		}
	}
}

// await returns the nth message, from 1, that fits the filter.
func (o *operator) await(filter string, n int) mqtt.Message {
	o.tb.Helper()
	o.until(func() bool { return len(o.matching(filter)) >= n }, "message %d of %s", n, filter)
	return o.matching(filter)[n-1]
}

// fence returns when all that the broker had before has come.
func (o *operator) fence() {
	o.tb.Helper()
	topic := "limber/fence/" + fleet.NewID()
	o.publish(topic, nil)
	o.await(topic, 1)
}

// decoded reads a payload as strictly as a device would.
func decoded[M any](tb testing.TB, m mqtt.Message) M {
	tb.Helper()
	var v M
	if err := wire.Decode(m.Payload, &v); err != nil {
		tb.Fatalf("%s: %v in %s", m.Topic, err, m.Payload)
	}
	return v
}

// result waits for the nth result of a job.
func (o *operator) result(cfg config.Config, id string, n int) wire.Result {
	o.tb.Helper()
	return decoded[wire.Result](o.tb, o.await(self(cfg).Result(id), n))
}

// presence waits for a state of the device, after the first n messages on its
// topic.
func (o *operator) presence(cfg config.Config, want wire.Presence, n int) wire.State {
	o.tb.Helper()
	var last wire.State
	o.until(func() bool {
		for _, m := range o.matching(self(cfg).State())[min(n, len(o.matching(self(cfg).State()))):] {
			if last = decoded[wire.State](o.tb, m); last.State == want {
				return true
			}
		}
		return false
	}, "device %s is %s", cfg.Device, want)
	return last
}

// telemetry waits for one that has what is asked for.
func (o *operator) telemetry(cfg config.Config, fits func(wire.Telemetry) bool, what string, args ...any) wire.Telemetry {
	o.tb.Helper()
	var last wire.Telemetry
	o.until(func() bool {
		all := o.matching(self(cfg).Telemetry())
		if len(all) == 0 {
			return false
		}
		last = decoded[wire.Telemetry](o.tb, all[len(all)-1])
		return fits(last)
	}, "telemetry in which "+what, args...)
	return last
}

// identical fails unless all results of a job have the same bytes, and returns
// how many there are.
func (o *operator) identical(cfg config.Config, id string) int {
	o.tb.Helper()
	all := o.matching(self(cfg).Result(id))
	for _, m := range all[1:] {
		if !bytes.Equal(m.Payload, all[0].Payload) {
			o.tb.Errorf("job %s has two answers:\n%s\n%s", id, all[0].Payload, m.Payload)
		}
	}
	return len(all)
}

// command sends a command and returns the last state it tells of.
func (o *operator) command(cfg config.Config, target, verb, id, payload string) wire.Ack {
	o.tb.Helper()
	topic := self(cfg).Ack(verb, id)
	n := len(o.matching(topic))
	o.publish(wire.Address{Fleet: cfg.Fleet, Device: target}.Cmd(verb, id), []byte(payload))
	return o.final(topic, n)
}

// final waits for a last state of a command, after the first n messages on its
// topic.
func (o *operator) final(topic string, n int) wire.Ack {
	o.tb.Helper()
	var last wire.Ack
	o.until(func() bool {
		all := o.matching(topic)
		for _, m := range all[min(n, len(all)):] {
			if last = decoded[wire.Ack](o.tb, m); last.State.Final() {
				return true
			}
		}
		return false
	}, "last state on %s", topic)
	return last
}

func self(cfg config.Config) wire.Address {
	return wire.Address{Fleet: cfg.Fleet, Device: cfg.Device}
}

func encoded(tb testing.TB, v any) []byte {
	tb.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// ids returns n names.
func ids(prefix string, n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("%s-%04d", prefix, i)
	}
	return names
}
