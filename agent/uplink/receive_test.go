package uplink

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
)

// check compares what waits in the outbox.
func (d *device) check(want ...string) {
	d.tb.Helper()
	if got := d.waiting(); !slices.Equal(got, want) {
		d.tb.Errorf("the outbox holds %q, want %q", got, want)
	}
}

// settleAll delivers what waits in the outbox.
func (d *device) settleAll() {
	d.tb.Helper()
	for _, r := range d.records() {
		d.outbox.Delivered(r.Seq)
		d.inbox.settle(r.Seq)
	}
}

// A client that has the answer may ask again before the device has put the job
// away; it must get the answer again, not be taken for one that waits.
func TestN10_AnAnsweredJobIsNotOpen(t *testing.T) {
	d, acks := mustDevice(t, nil), 0
	d.handler.busy = always
	d.receive(jobOf("once", "x"), &acks)
	d.receive(jobOf("once", "x"), &acks)
	if n := len(d.handler.all()); n != 1 || acks != 0 {
		t.Fatalf("handed on %d times, %d acknowledged; want once, none yet", n, acks)
	}
	reply(d.handler.all()[0])
	if acks != 0 {
		t.Errorf("%d acknowledged before the answer was delivered or on the disk", acks)
	}
	d.settleAll()
	if acks != 2 {
		t.Errorf("%d deliveries acknowledged, want the 2 from before the answer", acks)
	}
	got := d.repeated(func() { d.receive(jobOf("once", "x"), &acks) })
	d.check()
	if n := len(d.handler.all()); n != 1 || acks != 2 || len(got) != 1 || string(got[0].Payload) != "done once 1" {
		t.Errorf("handed on %d times, %d acknowledged, answered again %+v; want once, 2, once", n, acks, got)
	}
	if give(got[0].acks); acks != 3 {
		t.Errorf("%d acknowledged when it was published again, want 3", acks)
	}
}

func TestN10_ARequestIsKnownBeforeDuringAndAfterItIsCarriedOut(t *testing.T) {
	for name, m := range map[string]mqtt.Message{"job": jobOf("a", "x"), "command": command("mode", "a", "x")} {
		d, acks := mustDevice(t, nil), 0
		d.handler.busy = always
		d.receive(m, &acks)
		r := d.handler.all()[0]
		d.receive(m, &acks) // it waits
		r.Say("limber/v1/demo/desk/said", []byte("executing"))
		d.receive(duplicate(m), &acks) // it is carried out
		reply(r)
		last := d.waiting()[1]
		d.check("said: executing", last)
		d.receive(m, &acks) // it was answered
		d.settleAll()
		if n := len(d.handler.all()); n != 1 || acks != 4 {
			t.Errorf("%s: handed on %d times, %d acknowledged; want once, all 4", name, n, acks)
		}
		d.restart()
		got := d.repeated(func() { d.receive(m, &acks) }) // in an earlier run
		d.check()
		if n := len(d.handler.all()); n != 0 || len(got) != 1 || !strings.HasSuffix(last, ": "+string(got[0].Payload)) {
			t.Errorf("%s: handed on %d times after the restart, answered %+v; want not at all, %s", name, n, got, last)
		}
	}
}

func TestN10_OtherBytesUnderTheSameNameAreAConflict(t *testing.T) {
	for name, m := range map[string]func(body string) mqtt.Message{
		"job":     func(body string) mqtt.Message { return jobOf("a", body) },
		"command": func(body string) mqtt.Message { return command("mode", "a", body) },
	} {
		d, acks := mustDevice(t, nil), 0
		d.handler.busy = func(r *Request) bool { return !r.Conflict }
		d.receive(m("x"), &acks)
		d.receive(m("y"), &acks)
		d.receive(m("x"), &acks) // the open one is still that
		got := d.handler.all()
		if len(got) != 2 || got[0].Conflict || !got[1].Conflict {
			t.Fatalf("%s: handed on %+v, want one and a conflict", name, got)
		}
		reply(got[0])
		d.receive(m("y"), &acks)
		d.receive(m("x"), &acks)
		d.settleAll()
		if got := d.handler.all(); len(got) != 3 || !got[2].Conflict || acks != 5 {
			t.Errorf("%s: handed on %d, %d acknowledged; want 3 with another conflict, 5", name, len(got), acks)
		}
	}
}

