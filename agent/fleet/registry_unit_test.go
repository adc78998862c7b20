package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
)

func yard(name string) wire.Address { return wire.Address{Fleet: "yard", Device: name} }

// names empties a subscription without waiting.
func names(s *Subscription) (all []string) {
	for {
		d, ok := s.take()
		if !ok {
			return all
		}
		all = append(all, d.Name)
	}
}

func TestADeviceIsAllThatItPublished(t *testing.T) {
	t.Parallel()
	c := newClient()
	receive(c, yard("cam-1").State(), `{"state":"online"}`)
	receive(c, yard("cam-1").Caps(), `{"groups":["@gate"]}`)
	receive(c, yard("cam-1").Reported(), `{"mode":"balanced"}`)
	receive(c, yard("cam-1").Desired(), `{"version":7,"mode":"balanced"}`)
	receive(c, yard("cam-1").Telemetry(), `{"jobs":3}`)
	receive(c, yard("cam-1").Event("warning"), `{"kind":"gap","count":2}`)
	d := c.Registry().Device("cam-1")
	if !d.Online() || !d.In("@gate") || d.Reported.Mode != "balanced" || d.Desired.Version != 7 || d.Telemetry.Jobs != 3 {
		t.Errorf("got %+v, want every document", d)
	}
	if len(d.Events) != 1 || d.Events[0].Severity != "warning" || d.Events[0].Count != 2 {
		t.Errorf("got %+v, want the event with its severity", d.Events)
	}
}

// TestADeviceThatWasForgottenIsNoneThoughItWasHeard: a rollout would wait for it for a day.
func TestADeviceThatWasForgottenIsNoneThoughItWasHeard(t *testing.T) {
	t.Parallel()
	c := newClient()
	receive(c, yard("cam-1").State(), `{"state":"lost"}`)
	receive(c, yard("cam-1").Caps(), `{"groups":["@gate"]}`)
	receive(c, yard("cam-1").Telemetry(), `{"jobs":3}`)
	receive(c, yard("cam-1").Event("warning"), `{"kind":"gap","count":2}`)
	receive(c, yard("cam-1").State(), "")
	if d := c.Registry().Device("cam-1"); d.Telemetry == nil || len(d.Events) != 1 {
		t.Errorf("got %+v, want what it was heard to say: it still has caps", d)
	}
	receive(c, yard("cam-1").Caps(), "")
	if all := c.Registry().Devices(); len(all) > 0 {
		t.Errorf("got %+v, want no device", all)
	}
}

func TestAnEmptyMessageRemovesADocumentAndTheLastOneTheDevice(t *testing.T) {
	t.Parallel()
	c := newClient()
	r := c.Registry()
	tell(c, "cam-1")
	receive(c, yard("cam-1").Reported(), `{"mode":"balanced"}`)
	s := r.Subscribe()
	defer s.Close()
	names(s)
	receive(c, yard("cam-1").State(), "")
	if d := r.Device("cam-1"); d.State != nil || d.Reported == nil {
		t.Errorf("got %+v, want its report alone", d)
	}
	receive(c, yard("cam-1").Reported(), "")
	if d, ok := s.take(); len(r.Devices()) != 0 || !ok || d.Name != "cam-1" || d.There() {
		t.Errorf("got %+v and %+v told, want nobody, and the name told", r.Devices(), d)
	}
	if len(r.devices) != 0 {
		t.Errorf("%d entries are kept of nobody", len(r.devices))
	}
}

func TestWhatCannotBeReadIsCountedAndChangesNothing(t *testing.T) {
	t.Parallel()
	c := newClient()
	tell(c, "cam-1")
	receive(c, yard("cam-1").State(), `{"state":`)
	c.Receive(mqtt.Message{Topic: yard("cam-1").State(), Oversize: 5 << 20}, func() {})
	receive(c, yard("@gate").State(), `{"state":"online"}`)
	receive(c, "limber/v1/yard", `{}`)
	if got := c.Registry().Counts(); got.Unreadable != 2 || !c.Registry().Device("cam-1").Online() ||
		len(c.Registry().Devices()) != 1 {
		t.Errorf("got %+v, %+v; want two unreadable, and cam-1 as it was", got, c.Registry().Devices())
	}
}

