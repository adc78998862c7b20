package resident

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/limber-edge/limber/family"
)

// How a profile is taken. Every round runs every member, so that a drift of
// the machine favours none; the first run after a change of member refills the
// caches and is not counted.
const (
	profileRounds = 30
	runsPerRound  = 2
	profileLimit  = 6 * time.Second // slow devices take fewer rounds, but never fewer than five
	fewestRounds  = 5
)

// Profile measures the sessions, one for each member of the family in its
// order; nil for one that cannot be used, which is left out. It runs them on
// this goroutine.
func (s *Shelf) Profile(sessions []family.Session) (*family.Profile, error) {
	runs := make([][]float64, len(sessions)) // milliseconds
	out := make([]float32, len(s.fam.Classes))
	began := time.Now()
	for round := 0; round < fewestRounds || round < profileRounds && time.Since(began) < profileLimit; round++ {
		for i, session := range sessions {
			if session == nil {
				continue
			}
			r := s.fam.Members[i].Arch.R
			taken, err := timeRuns(session, make([]float32, 3*r*r), out)
			if err != nil {
				return nil, fmt.Errorf("profile member %s: %w", s.fam.Members[i].Name, err)
			}
			runs[i] = append(runs[i], taken...)
		}
	}
	p := &family.Profile{Schema: family.Schema, Family: s.fam.Digest(), Runtime: s.rt.Version(),
		Options: s.options.String(), Taken: began.UTC().Truncate(time.Second)}
	for i, ms := range runs {
		p.Rounds = max(p.Rounds, len(ms))
		p.Members = append(p.Members, summary(s.fam.Members[i].Name, ms))
	}
	return p, nil
}

// timeRuns runs once for the caches, then measures, in milliseconds.
func timeRuns(session family.Session, in, out []float32) ([]float64, error) {
	var ms []float64
	for n := range 1 + runsPerRound {
		start := time.Now()
		if err := session.Run(in, out); err != nil {
			return nil, err
		}
		if n > 0 {
			ms = append(ms, float64(time.Since(start))/float64(time.Millisecond))
		}
	}
	return ms, nil
}

func summary(name string, ms []float64) family.MemberProfile {
	if len(ms) == 0 {
		return family.MemberProfile{Name: name}
	}
	slices.Sort(ms)
	var sum, square float64
	for _, v := range ms {
		sum += v
		square += v * v
	}
	mean := sum / float64(len(ms))
	spread := math.Sqrt(max(0, square/float64(len(ms))-mean*mean))
	return family.MemberProfile{Name: name, P50ms: round3(ms[len(ms)/2]), P95ms: round3(ms[len(ms)*95/100]), CV: round3(spread / mean)}
}

func round3(v float64) float64 { return math.Round(v*1000) / 1000 }
