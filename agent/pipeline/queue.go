package pipeline

import (
	"errors"
	"fmt"
	"slices"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"github.com/limber-edge/limber/agent/frame"
)

// entry is a job in the pipeline. Times count from the pipeline's epoch.
type entry struct {
	Job
	arrived time.Duration
	due     time.Duration // when it must be answered
	header  frame.Header  // of Body
	fit     *fit          // what frames of its kind take; nil: not known
	least   int           // index of the smallest member that it accepts
	decode  time.Duration // spent decoding
	mates   []*entry      // inferred together with it

	from *source // the rest is the queue's
	turn bool    // it is served before all others, lest its class starve
	gone gone    // why it was taken out unserved

	// What the last look at the queue expected of it:
	decoding  time.Duration // decoding takes
	inferring span          // an inference takes at the least
	step      time.Duration // until the next job follows

	answered atomic.Bool
}

// gone is why a job is taken out of the queue without being served.
type gone string

const (
	hopeless   gone = "not even the smallest member is likely to make it"
	crowded    gone = "more jobs wait than can be in time"
	superseded gone = "a newer frame of its source came"
	expired    gone = "the queue was full and the deadline had passed"
	displaced  gone = "the queue was full and a job of higher priority came"
	outweighed gone = "the queue was full and a job of a source that has fewer in it came"
)

// maxArrivals bounds what is remembered while nobody glances. The governor's
// rate of arrivals forgets within a second, so older ones would not count.
const maxArrivals = 256

// ErrClosed is why a pipeline that was drained, or has ended, does nothing any more.
var ErrClosed = errors.New("the agent is stopping")

// before is the order of service: by priority, then by deadline, and of equals
// the first come first.
func (e *entry) before(other *entry) bool {
	if e.turn != other.turn {
		return e.turn
	}
	if e.Priority != other.Priority {
		return e.Priority > other.Priority
	}
	return e.due < other.due
}

// party is who may run in one batch with the head.
type party struct {
	head  *entry
	least float64 // top-1 that the member which runs the head has at any rate
	goal  float64 // floor of jobs that name none
}

// admits tells whether a job may join: it accepts whatever the head gets, and has
// no less time.
func (p party) admits(e *entry) bool {
	switch {
	case e.due < p.head.due:
		return false
	case e.Floor == p.head.Floor:
		return true
	case e.Floor == 0: // where the goal cannot be had the head may get less, but not if it has a floor of its own
		return p.goal <= p.head.Floor
	default:
		return e.Floor <= p.least
	}
}

func enlist(jobs []*entry, e *entry) []*entry {
	at := sort.Search(len(jobs), func(i int) bool { return e.before(jobs[i]) })
	return slices.Insert(jobs, at, e)
}

// queue keeps waiting jobs in the order of service. It is bounded in jobs and in
// bytes. Where more wait than can be in time, it says who goes: see triage.
type queue struct {
	maxJobs, maxBytes int

	mu       sync.Mutex
	waiting  []*entry        // in the order of service
	ahead    []*entry        // taken out and not yet decided on, in that order
	bytes    int             // of the waiting jobs' bodies
	arrivals []time.Duration // since the last glance
	sources  map[string]*source
	claiming []*source // of one triage: those with jobs in it
	passed   int       // jobs served since a lower class that waits had its turn
	closed   bool
	idle     bool          // the executor waits for a job of its own
	wake     chan struct{} // holds one token when there is something to decode
	direct   chan struct{} // holds one token when the executor has
}

func newQueue(maxJobs, maxBytes int) *queue {
	return &queue{maxJobs: maxJobs, maxBytes: maxBytes, sources: make(map[string]*source),
		wake: make(chan struct{}, 1), direct: make(chan struct{}, 1)}
}

// push adds a job. Where there is no room, the jobs whose deadline has passed at
// now are taken out for it, and those that a newer one takes the place of; then
// those of lower priority, from the end; then those of a source that has more
// jobs in the queue. They are returned. The error says that there is still no
// room, or that the queue is closed.
func (q *queue) push(e *entry, now time.Duration) (out []*entry, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return nil, ErrClosed
	}
	if len(q.arrivals) == maxArrivals {
		q.arrivals = slices.Delete(q.arrivals, 0, 1)
	}
	q.arrivals = append(q.arrivals, e.arrived)
	e.from = q.from(e.Source, now)
	if !q.fits(e, 0, 0) {
		out = q.makeRoom(e, now)
	}
	if !q.fits(e, 0, 0) {
		return out, fmt.Errorf("the queue is full (%d jobs, %d bytes wait)", len(q.waiting), q.bytes)
	}
	q.waiting = enlist(q.waiting, e)
	q.bytes += len(e.Body)
	e.from.waiting++
	if e.Latest {
		e.from.newest = e
	}
	q.signal()
	return out, nil
}

