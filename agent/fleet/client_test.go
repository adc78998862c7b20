package fleet_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/broker-config/brokertest"
	"github.com/limber-edge/limber/broker-config/devbroker"
)

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

// run calls f with a context that ends with the test, and waits for it.
func run(tb testing.TB, f func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f(ctx) }()
	tb.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			tb.Error(err)
		}
	})
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func serve(tb testing.TB) (addr string) {
	tb.Helper()
	b, err := devbroker.New(devbroker.Config{Listen: "127.0.0.1:0"}, discard())
	if err != nil {
		tb.Fatal(err)
	}
	run(tb, b.Run)
	return b.Addr()
}

func link(addr string) mqtt.Config {
	cfg := mqtt.Default()
	cfg.Broker, cfg.ClientID = addr, "fleet-"+fleet.NewID()
	return cfg
}

// connect returns a client that is ready.
func connect(tb testing.TB, addr string, filters ...string) *fleet.Client {
	tb.Helper()
	c, err := fleet.Open(link(addr), discard(), filters...)
	if err != nil {
		tb.Fatal(err)
	}
	mustReady(tb, c)
	return c
}

// open returns a mailbox that is ready.
func open(tb testing.TB, addr string, filters ...string) *fleet.Mailbox {
	tb.Helper()
	b, err := fleet.OpenMailbox(link(addr), discard(), filters...)
	if err != nil {
		tb.Fatal(err)
	}
	mustReady(tb, b)
	return b
}

func mustReady(tb testing.TB, c interface {
	Run(context.Context) error
	Ready(context.Context) error
}) {
	tb.Helper()
	run(tb, c.Run)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := c.Ready(ctx); err != nil {
		tb.Fatal(err)
	}
}

// publish sends a JSON message, or bytes as they are.
func publish(tb testing.TB, s *fleet.Mailbox, topic string, retained bool, payload any) {
	tb.Helper()
	b, raw := payload.([]byte)
	if !raw {
		var err error
		if b, err = json.Marshal(payload); err != nil {
			tb.Fatal(err)
		}
	}
	if err := s.Publish(tb.Context(), mqtt.Message{Topic: topic, Payload: b, QoS: 1, Retained: retained}); err != nil {
		tb.Fatal(err)
	}
}

func device(name string) wire.Address { return wire.Address{Fleet: "yard", Device: name} }

// settle publishes what a device with this name would retain.
func settle(tb testing.TB, s *fleet.Mailbox, name string, p wire.Presence, groups ...string) {
	tb.Helper()
	publish(tb, s, device(name).State(), true, wire.State{State: p})
	publish(tb, s, device(name).Caps(), true, wire.Caps{Groups: append([]string{wire.Everybody}, groups...)})
	publish(tb, s, device(name).Reported(), true, wire.Reported{Status: wire.Applied, Mode: "balanced"})
}

// hear hands on what comes on a topic, with a mailbox to answer by, until the test ends.
func hear(tb testing.TB, addr, filter string, heard func(ctx context.Context, s *fleet.Mailbox, m mqtt.Message) error) {
	tb.Helper()
	s := open(tb, addr, filter)
	run(tb, func(ctx context.Context) error {
		for {
			m, err := s.Next(ctx)
			if err != nil {
				return nil
			}
			if err := heard(ctx, s, m); err != nil {
				return err
			}
		}
	})
}

// tell sends a JSON message and does not wait for its acknowledgement.
func tell(ctx context.Context, s *fleet.Mailbox, topic string, retained bool, v any) error {
	b, err := json.Marshal(v)
	if err == nil {
		s.Send(ctx, mqtt.Message{Topic: topic, Payload: b, QoS: 1, Retained: retained})
	}
	return err
}

// obey answers the commands of a device with the states given, the last one
// with a reason.
func obey(tb testing.TB, addr, name string, reason wire.Reason, steps ...wire.Step) {
	tb.Helper()
	hear(tb, addr, wire.FleetFilter("yard", wire.KindCmd), func(ctx context.Context, s *fleet.Mailbox, m mqtt.Message) error {
		topic, err := wire.ParseTopic(m.Topic)
		if err != nil {
			return err
		}
		for i, step := range steps {
			ack := wire.Ack{ID: topic.ID, Verb: topic.Verb, State: step}
			if i == len(steps)-1 {
				ack.Reason = reason
			}
			if err := tell(ctx, s, device(name).Ack(topic.Verb, topic.ID), false, ack); err != nil {
				return err
			}
		}
		return nil
	})
}

