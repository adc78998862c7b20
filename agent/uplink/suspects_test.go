package uplink

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
)

// cutOff has the next run follow one that did not end in order.
func (d *device) cutOff() (stop func()) {
	d.tb.Helper()
	d.restart()
	d.suspects.begin()
	d.handler.busy = always
	return d.background(func(ctx context.Context) error {
		if err := d.guard(ctx); !errors.Is(err, context.Canceled) {
			return err
		}
		return nil
	})
}

// watched is a device whose first run was cut off.
func watched(tb testing.TB) (d *device, stop func()) {
	tb.Helper()
	d = mustDevice(tb, nil)
	d.suspects.begin()
	return d, d.cutOff()
}

// names are the requests that were handed on so far.
func (h *fakeHandler) names() string {
	var all []string
	for _, r := range h.all() {
		name := r.ID
		if r.Fatal {
			name += " fatal"
		}
		all = append(all, name)
	}
	return strings.Join(all, ", ")
}

func (d *device) hear(m mqtt.Message) { d.Receive(m, func() {}) }

func TestR5_WhatComesAgainAfterARunThatWasCutOffIsServedAlone(t *testing.T) {
	d, stop := watched(t)
	defer stop()
	names := []string{"a", "b", "c"}
	for _, id := range names {
		d.hear(duplicate(jobOf(id, "x")))
	}
	d.hear(duplicate(frameOf("front", "x", 1)))
	for i, id := range append(names, "front-fedcba98-1") {
		d.handler.await(t, i+1)
		if got := d.handler.all(); len(got) != i+1 || got[i].ID != id {
			t.Fatalf("served %s; want %s alone", d.handler.names(), id)
		}
		reply(d.handler.all()[i])
	}
}

func TestR5_WhatIsNewIsServedBetweenTwoThatAreServedAlone(t *testing.T) {
	d, stop := watched(t)
	defer stop()
	d.hear(duplicate(jobOf("again-1", "x")))
	d.hear(duplicate(jobOf("again-2", "x")))
	d.handler.await(t, 1)
	for i := range newMost {
		d.hear(jobOf(fmt.Sprint("new-", i), "x"))
	}
	d.hear(frameOf("front", "y", 0))
	d.hear(command("mode", "c", "x"))
	served := 0
	for _, step := range []struct{ ended, served string }{
		{"", "again-1, c"}, // a command waits for nothing
		{"again-1", "new-0, new-1, new-2, new-3"},
		{"new-3, new-1, new-0, new-2", "again-2"},
		{"again-2", "front-fedcba98-1"},
	} {
		for _, r := range d.handler.all() {
			if strings.Contains(step.ended, r.ID) {
				reply(r)
			}
		}
		want := strings.Split(step.served, ", ")
		d.handler.await(t, served+len(want))
		if got := d.handler.names(); !strings.HasSuffix(got, step.served) {
			t.Fatalf("after %q: served %s, want %s at last", step.ended, got, step.served)
		}
		served += len(want)
	}
}

func TestWhatWaitsForItsTurnElsewhereHoldsUpNoSuspect(t *testing.T) {
	d, stop := watched(t)
	defer stop()
	d.suspects.connected(false)
	d.handler.paced = func(r *Request) bool { return r.Kind == wire.KindFrame }
	d.hear(frameOf("front", "x", 0))
	d.hear(duplicate(jobOf("again", "x")))
	got := d.handler.await(t, 2)
	turn := make(chan bool, 1)
	got[0].Serve(func() { turn <- true })
	if len(turn) > 0 {
		t.Error("the frame is decoded beside the suspect")
	}
	reply(got[1])
	<-turn
}

func TestWhatIsNewIsServedBesideOthersAlsoAfterARunThatWasCutOff(t *testing.T) {
	d, stop := watched(t)
	defer stop()
	d.suspects.connected(false)
	for i := range 10 {
		d.hear(jobOf(fmt.Sprint(i), "x"))
	}
	if n := len(d.handler.all()); n != 10 {
		t.Errorf("%d are handed on at once, want 10", n)
	}
	d.hear(duplicate(jobOf("again", "x")))
	for i, r := range d.handler.await(t, 10) {
		if n := len(d.handler.all()); n != 10 {
			t.Errorf("the suspect is served beside %d others", 10-i)
		}
		reply(r)
	}
	d.handler.await(t, 11)
}

