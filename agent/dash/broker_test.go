package dash

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/broker-config/devbroker"
)

// patience is how long a test waits for what must come.
const patience = 30 * time.Second

// run calls f with a context that ends with the test, or when it is stopped.
func run(tb testing.TB, f func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := f(ctx); err != nil && !errors.Is(err, context.Canceled) {
			tb.Error(err)
		}
	}()
	stop = func() {
		cancel()
		<-ended
	}
	tb.Cleanup(stop)
	return stop
}

// broker is one in this process, at an address, where everybody is the operator, or those
// are who have a password.
func broker(tb testing.TB, address string, users map[string]string) (addr string, stop func()) {
	tb.Helper()
	b, err := devbroker.New(devbroker.Config{Listen: address, Users: users}, discard())
	if err != nil {
		tb.Fatal(err)
	}
	return b.Addr(), run(tb, b.Run)
}

// link is a connection to it.
func linkTo(addr, user, password string) mqtt.Config {
	cfg := mqtt.Default()
	cfg.Broker, cfg.ClientID = addr, "test-"+fleet.NewID()
	cfg.User, cfg.Password = user, password
	return cfg
}

// serveTo serves the page of what is at a broker.
func serveTo(tb testing.TB, link mqtt.Config) *Server {
	tb.Helper()
	cfg := config("")
	cfg.Broker = link
	s, err := New(cfg, discard())
	if err != nil {
		tb.Fatal(err)
	}
	run(tb, s.Run)
	return s
}

// mailbox is a connection of somebody else, which is ready.
func mailbox(tb testing.TB, link mqtt.Config, filters ...string) *fleet.Mailbox {
	tb.Helper()
	b, err := fleet.OpenMailbox(link, discard(), filters...)
	if err != nil {
		tb.Fatal(err)
	}
	run(tb, b.Run)
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	if err := b.Ready(ctx); err != nil {
		tb.Fatal(err)
	}
	return b
}

func publish(tb testing.TB, b *fleet.Mailbox, topic string, retained bool, payload any) {
	tb.Helper()
	body, err := json.Marshal(payload)
	if err == nil {
		err = b.Publish(tb.Context(), mqtt.Message{Topic: topic, Payload: body, QoS: 1, Retained: retained})
	}
	if err != nil {
		tb.Fatal(err)
	}
}

// plays is a device, or a controller, that answers each command with what answer says.
func plays(tb testing.TB, link mqtt.Config, who wire.Address, answer func(wire.Topic, []byte) wire.Ack) {
	tb.Helper()
	b := mailbox(tb, link, who.Filter(wire.KindCmd))
	publish(tb, b, who.State(), true, wire.State{State: wire.Online})
	run(tb, func(ctx context.Context) error {
		for {
			m, err := b.Next(ctx)
			if err != nil {
				return err
			}
			t, err := wire.ParseTopic(m.Topic)
			if err != nil {
				return err
			}
			ack := answer(t, m.Payload)
			ack.ID, ack.Verb = t.ID, t.Verb
			body, err := json.Marshal(ack)
			if err == nil {
				err = b.Publish(ctx, mqtt.Message{Topic: who.Ack(t.Verb, t.ID), Payload: body, QoS: 1})
			}
			if err != nil {
				return err
			}
		}
	})
}

// watch opens a screen, and reads until a message is what is wanted.
func watch(tb testing.TB, s *Server, query string) (until func(what string, is func(message) bool)) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	tb.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL()+"api/events?"+query, nil)
	if err != nil {
		tb.Fatal(err)
	}
	got, err := http.DefaultClient.Do(r)
	if err != nil {
		tb.Fatal(err)
	}
	sc := newScreen(tb, got.Body)
	tb.Cleanup(sc.close)
	return func(what string, is func(message) bool) {
		tb.Helper()
		for {
			h, err := sc.take()
			if err != nil {
				tb.Fatalf("%s: %v", what, err)
			}
			if is(h.message) {
				return
			}
		}
	}
}

// steers asks for something, and returns what was answered.
func steers(tb testing.TB, s *Server, path, body string) (status int, o outcome, says string) {
	tb.Helper()
	r, err := http.NewRequestWithContext(tb.Context(), http.MethodPost, s.URL()+path, strings.NewReader(body))
	if err != nil {
		tb.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+secret)
	got, err := http.DefaultClient.Do(r)
	if err != nil {
		tb.Fatal(err)
	}
	defer got.Body.Close()
	b, err := io.ReadAll(got.Body)
	if err != nil {
		tb.Fatal(err)
	}
	_ = json.Unmarshal(b, &o) // a fault is none
	return got.StatusCode, o, string(b)
}

