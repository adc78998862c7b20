package mqtt

import (
	"slices"
	"sync"
	"time"
)

const (
	// minuteSamples are kept at most, spread over a minute.
	minuteSamples = 240
	// slowPUBACK is what a broker does not take by itself: it is below the 40 ms that
	// a kernel holds an acknowledgement back, for which a broker that lets its own
	// kernel gather small packets (Nagle's algorithm) waits.
	slowPUBACK = 35 * time.Millisecond
	// quickNetwork is a round trip that cannot be the reason.
	quickNetwork = 5 * time.Millisecond
	// fewInFlight is how many messages may be on their way for the time of one to be
	// the broker's, and not that of a queue.
	fewInFlight = 4
)

// ring keeps the last times.
type ring struct {
	values [8]time.Duration
	added  int
}

func (r *ring) add(d time.Duration) {
	r.values[r.added%len(r.values)] = d
	r.added++
}

func (r *ring) full() bool { return r.added >= len(r.values) }

func (r *ring) median() time.Duration {
	return median(slices.Clone(r.values[:min(r.added, len(r.values))]))
}

// median is 0 of none; it sorts.
func median(d []time.Duration) time.Duration {
	if len(d) == 0 {
		return 0
	}
	slices.Sort(d)
	return d[len(d)/2]
}

// latency is how long a broker takes to acknowledge, on all connections of a link.
type latency struct {
	mu     sync.Mutex
	recent ring
	minute []sample // oldest first
}

type sample struct {
	at   time.Time
	took time.Duration
}

func (l *latency) add(took time.Duration) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.recent.add(took)
	if n := len(l.minute); n > 0 && now.Sub(l.minute[n-1].at) < time.Minute/minuteSamples {
		return
	}
	l.forget(now)
	l.minute = append(l.minute, sample{now, took})
}

// forget drops what is older than a minute.
func (l *latency) forget(now time.Time) {
	l.minute = slices.DeleteFunc(l.minute, func(s sample) bool { return now.Sub(s.at) >= time.Minute })
}

func (l *latency) medians() (recent, minute time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.forget(time.Now())
	var took []time.Duration
	for _, s := range l.minute {
		took = append(took, s.took)
	}
	return l.recent.median(), median(took)
}

// slowness finds out, once for a connection, that the broker is slower than the
// network.
type slowness struct {
	mu     sync.Mutex
	recent ring
	told   bool
}

// judge takes the time of one more PUBACK, and tells whether it shows a slow broker
// for the first time; network measures.
func (s *slowness) judge(took time.Duration, network func() time.Duration) (usual, trip time.Duration, slow bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.recent.add(took)
	usual = s.recent.median()
	if s.told || !s.recent.full() || usual <= slowPUBACK {
		return 0, 0, false
	}
	trip = network()
	s.told = HeldBack(usual, trip)
	return usual, trip, s.told
}

// HeldBack tells whether a PUBACK usually takes longer than a broker needs for it,
// on a network that is known to be quick: see slowPUBACK.
func HeldBack(acknowledged, network time.Duration) bool {
	return acknowledged > slowPUBACK && network > 0 && network < quickNetwork
}
