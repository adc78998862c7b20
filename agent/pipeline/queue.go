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

	answered atomic.Bool
}

// maxArrivals bounds what is remembered while nobody glances. The governor's
// rate of arrivals forgets within a second, so older ones would not count.
const maxArrivals = 256

var errClosed = errors.New("the agent is stopping")

// queue keeps waiting jobs by deadline, earliest first, and of equal deadlines
// the first come first. It is bounded in jobs and in bytes.
type queue struct {
	maxJobs, maxBytes int

	mu       sync.Mutex
	waiting  []*entry        // sorted by due
	ahead    []*entry        // taken out and not yet decided on, in order
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

// push adds a job. Where there is no room, the jobs whose deadline has passed
// at now are taken out for it and returned; the error says that there is still
// none, or that the queue is closed.
func (q *queue) push(e *entry, now time.Duration) (expired []*entry, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return nil, errClosed
	}
	if len(q.arrivals) == maxArrivals {
		q.arrivals = slices.Delete(q.arrivals, 0, 1)
	}
	q.arrivals = append(q.arrivals, e.arrived)
	if !q.fits(e) {
		expired = q.expire(now)
	}
	if !q.fits(e) {
		return expired, fmt.Errorf("the queue is full (%d jobs, %d bytes wait)", len(q.waiting), q.bytes)
	}
	q.insert(e)
	q.signal()
	return expired, nil
}

func (q *queue) fits(e *entry) bool {
	return len(q.waiting) < q.maxJobs && q.bytes+len(e.Body) <= q.maxBytes
}

func (q *queue) insert(e *entry) {
	at, _ := slices.BinarySearchFunc(q.waiting, e.due, func(w *entry, due time.Duration) int {
		if w.due <= due {
			return -1
		}
		return 1
	})
	q.waiting = slices.Insert(q.waiting, at, e)
	q.bytes += len(e.Body)
}

// expire takes out the jobs whose deadline has passed.
func (q *queue) expire(now time.Duration) []*entry {
	n := 0
	for n < len(q.waiting) && q.waiting[n].due < now {
		q.bytes -= len(q.waiting[n].Body)
		n++
	}
	expired := slices.Clone(q.waiting[:n])
	q.waiting = slices.Delete(q.waiting, 0, n)
	return expired
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
	q.ahead = append(q.ahead, e)
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