func TestR5_AFrameThatWasServedAloneWhenARunWasCutOffIsRefusedForGood(t *testing.T) {
	for _, tt := range []struct {
		name   string
		m      mqtt.Message
		others []mqtt.Message
	}{
		{"a job", jobOf("deadly", "x"), []mqtt.Message{duplicate(jobOf("deadly", "y")), duplicate(jobOf("b", "x"))}},
		{"a frame", frameOf("front", "x", 1), []mqtt.Message{
			duplicate(frameOf("front", "y", 1)), duplicate(frameOf("back", "x", 1)), frameOf("front", "x", 1)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d, stop := watched(t)
			d.hear(duplicate(tt.m))
			d.handler.await(t, 1)
			stop()
			d.cutOff()()
			stop = d.cutOff() // it is remembered over further runs
			defer stop()
			for i, m := range tt.others {
				d.hear(m)
				r := d.handler.await(t, i+1)[i]
				if r.Fatal {
					t.Errorf("%s, %q is taken for it", m.Topic, m.Payload)
				}
				r.Drop()
			}
			acks := 0
			d.Receive(duplicate(tt.m), func() { acks++ })
			r := d.handler.await(t, len(tt.others)+1)[len(tt.others)]
			reply(r)
			told := strings.Join(d.waiting(), "\n")
			if !r.Fatal || !strings.Contains(told, "cut off twice while it was served") {
				t.Errorf("handed on %s, told %s; want it fatal, and a fault", d.handler.names(), told)
			}
			d.settleAll()
			again := d.repeated(func() { d.receive(duplicate(tt.m), &acks) })
			if n := len(d.handler.all()); n != len(tt.others)+1 || len(again) != 1 {
				t.Errorf("handed on %d times, answered again %+v; want its answer again", n-len(tt.others), again)
			}
		})
	}
}

func TestASuspectIsServedAloneOnceMoreWhereSomethingElseMayBeToBlame(t *testing.T) {
	d, stop := watched(t)
	d.hear(duplicate(jobOf("a", "x")))
	d.handler.await(t, 1)
	for i, acquit := range []bool{true, false} {
		stop()
		d.cfg.Acquit = acquit
		stop = d.cutOff()
		d.hear(duplicate(jobOf("a", "x")))
		if r := d.handler.await(t, 1)[0]; r.Fatal == acquit {
			t.Errorf("run %d: fatal %t", i+2, r.Fatal)
		}
	}
	d.settleAll()
	stop()
}

func TestNothingIsSuspectedAfterAnOrderlyEnd(t *testing.T) {
	d, stop := watched(t)
	d.hear(duplicate(jobOf("a", "x")))
	d.handler.await(t, 1) // a farewell came before its answer
	stop()
	d.EndInOrder()
	stop = d.cutOff()
	defer stop()
	before, err := d.state.Cell(cellRun)
	if err != nil {
		t.Fatal(err)
	}
	d.hear(duplicate(jobOf("a", "x")))
	d.hear(duplicate(jobOf("b", "x")))
	after, err := d.state.Cell(cellRun)
	if got := d.handler.names(); got != "a, b" || err != nil || string(before) != string(after) {
		t.Errorf("handed on %s, recorded %s, %v; want both at once, %s", got, after, err, before)
	}
}

func TestAnAnsweredSuspectIsNotRecordedAnyMore(t *testing.T) {
	for _, next := range []struct {
		m    mqtt.Message
		want string
	}{
		{duplicate(jobOf("b", "x")), "[job b"},
		{jobOf("new", "x"), "[]"},
	} {
		d, stop := watched(t)
		d.hear(duplicate(jobOf("a", "x")))
		r := d.handler.await(t, 1)[0]
		d.hear(next.m)
		reply(r)
		d.handler.await(t, 2) // the first is known to have ended by then
		stop()
		d.cutOff()()
		if got := fmt.Sprint(d.suspects.run.Refused); !strings.HasPrefix(got, next.want) {
			t.Errorf("%s: refused are %s, want %s", next.m.Topic, got, next.want)
		}
	}
}

