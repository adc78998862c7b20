package engine

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/limber-edge/limber/agent/wire"
)

// withHangs has a largest member, alone in use by the mode, whose next runs hang.
func withHangs(n int) func(*rig) {
	return func(r *rig) {
		r.cfg.Mode = mode(r, "fixed:large")
		r.cpu.hang[2] = n
	}
}

func TestR4_AMemberThatHangsGetsANewSession(t *testing.T) {
	simulate(t, withHangs(1), func(t *testing.T, r *rig) {
		if got := r.ask(job(0, time.Minute)); got.Reason != wire.Internal ||
			!strings.Contains(got.Detail, "large: it was interrupted after 5") {
			t.Errorf("the job that hung: got %+v", got)
		}
		pass(time.Second)
		r.tells(wire.EventFault, "large hung and was interrupted; it gets a new session")
		if got := r.ask(job(0, time.Minute)); got.member != "large" || r.cpu.open != 3 {
			t.Errorf("the next job: got %+v with %d sessions open", got, r.cpu.open)
		}
		r.wants(Ready, "")
	})
}

func TestR4_AMemberThatGetsNoNewSessionIsFreedAndTriedAgain(t *testing.T) {
	simulate(t, withHangs(1), func(t *testing.T, r *rig) {
		r.cpu.change(func(l *fakeLoader) { l.faults[2] = errors.New("no room for it") })
		r.ask(job(0, time.Minute))
		pass(time.Second)
		r.tells(wire.EventFault, "large gets no new session; this is tried again: member 2: no room for it")
		if r.wants(Degraded, "large is out of use"); r.cpu.open != 2 {
			t.Errorf("%d sessions are open, want the one that hung closed", r.cpu.open)
		}
		r.cpu.change(func(l *fakeLoader) { l.faults[2] = nil })
		pass(time.Minute)
		r.tells(wire.EventMemory, "large is back in use")
		r.answeredBy("large")
	})
}

func TestR4_TheOnlyMemberThatGetsNoNewSessionGoesOn(t *testing.T) {
	simulate(t, func(r *rig) {
		r.cpu.faults = []error{nil, errors.New("canary"), errors.New("canary")}
		r.cpu.hang[0] = 1
	}, func(t *testing.T, r *rig) {
		r.cpu.change(func(l *fakeLoader) { l.faults[0] = errors.New("no room for it") })
		r.ask(job(0, time.Minute))
		pass(time.Second)
		if got := r.ask(job(0, time.Minute)); got.member != "small" {
			t.Errorf("got %+v, want an answer by the session that hung", got)
		}
	})
}

func TestR4_ManyHangsEndTheEngineAndFreeNothing(t *testing.T) {
	st := mustStore(t)
	synctest.Test(t, func(t *testing.T) {
		r := mustRig(t, st)
		withHangs(hangsMost)(r)
		r.start()
		synctest.Wait()
		for range hangsMost {
			r.ask(job(0, time.Minute))
			pass(time.Second)
		}
		err := <-r.ended
		if !errors.Is(err, ErrHung) || !strings.Contains(err.Error(),
			"member large: 3 inferences were interrupted within 1h0m0s") {
			t.Errorf("got %v, want an end", err)
		}
		if r.cpu.open != 3 {
			t.Errorf("%d sessions are open, want all three: one may still be running", r.cpu.open)
		}
		if got := r.ask(job(0, time.Minute)); got.Reason != wire.Busy || !got.Abandoned {
			t.Errorf("afterwards: got %+v, want a job left to others", got)
		}
	})
}

func TestR4_HangsThatAreFarApartEndNothing(t *testing.T) {
	simulate(t, withHangs(4), func(t *testing.T, r *rig) {
		for range 4 {
			r.ask(job(0, time.Minute))
			pass(31 * time.Minute)
		}
		r.answeredBy("large")
	})
}