func TestADesiredStateMakesNoDevice(t *testing.T) {
	t.Parallel()
	c := newClient()
	receive(c, yard("@gate").Desired(), `{"version":7,"mode":"balanced"}`)
	receive(c, yard("cam-1").Desired(), `{"version":9,"mode":"balanced"}`)
	last := greatest(c.Registry().desired(), false)
	if got := c.Registry().Devices(); len(got) != 0 || last != (placed{9, "cam-1"}) {
		t.Errorf("got %+v, %+v; want nobody, and version 9 of cam-1", got, last)
	}
}

func TestTheOldestEventsGoBeyondTheBounds(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		detail int // bytes
		sent   int
		keeps  int
	}{
		{"many", 10, 3 * MaxEvents, MaxEvents},
		{"large", 20_000, 8, 3},
		{"one as large as may be", wire.MaxControl - 100, 3, 1},
	} {
		c := newClient()
		var before []Event
		for i := range tt.sent {
			receive(c, yard("cam-1").Event("info"), fmt.Sprintf(`{"count":%d,"detail":%q}`, i+1, strings.Repeat("x", tt.detail)))
			if i == 0 {
				before = c.Registry().Device("cam-1").Events
			}
		}
		got := c.Registry().Device("cam-1").Events
		if len(got) != tt.keeps || got[len(got)-1].Count != uint64(tt.sent) || got[0].Count != uint64(tt.sent-tt.keeps+1) {
			t.Errorf("%s: got %d events, want the last %d", tt.name, len(got), tt.keeps)
		}
		if len(before) != 1 || before[0].Count != 1 {
			t.Errorf("%s: what a reader was given changed", tt.name)
		}
	}
}

func TestDevicesBeyondTheBoundAreCounted(t *testing.T) {
	t.Parallel()
	c := newClient()
	s := c.Registry().Subscribe()
	defer s.Close()
	const beyond = 10
	for i := range MaxDevices + beyond {
		tell(c, fmt.Sprintf("cam-%05d", i))
	}
	r := c.Registry()
	if n, got := len(r.Devices()), r.Counts().Untracked; n != MaxDevices || got != beyond {
		t.Errorf("got %d devices and %d untracked, want %d and %d", n, got, MaxDevices, beyond)
	}
	if got := names(s); len(got) != MaxDevices || slices.Contains(got, fmt.Sprintf("cam-%05d", MaxDevices)) {
		t.Errorf("%d were told, want those that are tracked", len(got))
	}
	if _, err := c.newVersion("yard", "@all", r.Devices(), false); err == nil ||
		!strings.Contains(err.Error(), "more than 10000 devices") {
		t.Errorf("got %v, want no version where not all are known", err)
	}
	receive(c, yard("cam-00000").State(), "")
	tell(c, "newcomer")
	if !r.Device("newcomer").Online() {
		t.Error("the room of one that went was not given to another")
	}
}

func TestASubscriptionTellsOfEachDeviceOnceAndAsItIsNow(t *testing.T) {
	t.Parallel()
	c := newClient()
	tell(c, "cam-2")
	tell(c, "cam-1")
	all, one := c.Registry().Subscribe(), c.Registry().Subscribe("cam-2")
	defer all.Close()
	if got := names(all); !slices.Equal(got, []string{"cam-1", "cam-2"}) {
		t.Errorf("at first got %v, want all that is known", got)
	}
	names(one)
	for i := range 100 {
		receive(c, yard("cam-2").Telemetry(), fmt.Sprintf(`{"jobs":%d}`, i))
		receive(c, yard("cam-1").Telemetry(), fmt.Sprintf(`{"jobs":%d}`, i))
	}
	for _, s := range []*Subscription{all, one} {
		if d, err := s.Next(t.Context()); err != nil || d.Name != "cam-2" || d.Telemetry.Jobs != 99 {
			t.Errorf("got %+v, %v; want the newest of cam-2", d, err)
		}
	}
	if got := names(all); !slices.Equal(got, []string{"cam-1"}) {
		t.Errorf("then got %v, want cam-1", got)
	}
	if got := names(one); len(got) > 0 {
		t.Errorf("one that asked for cam-2 got %v", got)
	}
	one.Close()
	tell(c, "cam-2")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if d, err := one.Next(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("after Close got %+v, %v", d, err)
	}
}

// Devices that come and go while nobody reads are more names than devices.
func TestASubscriptionThatNobodyReadsIsBounded(t *testing.T) {
	t.Parallel()
	c := newClient()
	s := c.Registry().Subscribe()
	defer s.Close()
	for i := range MaxDevices + 10 {
		tell(c, fmt.Sprint(i))
		receive(c, yard(fmt.Sprint(i)).State(), "")
	}
	if len(s.changed) != MaxDevices || len(s.pending) != MaxDevices {
		t.Errorf("%d names, %d in the set; want %d", len(s.changed), len(s.pending), MaxDevices)
	}
}

