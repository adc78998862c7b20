package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/fleet/controller"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
)

func TestTheScreenOfARolloutWithThousandsOfDevicesFitsAndShowsThoseFirstThatFailed(t *testing.T) {
	d := wire.Rollout{ID: "night", State: wire.RolloutRunning, Phase: 1, Phases: []wire.RolloutPhase{{Size: 5000}}}
	for i := range 5000 {
		d.Devices = append(d.Devices, wire.RolloutDevice{Device: fmt.Sprintf("d-%d", i), State: wire.DeviceSucceeded})
	}
	d.Devices[4000].State, d.Devices[4000].Detail = wire.DeviceFailed, strings.Repeat("no room ", 40)
	lines := rolloutScreen(d, "", 80, 24)
	if len(lines) != 24 || !strings.HasPrefix(lines[6], "d-4000 ") || !strings.Contains(lines[23], "4983 more") {
		t.Errorf("got %d lines, %q ... %q; want 24, the device that failed, and how many are not shown", len(lines),
			lines[6], lines[len(lines)-1])
	}
	for _, l := range lines {
		if n := utf8.RuneCountInString(l); n > 80 {
			t.Errorf("got a line of %d characters, want at most 80", n)
		}
	}
	for _, rows := range []int{0, 1, 3} {
		if got := len(rolloutScreen(d, "", 80, rows)); got > rows {
			t.Errorf("got %d lines, want at most %d", got, rows)
		}
	}
}

func TestAPhaseThatAnAbortCutShortDoesNotSeemToRun(t *testing.T) {
	d := wire.Rollout{ID: "night", State: wire.RolloutAborted, Phases: []wire.RolloutPhase{{Size: 1, State: wire.PhaseRunning}}}
	if text := strings.Join(phaseLines(d), "\n"); !strings.Contains(text, "unfinished") || strings.Contains(text, "running") {
		t.Errorf("got %q, want that the phase is unfinished", text)
	}
}

func TestRolloutsAreShownWithoutAController(t *testing.T) {
	d := mustDesk(t)
	at := wire.Address{Fleet: wire.DefaultFleet, Device: wire.Controller}
	cfg := mqtt.Default()
	cfg.Broker, cfg.ClientID = d.url, "test"
	box, err := fleet.OpenMailbox(cfg, newLogger(t.Output(), "error"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(wire.Rollout{ID: "r", Kind: wire.VerbMode, State: wire.RolloutRunning})
	if err != nil {
		t.Fatal(err)
	}
	if err := box.While(t.Context(), func(ctx context.Context) error {
		return box.Publish(ctx, mqtt.Message{Topic: at.Rollout("r"), Payload: b, QoS: 1, Retained: true})
	}); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"ls"}, {"show", "r"}} {
		got := limber(t, append(append([]string{"fleet", "rollout"}, args...), "--broker", d.url)...)
		if got.code != exitDone || !strings.Contains(got.stdout, "running") || !strings.Contains(got.stderr, "no controller serves") {
			t.Errorf("rollout %v: got %+v, want how it stood, and that no controller is there", args, got)
		}
	}
}

func TestWhatADeviceSaysOfARolloutIsNotObeyedByTheTerminal(t *testing.T) {
	d := wire.Rollout{ID: "night", State: wire.RolloutFailed, Why: "\033[2J", Devices: []wire.RolloutDevice{
		{Device: "d", State: wire.DeviceFailed, Detail: "a\nb\033]0;c\a"}}}
	text := strings.Join(append(append(phaseLines(d), deviceLines(d.Devices)...), changeLine(d), outcome(d).Error()), "|")
	if strings.ContainsAny(text, "\n\a\033") {
		t.Errorf("got %q, want no control characters", text)
	}
	if got := sentence("d", "failed", wire.Internal, "\033[2J"); strings.Contains(got, "\033") {
		t.Errorf("got %q, want no control characters", got)
	}
}

func TestWaitingForARolloutTellsThatTheControllerIsGoneAndEndsOnceTheRolloutIsNotKept(t *testing.T) {
	d := mustDesk(t)
	at := wire.Address{Fleet: wire.DefaultFleet, Device: wire.Controller}
	cfg := mqtt.Default()
	cfg.Broker, cfg.ClientID = d.url, "test"
	box, err := fleet.OpenMailbox(cfg, newLogger(t.Output(), "error"))
	if err != nil {
		t.Fatal(err)
	}
	cfg.ClientID = "watcher"
	r, err := controller.OpenRemote(cfg, wire.DefaultFleet, newLogger(t.Output(), "error"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	retain := func(topic string, v any) error {
		var b []byte
		if v != nil {
			b, _ = json.Marshal(v)
		}
		return box.Publish(ctx, mqtt.Message{Topic: topic, Payload: b, QoS: 1, Retained: true})
	}
	told, tells := io.Pipe()
	err = box.While(ctx, func(ctx context.Context) error {
		if err := retain(at.State(), wire.State{State: wire.Lost, BootID: "b"}); err != nil {
			return err
		}
		if err := retain(at.Rollout("r"), wire.Rollout{ID: "r", State: wire.RolloutRunning}); err != nil {
			return err
		}
		return r.While(ctx, func(ctx context.Context) error {
			if _, err := r.List(ctx); err != nil {
				return err
			}
			cleared := make(chan error, 1)
			go func() {
				text := make([]byte, 200)
				n, err := told.Read(text)
				if err == nil && !strings.Contains(string(text[:n]), "no controller serves") {
					t.Errorf("got %q, want that no controller is there", text[:n])
				}
				cleared <- retain(at.Rollout("r"), nil)
				io.Copy(io.Discard, told)
			}()
			err := (&followed{Remote: r, id: "r", wait: true}).print(ctx, t.Output(), tells, false)
			if err == nil || !strings.Contains(err.Error(), "not kept any more") {
				t.Errorf("got %v, want that the rollout is not kept", err)
			}
			tells.Close()
			return <-cleared
		})
	})
	if err != nil {
		t.Fatal(err)
	}
}