func settled(m message) bool { return m.Link != nil && m.Link.OK && m.Link.Settled }

func TestADeviceThatIsSteeredAnswersAndThePageTellsIt(t *testing.T) {
	t.Parallel()
	addr, _ := broker(t, "127.0.0.1:0", nil)
	plays(t, linkTo(addr, "", ""), at("cam-1"), func(_ wire.Topic, payload []byte) wire.Ack {
		if strings.Contains(string(payload), "max-accuracy") {
			return wire.Ack{State: wire.CommandSucceeded}
		}
		return wire.Ack{State: wire.CommandRejected, Reason: wire.Infeasible, Detail: "too fast", Nearest: &wire.Goal{MinTop1: new(0.5)}}
	})
	s := serveTo(t, linkTo(addr, "", ""))
	until := watch(t, s, "device=cam-1")
	until("the device", func(m message) bool { return m.Device != nil && m.Device.Known != nil && *m.Device.Known })
	status, o, says := steers(t, s, "api/devices/cam-1/mode", `{"mode":"max-accuracy"}`)
	if status != 200 || o.State != wire.CommandSucceeded {
		t.Errorf("got %d %s", status, says)
	}
	until("the command", func(m message) bool {
		return m.Device != nil && m.Device.Commands != nil && len(*m.Device.Commands) == 1 &&
			(*m.Device.Commands)[0].State == wire.CommandSucceeded && (*m.Device.Commands)[0].Asked == "max-accuracy"
	})
	status, o, says = steers(t, s, "api/devices/cam-1/goal", `{"goal":{"deadline_ms":1}}`)
	if status != 200 || o.State != wire.CommandRejected || o.Reason != wire.Infeasible || *o.Nearest.MinTop1 != 0.5 {
		t.Errorf("got %d %s", status, says)
	}
	if status, _, says := steers(t, s, "api/devices/cam-2/mode", `{"mode":"balanced"}`); status != 409 || !strings.Contains(says, "no device") {
		t.Errorf("of nobody: got %d %s", status, says)
	}
}

func TestAControllerThatIsSteeredAnswersAndAbsentIsSaidToBe(t *testing.T) {
	t.Parallel()
	addr, _ := broker(t, "127.0.0.1:0", nil)
	s := serveTo(t, linkTo(addr, "", ""))
	watch(t, s, "rollouts=1")("the broker", settled)
	if status, _, says := steers(t, s, "api/rollouts/night/pause", "{}"); status != 409 || !strings.Contains(says, "limber fleet serve") {
		t.Errorf("without a controller: got %d %s", status, says)
	}
	plays(t, linkTo(addr, "", ""), at(wire.Controller), func(_ wire.Topic, payload []byte) wire.Ack {
		var c wire.RolloutCommand
		if wire.Decode(payload, &c) != nil || c.Rollout != "night" {
			return wire.Ack{State: wire.CommandRejected, Reason: wire.Precondition, Detail: "there is none"}
		}
		return wire.Ack{State: wire.CommandSucceeded, Detail: c.Action + map[bool]string{true: " back"}[c.Rollback]}
	})
	watch(t, s, "rollouts=1")("the controller", func(m message) bool {
		return m.Rollouts != nil && m.Rollouts.Trouble != nil && *m.Rollouts.Trouble == ""
	})
	for path, want := range map[string]outcome{
		"night/approve": {State: wire.CommandSucceeded, Detail: "approve"},
		"night/abort":   {State: wire.CommandSucceeded, Detail: "abort back"},
		"day/resume":    {State: wire.CommandRejected, Reason: wire.Precondition, Detail: "there is none"},
	} {
		body := "{}"
		if strings.HasSuffix(path, "abort") {
			body = `{"rollback":true}`
		}
		if status, o, says := steers(t, s, "api/rollouts/"+path, body); status != 200 || o != want {
			t.Errorf("%s: got %d %s, want %+v", path, status, says, want)
		}
	}
}