func TestThePictureIsReadWhileItChanges(t *testing.T) {
	t.Parallel()
	c := newClient()
	s := c.Registry().Subscribe()
	defer s.Close()
	const rounds = 500
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range rounds {
			receive(c, yard("cam-1").Event("info"), fmt.Sprintf(`{"count":%d}`, i+1))
		}
	})
	var last uint64
	for last < rounds {
		d, err := s.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		n := d.Events[len(d.Events)-1].Count
		if first := d.Events[0].Count; n < last || n-first != uint64(len(d.Events)-1) {
			t.Fatalf("got events %d to %d after %d, want them in order without a gap", first, n, last)
		}
		last = n
	}
	wg.Wait()
}

func TestLateAnswersAndThoseOfOthersAreNobodys(t *testing.T) {
	t.Parallel()
	c := newClient()
	taken := 0
	w := c.router.wait(func(wire.Topic, mqtt.Message) bool { taken++; return taken == 2 }, route{wire.KindAck, "ours"})
	for range 5 {
		receive(c, yard("cam-1").Ack("mode", "ours"), `{}`)
		receive(c, yard("cam-1").Ack("mode", "theirs"), `{}`)
	}
	select {
	case <-w.over:
	default:
		t.Error("the last answer did not end the wait")
	}
	c.router.end(w) // as the operation does, too
	if taken != 2 || len(c.router.waiting) != 0 {
		t.Errorf("%d taken, %d waiting; want 2 and none", taken, len(c.router.waiting))
	}
}

func TestTwoDesiresOfOneClientTakeTwoVersions(t *testing.T) {
	t.Parallel()
	c := newClient()
	tell(c, "cam-1")
	for want := range uint64(3) {
		if got, err := c.newVersion("yard", "cam-1", c.Registry().Devices(), false); err != nil || got != want+1 {
			t.Errorf("got version %d, %v; want %d", got, err, want+1)
		}
	}
}

func TestAForcedVersionIsTheNextOfThoseWithinReach(t *testing.T) {
	t.Parallel()
	const reach = wire.VersionReach
	for _, tt := range []struct {
		name          string
		desired       uint64 // retained
		reported      wire.Reported
		plain, forced uint64 // 0: none can be had
	}{
		{"all is well", 7, wire.Reported{Version: 7, Status: wire.Applied}, 8, 8},
		{"nothing was desired", 0, wire.Reported{Status: wire.Applied}, 1, 1},
		{"a group's was the last", 9, wire.Reported{Version: math.MaxUint64, Status: wire.Applied}, 0, 10},
		{"rejected", reach * 4, wire.Reported{Version: reach * 4, Status: wire.Rejected, AppliedVersion: 7},
			reach*4 + 1, 8},
		{"counted in milliseconds", reach * 4, wire.Reported{Version: reach * 4, Status: wire.Applied}, reach*4 + 1, 1},
		{"just within reach", reach, wire.Reported{Version: reach, Status: wire.Applied}, reach + 1, reach + 1},
	} {
		for force, want := range map[bool]uint64{false: tt.plain, true: tt.forced} {
			c := newClient()
			tell(c, "cam-1")
			b, err := json.Marshal(tt.reported)
			if err != nil {
				t.Fatal(err)
			}
			receive(c, yard("cam-1").Reported(), string(b))
			if tt.desired > 0 {
				receive(c, yard("cam-1").Desired(), fmt.Sprintf(`{"version":%d,"mode":"balanced"}`, tt.desired))
			}
			got, err := c.newVersion("yard", "cam-1", c.Registry().Devices(), force)
			if got != want || (err == nil) != (want > 0) {
				t.Errorf("%s, forced %v: got %d, %v; want %d", tt.name, force, got, err, want)
			}
		}
	}
}

