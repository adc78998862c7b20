package uplink

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/store"
)

// ids are those of the requests that were handed on, without the boot's digits.
func (d *device) ids() (all []string) {
	for _, r := range d.handler.all() {
		all = append(all, strings.Replace(r.ID, d.cfg.Boot[:8], "BOOT", 1))
	}
	return all
}

func TestFramesAreNumberedBySourceAndBoot(t *testing.T) {
	d, acks := mustDevice(t, nil), 0
	for _, m := range []mqtt.Message{
		frameOf("front", "x", 0), frameOf("front", "x", 0), frameOf("back", "x", 0),
		frameOf("front", "y", 1), kept(frameOf("front", "old", 1)), frameOf("front", "z", 1),
	} {
		d.receive(m, &acks)
	}
	want := []string{"front-BOOT-1", "front-BOOT-2", "back-BOOT-1", "front-BOOT-3", "front-BOOT-5"}
	if got := d.ids(); !slices.Equal(got, want) {
		t.Errorf("got %s, want %s", got, want)
	}
	for _, r := range d.handler.all() {
		if source, _, _ := strings.Cut(r.ID, "-"); r.Source != source || r.Kind != wire.KindFrame {
			t.Errorf("frame %s: source %q, kind %s", r.ID, r.Source, r.Kind)
		}
	}
}

