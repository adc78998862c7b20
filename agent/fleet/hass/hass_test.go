package hass

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
)

// line is a link that a test plays: what is published comes back at once, and is retained.
type line struct {
	*fleet.Client // its picture; it is never connected
	seqs          chan uint64

	mu       sync.Mutex
	bridge   *Bridge
	deaf     bool // the broker drops configurations
	down     bool
	retained map[string][]byte
	sent     []mqtt.Message
	times    []time.Time
}

// Publish implements Link.
func (l *line) Publish(_ context.Context, m mqtt.Message) error {
	l.mu.Lock()
	if l.down {
		l.mu.Unlock()
		return mqtt.ErrDown
	}
	l.sent, l.times = append(l.sent, m), append(l.times, time.Now())
	if m.Retained {
		l.retained[m.Topic] = m.Payload
	}
	deaf := l.deaf
	l.mu.Unlock()
	if m.Retained && !deaf {
		m.Retained = false
		l.bridge.Receive(m)
	}
	return nil
}

// Connection implements Link.
func (l *line) Connection(ctx context.Context, _ uint64) (uint64, error) {
	select {
	case seq := <-l.seqs:
		return seq, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// List implements Link.
func (l *line) List(context.Context) ([]fleet.Device, error) { return l.Registry().Devices(), nil }

// connect begins a connection, on which the broker tells what it retains, also before the
// link says that it stands.
func (l *line) connect(seq uint64) {
	l.bridge.Lost()
	l.mu.Lock()
	l.down = false
	retained := l.retained
	l.mu.Unlock()
	for topic, payload := range retained {
		if payload != nil {
			l.bridge.Receive(mqtt.Message{Topic: topic, Payload: payload, Retained: true})
		}
	}
	l.bridge.Connected(seq)
	l.seqs <- seq
	synctest.Wait()
}

// device has one come, with what it can do.
func (l *line) device(name string, c wire.Caps) {
	l.publish(at(name).State(), wire.State{State: wire.Online, BootID: "b", ConnSeq: 1, TS: wire.At(time.Now())})
	l.publish(at(name).Caps(), c)
}

func (l *line) publish(topic string, v any) {
	b, _ := json.Marshal(v)
	l.raw(topic, b)
}

func (l *line) raw(topic string, payload []byte) {
	l.Client.Receive(mqtt.Message{Topic: topic, Payload: payload, Retained: true}, func() {})
}

// forget clears what a device has retained.
func (l *line) forget(name string) {
	l.raw(at(name).State(), nil)
	l.raw(at(name).Caps(), nil)
}

// take returns what was published since it was called last, once nothing is under way.
func (l *line) take() (sent []mqtt.Message) {
	time.Sleep(time.Minute) // of the bubble
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	sent, l.sent = l.sent, nil
	return sent
}

// words are what a log says.
type words struct {
	mu   sync.Mutex
	text strings.Builder
}

// Write implements io.Writer.
func (w *words) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.Write(p)
}

func (w *words) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

// bridged runs a bridge in a bubble, over a line with what the broker retains.
func bridged(t *testing.T, retained map[string][]byte, test func(l *line, log *words)) {
	synctest.Test(t, func(t *testing.T) {
		cfg := mqtt.Default()
		cfg.Broker, cfg.ClientID = "mqtt://127.0.0.1:1", "test"
		c, err := fleet.Open(cfg, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		said := &words{}
		l := &line{Client: c, seqs: make(chan uint64), retained: retained}
		l.bridge = New(pier, l, slog.New(slog.NewTextHandler(said, nil)))
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- l.bridge.Run(ctx) }()
		test(l, said)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func nothing() map[string][]byte { return map[string][]byte{} }

func TestWhatIsRetainedIsNotToldAgainByAnotherStart(t *testing.T) {
	retained := nothing()
	bridged(t, retained, func(l *line, _ *words) {
		l.device("cam-1", caps())
		l.device("cam-2", caps())
		l.connect(1)
		if sent := l.take(); len(sent) != 2 || !sent[0].Retained || sent[0].QoS != 1 {
			t.Errorf("got %v, want one of each device, retained", sent)
		}
	})
	retained["homeassistant/device/other/config"] = []byte(`{"avty_t":"limber/v1/pier/cam-9/state"}`)
	retained["homeassistant/device/limber-pier-x/config"] = []byte(`{"avty_t":"limber/v1/forest/x/state"}`)
	bridged(t, retained, func(l *line, _ *words) {
		l.device("cam-1", caps()) // and cam-2 was forgotten
		other := caps()
		other.TS = wire.At(time.Now().Add(time.Hour))
		l.device("cam-1", other)
		l.connect(1)
		sent := l.take()
		if len(sent) != 1 || sent[0].Topic != configTopic(at("cam-2")) || len(sent[0].Payload) > 0 || !sent[0].Retained {
			t.Errorf("got %v, want nothing but cam-2 cleared", sent)
		}
	})
}

func TestOnlyWhatChangesIsToldAndWhatIsForgottenIsCleared(t *testing.T) {
	bridged(t, nothing(), func(l *line, _ *words) {
		l.device("cam-1", caps())
		l.connect(1)
		l.take()
		l.publish(at("cam-1").Telemetry(), wire.Telemetry{Member: "6.8M"})
		l.publish(at("cam-1").State(), wire.State{State: wire.Lost})
		if sent := l.take(); len(sent) > 0 {
			t.Errorf("got %v, want nothing: entities read that themselves", sent)
		}
		more := caps()
		more.Members = append(more.Members, wire.Member{Name: "40M", Top1: 0.9})
		l.device("cam-1", more)
		if sent := l.take(); len(sent) != 1 || !strings.Contains(string(sent[0].Payload), "fixed:40M") {
			t.Errorf("got %v, want the new member", sent)
		}
		l.forget("cam-1")
		if sent := l.take(); len(sent) != 1 || len(sent[0].Payload) > 0 || !sent[0].Retained {
			t.Errorf("got %v, want it cleared", sent)
		}
	})
}

func TestWhoeverTampersWithAConfigurationIsContradicted(t *testing.T) {
	bridged(t, nothing(), func(l *line, _ *words) {
		l.device("cam-1", caps())
		l.connect(1)
		l.take()
		for _, payload := range []string{"", `{"dev":{}}`} {
			l.bridge.Receive(mqtt.Message{Topic: configTopic(at("cam-1")), Payload: []byte(payload)})
			if sent := l.take(); len(sent) != 1 || !strings.Contains(string(sent[0].Payload), `"cmps"`) {
				t.Errorf("%q: got %v, want what it was", payload, sent)
			}
		}
	})
}

func TestHomeAssistantIsToldAnewWhenItComesAndAThousandDevicesDoNotFlood(t *testing.T) {
	bridged(t, nothing(), func(l *line, _ *words) {
		const n = 1000
		for i := range n {
			l.device(fmt.Sprintf("cam-%d", i), caps())
		}
		l.connect(1)
		if sent := l.take(); len(sent) != n {
			t.Errorf("got %d at first, want %d", len(sent), n)
		}
		l.bridge.Receive(mqtt.Message{Topic: statusTopic, Payload: []byte("offline")})
		l.bridge.Receive(mqtt.Message{Topic: statusTopic, Payload: []byte("online"), Retained: true})
		if sent := l.take(); len(sent) > 0 {
			t.Errorf("got %d, want none: it had come before, or goes", len(sent))
		}
		l.times = nil
		for range 20 { // it cannot make up its mind
			l.bridge.Receive(mqtt.Message{Topic: statusTopic, Payload: []byte("online")})
		}
		if sent := l.take(); len(sent) < n || len(sent) > 2*n {
			t.Errorf("got %d, want all %d again", len(sent), n)
		}
		for i := 1; i < len(l.times); i++ {
			if l.times[i].Sub(l.times[i-1]) < pause {
				t.Fatalf("two came within %v", l.times[i].Sub(l.times[i-1]))
			}
		}
	})
}

func TestALostConnectionIsFollowedByWhatItHeldUp(t *testing.T) {
	bridged(t, nothing(), func(l *line, _ *words) {
		l.connect(1)
		l.mu.Lock()
		l.down = true
		l.mu.Unlock()
		l.device("cam-1", caps())
		if sent := l.take(); len(sent) > 0 {
			t.Errorf("got %v without a link", sent)
		}
		l.connect(2)
		if sent := l.take(); len(sent) != 1 {
			t.Errorf("got %v, want the device", sent)
		}
		l.retained = nothing() // the broker has forgotten all
		l.connect(3)
		if sent := l.take(); len(sent) != 1 {
			t.Errorf("got %v, want it again", sent)
		}
	})
}

// setMode asks for a mode as Home Assistant does.
func (l *line) setMode(device, mode string, retained bool) {
	l.bridge.Receive(mqtt.Message{Topic: setPrefix + pier + "/" + device + "/mode/set", Payload: []byte(mode), QoS: 1,
		Retained: retained})
}

func TestEachModeIsACommandOfItsOwnThatExpires(t *testing.T) {
	bridged(t, nothing(), func(l *line, _ *words) {
		l.device("cam-1", caps())
		l.connect(1)
		l.take()
		ids := map[string]bool{}
		for range 2 {
			now := time.Now()
			l.setMode("cam-1", "fixed:6.8M", false)
			sent := l.take()
			if len(sent) != 1 {
				t.Fatalf("got %v, want a command", sent)
			}
			is, err := wire.ParseTopic(sent[0].Topic)
			var c wire.Command
			if err == nil {
				err = json.Unmarshal(sent[0].Payload, &c)
			}
			if err != nil || is.Device != "cam-1" || c.Check(is.Verb) != nil || sent[0].Retained || sent[0].QoS != 1 ||
				c.Mode != "fixed:6.8M" || c.ExpiresAt.Sub(now) > orderTTL || c.ExpiresAt.Sub(now) < orderTTL-time.Second {
				t.Errorf("got %v, %v; want the mode, for %v", sent, err, orderTTL)
			}
			ids[is.ID] = true
		}
		if len(ids) != 2 {
			t.Errorf("got ids %v, want two", ids)
		}
	})
}

func TestAModeThatNobodyCouldHaveChosenIsNotSent(t *testing.T) {
	bridged(t, nothing(), func(l *line, log *words) {
		l.device("cam-1", caps())
		l.connect(1)
		l.take()
		l.setMode("cam-1", "goal", false)
		l.take()
		l.setMode("cam-1", strings.Repeat("x", 1<<20), false)
		l.setMode("cam-9", "balanced", false)
		l.setMode("@all", "balanced", false)
		l.setMode("cam-1", "balanced", true)
		l.bridge.Receive(mqtt.Message{Topic: setPrefix + "forest/cam-1/mode/set", Payload: []byte("balanced")})
		if sent := l.take(); len(sent) > 0 {
			t.Errorf("got %v, want none", sent)
		}
		for _, want := range []string{"is none of the device's", "nothing is known of the device", "a mode is retained"} {
			if !strings.Contains(log.String(), want) {
				t.Errorf("the log lacks %q:\n%s", want, log)
			}
		}
	})
}

func TestAModeOfBeforeTheLinkWasLostForLongIsNotSent(t *testing.T) {
	bridged(t, nothing(), func(l *line, _ *words) {
		l.device("cam-1", caps())
		l.connect(1)
		l.take()
		l.bridge.Lost()
		l.setMode("cam-1", "balanced", false)
		time.Sleep(2 * orderTTL) // of the bubble
		l.connect(3)
		for _, m := range l.take() {
			if strings.Contains(m.Topic, "/cmd/") {
				t.Errorf("got %v", m)
			}
		}
	})
}

func TestABrokerThatDropsConfigurationsIsComplainedAboutOnce(t *testing.T) {
	bridged(t, nothing(), func(l *line, log *words) {
		l.deaf = true
		l.device("cam-1", caps())
		l.connect(1)
		l.take()
		l.take()
		if n := strings.Count(log.String(), "its access list must let this user"); n != 1 {
			t.Errorf("said %d times, want once:\n%s", n, log)
		}
	})
	bridged(t, nothing(), func(l *line, log *words) {
		l.device("cam-1", caps())
		l.connect(1)
		l.take()
		if log.String() != "" {
			t.Errorf("got %s, want no complaint", log)
		}
	})
}

func TestWhatHomeAssistantMaySendIsBounded(t *testing.T) {
	b := New(pier, nil, slog.New(slog.DiscardHandler))
	for i := range 3 * fleet.MaxDevices {
		name := fmt.Sprintf("d-%d", i)
		b.Receive(mqtt.Message{Topic: setPrefix + pier + "/" + name + "/mode/set", Payload: []byte("balanced")})
		b.Receive(mqtt.Message{Topic: configTopic(at(name)), Retained: true,
			Payload: fmt.Appendf(nil, `{"avty_t":%q}`, at(name).State())})
	}
	if len(b.orders) != fleet.MaxDevices || len(b.told) != 2*fleet.MaxDevices || len(b.due.names) != 2*fleet.MaxDevices {
		t.Errorf("%d modes, %d configurations and %d devices wait", len(b.orders), len(b.told), len(b.due.names))
	}
}