// Ids belong to their verb, and jobs have none.
func TestNamesOfJobsAndVerbsAreApart(t *testing.T) {
	d, acks := mustDevice(t, nil), 0
	for _, m := range []mqtt.Message{jobOf("a", "x"), command("mode", "a", "x"), command("goal", "a", "y")} {
		d.receive(m, &acks)
	}
	d.check("result/a: done a 1", "ack/mode/a: done a 2", "ack/goal/a: done a 3")
}

func TestN10_ACopyOfQoS0TakesNothingFromAnOpenJob(t *testing.T) {
	d, acks, none := mustDevice(t, nil), 0, 0
	d.handler.busy = always
	d.receive(jobOf("a", "x"), &acks)
	copy := jobOf("a", "x")
	copy.QoS = 0
	d.receive(copy, &none)
	reply(d.handler.all()[0])
	d.settleAll()
	if n := len(d.handler.all()); n != 1 || acks != 1 || none != 0 {
		t.Errorf("handed on %d times, %d and %d acknowledged; want once, the one of QoS 1", n, acks, none)
	}
}

func TestN15_ADiscardedPayloadIsKnownByItsSize(t *testing.T) {
	d, acks := mustDevice(t, nil), 0
	big := func(size int) mqtt.Message { return mqtt.Message{Topic: self.Job("big"), QoS: 1, Oversize: size} }
	d.receive(big(5<<20), &acks)
	d.receive(big(5<<20), &acks)
	d.receive(big(6<<20), &acks)
	d.check("result/big: done big 1", "result/big: refused big 2")
}

func TestClearingARetainedJobIsNoJob(t *testing.T) {
	d, acks := mustDevice(t, nil), 0
	d.receive(kept(jobOf("kept", "x")), &acks)
	d.receive(jobOf("kept", ""), &acks)
	if n := len(d.handler.all()); n != 1 || acks != 1 {
		t.Errorf("handed on %d times, %d acknowledged; want the job alone, the clearing", n, acks)
	}
	// An id that was never used says the same twice, as any job does.
	d.receive(jobOf("empty", ""), &acks)
	d.receive(jobOf("empty", ""), &acks)
	d.check("result/kept: done kept 1", "result/empty: done empty 2")
}

func TestALostConnectionTakesItsAcknowledgementsAlong(t *testing.T) {
	d, dead, alive := mustDevice(t, nil), 0, 0
	d.handler.busy = func(r *Request) bool { return r.ID == "open" }
	d.receive(jobOf("answered", "x"), &dead)
	d.receive(jobOf("open", "x"), &dead)
	d.Lost(errors.New("cut"))
	d.receive(duplicate(jobOf("open", "x")), &alive)
	reply(d.handler.all()[1])
	d.settleAll()
	if dead != 0 || alive != 1 {
		t.Errorf("%d acknowledged to the old connection, %d to the new one; want none, 1", dead, alive)
	}
}

func TestStopIntakeLeavesNewRequestsToTheBroker(t *testing.T) {
	d, known, left, old := mustDevice(t, nil), 0, 0, 0
	d.receive(jobOf("known", "x"), &known)
	d.StopIntake()
	for _, m := range []mqtt.Message{jobOf("new", "x"), command("mode", "new", "x"), frameOf("front", "x", 1)} {
		d.receive(m, &left)
	}
	d.receive(jobOf("known", "x"), &known)
	d.receive(frameOf("front", "x", 0), &old) // the broker keeps none of QoS 0
	d.settleAll()
	if got := d.handler.all(); len(got) != 2 || known != 2 || left != 0 || len(d.inbox.open) != 0 {
		t.Errorf("handed on %d, acknowledged %d known and %d new, %d open; want 2, 2, 0, 0",
			len(got), known, left, len(d.inbox.open))
	}
}

