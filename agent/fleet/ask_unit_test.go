package fleet

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
)

func TestAMessageThatDoesNotComeBackWasDropped(t *testing.T) {
	const never = time.Duration(-1)
	for _, tt := range []struct {
		name                                         string
		roundTrip, patience, heardAt, overAt, lostAt time.Duration
		err                                          error
		took                                         time.Duration
	}{
		{"nothing comes", 100 * time.Millisecond, time.Minute, never, never, never, ErrDropped, 2300 * time.Millisecond},
		{"patience is over before that is known", 0, time.Millisecond, never, never, never, ErrDropped, 2 * time.Second},
		{"it comes late", 0, time.Minute, 1900 * time.Millisecond, never, never, nil, time.Minute},
		{"it comes when patience is over", 0, time.Second, 1900 * time.Millisecond, never, never, nil,
			1900 * time.Millisecond},
		{"a slow link", time.Second, time.Minute, 4 * time.Second, 30 * time.Second, never, nil, 30 * time.Second},
		{"all answered", 0, time.Minute, never, time.Second, never, nil, time.Second},
		{"the connection broke meanwhile", 0, time.Minute, never, never, time.Second, nil, time.Minute},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := clientOn(tt.roundTrip)
				heard, over := make(chan struct{}), make(chan struct{})
				at := func(when time.Duration, do func()) {
					if when != never {
						time.AfterFunc(when, do)
					}
				}
				at(tt.heardAt, func() { close(heard) })
				at(tt.overAt, func() { close(over) })
				at(tt.lostAt, func() { c.Lost(mqtt.ErrDown) })
				began := time.Now()
				err := c.follow(t.Context(), c.breaks(), tt.patience, heard, over)
				if took := time.Since(began); !errors.Is(err, tt.err) || took != tt.took {
					t.Errorf("got %v after %v, want %v after %v", err, took, tt.err, tt.took)
				}
			})
		})
	}
}

func TestAnEchoIsTheMessageItselfOrADevicesAnswer(t *testing.T) {
	desk := wire.Address{Fleet: "yard", Device: "desk"}
	for _, tt := range []struct {
		name           string
		topic, payload string
		want           bool
	}{
		{"itself", desk.Desired(), "sent", true},
		{"another's", desk.Desired(), "other", false},
		{"the same to another", wire.Address{Fleet: "yard", Device: "gate"}.Desired(), "sent", false},
		{"a report", desk.Reported(), "sent", false},
		{"an answer to its id", desk.Ack("mode", "1"), "", true},
	} {
		e := newEcho(mqtt.Message{Topic: desk.Desired(), Payload: []byte("sent")})
		topic, err := wire.ParseTopic(tt.topic)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			e.hear(topic, mqtt.Message{Topic: tt.topic, Payload: []byte(tt.payload)})
		}
		got := false
		select {
		case <-e.heard:
			got = true
		default:
		}
		if got != tt.want {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
	}
}