func TestListTellsWhatIsRetained(t *testing.T) {
	t.Parallel()
	addr := serve(t)
	s := open(t, addr)
	settle(t, s, "cam-2", wire.Online, "@gate")
	settle(t, s, "cam-1", wire.Lost)
	publish(t, s, device("cam-3").State(), true, wire.State{State: wire.Offline})
	publish(t, s, device("cam-4").State(), true, []byte(`{"state":`))
	publish(t, s, wire.Address{Fleet: "other", Device: "cam-9"}.State(), true, wire.State{State: wire.Online})

	got, err := connect(t, addr, fleet.ListFilters("yard")...).List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, d := range got {
		names = append(names, d.Name)
		if online := d.Name == "cam-2"; d.Online() != online || d.In("@gate") != online || !d.In("@all") || !d.In(d.Name) {
			t.Errorf("%s: online %v, in @gate %v", d.Name, d.Online(), d.In("@gate"))
		}
	}
	if want := []string{"cam-1", "cam-2", "cam-3"}; !slices.Equal(names, want) {
		t.Fatalf("got %v, want %v", names, want)
	}
	if d := got[2]; d.Caps != nil || d.Reported != nil || d.State == nil {
		t.Errorf("cam-3: got %+v, want its state alone", d)
	}
}

// A message that cannot be decoded says nothing of its device, so what was known
// stays known.
func TestListKeepsWhatABadMessageFollows(t *testing.T) {
	t.Parallel()
	for _, topic := range []string{device("cam-1").State(), device("cam-1").Caps(), device("cam-1").Reported()} {
		addr := serve(t)
		s := open(t, addr)
		settle(t, s, "cam-1", wire.Online, "@gate")
		lister := connect(t, addr, fleet.ListFilters("yard")...)
		publish(t, s, topic, false, []byte(`{"state":"lost","groups":[],"mode":7`))
		got, err := lister.List(t.Context())
		if err != nil || len(got) != 1 {
			t.Fatalf("%s: got %+v, %v; want one device", topic, got, err)
		}
		if d := got[0]; !d.Online() || !d.In("@gate") || d.Reported == nil || d.Reported.Mode != "balanced" {
			t.Errorf("%s: got %+v, %+v, %+v; want it online, in @gate and balanced", topic, d.State, d.Caps, d.Reported)
		}
	}
}

func TestListOfAnEmptyFleet(t *testing.T) {
	t.Parallel()
	got, err := connect(t, serve(t), fleet.ListFilters("yard")...).List(t.Context())
	if err != nil || len(got) > 0 {
		t.Errorf("got %+v, %v; want nobody", got, err)
	}
}

// A fleet in which something always happens must not keep List waiting.
func TestListEndsInABusyFleet(t *testing.T) {
	t.Parallel()
	addr := serve(t)
	s := open(t, addr)
	settle(t, s, "cam-1", wire.Online)
	chatter := open(t, addr)
	run(t, func(ctx context.Context) error {
		for ctx.Err() == nil {
			<-chatter.Send(ctx, mqtt.Message{Topic: device("cam-1").Ack("mode", "x"), Payload: []byte(`{}`), QoS: 1})
		}
		return nil
	})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if got, err := connect(t, addr, fleet.CommandFilters("yard")...).List(ctx); err != nil || len(got) != 1 {
		t.Errorf("got %+v, %v; want one device", got, err)
	}
}

