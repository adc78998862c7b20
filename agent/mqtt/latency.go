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
	// lagTimer is set again and again to find out how late this process comes to run,
	// and smallLag how late it may come for a PUBACK to tell of the broker: on a starved
	// machine all of them take long.
	lagTimer = time.Millisecond
	smallLag = 5 * time.Millisecond
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
// network. PUBACKs that take long are a suspicion; from then on each is watched, and
// those for which this process was not late itself are the proof.
type slowness struct {
	mu        sync.Mutex
	recent    ring
	suspected bool
	proof     ring
	told      bool
}

// A probe is the time that one PUBACK took.
type probe struct {
	took    time.Duration
	watched bool          // lag is known
	lag     time.Duration // how late this process came to run meanwhile, at worst
}

// suspects tells whether the next PUBACK is to be watched; network measures.
func (s *slowness) suspects(network func() time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.suspected && !s.told && HeldBack(s.recent.median(), network())
}

// judge takes one more probe, and tells whether it proves a slow broker for the first
// time; network measures.
func (s *slowness) judge(p probe, network func() time.Duration) (usual, trip time.Duration, slow bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.recent.add(p.took)
	s.suspected = s.recent.full() && s.recent.median() > slowPUBACK
	switch {
	case s.told:
		return 0, 0, false
	case !s.suspected:
		s.proof = ring{}
	case p.watched && p.lag <= smallLag:
		s.proof.add(p.took)
	}
	if !s.proof.full() {
		return 0, 0, false
	}
	usual, trip = s.proof.median(), network()
	s.told = HeldBack(usual, trip)
	return usual, trip, s.told
}

// A lag is being measured.
type lag struct {
	end   chan struct{}
	worst chan time.Duration
}

// watchLag measures until it is stopped.
func watchLag() lag {
	l := lag{make(chan struct{}), make(chan time.Duration, 1)}
	go func() {
		for worst := time.Duration(0); ; {
			set := time.Now()
			select {
			case <-time.After(lagTimer):
				worst = max(worst, time.Since(set)-lagTimer)
			case <-l.end:
				l.worst <- max(worst, time.Since(set)-lagTimer) // it may be overdue
				return
			}
		}
	}()
	return l
}

// stop returns how late this process came to run at worst.
func (l lag) stop() time.Duration {
	close(l.end)
	return <-l.worst
}

// HeldBack tells whether a PUBACK usually takes longer than a broker needs for it,
// on a network that is known to be quick: see slowPUBACK.
func HeldBack(acknowledged, network time.Duration) bool {
	return acknowledged > slowPUBACK && network > 0 && network < quickNetwork
}
