package uplink

import (
	"slices"
	"sync"
	"time"
)

// strain is how long acknowledgements of the broker take now, against the last minute.
type strain struct {
	mu     sync.Mutex
	recent time.Duration // guarded by mu: mean of the last few
	minute []roundTrip   // guarded by mu: samples of the last minute
	median time.Duration // guarded by mu: of these; 0: not known yet
	judged time.Time     // guarded by mu: when that was worked out
}

// roundTrip is how long one acknowledgement took.
type roundTrip struct {
	at   time.Time
	took time.Duration
}

const (
	strainSpan  = time.Minute
	strainEvery = 100 * time.Millisecond // between two samples: 600 of them are enough
	strainRise  = 3                      // times the median that are too long
	strainLeast = 5 * time.Millisecond   // that are too long: below, a link is not strained but uneven
	strainFew   = 8                      // the mean is of about so many
)

// add notes how long an acknowledgement took.
func (s *strain) add(took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if s.recent == 0 {
		s.recent = took
	}
	s.recent += (took - s.recent) / strainFew
	if n := len(s.minute); n == 0 || now.Sub(s.minute[n-1].at) >= strainEvery {
		s.minute = append(s.minute, roundTrip{now, took})
	}
	if now.Sub(s.judged) >= time.Second {
		s.judge(now)
	}
}

// judge works out the median; mu is held.
func (s *strain) judge(now time.Time) {
	s.judged = now
	s.minute = slices.DeleteFunc(s.minute, func(t roundTrip) bool { return now.Sub(t.at) > strainSpan })
	var all []time.Duration
	for _, t := range s.minute {
		all = append(all, t.took)
	}
	slices.Sort(all)
	s.median = all[len(all)/2]
}

// high tells whether acknowledgements take much longer than they did.
func (s *strain) high() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.median > 0 && s.recent >= max(strainRise*s.median, strainLeast)
}