func TestCommandCollectsOutcomes(t *testing.T) {
	t.Parallel()
	addr := serve(t)
	s := open(t, addr)
	settle(t, s, "willing", wire.Online, "@gate")
	settle(t, s, "unable", wire.Online, "@gate")
	settle(t, s, "elsewhere", wire.Online)
	settle(t, s, "gone", wire.Lost, "@gate")
	obey(t, addr, "willing", "", wire.CommandReceived, wire.CommandAccepted, wire.CommandSucceeded)
	obey(t, addr, "unable", wire.Unsupported, wire.CommandRejected)

	got, err := connect(t, addr, fleet.CommandFilters("yard")...).Command(t.Context(), "yard", "@gate",
		wire.Command{Mode: "balanced"}, patience)
	want := []fleet.Outcome{
		{Device: "unable", State: wire.CommandRejected, Reason: wire.Unsupported},
		{Device: "willing", State: wire.CommandSucceeded},
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
}

// A device that is off gets the command with its session, whenever that is.
func TestCommandExpiresAtATimeAndNotAfterReceipt(t *testing.T) {
	t.Parallel()
	addr := serve(t)
	settle(t, open(t, addr), "mute", wire.Online)
	client := connect(t, addr, fleet.CommandFilters("yard")...)
	watch := open(t, addr, wire.FleetFilter("yard", wire.KindCmd))
	const ttl = 500 * time.Millisecond
	before := time.Now()
	if _, err := client.Command(t.Context(), "yard", "mute", wire.Command{Mode: "balanced"}, ttl); err != nil {
		t.Fatal(err)
	}
	after := time.Now()
	m, err := watch.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var c wire.Command
	if err := wire.Decode(m.Payload, &c); err != nil || c.TTLMS != nil || c.ExpiresAt == nil {
		t.Fatalf("got %s, %v; want a time at which it expires", m.Payload, err)
	}
	if at := c.ExpiresAt.Time; at.Before(wire.At(before.Add(ttl)).Time) || at.After(after.Add(ttl)) {
		t.Errorf("got %v, want %v after it was sent, between %v and %v", at, ttl, before, after)
	}
}

func TestCommandTellsWhoDidNotAnswer(t *testing.T) {
	t.Parallel()
	addr := serve(t)
	s := open(t, addr)
	settle(t, s, "willing", wire.Online)
	settle(t, s, "mute", wire.Online)
	settle(t, s, "stuck", wire.Online)
	obey(t, addr, "willing", "", wire.CommandSucceeded)
	obey(t, addr, "stuck", "", wire.CommandExecuting)

	got, err := connect(t, addr, fleet.CommandFilters("yard")...).Command(t.Context(), "yard", "@all",
		wire.Command{Mode: "balanced"}, 3*time.Second)
	want := []fleet.Outcome{
		{Device: "mute", State: wire.CommandTimedOut, Detail: "no answer within 3s"},
		{Device: "stuck", State: wire.CommandExecuting},
		{Device: "willing", State: wire.CommandSucceeded},
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
}

// A device that acknowledges the command is meant, whatever the list said of it.
func TestCommandTellsOfThoseThatWereNotListed(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		presence wire.Presence // "" for one that the broker knows nothing of
		steps    []wire.Step
		want     wire.Step
	}{
		{"unknown", "", []wire.Step{wire.CommandReceived, wire.CommandAccepted, wire.CommandSucceeded},
			wire.CommandSucceeded},
		{"lost", wire.Lost, []wire.Step{wire.CommandSucceeded}, wire.CommandSucceeded},
		{"unable", "", []wire.Step{wire.CommandReceived, wire.CommandRejected}, wire.CommandRejected},
		{"stuck", "", []wire.Step{wire.CommandExecuting}, wire.CommandExecuting},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			addr := serve(t)
			s := open(t, addr)
			settle(t, s, "mute", wire.Online, "@gate")
			if tt.presence != "" {
				settle(t, s, tt.name, tt.presence, "@gate")
			}
			obey(t, addr, tt.name, "", tt.steps...)
			got, err := connect(t, addr, fleet.CommandFilters("yard")...).Command(t.Context(), "yard", "@gate",
				wire.Command{Mode: "balanced"}, 3*time.Second)
			want := []fleet.Outcome{
				{Device: "mute", State: wire.CommandTimedOut, Detail: "no answer within 3s"},
				{Device: tt.name, State: tt.want},
			}
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("got %+v, %v; want %+v", got, err, want)
			}
		})
	}
}

func TestCommandNeedsSomebodyOnline(t *testing.T) {
	t.Parallel()
	addr := serve(t)
	settle(t, open(t, addr), "gone", wire.Offline)
	for _, target := range []string{"gone", "nobody", "@gate", "@all"} {
		_, err := connect(t, addr, fleet.CommandFilters("yard")...).Command(t.Context(), "yard", target,
			wire.Command{Mode: "balanced"}, patience)
		if err == nil || !strings.Contains(err.Error(), target) {
			t.Errorf("%s: got %v, want an error that names it", target, err)
		}
	}
}

func TestCommandEndsWithItsContext(t *testing.T) {
	t.Parallel()
	addr := serve(t)
	settle(t, open(t, addr), "mute", wire.Online)
	client := connect(t, addr, fleet.CommandFilters("yard")...)
	watch := open(t, addr, wire.FleetFilter("yard", wire.KindCmd))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		watch.Next(ctx) // the command was sent
		cancel()
	}()
	_, err := client.Command(ctx, "yard", "mute", wire.Command{Mode: "balanced"}, patience)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}

