package pipeline

import (
	"slices"
	"time"

	"github.com/limber-edge/limber/agent/governor"
)

// lowShare is of how many jobs one is of a lower class, if one waits: no class
// starves.
const lowShare = 16

// view is what the queue is told of the time that jobs take.
type view struct {
	now   time.Duration
	blind bool          // nothing was inferred for so long that the next job is served whatever its chance
	free  time.Duration // when the inference that runs is over
	least [governor.MaxMembers]span
	// workers decode beside the executor; 0: the one processor does either in turn.
	workers  int
	forecast *forecast
}

// weigh notes what a job will take: decoding, and an inference at the least.
func (v *view) weigh(e *entry) {
	e.decoding, e.inferring = 0, v.least[e.least]
	if e.fit != nil {
		e.decoding = e.fit.predict(e.header)
	}
	if v.workers == 0 {
		e.step = e.decoding + e.inferring.each
		return
	}
	e.step = max(e.decoding/time.Duration(v.workers), e.inferring.each)
}

// takes is the processor time of a job.
func (e *entry) takes() time.Duration { return e.decoding + e.inferring.each }

// alone is what a job must have left when its turn comes.
func (e *entry) alone() time.Duration { return e.decoding + e.inferring.needs }

// triage takes out the jobs that cannot be in time, as long as something is
// observed now and then. Those left would all be in time if each was inferred by
// the smallest member it accepts, in the order of service.
//
// Where a job would be late one must go: it or one before it, and any will do,
// as they take about the same time (Moore, An n Job, One Machine Sequencing
// Algorithm for Minimizing the Number of Late Jobs, 1968). Of its class that is
// the most urgent one of the source that has taken, and claims, the most
// processor time: sources have equal shares, an unused share goes to the others,
// and those left have time for a larger member.
func (q *queue) triage(v *view) (out []*entry) {
	if v.blind || len(q.waiting) == 0 {
		return nil
	}
	v.forecast.mu.Lock()
	defer v.forecast.mu.Unlock()
	if !q.inTime(v) {
		q.supersede()
		q.choose(v)
	}
	return q.sweep()
}

// timetable is how far a look at the queue, in the order of service, has come.
type timetable struct {
	v     *view
	ahead []*entry      // taken out before
	start time.Duration // the executor has done those that go before class
	busy  time.Duration // what the jobs so far take
	class Priority
	lower bool          // class is not the first
	own   time.Duration // what those of class take
}

func (q *queue) timetable(v *view) timetable {
	t := timetable{v: v, ahead: q.ahead}
	t.begin(q.waiting[0].Priority)
	return t
}

func (t *timetable) begin(class Priority) {
	t.class, t.own, t.start = class, 0, max(t.v.now, t.v.free)
	for _, e := range t.ahead {
		if e.turn || e.Priority >= class {
			t.start += t.v.least[e.least].each
		}
	}
}

// enter begins with another class where e is of one, and tells whether it is.
func (t *timetable) enter(e *entry) bool {
	if e.Priority == t.class {
		return false
	}
	t.lower = true
	t.begin(e.Priority)
	return true
}

func (t *timetable) add(e *entry) { t.busy, t.own = t.busy+e.step, t.own+e.step }

func (t *timetable) drop(e *entry) { t.busy, t.own = t.busy-e.step, t.own-e.step }

// late tells whether the job added last would be late. One of a lower class has
// its share of the time at any rate.
func (t *timetable) late(e *entry) bool {
	done := t.busy
	if t.lower {
		done = min(done, lowShare*t.own)
	}
	return t.start+done-e.step+e.alone() > e.due
}

// hopeless tells whether a job would be late though it was the only one.
func (t *timetable) hopeless(e *entry) bool { return t.start+e.alone() > e.due }

// inTime tells whether every job can be.
func (q *queue) inTime(v *view) bool {
	t := q.timetable(v)
	for _, e := range q.waiting {
		v.weigh(e)
		t.enter(e)
		t.add(e)
		if t.late(e) {
			return false
		}
	}
	return true
}

// choose marks the jobs that go.
func (q *queue) choose(v *view) {
	t := q.timetable(v)
	defer q.forget()
	for _, e := range q.waiting {
		if e.gone != "" {
			continue
		}
		if t.enter(e) {
			q.forget()
		}
		if v.weigh(e); t.hopeless(e) {
			e.gone = hopeless
			continue
		}
		t.add(e)
		q.claim(e, v.now)
		for e.gone == "" && t.late(e) {
			t.drop(q.yield())
		}
	}
}

// claim adds a job to what its source claims.
func (q *queue) claim(e *entry, now time.Duration) {
	s := e.from
	if len(s.jobs) == 0 { // else it is among them already
		q.claiming = append(q.claiming, s)
		s.fade(now)
		s.claim = s.used
	}
	s.jobs = append(s.jobs, e)
	s.claim += e.takes()
}

// yield takes out the most urgent job of the source that claims the most.
func (q *queue) yield() *entry {
	most := q.claiming[0]
	for _, s := range q.claiming {
		if s.went < len(s.jobs) && (most.went == len(most.jobs) || s.claim > most.claim) {
			most = s
		}
	}
	e := most.jobs[most.went]
	most.went++
	most.claim -= e.takes()
	e.gone = crowded
	return e
}

// forget ends the claims of a class.
func (q *queue) forget() {
	for i, s := range q.claiming {
		clear(s.jobs) // they hold frames
		s.jobs, s.went = s.jobs[:0], 0
		q.claiming[i] = nil
	}
	q.claiming = q.claiming[:0]
}

// supersede marks the jobs that a newer one of their source may take the place of.
func (q *queue) supersede() {
	for _, e := range q.waiting {
		if e.Latest && e.from.newest != e {
			e.gone = superseded
		}
	}
}

// sweep takes out the jobs that are marked.
func (q *queue) sweep() (out []*entry) {
	q.waiting = slices.DeleteFunc(q.waiting, func(e *entry) bool {
		if e.gone == "" {
			return false
		}
		q.leave(e)
		out = append(out, e)
		return true
	})
	return out
}

// turn is the index of the job to be served next: the first one, or that of a
// lower class whose turn it is.
func (q *queue) turn() int {
	first := q.waiting[0]
	if last := q.waiting[len(q.waiting)-1]; last.Priority == first.Priority {
		q.passed = 0
		return 0
	}
	if q.passed++; q.passed < lowShare {
		return 0
	}
	q.passed = 0
	next := 0
	for i, e := range q.waiting { // the first of each class is its most urgent
		newClass := e.Priority != first.Priority && e.Priority != q.waiting[i-1].Priority
		if newClass && (next == 0 || e.arrived < q.waiting[next].arrived) {
			next = i
		}
	}
	q.waiting[next].turn = true
	return next
}