func TestAFrameIDThatIsTakenIsPassedOver(t *testing.T) {
	d, acks := mustDevice(t, nil), 0
	d.handler.busy = func(r *Request) bool { return r.ID == "front-01234567-2" }
	d.receive(jobOf("front-01234567-1", "x"), &acks)
	d.receive(jobOf("front-01234567-2", "x"), &acks)
	d.receive(frameOf("front", "x", 1), &acks)
	if got, want := d.ids()[2], "front-BOOT-3"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestN10_AFrameThatIsDeliveredAgainKeepsItsID(t *testing.T) {
	d, acks := mustDevice(t, nil), 0
	d.receive(frameOf("front", "x", 1), &acks)
	d.receive(duplicate(frameOf("front", "x", 1)), &acks) // answered and stored
	d.receive(frameOf("front", "x", 1), &acks)            // the same picture once more
	d.receive(duplicate(frameOf("front", "y", 1)), &acks) // never seen
	d.receive(duplicate(frameOf("back", "x", 1)), &acks)  // the bytes of another source
	d.check("result/front-01234567-1: done front-01234567-1 1",
		"result/front-01234567-2: done front-01234567-2 2",
		"result/front-01234567-3: done front-01234567-3 3",
		"result/back-01234567-1: done back-01234567-1 4")
	d.settleAll()
	d.restart()
	got := d.repeated(func() { d.receive(duplicate(frameOf("front", "y", 1)), &acks) })
	d.receive(duplicate(frameOf("front", "z", 1)), &acks)
	if len(got) != 1 || string(got[0].Payload) != "done front-01234567-3 3" || d.ids()[0] != "front-BOOT-1" {
		t.Errorf("after a restart: got %+v, want the id of before, and a new one for what is not known", got)
	}
	give(got[0].acks)
	d.settleAll()
	if acks != 7 {
		t.Errorf("%d acknowledged, want all 7", acks)
	}
}

func TestN10_AnOpenFrameThatIsDeliveredAgainIsRunOnce(t *testing.T) {
	d, acks, none := mustDevice(t, nil), 0, 0
	d.handler.busy = always
	d.receive(frameOf("front", "x", 0), &none) // the same picture, which the broker does not keep
	d.receive(frameOf("front", "x", 1), &acks)
	d.receive(duplicate(frameOf("front", "x", 1)), &acks)
	got := d.handler.all()
	if len(got) != 2 || acks != 0 {
		t.Fatalf("%d frames and %d acknowledgements before the answer, want 2 and none", len(got), acks)
	}
	reply(got[1])
	d.settleAll()
	if acks != 2 || none != 0 {
		t.Errorf("%d acknowledged, want both deliveries", acks)
	}
}

func TestRetainedFramesAreOldPictures(t *testing.T) {
	for _, taken := range []bool{false, true} {
		d, acks := mustDevice(t, func(d *device) { d.cfg.Retained = taken }), 0
		d.receive(kept(frameOf("front", "x", 1)), &acks)
		n, ignored := len(d.handler.all()), d.Status().Retained
		if taken && (n != 1 || ignored != 0) || !taken && (n != 0 || ignored != 1 || acks != 1 || len(d.inbox.open) != 0) {
			t.Errorf("retained frames are taken: %v: %d handed on, %d ignored, %d acknowledged", taken, n, ignored, acks)
		}
	}
}

func TestANewerFrameMayTakeThePlaceOfOneTheBrokerDoesNotKeep(t *testing.T) {
	for _, newest := range []bool{false, true} {
		d, acks := mustDevice(t, func(d *device) { d.cfg.KeepNewest = newest }), 0
		for qos := range byte(2) {
			d.receive(frameOf("front", "x", qos), &acks)
		}
		if got := d.handler.all(); got[0].Latest != newest || got[1].Latest {
			t.Errorf("keep newest %v: QoS 0 %v, QoS 1 %v", newest, got[0].Latest, got[1].Latest)
		}
	}
}

func TestASourceOnTopicsOfItsOwnIsAnswered(t *testing.T) {
	d, acks := mustDevice(t, func(d *device) {
		d.cfg.Sources = []Source{{Name: "yard", Filter: "cam/+/jpg"},
			{Name: "door", Filter: "frigate/+/snapshot", ResultTopic: "seen/door"}}
	}), 0
	for _, topic := range []string{"cam/front/jpg", "cam/back/jpg", "frigate/door/snapshot"} {
		d.receive(mqtt.Message{Topic: topic, Payload: []byte("x"), QoS: 1}, &acks)
	}
	d.receive(frameOf("yard", "x", 1), &acks)
	d.check("result/yard-01234567-1: done yard-01234567-1 1", "result/yard-01234567-2: done yard-01234567-2 2",
		"seen/door: done door-01234567-1 3", "result/yard-01234567-3: done yard-01234567-3 4")
	got := d.handler.all()
	if got[0].Address != (wire.Address{}) || got[3].Address != self {
		t.Errorf("addresses %+v and %+v, want none for topics of a source's own", got[0].Address, got[3].Address)
	}
}

func TestNamesThatNobodyCountsOnTakeNoMemory(t *testing.T) {
	f, seen := newFrames([]Source{{Name: "door"}}), map[string]bool{}
	for i := range 10 * MaxSources {
		name := fmt.Sprint("cam", i)
		for range 2 {
			id := fmt.Sprint(name, "-", f.count(name))
			if seen[id] {
				t.Fatalf("id %s twice", id)
			}
			seen[id] = true
		}
	}
	if len(f.counts) != MaxSources || f.count("door") != 1 {
		t.Errorf("%d sources are counted, want %d and the one of the configuration among them", len(f.counts), MaxSources)
	}
}

func TestOnlyAnswersToFramesHaveAnAlias(t *testing.T) {
	for job, want := range map[string]bool{
		"front-8aa3a679-12": true, "front": false, "": false, "mode/front-8aa3a679-12": false,
	} {
		if got := Alias(store.Record{Job: job}); (got != "") != want {
			t.Errorf("%q: alias %q", job, got)
		}
	}
}

func FuzzSourceOf(f *testing.F) {
	f.Add("front-8aa3a679-12")
	f.Add("a-b-8aa3a679-12")
	f.Add("-8aa3a679-")
	f.Add("mode/a-8aa3a679-12")
	f.Fuzz(func(t *testing.T, id string) {
		source, ok := sourceOf(id)
		if ok && (source == "" || !strings.HasPrefix(id, source+"-")) {
			t.Errorf("%q: source %q", id, source)
		}
		if wire.ValidSource(id) {
			if got, ok := sourceOf(id + "-0123abcd-7"); !ok || got != id {
				t.Errorf("source %q: got %q, %v back", id, got, ok)
			}
		}
	})
}
