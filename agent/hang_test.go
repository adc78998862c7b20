package agent_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/limber-edge/limber/agent"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family"
)

// hangingShelf has a member whose first session hangs in its first run.
type hangingShelf struct {
	agent.Shelf
	member int
	given  bool
}

func (s *hangingShelf) Session(i int) (family.Session, error) {
	session, err := s.Shelf.Session(i)
	if err != nil || i != s.member || s.given {
		return session, err
	}
	s.given = true
	return hangingSession{session, make(chan struct{})}, nil
}

type hangingSession struct {
	family.Session
	interrupted chan struct{}
}

func (s hangingSession) Run(out []float32, in ...[]float32) error {
	<-s.interrupted
	return errors.New("terminated")
}

func (s hangingSession) Interrupt() { close(s.interrupted) }

func TestR4_AMemberThatHangsGetsANewSession(t *testing.T) {
	t.Parallel()
	addr := serve(t)
	cfg := newConfig(t, addr)
	cfg.Mode = "fixed:31.5M"
	o := operate(t, addr)
	d := start(t, cfg, envHang+"=31.5M")
	o.presence(cfg, wire.Online, 0)
	d.awaitLog("ready", 1)
	frame := job(t, patient, pngFrame(t, 0))
	o.publish(self(cfg).Job("first"), frame)
	first := o.result(cfg, "first", 1)
	for n := 0; first.Status == wire.OK; n++ { // before the member was loaded
		id := ids("more", n+1)[n]
		o.publish(self(cfg).Job(id), frame)
		first = o.result(cfg, id, 1)
	}
	if first.Reason != wire.Internal || !strings.Contains(first.Detail, "31.5M: it was interrupted after 5") {
		t.Errorf("the job that hung: got %+v", first)
	}
	o.until(func() bool {
		for _, m := range o.matching(self(cfg).Event(wire.SeverityError)) {
			if strings.Contains(decoded[wire.Event](t, m).Detail, "31.5M hung and was interrupted; it gets a new session") {
				return true
			}
		}
		return false
	}, "the device tells of it")
	o.publish(self(cfg).Job("next"), frame)
	if next := o.result(cfg, "next", 1); next.Status != wire.OK {
		t.Errorf("the next job: got %+v", next)
	}
	o.telemetry(cfg, func(s wire.Telemetry) bool { return s.Member == "31.5M" }, "the member is back in use")
}
