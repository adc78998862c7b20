package fleet_test

import (
	"context"
	"encoding/json"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
)

// comply reports each desired state that comes for a device as the answer says.
func comply(tb testing.TB, addr, name string, answer wire.Reported) {
	tb.Helper()
	hear(tb, addr, wire.FleetFilter("yard", wire.KindDesired), func(ctx context.Context, s *fleet.Mailbox, m mqtt.Message) error {
		if m.Retained {
			return nil
		}
		var d wire.Desired
		if err := wire.Decode(m.Payload, &d); err != nil {
			return err
		}
		r := answer
		r.Version = d.Version
		if r.Status == wire.Applied {
			r.Mode, r.Goal = d.Mode, d.Goal
		}
		return tell(ctx, s, device(name).Reported(), true, r)
	})
}

func TestDesireIsNewerThanAllBeforeAndCollectsReports(t *testing.T) {
	t.Parallel()
	addr := serve(t)
	s := open(t, addr)
	settle(t, s, "willing", wire.Online, "@gate")
	settle(t, s, "unable", wire.Online, "@gate")
	settle(t, s, "gone", wire.Lost, "@gate")
	settle(t, s, "elsewhere", wire.Online)
	// First: a broker acknowledges before it hands on, and who complies must not
	// get this one live. The next acknowledgement says that it was handed on.
	publish(t, s, device("@gate").Desired(), true, wire.Desired{Version: 7, Mode: "balanced"})
	publish(t, s, device("unable").Reported(), true, wire.Reported{Version: 41, Status: wire.Applied, Mode: "balanced"})
	publish(t, s, device("elsewhere").Reported(), true, wire.Reported{Version: 99, Status: wire.Applied, Mode: "balanced"})
	comply(t, addr, "willing", wire.Reported{Status: wire.Applied})
	nearest := &wire.Goal{MinTop1: new(0.8)}
	comply(t, addr, "unable", wire.Reported{Status: wire.Rejected, Reason: wire.Infeasible, Nearest: nearest,
		Mode: "balanced", Detail: "no member reaches it"})

	goal := &wire.Goal{MinTop1: new(0.9)}
	got, err := connect(t, addr, fleet.DesireFilters("yard")...).Desire(t.Context(), "yard", "@gate",
		wire.Aim{Goal: goal}, patience)
	if err != nil || len(got) != 3 {
		t.Fatalf("got %+v, %v; want three reports", got, err)
	}
	if r := got[0]; r.Device != "gone" || !r.Pending || r.Failed() || r.Version != 42 {
		t.Errorf("got %+v, want it pending in version 42, and no failure", r)
	}
	if r := got[1]; r.Device != "unable" || r.Status != wire.Rejected || r.Reason != wire.Infeasible ||
		!reflect.DeepEqual(r.Nearest, nearest) || !r.Failed() {
		t.Errorf("got %+v, want it rejected with the nearest goal", r)
	}
	if r := got[2]; r.Device != "willing" || r.Status != wire.Applied || !reflect.DeepEqual(r.Goal, goal) || r.Failed() {
		t.Errorf("got %+v, want the goal applied", r)
	}
	kept, err := open(t, addr, device("@gate").Desired()).Next(t.Context())
	var d wire.Desired
	if err == nil {
		err = wire.Decode(kept.Payload, &d)
	}
	if err != nil || !kept.Retained || d.Version != 42 || !reflect.DeepEqual(d.Goal, goal) {
		t.Errorf("got %+v, %v; want version 42 retained", d, err)
	}
}

func TestDesireTellsWhoDidNotReport(t *testing.T) {
	t.Parallel()
	addr := serve(t)
	settle(t, open(t, addr), "mute", wire.Online)
	got, err := connect(t, addr, fleet.DesireFilters("yard")...).Desire(t.Context(), "yard", "mute",
		wire.Aim{Mode: "balanced"}, 300*time.Millisecond)
	if err != nil || len(got) != 1 || !got[0].Pending || !got[0].Failed() || got[0].Detail != "no report within 300ms" {
		t.Errorf("got %+v, %v; want no report", got, err)
	}
}

// A device takes the greatest version of its own and of its groups'.
func TestDesireIsNewerThanAllThatTheFleetHas(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		place    string
		desired  uint64
		reported wire.Reported // of desk
		want     uint64
	}{
		{"nothing", "", 0, wire.Reported{Status: wire.Applied}, 1},
		{"of its own", "desk", 7, wire.Reported{Status: wire.Applied}, 8},
		{"of everybody", "@all", 7, wire.Reported{Status: wire.Applied, Version: 3}, 8},
		{"of another, who may join a group of it", "cam-1", 7, wire.Reported{Status: wire.Applied}, 8},
		{"removed, but applied", "@all", 3, wire.Reported{Status: wire.Applied, Version: 7}, 8},
		{"written over by one that was rejected", "desk", 3, wire.Reported{Status: wire.Rejected, Reason: wire.Conflict,
			Version: 3, AppliedVersion: 7}, 8},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			addr := serve(t)
			s := open(t, addr)
			settle(t, s, "desk", wire.Offline)
			publish(t, s, device("desk").Reported(), true, tt.reported)
			if tt.place != "" {
				publish(t, s, device(tt.place).Desired(), true, wire.Desired{Version: tt.desired, Mode: "balanced"})
			}
			got, err := connect(t, addr, fleet.DesireFilters("yard")...).Desire(t.Context(), "yard", "desk",
				wire.Aim{Mode: "power-save"}, patience)
			if err != nil || len(got) != 1 || got[0].Version != tt.want {
				t.Errorf("got %+v, %v; want version %d", got, err, tt.want)
			}
		})
	}
}

