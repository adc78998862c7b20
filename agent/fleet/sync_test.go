package fleet_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/wire"
)

func TestEachDeviceThatAsksIsToldTheTimeWithItsOwnWords(t *testing.T) {
	t.Parallel()
	addr := serve(t)
	devices := open(t, addr, device("cam-1").Synced(), device("cam-2").Synced())
	publish(t, devices, device("cam-2").Sync(), true, wire.Sync{TS: wire.At(time.Now()), BootID: "old", ConnSeq: 9})
	// A broker acknowledges before it hands on, and the box must not get this one live. The
	// next acknowledgement says that it was handed on.
	publish(t, devices, device("cam-2").State(), true, wire.State{State: wire.Online})
	box := open(t, addr, fleet.SyncFilters("yard")...)
	type told struct {
		fleet.Synced
		err error
	}
	said := make(chan told, 10)
	run(t, func(ctx context.Context) error {
		return box.AnswerSync(ctx, func(s fleet.Synced, err error) { said <- told{s, err} })
	})
	next := func() told {
		select {
		case s := <-said:
			return s
		case <-time.After(patience):
			t.Fatal("nothing is said")
			return told{}
		}
	}
	if s := next(); s.Device != "cam-2" || s.err == nil || !strings.Contains(s.err.Error(), "retained") {
		t.Errorf("got %+v, want the retained one refused", s)
	}
	publish(t, devices, device("cam-1").Sync(), false, []byte("now?"))
	if s := next(); s.Device != "cam-1" || s.err == nil {
		t.Errorf("got %+v, want one that cannot be read", s)
	}
	slow := wire.At(time.Now().Add(-time.Hour))
	publish(t, devices, device("cam-1").Sync(), false, wire.Sync{TS: slow, BootID: "b3f1", ConnSeq: 4})
	if s := next(); s.err != nil || s.Device != "cam-1" || s.BootID != "b3f1" || s.ConnSeq != 4 || s.BehindMS < 3.6e6 {
		t.Errorf("got %+v, want an hour behind", s)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	m, err := devices.Next(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var answer wire.Synced
	err = wire.Decode(m.Payload, &answer)
	if err != nil || m.Topic != device("cam-1").Synced() || m.Retained || m.QoS != 1 ||
		answer.BootID != "b3f1" || answer.ConnSeq != 4 || time.Since(answer.TS.Time).Abs() > time.Minute {
		t.Errorf("got %+v, %+v, %v", m, answer, err)
	}
}

func TestC15_WhoMayNotTellTheTimeIsToldSo(t *testing.T) {
	t.Parallel()
	addr := serve(t)
	cfg := link(addr)
	cfg.User = wire.Viewer
	box, err := fleet.OpenMailbox(cfg, discard(), fleet.SyncFilters("yard")...)
	if err != nil {
		t.Fatal(err)
	}
	mustReady(t, box)
	ended := make(chan error, 1)
	go func() {
		ended <- box.AnswerSync(t.Context(), func(s fleet.Synced, err error) { t.Errorf("told %+v, %v", s, err) })
	}()
	publish(t, open(t, addr), device("cam-1").Sync(), false, wire.Sync{TS: wire.At(time.Now()), BootID: "b3f1", ConnSeq: 4})
	select {
	case err := <-ended:
		if !errors.Is(err, fleet.ErrDropped) {
			t.Errorf("got %v, want %v", err, fleet.ErrDropped)
		}
	case <-time.After(patience):
		t.Error("nothing is said")
	}
}