func TestAReleasedRequestIsHandedOnAgain(t *testing.T) {
	d, acks := mustDevice(t, nil), 0
	d.handler.busy = always
	d.receive(jobOf("a", "x"), &acks)
	d.handler.all()[0].Release()
	d.receive(duplicate(jobOf("a", "x")), &acks)
	if n := len(d.handler.all()); n != 2 || acks != 0 {
		t.Fatalf("handed on %d times, %d acknowledged; want twice, none", n, acks)
	}
	d.handler.all()[1].Drop()
	if acks != 1 || len(d.inbox.open) != 0 {
		t.Errorf("%d acknowledged, %d open; want the dropped one, none", acks, len(d.inbox.open))
	}
}

func TestEachDesiredStateIsHandedOn(t *testing.T) {
	d, acks := mustDevice(t, nil), 0
	group := wire.Address{Fleet: "demo", Device: "@all"}
	for _, at := range []wire.Address{self, self, group} {
		d.receive(kept(mqtt.Message{Topic: at.Desired(), Payload: []byte("x"), QoS: 1}), &acks)
	}
	got := d.handler.all()
	if len(got) != 3 || acks != 3 || got[0].Address != self || got[2].Address != group {
		t.Errorf("handed on %+v, %d acknowledged; want 3 with the place they came to", got, acks)
	}
}

func TestP13_ABadIDIsToldOfAndAcknowledged(t *testing.T) {
	for _, topic := range []string{self.Job("front/42"), self.Job(""), self.Job("a b"), self.Cmd("mode", "a/b"),
		self.Frame(""), self.Frame(strings.Repeat("x", 41))} {
		d, acks := mustDevice(t, nil), 0
		d.receive(mqtt.Message{Topic: topic, Payload: []byte("x"), QoS: 1}, &acks)
		got, handed := d.waiting(), len(d.handler.all())
		if len(got) != 1 || acks != 1 || handed != 0 || !strings.HasPrefix(got[0], "event/warning: ") ||
			!strings.Contains(got[0], `"bad_id"`) || !strings.Contains(got[0], topic) {
			t.Errorf("%q: told %q, %d acknowledged, %d handed on; want an event that names it, 1, none",
				topic, got, acks, handed)
		}
	}
}

func TestWhatIsNotForADeviceIsAcknowledged(t *testing.T) {
	d, acks := mustDevice(t, nil), 0
	topics := []string{"other/topic", "limber/v2/demo/desk/job/a", self.State(), self.Synced(), self.Result("a")}
	for _, topic := range topics {
		d.receive(mqtt.Message{Topic: topic, QoS: 1}, &acks)
	}
	d.check()
	if acks != len(topics) || len(d.handler.all()) != 0 {
		t.Errorf("%d acknowledged, %d handed on; want all, none", acks, len(d.handler.all()))
	}
}

// A number that was given to a record which was not appended goes to the next one.
func TestAnAnswerThatIsLostTakesNothingFromTheNext(t *testing.T) {
	d, lost, acks := mustDevice(t, func(d *device) { d.options.Quota = 1 << 10 }), 0, 0
	d.handler.busy = always
	d.receive(jobOf("large", "x"), &lost)
	d.receive(jobOf("small", "x"), &acks)
	large, small := d.handler.all()[0], d.handler.all()[1]
	noted := d.inbox.answer(1, large, true)
	reply(small) // it has number 1 by now
	d.inbox.disown(1, noted)
	d.settleAll()
	if acks != 1 || lost != 0 {
		t.Errorf("%d of the next acknowledged, %d of the lost one; want 1, 0", acks, lost)
	}
	d.receive(jobOf("large", "x"), &lost) // the broker delivers it again
	again := d.handler.all()[2]
	again.Answer(self.Result("large"), func(uint64) ([]byte, error) { return make([]byte, 2<<10), nil })
	d.check()
	d.receive(jobOf("large", "x"), &lost)
	if n := len(d.handler.all()); n != 4 || lost != 0 {
		t.Errorf("handed on %d times, %d acknowledged; want the lost one once more, none", n-3, lost)
	}
}

