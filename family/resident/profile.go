package resident

import (
	"context"
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
	profileLimit  = 6 * time.Second // without pauses; slow devices take fewer rounds, but never fewer than five
	fewestRounds  = 5
)

// Profile measures the sessions, one for each member of the family in its
// order; nil for one that cannot be used, which is left out. It runs them on
// this goroutine, and stops between two runs when ctx ends: its error then wraps
// ctx's. After each round it calls pause, which may take any time.
func (s *Shelf) Profile(ctx context.Context, sessions []family.Session, pause func()) (*family.Profile, error) {
	runs, batches := make([][]float64, len(sessions)), make([][]float64, len(sessions)) // milliseconds
	fails := make([]bool, len(sessions))                                                // in batches
	began, worked := time.Now(), time.Duration(0)
	for round := 0; round < fewestRounds || round < profileRounds && worked < profileLimit; round++ {
		since := time.Now()
		for i, session := range sessions {
			if session == nil {
				continue
			}
			taken, err := s.timeRuns(ctx, session, i, 1)
			if err != nil {
				return nil, fmt.Errorf("profile member %s: %w", s.fam.Members[i].Name, err)
			}
			runs[i] = append(runs[i], taken...)
			if !s.batches() || fails[i] {
				continue
			}
			taken, err = s.timeRuns(ctx, session, i, family.Batch)
			if ctx.Err() != nil {
				return nil, fmt.Errorf("profile member %s: %w", s.fam.Members[i].Name, ctx.Err())
			}
			if err != nil {
				fails[i], batches[i] = true, nil // its images run one at a time
			}
			batches[i] = append(batches[i], taken...)
		}
		worked += time.Since(since)
		pause()
	}
	p := &family.Profile{Schema: family.Schema, Family: s.fam.Digest(), Runtime: s.rt.Version(),
		Options: s.Variant().String(), Taken: began.UTC().Truncate(time.Second), Batch: family.Batch}
	for i, ms := range runs {
		p.Rounds = max(p.Rounds, len(ms))
		m := summary(s.fam.Members[i].Name, ms)
		m.Batch = summary(m.Name, batches[i]).P50ms
		p.Members = append(p.Members, m)
	}
	return p, nil
}

// timeRuns runs member i on so many images once for the caches, then measures,
// in milliseconds.
func (s *Shelf) timeRuns(ctx context.Context, session family.Session, i, images int) (ms []float64, err error) {
	r := s.fam.Members[i].Arch.R
	in, out := make([][]float32, images), make([]float32, images*len(s.fam.Classes))
	for n := range in {
		in[n] = make([]float32, 3*r*r)
	}
	for n := range 1 + runsPerRound {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		start := time.Now()
		if err := session.Run(out, in...); err != nil {
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
	p50, p95, cv := Spread(ms)
	return family.MemberProfile{Name: name, P50ms: round3(p50), P95ms: round3(p95), CV: round3(cv)}
}

// Spread is the median of runs, of which there must be one, their 95th percentile,
// and their standard deviation over their mean. It sorts them.
func Spread(ms []float64) (p50, p95, cv float64) {
	slices.Sort(ms)
	var sum, square float64
	for _, v := range ms {
		sum, square = sum+v, square+v*v
	}
	n := float64(len(ms))
	mean := sum / n
	return ms[len(ms)/2], ms[len(ms)*95/100], math.Sqrt(max(0, square/n-mean*mean)) / mean
}

func round3(v float64) float64 { return math.Round(v*1000) / 1000 }
