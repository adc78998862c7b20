package agent_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
)

func TestClearingARetainedJobIsNoJob(t *testing.T) {
	t.Parallel()
	brokers(t, func(t *testing.T, addr string) {
		o, cfg, d := online(t, addr, rig{})
		wipe := func(id string) {
			o.publishAs(mqtt.Message{Topic: self(cfg).Job(id), QoS: 1, Retained: true})
		}
		payload := job(t, patient, pngFrame(t, 0))
		o.publishAs(mqtt.Message{Topic: self(cfg).Job("kept"), Payload: payload, QoS: 1, Retained: true})
		if r := o.result(cfg, "kept", 1); r.Status != wire.OK {
			t.Fatalf("got %+v, want an answer", r)
		}
		wipe("kept")
		answered(t, o, cfg.Device, "behind", job(t, patient, pngFrame(t, 1)))
		d.stop() // the broker has the acknowledgement, or would deliver it to the next start
		start(t, cfg, rig{})
		o.presence(cfg, wire.Online, len(o.matching(self(cfg).State())))
		answered(t, o, cfg.Device, "restarted", job(t, patient, pngFrame(t, 2)))
		if n := len(o.matching(self(cfg).Result("kept"))); n != 1 {
			t.Errorf("got %d answers, want none to the clearing", n)
		}
		// An id that was never used says the same twice, as any job does.
		wipe("empty")
		o.result(cfg, "empty", 1)
		wipe("empty")
		o.result(cfg, "empty", 2)
		if r := o.result(cfg, "empty", 1); r.Reason != wire.Invalid || o.identical(cfg, "empty") != 2 {
			t.Errorf("an empty job: got %+v, want refused: invalid, twice alike", r)
		}
	})
}

// The outbox keeps what was answered, the store what the device is.
func TestS14_AnEmptyStateFileIsTold(t *testing.T) {
	t.Parallel()
	addr := serve(t)
	cfg := newConfig(t, addr)
	if err := os.Mkdir(cfg.State, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"limber.db", "outbox.db"} {
		if err := os.WriteFile(filepath.Join(cfg.State, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	o := operate(t, addr)
	start(t, cfg, rig{})
	o.presence(cfg, wire.Online, 0)
	e := decoded[wire.Event](t, o.await(self(cfg).Event(wire.SeverityError), 1))
	if e.Kind != wire.EventFault || !strings.Contains(e.Detail, "limber.db.corrupt-") ||
		!strings.Contains(e.Detail, "outbox.db.corrupt-") {
		t.Errorf("got %+v, want a fault that names both files", e)
	}
	m := answered(t, o, cfg.Device, "frame", job(t, patient, pngFrame(t, 0)))
	if r := decoded[wire.Result](t, m); r.Status != wire.OK {
		t.Errorf("got %+v, want an answer", r)
	}
}
