package mqtt

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestN21_StopAtAnyMomentDisconnectsInOrder(t *testing.T) {
	for _, tt := range []struct {
		name    string
		answers int // of the broker, before it falls silent
	}{{"before the CONNACK", 0}, {"before the SUBACK", 1}, {"when up", 2}} {
		t.Run(tt.name, func(t *testing.T) {
			silent, heard := make(chan bool, 1), make(chan byte, 1)
			broker := evilBroker(t, func(c evilConn) {
				c.hear()
				if tt.answers > 0 {
					c.say(connack)
					_, sub := c.hear()
					if tt.answers > 1 {
						c.say("\x90\x03" + string(sub[:2]) + "\x01")
					}
				}
				silent <- true
				kind, _ := c.hear()
				heard <- kind
			})
			_, _, stop := mustRun(t, quick(broker))
			await(t, silent)
			stop()
			if got := await(t, heard); got != typeDisconnect {
				t.Errorf("the broker heard packet type %d, want DISCONNECT, %d", got, typeDisconnect)
			}
		})
	}
}

// TestN21_SocketStaysOpenUntilTheBrokerHangsUp has a broker that is still
// writing when the DISCONNECT comes. If it could not, it would publish the will.
func TestN21_SocketStaysOpenUntilTheBrokerHangsUp(t *testing.T) {
	up, said := make(chan bool, 1), make(chan error, 1)
	broker := evilBroker(t, func(c evilConn) {
		c.accept()
		up <- true
		for kind, _ := c.hear(); kind != typeDisconnect; kind, _ = c.hear() {
		}
		_, err := io.WriteString(c.Conn, strings.Repeat(publishPacket("job/1", 1000), 1000))
		said <- err
	})
	_, _, stop := mustRun(t, quick(broker))
	await(t, up)
	stop()
	if err := await(t, said); err != nil {
		t.Errorf("the broker could not write after the DISCONNECT: %v", err)
	}
}

func TestN21_WhatWasHandedOverLeavesBeforeTheDISCONNECT(t *testing.T) {
	const handed = 40
	heard := make(chan int, 1)
	broker := evilBroker(t, func(c evilConn) {
		c.accept()
		publishes := 0
		for kind, body := c.hear(); kind != typeDisconnect && kind != 0; kind, body = c.hear() {
			if kind == typePublish {
				publishes++
				c.say("\x40\x02" + string(body[len("\x00\x05state"):][:2]))
			}
		}
		heard <- publishes
	})
	l, h, stop := mustRun(t, quick(broker))
	await(t, h.connected)
	var outcomes []<-chan error
	for range handed {
		outcomes = append(outcomes, l.Send(t.Context(), Message{Topic: "state", Payload: []byte("offline"), QoS: 1, Retained: true}))
	}
	stop()
	for i, o := range outcomes {
		if err := await(t, o); err != nil {
			t.Errorf("message %d: %v", i, err)
		}
	}
	if got := await(t, heard); got != handed {
		t.Errorf("the broker heard %d messages, want %d", got, handed)
	}
}

// TestAStopWaitsForAMuteBrokerNoLongerThanItsGoodbye hands over what the broker
// never acknowledges.
func TestAStopWaitsForAMuteBrokerNoLongerThanItsGoodbye(t *testing.T) {
	t.Parallel()
	broker := evilBroker(t, func(c evilConn) {
		c.accept()
		<-t.Context().Done()
	})
	l, h, stop := mustRun(t, quick(broker))
	await(t, h.connected)
	outcome := l.Send(t.Context(), Message{Topic: "result/1", Payload: []byte("x"), QoS: 1})
	began := time.Now()
	stop()
	if took := time.Since(began); took > goodbye+time.Second { // for a machine that is busy
		t.Errorf("the stop took %v, want %v", took, goodbye)
	}
	if err := await(t, outcome); !errors.Is(err, ErrDown) {
		t.Errorf("got %v, want ErrDown", err)
	}
}

// TestN16_AStopOnAStalledLinkHasOneDeadline has a link that takes nothing more.
func TestN16_AStopOnAStalledLinkHasOneDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := quick("mqtt://broker.invalid")
		stalled := make(chan bool)
		overPipes(&cfg, func(c evilConn) {
			c.accept()
			<-stalled
		})
		l, h, stop := mustRun(t, cfg)
		<-h.connected
		var outcomes []<-chan error
		for range 3 {
			outcomes = append(outcomes, l.Send(t.Context(), Message{Topic: "result/1", Payload: []byte("x"), QoS: 1}))
		}
		if n := l.InFlight(); n != len(outcomes) {
			t.Errorf("%d in flight, want %d", n, len(outcomes))
		}
		began := time.Now()
		stop()
		if took := time.Since(began); took != goodbye {
			t.Errorf("the stop took %v, want %v", took, goodbye)
		}
		for i, o := range outcomes {
			if err := <-o; !errors.Is(err, ErrDown) {
				t.Errorf("message %d: got %v, want ErrDown", i, err)
			}
		}
		close(stalled)
		<-time.After(time.Minute) // of which the library may hold a publish for half
	})
}

func TestHurryEndsAPause(t *testing.T) {
	first := make(chan bool, 1)
	first <- true
	broker := evilBroker(t, func(c evilConn) {
		select {
		case <-first: // it is hung up on
		default:
			c.accept()
			c.hear() // the DISCONNECT
		}
	})
	cfg := quick(broker)
	cfg.BackoffMin, cfg.BackoffMax = 1000*time.Hour, 1000*time.Hour
	l, h, _ := mustRun(t, cfg)
	await(t, h.lost)
	l.Hurry()
	await(t, h.connected)
}