func TestDesireTellsOfMembersThatWereNotListed(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		target string
		groups []string // of the other device; nil for one that the broker knows nothing of
		answer wire.Reported
		want   int // reports, that of the mute one included
	}{
		{"a member", "@gate", nil, wire.Reported{Status: wire.Applied}, 2},
		{"a member that cannot", "@gate", nil, wire.Reported{Status: wire.Rejected, Reason: wire.Infeasible,
			Mode: "balanced"}, 2},
		{"of another group", "@gate", []string{"@roof"}, wire.Reported{Status: wire.Rejected, Reason: wire.Infeasible,
			Mode: "balanced"}, 1},
		{"not the device", "mute", nil, wire.Reported{Status: wire.Applied}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			addr := serve(t)
			s := open(t, addr)
			settle(t, s, "mute", wire.Online, "@gate")
			if tt.groups != nil {
				settle(t, s, "other", wire.Online, tt.groups...)
			}
			comply(t, addr, "other", tt.answer)
			got, err := connect(t, addr, fleet.DesireFilters("yard")...).Desire(t.Context(), "yard", tt.target,
				wire.Aim{Mode: "low-latency"}, 3*time.Second)
			if err != nil || len(got) != tt.want || got[0].Device != "mute" || !got[0].Pending {
				t.Fatalf("got %+v, %v; want %d reports, the mute one's pending", got, err, tt.want)
			}
			if tt.want > 1 && (got[1].Device != "other" || got[1].Status != tt.answer.Status) {
				t.Errorf("got %+v, want that of other, %s", got[1], tt.answer.Status)
			}
		})
	}
}

// Two operators who count from the same last version: the device takes the first
// and drops the second, and its report is not about the second.
func TestDesireTakesNoOtherOperatorsReportForItsOwn(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		place string
		other wire.Desired
		fails string // what the error says, or
		says  string // what the report does
	}{
		{"the same version there", "desk", wire.Desired{Version: 1, Mode: "low-latency"},
			"another operator set version 1 of the desired state of desk meanwhile: set it again", ""},
		{"a greater version there", "desk", wire.Desired{Version: 9, Mode: "balanced"}, "another operator set version 9", ""},
		{"the same in the same words", "desk", wire.Desired{Version: 1, Mode: "balanced"}, "", ""},
		{"elsewhere", "@all", wire.Desired{Version: 1, Mode: "low-latency"}, "", "something else in force: low-latency"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			addr := serve(t)
			s := open(t, addr)
			settle(t, s, "desk", wire.Online)
			other := open(t, addr, device("desk").Desired())
			run(t, func(ctx context.Context) error { // the device, which the other operator's reached first
				if _, err := other.Next(ctx); err != nil {
					return nil
				}
				for _, m := range []struct {
					topic string
					v     any
				}{
					{device(tt.place).Desired(), tt.other},
					{device("desk").Reported(), wire.Reported{Version: 1, Status: wire.Applied, Mode: tt.other.Mode}},
				} {
					b, err := json.Marshal(m.v)
					if err != nil {
						return err
					}
					other.Send(ctx, mqtt.Message{Topic: m.topic, Payload: b, QoS: 1})
				}
				return nil
			})
			wait := patience
			if tt.says != "" {
				wait = 3 * time.Second // no report of its own will come
			}
			got, err := connect(t, addr, fleet.DesireFilters("yard")...).Desire(t.Context(), "yard", "desk",
				wire.Aim{Mode: "balanced"}, wait)
			switch {
			case tt.fails != "":
				if err == nil || !strings.Contains(err.Error(), tt.fails) {
					t.Errorf("got %+v, %v; want an error with %q", got, err, tt.fails)
				}
			case err != nil || len(got) != 1 || got[0].Failed() != (tt.says != "") || !strings.Contains(got[0].Detail, tt.says):
				t.Errorf("got %+v, %v; want a report with %q", got, err, tt.says)
			}
		})
	}
}

func TestDesireChangesNothingWhereItCannotWork(t *testing.T) {
	t.Parallel()
	addr := serve(t)
	s := open(t, addr)
	settle(t, s, "last", wire.Online)
	publish(t, s, device("last").Desired(), true, wire.Desired{Version: math.MaxUint64, Mode: "balanced"})
	for target, says := range map[string]string{"nobody": "nobody", "@gate": "@gate", "last": "last there can be",
		"@all": "desired state of last is the last"} {
		_, err := connect(t, addr, fleet.DesireFilters("yard")...).Desire(t.Context(), "yard", target,
			wire.Aim{Mode: "balanced"}, patience)
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: got %v, want an error with %q", target, err, says)
		}
	}
}
