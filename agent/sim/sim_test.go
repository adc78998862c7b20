package sim_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/sim"
	"github.com/limber-edge/limber/broker-config/natstest"
)

// The environment of the process that is a controller: its state folder, and the URL of
// its broker.
const envController, envBroker = "LIMBER_TEST_CONTROLLER", "LIMBER_TEST_BROKER"

func TestMain(m *testing.M) {
	natstest.Main()
	if dir := os.Getenv(envController); dir != "" {
		if err := serveFleet(context.Background(), mqtt.Broker{URL: mqtt.URLs{os.Getenv(envBroker)}}, dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	m.Run()
}

func TestEveryBirthIsSeenAndAModeToAllIsAnsweredByAll(t *testing.T) {
	t.Parallel()
	const n = 50
	at := mustBroker(t)
	o := mustOperator(t, at)
	began := time.Now()
	begin(t, config(t, n, at))
	await(t, o, func(s sim.Seen) bool { return s.Online == n && s.Births == n })
	t.Logf("%d births seen after %v", n, time.Since(began))
	t.Logf("a mode to all after %v", mode(t, o, n, "max-accuracy"))
}

func TestDevicesThatEndComeBackAndAreSeen(t *testing.T) {
	t.Parallel()
	cfg := config(t, 20, mustBroker(t))
	cfg.Churn = 30 // a minute: each lives for two seconds
	o := mustOperator(t, cfg.Broker(""))
	f := begin(t, cfg)
	seen := await(t, o, func(s sim.Seen) bool { return s.Births > 24 && f.Counts().Others > 0 })
	if c := f.Counts(); uint64(seen.Births) > c.Births || c.Ends < c.Births-20 {
		t.Errorf("got %+v, and %+v seen", c, seen)
	}
}

func TestALinkThatBreaksIsMended(t *testing.T) {
	t.Parallel()
	cfg := config(t, 5, mustBroker(t))
	cfg.Cut = 200 * time.Millisecond
	o := mustOperator(t, cfg.Broker(""))
	f := begin(t, cfg)
	broken := false
	seen := await(t, o, func(s sim.Seen) bool {
		broken = broken || f.Counts().Cuts > 0 && s.Online < 5
		return broken && s.Online == 5
	})
	if seen.Births != 5 {
		t.Errorf("got %+v, want five births: an agent lives on without its link", seen)
	}
}

// TestAFamilyThatBreaksItsPromiseMissesDeadlines is what a rollout has to find out.
func TestAFamilyThatBreaksItsPromiseMissesDeadlines(t *testing.T) {
	t.Parallel()
	cfg := config(t, 3, mustBroker(t))
	families := cfg.Profile.Families
	families[0], families[1] = families[1], families[0]
	cfg.Profile.FPS = 5
	o := mustOperator(t, cfg.Broker(""))
	f := begin(t, cfg)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	s := o.Registry().Subscribe(sim.Name(1))
	defer s.Close()
	d, err := s.Until(ctx, func(d fleet.Device) bool { return d.Telemetry != nil && d.Telemetry.Missed > 0 })
	if err != nil {
		t.Fatalf("no deadline was missed: %v", err)
	}
	if d.Caps.Family.Name != "night" || d.Telemetry.Jobs < d.Telemetry.Missed || f.Counts().Frames == 0 {
		t.Errorf("got %+v of family %s and %+v", d.Telemetry, d.Caps.Family.Name, f.Counts())
	}
}

func TestAFleetOfNobodyIsRefused(t *testing.T) {
	for _, n := range []int{0, sim.MaxDevices + 1} {
		if _, err := sim.New(sim.Config{Devices: n}, nil); err == nil {
			t.Errorf("%d devices: got a fleet", n)
		}
	}
}
