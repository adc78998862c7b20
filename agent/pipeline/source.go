package pipeline

import (
	"math"
	"time"
)

// maxSources bounds what is kept of who sends. All beyond are one.
const maxSources = 256

// beyond is the name of those; no source can have it.
const beyond = "\x00"

// fairMemory is how long processor time counts that a source has taken: its time
// constant.
const fairMemory = time.Second

// source is who sends jobs, as the queue sees it.
type source struct {
	waiting int           // its jobs in the queue
	newest  *entry        // of those that a newer one may take the place of
	used    time.Duration // processor time, fading
	at      time.Duration // when that was reckoned

	claim time.Duration // of one triage: used, and what jobs would take
	jobs  []*entry      // of one triage: those, in the order of service
	went  int           // of jobs, that are not among them any more
}

// fade brings used up to date.
func (s *source) fade(now time.Duration) {
	s.used = time.Duration(float64(s.used) * math.Exp(-float64(now-s.at)/float64(fairMemory)))
	s.at = now
}

// idle tells whether nothing would be lost without it.
func (s *source) idle(now time.Duration) bool {
	s.fade(now)
	return s.waiting == 0 && s.used < 10*time.Microsecond
}

// from is the source with a name.
func (q *queue) from(name string, now time.Duration) *source {
	if s := q.sources[name]; s != nil {
		return s
	}
	if len(q.sources) >= maxSources {
		for name, s := range q.sources {
			if s.idle(now) {
				delete(q.sources, name)
			}
		}
	}
	if len(q.sources) >= maxSources {
		name = beyond
	}
	if q.sources[name] == nil {
		q.sources[name] = new(source)
	}
	return q.sources[name]
}