// TestAViewerReadsAndDoesNotSteer has the token, and a broker that lets nobody but the
// operator write.
func TestAViewerReadsAndDoesNotSteer(t *testing.T) {
	t.Parallel()
	addr, _ := broker(t, "127.0.0.1:0", map[string]string{wire.Viewer: "v", wire.Operator: "o", "cam-1": "c"})
	plays(t, linkTo(addr, "cam-1", "c"), at("cam-1"), func(wire.Topic, []byte) wire.Ack {
		t.Error("a viewer's command came to the device")
		return wire.Ack{State: wire.CommandSucceeded}
	})
	operator := mailbox(t, linkTo(addr, wire.Operator, "o"))
	publish(t, operator, at(wire.Controller).State(), true, wire.State{State: wire.Online})
	s := serveTo(t, linkTo(addr, wire.Viewer, "v"))
	until := watch(t, s, "to=9&from=0&rollouts=1")
	until("the device", func(m message) bool { return m.Tiles["cam-1"] != nil })
	t.Run("steers", func(t *testing.T) {
		for path, body := range map[string]string{"api/devices/cam-1/mode": `{"mode":"balanced"}`, "api/rollouts/night/pause": "{}"} {
			t.Run(path, func(t *testing.T) {
				t.Parallel()
				if status, _, says := steers(t, s, path, body); status != 403 || !strings.Contains(says, "may not steer") || !strings.Contains(says, "operator") {
					t.Errorf("got %d %s", status, says)
				}
			})
		}
	})
	until("that it may not steer", func(m message) bool { return m.Steer == steerDenied })
}

func TestABrokerThatIsLostIsToldAndComesBack(t *testing.T) {
	t.Parallel()
	addr, stop := broker(t, "127.0.0.1:0", nil)
	s := serveTo(t, linkTo(addr, "", ""))
	until := watch(t, s, "from=0&to=9")
	until("the broker", settled)
	stop()
	until("the loss", func(m message) bool {
		return m.Link != nil && !m.Link.OK && m.Link.Trouble != "" && m.Link.Since != nil && strings.Contains(m.Link.Broker, addr)
	})
	if status, _, says := steers(t, s, "api/devices/cam-1/mode", `{"mode":"balanced"}`); status != 503 || !strings.Contains(says, "no connection") {
		t.Errorf("got %d %s", status, says)
	}
	broker(t, addr, nil)
	until("the broker", func(m message) bool { return settled(m) && m.Link.Trouble == "" })
	publish(t, mailbox(t, linkTo(addr, "", "")), at("cam-1").State(), true, wire.State{State: wire.Online})
	until("a device that came then", func(m message) bool { return m.Tiles["cam-1"] != nil })
}

func TestAPageSaysWhereItIsSoThatABrowserGoesThere(t *testing.T) {
	for listen, want := range map[string]string{"127.0.0.1:0": "http://127.0.0.1:", "localhost:0": "http://127.0.0.1:", ":0": "http://localhost:",
		"0.0.0.0:0": "http://localhost:"} {
		cfg := config("127.0.0.1:1")
		cfg.Listen = listen
		s, err := New(cfg, discard())
		if err != nil {
			t.Fatal(err)
		}
		if got := s.URL(); !strings.HasPrefix(got, want) || !strings.HasSuffix(got, "/") {
			t.Errorf("%s: got %s, want %s", listen, got, want)
		}
		s.web.Close()
	}
}

func TestAPageIsServedBeforeThereIsABroker(t *testing.T) {
	t.Parallel()
	addr, stop := broker(t, "127.0.0.1:0", nil)
	stop()
	s := serveTo(t, linkTo(addr, "", ""))
	until := watch(t, s, "from=0&to=9")
	until("that there is none", func(m message) bool { return m.Link != nil && !m.Link.OK && m.Link.Trouble != "" })
	broker(t, addr, nil)
	until("the broker", settled)
}

func TestAUserWhoMayNotReadTheFleetIsToldSo(t *testing.T) {
	t.Parallel()
	addr, _ := broker(t, "127.0.0.1:0", map[string]string{"cam-1": "c"})
	s := serveTo(t, linkTo(addr, "cam-1", "c"))
	watch(t, s, "from=0&to=9")("why nothing is there", func(m message) bool {
		return m.Link != nil && strings.Contains(m.Link.Trouble, "does not let this user read")
	})
}
