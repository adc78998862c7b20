package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"

	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/store"
)

// A broker hands on what it retains in any order, and does so with every
// connection.
func TestTheNewestDesiredStateIsInForceWhateverTheOrder(t *testing.T) {
	retained := func(place string, version uint64, mode string) order { return desiredOf(place, version, mode, true) }
	live := func(place string, version uint64, mode string) order { return desiredOf(place, version, mode, false) }
	again := func(place string, version uint64, mode string) order {
		o := live(place, version, mode)
		o.msg.Duplicate = true
		return o
	}
	for _, tt := range []struct {
		name     string
		come     []order
		mode     string
		reported wire.Reported // but for its detail
	}{
		{"the newest first", []order{retained("@all", 7, "power-save"), retained("desk", 5, "low-latency")},
			"power-save", wire.Reported{Version: 7, Status: wire.Applied}},
		{"the newest last", []order{retained("desk", 5, "low-latency"), retained("@all", 7, "power-save")},
			"power-save", wire.Reported{Version: 7, Status: wire.Applied}},
		{"as every connection brings it", []order{live("desk", 5, "low-latency"), live("@all", 7, "power-save"), retained("desk", 5, "low-latency"), retained("@all", 7, "power-save")},
			"power-save", wire.Reported{Version: 7, Status: wire.Applied}},
		{"delivered twice, for want of an acknowledgement", []order{live("desk", 5, "low-latency"), live("@all", 7, "power-save"), live("desk", 5, "low-latency")},
			"power-save", wire.Reported{Version: 7, Status: wire.Applied}},
		{"several delivered twice", []order{live("desk", 4, "low-latency"), live("desk", 5, "power-save"), again("desk", 4, "low-latency"), again("desk", 5, "power-save")},
			"power-save", wire.Reported{Version: 5, Status: wire.Applied}},
		{"set by a tool that counts by places", []order{retained("@all", 7, "power-save"), live("desk", 5, "low-latency")},
			"power-save", wire.Reported{Version: 5, Status: wire.Rejected, Reason: wire.Conflict, AppliedVersion: 7}},
		{"set with the version of another place", []order{retained("@all", 7, "power-save"), live("desk", 7, "low-latency")},
			"power-save", wire.Reported{Version: 7, Status: wire.Rejected, Reason: wire.Conflict}},
		{"set with less than before", []order{live("desk", 7, "power-save"), live("desk", 5, "low-latency")},
			"power-save", wire.Reported{Version: 5, Status: wire.Rejected, Reason: wire.Conflict, AppliedVersion: 7}},
		{"set again with more", []order{retained("@all", 7, "power-save"), live("desk", 5, "low-latency"), live("desk", 8, "low-latency")},
			"low-latency", wire.Reported{Version: 8, Status: wire.Applied}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			st, err := store.Open(t.TempDir(), store.Options{}, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			defer st.Close()
			synctest.Test(t, func(t *testing.T) {
				a := mustSleeper(t, st, "")
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan error, 1)
				go func() { ended <- a.crew.Load().pipe.Run(ctx) }()
				for _, o := range tt.come {
					a.desire(ctx, o)
				}
				if _, mode := a.crew.Load().pipe.Governed(); mode.String() != tt.mode {
					t.Errorf("in force: got %s, want %s", mode, tt.mode)
				}
				got := *a.reported
				if (got.Detail != "") != (tt.reported.Status == wire.Rejected) {
					t.Errorf("got detail %q, want one for a rejection alone", got.Detail)
				}
				if got.Detail = ""; got != tt.reported {
					t.Errorf("reported: got %+v, want %+v", got, tt.reported)
				}
				cancel()
				if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			})
		})
	}
}

// desiredOf is a desired state as the link's reader hands it on.
func desiredOf(place string, version uint64, mode string, retained bool) order {
	return order{
		topic: wire.Topic{Address: wire.Address{Fleet: "demo", Device: place}, Kind: wire.KindDesired},
		msg:   mqtt.Message{Payload: fmt.Appendf(nil, `{"version":%d,"mode":%q}`, version, mode), Retained: retained},
	}
}
