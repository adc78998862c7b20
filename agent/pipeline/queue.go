package pipeline

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// entry is a job in the pipeline. Times count from the pipeline's epoch.
type entry struct {
	Job
	arrived time.Duration
	due     time.Duration // when it must be answered
	decode  time.Duration // spent decoding
	mates   []*entry      // inferred together with it

	answered atomic.Bool
}

// maxArrivals bounds what is remembered while nobody glances. The governor's
// rate of arrivals forgets within a second, so older ones would not count.
const maxArrivals = 256

var errClosed = errors.New("the agent is stopping")

// before is the order of service: by priority, then by deadline, and of equals
// the first come first.
func (e *entry) before(other *entry) bool {
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

// place is where e belongs among what is in the order of service.
func place[T any](among []T, e *entry, job func(T) *entry) int {
	at, _ := slices.BinarySearchFunc(among, e, func(one T, e *entry) int {
		if e.before(job(one)) {
			return 1
		}
		return -1
	})
	return at
}

func itself(e *entry) *entry { return e }

// queue keeps waiting jobs in the order of service. It is bounded in jobs and in
// bytes.
type queue struct {
	maxJobs, maxBytes int

	mu       sync.Mutex
	waiting  []*entry        // in the order of service
	ahead    []*entry        // taken out and not yet decided on, in that order
	bytes    int             // of the waiting jobs' bodies
	arrivals []time.Duration // since the last glance
	closed   bool
	idle     bool          // the inferrer waits for a job of its own
	wake     chan struct{} // holds one token when the decoder has something to pop
	direct   chan struct{} // holds one token when the inferrer has
}

func newQueue(maxJobs, maxBytes int) *queue {
	return &queue{maxJobs: maxJobs, maxBytes: maxBytes, wake: make(chan struct{}, 1), direct: make(chan struct{}, 1)}
}

// push adds a job. Where there is no room, the jobs whose deadline has passed at
// now are taken out for it, then those of lower priority, from the end; they are
// returned. The error says that there is still none, or that the queue is closed.
func (q *queue) push(e *entry, now time.Duration) (out []*entry, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return nil, errClosed
	}
	if len(q.arrivals) == maxArrivals {
		q.arrivals = slices.Delete(q.arrivals, 0, 1)
	}
	q.arrivals = append(q.arrivals, e.arrived)
	if !q.fits(e, 0, 0) {
		out = q.expire(now)
	}
	if !q.fits(e, 0, 0) {
		out = append(out, q.displace(e)...)
	}
	if !q.fits(e, 0, 0) {
		return out, fmt.Errorf("the queue is full (%d jobs, %d bytes wait)", len(q.waiting), q.bytes)
	}
	q.waiting = slices.Insert(q.waiting, place(q.waiting, e, itself), e)
	q.bytes += len(e.Body)
	q.signal()
	return out, nil
}

// fits tells whether there is room for a job if so many jobs and bytes were gone.
func (q *queue) fits(e *entry, jobs, bytes int) bool {
	return len(q.waiting)-jobs < q.maxJobs && q.bytes-bytes+len(e.Body) <= q.maxBytes
}

// displace takes out the last jobs of lower priority than e, as many as make
// room for it; none if all of them would not.
func (q *queue) displace(e *entry) []*entry {
	from, bytes := len(q.waiting), 0
	for from > 0 && q.waiting[from-1].Priority < e.Priority && !q.fits(e, len(q.waiting)-from, bytes) {
		from--
		bytes += len(q.waiting[from].Body)
	}
	if !q.fits(e, len(q.waiting)-from, bytes) {
		return nil
	}
	out := slices.Clone(q.waiting[from:])
	q.waiting = slices.Delete(q.waiting, from, len(q.waiting))
	q.bytes -= bytes
	return out
}

// expire takes out the jobs whose deadline has passed.
func (q *queue) expire(now time.Duration) (out []*entry) {
	q.waiting = slices.DeleteFunc(q.waiting, func(w *entry) bool {
		if w.due >= now {
			return false
		}
		out = append(out, w)
		q.bytes -= len(w.Body)
		return true
	})
	return out
}

// pop takes out the most urgent job, or nil. It stays counted as ahead until
// done is called.
func (q *queue) pop() *entry {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.take()
}

// popIdle is pop for the inferrer, which has nothing to do: a job that finds the
// device free need not go through another goroutine. It leaves those alone that
// the decoder has begun with, whose turn is first. Where there is none, the next
// job will be signalled to direct.
func (q *queue) popIdle() *entry {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.ahead) > 0 {
		return nil
	}
	q.idle = len(q.waiting) == 0
	return q.take()
}

func (q *queue) take() *entry {
	if len(q.waiting) == 0 {
		return nil
	}
	e := q.waiting[0]
	q.waiting = slices.Delete(q.waiting, 0, 1)
	q.bytes -= len(e.Body)
	q.ahead = slices.Insert(q.ahead, place(q.ahead, e, itself), e)
	if len(q.waiting) > 0 {
		token(q.wake)
	}
	return e
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
// service, as many as fit into due, and moves the arrivals since the last
// glance to arrived[:0]. Both slices are the caller's and are returned.
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
		due = append(due, e.due)
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

// size is the number of jobs that wait.
func (q *queue) size() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting)
}

func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
}

// signal wakes the goroutine that is to pop: the inferrer if it is idle, once,
// else the decoder.
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
