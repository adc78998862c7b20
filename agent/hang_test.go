package agent_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/limber-edge/limber/agent"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family"
)

// hangingShelf has a member whose first session hangs in its first run. The one
// after it may fail.
type hangingShelf struct {
	agent.Shelf
	member int
	fails  bool
	given  int
}

func (s *hangingShelf) Session(i int) (family.Session, error) {
	session, err := s.Shelf.Session(i)
	if err != nil || i != s.member {
		return session, err
	}
	s.given++
	switch {
	case s.given == 1:
		return hangingSession{session, make(chan struct{})}, nil
	case s.given == 2 && s.fails:
		return nil, errors.Join(errors.New("no room for it"), session.Close())
	}
	return session, nil
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

// hangs has a device whose largest member hangs run it, and returns the frame.
func hangs(t *testing.T, how string) (o *operator, cfg agent.Config, frame []byte) {
	t.Helper()
	addr := serve(t)
	cfg = newConfig(t, addr)
	cfg.Mode = "fixed:23.1M"
	o = operate(t, addr)
	d := start(t, cfg, envHang+"="+how, mustMachine(t).env())
	o.presence(cfg, wire.Online, 0)
	d.awaitLog("ready", 1)
	frame = job(t, patient, pngFrame(t, 0))
	o.publish(self(cfg).Job("first"), frame)
	first := o.result(cfg, "first", 1)
	for n := 0; first.Status == wire.OK; n++ { // before the member was loaded
		id := ids("more", n+1)[n]
		o.publish(self(cfg).Job(id), frame)
		first = o.result(cfg, id, 1)
	}
	if first.Reason != wire.Internal || !strings.Contains(first.Detail, "23.1M: it was interrupted after 5") {
		t.Errorf("the job that hung: got %+v", first)
	}
	return o, cfg, frame
}

// tells waits for an event with a text.
func (o *operator) tells(cfg agent.Config, kind wire.EventKind, text string) {
	o.tb.Helper()
	o.until(func() bool {
		return slices.ContainsFunc(o.events(cfg, kind), func(e wire.Event) bool { return strings.Contains(e.Detail, text) })
	}, "the device tells: %s", text)
}

func TestR4_AMemberThatHangsGetsANewSession(t *testing.T) {
	t.Parallel()
	o, cfg, frame := hangs(t, "23.1M")
	o.tells(cfg, wire.EventFault, "23.1M hung and was interrupted; it gets a new session")
	o.publish(self(cfg).Job("next"), frame)
	if next := o.result(cfg, "next", 1); next.Status != wire.OK {
		t.Errorf("the next job: got %+v", next)
	}
	o.telemetry(cfg, func(s wire.Telemetry) bool { return s.Member == "23.1M" }, "the member is back in use")
}

func TestR4_AMemberThatGetsNoNewSessionIsFreedAndTriedAgain(t *testing.T) {
	t.Parallel()
	o, cfg, frame := hangs(t, "23.1M!")
	o.tells(cfg, wire.EventFault, "23.1M gets no new session; this is tried again: no room for it")
	o.tells(cfg, wire.EventMemory, "23.1M is back in use")
	o.answeredBy(cfg, "23.1M", frame)
}
