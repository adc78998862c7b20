package fleet_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
)

// retain publishes documents of many devices, many under way at once, and waits for
// the broker to have them all.
func retain[M any](tb testing.TB, s *fleet.Mailbox, devices int, topic func(wire.Address) string,
	document func(i int) M) {
	tb.Helper()
	var outcomes []<-chan error
	for i := range devices {
		b, err := json.Marshal(document(i))
		if err != nil {
			tb.Fatal(err)
		}
		outcomes = append(outcomes, s.Send(tb.Context(), mqtt.Message{Topic: topic(device(fmt.Sprintf("cam-%04d", i))),
			Payload: b, QoS: 1, Retained: true}))
	}
	for _, outcome := range outcomes {
		if err := <-outcome; err != nil {
			tb.Fatal(err)
		}
	}
}

// One reads all the time, another only at the end: both end with the same picture,
// and the second has one change of each device to read.
func TestAThousandDevicesAreOnePictureThatStaysBounded(t *testing.T) {
	t.Parallel()
	const devices, rounds = 1000, 2
	addr := serve(t)
	s := open(t, addr)
	retain(t, s, devices, wire.Address.State, func(int) wire.State { return wire.State{State: wire.Online} })
	c := connect(t, addr, fleet.RegistryFilters("yard")...)
	idle := c.Registry().Subscribe()
	defer idle.Close()
	if got, err := c.List(t.Context()); err != nil || len(got) != devices {
		t.Fatalf("got %d devices, %v; want %d", len(got), err, devices)
	}

	busy := c.Registry().Subscribe()
	defer busy.Close()
	followed := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	go func() { followed <- follow(ctx, busy, devices, rounds) }()
	for round := 1; round <= rounds; round++ {
		retain(t, s, devices, wire.Address.Reported, func(i int) wire.Reported {
			return wire.Reported{Version: uint64(round), Status: wire.Applied, Detail: fmt.Sprint(i)}
		})
	}
	if err := <-followed; err != nil {
		t.Fatal(err)
	}

	all := c.Registry().Devices()
	if n := c.Registry().Counts(); len(all) != devices || n != (fleet.RegistryCounts{}) {
		t.Fatalf("got %d devices, %+v not taken; want %d and none", len(all), n, devices)
	}
	for i, d := range all {
		last, err := idle.Next(ctx)
		if d.Name != fmt.Sprintf("cam-%04d", i) || !d.Online() || d.Reported.Version != rounds ||
			d.Reported.Detail != fmt.Sprint(i) {
			t.Errorf("got %s, %+v, %+v; want its own last documents", d.Name, d.State, d.Reported)
		}
		if err != nil || last.Reported == nil || last.Reported.Version != rounds {
			t.Errorf("who read late got %+v, %v; want the last of each", last, err)
		}
	}
	done, end := context.WithCancel(ctx)
	end()
	if d, err := idle.Next(done); err == nil {
		t.Errorf("who read late has %s to read beyond one of each", d.Name)
	}
}

// follow reads changes until the last report of all has come.
func follow(ctx context.Context, s *fleet.Subscription, devices, rounds int) error {
	last := map[string]bool{}
	for len(last) < devices {
		d, err := s.Next(ctx)
		if err != nil {
			return fmt.Errorf("the last reports of %d of %d devices came: %w", len(last), devices, err)
		}
		if d.Reported != nil && d.Reported.Version == uint64(rounds) {
			last[d.Name] = true
		}
	}
	return nil
}

// answer answers the jobs of a device, until the test ends.
func answer(tb testing.TB, addr, name string) {
	tb.Helper()
	hear(tb, addr, device(name).Filter(wire.KindJob), func(ctx context.Context, s *fleet.Mailbox, m mqtt.Message) error {
		topic, err := wire.ParseTopic(m.Topic)
		if err != nil {
			return err
		}
		return tell(ctx, s, device(name).Result(topic.ID), false, wire.Result{ID: topic.ID, Status: wire.OK, Member: name})
	})
}