func TestARequestWhoseAnswerCannotBeReadIsAFaultAndNotRemembered(t *testing.T) {
	d, acks := mustDevice(t, nil), 0
	d.receive(jobOf("a", "x"), &acks)
	d.receive(command("mode", "a", "x"), &acks)
	d.commit()
	if err := d.outbox.Close(); err != nil {
		t.Fatal(err)
	}
	d.handler.busy = always
	d.receive(jobOf("a", "x"), &acks)
	d.receive(command("mode", "a", "x"), &acks)
	d.receive(duplicate(frameOf("front", "x", 1)), &acks) // not known at all
	got := d.handler.all()[2:]
	if len(got) != 3 || got[0].Fault == nil || got[1].Fault == nil || got[2].Fault != nil {
		t.Fatalf("handed on %+v, want two faults and a frame", got)
	}
	if d.inbox.has("a") || d.inbox.has("mode/a") {
		t.Error("a fault keeps its name")
	}
}

func TestWhatTheReplayHasNoRoomForIsAFault(t *testing.T) {
	d, acks := mustDevice(t, nil), 0
	d.receive(jobOf("a", "x"), &acks)
	d.handler.busy = always
	d.replays.bytes = backlogBytes
	d.receive(jobOf("a", "x"), &acks)
	got := d.handler.all()
	if len(got) != 2 || !errors.Is(got[1].Fault, errBehind) || d.replays.bytes != backlogBytes {
		t.Errorf("handed on %+v, want a fault", got)
	}
}

// A sender that starts anew may send all that it ever sent at once.
func TestEachOfManyCopiesIsAnsweredAgainHoweverSlowTheDisk(t *testing.T) {
	const jobs = 5000
	d, acks := mustDevice(t, nil), 0
	for i := range jobs {
		d.receive(jobOf(fmt.Sprint(i), "x"), &acks)
	}
	for i := range jobs {
		d.Receive(jobOf(fmt.Sprint(i), "x"), func() { acks++ }) // before any is looked up
	}
	d.lookAllUp()
	d.settleAll()
	if n := len(d.handler.all()); n != jobs || acks != 2*jobs || d.replays.bytes != 0 {
		t.Errorf("%d handed on, %d acknowledged, %d bytes wait; want each once, all, none", n, acks, d.replays.bytes)
	}
}

// Copies of a job that is being looked up wait with it; other bytes are judged by
// the stored answer, not by it.
func TestWhatIsBeingLookedUpIsOpen(t *testing.T) {
	d, acks := mustDevice(t, nil), 0
	ack := func() { acks++ }
	d.receive(jobOf("a", "x"), &acks)
	for _, body := range []string{"y", "y", "x", "x"} {
		d.Receive(jobOf("a", body), ack)
	}
	if n := len(d.replays.waiting); n != 3 {
		t.Errorf("%d are looked up, want the first with each bytes and those that are not open", n)
	}
	d.lookAllUp()
	d.settleAll()
	if got := d.handler.all(); len(got) != 2 || !got[1].Conflict || acks != 5 {
		t.Errorf("handed on %+v, %d acknowledged; want the job and one conflict, 5", got, acks)
	}
}

func TestAnAnswerThatIsGoneLetsTheRequestInAgain(t *testing.T) {
	d, acks := mustDevice(t, nil), 0
	r := d.newRequest(wire.KindJob, jobOf("a", "x"), func() { acks++ })
	r.ID = "a"
	d.again(d.tb.Context(), r) // the record it was looked up for is damaged, or of another name
	d.check("result/a: done a 1")
	f := d.newRequest(wire.KindFrame, duplicate(frameOf("front", "x", 1)), func() { acks++ })
	f.Source = "front"
	d.again(d.tb.Context(), f)
	d.settleAll()
	if got := d.handler.all(); len(got) != 2 || got[1].ID != "front-01234567-1" || acks != 2 {
		t.Errorf("handed on %+v, %d acknowledged; want both", got, acks)
	}
}