// leave gives back what a job took that is no longer in the queue.
func (q *queue) leave(e *entry) {
	q.bytes -= len(e.Body)
	e.from.waiting--
	if e.from.newest == e {
		e.from.newest = nil
	}
}

// fits tells whether there is room for a job if so many jobs and bytes were gone.
func (q *queue) fits(e *entry, jobs, bytes int) bool {
	return len(q.waiting)-jobs < q.maxJobs && q.bytes-bytes+len(e.Body) <= q.maxBytes
}

// makeRoom takes out jobs for e, as far as there are any that may go.
func (q *queue) makeRoom(e *entry, now time.Duration) (out []*entry) {
	q.supersede()
	for _, w := range q.waiting {
		if w.due < now {
			w.gone = expired
		} else if e.Latest && w.Latest && w.from == e.from {
			w.gone = superseded
		}
	}
	out = q.sweep()
	if !q.fits(e, 0, 0) {
		out = append(out, q.displace(e, displaced, func(w *entry) bool { return w.Priority < e.Priority })...)
	}
	if !q.fits(e, 0, 0) {
		most := q.largest()
		out = append(out, q.displace(e, outweighed, func(w *entry) bool {
			return w.from == most && most.waiting > e.from.waiting+1 && w.Priority <= e.Priority
		})...)
	}
	return out
}

// largest is the source that has the most jobs waiting.
func (q *queue) largest() (most *source) {
	for _, w := range q.waiting {
		if most == nil || w.from.waiting > most.waiting {
			most = w.from
		}
	}
	return most
}

// displace takes out the last of those jobs that may go, as many as make room for
// e; none if all of them would not.
func (q *queue) displace(e *entry, why gone, may func(*entry) bool) []*entry {
	var going []*entry
	bytes := 0
	for i := len(q.waiting) - 1; i >= 0 && !q.fits(e, len(going), bytes); i-- {
		if w := q.waiting[i]; may(w) {
			going = append(going, w)
			bytes += len(w.Body)
		}
	}
	if !q.fits(e, len(going), bytes) {
		return nil
	}
	for _, w := range going {
		w.gone = why
	}
	return q.sweep()
}

// pop takes out the job to be served next, or nil, and before it those that
// cannot be in time. It stays counted as ahead until done is called.
//
// An idle one is the executor, which has nothing to do: a job that finds the
// device free need not go through another goroutine. It gets none while a decoder
// has begun with one, whose turn is first. Where none waits, the next job will be
// signalled to direct.
func (q *queue) pop(v *view, idle bool) (e *entry, out []*entry) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if idle && len(q.ahead) > 0 {
		return nil, nil
	}
	out = q.triage(v)
	if idle {
		q.idle = len(q.waiting) == 0
	}
	return q.take(v.now), out
}

func (q *queue) take(now time.Duration) *entry {
	if len(q.waiting) == 0 {
		return nil
	}
	at := q.turn()
	e := q.waiting[at]
	q.waiting = slices.Delete(q.waiting, at, at+1)
	q.leave(e)
	e.from.fade(now)
	e.from.used += e.takes()
	q.ahead = enlist(q.ahead, e)
	if len(q.waiting) > 0 {
		token(q.wake)
	}
	return e
}

// close lets no more jobs in, and takes out all that wait.
func (q *queue) close() (all []*entry) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	for _, e := range q.waiting {
		q.leave(e)
	}
	all, q.waiting = q.waiting, nil
	return all
}

// done tells that a job which was popped has been decided on.
func (q *queue) done(e *entry) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.idle = false
	if i := slices.Index(q.ahead, e); i >= 0 {
		q.ahead = slices.Delete(q.ahead, i, i+1)
	}
}

// glance lists the deadlines of the jobs behind the head, in the order of
// service, as many as fit into due, less what decoding will take, and moves the
// arrivals since the last glance to arrived[:0]. Both slices are the caller's and
// are returned.
func (q *queue) glance(due, arrived []time.Duration) (behind, since []time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	due = due[:0]
	for _, e := range q.ahead {
		if len(due) < cap(due) {
			due = append(due, e.due)
		}
	}
	for _, e := range q.waiting[:min(len(q.waiting), cap(due)-len(due))] {
		due = append(due, e.due-e.decoding)
	}
	since, q.arrivals = q.arrivals, arrived[:0]
	return due, since
}

// busy tells whether jobs wait or are being prepared.
func (q *queue) busy() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting)+len(q.ahead) > 0
}

// next is the priority of the first job that waits, if one does.
func (q *queue) next() (p Priority, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 {
		return 0, false
	}
	return q.waiting[0].Priority, true
}

func (q *queue) size() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting)
}

// signal wakes the goroutine that is to pop: the executor if it is idle, once,
// else a decoder.
func (q *queue) signal() {
	if q.idle {
		q.idle = false
		token(q.direct)
		return
	}
	token(q.wake)
}

// token leaves one in a channel that holds one.
func token(wake chan<- struct{}) {
	select {
	case wake <- struct{}{}:
	default:
	}
}