func TestOperationsRunAtOnceOnOneConnection(t *testing.T) {
	t.Parallel()
	addr := serve(t)
	s := open(t, addr)
	for _, name := range []string{"cam-1", "cam-2"} {
		settle(t, s, name, wire.Online, "@gate")
		obey(t, addr, name, "", wire.CommandReceived, wire.CommandAccepted, wire.CommandSucceeded)
		comply(t, addr, name, wire.Reported{Status: wire.Applied})
	}
	answer(t, addr, "cam-1")
	filters := append(fleet.CommandFilters("yard"), wire.FleetFilter("yard", wire.KindDesired),
		device("cam-1").Filter(wire.KindResult))
	c := connect(t, addr, filters...)

	g, ctx := errgroup.WithContext(t.Context())
	for range 2 {
		g.Go(func() error { return commands(ctx, c, "@gate", []string{"cam-1", "cam-2"}) })
	}
	g.Go(func() error { return desires(ctx, c, "@gate", 2) })
	for range 2 {
		g.Go(func() error { return exchanges(ctx, c, "cam-1", 3*fleet.UnderWay) })
	}
	g.Go(func() error {
		if got, err := c.List(ctx); err != nil || len(got) != 2 {
			return fmt.Errorf("list: got %+v, %w; want two devices", got, err)
		}
		return nil
	})
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
}

func commands(ctx context.Context, c *fleet.Client, target string, devices []string) error {
	got, err := c.Command(ctx, "yard", target, wire.Command{Mode: "balanced"}, patience)
	var done []string
	for _, o := range got {
		if o.State == wire.CommandSucceeded {
			done = append(done, o.Device)
		}
	}
	if err != nil || !slices.Equal(done, devices) {
		return fmt.Errorf("command for %s: got %+v, %w; want success of %v", target, got, err, devices)
	}
	return nil
}

func desires(ctx context.Context, c *fleet.Client, target string, devices int) error {
	got, err := c.Desire(ctx, "yard", target, wire.Aim{Mode: "power-save"}, patience)
	if err != nil || len(got) != devices || slices.ContainsFunc(got, fleet.Report.Failed) {
		return fmt.Errorf("desired state of %s: got %+v, %w; want it applied", target, got, err)
	}
	return nil
}

func exchanges(ctx context.Context, c *fleet.Client, name string, frames int) error {
	var want, got []string
	for i := range frames {
		want = append(want, fmt.Sprint(i))
	}
	err := c.Exchange(ctx, fleet.Frames{To: device(name), Names: want, Patience: patience,
		Read:     func(name string) ([]byte, error) { return []byte(name), nil },
		Progress: func(int) {},
		Answer: func(frame string, a fleet.Answer) error {
			if a.Result.Member != name {
				return fmt.Errorf("frame %s: got %s", frame, a.Payload)
			}
			got = append(got, frame)
			return nil
		}})
	if err != nil || !slices.Equal(got, want) {
		return fmt.Errorf("exchange: got answers to %v, %w; want all in their order", got, err)
	}
	return nil
}

func TestAnExchangeOfOneThatDoesNotAnswerEndsAndIsForgotten(t *testing.T) {
	t.Parallel()
	addr := serve(t)
	c := connect(t, addr, fleet.ExchangeFilters(device("mute"))...)
	jobs := open(t, addr, device("mute").Filter(wire.KindJob))
	err := c.Exchange(t.Context(), fleet.Frames{To: device("mute"), Names: []string{"a", "b"},
		Patience: 200 * time.Millisecond,
		Read:     func(string) ([]byte, error) { return []byte("x"), nil }, Progress: func(int) {},
		Answer: func(string, fleet.Answer) error { return nil }})
	if err == nil || !strings.Contains(err.Error(), "2 of 2 frames were not answered: nothing came for 200ms") {
		t.Errorf("got %v, want that nothing came", err)
	}
	m, err := jobs.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	topic, err := wire.ParseTopic(m.Topic)
	if err != nil {
		t.Fatal(err)
	}
	publish(t, jobs, device("mute").Result(topic.ID), false, wire.Result{ID: topic.ID, Status: wire.OK})
	publish(t, jobs, device("mute").State(), true, wire.State{State: wire.Online})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := c.AwaitOnline(ctx, "mute"); err != nil {
		t.Errorf("got %v; want the late answer passed over, and the state behind it", err)
	}
}