func TestAMailboxThatIsFullTellsOfWhatItDropped(t *testing.T) {
	t.Parallel()
	b := &Mailbox{conn: newConn(), mail: make(chan struct{}, 1)}
	payload := make([]byte, MailboxBytes/4)
	for range 6 { // the topics leave room for three
		b.Receive(mqtt.Message{Topic: "t", Payload: payload}, func() {})
	}
	for range 3 {
		if _, err := b.Next(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.Next(t.Context()); err == nil || !strings.Contains(err.Error(), "3 messages were dropped") {
		t.Errorf("got %v, want it to say that 3 were dropped", err)
	}
	b.Receive(mqtt.Message{Topic: "after"}, func() {})
	if m, err := b.Next(t.Context()); err != nil || m.Topic != "after" {
		t.Errorf("got %+v, %v; want what came after", m, err)
	}
}

// Whatever comes: the picture stays within its bounds, and nothing stays behind of
// a message that removes it.
func FuzzReceive(f *testing.F) {
	f.Add("state", `{"state":"online"}`)
	f.Add("reported", `{"version":7,"status":"applied","mode":"balanced"}`)
	f.Add("desired", `{"version":18446744073709551615,"goal":{"min_top1":0.8}}`)
	f.Add("event/warning", `{"kind":"gap","count":2}`)
	f.Add("ack/mode/ours", `{"state":"succeeded"}`)
	f.Add("labels", `{"labels":{"site":"berlin"}}`)
	f.Add("telemetry", "")
	f.Fuzz(func(t *testing.T, rest, payload string) {
		c := newClient()
		got := newAnswers([]Device{{Name: "cam-1", State: &wire.State{State: wire.Online}}}, "cam-1", 0)
		c.router.wait(got.take, route{wire.KindAck, "ours"})
		r := newDesireRequest("cam-1", wire.Desired{Version: 7}, nil, 0)
		c.router.wait(r.take, route{wire.KindDesired, "cam-1"}, route{kind: wire.KindReported})
		topic := "limber/v1/yard/cam-1/" + rest
		for range MaxEvents + 1 {
			receive(c, topic, payload)
		}
		d := c.Registry().Device("cam-1")
		if len(d.Events) > MaxEvents || len(got.list()) != 1 {
			t.Errorf("got %d events and %d outcomes", len(d.Events), len(got.list()))
		}
		receive(c, topic, "")
		if len(d.Events) == 0 && len(c.Registry().devices) > 0 {
			t.Errorf("%+v is still there", c.Registry().Devices())
		}
	})
}

func TestLabelsAreThoseOfTheLastMessageAndMakeNoDevice(t *testing.T) {
	t.Parallel()
	c := newClient()
	r := c.Registry()
	receive(c, yard("cam-1").Labels(), `{"labels":{"site":"berlin"}}`)
	if got := r.Device("cam-1").Labels; len(r.Devices()) != 0 || got["site"] != "berlin" {
		t.Errorf("got %v of nobody, want the label kept", got)
	}
	tell(c, "cam-1")
	receive(c, yard("cam-1").Labels(), `{"labels":{"line":"2"}}`)
	if got := r.Devices(); len(got) != 1 || len(got[0].Labels) != 1 || got[0].Labels["line"] != "2" {
		t.Errorf("got %+v, want the second label alone", got)
	}
	receive(c, yard("cam-1").Labels(), `{"labels":{"a b":"2"}}`)
	if got := r.Device("cam-1").Labels; got != nil {
		t.Errorf("got %v, want none of what no operator may say", got)
	}
	receive(c, yard("cam-1").State(), "")
	receive(c, yard("cam-1").Labels(), "")
	if len(r.devices) != 0 {
		t.Errorf("%d entries are kept of nobody", len(r.devices))
	}
}

// TestInventedDevicesTakeNoMoreMemoryThanThereIsForThem: 64 KiB of JSON may be megabytes.
func TestInventedDevicesTakeNoMoreMemoryThanThereIsForThem(t *testing.T) {
	c := newClient()
	r := c.Registry()
	heavy := `{"members":[` + strings.Repeat("{},", 21_000) + `{}]}`
	receive(c, yard("honest").State(), `{"state":"online"}`)
	for i := range 300 {
		receive(c, yard(fmt.Sprint("invented-", i)).Caps(), heavy)
	}
	held := len(r.Devices()) - 1
	if got := r.Counts().Untracked; held*len(heavy)*40 > roomShared || held < 50 || got != uint64(300-held) {
		t.Errorf("%d of 300 were taken, %d counted as not; want what %d MiB hold", held, got, roomShared>>20)
	}
	receive(c, yard("honest").State(), `{"state":"offline","detail":"a longer one"}`)
	if d := r.Device("honest"); d.Online() {
		t.Error("an honest device is not heard any more")
	}
	for _, d := range r.Devices() {
		receive(c, yard(d.Name).Caps(), "")
		receive(c, yard(d.Name).State(), "")
	}
	if r.weight != 0 || len(r.devices) > 0 {
		t.Errorf("%d bytes of %d devices are left, want nothing of what was removed", r.weight, len(r.devices))
	}
}
