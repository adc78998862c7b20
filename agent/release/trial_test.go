package release

import (
	"bytes"
	"context"
	"errors"
	"image/png"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/limber-edge/limber/agent/engine"
	"github.com/limber-edge/limber/agent/pipeline"
	"github.com/limber-edge/limber/agent/uplink"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/firmware/slot"
)

// fakeDevice is an engine and a link, both of which a test moves.
type fakeDevice struct {
	mu        sync.Mutex
	state     engine.State
	loading   bool
	frames    uint64
	canaries  Canaries
	asked     int
	deaf      bool // it does not answer what is asked
	online    bool
	delivered uint64
	lost      bool // events are
	events    []wire.Event
}

func (d *fakeDevice) Status() engine.Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	return engine.Status{State: d.state, Loading: d.loading, Detail: "no member passed"}
}

func (d *fakeDevice) Answered() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.frames
}

func (d *fakeDevice) Submit(j pipeline.Job, answer func(*engine.Answer)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked++
	if _, err := png.Decode(bytes.NewReader(j.Body)); err == nil && !d.deaf {
		d.frames++
		answer(nil)
	}
}

// fakeLink is the link of one.
type fakeLink struct{ *fakeDevice }

func (d fakeLink) Status() uplink.Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	return uplink.Status{Online: d.online, Taken: d.delivered}
}

func (d fakeLink) Keep(_ wire.Severity, e wire.Event) func() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.events = append(d.events, e)
	kept := !d.lost
	return func() bool { return kept }
}

// change moves it.
func (d *fakeDevice) change(do func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	do()
}

// trial is one of it, that ends at a time.
func (d *fakeDevice) trial(until time.Time) *trial {
	return &trial{engine: d, canaries: &d.canaries, link: fakeLink{d}, until: until}
}

// sound is a device that has all that a release must show.
func sound() *fakeDevice { return &fakeDevice{state: engine.Ready, online: true, delivered: 1} }

func TestATrialEndsWithTheFirstThingThatIsWrong(t *testing.T) {
	const long = 5 * time.Minute
	fail := func(d *fakeDevice) { d.canaries.note("desk/5M on cpu", errors.New("canary: a logit")) }
	for _, tt := range []struct {
		name   string
		device *fakeDevice
		after  time.Duration // that it is changed
		change func(*fakeDevice)
		want   slot.Reason // empty: it proves itself
		why    string
		least  time.Duration
		most   time.Duration
	}{
		{"all is well at once", sound(), 0, nil, "", "", 0, 5 * time.Second},
		{"members load for a minute", &fakeDevice{state: engine.Ready, loading: true, online: true, delivered: 1}, time.Minute,
			func(d *fakeDevice) { d.loading = false }, "", "", time.Minute, 65 * time.Second},
		{"some members are missing", &fakeDevice{state: engine.Degraded, online: true, delivered: 1}, 0, nil, "", "", 0, 5 * time.Second},
		{"the link comes late", &fakeDevice{state: engine.Ready}, 4 * time.Minute,
			func(d *fakeDevice) { d.online, d.delivered = true, 1 }, "", "", 4 * time.Minute, 241 * time.Second},
		{"the link was there", &fakeDevice{state: engine.Ready, loading: true, online: true}, time.Minute,
			func(d *fakeDevice) { d.online, d.loading, d.delivered = false, false, 3 }, "", "", time.Minute, 65 * time.Second},
		{"a canary that fails", sound(), time.Second, fail,
			slot.Canary, "a logit", time.Second, 2 * time.Second},
		{"a canary that fails without a link", &fakeDevice{}, 0, fail, slot.Canary, "", 0, time.Second},
		{"no member", &fakeDevice{state: engine.Unavailable, online: true, delivered: 1}, 0, nil, slot.Inference,
			"the engine is unavailable: no member passed", long, long},
		{"members that are never ready", &fakeDevice{online: true, delivered: 1}, 0, nil, slot.Inference, "preparing", long, long},
		{"nothing is answered", &fakeDevice{state: engine.Ready, deaf: true, online: true, delivered: 1}, 0, nil, slot.Inference,
			"0 of 20 frames answered", long, long},
		{"neither frames nor a link", &fakeDevice{state: engine.Ready, deaf: true}, 0, nil, slot.Inference, "", long, long},
		{"no link", &fakeDevice{state: engine.Ready}, 0, nil, slot.NoLink, "no broker", long, long},
		{"a broker that takes nothing", &fakeDevice{state: engine.Ready, online: true}, 0, nil, slot.NoLink, "took no message", long, long},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				if tt.name == "a canary that fails" {
					tt.device.loading = true
				}
				time.AfterFunc(tt.after, func() {
					if tt.change != nil {
						tt.device.change(func() { tt.change(tt.device) })
					}
				})
				try := tt.device.trial(began.Add(long))
				err := try.run(t.Context(), func(uint64) {})
				f, failed := errors.AsType[*failing](err)
				switch took := time.Since(began); {
				case failed != (tt.want != "") || failed && (f.reason != tt.want || !strings.Contains(f.why, tt.why)):
					t.Errorf("got %v, want %q with %q", err, tt.want, tt.why)
				case took < tt.least || took > tt.most:
					t.Errorf("it took %v, want from %v to %v", took, tt.least, tt.most)
				}
			})
		})
	}
}

func TestATrialAsksForNothingWhileJobsCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDevice{state: engine.Ready, online: true, delivered: 1}
		stop := make(chan struct{})
		go func() {
			for {
				select {
				case <-time.After(lookPace / 4):
					d.change(func() { d.frames++ })
				case <-stop:
					return
				}
			}
		}()
		var told []uint64
		try := d.trial(time.Now().Add(time.Minute))
		if err := try.run(t.Context(), func(n uint64) { told = append(told, n) }); err != nil {
			t.Error(err)
		}
		close(stop)
		if d.asked > 1 || len(told) < 5 || told[len(told)-1] < framesLeast { // the first look knows of no job yet
			t.Errorf("asked for %d frames, told of %v; want the camera's", d.asked, told)
		}
	})
}

func TestATrialEndsWithItsDevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, stop)
		try := (&fakeDevice{}).trial(time.Now().Add(time.Minute))
		if err := try.run(ctx, func(uint64) {}); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want that it was stopped", err)
		}
	})
}
