package uplink

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
)

// answerOf is an operator's answer whose clock is ahead by so much.
func answerOf(boot string, seq uint64, ahead time.Duration) mqtt.Message {
	b, err := json.Marshal(wire.Synced{TS: wire.At(time.Now().Add(ahead)), BootID: boot, ConnSeq: seq})
	if err != nil {
		panic(err)
	}
	return mqtt.Message{Topic: self.Synced(), Payload: b, QoS: 1}
}

func TestT1_AnAnswerToAnotherSyncOrWithATimeThatCannotBeIsIgnoredAndCounted(t *testing.T) {
	const year = 365 * 24 * time.Hour
	for _, tt := range []struct {
		name   string
		m      func() mqtt.Message
		counts bool
	}{
		{"right", func() mqtt.Message { return answerOf("boot", 3, time.Hour) }, true},
		{"another connection's", func() mqtt.Message { return answerOf("boot", 2, time.Hour) }, false},
		{"another run's", func() mqtt.Message { return answerOf("other", 3, time.Hour) }, false},
		{"retained", func() mqtt.Message { return kept(answerOf("boot", 3, time.Hour)) }, false},
		{"before the program", func() mqtt.Message { return answerOf("boot", 3, -2*time.Second) }, false},
		{"just after it", func() mqtt.Message { return answerOf("boot", 3, -time.Second) }, true},
		{"ten years later", func() mqtt.Message { return answerOf("boot", 3, 10*year) }, false},
		{"almost", func() mqtt.Message { return answerOf("boot", 3, 10*year-2*time.Second) }, true},
		{"no JSON", func() mqtt.Message { return mqtt.Message{Payload: []byte("now")} }, false},
		{"no time", func() mqtt.Message {
			return mqtt.Message{Payload: []byte(`{"schema":1,"boot_id":"boot","conn_seq":3}`)}
		}, false},
		{"oversize", func() mqtt.Message { return mqtt.Message{Oversize: 1} }, false},
		{"late", func() mqtt.Message {
			m := answerOf("boot", 3, time.Hour)
			<-time.After(clockTrip)
			return m
		}, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			c := &clock{boot: "boot", built: time.Now()}
			c.ask(3)
			<-time.After(time.Second)
			_, _, err := c.take(tt.m())
			_, known := c.offset(time.Now())
			if known != tt.counts || (err == nil) != tt.counts || (c.count() == 0) != tt.counts {
				t.Errorf("%s: counts %v, %v, ignored %d", tt.name, known, err, c.count())
			}
		})
	}
}

func TestT1_TheOffsetIsLessHalfTheRoundTripAndFollowsTheClockForADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &clock{boot: "boot", built: time.Now().Add(-time.Hour)}
		c.ask(1)
		<-time.After(time.Second)
		m := answerOf("boot", 1, 7*time.Second)
		<-time.After(time.Second)
		behind, news, err := c.take(m)
		if behind != 7*time.Second || !news || err != nil {
			t.Errorf("behind %v, news %v, %v; want 7s, a fault", behind, news, err)
		}
		if _, _, err := c.take(m); err == nil {
			t.Error("a copy counts again")
		}
		c.ask(2)
		if behind, news, err = c.take(answerOf("boot", 2, 6*time.Second)); behind != 6*time.Second || news || err != nil {
			t.Errorf("behind %v, news %v, %v; want it told once", behind, news, err)
		}
		c.ask(3)
		c.take(answerOf("boot", 3, 5*time.Second))
		c.ask(4)
		if _, news, _ = c.take(answerOf("boot", 4, -6*time.Second)); !news {
			t.Error("the next fault is not told")
		}
		<-time.After(clockKeep)
		if behind, ok := c.offset(time.Now()); !ok || behind != -6*time.Second {
			t.Errorf("after a day: %v, %v", behind, ok)
		}
		<-time.After(1)
		if _, ok := c.offset(time.Now()); ok {
			t.Error("an answer counts for more than a day")
		}
	})
}

func TestASyncThatIsAnsweredTellsTheOffset(t *testing.T) {
	b := newBroker(t)
	d, _ := start(t, b, nil)
	asked := decoded[wire.Sync](t, b.await(self.Sync(), 1))
	b.send(kept(answerOf(asked.BootID, asked.ConnSeq, time.Minute)), answerOf(asked.BootID, asked.ConnSeq, time.Hour))
	b.settled()
	if behind, ok := d.Offset(); !ok || (behind-time.Hour).Abs() > time.Minute/2 || d.Status().Unsynced != 1 {
		t.Errorf("behind %v, %v, %d ignored; want an hour, one", behind, ok, d.Status().Unsynced)
	}
	told := decoded[wire.Event](t, b.await(self.Event(wire.SeverityError), 1))
	if told.Kind != wire.EventFault || !strings.Contains(told.Detail, "behind an operator's: set it") {
		t.Errorf("told %+v", told)
	}
}

// FuzzSynced holds what an operator says to the bounds of what it can be.
func FuzzSynced(f *testing.F) {
	for _, ts := range []string{"2026-06-01T12:00:00Z", "0000-01-01T00:00:00Z", "9999-12-31T23:59:59Z"} {
		f.Add(fmt.Appendf(nil, `{"schema":1,"ts":%q,"boot_id":"boot","conn_seq":3}`, ts), false)
	}
	f.Fuzz(func(t *testing.T, payload []byte, retained bool) {
		c := &clock{boot: "boot", built: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
		c.ask(3)
		_, _, err := c.take(mqtt.Message{Payload: payload, Retained: retained})
		behind, ok := c.offset(time.Now())
		at := time.Now().Add(behind)
		if ok != (err == nil) || ok && (at.Before(c.built) || at.After(c.built.Add(clockHorizon+time.Minute))) {
			t.Errorf("%q: %v, %v behind, %v", payload, err, behind, ok)
		}
	})
}
