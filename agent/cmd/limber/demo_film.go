package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
)

// filmset is the cameras and the record of their frames.
type filmset struct {
	station *fleet.Mailbox
	self    wire.Address
	plan    *plan
	rec     *record
}

// roll notes everything the device says while the cameras are driven; whoever
// watches does so until they have been.
func (f *filmset) roll(ctx context.Context, drive func(context.Context) error, watch ...func(context.Context) error) error {
	g, gctx := errgroup.WithContext(ctx)
	done, stop := context.WithCancel(gctx)
	for _, w := range append(watch, f.receive) {
		g.Go(func() error { return w(done) })
	}
	g.Go(func() error {
		defer stop()
		return drive(gctx)
	})
	return g.Wait()
}

// practise runs the cameras for a while with a record of its own.
func (f *filmset) practise(ctx context.Context, deadline time.Duration, name string) (*record, error) {
	warm := *f
	warm.rec = newRecord(f.plan, deadline)
	warm.rec.begin(name, 0)
	return warm.rec, warm.roll(ctx, func(ctx context.Context) error {
		if err := warm.shoot(ctx, rehearsal); err != nil {
			return err
		}
		return errors.Join(warm.rec.await(ctx, lastCall), warm.rec.hush(ctx))
	})
}

// shoot runs every camera for a while, each at its own beat.
func (f *filmset) shoot(ctx context.Context, d time.Duration) error {
	g, gctx := errgroup.WithContext(ctx)
	end := time.Now().Add(d)
	for i, c := range f.plan.cameras {
		g.Go(func() error {
			offset := time.Second / cameraRate * time.Duration(i) / time.Duration(len(f.plan.cameras))
			return f.camera(gctx, c, time.Now().Add(offset), end)
		})
	}
	return g.Wait()
}

// deskCamera is a source of frames that are given their ids by the device, which
// counts them. So it knows the ids if it counts what it sends.
type deskCamera struct {
	source string
	boot   string // of the device
	sent   int    // frames
}

// next is the id of its next frame.
func (c *deskCamera) next() string {
	c.sent++
	return fmt.Sprintf("%s-%.8s-%d", c.source, c.boot, c.sent)
}

// camera publishes frames until end. A frame that comes late does not delay the
// ones after it: a camera does not wait for the network.
func (f *filmset) camera(ctx context.Context, c *deskCamera, next, end time.Time) error {
	timer := time.NewTimer(time.Until(next))
	defer timer.Stop()
	for ; next.Before(end); next = next.Add(time.Second / cameraRate) {
		timer.Reset(time.Until(next))
		select {
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		image := f.rec.shot(c.next())
		outcome := f.station.Send(ctx, mqtt.Message{Topic: f.self.Frame(c.source), Payload: f.plan.jobs[image], QoS: 1})
		select {
		case err := <-outcome: // at once only when it was not even sent
			if err != nil {
				return fmt.Errorf("camera: %w", err)
			}
		default:
		}
	}
	return nil
}

// receive notes everything the device says until ctx ends.
func (f *filmset) receive(ctx context.Context) error {
	for {
		m, err := f.station.Next(ctx)
		if err != nil {
			return nil // asked to stop
		}
		t, err := wire.ParseTopic(m.Topic)
		if err != nil {
			return err
		}
		switch t.Kind {
		case wire.KindResult:
			var r wire.Result
			if err = wire.Decode(m.Payload, &r); err == nil {
				f.rec.answer(&r)
			}
		case wire.KindEvent:
			var e wire.Event
			if err = wire.Decode(m.Payload, &e); err == nil && e.Kind == wire.EventSwitch {
				f.rec.switched(&e)
			}
		case wire.KindTelemetry:
			t := new(wire.Telemetry)
			if err = wire.Decode(m.Payload, t); err == nil {
				f.rec.telemetry(t)
			}
		}
		if err != nil {
			return fmt.Errorf("%s: %w", m.Topic, err)
		}
	}
}

// record is what was sent and what came back.
type record struct {
	labels   []int // of the pictures
	deadline time.Duration
	largest  string // member

	mu       sync.Mutex
	phases   []*phase
	shots    map[string]shot // waiting for an answer, by id
	next     int
	total    tally
	uses     map[string]map[int]int // member, image: answers
	switches int
	told     time.Time       // when the device told of the last of them
	operates string          // the operating member
	returned bool            // the largest member answers again in this phase, and not as a probe
	back     time.Duration   // from the beginning of the phase to then
	state    *wire.Telemetry // the latest
	settled  chan struct{}   // holds one token when no answer is missing
}

type shot struct {
	image   int
	phase   *phase
	settled bool // sent when the device had had settleTime for the phase
}

// settleTime is what the device has to find its place in a phase.
const settleTime = 2 * time.Second

// phase is one stretch of the demo.
type phase struct {
	name  string
	hogs  int
	began time.Time
	took  time.Duration
	tally
	settled tally // of the frames from settleTime on
}

// length of the phase, so far if it goes on.
func (p *phase) length() time.Duration {
	if p.took > 0 {
		return p.took
	}
	return time.Since(p.began)
}

// tally counts frames and answers.
type tally struct {
	frames, answered, refused, met, right int
	ms                                    []float64 // total of each answer
	members                               map[string]int
}

func newRecord(p *plan, deadline time.Duration) *record {
	return &record{
		labels: p.pictures.labels, deadline: deadline, largest: p.caps.Members[len(p.caps.Members)-1].Name,
		shots: map[string]shot{}, uses: map[string]map[int]int{}, total: tally{members: map[string]int{}},
		operates: p.caps.Members[len(p.caps.Members)-1].Name, settled: make(chan struct{}, 1),
	}
}

// begin ends the phase before and starts one.
func (r *record) begin(name string, hogs int) {
	r.end()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.returned, r.back = false, 0
	r.phases = append(r.phases, &phase{name: name, hogs: hogs, began: time.Now(),
		tally: tally{members: map[string]int{}}, settled: tally{members: map[string]int{}}})
}

func (r *record) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.phases); n > 0 && r.phases[n-1].took == 0 {
		r.phases[n-1].took = time.Since(r.phases[n-1].began)
	}
}

