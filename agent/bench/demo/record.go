package demo

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/limber-edge/limber/agent/bench/desk"
	"github.com/limber-edge/limber/agent/bench/figure"
	"github.com/limber-edge/limber/agent/wire"
)

// record is what was sent and what came back.
type record struct {
	plan     *plan
	deadline time.Duration

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
	ms                                    figure.Sample // total of each answer
	members                               map[string]int
}

func newRecord(p *plan, deadline time.Duration) *record {
	return &record{
		plan: p, deadline: deadline,
		shots: map[string]shot{}, uses: map[string]map[int]int{}, total: tally{members: map[string]int{}},
		operates: p.largest(), settled: make(chan struct{}, 1),
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

// sent counts a frame with this id and chooses its image.
func (r *record) sent(id string) (image int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	image = r.next % len(r.plan.pictures.labels)
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

func (r *record) note(kind wire.Kind, payload []byte) (err error) {
	switch kind {
	case wire.KindResult:
		var res wire.Result
		if err = wire.Decode(payload, &res); err == nil {
			r.answer(&res)
		}
	case wire.KindEvent:
		var e wire.Event
		if err = wire.Decode(payload, &e); err == nil && e.Kind == wire.EventSwitch {
			r.switched(&e)
		}
	case wire.KindTelemetry:
		t := new(wire.Telemetry)
		if err = wire.Decode(payload, t); err == nil {
			r.mu.Lock()
			r.state = t
			r.mu.Unlock()
		}
	}
	return err
}

func (r *record) answer(res *wire.Result) {
	if !r.count(res) {
		return
	}
	select {
	case r.settled <- struct{}{}:
	default:
	}
}

// count tells whether it was the last one that was missing.
func (r *record) count(res *wire.Result) (last bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ours := r.shots[res.ID]
	if !ours {
		return false
	}
	delete(r.shots, res.ID)
	right := res.Status == wire.OK && res.Classes[0].Index == r.plan.pictures.labels[s.image]
	for _, t := range r.tallies(s) {
		t.count(res, right)
	}
	if res.Status == wire.OK {
		now := r.phases[len(r.phases)-1]
		if s.phase == now && res.Member == r.plan.largest() && res.Choice != "probe" && !r.returned {
			r.returned, r.back = true, time.Since(now.began)
		}
		if r.uses[res.Member] == nil {
			r.uses[res.Member] = map[int]int{}
		}
		r.uses[res.Member][s.image]++
	}
	return len(r.shots) == 0
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

func (r *record) switched(e *wire.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.switches += int(max(e.Count, 1))
	r.operates, r.told = e.Member, time.Now()
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

// settle waits, when no frame is under way any more, until every switch was told
// of.
func (r *record) settle(ctx context.Context) error {
	if err := desk.Wait(ctx, time.Now().Add(onItsWay)); err != nil {
		return err
	}
	return desk.Wait(ctx, r.lastTold().Add(heldBack))
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
