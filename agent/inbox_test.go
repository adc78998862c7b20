package agent

import (
	"errors"
	"testing"

	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/pipeline"
	"github.com/limber-edge/limber/agent/wire"
)

// A client that has the answer may ask again before the device has put the job
// away; it must get the answer again, not be taken for one that waits.
func TestN10_AnAnsweredJobIsNotOpen(t *testing.T) {
	b := newInbox()
	acks := 0
	delivery := func() *ticket {
		return &ticket{id: "once", request: requestOf(mqtt.Message{}), qos: 1, acks: []func(){func() { acks++ }}}
	}
	first := delivery()
	b.admit(first)
	if open := b.meet(delivery()); open != first {
		t.Fatalf("a copy that comes before the answer met %v, want the open job", open)
	}
	b.answer(7, first)
	if open := b.meet(delivery()); open != nil {
		t.Errorf("a copy that comes after the answer met %v, want none", open)
	}
	b.settle(7)
	if acks != 2 {
		t.Errorf("%d deliveries acknowledged, want the 2 from before the answer", acks)
	}
}

func TestM14_AJobThatCameBeforeItWasKnownThatThereIsNoMemberIsUnsupported(t *testing.T) {
	a := new(Agent)
	abandoned := func() *pipeline.Answer {
		return &pipeline.Answer{Reason: wire.Busy, Detail: "the agent is stopping", Abandoned: true}
	}
	if got := a.reworded(abandoned()); got.Reason != wire.Busy || !got.Abandoned {
		t.Errorf("an agent that stops: got %+v, want it as it is", got)
	}
	err := errors.New("no member can be used")
	a.noCrew.Store(&err)
	if got := a.reworded(abandoned()); got.Reason != wire.Unsupported || got.Detail != err.Error() || got.Abandoned {
		t.Errorf("got %+v, want unsupported: %v", got, err)
	}
}

func TestALostConnectionTakesItsAcknowledgementsAlong(t *testing.T) {
	b := newInbox()
	acks := 0
	ack := func() { acks++ }
	answered, open := &ticket{id: "answered", qos: 1, acks: []func(){ack}, request: requestOf(mqtt.Message{})}, &ticket{id: "open", qos: 1, acks: []func(){ack}, request: requestOf(mqtt.Message{})}
	b.admit(answered)
	b.admit(open)
	b.answer(1, answered)
	b.hangUp()
	b.meet(&ticket{id: "open", qos: 1, acks: []func(){ack}, request: requestOf(mqtt.Message{})}) // delivered again
	b.answer(2, open)
	b.settle(1)
	b.settle(2)
	if acks != 1 {
		t.Errorf("%d acknowledged, want the one of the new connection", acks)
	}
}

func TestAnotherJobUnderTheSameIDLeavesTheOpenOne(t *testing.T) {
	b := newInbox()
	first, other := &ticket{id: "once", request: requestOf(mqtt.Message{})}, &ticket{id: "once", request: requestOf(mqtt.Message{})}
	b.admit(first)
	b.answer(1, other) // refused as a conflict
	if open := b.meet(&ticket{id: "once", request: requestOf(mqtt.Message{})}); open != first {
		t.Errorf("met %v, want the first job", open)
	}
}
