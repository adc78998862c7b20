package agent

import (
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/config"
	"github.com/limber-edge/limber/agent/control"
	"github.com/limber-edge/limber/agent/engine"
	"github.com/limber-edge/limber/agent/uplink"
	"github.com/limber-edge/limber/agent/wire"
)

func TestWhatASourceWishesIsForFramesThatSayNothing(t *testing.T) {
	half := 0.5
	door := config.Source{Name: "door", Topic: "cam/+/jpg", MinTop1: &half, Priority: wire.High,
		Deadline: control.Duration{Duration: 20 * time.Millisecond}}
	j := newJobs(config.Config{Sources: config.Sources{door}}, "", nil, engine.New(engine.Config{}, engine.Deps{}, nil))
	for _, tt := range []struct {
		name         string
		at           wire.Address // none: a topic of the source's own
		header, want wire.Header
		deadline     time.Duration
	}{
		{"plain bytes", wire.Address{}, wire.Header{},
			wire.Header{MinTop1: &half, Priority: wire.High}, 20 * time.Millisecond},
		{"a header", wire.Address{}, wire.Header{MinTop1: new(0.9), Priority: wire.Low},
			wire.Header{MinTop1: new(0.9), Priority: wire.Low}, 20 * time.Millisecond},
		{"a header with a deadline", wire.Address{}, wire.Header{DeadlineMS: new(7.0)},
			wire.Header{MinTop1: &half, Priority: wire.High}, 7 * time.Millisecond},
		{"the device's own topic", wire.Address{Fleet: "demo", Device: "desk"}, wire.Header{},
			wire.Header{}, wire.DefaultDeadline},
	} {
		request := &uplink.Request{Kind: wire.KindFrame, Address: tt.at, Source: "door"}
		one := &job{Request: request, deadline: wire.DefaultDeadline}
		got := j.complete(one, tt.header)
		if one.deadline != tt.deadline || (got.MinTop1 == nil) != (tt.want.MinTop1 == nil) ||
			got.MinTop1 != nil && *got.MinTop1 != *tt.want.MinTop1 || got.Priority != tt.want.Priority {
			t.Errorf("%s: got %+v and %v, want %+v and %v", tt.name, got, one.deadline, tt.want, tt.deadline)
		}
	}
}

func TestWhoSentAFrameIsSaidByItsTopicAndOfAJobByItsHeader(t *testing.T) {
	j := newJobs(config.Config{}, "", nil, engine.New(engine.Config{}, engine.Deps{}, nil))
	for kind, want := range map[wire.Kind]string{wire.KindFrame: "front", wire.KindJob: "back"} {
		one := &job{Request: &uplink.Request{Kind: kind}, source: "front"}
		j.complete(one, wire.Header{Source: "back"})
		if one.source != want {
			t.Errorf("%s: source %q, want %q", kind, one.source, want)
		}
	}
}
