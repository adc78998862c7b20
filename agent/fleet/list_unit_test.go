package fleet

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
)

func TestListWaitsAsLongAsTheLinkIsSlow(t *testing.T) {
	const ms = time.Millisecond
	for _, tt := range []struct {
		name           string
		roundTrip, gap time.Duration
		found          int           // of three devices, a gap before each
		took           time.Duration // with the quiet at the end
	}{
		{"a broker at hand", ms, 250 * ms, 3, 3*250*ms + 300*ms},
		{"a gap that no such broker makes", ms, 350 * ms, 0, 300 * ms},
		{"a slow link", 400 * ms, 1100 * ms, 3, 3*1100*ms + 1200*ms},
		{"a link that hardly answers", 8 * time.Second, 9 * time.Second, 3, 3*9*time.Second + 10*time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := stationOn(tt.roundTrip)
				began := time.Now()
				sent := make(chan struct{})
				go func() {
					defer close(sent)
					for i := range 3 {
						<-time.After(tt.gap)
						tell(s, fmt.Sprintf("cam-%d", i))
					}
				}()
				got, err := s.List(t.Context())
				if took := time.Since(began); err != nil || len(got) != tt.found || took != tt.took {
					t.Errorf("got %d devices, %v, after %v; want %d after %v", len(got), err, took, tt.found, tt.took)
				}
				<-sent
			})
		})
	}
}

// A link that breaks again and again brings everything anew each time.
func TestListEndsThoughTheRetainedMessagesDoNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := stationOn(time.Millisecond)
		ctx, cancel := context.WithCancel(t.Context())
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			for ctx.Err() == nil {
				<-time.After(100 * time.Millisecond)
				tell(s, "cam-1")
			}
		}()
		began := time.Now()
		got, err := s.List(t.Context())
		if took := time.Since(began); err == nil || !strings.Contains(err.Error(), "did not end within 2m0s") || took != listMost {
			t.Errorf("got %+v, %v after %v; want an error after %v", got, err, took, listMost)
		}
		cancel()
		<-sent
	})
}

// stationOn is a station without a link, which would have this round trip.
func stationOn(roundTrip time.Duration) *Station {
	return &Station{mail: make(chan struct{}, 1), roundTrip: func() time.Duration { return roundTrip }}
}

// tell hands on the retained state of a device.
func tell(s *Station, name string) {
	topic := wire.Address{Fleet: "yard", Device: name}.State()
	s.Receive(mqtt.Message{Topic: topic, Payload: []byte(`{"state":"online"}`), QoS: 1, Retained: true}, func() {})
}