func TestReadySaysWhyNot(t *testing.T) {
	t.Parallel()
	cfg := mqtt.Default()
	cfg.Broker, cfg.ClientID, cfg.User = serve(t), "cam-1", "cam-1" // a device, not an operator
	s, err := fleet.Open(cfg, discard(), fleet.ListFilters("yard")...)
	if err != nil {
		t.Fatal(err)
	}
	run(t, s.Run)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := s.Ready(ctx); err == nil || !strings.Contains(err.Error(), "yard") {
		t.Errorf("got %v, want the filters that the broker refuses", err)
	}
}

func TestReadyNamesTheBrokerThatIsNotThere(t *testing.T) {
	t.Parallel()
	cfg := mqtt.Default()
	cfg.Broker, cfg.ClientID = "127.0.0.1:1", "operator"
	s, err := fleet.Open(cfg, discard())
	if err != nil {
		t.Fatal(err)
	}
	run(t, s.Run)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := s.Ready(ctx); err == nil || !strings.Contains(err.Error(), "127.0.0.1:1") {
		t.Errorf("got %v, want the address", err)
	}
}

func TestTelemetryIsTheNextOfItsDevice(t *testing.T) {
	t.Parallel()
	addr := serve(t)
	c := connect(t, addr, append(fleet.TelemetryFilters("yard", "cam-1"), fleet.TelemetryFilters("yard", "cam-2")...)...)
	sender := open(t, addr)
	publish(t, sender, device("cam-2").Telemetry(), false, wire.Telemetry{Jobs: 2})
	publish(t, sender, device("cam-1").Telemetry(), false, []byte(`{"jobs":`))
	publish(t, sender, device("cam-1").Telemetry(), false, wire.Telemetry{Jobs: 1,
		Decisions: []wire.Decision{{Member: "s0", Options: []wire.Option{}}}})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	got, err := c.AwaitTelemetry(ctx, "cam-1", nil)
	if err != nil || got.Jobs != 1 || len(got.Decisions) != 1 {
		t.Errorf("got %+v, %v; want that of cam-1", got, err)
	}
	soon, end := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer end()
	if _, err := c.AwaitTelemetry(soon, "cam-1", got); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("nothing came: got %v", err)
	}
}

func TestAConnectionIsWaitedForByItsNumber(t *testing.T) {
	t.Parallel()
	broker := brokertest.StartMosquitto(t)
	s := open(t, broker.Addr)
	if seq, err := s.Connection(t.Context(), 0); err != nil || seq != 1 {
		t.Errorf("got connection %d, %v; want the first", seq, err)
	}
	broker.Kill()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if seq, err := s.Connection(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("without a broker: got connection %d, %v; want none in time", seq, err)
	}
	broker.Start()
	ctx, cancel = context.WithTimeout(t.Context(), patience)
	defer cancel()
	seq, err := s.Connection(ctx, 1)
	if err != nil || seq < 2 {
		t.Errorf("got connection %d, %v; want a later one", seq, err)
	}
	if err := s.Publish(ctx, mqtt.Message{Topic: "limber/x", QoS: 1}); err != nil {
		t.Errorf("on it: got %v", err)
	}
}

// The broker acknowledges what a viewer sends, and drops it.
func TestC15_WhoMayNotSteerIsToldSo(t *testing.T) {
	t.Parallel()
	addr := serve(t)
	settle(t, open(t, addr), "cam-1", wire.Online)
	cfg := link(addr)
	cfg.User = wire.Viewer
	for name, steer := range map[string]func(*fleet.Client) error{
		"command": func(c *fleet.Client) error {
			_, err := c.Command(t.Context(), "yard", "cam-1", wire.Command{Mode: "balanced"}, patience)
			return err
		},
		"desire": func(c *fleet.Client) error {
			_, err := c.Desire(t.Context(), "yard", "@all", wire.Aim{Mode: "balanced"}, patience)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := cfg
			cfg.ClientID = "viewer-" + name
			c, err := fleet.Open(cfg, discard(), append(fleet.CommandFilters("yard"),
				wire.FleetFilter("yard", wire.KindDesired))...)
			if err != nil {
				t.Fatal(err)
			}
			mustReady(t, c)
			if err := steer(c); !errors.Is(err, fleet.ErrDropped) || err.Error() != fleet.ErrDropped.Error() {
				t.Errorf("got %v, want %v", err, fleet.ErrDropped)
			}
		})
	}
}