func TestOnlyWhatWasBeingDecodedIsRefused(t *testing.T) {
	who := suspect{Job: "a", Digest: "00"}
	for _, tt := range []struct {
		name    string
		unable  bool // to set a mark
		reached func(*suspects)
		want    bool
	}{
		{"while it is recorded", false, func(s *suspects) {
			s.run.Marked = true
			s.write(&who)
		}, false},
		{"while it is decoded", false, func(s *suspects) { s.record(who) }, true},
		{"when it has ended", false, func(s *suspects) { s.record(who); s.clear() }, false},
		{"while another one is recorded", false, func(s *suspects) {
			s.record(who)
			s.clear()
			s.write(&who)
		}, false},
		{"while it is decoded", true, func(s *suspects) { s.record(who) }, true},
		{"when it has ended", true, func(s *suspects) { s.record(who); s.clear() }, false},
	} {
		d := mustDevice(t, nil)
		if tt.unable {
			if err := os.Mkdir(filepath.Join(d.dir, "limber.db.mark"), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		d.suspects.begin()
		tt.reached(d.suspects)
		d.restart()
		d.suspects.begin()
		if got := len(d.suspects.run.Refused) > 0; got != tt.want {
			t.Errorf("cut off %s, unable %v: refused %v, want %v", tt.name, tt.unable, got, tt.want)
		}
	}
}

func TestR5_WhatWasBeingServedWhenTheMachineEndedIsServedAloneOnceMore(t *testing.T) {
	for _, tt := range []struct {
		machines string // on which the run is that was cut off, and each one after it
		want     bool   // refused in the last of them
	}{
		{"a a", true},
		{"a b", false},
		{"a b c", true},
		{"a b b", true},
		{"- -", true}, // not known
		{"- b", true},
	} {
		machines := strings.Fields(tt.machines)
		d := mustDevice(t, func(d *device) { d.cfg.Machine = strings.Trim(machines[0], "-") })
		d.suspects.begin()
		stop := d.cutOff()
		for i, machine := range machines[1:] {
			d.hear(duplicate(jobOf("deadly", "x")))
			if d.handler.await(t, 1)[0].Fatal {
				t.Errorf("machines %s: refused at end %d", tt.machines, i)
			}
			stop()
			d.cfg.Machine = strings.Trim(machine, "-")
			stop = d.cutOff()
		}
		d.hear(duplicate(jobOf("deadly", "x")))
		if got := d.handler.await(t, 1)[0].Fatal; got != tt.want {
			t.Errorf("machines %s: refused %v, want %v", tt.machines, got, tt.want)
		}
		stop()
	}
}

func TestSuspicionEndsWithTheFirstMinuteOfAConnectionAndWhatItBrought(t *testing.T) {
	for _, tt := range []struct {
		name    string
		lasted  time.Duration
		present bool
		m       mqtt.Message
		want    bool
	}{
		{"marked", 0, true, duplicate(jobOf("a", "x")), true},
		{"marked, in a new session", 0, false, duplicate(jobOf("a", "x")), true},
		{"not marked", 0, true, jobOf("a", "x"), true},
		{"not marked, in a new session", 0, false, jobOf("a", "x"), false},
		{"of QoS 0", 0, true, frameOf("a", "x", 0), false},
		{"within the minute", suspectTime - time.Second, true, duplicate(jobOf("a", "x")), true},
		{"after it", suspectTime, true, duplicate(jobOf("a", "x")), false},
	} {
		s := newSuspects(Config{}, nil, discard())
		s.watching.Store(true)
		s.connected(tt.present)
		s.up = s.up.Add(-tt.lasted)
		r := &Request{Message: tt.m}
		held := s.hold(r)
		if !held && s.defers(r, nil) {
			t.Errorf("%s: what is new waits", tt.name)
		}
		if held != tt.want || s.watching.Load() != (tt.lasted < suspectTime) {
			t.Errorf("%s: held back %v, want %v; watching %v", tt.name, held, tt.want, s.watching.Load())
		}
	}
	s := newSuspects(Config{}, nil, discard())
	s.watching.Store(true)
	s.connected(true)
	s.lost() // before it brought anything
	marked, not := &Request{Message: duplicate(jobOf("a", "x"))}, &Request{Message: jobOf("b", "x")}
	s.hold(marked)
	s.hold(not)
	if !marked.suspected || not.suspected {
		t.Error("the next connection's are not told apart")
	}
}

func TestASuspectThatFindsNoRoomIsLeftToTheBroker(t *testing.T) {
	d, stop := watched(t)
	defer stop()
	d.suspects.waiting.bytes = backlogBytes
	acks := 0
	d.Receive(duplicate(jobOf("a", "x")), func() { acks++ })
	d.Receive(jobOf("b", "x"), func() { acks++ })
	if got := d.handler.names(); got != "b" || acks != 0 || d.inbox.has("a") {
		t.Errorf("handed on %s, %d acknowledged, open %v; want b, none, not", got, acks, d.inbox.has("a"))
	}
}