func TestC3_WhatIsForAnotherDeviceOrFleetIsLeftAloneAndTold(t *testing.T) {
	d := mustDevice(t, func(d *device) {
		d.cfg.Link.Subscriptions = []mqtt.Subscription{
			{Filter: self.Filter(wire.KindCmd)}, {Filter: "limber/v1/demo/@all/cmd/#"}, {Filter: self.Filter(wire.KindJob)}}
	})
	acks := 0
	for _, topic := range []string{
		"limber/v1/demo/other/cmd/mode/a", "limber/v1/other/desk/cmd/mode/a", "limber/v1/demo/@gate/cmd/mode/a",
		"limber/v1/demo/desk/desired", "limber/v1/demo/other/job/a", "limber/v1/demo/desk/frame/front",
	} {
		d.receive(mqtt.Message{Topic: topic, Payload: []byte("x"), QoS: 1}, &acks)
	}
	if told := d.waiting(); len(d.handler.all()) > 0 || acks != 6 || len(told) != 1 ||
		!strings.Contains(told[0], `did not ask for and leaves alone: \"limber/v1/demo/other/cmd/mode/a\"`) {
		t.Errorf("%d handed on, %d acknowledged, told %q; want none, 6, one event", len(d.handler.all()), acks, told)
	}
	for _, place := range []string{"desk", "@all"} {
		d.receive(mqtt.Message{Topic: "limber/v1/demo/" + place + "/cmd/mode/b", Payload: []byte("x"), QoS: 1}, &acks)
	}
	if n := len(d.handler.all()); n != 1 { // one id
		t.Errorf("%d handed on, want its own", n)
	}
}

// FuzzReceive reads a script of messages, one a byte, and holds the uplink to its
// rule: a message of QoS 1 is open, answered or acknowledged.
func FuzzReceive(f *testing.F) {
	f.Add("limber/v1/demo/desk/job/a", "limber/v1/demo/desk/cmd/mode/a", []byte("\x01\x05\x02\x01\x07\x00"))
	f.Add("limber/v1/demo/desk/frame/front", "cam/door/jpg", []byte("\x05\x01\x0d\x11\x31\x02\x03"))
	f.Add("limber/v1/demo/@all/desired", "limber/v1/demo/desk/job/a/b", []byte("\x01\x09\x00"))
	f.Fuzz(func(t *testing.T, one, other string, script []byte) {
		d := mustDevice(t, func(d *device) { d.cfg.Sources = []Source{{Name: "door", Filter: "cam/#"}} })
		verdict := byte(0)
		d.handler.busy = func(r *Request) bool { return verdict&0x20 != 0 }
		var acks []int
		for _, b := range script[:min(len(script), 50)] {
			verdict = b
			m := mqtt.Message{
				Topic: []string{one, other}[b>>1&1], QoS: b & 1, Duplicate: b&4 != 0, Retained: b&8 != 0,
				Payload: []byte{b >> 4 & 1},
			}
			i := len(acks)
			acks = append(acks, 1-int(m.QoS))
			d.Receive(m, func() { acks[i] += int(m.QoS) })
			if b&0x40 != 0 {
				d.lookAllUp()
			}
		}
		d.lookAllUp()
		d.account(t, acks)
	})
}

// account compares the acknowledgements that are owed with those that were not
// given: acks has 0 for a message of QoS 1 that was not acknowledged, else 1.
func (d *device) account(t *testing.T, acks []int) {
	owed := 0
	for _, r := range d.handler.all() {
		owed += len(r.acks)
	}
	for _, a := range d.inbox.answered {
		owed += len(a.acks)
	}
	for i, n := range acks {
		switch {
		case n > 1:
			t.Errorf("message %d was acknowledged %d times", i, n)
		case n == 0:
			owed--
		}
	}
	if owed < 0 {
		t.Errorf("%d messages of QoS 1 are neither open nor answered nor acknowledged", -owed)
	}
}

// has tells whether a request with this key is open.
func (b *inbox) has(key string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.open[key] != nil
}