// shot counts a frame with this id and chooses its image.
func (r *record) shot(id string) (image int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	image = r.next % len(r.labels)
	r.next++
	p := r.phases[len(r.phases)-1]
	s := shot{image, p, time.Since(p.began) >= settleTime}
	for _, t := range r.tallies(s) {
		t.frames++
	}
	r.shots[id] = s
	return image
}

// tallies are those that a frame counts in. r is locked.
func (r *record) tallies(s shot) []*tally {
	if s.settled {
		return []*tally{&r.total, &s.phase.tally, &s.phase.settled}
	}
	return []*tally{&r.total, &s.phase.tally}
}

// answer counts a result.
func (r *record) answer(res *wire.Result) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ours := r.shots[res.ID]
	if !ours {
		return
	}
	delete(r.shots, res.ID)
	right := res.Status == wire.OK && res.Classes[0].Index == r.labels[s.image]
	for _, t := range r.tallies(s) {
		t.count(res, right)
	}
	if res.Status == wire.OK {
		if now := r.phases[len(r.phases)-1]; s.phase == now && res.Member == r.largest && res.Choice != "probe" && !r.returned {
			r.returned, r.back = true, time.Since(now.began)
		}
		if r.uses[res.Member] == nil {
			r.uses[res.Member] = map[int]int{}
		}
		r.uses[res.Member][s.image]++
	}
	if len(r.shots) == 0 {
		select {
		case r.settled <- struct{}{}:
		default:
		}
	}
}

func (t *tally) count(res *wire.Result, right bool) {
	if res.Status != wire.OK {
		t.refused++
		return
	}
	t.answered++
	t.members[res.Member]++
	t.ms = append(t.ms, res.MS.Total)
	if res.Met {
		t.met++
	}
	if right {
		t.right++
	}
}

// switched notes a change of the operating member.
func (r *record) switched(e *wire.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.switches += int(max(e.Count, 1))
	r.operates, r.told = e.Member, time.Now()
}

func (r *record) telemetry(t *wire.Telemetry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state = t
}

// How late a switch is told of: the device holds it back for a second after the
// one before, and looks once a second. Otherwise it only has to come here.
const (
	heldBack = 2 * time.Second
	onItsWay = 100 * time.Millisecond
)

// await waits until every frame has its answer, but no longer than limit: what is
// missing then, the summary tells.
func (r *record) await(ctx context.Context, limit time.Duration) error {
	wait, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for r.missing() > 0 {
		select {
		case <-r.settled:
		case <-wait.Done():
			return ctx.Err()
		}
	}
	return nil
}

// hush waits, when no frame is under way any more, until every switch was told
// of.
func (r *record) hush(ctx context.Context) error {
	if err := pause(ctx, time.Now().Add(onItsWay)); err != nil {
		return err
	}
	return pause(ctx, r.lastTold().Add(heldBack))
}

func (r *record) lastTold() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.told
}

func (r *record) missing() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.shots)
}

// used is how often each member answered each image.
func (r *record) used() map[string]map[int]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	uses := map[string]map[int]int{} // a copy: an answer may still come
	for member, images := range r.uses {
		uses[member] = maps.Clone(images)
	}
	return uses
}

// percentile of milliseconds; 0 for none.
func percentile(ms []float64, p int) float64 {
	if len(ms) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(ms))
	return sorted[min(len(sorted)*p/100, len(sorted)-1)]
}
