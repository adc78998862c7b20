package fleet

import (
	"context"
	"errors"
	"fmt"
	"io"
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
				c := clientOn(tt.roundTrip)
				began := time.Now()
				sent := make(chan struct{})
				go func() {
					defer close(sent)
					for i := range 3 {
						<-time.After(tt.gap)
						tell(c, fmt.Sprintf("cam-%d", i))
					}
				}()
				got, err := c.List(t.Context())
				if took := time.Since(began); err != nil || len(got) != tt.found || took != tt.took {
					t.Errorf("got %d devices, %v, after %v; want %d after %v", len(got), err, took, tt.found, tt.took)
				}
				<-sent
			})
		})
	}
}

// Whoever is held up sees the time pass, and what came meanwhile only then.
func TestListTakesWhatComesBeforeTheBrokerAnswers(t *testing.T) {
	for _, tt := range []struct {
		name    string
		answers []error // of the broker, in turn; a device is told before the last but one
		err     error
		found   int
		took    time.Duration
	}{
		{"one comes", []error{nil, nil}, nil, 1, 2 * quietLeast},
		{"the connection breaks", []error{mqtt.ErrDown, nil, nil}, nil, 1, 3 * quietLeast},
		{"no answer", []error{io.ErrNoProgress}, io.ErrNoProgress, 0, quietLeast},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, began := clientOn(time.Millisecond), time.Now()
				c.probe = func(context.Context) error {
					err := tt.answers[0]
					if tt.answers = tt.answers[1:]; len(tt.answers) == 1 {
						tell(c, "cam-1")
					}
					return err
				}
				got, err := c.List(t.Context())
				if took := time.Since(began); !errors.Is(err, tt.err) || len(got) != tt.found || took != tt.took {
					t.Errorf("got %d devices, %v after %v; want %d, %v after %v", len(got), err, took, tt.found, tt.err, tt.took)
				}
			})
		})
	}
}

// A link that breaks again and again brings everything anew each time.
func TestListEndsThoughTheRetainedMessagesDoNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := clientOn(time.Millisecond)
		ctx, cancel := context.WithCancel(t.Context())
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			for ctx.Err() == nil {
				<-time.After(100 * time.Millisecond)
				tell(c, "cam-1")
			}
		}()
		began := time.Now()
		got, err := c.List(t.Context())
		if took := time.Since(began); err == nil || !strings.Contains(err.Error(), "did not end within 2m0s") ||
			took != listMost {
			t.Errorf("got %+v, %v after %v; want an error after %v", got, err, took, listMost)
		}
		cancel()
		<-sent
	})
}

// clientOn is a client without a link, which would have this round trip. What it asks
// is answered at once.
func clientOn(roundTrip time.Duration) *Client {
	c := newClient()
	c.roundTrip = func() time.Duration { return roundTrip }
	c.probe = func(context.Context) error { return nil }
	return c
}

// tell hands on the retained state of a device.
func tell(c *Client, name string) {
	receive(c, wire.Address{Fleet: "yard", Device: name}.State(), `{"state":"online"}`)
}

// receive hands on a retained message.
func receive(c *Client, topic, payload string) {
	c.Receive(mqtt.Message{Topic: topic, Payload: []byte(payload), QoS: 1, Retained: true}, func() {})
}
